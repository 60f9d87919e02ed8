"""Objects whose files the source no longer has: kept, deleted, or moved into the trash. Last, and on full evidence.

An object goes only when a complete look at the source did not meet its file, the source says once more that there is
no such file, the journal proves that the object is ours (its ETag is the one we were given), and there are not
suspiciously many of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final, Literal

from msgspec import Struct

from asynccopy.errors import FileError, NameRefused, NotFound, root_cause
from asynccopy.journal import Journal
from asynccopy.journal.rows import GoneFile
from asynccopy.model import FileState, ObjectMeta
from asynccopy.storage.interface import Destination, Source
from asynccopy.units import Cap

BATCH: Final = 1000
UNPROVEN: Final = 512
"""Objects that one crash may have left without their commit: as many as were in flight"""
WORKERS: Final = 16
CONFIRMED: Final = "deletions.confirmed"
"""The journal's note of how many a person lets go"""
PLACE: Final = "deletions.place"
"""The place in the trash of a round that has not come to its end"""

Mode = Literal["keep", "delete", "trash"]


class Handling(Struct, frozen=True):
    """What becomes of such objects. ``most``: so many of all files may go without asking a person. ``trash``: the
    prefix, in the same bucket, below which they go, dated.
    """

    mode: Mode = "keep"
    most: Cap = Cap(share=Fraction(1, 20))
    trash: str = ".asynccopy-trash/"


def held(handling: Handling, gone: int, live: int, confirmed: int) -> str:
    """Why so many deletions must wait for a person, "" when they need not. ``confirmed``: what a person allowed."""
    if handling.mode == "keep" or not gone or gone <= max(confirmed, handling.most.most(gone + live)):
        return ""
    return (
        f"{gone} of {gone + live} files are gone from the source, more than max_delete = {handling.most}: "
        "nothing is deleted before a person looks and confirms (asynccopy deletions)"
    )


def ours(row: GoneFile, meta: ObjectMeta) -> bool:
    """Whether an object is the copy of the file that is gone.

    By its ETag; or, where a crash may have come between the copy and its commit, by being as long as the file was and
    no older.
    """
    if row.evidence.method:
        return meta.etag == row.evidence.etag
    copied = meta.size == row.version.length and meta.modification_time >= row.version.modification_time
    return meta.etag == row.evidence.etag or copied


class Deletions:
    """One round of deletions. ``told`` gets a line for every object that is left alone against expectation.

    ``unproven``: so many objects may go by length and time alone, see ``ours``; the others wait for a later round.
    """

    def __init__(
        self,
        source: Source,
        destination: Destination,
        journal: Journal,
        handling: Handling,
        *,
        stop: asyncio.Event,
        told: Callable[[str], None],
        unproven: int,
    ) -> None:
        self._source = source
        self._destination = destination
        self._journal = journal
        self._handling = handling
        self._stop = stop
        self._told = told
        self._unproven = unproven
        self._place = ""  # in the trash
        self._queue: deque[list[GoneFile]] = deque()  # all of one name
        self._settled: list[int] = []
        self.deleted = 0
        self._held: list[int] = []  # directories in which something still is
        self._left = False  # a file that is to go later

    async def run(self) -> None:
        """Delete, or move into the trash, the objects of all files that are gone. Interrupted by ``stop`` it simply
        ends: what is left comes with the next round.
        """
        # Every round has a place of its own in the trash: a name that goes twice a day leaves two objects there.
        self._place = f"{self._handling.trash}{datetime.now(UTC):%Y-%m-%d/%H%M%S}/"
        await self._abort_uploads(await self._journal.recall(PLACE))
        if self._handling.mode == "trash":
            await self._journal.remember(PLACE, self._place)
        await self._all()
        await self._journal.forget(PLACE)

    async def _abort_uploads(self, place: str | None) -> None:
        """Of a round that was killed while it copied large objects into the trash, ``place`` there."""
        if place is None:
            return
        try:
            for key, upload_id in await self._destination.list_uploads(place + self._destination.prefix):
                await self._destination.abort_upload(key, upload_id)
        except FileError as error:  # the store's own rule for old uploads is left
            self._told(f"{place}: unfinished uploads are not aborted: {error.message}")

    async def _all(self) -> None:
        """Files first, then directories, the deepest first: where they are real, one that holds something stays."""
        await self._turn(directories=False)
        before = -1
        while self.deleted != before and not self._stop.is_set():  # those above what the last turn has removed
            before, self._held = self.deleted, []
            await self._turn(directories=True)
        if not self._stop.is_set() and not self._left:
            await self._journal.forget_gone(self._held)  # something else is in them: they are no objects any more

    async def _turn(self, *, directories: bool) -> None:
        after = 0
        while not self._stop.is_set() and (rows := await self._journal.gone(after, BATCH)):
            after = rows[-1].id
            names: dict[str, list[GoneFile]] = {}
            for row in rows:  # a name may have come and gone more than once: the object is of one of those files
                if row.path.endswith("/") == directories:
                    names.setdefault(row.path, []).append(row)
            self._queue.extend(sorted(names.values(), key=lambda found: -found[0].path.count("/")))
            try:
                async with asyncio.TaskGroup() as group:
                    for number in range(min(WORKERS, len(rows))):
                        group.create_task(self._work(), name=f"deletion worker {number}")
            except BaseExceptionGroup as failures:
                raise root_cause(failures) from None
            finally:
                # After the objects: a row that outlives its object costs one more look, an object that outlives its
                # row would stay for ever.
                settled, self._settled = self._settled, []
                await self._journal.forget_gone(settled)

    async def _work(self) -> None:
        while self._queue and not self._stop.is_set():
            rows = self._queue.popleft()
            path = rows[0].path
            try:
                settled = await self._settle(path, rows)
            except NameRefused:
                settled = True  # a name that the destination cannot hold: nothing of it was ever there
            except FileError as error:
                self._told(f"{path}: not deleted: {error.message}")
                settled = False
            if settled:
                self._settled.extend(row.id for row in rows)
            elif not path.endswith("/"):
                self._left = True

    async def _settle(self, path: str, rows: list[GoneFile]) -> bool:
        """Whether the rows of a name can be forgotten."""
        live = await self._journal.row(path)
        if live is not None:
            # A new file has this name. Until it is copied the old object is there, and only these rows tell of it.
            return live.state == FileState.DONE
        if not await self._is_gone(path):
            return False  # it has come back since the look; the next one will meet it
        key = self._destination.prefix + path
        meta = await self._destination.head(key)
        if meta is None:
            return True
        if not any(ours(row, meta) for row in rows):
            self._told(f"{key}: not deleted: it is not the object that was copied there (ETag {meta.etag})")
            return True
        if all(row.evidence.etag != meta.etag for row in rows):
            if self._unproven <= 0:
                return False
            self._unproven -= 1
        if self._handling.mode == "trash":
            try:
                await self._destination.copy(key, self._place + key, meta.size, meta.etag)
            except NotFound:
                return False  # replaced in this very moment: looked at again
        await self._destination.delete(key)
        if path.endswith("/") and await self._destination.head(key) is not None:
            self._held.extend(row.id for row in rows)
            return False
        self.deleted += 1
        return True

    async def _is_gone(self, path: str) -> bool:
        try:
            status = await self._source.status(path.rstrip("/"))
        except NotFound:
            return True
        # A file's name may be a directory's now. The marker of an empty directory goes when that is no longer empty,
        # which the look has seen, or is a file's name now.
        return status.is_directory or path.endswith("/")
