"""One place among the workers: a process that holds it is fed, listened to, watched, and replaced when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from asynccopy.errors import AsyncCopyError, FileError, Interrupted
from asynccopy.executors.answers import answer
from asynccopy.executors.backlog import Backlog, Flight
from asynccopy.executors.frames import (
    AskWho,
    Assignment,
    Assignments,
    Channel,
    FrameError,
    LogCall,
    Outcome,
    PartDone,
    Report,
    SetUp,
    Stop,
    ToParent,
    Trouble,
    Unfit,
    Who,
)
from asynccopy.executors.process import WorkerProcess
from asynccopy.executors.recipe import Watch
from asynccopy.executors.steering import START
from asynccopy.logs import log
from asynccopy.storage.pool import Origin
from asynccopy.storage.settings import Place
from asynccopy.transfer.copy import Copied
from asynccopy.transfer.parts import SMALL

AHEAD: Final = 64
"""Small files a worker has beyond what it copies, at most: they hide the way to this process and its journal."""


class Patience(Struct, frozen=True):
    """``hang``: seconds without a sign of life. ``deaths``: workers lost in a row, with nothing done, that end a run;
    ``file_deaths``: that make it give up a file they all had.
    """

    hang: float = 30.0
    deaths: int = 5
    file_deaths: int = 4


class Seat:
    """``run`` ends when the backlog does. ``over`` is given each file that ended, and calls ``settled`` later."""

    def __init__(
        self,
        number: int,
        set_up: SetUp,
        backlog: Backlog,
        over: Over,
        watch: Watch,
        lend: Lend,
        patience: Patience,
    ) -> None:
        self.number = number
        self._set_up = set_up
        self._backlog = backlog
        self._over = over
        self._watch = watch
        self._lend = lend
        self._patience = patience
        self._share = set_up.recipe.concurrency
        self._window = self._share + min(self._share, AHEAD)
        # A steered worker begins low, and the parts of a few large files are enough for it to climb.
        self._large = min(self._share, START) if set_up.recipe.steered else self._share
        self._flights: dict[int, Flight] = {}  # what the worker has, by order number
        self._orders: list[Assignment] = []  # on their way into a frame
        self._settling = 0
        self._freed = asyncio.Event()
        # of the present worker:
        self._heard = False
        self._alive = False
        self._progress = False
        self._reason = ""
        self._words = ""

    async def run(self) -> None:
        """Raises Interrupted when worker after worker dies, and what a worker cannot work for."""
        lost = 0
        while (flight := await self._backlog.take(alone=True)) is not None:  # no process before there is work for it
            ended = await self._employ(flight)
            if not ended:
                lost = 0
                continue
            lost = 1 if self._progress else lost + 1
            self._recover(ended)
            log.warning("a worker process is replaced", worker=self.number, reason=ended)
            if lost >= self._patience.deaths:
                said = f"; its last words: {self._words}" if self._words else ""
                raise Interrupted(
                    f"{lost} worker processes in a row got nothing done, the last one {ended}{said}",
                    hint="look for the out-of-memory killer; run the same command again, or with --processes 1",
                )
            if lost > 1:
                await asyncio.sleep(min(5.0, 0.125 * 2**lost))

    def settled(self) -> None:
        """There is room for another file."""
        self._settling -= 1
        self._freed.set()

    def interrupt(self, flight: Flight) -> None:
        """The run is stopped before a worker could take this file."""
        self._end_flight(flight, Interrupted(f"{flight.order.status.path}: stopped"))

    def _recover(self, ended: str) -> None:
        """Give back what the lost worker had. What it moved is moved again, unless it was logged."""
        flights, self._flights = self._flights, {}
        self._orders.clear()
        for flight in flights.values():
            path = flight.order.status.path
            self._watch.moved(path, -flight.moved)
            flight.moved, flight.earlier = 0, flight.logged
            flight.deaths += self._alive  # one that never came up had none
            if self._watch.stop.is_set():
                self.interrupt(flight)
            elif flight.deaths >= self._patience.file_deaths:
                error = FileError(
                    f"{path}: {flight.deaths} worker processes were lost while they had it, the last one {ended}",
                    hint="look for the out-of-memory killer; try it with --processes 1",
                )
                self._end_flight(flight, error)
            else:
                self._backlog.give_back(flight)

    def _end_flight(self, flight: Flight, result: Copied | AsyncCopyError) -> None:
        self._settling += 1
        self._over(self, flight, result)

    # --- one worker ----------------------------------------------------------------------------------------------

    async def _employ(self, first: Flight) -> str:
        """Run one worker process; how it was lost, "" when there is nothing left to do. None stays behind."""
        self._flights[first.order.number] = first
        self._heard = self._alive = self._progress = False
        self._reason = self._words = ""
        try:
            worker = await WorkerProcess.start(self.number)
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        try:
            finished = await self._serve(worker, first)
        finally:
            await worker.end()
        self._words = worker.words
        return "" if finished else self._reason or worker.ending

    async def _serve(self, worker: WorkerProcess, first: Flight) -> bool:
        """True when there is nothing left to do, False when the worker was lost."""
        channel, name = worker.channel, f"worker {self.number}"
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.relay(), name=f"{name}: words")
            feeding = group.create_task(self._feed(channel, first), name=f"{name}: orders")
            guarding = group.create_task(self._guard(worker), name=f"{name}: guard")
            stopping = group.create_task(self._pass_stop(channel), name=f"{name}: stop")
            await self._listen(channel, group)
            finished = feeding.done()
            for task in (feeding, guarding, stopping):
                task.cancel()
            if finished:
                await worker.goodbye()
            # Part log calls go on to their end: the journal's order must be that of the calls.
            worker.kill()
        return finished

    async def _feed(self, channel: Channel[ToParent], flight: Flight | None) -> None:
        """Keep the worker's window full, and end its work when there is no more."""
        channel.send(self._set_up)
        alone = flight is not None and flight.suspect
        while flight is not None:
            order = flight.order
            self._flights[order.number] = flight
            if order.status.length > SMALL:
                # Not ahead: it would wait here while another worker has nothing to do.
                await self._fewer_than(self._large + 1)
            begun = await order.log.upload() is not None
            if not self._orders:
                asyncio.get_running_loop().call_soon(self._flush, channel)
            self._orders.append(Assignment(order.number, order.status, begun))
            await self._fewer_than(self._window)
            flight = None if alone else await self._backlog.take(alone=False)
        await self._fewer_than(1)
        channel.close()

    def _flush(self, channel: Channel[ToParent]) -> None:
        """All orders of one turn of the loop in one frame."""
        if self._orders:
            channel.send(Assignments(self._orders))
            self._orders = []

    async def _fewer_than(self, most: int) -> None:
        while len(self._flights) + self._settling >= most:
            self._freed.clear()
            await self._freed.wait()

    async def _pass_stop(self, channel: Channel[ToParent]) -> None:
        await self._watch.stop.wait()
        channel.send(Stop())

    async def _guard(self, worker: WorkerProcess) -> None:
        """End a worker that says nothing. Silence is counted in our own turns: while this process is suspended itself,
        nobody can be heard.
        """
        silent = 0
        while silent < 10:
            await asyncio.sleep(self._patience.hang / 10)
            silent = 0 if self._heard else silent + 1
            self._heard = False
        self._reason = f"gave no sign of life for {self._patience.hang:g} s"
        worker.kill()

    # --- what it says --------------------------------------------------------------------------------------------

    async def _listen(self, channel: Channel[ToParent], group: asyncio.TaskGroup) -> None:
        """Until the worker is gone, or makes no sense. Raises what it cannot work for."""
        try:
            while (frame := await channel.receive()) is not None:
                self._heard = self._alive = True
                match frame:
                    case Report():
                        self._note(frame)
                    case Unfit():
                        raise _unfit(frame)
                    case AskWho():
                        group.create_task(self._tell_who(channel, frame), name=f"worker {self.number}: who")
                    case _:
                        call = self._log(channel, self._flight(frame.number), frame)
                        group.create_task(call, name=f"worker {self.number}: part log")
        except FrameError as error:
            self._reason = f"made no sense ({error})"

    async def _tell_who(self, channel: Channel[ToParent], asked: AskWho) -> None:
        try:
            told = Who(asked.call, await self._lend(asked.place, asked.refused, asked.at, asked.ticket))
        except AsyncCopyError as error:
            told = Who(asked.call, "", Trouble.of(error))
        channel.send(told)

    def _flight(self, number: int) -> Flight:
        flight = self._flights.get(number)
        if flight is None:
            raise FrameError(f"order {number}, which it does not have")
        return flight

    def _note(self, report: Report) -> None:
        for number, count in report.moved:
            flight = self._flight(number)
            flight.moved += count
            self._watch.moved(flight.order.status.path, count)
        for trouble, delay in report.noticed:
            self._watch.noticed(trouble.error(), delay)
        for outcome in report.outcomes:
            flight = self._flight(outcome.number)
            result = _result(outcome, flight)
            del self._flights[outcome.number]
            self._progress = True
            self._end_flight(flight, result)

    async def _log(self, channel: Channel[ToParent], flight: Flight, call: LogCall) -> None:
        await answer(channel, flight, call)
        if isinstance(call, PartDone):
            self._progress = True


Lend = Callable[[Place, str, Origin | None, bool], Awaitable[str]]
"""Says who to be at the cluster of a place, given who was refused there: ``NameNodes.lend``."""
Over = Callable[[Seat, Flight, Copied | AsyncCopyError], None]


def _result(outcome: Outcome, flight: Flight) -> Copied | AsyncCopyError:
    """Parts that a lost worker of this very run had sent are no resumed ones."""
    if outcome.copied is not None:
        resumed = outcome.copied.resumed_parts
        return replace(outcome.copied, resumed_parts=resumed - min(flight.earlier, resumed))
    if outcome.trouble is None:
        raise FrameError(f"no outcome of order {outcome.number}")
    return outcome.trouble.error()


def _unfit(frame: Unfit) -> Exception:
    """What ends the run: the worker's own error, or, for a bug, one that shows its traceback."""
    if frame.trouble is not None:
        return frame.trouble.error()
    error = RuntimeError("a bug in a worker process")
    error.add_note(frame.trace)
    return error
