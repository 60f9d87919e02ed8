"""A bucket, or a prefix in one, as a ``Destination``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NoReturn
from urllib.parse import unquote

from asynccopy.config.objects import ObjectOptions
from asynccopy.errors import ChecksumMismatch, ConnectionLost, ServerTrouble
from asynccopy.model import GIB, FileStatus, ObjectMeta, PartReceipt, PartReply, etag_with_crc64
from asynccopy.storage.bucket import PROBE, Bucket, split_url
from asynccopy.storage.crc import crc64, joined_crc64
from asynccopy.storage.dialect import Dialect
from asynccopy.storage.documents import plain_etag, write_completion
from asynccopy.storage.http import Headers
from asynccopy.storage.interface import Capabilities, PartBody, Reader, UploadLimits
from asynccopy.storage.oss.client import OssClient
from asynccopy.storage.oss.credentials import CredentialChain
from asynccopy.storage.oss.messages import check_oss_key, read_completion, read_crc64
from asynccopy.storage.oss.settings import OssSettings
from asynccopy.storage.pacing import Pacing
from asynccopy.storage.pool import Origin

LIMITS: Final = UploadLimits(min_part=100 * 1024, max_part=5 * GIB, max_parts=10_000, max_key=1023, apart=True)
CREDENTIALS: Final = "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"
DIALECT: Final = Dialect(
    store="OSS",
    header="x-oss-",
    key_id="key-id",
    replace="Replace",
    absent=("x-oss-forbid-overwrite", "true"),
    write_completion=write_completion,
    read_completion=lambda response, subject: read_completion(response.headers, response.body, subject),
    decode=unquote,
    encoded_token=True,
    most_copied=GIB,
    ranged=[("x-oss-range-behavior", "standard")],
    reading="oss:ListObjects",
    writing="oss:PutObject and oss:AbortMultipartUpload",
)


class OssDestination(Bucket):
    """Objects below ``oss://bucket/prefix``. OSS keeps a CRC-64 of every part and object: what it tells is compared
    with the CRC-64 of the bytes that went out, and an object that has another one is removed.

    ``capabilities`` spares a worker the probe that another process made already. Raises UsageError for a URL or an
    endpoint that cannot be one.
    """

    def __init__(
        self,
        url: str,
        settings: OssSettings,
        credentials: CredentialChain | None = None,
        objects: ObjectOptions | None = None,
        capabilities: Capabilities | None = None,
        *,
        latency: Callable[[float], None] | None = None,
        pacing: Callable[[Origin], Pacing] = Pacing,
    ) -> None:
        bucket, prefix = split_url(url, "oss", LIMITS, CREDENTIALS)
        self._client = OssClient(bucket, settings, credentials, latency, pacing)
        super().__init__(self._client, DIALECT, prefix, LIMITS, objects or ObjectOptions(), capabilities)

    async def _probe(self, key: str) -> Capabilities:
        """Does it tell the CRC-64 of a part?"""
        upload_id = await self.create_upload(key)
        try:
            query = [("partNumber", "1"), ("uploadId", upload_id)]
            response = await self._client.request("PUT", key, query, body=PROBE)
        finally:
            await self._client.abort(key, upload_id)
        return Capabilities("CRC64" if read_crc64(response.headers) == crc64(PROBE) else None)

    def check_key(self, key: str) -> None:
        check_oss_key(key, self.limits.max_key)

    # --- objects -------------------------------------------------------------------------------------------------

    async def _put(self, key: str, body: bytes | memoryview, crc32c: int, described: Headers) -> ObjectMeta:
        sent = crc64(body)
        headers = [*self._objects.kept, *described, *self._objects.condition]
        response = await self._client.request("PUT", key, headers=headers, body=body)
        held = read_crc64(response.headers)
        if held not in (None, sent):
            await self._refuse(key, held, sent)
        return ObjectMeta(key, len(body), plain_etag(response.headers.get("etag")), crc64=held)

    async def _declared(self) -> Headers:
        return ()

    async def _copying(self) -> Headers:
        return self._objects.condition

    async def _refuse(self, key: str, held: int | None, sent: int) -> NoReturn:
        """OSS publishes what it received before it tells the CRC-64: wrong bytes must not stay."""
        await self.delete(key)
        raise ChecksumMismatch(
            f"{self._client.subject(key)}: OSS has the CRC-64 {held or 0:016x}, not {sent:016x}; the object was removed"
        )

    # --- multipart uploads ---------------------------------------------------------------------------------------

    async def upload_part(
        self, key: str, upload_id: str, number: int, size: int, body: PartBody, status: FileStatus | None = None
    ) -> PartReply:
        query = [("partNumber", str(number)), ("uploadId", upload_id)]
        watched = Crc64Body(body)
        try:
            response = await self._client.upload(key, query, size, watched)
        except ConnectionLost:
            await self._must_be_open(key, upload_id)
            raise
        held = read_crc64(response.headers)
        if held not in (None, watched.crc64):
            raise ChecksumMismatch(
                f"{self._client.subject(key)}: part {number} arrived with CRC-64 {held:016x}, not {watched.crc64:016x}"
            )
        return PartReply(etag_with_crc64(plain_etag(response.headers.get("etag")), watched.crc64), None)

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartReceipt],
        crc32c: int,
        status: FileStatus | None = None,
    ) -> ObjectMeta:
        size, sent = sum(part.size for part in parts), joined_crc64(parts)
        response = await self._client.complete(key, upload_id, self._objects.condition, write_completion(parts))
        said = read_completion(response.headers, response.body, self._client.subject(key))
        held = ObjectMeta(key, size, said.etag, crc64=said.crc64)
        if not said.etag or said.crc64 is None:
            looked = await self.head(key)
            if looked is None:
                raise ServerTrouble(f"{self._client.subject(key)}: completed, yet not there")
            held = looked
        if sent is not None and held.crc64 not in (None, sent):
            await self._refuse(key, held.crc64, sent)
        return held


class Crc64Body:
    """Passes a body on and keeps the CRC-64 of what went through."""

    __slots__ = ("_body", "crc64")

    def __init__(self, body: Reader) -> None:
        self._body = body
        self.crc64 = 0

    async def readinto(self, buffer: memoryview) -> int:
        count = await self._body.readinto(buffer)
        self.crc64 = crc64(buffer[:count], self.crc64)
        return count

    def close(self) -> None:
        self._body.close()
