"""The operations that change HDFS, by paths relative to a root."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from asynccopy.errors import NameRefused, Refused
from asynccopy.model import FileStatus
from asynccopy.storage.interface import Reader
from asynccopy.storage.webhdfs import messages
from asynccopy.storage.webhdfs.client import WebHdfsClient


class WebHdfsWriter:
    """``root`` is absolute, "" for ``/``. Every method raises PermissionDenied, NameRefused (something is in the way),
    Refused (a quota), and what the client raises.
    """

    def __init__(self, client: WebHdfsClient, root: str) -> None:
        self._client = client
        self._root = root

    async def create(
        self, path: str, size: int, body: bytes | memoryview | Reader, *, parents: bool, options: str = ""
    ) -> None:
        """Write a file, replacing one of that name. Raises NotFound where directories above are missing and
        ``parents`` does not make them. ``options``: further ones of CREATE, as they go into the query.

        Seen to the end, it has ``size`` bytes. Else it may have fewer: see ``WebHdfsClient.create``.
        """
        query = f"&overwrite=true&createparent={'true' if parents else 'false'}{options}"
        await self._client.create(self._absolute(path), query, size, body)

    async def rename(self, path: str, to: str) -> None:
        """Give a file a name, in one step that replaces the file of that name if there is one. Raises NotFound where
        the file, or the new name's directory, is missing; Refused by a gateway that cannot replace.
        """
        query = f"&destination={quote(self._absolute(to), safe='')}&renameoptions=OVERWRITE"
        response = await self._client.get("RENAME", self._absolute(path), query, method="PUT")
        # HttpFS knows no options, and answers whether it renamed: to a name that is taken it does not.
        if response.body and not messages.boolean(response, self._asked("RENAME", path)):
            raise Refused(f"{self._asked('RENAME', path)}: to {to!r}: refused")

    async def mkdirs(self, path: str) -> None:
        """Make a directory and those above it; one that is there is not an error."""
        response = await self._client.get("MKDIRS", self._absolute(path), method="PUT")
        if not messages.boolean(response, self._asked("MKDIRS", path)):
            raise NameRefused(f"{self._asked('MKDIRS', path)}: refused")

    async def delete(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, or a directory; without ``recursive`` only an empty one, else Refused. What is not there is
        not an error.
        """
        query = f"&recursive={'true' if recursive else 'false'}"
        await self._client.get("DELETE", self._absolute(path), query, method="DELETE")

    async def concat(self, path: str, files: Sequence[FileStatus]) -> None:
        """Append files of the same directory to one, in one step, by moving their blocks; the files are gone then.

        CONCAT cannot be told a name that has a comma, and takes no ids instead. Raises NotFound where one is missing.
        """
        sources = ",".join(self._absolute(file.path) for file in files)
        await self._client.get("CONCAT", self._absolute(path), f"&sources={quote(sources, safe='')}", method="POST")

    async def set_owner(self, path: str, owner: str, group: str) -> None:
        """Give a file or directory away; "" keeps what is. Raises PermissionDenied unless we are the superuser, or own
        it and give it to a group that we are in.
        """
        given = (("owner", owner), ("group", group))
        query = "".join(f"&{key}={quote(name, safe='')}" for key, name in given if name)
        await self._client.get("SETOWNER", self._absolute(path), query, method="PUT")

    async def set_permission(self, path: str, mode: int) -> None:
        await self._client.get("SETPERMISSION", self._absolute(path), f"&permission={mode:o}", method="PUT")

    async def set_times(self, path: str, modification_time: int, access_time: int) -> None:
        """ms since the epoch; -1 keeps what is. Raises Refused for an access time where the cluster keeps none."""
        query = f"&modificationtime={modification_time}&accesstime={access_time}"
        await self._client.get("SETTIMES", self._absolute(path), query, method="PUT")

    def _absolute(self, path: str) -> str:
        return (f"{self._root}/{path}" if path else self._root) or "/"

    def _asked(self, op: str, path: str) -> str:
        return f"{self._client.namenode.netloc} {op} {self._absolute(path)}"
