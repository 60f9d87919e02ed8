"""One job as the command line names it: two sides opened, and where its journal lies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from asynccopy.cli.endpoints import resolve
from asynccopy.config import load, state_directory
from asynccopy.config.places import ground
from asynccopy.errors import JournalError, UsageError
from asynccopy.journal import JournalReader
from asynccopy.storage.interface import Destination, Source
from asynccopy.storage.registry import NameNodes, Stores, open_destination, open_source
from asynccopy.storage.settings import Place, Settings

MAPPING: Final = "contents"
"""How source paths become keys: the contents of the source directory go below the destination prefix."""


class Sides(Struct):
    """Both ends of a job, open, and where they are, for a process that opens them itself.

    ``stores``: what knows of those of them that throttle.
    """

    source: Source
    destination: Destination
    source_place: Place
    destination_place: Place
    namenodes: NameNodes
    stores: Stores


@asynccontextmanager
async def open_sides(
    source: str, destination: str, config: Path | None, settings: Settings, objects: Mapping[str, object] | None = None
) -> AsyncIterator[Sides]:
    """Open what the two arguments mean, and close it at the end. Talks to nobody yet. Raises UsageError.

    ``objects``: fields of ObjectOptions that go before what the destination's endpoint says.
    """
    names = None if config is None else load(config)
    source, reading_settings = resolve(source, names, settings)
    namenodes, stores = NameNodes(), Stores()
    reading = open_source(source, reading_settings, namenodes=namenodes, stores=stores)
    try:
        destination, writing_settings = resolve(destination, names, settings)
        writing_settings = replace(writing_settings, objects=replace(writing_settings.objects, **(objects or {})))
        writing = open_destination(destination, writing_settings, namenodes=namenodes, stores=stores)
    except BaseException:
        await reading.aclose()
        raise
    try:
        _check_apart(reading, writing)
        yield Sides(
            reading,
            writing,
            _place(source, reading.url, reading_settings),
            _place(destination, writing.url, writing_settings),
            namenodes,
            stores,
        )
    finally:
        try:
            await writing.aclose()
        finally:
            await reading.aclose()


def _check_apart(reading: Source, writing: Destination) -> None:
    """Raises UsageError for a destination that is the source, or lies in it: each run would copy what the last one
    wrote. Buckets of one name at different addresses are two.
    """
    originals, copies = reading.originals, writing.copies
    if originals is not None and copies is not None:
        here, there = (store.partition(" ")[0] for store in (originals.store, copies.store))
        if here != there:
            return
    if reading.url == writing.url:
        raise UsageError(f"SOURCE and DESTINATION are the same: {reading.url}")
    if ground(reading.url).holds(ground(writing.url)):
        raise UsageError(
            f"DESTINATION lies in SOURCE: {writing.url} in {reading.url}",
            hint="each run would copy what the last one wrote; write beside the source",
        )


def _place(given: str, url: str, settings: Settings) -> Place:
    """A local path by its URL, which is valid Unicode whatever the path holds."""
    return Place(url if url.startswith("file:") else given, settings)


@asynccontextmanager
async def open_ledger(given: Path | None, sides: Sides) -> AsyncIterator[JournalReader | None]:
    """The job's journal to read, None while it has none."""
    path = journal_path(given, sides.source.url, sides.destination.url)
    if not path.exists():
        yield None
        return
    ledger = await JournalReader.read(path)
    try:
        yield ledger
    finally:
        await ledger.close()


def journal_path(given: Path | None, source: str, destination: str) -> Path:
    """Where the journal lies: as given, else by the job's identity in XDG_STATE_HOME. The folder is not made."""
    if given is not None:
        return given
    identity = hashlib.sha256("\0".join((source, destination, MAPPING)).encode("utf-8", "surrogateescape")).hexdigest()
    return _state() / f"{identity[:16]}.journal"


def make_journal_directory(path: Path) -> None:
    """Make the default folder where it is missing, for the user alone. Raises JournalError."""
    if path.parent != _state():
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(
            f"{path.parent} cannot be made: {error.strerror}", hint="set XDG_STATE_HOME, or name a file with --journal"
        ) from error


def _state() -> Path:
    """Without $STATE_DIRECTORY, which is the service's. Raises UsageError."""
    return state_directory({"XDG_STATE_HOME": os.environ.get("XDG_STATE_HOME", "")})
