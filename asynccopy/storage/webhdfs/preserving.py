"""What a written file or directory is given besides its bytes: the attributes that its source has."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from asynccopy.errors import CredentialsRefused, PermissionDenied, Refused
from asynccopy.model import Attributes, FileStatus, Preserved
from asynccopy.storage.webhdfs.writer import WebHdfsWriter

_PRIVATE: Final = 0o600
"""Until a file has its owner, nobody else may read it."""
_SUPERUSER: Final = (
    "changing owners needs the HDFS superuser: run as that user (HADOOP_USER_NAME), or preserve neither owner nor group"
)


class Preserving:
    """``words``: which attributes. A file gets them before it gets its name, so it never shows with other ones."""

    def __init__(self, writer: WebHdfsWriter, words: AbstractSet[Preserved]) -> None:
        self._writer = writer
        self.words = words
        self._access_times = True  # until the NameNode says that it keeps none

    async def check(self, path: str) -> None:
        """Prove on a file of ours that all can be set. Raises CredentialsRefused."""
        if "owner" in self.words:
            try:
                await self._writer.set_owner(path, "asynccopy", "")
            except PermissionDenied as error:
                raise CredentialsRefused(f"the owner of files cannot be kept: {error}", hint=_SUPERUSER) from error

    def at_creation(self, status: FileStatus | None) -> str:
        """The options of CREATE, for a part too: CONCAT wants parts of one block size, and keeps what the first has."""
        options = ""
        if status is None:
            return options
        if "block-size" in self.words and status.block_size:
            options += f"&blocksize={status.block_size}"
        if "replication" in self.words and (copies := self._attributes(status).replication):
            options += f"&replication={copies}"
        if "permission" in self.words:
            options += f"&permission={_PRIVATE:o}"
        return options

    async def file(self, path: str, written: FileStatus, status: FileStatus | None) -> FileStatus:
        """Give a file what CREATE has not, and return its status as it is then. Raises PermissionDenied, Refused."""
        if status is None:
            return written
        await self._owner(path, status)
        if "times" in self.words:
            await self._times(path, status)
            written = replace(written, modification_time=status.modification_time)
        # Last: a file that its owner may not write takes no times but from the superuser.
        if "permission" in self.words and self._attributes(status).permission != _PRIVATE:
            await self._writer.set_permission(path, self._attributes(status).permission)
        return written

    async def directory(self, path: str, status: FileStatus | None) -> None:
        """A directory has no times to keep: they are of what comes and goes in it."""
        if status is None:
            return
        await self._owner(path, status)
        if "permission" in self.words:
            await self._writer.set_permission(path, self._attributes(status).permission)

    async def _owner(self, path: str, status: FileStatus) -> None:
        if self.words.isdisjoint(("owner", "group")):
            return
        has = self._attributes(status)
        owner, group = ("owner" in self.words and has.owner) or "", ("group" in self.words and has.group) or ""
        if not owner and not group:
            return
        try:
            await self._writer.set_owner(path, owner, group)
        except PermissionDenied as error:
            raise PermissionDenied(error.message, hint=_SUPERUSER) from error

    async def _times(self, path: str, status: FileStatus) -> None:
        access_time = self._attributes(status).access_time
        if access_time and self._access_times:
            with suppress(Refused):
                await self._writer.set_times(path, status.modification_time, access_time)
                return
            self._access_times = False
        await self._writer.set_times(path, status.modification_time, -1)

    def _attributes(self, status: FileStatus) -> Attributes:
        if status.attributes is None:
            raise Refused(f"{status.path}: the source tells no attributes that could be preserved")
        return status.attributes
