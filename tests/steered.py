"""A small daemon for tests of its control: it copies nothing, but it really holds and changes state."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from asynccopy.control.api import Rate
from asynccopy.control.messages import (
    Counts,
    DaemonStatus,
    Deletions,
    ErrorClass,
    Event,
    FailedFile,
    Flying,
    MirrorDetail,
    MirrorStatus,
    Sample,
    Scan,
)
from asynccopy.errors import JournalFull, UsageError

EVIL = "<img src=x onerror=window.pwned=1>"
MIB = 1 << 20
GIB = 1 << 30


class SteeredDaemon:
    """A Controller over a dict of mirrors. ``bad_configuration`` and ``broken`` make it refuse, and fail."""

    def __init__(self, *mirrors: MirrorStatus) -> None:
        self.mirrors = {mirror.name: mirror for mirror in mirrors or (watching("sales"), failing("logs"))}
        self.failed = {name: lost(mirror.failed) for name, mirror in self.mirrors.items()}
        self.told: list[Event] = []
        self.draining = False
        self.refusal: UsageError | None = None
        """What a pause is refused with"""
        self.bad_configuration = False
        self.broken = False
        self.confirmed: list[tuple[str, int]] = []
        self.started = int(time.time() * 1000) - 3 * 86_400_000
        self.note("", "started")

    def note(self, mirror: str, text: str) -> None:
        self.told.append(Event(len(self.told) + 1, int(time.time() * 1000), "info", mirror, text))

    def status(self) -> DaemonStatus:
        return DaemonStatus(
            version="0.1.0",
            pid=4711,
            started=self.started,
            config="/etc/asynccopy/config.toml",
            state="draining" if self.draining else "running",
            loop_lag=0.004,
            rss=143 * MIB,
            mirrors=tuple(self.mirrors.values()),
        )

    async def detail(self, name: str) -> MirrorDetail:
        if self.broken:
            raise JournalFull("the disk under the journal is full")
        return close_up(self._mirror(name), self.failed[name])

    async def errors(self, name: str, error_class: str | None, limit: int) -> Sequence[FailedFile]:
        if self.broken:
            raise JournalFull("the disk under the journal is full")
        self._mirror(name)
        return [each for each in self.failed[name] if error_class in (None, each.error)][:limit]

    def events(self, after: int, limit: int) -> Sequence[Event]:
        return [event for event in self.told if event.number > after][-limit:]

    async def pause(self, name: str | None) -> None:
        if self.refusal is not None:
            raise self.refusal
        stopped = {"next_scan": 0, "bytes_per_second": 0.0, "files_per_second": 0.0}
        self._set(name, state="paused", reason="paused by a person", **stopped)

    async def resume(self, name: str | None) -> None:
        self._set(name, state="copying", reason="")

    async def retry(self, name: str | None) -> int:
        names = self._names(name)
        count = sum(len(self.failed[each]) for each in names)
        for each in names:
            self.failed[each] = []
        self._set(name, failed=0)
        return count

    async def scan(self, name: str | None) -> None:
        self._set(name, next_scan=int(time.time() * 1000))

    async def limit(self, name: str, *, bandwidth: Rate, concurrency: int | UnsetType | None) -> None:
        if bandwidth is not UNSET:
            self._set(name, bandwidth=2e8 if bandwidth == "configured" else bandwidth)
        if concurrency is not UNSET:
            self._set(name, concurrency=concurrency or 64)

    async def drain(self) -> None:
        self.draining = True

    async def reload(self) -> Sequence[str]:
        if self.bad_configuration:
            raise UsageError("config.toml: [mirrors.sales] `interval`: write 30s", hint="the old one goes on")
        return ["mirror sales: bandwidth 200 MiB/s"]

    async def deletions(self, name: str, limit: int) -> tuple[Deletions, Sequence[str]]:
        held = self._mirror(name).deletions
        return held, [f"old/{number}" for number in range(held.count)][:limit]

    async def confirm_deletions(self, name: str, count: int) -> None:
        held = self._mirror(name).deletions
        if count != held.count:
            raise UsageError(f"the plan is of {held.count} deletions by now", hint="look at it again")
        self.confirmed.append((name, count))
        self._set(name, deletions=Deletions())

    def _mirror(self, name: str) -> MirrorStatus:
        if name not in self.mirrors:
            raise UsageError(f"there is no mirror {name!r}")
        return self.mirrors[name]

    def _names(self, name: str | None) -> list[str]:
        return list(self.mirrors) if name is None else [self._mirror(name).name]

    def _set(self, name: str | None, **changes: object) -> None:
        for each in self._names(name):
            self.mirrors[each] = replace(self.mirrors[each], **changes)
            self.note(each, f"changed: {', '.join(changes)}")


def watching(name: str) -> MirrorStatus:
    now = int(time.time() * 1000)
    return MirrorStatus(
        name=name,
        source=f"webhdfs://namenode:9870/warehouse/{name}",
        destination=f"s3://lake/{name}",
        state="watching",
        watch="snapshots",
        files=Counts(total=1_204_331, done=1_204_331),
        bytes=Counts(total=24 * 1024 * GIB, done=24 * 1024 * GIB),
        lag_seconds=12.0,
        last_scan=now - 12_000,
        next_scan=now + 18_000,
        concurrency=64,
        windows=("08:00-20:00 = 200MiB/s", "unlimited"),
        bandwidth=200.0 * MIB,
        copied_files=81_204,
        copied_bytes=3 * 1024 * GIB,
    )


def copying(name: str) -> MirrorStatus:
    return replace(
        watching(name),
        state="copying",
        watch="scan",
        files=Counts(total=12_480_112, done=7_811_020, pending=4_669_092),
        bytes=Counts(total=210 * 1024 * GIB, done=131 * 1024 * GIB, pending=79 * 1024 * GIB),
        lag_seconds=5_400.0,
        listing=True,
        next_scan=0,
        bytes_per_second=912.0 * MIB,
        files_per_second=61.5,
        eta_seconds=90_000.0,
        in_flight=181,
        concurrency=192,
        retries=31,
        bandwidth=None,
        windows=(),
    )


def failing(name: str) -> MirrorStatus:
    return replace(
        watching(name),
        state="failed",
        reason="dc1 refuses the credentials: no valid ticket; check the credentials and their permissions",
        next_scan=0,
        failed=4,
        files=Counts(total=1004, done=1000, failed=4),
        bytes=Counts(total=GIB + 4 * MIB, done=GIB, failed=4 * MIB),
        lag_seconds=86_500.0,
        open_files=3,
        deletions=Deletions(count=9, share=0.09, held="9 % of the files are above max_delete = 5 %"),
    )


def lost(count: int) -> list[FailedFile]:
    kinds = [
        ("PermissionDenied", "Permission denied: user=copy, access=READ", "grant the user access to the path"),
        ("ChecksumMismatch", f"read <b>{EVIL}</b>", "the bytes were damaged on the way"),
    ]
    return [FailedFile(f"dir/{EVIL}-{number}", *kinds[number % 2]) for number in range(count)]


def close_up(mirror: MirrorStatus, failed: Sequence[FailedFile]) -> MirrorDetail:
    now = int(time.time() * 1000)
    kinds = {each.error: each for each in failed}
    classes = [
        ErrorClass(kind, sum(each.error == kind for each in failed), one.hint, one.path, one.message)
        for kind, one in kinds.items()
    ]
    moves = mirror.state == "copying"
    bytes_per_second, files_per_second = mirror.bytes_per_second or 40.0 * MIB, mirror.files_per_second or 2.5
    samples = [
        Sample(now - (179 - at) * 10_000, bytes_per_second * wave(at) * busy, files_per_second * busy)
        for at in range(180)
        for busy in (1.0 if moves or at < 150 else 0.0,)
    ]
    parts = [
        Flying(f"day=2026-11-{number:02d}/part-{number:05d}.parquet", number * 70 * MIB, 1400 * MIB, 90.0 - number)
        for number in range(1, 9)
    ]
    return MirrorDetail(
        status=mirror,
        flying=(*parts, Flying(EVIL, MIB, 9 * MIB, 3.5)) if moves else (),
        slowest=(
            Flying("archive/2019/clickstream-full.orc", 88 * GIB, 88 * GIB, 901.0),
            Flying(EVIL, 4 * GIB, 4 * GIB, 75.0),
        ),
        errors=tuple(classes),
        scans=(
            Scan("snapshot" if mirror.watch == "snapshots" else "quick", now - 12_000, 0, "", 3, 812, 40, GIB, 0, 0, 9),
            Scan("quick", now - 60_000, now - 57_600, "complete", 5104, 1_204_331, 212, 9 * GIB, 0, 3, 402),
            Scan(
                "full", now - 7_200_000, now - 6_900_000, "complete", 40_112, 1_204_122, 1_950, 70 * GIB, 2, 0, 41_310
            ),
            Scan(
                "full", now - 9_200_000, now - 9_100_000, f"{EVIL}: nn1 is in safe mode", 812, 91_000, 0, 0, 0, 0, 900
            ),
        ),
        throughput=tuple(samples),
    )


def wave(at: int) -> float:
    """A throughput that looks like one: it breathes, and once the store was slow."""
    dip = 0.62 * math.exp(-(((at - 58) / 9) ** 2))
    return 1.0 - dip + 0.06 * math.sin(at / 11) + 0.03 * math.sin(at * 1.9) - (0.06 * math.sin(179 / 11))
