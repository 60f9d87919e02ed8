"""kill -9 while files are packed and unpacked: every file is there once, with its evidence, packed or not."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from asynccopy.journal import Journal
from asynccopy.model import FileState

DIRECTORIES, FILES = 8, 400

# Once lists and finishes a tree of DIRECTORIES * FILES files. Then for ever packs all of it in small steps, and has
# another look at it, for which in every directory one file has changed: so that packs are unpacked, and packed again.
WRITER = """
import asyncio, pathlib, sys
from asynccopy.journal import Journal, packed
from asynccopy.model import *

packed.FULL, packed.WORTH = 50, 10
DIRECTORIES, FILES = map(int, sys.argv[2:])
def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

async def look(journal, generation):
    await journal.begin_pass("")
    while directories := await journal.pending_directories(1):
        (directory,) = directories
        if directory.path:
            changed = generation % FILES
            page = [
                FileStatus(f"{directory.path}/f{n:03}", 1, generation if n == changed else 0, n) for n in range(FILES)
            ]
            await journal.record_page(directory.id, page, [], None)
        else:
            page = [FileStatus(f"d{n}", 0, 1, 1, True) for n in range(DIRECTORIES)]
            await journal.record_page(directory.id, [], page, None)
        say("page")
    async with asyncio.TaskGroup() as group:
        for row in await journal.pending(0, DIRECTORIES * FILES):
            path = row.status.path
            evidence = Evidence("checksum", path, str(row.status.modification_time), path)
            group.create_task(journal.done(row.id, row.status.version, evidence))
    await journal.finish_pass(True)
    say("pass")

async def main():
    journal = await Journal.open(pathlib.Path(sys.argv[1]), source="src", destination="dst")
    generation = int(await journal.recall("generation") or 0)
    while True:
        await look(journal, generation)
        generation += 1
        await journal.remember("generation", str(generation))
        say("generation")
        while await journal.pack(30, age=0):
            say("packed")
asyncio.run(main())
"""


def killed(path: Path, lines: int) -> None:
    command = [sys.executable, "-c", WRITER, str(path), str(DIRECTORIES), str(FILES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for number, _ in enumerate(writer.stdout, 1):
            if number == lines:
                writer.kill()


async def assert_whole(path: Path) -> int:
    """Every file once, done or to be done, the counts right; how many are packed."""
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        (packed,) = raw.execute("SELECT total(files) FROM packed").fetchone()
    journal = await Journal.open(path, source="src", destination="dst")
    try:
        rows = [row async for row in journal.ledger()]
        totals = await journal.totals()
    finally:
        await journal.close()
    assert len({row.path for row in rows}) == len(rows)
    assert {row.path for row in rows} == {f"d{m}/f{n:03}" for m in range(DIRECTORIES) for n in range(FILES)}
    done = [row for row in rows if row.state is FileState.DONE]
    assert totals.done_files == len(done) and totals.done_bytes == len(done)
    assert totals.pending_files + totals.unseen_files == len(rows) - len(done)
    for row in done:
        assert (row.source_checksum, row.object_checksum, row.etag) == (row.path, str(row.modification_time), row.path)
    return int(packed)


def test_kill_while_packing_loses_no_file_and_keeps_none_twice(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    path = tmp_path / "journal"
    killed(path, DIRECTORIES + 3)  # the first pass is over
    packed = [0]
    for _ in range(12):
        killed(path, dice.randrange(1, 250))
        packed.append(asyncio.run(assert_whole(path)))
    print(packed)
    assert len(set(packed)) > 3  # it was killed in the middle of it
