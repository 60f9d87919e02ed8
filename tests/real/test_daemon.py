"""Mirrors of a changing tree on the real servers: through kills, and what becomes of open, gone and renamed files."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from asynccopy.control.client import ControlClient
from testbed.fill import fill
from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.program import Program
from tests.real.churn import Churn, Churning, Objects
from tests.real.mirrors import PREFIX, at_destination, difference, mirror
from tests.real.writer import Writer
from tests.service import Service

CHURN = float(os.environ.get("ASYNCCOPY_CHURN_SECONDS", "45"))
"""Seconds of continuous change; ``make soak`` asks for ten minutes"""
KILLS = (min(CHURN / 15, 20.0), min(CHURN / 5, 40.0))
"""Seconds from one kill to the next, at least and at most"""


@pytest.mark.slow
@pytest.mark.timeout(CHURN + 240)
@pytest.mark.parametrize("watch", ["snapshots", "scan"])
def test_continuous_change_and_kills(
    hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program, watch: str
) -> None:
    seed = int(os.environ.get("ASYNCCOPY_CHURN_SEED", "11"))
    deletions = "delete" if store.name == "versitygw" else "keep"  # one for each store, to save time
    chance = random.Random(seed)
    with hdfs.client() as client:
        client.mkdirs(root)
        if watch == "snapshots":
            client.allow_snapshots(root)
        churn = Churn(client, root, seed)
        churn.fill(150)
        # A diff must find everything by itself. Quick scans cannot find appends.
        full = "1h" if watch == "snapshots" else "8s"
        keys = {"watch": watch, "deletions": deletions, "max_delete": "100%", "full_scan_interval": full}
        service = Service(program, mirror(hdfs, root, bucket, **keys))
        churning = Churning(churn, 0.05)
        service.start()
        churning.start()
        kills, until = 0, time.monotonic() + CHURN
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, chance.uniform(*KILLS)))
            service.kill()
            kills += 1
            service.start()
        churning.stop()
        stopped = time.time()
        wanted = churn.objects()

        def wrong() -> dict[str, object]:
            found = at_destination(store, bucket)
            if deletions == "keep":
                found = {path: entry for path, entry in found.items() if path in wanted or path not in churn.former}
            return difference(found, wanted)

        service.until(lambda status: status["state"] == "watching" and status["files"]["pending"] == 0, 60)
        while wrong() and time.time() - stopped < 60:
            time.sleep(0.2)
        lag = time.time() - stopped
    assert service.stop().code == 0
    print(
        f"{watch}, {deletions}: {sum(churn.done.values())} changes {churn.done}, {kills} kills,"
        f" equal {lag:.1f} s after the last"
    )
    assert wrong() == {}
    assert store.open_uploads(bucket) == []
    if watch == "snapshots":
        with hdfs.client() as client:
            assert len(client.names(f"{root}/.snapshot")) <= 2  # the drain may come in the middle of a pass


def passes(service: Service, count: int = 1) -> dict[str, Any]:
    """Its status after so many more passes have come to their end, each begun after this call."""
    after = datetime.now(UTC).isoformat()
    for _ in range(count):
        status = service.until(partial(_scanned_since, after))
        after = status["last_scan"]
    return status


def _scanned_since(after: str, status: dict[str, Any]) -> bool:
    moment = status["last_scan"]
    return moment is not None and datetime.fromisoformat(moment) > datetime.fromisoformat(after)


def equal(store: Store, bucket: str, wanted: Objects, seconds: float = 30.0) -> None:
    """Return when the destination holds just this."""
    deadline = time.monotonic() + seconds
    while wrong := difference(at_destination(store, bucket), wanted):
        assert time.monotonic() < deadline, wrong
        time.sleep(0.2)


def entry(body: bytes) -> tuple[int, str]:
    return len(body), hashlib.sha256(body).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("watch", ["scan", "snapshots"])
def test_files_that_are_held_open(
    hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program, watch: str
) -> None:
    """One is being created, one is appended to after it was copied: each is taken when its writer closes it."""
    service = Service(program, mirror(hdfs, root, bucket, watch=watch))
    with hdfs.client() as client:
        client.allow_snapshots(root)
        client.put(f"{root}/old", b"1" * 1000)
        service.start()
        equal(versitygw, bucket, {"old": entry(b"1" * 1000)})
        creating, appending = Writer(hdfs, f"{root}/new", 70_000), Writer(hdfs, f"{root}/old", 500, append=True)
        creating.open()
        appending.open()
        client.put(f"{root}/beside", b"2")
    passes(service, 5)
    status = service.until(lambda status: status["state"] == "watching")
    assert (status["open_files"], status["failed"]) == (1, 0)
    assert "still being written" in status["reason"]
    equal(versitygw, bucket, {"old": entry(b"1" * 1000), "beside": entry(b"2")})
    creating.finish(b"3" * 70_000)
    appending.finish(b"4" * 500)
    closed = {"old": entry(b"1" * 1000 + b"4" * 500), "beside": entry(b"2"), "new": entry(b"3" * 70_000)}
    equal(versitygw, bucket, closed)
    status = passes(service)
    assert (status["open_files"], status["failed"], status["reason"]) == (0, 0, "")
    assert service.stop().code == 0


class Shrinking:
    """A mirror of ten files, all of them copied."""

    def __init__(self, hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program, **keys: str) -> None:
        self.store, self.bucket, self.root = store, bucket, root
        self.files = fill(hdfs.http, hdfs.user, root, {f"d{n % 2}/f{n}": b"%d" % n for n in range(10)})
        self.service = Service(program, mirror(hdfs, root, bucket, watch="scan", **keys))
        self.hdfs = hdfs

    def start(self, **environment: str) -> None:
        self.service.start(**environment)
        self.is_there(self.files)

    def remove(self, *names: str) -> None:
        with self.hdfs.client() as client:
            for name in names:
                client.delete(f"{self.root}/{name}")

    def is_there(self, files: Objects) -> None:
        equal(self.store, self.bucket, files)

    def without(self, *names: str) -> Objects:
        return {path: each for path, each in self.files.items() if path not in names}


@pytest.fixture
def shrinking(
    hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program
) -> Iterator[Callable[..., Shrinking]]:
    made: list[Shrinking] = []

    def make(**keys: str) -> Shrinking:
        made.append(Shrinking(hdfs, root, versitygw, bucket, program, **keys))
        return made[-1]

    yield make
    for each in made:
        assert each.service.stop().code == 0
        assert "Traceback" not in each.service.errors()


def test_what_is_gone_is_kept(shrinking: Callable[..., Shrinking]) -> None:
    mirrored = shrinking()
    mirrored.start()
    mirrored.remove("d0/f0", "d1/f1")
    passes(mirrored.service, 2)
    status = mirrored.service.until(lambda status: status["deletions"]["count"] == 2)
    assert status["deletions"]["held"] == "" and status["deleted_files"] == 0
    mirrored.is_there(mirrored.files)
    assert sorted(mirrored.service.ask("deletions", "m").out.split()) == ["d0/f0", "d1/f1"]


def test_what_is_gone_is_deleted(shrinking: Callable[..., Shrinking]) -> None:
    mirrored = shrinking(deletions="delete", max_delete="50%")
    mirrored.start()
    mirrored.remove("d0/f0", "d1/f1")
    mirrored.is_there(mirrored.without("d0/f0", "d1/f1"))
    status = mirrored.service.until(lambda status: status["deletions"]["count"] == 0)
    assert status["deleted_files"] == 2


def test_what_is_gone_moves_into_the_trash(shrinking: Callable[..., Shrinking]) -> None:
    mirrored = shrinking(deletions="trash", max_delete="50%")
    mirrored.start()
    days = {f"{datetime.now(UTC):%Y-%m-%d}"}
    mirrored.remove("d0/f0", "d1/f1")
    mirrored.is_there(mirrored.without("d0/f0", "d1/f1"))
    days |= {f"{datetime.now(UTC):%Y-%m-%d}"}
    found = mirrored.store.read_back(mirrored.bucket, ".asynccopy-trash/")
    assert {key.split("/")[1] for key in found} <= days
    trashed = {key.split("/", 3)[3]: each for key, each in found.items()}
    assert trashed == {f"{PREFIX}{path}": mirrored.files[path] for path in ("d0/f0", "d1/f1")}


def test_too_many_deletions_wait_for_a_person(shrinking: Callable[..., Shrinking]) -> None:
    mirrored = shrinking(deletions="delete", max_delete="20%")
    mirrored.start()
    gone = ["d0/f0", "d0/f2", "d1/f1"]
    mirrored.remove(*gone)
    passes(mirrored.service, 2)
    # while a pass goes on, the reason is that of the pass
    status = mirrored.service.until(lambda status: status["deletions"]["count"] == 3 and status["reason"] != "")
    assert "max_delete = 20%" in status["deletions"]["held"] and status["reason"] == status["deletions"]["held"]
    mirrored.is_there(mirrored.files)
    plan = mirrored.service.ask("deletions", "m")
    assert sorted(plan.out.split()) == gone and "--confirm 3" in plan.err
    assert mirrored.service.ask("deletions", "m", "--confirm", "2").code == 2
    passes(mirrored.service)
    mirrored.is_there(mirrored.files)
    assert mirrored.service.ask("deletions", "m", "--confirm", "3").code == 0
    mirrored.is_there(mirrored.without(*gone))
    status = mirrored.service.until(lambda status: status["deletions"]["count"] == 0)
    assert status["deletions"]["held"] == "" and status["deleted_files"] == 3


def test_an_object_of_somebody_else_is_not_deleted(shrinking: Callable[..., Shrinking]) -> None:
    mirrored = shrinking(deletions="delete", max_delete="50%")
    mirrored.start()
    foreign = b"x"  # as long as ours
    put = mirrored.store.client().request("PUT", mirrored.bucket, f"{PREFIX}d0/f0", body=foreign)
    assert put.status == 200
    mirrored.remove("d0/f0", "d1/f1")
    mirrored.is_there(mirrored.without("d1/f1") | {"d0/f0": entry(foreign)})
    passes(mirrored.service, 2)
    mirrored.is_there(mirrored.without("d1/f1") | {"d0/f0": entry(foreign)})
    assert f"{PREFIX}d0/f0: not deleted" in mirrored.service.ask("events").out


def test_nothing_is_deleted_where_a_directory_cannot_be_read(shrinking: Callable[..., Shrinking]) -> None:
    """Every pass lists everything here: a quick one passes over a directory that has not changed, and may delete."""
    mirrored = shrinking(deletions="delete", max_delete="100%", full_scan_interval="2s")
    mirrored.start(HADOOP_USER_NAME="alice")
    with mirrored.hdfs.client() as client:
        client.set_permission(f"{mirrored.root}/d1", "000")
    mirrored.remove("d0/f0")
    passes(mirrored.service, 3)
    mirrored.service.until(lambda status: status["state"] == "watching" and "failed" in status["reason"])
    mirrored.is_there(mirrored.files)
    with mirrored.hdfs.client() as client:
        client.set_permission(f"{mirrored.root}/d1", "755")
    mirrored.is_there(mirrored.without("d0/f0"))


@pytest.mark.slow
def test_a_renamed_directory_is_not_read_again(
    hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program
) -> None:
    """With no DataNode left there is nobody who could be asked for a byte."""
    files = fill(
        hdfs.http, hdfs.user, root, {f"old/{n % 3}/f{n}": b"%d" % n * 50 for n in range(200)} | {"other": b"1"}
    )
    keys = {"watch": "snapshots", "full_scan_interval": "1h", "deletions": "delete", "max_delete": "100%"}
    service = Service(program, mirror(hdfs, root, bucket, **keys))
    with hdfs.client() as client:
        client.allow_snapshots(root)
        service.start()
        equal(versitygw, bucket, files)
        passes(service)
        before = service.until(lambda status: status["state"] == "watching")
        for datanode in hdfs.datanodes:
            datanode.kill()
        client.rename(f"{root}/old", f"{root}/new name")
    renamed = time.time() * 1000
    equal(versitygw, bucket, {path.replace("old/", "new name/"): each for path, each in files.items()})
    status = passes(service)
    assert status["copied_bytes"] == before["copied_bytes"] and status["failed"] == 0
    assert status["deleted_files"] == 200
    scans = [scan for scan in ControlClient(service.socket).detail("m").scans if scan.finished > renamed]
    assert {scan.kind for scan in scans} == {"snapshot"}
    assert sum(scan.copied for scan in scans) == 200 and sum(scan.bytes for scan in scans) == 0
    assert service.stop().code == 0
