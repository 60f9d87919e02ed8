"""From HDFS to HDFS with all attributes, on a real cluster: what LISTSTATUS shows of the two trees is the same.

ASYNCCOPY_PRESERVED_FILES=2000 for the whole exam; it takes a minute.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from asynccopy.errors import Refused
from asynccopy.model import MIB, Attributes, FileStatus, Preserved
from asynccopy.storage.webhdfs.auth import Simple
from asynccopy.storage.webhdfs.client import WebHdfsClient
from asynccopy.storage.webhdfs.destination import WebHdfsDestination
from asynccopy.storage.webhdfs.nameservice import Nameservice, servers
from testbed import fetch
from testbed.content import Content
from testbed.hdfs import Hdfs
from tests.preserved import prove_a_preserving_mirror
from tests.program import Program
from tests.servers import require
from tests.suites.destination import crc32c

FILES = int(os.environ.get("ASYNCCOPY_PRESERVED_FILES", "150"))
OWNERS = (("etl", "hadoop"), ("hive", "warehouse"), ("alice", "users"), ("svc-copy$", "users"))
FILE_MODES = (0o644, 0o640, 0o600, 0o444, 0o400, 0o755, 0o777, 0)
DIRECTORY_MODES = (0o755, 0o750, 0o700, 0o1777, 0o500)
SIZES = (0, 1, 1000, 65_536, 65_537, 200_000, 999_999)
BLOCKS = (65_536, 512 * 1024, MIB, 2 * MIB)
_numbers = count()


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    require(fetch.HADOOP)
    with Hdfs(tmp_path_factory.mktemp("hdfs") / "attributes", block_size=MIB) as cluster:
        yield cluster


@pytest.fixture
def root() -> str:
    return f"/attributes/{next(_numbers)}"


@pytest.fixture
def program(hdfs: Hdfs, tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path, {"HADOOP_USER_NAME": hdfs.user})
    yield program
    program.end()


class Wish(NamedTuple):
    path: str
    body: Content
    options: dict[str, object]
    owner: tuple[str, str]
    times: tuple[int, int]


def wishes(number: int) -> list[Wish]:
    """Every fiftieth is longer than a small file, so that it comes in parts that are joined."""
    dice = Random(number)
    found = []
    for n in range(number):
        size = dice.choice(SIZES) if n % 50 else 2 * MIB + dice.randrange(MIB)
        written = dice.randrange(1_000_000_000_000, 1_600_000_000_000)
        options: dict[str, object] = {
            "blocksize": dice.choice(BLOCKS),
            "replication": dice.randrange(1, 4),
            "permission": f"{dice.choice(FILE_MODES):o}",
        }
        times = (written, written + dice.randrange(1, 1_000_000_000))
        found.append(Wish(f"d{n % 7}/e{n % 3}/f{n:05}", Content(n, size), options, dice.choice(OWNERS), times))
    return found


def write(hdfs: Hdfs, root: str, files: Sequence[Wish]) -> None:
    todo, turn = iter(files), threading.Lock()

    def work() -> None:
        with hdfs.client() as client:
            while True:
                with turn:
                    wish = next(todo, None)
                if wish is None:
                    return
                path = f"{root}/{wish.path}"
                client.put(path, wish.body, **wish.options)
                client.set_owner(path, *wish.owner)
                client.set_times(path, *wish.times)

    with ThreadPoolExecutor(8, "write") as pool:
        for worker in [pool.submit(work) for _ in range(8)]:
            worker.result()
    dice = Random(0)
    with hdfs.client() as client:
        client.mkdirs(f"{root}/d0/empty")
        for path, status in tree(hdfs, root).items():
            if status["type"] == "DIRECTORY":
                client.set_owner(f"{root}/{path}", *dice.choice(OWNERS))
                client.set_permission(f"{root}/{path}", f"{dice.choice(DIRECTORY_MODES):o}")


def tree(hdfs: Hdfs, root: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    with hdfs.client() as client:
        below = [""]
        while below:
            at = below.pop()
            for status in client.statuses(f"{root}/{at}".rstrip("/")):
                path = f"{at}/{status['pathSuffix']}".lstrip("/")
                found[path] = status
                if status["type"] == "DIRECTORY":
                    below.append(path)
    return found


FILE = ("owner", "group", "permission", "modificationTime", "accessTime", "replication", "blockSize", "length")
DIRECTORY = ("owner", "group", "permission")


def attributes(statuses: dict[str, dict[str, Any]], *without: str) -> dict[str, tuple[object, ...]]:
    return {
        path: tuple(status[key] for key in (FILE if status["type"] == "FILE" else DIRECTORY) if key not in without)
        for path, status in statuses.items()
    }


def checksums(hdfs: Hdfs, root: str, paths: Sequence[str]) -> dict[str, str]:
    def ask(some: Sequence[str]) -> dict[str, str]:
        with hdfs.client() as client:
            return {path: client.checksum(f"{root}/{path}") for path in some}

    with ThreadPoolExecutor(8, "checksum") as pool:
        parts = list(pool.map(ask, [paths[n::8] for n in range(8)]))
    return {path: value for part in parts for path, value in part.items()}


def evidence(program: Program, journal: Path) -> Counter[str]:
    """How many files were proven by which method."""
    ledger = program.run("journal", "export", "--journal", str(journal), "--format", "jsonl")
    assert ledger.code == 0, ledger.err
    rows = [json.loads(line) for line in ledger.out.splitlines()]
    assert {row["state"] for row in rows} == {"done"}
    return Counter(row["method"] for row in rows if not row["path"].endswith("/") and row["length"])


@pytest.mark.parametrize(
    ("number", "processes", "part_size"),
    [
        (FILES, 1, 2),
        (101, 2, 1),  # MiB: some blocks are larger than the parts
    ],
)
def test_all_attributes_arrive(
    hdfs: Hdfs, root: str, program: Program, tmp_path: Path, number: int, processes: int, part_size: int
) -> None:
    write(hdfs, f"{root}/x", wishes(number))
    before = tree(hdfs, f"{root}/x")  # reading moves access times
    journal = tmp_path / "the.journal"
    arguments = (f"{hdfs.url}{root}/x", f"{hdfs.url}{root}/y", "--preserve", "all", "--part-size", f"{part_size}MiB")
    more = ("--processes", str(processes), "--journal", str(journal))
    timeout = 110 + number / 5
    ended = program.copy(*arguments, *more, timeout=timeout)
    assert ended.code == 0, ended.err
    after = tree(hdfs, f"{root}/y")
    files = [path for path, status in before.items() if status["type"] == "FILE"]
    # A block larger than a part is not filled by it: such a file was read back, and that was an access.
    least = part_size * MIB
    unaligned = {path for path in files if before[path]["length"] > least and before[path]["blockSize"] > least}
    assert bool(unaligned) == (part_size == 1)
    here, there = attributes(before), attributes(after)
    for path in unaligned:
        here[path] = there[path] = ()
    assert here == there
    assert attributes(before, "accessTime") == attributes(after, "accessTime")
    comparable = [path for path in files if path not in unaligned]
    ours, theirs = (checksums(hdfs, f"{root}/{side}", comparable) for side in "xy")
    assert ours == theirs
    methods = evidence(program, journal)
    print(
        f"{len(files)} files, {len(before) - len(files)} directories: attributes equal; "
        f"{len(ours)} checksums equal; {dict(methods)}; {ended.result['duration_seconds']:.1f} s"
    )
    assert methods == {"checksum": sum(before[path]["length"] > 0 for path in comparable)} | (
        {"read-back": len(unaligned)} if unaligned else {}
    )
    checked = program.run("check", *arguments[:2], "--journal", "none.journal", timeout=timeout)
    assert (checked.code, checked.out) == (0, ""), checked.err
    again = program.copy(*arguments, *more, timeout=timeout)
    assert (again.code, again.counted()) == (0, {"expected": number, "skipped": number}), again.err


# --- who is not the superuser


@pytest.fixture
def alice(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path, {"HADOOP_USER_NAME": "alice"})
    yield program
    program.end()


def home(hdfs: Hdfs, root: str) -> None:
    """A directory of hers with files of hers, which not all may be written."""
    with hdfs.client() as client:
        for number, mode in enumerate(FILE_MODES):
            if mode:  # what she may not read cannot be copied
                client.put(f"{root}/x/d/{number}", b"body", permission=f"{mode:o}")
                client.set_owner(f"{root}/x/d/{number}", "alice", "users")
                client.set_times(f"{root}/x/d/{number}", 1_500_000_000_000 + number)
        for path in ("", "/x", "/x/d"):
            client.set_owner(f"{root}{path}", "alice", "users")
        client.set_permission(f"{root}/x/d", "750")


def test_owners_are_refused_before_anything_is_copied(hdfs: Hdfs, root: str, alice: Program) -> None:
    home(hdfs, root)
    for words in ("owner", "all"):
        ended = alice.copy(f"{hdfs.url}{root}/x", f"{hdfs.url}{root}/y", "--preserve", words)
        assert ended.code == 3, ended.err
        assert "superuser" in ended.err and "HADOOP_USER_NAME" in ended.err
        assert tree(hdfs, f"{root}/y") == {}


def test_a_user_keeps_what_is_the_users_to_keep(hdfs: Hdfs, root: str, alice: Program) -> None:
    home(hdfs, root)
    words = "group,permission,times,replication,block-size"
    ended = alice.copy(f"{hdfs.url}{root}/x", f"{hdfs.url}{root}/y", "--preserve", words)
    assert ended.code == 0, ended.err
    assert attributes(tree(hdfs, f"{root}/x"), "accessTime") == attributes(tree(hdfs, f"{root}/y"), "accessTime")
    with hdfs.client() as client:
        client.set_owner(f"{root}/x/d/0", "alice", "hadoop")  # a group that she is not in
        client.set_times(f"{root}/x/d/0", 1_600_000_000_000)
    ended = alice.copy(f"{hdfs.url}{root}/x", f"{hdfs.url}{root}/y", "--preserve", words)
    assert (ended.code, ended.failed) == (1, {"d/0": "PermissionDenied"}), ended.err
    assert "superuser" in ended.result["errors"][0]["hint"]
    assert tree(hdfs, f"{root}/y")["d/0"]["modificationTime"] == 1_500_000_000_000  # the former one


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (("block-size",), {"block_size": 512}),
        (("replication",), {"attributes": Attributes("a", "b", 0o644, 0, 600)}),
    ],
)
async def test_what_the_cluster_gives_no_file_is_refused_by_name(
    hdfs: Hdfs, root: str, words: tuple[Preserved, ...], more: dict[str, Any]
) -> None:
    """And not tried for an hour, though HDFS says IOException."""
    client = WebHdfsClient(Nameservice(servers([hdfs.url])), Simple(hdfs.user), connections=4)
    async with aclosing(WebHdfsDestination(client, hdfs.url, root, preserve=frozenset(words))) as destination:
        file = FileStatus("f", 1, 1, **more)
        with pytest.raises(Refused):
            await destination.put("f", b"x", crc32c(b"x"), file)
        assert await destination.head("f") is None


def test_a_mirror_that_preserves_and_deletes(hdfs: Hdfs, root: str, program: Program) -> None:
    prove_a_preserving_mirror(program, hdfs.client(), hdfs.url, root)
