"""Every name that HDFS allows arrives as it is, or is refused by name."""

from __future__ import annotations

from pathlib import Path

from testbed.content import Content
from testbed.fill import fill
from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.program import Program
from tests.real.generate import LONGEST, NFC, NFD, NOT_IN_XML, ODD_NAMES, odd_tree

MIB = 1 << 20


def test_odd_names(hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program) -> None:
    # s3proxy appends to a name while it is written, so it has no room for the longest ones.
    left_out = frozenset[str]() if store.name == "versitygw" else LONGEST | NOT_IN_XML
    names = tuple(name for name in ODD_NAMES if name not in left_out)
    manifest = fill(hdfs.http, hdfs.user, root, odd_tree(names))
    ended = program.copy(hdfs.url + root, f"s3://{bucket}/odd +%/é")
    assert ended.code == 0, ended.err
    assert ended.counted() == {"expected": len(names), "copied": len(names)}
    assert store.read_back(bucket) == {f"odd +%/é/{path}": entry for path, entry in manifest.items()}
    assert set(program.ledger(hdfs.url + root, f"s3://{bucket}/odd +%/é")) == set(manifest)
    again = program.copy(hdfs.url + root, f"s3://{bucket}/odd +%/é")
    assert (again.code, again.counted()) == (0, {"expected": len(names), "skipped": len(names)})
    checked = program.run("check", hdfs.url + root, f"s3://{bucket}/odd +%/é", "--journal", "none.journal")
    if store.name == "versitygw":
        # Its listing is XML that no parser takes, because of one name; all other work does not need it.
        assert "control" in checked.out + checked.err or checked.code == 0
    else:
        assert (checked.code, checked.out) == (0, ""), checked.err


def test_names_that_look_the_same(hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program) -> None:
    """Composed and decomposed side by side, of one length, small and in parts: HDFS's redirect mixes them up."""
    files = {
        f"{form}/{size}-{form}": Content(seed, length)
        for seed, form in enumerate((NFC, NFD))
        for size, length in (("small", 5_000), ("large", 6 * MIB))
    }
    manifest = fill(hdfs.http, hdfs.user, root, files)
    assert len({digest for _, digest in manifest.values()}) == 4
    ended = program.copy(hdfs.url + root, f"s3://{bucket}")
    assert ended.code == 0, ended.err
    assert store.read_back(bucket) == manifest


def test_an_odd_name_as_the_root(hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program) -> None:
    for number, name in enumerate(("100% #1?", NFD, "a b&c=d;e+f", "\U0001f600'\"")):
        content = Content(number, 3_000)
        fill(hdfs.http, hdfs.user, f"{root}/{name}", {"file": content})
        for source in (f"{hdfs.url}{root}/{name}", f"{hdfs.url}{root}/{name}/file"):
            ended = program.copy(source, f"s3://{bucket}/{number}-{len(source)}")
            assert ended.code == 0, ended.err
            assert versitygw.read_back(bucket, f"{number}-{len(source)}") == {
                f"{number}-{len(source)}/file": (3_000, content.sha256())
            }


def test_a_key_that_is_too_long(hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program) -> None:
    """1,024 bytes fit into a key, one more does not, counted with the prefix and as UTF-8."""
    deep = "/".join(["d" * 200] * 4)
    room = 1024 - len("pre/") - len(deep) - 1
    fits, long = f"{deep}/{'f' * room}", f"{deep}/{'f' * (room + 1)}"
    wide = f"{deep}/{'ü' * (room // 2 + 1)}"
    files = {path: Content(n, 10 * n) for n, path in enumerate((fits, long, wide, "other"))}
    manifest = fill(hdfs.http, hdfs.user, root, files)
    ended = program.copy(hdfs.url + root, f"s3://{bucket}/pre")
    assert ended.code == 1, ended.err
    assert ended.failed == {long: "NameRefused", wide: "NameRefused"}
    assert all(error["hint"] for error in ended.result["errors"])
    assert store.read_back(bucket) == {f"pre/{path}": manifest[path] for path in (fits, "other")}
    assert store.open_uploads(bucket) == []
    again = program.copy(hdfs.url + root, f"s3://{bucket}/pre")
    assert (again.code, set(again.failed)) == (1, {long, wide})
    assert again.counted() == {"expected": 4, "skipped": 2, "failed": 2}


def test_odd_names_on_a_disk(hdfs: Hdfs, root: str, bucket: str, program: Program, tmp_path: Path) -> None:
    manifest = fill(hdfs.http, hdfs.user, root, odd_tree() | {f"{'L' * 255}": Content(1, 3 * MIB)})
    ended = program.copy(hdfs.url + root, str(tmp_path / "disk"))
    assert ended.code == 0, ended.err
    for path, (size, _) in manifest.items():
        assert (tmp_path / "disk" / path).stat().st_size == size
    checked = program.run("check", hdfs.url + root, str(tmp_path / "disk"))
    assert (checked.code, checked.out) == (0, ""), checked.err
