"""Copies inside the store: no byte passes through us."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from asynccopy.errors import NotFound, Refused, ServerTrouble, root_cause
from asynccopy.model import MIB, ByteRange, Part, PartReceipt
from asynccopy.storage.client import BucketClient
from asynccopy.storage.dialect import Dialect
from asynccopy.storage.documents import Completion, PreconditionFailed, shown
from asynccopy.storage.http import Headers
from asynccopy.storage.interface import Original, UploadLimits
from asynccopy.storage.signing import encode_path

PATIENCE: Final = 300.0
"""Seconds until a store has copied up to 5 GiB."""
PART: Final = 512 * MIB
WORKERS: Final = 8
NEVER: Final = "0" * 32
"""An ETag that no object has."""


class Copies:
    """The copying operations into a bucket, each on the condition that the original has a certain ETag.

    Whether the store heeds the condition is found out by the first copy inside the bucket, which is asked for on one
    that cannot be met.
    """

    def __init__(self, client: BucketClient, dialect: Dialect) -> None:
        self._client = client
        self._dialect = dialect
        self.heeded: bool | None = None

    async def inside(self, original: Original, to: str, headers: Headers) -> Completion:
        """CopyObject of an object of this very bucket. Raises NotFound."""
        if self.heeded is None:
            self.heeded = await self._heeds(original, to)
        return await self.whole(original, to, headers)

    async def _heeds(self, original: Original, to: str) -> bool:
        """The caller has just seen that it is the right object: a store that copies it does what is wanted."""
        try:
            await self._copy(Original(original.bucket, replace(original.meta, etag=NEVER)), to, ())
        except PreconditionFailed:
            return True
        return False

    async def whole(self, original: Original, to: str, headers: Headers) -> Completion:
        """CopyObject, and what the store tells of the copy. Raises NotFound."""
        try:
            return await self._copy(original, to, headers)
        except PreconditionFailed as error:
            raise self.changed(original) from error

    async def _copy(self, original: Original, to: str, headers: Headers) -> Completion:
        response = await self._client.request("PUT", to, headers=[*self._named(original), *headers], patience=PATIENCE)
        return self._dialect.read_completion(response, self._client.subject(to))

    async def in_parts(
        self, original: Original, to: str, limits: UploadLimits, headers: Headers = (), condition: Headers = ()
    ) -> None:
        """A multipart upload, begun with ``headers``, whose parts are copied; it is completed on ``condition``. Raises
        NotFound.
        """
        upload_id = await self.begin(to, headers)
        try:
            parts = await self._parts(original, to, upload_id, copied_parts(original.meta.size, limits))
            await self.complete(to, upload_id, parts, condition)
        except BaseException:
            await self._client.abort(to, upload_id)
            raise

    async def begin(self, to: str, headers: Headers) -> str:
        """An upload for copied parts. No checksum is declared: of a part that was copied, stores tell different things
        (versitygw: the whole's).
        """
        return await self._client.begin(to, headers)

    async def _parts(self, original: Original, to: str, upload_id: str, parts: Iterator[Part]) -> list[PartReceipt]:
        copied: list[PartReceipt] = []

        async def work() -> None:
            copied.extend([await self.part(original, to, upload_id, part) for part in parts])

        try:
            async with asyncio.TaskGroup() as group:
                for worker in range(WORKERS):
                    group.create_task(work(), name=f"copy {worker} of parts to {to}")
        except BaseExceptionGroup as failures:
            raise root_cause(failures) from None
        return sorted(copied, key=lambda receipt: receipt.number)

    async def part(self, original: Original, to: str, upload_id: str, part: Part) -> PartReceipt:
        """UploadPartCopy. Raises NotFound."""
        query = [("partNumber", str(part.number)), ("uploadId", upload_id)]
        wanted = (f"{self._dialect.header}copy-source-range", f"bytes={part.range.offset}-{part.range.end - 1}")
        try:
            response = await self._client.request("PUT", to, query, [*self._named(original), wanted], patience=PATIENCE)
        except PreconditionFailed as error:
            raise self.changed(original) from error
        copied = self._dialect.read_completion(response, self._client.subject(to)).etag
        if not copied:
            raise ServerTrouble(f"{self._client.subject(to)}: part {part.number} was copied, yet has no ETag")
        return PartReceipt(part.number, part.range.offset, part.range.length, copied, 0)

    async def complete(
        self, to: str, upload_id: str, parts: Sequence[PartReceipt], headers: Headers = ()
    ) -> Completion:
        document = self._dialect.write_completion(parts)
        response = await self._client.complete(to, upload_id, headers, document)
        return self._dialect.read_completion(response, self._client.subject(to))

    def _named(self, original: Original) -> Headers:
        source = encode_path(f"/{original.bucket}/{original.meta.key}")
        prefix = f"{self._dialect.header}copy-source"
        return [(prefix, source), (f"{prefix}-if-match", f'"{original.meta.etag}"')]

    def changed(self, original: Original) -> NotFound:
        where = f"{self._dialect.store.lower()}://{original.bucket}/{shown(original.meta.key)}"
        return NotFound(f"{where}: not the object that was to be copied")


def copied_parts(size: int, limits: UploadLimits) -> Iterator[Part]:
    """An object's parts, as large as they can well be, within the limits. Raises Refused."""
    step = min(limits.max_part, max(PART, -(-size // limits.max_parts)))
    if step * limits.max_parts < size:
        raise Refused(f"an object of {size} bytes is larger than {limits.max_parts} parts may be")
    for number, offset in enumerate(range(0, size, step), start=1):
        yield Part(number, ByteRange(offset, min(step, size - offset)))
