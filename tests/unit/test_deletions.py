"""One round of deletions: what goes, what stays, and what is remembered of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import pytest
from fastcrc.crc32 import iscsi

from asynccopy.errors import JournalFull, NameRefused, NotFound, PermissionDenied, ServerTrouble
from asynccopy.journal import Journal
from asynccopy.mirror.deletions import PLACE, Deletions, Handling
from asynccopy.model import Evidence, FileStatus
from asynccopy.storage.memory import MemorySource
from tests.unit.test_watch import FailingStore


class Round:
    """Files that were copied and are gone from the source now, and one round of their deletions."""

    def __init__(self, journal: Journal, mode: Literal["delete", "trash"] = "delete") -> None:
        self.journal = journal
        self.source = MemorySource()
        self.store = FailingStore(prefix="p/")
        self.handling = Handling(mode)
        self.stop = asyncio.Event()
        self.said: list[str] = []
        self.unproven = 100

    async def copied(self, paths: Sequence[str], body: bytes = b"1", file_id: int = 1) -> None:
        await self.journal.begin_pass("all", "snapshot")
        await self.journal.record_files([FileStatus(path, len(body), 1, file_id) for path in paths])
        for row in await self.journal.pending(0, 10_000):
            if row.status.path in paths:
                meta = await self.store.put("p/" + row.status.path, body, iscsi(body))
                await self.journal.done(row.id, row.status.version, Evidence("checksum", "", "", meta.etag))

    async def gone(self, *paths: str) -> None:
        await self.copied(paths)
        await self.journal.remove(paths)

    async def run(self) -> int:
        deletions = Deletions(
            self.source,
            self.store,
            self.journal,
            self.handling,
            stop=self.stop,
            told=self.said.append,
            unproven=self.unproven,
        )
        try:
            await deletions.run()
        finally:
            self.deleted = deletions.deleted
        return deletions.deleted

    async def rows(self) -> list[str]:
        return sorted({row.path for row in await self.journal.gone(0, 10_000)})

    def left(self) -> list[str]:
        return sorted(self.store.objects)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "j", source="memory://s", destination="memory://d")
    yield journal
    await journal.close()


async def test_what_is_gone_goes_and_is_forgotten(journal: Journal) -> None:
    turn = Round(journal)
    await turn.copied(["stays"])
    await turn.gone(*(f"d/{n}" for n in range(50)))
    assert await turn.run() == 50
    assert (turn.left(), await turn.rows(), turn.said) == (["p/stays"], [], [])


async def test_trash_keeps_the_bytes_under_a_dated_prefix(journal: Journal) -> None:
    turn = Round(journal, "trash")
    await turn.gone("d/f")
    assert await turn.run() == 1
    (key,) = turn.left()
    assert key.startswith(".asynccopy-trash/20") and key.endswith("/p/d/f")
    assert turn.store.objects[key] == b"1"


async def test_uploads_of_a_round_that_was_killed_are_aborted_and_no_others(journal: Journal) -> None:
    """A large object goes into the trash by an upload of copied parts."""
    turn = Round(journal, "trash")
    await turn.gone("d/f")

    async def killed(*_: object) -> None:
        place = await journal.recall(PLACE)
        assert place is not None
        await turn.store.create_upload(f"{place}p/d/f")
        raise JournalFull("as good as a kill")

    foreign = {await turn.store.create_upload(key) for key in ("p/d/f", ".asynccopy-trash/2020-01-01/000000/p/d/f")}
    with patch.object(turn.store, "copy", killed), pytest.raises(JournalFull):
        await turn.run()
    assert len(await turn.store.list_uploads("")) == 3
    assert await turn.run() == 1
    assert {upload_id for _, upload_id in await turn.store.list_uploads("")} == foreign
    assert await journal.recall(PLACE) is None


async def test_an_object_that_is_replaced_while_it_goes_into_the_trash_stays(journal: Journal) -> None:
    turn = Round(journal, "trash")
    await turn.gone("f")

    def fail(operation: str, key: str) -> None:
        if operation == "copy":
            raise NotFound("replaced")

    turn.store.fail = fail
    assert await turn.run() == 0
    assert (turn.left(), await turn.rows()) == (["p/f"], ["f"])


async def test_a_file_that_is_at_the_source_after_all_keeps_its_object(journal: Journal) -> None:
    turn = Round(journal)
    await turn.gone("f", "g")
    turn.source.put("f", b"1")
    assert await turn.run() == 1
    assert (turn.left(), await turn.rows()) == (["p/f"], ["f"])


async def test_a_directory_in_the_place_of_a_file_does_not_keep_its_object(journal: Journal) -> None:
    turn = Round(journal)
    await turn.gone("f")
    turn.source.put("f/g", b"1")
    assert await turn.run() == 1
    assert turn.left() == []


async def test_the_object_of_a_name_that_lives_again_belongs_to_the_new_file(journal: Journal) -> None:
    turn = Round(journal)
    await turn.gone("f", "g")
    await turn.copied(["f"], b"1", 2)
    await journal.record_files([FileStatus("g", 5, 5, 5)])  # not copied yet
    assert await turn.run() == 0
    assert (turn.left(), await turn.rows()) == (["p/f", "p/g"], ["g"])


async def test_somebody_else_s_object_is_told_and_left(journal: Journal) -> None:
    turn = Round(journal)
    await turn.gone("f")
    await turn.store.put("p/f", b"2", iscsi(b"2"))
    assert await turn.run() == 0
    assert (turn.left(), await turn.rows()) == (["p/f"], [])
    assert "not the object that was copied" in turn.said[0]


async def test_a_name_that_came_and_went_goes_by_any_of_its_files(journal: Journal) -> None:
    turn = Round(journal)
    await turn.gone("f")
    await journal.record_files([FileStatus("f", 5, 5, 5)])
    await journal.remove(["f"])  # and never was copied
    assert await turn.run() == 1
    assert (turn.left(), await turn.rows()) == ([], [])


@pytest.mark.parametrize("operation", ["head", "delete"])
async def test_one_that_cannot_be_deleted_holds_up_no_other(journal: Journal, operation: str) -> None:
    turn = Round(journal)
    await turn.gone(*(f"d/{n}" for n in range(50)))

    def fail(asked: str, key: str) -> None:
        if (asked, key) == (operation, "p/d/7"):
            raise PermissionDenied("not allowed")

    turn.store.fail = fail
    assert await turn.run() == 49
    assert (turn.left(), await turn.rows()) == (["p/d/7"], ["d/7"])
    assert len(turn.said) == 1


async def test_a_name_that_the_store_cannot_hold_is_dealt_with(journal: Journal) -> None:
    turn = Round(journal)
    await turn.gone("f")

    def fail(asked: str, key: str) -> None:
        raise NameRefused(key)

    turn.store.fail = fail
    assert await turn.run() == 0
    assert (await turn.rows(), turn.said) == ([], [])


async def test_trouble_ends_the_round_and_what_is_done_is_remembered(journal: Journal) -> None:
    turn = Round(journal)
    await turn.gone(*(f"d/{n:02}" for n in range(50)))

    def fail(asked: str, key: str) -> None:
        if key == "p/d/30":
            raise ServerTrouble("down")

    turn.store.fail = fail
    with pytest.raises(ServerTrouble):
        await turn.run()
    left = [key.removeprefix("p/") for key in turn.left()]
    assert 0 < turn.deleted < 50
    assert len(left) == 50 - turn.deleted
    assert set(left) <= set(await turn.rows()), "an object without its row would stay for ever"
    turn.store.fail = lambda *_: None
    await turn.run()
    assert (turn.left(), await turn.rows()) == ([], [])


async def test_a_stop_ends_it_between_two_objects(journal: Journal) -> None:
    turn = Round(journal)
    await turn.gone(*(f"d/{n:02}" for n in range(50)))

    def stop(asked: str, key: str) -> None:
        if asked == "delete":
            turn.stop.set()

    turn.store.fail = stop
    assert 1 <= await turn.run() <= 16
    left = {key.removeprefix("p/") for key in turn.left()}
    assert left == set(await turn.rows())


async def test_cancelled_it_forgets_no_row_whose_object_is_there(journal: Journal) -> None:
    turn = Round(journal)
    await turn.gone(*(f"d/{n:02}" for n in range(50)))
    task = asyncio.create_task(turn.run())

    def cancel(asked: str, key: str) -> None:
        if key == "p/d/20":
            task.cancel()

    turn.store.fail = cancel
    await asyncio.wait([task])
    assert task.cancelled()
    left = {key.removeprefix("p/") for key in turn.left()}
    assert left and left <= set(await turn.rows())


async def test_a_full_disk_under_the_journal_is_raised(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Round(journal)
    await turn.gone("f")

    async def full(ids: Sequence[int]) -> None:
        raise JournalFull("full")

    monkeypatch.setattr(journal, "forget_gone", full)
    with pytest.raises(JournalFull):
        await turn.run()
    assert await turn.rows() == ["f"]


async def test_more_than_one_batch(journal: Journal) -> None:
    turn = Round(journal)
    await turn.gone(*(f"d/{n}" for n in range(2100)))
    assert await turn.run() == 2100
    assert (turn.left(), await turn.rows()) == ([], [])


async def test_replaced_files_are_forgotten_and_others_not(journal: Journal) -> None:
    turn = Round(journal)
    names = ["f", "d/f", "d/e/f", "d.f", "é/ü ", "d/e/100%", "x/_", "x/y"]
    await turn.gone(*names)
    await turn.copied(["f", "d/e/f", "é/ü ", "d/e/100%", "x/_"], b"1", 2)
    await journal.record_files([FileStatus("x/y", 5, 5, 5)])  # lives again, but its old object is still there
    await journal.forget_revived()
    assert await turn.rows() == ["d.f", "d/f", "x/y"]


async def test_objects_that_only_look_like_ours_go_a_few_at_a_time(journal: Journal) -> None:
    """Their copies may have been cut off before the commit; or somebody else has filled the destination."""
    deleting = Round(journal)
    names = [f"f{number}" for number in range(5)]
    await journal.begin_pass("all", "snapshot")
    await journal.record_files([FileStatus(name, 1, 1, 7) for name in names])
    for name in names:
        await deleting.store.put(f"p/{name}", b"1", iscsi(b"1"))
    await journal.remove(names)
    deleting.unproven = 2
    assert (await deleting.run(), len(deleting.left()), len(await deleting.rows())) == (2, 3, 3)
    deleting.unproven = 100
    assert (await deleting.run(), deleting.left(), await deleting.rows()) == (3, [], [])
