"""Two real S3 servers that differ: versitygw checks every hash and computes checksums unasked, s3proxy does neither."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed import fetch, hadoop
from testbed.process import Server, ServerFailed, free_ports, listens, start_time
from testbed.signed import S3Client, S3Refused

ROOM_IN_MEMORY = 4 << 30
"""Bytes that must be free in /dev/shm before a store is put there."""
IN_MEMORY = "asynccopy-testbed"


class Store(ABC):
    """An S3 server with its data in a directory of its own, on one port for its whole life."""

    name: str
    component: fetch.Component
    access_key = "testaccess"
    secret_key = "testsecret"
    region = "us-east-1"

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        [self._port] = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        """The process, for its pid, memory, CPU time, suspend and resume."""
        if self._server is None:
            raise ServerFailed(f"{self.name} was not started")
        return self._server

    def start(self) -> None:
        if reasons := fetch.missing(self.component):
            raise ServerFailed("; ".join(reasons))
        self.data.mkdir(parents=True)
        self._server = Server(
            self.name,
            self._command(),
            log=self.directory / f"{self.name}.log",
            ready=self._answers,
            environment=self._environment(),
        )
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        """Kill it if it runs, and start it again on the same port with the same data."""
        self.server.restart()

    def env(self) -> dict[str, str]:
        """What an S3 client reads from its environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> S3Client:
        return S3Client(self)

    def make_bucket(self, bucket: str) -> None:
        """Raises S3Refused."""
        reply = self.client().request("PUT", bucket)
        if reply.status != 200:
            raise S3Refused(f"bucket {bucket}: {reply.status} {reply.body[:300]!r}")

    def read_back(self, bucket: str, prefix: str = "") -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of every object below a prefix, by its whole key, from the bytes the store holds now."""
        client = self.client()
        found: dict[str, tuple[int, str]] = {}
        for key in client.keys(bucket, prefix):
            try:
                found[key] = client.digest(bucket, key)
            except S3Refused:
                if key in client.keys(bucket, key):
                    raise  # else it was listed and has gone since, as the pieces of an upload that s3proxy ends late
        return found

    def open_uploads(self, bucket: str) -> list[tuple[str, str]]:
        """(key, upload id) of every multipart upload that was neither completed nor aborted."""
        return self.client().uploads(bucket)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _environment(self) -> dict[str, str]: ...

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status > 0
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class VersityGw(Store):
    """The strict one. Its data lie in memory (/dev/shm) where that is possible, until ``stop``.

    ``data_integrity_etag`` replaces the MD5 ETag by a CRC64, which halves the server's own CPU: for benchmarks.
    """

    name = "versitygw"
    component = fetch.GATEWAY

    def __init__(self, directory: Path, *, data_integrity_etag: bool = False, in_memory: bool = True) -> None:
        super().__init__(directory)
        self._options = ["--data-integrity-etag"] if data_integrity_etag else []
        self._memory: Path | None = None
        if in_memory and _fit(Path("/dev/shm")):
            _sweep(Path("/dev/shm"))
            self._memory = Path(tempfile.mkdtemp(prefix=f"{IN_MEMORY}-{os.getpid()}-", dir="/dev/shm"))
            self.data = self._memory / "data"

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            super().start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        super().stop()
        if self._memory is not None:
            shutil.rmtree(self._memory, ignore_errors=True)

    def door(self, certificate: Path) -> tuple[Server, dict[str, str]]:
        """A second process over the same data that speaks TLS, not started, and what a client's environment needs.

        ``certificate``: a PEM file with the key in it.
        """
        [port] = free_ports(1)
        program, *options = self._command()
        options[options.index("--port") + 1] = f"127.0.0.1:{port}"
        server = Server(
            f"{self.name}-tls",
            [program, "--cert", str(certificate), "--key", str(certificate), *options],
            log=self.directory / f"{self.name}-tls.log",
            ready=lambda: listens(port),
            environment=self._environment(),
        )
        trust = {"SSL_CERT_FILE": str(certificate)}
        return server, self.env() | trust | {"AWS_ENDPOINT_URL_S3": f"https://127.0.0.1:{port}"}

    def read_back(self, bucket: str, prefix: str = "") -> dict[str, tuple[int, str]]:
        """From the files themselves: a listing is XML, which cannot carry every name."""
        root = self.data / bucket
        found = {}
        for folder, folders, files in os.walk(root):
            if folder == str(root):
                folders[:] = [name for name in folders if name != ".sgwtmp"]
            base = "" if folder == str(root) else folder[len(str(root)) + 1 :] + "/"
            if base and base.startswith(prefix) and "user.etag" in os.listxattr(folder):
                found[base] = (0, hashlib.sha256(b"").hexdigest())
            for key in (base + name for name in files):
                if key.startswith(prefix):
                    found[key] = _digest(root / key)
        return found

    def open_uploads(self, bucket: str) -> list[tuple[str, str]]:
        """From its folders: its second listing page is broken."""
        found: list[tuple[str, str]] = []
        for key in sorted((self.data / bucket / ".sgwtmp" / "multipart").glob("*")):
            with suppress(FileNotFoundError):  # ended meanwhile
                name = os.getxattr(key, "user.objname").decode()
                found += [(name, upload.name) for upload in sorted(key.iterdir())]
        return found

    def _command(self) -> list[str]:
        backend = ["posix", *self._options]
        if not _has_attributes(self.data):
            raise ServerFailed(f"versitygw keeps its metadata in extended attributes, which {self.data} cannot hold")
        # Without --keep-alive every request would pay for a connection.
        return [
            str(self.component.directory / "versitygw"),
            "--quiet",
            "--keep-alive",
            "--port",
            f"127.0.0.1:{self._port}",
            "--region",
            self.region,
            *backend,
            str(self.data),
        ]

    def _environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("VGW_", "ROOT_"))}
        return clean | {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}


class S3Proxy(Store):
    """The lax one: no checksum unless one was sent, trailers and part order unverified, no paging of parts."""

    name = "s3proxy"
    component = fetch.S3PROXY

    def _command(self) -> list[str]:
        properties = {
            "s3proxy.authorization": "aws-v2-or-v4",
            "s3proxy.identity": self.access_key,
            "s3proxy.credential": self.secret_key,
            "s3proxy.endpoint": self.endpoint,
            "jclouds.provider": "filesystem-nio2",
            "jclouds.filesystem.basedir": str(self.data),
            "jclouds.identity": "unused",
            "jclouds.credential": "unused",
        }
        settings = self.directory / "s3proxy.properties"
        settings.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        return hadoop.Jvm(384).command(
            hadoop.jars(self.component),
            "org.gaul.s3proxy.Main",
            "--properties",
            str(settings),
            options=["-DLOG_LEVEL=warn"],
        )

    def _environment(self) -> dict[str, str]:
        return hadoop.environment()


def _fit(directory: Path) -> bool:
    """A directory in memory with room for a benchmark."""
    return (
        os.access(directory, os.W_OK)
        and shutil.disk_usage(directory).free >= ROOM_IN_MEMORY
        and _has_attributes(directory)
    )


def _sweep(directory: Path) -> None:
    """Remove what test runs that were killed left in memory."""
    for left in directory.glob(f"{IN_MEMORY}-*-*"):
        owner = left.name.removeprefix(IN_MEMORY).split("-")[1]
        if owner.isdigit() and start_time(int(owner)) is None:
            shutil.rmtree(left, ignore_errors=True)


def _has_attributes(directory: Path) -> bool:
    """tmpfs keeps user attributes from Linux 6.6 on."""
    with tempfile.NamedTemporaryFile(dir=directory) as probe:
        try:
            os.setxattr(probe.name, "user.probe", b"1")
        except OSError:
            return False
    return True


def _digest(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
