"""A directory as a ``Destination``: objects are files, and appear whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

from asynccopy.errors import (
    CredentialsRefused,
    FileError,
    NotFound,
    NotThere,
    PermissionDenied,
    Refused,
    ShortRead,
    SideError,
)
from asynccopy.model import MIB, ByteRange, FileStatus, FoundUpload, ObjectMeta, ObjectPage, PartReceipt, PartReply
from asynccopy.storage.interface import Capabilities, PartBody, Reader, UploadLimits
from asynccopy.storage.local.paths import MAX_PATH, STAGING, key_path, path_of, url_of
from asynccopy.storage.local.reader import LocalReader
from asynccopy.storage.local.refusals import READING, UPLOADING, WRITING, told
from asynccopy.storage.local.staged import StagedFile, make_directories, sync_directory
from asynccopy.storage.local.threads import in_thread
from asynccopy.storage.local.uploads import Uploads, etag, part_path, proven_parts
from asynccopy.storage.local.walk import walk

WRITE_STEP = 256 * 1024
JOIN_STEP = 64 * MIB

_PROBES = ("a", "A", "\u00e9", "e\u0301")
"""Names that differ only in case, and only in their Unicode normal form."""


class LocalDestination:
    """Writes below a directory, which is made with its parents when the first object comes.

    Unfinished files lie in ``.asynccopy`` at the root, out of every listing. A file that a killed process leaves there
    from a ``put`` (``*.tmp``) is never published and may be removed while nothing runs.

    A key that ends in ``/`` is a directory. A listing names a directory only while nothing is in it, and deleting a
    file leaves its directory: as on the file system that is copied. Nothing is written, read or deleted through a
    symbolic link below the root. A name that a file or directory in its way keeps out is NameRefused, a full disk
    is Refused.
    """

    def __init__(self, url_or_path: str, *, page_size: int = 1000) -> None:
        self._root = path_of(url_or_path)
        self._page_size = page_size
        self._uploads = Uploads(os.path.join(self._root, STAGING))
        self.url = url_of(self._root)
        self.prefix = ""
        self.limits = UploadLimits(min_part=1, max_key=MAX_PATH - len(os.fsencode(self._root)) - 1)

    async def check(self) -> Capabilities:
        """Raises also SideError where the file system keeps names equal that differ in case or normal form.

        There two files of the source would silently become one.
        """
        try:
            with told(self._root, WRITING):
                await in_thread(self._probe)
        except PermissionDenied as error:
            raise CredentialsRefused(error.message) from error
        except FileError as error:
            raise SideError(error.message, hint=error.hint) from error
        return Capabilities(checksum=None)

    def _probe(self) -> None:
        ancestor = self._root
        while not os.path.lexists(ancestor):
            ancestor = os.path.dirname(ancestor)
        if not os.path.isdir(ancestor):
            raise NotThere(f"{ancestor!r} is not a directory", hint="name a directory as the destination")
        with tempfile.TemporaryDirectory(prefix=STAGING + "-", dir=ancestor) as directory:
            for name in _PROBES:
                with open(os.path.join(directory, name), "w"):
                    pass
            kept = os.listdir(directory)
            sync_directory(directory)
        if sorted(kept) != sorted(_PROBES):
            raise SideError(
                f"{self._root!r}: the file system does not tell all names apart: of {_PROBES} it kept {tuple(kept)}",
                hint="choose a destination that is case-sensitive and leaves Unicode names as they are",
            )

    def check_key(self, key: str) -> None:
        key_path(key)

    async def put(
        self, key: str, body: bytes | memoryview, crc32c: int, status: FileStatus | None = None
    ) -> ObjectMeta:
        with told(key, WRITING):
            return await in_thread(self._put, key, body)

    def _put(self, key: str, body: bytes | memoryview) -> ObjectMeta:
        target = self._locate(key)
        if key.endswith("/"):
            if len(body):
                raise Refused(f"{key!r}: a directory holds no bytes")
            make_directories(target)
            return _meta(key, os.lstat(target))
        make_directories(self._uploads.directory)
        make_directories(os.path.dirname(target))
        staged = StagedFile(self._uploads.directory)
        try:
            staged.open()
            staged.append(body)
            return _meta(key, staged.publish(target))
        finally:
            staged.discard()

    async def create_upload(self, key: str, status: FileStatus | None = None) -> str:
        with told(key, WRITING):
            await in_thread(self._locate, key)
            return await in_thread(self._uploads.create, key)

    async def upload_part(
        self, key: str, upload_id: str, number: int, size: int, body: PartBody, status: FileStatus | None = None
    ) -> PartReply:
        with told(key, UPLOADING):
            upload = await in_thread(self._uploads.find, key, upload_id)
        staged = StagedFile(upload)
        try:
            with told(key, UPLOADING):
                await in_thread(staged.open)
            await _fill(staged, key, size, body)
            with told(key, UPLOADING):
                written = await in_thread(staged.publish, part_path(upload, number))
        finally:
            await in_thread(staged.discard)
        return PartReply(etag(written), None)

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartReceipt],
        crc32c: int,
        status: FileStatus | None = None,
    ) -> ObjectMeta:
        """Joins the parts into one file, so for a moment the disk holds the object twice. Raises also Refused."""
        with told(key, UPLOADING):
            upload = await in_thread(self._uploads.find, key, upload_id)
            paths = await in_thread(proven_parts, key, upload, parts)
            staged = StagedFile(upload)
            try:
                await in_thread(staged.open)
                for path, part in zip(paths, parts, strict=True):
                    for offset in range(0, part.size, JOIN_STEP):
                        piece = ByteRange(offset, min(JOIN_STEP, part.size - offset))
                        await in_thread(staged.append_range, path, piece)
                written = await in_thread(self._publish, key, staged)
            finally:
                await in_thread(staged.discard)
        # The object is there: what could not be cleared away must not make it look as if it were not.
        with suppress(OSError):
            await in_thread(self._uploads.forget, upload_id)
        return _meta(key, written)

    def _publish(self, key: str, staged: StagedFile) -> os.stat_result:
        target = self._locate(key)
        make_directories(os.path.dirname(target))
        return staged.publish(target)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        with told(key, WRITING):
            await in_thread(self._uploads.forget, upload_id)

    async def list_uploads(self, prefix: str) -> Sequence[tuple[str, str]]:
        with told(prefix, READING):
            found = await in_thread(self._uploads.list)
        return [(key, upload_id) for key, upload_id in found if key.startswith(prefix)]

    async def uploads_of(self, key: str) -> Sequence[FoundUpload]:
        with told(key, READING):
            return await in_thread(self._uploads.of, key)

    async def head(self, key: str) -> ObjectMeta | None:
        with told(key, READING):
            return await in_thread(self._head, key)

    def _head(self, key: str) -> ObjectMeta | None:
        try:
            status = os.lstat(self._locate(key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        wanted = stat.S_ISDIR if key.endswith("/") else stat.S_ISREG
        return _meta(key, status) if wanted(status.st_mode) else None

    async def list(self, prefix: str, after: str | None = None) -> ObjectPage:
        """Keys directory by directory, each directory's names sorted. The token is the last key."""
        with told(prefix, READING):
            return await in_thread(self._list, prefix, after or "")

    def _list(self, prefix: str, after: str) -> ObjectPage:
        found = walk(self._root, prefix, after)
        objects = [_meta(key, status) for key, status in islice(found, self._page_size)]
        more = len(objects) == self._page_size and next(found, None) is not None
        return ObjectPage(objects, objects[-1].key if more else None)

    async def open(self, key: str, range: ByteRange) -> Reader:
        """Raises also SourceChanged where the object ends before the range does."""
        with told(key, READING):
            path = await in_thread(self._locate, key)
        return await LocalReader.open(path, key, range)

    async def copy(self, key: str, to: str, size: int, etag: str) -> ObjectMeta:
        """Where the file system can share blocks between files (btrfs, XFS), nothing is copied but their addresses."""
        with told(to, WRITING):
            await in_thread(self._must_be, key, size, etag)
            if key.endswith("/"):
                return await in_thread(self._put, to, b"")
            path = await in_thread(self._locate, key)
            await in_thread(make_directories, self._uploads.directory)
            staged = StagedFile(self._uploads.directory)
            try:
                await in_thread(staged.open)
                for offset in range(0, size, JOIN_STEP):
                    piece = ByteRange(offset, min(JOIN_STEP, size - offset))
                    await in_thread(self._append, staged, path, piece, key, size, etag)
                await in_thread(self._must_be, key, size, etag)  # all pieces were one file's
                return _meta(to, await in_thread(self._publish, to, staged))
            finally:
                await in_thread(staged.discard)

    def _must_be(self, key: str, size: int, etag: str) -> None:
        held = self._head(key)
        if held is None or (held.size, held.etag) != (size, etag):
            raise NotFound(f"{key!r}: not the file that was to be copied")

    def _append(self, staged: StagedFile, path: str, piece: ByteRange, key: str, size: int, etag: str) -> None:
        try:
            staged.append_range(path, piece)
        except OSError:
            self._must_be(key, size, etag)  # cut or removed meanwhile
            raise

    @property
    def copies(self) -> None:
        return None

    async def delete(self, key: str) -> None:
        with told(key, WRITING):
            await in_thread(self._delete, key)

    def _delete(self, key: str) -> None:
        path = self._locate(key)
        remove = os.unlink
        if key.endswith("/"):
            if not os.path.isdir(path) or os.listdir(path):
                return
            remove = os.rmdir
        elif os.path.isdir(path):
            return
        try:
            remove(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        sync_directory(os.path.dirname(path))

    def _locate(self, key: str) -> str:
        """The path of a key. Raises NameRefused, and Refused where a link on the way leads who knows where."""
        *above, name = key_path(key).split("/")
        path = self._root
        for component in above:
            path = os.path.join(path, component)
            if os.path.islink(path):
                raise Refused(f"{key!r}: {path!r} is a symbolic link", hint="replace the link by a directory")
        return os.path.join(path, name)

    async def aclose(self) -> None:
        # Left behind only while an upload lies in it.
        with suppress(OSError):
            await in_thread(os.rmdir, self._uploads.directory)


async def _fill(staged: StagedFile, key: str, size: int, body: Reader) -> None:
    """Write exactly ``size`` bytes from ``body``, whose exceptions come out unchanged."""
    buffer = memoryview(bytearray(min(size, WRITE_STEP)))
    left = size
    while left:
        count = await body.readinto(buffer[: min(left, WRITE_STEP)])
        if not count:
            raise ShortRead(f"{key!r}: the part ended {left} bytes early")
        with told(key, UPLOADING):
            await in_thread(staged.append, buffer[:count])
        left -= count


def _meta(key: str, status: os.stat_result) -> ObjectMeta:
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return ObjectMeta(key, size, etag(status), None, status.st_mtime_ns // 1_000_000)
