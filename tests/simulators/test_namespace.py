"""What the simulated HDFS holds."""

from __future__ import annotations

import pytest

from asynccopy.simulators.namespace import Generated, Namespace, TreeNamespace
from asynccopy.simulators.synthetic import SyntheticNamespace

ODD_NAMES = ["a", "Z", "0", "\u00e9", "e\u0301", "日本", "😀", "~", "a b", "a%20b", "a+b", "ü", "\x7f"]


def hdfs_order(names: list[str]) -> list[str]:
    """Java compares bytes as signed numbers."""
    return sorted(names, key=lambda name: [byte - 256 if byte > 127 else byte for byte in name.encode()])


def walk(namespace: Namespace, path: str, page: int) -> list[str]:
    names: list[str] = []
    while True:
        entries, remaining = namespace.children(path, names[-1] if names else "", page)
        names += [entry.name for entry in entries]
        if not remaining:
            return names
        assert entries


@pytest.mark.parametrize("page", [1, 2, 5, 13, 100])
def test_a_listing_pages_in_signed_byte_order(page: int) -> None:
    tree = TreeNamespace()
    for name in ODD_NAMES:
        tree.put(f"/d/{name}", b"")
    assert walk(tree, "/d", page) == hdfs_order(ODD_NAMES)
    assert walk(tree, "/d", page)[0] != "0", "names that are not ASCII come first"


def test_the_cursor_may_name_something_absent() -> None:
    tree = TreeNamespace()
    for name in "ace":
        tree.put(f"/{name}", b"")
    entries, remaining = tree.children("/", "b", 1)
    assert ([entry.name for entry in entries], remaining) == (["c"], 1)


def test_generated_content_is_the_same_in_any_cut() -> None:
    content = Generated(3_000_001, seed=5)
    whole = content.read(0, 1 << 30)
    assert len(whole) == 3_000_001
    for offset, length in ((0, 1), (1_048_572, 3), (2_999_999, 99), (7, 2_500_000), (3_000_001, 5)):
        assert content.read(offset, length) == whole[offset : offset + length]
    assert content.read(0, 64) != Generated(3_000_001, seed=6).read(0, 64)
    assert content.read(0, 64) != content._replace(version=1).read(0, 64)


def test_a_replaced_file_has_another_id_and_time_a_renamed_one_keeps_them() -> None:
    tree = TreeNamespace()
    first = tree.put("/f", b"old")
    second = tree.put("/f", b"new")
    assert second.file_id != first.file_id
    assert second.modification_time > first.modification_time
    tree.rename("/f", "/elsewhere/g")
    moved = tree.status("/elsewhere/g")
    assert moved == second._replace(name="g")
    assert tree.status("/f") is None
    assert tree.read("/elsewhere/g", 0, 10) == b"new"


def test_a_file_being_written_shows_less_than_it_has() -> None:
    tree = TreeNamespace()
    closed = tree.put("/log", b"a")
    first = tree.append("/log", b"b", close=False)
    second = tree.append("/log", b"c", close=False)
    assert (first.length, second.length, second.visible_length) == (2, 2, 3)
    assert second.modification_time == closed.modification_time
    assert second.under_construction
    done = tree.close("/log")
    assert (done.length, done.under_construction) == (3, False)
    assert done.modification_time > closed.modification_time
    assert done.file_id == closed.file_id


def test_deleting_a_directory_takes_all_below() -> None:
    tree = TreeNamespace()
    tree.put("/a/b/c", b"")
    tree.delete("/a")
    assert [tree.status(path) for path in ("/a", "/a/b", "/a/b/c")] == [None] * 3
    assert tree.children("/", "", 10) == ([], 0)


def test_a_million_computed_files_and_directories() -> None:
    wide = SyntheticNamespace(1, 1_000_000, 100)
    entries, remaining = wide.children("/dir-0000000", "file-0499999", 1000)
    assert (entries[0].name, len(entries), remaining) == ("file-0500000", 1000, 499_000)
    assert wide.children("/dir-0000000", "file-0999999", 1000) == ([], 0)
    assert wide.status("/dir-0000000/file-0500000") == entries[0]
    assert wide.status("/dir-0000000/file-1000000") is None
    assert wide.status("/dir-0000000/file-500000") is None
    many = SyntheticNamespace(1_000_000, 1, 100)
    assert many.children("/", "dir-0999998", 10)[0][0].name == "dir-0999999"
    assert wide.read("/dir-0000000/file-0000001", 0, 100) != wide.read("/dir-0000000/file-0000002", 0, 100)


def test_the_synthetic_listing_is_complete_and_ids_are_unique() -> None:
    namespace = SyntheticNamespace(3, 25, 10)
    seen: list[int] = []
    for directory in walk(namespace, "/", 2):
        for name in walk(namespace, f"/{directory}", 7):
            inode = namespace.status(f"/{directory}/{name}")
            assert inode is not None
            seen.append(inode.file_id)
    assert len(set(seen)) == 75
