"""The file itself: what is refused, and that refusing leaves it as it was; locks, modes, the schema."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest

from asynccopy.errors import JournalDamaged, JournalError, JournalLocked, UsageError
from asynccopy.journal import Journal
from asynccopy.journal.sqlite import APPLICATION_ID, migrate, migrations, open_writer
from asynccopy.model import FileStatus


async def opened(path: Path) -> Journal:
    return await Journal.open(path, source="src", destination="dst")


async def filled(path: Path) -> None:
    journal = await opened(path)
    await journal.begin_pass("")
    (root,) = await journal.pending_directories(1)
    await journal.record_page(root.id, [FileStatus(f"f{n}", n, n) for n in range(1000)], [], None)
    await journal.close()


# --- what is no journal -------------------------------------------------------------------------------------------


def junk(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(range(256)) * 40)


def short(path: Path) -> None:
    path.write_bytes(b"SQLite")


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE job (id INTEGER)")


def newer(path: Path) -> None:
    with closing(open_writer(path)) as connection:
        connection.execute("PRAGMA user_version = 999")


@pytest.mark.parametrize(
    ("make", "message"),
    [(junk, "not a journal"), (short, "not a journal"), (foreign, "another program"), (newer, "newer release")],
)
@pytest.mark.parametrize("read_only", [False, True])
async def test_what_is_no_journal_is_refused_and_untouched(
    tmp_path: Path, make: Callable[[Path], None], message: str, read_only: bool
) -> None:
    path = tmp_path / "journal"
    make(path)
    before = path.read_bytes(), sorted(tmp_path.iterdir()), path.stat().st_mtime_ns
    with pytest.raises(JournalDamaged, match=message) as caught:
        await (Journal.read(path) if read_only else opened(path))
    assert str(path) in caught.value.message and caught.value.hint
    assert (path.read_bytes(), sorted(tmp_path.iterdir()), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("length", [150, 4096, 20000])
async def test_a_truncated_journal_is_refused_and_untouched(tmp_path: Path, length: int) -> None:
    path = tmp_path / "journal"
    await filled(path)
    os.truncate(path, length)
    before = path.read_bytes()
    with pytest.raises(JournalDamaged, match=re.escape(str(path))):
        await opened(path)
    assert path.read_bytes() == before


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalDamaged, match="not a regular file"):
        await opened(tmp_path)


async def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be used"):
        await opened(tmp_path / "file" / "journal")


async def test_there_is_nothing_to_read_where_no_journal_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no journal"):
        await Journal.read(tmp_path / "journal")
    (tmp_path / "journal").touch()
    with pytest.raises(JournalDamaged, match="empty"):
        await Journal.read(tmp_path / "journal")


async def test_closing_leaves_one_file_and_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for _ in range(5):
        await (await opened(path)).close()
        assert sorted(os.listdir(tmp_path)) == ["journal", "journal.lock"]


async def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    (tmp_path / "journal").touch()
    await filled(tmp_path / "journal")
    reader = await Journal.read(tmp_path / "journal")
    assert (await reader.totals()).pending_files == 1000
    await reader.close()


AS_NOBODY = """
import asyncio, os, pathlib, sys
from asynccopy.errors import AsyncCopyError
from asynccopy.journal import Journal
from asynccopy.journal.sqlite import migrations
migrations()  # imported and loaded before the rights are dropped: the sources may lie where nobody can read
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
async def main():
    try:
        await Journal.open(pathlib.Path(sys.argv[1]), source="src", destination="dst")
    except AsyncCopyError as error:
        print(type(error).__name__, error.message)
asyncio.run(main())
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users can reach, which tmp_path is not."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.mark.parametrize("kind", ["file", "directory", "unreadable"])
async def test_what_may_not_be_written_is_refused_and_untouched(public: Path, kind: str) -> None:
    path = public / "journal"
    await filled(path)
    path.chmod({"file": 0o444, "directory": 0o666, "unreadable": 0o000}[kind])
    (public / "journal.lock").unlink()
    public.chmod(0o777 if kind != "directory" else 0o555)
    before = path.read_bytes() if os.geteuid() == 0 or kind != "unreadable" else b""
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(path)], capture_output=True, text=True, timeout=30, cwd=Path.cwd()
    )
    public.chmod(0o755)
    assert done.stdout.startswith(f"JournalError {path} cannot be used"), done.stderr
    if before:
        assert path.read_bytes() == before


# --- one process --------------------------------------------------------------------------------------------------

HOLDER = """
import asyncio, pathlib, sys
from asynccopy.journal import Journal
async def main():
    await Journal.open(pathlib.Path(sys.argv[1]), source="src", destination="dst")
    print("open", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "open\n"
            with pytest.raises(JournalLocked, match=f"process {holder.pid}$"):
                await opened(path)
            reader = await Journal.read(path)  # reading asks for no lock
            assert (await reader.state()).source == "src"
            await reader.close()
        finally:
            holder.kill()
    await (await opened(path)).close()


async def test_a_second_opening_in_one_process_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = await opened(path)
    with pytest.raises(JournalLocked, match=f"process {os.getpid()}$"):
        await opened(path)
    await first.begin_pass("")
    await first.close()
    await (await opened(path)).close()


async def test_a_reader_cannot_write_and_sees_what_is_committed_later(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = await opened(path)
    reader = await Journal.read(path)
    await journal.begin_pass("later")
    assert (await reader.state()).selection == "later"
    with pytest.raises(JournalError):
        await reader._reader.read(lambda c: c.execute("DELETE FROM job").rowcount)
    await journal.close()
    assert (await reader.state()).selection == "later"
    await reader.close()


async def test_a_long_ledger_is_read_while_the_copy_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = await opened(path)
    await journal.begin_pass("")
    (root,) = await journal.pending_directories(1)
    await journal.record_page(root.id, [FileStatus(f"f{n:05}", n, n) for n in range(3500)], [], None)
    reader = await Journal.read(path)
    seen = []
    async for row in reader.ledger():
        if len(seen) == 10:
            await journal.listing_done()
        seen.append(row.path)
    assert seen == [f"f{n:05}" for n in range(3500)]
    await reader.close()
    await journal.close()


async def test_others_cannot_look_inside(tmp_path: Path) -> None:
    path = tmp_path / "state" / "asynccopy" / "journal"
    old = os.umask(0o022)
    try:
        journal = await opened(path)
    finally:
        os.umask(old)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    assert modes == dict.fromkeys(("journal", "journal-wal", "journal-shm", "journal.lock"), 384)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (path.parent, path.parent.parent)} == {0o700}
    await journal.close()


# --- the schema ---------------------------------------------------------------------------------------------------


def shape(connection: sqlite3.Connection) -> dict[str, object]:
    """Tables by their columns and keys, indexes and triggers by their text; comments and layout do not count."""
    found: dict[str, object] = {"counts": connection.execute("SELECT * FROM counts").fetchall()}
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall():
        text = " ".join(re.sub(r"--[^\n]*", "", sql or "").split())
        found[name] = (
            text
            if kind != "table"
            else (
                connection.execute(f"PRAGMA table_xinfo({name})").fetchall(),
                connection.execute(f"PRAGMA foreign_key_list({name})").fetchall(),
                [(n, u, o, p) for _, n, u, o, p in connection.execute(f"PRAGMA index_list({name})").fetchall()],
                sorted(set(re.findall(r"AUTOINCREMENT|WITHOUT ROWID|CHECK \(.*?\)|ON DELETE CASCADE", text))),
            )
        )
    return found


def test_the_migrations_lead_to_the_schema() -> None:
    with closing(sqlite3.connect(":memory:")) as migrated, closing(sqlite3.connect(":memory:")) as written:
        migrate(migrated, migrations())
        written.executescript((files("asynccopy.journal") / "schema.sql").read_text())
        assert shape(migrated) == shape(written)
        assert migrated.execute("PRAGMA user_version").fetchone() == (len(migrations()),)
        assert migrated.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


async def test_an_older_journal_is_brought_up_to_date_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    await filled(path)
    step = "ALTER TABLE files ADD COLUMN owner TEXT NOT NULL DEFAULT '';"
    with closing(open_writer(path)) as connection:
        migrate(connection, [*migrations(), step])
        assert connection.execute("SELECT count(*), max(owner) FROM files").fetchone() == (1000, "")
    with pytest.raises(JournalDamaged, match="newer release"):  # this release does not know that step
        await opened(path)


def test_a_failing_migration_changes_nothing(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / "journal")) as connection:
        before = shape(connection)
        with pytest.raises(sqlite3.Error):
            migrate(connection, [*migrations(), "CREATE TABLE extra (id); INSERT INTO nowhere VALUES (1);"])
        assert shape(connection) == before
        assert connection.execute("PRAGMA user_version").fetchone() == (len(migrations()),)
