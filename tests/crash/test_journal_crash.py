"""The journal under kill -9, a full disk and a failing one: what was acknowledged is there, and the rest is whole."""

from __future__ import annotations

import random
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from asynccopy.journal import Journal
from asynccopy.model import FileState

FILES = 3000

# Lists FILES files in three pages, then finishes them with 16 workers; every tenth by an upload of two parts.
# Prints a line for each thing that was acknowledged, after it was, and the class of the error that stopped it.
WRITER = """
import asyncio, pathlib, sys
from asynccopy.errors import JournalError
from asynccopy.journal import Journal
from asynccopy.model import *

FILES = int(sys.argv[2])
def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

async def finish(journal, file):
    path, version = file.status.path, file.status.version
    if int(path[1:]) % 10 == 0:
        upload = await journal.upload(file.id)
        if upload is None:
            upload = OpenUpload("u" + path, 5, version)
            await journal.begin_upload(file.id, upload)
            say("upload", path)
        for number in range(len(upload.parts) + 1, 3):
            await journal.part_done(file.id, PartReceipt(number, 5 * number - 5, 5, "e", number))
            say("part", path, number)
    await journal.done(file.id, version, Evidence("checksum", "s" * 50, "o" * 50, "e" * 34))
    say("done", path)

async def main():
    journal = await Journal.open(pathlib.Path(sys.argv[1]), source="src", destination="dst")
    say("open", await journal.begin_pass("all"))
    while directories := await journal.pending_directories(1):
        at = int(directories[0].after or 0)
        end = at + FILES // 3
        page = [FileStatus(f"f{n:05}", n, n, n) for n in range(at, end)]
        await journal.record_page(directories[0].id, page, [], None if end >= FILES else str(end))
        say("listed", end)
    queue = await journal.pending(0, FILES)
    async def work():
        while queue:
            await finish(journal, queue.pop(0))
    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(work())
    await journal.finish_pass(True)
    await journal.close()
    say("finished")

async def guarded():
    try:
        await main()
    except* JournalError as stopped:
        say("stopped", *sorted({type(error).__name__ for error in stopped.exceptions}))
asyncio.run(guarded())
"""


def command(path: Path, files: int = FILES) -> list[str]:
    return [sys.executable, "-c", WRITER, str(path), str(files)]


def killed_after(path: Path, lines: int) -> list[str]:
    """Run the writer, kill it once it has acknowledged that many lines; all lines that it got out."""
    with subprocess.Popen(command(path), stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = []
        for line in writer.stdout:
            acknowledged.append(line.strip())
            if len(acknowledged) == lines:
                writer.kill()
    # A kill may cut the last line; a cut one was acknowledged all the same, but we cannot tell which it was.
    return [line for line in acknowledged if re.fullmatch(r"(done|upload) f\d{5}|part f\d{5} \d|listed \d+", line)]


def assert_kept(path: Path, acknowledged: list[str]) -> None:
    """Every acknowledged line is in the journal, and the database is sound."""
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        states = dict(raw.execute("SELECT name, state FROM files"))
        uploads = {name for (name,) in raw.execute("SELECT name FROM files JOIN uploads ON file = files.id")}
        parts = set(raw.execute("SELECT name, number FROM files JOIN parts ON file = files.id"))
        counts = dict(raw.execute("SELECT state, files FROM counts WHERE files > 0"))
        (listed,) = raw.execute("SELECT listed_files FROM job").fetchone()
    walked = {state: list(states.values()).count(state) for state in set(states.values())}
    assert counts == walked and listed == len(states)
    for line in acknowledged:
        what, name, *number = line.split()
        if what == "listed":
            assert listed >= int(name)
        elif what == "done":
            assert states[name] == FileState.DONE
        elif states[name] != FileState.DONE:
            assert name in uploads if what == "upload" else (name, int(number[0])) in parts


def test_kill_at_random_points_loses_nothing_acknowledged(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    path = tmp_path / "journal"
    acknowledged: list[str] = []
    for number in range(20):
        acknowledged += killed_after(path, 1 + number if number < 4 else dice.randrange(5, 200))
        assert_kept(path, acknowledged)
    assert len(acknowledged) > 500

    rest = subprocess.run(command(path), stdout=subprocess.PIPE, text=True, timeout=60).stdout.splitlines()
    assert rest[-1] == "finished"
    done = [line for line in [*acknowledged, *rest] if line.startswith("done")]
    assert len(done) == len(set(done))  # what was done is not done again
    assert_kept(path, [f"done f{number:05}" for number in range(FILES)])


strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def traced(path: Path, fault: str, *options: str, files: int = 300) -> list[str]:
    """The lines of a writer whose system calls fail as strace is told."""
    run = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={fault}", *options, *command(path, files)]
    return subprocess.run(run, stdout=subprocess.PIPE, text=True, timeout=60).stdout.splitlines()


@strace
@pytest.mark.parametrize("call", [*range(1, 9), 12, 16, 20, 24])
async def test_kill_inside_any_write_of_the_creation_leaves_a_usable_file(tmp_path: Path, call: int) -> None:
    path = tmp_path / "journal"
    lines = traced(path, f"pwrite64:signal=KILL:when={call}")
    assert lines[-1:] != ["finished"]
    journal = await Journal.open(path, source="src", destination="dst")
    await journal.begin_pass("all")
    await journal.close()
    assert_kept(path, [line for line in lines if line.startswith("listed")])


@strace
@pytest.mark.parametrize("call", [60, 61, 62])  # of one thread: the creation takes 42 writes, the checkpoint 73
async def test_kill_inside_the_last_checkpoint_loses_nothing(tmp_path: Path, call: int) -> None:
    path = tmp_path / "journal"
    lines = traced(path, f"pwrite64:signal=KILL:when={call}", "-P", str(path), files=1200)
    assert lines[-1] != "finished" and sum(line.startswith("done") for line in lines) == 1200
    reader = await Journal.read(path)  # an export of what a killed process left
    assert (await reader.totals()).done_files == 1200
    await reader.close()
    await (await Journal.open(path, source="src", destination="dst")).close()
    assert_kept(path, [line for line in lines if not line.startswith("open")])


@strace
@pytest.mark.parametrize("call", [1, 3, 6])
def test_after_a_failed_fsync_nothing_is_acknowledged(tmp_path: Path, call: int) -> None:
    path = tmp_path / "journal"
    assert traced(path, "pwrite64:delay_enter=0:when=1")[-1] == "finished"  # tracing itself breaks nothing
    path.unlink()
    # Only the one call fails: every later fsync would claim success.
    lines = traced(path, f"fdatasync,fsync:error=EIO:when={call}")
    assert lines[-1:] == ["stopped JournalError"]
    assert_kept_if_there(path, lines[:-1])


@strace
def test_no_space_is_told_apart_from_a_failing_disk(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    lines = traced(path, "pwrite64:error=ENOSPC:when=40+")
    assert lines[-1] == "stopped JournalFull"
    assert_kept_if_there(path, lines[:-1])


def assert_kept_if_there(path: Path, lines: list[str]) -> None:
    acknowledged = [line for line in lines if not line.startswith("open")]
    if acknowledged:
        assert_kept(path, acknowledged)


def test_a_file_size_limit_stops_the_writer_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    limit = 1_500_000
    writer = subprocess.run(
        command(path),
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    lines = writer.stdout.splitlines()
    assert lines[-1] == "stopped JournalError"
    assert "listed 1000" in lines
    assert_kept(path, [line for line in lines[:-1] if not line.startswith("open")])


UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
CAN_UNSHARE = shutil.which("unshare") and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not CAN_UNSHARE, reason="user namespaces are not permitted")
def test_a_full_disk_stops_the_writer_and_with_space_it_goes_on(tmp_path: Path) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    script = """
    mount -t tmpfs -o size=1500k tmpfs "$1" || exit 9
    shift; disk=$1; kept=$2; shift 2
    "$@"; cp "$disk"/journal* "$kept"
    mount -o remount,size=64m "$disk" && "$@"
    """
    run = subprocess.run(
        [*UNSHARE, "sh", "-c", script, "sh", str(disk), str(disk), str(kept), *command(disk / "journal")],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    lines = run.stdout.splitlines()
    full = lines.index("stopped JournalFull")
    assert_kept(kept / "journal", [line for line in lines[:full] if not line.startswith("open")])
    assert lines[full + 1] == "open True" and lines[-1] == "finished"
