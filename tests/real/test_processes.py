"""Worker processes between real servers: killed, parent and workers alike, and the same command goes on."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from testbed.content import Content, small_files
from testbed.fill import fill
from testbed.hdfs import Hdfs
from tests.crash.test_processes import workers
from tests.program import Program
from tests.real.test_kill import MIB, SETTLING, Progress, Sent
from tests.servers import LoggedGateway

KILLS = 8
RATE = 24 * MIB


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_parent_and_workers_killed_at_random_moments(
    hdfs: Hdfs, root: str, gateway: LoggedGateway, bucket: str, program: Program
) -> None:
    chance = random.Random(43)
    files = small_files(400, 40_000, directories=8)
    files |= {f"d{n:02}/big": Content(170 + n, 16 * MIB + n * 10_007) for n in range(0, 8, 2)}
    manifest = fill(hdfs.http, hdfs.user, root, files)
    source, destination = hdfs.url + root, f"s3://{bucket}/p"
    journal = program.folder / "p.journal"
    command = [source, destination, "--journal", str(journal), "--part-size", "5MiB", "--processes", "2"]
    command += ["--bandwidth", f"{RATE}", "--concurrency", "4"]
    nothing = Progress(frozenset(), frozenset(), 0)
    seen, log_at, again, lost, murdered = nothing, 0, [], 0, 0
    for kill in range(KILLS + 1):
        running = program.start_copy(*command)
        deadline = time.monotonic() + (chance.uniform(0.8, 1.8) if kill < KILLS else 100)
        while running.runs and time.monotonic() < deadline:
            time.sleep(0.15)
            if chance.random() < 0.08 and (victims := workers(running.pid)):
                os.kill(chance.choice(victims), signal.SIGKILL)
                murdered += 1
        was_running = running.runs
        running.kill()
        time.sleep(SETTLING + 0.5)  # workers end within half a second
        now = Progress.read(journal, program.folder)
        sent = Sent.read(gateway.access_log, bucket, "p/", log_at)
        again += [path for path in seen.done if sent.objects[path] or any(key == path for key, _ in sent.parts)]
        again += [part for part in seen.parts if sent.parts[part]]
        lost += len(seen.done - now.done)
        seen, log_at = now, sent.lines
        if not was_running:
            break
    ended = running.wait()
    assert ended.code == 0, ended.err
    assert (lost, again) == (0, [])
    assert murdered, "no worker was killed"
    assert gateway.read_back(bucket) == {f"p/{path}": entry for path, entry in manifest.items()}
    assert gateway.open_uploads(bucket) == []
    everything = Sent.read(gateway.access_log, bucket, "p/")
    twice = sum(everything.objects.values()) - len(everything.objects)
    parts_twice = sum(everything.parts.values()) - len(everything.parts)
    print(f"{kill} kills of the parent, {murdered} of workers: sent twice {twice} small files, {parts_twice} parts")
    assert twice + parts_twice <= 4 * (kill + murdered), "more than was in flight"
    counted = ended.counted()
    assert counted["expected"] == len(manifest) == counted.get("copied", 0) + counted.get("skipped", 0)
