"""A whole job between sides in memory, over a real journal."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from asynccopy.errors import (
    AsyncCopyError,
    ConnectionLost,
    Interrupted,
    NotThere,
    PermissionDenied,
    Unreachable,
    UsageError,
)
from asynccopy.journal import Journal
from asynccopy.mirror.mirror import CopyOptions, Mirror
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.model import MIB
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Destination, Source, UploadLimits
from asynccopy.storage.memory import MemoryDestination, MemorySource
from tests.faults.wrapped import QUICK, Step, Wrapped

BODY = random.Random(5).randbytes(3 * MIB + 99)
TREE = {"a": b"1", "b/c": b"22", "b/d/e": b"", "b/d/f": BODY, "g/h": b"x" * 5000}


class Job:
    """Sides and a journal that outlive a run, and runs over them."""

    def __init__(self, journal: Journal, source: MemorySource, destination: MemoryDestination) -> None:
        self.journal = journal
        self.source = source
        self.destination = destination
        self.sent: Counter[str] = Counter()

    async def run(
        self,
        step: Step | None = None,
        *,
        selection: Selection | None = None,
        policy: RetryPolicy = QUICK,
        stop: asyncio.Event | None = None,
        journal: Any = None,
        **options: Any,
    ) -> Progress:
        self.progress = Progress()

        async def both(name: str, when: str, args: tuple[Any, ...]) -> None:
            if (name, when) == ("put", "before"):
                self.sent[args[0]] += 1
            elif (name, when) == ("upload_part", "before"):
                self.sent[f"{args[0]}#{args[2]}"] += 1
            if step is not None:
                await step(name, when, args)

        mirror = Mirror(
            cast("Source", Wrapped(self.source, both)),
            cast("Destination", Wrapped(self.destination, both)),
            journal or self.journal,
            selection=selection or Selection(),
            options=CopyOptions(**{"concurrency": 4, "part_size": MIB, **options}),
            stop=stop or asyncio.Event(),
            progress=self.progress,
            policy=policy,
        )
        await mirror.copy()
        return self.progress


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "j", source="memory://source", destination="memory://destination")
    yield journal
    await journal.close()


@pytest.fixture
async def job(journal: Journal) -> Job:
    source = MemorySource(dict(TREE), block_size=MIB, page_size=2)
    return Job(journal, source, MemoryDestination(limits=UploadLimits(min_part=64 * 1024)))


def accounted(progress: Progress) -> int:
    return progress.copied_files + progress.skipped_files + progress.failed_files


async def test_a_tree_is_copied_and_the_second_run_skips(job: Job) -> None:
    progress = await job.run()
    assert job.destination.objects == TREE
    assert (progress.copied_files, progress.verified, progress.failed_files) == (5, 5, 0)
    assert progress.copied_bytes == progress.listed_bytes == sum(map(len, TREE.values()))
    assert progress.in_flight == {}
    job.sent.clear()
    progress = await job.run()
    assert (progress.copied_files, progress.skipped_files) == (0, 5)
    assert progress.skipped_bytes == progress.listed_bytes
    assert not job.sent


async def test_what_the_destination_cannot_hold_has_failed_by_name_before_anything_is_copied(job: Job) -> None:
    """By the name alone: nothing of it is read, and no request is made for it. Here all is in one page."""
    job.destination.limits = UploadLimits(min_part=64 * 1024, max_key=20)
    long = {f"{number}{'x' * 20}": b"1" for number in range(5)}
    for path, body in long.items():
        job.source.put(path, body)
    job.source._page_size = 100
    named: list[list[str]] = []

    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        assert not args or args[0] not in long
        if (name, when) == ("put", "before"):
            named.append(sorted(failure.path for failure in await job.journal.failures(100)))

    progress = await job.run(step)
    assert job.destination.objects == TREE
    assert (progress.copied_files, progress.failed_files) == (5, 5)
    assert accounted(progress) == progress.listed_files == 10
    assert named[0] == sorted(long)
    totals = await job.journal.totals()
    assert (totals.failed_files, totals.pending_files) == (5, 0)
    progress = await job.run(step)
    assert (progress.skipped_files, progress.failed_files) == (5, 5)


async def test_only_what_changed_is_copied_again(job: Job) -> None:
    await job.run()
    job.sent.clear()
    job.source.put("b/c", b"other")
    job.source.put("new/z", b"new")
    job.source.remove("a")
    progress = await job.run()
    assert (progress.copied_files, progress.skipped_files) == (2, 3)
    assert set(job.sent) == {"b/c", "new/z"}
    assert job.destination.objects == TREE | {"b/c": b"other", "new/z": b"new"}


async def test_empty_directories_become_markers(job: Job) -> None:
    job.source.mkdir("e/m/p")
    await job.run()
    assert job.destination.objects == TREE | {"e/m/p/": b""}
    assert (await job.run(selection=Selection(empty_directories=False))).copied_files == 0


async def test_a_directory_removed_while_listing_leaves_no_marker(job: Job) -> None:
    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if (name, when) == ("list", "before") and args[0] == "g":
            job.source.remove("g")

    progress = await job.run(step)
    assert job.destination.objects == {path: body for path, body in TREE.items() if path != "g/h"}
    assert progress.failed_files == 0


async def test_a_single_file_as_the_root(journal: Journal) -> None:
    job = Job(journal, MemorySource({"": b"only"}, url="memory://x/name.bin"), MemoryDestination(prefix="p/"))
    assert (await job.run()).copied_files == 1
    assert job.destination.objects == {"p/name.bin": b"only"}
    assert (await job.run()).skipped_files == 1


async def test_an_empty_source(journal: Journal) -> None:
    job = Job(journal, MemorySource(), MemoryDestination())
    assert (await job.run()).listed_files == 0
    assert job.destination.objects == {}


async def test_a_source_that_is_not_there_writes_nothing(journal: Journal) -> None:
    class Missing(MemorySource):
        async def check(self) -> Any:
            raise NotThere("no")

    job = Job(journal, Missing(), MemoryDestination())
    with pytest.raises(NotThere):
        await job.run()
    assert (await journal.state()).pass_number == 0


async def test_a_wrong_part_size_is_told_before_anything_is_written(job: Job) -> None:
    with pytest.raises(UsageError):
        await job.run(part_size=MIB + 1)
    assert (await job.journal.state()).pass_number == 0


# --- listing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [PermissionDenied, ConnectionLost])
async def test_a_directory_that_cannot_be_listed_is_named_and_the_others_go_on(
    job: Job, error: type[AsyncCopyError]
) -> None:
    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if name == "list" and args[0] == "b/d":
            raise error("injected")

    policy = RetryPolicy(first=0.001, most=0.001, patience=0.01)
    progress = await job.run(step, policy=policy)
    assert [failure.path for failure in progress.failures] == ["b/d/"]
    assert progress.failed_files == 1
    assert not progress.listing_done
    assert set(job.destination.objects) == {"a", "b/c", "g/h"}
    assert (await job.run()).failed_files == 0
    assert job.destination.objects == TREE


async def test_a_directory_is_listed_once_though_another_worker_looked_meanwhile(job: Job) -> None:
    """Who looks for directories may see one as unlisted that is finished by the time the answer is used."""

    class LateReader:
        def __getattr__(self, name: str) -> Any:
            return getattr(job.journal, name)

        async def pending_directories(self, limit: int) -> Any:
            rows = await job.journal.pending_directories(limit)
            await asyncio.sleep(0.02)
            return rows

    for n in range(12):
        job.source.put(f"many/{n}/x", b"y")
    listed: Counter[str] = Counter()

    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if (name, when) == ("list", "before") and len(args) > 1 and not args[1]:
            listed[args[0]] += 1

    progress = await job.run(step, journal=LateReader())
    assert progress.listed_files == len(TREE) + 12
    assert set(listed.values()) == {1}


async def test_names_that_are_no_unicode_are_failed_by_name(job: Job) -> None:
    job.source.put("bad\udc80", b"1")

    from asynccopy.storage.memory import source as module

    original = module.signed
    module.signed = lambda name: original(name.encode("utf-8", "replace").decode())  # type: ignore[assignment]
    try:
        progress = await job.run()
    finally:
        module.signed = original
    assert progress.failed_files == 1
    assert progress.failures[0].error_class == "NameRefused"
    assert progress.copied_files == 5


# --- failures -----------------------------------------------------------------------------------------------------


async def test_a_file_that_fails_is_named_and_tried_again_by_the_next_run(job: Job) -> None:
    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if name == "open" and args[0] == "b/c":
            raise PermissionDenied("not for you")

    progress = await job.run(step)
    assert [(f.path, f.error_class) for f in progress.failures] == [("b/c", "PermissionDenied")]
    assert accounted(progress) == progress.listed_files == 5
    progress = await job.run()
    assert (progress.copied_files, progress.skipped_files, progress.failed_files) == (1, 4, 0)


async def test_failures_before_an_interruption_are_not_forgotten_by_the_run_that_goes_on(job: Job) -> None:
    """The run that finishes the pass must not end with success while a file of that pass was given up."""
    stop = asyncio.Event()

    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if name == "open" and args[0] == "a":
            raise PermissionDenied("not for you")
        if (name, when) == ("upload_part", "before"):
            stop.set()

    with pytest.raises(Interrupted):
        await job.run(step, stop=stop, concurrency=1)
    assert job.progress.failed_files == 1
    progress = await job.run()
    copied = job.destination.objects.get("a") == b"1"
    assert copied or [failure.path for failure in progress.failures] == ["a"]
    assert accounted(progress) == progress.listed_files == 5


async def test_what_is_fatal_ends_the_run(job: Job) -> None:
    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if name == "put":
            raise Unreachable("gone")

    with pytest.raises(Unreachable):
        await job.run(step, policy=RetryPolicy(first=0.001, most=0.001, patience=0.01))
    assert len(asyncio.all_tasks()) == 1
    assert (await job.run()).failed_files == 0
    assert job.destination.objects == TREE


@pytest.mark.parametrize("change", ["replace", "append", "grow large", "remove"])
async def test_files_that_change_under_way_arrive_in_a_whole_version_or_are_named(job: Job, change: str) -> None:
    for nth in range(1, 7):
        seen = 0
        new = bytes([nth]) * (2 * MIB if change == "grow large" else 5000)

        async def step(name: str, when: str, args: tuple[Any, ...], nth: int = nth, new: bytes = new) -> None:
            nonlocal seen
            if name in ("open", "readinto", "checksum", "status") and args[0] in ("g/h", ""):
                seen += args[0] == "g/h"
                if seen == nth:
                    seen += 1
                    if change == "append":
                        job.source.append("g/h", b"more")
                    elif change == "remove":
                        job.source.remove("g/h")
                    else:
                        job.source.put("g/h", new)

        job.source.put("g/h", b"before" * nth)
        job.destination._objects.pop("g/h", None)
        progress = await job.run(step)
        found = job.destination.objects.get("g/h")
        now = job.source.files.get("g/h")
        if [failure.path for failure in progress.failures] == ["g/h"]:
            assert change == "remove"
            assert found is None
        else:
            assert found in (now, b"before" * nth)
        assert accounted(progress) == progress.listed_files
        assert await job.destination.list_uploads("") == []


async def test_a_file_that_never_rests_is_left_by_name(job: Job) -> None:
    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if (name, when) == ("checksum", "before") and args[0] == "g/h":
            job.source.append("g/h", b"!")

    progress = await job.run(step)
    assert [(f.path, f.error_class) for f in progress.failures] == [("g/h", "SourceChanged")]
    assert "g/h" not in job.destination.objects
    assert accounted(progress) == 5


# --- stop and resume ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 5, 9, 14, 20, 27, 35, 44, 54])
async def test_stopped_anywhere_and_gone_on_with(job: Job, at: int) -> None:
    stop = asyncio.Event()
    steps = 0

    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        nonlocal steps
        steps += 1
        if steps == at:
            stop.set()

    with pytest.raises(Interrupted):
        await job.run(step, stop=stop)
    progress = await job.run()
    assert job.destination.objects == TREE
    assert set(job.sent.values()) == {1}, "something was sent twice"
    assert accounted(progress) == progress.listed_files == 5
    assert await job.destination.list_uploads("") == []


async def test_another_selection_begins_a_new_pass(job: Job) -> None:
    stop = asyncio.Event()

    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if name == "put":
            stop.set()

    with pytest.raises(Interrupted):
        await job.run(step, stop=stop)
    number = (await job.journal.state()).pass_number
    await job.run(selection=Selection(include=("g/",)))
    assert (await job.journal.state()).pass_number == number + 1
    assert set(job.destination.objects) <= {"a", "b/c", "b/d/e", "g/h"}
    assert "g/h" in job.destination.objects
    await job.run()
    assert job.destination.objects == TREE
    assert await job.destination.list_uploads("") == []


async def test_uploads_that_nobody_will_finish_are_aborted(job: Job) -> None:
    stop = asyncio.Event()

    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if (name, when) == ("upload_part", "before"):
            stop.set()

    with pytest.raises(Interrupted):
        await job.run(step, stop=stop, concurrency=1)
    assert len(await job.destination.list_uploads("")) == 1
    job.source.remove("b/d/f")
    await job.run(selection=Selection(min_size=0))
    assert await job.destination.list_uploads("") == []


# --- many files ---------------------------------------------------------------------------------------------------


async def test_three_thousand_files_are_copied_once_each_by_a_bounded_number_of_tasks(journal: Journal) -> None:
    files = {f"{n % 37}/{n}": b"%d" % n for n in range(3000)}
    job = Job(journal, MemorySource(files, page_size=50), MemoryDestination())
    chance = random.Random(9)
    most = 0

    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        nonlocal most
        if name == "put":
            most = max(most, len(asyncio.all_tasks()))
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() / 500)

    progress = await job.run(step, concurrency=24)
    assert job.destination.objects == files
    assert set(job.sent.values()) == {1}
    assert progress.copied_files == 3000
    assert most < 24 + 8 + 10
    # Now files whose rows are old, so that they lie before the cursor while new ones are being listed.
    for n in range(0, 3000, 3):
        files[f"{n % 37}/{n}"] = b"again %d" % n
        job.source.put(f"{n % 37}/{n}", files[f"{n % 37}/{n}"])
    for n in range(300):
        files[f"00/{n}"] = b"new"
        job.source.put(f"00/{n}", b"new")
    job.sent.clear()
    progress = await job.run(step, concurrency=24)
    assert job.destination.objects == files
    assert set(job.sent.values()) == {1}
    assert (progress.copied_files, progress.skipped_files) == (1300, 2000)


async def test_rows_that_are_settled_while_they_are_read_are_not_claimed_again(journal: Journal) -> None:
    class LateReader:
        def __getattr__(self, name: str) -> Any:
            return getattr(journal, name)

        async def pending(self, after: int, limit: int) -> Any:
            rows = await journal.pending(after, limit)
            if after == 0:  # the look back at the rows before the cursor
                await asyncio.sleep(0.05)
            return rows

    files = {f"{n}": b"%d" % n for n in range(60)}
    job = Job(journal, MemorySource(files, page_size=7), MemoryDestination())

    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if name == "put":
            await asyncio.sleep(0.02)

    progress = await job.run(step, journal=LateReader(), concurrency=20)
    assert job.destination.objects == files
    assert set(job.sent.values()) == {1}
    assert progress.copied_files == 60


async def test_the_journal_is_not_asked_by_every_idle_worker(job: Job) -> None:
    """Hundreds of them stand by; together their looks cost as much CPU as copying hundreds of files."""
    looks = 0

    class CountingReader:
        def __getattr__(self, name: str) -> Any:
            return getattr(job.journal, name)

        async def pending(self, *args: Any) -> Any:
            nonlocal looks
            looks += 1
            return await job.journal.pending(*args)

    await job.run(journal=CountingReader(), concurrency=200)
    assert job.destination.objects == TREE
    assert looks < 40


async def test_the_plan_is_what_copy_would_copy(job: Job) -> None:
    mirror = Mirror(
        job.source, job.destination, job.journal, selection=Selection(exclude=("g/",)), options=CopyOptions(),
        stop=asyncio.Event(), progress=Progress(), policy=QUICK,
    )  # fmt: skip
    assert {status.path async for status in mirror.plan()} == set(TREE) - {"g/h"}
    assert job.destination.objects == {}
