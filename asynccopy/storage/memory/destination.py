"""A store in memory that behaves like S3."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Literal

import fastcrc.crc32
from msgspec import Struct

from asynccopy.errors import ChecksumMismatch, NameRefused, NotFound, Refused, ShortRead, UploadGone
from asynccopy.model import ByteRange, FileStatus, FoundUpload, ObjectMeta, ObjectPage, PartReceipt, PartReply
from asynccopy.storage.interface import Capabilities, PartBody, Reader, UploadLimits
from asynccopy.storage.memory.reader import MemoryReader


class _Object(Struct, frozen=True):
    body: bytes
    meta: ObjectMeta


class _Upload(Struct):
    key: str
    parts: dict[int, bytes]
    begun: int


class MemoryDestination:
    """Objects by key. ``checksum`` is what it claims to compute; with None or MD5 it knows no CRC and checks none."""

    def __init__(
        self,
        *,
        url: str = "memory://destination",
        prefix: str = "",
        limits: UploadLimits | None = None,
        page_size: int = 1000,
        checksum: Literal["CRC32C", "MD5"] | None = "CRC32C",
    ) -> None:
        self.url = url
        self.prefix = prefix
        self.limits = limits or UploadLimits(min_part=1024)
        self._page_size = page_size
        self._checksum = checksum
        self._objects: dict[str, _Object] = {}
        self._uploads: dict[str, _Upload] = {}
        self._last_upload = 0

    @property
    def objects(self) -> dict[str, bytes]:
        """What a test wants to look at: the bytes under every key."""
        return {key: stored.body for key, stored in self._objects.items()}

    async def check(self) -> Capabilities:
        return Capabilities(checksum=self._checksum)

    async def put(
        self, key: str, body: bytes | memoryview, crc32c: int, status: FileStatus | None = None
    ) -> ObjectMeta:
        self.check_key(key)
        data = bytes(body)
        return self._store(key, data, hashlib.md5(data).hexdigest(), crc32c)

    async def create_upload(self, key: str, status: FileStatus | None = None) -> str:
        self.check_key(key)
        self._last_upload += 1
        upload_id = f"upload-{self._last_upload}"
        self._uploads[upload_id] = _Upload(key, {}, time.time_ns() // 1_000_000)
        return upload_id

    async def upload_part(
        self, key: str, upload_id: str, number: int, size: int, body: PartBody, status: FileStatus | None = None
    ) -> PartReply:
        self._upload(key, upload_id)
        if not 1 <= number <= self.limits.max_parts or size > self.limits.max_part:
            raise Refused(f"{key!r}: part {number} of {size} bytes is beyond the limits")
        data = bytearray(size)
        filled = 0
        while filled < size:
            count = await body.readinto(memoryview(data)[filled:])
            if not count:
                raise ShortRead(f"{key!r}: part {number} ended {size - filled} bytes early")
            filled += count
        # Asked again: an abort may have come while the bytes did.
        self._upload(key, upload_id).parts[number] = bytes(data)
        crc = fastcrc.crc32.iscsi(data) if self._checksum == "CRC32C" else None
        return PartReply(hashlib.md5(data).hexdigest(), crc)

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartReceipt],
        crc32c: int,
        status: FileStatus | None = None,
    ) -> ObjectMeta:
        """Raises also Refused: parts missing, replaced, out of order, or too small in the middle."""
        held = self._upload(key, upload_id).parts
        offset = 0
        for number, part in enumerate(parts, start=1):
            data = held.get(part.number)
            if part.number != number or part.offset != offset:
                raise Refused(f"{key!r}: part {part.number} at {part.offset} does not follow on {offset} bytes")
            if data is None or hashlib.md5(data).hexdigest() != part.etag or len(data) != part.size:
                raise Refused(f"{key!r}: part {part.number} is not the one that was reported")
            if len(data) < self.limits.min_part and number < len(parts):
                raise Refused(f"{key!r}: part {part.number} has {len(data)} bytes, {self.limits.min_part} is the least")
            offset += part.size
        if not parts:
            raise Refused(f"{key!r}: an upload needs at least one part")
        digests = b"".join(hashlib.md5(held[part.number]).digest() for part in parts)
        etag = f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"
        meta = self._store(key, b"".join(held[part.number] for part in parts), etag, crc32c)
        del self._uploads[upload_id]
        return meta

    async def abort_upload(self, key: str, upload_id: str) -> None:
        self._uploads.pop(upload_id, None)

    async def list_uploads(self, prefix: str) -> Sequence[tuple[str, str]]:
        return [(upload.key, name) for name, upload in self._uploads.items() if upload.key.startswith(prefix)]

    async def uploads_of(self, key: str) -> Sequence[FoundUpload]:
        return [
            FoundUpload(name, upload.begun, not upload.parts)
            for name, upload in self._uploads.items()
            if upload.key == key
        ]

    async def head(self, key: str) -> ObjectMeta | None:
        stored = self._objects.get(key)
        return stored.meta if stored else None

    async def list(self, prefix: str, after: str | None = None) -> ObjectPage:
        """In S3's order, that of the bytes of UTF-8; the token is the last key."""
        keys = sorted(key for key in self._objects if key.startswith(prefix) and (after is None or key > after))
        page = keys[: self._page_size]
        return ObjectPage([self._objects[key].meta for key in page], page[-1] if len(page) < len(keys) else None)

    async def open(self, key: str, range: ByteRange) -> Reader:
        if key not in self._objects:
            raise NotFound(f"{key!r} does not exist")
        return MemoryReader(self._objects[key].body, range)

    async def copy(self, key: str, to: str, size: int, etag: str) -> ObjectMeta:
        self.check_key(to)
        stored = self._objects.get(key)
        if stored is None or (stored.meta.size, stored.meta.etag) != (size, etag):
            raise NotFound(f"{key!r}: not the object that was to be copied")
        meta = ObjectMeta(to, size, etag, stored.meta.crc32c, time.time_ns() // 1_000_000)
        self._objects[to] = _Object(stored.body, meta)
        return meta

    @property
    def copies(self) -> None:
        return None

    async def delete(self, key: str) -> None:
        self._objects.pop(key, None)

    async def aclose(self) -> None:
        return None

    def check_key(self, key: str) -> None:
        try:
            length = len(key.encode())
        except UnicodeEncodeError as error:
            raise NameRefused(f"{key!r} is not UTF-8") from error
        if not 0 < length <= self.limits.max_key:
            raise NameRefused(f"{key!r} has {length} bytes, {self.limits.max_key} is the most")

    def _upload(self, key: str, upload_id: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadGone(f"{key!r}: there is no upload {upload_id!r}")
        return upload

    def _store(self, key: str, body: bytes, etag: str, expected: int) -> ObjectMeta:
        crc: int | None = None
        if self._checksum == "CRC32C":
            crc = fastcrc.crc32.iscsi(body)
            if crc != expected:
                raise ChecksumMismatch(f"{key!r}: the CRC-32C is {crc:08x}, expected {expected:08x}")
        meta = ObjectMeta(key, len(body), etag, crc, time.time_ns() // 1_000_000)
        self._objects[key] = _Object(body, meta)
        return meta
