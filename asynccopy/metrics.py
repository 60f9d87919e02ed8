"""Every metric family, declared once, and the histograms that the data path feeds.

What a mirror counts anyway is read from the daemon's status when Prometheus asks; here are only the names of it. What
no status holds, how long things take, is observed into a ``Timing`` where it happens. No metrics library is imported:
a copy by hand needs none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, Literal

from msgspec import Struct

Kind = Literal["counter", "gauge", "histogram"]


class Family(Struct, frozen=True):
    """One metric family. ``name`` is what is exposed: with its unit, and of a counter with ``_total``."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


_declared: list[Family] = []


def _family(name: str, kind: Kind, text: str, *labels: str) -> Family:
    family = Family(f"asynccopy_{name}", kind, text, labels)
    _declared.append(family)
    return family


# --- the daemon ---------------------------------------------------------------------------------------------------

BUILD_INFO: Final = _family("build_info", "gauge", "1, with the release that runs.", "version")
START_TIME: Final = _family("start_time_seconds", "gauge", "When the daemon started, since the epoch.")
DRAINING: Final = _family("draining", "gauge", "1 while it finishes the ranges in flight before it ends.")
LOOP_LAG: Final = _family(
    "event_loop_lag_seconds", "gauge", "By how much the event loop was late, at worst in the last minute."
)
RSS: Final = _family("resident_memory_bytes", "gauge", "Resident memory of the daemon's process.")
NAMENODE_SECONDS: Final = _family(
    "namenode_request_seconds", "histogram", "How long a NameNode took to answer a request."
)
STORE_SECONDS: Final = _family(
    "store_request_seconds", "histogram", "How long a store took to answer, from the last byte of the request."
)
COMMIT_SECONDS: Final = _family(
    "journal_commit_seconds", "histogram", "How long a commit of a journal took, down to the disk."
)

# --- each mirror --------------------------------------------------------------------------------------------------

STATE: Final = _family(
    "mirror_state", "gauge", "1 for the state that the mirror is in, 0 for the others.", "mirror", "state"
)
FILES: Final = _family("files", "gauge", "Files of the source that are done, pending or failed.", "mirror", "state")
BYTES: Final = _family("bytes", "gauge", "Bytes of the files that are done, pending or failed.", "mirror", "state")
FAILED_FILES: Final = _family("failed_files", "gauge", "Files that failed, by class of error.", "mirror", "error")
OPEN_FILES: Final = _family("open_files", "gauge", "Files left because they are still being written.", "mirror")
COPIED_FILES: Final = _family("copied_files_total", "counter", "Files copied since the daemon started.", "mirror")
COPIED_BYTES: Final = _family("copied_bytes_total", "counter", "Bytes copied since the daemon started.", "mirror")
RETRIES: Final = _family("retries_total", "counter", "Requests tried again since the daemon started.", "mirror")
DELETED_FILES: Final = _family(
    "deleted_files_total", "counter", "Objects deleted or put into the trash since the daemon started.", "mirror"
)
DELETIONS: Final = _family(
    "deletions_pending", "gauge", "Objects at the destination whose files the source no longer has.", "mirror"
)
DELETIONS_HELD: Final = _family("deletions_held", "gauge", "1 while deletions wait for a person's word.", "mirror")
IN_FLIGHT: Final = _family("in_flight_ranges", "gauge", "Ranges in flight.", "mirror")
CONCURRENCY: Final = _family("concurrency_limit_ranges", "gauge", "Ranges in flight allowed now.", "mirror")
BANDWIDTH: Final = _family(
    "bandwidth_limit_bytes_per_second", "gauge", "Bytes per second allowed now; absent without a limit.", "mirror"
)
LAG: Final = _family(
    "lag_seconds",
    "gauge",
    "How far the destination is behind the source: since when it may differ. Where it is scanned, appends are not "
    "counted before the next full scan.",
    "mirror",
)
LISTING: Final = _family("listing", "gauge", "1 while the present pass may still find more files.", "mirror")
LAST_SCAN: Final = _family(
    "last_scan_timestamp_seconds",
    "gauge",
    "When the last pass began that came to its end, since the epoch; absent before it, and where watch is off.",
    "mirror",
)
LAST_FULL_SCAN: Final = _family(
    "last_full_scan_timestamp_seconds",
    "gauge",
    "Likewise of the last pass that listed everything: where it is scanned, appends up to then were seen.",
    "mirror",
)
SCAN_SECONDS: Final = _family(
    "scan_duration_seconds", "histogram", "How long a pass over the source took.", "mirror", "kind"
)

FAMILIES: Final = tuple(_declared)


# --- how long things take -----------------------------------------------------------------------------------------

# Upper bounds of the buckets in seconds. The last one has none.
_REQUEST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_COMMIT: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_PASS: Final = (1.0, 3.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 10800.0, 43200.0, 172800.0)


class Timing:
    """A histogram of seconds, cheap enough for every request (a quarter of a microsecond). It only ever grows.

    Any thread may observe: two at once can at worst lose one observation, where threads run truly in parallel.
    """

    __slots__ = ("_counts", "bounds", "seconds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.seconds = 0.0
        """The sum of all that was observed"""
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds

    def cumulative(self) -> list[int]:
        """How many took at most each of ``bounds``; the last number is of all."""
        return list(accumulate(self._counts.copy()))


class Timings:
    """One ``Timing`` for each set of label values."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._each: dict[tuple[str, ...], Timing] = {}

    def of(self, *labels: str) -> Timing:
        """The one of these label values, in the family's order."""
        return self._each.setdefault(labels, Timing(self._bounds))

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], Timing]]:
        return iter(list(self._each.items()))


NAMENODE: Final = Timing(_REQUEST)
STORE: Final = Timing(_REQUEST)
COMMIT: Final = Timing(_COMMIT)
SCAN: Final = Timings(_PASS)
"""By mirror and kind of pass (``Scan.kind``)"""
