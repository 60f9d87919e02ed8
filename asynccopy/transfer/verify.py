"""Proving that source, stream and object are equal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from asynccopy.errors import (
    AlreadyThere,
    AsyncCopyError,
    ChecksumMismatch,
    Refused,
    SourceChanged,
    Transient,
    UploadGone,
)
from asynccopy.model import ByteRange, Evidence, FileChecksum, FileStatus, ObjectMeta, PartReceipt, etag_with_crc64
from asynccopy.retry import RetryPolicy
from asynccopy.storage.crc import crc64, joined_crc64
from asynccopy.storage.http import BUFFER
from asynccopy.storage.interface import Capabilities, Destination, Source
from asynccopy.storage.retrying import Noticed, Trouble
from asynccopy.transfer.crc import crc32c
from asynccopy.transfer.digests import CRC64, Layout, PartDigests, file_checksum, joined_crc32c

_WHOLE = ("CRC32C", "CRC64")
"""Checksums of a file's bytes in a row, whatever blocks they lie in."""
_MD5: Final = re.compile(r"[0-9a-f]{32}")
"""An ETag that is one, of an object that was put at once."""


class Prover:
    """Compares digests of the stream with what both sides say.

    ``verify``: ``checksum`` (both sides' checksums, the default), ``size`` (version and length), ``none``.
    ``preserving``: an object is more than its bytes, so an older one of the same bytes does not stand for it.
    """

    def __init__(
        self,
        source: Source,
        destination: Destination,
        capabilities: Capabilities,
        verify: Literal["checksum", "size", "none"],
        policy: RetryPolicy,
        noticed: Noticed,
        *,
        preserving: bool = False,
    ) -> None:
        self._source = source
        self._destination = destination
        self._capabilities = capabilities
        self._verify = verify
        self._policy = policy
        self._noticed = noticed
        self._preserving = preserving
        self._chunking = (512, "CRC32C")  # as the last answer of this cluster said
        self._whole: Layout | None = None  # the same of a source without blocks

    def layout(self, status: FileStatus) -> Layout | None:
        """How to digest this file while it streams; None where the CRC-32C will do."""
        if self._verify != "checksum":
            return None
        if status.block_size <= 0:
            return self._whole
        return Layout(status.block_size, *self._chunking)

    # --- source --------------------------------------------------------------------------------------------------

    async def prove_source(
        self, status: FileStatus, receipts: Sequence[PartReceipt], layout: Layout | None
    ) -> str | None:
        """The source's checksum of the file that was read, "" where it has none or none is wanted, None where it is of
        something else than the bytes that are read (an erasure-coded or encrypted file).

        The checksum, asked for after the last byte was read, is of what the file holds then. Of a file that one
        range brought, it proves that nothing was replaced, appended or cut meanwhile, and the version need not be
        looked up: half of what small files ask of the NameNode or the store. Several ranges might be of several
        versions. Raises SourceChanged when the file is not the version that was listed, ChecksumMismatch when the
        stream differs.
        """
        if self._verify == "none" or status.is_directory:
            return ""
        theirs, proven = None, False
        if self._verify == "checksum":
            theirs = await self._source.checksum(status.path)
            proven = theirs is not None and theirs.value == file_checksum(receipts, status.length, layout).value
            if proven and len(receipts) == 1:
                return str(theirs)
        now = await self._source.status(status.path)
        if now.version != status.version or now.is_directory:
            raise SourceChanged(f"{status.path}: changed while it was being copied")
        if theirs is None:
            return ""
        lengths = () if proven else await self._block_lengths(status, theirs)
        if lengths is None:
            return None
        if not proven and not await self._equal_otherwise(status, receipts, layout, theirs, lengths):
            raise ChecksumMismatch(
                f"{status.path}: the bytes read do not have the checksum that the source keeps ({theirs})"
            )
        return str(theirs)

    async def _equal_otherwise(
        self,
        status: FileStatus,
        receipts: Sequence[PartReceipt],
        layout: Layout | None,
        theirs: FileChecksum,
        lengths: Sequence[int],
    ) -> bool:
        actual = self._actual_layout(status, layout, theirs, lengths)
        if actual == layout and (actual != CRC64 or all(receipt.blocks for receipt in receipts)):
            return False
        # The same bytes have another checksum when HDFS cuts them differently, and no CRC-64 was computed before the
        # first object told one, nor of parts that an earlier run sent: they are read once more, for it only.
        again = await self._digest_source(status, actual)
        same = file_checksum([again], status.length, actual).value == theirs.value
        return same and again.crc32c == joined_crc32c(receipts)

    async def _block_lengths(self, status: FileStatus, theirs: FileChecksum) -> Sequence[int] | None:
        """Of the blocks that a checksum is made of; () of a checksum that knows none."""
        return () if theirs.algorithm in _WHOLE else await self._source.block_lengths(status.path)

    def _actual_layout(
        self, status: FileStatus, layout: Layout | None, theirs: FileChecksum, lengths: Sequence[int]
    ) -> Layout | None:
        """What the checksum is really made of: a CRC, or as HDFS cuts the file: chunk size and polynomial by its
        answer, blocks as they are (CONCAT makes unequal ones).
        """
        if theirs.algorithm in _WHOLE:
            self._whole = CRC64 if theirs.algorithm == "CRC64" else None
            return self._whole
        actual = None if layout is None else layout.of(theirs)
        if actual is None:
            raise Refused(
                f"{status.path}: the source keeps a checksum that cannot be compared ({theirs.algorithm})",
                hint="copy such files with --verify size",
            )
        self._chunking = (actual.bytes_per_crc, actual.crc)
        if any(length != actual.block_size for length in lengths[:-1]):
            actual = actual.with_blocks(lengths)
        return actual

    async def _digest_source(self, status: FileStatus, layout: Layout | None) -> PartReceipt:
        whole = ByteRange(0, status.length)
        digests = PartDigests(whole, status.length, layout)
        crc = 0
        if status.length:
            reader = await self._source.open(status.path, whole)
            buffer = memoryview(bytearray(min(BUFFER, status.length)))
            try:
                while count := await reader.readinto(buffer):
                    digests.update(buffer[:count])
                    crc = crc64(buffer[:count], crc)
            finally:
                reader.close()
        return PartReceipt(1, 0, status.length, etag_with_crc64("", crc), digests.crc32c, digests.blocks())

    async def equal(self, status: FileStatus, meta: ObjectMeta) -> bool:
        """Whether an object holds the file's bytes, by reading the file, and the object too where its store keeps no
        CRC.
        """
        layout = self.layout(status)
        read = await self._digest_source(status, layout)
        await self.prove_source(status, [read], layout)
        return await self._holds(meta, [read])

    # --- copies inside a store ---------------------------------------------------------------------------------------

    def comparable(self, original: ObjectMeta) -> bool:
        """Whether a copy that its store makes of an object could be proven without reading the object."""
        told = original.checksum or _MD5.fullmatch(original.etag)
        return self._verify != "checksum" or bool(told)

    async def same(self, original: ObjectMeta, meta: ObjectMeta) -> bool | None:
        """Whether an object has the checksum of another one, None where they tell none that could be compared. Read is
        only an object of no CRC whose original has one: made of parts that the store has copied.
        """
        if original.crc64 is not None and meta.crc64 is not None:
            return original.crc64 == meta.crc64
        if original.crc32c is not None:
            return original.size == meta.size and original.crc32c == await self._object_crc(meta)
        # Encrypted objects have other ETags: of the same bytes, too.
        return True if _MD5.fullmatch(original.etag) and original.etag == meta.etag else None

    async def prove_copy(self, original: ObjectMeta, meta: ObjectMeta) -> Evidence | None:
        """The evidence that the store's copy of an object has its bytes, None where nothing can be compared. A copy
        that has others is removed: ChecksumMismatch.
        """
        if self._verify == "none":
            return Evidence("none", etag=meta.etag)
        if meta.size != original.size:
            await self._refuse(meta.key, f"has {meta.size} bytes instead of {original.size}")
        if self._verify == "size":
            return Evidence("size", etag=meta.etag)
        same = await self.same(original, meta)
        if same is None:
            return None
        if not same:
            await self._refuse(meta.key, "does not have the bytes that were to be copied")
        read = original.crc64 is None and original.crc32c is not None and meta.crc32c is None
        checksum = original.checksum or f"MD5:{original.etag}"
        return Evidence("read-back" if read else "in-store", checksum, checksum, meta.etag)

    # --- destination ---------------------------------------------------------------------------------------------

    async def publish(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartReceipt],
        crc: int,
        status: FileStatus | None = None,
    ) -> ObjectMeta:
        """Complete an upload. Whether a lost reply meant success is looked up, not guessed."""
        trouble = Trouble(self._policy, self._noticed)
        again = False
        while True:
            try:
                meta = await self._destination.complete_upload(key, upload_id, parts, crc, status)
                # A store may answer a repeated completion with whatever checksum the request carries (s3proxy does).
                return (await self._destination.head(key) or meta) if again else meta
            except AsyncCopyError as error:
                if not error.retryable and not isinstance(error, UploadGone | AlreadyThere):
                    raise
                settled = isinstance(error, UploadGone) or not self._preserving
                if settled and (found := await self.found(key, parts)) is not None:
                    # It may be an older object of the same bytes, and the upload still be there.
                    await self._destination.abort_upload(key, upload_id)
                    return found
                if isinstance(error, UploadGone | AlreadyThere | ChecksumMismatch):
                    raise
                again = True
                await trouble.wait(error)

    async def found(self, key: str, parts: Sequence[PartReceipt]) -> ObjectMeta | None:
        """The object that is there, None unless it is made of exactly these parts."""
        held = await self._destination.head(key)
        if held is None or held.size != sum(part.size for part in parts) or not await self._holds(held, parts):
            return None
        return held

    async def prove_object(
        self, meta: ObjectMeta, size: int, crc: int, source: str | None, *, parts: Sequence[PartReceipt] = ()
    ) -> Evidence:
        """The evidence that the object has our bytes. An object that has others is removed: ChecksumMismatch.

        ``parts``: what it was made of, so that a store that keeps only MD5s has proven the parts but not their joining.
        The CRC-64 of what was put at once has been compared by the Destination.
        """
        if self._verify == "none":
            return Evidence("none", etag=meta.etag)
        if meta.size != size:
            await self._refuse(meta.key, f"has {meta.size} bytes instead of {size}")
        if self._verify == "size":
            return Evidence("size", etag=meta.etag)
        stream, source = ("stream" if source is None else ""), source or ""
        if meta.file_checksum is not None and str(meta.file_checksum) == source:
            return Evidence("checksum", source, source, meta.etag)
        if meta.crc64 is not None:
            if parts and not await self._holds(meta, parts):
                await self._refuse(meta.key, "does not have the bytes that were sent")
            return Evidence(stream or "checksum", source, meta.checksum, meta.etag)
        method = "checksum"
        if meta.crc32c is None and (parts or self._capabilities.checksum != "MD5"):
            method = "read-back"
        found = await self._object_crc(meta) if method == "read-back" or meta.crc32c is not None else crc
        if found != crc:
            await self._refuse(meta.key, "does not have the bytes that were sent")
        return Evidence(stream or method, source, f"CRC32C:{crc:08x}", meta.etag)

    async def _holds(self, meta: ObjectMeta, parts: Sequence[PartReceipt]) -> bool:
        """Whether an object is made of exactly these parts, ascending."""
        if meta.crc64 is not None and (joined := joined_crc64(parts)) is not None:
            return meta.crc64 == joined
        return await self._object_crc(meta) == joined_crc32c(parts)

    async def _object_crc(self, meta: ObjectMeta) -> int:
        """The object's CRC: as the store keeps it, else by reading it back."""
        if meta.crc32c is not None:
            return meta.crc32c
        crc, offset = 0, 0
        buffer = memoryview(bytearray(min(BUFFER, max(1, meta.size))))
        trouble = Trouble(self._policy, self._noticed)
        while offset < meta.size:
            try:
                reader = await self._destination.open(meta.key, ByteRange(offset, meta.size - offset))
                try:
                    while count := await reader.readinto(buffer):
                        crc = crc32c(buffer[:count], crc)
                        offset += count
                        trouble.over()
                finally:
                    reader.close()
            except Transient as error:
                await trouble.wait(error)
        return crc

    async def _refuse(self, key: str, what: str) -> None:
        await self._destination.delete(key)
        raise ChecksumMismatch(f"{key}: the object {what}; it was removed")
