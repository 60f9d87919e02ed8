"""The composition root: a mirror made of what the configuration says of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec

from asynccopy.config import Config, MirrorConfig, split_place
from asynccopy.daemon.events import Events
from asynccopy.daemon.kept import Kept
from asynccopy.daemon.limits import Common
from asynccopy.errors import JournalError, UsageError
from asynccopy.executors.cores import most_ranges
from asynccopy.executors.inline import Executor
from asynccopy.executors.recipe import Recipe, Watch, inline
from asynccopy.journal import Journal, Kind, Listed
from asynccopy.metrics import NAMENODE, SCAN, STORE
from asynccopy.mirror.deletions import Handling
from asynccopy.mirror.mirror import CopyOptions
from asynccopy.mirror.rules import Rules
from asynccopy.mirror.schedule import Cadence
from asynccopy.mirror.selection import Selection
from asynccopy.mirror.watch import Watcher
from asynccopy.storage.budget import Budget
from asynccopy.storage.interface import Destination, Source
from asynccopy.storage.limited import Bandwidth, Share
from asynccopy.storage.registry import NameNodes, Stores, open_destination, open_source
from asynccopy.storage.settings import Settings


def ranges(config: Config) -> int:
    """In flight over all mirrors."""
    asked = config.daemon.concurrency
    return asked if isinstance(asked, int) else most_ranges()


def rules(mirror: MirrorConfig) -> Rules:
    return Rules(
        selection=Selection(
            include=mirror.include,
            exclude=mirror.exclude,
            include_regex=mirror.include_regex,
            exclude_regex=mirror.exclude_regex,
            min_size=mirror.min_size,
            max_size=mirror.max_size,
            modified_after=mirror.newer_than,
            modified_before=mirror.older_than,
            empty_directories=mirror.empty_directories,
        ),
        options=CopyOptions(
            verify=mirror.verify,
            concurrency=mirror.concurrency if isinstance(mirror.concurrency, int) else None,
            part_size=mirror.part_size,
            preserving=bool(mirror.preserve),
        ),
        watch=mirror.watch,
        cadence=Cadence(mirror.interval, mirror.full_scan_interval),
        settle=mirror.settle,
        handling=Handling(mirror.deletions, mirror.max_delete, mirror.trash),
        order=mirror.order,
    )


async def open_sides(
    config: Config,
    mirror: MirrorConfig,
    bandwidths: tuple[Bandwidth | Share, ...] = (),
    asked: Callable[[float], None] | None = None,
    namenodes: NameNodes | None = None,
    stores: Stores | None = None,
) -> tuple[Source, Destination]:
    """Both sides of a mirror; nothing is contacted yet. ``asked`` is told how long each request to a NameNode took;
    ``namenodes`` and ``stores``: shared by all mirrors of a daemon.

    Raises UsageError.
    """
    settings = Settings(
        concurrency=most_concurrency(mirror),
        preserve=mirror.preserve,
        file_checksums=mirror.verify == "checksum",
    )
    url, reading = config.place(mirror.source)
    there = msgspec.structs.replace(settings, **reading)
    source = open_source(url, there, bandwidths, latency=asked, namenodes=namenodes, stores=stores)
    try:
        url, writing = config.place(mirror.destination)
        there = msgspec.structs.replace(settings, **writing)
        return source, open_destination(url, there, latency=STORE.observe, namenodes=namenodes, stores=stores)
    except UsageError:
        await source.aclose()
        raise


class _Witness:
    """Who looks on at one mirror: people, and the metrics."""

    def __init__(self, events: Events, name: str) -> None:
        self._name = name
        self.told = events.teller(name)
        self.settled = partial(events.settled, name)
        self.requests = 0

    def asked(self, seconds: float) -> None:
        self.requests += 1
        NAMENODE.observe(seconds)

    def passed(self, kind: Kind, seconds: float) -> None:
        SCAN.of(self._name, kind).observe(seconds)


def most_concurrency(mirror: MirrorConfig) -> int:
    return mirror.concurrency if isinstance(mirror.concurrency, int) else most_ranges()


class Builder:
    """Makes mirrors that share what is to be shared: the bandwidth of the daemon and of each endpoint, and
    how much a NameNode or a store that throttles is asked.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._common: dict[str, Common] = {}
        self._namenodes = NameNodes()
        self._stores = Stores()

    def pace(self, config: Config) -> None:
        """Let the shared bandwidths be what they are to be now."""
        now = datetime.now().astimezone()
        tables = {"": config.daemon.bandwidth} | {name: each.bandwidth for name, each in config.endpoints.items()}
        for name, table in tables.items():
            owner = f"[endpoints.{name}]" if name else "[daemon]"
            self._common.setdefault(name, Common(owner)).pace(table, now)

    async def keep(self, config: Config, name: str) -> Kept:
        """A mirror, with nothing contacted yet. Raises UsageError."""
        mirror = config.mirrors[name]
        self.pace(config)
        own = Bandwidth()
        portions = [self._common[each].share(mirror.priority) for each in (*endpoints(config, mirror), "")]
        witness = _Witness(self._events, name)
        stores = Stores(self._stores)
        source, destination = await open_sides(
            config, mirror, (own, *(portion.share for portion in portions)), witness.asked, self._namenodes, stores
        )
        path = journal_path(config, name, source.url, destination.url)
        holder: list[Kept] = []

        def build(recipe: Recipe, reading: Source, writing: Destination, watch: Watch) -> Executor:
            holder[0].ranges = budget = Budget(recipe.concurrency)
            return inline(recipe, reading, writing, watch, holder[0].allowed, budget)

        async def opened(order: Listed) -> Journal:
            journal = await open_journal(path, source.url, destination.url, order)
            try:
                await holder[0].recall(journal)  # before anything is copied
            except BaseException:
                await journal.close()
                raise
            return journal

        watcher = Watcher(
            source,
            destination,
            opened,
            rules(mirror),
            build,
            witness,
        )
        kept = Kept(
            name,
            watcher,
            own,
            portions,
            mirror.bandwidth,
            most_concurrency(mirror),
            partial(_close, source, destination),
            (source.url, destination.url),
            stores,
        )
        holder.append(kept)
        return kept

    def alter(self, config: Config, kept: Kept) -> None:
        """What may change while a mirror runs."""
        mirror = config.mirrors[kept.name]
        kept.watcher.change(rules(mirror))
        kept.unlimit(mirror.bandwidth, most_concurrency(mirror), mirror.priority)


def endpoints(config: Config, mirror: MirrorConfig) -> list[str]:
    """The names of the endpoints that a mirror stands between, each once."""
    names = (split_place(text)[0] for text in (mirror.source, mirror.destination))
    return list(dict.fromkeys(name for name in names if name is not None))


def journal_path(config: Config, name: str, source: str, destination: str) -> Path:
    """By the mirror's name, for people, and by what it copies: a mirror with other sides has another journal."""
    identity = hashlib.sha256(f"{source}\0{destination}".encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return Path(config.daemon.state or "") / f"{name}.{identity}.journal"


async def open_journal(path: Path, source: str, destination: str, order: Listed) -> Journal:
    """The journal, its folder made where it is missing. Raises JournalError, UsageError."""
    try:
        await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(
            f"{path.parent} cannot be made: {error.strerror}", hint="choose another [daemon] state"
        ) from error
    return await Journal.open(path, source=source, destination=destination, order=order)


async def _close(source: Source, destination: Destination) -> None:
    try:
        await destination.aclose()
    finally:
        await source.aclose()
