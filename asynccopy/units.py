"""What people write for sizes, rates, spans, moments and limits. Pure.

Every function raises ValueError with a text that says what is legal; the caller adds the name of the option or key.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from typing import Final

_NUMBER: Final = r"([0-9]{1,30}(?:\.[0-9]{1,30})?)"
_AMOUNT: Final = re.compile(rf"\s*{_NUMBER}\s*([A-Za-z]*)\s*\Z")
_SPANS: Final = re.compile(rf"\s*(?:{_NUMBER}\s*(?:ms|[smhdw])\s*)+\Z")
_SPAN: Final = re.compile(rf"{_NUMBER}\s*(ms|[smhdw])")
_PERCENTAGE: Final = re.compile(rf"\s*{_NUMBER}\s*%\s*\Z")
_SIZES: Final = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgtp", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgtp", 1)},
}
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_LONGEST: Final = 36_500 * 86400.0


class Cap:
    """At most so many: a ``count``, or a ``share`` of all; the other one is None."""

    __slots__ = ("count", "share")

    def __init__(self, *, count: int | None = None, share: Fraction | None = None) -> None:
        assert (count is None) != (share is None)
        self.count = count
        self.share = share

    def most(self, of: int) -> int:
        """How many are allowed where there are ``of`` in all. A share is rounded down."""
        if self.count is not None:
            return self.count
        assert self.share is not None
        return int(self.share * of)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cap) and (self.count, self.share) == (other.count, other.share)

    def __hash__(self) -> int:
        return hash((self.count, self.share))

    def __repr__(self) -> str:
        return f"{float(100 * self.share):g}%" if self.share is not None else str(self.count)


def parse_size(text: str) -> int:
    """Bytes of ``64MiB``, ``1GB``, ``1.5TiB`` or a plain number of bytes."""
    found = _AMOUNT.match(text)
    unit = found[2].lower() if found else ""
    if found is None or unit not in _SIZES:
        wish = f"{found[1]}{unit.upper()}" if found and f"{unit}ib" in _SIZES else ""
        choice = f"write {wish}iB (1024s) or {wish}B (1000s)" if wish else "write for example 64MiB, 1GB or 4096"
        raise ValueError(f"{text!r} is not a size: {choice}")
    size = Fraction(found[1]) * _SIZES[unit]
    if size.denominator != 1 or size >= 2**63:
        raise ValueError(f"{text!r} is not a size: it must be a whole number of bytes below 8 EiB")
    return int(size)


def parse_written_size(text: str) -> int:
    """As ``parse_size``, but the unit must be written."""
    _check_unit(text, "MiB")
    return parse_size(text)


def parse_rate(text: str) -> float:
    """Bytes per second of ``200MiB/s``; the ``/s`` may be left out."""
    try:
        rate = parse_size(text.strip().removesuffix("/s"))
    except ValueError:
        raise ValueError(f"{text!r} is not a rate: write for example 200MiB/s (bytes, not bits)") from None
    if not rate:
        raise ValueError("the rate must be above 0")
    return float(rate)


def parse_limit(text: str) -> float | None:
    """A rate that may also be ``unlimited`` (None) or ``pause`` (0.0, as is ``0MiB/s``). The unit must be written."""
    word = text.strip().lower()
    if word == "unlimited":
        return None
    if word == "pause":
        return 0.0
    amount = text.strip().removesuffix("/s")
    _check_unit(amount, "MiB/s")
    found = _AMOUNT.match(amount)
    if found is not None and not float(found[1]) and found[2].lower() in _SIZES:
        return 0.0
    return parse_rate(text)


def parse_duration(text: str) -> float:
    """Seconds of ``30s``, ``500ms``, ``6h``, ``1h30m``, ``2w``. A bare number has no unit and is refused."""
    pieces = _SPAN.findall(text) if _SPANS.match(text) else []
    sizes = [_SECONDS[unit] for _, unit in pieces]
    if not pieces or any(former <= latter for former, latter in pairwise(sizes)):
        raise ValueError(f"{text!r} is not a duration: write for example 30s, 15m, 1h30m or 7d")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in pieces)
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is too long: a hundred years at most")
    return seconds


def parse_cap(text: str) -> Cap:
    """A ``Cap`` of ``5%`` or ``1000``."""
    found = _PERCENTAGE.match(text)
    if found is not None and Fraction(found[1]) <= 100:
        return Cap(share=Fraction(found[1]) / 100)
    if re.fullmatch(r"\s*[0-9]{1,18}\s*", text):
        return Cap(count=int(text))
    raise ValueError(f'{text!r} is no limit: write a share such as "5%", or a count such as 1000')


def parse_time(text: str) -> int:
    """Milliseconds since the epoch of ``2026-01-31`` or an ISO 8601 time; without an offset it is UTC."""
    try:
        parsed = datetime.fromisoformat(text.strip())
        return round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time: write 2026-01-31 or 2026-01-31T12:00:00Z") from None


def parse_moment(text: str, now: datetime) -> int:
    """As ``parse_time``, or an age such as ``7d`` before ``now``."""
    if _AMOUNT.match(text) or _SPANS.match(text):
        try:
            age = parse_duration(text)
        except ValueError:
            raise ValueError(f"{text!r} is not an age: write for example 6h or 7d") from None
        return round((now.timestamp() - age) * 1000)
    try:
        return parse_time(text)
    except ValueError as error:
        raise ValueError(f"{error}, or an age such as 7d") from None


def _check_unit(text: str, unit: str) -> None:
    found = _AMOUNT.match(text)
    if found is not None and not found[2]:
        raise ValueError(f"{text!r} has no unit: write for example {found[1]}{unit}")


def size_text(size: float) -> str:
    """``1.5 GiB``: three digits are enough for the eye."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} PiB"


def span_text(seconds: float) -> str:
    """``48 s``, ``3:07 min``, ``5:02 h``, ``3 d 4 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole < 86400:
        return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
