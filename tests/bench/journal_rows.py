"""Writes a journal as a copy would, and prints what it took as JSON. Run by ``journal``.

Arguments: ``whole`` or ``last`` (what is measured), how many rows, the directory to write in.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import uvloop

from asynccopy.journal import Directory, Journal, PendingFile
from asynccopy.model import Evidence, FileStatus

PAGE = 1000
LISTERS = 8
FINISHED = 100_000
"""At most so many rows are reported done."""
EVIDENCE = Evidence("checksum", "MD5-of-0MD5-of-512CRC32C:" + "0" * 32, "CRC32C:00000000", "0" * 32)

Worker = Callable[[], Coroutine[object, object, None]]


async def main(what: str, rows: int, directory: Path) -> list[dict[str, object]]:
    journal = await Journal.open(directory / "journal", source="webhdfs://host/a", destination="s3://bucket/b")
    try:
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


async def _directories(journal: Journal, rows: int) -> list[Directory]:
    await journal.begin_pass("")
    [root] = await journal.pending_directories(1)
    names = [f"warehouse.db-some_table-year=2026-month=01-day={number:06}" for number in range(rows // PAGE)]
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
        yield FileStatus(path, 20_000_000 + number, 1_700_000_000_000 + number, number, False, 128 << 20)


def _finisher(journal: Journal, rows: Iterator[PendingFile]) -> Worker:
    async def work() -> None:
        for row in rows:
            assert await journal.done(row.id, row.status.version, EVIDENCE)

    return work


def _exporter(journal: Journal) -> Worker:
    async def work() -> None:
        async for _ in journal.ledger():
            pass

    return work


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))))
