"""Writing HDFS through WebHDFS, quickly, and knowing what was written: an oracle apart from the product."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote, urlencode, urlsplit

from testbed.content import Content

Entry = tuple[int, str]
"""Size in bytes and SHA-256 in hex."""
Manifest = dict[str, Entry]
"""What a tree holds, by relative path."""


class WebHdfsError(RuntimeError):
    """WebHDFS refused; ``exception`` is Hadoop's own short class name, "" when the reply names none."""

    def __init__(self, status: int, body: bytes) -> None:
        try:
            remote = json.loads(body)["RemoteException"]
            self.exception, message = str(remote["exception"]), str(remote["message"])
        except (ValueError, KeyError, TypeError):
            self.exception, message = "", body[:300].decode(errors="replace")
        self.status = status
        super().__init__(f"{status} {self.exception}: {message}")


class WebHdfs:
    """One kept-alive connection to the NameNode. Paths are absolute and plain; not for several threads at once.

    ``cookie``: who we are where the cluster does not believe a ``user``, see ``kdc.Kdc.cookie``.
    """

    def __init__(self, http_url: str, user: str, *, cookie: str = "") -> None:
        parts = urlsplit(http_url)
        self._prefix = parts.path
        self._who = {} if cookie else {"user.name": user}
        self._headers = {"Cookie": cookie} if cookie else {}
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)

    def put(self, path: str, body: bytes | Body, **options: object) -> Entry:
        """CREATE, overwriting, and return what was sent. Options by WebHDFS's names (blocksize, replication)."""
        query = {"op": "CREATE", "overwrite": "true"} | options
        try:
            return self._send("PUT", path, body, 201, query)
        except WebHdfsError as error:
            if error.exception != "EOFException":
                raise
            # A DataNode that kept its connection to a NameNode restarted meanwhile (3.5.0) is right the second time.
            return self._send("PUT", path, body, 201, query)

    def append(self, path: str, body: bytes | Body) -> None:
        self._send("POST", path, body, 200, {"op": "APPEND"})

    def mkdirs(self, path: str) -> None:
        self._expect_true(self._ask("PUT", path, op="MKDIRS"), path)

    def rename(self, path: str, new: str) -> None:
        self._expect_true(self._ask("PUT", path, op="RENAME", destination=new), path)

    def delete(self, path: str) -> None:
        """With everything below; nothing happens when it is not there."""
        self._ask("DELETE", path, op="DELETE", recursive="true")

    def concat(self, path: str, sources: Iterable[str]) -> None:
        """Append whole files to ``path``; they are gone afterwards."""
        self._ask("POST", path, op="CONCAT", sources=",".join(sources))

    def truncate(self, path: str, length: int) -> None:
        self._ask("POST", path, op="TRUNCATE", newlength=length)

    def set_permission(self, path: str, permission: str) -> None:
        self._ask("PUT", path, op="SETPERMISSION", permission=permission)

    def set_owner(self, path: str, owner: str, group: str) -> None:
        self._ask("PUT", path, op="SETOWNER", owner=owner, group=group)

    def set_times(self, path: str, modification_time: int, access_time: int = -1) -> None:
        """Milliseconds since the epoch; -1 keeps what is."""
        self._ask("PUT", path, op="SETTIMES", modificationtime=modification_time, accesstime=access_time)

    def cancel_token(self, token: str) -> None:
        """A delegation token of ours."""
        self._ask("PUT", "/", op="CANCELDELEGATIONTOKEN", token=token)

    def allow_snapshots(self, path: str) -> None:
        self._ask("PUT", path, op="ALLOWSNAPSHOT")

    def create_snapshot(self, path: str, name: str) -> None:
        self._ask("PUT", path, op="CREATESNAPSHOT", snapshotname=name)

    def status(self, path: str) -> dict[str, Any]:
        """WebHDFS's FileStatus. Raises WebHdfsError (404) when it is not there."""
        found: dict[str, Any] = self._ask("GET", path, op="GETFILESTATUS")["FileStatus"]
        return found

    def statuses(self, path: str) -> list[dict[str, Any]]:
        """WebHDFS's FileStatus of all that a directory holds, in HDFS's order. LISTSTATUS gives all of it at once."""
        found: list[dict[str, Any]] = self._ask("GET", path, op="LISTSTATUS")["FileStatuses"]["FileStatus"]
        return found

    def names(self, path: str) -> list[str]:
        """What a directory holds, in HDFS's order."""
        return [entry["pathSuffix"] for entry in self.statuses(path)]

    def checksum(self, path: str) -> str:
        """GETFILECHECKSUM: algorithm and bytes."""
        status, location, reply = self._request("GET", path, {"op": "GETFILECHECKSUM"})
        if status == 307:
            status, reply = self._to_datanode("GET", path, location, None)
        if status != 200:
            raise WebHdfsError(status, reply)
        found = json.loads(reply)["FileChecksum"]
        return f"{found['algorithm']}:{found['bytes']}"

    def read(self, path: str) -> bytes:
        """The whole file."""
        status, location, reply = self._request("GET", path, {"op": "OPEN"})
        if status != 307:
            raise WebHdfsError(status, reply)
        status, reply = self._to_datanode("GET", path, location, None)
        if status != 200:
            raise WebHdfsError(status, reply)
        return reply

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, method: str, path: str, **query: object) -> dict[str, Any]:
        status, _, reply = self._request(method, path, query)
        if status != 200:
            raise WebHdfsError(status, reply)
        answer: dict[str, Any] = json.loads(reply) if reply else {}
        return answer

    def _expect_true(self, answer: Mapping[str, Any], path: str) -> None:
        """MKDIRS and RENAME report some refusals as 200 and false."""
        if answer.get("boolean") is not True:
            raise WebHdfsError(200, f"refused without a reason: {path}".encode())

    def _send(self, method: str, path: str, body: bytes | Body, expected: int, query: Mapping[str, object]) -> Entry:
        status, location, reply = self._request(method, path, query)
        if status != 307:
            raise WebHdfsError(status, reply)
        sent = _Digested(body)
        status, reply = self._to_datanode(method, path, location, sent)
        if status != expected:
            raise WebHdfsError(status, reply)
        return sent.size, sent.sha256.hexdigest()

    def _request(self, method: str, path: str, query: Mapping[str, object]) -> tuple[int, str, bytes]:
        target = f"{self._target(path)}?{urlencode({**query, **self._who}, quote_via=quote, safe='')}"
        reused = self._connection.sock is not None
        try:
            return self._exchange(method, target)
        except (http.client.RemoteDisconnected, ConnectionError):
            if not reused:
                raise
            # The NameNode closes a connection that was idle for a while: that says nothing about the request.
            return self._exchange(method, target)

    def _exchange(self, method: str, target: str) -> tuple[int, str, bytes]:
        try:
            self._connection.request(method, target, headers=self._headers)
            reply = self._connection.getresponse()
            return reply.status, reply.getheader("Location", ""), reply.read()
        except BaseException:
            self._connection.close()  # it opens again with the next request
            raise

    def _to_datanode(self, method: str, path: str, location: str, body: _Digested | None) -> tuple[int, bytes]:
        """To where the redirect points, but with our own path: it normalises Unicode, which names another file."""
        parts = urlsplit(location)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        headers = {"Content-Type": "application/octet-stream"} | ({"Content-Length": str(body.size)} if body else {})
        try:
            connection.request(method, f"{self._target(path)}?{parts.query}", body=body, headers=headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def _target(self, path: str) -> str:
        return self._prefix + quote(path, safe="/")


class Body(Protocol):
    """Bytes that come piece by piece, ``size`` in all."""

    @property
    def size(self) -> int: ...

    def __iter__(self) -> Iterator[bytes | memoryview]: ...


class _Digested:
    """A body that is hashed while it is sent."""

    def __init__(self, body: bytes | Body) -> None:
        self.size = len(body) if isinstance(body, bytes) else body.size
        self.sha256 = hashlib.sha256()
        self._body: Iterable[bytes | memoryview] = [body] if isinstance(body, bytes) else body

    def __iter__(self) -> Iterator[bytes | memoryview]:
        for piece in self._body:
            self.sha256.update(piece)
            yield piece


def fill(
    http_url: str, user: str, root: str, files: Mapping[str, bytes | Content], *, threads: int = 8, cookie: str = ""
) -> Manifest:
    """Write every file below ``root`` and return what was written, by relative path."""
    todo = iter(files.items())
    turn = threading.Lock()

    def work() -> Manifest:
        written: Manifest = {}
        with WebHdfs(http_url, user, cookie=cookie) as client:
            while True:
                with turn:
                    path, body = next(todo, ("", b""))
                if not path:
                    return written
                written[path] = client.put(f"{root}/{path}", body)

    with ThreadPoolExecutor(threads, "fill") as pool:
        workers = [pool.submit(work) for _ in range(min(threads, len(files)))]
        return {path: entry for worker in workers for path, entry in worker.result().items()}
