"""Passes, pages, files and uploads as one process sees them, across closing and opening again."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from asynccopy.errors import NameRefused, UsageError
from asynccopy.journal import Directory, Failure, Journal, PageCount, Totals
from asynccopy.model import BlockDigest, Evidence, FileState, FileStatus, FileVersion, OpenUpload, PartReceipt

EVIDENCE = Evidence("checksum", "MD5-of-0MD5-of-512CRC32C:00ff", "CRC32C:abcd", '"etag"')


def file(path: str, length: int = 10, time: int = 1000, file_id: int = 1) -> FileStatus:
    return FileStatus(path, length, time, file_id, False, 128)


def folder(path: str, time: int = 1000, file_id: int = 1) -> FileStatus:
    return FileStatus(path, 0, time, file_id, is_directory=True)


async def opened(path: Path) -> Journal:
    return await Journal.open(path, source="webhdfs://nn/src", destination="s3://bucket/dst")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await opened(tmp_path / "journal")
    yield journal
    await journal.close()


async def listed(
    journal: Journal, files: list[FileStatus], selection: str = "all", others: Sequence[FileStatus] = ()
) -> None:
    """A pass whose root directory holds these files, and others that are not selected."""
    await journal.begin_pass(selection)
    (root,) = await journal.pending_directories(10)
    await journal.record_page(root.id, files, [], None, others)
    await journal.listing_done()


async def finished(journal: Journal, files: list[FileStatus]) -> None:
    """A finished pass that copied them all."""
    await listed(journal, files)
    for pending in await journal.pending(0, 1000):
        assert await journal.done(pending.id, pending.status.version, EVIDENCE)
    await journal.finish_pass(True)


async def states(journal: Journal) -> dict[str, FileState]:
    return {row.path: row.state async for row in journal.ledger()}


async def the_one(journal: Journal) -> int:
    (pending,) = await journal.pending(0, 10)
    return pending.id


# --- the job ------------------------------------------------------------------------------------------------------


async def test_a_new_journal_knows_its_job_and_nothing_else(journal: Journal) -> None:
    state = await journal.state()
    assert (state.source, state.destination, state.pass_number) == ("webhdfs://nn/src", "s3://bucket/dst", 0)
    assert not state.listing_done and not state.finished
    assert await journal.pending_directories(10) == []
    assert await journal.pending(0, 10) == []
    assert await journal.totals() == Totals(0, 0, 0, 0, 0, 0, 0, 0)


async def test_the_journal_of_another_job_is_refused_by_name(tmp_path: Path) -> None:
    await (await opened(tmp_path / "journal")).close()
    with pytest.raises(UsageError) as caught:
        await Journal.open(tmp_path / "journal", source="webhdfs://nn/other", destination="s3://bucket/dst")
    assert "webhdfs://nn/src" in caught.value.message and "webhdfs://nn/other" in caught.value.message
    await (await opened(tmp_path / "journal")).close()  # and the refused opening left no lock behind


# --- passes -------------------------------------------------------------------------------------------------------


async def test_an_unfinished_pass_goes_on_from_its_cursors(tmp_path: Path) -> None:
    journal = await opened(tmp_path / "journal")
    assert await journal.begin_pass("all") is False
    (root,) = await journal.pending_directories(10)
    assert root == Directory(root.id, "", "")
    await journal.record_page(root.id, [file("a"), file("b")], [folder("d")], "b")
    await journal.close()

    journal = await opened(tmp_path / "journal")
    assert await journal.begin_pass("all") is True
    assert [(d.path, d.after) for d in await journal.pending_directories(10)] == [("", "b"), ("d", "")]
    await journal.record_page(root.id, [file("c")], [], None)
    assert [d.path for d in await journal.pending_directories(10)] == ["d"]
    state = await journal.state()
    assert (state.pass_number, state.listed_files, state.listed_bytes) == (1, 3, 30)
    assert not state.listing_done
    await journal.listing_done()
    assert (await journal.state()).listing_done
    await journal.close()


@pytest.mark.parametrize(("finish", "selection"), [(True, "all"), (False, "other")])
async def test_a_finished_pass_or_another_selection_begins_anew(journal: Journal, finish: bool, selection: str) -> None:
    await listed(journal, [file("a")])
    if finish:
        await journal.finish_pass(True)
        assert (await journal.state()).finished
    assert await journal.begin_pass(selection) is False
    state = await journal.state()
    assert (state.pass_number, state.selection, state.listed_files, state.listed_bytes) == (2, selection, 0, 0)
    assert not state.listing_done and not state.finished
    assert await states(journal) == {"a": FileState.UNSEEN}
    assert [(d.path, d.after) for d in await journal.pending_directories(10)] == [("", "")]


async def test_what_a_new_pass_meets_again(journal: Journal) -> None:
    before = [file("same", 1), file("grown", 2), file("gone", 3)]
    await finished(journal, before)
    await listed(journal, [file("failed", 4), file("left", 5)], "part", others=before)
    ids = {pending.status.path: pending.id for pending in await journal.pending(0, 10)}
    await journal.failed(ids["failed"], "PermissionDenied", "no", "ask")

    await journal.begin_pass("all")
    assert await states(journal) == {
        "same": FileState.DONE,
        "grown": FileState.DONE,
        "gone": FileState.DONE,
        "failed": FileState.UNSEEN,
        "left": FileState.UNSEEN,
    }
    (root,) = await journal.pending_directories(10)
    count = await journal.record_page(
        root.id, [file("same", 1), file("grown", 20, 2000), file("failed", 4), file("new", 6)], [], None
    )
    assert (count.files, count.bytes, count.unchanged_files, count.unchanged_bytes) == (4, 31, 1, 1)
    pending = {pending.status.path: pending for pending in await journal.pending(0, 10)}
    assert set(pending) == {"grown", "failed", "new"}
    assert pending["grown"].status == file("grown", 20, 2000)
    assert pending["failed"].id == ids["failed"]
    assert await journal.failures(10) == []

    await journal.finish_pass(True)
    assert set(await states(journal)) == {"same", "grown", "failed", "new"}
    assert (await journal.totals()).done_files == 1
    gone = {file.path: file for file in await journal.gone(0, 10)}
    assert set(gone) == {"gone", "left"}
    assert gone["gone"].evidence == EVIDENCE and gone["gone"].version == file("gone", 3).version
    assert gone["left"].evidence == Evidence("")


@pytest.mark.parametrize("change", [file("f", 11), file("f", 10, 1001), file("f", 10, 1000, 2)])
async def test_each_element_of_the_version_counts_and_voids_the_evidence(journal: Journal, change: FileStatus) -> None:
    await finished(journal, [file("f")])
    await listed(journal, [change])
    (row,) = [row async for row in journal.ledger()]
    assert row.state is FileState.PENDING
    assert (row.length, row.modification_time, row.file_id) == (
        change.length,
        change.modification_time,
        change.file_id,
    )
    assert (row.method, row.source_checksum, row.object_checksum, row.done_at) == ("", "", "", 0)
    assert row.etag == EVIDENCE.etag  # still the object's at the destination


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 127, 200])
async def test_a_page_of_any_length_is_met_whole_and_met_again(journal: Journal, count: int) -> None:
    files = [file(f"f{number}", length=number) for number in range(count)]
    await finished(journal, files)
    await journal.begin_pass("all")
    (root,) = await journal.pending_directories(10)
    page = [file("f0", length=7), *files[1:], file("new", length=5)]
    counted = await journal.record_page(root.id, page, [], None)
    size = sum(range(count))
    assert counted == PageCount(count + 1, size + 12, count - 1, size)
    assert [row.status for row in await journal.pending(0, 1000)] == [page[0], page[-1]]
    assert (await journal.totals()).done_files == count - 1


async def test_a_name_that_comes_twice_in_a_pass_is_one_file_and_stays_done(journal: Journal) -> None:
    await journal.begin_pass("all")
    (root,) = await journal.pending_directories(10)
    await journal.record_page(root.id, [file("f"), file("f")], [], "f")
    assert await journal.done(await the_one(journal), file("f").version, EVIDENCE)
    await journal.record_page(root.id, [file("f"), file("g")], [], None)
    assert await states(journal) == {"f": FileState.DONE, "g": FileState.PENDING}


async def test_an_incomplete_pass_removes_nothing(journal: Journal) -> None:
    await listed(journal, [file("a")])
    await journal.begin_pass("other")
    await journal.finish_pass(False)
    assert await states(journal) == {"a": FileState.UNSEEN}


async def test_a_directory_is_listed_once_per_pass(journal: Journal) -> None:
    for number in (1, 2):
        await journal.begin_pass("all")
        (root,) = await journal.pending_directories(10)
        await journal.record_page(root.id, [], [folder("d")], "d")
        child = (await journal.pending_directories(10))[1]
        await journal.record_page(child.id, [file("d/f", number)], [], None)
        await journal.record_page(root.id, [], [folder("d")], None)  # met again, by a page that overlaps
        assert await journal.pending_directories(10) == []
        await journal.finish_pass(True)


async def test_directories_that_vanished_are_forgotten_and_may_come_back(journal: Journal) -> None:
    await journal.begin_pass("all")
    (root,) = await journal.pending_directories(10)
    await journal.record_page(root.id, [], [folder("d")], None)
    await journal.finish_pass(True)
    await listed(journal, [])
    await journal.finish_pass(True)
    await journal.begin_pass("all")
    assert [d.path for d in await journal.pending_directories(10)] == [""]
    await journal.record_page(root.id, [], [folder("d")], None)
    assert [d.path for d in await journal.pending_directories(10)] == ["d"]


# --- names --------------------------------------------------------------------------------------------------------

NAMES = [
    "caf\u00e9",
    "cafe\u0301",
    "line\nbreak",
    "tab\tcr\r",
    " lead and trail ",
    "\U0001f9ca ice",
    "A",
    "a",
    "%2F",
    "'; DROP TABLE files; --",
    "..data",
    "\x01\x7f",
    "x" * 255,
    "\u202ertl",
]


@pytest.mark.parametrize("directory", ["", "d\u00e9p\n/de\u0301p"])
async def test_every_legal_name_comes_back_exactly_and_apart(journal: Journal, directory: str) -> None:
    await journal.begin_pass("all")
    (place,) = await journal.pending_directories(1)
    if directory:
        await journal.record_page(place.id, [], [folder(directory.split("/")[0])], None)
        (place,) = await journal.pending_directories(1)
        await journal.record_page(place.id, [], [folder(directory)], None)
        (place,) = await journal.pending_directories(1)
    paths = [f"{directory}/{name}" if directory else name for name in NAMES]
    await journal.record_page(place.id, [file(path, number) for number, path in enumerate(paths)], [], None)
    assert [pending.status for pending in await journal.pending(0, 100)] == [
        file(path, number) for number, path in enumerate(paths)
    ]
    assert [row.path async for row in journal.ledger()] == sorted(paths)


async def test_an_empty_directory_is_a_row_whose_path_ends_in_a_slash(journal: Journal) -> None:
    await journal.begin_pass("all")
    (root,) = await journal.pending_directories(1)
    await journal.record_page(root.id, [], [folder("a")], None)
    (directory,) = await journal.pending_directories(1)
    marker = FileStatus("a/", 0, 5, 6, is_directory=True)
    await journal.record_page(directory.id, [marker], [], None)
    (pending,) = await journal.pending(0, 10)
    assert pending.status == marker
    assert await journal.done(pending.id, marker.version, EVIDENCE)
    assert await states(journal) == {"a/": FileState.DONE}


async def test_pages_that_cannot_be_right_are_refused_whole(journal: Journal) -> None:
    await journal.begin_pass("all")
    (root,) = await journal.pending_directories(1)
    with pytest.raises(ValueError):
        await journal.record_page(root.id, [file("good"), file("elsewhere/f")], [], None)
    with pytest.raises(NameRefused):
        await journal.record_page(root.id, [file("good"), file("bad\udcff")], [], None)
    assert await journal.pending(0, 10) == []
    assert await journal.pending_directories(10) == [root]


# --- one file -----------------------------------------------------------------------------------------------------


async def test_pending_goes_by_id_in_steps(journal: Journal) -> None:
    await listed(journal, [file(f"f{number:03}") for number in range(25)])
    seen: list[str] = []
    after = 0
    while page := await journal.pending(after, 10):
        assert len(page) <= 10
        seen += [pending.status.path for pending in page]
        after = page[-1].id
    assert seen == [f"f{number:03}" for number in range(25)]


async def test_a_removed_id_never_comes_back(journal: Journal) -> None:
    await listed(journal, [file("a"), file("b")])
    last = (await journal.pending(0, 10))[-1].id
    await journal.vanished(last)
    await listed(journal, [file("c")], "more")
    assert [pending.status.path for pending in await journal.pending(last, 10)] == ["c"]


async def test_done_keeps_the_evidence(journal: Journal) -> None:
    await listed(journal, [file("f")])
    assert await journal.done(await the_one(journal), file("f").version, EVIDENCE)
    (row,) = [row async for row in journal.ledger()]
    assert row.state is FileState.DONE and row.done_at > 1_600_000_000_000
    assert Evidence(row.method, row.source_checksum, row.object_checksum, row.etag) == EVIDENCE
    assert await journal.pending(0, 10) == []


@pytest.mark.parametrize("version", [FileVersion(11, 1000, 1), FileVersion(10, 1001, 1), FileVersion(10, 1000, 2)])
async def test_done_with_another_version_changes_nothing(journal: Journal, version: FileVersion) -> None:
    await listed(journal, [file("f")])
    file_id = await the_one(journal)
    upload = OpenUpload("u", 5, file("f").version)
    await journal.begin_upload(file_id, upload)
    assert not await journal.done(file_id, version, EVIDENCE)
    assert not await journal.done(file_id + 1, file("f").version, EVIDENCE)
    assert await the_one(journal) == file_id
    assert await journal.upload(file_id) == upload


async def test_each_of_many_done_at_once_has_its_own_answer(journal: Journal) -> None:
    await listed(journal, [file(f"f{number}", length=number) for number in range(200)])
    pending = await journal.pending(0, 1000)
    gone, other = pending[7], pending[130]
    await journal.vanished(gone.id)
    await journal.changed(other.id, file("f130", length=9999))
    upload = pending[11]
    await journal.begin_upload(upload.id, OpenUpload("u", 5, upload.status.version))
    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(journal.done(row.id, row.status.version, EVIDENCE)) for row in pending]
    assert [row.id for row, answer in zip(pending, answers, strict=True) if not answer.result()] == [gone.id, other.id]
    found = await states(journal)
    assert len(found) == 199 and found.pop("f130") == FileState.PENDING
    assert set(found.values()) == {FileState.DONE}
    assert await journal.upload(upload.id) is None and await journal.open_uploads() == []
    assert await journal.done(other.id, file("f130", length=9999).version, EVIDENCE)


async def test_an_upload_stays_when_another_version_is_done(journal: Journal) -> None:
    await listed(journal, [file("f")])
    id = await the_one(journal)
    await journal.begin_upload(id, OpenUpload("u", 5, file("f").version))
    assert not await journal.done(id, file("f", length=11).version, EVIDENCE)
    assert await journal.open_uploads() == [("f", "u")]


async def test_failed_then_changed_then_done(journal: Journal) -> None:
    await listed(journal, [file("f")])
    file_id = await the_one(journal)
    await journal.failed(file_id, "SourceChanged", "f is being written", "wait")
    assert await journal.failures(10) == [Failure("f", "SourceChanged", "f is being written", "wait")]
    assert await journal.pending(0, 10) == []

    await journal.changed(file_id, file("f", 99, 2000))
    assert await journal.failures(10) == []
    (pending,) = await journal.pending(0, 10)
    assert (pending.id, pending.status) == (file_id, file("f", 99, 2000))
    assert not await journal.done(file_id, file("f").version, EVIDENCE)
    assert await journal.done(file_id, file("f", 99, 2000).version, EVIDENCE)


async def test_totals_equal_a_walk_over_the_rows(journal: Journal, tmp_path: Path) -> None:
    await finished(journal, [file("a", 1), file("b", 2), file("c", 4)])
    await listed(journal, [file("a", 8), file("b", 2), file("d", 16), file("e", 32), file("f", 64)])
    ids = {pending.status.path: pending.id for pending in await journal.pending(0, 10)}
    await journal.failed(ids["d"], "NotFound", "", "")
    await journal.changed(ids["e"], file("e", 128))
    await journal.vanished(ids["f"])
    assert await journal.totals() == Totals(2, 136, 1, 2, 1, 16, 0, 0)
    assert await journal.gone_count() == (1, 4)  # c; of f no object is known
    await journal.begin_pass("other")
    assert await journal.totals() == Totals(0, 0, 1, 2, 0, 0, 3, 152)
    with closing(sqlite3.connect(tmp_path / "journal")) as raw:
        walked = raw.execute("SELECT state, count(*), sum(length) FROM files GROUP BY state").fetchall()
        kept = raw.execute("SELECT * FROM counts WHERE files > 0 AND state < 4").fetchall()
    assert walked == kept
    await journal.finish_pass(True)
    assert await journal.totals() == Totals(0, 0, 1, 2, 0, 0, 0, 0)


# --- the part log -------------------------------------------------------------------------------------------------

PARTS = (
    PartReceipt(1, 0, 5, '"e1"', 0xFFFFFFFF, (BlockDigest(0, True, b"\x00" * 16), BlockDigest(1, False, b"\xff\x00"))),
    PartReceipt(2, 5, 5, '"e2"', 0),
)


async def test_an_upload_and_its_parts_survive_and_end_with_the_file(tmp_path: Path) -> None:
    journal = await opened(tmp_path / "journal")
    await listed(journal, [file("f")])
    file_id = await the_one(journal)
    assert await journal.upload(file_id) is None
    await journal.begin_upload(file_id, OpenUpload("id-1", 5, file("f").version))
    for receipt in reversed(PARTS):
        await journal.part_done(file_id, receipt)
    await journal.close()

    journal = await opened(tmp_path / "journal")
    assert await journal.upload(file_id) == OpenUpload("id-1", 5, file("f").version, PARTS)
    assert await journal.open_uploads() == [("f", "id-1")]
    assert await journal.done(file_id, file("f").version, EVIDENCE)
    assert await journal.upload(file_id) is None
    assert await journal.open_uploads() == []
    await journal.close()
    with closing(sqlite3.connect(tmp_path / "journal")) as raw:
        assert raw.execute("SELECT count(*) FROM parts").fetchone() == (0,)


async def test_a_new_upload_takes_the_place_of_the_old_one_and_its_parts(journal: Journal) -> None:
    await listed(journal, [file("f")])
    file_id = await the_one(journal)
    await journal.begin_upload(file_id, OpenUpload("old", 5, file("f").version))
    await journal.part_done(file_id, PARTS[0])
    await journal.changed(file_id, file("f", 20))
    assert await journal.upload(file_id) == OpenUpload("old", 5, file("f").version, PARTS[:1])

    await journal.begin_upload(file_id, OpenUpload("new", 6, file("f", 20).version))
    assert await journal.upload(file_id) == OpenUpload("new", 6, file("f", 20).version)
    await journal.drop_upload(file_id)
    assert await journal.upload(file_id) is None and await journal.open_uploads() == []


async def test_an_upload_whose_recording_was_cancelled_is_not_forgotten(journal: Journal) -> None:
    await listed(journal, [file("f")])
    file_id = await the_one(journal)
    gate = threading.Event()
    blocker = asyncio.create_task(journal._database.write(lambda _: gate.wait(10)))
    begin = asyncio.create_task(journal.begin_upload(file_id, OpenUpload("id-1", 5, file("f").version)))
    await asyncio.sleep(0)
    begin.cancel()
    asked = asyncio.create_task(journal.upload(file_id))
    await asyncio.sleep(0)
    gate.set()
    assert await asked == OpenUpload("id-1", 5, file("f").version)
    await blocker


async def test_uploads_of_unseen_files_are_stale_until_the_pass_removes_them(journal: Journal) -> None:
    await listed(journal, [file("kept"), file("gone")])
    ids = {pending.status.path: pending.id for pending in await journal.pending(0, 10)}
    for path, file_id in ids.items():
        await journal.begin_upload(file_id, OpenUpload(f"upload-{path}", 5, file(path).version))
    await journal.part_done(ids["gone"], PARTS[0])
    await listed(journal, [file("kept")], "other")
    assert await journal.stale_uploads() == [("gone", "upload-gone")]
    assert len(await journal.open_uploads()) == 2
    await journal.finish_pass(True)
    assert await journal.open_uploads() == [("kept", "upload-kept")]
    assert await journal.upload(ids["gone"]) is None
    assert await journal.upload(ids["kept"]) is not None
