"""A plain directory, or a single file, as a ``Source``."""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Sequence
from urllib.parse import quote_from_bytes, unquote_to_bytes

from asynccopy.errors import CredentialsRefused, NotFound, NotThere, PermissionDenied
from asynccopy.logs import log
from asynccopy.model import ByteRange, FileChecksum, FileStatus, ListPage
from asynccopy.storage.local.paths import path_of, relative_path, url_of
from asynccopy.storage.local.reader import LocalReader
from asynccopy.storage.local.refusals import READING, told
from asynccopy.storage.local.threads import in_thread

LISTINGS_KEPT = 4


class LocalSource:
    """Reads the tree below a path.

    Only regular files and directories exist for it. A symbolic link below the root is neither followed nor copied, and
    devices, pipes and sockets are not copied either: a listing leaves them out and logs how many. (The root itself may
    be a link: the operator named it.) Intermediate components are not checked anew: no listing descends into a link.

    A name that is not UTF-8 comes with surrogates (``os.fsdecode``); whoever must write it down refuses it by name.

    ``file_id`` is the inode number, without its device: two mounts below one root may share numbers.
    """

    def __init__(self, url_or_path: str, *, page_size: int = 1000) -> None:
        self._root = path_of(url_or_path)
        self._page_size = page_size
        self._listings: dict[str, Sequence[str]] = {}
        self.url = url_of(self._root)
        self.name = os.path.basename(self._root)
        self.name = os.path.basename(self._root)

    async def check(self) -> FileStatus:
        try:
            root = await self.status("")
            with told("", READING):
                await in_thread(_prove_readable, self._root)
        except NotFound as error:
            raise NotThere(f"there is no file or directory {self._root!r}", hint="check the source path") from error
        except PermissionDenied as error:
            raise CredentialsRefused(error.message) from error
        return root

    async def status(self, path: str) -> FileStatus:
        found = self._path(path)
        with told(path, READING):
            status = await in_thread(os.stat, found, follow_symlinks=not path)
        entry = _entry(path, status)
        if entry is None:
            raise NotFound(f"{path!r} is neither a file nor a directory")
        return entry

    async def list(self, path: str, after: str = "") -> ListPage:
        """One page. The cursor is the last name, percent-encoded, so that it is text even where the name is not.

        Names, and only names, of the directories being listed are held in memory (a million of them: about 100 MB);
        statuses are taken page by page. A listing taken up again later reads the names anew and goes on at the cursor.
        """
        directory = self._path(path)
        with told(path, READING):
            page, skipped = await in_thread(self._page, path, directory, after)
        if skipped:
            log.warning(
                "not_a_file_or_directory_skipped", directory=ascii(path), first=ascii(skipped[0]), count=len(skipped)
            )
        return page

    def _page(self, path: str, directory: str, after: str) -> tuple[ListPage, Sequence[str]]:
        names = self._names(path, directory, fresh=not after)
        start = bisect_right(names, os.fsdecode(unquote_to_bytes(after))) if after else 0
        end = start + self._page_size
        entries: list[FileStatus] = []
        skipped: list[str] = []
        for name in names[start:end]:
            try:
                status = os.lstat(os.path.join(directory, name))
            except FileNotFoundError:
                continue  # removed since: not in the listing's promise
            entry = _entry(f"{path}/{name}" if path else name, status)
            if entry is None:
                skipped.append(name)
            else:
                entries.append(entry)
        if end < len(names):
            return ListPage(entries, quote_from_bytes(os.fsencode(names[end - 1]), safe="")), skipped
        self._listings.pop(path, None)
        return ListPage(entries, None), skipped

    def _names(self, path: str, directory: str, *, fresh: bool) -> Sequence[str]:
        """The sorted names, read once per listing and not once per page."""
        names = None if fresh else self._listings.get(path)
        if names is None:
            names = sorted(os.listdir(directory))
            self._listings.pop(path, None)
            self._listings[path] = names
            for oldest in [*self._listings][:-LISTINGS_KEPT]:
                self._listings.pop(oldest, None)
        return names

    async def open(self, path: str, range: ByteRange) -> LocalReader:
        found = self._path(path)
        if not path:
            found = await in_thread(os.path.realpath, found)
        return await LocalReader.open(found, path, range)

    async def checksum(self, path: str) -> FileChecksum | None:
        await self.status(path)
        return None

    async def block_lengths(self, path: str) -> Sequence[int] | None:
        await self.status(path)
        return None

    async def is_open(self, path: str) -> bool:
        await self.status(path)
        return False

    @property
    def snapshots(self) -> None:
        return None

    @property
    def originals(self) -> None:
        return None

    async def aclose(self) -> None:
        self._listings.clear()

    def _path(self, path: str) -> str:
        if relative_path(path) is None:
            raise NotFound(f"{path!r} is not a path below the source")
        return os.path.join(self._root, path) if path else self._root


def _prove_readable(root: str) -> None:
    if os.path.isdir(root):
        os.scandir(root).close()
    else:
        os.close(os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))


def _entry(path: str, status: os.stat_result) -> FileStatus | None:
    """The status in our words, None for what is neither a file nor a directory."""
    is_directory = stat.S_ISDIR(status.st_mode)
    if not is_directory and not stat.S_ISREG(status.st_mode):
        return None
    return FileStatus(
        path=path,
        length=0 if is_directory else status.st_size,
        modification_time=status.st_mtime_ns // 1_000_000,
        file_id=status.st_ino,
        is_directory=is_directory,
    )
