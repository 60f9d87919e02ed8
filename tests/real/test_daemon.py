"""Mirrors of a tree that keeps changing, through kills and outages, on the real servers."""

from __future__ import annotations

import os
import random
import time

import pytest

from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.program import Program
from tests.real.churn import Churn, Churning, Objects
from tests.service import Service

CHURN = float(os.environ.get("ASYNCCOPY_CHURN_SECONDS", "45"))
"""Seconds of continuous change; ``make soak`` asks for ten minutes"""
INTERVAL = 2.0


def mirror(hdfs: Hdfs, root: str, bucket: str, **keys: str) -> str:
    keys = {"interval": f"{INTERVAL:.0f}s", "full_scan_interval": "8s", "settle": "1s", **keys}
    lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
    return f'[mirrors.m]\nsource = "{hdfs.url}{root}"\ndestination = "s3://{bucket}/k"\n{lines}'


def at_destination(store: Store, bucket: str) -> Objects:
    """What the store holds, read while the daemon may still be deleting there."""
    try:
        found = store.read_back(bucket)
    except FileNotFoundError:  # versitygw's objects are read from its disk
        return {}
    return {key.removeprefix("k/"): entry for key, entry in found.items() if key.startswith("k/")}


def difference(found: Objects, wanted: Objects) -> dict[str, object]:
    return {
        path: {"found": found.get(path), "wanted": wanted.get(path)}
        for path in sorted(found.keys() | wanted.keys())
        if found.get(path) != wanted.get(path)
    }


@pytest.mark.slow
@pytest.mark.timeout(CHURN + 240)
@pytest.mark.parametrize("watch", ["snapshots", "scan"])
def test_continuous_change_and_kills(
    hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program, watch: str
) -> None:
    seed = int(os.environ.get("ASYNCCOPY_CHURN_SEED", "11"))
    chance = random.Random(seed)
    with hdfs.client() as client:
        client.mkdirs(root)
        if watch == "snapshots":
            client.allow_snapshots(root)
        churn = Churn(client, root, seed)
        churn.fill(150)
        service = Service(program, mirror(hdfs, root, bucket, watch=watch, deletions="delete", max_delete="100%"))
        churning = Churning(churn, 0.05)
        service.start()
        churning.start()
        kills, until = 0, time.monotonic() + CHURN
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, chance.uniform(CHURN / 15, CHURN / 5)))
            service.kill()
            kills += 1
            service.start()
        churning.stop()
        stopped = time.time()
        wanted = churn.objects()
        service.until(lambda status: status["state"] == "watching" and status["files"]["pending"] == 0, 60)
        while (wrong := difference(at_destination(store, bucket), wanted)) and time.time() - stopped < 60:
            time.sleep(0.2)
        lag = time.time() - stopped
    assert service.stop().code == 0
    print(f"{watch}: {sum(churn.done.values())} changes {churn.done}, {kills} kills, equal {lag:.1f} s after the last")
    assert wrong == {}
    assert store.open_uploads(bucket) == []
    if watch == "snapshots":
        with hdfs.client() as client:
            assert len(client.names(f"{root}/.snapshot")) <= 1
