"""The door to sqlite3: connections, the schema, and its exceptions turned into ours. All of it blocks."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from asynccopy.errors import JournalDamaged, JournalError, JournalFull, JournalLocked, UsageError

T = TypeVar("T")

APPLICATION_ID = 0x61637079  # 'acpy'
_CACHE = "PRAGMA cache_size = -4096"  # 4 MB: more is no faster, because access follows the ids
_WRITER = (
    "PRAGMA synchronous = FULL",
    _CACHE,
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",  # no other disk than the journal's own can be full
)
_READER = ("PRAGMA query_only = ON", _CACHE)
_DISK = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_TOGETHER = 64
"""Rows by one statement; old releases of SQLite take 999 values."""
_FRESH = "move it aside and run the same command again: it begins with a fresh journal"


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the journal, created or migrated where needed. The caller holds the lock and used ``check`` before."""
    if not path.exists():
        os.close(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        )  # SQLite gives its side files the same mode
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _WRITER:
            connection.execute(pragma)
        _check_identity(path, connection)
        migrate(connection, migrations())
        # Only now: in a fresh file the schema must be in the file itself, not in a WAL that check() does not look at.
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise JournalError(
                f"the file system under {path} cannot share memory between processes, as the journal needs",
                hint="put the journal on a local disk",
            )
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises UsageError when there is no file, and what ``check`` raises."""
    if not path.exists():
        raise UsageError(f"there is no journal at {path}", hint="the first run of the copy or the daemon makes it")
    check(path)
    connection = sqlite3.connect(_uri(path, "mode=ro"), uri=True, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _READER:
            connection.execute(pragma)
        if _check_identity(path, connection) < len(migrations()):
            raise JournalDamaged(
                f"{path} is empty or comes from an older release",
                hint="let a copy open it once: that brings it up to date",
            )
    except BaseException:
        connection.close()
        raise
    return connection


def check(path: Path) -> None:
    """Refuse what is not a journal without touching it or anything beside it.

    ``immutable`` reads the file alone: no lock, no WAL, nothing created. (Not by open and read: closing any descriptor
    of the file would drop the locks that SQLite holds on it elsewhere in this process.) A write that was cut short
    leaves a file that only its WAL or rollback journal completes: that is for SQLite to recover, and not judged here.
    Raises JournalDamaged.
    """
    if not path.is_file():
        raise JournalDamaged(f"{path} is not a regular file", hint="name a file as the journal")
    if path.stat().st_size == 0:
        return
    try:
        with closing(sqlite3.connect(_uri(path, "mode=ro&immutable=1"), uri=True)) as connection:
            _check_identity(path, connection)
    except sqlite3.DatabaseError as error:
        unfinished = any(
            side.exists() and side.stat().st_size for side in (Path(f"{path}-wal"), Path(f"{path}-journal"))
        )
        if _code(error) != sqlite3.SQLITE_CORRUPT or not unfinished:
            raise


def execute_values(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    """Execute a statement for many rows, whose places it names by ``VALUES {rows}`` or ``IN (VALUES {rows})``.

    Half the CPU of ``executemany``, which lets go of the GIL and takes it again for every row.
    """
    for some in by_powers(rows):
        connection.execute(with_values(statement, len(some), len(some[0])), tuple(chain.from_iterable(some)))


def by_powers(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """The rows by 64, the rest by powers of two: so there are seven texts of a statement to prepare, and not 64."""
    at = 0
    while left := len(rows) - at:
        size = min(_TOGETHER, 1 << (left.bit_length() - 1))
        yield rows[at : at + size]
        at += size


@lru_cache(maxsize=128)
def with_values(statement: str, rows: int, width: int) -> str:
    """The statement with places for so many rows; the same object every time, by which sqlite3 finds it prepared."""
    row = f"({','.join('?' * width)})"
    return statement.format(rows=",".join([row] * rows))


def migrations() -> list[str]:
    """The migration scripts in order; the first leads from an empty database to version 1."""
    folder = files("asynccopy.journal") / "migrations"
    scripts = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [file.read_text(encoding="utf-8") for file in scripts]


def migrate(connection: sqlite3.Connection, scripts: list[str]) -> None:
    """Bring the schema up to date, each step whole or not at all."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(scripts[version:], version + 1):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{script}\n"
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}; COMMIT;"
            )
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    if version < len(scripts):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # an older release must see the new version in the file


def _check_identity(path: Path, connection: sqlite3.Connection) -> int:
    """The schema version. Raises JournalDamaged when the database is not ours, or newer than this release."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or objects):
        raise JournalDamaged(
            f"{path} is a database of another program, not a journal", hint="name another file as the journal"
        )
    if version > len(migrations()):
        raise JournalDamaged(
            f"{path} comes from a newer release (schema {version}, this release knows {len(migrations())})",
            hint="use that release, or another journal",
        )
    return int(version)


def _uri(path: Path, options: str) -> str:
    return f"file:{quote(str(path.absolute()))}?{options}"


def _code(error: BaseException) -> int:
    """SQLite's primary result code, 0 where the exception has none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def from_disk(error: BaseException) -> bool:
    """Whether the disk failed, so that what later calls report can no longer be believed.

    After a failed fsync the kernel may call the lost pages clean, and the next fsync "succeeds" (as PostgreSQL found).
    """
    return _code(error) in _DISK


def translated(path: Path, error: Exception) -> Exception:
    """The same trouble as one of our classes, naming the file; what SQLite or the disk did not raise stays itself."""
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return JournalFull(f"the disk under {path} is full")
        return JournalError(f"{path} cannot be used: {error.strerror}", hint="check the path and its permissions")
    if not isinstance(error, sqlite3.Error):
        return error
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return JournalFull(f"the disk under {path} is full")
        case sqlite3.SQLITE_CORRUPT:
            return JournalDamaged(f"{path} is damaged: {error}", hint=_FRESH)
        case sqlite3.SQLITE_NOTADB:
            return JournalDamaged(f"{path} is not a journal", hint="name another file as the journal")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return JournalLocked(f"{path} is locked by another program")
        case sqlite3.SQLITE_IOERR:
            return JournalError(f"{path}: {error}", hint="check the disk, its quota and the kernel log, then run again")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return JournalError(f"{path} cannot be used: {error}", hint="check the path and its permissions")
    return JournalError(f"{path}: {error}")


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Nothing of sqlite3 or the operating system comes out of this block."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise translated(path, error) from error
