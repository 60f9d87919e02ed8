"""What a bucket of S3 and a bucket of OSS do alike: everything that takes no checksum."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from time import time_ns
from typing import Final

from msgspec.structs import replace

from asynccopy.config.objects import ObjectOptions
from asynccopy.errors import (
    AlreadyThere,
    CredentialsRefused,
    NotFound,
    NotThere,
    PermissionDenied,
    Refused,
    ServerTrouble,
    SideError,
    Transient,
    UploadGone,
    UsageError,
    WrongServer,
)
from asynccopy.model import ByteRange, FileStatus, FoundUpload, ObjectMeta, ObjectPage
from asynccopy.storage.client import BucketClient, SendAgain
from asynccopy.storage.copies import Copies
from asynccopy.storage.dialect import Dialect
from asynccopy.storage.documents import (
    Completion,
    check_key,
    http_milliseconds,
    read_any_part,
    read_page,
    read_uploads,
)
from asynccopy.storage.http import Headers, NoBytes, Response
from asynccopy.storage.in_store import InStore
from asynccopy.storage.interface import Capabilities, Original, Reader, UploadLimits
from asynccopy.storage.objects import ObjectHeaders
from asynccopy.storage.overwriting import overwrites

PROBE_KEY: Final = ".asynccopy-probe"
PROBE: Final = b"asynccopy asks what this store can do"


def split_url(url: str, scheme: str, limits: UploadLimits, credentials: str) -> tuple[str, str]:
    """(bucket, prefix without slashes at its ends); the prefix is literal: ``%``, ``?`` and ``#`` are parts of keys.

    ``credentials``: what to set instead of writing them into the URL. Raises UsageError, NameRefused.
    """
    given, found, rest = url.partition("://")
    if not found or given != scheme:
        raise UsageError(f"give a URL like {scheme}://bucket/prefix")
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:
        raise UsageError(f"an {scheme}:// URL must not carry credentials", hint=credentials)
    prefix = prefix.strip("/")
    check_key(f"{prefix}/{PROBE_KEY}", limits.max_key)
    return bucket, prefix


class Bucket(ABC):
    """A bucket, or a prefix in one: the part of a ``Destination`` that is the same for every store."""

    page_size = 1000
    """Entries in a page of a listing; stores give no more."""

    def __init__(
        self,
        client: BucketClient,
        dialect: Dialect,
        prefix: str,
        limits: UploadLimits,
        objects: ObjectOptions,
        capabilities: Capabilities | None,
    ) -> None:
        self.prefix = f"{prefix}/" if prefix else ""
        self.url = f"{client.subject(None)}/{prefix}" if prefix else client.subject(None)
        self.limits = limits
        self._requests = client
        self._dialect = dialect
        self._objects = ObjectHeaders(objects, dialect)
        self._capabilities = capabilities
        self._probing = asyncio.Lock()
        self._copies = Copies(client, dialect)
        self.publishing = self._objects.condition

    # --- what the store can do -----------------------------------------------------------------------------------

    @abstractmethod
    async def _probe(self, key: str) -> Capabilities:
        """Find out by an upload to this key that is always aborted, so that nothing is ever visible."""

    async def check(self) -> Capabilities:
        await look(self._requests, self._dialect, self.url, self.prefix)
        key, dialect = self.prefix + PROBE_KEY, self._dialect
        try:
            await self._sweep(key)
            self._capabilities = await self._tried(key)
        except PermissionDenied as error:
            trial = ", and to delete, to try forbid_overwrite out" if self._objects.condition else ""
            raise CredentialsRefused(
                f"{self.url}: may not be written: {error}", hint=f"the access key needs {dialect.writing}{trial}"
            ) from error
        return self._capabilities

    async def _tried(self, key: str) -> Capabilities:
        """What the store can do. Raises SideError where objects cannot be as they are asked for."""
        wanted = self._objects
        try:
            capabilities = await self._probe(key)
        except Refused as error:
            if not (wanted.kept or wanted.described(None)):
                raise
            raise SideError(
                f"{self.url}: does not take objects as they are asked for: {error}",
                hint="change or leave out storage_class, encryption, tags or metadata",
            ) from error
        if wanted.archived and capabilities.checksum not in ("CRC32C", "CRC64"):
            raise SideError(
                f"{self.url}: keeps no checksum of whole objects, so only reading them back would prove them, and"
                " objects of this storage class cannot be read",
                hint="choose a storage class whose objects can be read at once",
            )
        if wanted.condition and await overwrites(self._requests, self._dialect, key, wanted.kept):
            raise SideError(
                f"{self.url}: replaces what is there, though {wanted.condition[0][0]} asks it not to",
                hint="leave out forbid_overwrite; OSS cannot do it in a bucket with versions, which keeps them anyway",
            )
        return replace(capabilities, attributes=wanted.attributes)

    async def capable(self) -> Capabilities:
        """What the store can do, found out by the first call that must know."""
        return self._capabilities or await self._found_out()

    async def _found_out(self) -> Capabilities:
        async with self._probing:
            return self._capabilities or await self.check()

    async def _sweep(self, probed: str) -> None:
        """Abort the uploads of probes that were killed in the middle, as far as the store lets us see them."""
        try:
            left = await self.list_uploads(probed)
        except (Refused, NotFound, PermissionDenied):
            return
        for key, upload_id in left:
            if key == probed:
                await self._requests.abort(key, upload_id)

    # --- objects -------------------------------------------------------------------------------------------------

    def check_key(self, key: str) -> None:
        """Raises NameRefused for a key that the store cannot hold."""
        check_key(key, self.limits.max_key)

    async def put(
        self, key: str, body: bytes | memoryview, crc32c: int, status: FileStatus | None = None
    ) -> ObjectMeta:
        self.check_key(key)
        return await self._put(key, body, crc32c, self._objects.described(status))

    @abstractmethod
    async def _put(self, key: str, body: bytes | memoryview, crc32c: int, described: Headers) -> ObjectMeta: ...

    async def head(self, key: str) -> ObjectMeta | None:
        return await self._requests.head(key)

    @abstractmethod
    async def _declared(self) -> Headers:
        """What a multipart upload is to be told of checksums when it begins."""

    @abstractmethod
    async def _copying(self) -> Headers:
        """What a copy is to be told besides class and encryption."""

    async def copying(self, *, parts: bool) -> Headers:
        """What to say with a copy from another bucket, or with the beginning of an upload of parts from there."""
        wanted = self._objects
        if parts:
            return [*wanted.kept, *wanted.described(None)]
        return [*wanted.kept, *await self._copying(), *wanted.anew]

    async def check_absent(self, to: str) -> None:
        """Raises AlreadyThere where nothing may be overwritten: S3 copies on no condition about the new key."""
        if self.publishing and await self.head(to) is not None:
            raise AlreadyThere(f"{self._requests.subject(to)}: is there already")

    async def open(self, key: str, range: ByteRange) -> Reader:
        if range.length == 0:
            return NoBytes()
        asked = [("range", f"bytes={range.offset}-{range.end - 1}")]
        answer = await self._requests.download(key, asked, range.length)
        if isinstance(answer, Response):
            length = answer.headers.get("content-length", "an unknown number of")
            raise Refused(f"{self._requests.subject(key)}: {length} bytes instead of the {range.length} asked for")
        return answer

    async def copy(self, key: str, to: str, size: int, etag: str) -> ObjectMeta:
        """CopyObject, or a multipart upload beyond what that takes; of that, S3 tells no CRC-32C.

        Where the store does not heed the condition on the ETag, the object is looked at first: what replaces it between
        that look and the copy is copied in its place, and told by its size, ETag or checksum alone. ``key`` must not be
        ``to``: S3 refuses that. Raises also Refused where the store cannot copy, AlreadyThere.
        """
        self.check_key(to)
        await self.check_absent(to)
        original = Original(self._requests.bucket, ObjectMeta(key, size, etag))
        large = size > self.most_copied
        if large or not size or not self._copies.heeded:
            held = await self.head(key)
            if held is None or (held.size, held.etag) != (size, etag):
                raise self._copies.changed(original)
        if not size:  # versitygw copies no key that ends in a slash
            return await self._put(to, b"", 0, await self._description(key))
        if large:
            headers = [*self._objects.kept, *await self._description(key)]
            await self._copies.in_parts(original, to, self.limits, headers, self.publishing)
            return await self.copied(to, size)
        headers = [*self._objects.kept, *await self._copying()]
        return await self.copied(to, size, await self._copies.inside(original, to, headers))

    async def copied(self, to: str, size: int, said: Completion | None = None) -> ObjectMeta:
        """What a copy is now: as the store has just said, else as a look tells."""
        if said is not None and said.etag and (said.crc32c is not None or said.crc64 is not None):
            return ObjectMeta(to, size, said.etag, said.crc32c, crc64=said.crc64)
        found = await self.head(to)
        if found is None or found.size != size:
            raise ServerTrouble(f"{self._requests.subject(to)}: copied, yet not there with {size} bytes")
        return found

    @property
    def copies(self) -> InStore:
        return InStore(self, self._copies, self._requests.store)

    @property
    def most_copied(self) -> int:
        """Bytes that one request copies."""
        return min(self.limits.max_part, self._dialect.most_copied)

    async def _description(self, key: str) -> Headers:
        """What an object's copy must be told where the store does not take it over by itself."""
        response = await self._requests.request("HEAD", key)
        named = [field for field in response.headers.items() if field[0].startswith(self._objects.metadata)]
        return [*named, *self._objects.tags]

    async def delete(self, key: str) -> None:
        try:
            await self._requests.request("DELETE", key)
        except NotFound:
            return

    # --- multipart uploads ---------------------------------------------------------------------------------------

    async def create_upload(self, key: str, status: FileStatus | None = None) -> str:
        self.check_key(key)
        headers = [*await self._declared(), *self._objects.kept, *self._objects.described(status)]
        return await self._requests.begin(key, headers)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        await self._requests.abort(key, upload_id)

    async def list_uploads(self, prefix: str) -> list[tuple[str, str]]:
        return [(key, upload_id) for key, upload_id, _ in await self._begun(prefix)]

    async def uploads_of(self, key: str) -> list[FoundUpload]:
        found: list[FoundUpload] = []
        for named, upload_id, begun in await self._begun(key):
            if named == key:
                with suppress(NotFound, UploadGone):  # gone meanwhile
                    query = [("max-parts", "1"), ("uploadId", upload_id)]
                    response = await self._requests.request("GET", key, query)
                    empty = not read_any_part(response.body, self._requests.subject(key))
                    found.append(FoundUpload(upload_id, begun, empty))
        return found

    async def _begun(self, prefix: str) -> list[tuple[str, str, int]]:
        """Key, upload id, and ms by our clock when it began, 0 where the store does not tell."""
        # Pages follow the key marker alone, for versitygw refuses its own upload id marker. Of a key with more
        # unfinished uploads than one page holds, the rest shows once the first are gone.
        found: list[tuple[str, str, int]] = []
        marker: str | None = ""
        while marker is not None:
            query = [
                ("uploads", ""),
                ("max-uploads", str(self.page_size)),
                ("prefix", prefix),
                ("encoding-type", "url"),
            ]
            if marker:
                query.append(("key-marker", marker))
            response = await self._requests.request("GET", None, query)
            page, following = read_uploads(response.body, self._requests.subject(prefix), self._dialect.decode)
            # The answer carries the time of the clock that the uploads were begun by.
            theirs, ours = http_milliseconds(response.headers.get("date")), time_ns() // 1_000_000
            ahead = theirs - ours if theirs else 0
            found += [(key, upload_id, begun and begun - ahead) for key, upload_id, begun in page]
            if following == marker:
                raise WrongServer(f"{self._requests.subject(prefix)}: the list of uploads does not advance")
            marker = following
        return found

    async def _must_be_open(self, key: str, upload_id: str) -> None:
        """Raises UploadGone if the store forgot the upload: a refusal sent in the middle of a part is lost with the
        connection more often than not, and the same part would be sent in vain again and again."""
        try:
            await self._requests.request("GET", key, [("max-parts", "1"), ("uploadId", upload_id)])
        except NotFound as error:
            raise UploadGone(error.message) from error
        except (Transient, SideError, PermissionDenied, Refused):
            return  # not known: the lost connection itself is the news

    # Last but for the small ones: its name hides the built-in type from the annotations after it.
    async def list(self, prefix: str, after: str | None = None) -> ObjectPage:
        query = [("list-type", "2"), ("max-keys", str(self.page_size)), ("prefix", prefix), ("encoding-type", "url")]
        if after is not None:
            query.append(("continuation-token", after))
        response = await self._requests.request("GET", None, query)
        subject, dialect = self._requests.subject(prefix), self._dialect
        return read_page(response.body, subject, dialect.decode, encoded_token=dialect.encoded_token)

    async def aclose(self) -> None:
        await self._requests.aclose()


async def look(client: BucketClient, dialect: Dialect, url: str, prefix: str) -> bool:
    """Prove in one try that a bucket can be listed, and tell whether it has keys that begin so.

    Sent again only where the refusal itself taught us better. Raises Unreachable, CredentialsRefused, WrongServer,
    NotThere (no such bucket).
    """
    try:
        return await _look(client, dialect, url, prefix)
    except SendAgain:
        return await _look(client, dialect, url, prefix)


async def _look(client: BucketClient, dialect: Dialect, url: str, prefix: str) -> bool:
    """Read one entry of the listing. A HEAD of the bucket would not say why it is refused."""
    query = [("list-type", "2"), ("max-keys", "1"), ("prefix", prefix)]
    where = f"{url} at {client.origin}"
    try:
        response = await client.request("GET", None, query)
    except (NotFound, Refused) as error:
        raise WrongServer(f"{where}: no {dialect.store} store answers: {error}") from error
    except NotThere as error:
        raise NotThere(f"{where}: the bucket {client.bucket} does not exist", hint=error.hint) from error
    except PermissionDenied as error:
        raise CredentialsRefused(f"{where}: {error}", hint=f"the access key needs {dialect.reading}") from error
    return bool(read_page(response.body, where).objects)
