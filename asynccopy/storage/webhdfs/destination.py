"""HDFS as a Destination."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing, suppress

from asynccopy.errors import (
    AsyncCopyError,
    ChecksumMismatch,
    CredentialsRefused,
    NameRefused,
    NotFound,
    NotThere,
    PermissionDenied,
    Refused,
    ServerTrouble,
    ShortRead,
    UploadGone,
    WrongServer,
)
from asynccopy.model import (
    ByteRange,
    FileChecksum,
    FileStatus,
    FoundUpload,
    ObjectMeta,
    ObjectPage,
    PartReceipt,
    PartReply,
    Preserved,
)
from asynccopy.storage.interface import Capabilities, PartBody, Reader, UploadLimits
from asynccopy.storage.webhdfs import uploads
from asynccopy.storage.webhdfs.client import WebHdfsClient
from asynccopy.storage.webhdfs.paths import STAGING, key_path, max_key
from asynccopy.storage.webhdfs.preserving import Preserving
from asynccopy.storage.webhdfs.source import WebHdfsSource
from asynccopy.storage.webhdfs.walk import walk
from asynccopy.storage.webhdfs.writer import WebHdfsWriter


class WebHdfsDestination:
    """Writes below a directory, which ``check`` makes where it is missing. Objects are files; a key that ends in ``/``
    is a directory, which a listing names only while nothing is in it.

    A file is written below ``.asynccopy`` at the root, out of every listing, and gets its name by a RENAME that
    replaces: at every moment a reader finds the old file or the new one, whole. What a killed process leaves there from
    a ``put`` (``*.tmp``) is never published and may be removed while nothing runs.

    Files get the cluster's own block size and replication unless ``preserve`` says otherwise. HDFS's checksum depends
    on the blocks: with ``checksums`` it is told of a file that is cut into blocks as at the source, all other objects
    must be read back. CONCAT, which joins the parts, is refused inside an encryption zone.
    """

    def __init__(
        self,
        client: WebHdfsClient,
        base: str,
        root: str,
        *,
        page_size: int = 1000,
        preserve: AbstractSet[Preserved] = frozenset(),
        checksums: bool = False,
    ) -> None:
        self._files = WebHdfsSource(client, base, root)
        self._writer = WebHdfsWriter(self._files.client, root)
        self._preserving = Preserving(self._writer, preserve)
        self._checksums = checksums
        self._root = root
        self._page_size = page_size
        self._staging = False  # whether we may have made the staging directory
        self._unpublished: set[str] = set()
        self.url = self._files.url
        self.prefix = ""
        self.limits = UploadLimits(min_part=1, max_key=max_key(root))

    @property
    def client(self) -> WebHdfsClient:
        """What it asks with."""
        return self._files.client

    async def check(self) -> Capabilities:
        """Raises WrongServer also for a gateway that cannot rename over a file, as HttpFS cannot; CredentialsRefused
        also where owners are to be kept and we are not the superuser.
        """
        try:
            await self._writer.mkdirs("")
            await self._probe()
        except NameRefused as error:
            raise NotThere(f"{self.url}: is not a directory", hint="name a directory as the destination") from error
        except PermissionDenied as error:
            raise CredentialsRefused(
                f"{self.url}: {error}", hint="check HADOOP_USER_NAME and the rights on the path"
            ) from error
        except (Refused, NotFound) as error:
            raise WrongServer(f"{self.url}: cannot be written as an HDFS: {error}") from error
        return Capabilities(checksum=None)

    async def _probe(self) -> None:
        old, new = self._temporary(), self._temporary()
        for path in (old, new):
            await self._write(path, 1, b"x", None, parents=True)
        await self._writer.rename(new, old)
        self._unpublished.discard(new)
        try:
            await self._preserving.check(old)
        finally:
            await self._discard(old)
        await self._tidy()

    # --- small files ---------------------------------------------------------------------------------------------

    def check_key(self, key: str) -> None:
        key_path(key, self._root)

    async def put(
        self, key: str, body: bytes | memoryview, crc32c: int, status: FileStatus | None = None
    ) -> ObjectMeta:
        path = key_path(key, self._root)
        if key.endswith("/"):
            if len(body):
                raise Refused(f"{key!r}: a directory holds no bytes")
            await self._writer.mkdirs(path)
            await self._preserving.directory(path, status)
            return _meta(await self._files.status(path))
        staged = self._temporary()
        try:
            written = await self._write(staged, len(body), body, status, parents=True)
            checksum = await self._checksum(staged, written, status)
            written = await self._preserving.file(staged, written, status)
            await self._publish(staged, path, written)
        except AsyncCopyError:
            with suppress(AsyncCopyError):  # it is the error that matters; ``aclose`` tries again
                await self._discard(staged)
            raise
        self._unpublished.discard(staged)
        return _meta(written, path, checksum)

    def _temporary(self) -> str:
        path = f"{STAGING}/{uuid.uuid4().hex}.tmp"
        self._staging = True
        self._unpublished.add(path)
        return path

    async def _discard(self, staged: str) -> None:
        await self._writer.delete(staged)
        self._unpublished.discard(staged)

    async def _write(
        self, staged: str, size: int, body: bytes | memoryview | PartBody, status: FileStatus | None, *, parents: bool
    ) -> FileStatus:
        options = self._preserving.at_creation(status)
        await self._writer.create(staged, size, body, parents=parents, options=options)
        written = await self._files.status(staged)
        if written.length != size:
            raise ShortRead(f"{staged!r}: HDFS has {written.length} bytes of {size}")
        return written

    async def _checksum(
        self, path: str, written: FileStatus, status: FileStatus | None, parts: Sequence[PartReceipt] = ()
    ) -> FileChecksum | None:
        """Asked before the times are set, for it counts as an access."""
        if not self._checksums or status is None or not uploads.same_blocks(written, status, parts):
            return None
        return await self._files.checksum(path)

    async def _publish(self, staged: str, path: str, written: FileStatus) -> None:
        """Give a file its name. The directory for it is made when it turns out to be missing: most are there."""
        with suppress(NotFound):
            await self._writer.rename(staged, path)
            return
        await self._writer.mkdirs(path.rpartition("/")[0])
        await self._rename(staged, path, written)

    async def _rename(self, staged: str, path: str, written: FileStatus) -> None:
        try:
            await self._writer.rename(staged, path)
        except NotFound:
            # A request whose connection ended without an answer is repeated, and not always at the same NameNode: the
            # first one may have been heard.
            if not await self._is_published(path, str(written.file_id), written.length):
                raise

    async def _is_published(self, path: str, file_id: str, length: int) -> bool:
        try:
            found = await self._files.status(path)
        except NotFound:
            return False
        return (str(found.file_id), found.length) == (file_id, length)

    # --- multipart -----------------------------------------------------------------------------------------------

    async def create_upload(self, key: str, status: FileStatus | None = None) -> str:
        path = key_path(key, self._root)
        if key.endswith("/"):
            raise Refused(f"{key!r}: a directory has no parts")
        upload_id = uploads.new_id()
        self._staging = True
        await self._writer.mkdirs(f"{uploads.key_directory(uploads.directory(key, upload_id))}/{path}")
        return upload_id

    async def upload_part(
        self, key: str, upload_id: str, number: int, size: int, body: PartBody, status: FileStatus | None = None
    ) -> PartReply:
        upload = uploads.directory(key, upload_id)
        part = uploads.part_path(upload, number)
        staged = f"{part}.{uuid.uuid4().hex}"  # of another name until it is whole; it goes with the upload
        try:
            written = await self._write(staged, size, body, status, parents=False)
            await self._rename(staged, part, written)
        except NotFound as error:
            raise UploadGone(f"{key!r}: there is no upload {upload_id!r}") from error
        return PartReply(uploads.etag(written), None)

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartReceipt],
        crc32c: int,
        status: FileStatus | None = None,
    ) -> ObjectMeta:
        """A completion that was cut off anywhere goes on when it is called again. Raises also Refused."""
        path = key_path(key, self._root)
        upload = uploads.directory(key, upload_id)
        size = sum(part.size for part in parts)
        try:
            found = await self._parts(upload)
        except NotFound as error:
            raise UploadGone(f"{key!r}: there is no upload {upload_id!r}") from error
        if 1 not in found and parts and await self._is_published(path, uploads.file_id(parts[0].etag), size):
            joined, checksum = await self._files.status(path), None
        else:
            first = uploads.part_path(upload, 1)
            joined = await self._join(upload, uploads.to_join(key, parts, found), size)
            checksum = await self._checksum(first, joined, status, parts)
            joined = await self._preserving.file(first, joined, status)
            await self._publish(first, path, joined)
        # The object is there: what could not be cleared away must not make it look as if it were not.
        with suppress(AsyncCopyError):
            await self.abort_upload(key, upload_id)
        return _meta(joined, path, checksum)

    async def _parts(self, upload: str) -> dict[int, FileStatus]:
        """The whole parts of an upload by their numbers. Raises NotFound."""
        found, after = {}, ""
        while True:
            page = await self._files.list(upload, after)
            for file in page.entries:
                number = uploads.part_number(file.path)
                if number is not None:
                    found[number] = file
            if page.after is None:
                return found
            after = page.after

    async def _join(self, upload: str, files: Sequence[FileStatus], size: int) -> FileStatus:
        first = uploads.part_path(upload, 1)
        for batch in uploads.batches(self._root, files[1:]):
            try:
                await self._writer.concat(first, batch)
            except NotFound as error:  # an earlier completion, whose reply was lost, is still at work
                raise ServerTrouble(f"{upload!r}: its parts are being joined: {error}") from error
            except Refused as error:
                raise Refused(
                    error.message,
                    hint="HDFS joins no parts here (in an encryption zone?): use a --part-size above the file's length",
                ) from error
        joined = await self._files.status(first)
        if joined.length != size:
            raise ChecksumMismatch(f"{upload!r}: HDFS joined {joined.length} bytes of {size}")
        return joined

    async def abort_upload(self, key: str, upload_id: str) -> None:
        if uploads.is_id(upload_id):
            await self._writer.delete(f"{STAGING}/{upload_id}", recursive=True)

    async def list_uploads(self, prefix: str) -> Sequence[tuple[str, str]]:
        return [(key, entry.path.rpartition("/")[2]) async for key, entry in self._begun() if key.startswith(prefix)]

    async def uploads_of(self, key: str) -> Sequence[FoundUpload]:
        found: list[FoundUpload] = []
        async for named, entry in self._begun():
            if named == key:
                with suppress(NotFound):  # gone meanwhile
                    inside = (await self._files.list(entry.path)).entries
                    empty = all(each.is_directory for each in inside)
                    upload_id = entry.path.rpartition("/")[2]
                    found.append(FoundUpload(upload_id, uploads.begun(upload_id), empty))
        return found

    async def _begun(self) -> AsyncIterator[tuple[str, FileStatus]]:
        """Key and directory of each upload."""
        after = ""
        while True:
            try:
                page = await self._files.list(STAGING, after)
            except NotFound:
                return
            for entry in page.entries:
                begun = entry.is_directory and uploads.is_id(entry.path.rpartition("/")[2])
                if begun and (key := await self._key(entry.path)):
                    yield key, entry
            if page.after is None:
                return
            after = page.after

    async def _key(self, upload: str) -> str:
        """The key of an upload, "" when that is gone meanwhile."""
        path = top = uploads.key_directory(upload)
        while True:
            try:
                page = await self._files.list(path)
            except NotFound:
                return ""
            below = next((entry.path for entry in page.entries if entry.is_directory), None)
            if below is None:
                return path[len(top) + 1 :]
            path = below

    # --- reading -------------------------------------------------------------------------------------------------

    async def head(self, key: str) -> ObjectMeta | None:
        try:
            status = await self._files.status(key_path(key, self._root))
        except NotFound:
            return None
        return _meta(status) if status.is_directory == key.endswith("/") else None

    async def list(self, prefix: str, after: str | None = None) -> ObjectPage:
        """Keys directory by directory. The token is the last key; the last page may be empty."""
        objects: list[ObjectMeta] = []
        async with aclosing(walk(self._files, prefix, after or "")) as found:
            async for status in found:
                objects.append(_meta(status))
                if len(objects) == self._page_size:
                    return ObjectPage(objects, objects[-1].key)
        return ObjectPage(objects, None)

    async def open(self, key: str, range: ByteRange) -> Reader:
        """Raises also SourceChanged where the object ends before the range does."""
        return await self._files.open(key_path(key, self._root), range)

    async def copy(self, key: str, to: str, size: int, etag: str) -> ObjectMeta:
        """Raises Refused always: HDFS copies nothing by itself."""
        raise Refused(f"{key!r}: HDFS cannot copy a file to {to!r} by itself")

    @property
    def copies(self) -> None:
        return None

    async def delete(self, key: str) -> None:
        if await self.head(key) is None:
            return
        try:
            await self._writer.delete(key_path(key, self._root))
        except Refused:
            if not key.endswith("/"):
                raise  # else something is in the directory: it is no object any more

    async def aclose(self) -> None:
        for staged in list(self._unpublished):  # of puts that were cancelled
            with suppress(AsyncCopyError):
                await self._discard(staged)
        if self._staging:
            await self._tidy()
        await self._files.aclose()

    async def _tidy(self) -> None:
        """Remove the staging directory unless something lies in it."""
        with suppress(AsyncCopyError):
            await self._writer.delete(STAGING)


def _meta(status: FileStatus, key: str = "", checksum: FileChecksum | None = None) -> ObjectMeta:
    """``key``: where its status was taken under another name."""
    key = key or (f"{status.path}/" if status.is_directory else status.path)
    # A directory is the same whatever came and went in it.
    etag = str(status.file_id) if status.is_directory else uploads.etag(status)
    return ObjectMeta(key, status.length, etag, None, status.modification_time, file_checksum=checksum)
