"""What keeping a large tree equal costs once it is copied: requests to the NameNode, seconds, memory.

Between simulators (see ``watching_tree``): the requests are what they counted, and the seconds are theirs too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asynccopy.control.client import ControlClient
from asynccopy.control.messages import MirrorStatus, Scan
from asynccopy.errors import Unreachable
from testbed.process import cpu_seconds, memory
from tests.bench.contest import say
from tests.bench.measure import ROOT, BenchFailed, clean_environment
from tests.bench.report import Section, Target, Verdict, number

CHANGED = 1000
LONGEST = 300.0
"""Seconds after which a pass is taken for hung"""
ACCESS = {"AWS_ACCESS_KEY_ID": "simulator", "AWS_SECRET_ACCESS_KEY": "simulator-secret", "AWS_REGION": "us-east-1"}


def watch(scale: float, *, million: bool) -> Section:
    """Passes over a tree of which 1,000 files have changed, and the start of a daemon that knows all of it."""
    size, width = (1_000_000, 10_000) if million else (100_000, 1_000)
    directories = max(10, round(width * scale))
    files = size // width * directories
    changed = min(CHANGED, files // 50)
    section = Section(
        f"Watching {files:,} files in {directories:,} directories (simulators)",
        ("pass", "changed files", "NameNode requests", "of them listings", "s", "simulators' CPU s", "client CPU s"),
    )
    with tempfile.TemporaryDirectory(prefix="asynccopy-bench-") as name, _tree(files, directories) as tree:
        mirror = _Mirror(Path(name), tree)
        mirror.configure(watch="scan")
        say(f"journal of {files:,} files ...")
        tree.ask("seed", str(mirror.configuration))
        first = _first_transfer(mirror, tree)
        with mirror.running():
            quick = _pass(section, "scan: changed directories", mirror, tree, changed)
        mirror.configure(watch="scan", full_scan_interval="1h")
        with mirror.running():
            _pass(section, "scan: all", mirror, tree, 0)
        mirror.configure(watch="snapshots")
        with mirror.running():
            _pass(section, "snapshots: the first one, all", mirror, tree, 0)
            diff = _pass(section, "snapshots: a diff", mirror, tree, changed)
    section.verdicts += [
        Verdict("from the start of a daemon to the arrival of a new file", first, Target(2, " s")),
        Verdict("requests per changed file, scan", quick / changed, Target(5)),
        Verdict("requests per changed file, snapshots", diff / changed, Target(1)),
        Verdict("peak RSS", mirror.peak / 1e6, Target(250, " MB")),
    ]
    return section


def _first_transfer(mirror: _Mirror, tree: _Tree) -> float:
    """Seconds from the start of the process, on the journal of all files, to the arrival of the only new one."""
    tree.ask("change", "1")
    began = time.time()
    with mirror.running():
        arrived: float = tree.ask("arrival")
        mirror.passed_since(0)
    return arrived - began


def _pass(section: Section, what: str, mirror: _Mirror, tree: _Tree, changed: int) -> int:
    """Change so many files and look. How many requests that took."""
    say(f"{what} ...")
    tree.ask("change", str(changed))
    tree.ask("counts")
    last, cpu, servers = mirror.status().last_scan, cpu_seconds(mirror.pid), cpu_seconds(tree.pid)
    mirror.client.scan("m")
    scan = mirror.passed_since(last)
    cpu, servers = cpu_seconds(mirror.pid) - cpu, cpu_seconds(tree.pid) - servers
    counts: dict[str, int] = tree.ask("counts")
    if (scan.copied, scan.outcome) != (changed, "complete"):
        raise BenchFailed(f"{what}: {changed} files were to be copied: {scan}")
    requests = sum(counts.values())
    listings = sum(count for op, count in counts.items() if op.startswith("LISTSTATUS"))
    seconds = (scan.finished - scan.started) / 1000
    figures = f"{changed:,}", f"{requests:,}", f"{listings:,}", *map(number, (seconds, servers, cpu))
    section.rows.append((what, *figures))
    return requests


class _Tree:
    """The process of ``watching_tree``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self.urls: dict[str, str] = self._answer()

    def ask(self, *words: str) -> Any:
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed("the simulators have ended")
        return json.loads(line)


@contextmanager
def _tree(files: int, directories: int) -> Iterator[_Tree]:
    command = [sys.executable, "-m", "tests.bench.watching_tree", str(files), str(directories)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield _Tree(process)
        finally:
            process.kill()


class _Mirror:
    """A daemon with one mirror, started again and again. ``peak``: the most memory that it took, in bytes."""

    def __init__(self, folder: Path, tree: _Tree) -> None:
        self.configuration = folder / "config.toml"
        self.client = ControlClient(folder / "control.sock")
        self.pid = 0
        self.peak = 0
        self._folder = folder
        self._urls = tree.urls

    def configure(self, **keys: str) -> None:
        """Passes come when they are asked for. ``keys`` of the mirror are added, or replace."""
        daemon = {"state": str(self._folder / "state"), "socket": str(self._folder / "control.sock")}
        mirror = {
            "source": f"webhdfs://{urlsplit(self._urls['webhdfs']).netloc}/estate",
            "destination": "s3://bench/estate",
            "interval": "1h",
            "full_scan_interval": "1000h",
            "settle": "1s",
            **keys,
        }
        tables = (("daemon", daemon), ("mirrors.m", mirror))
        lines = [line for name, table in tables for line in (f"[{name}]", *(f'{k} = "{v}"' for k, v in table.items()))]
        self.configuration.write_text("\n".join(lines))

    @contextmanager
    def running(self) -> Iterator[None]:
        environment = clean_environment(
            {**ACCESS, "AWS_ENDPOINT_URL_S3": self._urls["s3"], "HADOOP_USER_NAME": "bench"}
        )
        command = [sys.executable, "-m", "asynccopy", "run", "--config", str(self.configuration)]
        log = self._folder / "daemon.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(command, stderr=errors, env=environment, cwd=ROOT)
        self.pid = process.pid
        try:
            self._until(lambda: self.status().state == "watching" or self.status().last_scan)
            yield
            self.peak = max(self.peak, memory(process.pid, "VmHWM"))
        except Exception:
            say(log.read_text(errors="replace")[-2000:])
            raise
        finally:
            process.terminate()
            process.wait(60)

    def status(self) -> MirrorStatus:
        """Raises Unreachable while it does not listen yet."""
        [mirror] = self.client.status().mirrors
        return mirror

    def passed_since(self, last: int) -> Scan:
        """The pass that began after ``last`` (ms), once it has ended."""
        self._until(lambda: self.status().last_scan > last and self.status().state == "watching")
        return self.client.detail("m").scans[0]

    def _until(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + LONGEST
        while True:
            try:
                if what():
                    return
            except Unreachable:
                pass
            if time.monotonic() > deadline:
                raise BenchFailed(f"nothing came of it in {LONGEST:.0f} s: {self.client.status()}")
            time.sleep(0.05)
