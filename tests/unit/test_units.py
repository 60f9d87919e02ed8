from __future__ import annotations

from datetime import UTC, datetime

import pytest

from asynccopy.cli.units import parse_duration, parse_moment, parse_rate, parse_size, size_text, span_text

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


def test_durations() -> None:
    assert [parse_duration(text) for text in ("500ms", "30s", "1.5m", "6h", "7d", "2w")] == [
        0.5,
        30,
        90,
        21600,
        604800,
        1209600,
    ]
    for wrong in ("30", "6 hours", "s", "-1s", ""):
        with pytest.raises(ValueError, match="is not a duration"):
            parse_duration(wrong)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T10:30:00", datetime(2026, 1, 31, 10, 30, tzinfo=UTC)),
        ("2026-01-31T10:30:00Z", datetime(2026, 1, 31, 10, 30, tzinfo=UTC)),
        ("2026-01-31T10:30:00+02:00", datetime(2026, 1, 31, 8, 30, tzinfo=UTC)),
        ("7d", datetime(2026, 1, 25, 12, tzinfo=UTC)),
        ("6h", datetime(2026, 2, 1, 6, tzinfo=UTC)),
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
