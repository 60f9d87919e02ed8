"""How far a run has come: plain counters, written by the mirror, read by whoever draws or reports."""

from __future__ import annotations

from heapq import heappush, heapreplace, nlargest
from time import monotonic

from msgspec import Struct

from asynccopy.errors import AsyncCopyError, Throttled
from asynccopy.journal.rows import Failure

KEPT_FAILURES = 1000
KEPT_SLOWEST = 20
LONG_DELAY = 1.0
"""Seconds before the next try from which on trouble is worth telling"""
LATELY = 30.0
"""Seconds for which it is worth telling that a store throttles"""


class Flight(Struct):
    """A file under way: ``moved`` bytes of ``length``, begun at ``since`` (monotonic seconds)."""

    length: int
    since: float
    moved: int = 0


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
        self.renamed_files = 0
        """Copied inside the store: no byte of them was read"""
        self.in_store_files = 0
        """Of those copied: by the store itself"""
        self.open_files = 0
        """Left for the next pass, because they are still being written"""
        self.deleted_files = 0
        self.in_flight: dict[str, Flight] = {}
        self.slowest: list[tuple[float, str, int]] = []
        """(seconds, path, length) of the files that took longest, a heap"""
        self.failures: list[Failure] = []
        """The first thousand; the journal has them all."""
        self._hindered: tuple[str, tuple[int, ...]] = ("", ())
        self._throttled = (-LATELY, "")

    def took_off(self, path: str, length: int) -> None:
        self.in_flight[path] = Flight(length, monotonic())

    def moved(self, path: str, count: int) -> None:
        self.moved_bytes += count
        flight = self.in_flight.get(path)
        if flight is not None:
            flight.moved += count

    def landed(self, path: str) -> None:
        flight = self.in_flight.pop(path, None)
        if flight is None:
            return
        entry = (monotonic() - flight.since, path, flight.length)
        if len(self.slowest) < KEPT_SLOWEST:
            heappush(self.slowest, entry)
        elif entry > self.slowest[0]:
            heapreplace(self.slowest, entry)

    def retried(self, error: AsyncCopyError, delay: float) -> None:
        if isinstance(error, Throttled):  # its requests have their turn later: no trouble of any file
            self._throttled = (monotonic(), error.message)
            return
        self.retries += 1
        if delay >= LONG_DELAY or error.fatal:  # a side that is away is told at once
            self._hindered = (error.message, self._marks())

    @property
    def throttled(self) -> str:
        """What a store that throttles has said lately, "" where none does."""
        when, message = self._throttled
        return message if monotonic() - when < LATELY else ""

    @property
    def hindrance(self) -> str:
        """The trouble since which nothing has moved, "" while anything does."""
        message, then = self._hindered
        return message if then == self._marks() else ""

    def _marks(self) -> tuple[int, ...]:
        return self.listed_files, self.moved_bytes, self.copied_files, self.renamed_files, self.failed_files

    def add(self, other: Progress) -> None:
        """Count what another run came to."""
        self.copied_files += other.copied_files
        self.copied_bytes += other.copied_bytes
        self.moved_bytes += other.moved_bytes
        self.renamed_files += other.renamed_files
        self.in_store_files += other.in_store_files
        self.deleted_files += other.deleted_files
        self.verified += other.verified
        self.retries += other.retries
        self.slowest = nlargest(KEPT_SLOWEST, self.slowest + other.slowest)

    def failed(self, path: str, length: int, error: AsyncCopyError) -> None:
        self.failed_files += 1
        self.failed_bytes += length
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(Failure(path, type(error).__name__, error.message, error.hint))
