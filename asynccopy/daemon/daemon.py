"""The daemon: several mirrors kept at once, watched and steered by people and by the service manager."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from msgspec import UnsetType
from msgspec.structs import replace

from asynccopy import __version__
from asynccopy.config import Changes, Config, changed
from asynccopy.control.api import Rate
from asynccopy.control.messages import (
    DaemonStatus,
    Deletions,
    Event,
    FailedFile,
    MirrorDetail,
    MirrorStatus,
)
from asynccopy.daemon.build import Builder, endpoints, ranges
from asynccopy.daemon.events import Events
from asynccopy.daemon.kept import Kept
from asynccopy.daemon.shares import shares
from asynccopy.daemon.systemd import LoopLag
from asynccopy.errors import AsyncCopyError, UsageError, root_cause

LOOK: Final = 2.0
"""Seconds between two looks at the mirrors"""
SILENCE: Final = 60.0
"""Seconds without a finished look after which the daemon does not call itself alive"""


class Daemon:
    """The ``Controller``. ``load`` reads the configuration anew; ``total``: ranges in flight over all mirrors."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        builder: Builder,
        events: Events,
        total: int,
    ) -> None:
        self.config = config
        self._load = load
        self._builder = builder
        self._events = events
        events.files = config.daemon.file_events
        self._ranges = total
        self._kept: dict[str, Kept] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._next: dict[str, Kept | None] = {}  # what follows a mirror that ends; None: nothing
        self._group: asyncio.TaskGroup | None = None
        self._started = time.time()
        self._draining = asyncio.Event()
        self._looked = time.monotonic()
        self._reloading = asyncio.Lock()
        self.lag = LoopLag()

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self, ready: Callable[[], None], stopping: Callable[[], None]) -> None:
        """Keep all mirrors until drained. ``ready`` is called when they have begun, ``stopping`` at the drain."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for kept in await self._make(self.config, self.config.mirrors):
                    self._begin(kept)
                looking = group.create_task(self._look(), name="look")
                lagging = group.create_task(self.lag.run(), name="loop lag")
                ready()
                await self._draining.wait()
                stopping()
                for kept in self._kept.values():
                    kept.watcher.drain()
                if self._running:
                    await asyncio.wait(list(self._running.values()))
                looking.cancel()
                lagging.cancel()
        except BaseExceptionGroup as failures:
            raise root_cause(failures) from None

    def _begin(self, kept: Kept) -> None:
        assert self._group is not None
        self._running[kept.name] = self._group.create_task(self._run(kept), name=f"mirror {kept.name}")

    async def _run(self, kept: Kept | None) -> None:
        """A mirror, and what a new configuration puts in its place once its ranges in flight are finished."""
        while kept is not None:
            name = kept.name
            kept.fair = partial(self._fair, name)
            self._kept[name] = kept
            try:
                if not self._draining.is_set():
                    await kept.watcher.run()
            finally:
                await kept.aclose()
            if name not in self._next:
                return
            former, kept = kept, self._next.pop(name)
            if kept is None:
                del self._kept[name], self._running[name]
            else:
                kept.follow(former)

    async def _make(self, config: Config, names: Iterable[str]) -> list[Kept]:
        """Mirrors that have not begun. Raises UsageError, and has made none then."""
        made: list[Kept] = []
        try:
            for name in names:
                made.append(await self._builder.keep(config, name))  # noqa: PERF401  # those already made must be closed
        except BaseException:
            for kept in made:
                await kept.aclose()
            raise
        return made

    async def _end(self, name: str, following: Kept | None) -> None:
        """Let a mirror finish its ranges in flight, and another follow it, or none."""
        unbegun = self._next.get(name)
        self._next[name] = following
        self._kept[name].watcher.drain()
        if unbegun is not None:
            await unbegun.aclose()

    async def _look(self) -> None:
        while True:
            for kept in list(self._kept.values()):
                await kept.look()
            self._builder.pace(self.config)
            self._looked = time.monotonic()
            await asyncio.sleep(LOOK)

    def _fair(self, name: str) -> int:
        """Ranges in flight go to those that copy, each endpoint's among those that stand at it: a mirror's part of them
        as soon as it copies.
        """
        config = self.config
        copying = {
            each: config.mirrors[each].priority
            for each, kept in self._kept.items()
            if each in config.mirrors and (each == name or kept.watcher.state == "copying")
        }
        caps = [shares(self._ranges, copying)]
        for at, endpoint in config.endpoints.items():
            if endpoint.concurrency is not None:
                there = {each: copying[each] for each in copying if at in endpoints(config, config.mirrors[each])}
                caps.append(shares(endpoint.concurrency, there))
        return min(cap.get(name, self._ranges) for cap in caps)

    def alive(self) -> bool:
        """Whether the journals have answered lately; that the loop turns is proven by asking."""
        return time.monotonic() - self._looked < SILENCE

    def tell_status(self) -> str:
        """One line for the service manager."""
        states: dict[str, int] = {}
        for kept in self._kept.values():
            states[kept.watcher.state] = states.get(kept.watcher.state, 0) + 1
        return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no mirrors"

    def looks(self) -> list[tuple[MirrorStatus, int | None]]:
        """Each mirror, and the files of it that had failed before the daemon started (None: not known yet)."""
        return [(kept.status(), kept.failed_before) for kept in self._kept.values()]

    # --- Controller --------------------------------------------------------------------------------------------------

    def status(self) -> DaemonStatus:
        return DaemonStatus(
            version=__version__,
            pid=os.getpid(),
            started=int(self._started * 1000),
            config=self.config.source,
            state="draining" if self._draining.is_set() else "running",
            loop_lag=self.lag.worst,
            rss=resident(),
            mirrors=tuple(kept.status() for kept in self._kept.values()),
        )

    async def detail(self, name: str) -> MirrorDetail:
        return await self._one(name).detail()

    async def errors(self, name: str, error_class: str | None, limit: int) -> Sequence[FailedFile]:
        return await self._one(name).errors(error_class, limit)

    def events(self, after: int, limit: int) -> Sequence[Event]:
        return self._events.after(after, limit)

    async def pause(self, name: str | None) -> None:
        for kept in self._some(name):
            await kept.watcher.pause()
            self._events.tell(kept.name, "info", "paused")

    async def resume(self, name: str | None) -> None:
        for kept in self._some(name):
            await kept.watcher.resume()
            self._events.tell(kept.name, "info", "resumed")

    async def retry(self, name: str | None) -> int:
        return sum([await kept.watcher.retry() for kept in self._some(name)])

    async def scan(self, name: str | None) -> None:
        for kept in self._some(name):
            kept.watcher.scan()

    async def limit(self, name: str, *, bandwidth: Rate, concurrency: int | UnsetType | None) -> None:
        await self._one(name).limit(bandwidth=bandwidth, concurrency=concurrency)

    async def drain(self) -> None:
        self.begin_drain()

    def begin_drain(self) -> None:
        self._draining.set()

    async def deletions(self, name: str, limit: int) -> tuple[Deletions, Sequence[str]]:
        return await self._one(name).planned(limit)

    async def confirm_deletions(self, name: str, count: int) -> None:
        await self._one(name).confirm(count)

    async def reload(self) -> Sequence[str]:
        """A mirror that must be made anew finishes its ranges first, without being waited for, and goes on from its
        journal.
        """
        async with self._reloading:
            try:
                new = await asyncio.to_thread(self._load)
                if self._draining.is_set():
                    raise UsageError("the daemon is about to end", hint="its next start reads the new configuration")
                difference = changed(self.config, new)
                # What holds after a restart does not hold now, for no mirror: its journal lies where the others' do.
                running = {key: getattr(self.config.daemon, key) for key in difference.restart}
                new = replace(new, daemon=replace(new.daemon, **running))
                # refused before anything has changed
                made = await self._make(new, (*difference.added, *difference.rebuilt))
            except AsyncCopyError as error:
                self._events.tell("", "error", f"the configuration is refused, the old one goes on: {error.message}")
                raise
            self.config, self._ranges = new, ranges(new)
            self._events.files = new.daemon.file_events
            for name in difference.live:
                self._builder.alter(new, self._next.get(name) or self._kept[name])
            for kept in made:
                if kept.name in self._running:
                    await self._end(kept.name, kept)
                else:
                    self._begin(kept)
            for name in difference.removed:
                await self._end(name, None)
            self._builder.pace(new)
            lines = told(difference)
        for line in lines:
            self._events.tell("", "info", f"configuration: {line}")
        return lines

    def _one(self, name: str) -> Kept:
        kept = self._kept.get(name)
        if kept is None:
            raise UsageError(f"there is no mirror {name!r}", hint=f"mirrors: {', '.join(self._kept) or 'none'}")
        return kept

    def _some(self, name: str | None) -> Iterable[Kept]:
        return list(self._kept.values()) if name is None else [self._one(name)]


def told(changes: Changes) -> list[str]:
    """A line for each thing that a new configuration changes."""
    lines = [f"mirror {name}: added" for name in changes.added]
    lines += [f"mirror {name}: removed" for name in changes.removed]
    lines += [f"mirror {name}: {', '.join(keys)}" for name, keys in changes.live.items()]
    lines += [f"mirror {name}: {', '.join(keys)}: begun anew" for name, keys in changes.rebuilt.items()]
    lines += [f"endpoint {name}: caps" for name in changes.endpoints]
    lines += [f"daemon: {key}" for key in changes.daemon]
    lines += [f"daemon: {key}: holds after a restart" for key in changes.restart]
    return lines + (["webhooks: hold after a restart"] if changes.webhooks else [])


def resident() -> int:
    """Bytes of memory in use by this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
