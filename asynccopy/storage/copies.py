"""Copies inside the store: no byte passes through us."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from asynccopy.errors import NotFound, Refused, ServerTrouble, UploadGone, root_cause
from asynccopy.model import MIB, ByteRange, PartReceipt
from asynccopy.storage.dialect import Dialect, Requests, abort
from asynccopy.storage.documents import Completion, PreconditionFailed, read_upload_id
from asynccopy.storage.http import Headers
from asynccopy.storage.interface import UploadLimits
from asynccopy.storage.signing import encode_path

PATIENCE: Final = 300.0
"""Seconds until a store has copied up to 5 GiB."""
PART: Final = 512 * MIB
WORKERS: Final = 8
NEVER: Final = "0" * 32
"""An ETag that no object has."""


class Copies:
    """The two copying operations of a bucket, each on the condition that the original has a certain ETag.

    Whether the store heeds the condition is found out by the first copy, which is asked for on one that cannot be met.
    """

    def __init__(self, client: Requests, dialect: Dialect) -> None:
        self._client = client
        self._dialect = dialect
        self.heeded: bool | None = None

    async def whole(self, key: str, to: str, etag: str, headers: Headers) -> Completion:
        """CopyObject, and what the store tells of the copy. Raises NotFound."""
        if self.heeded is None:
            self.heeded = await self._heeds(key, to)
        try:
            return await self._copy(key, to, etag, headers)
        except PreconditionFailed as error:
            raise self.changed(key) from error

    async def _heeds(self, key: str, to: str) -> bool:
        """The caller has just seen that ``key`` is the right object: a store that copies it does what is wanted."""
        try:
            await self._copy(key, to, NEVER, ())
        except PreconditionFailed:
            return True
        return False

    async def _copy(self, key: str, to: str, etag: str, headers: Headers) -> Completion:
        response = await self._client.request(
            "PUT", to, headers=[*self._original(key, etag), *headers], patience=PATIENCE
        )
        return self._dialect.read_completion(response, self._client.subject(to))

    async def in_parts(
        self,
        key: str,
        to: str,
        size: int,
        etag: str,
        limits: UploadLimits,
        headers: Headers = (),
        condition: Headers = (),
    ) -> None:
        """A multipart upload, begun with ``headers``, whose parts are copied; it is completed on ``condition``. Raises
        NotFound.

        No checksum is declared: of a part that was copied, stores tell different things (versitygw: the whole's).
        """
        response = await self._client.request("POST", to, [("uploads", "")], headers)
        upload_id = read_upload_id(response.body, self._client.subject(to))
        try:
            parts = await self._parts(key, to, upload_id, etag, _cut(size, limits))
            await self._complete(to, upload_id, parts, condition)
        except BaseException:
            await abort(self._client, to, upload_id)
            raise

    async def _parts(
        self, key: str, to: str, upload_id: str, etag: str, cuts: Iterator[tuple[int, ByteRange]]
    ) -> list[PartReceipt]:
        parts: list[PartReceipt] = []

        async def work() -> None:
            for number, range in cuts:
                parts.append(await self._part(key, to, upload_id, etag, number, range))

        try:
            async with asyncio.TaskGroup() as group:
                for worker in range(WORKERS):
                    group.create_task(work(), name=f"copy {worker} of parts to {to}")
        except BaseExceptionGroup as failures:
            raise root_cause(failures) from None
        return sorted(parts, key=lambda part: part.number)

    async def _part(self, key: str, to: str, upload_id: str, etag: str, number: int, range: ByteRange) -> PartReceipt:
        query = [("partNumber", str(number)), ("uploadId", upload_id)]
        wanted = (f"{self._dialect.header}copy-source-range", f"bytes={range.offset}-{range.end - 1}")
        try:
            response = await self._client.request(
                "PUT", to, query, [*self._original(key, etag), wanted], patience=PATIENCE
            )
        except PreconditionFailed as error:
            raise self.changed(key) from error
        copied = self._dialect.read_completion(response, self._client.subject(to)).etag
        if not copied:
            raise ServerTrouble(f"{self._client.subject(to)}: part {number} was copied, yet has no ETag")
        return PartReceipt(number, range.offset, range.length, copied, 0)

    async def _complete(self, to: str, upload_id: str, parts: list[PartReceipt], condition: Headers) -> None:
        document = self._dialect.write_completion(parts)
        headers = [*condition, ("content-type", "application/xml")]
        try:
            response = await self._client.request(
                "POST", to, [("uploadId", upload_id)], headers, document, patience=PATIENCE
            )
        except NotFound as error:  # which must not be taken for the original's absence
            raise UploadGone(error.message) from error
        self._dialect.read_completion(response, self._client.subject(to))

    def _original(self, key: str, etag: str) -> Headers:
        source = encode_path(f"/{self._client.bucket}/{key}")
        prefix = f"{self._dialect.header}copy-source"
        return [(prefix, source), (f"{prefix}-if-match", f'"{etag}"')]

    def changed(self, key: str) -> NotFound:
        return NotFound(f"{self._client.subject(key)}: not the object that was to be copied")


def _cut(size: int, limits: UploadLimits) -> Iterator[tuple[int, ByteRange]]:
    """Part numbers and ranges, within the limits."""
    step = min(limits.max_part, max(PART, -(-size // limits.max_parts)))
    if step * limits.max_parts < size:
        raise Refused(f"an object of {size} bytes is larger than {limits.max_parts} parts may be")
    for number, offset in enumerate(range(0, size, step), start=1):
        yield number, ByteRange(offset, min(step, size - offset))
