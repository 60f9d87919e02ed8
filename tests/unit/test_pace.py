"""What is usual, and what is a straggler."""

from __future__ import annotations

from asynccopy.storage.pace import ENOUGH, FLOOR, LAG, LARGE, LAST, Pace

MIB = 1 << 20


def pace(*rates: float) -> Pace:
    found = Pace()
    for rate in rates:
        found.took(64 * MIB, 64 * MIB / rate)
    return found


def test_too_few_ranges_say_nothing() -> None:
    assert pace(*[100 * MIB] * (ENOUGH - 1)).floor == FLOOR
    assert pace(*[100 * MIB] * ENOUGH).floor == 100 * MIB / LAG


def test_the_middle_counts() -> None:
    """Neither one quick range from a cache nor one slow DataNode moves it."""
    assert pace(*[100 * MIB] * 9, 5000 * MIB, 2000).floor == 100 * MIB / LAG


def test_small_ranges_do_not_count_unless_they_are_slow() -> None:
    found = Pace()
    for _ in range(LAST):
        found.took(LARGE - 1, 0.5)
    assert found.floor == FLOOR
    for _ in range(ENOUGH):
        found.took(200_000, 2.0)
    assert found.floor == 100_000 / LAG


def test_where_everything_gets_slow_the_measure_follows() -> None:
    """So that a congested line does not have every range read elsewhere for ever."""
    found = pace(*[100 * MIB] * LAST)
    for _ in range(LAST // 2 + 1):  # given up after so little, the half of what is remembered and no more
        found.took(MIB, 1.0)
    assert found.floor == MIB / LAG


def test_no_floor_below_a_stall() -> None:
    assert pace(*[2000.0] * LAST).floor == FLOOR
    never = Pace()
    for _ in range(LAST):
        never.took(2 * MIB, 0.0)
    assert never.floor > FLOOR
