"""``asynccopy copy --processes 2`` between local directories: signals, and the death of the parent."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.crash.test_processes import workers
from tests.program import Program, Running, eventually

MIB = 1 << 20


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, bytes]:
    chance = random.Random(4)
    files = {f"d{n % 3}/s{n}": chance.randbytes(100_000) for n in range(80)}
    files |= {f"d{n}/large{n}": chance.randbytes(12 * MIB + n) for n in range(2)}
    for path, body in files.items():
        target = tmp_path / "source \udcfe" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    return files


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path, {})


def start(program: Program, *options: str) -> Running:
    more = ("--processes", "2", "--part-size", "5MiB", "--concurrency", "6", *options)
    return program.start_copy("source \udcfe", "to", *more)


def held(program: Program) -> dict[str, bytes]:
    root = program.folder / "to"
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".asynccopy")}


def underway(program: Program, running: Running) -> list[int]:
    """Wait until both workers copy; their process ids."""
    eventually(lambda: len(workers(running.pid)) == 2 and len(list((program.folder / "to").rglob("s*"))) > 4)
    return workers(running.pid)


def alive(pids: list[int]) -> list[int]:
    """Those that run. One that has ended may stay a zombie where nobody is left to wait for it."""
    running = []
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
            running.append(pid)
    return running


def finish(program: Program, tree: dict[str, bytes]) -> None:
    ended = start(program).wait()
    assert ended.code == 0, ended.err
    assert held(program) == tree
    left = program.folder / "to" / ".asynccopy"
    assert not left.exists() or [path for path in left.iterdir() if path.suffix != ".tmp"] == []


def test_a_copy_between_directories_whose_own_names_are_no_unicode(program: Program, tree: dict[str, bytes]) -> None:
    finish(program, tree)


def test_workers_do_not_outlive_a_parent_that_is_killed(program: Program, tree: dict[str, bytes]) -> None:
    for _ in range(3):
        running = start(program, "--bandwidth", "4MiB/s")
        pids = underway(program, running)
        time.sleep(random.uniform(0, 0.5))
        running.kill()
        eventually(lambda: not alive(pids), 1.0)  # noqa: B023 - called at once
    finish(program, tree)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_one_signal_to_all_finishes_the_ranges_in_flight(
    program: Program, tree: dict[str, bytes], number: signal.Signals
) -> None:
    running = start(program, "--bandwidth", "6MiB/s")
    pids = underway(program, running)
    time.sleep(0.3)  # the younger one has been up for as long as an interpreter takes to start
    for pid in (*pids, running.pid):
        os.kill(pid, number)
    ended = running.wait(30)
    assert ended.code == 5, ended.err
    assert "Traceback" not in ended.err
    assert "worker process" not in ended.err, "no worker was lost"
    assert alive(pids) == []
    assert 0 < len(held(program)) < len(tree)
    finish(program, tree)


def test_two_signals_stop_at_once(program: Program, tree: dict[str, bytes]) -> None:
    running = start(program, "--bandwidth", "100KiB/s")
    pids = underway(program, running)
    running.signal(signal.SIGINT)
    time.sleep(0.7)
    assert running.runs
    running.signal(signal.SIGINT)
    started = time.monotonic()
    ended = running.wait(10)
    assert time.monotonic() - started < 2
    assert ended.code == 5, ended.err
    assert "Traceback" not in ended.err
    assert alive(pids) == []
    finish(program, tree)


def test_nothing_to_copy_starts_no_worker(program: Program, tree: dict[str, bytes]) -> None:
    finish(program, tree)
    running = start(program)
    seen = 0
    while running.runs:
        seen += len(workers(running.pid))
    assert seen == 0
    assert running.wait().counted() == {"expected": len(tree), "skipped": len(tree)}


@pytest.mark.parametrize("value", ["0", "65", "-1", "two", ""])
def test_a_wrong_number_is_refused(program: Program, tree: dict[str, bytes], value: str) -> None:
    ended = program.copy("source \udcfe", "to", "--processes", value)
    assert ended.code == 2
    assert "--processes" in ended.err
