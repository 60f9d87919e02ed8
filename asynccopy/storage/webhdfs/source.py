"""HDFS as a Source."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar
from urllib.parse import quote

from asynccopy.errors import (
    CredentialsRefused,
    NotFound,
    NotThere,
    PermissionDenied,
    Refused,
    ServerTrouble,
    SnapshotGone,
    SourceChanged,
    WrongServer,
)
from asynccopy.model import ByteRange, FileChecksum, FileStatus, ListPage
from asynccopy.storage.http import NoBytes
from asynccopy.storage.interface import Reader
from asynccopy.storage.webhdfs import messages
from asynccopy.storage.webhdfs.client import LISTING, WebHdfsClient
from asynccopy.storage.webhdfs.snapshots import WebHdfsSnapshots

T = TypeVar("T")


class WebHdfsSource:
    """A directory or a file of an HDFS cluster, read over WebHDFS.

    ``base`` is the cluster as it is named in URLs, ``webhdfs://namenode:9870`` or ``hdfs://nameservice``; ``root`` is
    an absolute HDFS path without a trailing slash, "" for ``/``. The client is closed with the source.
    """

    def __init__(self, client: WebHdfsClient, base: str, root: str) -> None:
        self.url = f"{base}{root or '/'}"
        self.name = root.rpartition("/")[2]
        self._root = root
        self._client = client

    @property
    def client(self) -> WebHdfsClient:
        """What it asks with, which a Destination of the same root shares."""
        return self._client

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
        try:
            return await self._batch(path, after)
        except messages.UnknownOperation:
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
        try:
            return await self._client.read(self._absolute(path), range)
        except ServerTrouble:  # all that HttpFS says of an offset beyond the end
            if not self._client.nameservice.streams or (await self.status(path)).length >= range.end:
                raise
        raise SourceChanged(f"{self._asked('OPEN', path)}: the file is shorter than it was when it was listed")

    async def checksum(self, path: str) -> FileChecksum | None:
        response = await self._client.checksum(self._absolute(path))
        if response is None:
            return None
        return messages.file_checksum(response, self._asked("GETFILECHECKSUM", path))

    async def block_lengths(self, path: str) -> Sequence[int] | None:
        response = await self._client.get("GETFILESTATUS", self._absolute(path))
        asked = self._asked("GETFILESTATUS", path)
        if messages.coded(response, asked):
            return None
        status = messages.file_status(response, path, asked)
        blocks = await self._client.blocks(self._absolute(path), ByteRange(0, max(1, status.length)))
        return [block.block.num_bytes for block in sorted(blocks, key=lambda block: block.start_offset)]

    async def is_open(self, path: str) -> bool:
        return await self._written(self._absolute(path))

    async def _written(self, absolute: str) -> bool:
        try:
            response = await self._client.get("GET_BLOCK_LOCATIONS", absolute, "&offset=0&length=1")
        except messages.UnknownOperation:
            return False
        return messages.under_construction(response, f"{self._client.namenode.netloc} GET_BLOCK_LOCATIONS {absolute}")

    @property
    def snapshots(self) -> WebHdfsSnapshots | None:
        return WebHdfsSnapshots(self._client, self._root or "/", lambda name: FrozenSource(self, name))

    @property
    def originals(self) -> None:
        return None

    async def aclose(self) -> None:
        await self._client.aclose()


class FrozenSource(WebHdfsSource):
    """The tree as it is in a snapshot. Where the whole snapshot is gone, SnapshotGone instead of NotFound: no file must
    be taken for deleted because somebody deleted the snapshot.

    Of a file that was being written when the snapshot was made, HDFS shows the length as it grows, until it is closed
    (``dfs.namenode.snapshot.capture.openfiles`` is off by default), and **no later diff names the file**: who meets one
    that ``is_open`` must look at it again.
    """

    def __init__(self, live: WebHdfsSource, name: str) -> None:
        self.url = live.url
        self.name = live.name
        self._snapshot = name
        self._root = f"{live._root}/.snapshot/{name}"
        self._client = live._client

    async def status(self, path: str) -> FileStatus:
        return await self._there(super().status(path))

    async def list(self, path: str, after: str = "") -> ListPage:
        return await self._there(super().list(path, after))

    async def open(self, path: str, range: ByteRange) -> Reader:
        return await self._there(super().open(path, range))

    async def checksum(self, path: str) -> FileChecksum | None:
        return await self._there(super().checksum(path))

    async def block_lengths(self, path: str) -> Sequence[int] | None:
        return await self._there(super().block_lengths(path))

    async def is_open(self, path: str) -> bool:
        """Whether the file is being written *now*: inside a snapshot no file shows as being written. Asked by the inode
        number, for it may have another name by now.
        """
        status = await self.status(path)
        try:
            return await self._written(f"/.reserved/.inodes/{status.file_id}")
        except (NotFound, Refused):
            return False  # deleted since: of one that had been renamed before, IllegalArgumentException is all it says

    @property
    def snapshots(self) -> None:
        return None

    async def aclose(self) -> None:
        """The connections are the live source's."""

    async def _there(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except NotFound as error:
            try:
                await super().status("")
            except NotFound:
                raise SnapshotGone(f"{self.url}: the snapshot {self._snapshot} is gone") from error
            raise
