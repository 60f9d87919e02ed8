"""What a simulated object store holds, and where the bytes lie: in memory, in files, or nowhere (digests only)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from fastcrc import crc32, crc64

from asynccopy.simulators.checksums import join_crc32c, join_crc64
from asynccopy.simulators.server import PIECE


class Stored(Protocol):
    """The bytes of a put or a part, wherever they lie."""

    async def read(self, offset: int, length: int) -> bytes: ...

    def drop(self) -> None:
        """The bytes are not needed any more."""
        ...


class _InMemory:
    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data

    async def read(self, offset: int, length: int) -> bytes:
        return bytes(self._data[offset : offset + length])

    def drop(self) -> None:
        self._data = b""


class _InFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self, offset: int, length: int) -> bytes:
        return await asyncio.to_thread(self._read, offset, length)

    def _read(self, offset: int, length: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)


class _Nowhere:
    async def read(self, offset: int, length: int) -> bytes:
        raise LookupError("the simulator was told to discard bodies")

    def drop(self) -> None:
        pass


class Body:
    """A body that came in whole: its digests, and its bytes. ``md5`` is empty where none is computed."""

    __slots__ = ("crc32", "crc32c", "crc64", "md5", "sha256", "size", "stored")

    def __init__(
        self, size: int, crc32c: int, crc32: int | None, crc64: int, md5: bytes, sha256: str, stored: Stored
    ) -> None:
        self.size = size
        self.crc32c = crc32c
        self.crc32 = crc32
        self.crc64 = crc64
        self.md5 = md5
        self.sha256 = sha256
        self.stored = stored


class Incoming:
    """A body that is coming in. Only ``finish`` makes it one; until then ``drop`` leaves no trace.

    MD5 and SHA-256 cost ten times what the CRCs do, so they are computed only where they are needed.
    """

    def __init__(self, place: Place, *, md5: bool, sha256: bool = False, crc32: bool = False) -> None:
        self.size = 0
        self._crc32c = 0
        self._crc64 = 0
        self._crc32: int | None = 0 if crc32 else None
        self._md5 = hashlib.md5() if md5 else None
        self._sha256 = hashlib.sha256() if sha256 else None
        self._place = place
        self._memory = bytearray()
        self._path = place.new_path()
        self._file: IO[bytes] | None = None

    async def write(self, piece: bytes) -> None:
        self.size += len(piece)
        self._crc32c = crc32.iscsi(piece, self._crc32c)
        self._crc64 = crc64.xz(piece, self._crc64)
        if self._crc32 is not None:
            self._crc32 = zlib.crc32(piece, self._crc32)
        if self._md5 is not None:
            self._md5.update(piece)
        if self._sha256 is not None:
            self._sha256.update(piece)
        if self._path is not None:
            if self._file is None:
                self._file = await asyncio.to_thread(self._path.open, "wb")
            await asyncio.to_thread(self._file.write, piece)
        elif not self._place.discard:
            self._memory += piece

    async def finish(self) -> Body:
        stored: Stored
        if self._file is not None and self._path is not None:
            await asyncio.to_thread(self._file.close)
            stored = _InFile(self._path)
        elif self._place.discard and self.size:
            stored = _Nowhere()
        else:
            stored = _InMemory(self._memory)
        return Body(
            self.size,
            self._crc32c,
            self._crc32,
            self._crc64,
            self._md5.digest() if self._md5 else b"",
            self._sha256.hexdigest() if self._sha256 else "",
            stored,
        )

    def drop(self) -> None:
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)


async def take(incoming: Incoming, pieces: AsyncIterator[bytes], check: Callable[[Body], None]) -> Body:
    """Fill a body; where a piece does not come, or ``check`` raises, nothing is kept."""
    kept = False
    try:
        async for piece in pieces:
            await incoming.write(piece)
        body = await incoming.finish()
        check(body)
        kept = True
        return body
    finally:
        if not kept:
            incoming.drop()


class Place:
    """Where bodies go: ``directory`` in files, ``discard`` nowhere, else in memory."""

    def __init__(self, *, directory: Path | None = None, discard: bool = False) -> None:
        if directory is not None and discard:
            raise ValueError("bodies are either kept in a directory or discarded")
        self.discard = discard
        self._directory = directory
        self._numbers = itertools.count(1)

    def new_path(self) -> Path | None:
        return None if self._directory is None else self._directory / f"body-{next(self._numbers):08}"


@dataclass(slots=True)
class StoredObject:
    """One object. ``checksum``: the CRC32C as S3 shows it, "" where the writer asked for none.

    ``headers``: what a HEAD repeats. ``crc64`` is OSS's.
    """

    size: int
    etag: str
    modified: float
    crc32c: int
    bodies: list[Body]
    checksum: str = ""
    checksum_type: str = "FULL_OBJECT"
    crc64: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    async def read(self, offset: int, length: int) -> AsyncIterator[bytes]:
        """The bytes of a range within the object, in pieces."""
        end = offset + length
        at = 0
        for body in self.bodies:
            start, stop = max(offset, at), min(end, at + body.size)
            for where in range(start, stop, PIECE):
                yield await body.stored.read(where - at, min(PIECE, stop - where))
            at += body.size

    def drop(self) -> None:
        for body in self.bodies:
            body.stored.drop()


@dataclass(slots=True)
class Upload:
    """A multipart upload under way. ``checksum_type`` is "" where the writer asked for no CRC32C.

    ``headers`` and ``tags``: what the object will have.
    """

    key: str
    upload_id: str
    begun: float
    checksum_type: str = ""
    parts: dict[int, Body] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def drop(self) -> None:
        for body in self.parts.values():
            body.stored.drop()


@dataclass(slots=True)
class Bucket:
    """Objects and uploads by key and id."""

    objects: dict[str, StoredObject] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    _sorted: list[str] | None = None

    def put(self, key: str, stored: StoredObject) -> None:
        old = self.objects.get(key)
        if old is None:
            self._sorted = None
        else:
            old.drop()
        self.objects[key] = stored

    def delete(self, key: str) -> None:
        stored = self.objects.pop(key, None)
        if stored is not None:
            stored.drop()
            self._sorted = None

    def drop(self) -> None:
        """Let go of all bytes."""
        for stored in self.objects.values():
            stored.drop()
        for upload in self.uploads.values():
            upload.drop()

    def keys(self) -> list[str]:
        """All keys in S3's order, that of the UTF-8 bytes, which is that of the code points."""
        if self._sorted is None:
            self._sorted = sorted(self.objects)
        return self._sorted


def joined_crc32c(bodies: list[Body]) -> int:
    """The CRC-32C of the bodies one after the other."""
    crc = 0
    for body in bodies:
        crc = join_crc32c(crc, body.crc32c, body.size)
    return crc


def joined_crc64(bodies: list[Body]) -> int:
    """The CRC-64 of the bodies one after the other."""
    crc = 0
    for body in bodies:
        crc = join_crc64(crc, body.crc64, body.size)
    return crc


def base64_crc(crc: int) -> str:
    """A CRC as the ``x-amz-checksum-*`` headers carry it."""
    return base64.b64encode(crc.to_bytes(4, "big")).decode()
