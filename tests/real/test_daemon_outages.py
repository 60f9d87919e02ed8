"""A daemon through outages: it stays up, says what it waits for, and goes on by itself, with nothing lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from testbed.content import Content, small_files
from testbed.fill import Manifest, fill
from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.program import Program, eventually
from tests.real.mirrors import at_destination, difference, mirror, on_the_page, state_in_metrics
from tests.servers import abandoned, uploading
from tests.service import Service

MIB = 1 << 20
OUTAGE = float(os.environ.get("ASYNCCOPY_OUTAGE_SECONDS", "6"))
"""How long a server is away; ``make soak`` asks for a minute"""
AGAIN = 90.0 + OUTAGE
"""Seconds within which a mirror must be equal again after the end of an outage: it may be waiting as long once more"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5 * OUTAGE + 240)]


class Watched:
    """A mirror under test: its daemon, and what its destination must hold."""

    def __init__(self, hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program, **keys: str) -> None:
        self.hdfs, self.root, self.store, self.bucket = hdfs, root, store, bucket
        # 65 MiB in about six seconds: time for trouble in the middle.
        keys = {"bandwidth": "10MiB/s", "part_size": "5MiB", **keys}
        self.service = Service(program, mirror(hdfs, root, bucket, **keys))
        self.wanted: Manifest = {}
        self.before: tuple[str, ...] = ()
        """The words of a command that starts the daemon"""

    def fill(self, files: dict[str, bytes | Content]) -> None:
        self.wanted |= fill(self.hdfs.http, self.hdfs.user, self.root, files)

    def start(self) -> None:
        self.service.start(before=self.before)

    def in_the_middle(self) -> None:
        """Return when large files are on their way."""
        eventually(lambda: uploading(self.store, self.bucket), 60)
        time.sleep(1.0)

    def settled(self) -> dict[str, Any]:
        return self.service.until(
            lambda status: status["state"] == "watching" and status["files"]["pending"] == 0, AGAIN
        )

    def waits_for(self, *names: str) -> dict[str, Any]:
        """Return when the daemon says that it waits, also on the page, and its reason names one of these."""
        waiting = self.service.until(lambda status: status["state"] == "waiting", OUTAGE + 30)
        assert any(name in waiting["reason"] for name in names), waiting["reason"]

        def shown() -> bool:
            page = on_the_page(self.service)
            return page["state"] == "waiting" and any(name in page["reason"] for name in names)

        # Between two waits it tries, and is not waiting for a moment.
        eventually(shown, OUTAGE + 30)
        eventually(lambda: state_in_metrics(self.service) == "waiting", OUTAGE + 30)
        return waiting

    def is_equal(self, pid: int) -> None:
        """It comes to be equal by itself, in the process that there was, and nothing is left over."""
        deadline = time.monotonic() + AGAIN
        while wrong := difference(at_destination(self.store, self.bucket), self.wanted):
            assert time.monotonic() < deadline, (wrong, self.service.status(), self.service.errors()[-3000:])
            time.sleep(0.3)
        status = self.settled()
        assert status["failed"] == 0 and status["reason"] == "", status
        eventually(lambda: state_in_metrics(self.service) == "watching", 60.0)  # between two passes
        assert abandoned(self.store, self.bucket) == []
        assert self.service.running is not None and self.service.running.pid == pid
        assert self.service.stop().code == 0
        assert "Traceback" not in self.service.errors()
        assert difference(at_destination(self.store, self.bucket), self.wanted) == {}
        assert abandoned(self.store, self.bucket) == []

    @property
    def pid(self) -> int:
        assert self.service.running is not None and self.service.running.runs, self.service.errors()
        return self.service.running.pid


def large(seed: int) -> dict[str, bytes | Content]:
    return {
        **{f"{seed}/{path}": body for path, body in small_files(60, 20_000, directories=4).items()},
        **{f"{seed}/big/{n}": Content(seed + n, 16 * MIB + n) for n in range(4)},
    }


def port(url: str) -> str:
    return url.rsplit(":", 1)[1]


@pytest.fixture(params=["scan", "snapshots"])
def watched(
    request: pytest.FixtureRequest, hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program
) -> Watched:
    with hdfs.client() as client:
        client.allow_snapshots(root)
    return Watched(hdfs, root, versitygw, bucket, program, watch=request.param)


def through(watched: Watched, moment: str, outage: Callable[[], None]) -> None:
    """A first copy, then changes; the outage comes in the middle of the one or the other."""
    watched.fill(large(1))
    watched.start()
    pid = watched.pid
    if moment == "first copy":
        watched.in_the_middle()
        outage()
    else:
        watched.settled()
        watched.fill(large(2))
        if moment == "changes":
            watched.in_the_middle()
        outage()
    watched.fill(small_files(5, 1000, directories=1))
    watched.is_equal(pid)


@pytest.mark.parametrize("moment", ["first copy", "changes"])
def test_the_namenode_is_away(watched: Watched, moment: str) -> None:
    def outage() -> None:
        watched.hdfs.namenode.kill()
        watched.waits_for(port(watched.hdfs.address))
        time.sleep(OUTAGE)
        watched.hdfs.repair()

    through(watched, moment, outage)


@pytest.mark.parametrize("moment", ["first copy", "changes"])
def test_a_datanode_is_away(watched: Watched, moment: str) -> None:
    """The other one has everything, so that there is nothing to wait for."""

    def outage() -> None:
        watched.hdfs.datanodes[0].kill()
        time.sleep(OUTAGE)
        watched.hdfs.repair()

    through(watched, moment, outage)


def test_all_datanodes_are_away(watched: Watched) -> None:
    def outage() -> None:
        for datanode in watched.hdfs.datanodes:
            datanode.kill()
        watched.waits_for(*(str(datanode.http_port) for datanode in watched.hdfs.datanodes), watched.hdfs.address)
        time.sleep(OUTAGE)
        watched.hdfs.repair()

    through(watched, "first copy", outage)


@pytest.mark.parametrize("moment", ["first copy", "changes"])
def test_the_store_is_away(hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program, moment: str) -> None:
    watched = Watched(hdfs, root, store, bucket, program, watch="scan")

    def outage() -> None:
        store.kill()
        watched.waits_for(port(store.endpoint))
        time.sleep(OUTAGE)
        store.restart()

    through(watched, moment, outage)


UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")
CAN_UNSHARE = shutil.which("unshare") and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
ON_A_SMALL_DISK = 'mount -t tmpfs -o size=16m tmpfs "$1" && shift && exec "$@"'


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """No byte more fits on it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


@pytest.mark.skipif(not CAN_UNSHARE, reason="user namespaces are not permitted, so there is no disk to be filled")
@pytest.mark.parametrize("moment", ["first copy", "changes"])
def test_the_journals_disk_is_full(watched: Watched, moment: str) -> None:
    state = watched.service.program.folder / "daemon"
    state.mkdir()
    watched.before = (*UNSHARE, "sh", "-c", ON_A_SMALL_DISK, "sh", str(state))

    def outage() -> None:
        with full(Path(f"/proc/{watched.pid}/root{state}")):  # mounted where only the daemon sees it
            watched.waits_for(f"the disk under {state}")
            time.sleep(OUTAGE)

    through(watched, moment, outage)
