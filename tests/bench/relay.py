"""The copying limit: blocking sockets, a thread per range in flight, no checksum. Python can hardly do it for less.

``python -m tests.bench.relay NAMENODE USER DIRECTORY BUCKET PREFIX THREADS``, the store as AWS's variables have it. It
proves nothing, repeats nothing, remembers nothing: a yardstick for what the bytes alone cost.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from testbed.signed import S3Client

PART = 64 << 20
BUFFER = 256 << 10


@dataclass(frozen=True)
class Store:
    endpoint: str
    access_key: str
    secret_key: str
    region: str


class Lane(threading.local):
    """A thread's own connections and buffer."""

    def __init__(self, namenode: str, store: Store) -> None:
        url = urlsplit(store.endpoint)
        self.namenode = http.client.HTTPConnection(namenode)
        self.buffer = memoryview(bytearray(BUFFER))
        self.store: socket.socket = socket.create_connection((url.hostname, url.port))
        self.store.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if url.scheme == "https":
            self.store = ssl.create_default_context().wrap_socket(self.store, server_hostname=url.hostname)


class Relay:
    def __init__(self, namenode: str, user: str, bucket: str, store: Store) -> None:
        self._user = user
        self._bucket = bucket
        self._client = S3Client(store)
        self._lane = Lane(namenode, store)

    def copy(self, directory: str, prefix: str, threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            for upload in [
                self._begin(pool, path, f"{prefix}/{path.removeprefix(directory).lstrip('/')}", size)
                for path, size in self._files(directory)
            ]:
                upload.finish()

    def _files(self, directory: str) -> Iterator[tuple[str, int]]:
        after = ""
        while True:
            page = self._ask("LISTSTATUS_BATCH", directory, f"&startafter={quote(after)}" if after else "")
            listing = page["DirectoryListing"]
            entries = listing["partialListing"]["FileStatuses"]["FileStatus"]
            for entry in entries:
                path = f"{directory.rstrip('/')}/{entry['pathSuffix']}"
                if entry["type"] == "DIRECTORY":
                    yield from self._files(path)
                else:
                    yield path, entry["length"]
            if not listing["remainingEntries"]:
                return
            after = entries[-1]["pathSuffix"]

    def _ask(self, op: str, path: str, query: str) -> Any:
        connection = self._lane.namenode
        connection.request("GET", f"/webhdfs/v1{quote(path)}?op={op}&user.name={self._user}{query}")
        reply = connection.getresponse()
        body = reply.read()
        assert reply.status == 200, body
        return json.loads(body)

    def _begin(self, pool: ThreadPoolExecutor, path: str, key: str, size: int) -> Upload:
        if size <= PART:
            return Upload(self._client, self._bucket, key, "", [pool.submit(self._move, path, 0, size, key, {})])
        reply = self._client.request("POST", self._bucket, key, query={"uploads": ""})
        [upload] = re.findall(rb"<UploadId>(.*)</UploadId>", reply.body)
        parts = [
            pool.submit(
                self._move,
                path,
                offset,
                min(PART, size - offset),
                key,
                {"partNumber": str(number), "uploadId": upload.decode()},
            )
            for number, offset in enumerate(range(0, size, PART), 1)
        ]
        return Upload(self._client, self._bucket, key, upload.decode(), parts)

    def _move(self, path: str, offset: int, length: int, key: str, query: dict[str, str]) -> str:
        """One range: from a DataNode's socket into the store's. Returns the ETag."""
        there = self._ask("OPEN", path, f"&noredirect=true&offset={offset}&length={length}")["Location"]
        url = urlsplit(there)
        lane = self._lane
        with socket.create_connection((url.hostname, url.port)) as source:
            source.sendall(f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
            lane.store.sendall(self._client.head("PUT", self._bucket, key, query, length))
            left = length
            count = source.recv_into(lane.buffer)
            while (at := bytes(lane.buffer[:count]).find(b"\r\n\r\n")) < 0:
                count += source.recv_into(lane.buffer[count:])
            assert bytes(lane.buffer[:12]) == b"HTTP/1.1 200", bytes(lane.buffer[:at])
            lane.store.sendall(lane.buffer[at + 4 : count])
            left -= count - at - 4
            while left:
                count = source.recv_into(lane.buffer, min(left, BUFFER), socket.MSG_WAITALL)
                assert count, f"{path}: {left} bytes are missing"
                lane.store.sendall(lane.buffer[:count])
                left -= count
        reply = http.client.HTTPResponse(lane.store, method="PUT")
        reply.begin()
        body = reply.read()
        assert reply.status == 200, body
        return reply.headers["ETag"]


class Upload:
    """One file's ranges under way."""

    def __init__(self, client: S3Client, bucket: str, key: str, upload: str, parts: list[Any]) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._upload = upload
        self._parts = parts

    def finish(self) -> None:
        etags = [part.result() for part in self._parts]
        if not self._upload:
            return
        lines = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>".encode()
        reply = self._client.request("POST", self._bucket, self._key, query={"uploadId": self._upload}, body=body)
        assert reply.status == 200, reply.body


def main() -> None:
    namenode, user, directory, bucket, prefix, threads = sys.argv[1:]
    store = Store(
        os.environ["AWS_ENDPOINT_URL_S3"],
        os.environ["AWS_ACCESS_KEY_ID"],
        os.environ["AWS_SECRET_ACCESS_KEY"],
        os.environ["AWS_REGION"],
    )
    Relay(namenode, user, bucket, store).copy(directory, prefix, int(threads))


if __name__ == "__main__":
    main()
