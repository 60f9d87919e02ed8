"""The testbed itself: what it writes is there, what it reads back is so, and its servers die and return."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed import fetch
from testbed.content import PIECE, Content, small_files
from testbed.distcp import distcp
from testbed.fill import WebHdfs, WebHdfsError, fill
from testbed.hdfs import Hdfs
from testbed.process import Server, ServerFailed, free_ports, start_time
from testbed.s3 import Store, VersityGw
from testbed.signed import S3Client
from tests.program import eventually
from tests.real.generate import (
    BLOCK_SIZE,
    LONGEST,
    NFC,
    NFD,
    NOT_IN_XML,
    edge_sizes,
    empty_files,
    odd_tree,
    wide_directory,
)


def patiently(act: Callable[[], object], patience: float = 20.0) -> object:
    """Try again while a server that has just lost its peer still stumbles over the old connection."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return act()
        except (WebHdfsError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def digest(body: bytes) -> tuple[int, str]:
    return len(body), hashlib.sha256(body).hexdigest()


def test_content_is_the_same_every_time_and_differs_by_seed() -> None:
    content = Content(5, 3 * PIECE + 10)
    body = b"".join(content)
    assert len(body) == content.size
    assert hashlib.sha256(body).hexdigest() == content.sha256()
    assert b"".join(Content(5, content.size)) == body
    assert Content(6, content.size).sha256() != content.sha256()
    assert len({body[start : start + PIECE] for start in range(0, 3 * PIECE, PIECE)}) == 3
    assert b"".join(Content(5, 3)) == body[:3]


def test_ports_are_outside_the_ephemeral_range() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert max(ports) < 32_768


def test_a_server_that_dies_says_why(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo no such disk; exit 3"]
    server = Server("broken", command, log=tmp_path / "log", ready=lambda: False, environment=os.environ)
    with pytest.raises(ServerFailed, match="broken died:\nno such disk"):
        server.start()
    server.kill()
    assert not server.alive


def test_a_server_that_does_not_obey_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]
    server = Server("stubborn", command, log=log, ready=lambda: "up" in log.read_text(), environment=os.environ)
    server.start()
    first = server.pid
    with pytest.raises(ServerFailed, match="running already"):
        server.start()
    server.restart()
    assert start_time(first) is None
    second = server.pid
    server.stop(patience=0.3)
    assert start_time(second) is None


def test_hdfs_holds_what_was_filled_in(hdfs: Hdfs, root: str) -> None:
    files = small_files(20, 3_000, directories=3) | empty_files() | edge_sizes()
    manifest = fill(hdfs.http, hdfs.user, root, files)
    assert manifest == {path: (content.size, content.sha256()) for path, content in files.items()}
    with hdfs.client() as client:
        assert {path: digest(client.read(f"{root}/{path}")) for path in files} == manifest
        assert client.status(f"{root}/size-{BLOCK_SIZE + 1}")["replication"] == 2
        assert client.status(f"{root}/size-{BLOCK_SIZE + 1}")["blockSize"] == BLOCK_SIZE


def test_hdfs_keeps_every_odd_name_apart(hdfs: Hdfs, root: str) -> None:
    files = odd_tree()
    manifest = fill(hdfs.http, hdfs.user, root, files)
    with hdfs.client() as client:
        assert sorted(client.names(root)) == sorted(path.split("/")[0] for path in files)
        assert {path: digest(client.read(f"{root}/{path}")) for path in files} == manifest
        assert client.read(f"{root}/{NFC}/{NFC}") != client.read(f"{root}/{NFD}/{NFD}")


def test_hdfs_calls(hdfs: Hdfs, root: str) -> None:
    with hdfs.client() as client:
        client.put(f"{root}/a", b"x" * BLOCK_SIZE)
        client.put(f"{root}/b", b"y" * BLOCK_SIZE)
        client.append(f"{root}/b", b"end")
        client.concat(f"{root}/a", [f"{root}/b"])
        assert client.read(f"{root}/a") == b"x" * BLOCK_SIZE + b"y" * BLOCK_SIZE + b"end"
        client.mkdirs(f"{root}/empty/dir")
        client.rename(f"{root}/a", f"{root}/empty/dir/c")
        client.set_times(f"{root}/empty/dir/c", 1_600_000_000_123)
        assert client.status(f"{root}/empty/dir/c")["modificationTime"] == 1_600_000_000_123
        assert client.names(root) == ["empty"]
        with pytest.raises(WebHdfsError) as refused:
            client.rename(f"{root}/nothing", f"{root}/x")
        assert refused.value.status in (200, 404)
        client.truncate(f"{root}/empty/dir/c", BLOCK_SIZE)
        client.allow_snapshots(root)
        client.create_snapshot(root, "s0")
        client.delete(f"{root}/empty")
        assert client.read(f"{root}/.snapshot/s0/empty/dir/c") == b"x" * BLOCK_SIZE
        with pytest.raises(WebHdfsError) as gone:
            client.status(f"{root}/empty")
        assert (gone.value.status, gone.value.exception) == (404, "FileNotFoundException")


def test_a_wide_directory_is_listed_whole(hdfs: Hdfs, root: str) -> None:
    files = wide_directory()
    fill(hdfs.http, hdfs.user, root, files)
    with hdfs.client() as client:
        assert sorted(client.names(f"{root}/wide")) == sorted(path.split("/")[1] for path in files)


def test_a_datanode_dies_and_the_other_one_serves(hdfs: Hdfs, root: str) -> None:
    victim = hdfs.datanodes[0]
    with hdfs.client() as client:
        client.put(f"{root}/f", b"kept")
        ports = (victim.data_port, victim.http_port)
        victim.kill()
        assert not victim.alive
        with pytest.raises(ServerFailed):
            _ = victim.pid
        assert patiently(lambda: client.read(f"{root}/f")) == b"kept"
        victim.start()
        assert (victim.data_port, victim.http_port) == ports
        assert victim.alive
        assert victim.rss() > 10 << 20
        assert victim.cpu() > 0
    assert hdfs.live_datanodes() == 2


def test_a_suspended_datanode_is_resumed_by_repair(hdfs: Hdfs) -> None:
    hdfs.datanodes[1].suspend()
    eventually(lambda: hdfs.datanodes[1].suspended)  # a thread after the other stops
    hdfs.repair()
    assert not hdfs.datanodes[1].suspended


def test_the_namenode_restarts_on_the_same_port(hdfs: Hdfs, root: str) -> None:
    with hdfs.client() as client:
        client.put(f"{root}/f", b"kept")
        hdfs.namenode.kill()
        with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the kernel likes
            client.status(f"{root}/f")
        hdfs.namenode.start()
        assert patiently(lambda: client.read(f"{root}/f")) == b"kept"


def test_a_user_without_rights_is_refused(hdfs: Hdfs, root: str) -> None:
    with WebHdfs(hdfs.http, "alice") as client, pytest.raises(WebHdfsError) as refused:
        client.mkdirs(f"{root}/not-hers")
    assert (refused.value.status, refused.value.exception) == (403, "AccessControlException")


def test_a_store_holds_what_was_put(store: Store, bucket: str) -> None:
    # s3proxy appends to a name while it is written, so it has no room for the longest ones.
    left_out = frozenset[str]() if store.name == "versitygw" else LONGEST | NOT_IN_XML
    files = {path: b"".join(content) for path, content in odd_tree().items() if path.split("/")[0] not in left_out}
    client = store.client()
    for key, body in files.items():
        assert client.request("PUT", bucket, key, body=body).status == 200, ascii(key)
    assert store.read_back(bucket) == {key: digest(body) for key, body in files.items()}
    assert set(store.read_back(bucket, "a+b/")) == {"a+b/a+b"}
    if store.name == "versitygw":
        through_http = Store.read_back(store, bucket, "a")
        assert through_http == store.read_back(bucket, "a")


def test_a_listing_of_more_than_a_page(store: Store, bucket: str) -> None:
    client = store.client()
    for index in range(12):
        client.request("PUT", bucket, f"k{index:02}", body=b"x")
    query = {"list-type": "2", "max-keys": "5"}
    assert client.request("GET", bucket, query=query).body.count(b"<Key>") == 5
    assert sorted(client.keys(bucket)) == [f"k{index:02}" for index in range(12)]


def test_open_uploads_are_seen(store: Store, bucket: str) -> None:
    client = store.client()
    assert store.open_uploads(bucket) == []
    assert client.request("POST", bucket, "a/b", query={"uploads": ""}).status == 200
    [(key, upload)] = store.open_uploads(bucket)
    assert key == "a/b"
    assert client.request("DELETE", bucket, "a/b", query={"uploadId": upload}).status == 204
    assert store.open_uploads(bucket) == []


def test_a_store_survives_kill_on_the_same_port(store: Store, bucket: str) -> None:
    store.client().request("PUT", bucket, "kept", body=b"data")
    endpoint = store.endpoint
    store.kill()
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the kernel likes
        store.client().request("GET", bucket, "kept")
    store.restart()
    assert store.endpoint == endpoint
    assert store.read_back(bucket) == {"kept": digest(b"data")}


def test_a_wrong_signature_is_refused(store: Store, bucket: str) -> None:
    class Wrong:
        endpoint = store.endpoint
        access_key = store.access_key
        secret_key = "wrong"
        region = store.region

    assert S3Client(Wrong()).request("PUT", bucket, "k", body=b"x").status == 403
    assert store.read_back(bucket) == {}


def test_versitygw_says_what_a_part_sums_to(versitygw: VersityGw, bucket: str) -> None:
    client = versitygw.client()
    declared = {"x-amz-checksum-algorithm": "CRC32C", "x-amz-checksum-type": "FULL_OBJECT"}
    client.request("POST", bucket, "k", query={"uploads": ""}, headers=declared)
    [(_, upload)] = versitygw.open_uploads(bucket)
    reply = client.request("PUT", bucket, "k", query={"uploadId": upload, "partNumber": "1"}, body=b"123456789")
    assert reply.headers["x-amz-checksum-crc32c"] == "4waSgw=="  # the CRC catalogue's check value, e3069283


@pytest.mark.slow
@pytest.mark.skipif(bool(fetch.missing(fetch.S3A, fetch.LOCALN)), reason="run `python -m testbed fetch --peers`")
def test_distcp_copies_with_the_maps_asked_for(hdfs: Hdfs, root: str, versitygw: VersityGw, bucket: str) -> None:
    manifest = fill(hdfs.http, hdfs.user, root, small_files(12, 5_000, directories=2))
    run = distcp(hdfs, versitygw, root, f"{bucket}/out", maps=3)
    assert run.counters["Files Copied"] == 12
    assert run.cpu > 0
    assert run.peak_rss > 50 << 20
    held = versitygw.read_back(bucket, "out/")
    assert {key: entry for key, entry in held.items() if not key.endswith("/")} == {
        f"out/{path}": entry for path, entry in manifest.items()
    }
    assert b"map_000002" in (hdfs.directory / "logs" / "distcp.log").read_bytes().replace(b"_m_", b"_map_")
