"""What a file was before: every life that ends and every failure leaves a row, a first copy and packing leave none."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from asynccopy.errors import StillOpen
from asynccopy.journal import FormerLife, Journal
from asynccopy.journal.sqlite import migrate, migrations, open_reader, open_writer
from asynccopy.model import Evidence, FileStatus, FileVersion, OpenUpload, PartReceipt


def file(path: str, time: int = 1, file_id: int = 1) -> FileStatus:
    return FileStatus(path, 10 * time, time, file_id, False, 128)


def evidence(number: int) -> Evidence:
    return Evidence("checksum", f"MD5:{number}", f"CRC32C:{number}", f"e{number}")


async def opened(path: Path) -> Journal:
    return await Journal.open(path, source="src", destination="dst")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await opened(tmp_path / "journal")
    yield journal
    await journal.close()


async def listed(journal: Journal, *files: FileStatus) -> None:
    """A full pass over a root of these files, nothing of them copied."""
    await journal.begin_pass("all")
    (root,) = await journal.pending_directories(10)
    await journal.record_page(root.id, files, [], None)
    await journal.listing_done()
    await journal.finish_pass(True)


async def copied(journal: Journal, number: int = 1) -> None:
    """All that is pending is done, by the evidence of that number."""
    for pending in await journal.pending(0, 1000):
        assert await journal.done(pending.id, pending.status.version, evidence(number))


async def failed(journal: Journal, path: str, message: str) -> None:
    await journal.retry_failed()
    (id,) = [row.id for row in await journal.pending(0, 1000) if row.status.path == path]
    await journal.failed(id, "ServerError", message, "wait")


async def why(journal: Journal, path: str) -> list[str]:
    return [life.why for life in await journal.former(path)]


async def test_a_first_copy_and_a_pass_that_meets_nothing_new_leave_no_life(journal: Journal) -> None:
    await listed(journal, file("f"), file("g"))
    pending = await journal.pending(0, 10)
    await copied(journal)
    assert await journal.done(pending[0].id, pending[0].status.version, evidence(1))  # told twice
    await listed(journal, file("f"), file("g"))
    assert await journal.former("f") == await journal.former("g") == []


async def test_the_whole_life_of_a_file(journal: Journal) -> None:
    """Copied three times, failed between, renamed, deleted."""
    began = time.time_ns() // 1_000_000 - 1
    await listed(journal, file("f", 1))
    await copied(journal, 1)
    await listed(journal, file("f", 2))
    await failed(journal, "f", "no route")
    await failed(journal, "f", "no route")  # the same again is nothing new
    await failed(journal, "f", "refused")
    await journal.retry_failed()
    await copied(journal, 2)
    await journal.reopen(["f"])
    await copied(journal, 3)
    await listed(journal, file("g", 2))
    (twin,) = (await journal.gone_twins([file("g", 2).version])).values()
    await copied(journal, 4)
    await journal.forget_gone([twin.id])

    lives = await journal.former("f")
    assert [(life.why, life.length, life.modification_time, life.file_id) for life in lives] == [
        ("changed", 10, 1, 1),
        ("failed", 20, 2, 1),
        ("failed", 20, 2, 1),
        ("reopened", 20, 2, 1),
        ("gone", 20, 2, 1),
        ("forgotten", 20, 2, 1),
    ]
    proofs = [(life.method, life.source_checksum, life.object_checksum, life.etag) for life in lives]
    proven = [("checksum", f"MD5:{n}", f"CRC32C:{n}", f"e{n}") for n in (1, 2, 3, 3)]
    assert [proofs[0], *proofs[3:]] == proven
    assert proofs[1] == proofs[2] == ("", "", "", "e1")  # the object that is there meanwhile
    assert [(life.error_class, life.error) for life in lives[:3]] == [
        ("", ""),
        ("ServerError", "no route"),
        ("ServerError", "refused"),
    ]
    untils = [life.until for life in lives]
    assert began <= untils[0] and untils == sorted(untils) and untils[-1] <= time.time_ns() // 1_000_000 + 1
    assert all(began < life.done_at <= life.until + 1 for life in lives if life.method)
    assert twin.done_at == lives[4].done_at
    assert await journal.former("g") == [] and await journal.row("f") is None


async def test_a_failure_after_a_success_is_a_new_one(journal: Journal) -> None:
    await listed(journal, file("f"))
    await failed(journal, "f", "no route")
    await journal.retry_failed()
    await copied(journal)
    await listed(journal, file("f", 2))
    await failed(journal, "f", "no route")
    assert await why(journal, "f") == ["failed", "changed", "failed"]


async def test_a_file_that_is_still_written_has_not_failed(journal: Journal) -> None:
    await listed(journal, file("f"))
    (pending,) = await journal.pending(0, 10)
    await journal.failed(pending.id, "StillOpen", "being written", "")
    assert (await journal.totals()).open_files == 1
    assert await journal.former("f") == []
    await journal.failed(pending.id, StillOpen.__name__ + "Too", "no", "")  # this class alone is left out
    assert await why(journal, "f") == ["failed"]


async def test_what_never_had_an_object_goes_without_a_life(journal: Journal) -> None:
    await listed(journal, file("f"))
    await listed(journal)
    await journal.begin_pass("all")
    await journal.remove(["f"])
    (gone,) = await journal.gone(0, 10)
    await journal.forget_gone([gone.id])
    assert await journal.former("f") == []


async def test_a_version_that_was_not_copied_any_more_leaves_the_object_of_the_one_before(journal: Journal) -> None:
    await listed(journal, file("f", 1))
    await copied(journal, 1)
    await listed(journal, file("f", 2))
    await journal.remove(["f"])
    lives = await journal.former("f")
    assert [(life.why, life.modification_time, life.method, life.etag) for life in lives] == [
        ("changed", 1, "checksum", "e1"),
        ("gone", 2, "", "e1"),
    ]


async def test_a_name_that_lives_again_has_all_its_lives(journal: Journal) -> None:
    await listed(journal, file("f", 1, 1))
    await copied(journal, 1)
    await journal.remove(["f"])
    await listed(journal, file("f", 2, 2))
    await copied(journal, 2)
    await journal.forget_revived()
    assert await why(journal, "f") == ["gone", "forgotten"]
    await listed(journal, file("f", 3, 2))
    assert await why(journal, "f") == ["gone", "forgotten", "changed"]


async def test_a_done_file_that_waits_for_the_end_of_an_upload_is_gone_once(journal: Journal) -> None:
    await listed(journal, file("f"))
    await copied(journal)
    (known,) = await journal.some_done(1)
    await journal.begin_upload(known.id, OpenUpload("u", 5, known.status.version))
    await journal.vanished(known.id)
    assert await journal.former("f") == []
    await journal.finish_pass(True)
    assert await why(journal, "f") == ["gone"]


async def test_packing_and_unpacking_leave_no_life_and_lose_none(journal: Journal) -> None:
    await listed(journal, *(file(f"{n:04}") for n in range(300)))
    await copied(journal)
    assert await journal.pack(age=-1) == 300
    await listed(journal, *(file(f"{n:04}", 2 if n == 7 else 1) for n in range(300)))  # the pack is unpacked
    lives = [life for n in range(300) for life in await journal.former(f"{n:04}")]
    assert [(life.path, life.why, life.etag) for life in lives] == [("0007", "changed", "e1")]
    assert lives[0].done_at > 0
    await journal.reopen(None)
    assert await why(journal, "0007") == ["changed"] and await why(journal, "0008") == ["reopened"]


async def test_below_directories_the_path_is_whole(journal: Journal) -> None:
    await journal.begin_pass("all", "snapshot")
    await journal.record_files([file("a/b/f")])
    await copied(journal)
    await journal.remove(["a"])
    assert await why(journal, "a/b/f") == ["gone"]


def raw_lives(connection: sqlite3.Connection) -> list[int]:
    return [id for (id,) in connection.execute("SELECT id FROM former ORDER BY id")]


async def test_the_newest_million_is_kept(journal: Journal, tmp_path: Path) -> None:
    await listed(journal, file("a"), file("b"))
    await failed(journal, "a", "1")
    await failed(journal, "b", "2")
    await journal.close()
    with closing(open_writer(tmp_path / "journal")) as connection:
        connection.execute("UPDATE former SET id = 1000000 WHERE id = 2")
    again = await opened(tmp_path / "journal")
    await failed(again, "b", "3")
    assert (await why(again, "a"), len(await again.former("b"))) == ([], 2)
    await again.close()
    with closing(open_reader(tmp_path / "journal")) as connection:
        assert raw_lives(connection) == [1_000_000, 1_000_001]


def test_a_life_is_found_by_its_path_alone(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / "journal")) as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN SELECT * FROM former WHERE path = ? ORDER BY id", ("f",))
        assert [row[3] for row in plan] == ["SEARCH former USING INDEX former_path (path=?)"]


async def test_a_journal_of_the_release_before_goes_on(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal", isolation_level=None)) as raw:
        migrate(raw, migrations()[:3])
        raw.executescript(
            """
            INSERT INTO job (id, source, destination, pass_number, finished_at) VALUES (1, 'src', 'dst', 1, 1);
            INSERT INTO directories (id, path, state, first_pass) VALUES (1, '', 1, 1);
            INSERT INTO files (directory, name, length, modification_time, file_id, block_size, state, method, done_at)
            VALUES (1, 'f', 10, 1, 1, 128, 1, 'size', 5);
            INSERT INTO gone VALUES (1, 'g', 1, 2, 3, 'size', '', '', 'e', 4);
            """
        )
        raw.execute("PRAGMA journal_mode = WAL").fetchone()
    journal = await opened(tmp_path / "journal")
    assert await journal.former("f") == await journal.former("g") == []
    (gone,) = await journal.gone_of("g")
    assert (gone.gone_at, gone.done_at) == (4, 0)
    await journal.forget_gone([gone.id])
    await listed(journal, file("f", 2))
    assert [(life.why, life.done_at) for life in await journal.former("f")] == [("changed", 5)]
    assert await why(journal, "g") == ["forgotten"]
    await journal.close()


async def test_the_upload_under_way(journal: Journal) -> None:
    await listed(journal, file("f"), file("g"))
    first, _ = await journal.pending(0, 10)
    assert await journal.upload_of("f") is await journal.upload_of("none") is None
    await journal.begin_upload(first.id, OpenUpload("u", 5, first.status.version))
    part = PartReceipt(1, 0, 5, "e", 7)
    await journal.part_done(first.id, part)
    assert await journal.upload_of("f") == OpenUpload("u", 5, first.status.version, (part,))
    assert await journal.upload_of("g") is None


class Model:
    """What the lives of each path must be, by the rules told in words."""

    def __init__(self) -> None:
        self.source: dict[str, FileStatus] = {}
        self.done: dict[str, tuple[FileVersion, str]] = {}
        self.etags: dict[str, str] = {}
        self.lives: dict[str, list[tuple[str, str, str]]] = {}

    def enter(self, path: str, why: str, what: str, error: str = "") -> None:
        lives = self.lives.setdefault(path, [])
        if why != "failed" or lives[-1:] != [(why, what, error)]:
            lives.append((why, what, error))

    def met(self) -> None:
        for path, (version, etag) in list(self.done.items()):
            if path in self.source and self.source[path].version != version:
                self.enter(path, "changed", etag)
                del self.done[path]
        for path in [path for path in self.etags if path not in self.source]:
            self.enter(path, "gone", self.etags.pop(path))
            self.done.pop(path, None)


def seen(lives: list[FormerLife]) -> list[tuple[str, str, str]]:
    return [(life.why, life.etag, life.error) for life in lives]


@pytest.mark.parametrize("seed", range(6))
async def test_any_order_of_events_leaves_the_lives_it_should(journal: Journal, seed: int) -> None:
    chance, model = random.Random(seed), Model()
    names = ["a", "b", "c", "d"]
    for turn in range(1, 60):
        path = chance.choice(names)
        event = chance.choice(["write", "write", "remove", "copy", "copy", "fail", "reopen", "pack", "forget"])
        if event == "write":
            model.source[path] = file(path, turn, chance.randrange(1, 5))
        elif event == "remove":
            model.source.pop(path, None)
        elif event == "reopen":
            await journal.reopen([path])
            if path in model.done:
                model.enter(path, "reopened", model.done.pop(path)[1])
                model.etags.pop(path)
        elif event == "pack":
            await journal.pack(age=-1)
        elif event == "forget":
            for gone in await journal.gone(0, 100):
                if gone.evidence.etag:
                    model.enter(gone.path, "forgotten", gone.evidence.etag)
            await journal.forget_gone([gone.id for gone in await journal.gone(0, 100)])
        await listed(journal, *model.source.values())
        model.met()
        for pending in await journal.pending(0, 100):
            name = pending.status.path
            if event == "copy":
                await journal.done(pending.id, pending.status.version, evidence(turn))
                model.done[name], model.etags[name] = (pending.status.version, f"e{turn}"), f"e{turn}"
            elif event == "fail" and name == path:
                message = chance.choice(["x", "y"])
                await journal.failed(pending.id, "ServerError", message, "")
                model.enter(name, "failed", model.etags.get(name, ""), message)
        for name in names:
            assert seen(await journal.former(name)) == model.lives.get(name, []), (turn, event, name)
