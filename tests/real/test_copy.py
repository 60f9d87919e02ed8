"""The main job from beginning to end: a tree of HDFS in a store, proven by sums that were taken when it was made."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from fastcrc.crc32 import iscsi

from testbed import fetch, hadoop
from testbed.content import Content, small_files
from testbed.fill import Manifest, fill
from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.program import Program
from tests.real.generate import edge_sizes, empty_files, wide_directory

MIB = 1 << 20
EMPTY = (0, hashlib.sha256(b"").hexdigest())
MANY = 20_000


@dataclass(frozen=True)
class Tree:
    """A directory of HDFS, what its objects must be, and the CRC-32C of each."""

    root: str
    files: Manifest
    markers: Manifest
    crc: dict[str, int]

    @property
    def objects(self) -> Manifest:
        return self.files | self.markers

    def below(self, prefix: str) -> Manifest:
        return {f"{prefix}/{path}": entry for path, entry in self.objects.items()}


def plant(hdfs: Hdfs, root: str, small: int) -> Tree:
    """Small files, files of several parts, unequal blocks, empty files and directories, a wide directory."""
    contents = small_files(small, 3_000, directories=20) | edge_sizes() | empty_files() | wide_directory()
    contents |= {f"deep/{'d/' * 20}{n}": Content(50 + n, 700_000 + n) for n in range(3)}
    contents |= {"big/aligned": Content(61, 20 * MIB), "big/tail": Content(62, 17 * MIB + 12_345)}
    files = fill(hdfs.http, hdfs.user, root, contents)
    crc = {path: _crc(content) for path, content in contents.items()}
    with hdfs.client() as client:
        # Blocks that no part size can be aligned to.
        content = Content(63, 16 * MIB + 7)
        files["big/blocks-of-3"] = client.put(f"{root}/big/blocks-of-3", content, blocksize=3 * MIB)
        crc["big/blocks-of-3"] = _crc(content)
        # CONCAT leaves the short last block of each file in the middle of the joined one.
        pieces = [Content(64 + n, size) for n, size in enumerate((6 * MIB + 451_424, 3 * MIB + 7, 5 * MIB + 100_003))]
        names = [f"{root}/big/{name}" for name in ("joined", "second", "third")]
        for name, piece in zip(names, pieces, strict=True):
            client.put(name, piece)
        client.concat(names[0], names[1:])
        joined = b"".join(b"".join(piece) for piece in pieces)
        files["big/joined"] = (len(joined), hashlib.sha256(joined).hexdigest())
        crc["big/joined"] = iscsi(joined)
        for name in ("nothing", "nested/nothing", "d00/nothing"):
            client.mkdirs(f"{root}/{name}")
    markers = {f"{name}/": EMPTY for name in ("nothing", "nested/nothing", "d00/nothing")}
    return Tree(root, files, markers, crc)


def _crc(content: Content) -> int:
    crc = 0
    for piece in content:
        crc = iscsi(bytes(piece), crc)
    return crc


@pytest.fixture(scope="session")
def planted(cluster: Hdfs) -> Tree:
    """Shared: whoever changes it spoils it for the others."""
    return plant(cluster, "/planted", 1_000)


def test_a_whole_tree(hdfs: Hdfs, planted: Tree, store: Store, bucket: str, program: Program) -> None:
    source, destination = hdfs.url + planted.root, f"s3://{bucket}/a/b"
    total = sum(size for size, _ in planted.files.values())
    ended = program.copy(source, destination, "--part-size", "5MiB")
    assert ended.code == 0, ended.err
    assert ended.counted() == {"expected": len(planted.files), "copied": len(planted.files)}  # a marker is no file
    assert ended.counted("bytes") == {"expected": total, "copied": total}
    assert (ended.result["outcome"], ended.result["errors"]) == ("succeeded", [])
    assert ended.result["verified"] == len(planted.files)
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert store.read_back(bucket) == planted.below("a/b")
    assert store.open_uploads(bucket) == []

    again = program.copy(source, destination, "--part-size", "5MiB")
    assert again.code == 0, again.err
    assert again.counted() == {"expected": len(planted.files), "skipped": len(planted.files)}

    _ledger_is_true(hdfs, planted, program.ledger(source, destination))
    checked = program.run("check", source, destination)
    assert (checked.code, checked.out) == (0, ""), checked.err


def _ledger_is_true(hdfs: Hdfs, planted: Tree, ledger: dict[str, dict[str, object]]) -> None:
    assert set(ledger) == set(planted.objects)
    assert {row["state"] for row in ledger.values()} == {"done"}
    assert {path: row["length"] for path, row in ledger.items()} == {p: s for p, (s, _) in planted.objects.items()}
    for path, crc in planted.crc.items():
        assert ledger[path]["method"] in ("checksum", "read-back"), path
        assert ledger[path]["object_checksum"] == f"CRC32C:{crc:08x}", path
    some = [path for n, path in enumerate(planted.files) if n % 9 == 0 or not path.startswith("d")]
    with ThreadPoolExecutor(4) as pool:
        for path, checksum in zip(
            some, pool.map(lambda path: _checksum(hdfs, f"{planted.root}/{path}"), some), strict=True
        ):
            assert ledger[path]["source_checksum"] == checksum


def _checksum(hdfs: Hdfs, path: str) -> str:
    """GETFILECHECKSUM as HDFS answers it: the algorithm, and the MD5 in the middle of its ``bytes``."""
    url = f"{hdfs.http}{quote(path)}?op=GETFILECHECKSUM&user.name={hdfs.user}"
    with urllib.request.urlopen(url, timeout=30) as reply:
        found = json.load(reply)["FileChecksum"]
    return f"{found['algorithm']}:{found['bytes'][24:56]}"


@pytest.mark.parametrize("part_size", ["7MiB", "16MiB", None])
def test_parts_of_every_size(
    hdfs: Hdfs, planted: Tree, store: Store, bucket: str, program: Program, part_size: str | None
) -> None:
    options = ["--part-size", part_size] if part_size else []
    ended = program.copy(f"{hdfs.url}{planted.root}/big", f"s3://{bucket}", *options)
    assert ended.code == 0, ended.err
    wanted = {path.removeprefix("big/"): entry for path, entry in planted.files.items() if path.startswith("big/")}
    assert store.read_back(bucket) == wanted
    assert ended.result["verified"] == len(wanted)


def test_payloads_signed(hdfs: Hdfs, planted: Tree, store: Store, bucket: str, program: Program) -> None:
    ended = program.copy(f"{hdfs.url}{planted.root}/big", f"s3://{bucket}/p", "--sign-payload", "--part-size", "6MiB")
    assert ended.code == 0, ended.err
    wanted = {f"p/{path[4:]}": entry for path, entry in planted.files.items() if path.startswith("big/")}
    assert store.read_back(bucket) == wanted


def test_check_finds_what_was_tampered_with(hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program) -> None:
    files = small_files(20, 2_000, directories=2) | {"big": Content(5, 6 * MIB)}
    fill(hdfs.http, hdfs.user, root, files)
    source, destination = hdfs.url + root, f"s3://{bucket}/t"
    assert program.copy(source, destination).code == 0
    client = store.client()
    assert client.request("PUT", bucket, "t/d00/f00000", body=b"".join(Content(99, 2_000))).status == 200
    assert client.request("PUT", bucket, "t/d01/f00001", body=b"short").status == 200
    assert client.request("PUT", bucket, "t/big", body=b"".join(Content(98, 6 * MIB))).status == 200
    assert client.request("DELETE", bucket, "t/d00/f00002").status == 204
    assert client.request("PUT", bucket, "t/d00/stranger", body=b"x").status == 200
    assert client.request("PUT", bucket, "outside", body=b"x").status == 200
    wanted = {
        ("different", "d00/f00000"),
        ("different", "d01/f00001"),
        ("different", "big"),
        ("missing", "d00/f00002"),
        ("extra", "d00/stranger"),
    }
    for options in ((), ("--journal", "none.journal")):
        checked = program.run("check", source, destination, *options)
        assert checked.code == 1, checked.err
        assert {tuple(line.split("\t")[:2]) for line in checked.out.splitlines()} == wanted
    assert not (program.folder / "none.journal").exists()
    # A copy repairs nothing that it believes done, but tells so: the objects themselves were not its business.
    assert store.read_back(bucket)["outside"] == (1, hashlib.sha256(b"x").hexdigest())


def test_a_dry_run_writes_nothing(hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program) -> None:
    files = small_files(30, 100, directories=3) | {"big": Content(1, 6 * MIB)}
    fill(hdfs.http, hdfs.user, root, files)
    source, destination = hdfs.url + root, f"s3://{bucket}"
    ended = program.copy(source, destination, "--dry-run")
    assert ended.code == 0, ended.err
    assert sorted(ended.out.splitlines()) == sorted(files)
    assert versitygw.read_back(bucket) == {}
    assert versitygw.open_uploads(bucket) == []
    assert not (program.folder / "state").exists()
    assert program.copy(source, destination, "--include", "d00/").code == 0
    rest = program.copy(source, destination, "--dry-run")
    assert sorted(rest.out.splitlines()) == sorted(path for path in files if not path.startswith("d00/"))


def test_a_single_file(hdfs: Hdfs, planted: Tree, store: Store, bucket: str, program: Program) -> None:
    for name in ("tail", "joined"):
        ended = program.copy(f"{hdfs.url}{planted.root}/big/{name}", f"s3://{bucket}/one", "--part-size", "5MiB")
        assert ended.code == 0, ended.err
        assert ended.counted() == {"expected": 1, "copied": 1}
    wanted = {f"one/{name}": planted.files[f"big/{name}"] for name in ("tail", "joined")}
    assert store.read_back(bucket) == wanted


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        (["--include", "*.parquet"], {"a/1.parquet", "a/b/2.parquet"}),
        (["--exclude", "b/"], {"a/1.parquet", "a/1.csv", "top.csv"}),
        (["--include", "a/**", "--exclude", "*.csv"], {"a/1.parquet", "a/b/2.parquet"}),
        (["--include-regex", r"/\d\.csv$"], {"a/1.csv", "a/b/2.csv"}),
        (["--exclude-regex", "^a/b"], {"a/1.parquet", "a/1.csv", "top.csv"}),
        (["--min-size", "2kB"], {"a/b/2.parquet", "a/b/2.csv"}),
        (["--max-size", "1000"], {"top.csv", "a/1.csv"}),
        (["--older-than", "2001-01-01"], {"top.csv"}),
        (["--newer-than", "2001-01-01"], {"a/1.parquet", "a/1.csv", "a/b/2.parquet", "a/b/2.csv"}),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, list) else "",
)
def test_what_is_selected(
    hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program, options: list[str], taken: set[str]
) -> None:
    sizes = {"top.csv": 10, "a/1.parquet": 1_500, "a/1.csv": 1_000, "a/b/2.parquet": 2_500, "a/b/2.csv": 2_000}
    manifest = fill(
        hdfs.http, hdfs.user, root, {path: Content(n, size) for n, (path, size) in enumerate(sizes.items())}
    )
    with hdfs.client() as client:
        client.set_times(f"{root}/top.csv", 946_684_800_000)
    ended = program.copy(hdfs.url + root, f"s3://{bucket}", *options)
    assert ended.code == 0, ended.err
    assert versitygw.read_back(bucket) == {path: manifest[path] for path in taken}
    assert ended.counted() == {"expected": len(taken), "copied": len(taken)}


def test_empty_directories_can_be_left_out(hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program) -> None:
    with hdfs.client() as client:
        client.put(f"{root}/file", b"")
        client.mkdirs(f"{root}/empty/er")
    ended = program.copy(hdfs.url + root, f"s3://{bucket}/without", "--no-empty-directories")
    assert (ended.code, ended.counted()) == (0, {"expected": 1, "copied": 1})
    assert program.copy(hdfs.url + root, f"s3://{bucket}/with").code == 0
    assert store.read_back(bucket) == {"without/file": EMPTY, "with/file": EMPTY, "with/empty/er/": EMPTY}


@pytest.mark.parametrize("mode", ["size", "none"])
def test_cheaper_proofs(hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program, mode: str) -> None:
    files = small_files(10, 1_000, directories=1) | {"big": Content(3, 6 * MIB), "void": Content(0, 0)}
    manifest = fill(hdfs.http, hdfs.user, root, files)
    source, destination = hdfs.url + root, f"s3://{bucket}"
    ended = program.copy(source, destination, "--verify", mode)
    assert (ended.code, ended.counted()["copied"], ended.result["verified"]) == (0, 12, 0), ended.err
    assert store.read_back(bucket) == manifest
    assert {row["method"] for row in program.ledger(source, destination).values()} == {mode}


def test_bandwidth_is_kept(hdfs: Hdfs, planted: Tree, versitygw: Store, bucket: str, program: Program) -> None:
    """37 MiB at 8 MiB/s: no faster than the limit allows, nor much slower."""
    options = ("--include", "aligned", "--include", "tail", "--bandwidth", "8MiB/s", "--part-size", "5MiB")
    ended = program.copy(f"{hdfs.url}{planted.root}/big", f"s3://{bucket}", *options)
    assert ended.code == 0, ended.err
    assert ended.counted("bytes")["copied"] == 37 * MIB + 12_345
    assert 4.2 < ended.result["duration_seconds"] < 9


def test_from_hdfs_to_a_directory(
    hdfs: Hdfs, planted: Tree, versitygw: Store, bucket: str, program: Program, tmp_path: Path
) -> None:
    target = tmp_path / "copy"
    ended = program.copy(f"{hdfs.url}{planted.root}", str(target))
    assert ended.code == 0, ended.err
    assert _on_disk(target) == planted.files
    assert all((target / marker).is_dir() for marker in planted.markers)
    assert ended.result["verified"] == len(planted.files)
    assert program.run("check", f"{hdfs.url}{planted.root}", str(target)).code == 0


def test_from_a_directory_to_a_store(store: Store, bucket: str, program: Program, tmp_path: Path) -> None:
    files = small_files(200, 2_000, directories=5) | edge_sizes() | {"big/tail": Content(8, 17 * MIB + 5)}
    for path, content in files.items():
        file = tmp_path / "data" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"".join(content))
    ended = program.copy(f"file://{tmp_path}/data", f"s3://{bucket}/from-disk", "--part-size", "5MiB")
    assert ended.code == 0, ended.err
    assert store.read_back(bucket) == {f"from-disk/{path}": (c.size, c.sha256()) for path, c in files.items()}
    assert program.run("check", str(tmp_path / "data"), f"s3://{bucket}/from-disk").code == 0


def _on_disk(folder: Path) -> Manifest:
    return {
        str(file.relative_to(folder)): (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_very_wide_directory(hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program) -> None:
    """20,000 entries, thousand by thousand."""
    names = [f"entry-{n:05}" for n in range(MANY)]
    with hdfs.client() as client:
        client.mkdirs(f"{root}/wide")
    _touch(hdfs, [f"{root}/wide/{name}" for name in names])
    source, destination = hdfs.url + root, f"s3://{bucket}"
    ended = program.copy(source, destination, timeout=200)
    assert ended.code == 0, ended.err
    assert ended.counted() == {"expected": MANY, "copied": MANY}
    # Their content is nothing; that all are there is what counts.
    assert sorted(versitygw.client().keys(bucket)) == [f"wide/{name}" for name in names]
    started = time.monotonic()
    again = program.copy(source, destination)
    assert (again.code, again.counted()) == (0, {"expected": MANY, "skipped": MANY})
    assert time.monotonic() - started < 30


def _touch(hdfs: Hdfs, paths: list[str]) -> None:
    """Make empty files through Hadoop's own shell: WebHDFS needs a DataNode for each of them."""
    command = hadoop.Jvm(128).command(
        [hdfs.configuration, *hadoop.jars(fetch.HADOOP)], "org.apache.hadoop.fs.FsShell", "-touchz", *paths
    )
    done = subprocess.run(command, capture_output=True, env=hadoop.environment())
    assert done.returncode == 0, done.stderr[-2000:]
