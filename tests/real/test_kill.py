"""A copy may be killed, stopped or started twice at any moment, and the same command goes on where it was."""

from __future__ import annotations

import random
import re
import shutil
import signal
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from testbed.content import Content, small_files
from testbed.fill import fill
from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.program import Program, Running, eventually
from tests.servers import LoggedGateway, uploading

MIB = 1 << 20
KILLS = 20
RATE = 24 * MIB
SETTLING = 0.1
"""Seconds after which the gateway has logged what it had answered."""


@dataclass(frozen=True)
class Progress:
    """What a journal says: files done, parts done as (key, number)."""

    done: frozenset[str]
    parts: frozenset[tuple[str, int]]
    left: int

    @staticmethod
    def read(journal: Path, folder: Path) -> Progress:
        """From a copy, so that looking leaves no trace: nothing is recovered or checkpointed by us."""
        copy = folder / "looked-at"
        for suffix in ("", "-wal"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)
            if Path(f"{journal}{suffix}").exists():
                shutil.copy(f"{journal}{suffix}", f"{copy}{suffix}")
        if not copy.exists():
            return Progress(frozenset(), frozenset(), 0)
        connection = sqlite3.connect(copy)
        path = "iif(d.path = '', f.name, d.path || '/' || f.name)"
        tables = "directories d JOIN files f ON f.directory = d.id"
        try:
            done = connection.execute(f"SELECT {path} FROM {tables} WHERE f.state = 1").fetchall()
            parts = connection.execute(f"SELECT {path}, number FROM {tables} JOIN parts p ON p.file = f.id").fetchall()
            [[left]] = connection.execute(
                "SELECT coalesce((SELECT sum(length) FROM files WHERE state <> 1), 0)"
                " - coalesce((SELECT sum(size) FROM parts), 0)"
            ).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):  # it is killed before it is made, too
                raise
            return Progress(frozenset(), frozenset(), 0)
        finally:
            connection.close()
        return Progress(frozenset(p for (p,) in done), frozenset(parts), left)


@dataclass(frozen=True)
class Sent:
    """What the gateway's log says was received whole: objects by key, parts by (key, number)."""

    objects: Counter[str]
    parts: Counter[tuple[str, int]]
    lines: int

    @staticmethod
    def read(log: Path, bucket: str, prefix: str, since: int = 0) -> Sent:
        objects: Counter[str] = Counter()
        parts: Counter[tuple[str, int]] = Counter()
        lines = log.read_text().splitlines() if log.exists() else []
        for line in lines[since:]:
            found = re.search(r" s3_(PutObject|UploadPart) .* (/\S*) 200 ", line)
            url = urlsplit(found[2] if found else "")
            path = unquote(url.path)
            if found is None or not path.startswith(f"/{bucket}/{prefix}") or path.endswith("/.asynccopy-probe"):
                continue
            key = path.removeprefix(f"/{bucket}/{prefix}")
            if found[1] == "UploadPart":
                parts[key, int(parse_qs(url.query)["partNumber"][0])] += 1
            else:
                objects[key] += 1
        return Sent(objects, parts, len(lines))


def _wait_for_writing(journal: Path, running: Running, patience: float) -> None:
    """Until the process has written to its journal, or the seconds are over."""
    wal, deadline = Path(f"{journal}-wal"), time.monotonic() + patience
    before = wal.stat().st_mtime_ns if wal.exists() else 0
    while running.runs and time.monotonic() < deadline:
        if wal.exists() and wal.stat().st_mtime_ns != before:
            return
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_twenty_random_moments(
    hdfs: Hdfs, root: str, gateway: LoggedGateway, bucket: str, program: Program
) -> None:
    chance = random.Random(42)
    files = small_files(600, 40_000, directories=12)
    files |= {f"d{n:02}/big": Content(70 + n, 16 * MIB + n * 10_007) for n in range(0, 12, 2)}
    manifest = fill(hdfs.http, hdfs.user, root, files)
    with hdfs.client() as client:
        for name in ("empty", "d00/empty"):
            client.mkdirs(f"{root}/{name}")
    total = sum(size for size, _ in manifest.values())
    source, destination = hdfs.url + root, f"s3://{bucket}/k"
    journal = program.folder / "k.journal"
    command = [source, destination, "--journal", str(journal), "--part-size", "5MiB"]
    command += ["--bandwidth", f"{RATE}", "--concurrency", "3"]

    seen = Progress(frozenset(), frozenset(), total)
    log_at, again, moments = 0, [], []
    kills = lost = 0
    while True:
        running = program.start_copy(*command)
        if kills < KILLS:
            # Uniform over what is left, shared among the kills to come, so that they spread over the whole job; it
            # counts from the first write, for a slow start must not eat the time in which the job moves.
            moving = chance.uniform(0, 1) < 0.8
            _wait_for_writing(journal, running, 30.0 if moving else chance.uniform(0, 0.6))
            share = (seen.left or total) / RATE / (KILLS - kills + 2)
            time.sleep(chance.uniform(0, 2 * share) if moving else 0)
        else:
            running.process.wait(100)
        was_running = running.runs
        running.kill()
        time.sleep(SETTLING)
        now = Progress.read(journal, program.folder)
        sent = Sent.read(gateway.access_log, bucket, "k/", log_at)
        again += [path for path in seen.done if sent.objects[path] or any(key == path for key, _ in sent.parts)]
        again += [part for part in seen.parts if sent.parts[part]]
        lost += len(seen.done - now.done)
        seen, log_at = now, sent.lines
        if not was_running:
            break
        kills += 1
        moments.append(f"{len(now.done)}+{len(now.parts)}")
    ended = running.wait()
    assert ended.code == 0, ended.err
    assert kills == KILLS
    everything = Sent.read(gateway.access_log, bucket, "k/")
    wanted = {f"k/{path}": entry for path, entry in manifest.items()}
    found = {key: entry for key, entry in gateway.read_back(bucket).items() if not key.endswith("/")}
    wrong = sum(found.get(key) != entry for key, entry in wanted.items())
    twice = sum(everything.objects.values()) - len(everything.objects)
    parts_twice = sum(everything.parts.values()) - len(everything.parts)
    print(
        f"files+parts done at each kill: {' '.join(moments)}\n"
        f"{kills} kills: {wrong} wrong, {lost} lost, {len(again)} sent again after being reported done;"
        f" sent twice because they were in flight: {twice} small files, {parts_twice} parts of {len(everything.parts)}"
    )
    assert (wrong, lost, again) == (0, 0, [])
    assert len(set(moments)) > KILLS / 3, "the kills were all at the same place"
    assert set(found) == set(wanted)
    assert set(gateway.read_back(bucket)) - set(found) == {"k/empty/", "k/d00/empty/"}
    assert gateway.open_uploads(bucket) == []
    assert set(everything.objects) | {key for key, _ in everything.parts} == {*manifest, "empty/", "d00/empty/"}
    assert len(everything.parts) == 4 * 6
    assert twice + parts_twice <= 3 * kills, "more than was in flight"
    counted = ended.counted()
    assert counted["expected"] == len(manifest) == counted.get("copied", 0) + counted.get("skipped", 0)
    again_ended = program.copy(*command)
    assert (again_ended.code, again_ended.counted()) == (0, {"expected": len(manifest), "skipped": len(manifest)})


def test_a_kill_never_damages_what_was_there(
    hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program
) -> None:
    """New versions over good objects, killed again and again: each object is the old one or the new one, whole."""
    chance = random.Random(7)
    sizes = {f"f{n}": 900_000 + n for n in range(24)} | {f"g{n}": 6 * MIB + n for n in range(3)}
    old = fill(hdfs.http, hdfs.user, root, {path: Content(n, size) for n, (path, size) in enumerate(sizes.items())})
    source, destination = hdfs.url + root, f"s3://{bucket}"
    assert program.copy(source, destination).code == 0
    new = fill(hdfs.http, hdfs.user, root, {p: Content(900 + n, size + 5) for n, (p, size) in enumerate(sizes.items())})
    changed = 0
    for _ in range(8):
        running = program.start_copy(source, destination, "--bandwidth", "30MiB/s", "--concurrency", "6")
        changed = sum(entry == new[key] for key, entry in store.read_back(bucket).items())
        deadline = time.monotonic() + 0.4 + chance.uniform(0, 0.8)
        while running.runs and time.monotonic() < deadline:
            time.sleep(0.005)
        running.kill()
        found = store.read_back(bucket)
        assert set(found) == set(sizes)
        assert all(found[key] in (old[key], new[key]) for key in sizes)
    assert changed, "no kill came late enough to mean anything"
    ended = program.copy(source, destination)
    assert ended.code == 0, ended.err
    assert store.read_back(bucket) == new
    assert store.open_uploads(bucket) == []


def test_a_kill_while_the_store_does_not_read(
    hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program
) -> None:
    """The body of a PUT lies half in the sockets when its sender dies: a store must not take that for all of it."""
    sizes = {f"f{n}": MIB for n in range(12)} | {f"g{n}": 6 * MIB + n for n in range(4)}
    old = fill(hdfs.http, hdfs.user, root, {path: Content(n, size) for n, (path, size) in enumerate(sizes.items())})
    source, destination = hdfs.url + root, f"s3://{bucket}"
    assert program.copy(source, destination).code == 0
    new = fill(
        hdfs.http, hdfs.user, root, {path: Content(500 + n, size) for n, (path, size) in enumerate(sizes.items())}
    )
    for delay in (0.3, 0.6):
        running = program.start_copy(source, destination, "--bandwidth", "20MiB/s")
        time.sleep(0.6 + delay)
        store.server.suspend()
        time.sleep(1.0)
        running.kill()
        store.server.resume()
        time.sleep(0.3)
        found = store.read_back(bucket)
        assert set(found) == set(sizes)
        assert all(found[key] in (old[key], new[key]) for key in sizes)
    ended = program.copy(source, destination)
    assert ended.code == 0, ended.err
    assert store.read_back(bucket) == new
    assert store.open_uploads(bucket) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_one_signal_finishes_the_ranges_in_flight(
    hdfs: Hdfs, root: str, gateway: LoggedGateway, bucket: str, program: Program, number: signal.Signals
) -> None:
    files = small_files(40, 30_000, directories=2) | {f"big/{n}": Content(80 + n, 40 * MIB + n) for n in range(2)}
    manifest = fill(hdfs.http, hdfs.user, root, files)
    source, destination = hdfs.url + root, f"s3://{bucket}/i"
    command = [source, destination, "--part-size", "5MiB", "--bandwidth", "12MiB/s", "--concurrency", "4"]
    running = program.start_copy(*command)
    eventually(lambda: Sent.read(gateway.access_log, bucket, "i/").parts)
    time.sleep(0.5)
    running.signal(number)
    ended = running.wait(15)
    assert ended.code == 5, ended.err
    assert ended.result["outcome"] == "interrupted"
    assert "Traceback" not in ended.err
    assert all(error["hint"] for error in ended.result["errors"]) or not ended.result["errors"]
    first = Sent.read(gateway.access_log, bucket, "i/")
    ended = program.copy(source, destination, "--part-size", "5MiB")
    assert ended.code == 0, ended.err
    assert ended.result["resumed_parts"] == sum(first.parts.values()) > 0
    everything = Sent.read(gateway.access_log, bucket, "i/")
    assert set(everything.parts.values()) | set(everything.objects.values()) == {1}, "something was sent twice"
    assert gateway.read_back(bucket) == {f"i/{path}": entry for path, entry in manifest.items()}
    assert gateway.open_uploads(bucket) == []
    assert ended.counted()["expected"] == len(manifest)
    assert ended.counted()["copied"] + ended.counted().get("skipped", 0) == len(manifest)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_two_signals_stop_at_once(
    hdfs: Hdfs, root: str, gateway: LoggedGateway, bucket: str, program: Program, number: signal.Signals
) -> None:
    """At 1 MiB/s the parts in flight would take half a minute."""
    files = {f"big/{n}": Content(90 + n, 10 * MIB + n) for n in range(4)} | {"small": Content(1, 100)}
    manifest = fill(hdfs.http, hdfs.user, root, files)
    source, destination = hdfs.url + root, f"s3://{bucket}"
    running = program.start_copy(source, destination, "--bandwidth", "1MiB/s")
    eventually(lambda: len(uploading(gateway, bucket)) >= 4)
    time.sleep(1.0)
    running.signal(number)
    time.sleep(1.0)
    assert running.runs, "the first signal must let the ranges in flight finish"
    running.signal(number)
    started = time.monotonic()
    ended = running.wait(15)
    assert time.monotonic() - started < 3
    assert ended.code == 5, ended.err
    assert ended.result["outcome"] == "interrupted"
    assert "Traceback" not in ended.err
    ended = program.copy(source, destination)
    assert ended.code == 0, ended.err
    assert gateway.read_back(bucket) == manifest
    assert gateway.open_uploads(bucket) == []


def test_two_at_once_are_one_too_many(hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program) -> None:
    manifest = fill(hdfs.http, hdfs.user, root, {"big": Content(3, 12 * MIB), "small": Content(4, 1_000)})
    source, destination = hdfs.url + root, f"s3://{bucket}"
    running = program.start_copy(source, destination, "--bandwidth", "3MiB/s")
    eventually(lambda: uploading(versitygw, bucket))
    second = program.copy(source, destination)
    assert second.code == 4, second.err
    assert second.err.count("\n") == 2
    assert str(running.pid) in second.err
    exported = program.ledger(source, destination)
    assert set(exported) == {"big", "small"}, "a journal can be read while it is written"
    assert running.wait().code == 0
    assert versitygw.read_back(bucket) == manifest
