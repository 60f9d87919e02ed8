"""kill -9 while files vanish, in the middle of their batches: what is gone and what lives is whole, no file is both."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

DIRECTORIES, FILES = 60, 50
KEPT = 7

# Lists a tree of DIRECTORIES * FILES files once, and marks all as done; then again with KEPT directories, in pages of
# five; then removes all but the root's last directory by a snapshot pass. A step that is over is a fact in the journal.
WRITER = """
import asyncio, pathlib, sys
from asynccopy.journal import Journal
from asynccopy.model import *

DIRECTORIES, FILES, KEPT = map(int, sys.argv[2:])
def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

async def listed(journal, count):
    names = [f"d{n:03}" for n in range(count)]
    while directories := await journal.pending_directories(1):
        (directory,) = directories
        at = int(directory.after or 0)
        if directory.path:
            page = [FileStatus(f"{directory.path}/f{n}", 1, 1, n + 1) for n in range(at, FILES)]
            await journal.record_page(directory.id, page, [], None)
        else:
            page = [FileStatus(name, 0, 1, 1, True) for name in names[at:at + 5]]
            after = None if at + 5 >= count else str(at + 5)
            await journal.record_page(directory.id, [], page, after)
        say("page", directory.path, at)

async def main():
    journal = await Journal.open(pathlib.Path(sys.argv[1]), source="src", destination="dst")
    if await journal.recall("step") is None:
        await journal.begin_pass("all")
        await listed(journal, DIRECTORIES)
        async with asyncio.TaskGroup() as group:
            for row in await journal.pending(0, DIRECTORIES * FILES):
                group.create_task(journal.done(row.id, row.status.version, Evidence("checksum", "s", "o", "e")))
        await journal.finish_pass(True)
        await journal.remember("step", "full")
    if await journal.recall("step") == "full":
        await journal.begin_pass("fewer")
        await listed(journal, KEPT)
        await journal.finish_pass(True)
        await journal.remember("step", "fewer")
    if await journal.recall("step") == "fewer":
        await journal.begin_pass("all", "snapshot")
        for n in range(KEPT - 1):
            await journal.remove([f"d{n:03}"])
            say("removed", n)
        await journal.record_files([FileStatus(f"new{n}/f", 1, 1, 1) for n in range(50)])
        await journal.finish_pass(True)
        await journal.remember("step", "snapshot")
    await journal.close()
    say("finished")
asyncio.run(main())
"""


def start(path: Path) -> subprocess.Popen[str]:
    numbers = [str(number) for number in (DIRECTORIES, FILES, KEPT)]
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), *numbers], stdout=subprocess.PIPE, text=True)


def look(path: Path) -> tuple[Counter[str], Counter[str]]:
    """What lives and what is gone, in a sound database whose counts are right."""
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        query = "SELECT d.path || '/' || f.name FROM files AS f JOIN directories AS d ON d.id = f.directory"
        live = Counter(name for (name,) in raw.execute(query))
        gone = Counter(name for (name,) in raw.execute("SELECT path FROM gone"))
        counts = dict(raw.execute("SELECT state, files FROM counts"))
    assert sum(counts[state] for state in range(4)) == live.total() and counts[4] == gone.total()
    assert not live & gone and (live | gone).total() == len(live | gone)  # nothing twice
    return live, gone


def test_kill_in_the_middle_of_vanishing_loses_no_file_and_takes_none_twice(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    path = tmp_path / "journal"
    everything = {f"d{n:03}/f{m}" for n in range(DIRECTORIES) for m in range(FILES)}
    new = {f"new{n}/f" for n in range(50)}
    kills = 0
    for _ in range(60):
        with start(path) as writer:
            assert writer.stdout is not None
            stop_at = dice.randrange(1, 25)
            for number, line in enumerate(writer.stdout, 1):
                if line == "finished\n":
                    break
                if number == stop_at:
                    writer.kill()
                    kills += 1
        live, gone = look(path)
        assert live.keys() | gone.keys() <= everything | new
        if line == "finished\n":
            break
    else:
        raise AssertionError("never finished")
    assert kills >= 3
    last = {f"d{KEPT - 1:03}/f{n}" for n in range(FILES)}
    assert live.keys() == last | new
    assert gone.keys() == everything - last
