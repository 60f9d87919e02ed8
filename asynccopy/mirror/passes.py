"""One pass after the other: each looks at the source, copies what it finds, deletes what is gone, and is remembered."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from asynccopy.errors import (
    AsyncCopyError,
    FileError,
    Interrupted,
    JournalError,
    PermissionDenied,
    Refused,
    SnapshotGone,
)
from asynccopy.executors.recipe import Build
from asynccopy.journal import Journal
from asynccopy.journal.rows import Kind
from asynccopy.mirror.deletions import CONFIRMED, UNPROVEN, Deletions, held
from asynccopy.mirror.diff import Diff, Finder
from asynccopy.mirror.listing import Listing
from asynccopy.mirror.mirror import Mirror, Pass
from asynccopy.mirror.progress import LONG_DELAY, Progress
from asynccopy.mirror.rules import Rules, Witness, no_snapshots
from asynccopy.mirror.schedule import Looked, Watching
from asynccopy.mirror.snapshots import Frozen, Watermark
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Capabilities, Destination, Source
from asynccopy.storage.retrying import RetryingDestination, RetryingSnapshots, RetryingSource

LAST: Final = "looked.last"
FULL: Final = "looked.full"
EQUAL: Final = "equal.at"
SELECTED: Final = "selected"


class Passes:
    """The passes of one mirror. ``progress`` is of the present one or the last one; ``rules`` may change at any time.

    ``stop``: set it to finish the ranges in flight and end the present pass with Interrupted.
    """

    def __init__(
        self,
        source: Source,
        destination: Destination,
        rules: Rules,
        build: Build,
        witness: Witness,
        stop: asyncio.Event,
    ) -> None:
        self._source = source
        self._destination = destination
        self.rules = rules
        self._build = build
        self._witness = witness
        self._told = witness.told
        self._stop = stop
        self.watching: Watching = "scan"
        self.progress = Progress()
        self.past = Progress()
        """What the passes before the present one came to, since the daemon started"""
        self.looked = Looked()
        self.equal_at = 0.0
        """When the last pass began that found everything: up to then nothing is missing at the destination"""
        self.completed = False
        self.held = ""
        self.capabilities: Capabilities | None = None
        """Of the destination; None: the next pass asks both sides again."""
        self._may_freeze = True

    async def recall(self, journal: Journal) -> None:
        """What a former life has found."""
        if await journal.recall(SELECTED) != self.rules.selection.text_with(self.rules.options.preserving):
            return  # another selection may hold what no pass has looked for
        last, full = await journal.recall(LAST), await journal.recall(FULL)
        self.looked = Looked(float(last or 0), float(full or 0))
        self.equal_at = float(await journal.recall(EQUAL) or 0)

    @property
    def remains(self) -> str:
        """What the last pass has left undone, in one line; "" for nothing."""
        left = [self.held] if self.held else []
        if self.progress.failed_files:
            left.append(f"{self.progress.failed_files} files failed: asynccopy errors")
        if self.progress.open_files:
            left.append(f"{self.progress.open_files} files are still being written")
        return "; ".join(left)

    async def choose(self) -> None:
        """How change is found here. A source whose snapshots we may not make is scanned."""
        rules = self.rules
        if rules.watch in ("scan", "off"):
            self.watching = rules.watch
            return
        snapshots = self._source.snapshots
        try:
            able = self._may_freeze and snapshots is not None and await snapshots.names() is not None
        except (PermissionDenied, Refused):
            able = False
        if not able and rules.watch == "snapshots":
            raise no_snapshots(self._source.url)
        self.watching = "snapshots" if able else "scan"

    async def run(self, journal: Journal, kind: Kind) -> None:
        """One pass. Raises what ends it; Interrupted, when it was stopped."""
        self.past.add(self.progress)
        self.progress = Progress()
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
            look=Pass(look.kind, look.label, look.find, rules.order, rules.settle, self.capabilities),
        )
        await mirror.copy()
        self.capabilities = mirror.capabilities

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
