"""Uploads that a killed run has left at a store: a job aborts its own, and never anybody else's."""

from __future__ import annotations

import asyncio
from time import time_ns

from asynccopy.journal import Journal
from asynccopy.mirror.mirror import CopyOptions, Mirror
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.model import MIB, OpenUpload
from asynccopy.storage.interface import Destination
from asynccopy.storage.memory import MemorySource
from asynccopy.transfer.uploads import intent
from tests.suites.destination import send

LARGE = bytes(6 * MIB)


async def orphans(destination: Destination, journal: Journal) -> None:
    """``destination`` is a prefix that is not its bucket's root. Raises AssertionError."""
    prefix = destination.prefix
    assert prefix
    source = MemorySource({"asked-for": LARGE, "gone": LARGE, "later": LARGE, "small": b"1"})
    job = Mirror(
        source,
        destination,
        journal,
        selection=Selection(),
        options=CopyOptions(part_size=5 * MIB),
        stop=asyncio.Event(),
        progress=Progress(),
    )
    rows = {status.path: status async for status in job.plan()}
    ids = {row.status.path: row.id for row in await journal.pending(0, 10)}
    # Killed between the request for an upload and its reply, and after it; then the second file went.
    await journal.begin_upload(ids["asked-for"], OpenUpload(intent(), 5 * MIB, rows["asked-for"].version))
    await destination.create_upload(f"{prefix}asked-for")
    known = await destination.create_upload(f"{prefix}gone")
    await journal.begin_upload(ids["gone"], OpenUpload(known, 5 * MIB, rows["gone"].version))
    # Others began uploads of these very keys: one has sent a part, one came hours after our request was made.
    theirs = await destination.create_upload(f"{prefix}asked-for")
    await send(destination, f"{prefix}asked-for", theirs, 1, 0, LARGE)
    earlier = f"intent:{time_ns() // 1_000_000 - 3_600_000}"
    await journal.begin_upload(ids["later"], OpenUpload(earlier, 5 * MIB, rows["later"].version))
    later = await destination.create_upload(f"{prefix}later")
    others = ("asked-for-by-another", "small", "elsewhere/asked-for")
    foreign = {await destination.create_upload(prefix + name) for name in others}
    foreign |= {await destination.create_upload("asked-for"), theirs, later}

    await journal.finish_pass(complete=False)
    source.remove("gone")
    again = Mirror(
        source,
        destination,
        journal,
        selection=Selection(),
        options=CopyOptions(part_size=5 * MIB),
        stop=asyncio.Event(),
        progress=Progress(),
    )
    await again.copy()
    assert {upload_id for _, upload_id in await destination.list_uploads("")} == foreign
    assert {meta.key for meta in (await destination.list(prefix)).objects} == {
        prefix + name for name in ("asked-for", "later", "small")
    }
