"""A worker process: copies the files that its parent sends it, between sides that it opens itself.

It knows no journal, takes no signal (see __main__), and ends at once when its parent does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable
from contextlib import aclosing
from itertools import count
from typing import Final

from asynccopy import logs
from asynccopy.errors import AsyncCopyError, Interrupted, Throttled, root_cause
from asynccopy.executors.frames import (
    Answer,
    AskUpload,
    AskWho,
    Assignment,
    Assignments,
    BeginUpload,
    Channel,
    DropUpload,
    FrameError,
    LogCall,
    Outcome,
    PartDone,
    Report,
    SetUp,
    Stop,
    ToWorker,
    Trouble,
    Unfit,
    Who,
    to_worker,
)
from asynccopy.executors.loop import new_loop
from asynccopy.executors.recipe import Watch, copier, retrying_source
from asynccopy.executors.steering import steer
from asynccopy.model import OpenUpload, PartReceipt
from asynccopy.storage.budget import Budget
from asynccopy.storage.pool import Origin
from asynccopy.storage.registry import NameNodes, Stores, open_destination, open_source
from asynccopy.storage.retrying import RetryingDestination
from asynccopy.storage.settings import Place
from asynccopy.transfer.copy import Copied, Copier

BEAT: Final = 0.25
"""Seconds between two reports, at most: the display and the parent's patience live on them."""
GATHER: Final = 0.004
"""Seconds in which outcomes come together in one frame. Files that are handed out ahead hide it."""
WARN: Final = 5.0
"""Seconds between two words to the parent that a store throttles."""
LAST: Final = 0.5
"""Seconds that the end may take when the parent is gone; then the kernel ends us."""


class Remote:
    """The parent as a worker sees it: reports to send, and part log calls to have answered."""

    def __init__(self, channel: Channel[ToWorker]) -> None:
        self._channel = channel
        self._moved: defaultdict[int, int] = defaultdict(int)
        self._noticed: list[tuple[Trouble, float]] = []
        self._outcomes: list[Outcome] = []
        self._numbers: dict[str, int] = {}  # of the files being copied, by path
        self._calls = count()
        self._waiting: dict[int, asyncio.Future[OpenUpload | None]] = {}
        self._parts: dict[int, list[PartReceipt]] = {}
        self._whos: dict[int, asyncio.Future[str]] = {}
        self._gathering: asyncio.TimerHandle | None = None

    def begin(self, order: Assignment) -> None:
        self._numbers[order.status.path] = order.number

    def end(self, order: Assignment, result: Copied | AsyncCopyError) -> None:
        self._numbers.pop(order.status.path, None)
        if isinstance(result, Copied):
            self._outcomes.append(Outcome(order.number, result))
        else:
            self._outcomes.append(Outcome(order.number, None, Trouble.of(result)))
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER, self.report)

    def moved(self, path: str, size: int) -> None:
        self._moved[self._numbers[path]] += size

    def noticed(self, error: AsyncCopyError, delay: float) -> None:
        self._noticed.append((Trouble.of(error), delay))

    def report(self) -> None:
        """Tell what has happened; moved bytes go with, not after, the outcome of their file."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._channel.clogged and not self._outcomes:
            return  # the parent is busy or suspended: signs of life must not pile up
        self._channel.send(Report(list(self._moved.items()), self._noticed, self._outcomes))
        self._moved.clear()
        self._noticed, self._outcomes = [], []

    async def call(self, make: Callable[[int], LogCall]) -> OpenUpload | None:
        """Send a part log call and wait until it is answered."""
        number = next(self._calls)
        answer: asyncio.Future[OpenUpload | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._channel.send(make(number))
            await self._channel.drain()
            return await answer
        finally:
            del self._waiting[number]
            self._parts.pop(number, None)

    def answered(self, answer: Answer) -> None:
        waiting = self._waiting.get(answer.call)
        if waiting is None or waiting.done():
            return  # whoever asked was cancelled
        upload = answer.upload
        if upload is not None:
            parts = self._parts.setdefault(answer.call, [])
            parts.extend(upload.parts)
            upload = OpenUpload(upload.upload_id, upload.part_size, upload.version, tuple(parts))
        if answer.last:
            waiting.set_result(upload)

    async def who(self, place: Place, refused: str, at: Origin | None, ticket: bool) -> str:
        """Who to be at a cluster: tokens are the parent's. Raises what keeps it from having one."""
        number = next(self._calls)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._whos[number] = answer
        try:
            self._channel.send(AskWho(number, place, refused, at, ticket))
            return await answer
        finally:
            del self._whos[number]

    def told(self, who: Who) -> None:
        waiting = self._whos.get(who.call)
        if waiting is None or waiting.done():
            return  # whoever asked was cancelled
        if who.trouble is None:
            waiting.set_result(who.query)
        else:
            waiting.set_exception(who.trouble.error())


class RemoteLog:
    """The PartLog of one file, kept by the parent. Where there is no upload is known here: small files ask nothing."""

    __slots__ = ("_begun", "_number", "_remote")

    def __init__(self, remote: Remote, order: Assignment) -> None:
        self._remote = remote
        self._number = order.number
        self._begun = order.begun

    async def upload(self) -> OpenUpload | None:
        return await self._remote.call(lambda call: AskUpload(call, self._number)) if self._begun else None

    async def begin_upload(self, upload: OpenUpload) -> None:
        self._begun = True
        await self._remote.call(lambda call: BeginUpload(call, self._number, upload))

    async def part_done(self, receipt: PartReceipt) -> None:
        await self._remote.call(lambda call: PartDone(call, self._number, receipt))

    async def drop_upload(self) -> None:
        await self._remote.call(lambda call: DropUpload(call, self._number))
        self._begun = False


class Worker:
    """Copies as many files at once as its share of the concurrency says, until the parent is gone."""

    def __init__(self, channel: Channel[ToWorker]) -> None:
        self._channel = channel
        self._remote = Remote(channel)
        self._orders: asyncio.Queue[Assignment] = asyncio.Queue()
        self._stop = asyncio.Event()
        self._stores = Stores()

    async def run(self, set_up: SetUp) -> None:
        recipe, remote, namenodes = set_up.recipe, self._remote, NameNodes(self._remote.who)
        reading, writing = set_up.source, set_up.destination
        async with (
            aclosing(open_source(reading.url, reading.settings, namenodes=namenodes, stores=self._stores)) as source,
            aclosing(
                open_destination(writing.url, writing.settings, namenodes=namenodes, stores=self._stores)
            ) as destination,
        ):
            watch = Watch(remote.noticed, remote.moved, self._stop)
            ranges, files = Budget(recipe.concurrency), Budget(recipe.concurrency)
            copying = copier(
                recipe,
                retrying_source(source, recipe.single_file, recipe.policy, watch.noticed),
                RetryingDestination(destination, recipe.policy, watch.noticed),
                watch,
                ranges,
            )
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._beat(), name="reports")]
                if recipe.steered:
                    tasks.append(group.create_task(steer((ranges, files), watch), name="steering"))
                tasks += [
                    group.create_task(self._copy(copying, files, watch), name=f"copy worker {number}")
                    for number in range(recipe.concurrency)
                ]
                await self._listen()
                # Where files are in flight the parent is dead. They are cancelled, which ends uploads by a reset, and
                # not for long: a next run may have begun already.
                signal.setitimer(signal.ITIMER_REAL, LAST)
                for task in tasks:
                    task.cancel()

    async def _listen(self) -> None:
        while (frame := await self._channel.receive()) is not None:
            match frame:
                case Assignments(orders):
                    for order in orders:
                        self._orders.put_nowait(order)
                case Answer():
                    self._remote.answered(frame)
                case Who():
                    self._remote.told(frame)
                case Stop():
                    self._stop.set()
                case SetUp():
                    raise FrameError("a second set-up")

    async def _copy(self, copying: Copier, files: Budget, watch: Watch) -> None:
        while True:
            await files.take()
            try:
                order = await self._orders.get()
                self._remote.begin(order)
                if self._stop.is_set():
                    raise Interrupted(f"{order.status.path}: stopped before it began")
                result: Copied | AsyncCopyError = await copying.copy(order.status, RemoteLog(self._remote, order))
            except AsyncCopyError as error:
                result = error
            finally:
                files.give()
            watch.ended()
            self._remote.end(order, result)

    async def _beat(self) -> None:
        loop, warned = asyncio.get_running_loop(), -WARN
        while True:
            if loop.time() - warned >= WARN and (warning := self._stores.warning):
                warned = loop.time()
                self._remote.noticed(Throttled(f"{warning} by each process"), 0.0)
            self._remote.report()
            await asyncio.sleep(BEAT)


async def _work(end: socket.socket) -> int:
    channel = await Channel.over(end, to_worker)
    try:
        set_up = await channel.receive()
        if set_up is None:
            return 0
        if not isinstance(set_up, SetUp):
            raise FrameError("no set-up")
        await Worker(channel).run(set_up)
    except* FrameError as group:
        sys.stderr.write(f"the parent makes no sense: {root_cause(group)}\n")
    except* AsyncCopyError as group:
        channel.send(Unfit(Trouble.of(_first(group))))
    except* Exception:
        channel.send(Unfit(trace=traceback.format_exc()))
    else:
        return 0
    finally:
        await channel.drain()
        channel.close()
    return 1


def _first(group: BaseExceptionGroup[AsyncCopyError]) -> AsyncCopyError:
    error = root_cause(group)
    assert isinstance(error, AsyncCopyError)
    return error


def work() -> int:
    """Work until the parent is gone; the exit code."""
    logs.configure()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_work(socket.socket(fileno=os.dup(0))))
