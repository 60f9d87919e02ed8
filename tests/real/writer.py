"""A writer of HDFS that takes its time: a file stays under construction until it finishes."""

from __future__ import annotations

import http.client
import time
from urllib.parse import quote, urlsplit

from testbed.hdfs import Hdfs


class Writer:
    """Creates ``path`` (or appends to it) over WebHDFS, with ``size`` bytes that it sends when it is told to."""

    def __init__(self, hdfs: Hdfs, path: str, size: int, *, append: bool = False) -> None:
        self._hdfs = hdfs
        self._path = f"/webhdfs/v1{quote(path)}"
        self._size = size
        self._append = append
        self._connection = http.client.HTTPConnection("localhost")

    def open(self) -> None:
        """Return when the NameNode has the file under construction."""
        method, op = ("POST", "APPEND") if self._append else ("PUT", "CREATE&overwrite=true")
        namenode = http.client.HTTPConnection(urlsplit(self._hdfs.http).netloc)
        namenode.request(method, f"{self._path}?op={op}&user.name={self._hdfs.user}&noredirect=false")
        there = urlsplit(namenode.getresponse().headers["Location"])
        namenode.close()
        self._connection = http.client.HTTPConnection(there.netloc)
        self._connection.putrequest(method, f"{there.path}?{there.query}")
        self._connection.putheader("Content-Type", "application/octet-stream")
        self._connection.putheader("Content-Length", str(self._size))
        self._connection.endheaders()
        deadline = time.monotonic() + 30
        while not self._is_open():
            assert time.monotonic() < deadline, "the file never came to be open"
            time.sleep(0.02)

    def finish(self, data: bytes) -> None:
        """Send all bytes, and return when the file is closed."""
        assert len(data) == self._size
        self._connection.send(data)
        assert self._connection.getresponse().status in (200, 201)
        self._connection.close()

    def _is_open(self) -> bool:
        connection = http.client.HTTPConnection(urlsplit(self._hdfs.http).netloc)
        connection.request("GET", f"{self._path}?op=GET_BLOCK_LOCATIONS&user.name={self._hdfs.user}")
        found = b'"isUnderConstruction":true' in connection.getresponse().read()
        connection.close()
        return found
