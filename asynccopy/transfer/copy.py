"""Copying one file: read, digest, write, prove, publish, in this order.

Nothing becomes visible at the destination before the bytes that were sent are proven to be the source's: a small file
is held until its checksum is compared, a large one lies in a multipart upload that is completed last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from asynccopy.errors import (
    AlreadyThere,
    AsyncCopyError,
    ChecksumMismatch,
    FileError,
    Interrupted,
    UploadGone,
    root_cause,
)
from asynccopy.model import (
    ByteRange,
    Evidence,
    FileStatus,
    ObjectMeta,
    OpenUpload,
    Part,
    PartReceipt,
    etag_with_crc64,
)
from asynccopy.retry import RetryPolicy
from asynccopy.storage.budget import Budget
from asynccopy.storage.crc import crc64
from asynccopy.storage.interface import Destination, Reader, Source
from asynccopy.storage.retrying import Noticed, Trouble
from asynccopy.transfer.digests import Layout, PartDigests, joined_crc32c
from asynccopy.transfer.in_store import InStore
from asynccopy.transfer.parts import SMALL, cut, part_size
from asynccopy.transfer.uploads import PartLog, Uploads, is_known
from asynccopy.transfer.verify import Prover

SPARE = 64 * 1024
"""Buffers of this size are kept for further small files; larger ones are made anew."""
Verify = Literal["checksum", "size", "none"]

FRESH_STARTS = 3
"""How often a file is begun anew when its bytes do not prove equal or its upload vanishes, before it is given up by
name.
"""


class Copied(Struct, frozen=True):
    """What copying a file came to. ``resumed_parts``: parts that an earlier run had sent. ``in_store``: no byte of it
    passed through us, but to prove it.
    """

    evidence: Evidence
    resumed_parts: int = 0
    in_store: bool = False


class Copier:
    """Copies one file at a time, as many times at once as it is called.

    ``source`` and ``destination`` retry by themselves (see storage.retrying). ``budget`` bounds the ranges in flight
    over all files. ``moved`` is told (path, bytes) as bytes are read; ``stop`` set means: begin no new part.
    ``preserving``: the destination keeps a file's attributes, which are asked for where the listing's are not at hand.
    """

    def __init__(
        self,
        source: Source,
        destination: Destination,
        prover: Prover,
        *,
        wanted_part_size: int | None,
        budget: Budget,
        policy: RetryPolicy,
        noticed: Noticed,
        moved: Callable[[str, int], None],
        stop: asyncio.Event,
        preserving: bool = False,
    ) -> None:
        self._uploads = Uploads(destination, policy, noticed)
        self._in_store = InStore(
            source,
            destination,
            prover,
            budget=budget,
            policy=policy,
            noticed=noticed,
            moved=moved,
            stop=stop,
        )
        self._source = source
        self._destination = destination
        self._prover = prover
        self._wanted_part_size = wanted_part_size
        self._budget = budget
        self._policy = policy
        self._noticed = noticed
        self._moved = moved
        self._stop = stop
        self._preserving = preserving
        self._spare: list[bytearray] = []

    async def copy(self, status: FileStatus, log: PartLog) -> Copied:
        """Copy one file, or make the marker of an empty directory (a path that ends in ``/``).

        Raises NameRefused, NotFound, SourceChanged, ChecksumMismatch (after fresh starts), Interrupted (stop was set
        before all parts were sent), and what the sides raise.
        """
        key = self._destination.prefix + status.path
        self._destination.check_key(key)
        for start in range(1, FRESH_STARTS + 1):
            try:
                if (evidence := await self._in_store.copy(status, key, log)) is not None:
                    return Copied(evidence, in_store=True)
                if self._preserving and status.attributes is None:
                    now = await self._source.status(status.path.rstrip("/"))
                    status = replace(status, attributes=now.attributes)
                if status.length <= SMALL:
                    await self._uploads.forget(key, await log.upload(), log)
                    return Copied(await self._small(status, key))
                return await self._large(status, key, log)
            except (ChecksumMismatch, UploadGone) as error:
                await self._uploads.forget(key, await log.upload(), log)
                if start == FRESH_STARTS:
                    raise
                self._noticed(error, 0.0)
            except FileError:
                await self._uploads.forget(key, await log.upload(), log)  # nobody would finish it
                raise
        raise AssertionError("the last start returns or raises")

    # --- small files ---------------------------------------------------------------------------------------------

    async def _small(self, status: FileStatus, key: str) -> Evidence:
        await self._budget.take()
        try:
            fits = status.length <= SPARE
            buffer = self._spare.pop() if fits and self._spare else bytearray(max(SPARE, status.length))
            body = memoryview(buffer)[: status.length]
            if status.length:
                await self._read(status, body)
            whole = ByteRange(0, status.length)
            layout = self._prover.layout(status)
            digests = PartDigests(whole, status.length, layout)
            digests.update(body)
            crc = digests.crc32c
            receipt = PartReceipt(1, 0, status.length, "", crc, digests.blocks())
            source = await self._prover.prove_source(status, [receipt], layout)
            meta = await self._put(key, body, receipt, status)
            if fits:  # on any other way out the connection may still hold it
                self._spare.append(buffer)
        finally:
            self._budget.give()
        return await self._prover.prove_object(meta, status.length, crc, source)

    async def _put(self, key: str, body: memoryview, receipt: PartReceipt, status: FileStatus) -> ObjectMeta:
        """Where what is there must stay, it may be this very object: the reply to an earlier try may be lost."""
        try:
            return await self._destination.put(key, body, receipt.crc32c, status)
        except AlreadyThere:
            sent = replace(receipt, etag=etag_with_crc64("", crc64(body)))
            if (found := await self._prover.found(key, [sent])) is None:
                raise
            return found

    async def _read(self, status: FileStatus, body: memoryview) -> None:
        reader = await self._source.open(status.path, ByteRange(0, status.length))
        try:
            await reader.readinto(body)
        finally:
            reader.close()
        self._moved(status.path, status.length)

    # --- large files ---------------------------------------------------------------------------------------------

    async def _large(self, status: FileStatus, key: str, log: PartLog) -> Copied:
        upload = await self._open_upload(status, key, log)
        receipts = {receipt.number: receipt for receipt in upload.parts}
        resumed = len(receipts)
        for receipt in upload.parts:
            self._moved(status.path, receipt.size)
        layout = self._prover.layout(status)
        missing = [part for part in cut(status.length, upload.part_size) if part.number not in receipts]
        try:
            async with asyncio.TaskGroup() as group:
                for part in missing:
                    await self._budget.take()
                    if self._stop.is_set():
                        self._budget.give()
                        break
                    task = group.create_task(
                        self._send(status, key, upload.upload_id, part, layout, log, receipts),
                        name=f"part {part.number} of {status.path}",
                    )
                    task.add_done_callback(lambda _: self._budget.give())
        except BaseExceptionGroup as failures:
            raise root_cause(failures) from None
        if len(receipts) < resumed + len(missing):
            raise Interrupted(f"{status.path}: stopped after {len(receipts)} parts of {resumed + len(missing)}")
        done = [receipts[number] for number in sorted(receipts)]
        source = await self._prover.prove_source(status, done, layout)
        crc = joined_crc32c(done)
        meta = await self._prover.publish(key, upload.upload_id, done, crc, status)
        evidence = await self._prover.prove_object(meta, status.length, crc, source, parts=done)
        return Copied(evidence, resumed)

    async def _open_upload(self, status: FileStatus, key: str, log: PartLog) -> OpenUpload:
        """The upload to go on with: the one begun for this very version, else a new one."""
        upload = await log.upload()
        if upload is not None and is_known(upload.upload_id) and upload.part_size and upload.version == status.version:
            return upload
        await self._uploads.forget(key, upload, log)
        size = part_size(status.length, status.block_size, self._destination.limits, self._wanted_part_size)
        wanted = OpenUpload("", size, status.version)
        return await self._uploads.begin(key, wanted, log, lambda key: self._destination.create_upload(key, status))

    async def _send(
        self,
        status: FileStatus,
        key: str,
        upload_id: str,
        part: Part,
        layout: Layout | None,
        log: PartLog,
        receipts: dict[int, PartReceipt],
    ) -> None:
        """Send one part, reading it from the source again for every try, and log it."""
        trouble = Trouble(self._policy, self._noticed)
        while True:
            digests = PartDigests(part.range, status.length, layout)
            reader = await self._source.open(status.path, part.range)
            body = _Digesting(reader, digests, self._moved, status.path)
            try:
                reply = await self._destination.upload_part(
                    key, upload_id, part.number, part.range.length, body, status
                )
                if reply.crc32c not in (None, digests.crc32c):
                    raise ChecksumMismatch(
                        f"{key}: the store received other bytes of part {part.number} than were sent"
                    )
                break
            except AsyncCopyError as error:
                self._moved(status.path, -body.moved)
                await trouble.wait(error)
            finally:
                reader.close()
        receipt = PartReceipt(
            part.number, part.range.offset, part.range.length, reply.etag, digests.crc32c, digests.blocks()
        )
        await log.part_done(receipt)
        receipts[part.number] = receipt


class _Digesting:
    """A Reader that digests what passes through it."""

    __slots__ = ("_digests", "_path", "_reader", "_tell", "moved")

    def __init__(self, reader: Reader, digests: PartDigests, tell: Callable[[str, int], None], path: str) -> None:
        self._reader = reader
        self._digests = digests
        self._tell = tell
        self._path = path
        self.moved = 0

    async def readinto(self, buffer: memoryview) -> int:
        count = await self._reader.readinto(buffer)
        self._digests.update(buffer[:count])
        self.moved += count
        self._tell(self._path, count)
        return count

    @property
    def crc32c(self) -> int:
        return self._digests.crc32c

    def close(self) -> None:
        self._reader.close()
