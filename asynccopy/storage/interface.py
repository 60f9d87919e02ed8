"""The two contracts: a file system is read (``Source``), a store is written in parts (``Destination``).

Every method may raise the classes of ``asynccopy.errors``; foreign exceptions never come out. Cancelling any call
leaves no connection half-used and no file open. Paths are relative to the source root, keys are complete (prefix
included). Implementations do not retry and do not limit: wrappers do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from asynccopy.errors import NameRefused
from asynccopy.model import (
    GIB,
    MIB,
    ByteRange,
    Change,
    FileChecksum,
    FileStatus,
    FileVersion,
    FoundUpload,
    ListPage,
    ObjectMeta,
    ObjectPage,
    Part,
    PartReceipt,
    PartReply,
)


class KeysRefused(NameRefused):
    """Objects of a source have keys that no path can be. All else of their directory has been listed."""

    default_hint = "an empty component, . or .., or bytes under a key that ends in /: rename such objects"


class Reader(Protocol):
    """A range being read, in order. Owned by the one who opened it, and closed by it."""

    async def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer; fewer bytes only at the end of the range, 0 when nothing is left.

        Raises ShortRead when the source ends before the range does, ConnectionLost, Stalled.
        """
        ...

    def close(self) -> None:
        """Let go at once, even in the middle. Never fails; may be called twice."""
        ...


class PartBody(Reader, Protocol):
    """The bytes of a part on their way to the store."""

    @property
    def crc32c(self) -> int:
        """CRC-32C of what was read so far: after the last byte, what a trailer carries."""
        ...


class Source(Protocol):
    """A tree of files to read."""

    url: str
    """Normalised, without credentials: part of the job's identity."""
    name: str
    """The last component of the root: what a single file as root is called."""

    async def check(self) -> FileStatus:
        """Prove that the side can be used, in one try, and return the root's status.

        Raises Unreachable, CredentialsRefused, WrongServer, NotThere (the root does not exist).
        """
        ...

    async def status(self, path: str) -> FileStatus:
        """The status of a file or directory now. Raises NotFound."""
        ...

    async def list(self, path: str, after: str = "") -> ListPage:
        """One page of a directory's entries, following the cursor ``after``. Raises NotFound, PermissionDenied,
        KeysRefused (instead of a last page without entries).

        Every name comes once; the order is the source's own. An entry that was there from the first page to the last
        is in one of them.
        """
        ...

    async def open(self, path: str, range: ByteRange) -> Reader:
        """Read exactly this range, which lies within the file. Raises NotFound, PermissionDenied, SourceChanged
        (shorter now).
        """
        ...

    async def checksum(self, path: str) -> FileChecksum | None:
        """The file's checksum as the source keeps it, None where it keeps none.

        Raises NotFound, SourceChanged (still being written).
        """
        ...

    async def block_lengths(self, path: str) -> Sequence[int] | None:
        """The real lengths of the file's blocks, None where the source has no blocks, or where what it stores in them,
        and takes its checksum of, is not the file's bytes in a row (erasure-coded, encrypted).
        """
        ...

    async def is_open(self, path: str) -> bool:
        """Whether somebody is still writing the file; False where the source cannot tell. Raises NotFound."""
        ...

    @property
    def snapshots(self) -> Snapshots | None:
        """The snapshots of the root, None where this kind of source has none."""
        ...

    @property
    def originals(self) -> Originals | None:
        """The objects that its files are, None where they are none."""
        ...

    async def aclose(self) -> None:
        """Close what is open. No call may follow."""
        ...


class Snapshots(Protocol):
    """The snapshots of a Source's root: frozen trees, and what changed between two of them."""

    async def names(self) -> list[str] | None:
        """All of them, foreign ones included; None: the root cannot have any, or the server knows none."""
        ...

    async def create(self, name: str) -> None:
        """Freeze the tree under a name. One of that name that is there already is not an error."""
        ...

    async def delete(self, name: str) -> None:
        """Let a snapshot go. One that is not there is not an error."""
        ...

    def at(self, name: str) -> Source:
        """The frozen tree, by the same relative paths. It shares the connections of the live one: never close it."""
        ...

    def diff(self, older: str, newer: str) -> AsyncIterator[Sequence[Change]]:
        """What changed from one to the other, in any order, page by page where the server pages.

        Raises SnapshotGone when one of the two is not there any more.
        """
        ...


class Original(Struct, frozen=True):
    """An object that its store is to copy, as it was when it was looked up."""

    bucket: str
    meta: ObjectMeta


class Originals(Protocol):
    """The objects that a Source's files are: what a Destination in the same store copies without reading."""

    store: str
    """Which store, and who we are there: one request copies between two sides that have this in common."""

    async def original(self, path: str, version: FileVersion) -> Original:
        """The object of a file now. Raises NotFound, SourceChanged (it is not this version)."""
        ...


class StoreCopies(Protocol):
    """Copies into a Destination from any bucket of its store, on the condition that the original has its ETag still.

    Whether the store heeds that is not asked: who copies compares checksums. ``whole``, ``part`` and ``complete`` raise
    NotFound when the original is not, or no longer, that object, and what a refusal to copy means.
    """

    store: str
    """As of Originals."""
    most: int
    """Bytes that one request copies."""

    async def whole(self, original: Original, to: str) -> ObjectMeta:
        """Copy an object of 1 to ``most`` bytes by one request, and return what the store says the new one is."""
        ...

    async def begin(self, to: str) -> str:
        """Begin an upload for copied parts alone, and return its id."""
        ...

    async def part(self, original: Original, to: str, upload_id: str, part: Part) -> PartReceipt:
        """Have a part copied. The receipt tells no checksum of it."""
        ...

    async def complete(self, to: str, upload_id: str, parts: Sequence[PartReceipt]) -> ObjectMeta:
        """Publish the object from its parts. Raises UploadGone; a lost reply is an error here."""
        ...


class UploadLimits(Struct, frozen=True):
    """What a store can take; bytes. ``apart``: of keys that lie side by side it takes fewer requests than of others."""

    min_part: int = 5 * MIB
    max_part: int = 5 * GIB
    max_parts: int = 10_000
    max_key: int = 1024
    apart: bool = False


class Capabilities(Struct, frozen=True):
    """What a store proved able to do when it was probed.

    ``checksum``: what it computes itself and lets us compare: ``CRC32C`` or ``CRC64`` (each part and the whole object),
    ``MD5`` (the ETag of each part and of each single put), None (nothing: only reading the object back proves it).
    ``attributes``: it keeps those of a FileStatus.
    """

    checksum: Literal["CRC32C", "CRC64", "MD5"] | None
    attributes: bool = False


class Destination(Protocol):
    """A store that is written: objects appear whole or not at all.

    ``status`` is the source's file (or empty directory) that an object is made of, for a store that keeps more of it
    than its bytes; None where there is none. Every call for one upload is given the same.
    """

    url: str
    """Normalised, without credentials: part of the job's identity."""
    prefix: str
    """What precedes every relative path to make its key: "" or a string that ends in ``/``."""
    limits: UploadLimits

    async def check(self) -> Capabilities:
        """Prove, in one try, that the side can be used and written, and find out what it can do. Leaves nothing
        visible behind.

        Raises Unreachable, CredentialsRefused, WrongServer, NotThere (no such bucket).
        """
        ...

    def check_key(self, key: str) -> None:
        """Raises NameRefused for a key that is known to be refused, before anything is asked or sent."""
        ...

    async def put(
        self, key: str, body: bytes | memoryview, crc32c: int, status: FileStatus | None = None
    ) -> ObjectMeta:
        """Write one small object, replacing what is there, and return what the store says it holds.

        The CRC travels with the request where the store checks it. Where the store tells a CRC-64 instead, that is
        compared with the body's here, and an object that has another one is removed. Raises ChecksumMismatch,
        NameRefused, PermissionDenied, AlreadyThere (and replaces nothing, where it was told so).
        """
        ...

    async def create_upload(self, key: str, status: FileStatus | None = None) -> str:
        """Begin a multipart upload and return its id. Nothing is visible before ``complete_upload``."""
        ...

    async def upload_part(
        self, key: str, upload_id: str, number: int, size: int, body: PartBody, status: FileStatus | None = None
    ) -> PartReply:
        """Send one part of ``size`` bytes, pulled from ``body`` as they go; a part sent again replaces the former.

        On any failure the connection is ended by a reset, so that no store can take the end for the end of the part.
        What ``body`` raises comes out unchanged. Raises UploadGone.
        """
        ...

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartReceipt],
        crc32c: int,
        status: FileStatus | None = None,
    ) -> ObjectMeta:
        """Publish the object from its parts, ascending and complete. ``crc32c`` is of the whole object; a CRC-64 is
        joined from those of the parts, and compared as in ``put``.

        A lost reply is an error here; the caller settles it by ``head``. Raises UploadGone, ChecksumMismatch,
        AlreadyThere (as in ``put``).
        """
        ...

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Forget an upload and its parts. An upload that is not there is not an error."""
        ...

    async def list_uploads(self, prefix: str) -> Sequence[tuple[str, str]]:
        """(key, upload id) of the unfinished uploads below a prefix."""
        ...

    async def uploads_of(self, key: str) -> Sequence[FoundUpload]:
        """The unfinished uploads of this very key, whoever began them."""
        ...

    async def head(self, key: str) -> ObjectMeta | None:
        """The object as the store describes it now, None when there is none."""
        ...

    async def list(self, prefix: str, after: str | None = None) -> ObjectPage:
        """One page of the objects below a prefix, recursively; ``after`` is the former page's token."""
        ...

    async def open(self, key: str, range: ByteRange) -> Reader:
        """Read a range of an object back. Raises NotFound."""
        ...

    async def copy(self, key: str, to: str, size: int, etag: str) -> ObjectMeta:
        """Copy an object inside the store, whatever its size, and return what the store says the new one is.

        Raises NotFound when ``key`` is not, or no longer, the object of this ETag: nothing is written then.
        """
        ...

    @property
    def copies(self) -> StoreCopies | None:
        """Copies from other buckets of the same store, None where there is no such thing."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object. One that is not there is not an error."""
        ...

    async def aclose(self) -> None:
        """Close what is open. No call may follow."""
        ...
