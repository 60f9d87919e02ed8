from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccopy.units import (
    Cap,
    parse_cap,
    parse_duration,
    parse_limit,
    parse_moment,
    parse_rate,
    parse_size,
    parse_time,
    parse_written_size,
    size_text,
    span_text,
)

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("64MiB", 64 << 20),
        ("64 mib", 64 << 20),
        ("1GB", 10**9),
        ("1.5KiB", 1536),
        ("2TiB", 2 << 40),
        ("1PB", 10**15),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "1e9", "10 parsecs", "0.3B", "1.0001KiB", "9EB", "9000PiB", "5 %", "٣"]
)
def test_what_is_no_size_says_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


def test_a_unit_that_could_mean_two_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"write 64MiB \(1024s\) or 64MB \(1000s\)"):
        parse_size("64M")


def test_rates() -> None:
    assert parse_rate("200MiB/s") == 200 << 20
    assert parse_rate("1GB") == 1e9
    for wrong in ("200Mbit/s", "fast", "0", "10MiB/h"):
        with pytest.raises(ValueError, match="rate"):
            parse_rate(wrong)


@pytest.mark.parametrize(
    ("text", "limit"),
    [("200MiB/s", 200 << 20), ("unlimited", None), ("pause", 0.0), ("0MiB/s", 0.0), ("0 MiB/s", 0.0), (" Pause ", 0.0)],
)
def test_limits(text: str, limit: float | None) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize("text", ["200", "0", "0/s", "1.5"])
def test_a_bare_number_is_no_limit_and_no_written_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"has no unit: write for example [0-9.]+MiB/s"):
        parse_limit(text)
    with pytest.raises(ValueError, match=r"has no unit: write for example [0-9.]+MiB"):
        parse_written_size(text.removesuffix("/s"))


def test_what_is_no_limit() -> None:
    for wrong in ("", "slow", "-1MiB/s", "0 parsecs", "0M/s"):
        with pytest.raises(ValueError, match="is not a rate"):
            parse_limit(wrong)


def test_durations() -> None:
    texts = ("500ms", "30s", "1.5m", "6h", "7d", "2w", "1h30m", "1d 2h 3m 4s 5ms", " 1 h ")
    assert [parse_duration(text) for text in texts] == [
        0.5,
        30,
        90,
        21600,
        604800,
        1209600,
        5400,
        93784.005,
        3600,
    ]
    for wrong in ("30", "6 hours", "s", "-1s", "", "30m1h", "1h1h", "1h30", "1H", "9999999w", "9" * 400 + "s"):
        with pytest.raises(ValueError, match=r"is not a duration|is too long"):
            parse_duration(wrong)


def test_caps() -> None:
    assert parse_cap("5%") == Cap(share=Fraction(1, 20))
    assert parse_cap("1000") == Cap(count=1000)
    assert parse_cap("0.5 %").most(1000) == 5
    assert parse_cap("29%").most(100) == 29  # which floating-point numbers make 28
    assert parse_cap("5%").most(19) == 0
    assert parse_cap("7").most(3) == 7
    assert [repr(parse_cap(text)) for text in ("5%", "0.25%", "12")] == ["5%", "0.25%", "12"]
    assert parse_cap("5%") != parse_cap("5")
    for wrong in ("101%", "-1", "five", "%", "1.5", ""):
        with pytest.raises(ValueError, match=r'write a share such as "5%", or a count'):
            parse_cap(wrong)


@given(
    st.integers(0, 2**63 - 1), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB", "PiB", "KB", "MB", "GB", "TB", "PB"])
)
def test_a_written_size_is_the_product(number: int, unit: str) -> None:
    power = "BKMGTP".index(unit[0])
    factor = (1024 if "i" in unit else 1000) ** power
    if number * factor < 2**63:
        assert parse_written_size(f"{number}{unit}") == number * factor
    else:
        with pytest.raises(ValueError, match="below 8 EiB"):
            parse_written_size(f"{number}{unit}")


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_a_span_is_the_sum_of_its_pieces(days: int, hours: int, minutes: int, seconds: int) -> None:
    text = f"{days}d{hours}h{minutes}m{seconds}s"
    assert parse_duration(text) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@given(st.integers(0, 100), st.integers(0, 10**9))
def test_a_share_is_never_rounded_up(percent: int, files: int) -> None:
    most = parse_cap(f"{percent}%").most(files)
    assert most * 100 <= percent * files < (most + 1) * 100


@given(st.text() | st.text("0123456789.: -+%smhdwMGiBTZ/", max_size=20))
def test_no_text_raises_anything_else(text: str) -> None:
    for parse in (parse_size, parse_written_size, parse_rate, parse_limit, parse_duration, parse_cap, parse_time):
        with suppress(ValueError):
            parse(text)
    with suppress(ValueError):
        parse_moment(text, NOW)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T10:30:00", datetime(2026, 1, 31, 10, 30, tzinfo=UTC)),
        ("2026-01-31T10:30:00Z", datetime(2026, 1, 31, 10, 30, tzinfo=UTC)),
        ("2026-01-31T10:30:00+02:00", datetime(2026, 1, 31, 8, 30, tzinfo=UTC)),
        ("7d", datetime(2026, 1, 25, 12, tzinfo=UTC)),
        ("6h", datetime(2026, 2, 1, 6, tzinfo=UTC)),
        ("1h30m", datetime(2026, 2, 1, 10, 30, tzinfo=UTC)),
    ],
)
def test_moments(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOW) == round(moment.timestamp() * 1000)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "31.01.2026", "7", "7 fortnights", ""])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an? (time|age)"):
        parse_moment(text, NOW)


def test_for_the_eye() -> None:
    assert [size_text(size) for size in (0, 999, 1536, 200 << 20, 3 << 40, 5 << 50)] == [
        "0 B",
        "999 B",
        "1.5 KiB",
        "200 MiB",
        "3.0 TiB",
        "5.0 PiB",
    ]
    assert [span_text(seconds) for seconds in (0.4, 59.4, 59.6, 187, 18120, 273600)] == [
        "0 s",
        "59 s",
        "1:00 min",
        "3:07 min",
        "5:02 h",
        "3 d 4 h",
    ]
