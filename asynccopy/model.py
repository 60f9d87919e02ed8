"""The nouns, frozen. Lengths are bytes, times are milliseconds since the epoch, paths are relative to the source root.

A relative path is ``""`` for the root, else components joined by ``/`` without a leading one.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Literal

from msgspec import Struct

MIB = 1 << 20
GIB = 1 << 30


class FileVersion(Struct, frozen=True):
    """What tells one version of a file from another. ``file_id`` is 0 where the source has no inode numbers."""

    length: int
    modification_time: int
    file_id: int


class Attributes(Struct, frozen=True, gc=False):
    """What HDFS knows of a file or directory besides its version and blocks, and a destination may want to keep.

    ``permission``: the mode bits, 0o1777 at most. ``access_time``: 0 where none is kept. ``replication``: 0 of a
    directory, and where the source has none.
    """

    owner: str
    group: str
    permission: int
    access_time: int = 0
    replication: int = 0


Preserved = Literal["owner", "group", "permission", "times", "replication", "block-size"]
"""What an HDFS destination can keep of a file."""


class FileStatus(Struct, frozen=True):
    """One entry of a listing, as HDFS's FileStatus; ``path`` relative to the source root.

    ``attributes``: None where the source tells none, or nobody asked for them.
    """

    path: str
    length: int
    modification_time: int
    file_id: int = 0
    is_directory: bool = False
    block_size: int = 0
    attributes: Attributes | None = None

    @property
    def version(self) -> FileVersion:
        return FileVersion(self.length, self.modification_time, self.file_id)


class ListPage(Struct, frozen=True):
    """One page of a directory. ``after`` is the cursor of the next page, None when this is the last."""

    entries: list[FileStatus]
    after: str | None


class Change(Struct, frozen=True):
    """One line of a snapshot diff. ``path`` is the name in the older snapshot, except of what was created; ``target``
    is the new name of what was renamed.

    A path below a renamed directory may still begin with the directory's old name, also of what was created there.
    """

    kind: Literal["create", "modify", "delete", "rename"]
    path: str
    target: str = ""


class ByteRange(Struct, frozen=True):
    """``length`` bytes from ``offset``."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


class FileChecksum(Struct, frozen=True):
    """A checksum as the source names it, e.g. ``MD5-of-0MD5-of-512CRC32C`` and its 16 bytes in hex."""

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


class Part(Struct, frozen=True):
    """One piece of a multipart upload; ``number`` counts from 1."""

    number: int
    range: ByteRange


class BlockDigest(Struct, frozen=True, array_like=True):
    """What one part knows of one HDFS block: the block's MD5 (``whole``), or the raw chunk CRCs of a piece of it."""

    block: int
    whole: bool
    digest: bytes


class PartReceipt(Struct, frozen=True):
    """A finished part: what the store answered, and the digests of the bytes that we read."""

    number: int
    offset: int
    size: int
    etag: str
    crc32c: int
    blocks: tuple[BlockDigest, ...] = ()

    @property
    def crc64(self) -> int | None:
        """CRC-64 of the bytes that we read, None where the store computes none (see ``etag_with_crc64``)."""
        found = _CRC64.search(self.etag)
        return int(found[1], 16) if found else None

    @property
    def plain_etag(self) -> str:
        """The ETag as the store gave it."""
        return _CRC64.sub("", self.etag)


_CRC64 = re.compile(r";crc64=([0-9a-f]{16})\Z")


def etag_with_crc64(etag: str, crc64: int) -> str:
    """The ETag of a part that is kept together with the CRC-64 of what was sent, so that both outlive a crash."""
    return f"{etag};crc64={crc64:016x}"


class PartReply(Struct, frozen=True):
    """What the store says of a part it took: its ETag, and its own CRC-32C of the bytes where it computes one.

    A store that computes CRC-64s has been compared already, and the ETag carries the value (``etag_with_crc64``).
    """

    etag: str
    crc32c: int | None


class ObjectMeta(Struct, frozen=True):
    """An object as the store describes it. The CRCs are of the whole object, None where the store keeps none.

    ``modification_time`` in ms, 0 where unknown. ``crc64`` is CRC-64/XZ, which OSS calls crc64ecma. ``file_checksum``:
    of what was just written, where an HDFS cut it into blocks as the source did, so that the two can be equal.
    """

    key: str
    size: int
    etag: str = ""
    crc32c: int | None = None
    modification_time: int = 0
    crc64: int | None = None
    file_checksum: FileChecksum | None = None

    @property
    def checksum(self) -> str:
        """The store's own CRC as the ledger keeps it (``Evidence.object``), "" where it has none."""
        if self.crc64 is not None:
            return f"CRC64:{self.crc64:016x}"
        return "" if self.crc32c is None else f"CRC32C:{self.crc32c:08x}"


class ObjectPage(Struct, frozen=True):
    """One page of a listing. ``after`` is the token of the next page, None when this is the last."""

    objects: list[ObjectMeta]
    after: str | None


class OpenUpload(Struct, frozen=True):
    """A multipart upload that has begun. ``version`` is the source version it was begun for."""

    upload_id: str
    part_size: int
    version: FileVersion
    parts: tuple[PartReceipt, ...] = ()


class FoundUpload(Struct, frozen=True):
    """An unfinished multipart upload that a store has. ``begun``: ms by our clock, 0 where the store does not tell;
    ``empty``: no part of it has come.
    """

    upload_id: str
    begun: int
    empty: bool


class FileState(IntEnum):
    """A file's state in the journal. A claim is not a state: what memory holds may be lost at any time."""

    PENDING = 0
    DONE = 1
    FAILED = 2
    UNSEEN = 3  # was to be copied in an earlier pass, not met again yet in this one


class Evidence(Struct, frozen=True):
    """What proves one file equal, as the ledger keeps it.

    ``source`` is the source's own checksum, ``object`` the store's, each ``ALGORITHM:value`` or "" where a side has
    none. ``method``: ``checksum`` (both ends compared with the stream), ``read-back`` (the object was read again),
    ``in-store`` (the store copied it, and tells the same checksum of both), ``stream`` (the object and the source's
    version were compared; the source's checksum is of something else than its bytes), ``size``, ``none``.
    """

    method: str
    source: str = ""
    object: str = ""
    etag: str = ""
