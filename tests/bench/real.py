"""Real HDFS to a real S3 server: asynccopy and Hadoop's DistCp, one after the other, on the same servers and data."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed import fetch
from testbed.content import Content, big_files, small_files
from testbed.distcp import distcp
from testbed.fill import Manifest, fill
from testbed.hdfs import Hdfs
from testbed.process import Server
from testbed.s3 import IN_MEMORY, ROOM_IN_MEMORY, VersityGw
from tests.bench.measure import AsyncCopy, BenchFailed, ServerClock, Usage
from tests.bench.report import Section, Target, Verdict, megabytes, number

KIB, MIB = 1 << 10, 1 << 20
BUCKET = "bench"
MAPS = 4
VERSIONS = {
    "Hadoop (HDFS, DistCp, S3A)": fetch.HADOOP.version,
    "versitygw": fetch.GATEWAY.version,
}


@dataclass(frozen=True)
class Data:
    """A directory in HDFS, and what is known of it."""

    path: str
    manifest: Manifest

    @property
    def files(self) -> int:
        return len(self.manifest)

    @property
    def gigabytes(self) -> float:
        return sum(size for size, _ in self.manifest.values()) / 1e9


Contender = Callable[[Data, str], Usage]
"""Copies the data below a key prefix."""


class Stage:
    """The servers, and the contenders that copy between them."""

    def __init__(self, hdfs: Hdfs, store: VersityGw, directory: Path) -> None:
        self._hdfs = hdfs
        self._store = store
        environment = store.env() | {"HADOOP_USER_NAME": hdfs.user}
        self._asynccopy = AsyncCopy(directory, environment, self.servers)
        self.contenders: dict[str, Contender] = {
            "asynccopy": self._ours(),
            "asynccopy `--verify size`": self._ours("--verify", "size"),
        }
        if not fetch.missing(*fetch.PEERS):
            self.contenders[f"DistCp + S3A, {MAPS} maps"] = self._distcp

    @property
    def servers(self) -> list[Server]:
        return [*self._hdfs.servers, self._store.server]

    def fill(self, path: str, files: Mapping[str, Content]) -> Data:
        say(f"writing {len(files)} files to HDFS ...")
        return Data(path, fill(self._hdfs.http, self._hdfs.user, path, files))

    def forget(self, data: Data) -> None:
        with self._hdfs.client() as client:
            client.delete(data.path)

    def prove(self, data: Data, prefix: str) -> None:
        """Every object's SHA-256, read from the store's own files, is the one taken when the data was made."""
        held = self._store.read_back(BUCKET, prefix)
        found = {key.removeprefix(f"{prefix}/"): entry for key, entry in held.items() if not key.endswith("/")}
        if found != data.manifest:
            wrong = [path for path in data.manifest if found.get(path) != data.manifest[path]]
            raise BenchFailed(f"{prefix}: {len(wrong)} of {data.files} objects are wrong or missing: {wrong[:3]}")

    def remove(self, prefix: str) -> None:
        """Objects lie in memory: they go before the next contender needs the room."""
        shutil.rmtree(self._store.data / BUCKET / prefix, ignore_errors=True)

    def start_up(self) -> float:
        """CPU seconds of a copy that has next to nothing to copy."""
        data = self.fill("/bench/one", small_files(1, KIB, directories=1))
        try:
            return statistics.median(self._ours()(data, f"one-{turn}").cpu for turn in range(3))
        finally:
            self.forget(data)

    def _ours(self, *options: str) -> Contender:
        def copy(data: Data, prefix: str) -> Usage:
            source, destination = f"{self._hdfs.url}{data.path}", f"s3://{BUCKET}/{prefix}"
            return self._asynccopy.copy(source, destination, *options, files=data.files).usage

        return copy

    def _distcp(self, data: Data, prefix: str) -> Usage:
        clock = ServerClock(self.servers)
        ran = distcp(self._hdfs, self._store, data.path, f"{BUCKET}/{prefix}", maps=MAPS)
        if ran.counters.get("Files Copied") != data.files:
            raise BenchFailed(f"DistCp copied {ran.counters.get('Files Copied')} of {data.files} files")
        return Usage(ran.wall, ran.cpu, ran.peak_rss, clock.used())


@contextmanager
def stage() -> Iterator[Stage]:
    """One DataNode and versitygw, both tuned for throughput, their data in memory where there is room."""
    roomy = Path("/dev/shm").is_dir() and shutil.disk_usage("/dev/shm").free > 3 * ROOM_IN_MEMORY
    # Named so that the testbed sweeps it away should this process be killed.
    where = Path(tempfile.mkdtemp(prefix=f"{IN_MEMORY}-{os.getpid()}-", dir="/dev/shm" if roomy else None))
    try:
        with tempfile.TemporaryDirectory(prefix="asynccopy-bench-") as disk:
            store = VersityGw(where / "versitygw", data_integrity_etag=True)
            say("starting HDFS and versitygw ...")
            with store, Hdfs(where / "hdfs", fast=True) as hdfs:
                store.make_bucket(BUCKET)
                yield Stage(hdfs, store, Path(disk))
    finally:
        shutil.rmtree(where, ignore_errors=True)


def small(stage: Stage, rounds: int, scale: float) -> Section:
    """5,000 x 64 KiB."""
    count = max(1, round(5000 * scale))
    start_up = stage.start_up()
    data = stage.fill("/bench/small", small_files(count, 64 * KIB))
    figures = _compete(stage, data, rounds, "small")
    section = Section(
        f"{count:,} files of 64 KiB",
        ("", "wall s", "files/s", "client CPU ms/file", "peak RSS MB", "NameNode, DataNode, S3 CPU s"),
    )
    for name, usage in figures.items():
        section.rows.append(
            (
                name,
                number(usage.wall),
                number(count / usage.wall),
                number(usage.cpu / count * 1e3),
                megabytes(usage.peak_rss),
                _servers(usage),
            )
        )
    ours = figures["asynccopy"]
    section.verdicts.append(Verdict("client CPU per file", ours.cpu / count * 1e3, Target(0.6, " ms")))
    section.verdicts += _against_distcp(figures, faster=2.6)
    section.notes.append(
        f"All of the process is counted. Its start and end alone take {number(start_up)} s of CPU; "
        f"without them a file costs {number((ours.cpu - start_up) / count * 1e3)} ms."
    )
    return section


def big(stage: Stage, rounds: int, scale: float) -> Section:
    """8 x 512 MiB."""
    count = max(1, round(8 * scale))
    data = stage.fill("/bench/big", big_files(count, 512 * MIB))
    figures = _compete(stage, data, rounds, "big")
    section = Section(
        f"{count} files of 512 MiB",
        ("", "wall s", "MB/s", "client CPU s/GB", "peak RSS MB", "NameNode, DataNode, S3 CPU s"),
    )
    for name, usage in figures.items():
        section.rows.append(
            (
                name,
                number(usage.wall),
                number(data.gigabytes * 1e3 / usage.wall),
                number(usage.cpu / data.gigabytes),
                megabytes(usage.peak_rss),
                _servers(usage),
            )
        )
    section.verdicts.append(Verdict("client CPU per GB", figures["asynccopy"].cpu / data.gigabytes, Target(0.8, " s")))
    section.verdicts += _against_distcp(figures, faster=1.5)
    return section


def _compete(stage: Stage, data: Data, rounds: int, name: str) -> dict[str, Usage]:
    """Every contender once per round, each time another first. Medians."""
    usages: dict[str, list[Usage]] = {contender: [] for contender in stage.contenders}
    order = list(stage.contenders)
    for turn in range(rounds):
        for contender in order[turn % len(order) :] + order[: turn % len(order)]:
            prefix = f"{name}-{turn}-{order.index(contender)}"
            usage = stage.contenders[contender](data, prefix)
            seen = f"{usage.wall:.2f} s, {usage.cpu:.2f} CPU-s, {megabytes(usage.peak_rss)} MB"
            say(f"{name}, round {turn + 1}: {contender}: {seen}")
            usages[contender].append(usage)
            if turn == 0:
                stage.prove(data, prefix)
            stage.remove(prefix)
    stage.forget(data)
    return {contender: _median(several) for contender, several in usages.items()}


def _median(usages: list[Usage]) -> Usage:
    """Of each figure by itself."""
    return Usage(
        statistics.median(usage.wall for usage in usages),
        statistics.median(usage.cpu for usage in usages),
        round(statistics.median(usage.peak_rss for usage in usages)),
        {name: statistics.median(usage.servers[name] for usage in usages) for name in usages[0].servers},
    )


def _against_distcp(figures: Mapping[str, Usage], *, faster: float) -> list[Verdict]:
    theirs = next((usage for name, usage in figures.items() if name.startswith("DistCp")), None)
    if theirs is None:
        return []
    ours = figures["asynccopy"]
    return [
        Verdict("times as fast as DistCp", theirs.wall / ours.wall, Target(faster, at_least=True)),
        Verdict("times less client CPU", theirs.cpu / ours.cpu, Target(10, at_least=True)),
        Verdict("times less memory", theirs.peak_rss / ours.peak_rss, Target(5, at_least=True)),
    ]


def _servers(usage: Usage) -> str:
    return ", ".join(number(seconds) for seconds in usage.servers.values())


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
