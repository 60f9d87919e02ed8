"""Comparing two sides without copying."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Literal

from msgspec import Struct

from asynccopy.errors import AsyncCopyError, NotFound, root_cause
from asynccopy.journal import Journal, JournalReader, PendingFile
from asynccopy.mirror.listing import Listing
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.model import FileState, FileStatus, ObjectMeta
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Destination, Source
from asynccopy.storage.retrying import RetryingDestination, RetryingSource
from asynccopy.storage.single import SingleFile
from asynccopy.transfer.verify import Prover

BATCH = 1000


class Difference(Struct, frozen=True):
    """``missing``: no object; ``different``: other bytes; ``extra``: no file for this object; ``unproven``: could not
    be compared.
    """

    path: str
    kind: Literal["missing", "different", "extra", "unproven"]
    detail: str


class Check:
    """One comparison. ``ledger`` is the job's journal, if there is one: what it proves need not be read again.

    ``scratch`` is an empty journal that takes the listing, so that any number of files is compared in bounded memory.
    """

    def __init__(
        self,
        source: Source,
        destination: Destination,
        *,
        scratch: Journal,
        ledger: JournalReader | None,
        selection: Selection,
        concurrency: int,
        progress: Progress,
        stop: asyncio.Event,
        noticed: Callable[[AsyncCopyError, float], None] | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._bare = source, destination
        self._scratch = scratch
        self._ledger = ledger
        self._selection = selection
        self._concurrency = concurrency
        self._progress = progress
        self._stop = stop
        self._told = noticed
        self._policy = policy or RetryPolicy()

    async def run(self) -> AsyncIterator[Difference]:
        """Yield the differences as they are found. Raises what the preflight of the sides raises."""
        root = await self._bare[0].check()
        capabilities = await self._bare[1].check()
        self._source: Source = RetryingSource(self._bare[0], self._policy, self._noticed)
        if not root.is_directory:
            self._source = SingleFile(self._source)
        self._destination = RetryingDestination(self._bare[1], self._policy, self._noticed)
        self._prover = Prover(self._source, self._destination, capabilities, "checksum", self._policy, self._noticed)
        await self._scratch.begin_pass(self._selection.text)
        listing = Listing(self._source, self._scratch, self._selection, self._progress, self._stop, lambda: None)
        await listing.run()
        self._progress.listing_done = listing.complete
        for failure in self._progress.failures:
            yield Difference(failure.path, "unproven", failure.message)
        after = 0
        while not self._stop.is_set() and (rows := await self._scratch.pending(after, BATCH)):
            for difference in await self._compare_all(rows):
                yield difference
            after = rows[-1].id
        if listing.complete and not self._stop.is_set():
            async for difference in self._extra():
                yield difference

    async def _compare_all(self, rows: list[PendingFile]) -> list[Difference]:
        found: list[Difference] = []
        todo = iter(rows)

        async def work() -> None:
            for row in todo:
                if self._stop.is_set():
                    return
                difference = await self._compare(row.status)
                self._progress.copied_files += 1
                self._progress.copied_bytes += row.status.length
                if difference is not None:
                    found.append(difference)

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(min(self._concurrency, len(rows))):
                    group.create_task(work(), name=f"check worker {number}")
        except BaseExceptionGroup as failures:
            raise root_cause(failures) from None
        return found

    async def _compare(self, status: FileStatus) -> Difference | None:
        try:
            meta = await self._destination.head(self._destination.prefix + status.path)
            if meta is None:
                return Difference(status.path, "missing", "no such object")
            if meta.size != status.length:
                return Difference(status.path, "different", f"{meta.size} bytes instead of {status.length}")
            if status.is_directory or await self._known_equal(status, meta) or await self._prover.equal(status, meta):
                return None
            return Difference(status.path, "different", "same size, other bytes")
        except NotFound:
            return None  # removed at the source since it was listed
        except AsyncCopyError as error:
            if error.fatal:
                raise
            return Difference(status.path, "unproven", error.message)

    async def _known_equal(self, status: FileStatus, meta: ObjectMeta) -> bool:
        """Both sides still keep the very checksums with which the ledger has them as proven equal."""
        if self._ledger is None or not meta.checksum:
            return False
        row = await self._ledger.row(status.path)
        if row is None or row.state != FileState.DONE or not row.source_checksum:
            return False
        if row.object_checksum != meta.checksum:
            return False
        return row.source_checksum == str(await self._source.checksum(status.path))

    async def _extra(self) -> AsyncIterator[Difference]:
        prefix = self._destination.prefix
        after: str | None = None
        while not self._stop.is_set():
            page = await self._destination.list(prefix, after)
            for meta in page.objects:
                path = meta.key[len(prefix) :]
                if not await self._is_extra(path):
                    continue
                yield Difference(path, "extra", "no such file at the source")
            after = page.after
            if after is None:
                return

    async def _is_extra(self, path: str) -> bool:
        """No file at the source, neither among those selected nor, for its size or time, left out."""
        if not self._selection.names(path) or await self._scratch.row(path) is not None:
            return False
        try:
            await self._source.status(path.rstrip("/"))
        except NotFound:
            return True
        return False

    def _noticed(self, error: AsyncCopyError, delay: float) -> None:
        self._progress.retried(error, delay)
        if self._told is not None:
            self._told(error, delay)
