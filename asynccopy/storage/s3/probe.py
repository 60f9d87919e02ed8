"""What a store can do, found out by one multipart upload that is always aborted, so that nothing is ever visible."""

from __future__ import annotations

import hashlib
from typing import Final

from fastcrc import crc32

from asynccopy.errors import ChecksumMismatch, ConnectionLost, Refused
from asynccopy.storage.bucket import PROBE
from asynccopy.storage.documents import plain_etag, read_upload_id
from asynccopy.storage.interface import Capabilities
from asynccopy.storage.objects import ObjectHeaders
from asynccopy.storage.s3.client import S3Client
from asynccopy.storage.s3.messages import CRC32C_HEADER, FULL_OBJECT, TYPE_HEADER, decode_crc32c

_CRC: Final = crc32.iscsi(PROBE)

ALGORITHM: Final = ("x-amz-checksum-algorithm", "CRC32C")
DECLARATION: Final = [ALGORITHM, (TYPE_HEADER, FULL_OBJECT)]
"""On CreateMultipartUpload: the store is to keep one CRC-32C of the whole object."""


async def probe(client: S3Client, key: str, objects: ObjectHeaders) -> Capabilities:
    """Raises what the door and the refusals raise; a store that lacks an ability is not an error, unless it is one that
    was asked for: then Refused.
    """
    upload_id, declared = await _begin(client, key, objects)
    try:
        if declared and await _checks_crc32c(client, key, upload_id):
            return Capabilities(checksum="CRC32C")
        return Capabilities(checksum="MD5" if await _tells_md5(client, key, upload_id) else None)
    finally:
        await client.abort(key, upload_id)


async def _begin(client: S3Client, key: str, objects: ObjectHeaders) -> tuple[str, bool]:
    """An upload id, and whether the store took our declaration of a checksum."""
    subject, wanted = client.subject(key), [*objects.kept, *objects.described(None)]
    try:
        response = await client.request("POST", key, [("uploads", "")], [*DECLARATION, *wanted])
    except Refused:
        response = await client.request("POST", key, [("uploads", "")], wanted)
    upload_id, said = read_upload_id(response.body, subject), response.headers
    if objects.encryption is not None and said.get("x-amz-server-side-encryption") != objects.encryption:
        # A store that does not know the header passes over it (versitygw), and its objects would lie there in clear.
        await client.abort(key, upload_id)
        raise Refused(f"{subject}: the store does not say that it encrypts by {objects.encryption}")
    declared = said.get("x-amz-checksum-algorithm") == "CRC32C" and said.get(TYPE_HEADER) == FULL_OBJECT
    return upload_id, declared


async def _checks_crc32c(client: S3Client, key: str, upload_id: str) -> bool:
    """Does it take a part with a CRC-32C trailer, tell the value, and refuse a part whose trailer is wrong?"""
    query = [("partNumber", "1"), ("uploadId", upload_id)]
    try:
        response = await client.upload(key, query, len(PROBE), _Bytes(PROBE, _CRC), trailer=True)
    except (Refused, ChecksumMismatch):
        return False
    if decode_crc32c(response.headers.get(CRC32C_HEADER)) != _CRC:
        return False
    try:
        await client.upload(key, query, len(PROBE), _Bytes(PROBE, _CRC ^ 1), trailer=True)
    except ChecksumMismatch:
        return True
    except Refused:
        return False
    return False


async def _tells_md5(client: S3Client, key: str, upload_id: str) -> bool:
    query = [("partNumber", "1"), ("uploadId", upload_id)]
    try:
        response = await client.upload(key, query, len(PROBE), _Bytes(PROBE, _CRC), trailer=False)
    except ConnectionLost:
        # A store that does not know trailers may have taken ours for the next request, and hung up (s3proxy).
        response = await client.upload(key, query, len(PROBE), _Bytes(PROBE, _CRC), trailer=False)
    return plain_etag(response.headers.get("etag")) == hashlib.md5(PROBE, usedforsecurity=False).hexdigest()


class _Bytes:
    """A few bytes, and what they are to be told to have as their CRC-32C."""

    def __init__(self, data: bytes, crc32c: int) -> None:
        self._data = data
        self.crc32c = crc32c

    async def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    def close(self) -> None:
        self._data = b""
