"""Bandwidth, as a wrapper around a Source: what is not read faster is not written faster either."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

from asynccopy.model import ByteRange, Change, FileChecksum, FileStatus, ListPage
from asynccopy.storage.interface import Originals, Reader, Snapshots, Source

_BURST: Final = 0.25
"""Seconds' worth of the rate that may pass at once after a silence."""
_TICK: Final = 0.001
"""Seconds: what a loop's timers can tell apart. Asking more often would only burn the processor."""


class Wish:
    """A read that waits until it may pass."""

    __slots__ = ("passed", "size")

    def __init__(self, size: int, passed: asyncio.Future[None]) -> None:
        self.size = size
        self.passed = passed


class Share:
    """One user of a Bandwidth that several share: a mirror. ``weight`` may change at any time.

    Among those who wait for the Bandwidth each gets what its weight is of all their weights; one alone gets all.
    """

    __slots__ = ("_bandwidth", "clock", "waiting", "weight")

    def __init__(self, bandwidth: Bandwidth, weight: float) -> None:
        self._bandwidth = bandwidth
        self.weight = weight
        self.clock = 0.0
        self.waiting: deque[Wish] = deque()

    @property
    def held(self) -> bool:
        return self._bandwidth.held

    async def take(self, size: int) -> None:
        """Wait until ``size`` bytes may pass."""
        await self._bandwidth.admit(self, size)


class FairQueue:
    """Who is next, among shares that wait. Pure: start-time fair queueing.

    A share's clock goes on by size / weight with every wish that is served, and the one furthest behind is served
    next. Who comes back from doing nothing begins where the others are: an idle time is not saved up.
    """

    __slots__ = ("_clock", "_hungry")

    def __init__(self) -> None:
        self._clock = 0.0
        self._hungry: list[Share] = []

    def __bool__(self) -> bool:
        return bool(self._hungry)

    def push(self, share: Share, wish: Wish) -> None:
        if not share.waiting:
            share.clock = max(share.clock, self._clock)
            self._hungry.append(share)
        share.waiting.append(wish)

    def pop(self) -> Wish:
        """The next wish, charged to its share."""
        share = min(self._hungry, key=lambda each: each.clock)
        wish = share.waiting.popleft()
        self._clock = share.clock
        share.clock += wish.size / share.weight
        self._leave(share)
        return wish

    def withdraw(self, share: Share, wish: Wish) -> None:
        """Take back a wish, unless it was served in the very moment."""
        if wish in share.waiting:
            share.waiting.remove(wish)
            self._leave(share)

    def _leave(self, share: Share) -> None:
        if not share.waiting:
            self._hungry.remove(share)


class Bandwidth:
    """A token bucket of ``rate`` bytes per second that lets a quarter of a second's worth pass at once.

    None: no limit. 0: nothing passes until the rate changes. It may be overdrawn: a read larger than the bucket
    passes, and the next ones wait for it. A new ``rate`` holds at once, also for those who wait already.
    """

    def __init__(self, rate: float | None = None) -> None:
        self._rate = rate
        self._credit = 0.0 if not rate else rate * _BURST
        self._counted = 0.0  # when the credit was right; 0: not used yet
        self._queue = FairQueue()
        self._timer: asyncio.TimerHandle | None = None
        self._whole = Share(self, 1.0)
        self.held = False
        """Whether nothing is to begin; what has begun passes all the same. Who begins reads looks at it."""

    def pace(self, rate: float | None) -> None:
        """This rate from now on. 0 holds what has not begun, and lets the rest pass at the former rate: a read that
        stops half-way keeps connections waiting that would not outlast an hour.
        """
        self.held = rate == 0
        if not self.held and self._rate != rate:
            self.rate = rate

    def share(self, weight: float) -> Share:
        """A part of it for one of several users."""
        return Share(self, weight)

    @property
    def rate(self) -> float | None:
        return self._rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        """To be set on the event loop that uses it, or before it is used."""
        if self._counted:
            self._count()
        if self._rate is None:
            self._credit = 0.0
        self._rate = rate
        self._hand_out()

    async def take(self, size: int) -> None:
        """Wait until ``size`` bytes may pass."""
        await self.admit(self._whole, size)

    async def admit(self, share: Share, size: int) -> None:
        """Wait until ``size`` bytes of a share may pass."""
        if self._rate is None:
            return
        wish = Wish(size, asyncio.get_running_loop().create_future())
        self._queue.push(share, wish)
        self._hand_out()
        if wish.passed.done():
            return
        try:
            await wish.passed
        except asyncio.CancelledError:
            if wish.passed.cancelled():
                self._queue.withdraw(share, wish)
            else:
                self._credit += size  # let pass in the very moment: those bytes are not read
                self._hand_out()
            raise

    def _hand_out(self) -> None:
        """Let pass what may, and come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._queue or self._rate == 0:
            return
        self._count()
        while self._queue and (self._rate is None or self._credit >= 0):
            wish = self._queue.pop()
            if not wish.passed.done():  # else it was cancelled, and its task has yet to notice
                self._credit -= wish.size
                wish.passed.set_result(None)
        if self._queue and self._rate is not None:
            delay = max(_TICK, -self._credit / self._rate)
            self._timer = asyncio.get_running_loop().call_later(delay, self._hand_out)

    def _count(self) -> None:
        """Add what came in since the last time."""
        now = asyncio.get_running_loop().time()
        if self._rate:
            self._credit = min(self._rate * _BURST, self._credit + self._rate * (now - self._counted))
        self._counted = now


class LimitedSource:
    """A Source whose reads pass when all of the bandwidths let them.

    They are asked in their order, so the narrowest circle comes first: what waits for a mirror's own limit does not
    count as hungry where several mirrors share one.
    """

    def __init__(self, source: Source, bandwidths: Sequence[Bandwidth | Share]) -> None:
        self._source = source
        self._bandwidths = tuple(bandwidths)
        self.url = source.url
        self.name = source.name

    async def check(self) -> FileStatus:
        return await self._source.check()

    async def status(self, path: str) -> FileStatus:
        return await self._source.status(path)

    async def list(self, path: str, after: str = "") -> ListPage:
        return await self._source.list(path, after)

    async def open(self, path: str, range: ByteRange) -> Reader:
        return _LimitedReader(await self._source.open(path, range), range.length, self._bandwidths)

    async def checksum(self, path: str) -> FileChecksum | None:
        return await self._source.checksum(path)

    async def block_lengths(self, path: str) -> Sequence[int] | None:
        return await self._source.block_lengths(path)

    async def is_open(self, path: str) -> bool:
        return await self._source.is_open(path)

    @property
    def snapshots(self) -> Snapshots | None:
        snapshots = self._source.snapshots
        return None if snapshots is None else LimitedSnapshots(snapshots, self._bandwidths)

    @property
    def originals(self) -> Originals | None:
        return self._source.originals

    async def aclose(self) -> None:
        await self._source.aclose()


class LimitedSnapshots:
    """Snapshots whose frozen trees share the bandwidths of the live one."""

    def __init__(self, snapshots: Snapshots, bandwidths: Sequence[Bandwidth | Share]) -> None:
        self._snapshots = snapshots
        self._bandwidths = bandwidths

    async def names(self) -> list[str] | None:
        return await self._snapshots.names()

    async def create(self, name: str) -> None:
        await self._snapshots.create(name)

    async def delete(self, name: str) -> None:
        await self._snapshots.delete(name)

    def at(self, name: str) -> Source:
        return LimitedSource(self._snapshots.at(name), self._bandwidths)

    def diff(self, older: str, newer: str) -> AsyncIterator[Sequence[Change]]:
        return self._snapshots.diff(older, newer)


class _LimitedReader:
    __slots__ = ("_bandwidths", "_left", "_reader")

    def __init__(self, reader: Reader, length: int, bandwidths: Sequence[Bandwidth | Share]) -> None:
        self._reader = reader
        self._left = length
        self._bandwidths = bandwidths

    async def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), self._left)
        for bandwidth in self._bandwidths:
            await bandwidth.take(size)
        count = await self._reader.readinto(buffer)
        self._left -= count
        return count

    def close(self) -> None:
        self._reader.close()
