"""A daemon that keeps one HDFS tree equal to another with all attributes, and deletes what is gone: one exam for the
simulator and for a real cluster. Both are written and read by the testbed's own client.
"""

from __future__ import annotations

import time
from typing import Any

from testbed.content import Content
from testbed.fill import WebHdfs, WebHdfsError
from tests.program import Program
from tests.service import Service

FILE = ("owner", "group", "permission", "modificationTime", "replication", "blockSize", "length")
DIRECTORY = ("owner", "group", "permission")
BLOCK = 1 << 20
AT = 1_500_000_000_000
SECONDS = 90.0

Tree = dict[str, tuple[object, ...]]


def tree(client: WebHdfs, root: str) -> Tree:
    """All that lies below a directory, by relative path, but for what begins with a dot: its type, and what is kept."""
    found: Tree = {}
    below = [""]
    while below:
        at = below.pop()
        for status in client.statuses(f"{root}/{at}".rstrip("/")):
            if status["pathSuffix"].startswith("."):
                continue
            path = f"{at}/{status['pathSuffix']}".lstrip("/")
            kept = FILE if status["type"] == "FILE" else DIRECTORY
            found[path] = (status["type"], *(status[key] for key in kept))
            if status["type"] == "DIRECTORY":
                below.append(path)
    return found


def write(client: WebHdfs, path: str, seed: int, length: int, owner: str, permission: str) -> None:
    body = Content(seed, length)
    client.put(path, body, blocksize=BLOCK, replication=1 + seed % 2, permission=permission)
    client.set_owner(path, owner, "users")
    client.set_times(path, AT + seed * 1000)


def prove_a_preserving_mirror(program: Program, client: WebHdfs, url: str, root: str) -> None:
    """``url`` of the cluster, ``root`` a directory of its own there. Raises AssertionError."""
    here, there = f"{root}/x", f"{root}/y"
    for n, (path, length) in enumerate(
        {
            "a/one": 1,
            "a/two": 70_000,
            "a/b/large": 3 * BLOCK + 5,
            "a/b/empty": 0,
            "gone/f": 10,
            "gone/deep/g": 20,
        }.items()
    ):
        write(client, f"{here}/{path}", n, length, ("etl", "hive")[n % 2], ("640", "444")[n % 2])
    client.mkdirs(f"{here}/hollow")
    client.set_owner(f"{here}/a", "etl", "warehouse")
    client.set_permission(f"{here}/a", "750")
    mirror = (
        f'[mirrors.m]\nsource = "{url}{here}"\ndestination = "{url}{there}"\n'
        'preserve = ["owner", "group", "permission", "times", "replication", "block-size"]\n'
        'deletions = "delete"\nmax_delete = "100%"\ninterval = "1s"\nfull_scan_interval = "4s"\nsettle = "1s"\n'
    )
    service = Service(program, mirror)
    service.start()
    _becomes_equal(client, service, here, there)

    client.delete(f"{here}/gone")
    client.delete(f"{here}/a/one")
    client.rename(f"{here}/a/two", f"{here}/a/moved")
    write(client, f"{here}/a/b/large", 8, 2 * BLOCK + 1, "svc", "600")
    write(client, f"{here}/new/f", 9, 1000, "svc", "640")
    client.mkdirs(f"{here}/new/hollow")
    _becomes_equal(client, service, here, there)
    assert "gone" not in tree(client, there)

    service.kill()
    client.delete(f"{here}/new/f")
    write(client, f"{here}/a/moved", 11, 80_000, "etl", "644")
    service.start()
    _becomes_equal(client, service, here, there)
    status = service.status()
    assert status is not None and status["failed"] == 0, status
    assert service.stop().code == 0
    assert "Traceback" not in service.errors()


def _becomes_equal(client: WebHdfs, service: Service, here: str, there: str) -> None:
    wanted = tree(client, here)
    deadline = time.monotonic() + SECONDS
    while (found := _held(client, there)) != wanted:
        assert time.monotonic() < deadline, (_difference(found, wanted), service.status(), service.errors()[-3000:])
        time.sleep(0.3)
    files = [path for path, kept in wanted.items() if kept[0] == "FILE"]
    for path in files:
        assert client.checksum(f"{there}/{path}") == client.checksum(f"{here}/{path}"), path


def _held(client: WebHdfs, there: str) -> Tree:
    try:
        return tree(client, there)
    except WebHdfsError as error:  # a directory that is deleted while we look
        return {"": (repr(error),)}


def _difference(found: Tree, wanted: Tree) -> dict[str, Any]:
    names = found.keys() | wanted.keys()
    return {name: (found.get(name), wanted.get(name)) for name in names if found.get(name) != wanted.get(name)}
