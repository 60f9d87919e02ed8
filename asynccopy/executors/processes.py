"""Copies run in N processes of one core each; listing, journal and control stay in this one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from asynccopy.errors import AsyncCopyError, root_cause
from asynccopy.executors.backlog import Backlog, Flight
from asynccopy.executors.frames import SetUp
from asynccopy.executors.inline import Claim, Executor, Settle
from asynccopy.executors.recipe import Build, Recipe, Watch, inline
from asynccopy.executors.seat import Lend, Patience, Seat
from asynccopy.storage.interface import Destination, Source
from asynccopy.storage.settings import Place, Settings
from asynccopy.transfer.copy import Copied


def in_processes(source: Place, destination: Place, count: int, lend: Lend) -> Build:
    """``count`` worker processes at most, which open both sides for themselves, and are there who ``lend`` says.

    Inline where there is work for one alone: a single file, one range in flight.
    """

    def build(recipe: Recipe, opened: Source, target: Destination, watch: Watch) -> Executor:
        set_ups = shares(SetUp(source, destination, recipe), count)
        if len(set_ups) == 1 or recipe.single_file:
            return inline(recipe, opened, target, watch)
        return ProcessExecutor(set_ups, watch, lend)

    return build


def shares(whole: SetUp, count: int) -> list[SetUp]:
    """The concurrency and the bandwidth of ``whole`` for each of ``count`` workers, or of as many as there are ranges.

    Together they are exactly the whole.
    """
    ranges = whole.recipe.concurrency
    count = min(count, ranges)
    return [_cut(whole, ranges // count + (number < ranges % count)) for number in range(count)]


def _cut(whole: SetUp, share: int) -> SetUp:
    """What one worker gets of the whole: ``share`` of its ranges, and as much of its bandwidth."""
    part = share / whole.recipe.concurrency

    def settings(all_of_them: Settings) -> Settings:
        rate = all_of_them.bandwidth
        return replace(all_of_them, concurrency=share, bandwidth=None if rate is None else rate * part)

    # The parent has probed the store; workers that did it again would abort each other's trial uploads.
    target = replace(settings(whole.destination.settings), capabilities=whole.recipe.capabilities)
    return SetUp(
        Place(whole.source.url, settings(whole.source.settings)),
        Place(whole.destination.url, target),
        replace(whole.recipe, concurrency=share),
    )


class ProcessExecutor:
    """One worker process per set-up, started when there is a file for it, replaced when it dies or hangs."""

    def __init__(self, set_ups: Sequence[SetUp], watch: Watch, lend: Lend, patience: Patience | None = None) -> None:
        self._set_ups = set_ups
        self._watch = watch
        self._lend = lend
        self._patience = patience or Patience()

    async def run(self, claim: Claim, settle: Settle) -> None:
        """See Executor. Raises Interrupted also when one worker after the other dies and gets nothing done."""
        backlog = Backlog(claim)
        failed = False  # a settlement; then the group takes no further ones
        try:
            async with asyncio.TaskGroup() as settling:

                async def settle_one(seat: Seat, flight: Flight, result: Copied | AsyncCopyError) -> None:
                    nonlocal failed
                    try:
                        await settle(flight.order, result)
                    except BaseException:
                        failed = True
                        raise
                    backlog.settled()
                    seat.settled()

                def over(seat: Seat, flight: Flight, result: Copied | AsyncCopyError) -> None:
                    # Beside the work, so that many settlements share one commit of the journal. A seat bounds its own.
                    if not failed:
                        settling.create_task(settle_one(seat, flight, result), name="settlement")

                seats = [
                    Seat(number, set_up, backlog, over, self._watch, self._lend, self._patience)
                    for number, set_up in enumerate(self._set_ups, start=1)
                ]
                stopping = settling.create_task(self._stop(backlog, seats[0]), name="workers' stop")
                async with asyncio.TaskGroup() as working:
                    for seat in seats:
                        working.create_task(seat.run(), name=f"worker {seat.number}")
                stopping.cancel()
        except BaseExceptionGroup as failures:
            raise root_cause(failures) from None

    async def _stop(self, backlog: Backlog, seat: Seat) -> None:
        """At a stop, files that wait for a new worker need not wait for it."""
        await self._watch.stop.wait()
        for flight in backlog.withdraw():
            seat.interrupt(flight)
