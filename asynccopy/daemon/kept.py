"""One mirror that the daemon keeps: its watcher, and what is told and asked of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

from msgspec import UNSET, UnsetType

from asynccopy.control.api import Rate
from asynccopy.control.messages import (
    Counts,
    Deletions,
    ErrorClass,
    FailedFile,
    Flying,
    MirrorDetail,
    MirrorStatus,
    Scan,
)
from asynccopy.daemon.limits import Portion, narrowest
from asynccopy.daemon.meter import Meter
from asynccopy.errors import JournalError, UsageError
from asynccopy.journal import Journal
from asynccopy.journal.rows import Pass, Totals
from asynccopy.mirror.watch import Watcher
from asynccopy.storage.budget import Budget
from asynccopy.storage.limited import Bandwidth
from asynccopy.storage.registry import Stores
from asynccopy.timetable import Timetable

FLYING: Final = 50
SCANS: Final = 50
ERRORS_SHARE: Final = 20
"""The classes of errors may take a twentieth of the time"""
BANDWIDTH, CONCURRENCY = "limit.bandwidth", "limit.concurrency"


class Kept:
    """``timetable`` says how fast it may be at a time (None: no limit), until a person does. ``aclose`` closes both
    sides.

    ``fair`` says how many ranges in flight it may have beside the other mirrors; ``most``: that it may have at all.
    """

    def __init__(
        self,
        name: str,
        watcher: Watcher,
        bandwidth: Bandwidth,
        portions: Sequence[Portion],
        timetable: Timetable | None,
        most: int,
        aclose: Callable[[], Awaitable[None]],
        urls: tuple[str, str],
        stores: Stores,
    ) -> None:
        self.name = name
        self.watcher = watcher
        self.passes = watcher.passes
        self.bandwidth = bandwidth
        self._portions = portions
        self.timetable = timetable
        self.most = most
        self.fair: Callable[[], int] = lambda: most
        self.aclose = aclose
        self._urls = urls
        self._stores = stores
        self.ranges = Budget(most)
        """The ranges in flight of the present pass or the last one"""
        self._limit: float | UnsetType | None = UNSET
        self._ranges: int | UnsetType | None = UNSET
        self._meter = Meter()
        self._totals = Totals(0, 0, 0, 0, 0, 0, 0, 0)
        self._errors: tuple[ErrorClass, ...] = ()
        self._next_errors = 0.0
        self._gone = 0
        self.failed_before: int | None = None
        """Files that had failed before the daemon started; None before the journal was open"""
        self._began = time.time()
        self.pace()

    def follow(self, former: Kept) -> None:
        """Go on where the one of the same name ends that it takes the place of: counters and throughput are a name's,
        whatever becomes of the mirror. Not to be begun before.
        """
        past = self.passes.past
        past.add(former.passes.past)
        past.add(former.passes.progress)
        self._meter = former._meter
        if self._urls == former._urls:  # else there is a first copy to come
            self.passes.completed = former.passes.completed

    # --- limits ----------------------------------------------------------------------------------------------------

    def allowed(self) -> int:
        """Ranges in flight now: none where a rate is 0, except that a mirror that is to stop finds out by itself."""
        if self._holders() and not self.watcher.stopping:
            return 0
        own = self._ranges if isinstance(self._ranges, int) else self.most
        return max(1, min(own, self.fair()))

    async def limit(self, *, bandwidth: Rate, concurrency: int | UnsetType | None) -> None:
        """See ``Controller.limit``; kept over a restart."""
        journal = self._journal()
        if bandwidth == "configured":
            self._limit = UNSET
            await journal.forget(BANDWIDTH)
        elif bandwidth is not UNSET:
            self._limit = bandwidth
            await journal.remember(BANDWIDTH, repr(bandwidth))
        if concurrency is not UNSET:
            self._ranges = concurrency
            await journal.remember(CONCURRENCY, repr(concurrency))
        self.pace()

    def unlimit(self, timetable: Timetable | None, most: int, priority: int) -> None:
        """A new configuration has said how fast it may be."""
        for portion in self._portions:
            portion.share.weight = priority
        self.timetable, self.most = timetable, most
        self.pace()

    def pace(self) -> None:
        """Let the bandwidth be what it is to be now."""
        rate: float | UnsetType | None = self._limit
        if rate is UNSET:
            rate = None if self.timetable is None else self.timetable.rate(datetime.now().astimezone())
        self.bandwidth.pace(rate)

    def _holders(self) -> list[str]:
        """What lets nothing begin now, for people."""
        own: list[str] = []
        if self.bandwidth.held:
            by_hand = self._limit is not UNSET
            own = ["the limit that a person has set" if by_hand else f"the timetable of [mirrors.{self.name}]"]
        return own + [f"the timetable of {portion.common.owner}" for portion in self._portions if portion.held]

    # --- looking ---------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Every two seconds: what must not be asked while somebody waits for an answer."""
        journal = self.watcher.journal
        if journal is not None:
            try:
                self._totals = await journal.totals()
                self._gone, _ = await journal.gone_count()
                await self._look_at_errors(journal)
            except JournalError:
                pass  # the watcher meets it too, and says so
        now, past = self.passes.progress, self.passes.past
        self._meter.look(time.time(), past.moved_bytes + now.moved_bytes, past.copied_files + now.copied_files)
        self.pace()

    async def _look_at_errors(self, journal: Journal) -> None:
        """All failed files are gone through for it, so with many of them it is not done at every look."""
        now = time.monotonic()
        if not (self._totals.failed_files or self._errors) or now < self._next_errors:
            return
        self._errors = tuple(
            ErrorClass(each.error_class, each.count, each.hint, each.path, each.message)
            for each in await journal.error_classes()
        )
        ended = time.monotonic()
        self._next_errors = ended + ERRORS_SHARE * (ended - now)

    async def recall(self, journal: Journal) -> None:
        """What a former life has left: the limits that a person has set, and how the files stood."""
        self._totals = await journal.totals()
        if self.failed_before is None:
            self.failed_before = self._totals.failed_files
        bandwidth, concurrency = await journal.recall(BANDWIDTH), await journal.recall(CONCURRENCY)
        if bandwidth is not None:
            self._limit = None if bandwidth == "None" else float(bandwidth)
        if concurrency is not None:
            self._ranges = None if concurrency == "None" else int(concurrency)
        self.pace()

    def status(self) -> MirrorStatus:
        watcher, totals, meter = self.watcher, self._totals, self._meter
        now, past = self.passes.progress, self.passes.past
        copying, holders = watcher.state == "copying", self._holders()
        unmet = (totals.pending_files, totals.pending_bytes)
        all_files = totals.done_files + totals.pending_files + totals.failed_files
        return MirrorStatus(
            name=self.name,
            source=self._urls[0],
            destination=self._urls[1],
            state=watcher.state,
            reason=f"paused by {' and '.join(holders)}" if copying and holders else watcher.reason or self._warning,
            watch="off" if self.passes.rules.watch == "off" else self.passes.watching,
            files=Counts(all_files, totals.done_files, totals.pending_files, totals.failed_files),
            bytes=Counts(
                totals.done_bytes + totals.pending_bytes + totals.failed_bytes,
                totals.done_bytes,
                totals.pending_bytes,
                totals.failed_bytes,
            ),
            failed=totals.failed_files,
            open_files=totals.open_files,
            lag_seconds=self._lag(),
            last_scan=int(self.passes.looked.last * 1000),
            last_full_scan=int(self.passes.looked.full * 1000),
            next_scan=int(watcher.next_scan * 1000) if watcher.state == "watching" else 0,
            listing=copying and not now.listing_done,
            bytes_per_second=meter.bytes_per_second,
            files_per_second=meter.files_per_second,
            eta_seconds=meter.eta(unmet[1], unmet[0]) if copying and any(unmet) else None,
            bandwidth=narrowest(bool(holders), (self.bandwidth, *self._portions)),
            windows=self._windows(),
            concurrency=self.allowed(),
            in_flight=self.ranges.taken,
            copied_files=past.copied_files + now.copied_files,
            copied_bytes=past.copied_bytes + now.copied_bytes,
            retries=past.retries + now.retries,
            deleted_files=past.deleted_files + now.deleted_files,
            completed=self.passes.completed,
            deletions=self.deletions(),
        )

    @property
    def _warning(self) -> str:
        """What the stores throttle while files are copied, and how much they allow."""
        return self._stores.warning if self.watcher.state == "copying" else ""

    def _lag(self) -> float:
        if self.passes.rules.watch == "off" and self.passes.looked.full:
            return 0.0  # one copy was wanted, and it is there
        return max(0.0, time.time() - (self.passes.equal_at or self._began))

    def _windows(self) -> tuple[str, ...]:
        own = () if self.timetable is None else self.timetable.windows
        return own + tuple(text for portion in self._portions for text in portion.common.texts)

    def deletions(self) -> Deletions:
        everything = self._gone + self._totals.done_files
        return Deletions(self._gone, self._gone / everything if everything else 0.0, self.passes.held)

    async def detail(self) -> MirrorDetail:
        journal, progress = self.watcher.journal, self.passes.progress
        now = time.monotonic()
        flying = [
            Flying(path, flight.moved, flight.length, now - flight.since) for path, flight in progress.in_flight.items()
        ]
        flying.sort(key=lambda each: each.seconds, reverse=True)
        slowest = sorted(self.passes.past.slowest + progress.slowest, reverse=True)
        return MirrorDetail(
            status=self.status(),
            flying=tuple(flying[:FLYING]),
            slowest=tuple(Flying(path, length, length, seconds) for seconds, path, length in slowest[:FLYING]),
            errors=self._errors,
            scans=() if journal is None else tuple(_scan(each) for each in await journal.passes(SCANS)),
            throughput=tuple(self._meter.samples),
        )

    async def errors(self, error_class: str | None, limit: int) -> Sequence[FailedFile]:
        found = await self._journal().failures(limit, error_class)
        return [FailedFile(each.path, each.error_class, each.message, each.hint) for each in found]

    async def planned(self, limit: int) -> tuple[Deletions, Sequence[str]]:
        """What would be deleted, and the first paths of it."""
        rows = await self._journal().gone(0, limit)
        return self.deletions(), [row.path for row in rows]

    async def confirm(self, count: int) -> None:
        if self.passes.rules.handling.mode == "keep":  # it would lie in wait for another mode
            raise UsageError(f"{self.name}: nothing is deleted here", hint='deletions = "keep"; see the configuration')
        gone, _ = await self._journal().gone_count()
        if gone != count:
            raise UsageError(f"{self.name}: there are {gone} deletions now, not {count}", hint="look at the plan again")
        await self.watcher.confirm_deletions(count)

    def _journal(self) -> Journal:
        if self.watcher.journal is None:
            raise UsageError(f"{self.name}: its journal is not open: {self.watcher.reason}")
        return self.watcher.journal


def _scan(each: Pass) -> Scan:
    return Scan(
        kind=each.kind,
        started=each.started_at,
        finished=each.finished_at,
        outcome=each.outcome,
        directories=each.directories,
        files=each.files,
        copied=each.copied,
        bytes=each.bytes,
        failed=each.failed,
        deleted=each.deleted,
        requests=each.requests,
    )
