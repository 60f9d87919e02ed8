"""What a NameNode answers to snapshot operations, byte for byte: an exam for the real one, and for its simulator."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import pytest

NOT_SNAPSHOTTABLE = (403, "SnapshotException", "Directory is not a snapshottable directory: {root}/plain")


class SnapshotWireSuite:
    """Give the fixture ``root``: an empty directory, and set ``address`` and ``user`` in it."""

    address: str
    """``http://host:port/webhdfs/v1``."""
    user: str

    @pytest.fixture
    async def root(self) -> str:
        raise NotImplementedError("the absolute path of an empty directory")

    async def fill(self, root: str) -> None:
        """Make the file ``root/file`` and the empty directories ``root/plain`` and ``root/snap``."""
        raise NotImplementedError

    @pytest.mark.parametrize(
        ("method", "path", "op", "query", "expected"),
        [
            ("PUT", "plain", "CREATESNAPSHOT", {"snapshotname": "s"}, NOT_SNAPSHOTTABLE),
            ("DELETE", "plain", "DELETESNAPSHOT", {"snapshotname": "s"}, NOT_SNAPSHOTTABLE),
            ("GET", "plain", "GETSNAPSHOTLIST", {}, NOT_SNAPSHOTTABLE),
            ("GET", "plain/.snapshot", "LISTSTATUS", {}, NOT_SNAPSHOTTABLE),
            (
                "GET",
                "plain",
                "GETSNAPSHOTDIFF",
                {"oldsnapshotname": "s", "snapshotname": "s"},
                (403, "SnapshotException", "The path {root}/plain is neither snapshottable nor under a snapshot root!"),
            ),
            (
                "GET",
                "none",
                "GETSNAPSHOTLIST",
                {},
                (404, "FileNotFoundException", "Directory does not exist: {root}/none"),
            ),
            (
                "GET",
                "file",
                "GETSNAPSHOTLIST",
                {},
                (403, "PathIsNotDirectoryException", "`{root}/file': Is not a directory"),
            ),
            (
                "PUT",
                "snap",
                "CREATESNAPSHOT",
                {"snapshotname": "s"},
                (
                    403,
                    "SnapshotException",
                    'Failed to add snapshot: there is already a snapshot with the same name "s".',
                ),
            ),
            (
                "DELETE",
                "snap",
                "DELETESNAPSHOT",
                {"snapshotname": "t"},
                (
                    403,
                    "SnapshotException",
                    "Cannot delete snapshot t from path {root}/snap: the snapshot does not exist.",
                ),
            ),
            *(
                (
                    "GET",
                    "snap",
                    op,
                    {"oldsnapshotname": older, "snapshotname": newer} | more,
                    (403, "SnapshotException", "Cannot find the snapshot of directory {root}/snap with name t"),
                )
                for op, more in (
                    ("GETSNAPSHOTDIFF", {}),
                    ("GETSNAPSHOTDIFFLISTING", {"snapshotdiffstartpath": "", "snapshotdiffindex": "-1"}),
                )
                for older, newer in (("s", "t"), ("t", "s"))
            ),
            (
                "GET",
                "snap/.snapshot/t",
                "GETFILESTATUS",
                {},
                (404, "FileNotFoundException", "File does not exist: {root}/snap/.snapshot/t"),
            ),
        ],
    )
    async def test_refusals(
        self,
        root: str,
        method: str,
        path: str,
        op: str,
        query: Mapping[str, str],
        expected: tuple[int, str, str],
    ) -> None:
        await self.fill(root)
        await self.ask("PUT", f"{root}/snap", "ALLOWSNAPSHOT")
        created = await self.ask("PUT", f"{root}/snap", "CREATESNAPSHOT", snapshotname="s")
        assert created == (200, {"Path": f"{root}/snap/.snapshot/s"})
        status, answer = await self.ask(method, f"{root}/{path}", op, **query)
        remote = answer["RemoteException"]
        assert (status, remote["exception"], remote["message"]) == (*expected[:2], expected[2].format(root=root))

    async def test_lists(self, root: str) -> None:
        await self.fill(root)
        await self.ask("PUT", f"{root}/snap", "ALLOWSNAPSHOT")
        assert await self.ask("GET", f"{root}/snap", "GETSNAPSHOTLIST") == (200, {"SnapshotList": []})
        _, before = await self.ask("GET", "/", "GETSNAPSHOTTABLEDIRECTORYLIST")
        ours = [each for each in before["SnapshottableDirectoryList"] if each["parentFullPath"] == root]
        assert [(each["dirStatus"]["pathSuffix"], each["snapshotNumber"]) for each in ours] == [("snap", 0)]
        for name in ("b", "a"):
            await self.ask("PUT", f"{root}/snap", "CREATESNAPSHOT", snapshotname=name)
        _, listed = await self.ask("GET", f"{root}/snap", "GETSNAPSHOTLIST")
        assert {
            (each["fullPath"], each["dirStatus"]["pathSuffix"], each["deletionStatus"])
            for each in listed["SnapshotList"]
        } == {(f"{root}/snap/.snapshot/{name}", name, "ACTIVE") for name in "ab"}
        _, statuses = await self.ask("GET", f"{root}/snap/.snapshot", "LISTSTATUS")
        assert {each["pathSuffix"] for each in statuses["FileStatuses"]["FileStatus"]} == {"a", "b"}
        assert (await self.ask("DELETE", f"{root}/snap", "DELETESNAPSHOT", snapshotname="a"))[0] == 200
        _, listed = await self.ask("GET", f"{root}/snap", "GETSNAPSHOTLIST")
        assert [each["dirStatus"]["pathSuffix"] for each in listed["SnapshotList"]] == ["b"]

    async def test_where_a_diff_without_changes_ends(self, root: str) -> None:
        await self.fill(root)
        await self.ask("PUT", f"{root}/snap", "ALLOWSNAPSHOT")
        for name in "ab":
            await self.ask("PUT", f"{root}/snap", "CREATESNAPSHOT", snapshotname=name)
        names = {"oldsnapshotname": "a", "snapshotname": "b"}
        whole = await self.ask("GET", f"{root}/snap", "GETSNAPSHOTDIFF", **names)
        assert whole[1]["SnapshotDiffReport"]["diffList"] == []
        start = {"snapshotdiffstartpath": "", "snapshotdiffindex": "-1"}
        _, page = await self.ask("GET", f"{root}/snap", "GETSNAPSHOTDIFFLISTING", **names, **start)
        assert page["SnapshotDiffReportListing"] == {
            "modifyList": [],
            "createList": [],
            "deleteList": [],
            "lastPath": "",
            "lastIndex": -1,
            "isFromEarlier": True,
        }

    async def ask(self, method: str, path: str, op: str, **query: str) -> tuple[int, dict[str, Any]]:
        return await asyncio.to_thread(self._ask, method, path, op, query)

    def _ask(self, method: str, path: str, op: str, query: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        url = f"{self.address}{quote(path)}?{urlencode({'op': op, 'user.name': self.user, **query})}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            status, body = refused.code, refused.read()
        return status, json.loads(body) if body else {}
