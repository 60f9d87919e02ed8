"""Group commit, ordering, and what happens when a write fails."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from asynccopy.errors import JournalError, JournalFull, JournalLocked
from asynccopy.journal.database import Database
from asynccopy.journal.sqlite import open_reader

INSERT = "INSERT INTO directories (path, first_pass) VALUES (?, 1)"


def add(path: str) -> object:
    return lambda c: c.execute(INSERT, (path,)).lastrowid


async def paths(database: Database) -> list[str]:
    return await database.reader.read(lambda c: [path for (path,) in c.execute("SELECT path FROM directories")])


async def held(database: Database, *writes: object) -> list[asyncio.Task[object]]:
    """Tasks whose writes are all queued while an earlier one still runs, and so share one transaction."""
    gate = threading.Event()
    running = threading.Event()

    def block(_: sqlite3.Connection) -> None:
        running.set()
        assert gate.wait(10)

    blocker = asyncio.create_task(database.write(block))
    assert await asyncio.to_thread(running.wait, 10)
    tasks = [asyncio.create_task(database.write(write)) for write in writes]  # type: ignore[arg-type]
    await asyncio.sleep(0)  # each task puts its write into the queue
    gate.set()
    await blocker
    return tasks


async def test_what_waits_for_a_commit_shares_the_next_one(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "journal")
    statements: list[str] = []
    database._connection.set_trace_callback(statements.append)
    tasks = await held(database, *(add(f"d{number}") for number in range(100)))
    assert [await task for task in tasks] == list(range(1, 101))
    assert statements.count("COMMIT") == 2
    await database.close()


async def test_rows_for_the_same_work_come_together_and_nothing_overtakes(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "journal")
    seen: list[object] = []

    def work(_: sqlite3.Connection, rows: list[int]) -> list[int]:
        seen.append(list(rows))
        return [-row for row in rows]

    gate = threading.Event()
    blocker = asyncio.create_task(database.write(lambda _: gate.wait(10)))
    await asyncio.sleep(0.05)  # its transaction has begun, so the others share the next one
    first = [database.write_together(work, row, hurry=False) for row in (1, 2, 3)]
    between = asyncio.create_task(database.write(lambda _: seen.append("between")))
    await asyncio.sleep(0)
    last = database.write_together(work, 4, hurry=True)
    gate.set()
    await blocker
    assert [await answer for answer in [*first, last]] == [-1, -2, -3, -4]
    await between
    assert seen == [[1, 2, 3], "between", [4]]
    await database.close()


async def test_an_acknowledged_write_is_committed_for_every_other_connection(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "journal")
    await database.write(add("d"))  # type: ignore[arg-type]
    other = open_reader(tmp_path / "journal")
    assert other.execute("SELECT path FROM directories").fetchall() == [("d",)]
    other.close()
    assert database._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert database._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await database.close()


async def test_a_failing_transaction_leaves_nothing_and_fails_all_its_callers(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "journal")
    tasks = await held(database, add("one"), add("two"), add("one"))
    for task in tasks:
        with pytest.raises(JournalError, match="UNIQUE") as caught:
            await task
        assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    assert await paths(database) == []
    await database.write(add("one"))  # type: ignore[arg-type]
    assert await paths(database) == ["one"]
    await database.close()


async def test_a_cancelled_caller_does_not_take_its_write_back(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "journal")
    gate = threading.Event()
    blocker = asyncio.create_task(database.write(lambda _: gate.wait(10)))
    task = asyncio.create_task(database.write(add("d")))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    await blocker
    await database.write(lambda _: None)
    assert await paths(database) == ["d"]
    await database.close()


async def test_after_the_disk_was_full_nothing_is_acknowledged(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "journal")
    await database.write(add("before"))  # type: ignore[arg-type]
    await database.write(lambda c: c.execute("PRAGMA max_page_count = 1").fetchone())
    with pytest.raises(JournalFull) as caught:
        for number in range(1000):
            await database.write(add(f"{number}" + "x" * 1000))  # type: ignore[arg-type]
    assert str(tmp_path / "journal") in caught.value.message and caught.value.hint
    with pytest.raises(JournalFull):
        await database.write(lambda _: None)
    known = await paths(database)
    await database.close()

    database = await Database.open(tmp_path / "journal")
    assert await paths(database) == known and known[0] == "before"
    await database.write(add("after"))  # type: ignore[arg-type]
    await database.close()


async def test_damage_met_while_working_is_named_and_ends_the_writing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    database = await Database.open(path)
    await database.write(lambda c: c.executemany(INSERT, [(f"{n}" + "x" * 500,) for n in range(2000)]).rowcount)
    await database.close()
    content = path.read_bytes()
    path.write_bytes(content[:131072] + b"\xa5" * (len(content) - 131072))

    database = await Database.open(path)
    with pytest.raises(JournalError) as caught:
        await paths(database)
    assert type(caught.value).__name__ == "JournalDamaged" and str(path) in caught.value.message
    with pytest.raises(JournalError):
        await database.write(lambda c: c.execute("UPDATE directories SET state = 1").rowcount)
    with pytest.raises(JournalError):
        await database.write(lambda _: None)
    await database.close()


async def test_a_lock_of_another_program_is_named_and_passes(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    database = await Database.open(path)
    database._connection.execute("PRAGMA busy_timeout = 20")
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalLocked, match="another program"):
            await database.write(add("d"))  # type: ignore[arg-type]
    await database.write(add("d"))  # type: ignore[arg-type]
    assert await paths(database) == ["d"]
    await database.close()


async def test_closing_finishes_what_is_queued_and_is_final(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "journal")
    tasks = [asyncio.create_task(database.write(add(f"d{number}"))) for number in range(50)]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await database.close()
    assert [await task for task in tasks] == list(range(1, 51))
    await database.close()
    with pytest.raises(JournalError, match="closed"):
        await database.write(lambda _: None)
    assert not (tmp_path / "journal-wal").exists()
    assert not any(thread.name.startswith("journal") for thread in threading.enumerate())
