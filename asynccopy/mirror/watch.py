"""One mirror for months: a first full copy, then pass after pass, through every outage, until it is drained."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from asynccopy.errors import (
    AsyncCopyError,
    CredentialsRefused,
    Interrupted,
    JournalDamaged,
    JournalError,
    NotThere,
    PermissionDenied,
    UsageError,
    WrongServer,
    root_cause,
)
from asynccopy.executors.recipe import Build
from asynccopy.journal import Journal
from asynccopy.journal.rows import Kind, Listed
from asynccopy.mirror.deletions import CONFIRMED
from asynccopy.mirror.packing import keep_packed
from asynccopy.mirror.passes import Passes
from asynccopy.mirror.rules import Rules, State, Witness
from asynccopy.mirror.schedule import next_pass, retry_delay
from asynccopy.storage.interface import Destination, Source

NEEDS_A_PERSON: Final = (CredentialsRefused, JournalDamaged, NotThere, PermissionDenied, WrongServer, UsageError)
PAUSED: Final = "paused"


class Watcher:
    """Keeps one destination equal to one source. ``run`` it once; steer it by the other methods, at any time.

    ``open_journal`` opens the mirror's journal for an order of copies, again after every trouble with its disk.
    ``state`` and ``reason`` say how it is, ``passes`` what it has done.
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
        self._open_journal = open_journal
        self._told = witness.told
        self._stop = asyncio.Event()
        self.passes = Passes(source, destination, rules, build, witness, self._stop)
        self.journal: Journal | None = None
        self._state: State = "waiting"
        self._reason = "not begun yet"
        self.next_scan = 0.0
        self.paused = False
        self._failures = 0
        self._draining = False
        self._due_now = False
        self._intent_unsaved = False
        self._wake = asyncio.Event()

    @property
    def state(self) -> State:
        """A pass that nothing moves in waits, although it goes on trying."""
        return "waiting" if self._state == "copying" and self.passes.progress.hindrance else self._state

    @property
    def reason(self) -> str:
        return self.passes.progress.hindrance if self._state == "copying" else self._reason

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
        self.passes.rules = rules
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
                order = self.passes.rules.order
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
        passes = self.passes
        while not self._draining and passes.rules.order == order:
            if self.paused:
                self._state, self._reason = "paused", "by a person: asynccopy resume goes on"
                await self._sleep(None)
                continue
            try:
                await passes.choose()
                coming = next_pass(passes.watching, passes.rules.cadence, passes.looked, time.time())
                if not self._due_now and not await self._wait_for(coming):
                    continue
                self._due_now = False
                await self._pass(journal, "full" if coming is None else coming[0])
            except Interrupted:
                continue
            except JournalError:
                raise
            except AsyncCopyError as error:
                passes.capabilities = None  # whatever it was, both sides are asked again
                await self._trouble(error)

    async def _recall(self, journal: Journal) -> None:
        """What a former life has left."""
        if self._intent_unsaved:
            await self._note_paused()
        else:
            self.paused = await journal.recall(PAUSED) is not None
        await self.passes.recall(journal)

    async def _pass(self, journal: Journal, kind: Kind) -> None:
        self._state, self._reason = "copying", ""
        self._stop.clear()
        if self._draining or self.paused:
            return
        await self.passes.run(journal, kind)
        self._failures = 0

    async def _wait_for(self, coming: tuple[Kind, float] | None) -> bool:
        """Whether the pass is due; else a while has passed, and everything is to be asked again."""
        self.next_scan = 0.0 if coming is None else coming[1]
        left = None if coming is None else coming[1] - time.time()
        if left is not None and left <= 0:
            return True
        self._state = "watching"
        self._reason = "watch = off: nothing more is looked for" if left is None else self.passes.remains
        await self._sleep(left)
        return False

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
