"""Finding what changed by a snapshot diff: only what it names is looked at, in the newer snapshot.

The diff is taken for a list of places to look at, never for the truth about them: paths below a renamed directory may
still carry the old name, an overwritten file comes as created and as deleted, a changed permission as a modification.
So every name it can mean is looked up in the newer snapshot, and recorded as it is there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from asynccopy.errors import AsyncCopyError, NotFound, root_cause
from asynccopy.journal import Journal
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.model import Change, FileStatus
from asynccopy.storage.interface import Snapshots, Source

WORKERS: Final = 16
BATCH: Final = 1000
SEVERAL: Final = 4
"""Names that are to be looked up in one directory from which on a page of its listing is read for them: that costs the
NameNode as much as a few of them do.
"""
MOST_NAMES: Final = 64
"""Renames in a ring (a to b/a, b to a/b) could make a name longer for ever."""
REMOVED: Final = "snapshot.removed"
"""The journal's note of the diff whose removals have all been recorded: they must not come again after what was
created, for a name may be in both.
"""


class Finder(Protocol):
    """What finds the files of a pass. ``complete``: nothing was left out."""

    complete: bool

    async def run(self) -> None: ...

    async def settle(self) -> None:
        """The pass has come to its end."""
        ...


class Diff:
    """The files of a pass, by the diff between two snapshots. ``listing`` lists the directories that are new."""

    def __init__(
        self,
        snapshots: Snapshots,
        older: str,
        newer: str,
        source: Source,
        journal: Journal,
        selection: Selection,
        progress: Progress,
        stop: asyncio.Event,
        found: Callable[[], None],
        listing: Finder,
    ) -> None:
        self._snapshots = snapshots
        self._older = older
        self._newer = newer
        self._source = source
        self._journal = journal
        self._selection = selection
        self._progress = progress
        self._stop = stop
        self._found = found
        self._listing = listing
        self._renames: dict[str, str] = {}  # old name -> new one
        self._places: deque[tuple[str, bool]] = deque()  # where to look, and whether a directory is to be listed
        self._crowded: deque[tuple[str, dict[str, bool]]] = deque()  # the same, of several in one directory
        self._met: list[FileStatus] = []
        self._new: list[str] = []
        self.complete = True

    async def run(self) -> None:
        """Raises SnapshotGone."""
        await self._remove()
        async for changes in self._snapshots.diff(self._older, self._newer):
            if self._stop.is_set():
                return
            await self._look(changes)
        await self._listing.run()
        self.complete = self.complete and self._listing.complete

    async def settle(self) -> None:
        await self._listing.settle()

    async def _remove(self) -> None:
        """First everything that is gone, by its old name: what was created may bear the same one."""
        note = f"{self._older} {self._newer}"
        known = await self._journal.recall(REMOVED) == note
        async for changes in self._snapshots.diff(self._older, self._newer):
            self._renames.update((change.path, change.target) for change in changes if change.kind == "rename")
            if not known:
                await self._journal.remove([c.path for c in changes if c.kind in ("delete", "rename")])
        if not known:
            await self._journal.remember(REMOVED, note)

    async def _look(self, changes: Sequence[Change]) -> None:
        places: dict[str, bool] = {}
        for change in changes:
            if change.kind != "delete":
                listed = change.kind != "modify"
                for path in names(change.target if change.kind == "rename" else change.path, self._renames):
                    places[path] = places.get(path, False) or listed
        self._sort(places)
        while (self._crowded or self._places) and not self._stop.is_set():
            try:
                async with asyncio.TaskGroup() as group:
                    for number in range(min(WORKERS, len(self._crowded) + len(self._places))):
                        group.create_task(self._work(), name=f"diff worker {number}")
            except BaseExceptionGroup as failures:
                raise root_cause(failures) from None
            await self._record()

    def _sort(self, places: Mapping[str, bool]) -> None:
        together: dict[str, dict[str, bool]] = {}
        for path, listed in places.items():
            together.setdefault(path.rpartition("/")[0], {})[path] = listed
        for directory, found in together.items():
            if len(found) < SEVERAL:
                self._places.extend(found.items())
            else:
                self._crowded.append((directory, found))

    async def _work(self) -> None:
        while len(self._met) + len(self._new) < BATCH and not self._stop.is_set():
            if self._crowded:
                await self._find(*self._crowded.popleft())
            elif self._places:
                await self._ask(*self._places.popleft())
            else:
                return

    async def _find(self, directory: str, wanted: dict[str, bool]) -> None:
        """Read the listing of a directory for as long as its pages have several of the names. The others are asked for
        one by one: that a name is not there is never concluded from a listing's order.
        """
        after = min(wanted).rpartition("/")[2][:-1]  # a name between it and the first one is rare
        hits = SEVERAL
        while hits >= SEVERAL <= len(wanted) and not self._stop.is_set():
            try:
                page = await self._source.list(directory, after)
            except AsyncCopyError as error:
                if error.fatal:
                    raise
                break  # each of them will tell what is wrong
            found = [status for status in page.entries if status.path in wanted]
            for status in found:
                await self._meet(status, listed=wanted.pop(status.path))
            if page.after is None:
                break
            hits, after = len(found), page.after
        self._places.extend(wanted.items())

    async def _ask(self, path: str, listed: bool) -> None:
        try:
            status = await self._source.status(path)
        except NotFound:
            return  # a name that the diff might have meant, and did not
        except AsyncCopyError as error:
            if error.fatal:
                raise
            self.complete = False
            self._progress.failed(path, 0, error)
            # It must not be lost with this diff: the directory stays to be listed until that succeeds.
            self._new.append(path.rpartition("/")[0])
            return
        await self._meet(status, listed=listed)

    async def _meet(self, status: FileStatus, *, listed: bool) -> None:
        if not status.is_directory:
            self._met.append(status)
        elif status.path and (listed or await self._journal.is_childless(status.path)):
            # Also one that has lost its last child: its marker is to be made.
            self._new.append(status.path)

    async def _record(self) -> None:
        met, self._met = self._met, []
        new, self._new = self._new, []
        files = [status for status in met if self._selection.has(status)]
        if files:
            await self._journal.record_files(files)
            self._progress.listed_files += len(files)
            self._progress.listed_bytes += sum(status.length for status in files)
        entered = [path for path in new if not path or self._selection.enters(path)]
        if entered:
            await self._journal.list_again(entered)
        self._found()


def names(path: str, renames: Mapping[str, str]) -> set[str]:
    """Every name that a path of a diff may have in the newer snapshot: its own, and below each renamed directory."""
    found, fresh = {path}, [path]
    while fresh and len(found) < MOST_NAMES:
        name = fresh.pop()
        at = name.find("/")
        while at > 0:
            new = renames.get(name[:at])
            if new is not None and (other := new + name[at:]) not in found:
                found.add(other)
                fresh.append(other)
            at = name.find("/", at + 1)
    return found
