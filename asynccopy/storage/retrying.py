"""Retrying, as wrappers that look like what they wrap. A broken read goes on at the byte where it broke.

Three things are not retried here, because trying again means more than calling again: a part (its body must be read
anew), and the creation and completion of an upload (the reply may be lost though it happened). ``transfer`` does these.
A diff that breaks in the middle begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from asynccopy.errors import AsyncCopyError, Throttled, Transient
from asynccopy.model import (
    ByteRange,
    Change,
    FileChecksum,
    FileStatus,
    FileVersion,
    FoundUpload,
    ListPage,
    ObjectMeta,
    ObjectPage,
    Part,
    PartReceipt,
    PartReply,
)
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import (
    Capabilities,
    Destination,
    Original,
    Originals,
    PartBody,
    Reader,
    Snapshots,
    Source,
    StoreCopies,
)

T = TypeVar("T")
Noticed = Callable[[AsyncCopyError, float], None]
"""Told of every error that will be tried again, and the seconds until then."""


class Trouble:
    """Failures in a row, from the first one on."""

    __slots__ = ("_attempt", "_noticed", "_policy", "_since")

    def __init__(self, policy: RetryPolicy, noticed: Noticed) -> None:
        self._policy = policy
        self._noticed = noticed
        self.over()

    def over(self) -> None:
        """There was progress: patience begins anew."""
        self._attempt = 0
        self._since = 0.0

    async def wait(self, error: AsyncCopyError) -> None:
        """Sleep until the next try, or raise the error when it is time to give up.

        A store that throttles takes nothing off attempts and patience: the file is well, and will have its turn.
        """
        if isinstance(error, Throttled):
            pause = self._policy.pause(error)
            self._noticed(error, pause)
            await asyncio.sleep(pause)
            return
        now = asyncio.get_running_loop().time()
        if self._attempt == 0:
            self._since = now
        self._attempt += 1
        delay = self._policy.delay(error, self._attempt, now - self._since)
        if delay is None:
            raise error
        self._noticed(error, delay)
        await asyncio.sleep(delay)


class _Retrying:
    def __init__(self, policy: RetryPolicy, noticed: Noticed) -> None:
        self._policy = policy
        self._noticed = noticed

    async def _again(self, call: Callable[[], Awaitable[T]], first: AsyncCopyError | None = None) -> T:
        """Call until it succeeds; ``first`` is how a call has failed already."""
        trouble, error = Trouble(self._policy, self._noticed), first
        while True:
            if error is not None:
                await trouble.wait(error)
            try:
                return await call()
            except AsyncCopyError as failure:
                error = failure


class RetryingSource(_Retrying):
    """A Source that tries again. ``check`` does not: a wrong address should be told at once."""

    def __init__(self, source: Source, policy: RetryPolicy, noticed: Noticed) -> None:
        super().__init__(policy, noticed)
        self._source = source
        self.url = source.url
        self.name = source.name

    async def check(self) -> FileStatus:
        return await self._source.check()

    async def status(self, path: str) -> FileStatus:
        return await self._again(lambda: self._source.status(path))

    async def list(self, path: str, after: str = "") -> ListPage:
        return await self._again(lambda: self._source.list(path, after))

    async def open(self, path: str, range: ByteRange) -> Reader:
        return _ResumingReader(self._source, path, range, Trouble(self._policy, self._noticed))

    async def checksum(self, path: str) -> FileChecksum | None:
        try:  # spares what every file has to do a frame and a closure
            return await self._source.checksum(path)
        except AsyncCopyError as error:
            return await self._again(lambda: self._source.checksum(path), error)

    async def block_lengths(self, path: str) -> Sequence[int] | None:
        return await self._again(lambda: self._source.block_lengths(path))

    async def is_open(self, path: str) -> bool:
        return await self._again(lambda: self._source.is_open(path))

    @property
    def snapshots(self) -> Snapshots | None:
        snapshots = self._source.snapshots
        return None if snapshots is None else RetryingSnapshots(snapshots, self._policy, self._noticed)

    @property
    def originals(self) -> Originals | None:
        originals = self._source.originals
        return None if originals is None else RetryingOriginals(originals, self._policy, self._noticed)

    async def aclose(self) -> None:
        await self._source.aclose()


class RetryingOriginals(_Retrying):
    """Originals that are looked up again."""

    def __init__(self, originals: Originals, policy: RetryPolicy, noticed: Noticed) -> None:
        super().__init__(policy, noticed)
        self._originals = originals
        self.store = originals.store

    async def original(self, path: str, version: FileVersion) -> Original:
        return await self._again(lambda: self._originals.original(path, version))


class RetryingSnapshots(_Retrying):
    """Snapshots that try again, and whose frozen trees do."""

    def __init__(self, snapshots: Snapshots, policy: RetryPolicy, noticed: Noticed) -> None:
        super().__init__(policy, noticed)
        self._snapshots = snapshots

    async def names(self) -> list[str] | None:
        return await self._again(self._snapshots.names)

    async def create(self, name: str) -> None:
        await self._again(lambda: self._snapshots.create(name))

    async def delete(self, name: str) -> None:
        await self._again(lambda: self._snapshots.delete(name))

    def at(self, name: str) -> Source:
        return RetryingSource(self._snapshots.at(name), self._policy, self._noticed)

    async def diff(self, older: str, newer: str) -> AsyncIterator[Sequence[Change]]:
        """A change may come twice: after trouble all pages come again, for a server may cut them otherwise."""
        trouble = Trouble(self._policy, self._noticed)
        furthest = 0
        while True:
            count = 0
            try:
                async for page in self._snapshots.diff(older, newer):
                    yield page
                    count += 1
                    if count > furthest:  # else the same page might fail for ever
                        furthest = count
                        trouble.over()
                return
            except AsyncCopyError as error:
                await trouble.wait(error)


class _ResumingReader:
    """Opens the range when it is first read, and again where it broke."""

    __slots__ = ("_at", "_end", "_path", "_reader", "_source", "_trouble")

    def __init__(self, source: Source, path: str, range: ByteRange, trouble: Trouble) -> None:
        self._source = source
        self._path = path
        self._at = range.offset
        self._end = range.end
        self._trouble = trouble
        self._reader: Reader | None = None

    async def readinto(self, buffer: memoryview) -> int:
        wanted = min(len(buffer), self._end - self._at)
        filled = 0
        while filled < wanted:
            try:
                if self._reader is None:
                    rest = ByteRange(self._at, self._end - self._at)
                    self._reader = await self._source.open(self._path, rest)
                count = await self._reader.readinto(buffer[filled:wanted])
            except AsyncCopyError as error:
                self.close()
                count = error.received if isinstance(error, Transient) else 0
                if count:
                    self._trouble.over()
                if count < wanted - filled:
                    await self._trouble.wait(error)
            else:
                self._trouble.over()
            filled += count
            self._at += count
        return filled

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


class RetryingDestination(_Retrying):
    """A Destination that tries again, but for ``check`` and the ways into and out of an upload (see above)."""

    def __init__(self, destination: Destination, policy: RetryPolicy, noticed: Noticed) -> None:
        super().__init__(policy, noticed)
        self._destination = destination
        self.url = destination.url
        self.prefix = destination.prefix
        self.limits = destination.limits

    async def check(self) -> Capabilities:
        return await self._destination.check()

    def check_key(self, key: str) -> None:
        self._destination.check_key(key)

    async def put(
        self, key: str, body: bytes | memoryview, crc32c: int, status: FileStatus | None = None
    ) -> ObjectMeta:
        try:
            return await self._destination.put(key, body, crc32c, status)
        except AsyncCopyError as error:
            return await self._again(lambda: self._destination.put(key, body, crc32c, status), error)

    async def create_upload(self, key: str, status: FileStatus | None = None) -> str:
        return await self._destination.create_upload(key, status)

    async def upload_part(
        self, key: str, upload_id: str, number: int, size: int, body: PartBody, status: FileStatus | None = None
    ) -> PartReply:
        return await self._destination.upload_part(key, upload_id, number, size, body, status)

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartReceipt],
        crc32c: int,
        status: FileStatus | None = None,
    ) -> ObjectMeta:
        return await self._destination.complete_upload(key, upload_id, parts, crc32c, status)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        await self._again(lambda: self._destination.abort_upload(key, upload_id))

    async def list_uploads(self, prefix: str) -> Sequence[tuple[str, str]]:
        return await self._again(lambda: self._destination.list_uploads(prefix))

    async def uploads_of(self, key: str) -> Sequence[FoundUpload]:
        return await self._again(lambda: self._destination.uploads_of(key))

    async def head(self, key: str) -> ObjectMeta | None:
        return await self._again(lambda: self._destination.head(key))

    async def list(self, prefix: str, after: str | None = None) -> ObjectPage:
        return await self._again(lambda: self._destination.list(prefix, after))

    async def open(self, key: str, range: ByteRange) -> Reader:
        return await self._again(lambda: self._destination.open(key, range))

    async def copy(self, key: str, to: str, size: int, etag: str) -> ObjectMeta:
        return await self._again(lambda: self._destination.copy(key, to, size, etag))

    @property
    def copies(self) -> StoreCopies | None:
        copies = self._destination.copies
        return None if copies is None else RetryingCopies(copies, self._policy, self._noticed)

    async def delete(self, key: str) -> None:
        await self._again(lambda: self._destination.delete(key))

    async def aclose(self) -> None:
        await self._destination.aclose()


class RetryingCopies(_Retrying):
    """Copies inside a store that are asked for again, but for the ways into and out of an upload."""

    def __init__(self, copies: StoreCopies, policy: RetryPolicy, noticed: Noticed) -> None:
        super().__init__(policy, noticed)
        self._copies = copies
        self.store = copies.store
        self.most = copies.most

    async def whole(self, original: Original, to: str) -> ObjectMeta:
        return await self._again(lambda: self._copies.whole(original, to))

    async def begin(self, to: str) -> str:
        return await self._copies.begin(to)

    async def part(self, original: Original, to: str, upload_id: str, part: Part) -> PartReceipt:
        return await self._again(lambda: self._copies.part(original, to, upload_id, part))

    async def complete(self, to: str, upload_id: str, parts: Sequence[PartReceipt]) -> ObjectMeta:
        return await self._copies.complete(to, upload_id, parts)
