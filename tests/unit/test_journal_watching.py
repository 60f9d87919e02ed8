"""What a mirror that is watched asks of its journal: vanished files, quick and snapshot passes, history, orders."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from asynccopy.errors import JournalError, NotFound
from asynccopy.journal import ErrorClass, GoneFile, Journal, Kind, Listed
from asynccopy.journal.reading import _PENDING, ORDERS
from asynccopy.journal.sqlite import migrate, migrations, open_writer
from asynccopy.journal.vanishing import BATCH
from asynccopy.model import Evidence, FileState, FileStatus, FileVersion, OpenUpload, PartReceipt

EVIDENCE = Evidence("checksum", "MD5:00ff", "CRC32C:abcd", '"etag"')


def file(path: str, length: int = 10, time: int = 1000, file_id: int = 1) -> FileStatus:
    return FileStatus(path, length, time, file_id, False, 128)


def folder(path: str, time: int = 1000, file_id: int = 1) -> FileStatus:
    return FileStatus(path, 0, time, file_id, is_directory=True)


async def opened(path: Path, order: Listed = "listing") -> Journal:
    return await Journal.open(path, source="webhdfs://nn/src", destination="s3://bucket/dst", order=order)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await opened(tmp_path / "journal")
    yield journal
    await journal.close()


async def met(journal: Journal, tree: Sequence[FileStatus], page: int = 1000) -> list[str]:
    """List what the journal wants listed, from a tree of files and directories; answers the directories listed."""
    listed = []
    while directories := await journal.pending_directories(1):
        (directory,) = directories
        inside = [entry for entry in tree if entry.path and entry.path.rpartition("/")[0] == directory.path]
        if not inside and directory.path:
            inside = [folder(directory.path + "/", 0, 0)]
        start = int(directory.after or 0)
        some = inside[start : start + page]
        files = [entry for entry in some if not entry.is_directory or entry.path.endswith("/")]
        subdirectories = [entry for entry in some if entry.is_directory and not entry.path.endswith("/")]
        after = None if start + page >= len(inside) else str(start + page)
        await journal.record_page(directory.id, files, subdirectories, after)
        if after is None:
            listed.append(directory.path)
    return sorted(listed)


async def done(journal: Journal) -> None:
    async with asyncio.TaskGroup() as group:
        for pending in await journal.pending(0, 100_000):
            group.create_task(journal.done(pending.id, pending.status.version, EVIDENCE))


async def passed(journal: Journal, tree: Sequence[FileStatus], kind: Kind = "full", page: int = 1000) -> list[str]:
    """A whole pass, everything copied; answers the directories that were listed."""
    await journal.begin_pass("all", kind)
    listed = await met(journal, tree, page)
    await journal.listing_done()
    await done(journal)
    await journal.finish_pass(True)
    return listed


async def states(journal: Journal) -> dict[str, FileState]:
    return {row.path: row.state async for row in journal.ledger()}


async def gone(journal: Journal) -> list[str]:
    return sorted(row.path for row in await journal.gone(0, 100_000))


async def ids(journal: Journal) -> dict[str, int]:
    return {pending.status.path: pending.id for pending in await journal.pending(0, 1000)}


TREE = [
    folder("a", 1, 11),
    file("a/1", 1, 1, 21),
    file("a/2", 2, 2, 22),
    folder("a-b", 1, 14),
    file("a-b/1", 1, 1, 23),
    folder("e", 1, 12),
    folder("t", 1, 13),
    folder("t/u", 1, 15),
    file("t/u/x", 3, 3, 24),
    file("z", 4, 4, 25),
]


def without(*paths: str) -> list[FileStatus]:
    return [
        entry for entry in TREE if not any(entry.path == path or entry.path.startswith(path + "/") for path in paths)
    ]


# --- vanished files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("removed", "expected"),
    [
        (["z"], ["z"]),
        (["a/1"], ["a/1"]),
        (["a"], ["a/1", "a/2"]),
        (["t"], ["t/u/x"]),
        (["a", "a-b", "t", "e", "z"], ["a-b/1", "a/1", "a/2", "e/", "t/u/x", "z"]),
        (["t/u/x"], ["t/u/x"]),
    ],
)
async def test_what_no_page_shows_is_gone(journal: Journal, page: int, removed: list[str], expected: list[str]) -> None:
    await passed(journal, TREE)
    before = await states(journal)
    left = without(*removed)
    await passed(journal, left, page=page)
    assert await gone(journal) == expected
    markers = {"t/u/"} if removed == ["t/u/x"] else set()  # which is empty now
    assert set(await states(journal)) == before.keys() - set(expected) | markers
    await passed(journal, left, page=page)
    assert await gone(journal) == expected


async def test_siblings_whose_names_sort_around_a_slash_are_told_apart(journal: Journal) -> None:
    names = ["t", "t!", "t.", "t0", "t00", "t\u00e9"]
    tree = [entry for name in names for entry in (folder(name), folder(f"{name}/u"), file(f"{name}/u/f"))]
    expected = []
    for name in sorted(names, reverse=True):
        await passed(journal, tree)
        tree = [entry for entry in tree if entry.path.partition("/")[0] != name]
        await passed(journal, tree)
        expected.append(f"{name}/u/f")
        assert await gone(journal) == sorted(expected)
        assert set(await states(journal)) == {entry.path for entry in tree if not entry.is_directory}


async def test_a_gone_file_keeps_version_and_evidence_until_it_is_forgotten(journal: Journal) -> None:
    await passed(journal, TREE)
    await passed(journal, without("z", "a/1"))
    rows = {row.path: row for row in await journal.gone(0, 10)}
    row = rows["z"]
    assert row == GoneFile(row.id, "z", FileVersion(4, 4, 25), EVIDENCE, row.gone_at, row.done_at)
    assert abs(row.gone_at - time.time() * 1000) < 60_000
    assert 0 < row.done_at <= row.gone_at
    assert await journal.gone_count() == (2, 5)
    first = min(row.id for row in rows.values())
    assert [row.id for row in await journal.gone(first, 10)] == [max(row.id for row in rows.values())]
    await journal.forget_gone([row.id])
    assert await gone(journal) == ["a/1"] and await journal.gone_count() == (1, 1)
    assert not await journal.row("z") and await journal.row("a/2") and await journal.row("e/")


async def test_a_path_that_lives_again_is_in_both(journal: Journal) -> None:
    await passed(journal, TREE)
    await passed(journal, without("z"))
    await passed(journal, [*without("z"), file("z", 9, 9, 99)])
    assert await gone(journal) == ["z"] and await journal.row("z")
    await passed(journal, without("z"))
    assert await gone(journal) == ["z", "z"]


async def test_a_file_in_the_place_of_a_directory_and_the_other_way_round(journal: Journal) -> None:
    await passed(journal, TREE)
    await passed(journal, [*without("a", "z"), file("a"), folder("z"), file("z/q")])
    assert await gone(journal) == ["a/1", "a/2", "z"]
    assert set(await states(journal)) == {"a", "a-b/1", "e/", "t/u/x", "z/q"}


@pytest.mark.parametrize("page", [1, 1000])
async def test_what_is_there_and_not_selected_is_not_gone(journal: Journal, page: int) -> None:
    await passed(journal, TREE)
    await journal.begin_pass("less")
    others = [entry for entry in TREE if "/" not in entry.path]
    while directories := await journal.pending_directories(1):
        (root,) = directories
        start = int(root.after or 0)
        after = None if start + page >= len(others) else str(start + page)
        await journal.record_page(root.id, [], [], after, others[start : start + page])
    await journal.finish_pass(True)
    assert await gone(journal) == []
    assert len(await states(journal)) == 6


async def test_an_unlisted_directory_proves_nothing(journal: Journal) -> None:
    await passed(journal, TREE)
    await journal.begin_pass("all")
    (root,) = await journal.pending_directories(1)
    await journal.record_page(root.id, [], [folder("a")], "1")  # and no further
    await journal.finish_pass(False)
    assert await gone(journal) == []


async def test_a_renamed_file_finds_its_twin(journal: Journal) -> None:
    await passed(journal, [file("old", 7, 8, 9), file("no inode", 7, 8, 0), file("other", 7, 9, 9)])
    await passed(journal, [])
    wanted = [FileVersion(7, 8, 9), FileVersion(7, 8, 0), FileVersion(1, 1, 9), FileVersion(7, 9, 9)]
    twins = await journal.gone_twins(wanted * 100)
    assert {version: row.path for version, row in twins.items()} == {wanted[0]: "old", wanted[3]: "other"}
    assert twins[wanted[0]].evidence == EVIDENCE
    assert await journal.gone_twins([]) == {}


async def test_of_several_twins_the_last_is_taken(journal: Journal) -> None:
    for name in ("first", "second", "third"):
        await passed(journal, [file(name, 7, 8, 9)])
    assert (await journal.gone_twins([FileVersion(7, 8, 9)]))[FileVersion(7, 8, 9)].path == "second"


async def test_a_changed_file_that_vanishes_before_its_copy_leaves_the_etag_of_its_object(journal: Journal) -> None:
    await passed(journal, [file("f")])
    await journal.begin_pass("all")
    await met(journal, [file("f", 99, 2000)])
    await journal.vanished((await ids(journal))["f"])
    (row,) = await journal.gone(0, 10)
    assert (row.version, row.evidence) == (FileVersion(99, 2000, 1), Evidence("", etag=EVIDENCE.etag))
    assert await journal.gone_twins([row.version]) == {}  # the object is not that version


@pytest.mark.parametrize("way", ["listing", "removing", "vanishing"])
async def test_a_file_with_an_upload_waits_for_its_abortion(journal: Journal, way: str) -> None:
    await journal.begin_pass("all")
    await met(journal, [folder("d"), file("d/f"), file("d/g")])
    before = await ids(journal)
    await journal.begin_upload(before["d/f"], OpenUpload("u", 5, file("d/f").version))
    await journal.part_done(before["d/f"], PartReceipt(1, 0, 5, "e", 0))
    if way == "listing":
        await journal.begin_pass("other")
        await met(journal, [])
    elif way == "removing":
        await journal.remove(["d"])
    else:
        await journal.vanished(before["d/f"])
        await journal.vanished(before["d/g"])
    assert await states(journal) == {"d/f": FileState.UNSEEN}
    assert await gone(journal) == ["d/g"]
    assert await journal.stale_uploads() == [("d/f", "u")]
    await journal.finish_pass(True)
    assert await states(journal) == {} and await gone(journal) == ["d/f", "d/g"]
    assert await journal.open_uploads() == [] and await journal.upload(before["d/f"]) is None
    assert await journal.is_childless("d")


async def test_an_upload_of_a_file_that_vanished_is_refused(journal: Journal) -> None:
    await journal.begin_pass("all")
    await met(journal, [file("f"), file("g")])
    before = await ids(journal)
    await journal.vanished(before["f"])
    with pytest.raises(NotFound):
        await journal.begin_upload(before["f"], OpenUpload("u", 5, file("f").version))
    assert not await journal.done(before["f"], file("f").version, EVIDENCE)
    await journal.begin_upload(before["g"], OpenUpload("u", 5, file("g").version))


async def test_a_page_of_a_directory_that_was_removed_meanwhile_is_let_fall(journal: Journal) -> None:
    await passed(journal, TREE)
    await journal.begin_pass("all", "snapshot")
    await journal.list_again(["t/u"])
    (directory,) = await journal.pending_directories(1)
    await journal.remove(["t"])
    assert (await journal.record_page(directory.id, [file("t/u/x")], [], None)).files == 0
    assert "t/u/x" not in await states(journal)


async def test_a_million_names_do_not_hold_the_writer(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a batch is moved in several transactions, from one directory and from a tree, and comes out whole."""
    tree = [file(f"f{n}", n, n, n) for n in range(3 * BATCH + 7)]
    tree += [folder(f"d{n}") for n in range(150)]
    tree += [file(f"d{n}/f{m}") for n in range(150) for m in range(20)]
    await passed(journal, tree)
    sizes = []

    def counted(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM gone").fetchone()[0])

    original = journal._database.write

    async def write(work, *, hurry=True):  # type: ignore[no-untyped-def]
        def counting(connection: sqlite3.Connection) -> object:
            before = counted(connection)
            answer = work(connection)
            sizes.append(counted(connection) - before)
            return answer

        return await original(counting, hurry=hurry)

    monkeypatch.setattr(journal._database, "write", write)
    await passed(journal, [tree[5]], page=700)
    assert len(await gone(journal)) == len(tree) - 150 - 1
    assert max(sizes) <= BATCH and sum(sizes) == len(tree) - 151
    assert set(await states(journal)) == {"f5"}
    assert await journal.gone_count() == (len(tree) - 151, sum(entry.length for entry in tree) - 5)


# --- quick passes -------------------------------------------------------------------------------------------------


async def quick(journal: Journal, tree: Sequence[FileStatus]) -> list[str]:
    return await passed(journal, tree, "quick")


async def test_a_settled_leaf_is_passed_over(journal: Journal) -> None:
    assert await passed(journal, TREE) == ["", "a", "a-b", "e", "t", "t/u"]
    assert await quick(journal, TREE) == ["", "a", "a-b", "e", "t", "t/u"]  # their times are met again
    await journal.begin_pass("all", "quick")
    assert await met(journal, TREE) == ["", "t"]
    state = await journal.state()
    assert (state.kind, state.listed_files, state.listed_bytes, state.listed_directories) == ("quick", 5, 11, 2)
    await journal.finish_pass(True)
    assert await gone(journal) == []
    assert await passed(journal, TREE) == ["", "a", "a-b", "e", "t", "t/u"]
    assert await quick(journal, TREE) == ["", "t"]


async def test_what_a_quick_pass_passes_over_counts_as_unchanged(journal: Journal) -> None:
    for _ in range(2):
        await passed(journal, TREE, page=1)
    await journal.begin_pass("all", "quick")
    (root,) = await journal.pending_directories(1)
    count = await journal.record_page(root.id, [file("z", 4, 4, 25)], [folder("a", 1, 11), folder("t", 1, 13)], None)
    assert (count.files, count.bytes, count.unchanged_files, count.unchanged_bytes) == (3, 7, 3, 7)


@pytest.mark.parametrize("change", [{"time": 2}, {"file_id": 99}])
async def test_a_directory_that_differs_is_listed_until_it_settles_again(
    journal: Journal, change: dict[str, int]
) -> None:
    for _ in range(2):
        await passed(journal, TREE)
    new = [folder("a", **{"time": 1, "file_id": 11, **change}), file("a/new"), *without("a")]
    assert await quick(journal, new) == ["", "a", "t"]
    assert await gone(journal) == ["a/1", "a/2"] and "a/new" in await states(journal)
    assert await quick(journal, new) == ["", "a", "t"]
    assert await quick(journal, new) == ["", "t"]


async def test_a_directory_without_a_time_never_settles(journal: Journal) -> None:
    tree = [folder("d", 0), file("d/f")]
    for _ in range(3):
        assert await quick(journal, tree) == ["", "d"]


async def test_a_directory_of_a_file_that_is_not_done_is_listed(journal: Journal) -> None:
    for _ in range(2):
        await passed(journal, TREE)
    (row,) = [row for row in await journal.some_done(100) if row.status.path == "a/2"]
    await journal.reopen([row.status.path])
    await journal.begin_pass("all", "quick")
    assert await met(journal, TREE) == ["", "a", "t"]
    assert set(await ids(journal)) == {"a/2"}
    await journal.failed(row.id, "StillOpen", "open", "")
    await journal.finish_pass(True)
    assert await quick(journal, TREE) == ["", "a", "t"]
    assert await quick(journal, TREE) == ["", "t"]


async def test_another_selection_settles_nothing(journal: Journal) -> None:
    for _ in range(2):
        await passed(journal, TREE)
    await journal.begin_pass("more", "quick")
    assert await met(journal, TREE) == ["", "a", "a-b", "e", "t", "t/u"]


async def test_a_snapshot_pass_between_unsettles_nothing(journal: Journal) -> None:
    for _ in range(2):
        await passed(journal, TREE)
    await journal.begin_pass("all s1 s2", "snapshot")
    await journal.finish_pass(True)
    assert await quick(journal, TREE) == ["", "t"]


async def test_a_listing_that_was_cut_short_settles_nothing(journal: Journal) -> None:
    await passed(journal, TREE)
    await journal.begin_pass("all")
    (root,) = await journal.pending_directories(1)
    await journal.record_page(
        root.id, [file("z", 4, 4, 25)], [e for e in TREE if e.path in ("a", "e", "t", "a-b")], None
    )
    (a,) = [row for row in await journal.pending_directories(9) if row.path == "a"]
    await journal.record_page(a.id, [file("a/1", 1, 1, 21)], [], "1")
    await journal.finish_pass(False)
    assert "a" in await quick(journal, TREE)


async def test_an_unfinished_pass_goes_on_only_as_its_own_kind(journal: Journal) -> None:
    assert await journal.begin_pass("all", "first") is False
    assert await journal.begin_pass("all", "full") is True
    assert await journal.begin_pass("all", "quick") is False
    assert await journal.begin_pass("all", "quick") is True
    assert await journal.begin_pass("all", "snapshot") is False
    assert await journal.pending_directories(1) == []


# --- snapshot passes ----------------------------------------------------------------------------------------------


async def test_a_snapshot_pass_touches_only_what_is_named(journal: Journal) -> None:
    await passed(journal, TREE)
    await journal.begin_pass("all", "snapshot")
    await journal.remove(["a/1", "t", "never there", "z/neither"])
    grown, new, same = file("z", 44, 44, 25), file("n/m/new", 5), file("a/2", 2, 2, 22)
    count = await journal.record_files([grown, new, same, file("e/first", 6)])
    assert (count.files, count.bytes, count.unchanged_files, count.unchanged_bytes) == (4, 57, 1, 2)
    assert await journal.pending_directories(10) == []
    assert set(await ids(journal)) == {"z", "n/m/new", "e/first"}
    await done(journal)
    await journal.finish_pass(True)
    assert await gone(journal) == ["a/1", "e/", "t/u/x"]
    assert set(await states(journal)) == {"a/2", "a-b/1", "z", "n/m/new", "e/first"}
    after = [
        *without("a/1", "t", "z"),
        *(file("e/first", 6), folder("n"), folder("n/m"), new, grown),
    ]
    assert await passed(journal, after) == ["", "a", "a-b", "e", "n", "n/m"]
    assert await gone(journal) == ["a/1", "e/", "t/u/x"]


async def test_a_directory_that_got_a_child_is_no_leaf_any_more(journal: Journal) -> None:
    for _ in range(2):
        await passed(journal, TREE)
    await journal.begin_pass("all", "snapshot")
    await journal.record_files([file("a/new/f"), FileStatus("a-b/m/", 0, 0, is_directory=True)])
    await done(journal)
    await journal.finish_pass(True)
    tree = [*TREE, folder("a/new"), file("a/new/f"), folder("a-b/m")]
    assert await quick(journal, tree) == ["", "a", "a-b", "a-b/m", "a/new", "t"]
    assert await gone(journal) == []
    assert await states(journal) == dict.fromkeys(
        ("a/1", "a/2", "a-b/1", "e/", "t/u/x", "z", "a/new/f", "a-b/m/"), FileState.DONE
    )


async def test_listed_again_is_listed_with_all_below(journal: Journal) -> None:
    for _ in range(2):
        await passed(journal, TREE)
    await journal.begin_pass("all", "snapshot")
    await journal.list_again(["t", "new/d"])
    tree = [*without("t/u/x"), file("t/u/y"), folder("new"), folder("new/d"), file("new/d/f")]
    assert await met(journal, tree) == ["new/d", "t", "t/u"]
    await done(journal)
    await journal.finish_pass(True)
    assert await gone(journal) == ["t/u/x"]
    assert {"t/u/y", "new/d/f"} <= (await states(journal)).keys()


async def test_a_snapshot_pass_leaves_nothing_undone_behind(journal: Journal) -> None:
    """What an earlier pass has failed, or not met, is tried again: no listing will meet it."""
    await journal.begin_pass("all")
    await met(journal, [file("failed"), file("unmet"), file("pending")])
    await journal.failed((await ids(journal))["failed"], "PermissionDenied", "no", "")
    await journal.begin_pass("more")
    await journal.finish_pass(False)
    await journal.begin_pass("more", "snapshot")
    assert set(await ids(journal)) == {"failed", "unmet", "pending"}


async def test_childless(journal: Journal) -> None:
    await passed(journal, TREE)
    found = {path: await journal.is_childless(path) for path in ("", "a", "a-b", "e", "t", "t/u", "new")}
    assert found == {"": False, "a": False, "a-b": False, "e": True, "t": False, "t/u": False, "new": True}


# --- facts, history, failures ---------------------------------------------------------------------------------------


async def test_facts_outlive_the_process(tmp_path: Path) -> None:
    journal = await opened(tmp_path / "journal")
    assert await journal.recall("paused") is None
    await journal.remember("paused", "1")
    await journal.remember("limit", "5")
    await journal.remember("limit", "6")
    await journal.close()
    journal = await opened(tmp_path / "journal")
    assert (await journal.recall("paused"), await journal.recall("limit")) == ("1", "6")
    await journal.forget("paused")
    await journal.forget("paused")
    assert await journal.recall("paused") is None
    await journal.close()


async def test_the_history_counts_what_was_listed_and_keeps_a_thousand(journal: Journal) -> None:
    await passed(journal, TREE)
    await journal.note_pass("first", 123, "complete", copied=5, copied_bytes=11, failed=1, deleted=2, requests=3)
    (row,) = await journal.passes(10)
    assert (row.kind, row.started_at, row.outcome) == ("first", 123, "complete")
    assert (row.directories, row.files, row.copied, row.bytes) == (6, 5, 5, 11)
    assert (row.failed, row.deleted, row.requests) == (1, 2, 3)
    assert row.finished_at > 1_600_000_000_000
    for number in range(1004):
        await journal.note_pass("quick", number, "complete")
    rows = await journal.passes(2000)
    assert [row.started_at for row in rows] == list(range(1003, 3, -1))


async def test_failures_by_class(journal: Journal) -> None:
    await journal.begin_pass("all")
    await met(journal, [file(f"f{n}", n) for n in range(6)])
    for path, number in (await ids(journal)).items():
        if path == "f0":
            await journal.failed(number, "StillOpen", f"{path}: still being written", "")
        elif path < "f4":
            await journal.failed(number, "PermissionDenied", f"no {path}", "grant")
        elif path == "f4":
            await journal.failed(number, "Refused", "never", "")
    totals = await journal.totals()
    assert (totals.failed_files, totals.failed_bytes) == (4, 10)
    assert (totals.open_files, totals.open_bytes, totals.pending_files) == (1, 0, 1)
    classes = await journal.error_classes()
    assert classes[0] == ErrorClass("PermissionDenied", 3, "grant", "f1", "no f1")
    assert [(row.error_class, row.count) for row in classes] == [
        ("PermissionDenied", 3),
        ("Refused", 1),
        ("StillOpen", 1),
    ]
    assert [row.path for row in await journal.failures(10, "PermissionDenied")] == ["f1", "f2", "f3"]
    assert len(await journal.failures(10)) == 5
    assert await journal.retry_failed("Refused") == 1
    assert set(await ids(journal)) == {"f4", "f5"}
    assert await journal.retry_failed() == 4
    totals = await journal.totals()
    assert (totals.failed_files, totals.open_files, totals.pending_files) == (0, 0, 6)


async def test_files_that_are_open_are_counted_through_all_they_go_through(journal: Journal) -> None:
    async def open_files() -> tuple[int, int]:
        totals = await journal.totals()
        assert totals.failed_files == 0
        return totals.open_files, totals.open_bytes

    await journal.begin_pass("all")
    await met(journal, [file("a", 1), file("b", 2), file("c", 4), file("d", 8)])
    numbers = await ids(journal)
    for number in numbers.values():
        await journal.failed(number, "StillOpen", "open", "")
        await journal.failed(number, "StillOpen", "still open", "")
    assert await open_files() == (4, 15)
    await journal.changed(numbers["a"], file("a", 16))
    await journal.vanished(numbers["b"])
    assert await journal.done(numbers["c"], file("c", 4).version, EVIDENCE)
    assert await open_files() == (1, 8)
    await journal.begin_pass("other")
    assert await open_files() == (0, 0)


# --- orders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [*ORDERS])
async def test_pending_in_another_order(tmp_path: Path, order: Listed) -> None:
    dice = random.Random(7)
    tree = [file(f"f{n}", dice.randrange(20), dice.randrange(20), n) for n in range(200)]
    journal = await opened(tmp_path / "journal")
    await journal.begin_pass("all")
    await met(journal, tree)
    with pytest.raises(JournalError):
        await journal.pending(0, 10, order)  # it was not opened for that
    await journal.close()
    journal = await opened(tmp_path / "journal", order)
    numbers = {path: number for number, path in enumerate(entry.path for entry in tree)}
    some = await journal.pending(0, 10)
    await journal.failed(some[0].id, "Refused", "", "")
    await journal.done(some[1].id, some[1].status.version, EVIDENCE)
    left = {row.status.path: row for row in await journal.pending(0, 1000)}
    field, sign = {
        "oldest": ("modification_time", 1),
        "newest": ("modification_time", -1),
        "smallest": ("length", 1),
        "largest": ("length", -1),
    }[order]
    expected = sorted(left, key=lambda path: (sign * getattr(left[path].status, field), numbers[path]))
    assert [row.status.path for row in await journal.pending(1 << 40, 50, order)] == expected[:50]
    await journal.close()
    with closing(sqlite3.connect(tmp_path / "journal")) as raw:
        query = _PENDING.format(index=f"files_{order}", order=f"f.{ORDERS[order]}, ")
        plan = [row[3] for row in raw.execute("EXPLAIN QUERY PLAN " + query, (0, 10))]
        indexes = {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE name GLOB 'files_*'")}
    assert not any("TEMP B-TREE" in line or line.startswith("SCAN") for line in plan), plan
    assert indexes == {"files_not_done", f"files_{order}"}
    journal = await opened(tmp_path / "journal")
    await journal.close()
    with closing(sqlite3.connect(tmp_path / "journal")) as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_master WHERE name GLOB 'files_*'").fetchone() == (1,)


# --- journals of the first release ----------------------------------------------------------------------------------


def first_release(path: Path, rows: int) -> None:
    """A journal in the middle of its second pass: b is half listed, a is listed, the rest is not met yet."""
    path.touch(0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        migrate(raw, migrations()[:1])
        raw.executescript(
            """
            INSERT INTO job (id, source, destination, pass_number, selection, listed_files, listed_bytes)
            VALUES (1, 'webhdfs://nn/src', 's3://bucket/dst', 2, 'all', 3, 3);
            INSERT INTO directories (id, path, state, after, first_pass)
            VALUES (1, '', 1, '', 1), (2, 'a', 1, '', 1), (3, 'b', 0, '1', 1), (4, 'c', 3, '', 1), (5, 'd', 0, '', 1);
            """
        )
        raw.execute("BEGIN")
        raw.executemany(
            "INSERT INTO files (directory, name, length, modification_time, file_id, block_size, state, method, etag)"
            " VALUES (?, ?, 1, 1, 1, 128, 1, 'checksum', '\"etag\"')",
            [(directory, f"{number}") for directory in (2, 3, 4, 5) for number in range(rows)],
        )
        raw.execute("COMMIT")
        raw.execute("PRAGMA journal_mode = WAL").fetchone()


async def test_a_journal_of_the_first_release_goes_on_and_takes_nothing_for_gone(tmp_path: Path) -> None:
    first_release(tmp_path / "journal", 3)
    journal = await opened(tmp_path / "journal")
    assert await journal.begin_pass("all") is True
    pages = {row.path: row for row in await journal.pending_directories(10)}
    assert {path: row.after for path, row in pages.items()} == {"b": "1", "d": ""}
    await journal.record_page(pages["b"].id, [file("b/1", 1, 1), file("b/2", 1, 1)], [], None)  # 0 came before
    await journal.record_page(pages["d"].id, [file("d/0", 1, 1)], [], None)
    await journal.finish_pass(True)
    assert await gone(journal) == [] and (await journal.totals()).done_files == 12
    # The next pass compares everything.
    tree = [folder("a"), folder("b"), folder("d"), *(file(f"{d}/{n}", 1, 1) for d in "ab" for n in range(3))]
    await passed(journal, [*tree, file("d/0", 1, 1)])
    assert await gone(journal) == ["c/0", "c/1", "c/2", "d/1", "d/2"]
    assert (await journal.totals()).done_files == 7
    await journal.close()


def test_the_migration_rewrites_no_row_of_a_file(tmp_path: Path) -> None:
    first_release(tmp_path / "journal", 5000)
    with closing(open_writer(tmp_path / "journal")) as writer:
        assert writer.execute("SELECT count(*) FROM files").fetchone() == (20_000,)
        assert writer.total_changes < 50
