"""What becomes of one file: done, changed, done no more. Statements for the writer thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from asynccopy.journal.attributes import kept
from asynccopy.journal.packed import Unpack, packs_of
from asynccopy.journal.sqlite import execute_values
from asynccopy.journal.uploads import DROP_UPLOAD
from asynccopy.model import FileStatus

_CHANGED = """
UPDATE files SET length = ?, modification_time = ?, file_id = ?, block_size = ?, attributes = ?, access_time = ?,
    state = 0, method = '', source_checksum = '', object_checksum = '', done_at = 0, error_class = '', error = '',
    hint = ''
WHERE id = ?
"""
REOPEN = """
UPDATE files SET state = 0, method = '', source_checksum = '', object_checksum = '', etag = '', done_at = 0
WHERE state = 1
"""
_OF_PATH = "AND directory = (SELECT id FROM directories WHERE path = ?) AND name = ?"
# Finished files go into a view by many rows a statement; UPDATE ... FROM would need SQLite 3.33.
FINISHED = (
    """
CREATE TEMP VIEW finished AS
SELECT id, length, modification_time, file_id, method, source_checksum, object_checksum, etag, done_at FROM files
""",
    "CREATE TEMP TABLE missed (id, length, modification_time, file_id)",
    """
CREATE TEMP TRIGGER finish INSTEAD OF INSERT ON finished BEGIN
    UPDATE files SET state = 1, method = NEW.method, source_checksum = NEW.source_checksum,
        object_checksum = NEW.object_checksum, etag = NEW.etag, done_at = NEW.done_at,
        error_class = '', error = '', hint = '', attributes = 0, access_time = 0
    WHERE id = NEW.id AND length = NEW.length AND modification_time = NEW.modification_time
        AND file_id = NEW.file_id;
    INSERT INTO missed SELECT NEW.id, NEW.length, NEW.modification_time, NEW.file_id WHERE changes() = 0;
END
""",
)
_FINISH = "INSERT INTO finished VALUES {rows}"
Finished = tuple[int, int, int, int, str, str, str, str, int]
"""id, the version, the evidence, and when"""


def changed(connection: sqlite3.Connection, file_id: int, status: FileStatus) -> None:
    """See ``Journal.changed``."""
    (has,) = kept(connection, [status])
    version = (status.length, status.modification_time, status.file_id)
    connection.execute(_CHANGED, (*version, status.block_size, *has, file_id))


def reopen(connection: sqlite3.Connection, paths: Sequence[str]) -> Unpack | None:
    """See ``Journal.reopen``."""
    if packs := packs_of(connection, paths):
        return Unpack(packs)
    for directory, _, name in (path.rpartition("/") for path in paths):
        connection.execute(REOPEN + _OF_PATH, (directory, name))
    return None


def finish(connection: sqlite3.Connection, rows: list[Finished]) -> list[bool]:
    """Whether each row still was of its version."""
    execute_values(connection, _FINISH, rows)
    missed = set(connection.execute("SELECT * FROM missed"))
    if not missed:
        return [True] * len(rows)
    connection.execute("DELETE FROM missed")
    return [row[:4] not in missed for row in rows]


def finish_upload(connection: sqlite3.Connection, rows: list[Finished]) -> list[bool]:
    """The same of files that have uploads, which are over."""
    applied = finish(connection, rows)
    connection.executemany(
        DROP_UPLOAD, [row[:1] for row, was_applied in zip(rows, applied, strict=True) if was_applied]
    )
    return applied
