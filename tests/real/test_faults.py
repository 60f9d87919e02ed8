"""Servers die, restart and freeze in the middle of a copy: it waits or goes elsewhere, and no file fails."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from testbed.content import Content, small_files
from testbed.fill import Manifest, fill
from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.program import Ended, Program, eventually
from tests.servers import uploading

MIB = 1 << 20


def copy_through(
    hdfs: Hdfs,
    root: str,
    store: Store,
    bucket: str,
    program: Program,
    fault: Callable[[], None],
    timeout: float = 100.0,
) -> Ended:
    """Copy 65 MiB in about six seconds; the fault comes after the first parts. Every file must arrive all the same."""
    files = small_files(60, 20_000, directories=4) | {f"big/{n}": Content(30 + n, 16 * MIB + n) for n in range(4)}
    manifest: Manifest = fill(hdfs.http, hdfs.user, root, files)
    options = ("--part-size", "5MiB", "--bandwidth", "10MiB/s", "--concurrency", "8", "-v")
    running = program.start_copy(hdfs.url + root, f"s3://{bucket}", *options)
    eventually(lambda: uploading(store, bucket))
    time.sleep(1.0)
    assert running.runs
    fault()
    ended = running.wait(timeout)
    assert ended.code == 0, ended.err[-3000:]
    assert ended.counted() == {"expected": len(manifest), "copied": len(manifest)}
    assert ended.result["verified"] == len(manifest)
    assert "Traceback" not in ended.err
    assert store.read_back(bucket) == manifest
    assert store.open_uploads(bucket) == []
    return ended


def test_a_datanode_is_killed(hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program) -> None:
    ended = copy_through(hdfs, root, versitygw, bucket, program, hdfs.datanodes[0].kill)
    assert ended.result["duration_seconds"] < 25, "a dead DataNode must not be asked again and again"


def test_a_datanode_freezes_and_wakes(hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program) -> None:
    def fault() -> None:
        hdfs.datanodes[1].suspend()
        time.sleep(6)
        hdfs.datanodes[1].resume()

    copy_through(hdfs, root, versitygw, bucket, program, fault)


@pytest.mark.slow
@pytest.mark.timeout(320)
def test_a_datanode_freezes_for_good(hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program) -> None:
    """Its connections stay open and silent: only the stall detector, after 30 s, can tell.

    Slow here, because on one machine the healthy DataNode takes the frozen one's replicas for local, and hangs with it.
    """
    copy_through(hdfs, root, versitygw, bucket, program, hdfs.datanodes[1].suspend, timeout=300)


def test_the_namenode_restarts(hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program) -> None:
    copy_through(hdfs, root, versitygw, bucket, program, hdfs.namenode.restart)


def test_the_store_restarts(hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program) -> None:
    def fault() -> None:
        store.kill()
        time.sleep(2)
        store.restart()

    copy_through(hdfs, root, store, bucket, program, fault)


def test_the_store_freezes_and_wakes(hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program) -> None:
    def fault() -> None:
        versitygw.server.suspend()
        time.sleep(5)
        versitygw.server.resume()

    copy_through(hdfs, root, versitygw, bucket, program, fault)


def test_everything_restarts(hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program) -> None:
    def fault() -> None:
        for server in (*hdfs.servers, versitygw.server):
            server.kill()
        versitygw.restart()
        hdfs.repair()

    copy_through(hdfs, root, versitygw, bucket, program, fault)


def test_an_upload_vanishes(hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program) -> None:
    """Somebody aborts our uploads (a lifecycle rule, another tool): those files are begun anew.

    A part that arrives while its upload is being aborted may leave half an upload behind in these servers, which then
    refuse it for reasons of their own: such a file may be given up by name, for the next run.
    """
    manifest = fill(hdfs.http, hdfs.user, root, {f"big/{n}": Content(40 + n, 16 * MIB + n) for n in range(4)})
    command = (hdfs.url + root, f"s3://{bucket}", "--part-size", "5MiB")
    running = program.start_copy(*command, "--bandwidth", "10MiB/s", "--concurrency", "4")
    eventually(lambda: uploading(store, bucket))
    time.sleep(1.0)
    aborted = [upload for upload in store.open_uploads(bucket) if upload[0] in manifest]
    assert aborted
    for key, upload_id in aborted:
        assert store.client().request("DELETE", bucket, key, query={"uploadId": upload_id}).status == 204
    ended = running.wait()
    assert ended.code == (1 if ended.failed else 0), ended.err
    found = store.read_back(bucket)
    assert all(found.get(key) == entry or key in ended.failed for key, entry in manifest.items())
    again = program.copy(*command)
    assert again.code == 0, again.err
    assert store.read_back(bucket) == manifest
