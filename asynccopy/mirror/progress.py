"""How far a run has come: plain counters, written by the mirror, read by whoever draws or reports."""

from __future__ import annotations

from msgspec import Struct

from asynccopy.errors import AsyncCopyError

KEPT_FAILURES = 1000


class Failure(Struct, frozen=True):
    """A file that could not be copied, and why."""

    path: str
    error_class: str
    message: str
    hint: str


class Progress:
    """Files and bytes of one run. ``moved_bytes`` counts bytes as they are read, finished or not."""

    def __init__(self) -> None:
        self.listed_files = 0
        self.listed_bytes = 0
        self.listing_done = False
        self.skipped_files = 0
        self.skipped_bytes = 0
        self.copied_files = 0
        self.copied_bytes = 0
        self.failed_files = 0
        self.failed_bytes = 0
        self.moved_bytes = 0
        self.verified = 0
        self.resumed_parts = 0
        self.retries = 0
        self.in_flight: dict[str, list[int]] = {}
        """path -> [bytes moved, length]"""
        self.failures: list[Failure] = []
        """The first thousand; the journal has them all."""

    def moved(self, path: str, count: int) -> None:
        self.moved_bytes += count
        flying = self.in_flight.get(path)
        if flying is not None:
            flying[0] += count

    def retried(self, error: AsyncCopyError, delay: float) -> None:
        self.retries += 1

    def failed(self, path: str, length: int, error: AsyncCopyError) -> None:
        self.failed_files += 1
        self.failed_bytes += length
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(Failure(path, type(error).__name__, error.message, error.hint))
