"""Questions to a journal. They see what is committed, take no lock, and so work while another process copies."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from asynccopy.errors import JournalError
from asynccopy.journal.database import Reader
from asynccopy.journal.rows import Directory, Failure, JobState, LedgerRow, PendingFile, Totals
from asynccopy.model import FileState, FileStatus

LEDGER_PAGE = 1000

_JOB = """
SELECT source, destination, pass_number, selection, started_at, listing_done, finished_at, listed_files, listed_bytes
FROM job
"""
# INDEXED BY: should the index not serve the query any more, that must fail a test and not become a walk over all files.
_PENDING = """
SELECT f.id, d.path, f.name, f.length, f.modification_time, f.file_id, f.block_size
FROM files AS f INDEXED BY files_not_done CROSS JOIN directories AS d ON d.id = f.directory
WHERE f.state = 0 AND f.state <> 1 AND f.id > ? ORDER BY f.id LIMIT ?
"""
_SOME_DONE = """
SELECT f.id, d.path, f.name, f.length, f.modification_time, f.file_id, f.block_size
FROM files AS f CROSS JOIN directories AS d ON d.id = f.directory WHERE f.state = 1 ORDER BY f.id LIMIT ?
"""
_FAILURES = """
SELECT d.path, f.name, f.error_class, f.error, f.hint
FROM files AS f INDEXED BY files_not_done CROSS JOIN directories AS d ON d.id = f.directory
WHERE f.state = 2 AND f.state <> 1 ORDER BY f.id LIMIT ?
"""
_UPLOADS = """
SELECT d.path, f.name, u.upload_id
FROM uploads AS u CROSS JOIN files AS f ON f.id = u.file CROSS JOIN directories AS d ON d.id = f.directory
WHERE f.state = 3 OR NOT ? ORDER BY f.id
"""
_LEDGER = """
SELECT f.id, d.path, f.name, f.state, f.length, f.modification_time, f.file_id,
       f.method, f.source_checksum, f.object_checksum, f.etag, f.done_at, f.error_class, f.error, f.hint
FROM files AS f CROSS JOIN directories AS d ON d.id = f.directory
WHERE f.id > ? ORDER BY f.id LIMIT ?
"""
_ROW = """
SELECT f.state, f.length, f.modification_time, f.file_id,
       f.method, f.source_checksum, f.object_checksum, f.etag, f.done_at, f.error_class, f.error, f.hint
FROM directories AS d CROSS JOIN files AS f ON f.directory = d.id AND f.name = ?
WHERE d.path = ?
"""


def join(directory: str, name: str) -> str:
    """The path of a row; the name "" is the directory itself, as the marker that it is empty."""
    return f"{directory}/{name}" if directory else name


class JournalReader:
    """The journal as others may see it. Every method may raise JournalError."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @staticmethod
    async def read(path: Path) -> JournalReader:
        """Open an existing journal to read only, also while its own process writes it.

        Raises UsageError (there is none), JournalDamaged, JournalError.
        """
        return JournalReader(await Reader.open(path))

    async def close(self) -> None:
        await self._reader.close()

    async def state(self) -> JobState:
        def ask(connection: sqlite3.Connection) -> JobState:
            row = connection.execute(_JOB).fetchone()
            if row is None:
                raise JournalError("the journal has no job yet: its first run ended before it began")
            source, destination, number, selection, started, listed, *rest = row
            return JobState(source, destination, number, selection, started, bool(listed), *rest)

        return await self._reader.read(ask)

    async def totals(self) -> Totals:
        """Files and bytes per state; costs the same for ten files and for ten million."""

        def ask(connection: sqlite3.Connection) -> Totals:
            counts = {state: (files, size) for state, files, size in connection.execute("SELECT * FROM counts")}
            order = (FileState.PENDING, FileState.DONE, FileState.FAILED, FileState.UNSEEN)
            return Totals(*(number for state in order for number in counts[state]))

        return await self._reader.read(ask)

    async def pending_directories(self, limit: int) -> list[Directory]:
        """The directories still to be listed, those whose listing has begun included."""
        query = "SELECT id, path, after FROM directories WHERE state = 0 ORDER BY id LIMIT ?"
        return await self._reader.read(lambda c: [Directory(*row) for row in c.execute(query, (limit,))])

    async def pending(self, after_id: int, limit: int) -> list[PendingFile]:
        """The files to copy whose id follows ``after_id``, by id.

        A file that an earlier pass knew keeps its id. So while a listing goes on, or after ``Journal.changed``, pending
        files may lie before ``after_id``: begin at 0 again when this answers with nothing.
        """

        def ask(connection: sqlite3.Connection) -> list[PendingFile]:
            return [
                PendingFile(id, FileStatus(join(directory, name), length, time, file_id, not name, block_size))
                for id, directory, name, length, time, file_id, block_size in connection.execute(
                    _PENDING, (after_id, limit)
                )
            ]

        return await self._reader.read(ask)

    async def some_done(self, limit: int) -> list[PendingFile]:
        """A few files that are done, the first ones met."""

        def ask(connection: sqlite3.Connection) -> list[PendingFile]:
            return [
                PendingFile(id, FileStatus(join(directory, name), length, time, file_id, not name, block_size))
                for id, directory, name, length, time, file_id, block_size in connection.execute(_SOME_DONE, (limit,))
            ]

        return await self._reader.read(ask)

    async def failures(self, limit: int) -> list[Failure]:
        """The files that were given up, by id."""
        return await self._reader.read(
            lambda c: [Failure(join(directory, name), *row) for directory, name, *row in c.execute(_FAILURES, (limit,))]
        )

    async def open_uploads(self) -> list[tuple[str, str]]:
        """(path, upload id) of every upload that has begun and not ended."""
        return await self._uploads(stale=False)

    async def stale_uploads(self) -> list[tuple[str, str]]:
        """(path, upload id) of the uploads of unseen files: nobody will finish them."""
        return await self._uploads(stale=True)

    async def _uploads(self, *, stale: bool) -> list[tuple[str, str]]:
        return await self._reader.read(
            lambda c: [(join(directory, name), upload) for directory, name, upload in c.execute(_UPLOADS, (stale,))]
        )

    async def row(self, path: str) -> LedgerRow | None:
        """What is known of one file; None when it was never met. A path that ends in ``/`` is an empty directory's."""
        directory, _, name = path.rpartition("/")

        def ask(connection: sqlite3.Connection) -> LedgerRow | None:
            found = connection.execute(_ROW, (name, directory)).fetchone()
            return None if found is None else LedgerRow(path, FileState(found[0]), *found[1:])

        return await self._reader.read(ask)

    async def ledger(self) -> AsyncIterator[LedgerRow]:
        """Every file, by id, in bounded memory.

        Each thousand rows are one short read, so that a long export holds up no checkpoint; what changes meanwhile may
        show in either state.
        """
        after = 0
        while rows := await self._reader.read(partial(_ledger_page, after=after)):
            for _, row in rows:
                yield row
            after = rows[-1][0]


def _ledger_page(connection: sqlite3.Connection, after: int) -> list[tuple[int, LedgerRow]]:
    return [
        (id, LedgerRow(join(directory, name), FileState(state), *rest))
        for id, directory, name, state, *rest in connection.execute(_LEDGER, (after, LEDGER_PAGE))
    ]
