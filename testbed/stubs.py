"""A source and a sink that cost next to nothing, for measuring what a client costs: the programs in ``stub/``."""

from __future__ import annotations

import http.client
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

from testbed import fetch, hadoop
from testbed.process import Server, ServerFailed, free_ports, listens


class StubSource(Server):
    """A NameNode and its DataNode with a computed tree: directories of as many files each, all of ``size`` bytes."""

    def __init__(
        self, directory: Path, *, directories: int, files: int, size: int, delay: float = 0.0, pin: Sequence[str] = ()
    ) -> None:
        """``delay``: seconds before each answer. ``pin``: words that go before the command, such as taskset's."""
        self.files = directories * files
        self.size = size
        namenode, datanode = free_ports(2)
        self.url = f"webhdfs://127.0.0.1:{namenode}/"
        self.http = f"http://127.0.0.1:{namenode}/webhdfs/v1"
        shape = ["--directories", str(directories), "--files", str(files), "--size", str(size)]
        where = ["--namenode", f"127.0.0.1:{namenode}", "--datanode", f"127.0.0.1:{datanode}"]
        super().__init__(
            "source",
            [*pin, *_command("source", delay), *where, *shape],
            log=directory / f"source-{namenode}.log",
            ready=lambda: listens(namenode),
            environment=hadoop.environment(),
        )


class StubSink(Server):
    """An S3 server that checks what it is sent and forgets it. It believes every signature and has every bucket."""

    access_key = "stub"
    secret_key = "stub-secret"
    region = "us-east-1"

    def __init__(
        self, directory: Path, *, delay: float = 0.0, certificate: Path | None = None, pin: Sequence[str] = ()
    ) -> None:
        """``certificate``: a PEM file with certificate and key: speak TLS."""
        [self._port] = free_ports(1)
        self._certificate = certificate
        self.endpoint = f"{'https' if certificate else 'http'}://127.0.0.1:{self._port}"
        tls = ["--cert", str(certificate), "--key", str(certificate)] if certificate else []
        super().__init__(
            "sink",
            [*pin, *_command("sink", delay), "--listen", f"127.0.0.1:{self._port}", *tls],
            log=directory / f"sink-{self._port}.log",
            ready=lambda: listens(self._port),
            environment=hadoop.environment(),
        )

    def env(self) -> dict[str, str]:
        """What an S3 client reads from its environment."""
        trust = {"SSL_CERT_FILE": str(self._certificate)} if self._certificate else {}
        return trust | {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def holds(self) -> tuple[int, int]:
        """How many objects it was given so far, and how many bytes are in them."""
        connection = self._connect()
        try:
            connection.request("GET", "/")
            objects, size = connection.getresponse().read().split()
            return int(objects), int(size)
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        if self._certificate is None:
            return http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        trusted = ssl.create_default_context(cafile=self._certificate)
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=10, context=trusted)


def make_certificate(directory: Path) -> Path:
    """One for 127.0.0.1 that signs itself, with its key in the same PEM file. Raises ServerFailed without openssl."""
    file, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-days", "2", "-subj", "/CN=testbed", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    try:
        subprocess.run([*command, *names, "-keyout", str(key), "-out", str(file)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServerFailed(f"no certificate could be made: {error}") from error
    file.write_text(file.read_text() + key.read_text())
    return file


def _command(what: str, delay: float) -> list[str]:
    return [str(fetch.STUB.directory / "stub"), what, "--delay", f"{delay}s"]
