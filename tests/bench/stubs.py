"""asynccopy alone: between a source and a sink that cost next to nothing, on a core of its own where there are two."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from testbed.stubs import StubSink, StubSource, make_certificate
from tests.bench.contest import RELAY, Contender, against_relay, compete, per_file, per_gigabyte
from tests.bench.measure import AsyncCopy, BenchFailed, Usage, clean_environment, run
from tests.bench.report import Section, Target, Verdict

KIB, MIB = 1 << 10, 1 << 20
BUCKET = "bench"
RELAYS = 8
"""Threads of the relay: more cost it more."""


def cores() -> tuple[list[str], list[str]]:
    """What goes before the client's command and before the servers', so that they do not share a core."""
    ours = sorted(os.sched_getaffinity(0))
    if len(ours) < 2 or not shutil.which("taskset"):
        return [], []
    return ["taskset", "-c", str(ours[0])], ["taskset", "-c", ",".join(map(str, ours[1:]))]


class Stubs:
    """A computed tree, a store that forgets what it is sent, and the programs that copy between them."""

    def __init__(self, source: StubSource, sink: StubSink, directory: Path, *, pinned: bool) -> None:
        self.source = source
        self.sink = sink
        self.files = source.files
        self.gigabytes = source.files * source.size / 1e9
        self._directory = directory
        self._environment = sink.env() | {"HADOOP_USER_NAME": "bench"}
        self._pin = cores()[0] if pinned else []
        self._objects, self._bytes = 0, 0
        self.asynccopy = AsyncCopy(directory, self._environment, [source, sink], pin=self._pin)

    def copy(self, prefix: str, *options: str) -> Usage:
        return self.asynccopy.copy(self.source.url, f"s3://{BUCKET}/{prefix}", *options, files=self.files).usage

    def relay(self, prefix: str) -> Usage:
        namenode = self.source.http.removeprefix("http://").partition("/")[0]
        command = [*self._pin, sys.executable, "-m", "tests.bench.relay", namenode, "bench", "/", BUCKET, prefix]
        log = self._directory / "relay.log"
        return run([*command, str(RELAYS)], clean_environment(self._environment), log, servers=[self.source, self.sink])

    def arrived(self, prefix: str, first: bool) -> None:
        """The sink was given every file once more, and as many bytes as there are."""
        objects, size = self.sink.holds()
        if (objects - self._objects, size - self._bytes) != (self.files, self.files * self.source.size):
            raise BenchFailed(f"{prefix}: {objects - self._objects} of {self.files} files arrived")
        self._objects, self._bytes = objects, size


@contextmanager
def stubs(
    directories: int,
    files: int,
    size: int,
    *,
    tls: bool = False,
    delay: float = 0.0,
    source_delay: float = 0.0,
    pinned: bool = True,
) -> Iterator[Stubs]:
    """A tree of directories with ``files`` files each. ``delay``: seconds before each answer of the sink; ``pinned``:
    client and stubs on cores of their own.
    """
    pin = cores()[1] if pinned else []
    with tempfile.TemporaryDirectory(prefix="asynccopy-bench-") as name:
        directory = Path(name)
        source = StubSource(directory, directories=directories, files=files, size=size, delay=source_delay, pin=pin)
        certificate = make_certificate(directory) if tls else None
        sink = StubSink(directory, delay=delay, certificate=certificate, pin=pin)
        try:
            source.start()
            sink.start()
            yield Stubs(source, sink, directory, pinned=pinned)
        finally:
            source.stop()
            sink.stop()


def small(rounds: int, scale: float) -> Section:
    """50,000 x 64 KiB."""
    per_directory = max(1, round(1000 * scale))
    with stubs(50, per_directory, 64 * KIB) as pair:
        contenders: dict[str, Contender] = {
            "asynccopy": pair.copy,
            "asynccopy `--verify size`": partial(_sized, pair),
        }
        figures = compete("stub-small", contenders, rounds, pair.arrived)
        section = per_file(f"{pair.files:,} files of 64 KiB between stubs", figures, pair.files)
        for name, most, first in (("asynccopy", 0.20, Target(0.6, " ms")), ("asynccopy `--verify size`", 0.12, None)):
            cpu = figures[name].cpu / pair.files * 1e3
            section.verdicts.append(Verdict(f"client CPU per file, {name}", cpu, Target(most, " ms"), first))
    section.notes.append(_where())
    return section


def big(rounds: int, scale: float) -> Section:
    """16 x 512 MiB, in the clear and over TLS."""
    count = max(1, round(16 * scale))
    with stubs(1, count, 512 * MIB) as pair:
        contenders: dict[str, Contender] = {"asynccopy": pair.copy, RELAY: pair.relay}
        figures = compete("stub-big", contenders, rounds, pair.arrived)
        gigabytes = pair.gigabytes
    with stubs(1, count, 512 * MIB, tls=True) as pair:
        secured: dict[str, Contender] = {"asynccopy, TLS": pair.copy, f"{RELAY}, TLS": pair.relay}
        figures |= compete("stub-big-tls", secured, rounds, pair.arrived)
    section = per_gigabyte(f"{count} files of 512 MiB between stubs", figures, gigabytes)
    for name, most, first in (("asynccopy", 0.45, Target(0.8, " s")), ("asynccopy, TLS", 0.75, None)):
        cpu = figures[name].cpu / gigabytes
        section.verdicts.append(Verdict(f"client CPU per GB, {name}", cpu, Target(most, " s"), first))
    section.verdicts.append(against_relay(figures, "asynccopy"))
    section.notes.append(_where())
    return section


def _sized(pair: Stubs, prefix: str) -> Usage:
    return pair.copy(prefix, "--verify", "size")


def _where() -> str:
    return "The client has a core of its own." if cores()[0] else "Client and stubs share the cores."
