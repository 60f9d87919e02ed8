"""What a watcher does when something goes wrong between two of its steps. Both sides are in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from asynccopy.errors import AsyncCopyError, JournalFull, NotFound, PermissionDenied, Throttled
from asynccopy.journal import Journal
from asynccopy.mirror.deletions import CONFIRMED, Handling
from asynccopy.mirror.mirror import CopyOptions
from asynccopy.mirror.rules import Rules
from asynccopy.mirror.schedule import Cadence
from asynccopy.mirror.selection import Selection
from asynccopy.model import ByteRange, FileStatus, ListPage, ObjectMeta, PartReceipt
from asynccopy.storage.interface import Reader
from asynccopy.storage.memory import MemoryDestination, MemorySource
from asynccopy.storage.memory.snapshots import MemorySnapshots
from asynccopy.storage.memory.source import FrozenSource
from asynccopy.units import Cap
from tests.property.test_watcher import Life, only_full

Fail = Callable[[str, str], None]
"""Called with the name of an operation and its path: may raise."""


def nothing(operation: str, path: str) -> None:
    pass


class Failing(MemorySource):
    """A source that asks ``fail`` first, in its snapshots too."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.fail: Fail = nothing
        super().__init__(files)

    async def status(self, path: str) -> FileStatus:
        self.fail("status", path)
        return await super().status(path)

    async def list(self, path: str, after: str = "") -> ListPage:
        self.fail("list", path)
        return await super().list(path, after)

    @property
    def snapshots(self) -> MemorySnapshots | None:
        kept = self._snapshots
        return None if kept is None else _Snapshots(self, kept, self._touched, lambda n: _Frozen(self, n), 1000)


class _Snapshots(MemorySnapshots):
    def __init__(self, live: Failing, *args: Any) -> None:
        super().__init__(*args)
        self._live = live

    async def names(self) -> list[str]:
        self._live.fail("names", "")
        return await super().names()

    async def create(self, name: str) -> None:
        self._live.fail("create", name)
        await super().create(name)

    async def delete(self, name: str) -> None:
        self._live.fail("delete", name)
        await super().delete(name)


class _Frozen(FrozenSource):
    def __init__(self, live: Failing, name: str) -> None:
        super().__init__(live, name)
        self._failing = live

    async def status(self, path: str) -> FileStatus:
        self._failing.fail("status", path)
        return await super().status(path)

    async def list(self, path: str, after: str = "") -> ListPage:
        self._failing.fail("list", path)
        return await super().list(path, after)


class FailingStore(MemoryDestination):
    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        self.fail: Fail = nothing

    async def head(self, key: str) -> ObjectMeta | None:
        self.fail("head", key)
        return await super().head(key)

    async def delete(self, key: str) -> None:
        self.fail("delete", key)
        await super().delete(key)

    async def put(
        self, key: str, body: bytes | memoryview, crc32c: int, status: FileStatus | None = None
    ) -> ObjectMeta:
        self.fail("put", key)
        return await super().put(key, body, crc32c, status)

    async def copy(self, key: str, to: str, size: int, etag: str) -> ObjectMeta:
        self.fail("copy", key)
        return await super().copy(key, to, size, etag)

    async def create_upload(self, key: str, status: FileStatus | None = None) -> str:
        self.fail("create_upload", key)
        return await super().create_upload(key, status)

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartReceipt],
        crc32c: int,
        status: FileStatus | None = None,
    ) -> ObjectMeta:
        self.fail("complete_upload", key)
        return await super().complete_upload(key, upload_id, parts, crc32c, status)

    async def open(self, key: str, range: ByteRange) -> Reader:
        self.fail("open", key)
        return await super().open(key, range)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        self.fail("abort_upload", key)
        await super().abort_upload(key, upload_id)


class Live(Life):
    """Its store fails at will; its rules are any."""

    def __init__(self, folder: Path, source: MemorySource, watch: Any, **keys: Any) -> None:
        self.store = keys.pop("store", None) or FailingStore()
        super().__init__(folder, source, watch, **keys)

    def made(self) -> MemoryDestination:
        return self.store

    def again(self, **changes: Any) -> None:
        """Other rules, in the next life."""
        rules = {name: getattr(self.rules, name) for name in self.rules.__struct_fields__}
        self.rules = Rules(**(rules | changes))

    async def fact(self, key: str, value: str | None = None) -> str | None:
        """Read, or set, what the journal remembers between two lives."""
        journal = await self._open("listing")
        try:
            if value is not None:
                await journal.remember(key, value)
            return await journal.recall(key)
        finally:
            await journal.close()


@pytest.fixture
async def lives(tmp_path: Path) -> AsyncIterator[Callable[..., Live]]:
    begun: list[Live] = []

    def make(source: MemorySource, watch: Any, **keys: Any) -> Live:
        begun.append(Live(tmp_path, source, watch, **keys))
        return begun[-1]

    yield make
    for life in begun:
        if not life.running.done():
            await life.end()


def denied(operation: str, path: str) -> Fail:
    def fail(asked: str, at: str) -> None:
        if (asked, at) == (operation, path):
            raise PermissionDenied(f"{asked} {at}")

    return fail


def once(operation: str, error: AsyncCopyError) -> Fail:
    left = [error]

    def fail(asked: str, at: str) -> None:
        if asked == operation and left:
            raise left.pop()

    return fail


async def until(met: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not met():  # noqa: ASYNC110 - there is no event for what a watcher does
            await asyncio.sleep(0.001)


# --- what must not be missed ----------------------------------------------------------------------------------------


async def test_a_new_directory_that_cannot_be_listed_is_taken_up_by_the_next_snapshot_pass(
    lives: Callable[..., Live],
) -> None:
    source = Failing({"f": b"1"})
    life = lives(source, "snapshots", cadence=only_full("snapshots"))
    await life.one_pass()
    source.put("d/new", b"2")
    source.fail = denied("list", "d")
    await life.one_pass()
    assert not life.watcher.passes.progress.listing_done
    equal_at = life.watcher.passes.equal_at
    await life.one_pass()  # nothing has changed since, and yet it is not forgotten
    assert life.watcher.passes.equal_at == equal_at
    source.fail = nothing
    await life.one_pass()
    assert life.objects() == {"f": b"1", "d/new": b"2"}
    assert life.watcher.passes.equal_at > equal_at


async def test_a_new_file_that_cannot_be_looked_up_is_taken_up_by_the_next_snapshot_pass(
    lives: Callable[..., Live],
) -> None:
    source = Failing({"d/f": b"1"})
    life = lives(source, "snapshots", cadence=only_full("snapshots"))
    await life.one_pass()
    source.put("d/new", b"2")

    def fail(operation: str, path: str) -> None:
        if path.startswith("d"):
            raise PermissionDenied(path)

    source.fail = fail
    await life.one_pass()
    source.fail = nothing
    await life.one_pass()
    assert life.objects() == {"d/f": b"1", "d/new": b"2"}


async def test_a_directory_that_a_first_look_could_not_list_is_taken_up_by_snapshot_passes(
    lives: Callable[..., Live],
) -> None:
    source = Failing({"a/f": b"1", "d/new": b"2"})
    source.fail = denied("list", "d")
    life = lives(source, "snapshots", cadence=only_full("snapshots"))
    await life.one_pass()
    assert life.objects() == {"a/f": b"1"}
    source.fail = nothing
    await life.one_pass()
    assert life.objects() == {"a/f": b"1", "d/new": b"2"}


async def test_another_selection_is_looked_for_in_all_the_source(lives: Callable[..., Live]) -> None:
    source = MemorySource({"a/f": b"1", "b/f": b"2"})
    life = lives(source, "snapshots", selection=Selection(exclude=("b/**",)), cadence=only_full("snapshots"))
    await life.one_pass()
    assert life.objects() == {"a/f": b"1"}
    await life.end()
    life.again(selection=Selection())
    life.begin()
    await life.one_pass()
    assert life.objects() == {"a/f": b"1", "b/f": b"2"}
    await life.one_pass()
    assert life.watcher.passes.progress.listed_files == 0, "only once"


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
async def test_what_is_not_selected_is_taken_when_it_gets_a_name_that_is(
    lives: Callable[..., Live], watch: str
) -> None:
    source = MemorySource({"f": b"1"})
    selection = Selection(exclude=("**/_temporary/**", "*.tmp"))
    life = lives(source, watch, selection=selection, cadence=Cadence(3600.0, 1e9))
    await life.one_pass()
    source.put("_temporary/0/part", b"2")
    source.put("_temporary/1/part", b"3")
    source.put("d/f.tmp", b"4")
    source.put("d/g.tmp", b"5")
    await life.one_pass()
    assert life.objects() == {"f": b"1"}
    source.rename("_temporary/0/part", "d/part")
    source.rename("_temporary/1", "e")
    source.rename("d/f.tmp", "d/f")
    source.put("d/h.tmp", b"6")
    await life.one_pass()
    assert life.objects() == {"f": b"1", "d/part": b"2", "e/part": b"3", "d/f": b"4"}


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
async def test_a_file_is_left_until_it_has_settled(lives: Callable[..., Live], watch: str) -> None:
    source = MemorySource({"young": b"1"})
    source.put("old", b"2", modification_time=1)
    life = lives(source, watch, settle=3600.0)
    await life.one_pass()
    assert life.objects() == {"old": b"2"}
    assert (life.watcher.passes.progress.open_files, life.watcher.passes.progress.failed_files) == (1, 0)
    life.again(settle=-5.0)
    life.watcher.change(life.rules)
    await life.one_pass()
    assert life.objects() == {"old": b"2", "young": b"1"}


async def test_the_only_pass_is_not_over_before_every_file_is_closed(lives: Callable[..., Live]) -> None:
    source = MemorySource({"young": b"1"})
    source.put("old", b"2", modification_time=1)
    life = lives(source, "off", settle=3600.0, cadence=Cadence(0.05, 1e9))
    await until(lambda: life.kinds[:2] == ["first", "first"])
    assert life.objects() == {"old": b"2"}
    assert not life.watcher.passes.completed
    await life.end()
    life.again(settle=-5.0)
    life.begin()
    await until(lambda: life.watcher.passes.completed and life.watcher.state == "watching")
    assert life.objects() == {"old": b"2", "young": b"1"}
    assert life.watcher.reason == "watch = off: nothing more is looked for"


async def test_a_renamed_file_is_read_where_the_store_s_copy_proves_nothing(lives: Callable[..., Live]) -> None:
    class Vague(FailingStore):
        async def copy(self, key: str, to: str, size: int, etag: str) -> ObjectMeta:
            await super().copy(key, to, size, etag)
            return ObjectMeta(to, size, "another")

    source = MemorySource({"f": b"1"})
    life = lives(source, "snapshots", store=Vague())
    await life.one_pass()
    source.rename("f", "g")
    await life.one_pass()
    assert life.objects() == {"g": b"1"}
    assert (life.watcher.passes.progress.renamed_files, life.watcher.passes.progress.copied_files) == (0, 1)


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
async def test_a_clock_that_was_a_year_ahead_does_not_stop_the_mirror_for_a_year(
    lives: Callable[..., Live], watch: str
) -> None:
    source = MemorySource({"f": b"1"})
    life = lives(source, watch)
    await life.one_pass()
    await life.end()
    for key in ("looked.last", "looked.full"):
        await life.fact(key, repr(time.time() + 365 * 86400))
    source.put("g", b"2")
    life.begin()
    await until(lambda: "g" in life.objects(), 3)
    await until(lambda: life.watcher.state == "watching")
    assert life.watcher.next_scan < time.time() + 3601


async def test_a_file_whose_object_vanished_under_its_proof_is_not_taken_for_vanished(
    lives: Callable[..., Live],
) -> None:
    source = MemorySource({"f": b"1"})
    store = FailingStore(checksum=None)  # so that objects are read back
    life = lives(source, "snapshots", store=store, cadence=only_full("snapshots"))
    life.store.fail = once("open", NotFound("f: no such key"))
    await life.one_pass()
    assert life.watcher.passes.progress.failed_files == 1
    await life.one_pass()
    assert life.objects() == {"f": b"1"}
    await life.end()
    journal = await Journal.open(life.path, source=source.url, destination=life.destination.url)
    assert (await journal.totals()).done_files == 1
    await journal.close()


async def test_equal_means_equal_to_the_source_at_the_beginning_of_a_pass_that_was_interrupted(
    lives: Callable[..., Live],
) -> None:
    for watch in ("scan", "snapshots"):
        source = Failing({"d/f": b"1"})
        life = lives(source, watch)
        life.path = life.path.with_name(watch)

        def stop(operation: str, path: str, life: Live = life) -> None:
            if operation == "list" and path == "d":
                life.watcher.drain()

        source.fail = stop
        life.watcher.scan()
        await asyncio.wait([life.running])
        assert not life.objects()
        interrupted = time.time()
        await asyncio.sleep(0.01)
        source.fail = nothing
        life.begin()
        await life.one_pass()
        assert life.objects() == {"d/f": b"1"}
        assert 0 < life.watcher.passes.equal_at < interrupted, watch
        await life.end()


# --- what must not stand still ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
async def test_an_object_that_may_not_be_deleted_does_not_hold_up_the_mirror(
    lives: Callable[..., Live], watch: str
) -> None:
    source = MemorySource({f"f{n}": b"1" for n in range(5)})
    life = lives(source, watch)
    await life.one_pass()
    for n in range(3):
        source.remove(f"f{n}")
    life.store.fail = denied("delete", "f1")
    await life.one_pass()
    assert sorted(life.objects()) == ["f1", "f3", "f4"]
    assert any("f1" in line for line in life.said)
    life.store.fail = nothing
    await life.one_pass()
    assert sorted(life.objects()) == ["f3", "f4"]


@pytest.mark.parametrize("operation", ["head", "delete"])
async def test_a_store_that_is_busy_for_a_moment_does_not_begin_a_pass_anew(
    lives: Callable[..., Live], operation: str
) -> None:
    source = MemorySource({"f": b"1", "g": b"1"})
    life = lives(source, "scan")
    await life.one_pass()
    source.remove("f")
    looked = life.watcher.passes.looked.last
    life.store.fail = once(operation, Throttled("slow down"))
    life.watcher.scan()
    await until(lambda: life.watcher.passes.looked.last > looked and life.watcher.state == "watching")
    assert life.objects() == {"g": b"1"}
    assert life.kinds == ["first", "full"]


async def test_an_old_snapshot_that_may_not_be_deleted_does_not_hold_up_the_mirror(
    lives: Callable[..., Live],
) -> None:
    source = Failing({"f": b"1"})
    life = lives(source, "snapshots")
    await life.one_pass()

    def fail(operation: str, path: str) -> None:
        if operation == "delete":
            raise PermissionDenied(f"{operation} {path}")

    source.fail = fail
    source.put("g", b"2")
    await life.one_pass()
    assert life.objects() == {"f": b"1", "g": b"2"}
    assert any("delete" in line for line in life.said)


async def test_a_source_whose_snapshots_we_may_see_but_not_make_is_scanned(lives: Callable[..., Live]) -> None:
    source = Failing({"f": b"1"})

    def fail(operation: str, path: str) -> None:
        if operation == "create":
            raise PermissionDenied("not the owner")

    source.fail = fail
    life = lives(source, "auto")
    await life.one_pass()
    assert life.objects() == {"f": b"1"}
    assert life.watcher.passes.watching == "scan"


async def test_an_upload_that_may_not_be_aborted_does_not_hold_up_the_mirror(lives: Callable[..., Live]) -> None:
    body = bytes(range(256)) * 12_000  # three parts
    source = Failing({"big": body})
    life = lives(source, "scan", options=CopyOptions(concurrency=1, part_size=1 << 20))
    uploaded = life.store.upload_part

    async def upload_part(*args: Any) -> Any:
        life.watcher.drain()
        return await uploaded(*args)

    life.store.upload_part = upload_part  # type: ignore[method-assign]
    life.watcher.scan()
    await asyncio.wait([life.running])
    assert await life.store.list_uploads("")
    life.store.upload_part = uploaded  # type: ignore[method-assign]
    source.remove("big")
    source.put("f", b"1")
    life.store.fail = denied("abort_upload", "big")
    life.again(cadence=Cadence(3600.0, 0.0))
    life.begin()
    await life.one_pass()
    source.put("g", b"2")
    await life.one_pass()
    assert life.objects() == {"f": b"1", "g": b"2"}


async def test_a_person_who_resumes_is_not_left_waiting_by_a_broken_journal(
    lives: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MemorySource({"f": b"1"})
    life = lives(source, "scan", cadence=Cadence(0.05, 3600.0))
    await life.one_pass()
    await life.watcher.pause()
    await until(lambda: life.watcher.state == "paused")
    journal = life.watcher.journal

    async def full(*args: Any) -> None:
        raise JournalFull("the disk is full")

    for name in ("forget", "remember", "begin_pass"):  # once broken it stays so, until it is opened again
        monkeypatch.setattr(journal, name, full)
    source.put("g", b"2")
    with pytest.raises(JournalFull):
        await life.watcher.resume()
    await until(lambda: life.objects() == {"f": b"1", "g": b"2"})
    assert not life.watcher.paused
    await life.end()
    assert await life.fact("paused") is None


async def test_a_snapshot_that_an_administrator_removes_is_replaced(lives: Callable[..., Live]) -> None:
    source = Failing({f"d{n}/f": b"1" for n in range(20)})
    life = lives(source, "snapshots", cadence=only_full("snapshots"))

    def fail(operation: str, path: str) -> None:
        if operation == "list" and path == "d7":
            source.fail = nothing
            assert source._snapshots is not None
            source._snapshots.clear()

    source.fail = fail
    life.watcher.scan()
    await until(lambda: life.objects() == source.files)
    await until(lambda: life.watcher.state == "watching")
    await life.one_pass()
    assert life.objects() == source.files
    assert life.watcher.passes.progress.failed_files == 0


@pytest.mark.parametrize("step", ["pause", "drain"])
async def test_who_is_stopped_between_two_passes_begins_none(lives: Callable[..., Live], step: str) -> None:
    source = Failing({"f": b"1"})
    life = lives(source, "snapshots")
    await life.one_pass()
    source.put("g", b"2")

    def stop(operation: str, path: str) -> None:
        if operation == "names":
            source.fail = nothing
            if step == "drain":
                life.watcher.drain()
            else:
                pausing.append(asyncio.create_task(life.watcher.pause(), name="pause"))
                life.watcher.paused = True

    pausing: list[asyncio.Task[None]] = []
    source.fail = stop
    life.watcher.scan()
    await until(lambda: life.running.done() if step == "drain" else life.watcher.state == "paused")
    assert life.objects() == {"f": b"1"}


async def test_another_order_of_copies_opens_the_journal_for_it(lives: Callable[..., Live]) -> None:
    source = MemorySource({"f": b"1"})
    life = lives(source, "scan", options=CopyOptions(concurrency=1), cadence=Cadence(3600.0, 0.0))
    await life.one_pass()
    journal = life.watcher.journal
    life.again(order="largest")
    life.watcher.change(life.rules)
    await until(lambda: life.watcher.journal not in (None, journal))
    for n in range(5):
        source.put(f"g{n}", b"1" * (n + 1))
    put: list[str] = []

    def note(operation: str, key: str) -> None:
        if operation == "put":
            put.append(key)

    life.store.fail = note
    await life.one_pass()
    assert put == ["g4", "g3", "g2", "g1", "g0"]
    assert life.said == []


# --- what must not be deleted, and what must ------------------------------------------------------------------------


def capped(share: int) -> Handling:
    return Handling("delete", Cap(share=Fraction(share, 100)))


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
async def test_a_root_that_was_replaced_by_an_empty_one_costs_no_object(lives: Callable[..., Live], watch: str) -> None:
    source = MemorySource({f"d/f{n}": b"1" for n in range(30)})
    life = lives(source, watch, handling=capped(5), cadence=Cadence(3600.0, 0.0))
    await life.one_pass()
    source.remove("d")
    for _ in range(3):
        await life.one_pass()
    assert len(life.objects()) == 30
    assert "30 of 30" in life.watcher.passes.held


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
async def test_nothing_is_deleted_after_an_incomplete_look(lives: Callable[..., Live], watch: str) -> None:
    source = Failing({"f": b"1", "d/g": b"2", "d/e/h": b"3"})
    life = lives(source, watch, cadence=Cadence(3600.0, 0.0))
    await life.one_pass()
    source.fail = denied("list", "d")
    source.remove("f")
    for _ in range(2):
        await life.one_pass()
        assert sorted(life.objects()) == ["d/e/h", "d/g", "f"]
    source.fail = nothing
    await life.one_pass()
    assert sorted(life.objects()) == ["d/e/h", "d/g"]


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
async def test_files_that_were_replaced_are_not_counted_as_gone(lives: Callable[..., Live], watch: str) -> None:
    source = MemorySource({f"d/f{n}": b"1" for n in range(20)})
    life = lives(source, watch, handling=capped(5), cadence=Cadence(3600.0, 1e9))
    await life.one_pass()
    for n in range(10):  # half of all is overwritten, and one is really gone
        source.put(f"d/f{n}", b"22")
    source.remove("d/f19")
    await life.one_pass()
    assert life.watcher.passes.held == ""
    assert life.objects() == source.files


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
async def test_the_object_of_a_file_that_came_again_but_was_never_copied_goes_with_it(
    lives: Callable[..., Live], watch: str
) -> None:
    source = MemorySource({"f": b"1", "g": b"1"})
    life = lives(source, watch, cadence=Cadence(3600.0, 1e9))
    await life.one_pass()
    source.put("f", b"")
    source.append("f", b"", close=False)
    await life.one_pass()
    assert life.objects() == {"f": b"1", "g": b"1"}
    source.remove("f")
    await life.one_pass()
    assert life.objects() == {"g": b"1"}, life.said


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
async def test_a_confirmation_is_for_the_deletions_of_that_moment_only(lives: Callable[..., Live], watch: str) -> None:
    source = MemorySource({f"f{n}": b"1" for n in range(20)})
    life = lives(source, watch, handling=capped(5), cadence=Cadence(3600.0, 0.0))
    await life.one_pass()
    for n in range(10):
        source.remove(f"f{n}")
    await life.one_pass()
    assert life.watcher.passes.held
    for n in range(10):  # all come back before the confirmation
        source.put(f"f{n}", b"2")
    await life.watcher.confirm_deletions(10)
    await life.one_pass()
    assert len(life.objects()) == 20
    for n in range(9):
        source.remove(f"f{n + 10}")
    await life.one_pass()
    await life.one_pass()
    assert len(life.objects()) == 20, "an old confirmation has been taken for these"
    assert life.watcher.passes.held


async def test_a_confirmation_of_what_has_come_back_is_void(lives: Callable[..., Live]) -> None:
    source = MemorySource({f"f{n}": b"1" for n in range(20)})
    life = lives(source, "scan", handling=capped(5), cadence=Cadence(3600.0, 0.0))
    await life.one_pass()
    for n in range(10):
        source.remove(f"f{n}")
    await life.one_pass()
    for n in range(10):
        source.put(f"f{n}", b"2")
    await life.one_pass()
    assert life.watcher.journal is not None
    assert await life.watcher.journal.gone(0, 10) == []
    await life.watcher.confirm_deletions(10)  # too late, but the person could not know
    await life.one_pass()
    await life.end()
    assert await life.fact(CONFIRMED) is None


async def test_files_that_are_replaced_again_and_again_do_not_pile_up_where_nothing_is_deleted(
    lives: Callable[..., Live],
) -> None:
    source = MemorySource({"f": b"1", "g": b"1"})
    life = lives(source, "snapshots", handling=Handling("keep"), cadence=Cadence(3600.0, 1e9))
    await life.one_pass()
    source.remove("g")
    for n in range(3):
        source.put("f", b"%d" % n)
        await life.one_pass()
    life.again(cadence=Cadence(3600.0, 0.0))
    life.watcher.change(life.rules)
    await life.one_pass()
    assert life.objects() == {"f": b"2", "g": b"1"}
    assert life.watcher.journal is not None
    assert [row.path for row in await life.watcher.journal.gone(0, 10)] == ["g"]


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
async def test_a_confirmation_of_fewer_deletions_is_void(lives: Callable[..., Live], watch: str) -> None:
    source = MemorySource({f"f{n}": b"1" for n in range(20)})
    life = lives(source, watch, handling=capped(5), cadence=Cadence(3600.0, 0.0))
    await life.one_pass()
    for n in range(10):
        source.remove(f"f{n}")
    await life.one_pass()
    source.remove("f10")
    await life.watcher.confirm_deletions(10)
    await life.one_pass()
    assert len(life.objects()) == 20
    assert "11 of 20" in life.watcher.passes.held
    await life.end()
    assert await life.fact(CONFIRMED) is None


async def test_a_mirror_is_paused_until_somebody_resumes_it_also_by_another_life(lives: Callable[..., Live]) -> None:
    source = MemorySource({"f": b"1"})
    life = lives(source, "scan")
    await life.watcher.pause()
    for _ in range(2):
        await until(lambda: life.watcher.state == "paused")
        life.watcher.scan()
        await asyncio.sleep(0.01)
        assert life.objects() == {}
        await life.end()
        life.begin()
    await until(lambda: life.watcher.state == "paused")
    await life.watcher.resume()
    await until(lambda: life.objects() == {"f": b"1"})
    await life.end()
    life.begin()
    await life.one_pass()
    assert not life.watcher.paused


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
async def test_small_passes_do_not_put_off_the_next_full_one(lives: Callable[..., Live], watch: str) -> None:
    life = lives(MemorySource({"f": b"1"}), watch, cadence=Cadence(3600.0, 1e9))
    await life.one_pass()
    full = life.watcher.passes.looked.full
    await life.one_pass()
    assert life.kinds == ["first", "snapshot" if watch == "snapshots" else "quick"]
    assert life.watcher.passes.looked.full == full < life.watcher.passes.looked.last
    await life.end()
    life.begin()
    await until(lambda: life.watcher.state == "watching")
    assert life.watcher.passes.looked.full == full
    assert life.kinds[2:] == []


async def test_a_confirmation_outlives_a_stop_in_the_middle_of_the_deletions(lives: Callable[..., Live]) -> None:
    source = MemorySource({f"f{n:03}": b"1" for n in range(200)})
    life = lives(source, "scan", handling=capped(5), cadence=Cadence(3600.0, 0.0))
    await life.one_pass()
    for n in range(100):
        source.remove(f"f{n:03}")
    await life.one_pass()
    assert life.watcher.passes.held

    def stop(operation: str, key: str) -> None:
        if operation == "delete" and key == "f030":
            life.watcher.drain()

    life.store.fail = stop
    await life.watcher.confirm_deletions(100)
    await asyncio.wait([life.running])
    assert 100 < len(life.objects()) < 200
    life.store.fail = nothing
    life.begin()
    await life.one_pass()
    assert len(life.objects()) == 100
    await life.end()
    assert await life.fact(CONFIRMED) is None


async def test_snapshots_of_others_are_left_alone(lives: Callable[..., Live]) -> None:
    source = MemorySource({"f": b"1"})
    life = lives(source, "snapshots")
    assert source.snapshots is not None
    for name in ("daily", "asynccopy-00000000-1"):
        await source.snapshots.create(name)
    for _ in range(3):
        await life.one_pass()
    names = await source.snapshots.names()
    assert {"daily", "asynccopy-00000000-1"} < set(names)
    assert len(names) == 3


async def test_a_base_that_is_gone_means_a_full_look(lives: Callable[..., Live]) -> None:
    source = MemorySource({"f": b"1"})
    life = lives(source, "snapshots", cadence=only_full("snapshots"))
    await life.one_pass()
    assert source.snapshots is not None
    for name in await source.snapshots.names():
        await source.snapshots.delete(name)
    source.put("g", b"2")
    source.remove("f")
    await life.one_pass()
    assert life.objects() == {"g": b"2"}
