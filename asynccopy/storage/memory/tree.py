"""A tree of files in memory, by path, and what differs between two of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from asynccopy.model import Change


class Entry(Struct, frozen=True):
    """A file with its bytes, or a directory (None). ``is_open``: somebody is still writing it."""

    body: bytes | None
    modification_time: int
    file_id: int
    is_open: bool = False


Tree = Mapping[str, Entry]
"""Entries by path, the root's is ""; every entry's directory is there, too."""


def diff(older: Tree, newer: Tree) -> list[Change]:
    """What HDFS's GETSNAPSHOTDIFF says, with its ways.

    An overwritten file is created *and* deleted, all below a renamed directory bears its old name, nothing is said of
    what is below a directory that came or went, and a file of the same length as before is not named at all.
    """
    now = {entry.file_id: path for path, entry in newer.items()}
    before, after = _children(older), _children(newer)
    found: list[Change] = []
    created: dict[int, str] = {}
    directories = [""]
    while directories:
        directory = directories.pop()
        old = before[directory]
        new = after[now[older[directory].file_id]]
        came = {name: entry for name, entry in new.items() if not _same(old.get(name), entry)}
        went = {name: entry for name, entry in old.items() if not _same(new.get(name), entry)}
        if came or went:
            found.append(Change("modify", directory))
        created |= {entry.file_id: join(directory, name) for name, entry in came.items()}
        for name, entry in went.items():
            path, target = join(directory, name), now.get(entry.file_id)
            found.append(Change("delete", path) if target is None else Change("rename", path, target))
        for name, entry in old.items():
            path, target = join(directory, name), now.get(entry.file_id)
            if target is None:
                continue
            if entry.body is None:
                directories.append(path)
            elif len(entry.body) != len(newer[target].body or b""):
                found.append(Change("modify", path))
    renamed = {older[change.path].file_id for change in found if change.kind == "rename"}
    return found + [Change("create", path) for file_id, path in created.items() if file_id not in renamed]


def _same(one: Entry | None, other: Entry) -> bool:
    return one is not None and one.file_id == other.file_id


def _children(tree: Tree) -> dict[str, dict[str, Entry]]:
    """The entries of every directory, by name."""
    children: dict[str, dict[str, Entry]] = {path: {} for path, entry in tree.items() if entry.body is None}
    for path, entry in tree.items():
        if path:
            directory, _, name = path.rpartition("/")
            children[directory][name] = entry
    return children


def join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def parents(path: str) -> Iterator[str]:
    """The directories above a path, the nearest first and the root last."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def below(name: str, path: str) -> bool:
    """Whether a name is below a path, and not the path itself."""
    return name.startswith(path + "/") if path else bool(name)
