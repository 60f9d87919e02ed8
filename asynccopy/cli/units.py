"""What people write for sizes, rates, spans and moments. Pure.

Every function raises ValueError with a text that says what is legal; the caller adds the name of the option.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*\Z")
_SIZES = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgtp", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgtp", 1)},
}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def parse_size(text: str) -> int:
    """Bytes of ``64MiB``, ``1GB``, ``1.5TiB`` or a plain number of bytes."""
    found = _NUMBER.match(text)
    unit = found[2].lower() if found else ""
    if found is None or unit not in _SIZES:
        wish = f"{found[1]}{unit.upper()}" if found and f"{unit}ib" in _SIZES else ""
        choice = f"write {wish}iB (1024s) or {wish}B (1000s)" if wish else "write for example 64MiB, 1GB or 4096"
        raise ValueError(f"{text!r} is not a size: {choice}")
    size = float(found[1]) * _SIZES[unit] if "." in found[1] else int(found[1]) * _SIZES[unit]
    if size != int(size) or size >= 2**63:
        raise ValueError(f"{text!r} is not a size: it must be a whole number of bytes below 8 EiB")
    return int(size)


def parse_rate(text: str) -> float:
    """Bytes per second of ``200MiB/s``; the ``/s`` may be left out."""
    try:
        rate = parse_size(text.strip().removesuffix("/s"))
    except ValueError:
        raise ValueError(f"{text!r} is not a rate: write for example 200MiB/s (bytes, not bits)") from None
    if not rate:
        raise ValueError("the rate must be above 0")
    return float(rate)


def parse_duration(text: str) -> float:
    """Seconds of ``30s``, ``500ms``, ``6h``, ``7d``, ``2w``. A bare number has no unit and is refused."""
    found = _NUMBER.match(text)
    if found is None or found[2] not in _SECONDS:
        raise ValueError(f"{text!r} is not a duration: write for example 30s, 15m, 6h or 7d")
    return float(found[1]) * _SECONDS[found[2]]


def parse_moment(text: str, now: datetime) -> int:
    """Milliseconds since the epoch of ``2026-01-31``, an ISO 8601 time, or an age such as ``7d`` before ``now``.

    A time without an offset is UTC.
    """
    if _NUMBER.match(text):
        try:
            moment = now.timestamp() - parse_duration(text)
        except ValueError:
            raise ValueError(f"{text!r} is not an age: write for example 6h or 7d") from None
        return round(moment * 1000)
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time: write 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 7d"
        ) from None
    return round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)


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
