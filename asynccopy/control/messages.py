"""What a daemon says of itself, as JSON on the wire and as structs on both sides.

Times are milliseconds since the epoch, 0 for never; durations are seconds; rates are per second.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

State = Literal["copying", "watching", "paused", "waiting", "failed"]
"""copying: files are under way. watching: equal up to the last scan. paused: by a person. waiting: a side or the
journal's disk is missing, and it goes on by itself. failed: it needs a person (credentials, a wrong path), and is tried
again every few minutes all the same.
"""


class Counts(Struct, frozen=True):
    """Files and bytes, by what became of them."""

    total: int = 0
    done: int = 0
    pending: int = 0
    failed: int = 0


class Flying(Struct, frozen=True):
    """A file under way: ``moved`` bytes of ``length``, for ``seconds`` so far."""

    path: str
    moved: int
    length: int
    seconds: float


class ErrorClass(Struct, frozen=True):
    """The failed files of one error class, with the operator's hint and one example. ``count`` is of all of them."""

    error: str
    count: int
    hint: str
    path: str
    message: str


class FailedFile(Struct, frozen=True):
    path: str
    error: str
    message: str
    hint: str


class Scan(Struct, frozen=True):
    """One pass over the source. ``kind``: first, full (all was listed), quick (what changed), snapshot (a diff)."""

    kind: str
    started: int
    finished: int
    outcome: str
    """"complete", "interrupted", or what went wrong"""
    directories: int = 0
    files: int = 0
    copied: int = 0
    bytes: int = 0
    failed: int = 0
    deleted: int = 0
    requests: int = 0


class Sample(Struct, frozen=True):
    """Throughput at a moment, over the seconds since the sample before."""

    time: int
    bytes: float
    files: float


class Deletions(Struct, frozen=True):
    """Objects whose files the source no longer has. ``held``: why they wait for a person, "" when they do not."""

    count: int = 0
    share: float = 0.0
    held: str = ""


class MirrorStatus(Struct, frozen=True):
    """One mirror. ``reason`` says in one line why it is in its state, with what to do where a person must."""

    name: str
    source: str
    destination: str
    state: State
    reason: str = ""
    watch: str = "auto"
    """snapshots | scan | off: what is really done"""
    files: Counts = Counts()
    bytes: Counts = Counts()
    failed: int = 0
    open_files: int = 0
    """Files left because they are still being written"""
    lag_seconds: float = 0.0
    """How far the destination is behind the source: since when it may differ. Where it is scanned, appends are not
    counted before the next full scan; with ``watch`` off 0 once the copy is complete
    """
    last_scan: int = 0
    """When the last pass began that came to its end"""
    last_full_scan: int = 0
    """Likewise of those that listed everything"""
    next_scan: int = 0
    listing: bool = False
    """More files may still be found in the present pass"""
    bytes_per_second: float = 0.0
    files_per_second: float = 0.0
    eta_seconds: float | None = None
    bandwidth: float | None = None
    """Bytes per second allowed now, the narrowest of its own limit, its endpoints' and the daemon's; None: no limit"""
    windows: tuple[str, ...] = ()
    """The bandwidth's timetable as configured, then those of its endpoints and the daemon, each line with its owner"""
    concurrency: int = 0
    """Ranges in flight allowed now"""
    in_flight: int = 0
    copied_files: int = 0
    """Since the daemon started, as are the next three"""
    copied_bytes: int = 0
    retries: int = 0
    deleted_files: int = 0
    completed: bool = False
    """The first full copy came to its end since the daemon started"""
    deletions: Deletions = Deletions()


class MirrorDetail(Struct, frozen=True):
    """What the page shows of one mirror beyond its status."""

    status: MirrorStatus
    flying: tuple[Flying, ...] = ()
    """The slowest first, at most 50"""
    slowest: tuple[Flying, ...] = ()
    """The slowest files finished lately"""
    errors: tuple[ErrorClass, ...] = ()
    scans: tuple[Scan, ...] = ()
    """The newest first"""
    throughput: tuple[Sample, ...] = ()
    """The oldest first"""


class DaemonStatus(Struct, frozen=True):
    version: str
    pid: int
    started: int
    config: str
    state: Literal["running", "draining"]
    loop_lag: float
    """Seconds by which the event loop was late lately, at worst"""
    rss: int
    mirrors: tuple[MirrorStatus, ...] = ()


class Event(Struct, frozen=True):
    """Something that happened, newest last. ``number`` counts up for as long as the daemon runs."""

    number: int
    time: int
    level: Literal["info", "warning", "error"]
    mirror: str
    text: str
