"""Questions to a journal. They see what is committed, take no lock, and so work while another process copies."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from heapq import merge
from itertools import islice
from operator import itemgetter
from pathlib import Path

from asynccopy.errors import JournalError
from asynccopy.journal.attributes import attributes_of
from asynccopy.journal.columns import Known, Proof, unpack_versions
from asynccopy.journal.database import Reader
from asynccopy.journal.packed import BEGINNING, Key, packed_after, packed_row
from asynccopy.journal.rows import (
    Directory,
    ErrorClass,
    Failure,
    FormerLife,
    GoneFile,
    JobState,
    LedgerRow,
    Listed,
    Pass,
    PendingFile,
    Stretch,
    Totals,
)
from asynccopy.journal.sqlite import by_powers, with_values
from asynccopy.journal.uploads import upload_of
from asynccopy.journal.vanishing import FILE, below
from asynccopy.model import Evidence, FileState, FileStatus, FileVersion, OpenUpload

LEDGER_PAGE = 1000
GONE, STILL_OPEN = 4, 5
"""Rows of the table ``counts`` that are no state."""

_JOB = """
SELECT source, destination, pass_number, selection, started_at, listing_done, finished_at, listed_files, listed_bytes,
    kind, listed_directories
FROM job
"""
# INDEXED BY: should the index not serve the query any more, that must fail a test and not become a walk over all files.
_PENDING = """
SELECT f.id, d.path, f.name, f.length, f.modification_time, f.file_id, f.block_size,
    f.access_time, a.owner, a."group", a.permission, a.replication
FROM files AS f INDEXED BY {index} CROSS JOIN directories AS d ON d.id = f.directory
    LEFT JOIN attributes AS a ON a.id = f.attributes
WHERE f.state = 0 AND f.state <> 1 AND f.id > ? ORDER BY {order}f.id LIMIT ?
"""
_PENDING_BETWEEN = _PENDING.format(index="files_not_done", order="").replace("f.id > ?", "f.id > ? AND f.id <= ?")
_PENDING_END = """
SELECT id FROM files INDEXED BY files_not_done WHERE state = 0 AND state <> 1 AND id > ? ORDER BY id {way} LIMIT 1
"""
ORDERS = {
    "oldest": "modification_time",
    "newest": "modification_time DESC",
    "smallest": "length",
    "largest": "length DESC",
}
"""What the index ``files_<order>`` sorts by."""
_SOME_PACKED = """
SELECT d.path, p.versions FROM packed AS p CROSS JOIN directories AS d ON d.id = p.directory ORDER BY p.id LIMIT ?
"""
_SOME_DONE = """
SELECT f.id, d.path, f.name, f.length, f.modification_time, f.file_id, f.block_size,
    f.access_time, a.owner, a."group", a.permission, a.replication
FROM files AS f CROSS JOIN directories AS d ON d.id = f.directory
    LEFT JOIN attributes AS a ON a.id = f.attributes
WHERE f.state = 1 ORDER BY f.id LIMIT ?
"""
_FAILURES = """
SELECT d.path, f.name, f.error_class, f.error, f.hint
FROM files AS f INDEXED BY files_not_done CROSS JOIN directories AS d ON d.id = f.directory
WHERE f.state = 2 AND f.state <> 1 AND (? IS NULL OR f.error_class = ?) ORDER BY f.id LIMIT ?
"""
# min() makes SQLite take the other columns from that very row.
_ERROR_CLASSES = """
SELECT e.error_class, e.files, e.hint, d.path, e.name, e.error
FROM (
    SELECT error_class, count(*) AS files, min(id), hint, directory, name, error
    FROM files INDEXED BY files_not_done WHERE state = 2 AND state <> 1 GROUP BY error_class
) AS e CROSS JOIN directories AS d ON d.id = e.directory
ORDER BY e.files DESC, e.error_class
"""
_GONE = """
SELECT id, path, length, modification_time, file_id, method, source_checksum, object_checksum, etag, gone_at,
    done_at
FROM gone
"""
_FORMER = """
SELECT path, length, modification_time, file_id, method, source_checksum, object_checksum, etag, done_at, until, why,
    error_class, error
FROM former WHERE path = ? ORDER BY id
"""
_GONE_AFTER = _GONE + "WHERE id > ? ORDER BY id LIMIT ?"
_GONE_OF = _GONE + "WHERE path = ? ORDER BY id"
_TWINS = _GONE + "WHERE file_id IN (VALUES {rows}) AND file_id <> 0 AND method <> '' ORDER BY id"
_IS_CHILDLESS = """
SELECT NOT EXISTS (SELECT 1 FROM directories WHERE path > ? AND path < ?) AND NOT EXISTS (
    SELECT 1 FROM directories AS d CROSS JOIN files AS f ON f.directory = d.id AND f.name > '' WHERE d.path = ?
) AND NOT EXISTS (
    SELECT 1 FROM directories AS d CROSS JOIN packed AS p ON p.directory = d.id WHERE d.path = ?
)
"""
_PASSES = """
SELECT number, kind, started_at, finished_at, outcome, directories, files, copied, bytes, failed, deleted, requests
FROM passes ORDER BY number DESC LIMIT ?
"""
_UPLOADS = """
SELECT d.path, f.name, u.upload_id
FROM uploads AS u CROSS JOIN files AS f ON f.id = u.file CROSS JOIN directories AS d ON d.id = f.directory
WHERE f.state = 3 OR NOT ? ORDER BY f.id
"""
_LEDGER = """
SELECT f.directory, f.name, f.state, f.length, f.modification_time, f.file_id,
       f.method, f.source_checksum, f.object_checksum, f.etag, f.done_at, f.error_class, f.error, f.hint
FROM files AS f WHERE (f.directory, f.name) > (?, ?) ORDER BY f.directory, f.name LIMIT ?
"""
_ROW = """
SELECT f.state, f.length, f.modification_time, f.file_id,
       f.method, f.source_checksum, f.object_checksum, f.etag, f.done_at, f.error_class, f.error, f.hint
FROM files AS f WHERE f.directory = ? AND f.name = ?
"""
_ID = "SELECT id FROM directories WHERE path = ?"
_PATH = "SELECT path FROM directories WHERE id = ?"


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
            open_files, open_bytes = counts[STILL_OPEN]
            failed, size = counts[FileState.FAILED]
            counts[FileState.FAILED] = failed - open_files, size - open_bytes
            order = (FileState.PENDING, FileState.DONE, FileState.FAILED, FileState.UNSEEN, STILL_OPEN)
            return Totals(*(number for state in order for number in counts[state]))

        return await self._reader.read(ask)

    async def pending_directories(self, limit: int) -> list[Directory]:
        """The directories still to be listed, those whose listing has begun included."""
        query = "SELECT id, path, after FROM directories WHERE state = 0 ORDER BY id LIMIT ?"
        return await self._reader.read(lambda c: [Directory(*row) for row in c.execute(query, (limit,))])

    async def pending(self, after_id: int, limit: int, order: Listed = "listing") -> list[PendingFile]:
        """The files to copy whose id follows ``after_id``, by id.

        A file that an earlier pass knew keeps its id. So while a listing goes on, or after ``Journal.changed``, pending
        files may lie before ``after_id``: begin at 0 again when this answers with nothing.

        In another ``order`` than the listing's, which the journal must have been opened with: the first of all pending
        files, whatever ``after_id``; equal ones by id.
        """
        if order == "listing":
            query = _PENDING.format(index="files_not_done", order="")
        else:
            query, after_id = _PENDING.format(index=f"files_{order}", order=f"f.{ORDERS[order]}, "), 0
        return await self._reader.read(lambda c: _pending(c, query, (after_id, limit)))

    async def pending_span(self, after_id: int) -> tuple[int, int] | None:
        """The lowest and the highest id of the files to copy whose ids follow ``after_id``."""

        def ask(connection: sqlite3.Connection) -> tuple[int, int] | None:
            # Two questions: asked for both at once, SQLite walks over all files.
            ends = [connection.execute(_PENDING_END.format(way=way), (after_id,)).fetchone() for way in ("", "DESC")]
            return (ends[0][0], ends[1][0]) if all(ends) else None

        return await self._reader.read(ask)

    async def pending_in(self, stretches: Sequence[Stretch], limit: int) -> list[list[PendingFile]]:
        """Of each stretch of ids the first ``limit`` files to copy."""
        return await self._reader.read(
            lambda c: [_pending(c, _PENDING_BETWEEN, (each.after, each.last, limit)) for each in stretches]
        )

    async def some_done(self, limit: int) -> list[PendingFile]:
        """A few files that are done."""
        return await self._reader.read(partial(_some_done, limit=limit))

    async def error_classes(self) -> list[ErrorClass]:
        """The classes of the failed files, the most frequent first. Costs what the failed files cost, not the done."""
        return await self._reader.read(
            lambda c: [
                ErrorClass(error_class, count, hint, join(directory, name), message)
                for error_class, count, hint, directory, name, message in c.execute(_ERROR_CLASSES)
            ]
        )

    async def failures(self, limit: int, error_class: str | None = None) -> list[Failure]:
        """The files that were given up, of one class or of all, by id."""
        values = (error_class, error_class, limit)
        return await self._reader.read(
            lambda c: [Failure(join(directory, name), *row) for directory, name, *row in c.execute(_FAILURES, values)]
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
        return await self._reader.read(partial(_row, path=path))

    async def upload_of(self, path: str) -> OpenUpload | None:
        """The upload that has begun for a file and not ended, with its finished parts."""

        def ask(connection: sqlite3.Connection) -> OpenUpload | None:
            directory, _, name = path.rpartition("/")
            found = connection.execute(FILE, (name, directory)).fetchone()
            return None if found is None else upload_of(connection, *found)

        return await self._reader.read(ask)

    async def is_childless(self, path: str) -> bool:
        """Whether nothing is known to lie in a directory; a marker that says so does not count."""
        return await self._reader.read(
            lambda c: bool(c.execute(_IS_CHILDLESS, (*below(path), path, path)).fetchone()[0])
        )

    # --- what the source has no longer ----------------------------------------------------------------------------

    async def gone(self, after_id: int, limit: int) -> list[GoneFile]:
        """The files that vanished, by id. A path may come more than once, and may live again: see ``row``."""
        return await self._reader.read(lambda c: [_gone(row) for row in c.execute(_GONE_AFTER, (after_id, limit))])

    async def gone_of(self, path: str) -> list[GoneFile]:
        """The former files of this path that vanished and are not dealt with yet, the oldest first."""
        return await self._reader.read(lambda c: [_gone(row) for row in c.execute(_GONE_OF, (path,))])

    async def former(self, path: str) -> list[FormerLife]:
        """What the file of this path was before and how it failed, the oldest first, as far as it is still kept."""
        return await self._reader.read(lambda c: [FormerLife(*row) for row in c.execute(_FORMER, (path,))])

    async def gone_count(self) -> tuple[int, int]:
        """Files and bytes among them of which an object is known; costs nothing."""
        query = "SELECT files, bytes FROM counts WHERE state = ?"
        files, size = await self._reader.read(lambda c: c.execute(query, (GONE,)).fetchone())
        return files, size

    async def gone_twins(self, versions: Sequence[FileVersion]) -> dict[FileVersion, GoneFile]:
        """For each version the proven file that vanished, of the same inode, length and time: it was renamed.

        The one that vanished last, should there be several; none for a source without inode numbers.
        """

        def ask(connection: sqlite3.Connection) -> dict[FileVersion, GoneFile]:
            wanted = set(versions)
            twins: dict[FileVersion, GoneFile] = {}
            for some in by_powers([version.file_id for version in wanted]):
                for row in connection.execute(with_values(_TWINS, len(some), 1), some):
                    file = _gone(row)
                    if file.version in wanted:
                        twins[file.version] = file
            return twins

        return await self._reader.read(ask)

    # --- facts and history ----------------------------------------------------------------------------------------

    async def recall(self, key: str) -> str | None:
        """What ``Journal.remember`` wrote last under this key, None when there is nothing."""
        found = await self._reader.read(lambda c: c.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone())
        return None if found is None else str(found[0])

    async def passes(self, limit: int) -> list[Pass]:
        """The last passes, the newest first; see ``Journal.note_pass``."""
        return await self._reader.read(lambda c: [Pass(*row) for row in c.execute(_PASSES, (limit,))])

    async def ledger(self) -> AsyncIterator[LedgerRow]:
        """Every file, in bounded memory: directory by directory as they were first met, by name within each.

        Each thousand rows are one short read, so that a long export holds up no checkpoint; what changes meanwhile may
        show in either state. No file that was there all along is missed or comes twice, packed or not.
        """
        after = BEGINNING
        while rows := await self._reader.read(partial(_ledger_page, after=after)):
            for _, row in rows:
                yield row
            after = rows[-1][0]


def _pending(connection: sqlite3.Connection, query: str, values: tuple[int, ...]) -> list[PendingFile]:
    return [
        PendingFile(
            id,
            FileStatus(join(directory, name), length, time, file_id, not name, block_size, attributes_of(attributes)),
        )
        for id, directory, name, length, time, file_id, block_size, *attributes in connection.execute(query, values)
    ]


def _gone(row: tuple[int, str, int, int, int, str, str, str, str, int, int]) -> GoneFile:
    id, path, length, time, file_id, *evidence, gone_at, done_at = row
    return GoneFile(id, path, FileVersion(length, time, file_id), Evidence(*evidence), gone_at, done_at)


def _some_done(connection: sqlite3.Connection, limit: int) -> list[PendingFile]:
    """Rather packed ones: where many rows are left to copy, those that are done are hard to find among them."""
    packed = (
        PendingFile(file.id, FileStatus(join(directory, file.name), *file[2:5], False, file.block_size))
        for directory, versions in connection.execute(_SOME_PACKED, (limit,))
        for file in unpack_versions(versions)
    )
    found = list(islice(packed, limit))
    return found if len(found) == limit else found + _pending(connection, _SOME_DONE, (limit - len(found),))


def _row(connection: sqlite3.Connection, path: str) -> LedgerRow | None:
    directory, _, name = path.rpartition("/")
    for (id,) in connection.execute(_ID, (directory,)):
        for state, *rest in connection.execute(_ROW, (id, name)):
            return LedgerRow(path, FileState(state), *rest)
        packed = packed_row(connection, id, name)
        if packed is not None:
            return _packed_row(path, *packed)
    return None


def _packed_row(path: str, file: Known, proof: Proof) -> LedgerRow:
    return LedgerRow(path, FileState.DONE, file.length, file.modification_time, file.file_id, *proof, "", "", "")


def _ledger_page(connection: sqlite3.Connection, after: Key) -> list[tuple[Key, LedgerRow]]:
    paths: dict[int, str] = {}

    def path(key: Key) -> str:
        directory, name = key
        if directory not in paths:
            (paths[directory],) = connection.execute(_PATH, (directory,)).fetchone()
        return join(paths[directory], name)

    def loose() -> Iterator[tuple[Key, LedgerRow]]:
        for directory, name, state, *rest in connection.execute(_LEDGER, (*after, LEDGER_PAGE)):
            key = (directory, name)
            yield key, LedgerRow(path(key), FileState(state), *rest)

    packed = ((key, _packed_row(path(key), file, proof)) for key, file, proof in packed_after(connection, after))
    return list(islice(merge(loose(), packed, key=itemgetter(0)), LEDGER_PAGE))
