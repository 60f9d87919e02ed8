"""The snapshots of an HDFS directory over WebHDFS. What is said here of the server was seen on Hadoop 3.5.0."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final
from urllib.parse import quote

from asynccopy.errors import NotFound, Refused, SnapshotGone, WrongServer
from asynccopy.model import Change
from asynccopy.storage.interface import Source
from asynccopy.storage.webhdfs import messages, snapshot_messages
from asynccopy.storage.webhdfs.client import LISTING, WebHdfsClient
from asynccopy.storage.webhdfs.messages import UnknownOperation
from asynccopy.storage.webhdfs.snapshot_messages import DiffPage

HELD: Final = 100_000
"""The most renames of which one end is remembered until the other comes; some 20 MB."""


class WebHdfsSnapshots:
    """The snapshots of the directory ``root``, which is absolute. ``at`` makes the Source of one.

    Creating and deleting are the owner's of the directory alone: PermissionDenied for everybody else. The names, the
    diff and the files can be read by all who may read the directory.

    A diff names what was created, deleted, renamed, and whose length or permission differ between the two snapshots.
    It does **not** name a file that was cut and grew to its old length again, one of which only the times were set, nor
    one that was open for writing when the older snapshot was made.
    """

    def __init__(self, client: WebHdfsClient, root: str, at: Callable[[str], Source]) -> None:
        self._client = client
        self._root = root
        self._at = at

    async def names(self) -> list[str] | None:
        try:
            found = await self._names()
            # The root lists its snapshots, none, also where it is allowed none.
            return found if found or self._root != "/" or await self._is_allowed() else None
        except Refused:
            return None

    async def _names(self) -> list[str]:
        try:
            response = await self._client.get("GETSNAPSHOTLIST", self._root)
        except UnknownOperation:
            return await self._listed()
        return snapshot_messages.snapshot_names(response, self._asked("GETSNAPSHOTLIST"))

    async def _listed(self) -> list[str]:
        """For a server that does not know GETSNAPSHOTLIST. Raises Refused where there can be no snapshots."""
        path = f"{self._root.rstrip('/')}/.snapshot"
        try:
            response = await self._client.get("LISTSTATUS", path, limit=LISTING)
        except NotFound as error:
            raise Refused(error.message) from error
        return [entry.path for entry in messages.list_whole(response, "", self._asked("LISTSTATUS")).entries]

    async def _is_allowed(self) -> bool:
        response = await self._client.get("GETSNAPSHOTTABLEDIRECTORYLIST", "/")
        return self._root in snapshot_messages.snapshottable(response, self._asked("GETSNAPSHOTTABLEDIRECTORYLIST"))

    async def create(self, name: str) -> None:
        """Raises Refused (not snapshottable, an impossible name, no more allowed), PermissionDenied."""
        query = f"&snapshotname={quote(name, safe='')}"
        try:
            await self._client.get("CREATESNAPSHOT", self._root, query, method="PUT")
        except Refused:
            if name not in (await self.names() or ()):
                raise

    async def delete(self, name: str) -> None:
        """Raises PermissionDenied."""
        query = f"&snapshotname={quote(name, safe='')}"
        try:
            await self._client.get("DELETESNAPSHOT", self._root, query, method="DELETE")
        except NotFound:
            return  # nor is the directory
        except Refused:
            if name in (await self.names() or ()):
                raise

    def at(self, name: str) -> Source:
        return self._at(name)

    async def diff(self, older: str, newer: str) -> AsyncIterator[Sequence[Change]]:
        """Where the server pages, memory holds a page, and a few bytes for each rename until both its ends were met.

        Of more than HELD renames at once, the new name may come also as a creation.
        """
        try:
            async for changes in self._changes(older, newer):
                yield changes
        except UnknownOperation:
            raise
        except Refused as error:  # not snapshottable any more, which takes that no snapshot is left
            raise SnapshotGone(error.message) from error

    async def _changes(self, older: str, newer: str) -> AsyncIterator[Sequence[Change]]:
        names = f"&oldsnapshotname={quote(older, safe='')}&snapshotname={quote(newer, safe='')}"
        try:
            page = await self._page(names, "", -1)
        except UnknownOperation:
            response = await self._client.get("GETSNAPSHOTDIFF", self._root, names, limit=LISTING)
            yield snapshot_messages.diff_whole(response, self._asked("GETSNAPSHOTDIFF"))
            return
        renames = Renames()
        while True:
            yield renames.changes(page)
            at = (page.last_path, page.last_index)
            if at == ("", -1):
                break
            page = await self._page(names, *at)
            if (page.last_path, page.last_index) == at:
                raise WrongServer(f"{self._asked('GETSNAPSHOTDIFFLISTING')}: the diff does not advance beyond {at}")
        yield renames.rest()

    async def _page(self, names: str, path: str, index: int) -> DiffPage:
        # Both are always sent: HttpFS 3.4.2 knows no defaults for them.
        query = f"{names}&snapshotdiffstartpath={quote(path, safe='')}&snapshotdiffindex={index}"
        response = await self._client.get("GETSNAPSHOTDIFFLISTING", self._root, query)
        return snapshot_messages.diff_page(response, self._asked("GETSNAPSHOTDIFFLISTING"))

    def _asked(self, op: str) -> str:
        return f"{self._client.namenode.netloc} {op} {self._root}"


class Renames:
    """Makes changes of raw pages, in which a rename has two ends: deleted (with its new name) and created.

    The ends come in any order, as their directories do. A created end whose other never comes was moved in from
    elsewhere, or out of a directory that was deleted: that is a creation.
    """

    def __init__(self) -> None:
        self._created: dict[int, str] = {}
        self._deleted: set[int] = set()

    def changes(self, page: DiffPage) -> list[Change]:
        found = [Change("modify", entry.source_path) for entry in page.modify_list]
        for entry in page.create_list:
            if not entry.is_reference:
                found.append(Change("create", entry.source_path))
            elif entry.file_id in self._deleted:
                self._deleted.remove(entry.file_id)
            else:
                self._created[entry.file_id] = entry.source_path
        for entry in page.delete_list:
            if not entry.target_path:
                found.append(Change("delete", entry.source_path))
                continue
            found.append(Change("rename", entry.source_path, entry.target_path))
            if self._created.pop(entry.file_id, None) is None:
                self._deleted.add(entry.file_id)
        if len(self._created) > HELD:
            found += self.rest()
        if len(self._deleted) > HELD:
            self._deleted.clear()
        return found

    def rest(self) -> list[Change]:
        """The creations that no rename accounts for."""
        created, self._created = self._created, {}
        return [Change("create", path) for path in created.values()]
