"""Files that change while they are copied: an object is one version, whole, or the file is named in the errors."""

from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

import pytest

from testbed.content import Content
from testbed.fill import Entry, Manifest, fill
from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.program import Program, eventually
from tests.servers import uploading

MIB = 1 << 20
SIZE = 8 * MIB + 77


def entry(*contents: Content) -> Entry:
    body = b"".join(piece for content in contents for piece in content)
    return len(body), hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("moment", [0.3, 1.5, 3.0])
def test_changed_while_being_copied(
    hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program, moment: float
) -> None:
    names = ("replaced", "rewritten", "appended", "truncated", "deleted", "renamed", "covered", "left-alone")
    before = {name: Content(n, SIZE) for n, name in enumerate(names)} | {"small": Content(20, 100_000)}
    after = {name: Content(100 + n, SIZE) for n, name in enumerate(names)}
    old = fill(hdfs.http, hdfs.user, root, before)
    with hdfs.client() as client:
        client.mkdirs(f"{root}-aside")
        client.put(f"{root}-aside/cover", after["covered"])
        options = ("--bandwidth", "15MiB/s", "--part-size", "5MiB", "--concurrency", "16")
        running = program.start_copy(hdfs.url + root, f"s3://{bucket}", *options)
        eventually(lambda: uploading(store, bucket))
        time.sleep(moment)
        client.put(f"{root}/replaced", Content(200, SIZE + 5))
        client.put(f"{root}/rewritten", after["rewritten"])  # as long as before
        client.append(f"{root}/appended", after["appended"])
        client.truncate(f"{root}/truncated", 5 * MIB)
        client.delete(f"{root}/deleted")
        client.rename(f"{root}/renamed", f"{root}-aside/elsewhere")
        client.delete(f"{root}/covered")
        client.rename(f"{root}-aside/cover", f"{root}/covered")
    ended = running.wait()
    new: Manifest = {
        "replaced": entry(Content(200, SIZE + 5)),
        "rewritten": entry(after["rewritten"]),
        "appended": entry(before["appended"], after["appended"]),
        "truncated": (5 * MIB, hashlib.sha256(b"".join(before["truncated"])[: 5 * MIB]).hexdigest()),
        "covered": entry(after["covered"]),
    }
    found = store.read_back(bucket)
    for name in (*names, "small"):
        versions = [manifest[name] for manifest in (old, new) if name in manifest]
        assert found.get(name) in versions or (name not in found and name in ended.failed), (name, ended.failed)
    assert {found["left-alone"], found["small"]} == {old["left-alone"], old["small"]}
    assert ended.code == (1 if ended.failed else 0), ended.err
    assert set(ended.failed) <= {*new, "deleted", "renamed"}
    assert store.open_uploads(bucket) == []
    # Once all is quiet, the same command makes both sides equal: what is there at the source is there as it is now.
    again = program.copy(hdfs.url + root, f"s3://{bucket}")
    assert again.code == 0, again.err
    found = store.read_back(bucket)
    assert {name: found[name] for name in new} == new
    assert store.open_uploads(bucket) == []


def test_small_files_changed_while_being_copied(
    hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program
) -> None:
    """Rewritten all the time, with another length or the same: never half of each."""
    names = [f"f{n:02}" for n in range(24)]
    versions = {name: {} for name in names}
    old = fill(hdfs.http, hdfs.user, root, {name: Content(n, 700_000) for n, name in enumerate(names)})
    running = program.start_copy(hdfs.url + root, f"s3://{bucket}", "--bandwidth", "3MiB/s", "--concurrency", "4")
    for name, found in old.items():
        versions[name][found] = None
    with hdfs.client() as client:
        turn = 0
        while running.runs and turn < 120:
            name = names[(turn * 7) % len(names)]
            turn += 1
            versions[name][client.put(f"{root}/{name}", Content(1_000 + turn, 700_000 + turn % 2))] = None
    ended = running.wait()
    assert ended.code in (0, 1), ended.err
    assert turn > 10
    found = versitygw.read_back(bucket)
    for name in names:
        assert found.get(name) in versions[name] or (name not in found and name in ended.failed)
    assert program.copy(hdfs.url + root, f"s3://{bucket}").code == 0
    assert versitygw.read_back(bucket) == {name: list(seen)[-1] for name, seen in versions.items()}


@contextmanager
def held_open(hdfs: Hdfs, path: str, more: bytes) -> Iterator[None]:
    """A writer that appends and does not come to its end: the body it announced is longer than what it sends."""
    address = urlsplit(hdfs.http)
    asking = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    asking.request("POST", f"{address.path}{quote(path)}?op=APPEND&user.name={hdfs.user}")
    location = urlsplit(asking.getresponse().getheader("Location") or "")
    asking.close()
    writer = http.client.HTTPConnection(location.hostname or "", location.port, timeout=20)
    writer.putrequest("POST", f"{location.path}?{location.query}")
    writer.putheader("Content-Type", "application/octet-stream")
    writer.putheader("Content-Length", str(len(more) + 10 * MIB))
    writer.endheaders(more)
    try:
        yield
    finally:
        writer.close()


def test_a_file_that_is_still_written(hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program) -> None:
    files = {"open/small": Content(1, 5_000), "open/large": Content(2, 6 * MIB), "closed": Content(3, 5_000)}
    manifest = fill(hdfs.http, hdfs.user, root, files)
    with held_open(hdfs, f"{root}/open/small", b"x" * 70_000), held_open(hdfs, f"{root}/open/large", b"y" * 70_000):
        with hdfs.client() as client:
            eventually(lambda: _under_construction(hdfs, client, f"{root}/open"))
        ended = program.copy(hdfs.url + root, f"s3://{bucket}")
        assert ended.code == 1, ended.err
        assert ended.failed == {"open/small": "StillOpen", "open/large": "StillOpen"}
        assert all("run again" in error["hint"] for error in ended.result["errors"])
        assert store.read_back(bucket) == {"closed": manifest["closed"]}
        assert store.open_uploads(bucket) == []


def _under_construction(hdfs: Hdfs, client: object, folder: str) -> bool:
    for name in ("small", "large"):
        asking = http.client.HTTPConnection(urlsplit(hdfs.http).netloc, timeout=20)
        path = f"{urlsplit(hdfs.http).path}{folder}/{name}"
        asking.request("GET", f"{path}?op=GET_BLOCK_LOCATIONS&user.name={hdfs.user}")
        body = asking.getresponse().read()
        asking.close()
        if b'"isUnderConstruction":true' not in body:
            return False
    return True
