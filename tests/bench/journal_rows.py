"""Writes a journal as a copy would, and prints what it took as JSON. Run by ``journal``.

Arguments: ``whole``, ``last`` or ``packed`` (what is measured), how many rows, the directory to write in, and how many
files a directory of the tree has, by which the rows and ``PAGE`` can be divided.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from random import Random
from uuid import UUID

import uvloop

from asynccopy.journal import Directory, Journal, PendingFile
from asynccopy.model import Attributes, Evidence, FileStatus

PAGE = 1000
LISTERS = 8
FINISHED = 100_000
"""At most so many rows are reported done."""
LOOKED_UP = 500
"""Files asked for by their paths."""
EVIDENCE = Evidence("checksum", "MD5-of-0MD5-of-512CRC32C:" + "0" * 32, "CRC32C:00000000", "0" * 32)

Worker = Callable[[], Coroutine[object, object, None]]


async def main(what: str, rows: int, directory: Path, page: int) -> list[dict[str, object]]:
    journal = await Journal.open(directory / "journal", source="webhdfs://host/a", destination="s3://bucket/b")
    try:
        if what == "packed":
            return await _packed(journal, rows, page)
        return await {"whole": _whole, "last": _last}[what](journal, rows)
    finally:
        await journal.close()


async def _whole(journal: Journal, rows: int) -> list[dict[str, object]]:
    directories = iter(await _directories(journal, rows))
    found = [await _timed("record listing pages", rows, LISTERS, _lister(journal, directories))]
    pending = await journal.pending(0, min(rows, 2 * FINISHED))
    half = len(pending) // 2
    found.append(await _timed("done, 64 files in flight", half, 64, _finisher(journal, iter(pending[:half]))))
    rest = len(pending) - half
    found.append(await _timed("done, 1,000 files in flight", rest, 1000, _finisher(journal, iter(pending[half:]))))
    found.append(await _timed("export the ledger", rows, 1, _exporter(journal)))
    return found


async def _last(journal: Journal, rows: int) -> list[dict[str, object]]:
    """The last rows listed, and as many done, when all the others are there."""
    directories = await _directories(journal, rows)
    measured = min(rows, FINISHED)
    before, last = iter(directories[: -measured // PAGE]), iter(directories[-measured // PAGE :])
    if rows > measured:
        await _timed("others", rows - measured, LISTERS, _lister(journal, before))
    found = [await _timed("listed", measured, LISTERS, _lister(journal, last))]
    pending = await journal.pending(0, measured)
    found.append(await _timed("done", measured, 1000, _finisher(journal, iter(pending))))
    return found


async def _timed(what: str, rows: int, workers: int, work: Worker) -> dict[str, object]:
    wall, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(work(), name=f"{what} {number}")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"what": what, "rows_per_second": rows / wall, "cpu_us_per_row": cpu / rows * 1e6}


async def _directories(journal: Journal, rows: int, page: int = PAGE) -> list[Directory]:
    await journal.begin_pass("")
    return await _directories_again(journal, rows, page)


async def _directories_again(journal: Journal, rows: int, page: int) -> list[Directory]:
    [root] = await journal.pending_directories(1)
    names = [f"warehouse.db-some_table-year=2026-month=01-day={number:06}" for number in range(rows // page)]
    await journal.record_page(root.id, [], [FileStatus(name, 0, 0, 0, True) for name in names], None)
    return await journal.pending_directories(len(names))


def _lister(journal: Journal, directories: Iterator[Directory]) -> Worker:
    async def work() -> None:
        for directory in directories:
            await journal.record_page(directory.id, list(_page(directory)), [], None)

    return work


def _page(directory: Directory) -> Iterator[FileStatus]:
    for number in range(PAGE):
        name = f"part-{number:05}-0b1e5c2c-7d3f-4d5e-9a8b-c0ffee000000.snappy.parquet"
        path = f"{directory.path}/{name}"
        time = 1_700_000_000_000 + number
        attributes = Attributes("hive", "hadoop", 0o644, time, 3)
        yield FileStatus(path, 20_000_000 + number, time, number, False, 128 << 20, attributes)


def _finisher(journal: Journal, rows: Iterator[PendingFile]) -> Worker:
    async def work() -> None:
        for row in rows:
            assert await journal.done(row.id, row.status.version, EVIDENCE)

    return work


async def _packed(journal: Journal, rows: int, page: int) -> list[dict[str, object]]:
    """What real-looking files take, as rows and packed, and what asking for them costs in either state."""
    dice = Random(rows)
    await _filled(journal, rows, page, dice)
    found: list[dict[str, object]] = [{"what": "rows"} | await _asked(journal, rows, page, dice)]
    most = 0.0
    wall, cpu = time.perf_counter(), time.process_time()
    while True:
        begun = time.process_time()
        if not await journal.pack(age=0):
            break
        most = max(most, time.process_time() - begun)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found.append({"what": "packed"} | await _asked(journal, rows, page, dice))
    found.append({"files_per_second": rows / wall, "cpu_us_per_file": cpu / rows * 1e6, "most_ms": most * 1000})
    return found


async def _filled(journal: Journal, rows: int, page: int, dice: Random) -> None:
    """All done, each directory written by one job in ten minutes."""
    directories = await _directories(journal, rows, page)
    at_once = PAGE // page
    for start in range(0, len(directories), at_once):
        async with asyncio.TaskGroup() as group:
            for directory in directories[start : start + at_once]:
                listed = list(_realistic(directory, page))
                group.create_task(journal.record_page(directory.id, listed, [], None), name=directory.path)
        async with asyncio.TaskGroup() as group:
            for row in await journal.pending(0, PAGE):
                evidence = Evidence(
                    "checksum",
                    f"MD5-of-0MD5-of-512CRC32C:{dice.randbytes(16).hex()}",
                    f"CRC32C:{dice.randbytes(4).hex()}",
                    dice.randbytes(16).hex(),
                )
                group.create_task(journal.done(row.id, row.status.version, evidence), name=row.status.path)
    await journal.finish_pass(True)


def _realistic(directory: Directory, page: int) -> Iterator[FileStatus]:
    dice = Random(directory.path)
    job = UUID(int=dice.getrandbits(128))
    start, inode = 1_700_000_000_000 + dice.randrange(1 << 34), dice.randrange(1 << 30)
    for number in range(page):
        path = f"{directory.path}/part-{number:05}-{job}-c000.snappy.parquet"
        length = int(dice.lognormvariate(16.6, 0.6))  # 20 MB mean
        time = start + dice.randrange(600_000)
        attributes = Attributes("hive", "hadoop", 0o644, time, 3)
        yield FileStatus(path, length, time, inode + number + dice.randrange(99), False, 128 << 20, attributes)


async def _asked(journal: Journal, rows: int, page: int, dice: Random) -> dict[str, object]:
    """Bytes of a file, and what an unchanged page, a look-up and the ledger cost. The pass is begun and never ends."""
    size = await journal._reader.read(_used)
    await journal.begin_pass("", "full")
    directories = await _directories_again(journal, rows, page)
    pages = [list(_realistic(directory, page)) for directory in directories]

    async def met() -> None:
        for directory, files in zip(directories, pages, strict=True):
            assert (await journal.record_page(directory.id, files, [], None)).unchanged_files == page

    listed = await _timed("page", rows, 1, met)
    await journal.finish_pass(True)
    paths = [dice.choice(dice.choice(pages)).path for _ in range(LOOKED_UP)]

    async def looked_up() -> None:
        for path in paths:
            assert await journal.row(path) is not None

    asked = await _timed("look-up", LOOKED_UP, 1, looked_up)
    exported = await _timed("export", rows, 1, _exporter(journal))
    return {
        "bytes_per_file": size / rows,
        "us_per_listed": listed["cpu_us_per_row"],
        "us_per_look_up": asked["cpu_us_per_row"],
        "us_per_exported": exported["cpu_us_per_row"],
    }


def _used(connection: sqlite3.Connection) -> int:
    """Bytes of the journal's pages that hold something."""
    pages, free, size = (
        connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _exporter(journal: Journal) -> Worker:
    async def work() -> None:
        async for _ in journal.ledger():
            pass

    return work


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))))
