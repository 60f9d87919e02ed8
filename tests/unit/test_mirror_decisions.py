"""What a mirror decides: when to look, what a diff means, what is open, renamed, ours to delete."""

from __future__ import annotations

from fractions import Fraction

import pytest

from asynccopy.daemon.meter import Meter
from asynccopy.daemon.shares import shares
from asynccopy.journal.rows import GoneFile
from asynccopy.mirror.deletions import Handling, held, ours
from asynccopy.mirror.diff import names
from asynccopy.mirror.open_files import may_be_open, young
from asynccopy.mirror.renames import carried_over
from asynccopy.mirror.schedule import Cadence, Looked, next_pass, retry_delay
from asynccopy.model import Evidence, FileStatus, FileVersion, ObjectMeta
from asynccopy.units import Cap

CADENCE = Cadence(30.0, 300.0)


@pytest.mark.parametrize(
    ("watching", "looked", "wanted"),
    [
        ("scan", Looked(), ("first", 0.0)),
        ("off", Looked(), ("first", 0.0)),
        ("snapshots", Looked(), ("first", 0.0)),
        ("scan", Looked(1000.0, 1000.0), ("quick", 1030.0)),
        ("scan", Looked(1290.0, 1000.0), ("full", 1320.0)),
        ("snapshots", Looked(1000.0, 1000.0), ("snapshot", 1030.0)),
        ("snapshots", Looked(9000.0, 1000.0), ("full", 9030.0)),
        ("off", Looked(1000.0, 1000.0), None),
        ("scan", Looked(last=1000.0), ("first", 1030.0)),  # a first one that was broken off at its end
    ],
)
def test_the_next_pass(watching: str, looked: Looked, wanted: tuple[str, float] | None) -> None:
    assert next_pass(watching, CADENCE, looked, 9500.0) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("looked", "wanted"),
    [
        (Looked(901.0, 880.0), ("quick", 30.0)),  # at once, and not when the clock has caught up
        (Looked(2000.0, 2000.0), ("quick", 30.0)),
        (Looked(890.0, 901.0), ("full", 920.0)),
        (Looked(900.0, 900.0), ("quick", 930.0)),
    ],
)
def test_a_moment_that_is_still_to_come_puts_nothing_off(looked: Looked, wanted: tuple[str, float]) -> None:
    assert next_pass("scan", CADENCE, looked, 900.0) == wanted


def test_failing_passes_are_tried_again_less_and_less_often_but_for_ever() -> None:
    assert [retry_delay(n, person=False) for n in (1, 2, 3, 7, 1000)] == [1.0, 2.0, 4.0, 60.0, 60.0]
    assert retry_delay(1, person=True) == 300.0


def test_a_diff_s_path_may_begin_with_any_renamed_directory_s_old_name() -> None:
    renames = {"a": "b", "b/x": "c", "q": "q/r"}
    assert names("a/x/f", renames) == {"a/x/f", "b/x/f", "c/f"}
    assert names("ab/f", renames) == {"ab/f"}
    assert names("a", renames) == {"a"}  # itself is no path below it
    assert len(names("q/f", renames)) <= 64  # a ring ends


@pytest.mark.parametrize(
    ("modified", "wanted"),
    [(999_000, True), (990_001, True), (990_000, False), (1_001_000, True), (1_400_000, False)],
)
def test_young_files_are_left_but_not_those_dated_far_ahead(modified: int, wanted: bool) -> None:
    assert young(FileStatus("f", 1, modified), 1000.0, 10.0) is wanted


def test_only_whole_blocks_can_be_of_an_open_file() -> None:
    assert [may_be_open(FileStatus("f", length, 0, block_size=64)) for length in (0, 64, 65, 128)] == [
        True,
        True,
        False,
        True,
    ]
    assert not may_be_open(FileStatus("f", 0, 0))


OLD = Evidence("checksum", "MD5-of-x:1", "CRC32C:0000000a", "e1")


@pytest.mark.parametrize(
    ("meta", "wanted"),
    [
        (ObjectMeta("k", 5, "e2", 10), Evidence("checksum", "MD5-of-x:1", "CRC32C:0000000a", "e2")),
        (ObjectMeta("k", 5, "e1"), OLD),
        (ObjectMeta("k", 5, "e2", 11), None),
        (ObjectMeta("k", 5, "e2"), None),  # nothing proves it
        (ObjectMeta("k", 6, "e1", 10), None),
        (ObjectMeta("k", 5, "e1", crc64=10), None),
    ],
)
def test_a_renamed_file_keeps_its_evidence_only_with_the_object_s_own_word(
    meta: ObjectMeta, wanted: Evidence | None
) -> None:
    assert carried_over(OLD, 5, meta) == wanted


def test_a_rename_proves_no_more_than_the_old_name_did() -> None:
    assert carried_over(Evidence("size", etag="e1"), 5, ObjectMeta("k", 5, "e9")) == Evidence("size", etag="e9")
    assert carried_over(Evidence("", etag="e1"), 5, ObjectMeta("k", 5, "e1")) is None


def test_a_crc64_proves_a_renamed_file_too() -> None:
    old = Evidence("checksum", "MD5-of-x:1", "CRC64:000000000000000a", "e1")
    assert carried_over(old, 5, ObjectMeta("k", 5, "e2", crc64=10)) == Evidence(
        old.method, old.source, old.object, "e2"
    )
    assert carried_over(old, 5, ObjectMeta("k", 5, "e1", crc64=11)) is None


@pytest.mark.parametrize(
    ("handling", "gone", "live", "confirmed", "waits"),
    [
        (Handling("delete", Cap(share=Fraction(1, 20))), 5, 95, 0, False),
        (Handling("delete", Cap(share=Fraction(1, 20))), 6, 94, 0, True),
        (Handling("delete", Cap(share=Fraction(1, 20))), 6, 94, 6, False),
        (Handling("delete", Cap(share=Fraction(1, 20))), 7, 93, 6, True),  # more than was looked at
        (Handling("trash", Cap(count=3)), 4, 1_000_000, 0, True),
        (Handling("keep", Cap(count=0)), 4, 4, 0, False),
        (Handling("delete", Cap(count=0)), 0, 4, 0, False),
    ],
)
def test_many_deletions_wait_for_a_person(
    handling: Handling, gone: int, live: int, confirmed: int, waits: bool
) -> None:
    assert bool(held(handling, gone, live, confirmed)) is waits


@pytest.mark.parametrize(
    ("meta", "proven", "wanted"),
    [
        (ObjectMeta("k", 9, "e1", modification_time=1), "checksum", True),  # the very object that was copied
        (ObjectMeta("k", 5, "e2", modification_time=2000), "checksum", False),  # somebody else's, as long by chance
        (ObjectMeta("k", 9, "e1", modification_time=1), "", True),  # that of a former version
        (ObjectMeta("k", 5, "e2", modification_time=2000), "", True),  # copied, and the commit was cut off
        (ObjectMeta("k", 5, "e2", modification_time=1999), "", False),  # older than the file
        (ObjectMeta("k", 6, "e2", modification_time=5000), "", False),  # somebody else's
    ],
)
def test_only_our_own_objects_are_deleted(meta: ObjectMeta, proven: str, wanted: bool) -> None:
    row = GoneFile(1, "f", FileVersion(5, 2000, 1), Evidence(proven, etag="e1"), 3000)
    assert ours(row, meta) is wanted


def test_ranges_are_shared_by_priority_and_nobody_starves() -> None:
    assert shares(512, {}) == {}
    assert shares(512, {"a": 5}) == {"a": 512}
    assert shares(100, {"a": 1, "b": 3}) == {"a": 25, "b": 75}
    assert shares(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert shares(2, {"a": 10, "b": 1, "c": 1}) == {"a": 1, "b": 1, "c": 1}


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter()
    for second in range(0, 40, 2):
        meter.look(1000.0 + second, second * 100 if second < 20 else 2000, second)
    assert meter.bytes_per_second == 0.0
    assert meter.files_per_second == pytest.approx(1.0)
    assert [sample.bytes for sample in meter.samples][:2] == [100.0, 100.0]
    assert meter.eta(0, 10) == pytest.approx(10.0)
    assert Meter().eta(1, 1) is None
