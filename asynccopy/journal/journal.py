"""The journal of one job: the queue of what is to be copied, and the truth about what was."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path

import msgspec

from asynccopy.errors import JournalError, NameRefused, UsageError
from asynccopy.journal.database import Database
from asynccopy.journal.reading import JournalReader
from asynccopy.journal.rows import PageCount
from asynccopy.journal.sqlite import by_powers, execute_values, with_values
from asynccopy.model import BlockDigest, Evidence, FileStatus, FileVersion, OpenUpload, PartReceipt

# A file met again: done and unchanged stays as it is; all else is to be copied, and older evidence is void.
_MEET_FILE = """
INSERT INTO files (directory, name, length, modification_time, file_id, block_size) VALUES {rows}
ON CONFLICT (directory, name) DO UPDATE SET
    length = excluded.length, modification_time = excluded.modification_time, file_id = excluded.file_id,
    block_size = excluded.block_size, state = 0, method = '', source_checksum = '', object_checksum = '', etag = '',
    done_at = 0, error_class = '', error = '', hint = ''
WHERE state <> 1 OR length <> excluded.length OR modification_time <> excluded.modification_time
    OR file_id <> excluded.file_id
"""
_DONE_BEFORE = """
SELECT name, length, modification_time, file_id FROM files WHERE directory = ? AND name IN (VALUES {rows}) AND state = 1
"""
_CHANGED = """
UPDATE files SET length = ?, modification_time = ?, file_id = ?, block_size = ?, state = 0, method = '',
    source_checksum = '', object_checksum = '', etag = '', done_at = 0, error_class = '', error = '', hint = ''
WHERE id = ?
"""
_REOPEN = """
UPDATE files SET state = 0, method = '', source_checksum = '', object_checksum = '', etag = '', done_at = 0
WHERE state = 1"""
# Finished files go into a view by many rows a statement; UPDATE ... FROM would need SQLite 3.33.
_FINISHED = (
    """
CREATE TEMP VIEW finished AS
SELECT id, length, modification_time, file_id, method, source_checksum, object_checksum, etag, done_at FROM files
""",
    "CREATE TEMP TABLE missed (id, length, modification_time, file_id)",
    """
CREATE TEMP TRIGGER finish INSTEAD OF INSERT ON finished BEGIN
    UPDATE files SET state = 1, method = NEW.method, source_checksum = NEW.source_checksum,
        object_checksum = NEW.object_checksum, etag = NEW.etag, done_at = NEW.done_at,
        error_class = '', error = '', hint = ''
    WHERE id = NEW.id AND length = NEW.length AND modification_time = NEW.modification_time
        AND file_id = NEW.file_id;
    INSERT INTO missed SELECT NEW.id, NEW.length, NEW.modification_time, NEW.file_id WHERE changes() = 0;
END
""",
)
_FINISH = "INSERT INTO finished VALUES {rows}"
_FAILED = "UPDATE files SET state = 2, error_class = ?, error = ?, hint = ? WHERE id = ?"
# Within a pass a directory is listed once: only one that this pass has not met becomes pending.
_MEET_DIRECTORY = """
INSERT INTO directories (path, first_pass) VALUES (?, (SELECT pass_number FROM job))
ON CONFLICT (path) DO UPDATE SET state = 0, after = '' WHERE state = 3
"""
_BEGIN_PASS = """
UPDATE job SET pass_number = pass_number + 1, selection = ?, started_at = ?, listing_done = 0, finished_at = 0,
    listed_files = 0, listed_bytes = 0
"""
_UPLOAD = "SELECT upload_id, part_size, length, modification_time, file_id FROM uploads WHERE file = ?"
_PARTS = "SELECT number, offset, size, etag, crc32c, blocks FROM parts WHERE file = ? ORDER BY number"
_BEGIN_UPLOAD = """
INSERT INTO uploads (file, upload_id, part_size, length, modification_time, file_id) VALUES (?, ?, ?, ?, ?, ?)
"""
_DROP_UPLOAD = "DELETE FROM uploads WHERE file = ?"  # its parts go with it
_PART_DONE = """
INSERT OR REPLACE INTO parts (file, number, offset, size, etag, crc32c, blocks) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_Row = tuple[int, str, int, int, int, int]
"""directory, name, length, modification time, file id, block size"""
_Finished = tuple[int, int, int, int, str, str, str, str, int]
"""id, the version, the evidence, and when"""
_SURROGATE = re.compile("[\ud800-\udfff]")
_decode_blocks = msgspec.msgpack.Decoder(tuple[BlockDigest, ...]).decode


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

    @classmethod
    async def open(cls, path: Path, *, source: str, destination: str) -> Journal:
        """Open or create the journal of the job from ``source`` to ``destination``, for this process alone.

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
            journal._uploading.update(
                await database.reader.read(lambda c: [file for (file,) in c.execute("SELECT file FROM uploads")])
            )
        except BaseException:
            await database.close()
            raise
        return journal

    async def close(self) -> None:
        """Finish what is queued and let go of the file. May be called twice."""
        await self._database.close()

    # --- passes and listing ---------------------------------------------------------------------------------------

    async def begin_pass(self, selection: str) -> bool:
        """Go on with the unfinished pass over the same selection (True), or begin a new one (False).

        Going on, the files that had failed are pending again.

        A new pass forgets all cursors and holds every file that is not done for unseen until the listing meets it.
        """

        def begin(connection: sqlite3.Connection) -> bool:
            query = "SELECT pass_number > 0 AND finished_at = 0 AND selection = ? FROM job"
            if connection.execute(query, (selection,)).fetchone()[0]:
                connection.execute("UPDATE files SET state = 0 WHERE state = 2 AND state <> 1")
                return True
            connection.execute(_BEGIN_PASS, (selection, _now()))
            connection.execute("UPDATE files SET state = 3 WHERE state <> 1 AND state <> 3")
            connection.execute("UPDATE directories SET state = 3")
            connection.execute(_MEET_DIRECTORY, ("",))
            return False

        return await self._database.write(begin)

    async def record_page(
        self, directory: int, files: list[FileStatus], subdirectories: list[str], after: str | None
    ) -> PageCount:
        """Record one page of a directory's listing together with the cursor behind it.

        ``files`` and ``subdirectories`` lie in the directory itself, their paths relative to the source root. An empty
        directory is recorded by its own page, where ``files`` holds its path with a final ``/`` ("" for the root).
        ``after`` None: this was the last page.
        Raises NameRefused when a path is not valid Unicode, ValueError when one does not lie in the directory.
        """
        # here, because what fails in the writer fails for all who share its transaction
        _check_unicode([status.path for status in files])
        _check_unicode(subdirectories)
        return await self._database.write(lambda c: _record_page(c, directory, files, subdirectories, after))

    async def listing_done(self) -> None:
        """The pass has met everything that the selection holds."""
        await self._database.write(lambda c: c.execute("UPDATE job SET listing_done = 1").rowcount)

    async def finish_pass(self, complete: bool) -> None:
        """End the pass; the next ``begin_pass`` begins a new one.

        ``complete``: all of the selection was listed. Only then are unseen rows removed, with the uploads that they
        have: abort those at the store first, see ``stale_uploads``.
        """

        def finish(connection: sqlite3.Connection) -> list[int]:
            connection.execute("UPDATE job SET finished_at = ?", (_now(),))
            if complete:
                connection.execute("DELETE FROM files WHERE state <> 1 AND state = 3")
                connection.execute(
                    "DELETE FROM directories WHERE state = 3"
                    " AND NOT EXISTS (SELECT 1 FROM files WHERE directory = directories.id)"
                )
            return [file for (file,) in connection.execute("SELECT file FROM uploads")]

        self._uploading.intersection_update(await self._database.write(finish))

    # --- one file -------------------------------------------------------------------------------------------------

    async def done(self, file_id: int, version: FileVersion, evidence: Evidence) -> bool:
        """The file is proven equal in this version; its upload is over.

        Returns False, and changes nothing, when the row is of another version by now, or gone.
        """
        proven = (evidence.method, evidence.source, evidence.object, evidence.etag, _now())
        row = (file_id, version.length, version.modification_time, version.file_id, *proven)
        if file_id not in self._uploading:
            return await self._database.write_together(_finish, row, hurry=False)
        applied = await self._database.write_together(_finish_upload, row, hurry=False)
        if applied:
            self._uploading.discard(file_id)
        return applied

    async def failed(self, file_id: int, error_class: str, message: str, hint: str) -> None:
        """The file is given up in this pass; an upload that it has stays for the next."""
        row = (error_class, message, hint, file_id)
        await self._database.write(lambda c: c.execute(_FAILED, row).rowcount)

    async def changed(self, file_id: int, status: FileStatus) -> None:
        """The source holds another version: pending again under the same id. An upload stays recorded."""
        row = (status.length, status.modification_time, status.file_id, status.block_size, file_id)
        await self._database.write(lambda c: c.execute(_CHANGED, row).rowcount)

    async def reopen(self, file_ids: list[int] | None) -> None:
        """These files, or all, are not done after all: pending again, their evidence void."""
        where = "" if file_ids is None else f" AND id IN ({','.join(map(str, file_ids))})"
        await self._database.write(lambda c: c.execute(_REOPEN + where).rowcount)

    async def vanished(self, file_id: int) -> None:
        """The source no longer has the file: forget the row, and the upload that the caller has aborted."""
        await self._database.write(lambda c: c.execute("DELETE FROM files WHERE id = ?", (file_id,)).rowcount)
        self._uploading.discard(file_id)

    # --- the part log of one file ---------------------------------------------------------------------------------

    async def upload(self, file_id: int) -> OpenUpload | None:
        """The upload that has begun for the file, with its finished parts; perhaps for a former version."""
        if file_id not in self._uploading:
            return None
        # Through the writer: a begin_upload whose caller was cancelled may still be queued, and must not be missed.
        return await self._database.write(lambda c: _upload(c, file_id))

    async def begin_upload(self, file_id: int, upload: OpenUpload) -> None:
        """Record an upload before its first part is sent; it takes the place of a former one and its parts."""
        version = upload.version
        values = (file_id, upload.upload_id, upload.part_size)
        row = (*values, version.length, version.modification_time, version.file_id)

        def begin(connection: sqlite3.Connection) -> None:
            connection.execute(_DROP_UPLOAD, (file_id,))
            connection.execute(_BEGIN_UPLOAD, row)

        self._uploading.add(file_id)
        await self._database.write(begin)

    async def part_done(self, file_id: int, receipt: PartReceipt) -> None:
        """A part is at the store; it will not be sent again. The upload must have begun."""
        blocks = msgspec.msgpack.encode(receipt.blocks)
        values = (file_id, receipt.number, receipt.offset, receipt.size, receipt.etag, receipt.crc32c)
        await self._database.write(lambda c: c.execute(_PART_DONE, (*values, blocks)).rowcount, hurry=False)

    async def drop_upload(self, file_id: int) -> None:
        """The upload is aborted or unknown to the store: forget it and its parts."""
        await self._database.write(lambda c: c.execute(_DROP_UPLOAD, (file_id,)).rowcount)
        self._uploading.discard(file_id)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _check_unicode(paths: list[str]) -> None:
    try:
        "".join(paths).encode()
    except UnicodeEncodeError:
        bad = next(path for path in paths if _SURROGATE.search(path))
        raise NameRefused(f"the name {bad!r} is not valid Unicode") from None


def _begin_job(connection: sqlite3.Connection, source: str, destination: str) -> None:
    for statement in _FINISHED:
        connection.execute(statement)
    connection.execute("INSERT OR IGNORE INTO job (id, source, destination) VALUES (1, ?, ?)", (source, destination))


def _finish(connection: sqlite3.Connection, rows: list[_Finished]) -> list[bool]:
    """Whether each row still was of its version."""
    execute_values(connection, _FINISH, rows)
    missed = set(connection.execute("SELECT * FROM missed"))
    if not missed:
        return [True] * len(rows)
    connection.execute("DELETE FROM missed")
    return [row[:4] not in missed for row in rows]


def _finish_upload(connection: sqlite3.Connection, rows: list[_Finished]) -> list[bool]:
    applied = _finish(connection, rows)
    connection.executemany(
        _DROP_UPLOAD, [row[:1] for row, was_applied in zip(rows, applied, strict=True) if was_applied]
    )
    return applied


def _record_page(
    connection: sqlite3.Connection,
    directory: int,
    files: list[FileStatus],
    subdirectories: list[str],
    after: str | None,
) -> PageCount:
    query = "SELECT path, first_pass < (SELECT pass_number FROM job) FROM directories WHERE id = ?"
    found = connection.execute(query, (directory,)).fetchone()
    if found is None:
        raise JournalError(f"the journal has no directory {directory}")
    path, is_known = found
    prefix = f"{path}/" if path else ""
    rows = [
        (directory, _name(prefix, file.path), file.length, file.modification_time, file.file_id, file.block_size)
        for file in files
    ]
    done = _done_before(connection, directory, rows) if is_known else set()
    unchanged = [row for row in rows if row[1:5] in done] if done else []
    execute_values(connection, _MEET_FILE, [row for row in rows if row[1:5] not in done] if done else rows)
    connection.executemany(_MEET_DIRECTORY, [(prefix + _name(prefix, child),) for child in subdirectories])
    if after is None:
        connection.execute("UPDATE directories SET state = 1, after = '' WHERE id = ?", (directory,))
    else:
        connection.execute("UPDATE directories SET after = ? WHERE id = ?", (after, directory))
    count = sum(bool(row[1]) for row in rows)  # the marker of an empty directory is no file
    size = sum(file.length for file in files)
    connection.execute("UPDATE job SET listed_files = listed_files + ?, listed_bytes = listed_bytes + ?", (count, size))
    return PageCount(count, size, sum(bool(row[1]) for row in unchanged), sum(row[2] for row in unchanged))


def _done_before(connection: sqlite3.Connection, directory: int, rows: list[_Row]) -> set[tuple[str, int, int, int]]:
    """Names and versions of the page's files that are done, in the version that is done."""
    done: set[tuple[str, int, int, int]] = set()
    for some in by_powers(rows):
        query = with_values(_DONE_BEFORE, len(some), 1)
        done.update(connection.execute(query, (directory, *(row[1] for row in some))))
    return done


def _name(prefix: str, path: str) -> str:
    """The last component, "" for the marker of the directory itself."""
    name = path[len(prefix) :]
    if "/" in name or not path.startswith(prefix):
        raise ValueError(f"{path!r} does not lie in {prefix!r}")
    return name


def _upload(connection: sqlite3.Connection, file_id: int) -> OpenUpload | None:
    found = connection.execute(_UPLOAD, (file_id,)).fetchone()
    if found is None:
        return None
    upload_id, part_size, *version = found
    parts = tuple(
        PartReceipt(number, offset, size, etag, crc32c, _decode_blocks(blocks))
        for number, offset, size, etag, crc32c, blocks in connection.execute(_PARTS, (file_id,))
    )
    return OpenUpload(upload_id, part_size, FileVersion(*version), parts)
