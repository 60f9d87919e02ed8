"""The answers about snapshots, on the wire <-> model. Pure. As ``messages``."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec import Struct, field

from asynccopy.model import Change
from asynccopy.storage.http import Response
from asynccopy.storage.webhdfs.entries import Entry
from asynccopy.storage.webhdfs.messages import _decode


class _Snapshot(Struct, rename="camel"):
    dir_status: Entry
    deletion_status: str = "ACTIVE"


class _SnapshotsAnswer(Struct):
    snapshots: list[_Snapshot] = field(name="SnapshotList")


class _Snapshottable(Struct, rename="camel"):
    dir_status: Entry
    parent_full_path: str


class _SnapshottableAnswer(Struct):
    directories: list[_Snapshottable] | None = field(name="SnapshottableDirectoryList")


class _DiffLine(Struct, rename="camel", gc=False):
    type: Literal["CREATE", "MODIFY", "DELETE", "RENAME"]
    source_path: str
    target_path: str | None = None


class _Diff(Struct, rename="camel"):
    diff_list: list[_DiffLine]


class _DiffAnswer(Struct):
    report: _Diff = field(name="SnapshotDiffReport")


class DiffEntry(Struct, rename="camel", gc=False):
    """An entry of a raw diff. ``is_reference``: the inode was renamed once since it came into a snapshot."""

    source_path: str
    file_id: int
    is_reference: bool = False
    target_path: str | None = None


class DiffPage(Struct, rename="camel"):
    """A page of a raw diff, and where the next one begins (``last_path`` "" and ``last_index`` -1: nowhere)."""

    modify_list: list[DiffEntry]
    create_list: list[DiffEntry]
    delete_list: list[DiffEntry]
    last_path: str
    last_index: int


class _DiffPageAnswer(Struct):
    page: DiffPage = field(name="SnapshotDiffReportListing")


_snapshots = msgspec.json.Decoder(_SnapshotsAnswer)
_snapshottable = msgspec.json.Decoder(_SnapshottableAnswer)
_diff = msgspec.json.Decoder(_DiffAnswer)
_diff_page = msgspec.json.Decoder(_DiffPageAnswer)


def snapshot_names(response: Response, asked: str) -> list[str]:
    """GETSNAPSHOTLIST; without those that only wait for older ones to be deleted."""
    found = _decode(_snapshots, response, asked).snapshots
    return [each.dir_status.path_suffix for each in found if each.deletion_status != "DELETED"]


def snapshottable(response: Response, asked: str) -> list[str]:
    """GETSNAPSHOTTABLEDIRECTORYLIST: the absolute paths of those that are the user's."""
    found = _decode(_snapshottable, response, asked).directories or ()  # HttpFS says null
    return [f"{each.parent_full_path.rstrip('/')}/{each.dir_status.path_suffix}" for each in found]


_KINDS: Final[dict[str, Literal["create", "modify", "delete", "rename"]]] = {
    "CREATE": "create",
    "MODIFY": "modify",
    "DELETE": "delete",
    "RENAME": "rename",
}


def diff_whole(response: Response, asked: str) -> list[Change]:
    """GETSNAPSHOTDIFF: all in one answer."""
    lines = _decode(_diff, response, asked).report.diff_list
    return [Change(_KINDS[line.type], line.source_path, line.target_path or "") for line in lines]


def diff_page(response: Response, asked: str) -> DiffPage:
    """GETSNAPSHOTDIFFLISTING."""
    return _decode(_diff_page, response, asked).page
