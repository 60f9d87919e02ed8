"""A bandwidth that depends on the time of day: ``mon-fri 08:00-20:00 = 200MiB/s``. Pure.

Windows follow the wall clock of one place, through its changes to and from daylight saving time: what the clock on the
wall never shows has no window, what it shows twice has it twice.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Final, NamedTuple

Limit = Callable[[str], float | None]
"""Reads a rate in bytes per second, None for no limit. Raises ValueError."""
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = 24 * 60
_WEEK: Final = 7 * _DAY
_CLOCK: Final = r"(\d{1,2}):(\d{2})"
_WINDOW: Final = re.compile(rf"(?:([a-z, -]+) )?{_CLOCK} ?- ?{_CLOCK} ?=(.*)\Z", re.IGNORECASE | re.ASCII)
_SHAPE: Final = 'write for example "08:00-20:00 = 200MiB/s" or "mon-fri 22:00-06:00 = pause"'


class _Window(NamedTuple):
    """From minute to minute of the week, the end excluded."""

    start: int
    end: int
    rate: float | None


class Timetable:
    """What may be read when, in bytes per second: None for no limit, 0 for standing still.

    ``texts`` as they were written: windows, and at most one rate alone, which is for all other times. ``limit`` reads
    the rates. ``zone``: whose wall clock, None for the machine's own. Raises ValueError, also where windows overlap.
    """

    __slots__ = ("_starts", "_windows", "otherwise", "texts", "zone")

    def __init__(self, texts: Sequence[str], limit: Limit, zone: tzinfo | None = None) -> None:
        self.texts = tuple(" ".join(piece.split()) for text in texts for piece in text.split(";") if piece.strip())
        self.zone = zone
        bare = [text for text in self.texts if "=" not in text]
        if not self.texts:
            raise ValueError(f"an empty timetable: {_SHAPE}")
        if len(bare) > 1:
            raise ValueError(f"{bare[0]!r} and {bare[1]!r}: only one rate is for all other times; {_SHAPE}")
        self.otherwise = limit(bare[0]) if bare else None
        self._windows = _week([text for text in self.texts if "=" in text], limit)
        self._starts = [window.start for window in self._windows]

    @property
    def windows(self) -> tuple[str, ...]:
        """What is to be shown of it: as it was written, nothing where the rate is always the same."""
        return self.texts if self._windows else ()

    def rate(self, at: datetime) -> float | None:
        """Bytes per second at this moment. A moment without a zone is the machine's local time."""
        local = at.astimezone(self.zone)
        minute = local.weekday() * _DAY + local.hour * 60 + local.minute
        found = bisect_right(self._starts, minute) - 1
        if found >= 0 and minute < self._windows[found].end:
            return self._windows[found].rate
        return self.otherwise

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timetable) and (self._windows, self.otherwise, self.zone) == (
            other._windows,
            other.otherwise,
            other.zone,
        )

    def __hash__(self) -> int:
        return hash((tuple(self._windows), self.otherwise, self.zone))

    def __repr__(self) -> str:
        return "; ".join(self.texts)


def _week(texts: Sequence[str], limit: Limit) -> list[_Window]:
    """All windows of a week in order. Raises ValueError where two overlap."""
    found = sorted(
        ((window, text) for text in texts for window in _windows(text, limit)), key=lambda pair: pair[0].start
    )
    for (former, one), (latter, other) in pairwise(found):
        if latter.start < former.end:
            day, clock = divmod(latter.start, _DAY)
            moment = f"{_DAYS[day]} {clock // 60:02d}:{clock % 60:02d}"
            raise ValueError(f"{one!r} and {other!r} overlap at {moment}")
    return [window for window, _ in found]


def _windows(text: str, limit: Limit) -> Iterator[_Window]:
    match = _WINDOW.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no window of a timetable: {_SHAPE}")
    days, *clock, amount = match.groups()
    rate = limit(amount)
    start, end = _minute(clock[0], clock[1], text), _minute(clock[2], clock[3], text)
    if start in (end, _DAY):
        raise ValueError(f"{text!r} is an empty window: a whole day is 00:00-24:00")
    if end < start:
        end += _DAY  # over midnight: it belongs to the day on which it begins
    for day in _days(days, text):
        first, last = day * _DAY + start, day * _DAY + end
        yield _Window(first, min(last, _WEEK), rate)
        if last > _WEEK:
            yield _Window(0, last - _WEEK, rate)


def _minute(hour: str, minute: str, text: str) -> int:
    found = int(hour) * 60 + int(minute)
    if int(minute) > 59 or found > _DAY:
        raise ValueError(f"{text!r}: {hour}:{minute} is no time of day; from 00:00 to 24:00")
    return found


def _days(text: str | None, window: str) -> list[int]:
    """Numbers of ``mon-fri``, ``sat,sun``, ``fri-mon``; every day without a text."""
    if text is None:
        return list(range(7))
    found: set[int] = set()
    for piece in text.lower().split(","):
        first, _, last = (name.strip() for name in piece.partition("-"))
        if first not in _DAYS or (last or first) not in _DAYS or ("-" in piece and not last):
            raise ValueError(f"{window!r}: {piece.strip()!r} are no days; write for example mon-fri or sat,sun")
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        found |= {day % 7 for day in range(begin, end + 1 + (7 if end < begin else 0))}
    return sorted(found)
