"""One mirror for months: a first full copy, then pass after pass, through every outage, until it is drained."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from asynccopy.errors import (
    AsyncCopyError,
    CredentialsRefused,
    FileError,
    Interrupted,
    JournalDamaged,
    JournalError,
    NotThere,
    PermissionDenied,
    Refused,
    SnapshotGone,
    UsageError,
    WrongServer,
    root_cause,
)
from asynccopy.executors.recipe import Build
from asynccopy.journal import Journal
from asynccopy.journal.rows import Kind, Listed
from asynccopy.mirror.deletions import UNPROVEN, Deletions, held
from asynccopy.mirror.diff import Diff, Finder
from asynccopy.mirror.listing import Listing
from asynccopy.mirror.mirror import Mirror, Pass
from asynccopy.mirror.packing import keep_packed
from asynccopy.mirror.progress import LONG_DELAY, Progress
from asynccopy.mirror.rules import Rules, State, Witness, no_snapshots
from asynccopy.mirror.schedule import Looked, Watching, next_pass, retry_delay
from asynccopy.mirror.snapshots import Frozen, Watermark
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Capabilities, Destination, Source
from asynccopy.storage.retrying import RetryingDestination, RetryingSnapshots, RetryingSource

NEEDS_A_PERSON: Final = (CredentialsRefused, JournalDamaged, NotThere, PermissionDenied, WrongServer, UsageError)
PAUSED: Final = "paused"
CONFIRMED: Final = "deletions.confirmed"
LAST, FULL, EQUAL, SELECTED = "looked.last", "looked.full", "equal.at", "selected"


class Watcher:
    """Keeps one destination equal to one source. ``run`` it once; steer it by the other methods, at any time.

    ``open_journal`` opens the mirror's journal for an order of copies, again after every trouble with its disk.
    ``state`` and ``reason`` say how it is, ``progress`` is of the present pass or the last one.
    """

    def __init__(
        self,
        source: Source,
        destination: Destination,
        open_journal: Callable[[Listed], Awaitable[Journal]],
        rules: Rules,
        build: Build,
        witness: Witness,
    ) -> None:
        self._source = source
        self._destination = destination
        self._open_journal = open_journal
        self.rules = rules
        self._build = build
        self._witness = witness
        self._told = witness.told
        self.journal: Journal | None = None
        self._state: State = "waiting"
        self._reason = "not begun yet"
        self.watching: Watching = "scan"
        self.progress = Progress()
        self.past = Progress()
        """What the passes before the present one came to, since the daemon started"""
        self.looked = Looked()
        self.equal_at = 0.0
        """When the last pass began that found everything: up to then nothing is missing at the destination"""
        self.next_scan = 0.0
        self.completed = False
        self.held = ""
        self.paused = False
        self._capabilities: Capabilities | None = None
        self._may_freeze = True
        self._failures = 0
        self._draining = False
        self._due_now = False
        self._intent_unsaved = False
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()

    @property
    def state(self) -> State:
        """A pass that nothing moves in waits, although it goes on trying."""
        return "waiting" if self._state == "copying" and self.progress.hindrance else self._state

    @property
    def reason(self) -> str:
        return self.progress.hindrance if self._state == "copying" else self._reason

    # --- steering ----------------------------------------------------------------------------------------------------

    async def pause(self) -> None:
        """Finish the ranges in flight, then stand still, also after a restart."""
        self.paused = True
        self._interrupt()
        await self._note_paused()

    async def resume(self) -> None:
        self.paused = False
        self._wake.set()  # whether or not it can be noted: a journal that is broken is only opened anew at work
        await self._note_paused()

    def scan(self) -> None:
        """Look at the source now, and not when it is due."""
        self._due_now = True
        self._wake.set()

    async def retry(self) -> int:
        """Try the failed files again now. How many there are."""
        count = 0 if self.journal is None else await self.journal.retry_failed()
        self.scan()
        return count

    async def confirm_deletions(self, count: int) -> None:
        """Let the next pass delete so many."""
        if self.journal is None:
            raise JournalError("the journal is not open: try again when the mirror is watching")
        await self.journal.remember(CONFIRMED, str(count))
        self.scan()

    def change(self, rules: Rules) -> None:
        """Other rules from the next pass on; what is in flight goes on."""
        self.rules = rules
        self._wake.set()

    def drain(self) -> None:
        """Finish the ranges in flight and end ``run``."""
        self._draining = True
        self._interrupt()

    @property
    def stopping(self) -> bool:
        """Whether the present pass only finishes its ranges in flight."""
        return self._stop.is_set()

    def _interrupt(self) -> None:
        self._stop.set()
        self._wake.set()

    async def _note_paused(self) -> None:
        self._intent_unsaved = True  # until the journal has it, which may not be open now
        if self.journal is not None:
            await (self.journal.remember(PAUSED, "1") if self.paused else self.journal.forget(PAUSED))
            self._intent_unsaved = False

    # --- the life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until drained. Whatever goes wrong is told, waited for, and tried again; only a bug comes out."""
        while not self._draining:
            try:
                order = self.rules.order
                self.journal = await self._open_journal(order)
            except AsyncCopyError as error:
                await self._trouble(error)
                continue
            try:
                await self._keep(self.journal, order)
            except JournalError as error:
                await self._trouble(error)
            finally:
                journal, self.journal = self.journal, None
                await journal.close()

    async def _keep(self, journal: Journal, order: Listed) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                packing = group.create_task(keep_packed(journal, lambda: self._state == "copying"), name="packing")
                await self._watch(journal, order)
                packing.cancel()
        except BaseExceptionGroup as failures:
            raise root_cause(failures) from None

    async def _watch(self, journal: Journal, order: Listed) -> None:
        """Pass after pass, for as long as the journal is good for the order of the copies."""
        await self._recall(journal)
        while not self._draining and self.rules.order == order:
            if self.paused:
                self._state, self._reason = "paused", "by a person: asynccopy resume goes on"
                await self._sleep(None)
                continue
            try:
                self.watching = await self._way()
                coming = next_pass(self.watching, self.rules.cadence, self.looked, time.time())
                if not self._due_now and not await self._wait_for(coming):
                    continue
                self._due_now = False
                await self._pass(journal, "full" if coming is None else coming[0])
            except Interrupted:
                continue
            except JournalError:
                raise
            except AsyncCopyError as error:
                self._capabilities = None  # whatever it was, both sides are asked again
                await self._trouble(error)

    async def _recall(self, journal: Journal) -> None:
        """What a former life has left."""
        if self._intent_unsaved:
            await self._note_paused()
        else:
            self.paused = await journal.recall(PAUSED) is not None
        if await journal.recall(SELECTED) != self.rules.selection.text_with(self.rules.options.preserving):
            return  # another selection may hold what no pass has looked for
        last, full = await journal.recall(LAST), await journal.recall(FULL)
        self.looked = Looked(float(last or 0), float(full or 0))
        self.equal_at = float(await journal.recall(EQUAL) or 0)

    async def _wait_for(self, coming: tuple[Kind, float] | None) -> bool:
        """Whether the pass is due; else a while has passed, and everything is to be asked again."""
        self.next_scan = 0.0 if coming is None else coming[1]
        left = None if coming is None else coming[1] - time.time()
        if left is not None and left <= 0:
            return True
        self._state = "watching"
        self._reason = "watch = off: nothing more is looked for" if left is None else self._summary()
        await self._sleep(left)
        return False

    def _summary(self) -> str:
        left = [self.held] if self.held else []
        if self.progress.failed_files:
            left.append(f"{self.progress.failed_files} files failed: asynccopy errors")
        if self.progress.open_files:
            left.append(f"{self.progress.open_files} files are still being written")
        return "; ".join(left)

    async def _sleep(self, seconds: float | None) -> None:
        """Until woken, or so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _trouble(self, error: AsyncCopyError) -> None:
        self._failures += 1
        person = isinstance(error, NEEDS_A_PERSON)
        self._state = "failed" if person else "waiting"
        self._reason = f"{error.message} ({error.hint})" if error.hint else error.message
        self._told("error" if person else "warning", self._reason)
        await self._sleep(retry_delay(self._failures, person=person))

    # --- one pass ----------------------------------------------------------------------------------------------------

    async def _way(self) -> Watching:
        """How change is found here. A source whose snapshots we may not make is scanned."""
        rules = self.rules
        if rules.watch in ("scan", "off"):
            return rules.watch
        snapshots = self._source.snapshots
        try:
            able = self._may_freeze and snapshots is not None and await snapshots.names() is not None
        except (PermissionDenied, Refused):
            able = False
        if not able and rules.watch == "snapshots":
            raise no_snapshots(self._source.url)
        return "snapshots" if able else "scan"

    async def _pass(self, journal: Journal, kind: Kind) -> None:
        self._state, self._reason = "copying", ""
        self._stop.clear()
        if self._draining or self.paused:
            return
        self._fold()
        began, outcome, requests = time.time(), "interrupted", self._witness.requests
        try:
            look = self._snapshot_pass if self.watching == "snapshots" else self._scan_pass
            since = await look(journal, kind)
            if kind not in ("quick", "snapshot"):
                await journal.forget_revived()  # files that are replaced every day would pile up
            await self._deletions(journal)
            outcome = "complete" if self.progress.listing_done else "some directories could not be listed"
            await self._remember(journal, began, min(began, since), kind)
        except Interrupted:
            raise
        except AsyncCopyError as error:
            outcome = f"{type(error).__name__}: {error.message}"
            raise
        finally:
            await self._note(journal, kind, began, outcome, requests)
        self._failures = 0
        self.completed = self.completed or (kind == "first" and not self._unfinished)
        self._witness.passed(kind, time.time() - began)

    async def _note(self, journal: Journal, kind: Kind, began: float, outcome: str, requests: int) -> None:
        """Into the history, except where the journal itself is the trouble."""
        try:
            await journal.note_pass(
                kind,
                int(began * 1000),
                outcome,
                copied=self.progress.copied_files + self.progress.renamed_files,
                copied_bytes=self.progress.copied_bytes,
                failed=self.progress.failed_files,
                deleted=self.progress.deleted_files,
                requests=self._witness.requests - requests,
            )
        except JournalError as error:
            self._told("warning", f"a pass is missing in the history: {error.message}")

    async def _scan_pass(self, journal: Journal, kind: Kind) -> float:
        """Answers when the look at the source began, perhaps in a former life."""
        await self._copy(journal, self._source, Pass(kind=kind))
        return (await journal.state()).started_at / 1000

    async def _snapshot_pass(self, journal: Journal, kind: Kind) -> float:
        """Answers of when the snapshot is, perhaps of a former life."""
        snapshots = self._source.snapshots
        assert snapshots is not None
        identity = hashlib.sha256(f"{self._source.url}\0{self._destination.url}".encode()).hexdigest()[:8]
        watermark = Watermark(snapshots, journal, f"asynccopy-{identity}-", lambda: time.time_ns() // 1_000_000)
        try:
            frozen = await watermark.freeze()
        except (PermissionDenied, Refused) as error:
            if self.rules.watch == "snapshots":
                raise
            self._may_freeze, self.watching = False, "scan"  # until the daemon starts again
            self._told("warning", f"no snapshot can be made, so the source is scanned: {error.message}")
            return await self._scan_pass(journal, "full" if kind == "snapshot" else kind)
        try:
            view = snapshots.at(frozen.newer)
            if not frozen.older or kind != "snapshot":
                await self._copy(journal, view, Pass(kind="full", label=f" {frozen.newer}"))
            else:
                find = partial(self._diff, frozen, journal)
                await self._copy(
                    journal, view, Pass(kind="snapshot", label=f" {frozen.older} {frozen.newer}", find=find)
                )
        except SnapshotGone:
            await watermark.lose()
            raise
        # Also where a directory could not be listed: it stays to be listed in the journal, for every pass to come.
        await watermark.advance(frozen)
        try:
            await watermark.let_go(frozen)
        except FileError as error:
            self._told("warning", f"an old snapshot is left: {error.message}")
        return frozen.since

    def _diff(
        self, frozen: Frozen, journal: Journal, source: Source, listing: Listing, found: Callable[[], None]
    ) -> Finder:
        snapshots = self._source.snapshots
        assert snapshots is not None
        again = RetryingSnapshots(snapshots, RetryPolicy(), self._noticed)
        return Diff(
            again, frozen.older, frozen.newer, source, journal, self.rules.selection, self.progress, self._stop,
            found, listing,
        )  # fmt: skip

    async def _copy(self, journal: Journal, source: Source, look: Pass) -> None:
        rules = self.rules
        mirror = Mirror(
            source,
            self._destination,
            journal,
            selection=rules.selection,
            options=rules.options,
            stop=self._stop,
            progress=self.progress,
            noticed=self._noticed,
            settled=self._witness.settled,
            build=self._build,
            look=Pass(look.kind, look.label, look.find, rules.order, rules.settle, self._capabilities),
        )
        await mirror.copy()
        self._capabilities = mirror.capabilities

    async def _deletions(self, journal: Journal) -> None:
        """After everything else, and only when the whole source was looked at."""
        handling = self.rules.handling
        was_held, self.held = self.held, ""
        if handling.mode == "keep" or not self.progress.listing_done:
            return
        self.held = await self._why_held(journal)
        if self.held and self.held != was_held:
            await journal.forget_revived()  # what was only replaced does not count
            self.held = await self._why_held(journal)
        if self.held or not await journal.gone(0, 1):
            await journal.forget(CONFIRMED)  # it was for others
            if self.held and self.held != was_held:
                self._told("warning", self.held)
            return
        policy = RetryPolicy()
        deletions = Deletions(
            RetryingSource(self._source, policy, self._noticed),
            RetryingDestination(self._destination, policy, self._noticed),
            journal,
            handling,
            stop=self._stop,
            told=partial(self._told, "warning"),
            unproven=UNPROVEN,
        )
        try:
            await deletions.run()
        finally:
            self.progress.deleted_files += deletions.deleted
        if not self._stop.is_set():
            await journal.forget(CONFIRMED)

    async def _why_held(self, journal: Journal) -> str:
        gone, _ = await journal.gone_count()
        totals = await journal.totals()
        confirmed = int(await journal.recall(CONFIRMED) or 0)
        return held(self.rules.handling, gone, totals.done_files, confirmed)

    async def _remember(self, journal: Journal, began: float, since: float, kind: Kind) -> None:
        """``began``: this pass; ``since``: its look at the source."""
        whole = kind not in ("quick", "snapshot") and not self._unfinished
        self.looked = Looked(began, began if whole else self.looked.full)
        await journal.remember(LAST, repr(self.looked.last))
        await journal.remember(FULL, repr(self.looked.full))
        if self.progress.listing_done:
            self.equal_at = since
            await journal.remember(EQUAL, repr(since))
        if whole:
            await journal.remember(SELECTED, self.rules.selection.text_with(self.rules.options.preserving))

    @property
    def _unfinished(self) -> bool:
        """Whether the one pass of who looks for nothing more is to be made again: some files were being written."""
        return self.watching == "off" and self.progress.open_files > 0

    def _noticed(self, error: AsyncCopyError, delay: float) -> None:
        if delay >= LONG_DELAY:
            self._told("warning", f"{error.message}; trying again in {delay:.0f} s")

    def _fold(self) -> None:
        """The pass that is over goes into the past."""
        self.past.add(self.progress)
        self.progress = Progress()
