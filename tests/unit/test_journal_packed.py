"""Packing: what is at rest is packed, what changes is unpacked, and no answer is another one for it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from asynccopy.errors import JournalDamaged
from asynccopy.journal import Journal, PageCount
from asynccopy.journal import packed as packing
from asynccopy.journal.sqlite import migrate, migrations, open_writer
from asynccopy.model import Evidence, FileState, FileStatus, OpenUpload

EVIDENCE = Evidence("checksum", "MD5:00ff00ff00ff00ff", "CRC32C:abcdabcd", "e" * 32)


def file(path: str, length: int = 10) -> FileStatus:
    return FileStatus(path, length, 1000, 1, False, 128)


def folder(path: str) -> FileStatus:
    return FileStatus(path, 0, 1000, 1, is_directory=True)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal", source="src", destination="dst")
    yield journal
    await journal.close()


async def listed(journal: Journal, files: Sequence[FileStatus], others: Sequence[FileStatus] = ()) -> PageCount:
    """A pass over a tree whose files all lie in ``d``."""
    await journal.begin_pass("")
    (root,) = await journal.pending_directories(1)
    await journal.record_page(root.id, [], [folder("d")], None)
    (directory,) = await journal.pending_directories(1)
    return await journal.record_page(directory.id, files, [], None, others)


async def copied(journal: Journal) -> None:
    async with asyncio.TaskGroup() as group:
        for row in await journal.pending(0, 10_000):
            group.create_task(journal.done(row.id, row.status.version, EVIDENCE))


async def full_pass(journal: Journal, files: Sequence[FileStatus], others: Sequence[FileStatus] = ()) -> PageCount:
    count = await listed(journal, files, others)
    await copied(journal)
    await journal.finish_pass(True)
    return count


async def pack(journal: Journal) -> int:
    total = 0
    while some := await journal.pack(age=0):
        total += some
    return total


async def loose(journal: Journal) -> list[str]:
    query = "SELECT name FROM files ORDER BY name"
    return await journal._reader.read(lambda c: [name for (name,) in c.execute(query)])


async def packs(journal: Journal) -> list[tuple[str, int, int]]:
    query = "SELECT first, files, bytes FROM packed ORDER BY directory, first"
    return await journal._reader.read(lambda c: c.execute(query).fetchall())


def names(numbers: Iterable[int]) -> list[FileStatus]:
    return [file(f"d/{number:05}", number) for number in numbers]


async def test_no_answer_changes_and_the_rows_are_gone(journal: Journal) -> None:
    await full_pass(journal, names(range(2500)))

    async def answers() -> object:
        rows = [row async for row in journal.ledger()]
        some = [await journal.row(f"d/{number:05}") for number in (0, 999, 1000, 2499, 2500)]
        return rows, some, await journal.totals(), await journal.is_childless("d"), await journal.some_done(1)

    before = await answers()
    assert await pack(journal) == 2500
    assert await loose(journal) == []
    assert [count for _, count, _ in await packs(journal)] == [1000, 1000, 500]
    assert await answers() == before


async def test_an_unchanged_listing_leaves_the_packs_as_they_are(journal: Journal) -> None:
    await full_pass(journal, names(range(2500)))
    await pack(journal)
    before = await packs(journal)
    assert await full_pass(journal, names(range(2500))) == PageCount(2500, 3123750, 2500, 3123750)
    assert await packs(journal) == before and await loose(journal) == []


async def test_only_the_pack_of_what_changed_is_unpacked(journal: Journal) -> None:
    await full_pass(journal, names(range(2500)))
    await pack(journal)
    (changed,) = [row async for row in journal.ledger() if row.path == "d/01500"]
    count = await listed(journal, [*names(range(1500)), file("d/01500", 7), *names(range(1501, 2500))])
    assert count.unchanged_files == 2499
    assert len(await loose(journal)) == 1000
    assert [row.status for row in await journal.pending(0, 10)] == [file("d/01500", 7)]
    row = await journal.row("d/01500")
    assert row is not None and (row.state, row.etag, row.method) == (FileState.PENDING, changed.etag, "")


async def test_what_vanished_goes_with_its_evidence(journal: Journal) -> None:
    await full_pass(journal, names(range(2500)))
    await pack(journal)
    await full_pass(journal, names([*range(5), *range(6, 2500)]), others=[])
    (gone,) = await journal.gone(0, 10)
    assert (gone.path, gone.evidence) == ("d/00005", EVIDENCE)
    assert await journal.row("d/00005") is None
    assert (await journal.totals()).done_files == 2499


async def test_what_is_no_longer_selected_stays_packed(journal: Journal) -> None:
    await full_pass(journal, names(range(10)))
    await pack(journal)
    await full_pass(journal, names(range(5)), others=names(range(5, 10)))
    assert await loose(journal) == [] and (await journal.totals()).done_files == 10
    assert await journal.gone(0, 10) == []


async def test_a_snapshot_pass_finds_what_is_packed(journal: Journal) -> None:
    await full_pass(journal, names(range(2500)))
    await pack(journal)
    await journal.begin_pass("", "snapshot")
    await journal.remove(["d/00001", "d/nothing"])
    await journal.record_files([file("d/02400", 1), file("d/new", 1)])
    assert [row.status.path for row in await journal.pending(0, 10)] == ["d/02400", "d/new"]
    assert [gone.path for gone in await journal.gone(0, 10)] == ["d/00001"]
    await journal.remove(["d"])
    assert [row async for row in journal.ledger()] == [] and await packs(journal) == []
    assert len(await journal.gone(0, 10_000)) == 2501
    assert (await journal.totals()).done_files == 0


@pytest.mark.parametrize("paths", [["d/00007"], None])
async def test_what_is_not_done_after_all_is_unpacked(journal: Journal, paths: list[str] | None) -> None:
    await full_pass(journal, names(range(2500)))
    await pack(journal)
    await journal.reopen(paths)
    totals = await journal.totals()
    assert (totals.pending_files, totals.done_files) == ((1, 2499) if paths else (2500, 0))


async def test_only_what_is_at_rest_is_packed(journal: Journal) -> None:
    await listed(journal, names(range(10)))
    assert await pack(journal) == 0  # pending
    await copied(journal)
    assert await journal.pack(age=3600) == 0
    (root,) = (await journal.some_done(1))[:1]
    await journal.begin_upload(root.id, OpenUpload("id", 5, root.status.version))
    assert await pack(journal) == 0  # the directory is not at rest
    await journal.drop_upload(root.id)
    assert await pack(journal) == 10


async def test_a_directory_that_never_rests_is_packed_by_the_hundred(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "WORTH", 5)
    await full_pass(journal, names(range(4)))
    await listed(journal, names(range(5)))
    assert await pack(journal) == 0
    await copied(journal)
    await journal.finish_pass(True)
    await listed(journal, names(range(6)))
    assert await pack(journal) == 5
    assert await loose(journal) == ["00005"]


async def test_a_directory_that_is_being_listed_is_left_alone(journal: Journal) -> None:
    await full_pass(journal, names(range(10)))
    await journal.begin_pass("")
    (root,) = await journal.pending_directories(1)
    await journal.record_page(root.id, [], [folder("d")], None)
    assert await pack(journal) == 0


async def test_new_files_join_the_packs_of_their_names(journal: Journal) -> None:
    await full_pass(journal, names(range(0, 4000, 2)))
    assert await pack(journal) == 2000
    assert [count for _, count, _ in await packs(journal)] == [1000, 1000]
    await full_pass(journal, [*names(range(0, 4000, 2)), *names(range(1, 200, 2)), file("d/03999")])
    assert await pack(journal) == 100  # the other is not worth the rewriting
    assert await loose(journal) == ["03999"]
    assert [(first, count) for first, count, _ in await packs(journal)] == [("", 550), ("00900", 550), ("02000", 1000)]
    found = [row.path async for row in journal.ledger()]
    assert found == sorted(found) and len(set(found)) == 2101


async def test_a_path_that_is_gone_and_lives_again_is_not_packed(journal: Journal) -> None:
    """``forget_revived`` looks for it among the rows."""
    await full_pass(journal, names(range(3)))
    await full_pass(journal, names(range(2)))
    await full_pass(journal, names(range(3)))
    assert [gone.path for gone in await journal.gone(0, 10)] == ["d/00002"]
    assert await pack(journal) == 2
    assert await loose(journal) == ["00002"]
    await journal.forget_revived()
    assert await journal.gone(0, 10) == []
    assert await pack(journal) == 1


async def test_the_marker_of_an_empty_directory_stays_a_row(journal: Journal) -> None:
    await full_pass(journal, [FileStatus("d/", 0, 0, is_directory=True)])
    assert await pack(journal) == 0
    assert await loose(journal) == [""]


async def test_damage_is_told_and_nothing_is_done(journal: Journal, tmp_path: Path) -> None:
    await full_pass(journal, names(range(10)))
    await pack(journal)
    with closing(sqlite3.connect(tmp_path / "journal")) as raw:
        raw.execute("UPDATE packed SET versions = x'00'")
        raw.commit()
    with pytest.raises(JournalDamaged):
        await listed(journal, names(range(11)))
    assert (await journal.totals()).done_files == 10


def test_an_older_journal_of_many_rows_is_migrated_at_once(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with closing(sqlite3.connect(path)) as old:
        migrate(old, migrations()[:2])
        old.execute("INSERT INTO directories (path, state, first_pass) VALUES ('', 1, 1)")
        rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
        columns = "directory, name, length, modification_time, file_id, block_size"
        old.execute(f"{rows} INSERT INTO files ({columns}) SELECT 1, 'f' || i, 1, 1, 1, 1 FROM n")
        old.commit()
    begun = time.perf_counter()
    with closing(open_writer(path)) as writer:
        assert time.perf_counter() - begun < 0.5
        assert writer.execute("SELECT count(*) FROM files").fetchone() == (100_000,)
