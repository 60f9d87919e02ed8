"""HDFS as a Source."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from asynccopy.errors import CredentialsRefused, NotFound, NotThere, PermissionDenied, Refused, WrongServer
from asynccopy.model import ByteRange, FileChecksum, FileStatus, ListPage
from asynccopy.storage.http import NoBytes
from asynccopy.storage.interface import Reader
from asynccopy.storage.pool import Origin
from asynccopy.storage.webhdfs import messages
from asynccopy.storage.webhdfs.client import LISTING, WebHdfsClient


class WebHdfsSource:
    """A directory or a file of an HDFS cluster, read over WebHDFS.

    ``root`` is an absolute HDFS path without a trailing slash, "" for ``/``. ``user``: the name for ``user.name``,
    without which a cluster without security takes us for ``dr.who``.
    """

    def __init__(self, namenode: Origin, root: str, user: str | None, *, connections: int, stall: float = 30.0) -> None:
        scheme = "swebhdfs" if namenode.scheme == "https" else "webhdfs"
        self.url = f"{scheme}://{namenode.host}:{namenode.port}{root or '/'}"
        self.name = root.rpartition("/")[2]
        self._root = root
        self._client = WebHdfsClient(namenode, user, connections=connections, stall=stall)
        self._pages = True  # until the server says that it does not know LISTSTATUS_BATCH

    def _absolute(self, path: str) -> str:
        return (f"{self._root}/{path}" if path else self._root) or "/"

    def _asked(self, op: str, path: str) -> str:
        return f"{self._client.namenode.netloc} {op} {self._absolute(path)}"

    async def check(self) -> FileStatus:
        try:
            return await self.status("")
        except NotFound:
            raise NotThere(f"{self.url}: no such file or directory", hint="check the source path") from None
        except PermissionDenied as error:
            raise CredentialsRefused(
                f"{self.url}: {error}", hint="check HADOOP_USER_NAME and the rights on the path"
            ) from error
        except Refused as error:  # a DataNode's port: it speaks WebHDFS, but knows no GETFILESTATUS
            raise WrongServer(f"{self.url}: no NameNode answers: {error}") from error

    async def status(self, path: str) -> FileStatus:
        response = await self._client.get("GETFILESTATUS", self._absolute(path))
        return messages.file_status(response, path, self._asked("GETFILESTATUS", path))

    async def list(self, path: str, after: str = "") -> ListPage:
        if self._pages:
            try:
                return await self._batch(path, after)
            except messages.UnknownOperation:
                self._pages = False
        response = await self._client.get("LISTSTATUS", self._absolute(path), limit=LISTING)
        return messages.list_whole(response, path, self._asked("LISTSTATUS", path))

    async def _batch(self, path: str, after: str) -> ListPage:
        # Lower case: ``startAfter`` is silently ignored, and page 1 comes again for ever.
        query = f"&startafter={quote(after, safe='')}" if after else ""
        response = await self._client.get("LISTSTATUS_BATCH", self._absolute(path), query)
        page = messages.list_page(response, path, self._asked("LISTSTATUS_BATCH", path))
        if after and page.after == after:
            raise WrongServer(f"{self._asked('LISTSTATUS_BATCH', path)}: the listing does not advance beyond {after!r}")
        return page

    async def open(self, path: str, range: ByteRange) -> Reader:
        if range.length == 0:
            return NoBytes()  # the NameNode refuses an offset at the end of the file
        return await self._client.read(self._absolute(path), range)

    async def checksum(self, path: str) -> FileChecksum | None:
        response = await self._client.checksum(self._absolute(path))
        return messages.file_checksum(response, self._asked("GETFILECHECKSUM", path))

    async def block_lengths(self, path: str) -> Sequence[int] | None:
        status = await self.status(path)
        blocks = await self._client.blocks(self._absolute(path), ByteRange(0, max(1, status.length)))
        return [block.block.num_bytes for block in sorted(blocks, key=lambda block: block.start_offset)]

    async def aclose(self) -> None:
        await self._client.aclose()
