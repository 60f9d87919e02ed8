"""When the source is looked at next, and how. Pure. Times and durations are seconds."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from asynccopy.journal.rows import Kind

Watching = Literal["snapshots", "scan", "off"]

RETRY_FIRST: Final = 1.0
RETRY_MOST: Final = 60.0
RETRY_PERSON: Final = 300.0
"""What needs a person (credentials, a wrong path) is tried again all the same: the person may not tell us."""


class Cadence(Struct, frozen=True):
    """``interval``: from the beginning of one pass to the beginning of the next; ``full_interval``: likewise of full
    ones, where quick ones come in between.
    """

    interval: float
    full_interval: float


class Looked(Struct, frozen=True):
    """When the last pass began that came to its end, and the last one of those that listed everything; 0 for never."""

    last: float = 0.0
    full: float = 0.0


def next_pass(watching: Watching, cadence: Cadence, looked: Looked, now: float) -> tuple[Kind, float] | None:
    """The next pass and the moment from which it is due; None: never again.

    A moment that is still to come was noted by a clock that has been put back since: it says nothing.
    """
    last, full = (moment if moment <= now else 0.0 for moment in (looked.last, looked.full))
    if not looked.full:
        return "first", last and last + cadence.interval
    if watching == "off":
        return None
    due, full = last + cadence.interval, full + cadence.full_interval
    if full <= due:
        # Also with snapshots: HDFS's diff does not name what grew inside a snapshot because it was open when that was
        # made, nor a file that was cut and has grown to its old length again (seen on 3.5.0).
        return "full", due
    return ("snapshot" if watching == "snapshots" else "quick"), due


def retry_delay(failures: int, *, person: bool) -> float:
    """Seconds until a pass that has failed so often in a row is begun again."""
    return RETRY_PERSON if person else min(RETRY_MOST, RETRY_FIRST * 2.0 ** min(failures - 1, 16))
