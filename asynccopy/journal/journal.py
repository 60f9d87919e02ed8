"""The journal of one job: the queue of what is to be copied, and the truth about what was."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from asynccopy.errors import AsyncCopyError, JournalError, NameRefused, NotFound, UsageError
from asynccopy.journal.database import Database, Work
from asynccopy.journal.packed import BEGINNING, Key, Unpack, pack_some, unpack, unpack_one
from asynccopy.journal.pages import Page, Unmet, list_again, record_files, record_page
from asynccopy.journal.passes import RETRY, begin_pass, note_pass
from asynccopy.journal.reading import ORDERS, JournalReader
from asynccopy.journal.rows import Kind, Listed, PageCount
from asynccopy.journal.settling import FINISHED, REOPEN, changed, finish, finish_upload, reopen
from asynccopy.journal.sqlite import execute_values
from asynccopy.journal.uploads import DROP_UPLOAD, PART_DONE, begin_upload, upload_of
from asynccopy.journal.vanishing import BATCH, drop_unseen, forget_revived, now, remove_files, remove_tree, vanish
from asynccopy.model import Evidence, FileStatus, FileVersion, OpenUpload, PartReceipt

T = TypeVar("T")

_FAILED = "UPDATE files SET state = 2, error_class = ?, error = ?, hint = ? WHERE id = ?"
_SURROGATE = re.compile("[\ud800-\udfff]")


class Journal(JournalReader):
    """The one writer of a journal, and the only process that may be.

    Every writing method returns after its change is durable, and changes all of what it says or nothing.
    Any method may raise JournalError (JournalFull, JournalDamaged): then nothing more may be reported done.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database.reader)
        self._database = database
        # The files that may have an upload: small files, the most, never need to ask. Rather one too many than one
        # too few, so an id enters before its upload is written and leaves after it is gone.
        self._uploading: set[int] = set()
        self._packing = asyncio.Lock()  # so that what must be unpacked is not packed again at once
        self._looked_upto: Key | None = BEGINNING

    @classmethod
    async def open(cls, path: Path, *, source: str, destination: str, order: Listed = "listing") -> Journal:
        """Open or create the journal of the job from ``source`` to ``destination``, for this process alone.

        ``order``: what ``pending`` may be asked for besides the order of the listing. It has an index, made when it is
        first asked for: that reads the whole journal once.
        Raises UsageError (the journal of another job), JournalLocked, JournalDamaged, JournalFull, JournalError.
        """
        database = await Database.open(path)
        try:
            journal = cls(database)
            await database.write(lambda c: _begin_job(c, source, destination))
            state = await journal.state()
            if (state.source, state.destination) != (source, destination):
                raise UsageError(
                    f"{path} is the journal of another job: {state.source} to {state.destination}, "
                    f"not {source} to {destination}",
                    hint="name another file as the journal, or none",
                )
            await journal.order_by(order)
            journal._uploading.update(
                await database.reader.read(lambda c: [file for (file,) in c.execute("SELECT file FROM uploads")])
            )
        except BaseException:
            await database.close()
            raise
        return journal

    @property
    def broken(self) -> JournalError | None:
        """What its disk has done to it: no write is taken any more. None while all is well."""
        return self._database.broken

    async def order_by(self, order: Listed) -> None:
        """Let ``pending`` be asked for this order, and for no other but the listing's."""
        await self._database.write(lambda c: _order_by(c, order))

    async def close(self) -> None:
        """Finish what is queued and let go of the file. May be called twice."""
        await self._database.close()

    # --- passes and listing ---------------------------------------------------------------------------------------

    async def begin_pass(self, selection: str, kind: Kind = "full") -> bool:
        """Go on with the unfinished pass of the same kind over the same selection (True), or begin a new one (False).

        Going on, the files that had failed are pending again.

        A new full or quick pass forgets all cursors and holds every file that is not done for unseen until the listing
        meets it. In a new snapshot pass only what the last one could not list is to be listed, and every file that is
        not done is pending.
        """
        whole: Kind = "full" if kind == "first" else kind
        return await self._database.write(lambda c: begin_pass(c, selection, whole))

    async def record_page(
        self,
        directory: int,
        files: Sequence[FileStatus],
        subdirectories: Sequence[FileStatus],
        after: str | None,
        others: Sequence[FileStatus] = (),
        refused: Sequence[tuple[FileStatus, AsyncCopyError]] = (),
    ) -> PageCount:
        """Record one page of a directory's listing together with the cursor behind it.

        The entries lie in the directory itself, their paths relative to the source root; ``others`` are there but not
        selected. Those of the files that are ``refused`` have failed by that before they are tried. An empty
        directory is recorded by its own page, where ``files`` (or ``others``) holds its path with a
        final ``/`` ("" for the root). ``after`` None: this was the last page. What is known of the directory and was
        in none of its pages is gone then, a subdirectory with all that is below it; files of which an upload has begun
        wait, unseen, for ``finish_pass``.

        In a quick pass subdirectories that prove unchanged are not listed, see ``pages``.
        Raises NameRefused when a path is not valid Unicode, ValueError when one does not lie in the directory.
        """
        # here, because what fails in the writer fails for all who share its transaction
        _check_unicode([status.path for entries in (files, subdirectories, others) for status in entries])
        page = Page(directory, files, subdirectories, others, after, refused)
        answer: PageCount | Unmet = await self._unpacked(partial(record_page, page=page, swept=False))
        if isinstance(answer, PageCount):
            return answer
        for path in answer.directories:
            await self._remove_tree(path)
        for at in range(0, len(answer.files), BATCH):
            await self._database.write(partial(vanish, ids=answer.files[at : at + BATCH]))
        answer = await self._unpacked(partial(record_page, page=page, swept=True))
        assert isinstance(answer, PageCount)
        return answer

    async def record_files(self, files: Sequence[FileStatus]) -> PageCount:
        """The source has these files in these versions, wherever they lie: at most a few thousand at once.

        Their directories are made as needed, and are not to be listed. They and all above are not empty, so their
        markers vanish. A path with a final ``/`` is a marker itself. Raises NameRefused.
        """
        _check_unicode([status.path for status in files])
        return await self._unpacked(partial(record_files, files=files))

    async def list_again(self, paths: Sequence[str]) -> None:
        """These directories are to be listed in this pass, from their beginning, and what they then show below them.

        Raises NameRefused.
        """
        _check_unicode(paths)
        await self._database.write(lambda c: list_again(c, paths))

    async def remove(self, paths: Sequence[str]) -> None:
        """These files or directories are gone, directories with all that is below. What is not known is no error.

        In many transactions: interrupted, it is to be called again.
        """
        for at in range(0, len(paths), BATCH):
            for path in await self._unpacked(partial(remove_files, paths=paths[at : at + BATCH])):
                await self._remove_tree(path)

    async def _remove_tree(self, path: str) -> None:
        while await self._database.write(partial(remove_tree, path=path)):
            pass

    async def listing_done(self) -> None:
        """The pass has met everything that the selection holds."""
        await self._database.write(lambda c: c.execute("UPDATE job SET listing_done = 1").rowcount)

    async def finish_pass(self, complete: bool) -> None:
        """End the pass; the next ``begin_pass`` begins a new one.

        ``complete``: all that the pass had to look at was looked at. Only then are unseen rows removed, with the
        uploads that they have: abort those at the store first, see ``stale_uploads``.
        """
        while complete and await self._database.write(drop_unseen):
            pass

        def finish(connection: sqlite3.Connection) -> list[int]:
            connection.execute("UPDATE job SET finished_at = ?", (now(),))
            connection.execute(
                "DELETE FROM directories WHERE state = 3"
                " AND NOT EXISTS (SELECT 1 FROM files WHERE directory = directories.id)"
            )
            return [file for (file,) in connection.execute("SELECT file FROM uploads")]

        self._uploading.intersection_update(await self._database.write(finish))

    # --- packing --------------------------------------------------------------------------------------------------

    async def pack(self, limit: int = 1000, *, age: float = 3600.0) -> int:
        """Pack files that are done and at rest, about ``limit`` in one transaction: no answer changes but the space.

        ``age``: for so many seconds they must have been done. Answers how many were packed, 0 when the walk through all
        files has come to its end; the next call begins anew. May be called at any time, best after a pass and while a
        first one goes on. Interrupted, it is to be called again.
        """
        before = now() - int(age * 1000)
        while (after := self._looked_upto) is not None:
            async with self._packing:
                packed = await self._database.write(partial(pack_some, after=after, before=before, limit=limit))
            self._looked_upto = packed.upto
            if packed.files:
                return packed.files
        self._looked_upto = BEGINNING
        return 0

    async def _unpacked(self, work: Work[T | Unpack]) -> T:
        """Do the work; where it meets packs that it must not leave as they are, unpack those first."""
        answer = await self._database.write(work)
        if not isinstance(answer, Unpack):
            return answer
        async with self._packing:
            while isinstance(answer, Unpack):
                for pack in answer.packs:
                    await self._database.write(partial(unpack, pack=pack))
                answer = await self._database.write(work)
            return answer

    # --- history and facts ----------------------------------------------------------------------------------------

    async def note_pass(
        self,
        kind: Kind,
        started_at: int,
        outcome: str,
        *,
        copied: int = 0,
        copied_bytes: int = 0,
        failed: int = 0,
        deleted: int = 0,
        requests: int = 0,
    ) -> None:
        """Enter the pass that ends now into the history, of which the last thousand are kept; see ``passes``.

        What was listed is counted by the journal itself. ``started_at`` in ms.
        """
        row = (kind, started_at, now(), outcome, copied, copied_bytes, failed, deleted, requests)
        await self._database.write(lambda c: note_pass(c, row))

    async def remember(self, key: str, value: str) -> None:
        """A small fact that outlives this process, in place of a former one; see ``recall``."""
        statement = "INSERT OR REPLACE INTO facts (key, value) VALUES (?, ?)"
        await self._database.write(lambda c: c.execute(statement, (key, value)).rowcount)

    async def forget(self, key: str) -> None:
        """A fact holds no longer. One that is not there is no error."""
        await self._database.write(lambda c: c.execute("DELETE FROM facts WHERE key = ?", (key,)).rowcount)

    async def forget_revived(self) -> None:
        """Let go of the vanished files whose names are those of files that are done: their objects are replaced."""
        after: int | None = 0
        while after is not None:
            after = await self._database.write(partial(forget_revived, after=after))

    async def forget_gone(self, ids: Sequence[int]) -> None:
        """These of the vanished files are dealt with."""
        statement = "DELETE FROM gone WHERE id IN (VALUES {rows})"
        await self._database.write(lambda c: execute_values(c, statement, [(id,) for id in ids]))

    # --- one file -------------------------------------------------------------------------------------------------

    async def done(self, file_id: int, version: FileVersion, evidence: Evidence) -> bool:
        """The file is proven equal in this version; its upload is over.

        Returns False, and changes nothing, when the row is of another version by now, or gone.
        """
        proven = (evidence.method, evidence.source, evidence.object, evidence.etag, now())
        row = (file_id, version.length, version.modification_time, version.file_id, *proven)
        if file_id not in self._uploading:
            return await self._database.write_together(finish, row, hurry=False)
        applied = await self._database.write_together(finish_upload, row, hurry=False)
        if applied:
            self._uploading.discard(file_id)
        return applied

    async def failed(self, file_id: int, error_class: str, message: str, hint: str) -> None:
        """The file is given up in this pass; an upload that it has stays for the next. StillOpen is counted apart."""
        row = (error_class, message, hint, file_id)
        await self._database.write(lambda c: c.execute(_FAILED, row).rowcount)

    async def changed(self, file_id: int, status: FileStatus) -> None:
        """The source holds another version: pending again under the same id. An upload stays recorded."""
        await self._database.write(partial(changed, file_id=file_id, status=status))

    async def reopen(self, paths: Sequence[str] | None) -> None:
        """These files, or all, are not done after all: pending again, their evidence void."""
        if paths is not None:
            await self._unpacked(partial(reopen, paths=paths))
            return
        async with self._packing:
            while await self._database.write(unpack_one):
                pass
            await self._database.write(lambda c: c.execute(REOPEN).rowcount)

    async def retry_failed(self, error_class: str | None = None) -> int:
        """The failed files, of one class or of all, are pending again; answers how many."""
        return await self._database.write(lambda c: c.execute(RETRY, (error_class, error_class)).rowcount)

    async def vanished(self, file_id: int) -> None:
        """The source no longer has the file: it is gone, or waits for the end of its upload (``stale_uploads``)."""
        await self._database.write(partial(vanish, ids=[file_id]))

    # --- the part log of one file ---------------------------------------------------------------------------------

    async def upload(self, file_id: int) -> OpenUpload | None:
        """The upload that has begun for the file, with its finished parts; perhaps for a former version."""
        if file_id not in self._uploading:
            return None
        # Through the writer: a begin_upload whose caller was cancelled may still be queued, and must not be missed.
        return await self._database.write(lambda c: upload_of(c, file_id))

    async def begin_upload(self, file_id: int, upload: OpenUpload) -> None:
        """Record an upload before its first part is sent; it takes the place of a former one and its parts.

        Raises NotFound when the file has vanished meanwhile.
        """
        self._uploading.add(file_id)
        if not await self._database.write(lambda c: begin_upload(c, file_id, upload)):
            self._uploading.discard(file_id)
            raise NotFound("the file is not in the source any more")

    async def part_done(self, file_id: int, receipt: PartReceipt) -> None:
        """A part is at the store; it will not be sent again. The upload must have begun."""
        blocks = msgspec.msgpack.encode(receipt.blocks)
        values = (file_id, receipt.number, receipt.offset, receipt.size, receipt.etag, receipt.crc32c)
        await self._database.write(lambda c: c.execute(PART_DONE, (*values, blocks)).rowcount, hurry=False)

    async def drop_upload(self, file_id: int) -> None:
        """The upload is aborted or unknown to the store: forget it and its parts."""
        await self._database.write(lambda c: c.execute(DROP_UPLOAD, (file_id,)).rowcount)
        self._uploading.discard(file_id)


def _check_unicode(paths: Sequence[str]) -> None:
    try:
        "".join(paths).encode()
    except UnicodeEncodeError:
        bad = next(path for path in paths if _SURROGATE.search(path))
        raise NameRefused(f"the name {bad!r} is not valid Unicode") from None


def _begin_job(connection: sqlite3.Connection, source: str, destination: str) -> None:
    for statement in FINISHED:
        connection.execute(statement)
    connection.execute("INSERT OR IGNORE INTO job (id, source, destination) VALUES (1, ?, ?)", (source, destination))


def _order_by(connection: sqlite3.Connection, order: Listed) -> None:
    for other in ORDERS.keys() - {order}:
        connection.execute(f"DROP INDEX IF EXISTS files_{other}")
    if order in ORDERS:
        connection.execute(
            f"CREATE INDEX IF NOT EXISTS files_{order} ON files (state, {ORDERS[order]}) WHERE state <> 1"
        )
