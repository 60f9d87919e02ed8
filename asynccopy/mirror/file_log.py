"""The journal as the PartLog of one file."""

from __future__ import annotations

from asynccopy.journal import Journal
from asynccopy.model import OpenUpload, PartReceipt


class FileLog:
    """``file_id``: the journal's own."""

    __slots__ = ("_id", "_journal")

    def __init__(self, journal: Journal, file_id: int) -> None:
        self._journal = journal
        self._id = file_id

    async def upload(self) -> OpenUpload | None:
        return await self._journal.upload(self._id)

    async def begin_upload(self, upload: OpenUpload) -> None:
        await self._journal.begin_upload(self._id, upload)

    async def part_done(self, receipt: PartReceipt) -> None:
        await self._journal.part_done(self._id, receipt)

    async def drop_upload(self) -> None:
        await self._journal.drop_upload(self._id)
