"""Real HDFS to a real S3 server: asynccopy and its rivals, one after the other, on the same servers and data."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from testbed import fetch
from testbed.content import Content, big_files, small_files
from testbed.distcp import distcp
from testbed.fill import Manifest, fill
from testbed.hdfs import Hdfs
from testbed.process import Server
from testbed.s3 import IN_MEMORY, ROOM_IN_MEMORY, VersityGw
from testbed.stubs import make_certificate
from tests.bench.contest import RELAY, against_relay, compete, per_file, per_gigabyte, say
from tests.bench.measure import AsyncCopy, BenchFailed, ServerClock, Usage, clean_environment, run
from tests.bench.report import Section, Target, Verdict, number
from tests.bench.stubs import RELAYS

KIB, MIB = 1 << 10, 1 << 20
BUCKET = "bench"
MAPS = 4
OURS, SIZED, SECURED = "asynccopy", "asynccopy `--verify size`", "asynccopy, TLS to the store"
DISTCP, RCLONE, JUICEFS = f"DistCp + S3A, {MAPS} maps", "rclone", "juicefs sync"
UNLIKE = {OURS, SIZED, SECURED, RELAY}
"""Those that are no program of somebody else's."""
VERSIONS = {
    "Hadoop (HDFS, DistCp, S3A)": fetch.HADOOP.version,
    "versitygw": fetch.GATEWAY.version,
    "rclone": fetch.RCLONE.version,
    "juicefs": fetch.JUICEFS.version,
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

RCLONE_FLAGS = {
    "small": ["--transfers", "16", "--checkers", "16"],
    "big": ["--transfers", "4", "--checkers", "16", "--s3-chunk-size", "64M", "--s3-upload-concurrency", "4"],
}


class Stage:
    """The servers, and the contenders that copy between them."""

    def __init__(self, hdfs: Hdfs, store: VersityGw, door: tuple[Server, dict[str, str]], directory: Path) -> None:
        self._hdfs = hdfs
        self._store = store
        self._door = door[0]
        self._directory = directory
        self._environment = store.env() | {"HADOOP_USER_NAME": hdfs.user}
        self._asynccopy = AsyncCopy(directory / "plain", self._environment, self.servers)
        self._secured = AsyncCopy(directory / "tls", self._environment | door[1], [*hdfs.servers, self._door])

    def contenders(self, name: str) -> dict[str, Contender]:
        """Those for ``small`` or ``big`` whose programs are there."""
        found: dict[str, Contender] = {OURS: self._ours(), SIZED: self._ours("--verify", "size")}
        if name == "big":
            found |= {SECURED: self._ours_secured, RELAY: self._relay}
        for contender, components, program in (
            (DISTCP, fetch.PEERS, self._distcp),
            (RCLONE, (fetch.RCLONE,), partial(self._rclone, RCLONE_FLAGS[name])),
            (JUICEFS, (fetch.JUICEFS,), self._juicefs),
        ):
            if reasons := fetch.missing(*components):
                say(f"without {contender}: {'; '.join(reasons)}")
            else:
                found[contender] = program
        return found

    @property
    def servers(self) -> list[Server]:
        return [*self._hdfs.servers, self._store.server]

    @property
    def _namenode(self) -> str:
        """HOST:PORT of its RPC, which the others speak."""
        return self._hdfs.rpc.removeprefix("hdfs://")

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

    def _ours_secured(self, data: Data, prefix: str) -> Usage:
        source, destination = f"{self._hdfs.url}{data.path}", f"s3://{BUCKET}/{prefix}"
        usage = self._secured.copy(source, destination, files=data.files).usage
        # The same row of servers for all: the store is the one that was used.
        *hdfs, store = usage.servers.values()
        names = [server.name for server in self.servers]
        return replace(usage, servers=dict(zip(names, [*hdfs, store], strict=True)))

    def _run(self, name: str, command: Sequence[str], more: Mapping[str, str]) -> Usage:
        environment = clean_environment(self._environment | dict(more))
        return run(command, environment, self._directory / f"{name}.log", servers=self.servers)

    def _relay(self, data: Data, prefix: str) -> Usage:
        where = [self._hdfs.address.removeprefix("http://"), self._hdfs.user, data.path, BUCKET, prefix]
        return self._run("relay", [sys.executable, "-m", "tests.bench.relay", *where, str(RELAYS)], {})

    def _rclone(self, flags: Sequence[str], data: Data, prefix: str) -> Usage:
        """By the NameNode's RPC. Its remote for the store is defined by variables."""
        remote = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENDPOINT": self._store.endpoint,
            "ACCESS_KEY_ID": self._store.access_key,
            "SECRET_ACCESS_KEY": self._store.secret_key,
            "REGION": self._store.region,
            "FORCE_PATH_STYLE": "true",
        }
        source = f":hdfs,namenode='{self._namenode}',username={self._hdfs.user}:{data.path}"
        command = [str(fetch.RCLONE.directory / "rclone"), "copy", source, f"store:{BUCKET}/{prefix}", *flags]
        common = ["--config", str(self._directory / "rclone.conf"), "--s3-no-check-bucket", "--stats", "0"]
        return self._run(
            "rclone", [*command, *common], {f"RCLONE_CONFIG_STORE_{name}": value for name, value in remote.items()}
        )

    def _juicefs(self, data: Data, prefix: str) -> Usage:
        """By the NameNode's RPC."""
        source = f"hdfs://{self._hdfs.user}@{self._namenode}{data.path}/"
        store = self._store.endpoint.removeprefix("http://")
        destination = f"minio://{self._store.access_key}:{self._store.secret_key}@{store}/{BUCKET}/{prefix}/"
        program = str(fetch.JUICEFS.directory / "bin" / "juicefs")
        return self._run("juicefs", [program, "sync", source, destination, "-p", "16", "-q"], {})

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
            directory = Path(disk)
            for name in ("plain", "tls"):
                (directory / name).mkdir()
            store = VersityGw(where / "versitygw", data_integrity_etag=True)
            say("starting HDFS and versitygw ...")
            with store, Hdfs(where / "hdfs", fast=True) as hdfs, ExitStack() as stack:
                store.make_bucket(BUCKET)
                door = store.door(make_certificate(directory))
                stack.callback(door[0].stop)
                door[0].start()
                yield Stage(hdfs, store, door, directory)
    finally:
        shutil.rmtree(where, ignore_errors=True)


def small(stage: Stage, rounds: int, scale: float) -> Section:
    """5,000 x 64 KiB."""
    count = max(1, round(5000 * scale))
    start_up = stage.start_up()
    data = stage.fill("/bench/small", small_files(count, 64 * KIB))
    figures = _compete(stage, data, rounds, "small")
    section = per_file(f"{count:,} files of 64 KiB", figures, count)
    ours = figures[OURS].cpu / count * 1e3
    sized = figures[SIZED].cpu / count * 1e3
    section.verdicts += [
        Verdict("client CPU per file", ours, Target(0.20, " ms"), Target(0.6, " ms")),
        Verdict("client CPU per file, `--verify size`", sized, Target(0.12, " ms")),
        *_against_distcp(figures, Target(5, at_least=True), Target(2.6, at_least=True)),
        *_against_fastest(figures, SIZED),
    ]
    section.notes.append(
        f"All of the process is counted. Its start and end alone take {number(start_up)} s of CPU; "
        f"without them a file costs {number(ours - start_up / count * 1e3)} ms, with `--verify size` "
        f"{number(sized - start_up / count * 1e3)} ms."
    )
    return section


def big(stage: Stage, rounds: int, scale: float) -> Section:
    """8 x 512 MiB."""
    count = max(1, round(8 * scale))
    data = stage.fill("/bench/big", big_files(count, 512 * MIB))
    figures = _compete(stage, data, rounds, "big")
    section = per_gigabyte(f"{count} files of 512 MiB", figures, data.gigabytes)
    ours, secured = (figures[name].cpu / data.gigabytes for name in (OURS, SECURED))
    section.verdicts += [
        Verdict("client CPU per GB", ours, Target(0.45, " s"), Target(0.8, " s")),
        against_relay(figures, OURS),
        Verdict("client CPU per GB, TLS to the store", secured, Target(0.75, " s")),
        *_against_distcp(figures, Target(3, at_least=True), Target(1.5, at_least=True)),
        *_against_fastest(figures, OURS),
    ]
    return section


def _compete(stage: Stage, data: Data, rounds: int, name: str) -> dict[str, Usage]:
    """In its first round each contender's objects are read back; all are removed before the next one needs the room."""

    def judge(prefix: str, first: bool) -> None:
        if first:
            stage.prove(data, prefix)
        stage.remove(prefix)

    contenders = {contender: partial(program, data) for contender, program in stage.contenders(name).items()}
    figures = compete(name, contenders, rounds, judge)
    stage.forget(data)
    return figures


def _against_distcp(figures: Mapping[str, Usage], faster: Target, first: Target) -> list[Verdict]:
    if DISTCP not in figures:
        return []
    ours, theirs = figures[OURS], figures[DISTCP]
    return [
        Verdict("times as fast as DistCp", theirs.wall / ours.wall, faster, first),
        Verdict("times less client CPU than DistCp", theirs.cpu / ours.cpu, Target(10, at_least=True)),
        Verdict("times less memory than DistCp", theirs.peak_rss / ours.peak_rss, Target(5, at_least=True)),
    ]


def _against_fastest(figures: Mapping[str, Usage], ours: str) -> list[Verdict]:
    others = {name: usage.wall for name, usage in figures.items() if name not in UNLIKE}
    if not others:
        return []
    fastest = min(others, key=lambda name: others[name])
    what = f"{ours}: times as fast as the fastest other, {fastest}"
    return [Verdict(what, others[fastest] / figures[ours].wall, Target(1, at_least=True))]
