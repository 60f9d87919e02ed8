"""Throughput, from counters that only grow."""

from __future__ import annotations

from collections import deque
from typing import Final

from asynccopy.control.messages import Sample

WINDOW: Final = 10.0
"""Seconds over which the present rate is taken, and that lie between two samples"""
SAMPLES: Final = 360
"""An hour of them"""


class Meter:
    """``look`` at the counters every few seconds. Pure: the time is given, in seconds since the epoch."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int, int]] = deque()
        self._sampled = 0.0
        self.samples: deque[Sample] = deque(maxlen=SAMPLES)
        self.bytes_per_second = 0.0
        self.files_per_second = 0.0

    def look(self, now: float, moved: int, files: int) -> None:
        marks = self._marks
        if marks and not marks[-1][0] < now:
            return  # the clock was set back; it will pass this mark again
        marks.append((now, moved, files))
        while len(marks) > 2 and marks[1][0] <= now - WINDOW:
            marks.popleft()
        seconds = now - marks[0][0]
        if seconds > 0:
            # A part that failed is counted back, so a difference may be negative.
            self.bytes_per_second = max(0.0, (moved - marks[0][1]) / seconds)
            self.files_per_second = max(0.0, (files - marks[0][2]) / seconds)
        if now - self._sampled >= WINDOW and seconds > 0:
            self._sampled = now
            self.samples.append(Sample(int(now * 1000), self.bytes_per_second, self.files_per_second))

    def eta(self, pending_bytes: int, pending_files: int) -> float | None:
        """Seconds until all of it is copied at the present rate, None where nothing moves."""
        if self.bytes_per_second <= 0 and self.files_per_second <= 0:
            return None
        by_bytes = pending_bytes / self.bytes_per_second if self.bytes_per_second > 0 else 0.0
        by_files = pending_files / self.files_per_second if self.files_per_second > 0 else 0.0
        return max(by_bytes, by_files)
