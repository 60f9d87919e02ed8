"""The snapshot operations of a simulated NameNode, and what it says of two snapshots (as seen on Hadoop 3.5.0)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec
from msgspec import UNSET, Struct, UnsetType

from asynccopy.simulators.namespace import Inode, TreeNamespace
from asynccopy.simulators.server import Reply
from asynccopy.simulators.webhdfs_messages import Query, RemoteException, file_status, json, missing

Operation = Callable[[str, Query], Reply]


METHODS = {"ALLOWSNAPSHOT": "PUT", "CREATESNAPSHOT": "PUT", "DELETESNAPSHOT": "DELETE"}
"""Those of the operations that are no GET."""


def snapshot_operations(tree: TreeNamespace, page_size: int) -> dict[str, Operation]:
    """What answers each operation. ``page_size``: the entries in a page of a diff."""
    return {
        "ALLOWSNAPSHOT": partial(_allow, tree),
        "CREATESNAPSHOT": partial(_create, tree),
        "DELETESNAPSHOT": partial(_delete, tree),
        "GETSNAPSHOTLIST": partial(_list, tree),
        "GETSNAPSHOTTABLEDIRECTORYLIST": partial(_list_snapshottable, tree),
        "GETSNAPSHOTDIFF": partial(_diff, tree),
        "GETSNAPSHOTDIFFLISTING": partial(_diff_listing, tree, page_size),
    }


def snapshots_of(tree: TreeNamespace, path: str) -> Iterator[tuple[str, Inode]]:
    """The names of a directory's snapshots, and the directory as it is in each."""
    for name, snapshot in _snapshots(tree, path).items():
        inode = snapshot.status(path)
        assert inode is not None
        yield name, inode


def _refused(message: str) -> RemoteException:
    return RemoteException(403, "org.apache.hadoop.hdfs.protocol.SnapshotException", message)


def _snapshots(tree: TreeNamespace, path: str) -> dict[str, TreeNamespace]:
    inode = tree.status(path)
    if inode is None:
        raise missing(f"Directory does not exist: {path}")
    if not inode.is_directory:
        raise RemoteException(403, "org.apache.hadoop.fs.PathIsNotDirectoryException", f"`{path}': Is not a directory")
    if path == "/":
        return tree.snapshots.get("/", {})
    if path not in tree.snapshots:
        raise _refused(f"Directory is not a snapshottable directory: {path}")
    return tree.snapshots[path]


def _allow(tree: TreeNamespace, path: str, query: Query) -> Reply:
    tree.snapshots.setdefault(path, {})
    return Reply(200)


def _create(tree: TreeNamespace, path: str, query: Query) -> Reply:
    name, there = query["snapshotname"], _snapshots(tree, path)
    if path not in tree.snapshots:
        raise _refused("Failed to add snapshot: there are already 0 snapshot(s) and the snapshot quota is 0")
    if name in there:
        raise _refused(f'Failed to add snapshot: there is already a snapshot with the same name "{name}".')
    tree.freeze(path, name)
    return json({"Path": f"{path.rstrip('/')}/.snapshot/{name}"})


def _delete(tree: TreeNamespace, path: str, query: Query) -> Reply:
    if query["snapshotname"] not in _snapshots(tree, path):
        raise _refused(f"Cannot delete snapshot {query['snapshotname']} from path {path}: the snapshot does not exist.")
    tree.forget(path, query["snapshotname"])
    return Reply(200)


def _list(tree: TreeNamespace, path: str, query: Query) -> Reply:
    return json(
        {
            "SnapshotList": [
                {
                    "dirStatus": file_status(inode, name),
                    "fullPath": f"{path.rstrip('/')}/.snapshot/{name}",
                    "deletionStatus": "ACTIVE",
                    "snapshotID": number,
                }
                for number, (name, inode) in enumerate(snapshots_of(tree, path))
            ]
        }
    )


def _list_snapshottable(tree: TreeNamespace, path: str, query: Query) -> Reply:
    found = []
    for directory, snapshots in tree.snapshots.items():
        parent, _, name = directory.rpartition("/")
        inode = tree.status(directory)
        assert inode is not None
        found.append(
            {
                "dirStatus": file_status(inode, name),
                "parentFullPath": parent or ("/" if name else ""),
                "snapshotNumber": len(snapshots),
                "snapshotQuota": 65536,
            }
        )
    return json({"SnapshottableDirectoryList": found})


# --- what differs between two of them


class _Entry(Struct, rename="camel"):
    source_path: str
    dir_id: int
    file_id: int
    is_reference: bool = False
    target_path: str | UnsetType = UNSET


_Raw = list[tuple[str, str, _Entry]]
"""(kind, directory, entry)."""


def _raw(tree: TreeNamespace, path: str, query: Query) -> _Raw:
    if path not in tree.snapshots:
        raise _refused(f"The path {path} is neither snapshottable nor under a snapshot root!")
    there, sides = tree.snapshots[path], []
    for name in (query["oldsnapshotname"], query["snapshotname"]):
        if name not in there:
            raise _refused(f"Cannot find the snapshot of directory {path} with name {name}")
        sides.append(there[name].descend(path))
    return _compare(*sides)


def _compare(older: dict[str, Inode], newer: dict[str, Inode]) -> _Raw:
    """Directory by directory of the older one: created ones, deleted ones, and what changed itself.

    A file that was renamed is in both, by its id. Of what is below a directory that came or went, nothing is said.
    """
    now = {inode.file_id: path for path, inode in newer.items()}
    known = {inode.file_id for inode in older.values()}
    before, after = _children(older), _children(newer)
    found: _Raw = []
    for path, inode in sorted(older.items()):
        if not _stayed(path, older, now):
            continue
        here = now[inode.file_id]
        if not inode.is_directory:
            if inode.visible_length != newer[here].visible_length:
                found.append(("modify", path, _Entry(path, inode.file_id, inode.file_id)))
            continue
        old, new = before[path], after[here]
        if old != new:
            found.append(("modify", path, _Entry(path, inode.file_id, inode.file_id)))
        for name, child in sorted(new.items()):
            if old.get(name) != child:
                found.append(("create", path, _Entry(_join(path, name), inode.file_id, child, child in known)))
        for name, child in sorted(old.items()):
            if new.get(name) != child:
                to = now.get(child, UNSET)
                found.append(("delete", path, _Entry(_join(path, name), inode.file_id, child, to is not UNSET, to)))
    return found


def _stayed(path: str, older: dict[str, Inode], now: dict[int, str]) -> bool:
    """It and all directories above it are still there, under whatever names."""
    while older[path].file_id in now:
        if not path:
            return True
        path = path.rpartition("/")[0]
    return False


def _children(tree: dict[str, Inode]) -> dict[str, dict[str, int]]:
    """The ids of what is in every directory, by name."""
    children: dict[str, dict[str, int]] = {path: {} for path, inode in tree.items() if inode.is_directory}
    for path, inode in tree.items():
        directory, _, name = path.rpartition("/")
        if path:
            children[directory][name] = inode.file_id
    return children


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _diff(tree: TreeNamespace, path: str, query: Query) -> Reply:
    raw = _raw(tree, path, query)
    renamed = {entry.file_id for kind, _, entry in raw if kind == "delete" and entry.target_path is not UNSET}
    lines = []
    for kind, _, entry in raw:
        if kind == "create" and entry.file_id in renamed:
            continue
        line = {"sourcePath": entry.source_path, "type": kind.upper()}
        if entry.target_path is not UNSET:
            line |= {"type": "RENAME", "targetPath": entry.target_path}
        lines.append(line)
    answer = {"diffList": lines, "fromSnapshot": query["oldsnapshotname"], "snapshotRoot": path}
    return json({"SnapshotDiffReport": {**answer, "toSnapshot": query["snapshotname"]}})


def _diff_listing(tree: TreeNamespace, page_size: int, path: str, query: Query) -> Reply:
    raw = _raw(tree, path, query)
    start = int(query["snapshotdiffindex"]) + 1
    if start and query["snapshotdiffstartpath"] != raw[start - 1][1]:
        raise _refused("the start path is not the last path of the page before")
    page = raw[start : start + page_size]
    more = start + page_size < len(raw)
    answer: dict[str, object] = {
        f"{wanted}List": [msgspec.to_builtins(entry) for kind, _, entry in page if kind == wanted]
        for wanted in ("modify", "create", "delete")
    }
    answer |= {"lastPath": page[-1][1] if more else "", "lastIndex": start + page_size - 1 if more else -1}
    return json({"SnapshotDiffReportListing": {**answer, "isFromEarlier": True}})
