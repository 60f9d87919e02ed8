"""A bucket, or a prefix in one, as a ``Destination``."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import unquote_plus

from asynccopy.config.objects import ObjectOptions
from asynccopy.errors import ChecksumMismatch, ConnectionLost, ServerTrouble
from asynccopy.model import GIB, FileStatus, ObjectMeta, PartReceipt, PartReply
from asynccopy.storage.bucket import Bucket, split_url
from asynccopy.storage.dialect import Dialect
from asynccopy.storage.documents import plain_etag
from asynccopy.storage.http import Headers
from asynccopy.storage.interface import Capabilities, PartBody, UploadLimits
from asynccopy.storage.pacing import Pacing
from asynccopy.storage.pool import Origin
from asynccopy.storage.s3.bodies import Md5Body
from asynccopy.storage.s3.client import ABSENT, LONG_HASH, S3Client
from asynccopy.storage.s3.credentials import CredentialChain
from asynccopy.storage.s3.messages import (
    CRC32C_HEADER,
    FULL_OBJECT,
    TYPE_HEADER,
    decode_crc32c,
    encode_crc32c,
    object_crc32c,
    read_completion,
    write_completion,
)
from asynccopy.storage.s3.probe import ALGORITHM, DECLARATION, probe
from asynccopy.storage.s3.settings import S3Settings

CREDENTIALS: Final = "set AWS_ACCESS_KEY_ID, or AWS_PROFILE"
DIALECT: Final = Dialect(
    store="S3",
    header="x-amz-",
    key_id="aws-kms-key-id",
    replace="REPLACE",
    absent=ABSENT,
    write_completion=lambda parts: write_completion(parts, with_crc32c=False),
    read_completion=lambda response, subject: read_completion(response.body, subject),
    decode=unquote_plus,
    encoded_token=False,
    most_copied=5 * GIB,
    ranged=[],
    reading="s3:ListBucket",
    writing="s3:PutObject and s3:AbortMultipartUpload",
)


class S3Destination(Bucket):
    """Objects below ``s3://bucket/prefix``.

    ``capabilities`` spares a worker the probe that another process made already; without it the first call that must
    know makes it. Raises UsageError for a URL or an endpoint that cannot be one.
    """

    def __init__(
        self,
        url: str,
        settings: S3Settings,
        credentials: CredentialChain | None = None,
        objects: ObjectOptions | None = None,
        capabilities: Capabilities | None = None,
        *,
        latency: Callable[[float], None] | None = None,
        pacing: Callable[[Origin], Pacing] = Pacing,
    ) -> None:
        limits = UploadLimits()
        bucket, prefix = split_url(url, "s3", limits, CREDENTIALS)
        self._client = S3Client(bucket, settings, credentials, latency, pacing)
        super().__init__(self._client, DIALECT, prefix, limits, objects or ObjectOptions(), capabilities)

    async def _probe(self, key: str) -> Capabilities:
        return await probe(self._client, key, self._objects)

    # --- objects -------------------------------------------------------------------------------------------------

    async def _put(self, key: str, body: bytes | memoryview, crc32c: int, described: Headers) -> ObjectMeta:
        checksum = (await self.capable()).checksum
        headers = [*self._objects.kept, *described, *self._objects.condition]
        if checksum == "CRC32C":
            headers.append((CRC32C_HEADER, encode_crc32c(crc32c)))
            response = await self._client.request("PUT", key, headers=headers, body=body)
            held = object_crc32c(response.headers)
            if held is not None and held != crc32c:
                raise ChecksumMismatch(
                    f"{self._client.subject(key)}: the store holds CRC-32C {held:08x}, not {crc32c:08x}"
                )
            return ObjectMeta(key, len(body), plain_etag(response.headers.get("etag")), held)
        # Some stores publish a body that was cut, unless the request carries a hash of it: so it always does.
        md5 = await asyncio.to_thread(_md5, body) if len(body) > LONG_HASH else _md5(body)
        headers.append(("content-md5", base64.b64encode(md5).decode()))
        response = await self._client.request("PUT", key, headers=headers, body=body)
        etag = plain_etag(response.headers.get("etag"))
        if checksum == "MD5":
            self._compare_md5(key, etag, md5.hex())
        return ObjectMeta(key, len(body), etag)

    async def _declared(self) -> Headers:
        return DECLARATION if (await self.capable()).checksum == "CRC32C" else ()

    async def _copying(self) -> Headers:
        """Of copied parts nothing is declared: stores tell different things of them (versitygw: the whole's)."""
        return [ALGORITHM] if (await self.capable()).checksum == "CRC32C" else ()

    # --- multipart uploads ---------------------------------------------------------------------------------------

    async def upload_part(
        self, key: str, upload_id: str, number: int, size: int, body: PartBody, status: FileStatus | None = None
    ) -> PartReply:
        query = [("partNumber", str(number)), ("uploadId", upload_id)]
        checksum = (await self.capable()).checksum
        watched = Md5Body(body) if checksum == "MD5" else body
        try:
            response = await self._client.upload(key, query, size, watched, trailer=checksum == "CRC32C")
        except ConnectionLost:
            await self._must_be_open(key, upload_id)
            raise
        etag = plain_etag(response.headers.get("etag"))
        if isinstance(watched, Md5Body):
            self._compare_md5(key, etag, watched.hexdigest())
        if checksum != "CRC32C":
            return PartReply(etag, None)
        held = decode_crc32c(response.headers.get(CRC32C_HEADER))
        if held is not None and held != body.crc32c:
            raise ChecksumMismatch(
                f"{self._client.subject(key)}: part {number} arrived with CRC-32C {held:08x}, not {body.crc32c:08x}"
            )
        return PartReply(etag, held)

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartReceipt],
        crc32c: int,
        status: FileStatus | None = None,
    ) -> ObjectMeta:
        capable = (await self.capable()).checksum == "CRC32C"
        headers = [(CRC32C_HEADER, encode_crc32c(crc32c)), (TYPE_HEADER, FULL_OBJECT)] if capable else []
        headers = [*headers, *self._objects.condition]
        document = write_completion(parts, with_crc32c=capable)
        response = await self._client.complete(key, upload_id, headers, document)
        said = read_completion(response.body, self._client.subject(key))
        if said.etag and said.crc32c is not None:
            if said.crc32c != crc32c:
                raise ChecksumMismatch(
                    f"{self._client.subject(key)}: the store holds CRC-32C {said.crc32c:08x}, not {crc32c:08x}"
                )
            return ObjectMeta(key, sum(part.size for part in parts), said.etag, said.crc32c)
        held = await self.head(key)
        if held is None:
            raise ServerTrouble(f"{self._client.subject(key)}: completed, yet not there")
        return held

    def _compare_md5(self, key: str, etag: str, md5: str) -> None:
        if etag != md5:
            raise ChecksumMismatch(
                f"{self._client.subject(key)}: the store's ETag is {etag[:64]}, the bytes' MD5 {md5}"
            )


def _md5(body: bytes | memoryview) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()
