"""One job from its listing to its last file: everything is claimed from the journal, and settled into it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from msgspec import Struct
from msgspec.structs import replace

from asynccopy.errors import (
    AsyncCopyError,
    FileError,
    Interrupted,
    NameRefused,
    NotFound,
    Refused,
    SourceChanged,
    StillOpen,
    root_cause,
)
from asynccopy.executors.cores import most_ranges
from asynccopy.executors.inline import Order
from asynccopy.executors.recipe import Build, Recipe, Watch, inline, retrying_source
from asynccopy.journal import Journal, PendingFile
from asynccopy.journal.rows import GoneFile, Kind, Listed
from asynccopy.mirror.claims import BATCH, Claims
from asynccopy.mirror.diff import Finder
from asynccopy.mirror.file_log import FileLog
from asynccopy.mirror.listing import Listing
from asynccopy.mirror.open_files import may_be_open, young
from asynccopy.mirror.preflight import look_back, patiently
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.renames import PROVEN
from asynccopy.mirror.selection import Selection
from asynccopy.mirror.twins import rename, twins_of
from asynccopy.model import FileStatus
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Capabilities, Destination, Source
from asynccopy.storage.retrying import RetryingDestination
from asynccopy.transfer.copy import Copied, Verify
from asynccopy.transfer.parts import check_part_size
from asynccopy.transfer.uploads import abort

CHANGES = 5
"""How often a file may turn out changed in one run before it is left, by name, for the next."""


class CopyOptions(Struct, frozen=True):
    """How to copy. ``concurrency``: ranges in flight over all files, None for automatic. ``part_size``: bytes, None for
    automatic. ``preserving``: the destination keeps more of files and directories than bytes and names.
    """

    verify: Verify = "checksum"
    concurrency: int | None = None
    part_size: int | None = None
    preserving: bool = False


Find = Callable[[Source, Listing, Callable[[], None]], Finder]
"""Makes what finds a pass's files, out of the retrying source, the ordinary listing, and what is told of each find."""


class Pass(Struct, frozen=True):
    """How a pass looks at the source. ``label`` tells it from others of the same selection: a snapshot's name.

    ``find`` makes what finds its files; None: the ordinary listing does.
    ``settle``: seconds for which a file must have been left alone to be taken; None: every file is taken as it is, and
    one that is still being written fails. ``capabilities``: of the destination, where it was checked before.
    """

    kind: Kind = "full"
    label: str = ""
    find: Find | None = None
    order: Listed = "auto"
    settle: float | None = None
    capabilities: Capabilities | None = None


class Mirror:
    """Copies what is selected from a source to a destination, once, resuming what an earlier run left unfinished.

    ``stop``: set it to finish the ranges in flight and end with Interrupted. ``noticed`` is told of what will be
    retried, ``settled`` of each file, its length and what it failed by. ``build`` makes what the copies run on.
    ``capabilities`` are known once ``copy`` has checked both sides.
    """

    def __init__(
        self,
        source: Source,
        destination: Destination,
        journal: Journal,
        *,
        selection: Selection,
        options: CopyOptions,
        stop: asyncio.Event,
        progress: Progress,
        noticed: Callable[[AsyncCopyError, float], None] | None = None,
        settled: Callable[[str, int, AsyncCopyError | None], None] | None = None,
        policy: RetryPolicy | None = None,
        build: Build = inline,
        look: Pass | None = None,
    ) -> None:
        self._bare_source = source
        self._bare_destination = destination
        self._journal = journal
        self._selection = selection
        self._options = options
        self._stop = stop
        self._progress = progress
        self._told = noticed
        self._tell_file = settled
        self._policy = policy or RetryPolicy()
        self._build = build
        self._look = look or Pass()
        self.capabilities = self._look.capabilities
        self._twins: dict[int, GoneFile] = {}
        self._claimed: deque[PendingFile] = deque()
        self._held: set[int] = set()  # claimed and not settled
        self._settled: set[int] = set()  # settled since the last look into the journal began
        self._changes: dict[int, int] = {}
        apart = destination.limits.apart
        self._claims = Claims(journal, self._look.order, self._held, self._settled, apart=apart)
        self._attributes = False
        self._listed = False
        self._exhausted = False  # listed, and claimed to the last row
        self._found = asyncio.Event()
        self._claiming = asyncio.Lock()

    async def copy(self) -> None:
        """Run to the end. Files that fail are counted and named in ``progress``; what ends the run is raised.

        Raises Interrupted when ``stop`` was set before the end; Unreachable, CredentialsRefused, NotThere,
        WrongServer from the preflight of both sides, before anything is written; JournalError.
        """
        root = await patiently(self._bare_source.check, self._policy, self._noticed)
        known = self.capabilities
        capabilities = (
            known if known is not None else await patiently(self._bare_destination.check, self._policy, self._noticed)
        )
        self.capabilities = capabilities
        if self._options.part_size is not None:
            check_part_size(self._options.part_size, self._bare_destination.limits)
        self._attributes = capabilities.attributes and root.attributes is not None
        recipe = Recipe(
            not root.is_directory,
            capabilities,
            self._options.verify,
            self._options.part_size,
            self._options.concurrency or most_ranges(),
            self._options.concurrency is None,
            self._policy,
            self._options.preserving,
        )
        watch = Watch(self._noticed, self._progress.moved, self._stop)
        source = retrying_source(self._bare_source, recipe.single_file, self._policy, watch.noticed)
        destination = RetryingDestination(self._bare_destination, self._policy, watch.noticed)
        if known is None:
            await look_back(self._journal, destination)
        await self._begin()
        executor = self._build(recipe, source, destination, watch)
        listing = self._listing(source)
        finder = listing if self._look.find is None else self._look.find(source, listing, self._found.set)
        self._source, self._destination = source, destination
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._find(finder), name="listing")
                group.create_task(executor.run(self._claim, self._settle), name="copying")
        except BaseExceptionGroup as failures:
            raise root_cause(failures) from None
        if self._stop.is_set():
            raise Interrupted("stopped before the end", hint="run the same command again to go on")
        if finder.complete:
            await finder.settle()
        await self._finish(destination, complete=finder.complete)

    async def plan(self) -> AsyncIterator[FileStatus]:
        """List the source and yield what ``copy`` would copy now; what the destination cannot hold has failed then.

        Both is recorded: use a scratch journal.
        """
        root = await self._bare_source.check()
        source = retrying_source(self._bare_source, not root.is_directory, self._policy, self._noticed)
        await self._begin()
        if not self._listed:
            await self._listing(source).run()
        after = 0
        while not self._stop.is_set() and (rows := await self._journal.pending(after, BATCH)):
            for row in rows:
                try:  # of an earlier run, which has listed it
                    self._check_path(row.status.path)
                except NameRefused as error:
                    await self._failed(Order(row.id, row.status, FileLog(self._journal, row.id)), error)
                else:
                    yield row.status
            after = rows[-1].id

    def _check_path(self, path: str) -> None:
        self._bare_destination.check_key(self._bare_destination.prefix + path)

    # --- the pass ------------------------------------------------------------------------------------------------

    def _listing(self, source: Source) -> Listing:
        found, check, marked = self._found.set, self._check_path, self._options.preserving
        return Listing(
            source, self._journal, self._selection, self._progress, self._stop, found, check, directories=marked
        )

    async def _begin(self) -> None:
        text = self._selection.text_with(self._options.preserving) + self._look.label
        await self._journal.begin_pass(text, self._look.kind)
        state = await self._journal.state()
        totals = await self._journal.totals()
        progress = self._progress
        progress.listed_files, progress.listed_bytes = state.listed_files, state.listed_bytes
        # What an interrupted pass has already settled is skipped now; what a new pass finds unchanged is counted as
        # it is met.
        if state.listed_files:
            progress.skipped_files = state.listed_files - totals.pending_files - totals.failed_files
            progress.skipped_bytes = state.listed_bytes - totals.pending_bytes - totals.failed_bytes
        self._listed = progress.listing_done = state.listing_done

    async def _find(self, finder: Finder) -> None:
        if not self._listed:
            await finder.run()
            self._listed = True
            self._progress.listing_done = finder.complete and not self._stop.is_set()
        self._found.set()

    async def _finish(self, destination: Destination, *, complete: bool) -> None:
        if complete:
            for path, upload_id in await self._journal.stale_uploads():
                try:
                    await abort(destination, destination.prefix + path, upload_id)
                except FileError as error:  # it must not hold up all else; the store's own rule for old uploads is left
                    self._progress.failed(path, 0, error)
        await self._journal.finish_pass(complete=complete)

    # --- claim and settle ----------------------------------------------------------------------------------------

    async def _claim(self) -> Order | None:
        """The next file. Waits while the listing may still find some."""
        while not self._stop.is_set():
            if not self._claimed:
                if not await self._fetch():
                    return None
                continue
            row = self._claimed.popleft()
            if (self._twins or self._look.settle is not None) and await self._needs_no_copy(row):
                continue
            self._progress.took_off(row.status.path, row.status.length)
            return Order(row.id, await self._attributed(row.status), FileLog(self._journal, row.id))
        return None

    async def _attributed(self, status: FileStatus) -> FileStatus:
        """A marker with its directory's attributes, which its row has not: its own listing does not tell them."""
        if not (status.is_directory and self._attributes):
            return status
        try:
            directory = await self._source.status(status.path.rstrip("/"))
        except FileError:
            return status  # gone, or not ours to see: the copy will tell, or nobody need know
        return replace(status, attributes=directory.attributes)

    async def _fetch(self) -> bool:
        """Bring in more rows, waiting for the listing if it must; False when there will be none.

        Every one of hundreds of idle workers asks: only the first of them asks the journal.
        """
        async with self._claiming:
            while not self._claimed and not self._stop.is_set():
                if self._exhausted:
                    return False
                listed = self._listed  # read before the rows: a page recorded in between must not be missed
                self._found.clear()
                self._settled.clear()
                rows = await self._claims.next()
                self._held.update(row.id for row in rows)
                self._twins.update(await twins_of(rows, self._journal))
                self._claimed.extend(rows)
                if not rows:
                    if listed:
                        self._exhausted = True
                        return False
                    await self._found.wait()
            return not self._stop.is_set()

    async def _settle(self, order: Order, result: Copied | AsyncCopyError) -> None:
        self._progress.landed(order.status.path)
        if isinstance(result, Interrupted):
            return  # pending as before
        if isinstance(result, SourceChanged | NotFound):
            now = await self._changed(order, result)
            if now is None:
                return  # claimed as before, in its new version
            result = now
        if isinstance(result, Copied):
            await self._done(order, result)
        elif result.fatal:
            raise result
        else:
            await self._failed(order, result)
        self._over(order.number)

    def _over(self, number: int) -> None:
        self._settled.add(number)
        self._held.discard(number)

    # --- files that are not read --------------------------------------------------------------------------------------

    async def _needs_no_copy(self, row: PendingFile) -> bool:
        """Whether a file is settled without being read: renamed, or left because somebody still writes it."""
        try:
            twin = self._twins.pop(row.id, None)
            if twin is not None and await rename(row, twin, self._journal, self._destination):
                self._progress.renamed_files += 1
                if self._tell_file is not None:
                    self._tell_file(row.status.path, row.status.length, None)
            elif not await self._is_open(row.status):
                return False
            else:
                error = StillOpen(f"{row.status.path}: still being written")
                await self._failed(Order(row.id, row.status, FileLog(self._journal, row.id)), error)
        except AsyncCopyError as error:
            if error.fatal:
                raise
            return False  # the copy will tell what is wrong
        self._over(row.id)
        return True

    async def _is_open(self, status: FileStatus) -> bool:
        if self._look.settle is None or status.is_directory:
            return False
        if young(status, time.time(), self._look.settle):
            return True
        return may_be_open(status) and await self._source.is_open(status.path)

    async def _done(self, order: Order, copied: Copied) -> None:
        await self._journal.done(order.number, order.status.version, copied.evidence)
        progress = self._progress
        if order.status.is_directory:
            return
        progress.copied_files += 1
        progress.copied_bytes += order.status.length
        progress.resumed_parts += copied.resumed_parts
        progress.in_store_files += copied.in_store
        progress.verified += copied.evidence.method in PROVEN
        if self._tell_file is not None:
            self._tell_file(order.status.path, order.status.length, None)

    async def _failed(self, order: Order, error: AsyncCopyError) -> None:
        if isinstance(error, NotFound) and self._look.settle is not None:
            await self._journal.vanished(order.number)  # since the look; not worth a line in a mirror of what changes
            return
        await self._journal.failed(order.number, type(error).__name__, error.message, error.hint)
        if isinstance(error, StillOpen) and self._look.settle is not None:
            self._progress.open_files += 1
        else:
            self._progress.failed(order.status.path, order.status.length, error)
            if self._tell_file is not None:
                self._tell_file(order.status.path, order.status.length, error)

    async def _changed(self, order: Order, error: AsyncCopyError) -> AsyncCopyError | None:
        """The file is not the one that was listed: claim the new version (None), or say what it fails by."""
        count = self._changes[order.number] = self._changes.get(order.number, 0) + 1
        if count > CHANGES:
            return error
        path = order.status.path
        try:
            now = await self._source.status(path)
            if now.is_directory:
                return error
            if now.version == order.status.version and isinstance(error, NotFound):
                return Refused(f"{error.message}: not at the source, which has the file")
            if now.version == order.status.version:
                # The same version as ever, and yet it cannot be proven: an open file's time stands still until it is
                # closed.
                return StillOpen(f"{path}: still being written") if await self._source.is_open(path) else error
        except AsyncCopyError as failure:
            if failure.fatal:
                raise
            return failure if isinstance(failure, NotFound) else error
        await self._journal.changed(order.number, now)
        self._progress.listed_bytes += now.length - order.status.length
        self._claimed.append(PendingFile(order.number, now))
        self._found.set()
        return None

    def _noticed(self, error: AsyncCopyError, delay: float) -> None:
        self._progress.retried(error, delay)
        if self._told is not None:
            self._told(error, delay)
