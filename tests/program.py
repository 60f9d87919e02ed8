"""The command line as a user runs it: a process of its own, with an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Ended:
    """How a command ended. ``result`` is what it wrote for --result, {} when nothing."""

    code: int
    out: str
    err: str
    result: dict[str, Any]

    @property
    def failed(self) -> dict[str, str]:
        """The errors' classes by path."""
        return {error["path"]: error["class"] for error in self.result["errors"]}

    def counted(self, what: str = "files") -> dict[str, int]:
        """What is not zero of ``files`` or ``bytes``."""
        return {name: count for name, count in self.result[what].items() if count}


class Running:
    """A command that runs. Its output goes to files, so that it never waits for a reader."""

    def __init__(self, command: list[str], folder: Path, environment: Mapping[str, str], number: int) -> None:
        self.result_file = folder / f"result-{number}.json"
        self._out, self._err = folder / f"out-{number}", folder / f"err-{number}"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=dict(environment), cwd=folder
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait(self, timeout: float = 110.0) -> Ended:
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"still running after {timeout:.0f} s:\n{self._read(self._err)[-3000:]}")
        result = json.loads(self.result_file.read_bytes()) if self.result_file.exists() else {}
        return Ended(code, self._read(self._out), self._read(self._err), result)

    def so_far(self) -> str:
        """What it has said on stderr up to now."""
        return self._read(self._err)

    def _read(self, path: Path) -> str:
        return path.read_bytes().decode(errors="surrogateescape")


class Program:
    """``python -m asynccopy`` in ``folder``, which also holds its state. ``environment`` is all that it gets."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            **environment,
        }
        self._runs = 0
        self._running: list[Running] = []

    def start(self, *arguments: str, before: tuple[str, ...] = (), **environment: str) -> Running:
        """``before``: the words of a command that starts it; keywords are added to its environment."""
        self._runs += 1
        running = Running(
            [*before, sys.executable, "-m", "asynccopy", *arguments],
            self.folder,
            self.environment | environment,
            self._runs,
        )
        self._running = [*(each for each in self._running if each.runs), running]
        return running

    def end(self) -> None:
        """Kill what still runs: a daemon, where its test has failed."""
        for running in self._running:
            running.kill()

    def run(self, *arguments: str, timeout: float = 110.0, **environment: str) -> Ended:
        return self.start(*arguments, **environment).wait(timeout)

    def start_copy(self, *arguments: str, **environment: str) -> Running:
        return self.start("copy", *arguments, "--result", f"result-{self._runs + 1}.json", **environment)

    def copy(self, *arguments: str, timeout: float = 110.0, **environment: str) -> Ended:
        return self.start_copy(*arguments, **environment).wait(timeout)

    def ledger(self, source: str, destination: str) -> dict[str, dict[str, Any]]:
        """The rows of ``journal export`` by path."""
        ended = self.run("journal", "export", "--job", source, destination)
        assert ended.code == 0, ended.err
        rows = [json.loads(line) for line in ended.out.splitlines()]
        assert len({row["path"] for row in rows}) == len(rows)
        return {row["path"]: row for row in rows}


def eventually(what: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until ``what`` is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"did not happen within {seconds:.0f} s"
        time.sleep(0.01)
