"""What a program takes: seconds, CPU, memory. The product runs as a child, as a user runs it, and is never imported.

The peak of a child's memory begins at that of its parent (Linux counts from the fork on), so this process stays small.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.process import Server

ROOT = Path(__file__).parents[2]
LONGEST = 3600.0
"""Seconds after which a child is taken for hung and killed."""
WATCH = 0.2
"""Seconds between two looks at a child that is watched."""

Watch = Callable[[int], None]
"""Looks at the process of that id, which may have ended by then."""


class BenchFailed(RuntimeError):
    """What was to be measured did not do its work: its figures would mean nothing."""


@dataclass(frozen=True)
class Usage:
    """``wall`` and ``cpu`` (user and system, waited-for children included) in seconds, ``peak_rss`` in bytes.

    ``servers``: CPU seconds that each server used meanwhile, by name. ``output``: what the child printed.
    """

    wall: float
    cpu: float
    peak_rss: int
    servers: Mapping[str, float]
    output: str = ""


class ServerClock:
    """CPU of servers between two moments."""

    def __init__(self, servers: Iterable[Server]) -> None:
        self._servers = list(servers)
        self._before = [server.cpu() for server in self._servers]

    def used(self) -> dict[str, float]:
        return {server.name: server.cpu() - before for server, before in zip(self._servers, self._before, strict=True)}


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    servers: Iterable[Server] = (),
    keep_output: bool = False,
    watch: Watch | None = None,
) -> Usage:
    """Run a command to its end, its stderr in ``log``. Raises BenchFailed when it fails, or runs for over an hour.

    ``watch`` is called again and again meanwhile, in a thread of its own.
    """
    clock = ServerClock(servers)
    started = time.monotonic()
    with log.open("wb") as errors, (log.with_suffix(".out") if keep_output else Path(os.devnull)).open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=dict(environment), cwd=ROOT
        )
        guard = threading.Timer(LONGEST, os.kill, (process.pid, signal.SIGKILL))
        guard.start()
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(watch, process.pid, ended), name="watch")
        watcher.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            guard.cancel()
            ended.set()
            watcher.join()
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        words = log.read_text(errors="replace")[-2000:]
        raise BenchFailed(f"{' '.join(command[:6])} ... ended with {process.returncode}:\n{words}")
    said = log.with_suffix(".out").read_text() if keep_output else ""
    return Usage(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, clock.used(), said)


def _watch(watch: Watch | None, pid: int, ended: threading.Event) -> None:
    while watch is not None and not ended.wait(WATCH):
        watch(pid)


def own_peak_rss() -> int:
    """The floor below which no child's peak can be seen, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Ours, without any settings for Hadoop, S3 or the product itself, and with ``more``."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HADOOP_", "ASYNCCOPY_"))}
    return ours | dict(more)


@dataclass(frozen=True)
class Copy:
    """One finished ``asynccopy copy`` and its ``--result`` document."""

    usage: Usage
    result: Mapping[str, Any]


class AsyncCopy:
    """Runs ``asynccopy`` from its command line. Every run has a journal of its own on a disk: part of the cost.

    ``pin``: words that go before the command, such as taskset's. ``watch`` looks at every run, see ``run``.
    """

    watch: Watch | None = None

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        servers: Iterable[Server] = (),
        *,
        pin: Sequence[str] = (),
    ) -> None:
        self._command = [*pin, sys.executable, "-m", "asynccopy", "copy"]
        self._directory = directory
        self._environment = clean_environment({**environment, "XDG_STATE_HOME": str(directory / "state")})
        self._servers = list(servers)
        self._runs = 0

    def copy(self, source: str, destination: str, *options: str, files: int) -> Copy:
        """Copy ``files`` files. Raises BenchFailed when some were not copied, or not proven though they had to be."""
        self._runs += 1
        result = self._directory / f"result-{self._runs}.json"
        journal = self._directory / f"journal-{self._runs}"
        command = [*self._command, source, destination, "--quiet", "--result", str(result)]
        usage = run(
            [*command, "--journal", str(journal), *options],
            self._environment,
            self._directory / f"copy-{self._runs}.log",
            servers=self._servers,
            watch=self.watch,
        )
        for file in self._directory.glob(f"{journal.name}*"):
            file.unlink()
        document: dict[str, Any] = json.loads(result.read_bytes())
        if document["outcome"] != "succeeded" or document["files"]["copied"] != files:
            raise BenchFailed(
                f"asynccopy copied {document['files']['copied']} of {files} files: {document['errors'][:3]}"
            )
        if "--verify" not in options and document["verified"] != files:
            raise BenchFailed(f"asynccopy verified {document['verified']} of {files} files")
        return Copy(usage, document)

    def list(self, source: str, destination: str) -> Usage:
        """List everything and copy nothing."""
        self._runs += 1
        return run(
            [*self._command, source, destination, "--quiet", "--dry-run"],
            self._environment,
            self._directory / f"list-{self._runs}.log",
            servers=self._servers,
        )
