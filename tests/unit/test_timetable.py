"""Bandwidth by the clock on the wall, also on the days on which it is put forward and back."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccopy.timetable import Timetable
from asynccopy.units import parse_limit

MIB = 1 << 20
BERLIN = ZoneInfo("Europe/Berlin")
"""Forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00."""


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def table(*texts: str) -> Timetable:
    return Timetable(texts, parse_limit, BERLIN)


def test_a_rate_alone_is_for_all_times() -> None:
    always = table("200MiB/s")
    now = at("2026-06-01T12:00")
    assert always.rate(now) == 200 * MIB
    assert always.windows == ()
    assert table("unlimited").rate(now) is None
    assert table("pause").rate(now) == 0.0


def test_a_window_and_the_rest_of_the_day() -> None:
    day = table("08:00-20:00 = 200MiB/s; 1GB/s")
    assert day.rate(at("2026-06-01T07:59:59.999")) == 1e9
    assert day.rate(at("2026-06-01T08:00")) == 200 * MIB
    assert day.rate(at("2026-06-01T19:59:59.999")) == 200 * MIB
    assert day.rate(at("2026-06-01T20:00")) == 1e9
    assert day.windows == ("08:00-20:00 = 200MiB/s", "1GB/s")
    assert table("08:00-20:00 = 200MiB/s").rate(at("2026-06-01T07:00")) is None


def test_the_moment_may_be_of_any_zone() -> None:
    day = table("08:00-20:00 = 200MiB/s")
    assert day.rate(datetime(2026, 6, 1, 6, 30, tzinfo=UTC)) == 200 * MIB


def test_days_of_the_week() -> None:
    work = table("mon-fri 08:00-20:00 = 200MiB/s", "sat,sun 00:00-24:00 = pause")
    assert work.rate(at("2026-06-05T12:00")) == 200 * MIB  # a Friday
    assert work.rate(at("2026-06-06T12:00")) == 0.0
    assert work.rate(at("2026-06-07T23:59")) == 0.0
    over_the_end = table("fri-mon 10:00-11:00 = pause")
    assert [over_the_end.rate(at(f"2026-06-0{day}T10:30")) for day in range(1, 8)] == [0, None, None, None, 0, 0, 0]


def test_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    night = table("sun 22:00-06:00 = pause")
    assert night.rate(at("2026-06-07T23:00")) == 0.0
    assert night.rate(at("2026-06-08T05:59")) == 0.0  # Monday
    assert night.rate(at("2026-06-08T06:00")) is None
    assert night.rate(at("2026-06-07T05:00")) is None


def test_the_day_on_which_the_clock_is_put_forward() -> None:
    begins_in_it = table("02:30-04:00 = pause")
    assert begins_in_it.rate(at("2026-03-29T01:59:59")) is None
    assert begins_in_it.rate(at("2026-03-29T03:00")) == 0.0


def test_the_day_on_which_the_clock_is_put_back() -> None:
    twice = table("02:00-02:30 = pause")
    shown = [datetime(2026, 10, 25, hour, minute, tzinfo=UTC) for hour in (0, 1) for minute in (15, 45)]
    assert [twice.rate(moment) for moment in shown] == [0.0, None, 0.0, None]
    cut = table("02:30-03:00 = pause")  # the clock is put back in the middle of the second shown 02:30
    assert cut.rate(at("2026-10-25T02:15", fold=1)) is None


def test_the_machines_own_clock() -> None:
    now = datetime(2026, 6, 1, 12, tzinfo=UTC)
    hour = now.astimezone().strftime("%H")
    here = Timetable([f"{hour}:00-{hour}:59 = pause"], parse_limit)
    assert here.rate(now) == 0.0


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([], "an empty timetable"),
        ([" ; "], "an empty timetable"),
        (["1MiB/s", "2MiB/s"], "only one rate is for all other times"),
        (["08:00-10:00 = 1MiB/s", "09:59-11:00 = pause"], "overlap at mon 09:59"),
        (["22:00-06:00 = 1MiB/s", "sat 05:00-07:00 = pause"], "overlap at sat 05:00"),
        (["sun 22:00-06:00 = 1MiB/s", "mon 05:59-07:00 = pause"], "overlap at mon 05:59"),
        (["mon-sun 08:00-10:00 = pause", "wed 08:00-10:00 = pause"], "overlap at wed 08:00"),
        (["08:00-08:00 = pause"], "a whole day is 00:00-24:00"),
        (["24:00-08:00 = pause"], "a whole day is 00:00-24:00"),
        (["08:00-24:01 = pause"], "24:01 is no time of day"),
        (["08:60-10:00 = pause"], "08:60 is no time of day"),
        (["8-10 = pause"], "is no window of a timetable"),
        (["08:00-10:00 = 200"], "'200' has no unit"),
        (["08:00-10:00 = "], "is not a rate"),
        (["08:00-10:00"], "is not a rate"),
        (["200"], "has no unit"),
        (["tag 08:00-10:00 = pause"], "are no days"),
        (["mon- 08:00-10:00 = pause"], "are no days"),
        (["mon,,tue 08:00-10:00 = pause"], "are no days"),
    ],
)
def test_what_is_no_timetable(texts: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        Timetable(texts, parse_limit)


def test_equal_is_what_means_the_same() -> None:
    assert table("08:00-20:00=1MiB/s; 1GB/s") == table("1GB/s", "mon-sun  08:00 - 20:00  =  1024KiB/s")
    assert len({table("1GB/s"), table("1000MB/s"), table("2GB/s")}) == 2


@given(st.lists(st.text() | st.text("0123456789:-=; montuesafri,MiB/s", max_size=40), max_size=4))
def test_no_text_raises_anything_else(texts: list[str]) -> None:
    with suppress(ValueError):
        Timetable(texts, parse_limit).rate(datetime(2026, 6, 1, 12, tzinfo=UTC))
