"""A bucket of S3 or OSS, or a prefix in one, as a ``Source``: keys seen as paths.

``/`` separates components. A directory is a prefix that some key begins with, and the empty object whose key is that
prefix is the marker of the directory, not a file in it. A name may be a file and a directory at once: ``a`` next to
``a/b`` is two entries of the same path. A key that no path can be (an empty component, ``.``, ``..``, bytes under a key
that ends in ``/``) is refused by name once all else of its directory has been listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from asynccopy.errors import (
    CredentialsRefused,
    NotFound,
    NotThere,
    PermissionDenied,
    Refused,
    SourceChanged,
    WrongServer,
)
from asynccopy.model import ByteRange, FileChecksum, FileStatus, FileVersion, ListPage, ObjectMeta
from asynccopy.storage.bucket import look
from asynccopy.storage.client import BucketClient
from asynccopy.storage.dialect import Dialect
from asynccopy.storage.documents import Level, PreconditionFailed, read_level
from asynccopy.storage.http import NoBytes, Response
from asynccopy.storage.interface import KeysRefused, Original, Reader

KNOWN: Final = 20_000
"""Objects whose ETag is remembered, for what is opened soon after it was listed or looked up: about 8 MB."""
_GOING_ON: Final = "="
_REFUSING: Final = "!"
"""A cursor is one of these and the store's token; the second says that a page before held a key that no path can be.
Without a token all has been listed, and it is time to say so."""


class ObjectSource:
    """Reads the objects below a prefix, or the one object whose key it is.

    A version is the length, the time in whole seconds (HEAD tells no more) and, as ``file_id``, a hash of the ETag. A
    range is read only of the object that was last listed or looked up here, by its ETag; what is neither costs a HEAD.
    Directories have no time and no identity, so no scan can pass over one.
    """

    page_size = 1000
    """Entries in a page of a listing; stores give no more."""

    def __init__(self, client: BucketClient, dialect: Dialect, prefix: str) -> None:
        self.url = f"{client.subject(None)}/{prefix}" if prefix else client.subject(None)
        self.name = prefix.rpartition("/")[2]
        self._root = prefix
        self.store = client.store
        self._client = client
        self._dialect = dialect
        self._known: dict[str, ObjectMeta] = {}

    async def check(self) -> FileStatus:
        holds = await look(self._client, self._dialect, self.url, _below(self._root))
        try:
            root = await self.status("")
        except NotFound:
            raise NotThere(f"{self.url}: no such object or prefix", hint="check the source path") from None
        except PermissionDenied as error:
            raise CredentialsRefused(f"{self.url}: {error}", hint="the access key needs to read objects") from error
        if holds and not root.is_directory:
            raise NotThere(f"{self.url}: both an object and a prefix of others", hint="copy the prefix that it lies in")
        return root

    async def status(self, path: str) -> FileStatus:
        key = self._key(path)
        if key and (meta := await self._head(key)) is not None:
            return _file(path, meta)
        if await self._is_directory(key):
            return FileStatus(path, 0, 0, is_directory=True)
        raise NotFound(f"{self._client.subject(key)}: no such object or prefix")

    async def open(self, path: str, range: ByteRange) -> Reader:
        key = self._key(path)
        subject = self._client.subject(key)
        meta = self._known.get(key) or (await self._head(key) if key else None)
        if meta is None:
            raise NotFound(f"{subject}: no such object")
        if range.end > meta.size:
            raise SourceChanged(f"{subject}: has {meta.size} bytes, not the {range.end} that were listed")
        if range.length == 0:
            return NoBytes()
        asked = [("range", f"bytes={range.offset}-{range.end - 1}"), *self._dialect.ranged]
        if meta.etag:
            asked.append(("if-match", f'"{meta.etag}"'))
        try:
            answer = await self._client.download(key, asked, range.length)
        except PreconditionFailed as error:
            self._known.pop(key, None)  # who comes back for the new version has learnt of it elsewhere
            raise SourceChanged(f"{subject}: another object than was listed") from error
        if isinstance(answer, Response):
            length = answer.headers.get("content-length", "an unknown number of")
            raise Refused(f"{subject}: {length} bytes instead of the {range.length} asked for")
        return answer

    async def checksum(self, path: str) -> FileChecksum | None:
        """The CRC of the whole object as the store keeps it: ``CRC32C`` of S3, ``CRC64`` of OSS, in hex."""
        key = self._key(path)
        meta = await self._head(key) if key else None
        if meta is None:
            raise NotFound(f"{self._client.subject(key)}: no such object")
        algorithm, _, value = meta.checksum.partition(":")
        return FileChecksum(algorithm, value) if value else None

    async def block_lengths(self, path: str) -> Sequence[int] | None:
        await self.status(path)
        return None

    async def is_open(self, path: str) -> bool:
        await self.status(path)
        return False  # an object is there whole, or not at all

    @property
    def snapshots(self) -> None:
        return None

    @property
    def originals(self) -> ObjectSource:
        return self

    async def original(self, path: str, version: FileVersion) -> Original:
        key = self._key(path)
        meta = await self._head(key) if key else None
        if meta is None:
            raise NotFound(f"{self._client.subject(key)}: no such object")
        if _file(path, meta).version != version:
            raise SourceChanged(f"{self._client.subject(key)}: another object than was listed")
        return Original(self._client.bucket, meta)

    async def list(self, path: str, after: str = "") -> ListPage:
        """One page of a directory. Raises also KeysRefused, after the last page, for keys that no path can be."""
        key = self._key(path)
        if after == _REFUSING:
            return await self._refuse(path)
        mark, token = after[:1] or _GOING_ON, after[1:]
        entries: list[FileStatus] = []
        empty, going_on = True, True
        while going_on and not entries:  # a page of nothing but what is refused must not look like an empty directory
            level = await self._level(key, token)
            for meta in level.objects:
                self._remember(meta)
            entries, odd = _entries(path, len(_below(key)), level)
            empty = empty and not (level.objects or level.prefixes)
            mark = _REFUSING if odd else mark
            token, going_on = level.after or "", level.after is not None
        if empty and not await self._is_directory(key):
            raise NotFound(f"{self._client.subject(key)}: no such prefix")
        if going_on:
            return ListPage(entries, mark + token)
        if mark == _GOING_ON:
            return ListPage(entries, None)
        return ListPage(entries, _REFUSING) if entries else await self._refuse(path)

    async def aclose(self) -> None:
        await self._client.aclose()

    # --- keys and paths ------------------------------------------------------------------------------------------

    def _key(self, path: str) -> str:
        """Raises NotFound for what is no path."""
        if path and not all(map(_plain, path.split("/"))):
            raise NotFound(f"{path!r} is not a path below the source")
        return f"{self._root}/{path}" if path and self._root else path or self._root

    async def _refuse(self, path: str) -> ListPage:
        """Find the keys that no path can be, all pages over again, and refuse them by name. None: they are gone."""
        key, token = self._key(path), ""
        going_on = True
        while going_on:
            level = await self._level(key, token)
            _, odd = _entries(path, len(_below(key)), level)
            if odd:
                names = ", ".join([self._client.subject(key) for key in odd[:3]])
                more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
                raise KeysRefused(f"{names}{more}: no file can have this path")
            token, going_on = level.after or "", level.after is not None
        return ListPage([], None)

    # --- requests ------------------------------------------------------------------------------------------------

    async def _head(self, key: str) -> ObjectMeta | None:
        meta = await self._client.head(key)
        if meta is None:
            self._known.pop(key, None)
        else:
            self._remember(meta)
        return meta

    def _remember(self, meta: ObjectMeta) -> None:
        self._known.pop(meta.key, None)
        self._known[meta.key] = meta
        if len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]

    async def _level(self, key: str, token: str) -> Level:
        below, subject = _below(key), self._client.subject(key)
        query = [
            ("list-type", "2"),
            ("max-keys", str(self.page_size)),
            ("prefix", below),
            ("delimiter", "/"),
            ("encoding-type", "url"),
        ]
        if token:
            query.append(("continuation-token", token))
        response = await self._client.request("GET", None, query)
        dialect = self._dialect
        level = read_level(response.body, subject, dialect.decode, encoded_token=dialect.encoded_token)
        if token and level.after == token:
            raise WrongServer(f"{subject}: the listing does not advance")
        return level

    async def _is_directory(self, key: str) -> bool:
        """Whether some key is below this one; the bucket itself need hold none."""
        return not key or await look(self._client, self._dialect, self.url, _below(key))


def _below(key: str) -> str:
    """What precedes the keys of a directory's entries."""
    return f"{key}/" if key else ""


def _entries(path: str, start: int, level: Level) -> tuple[list[FileStatus], list[str]]:
    """The entries of a directory's page, and the keys and prefixes that no path can be; names begin at ``start``."""
    above = f"{path}/" if path else ""
    entries: list[FileStatus] = []
    odd: list[str] = []
    for meta in level.objects:
        name = meta.key[start:]
        if _plain(name):
            entries.append(_file(above + name, meta))
        elif name or meta.size:  # else it is the directory's own marker
            odd.append(meta.key)
    for prefix in level.prefixes:
        name = prefix[start:].removesuffix("/")
        if _plain(name):
            entries.append(FileStatus(above + name, 0, 0, is_directory=True))
        else:
            odd.append(prefix)
    return entries, odd


def _plain(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name


def _file(path: str, meta: ObjectMeta) -> FileStatus:
    return FileStatus(path, meta.size, meta.modification_time // 1000 * 1000, file_id=_file_id(meta.etag))


def _file_id(etag: str) -> int:
    """63 bits, as a column of SQLite takes them; 0 where the store tells no ETag."""
    return int.from_bytes(blake2b(etag.encode(), digest_size=8).digest(), "big") >> 1 if etag else 0
