"""Listing the source into the journal: several directories at once, page by page, in bounded memory.

The frontier lies in the journal. A page, the subdirectories found in it and the cursor of the next page are one
transaction, so that a crash repeats at most the pages that were in flight.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from asynccopy.errors import AsyncCopyError, NameRefused, NotFound, root_cause
from asynccopy.journal import Directory, Journal
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.model import FileStatus
from asynccopy.storage.interface import KeysRefused, Source

WORKERS = 8
AHEAD = 1000
"""Directories fetched from the journal at once."""


class Listing:
    """One pass over the source: lists the directories that the journal has to list, and those that this finds.

    ``found`` is called after every page; ``check`` raises NameRefused for a path that the destination cannot hold: such
    a file has failed as soon as it is listed. ``complete``: all could be listed, but for keys that no path can be.
    ``directories``: each of them gets a marker (a path that ends in ``/``), not only the empty ones.
    """

    def __init__(
        self,
        source: Source,
        journal: Journal,
        selection: Selection,
        progress: Progress,
        stop: asyncio.Event,
        found: Callable[[], None],
        check: Callable[[str], None] | None = None,
        *,
        directories: bool = False,
    ) -> None:
        self._source = source
        self._journal = journal
        self._selection = selection
        self._progress = progress
        self._stop = stop
        self._found = found
        self._check = check
        self._directories = directories
        self._queue: deque[Directory] = deque()
        self._taken: set[int] = set()  # in a worker's hands, or given up in this run
        self._working = 0
        self._turn = asyncio.Condition()
        self._odd: list[Directory] = []
        self.complete = True

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(WORKERS):
                    group.create_task(self._work(), name=f"listing worker {number}")
        except BaseExceptionGroup as failures:
            raise root_cause(failures) from None
        if self.complete and not self._stop.is_set() and not self._odd:
            await self._journal.listing_done()

    async def settle(self) -> None:
        """Take those directories for listed, too, that hold keys which no path can be: all else of them was.

        To be called when the pass has come to its end, so that a run which resumes it names those keys again.
        """
        for directory in self._odd:
            await self._journal.record_page(directory.id, [], [], None)
        if self._odd:
            await self._journal.listing_done()

    async def _work(self) -> None:
        while (directory := await self._claim()) is not None:
            try:
                listed = await self._list(directory)
            finally:
                async with self._turn:
                    self._working -= 1
                    self._turn.notify_all()
            async with self._turn:  # not while another worker looks at rows it has read before
                if listed:
                    self._taken.discard(directory.id)

    async def _claim(self) -> Directory | None:
        """The next directory; None when none is left and no worker can find another."""
        async with self._turn:
            while not self._stop.is_set():
                if not self._queue:
                    rows = await self._journal.pending_directories(AHEAD + len(self._taken))
                    self._queue.extend(row for row in rows if row.id not in self._taken)
                if self._queue:
                    directory = self._queue.popleft()
                    self._taken.add(directory.id)
                    self._working += 1
                    return directory
                if not self._working:
                    self._turn.notify_all()
                    return None
                await self._turn.wait()
            return None

    async def _list(self, directory: Directory) -> bool:
        """List one directory to its end; False when it was given up."""
        after = directory.after
        while not self._stop.is_set():
            try:
                page = await self._source.list(directory.path, after)
                entries, cursor = page.entries, page.after
                marked = (not entries and not after) or (self._directories and cursor is None)
            except NotFound:
                entries, cursor, marked = [], None, False  # removed since its parent was listed
                if not directory.path:
                    raise
            except KeysRefused as error:
                self._progress.failed(directory.path + "/", 0, NameRefused(error.message, hint=error.hint))
                self._odd.append(directory)
                return False
            except AsyncCopyError as error:
                if error.fatal:
                    raise
                self.complete = False
                self._progress.failed(directory.path + "/", 0, error)
                return False
            if marked and directory.path:
                entries = [FileStatus(directory.path + "/", 0, 0, is_directory=True), *entries]
            files, subdirectories, others = self._sort(entries)
            refused = self._refused(files)
            count = await self._journal.record_page(directory.id, files, subdirectories, cursor, others, refused)
            for file, refusal in refused:
                self._progress.failed(file.path, file.length, refusal)
            self._progress.listed_files += count.files
            self._progress.listed_bytes += count.bytes
            self._progress.skipped_files += count.unchanged_files
            self._progress.skipped_bytes += count.unchanged_bytes
            self._found()
            if cursor is None:
                return True
            after = cursor
        return False

    def _sort(self, entries: list[FileStatus]) -> tuple[list[FileStatus], list[FileStatus], list[FileStatus]]:
        """Files and markers that are selected, directories to enter, and all else: what is there is not gone."""
        files: list[FileStatus] = []
        subdirectories: list[FileStatus] = []
        others: list[FileStatus] = []
        has, enters = self._selection.has, self._selection.enters
        for entry in self._named(entries):
            if not entry.is_directory or entry.path.endswith("/"):
                (files if has(entry) else others).append(entry)
            else:
                (subdirectories if enters(entry.path) else others).append(entry)
        return files, subdirectories, others

    def _refused(self, files: list[FileStatus]) -> list[tuple[FileStatus, AsyncCopyError]]:
        """Those whose keys the destination cannot hold."""
        refused: list[tuple[FileStatus, AsyncCopyError]] = []
        if self._check is not None:
            for file in files:
                try:
                    self._check(file.path)
                except NameRefused as error:
                    refused.append((file, error))
        return refused

    def _named(self, entries: list[FileStatus]) -> list[FileStatus]:
        """The entries whose names are Unicode; the others fail, by name."""
        if _encodable("".join([entry.path for entry in entries])):
            return entries
        for entry in entries:
            if not _encodable(entry.path):
                error: AsyncCopyError = NameRefused(f"{entry.path!r}: not valid Unicode")
                self._progress.failed(ascii(entry.path), entry.length, error)
        return [entry for entry in entries if _encodable(entry.path)]


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
