"""Owner, group, permission, replication and access time stay in the journal from the listing until the copy is done."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from asynccopy.journal import Journal
from asynccopy.journal.sqlite import migrate, migrations, open_reader
from asynccopy.model import Attributes, Evidence, FileStatus

HIVE = Attributes("hive", "hadoop", 0o640, 7, 3)
ETL = Attributes("etl", "hadoop", 0o1777, 8, 2)
EVIDENCE = Evidence("size", etag="e")


def file(path: str, attributes: Attributes | None, time: int = 1) -> FileStatus:
    return FileStatus(path, 10, time, 1, False, 128, attributes)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal", source="src", destination="dst")
    yield journal
    await journal.close()


async def listed(journal: Journal, *files: FileStatus) -> None:
    await journal.begin_pass("all")
    (root,) = await journal.pending_directories(10)
    await journal.record_page(root.id, files, [], None)
    await journal.listing_done()
    await journal.finish_pass(True)


async def pending(journal: Journal) -> dict[str, Attributes | None]:
    return {row.status.path: row.status.attributes for row in await journal.pending(0, 100)}


async def copied(journal: Journal) -> None:
    for row in await journal.pending(0, 100):
        assert await journal.done(row.id, row.status.version, EVIDENCE)


def combinations(path: Path) -> list[tuple[object, ...]]:
    with closing(open_reader(path)) as connection:
        return connection.execute('SELECT owner, "group", permission, replication FROM attributes').fetchall()


async def test_they_are_there_when_the_file_is_claimed_also_after_a_restart(journal: Journal, tmp_path: Path) -> None:
    again = Attributes("hive", "hadoop", 0o640, 99, 3)  # of another time only
    await listed(journal, file("a", HIVE), file("b", ETL), file("c", None), file("d", again))
    wanted = {"a": HIVE, "b": ETL, "c": None, "d": again}
    assert await pending(journal) == wanted
    await journal.close()
    journal = await Journal.open(tmp_path / "journal", source="src", destination="dst")
    assert await pending(journal) == wanted
    await journal.close()
    assert combinations(tmp_path / "journal") == [("hive", "hadoop", 0o640, 3), ("etl", "hadoop", 0o1777, 2)]


async def test_what_is_met_again_has_what_it_has_now(journal: Journal) -> None:
    await listed(journal, file("a", HIVE), file("b", HIVE))
    await listed(journal, file("a", ETL), file("b", None))
    assert await pending(journal) == {"a": ETL, "b": None}
    (a, _) = await journal.pending(0, 10)
    await journal.changed(a.id, file("a", HIVE, 2))
    assert await pending(journal) == {"a": HIVE, "b": None}


async def test_a_failed_file_keeps_them_and_a_done_one_does_not(journal: Journal) -> None:
    await listed(journal, file("a", HIVE), file("b", ETL))
    (a, b) = await journal.pending(0, 10)
    await journal.failed(a.id, "ServerTrouble", "x", "")
    assert await journal.done(b.id, b.status.version, EVIDENCE)
    await journal.retry_failed()
    assert await pending(journal) == {"a": HIVE}
    await journal.reopen(["b"])
    assert await pending(journal) == {"a": HIVE, "b": None}
    await copied(journal)
    await listed(journal, file("a", HIVE, 2), file("b", ETL))
    assert await pending(journal) == {"a": HIVE}  # listed again, because it is another version


async def test_packed_files_come_back_without(journal: Journal) -> None:
    await listed(journal, *(file(f"{n:03}", HIVE) for n in range(90)))
    await copied(journal)
    while await journal.pack(age=-1):
        pass
    await listed(journal, *(file(f"{n:03}", ETL, 2 if n == 5 else 1) for n in range(90)))
    assert await pending(journal) == {"005": ETL}


async def test_a_transaction_that_is_rolled_back_takes_new_combinations_with_it(
    journal: Journal, tmp_path: Path
) -> None:
    await journal.begin_pass("all")
    (root,) = await journal.pending_directories(10)
    with pytest.raises(ValueError, match="does not lie in"):
        await journal.record_page(root.id, [file("a", HIVE), file("not/here", HIVE)], [], None)
    await journal.record_page(root.id, [file("b", ETL), file("c", HIVE)], [], None)
    assert await pending(journal) == {"b": ETL, "c": HIVE}
    assert len(combinations(tmp_path / "journal")) == 2


async def test_a_journal_of_the_release_before_goes_on(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal", isolation_level=None)) as raw:
        migrate(raw, migrations()[:4])
        raw.executescript(
            """
            INSERT INTO job (id, source, destination, pass_number) VALUES (1, 'src', 'dst', 1);
            INSERT INTO directories (id, path, state, first_pass) VALUES (1, '', 1, 1);
            INSERT INTO files (directory, name, length, modification_time, file_id, block_size)
            VALUES (1, 'a', 10, 1, 1, 128), (1, 'b', 10, 1, 1, 128);
            """
        )
        raw.execute("PRAGMA journal_mode = WAL").fetchone()
    journal = await Journal.open(tmp_path / "journal", source="src", destination="dst")
    assert await pending(journal) == {"a": None, "b": None}
    (a, _) = await journal.pending(0, 10)
    assert await journal.done(a.id, a.status.version, EVIDENCE)
    await listed(journal, file("a", HIVE), file("b", HIVE))
    assert await pending(journal) == {"b": HIVE}
    await journal.close()
