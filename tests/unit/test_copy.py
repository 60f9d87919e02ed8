"""Copying one file between sides in memory that break, lie and change at every step."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from asynccopy.errors import (
    AsyncCopyError,
    ChecksumMismatch,
    ConnectionLost,
    FileError,
    Interrupted,
    NameRefused,
    NotFound,
    PermissionDenied,
    SourceChanged,
    Throttled,
    Unreachable,
    UploadGone,
)
from asynccopy.model import FileStatus, OpenUpload
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import UploadLimits
from asynccopy.storage.memory import MemoryDestination, MemorySource
from asynccopy.transfer.uploads import intent
from tests.faults.wrapped import MIB, Bench, MemoryLog

SMALL = random.Random(1).randbytes(300_000)
LARGE = random.Random(2).randbytes(3 * MIB + 12_345)
LIMITS = UploadLimits(min_part=64 * 1024)


def sides(body: bytes, **options: Any) -> tuple[MemorySource, MemoryDestination]:
    return MemorySource({"d/f": body}, block_size=MIB), MemoryDestination(prefix="p/", limits=LIMITS, **options)


def assert_equal(bench: Bench, body: bytes) -> None:
    assert bench.inner_destination.objects == {"p/d/f": body}


async def assert_nothing_left(bench: Bench, log: MemoryLog | None = None) -> None:
    assert await bench.inner_destination.list_uploads("") == []
    assert log is None or log.kept is None


class Once:
    """Raises an error, or calls what it is given, at the k-th step of a name."""

    def __init__(self, name: str, when: str, act: Any, *, nth: int = 1, times: int = 1) -> None:
        self.name, self.when, self.act, self.nth, self.times = name, when, act, nth, times
        self.seen = self.hits = 0

    async def __call__(self, name: str, when: str, args: tuple[Any, ...]) -> None:
        if (name, when) != (self.name, self.when):
            return
        self.seen += 1
        if self.nth <= self.seen < self.nth + self.times:
            self.hits += 1
            if isinstance(self.act, type):
                raise self.act("injected")
            self.act(args)


# --- plain --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", ["CRC32C", "MD5", None])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB, 3 * MIB + 1])
async def test_every_size_is_copied_and_proven(size: int, checksum: Any) -> None:
    body = LARGE[:size]
    bench = Bench(*sides(body, checksum=checksum), checksum=checksum)
    copied = await bench.copy("d/f")
    assert_equal(bench, body)
    assert copied.evidence.source == str(await bench.inner_source.checksum("d/f"))
    proven_by_etag = checksum == "MD5" and size <= MIB
    assert copied.evidence.method == ("checksum" if checksum == "CRC32C" or proven_by_etag else "read-back")
    assert bench.moved == size
    await assert_nothing_left(bench)


@pytest.mark.parametrize("verify", ["size", "none"])
async def test_less_proof_is_said(verify: Any) -> None:
    for body in (SMALL, LARGE):
        bench = Bench(*sides(body), verify=verify)
        assert (await bench.copy("d/f")).evidence.method == verify
        assert_equal(bench, body)
        assert not bench.calls["checksum"]


async def test_a_marker_of_an_empty_directory() -> None:
    bench = Bench(MemorySource(), MemoryDestination(prefix="p/"))
    await bench.copier.copy(FileStatus("e/", 0, 0, is_directory=True), MemoryLog())
    assert bench.inner_destination.objects == {"p/e/": b""}
    assert not bench.calls["open"]


@pytest.mark.parametrize("path", ["x" * 1023, "\udc80"])
async def test_names_that_the_store_cannot_hold(path: str) -> None:
    bench = Bench(*sides(b""))
    with pytest.raises(NameRefused):
        await bench.copier.copy(FileStatus(path, 0, 0), MemoryLog())
    assert not bench.calls


async def test_the_longest_name_fits() -> None:
    bench = Bench(MemorySource({"é" * 511: b"x"}), MemoryDestination(prefix="p/"))
    await bench.copy("é" * 511)
    assert len(bench.inner_destination.objects) == 1


# --- reads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_broken_reads_go_on(body: bytes) -> None:
    class Flaky:
        count = 0

        async def __call__(self, name: str, when: str, args: tuple[Any, ...]) -> None:
            if name == "readinto" and when == "before":
                self.count += 1
                if self.count % 2:
                    raise ConnectionLost("injected")

    bench = Bench(*sides(body), Flaky())
    await bench.copy("d/f")
    assert_equal(bench, body)
    assert bench.noticed


def flip(args: tuple[Any, ...]) -> None:
    buffer = args[-1]
    if len(buffer):
        buffer[len(buffer) // 2] ^= 4


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_bytes_damaged_once_are_read_again(body: bytes) -> None:
    fault = Once("readinto", "after", flip)
    bench = Bench(*sides(body), fault)
    await bench.copy("d/f")
    assert fault.hits == 1
    assert [type(error) for error in bench.noticed] == [ChecksumMismatch]
    assert_equal(bench, body)
    await assert_nothing_left(bench)


@pytest.mark.parametrize("old", [None, b"the former object"])
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_bytes_that_are_always_damaged_never_show(body: bytes, old: bytes | None) -> None:
    fault = Once("readinto", "after", flip, times=10**6)
    bench = Bench(*sides(body), fault)
    if old is not None:
        await _put(bench, old)
    log = MemoryLog()
    with pytest.raises(ChecksumMismatch):
        await bench.copy("d/f", log)
    assert bench.inner_destination.objects == ({} if old is None else {"p/d/f": old})
    assert not bench.calls["put"]
    assert not bench.calls["complete_upload"]
    await assert_nothing_left(bench, log)


async def _put(bench: Bench, body: bytes) -> None:
    from fastcrc.crc32 import iscsi

    await bench.inner_destination.put("p/d/f", body, iscsi(body))


# --- a source that changes at every step --------------------------------------------------------------------------

OTHER = random.Random(3).randbytes(3 * MIB + 12_345)


@pytest.mark.parametrize("change", ["replace", "append", "remove", "touch"])
@pytest.mark.parametrize(("large", "verify"), [(False, "checksum"), (False, "size"), (True, "checksum")])
async def test_a_source_that_changes_at_any_step_is_never_mixed(change: str, verify: Any, *, large: bool) -> None:
    body, other = (LARGE, OTHER) if large else (SMALL, OTHER[: len(SMALL)])
    outcomes = set()
    for k in range(1000):
        source, destination = sides(body)
        at = Changing(source, change, k, body, other)
        bench = Bench(source, destination, at, part_size=MIB, verify=verify)
        log = MemoryLog()
        try:
            evidence = (await bench.copy("d/f", log)).evidence
            if bench.calls["status"]:
                assert_equal(bench, body)
            else:  # proven by its checksum alone: one version or the other, and the one that the evidence names
                whole = next(one for one in (body, other) if bench.inner_destination.objects == {"p/d/f": one})
                assert evidence.source == str(await sides(whole)[0].checksum("d/f"))
            outcomes.add("copied")
        except (SourceChanged, NotFound) as error:
            assert destination.objects == {}
            outcomes.add(type(error).__name__)
            await assert_nothing_left(bench, log)
        if k > at.steps:
            break
    else:
        pytest.fail("never came to an end")
    assert "copied" in outcomes
    if change != "touch" or large or verify == "size":
        assert outcomes & {"SourceChanged", "NotFound"}


class Changing:
    """Changes the file at the k-th step."""

    def __init__(self, source: MemorySource, change: str, k: int, body: bytes, other: bytes) -> None:
        self.source, self.change, self.k, self.body, self.other = source, change, k, body, other
        self.steps = 0

    async def __call__(self, name: str, when: str, args: tuple[Any, ...]) -> None:
        self.steps += 1
        if self.steps != self.k:
            return
        match self.change:
            case "replace":
                self.source.put("d/f", self.other)
            case "append":
                self.source.append("d/f", b"more")
            case "touch":
                self.source.put("d/f", self.body)
            case "remove":
                self.source.remove("d/f")


# --- a destination that fails -------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [ConnectionLost, Throttled, Unreachable])
@pytest.mark.parametrize(
    "name", ["put", "create_upload", "upload_part", "complete_upload", "status", "checksum", "head"]
)
async def test_one_failure_anywhere_and_a_lost_reply_anywhere(
    name: str, error: type[AsyncCopyError], when: str
) -> None:
    for body in (SMALL, LARGE):
        fault = Once(name, when, error)
        bench = Bench(*sides(body), fault)
        log = MemoryLog()
        await bench.copy("d/f", log)
        assert_equal(bench, body)
        assert fault.hits == (name in bench.calls)
        await assert_nothing_left(bench)


@pytest.mark.parametrize("checksum", ["CRC32C", None])
async def test_a_lost_reply_to_the_completion_is_settled_by_looking(checksum: Any) -> None:
    fault = Once("complete_upload", "after", ConnectionLost)
    bench = Bench(*sides(LARGE, checksum=checksum), fault, checksum=checksum)
    await bench.copy("d/f")
    assert_equal(bench, LARGE)
    assert bench.calls["complete_upload"] == 1
    assert bench.calls["upload_part"] == 4


async def test_an_equal_former_object_does_not_make_a_failed_completion_leave_its_upload() -> None:
    """The file was touched: same bytes, other time. Its object is right already, but the new upload must not stay."""
    fault = Once("complete_upload", "before", ConnectionLost)
    bench = Bench(*sides(LARGE), fault)
    await _put(bench, LARGE)
    await bench.copy("d/f")
    assert_equal(bench, LARGE)
    await assert_nothing_left(bench)


@pytest.mark.parametrize("name", ["upload_part", "complete_upload"])
async def test_an_upload_that_vanished_begins_anew(name: str) -> None:
    def forget(args: tuple[Any, ...]) -> None:
        bench.inner_destination._uploads.clear()

    bench = Bench(*sides(LARGE), Once(name, "before", forget))
    log = MemoryLog()
    await bench.copy("d/f", log)
    assert_equal(bench, LARGE)
    assert any(isinstance(error, UploadGone) for error in bench.noticed)
    assert bench.calls["create_upload"] == 2


async def test_uploads_that_always_vanish_fail_by_name() -> None:
    def forget(args: tuple[Any, ...]) -> None:
        bench.inner_destination._uploads.clear()

    bench = Bench(*sides(LARGE), Once("upload_part", "before", forget, times=10**6))
    log = MemoryLog()
    with pytest.raises(UploadGone):
        await bench.copy("d/f", log)
    await assert_nothing_left(bench, log)
    assert bench.inner_destination.objects == {}


async def test_a_refusal_aborts_the_upload() -> None:
    bench = Bench(*sides(LARGE), Once("upload_part", "before", PermissionDenied, nth=2))
    log = MemoryLog()
    with pytest.raises(PermissionDenied):
        await bench.copy("d/f", log)
    await assert_nothing_left(bench, log)


async def test_trouble_that_does_not_pass_keeps_the_parts_for_later() -> None:
    fault = Once("upload_part", "before", ConnectionLost, nth=3, times=10**6)
    bench = Bench(*sides(LARGE), fault, concurrency=1, policy=RetryPolicy(first=0.001, most=0.001, patience=0.02))
    log = MemoryLog()
    with pytest.raises(ConnectionLost):
        await bench.copy("d/f", log)
    assert log.kept is not None
    assert len(log.kept.parts) == 2
    again = Bench(bench.inner_source, bench.inner_destination)
    assert (await again.copy("d/f", log)).resumed_parts == 2
    assert again.calls["upload_part"] == 2
    assert_equal(again, LARGE)


async def test_bytes_moved_come_to_the_length_in_spite_of_repeated_parts() -> None:
    bench = Bench(*sides(LARGE), Once("upload_part", "after", ConnectionLost, times=3))
    await bench.copy("d/f")
    assert bench.moved == len(LARGE)


# --- stop and resume ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_stop_finishes_what_is_in_flight_and_resuming_sends_the_rest(concurrency: int) -> None:
    def stop(args: tuple[Any, ...]) -> None:
        bench.stop.set()

    bench = Bench(*sides(LARGE), Once("upload_part", "before", stop), concurrency=concurrency)
    log = MemoryLog()
    with pytest.raises(Interrupted):
        await bench.copy("d/f", log)
    assert log.kept is not None
    sent = {receipt.number for receipt in log.kept.parts}
    assert len(sent) == bench.calls["upload_part"] <= concurrency
    assert bench.inner_destination.objects == {}
    again = Bench(bench.inner_source, bench.inner_destination)
    copied = await again.copy("d/f", log)
    assert copied.resumed_parts == len(sent)
    assert log.sent == {1: 1, 2: 1, 3: 1, 4: 1}
    assert_equal(again, LARGE)
    assert again.moved == len(LARGE)


async def test_an_upload_of_another_version_is_not_gone_on_with() -> None:
    bench = Bench(*sides(LARGE))
    log = MemoryLog()
    bench.stop.set()
    with pytest.raises(Interrupted):
        await bench.copy("d/f", log)
    bench.inner_source.put("d/f", OTHER)
    again = Bench(bench.inner_source, bench.inner_destination)
    assert (await again.copy("d/f", log)).resumed_parts == 0
    assert_equal(again, OTHER)
    await assert_nothing_left(again)


async def test_an_intent_without_an_id_is_looked_up_and_aborted() -> None:
    bench = Bench(*sides(LARGE))
    orphan = await bench.inner_destination.create_upload("p/d/f")
    other = await bench.inner_destination.create_upload("p/d/f2")
    log = MemoryLog()
    await log.begin_upload(OpenUpload(intent(), MIB, (await bench.inner_source.status("d/f")).version))
    await bench.copy("d/f", log)
    assert orphan not in dict(await bench.inner_destination.list_uploads("")).values()
    assert await bench.inner_destination.list_uploads("") == [("p/d/f2", other)]


async def test_parts_without_block_digests_are_sent_again_rather_than_believed() -> None:
    """Begun with ``--verify size``, gone on with ``--verify checksum``."""
    bench = Bench(*sides(LARGE), Once("upload_part", "after", lambda _: bench.stop.set()), verify="size", concurrency=1)
    log = MemoryLog()
    with pytest.raises(Interrupted):
        await bench.copy("d/f", log)
    again = Bench(bench.inner_source, bench.inner_destination)
    assert (await again.copy("d/f", log)).evidence.method == "checksum"
    assert_equal(again, LARGE)


async def test_the_budget_bounds_the_ranges_in_flight_over_all_files() -> None:
    now = most = 0

    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        nonlocal now, most
        if name in ("upload_part", "put"):
            now += 1 if when == "before" else -1
            most = max(most, now)
            await asyncio.sleep(0.001)

    files = {f"f{n}": (LARGE if n % 2 else SMALL) for n in range(8)}
    bench = Bench(MemorySource(files, block_size=MIB), MemoryDestination(limits=LIMITS), step, concurrency=3)
    async with asyncio.TaskGroup() as group:
        for path in files:
            group.create_task(bench.copy(path))
    assert bench.inner_destination.objects == files
    assert most == 3
    assert bench.budget.taken == 0


@pytest.mark.parametrize("error", [FileError, ConnectionLost])
async def test_no_budget_is_lost_by_failures(error: type[AsyncCopyError]) -> None:
    policy = RetryPolicy(first=0.0001, most=0.0001, patience=0.001)
    for name in ("open", "readinto", "upload_part", "put", "checksum", "complete_upload"):
        for body in (SMALL, LARGE):
            bench = Bench(*sides(body), Once(name, "before", error, times=10**6), policy=policy, concurrency=2)
            with pytest.raises(error):
                if (name, body is SMALL) in (("upload_part", True), ("complete_upload", True), ("put", False)):
                    raise error("not on this way")
                await bench.copy("d/f")
            await asyncio.sleep(0)
            assert bench.budget.taken == 0, name
