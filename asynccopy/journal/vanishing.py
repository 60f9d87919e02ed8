"""What the source no longer has: from ``files`` to ``gone``. Statements for the writer thread, each call a small batch.

A file of which a multipart upload has begun waits, unseen, until its upload is aborted: ``drop_unseen`` takes it then.
A file that was never proven goes the same way as one that is done: an attempt may have left an object.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence

from asynccopy.journal.packed import Unpack, packs_of, unpack_one_of
from asynccopy.journal.sqlite import by_powers, with_values

BATCH = 1000
"""Files moved in one transaction, so that nobody who waits for the writer waits long."""

_TO_GONE = """
INSERT INTO gone (path, length, modification_time, file_id, method, source_checksum, object_checksum, etag, done_at,
    gone_at)
SELECT CASE d.path WHEN '' THEN f.name ELSE d.path || '/' || f.name END, f.length, f.modification_time, f.file_id,
    f.method, f.source_checksum, f.object_checksum, f.etag, f.done_at, ?
FROM files AS f CROSS JOIN directories AS d ON d.id = f.directory WHERE f.id IN (VALUES {rows})
"""
_ONLY_FREE = " AND NOT EXISTS (SELECT 1 FROM uploads WHERE file = f.id)"
# The error class of an unseen file that is known to be gone: the other unseen ones are only selected no longer.
_ONLY_VANISHED = " AND f.error_class = 'NotFound'"
_DROP_FREE = (
    "DELETE FROM files WHERE id IN (VALUES {rows}) AND NOT EXISTS (SELECT 1 FROM uploads WHERE file = files.id)"
)
_DROP = "DELETE FROM files WHERE id IN (VALUES {rows})"
_WAIT = "UPDATE files SET state = 3, error_class = 'NotFound' WHERE id IN (VALUES {rows})"
_UNSEEN = "SELECT id FROM files INDEXED BY files_not_done WHERE state = 3 AND state <> 1 LIMIT ?"

_BELOW = "SELECT id FROM directories WHERE path > ? AND path < ? AND state <> 3 ORDER BY path DESC LIMIT ?"
_ITSELF = "SELECT id FROM directories WHERE path = ? AND state <> 3"
_FILES_OF = """
SELECT id FROM files
WHERE directory IN (VALUES {rows})
    AND NOT (state = 3 AND error_class = 'NotFound' AND EXISTS (SELECT 1 FROM uploads WHERE file = files.id))
LIMIT ?
"""
_DROP_EMPTY = """
DELETE FROM directories
WHERE id IN (VALUES {rows}) AND NOT EXISTS (SELECT 1 FROM files WHERE directory = directories.id)
"""
_KEEP_WAITING = "UPDATE directories SET state = 3, after = '' WHERE id IN (VALUES {rows})"
FILE = """
SELECT f.id FROM directories AS d CROSS JOIN files AS f ON f.directory = d.id AND f.name = ? WHERE d.path = ?
"""
# SQLite splits a path at its last "/" by cutting from its end all characters that it has besides "/".
_REVIVED = """
DELETE FROM gone WHERE id > ? AND id <= ? AND EXISTS (
    SELECT 1 FROM directories AS d CROSS JOIN files AS f ON f.directory = d.id
        AND f.name = substr(gone.path, length(rtrim(gone.path, replace(gone.path, '/', ''))) + 1)
    WHERE d.path = rtrim(rtrim(gone.path, replace(gone.path, '/', '')), '/') AND f.state = 1
)
"""
_IS_TREE = "SELECT EXISTS (SELECT 1 FROM directories WHERE path = ? OR (path > ? AND path < ?))"
_NEXT = "SELECT path FROM directories WHERE path > ? AND path < ? ORDER BY path LIMIT 1"
_NEXT_FROM = "SELECT path FROM directories WHERE path >= ? AND path < ? ORDER BY path LIMIT 1"


def now() -> int:
    return time.time_ns() // 1_000_000


def below(directory: str) -> tuple[str, str | bytes]:
    """The paths below a directory lie between these two, both excluded. Every blob sorts behind every text."""
    return (f"{directory}/", f"{directory}0") if directory else ("", b"")  # "0" is what follows "/"


def vanish(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """The source has these files no longer."""
    for some in by_powers(ids):
        connection.execute(with_values(_TO_GONE + _ONLY_FREE, len(some), 1), (now(), *some))
        connection.execute(with_values(_DROP_FREE, len(some), 1), some)
        connection.execute(with_values(_WAIT, len(some), 1), some)


def drop_unseen(connection: sqlite3.Connection) -> bool:
    """Let go of a batch of unseen files, and of their uploads; False when there is none left."""
    ids = [file for (file,) in connection.execute(_UNSEEN, (BATCH,))]
    for some in by_powers(ids):
        connection.execute(with_values(_TO_GONE + _ONLY_VANISHED, len(some), 1), (now(), *some))
        connection.execute(with_values(_DROP, len(some), 1), some)
    return bool(ids)


def forget_revived(connection: sqlite3.Connection, after: int) -> int | None:
    """Of a batch of the vanished files behind an id, those go whose name a file has that is done (none such is packed).
    Answers where to go on, None at the end.
    """
    query = "SELECT max(id) FROM (SELECT id FROM gone WHERE id > ? ORDER BY id LIMIT ?)"
    (last,) = connection.execute(query, (after, BATCH)).fetchone()
    if last is not None:
        connection.execute(_REVIVED, (after, last))
    return None if last is None else int(last)


def remove_files(connection: sqlite3.Connection, paths: Sequence[str]) -> list[str] | Unpack:
    """The files of these paths vanish; answers those of the paths that are directories, for ``remove_tree``."""
    if packs := packs_of(connection, paths):
        return Unpack(packs)
    trees = []
    ids = []
    for path in paths:
        directory, _, name = path.rpartition("/")
        ids += [file for (file,) in connection.execute(FILE, (name, directory))]
        if connection.execute(_IS_TREE, (path, *below(path))).fetchone()[0]:
            trees.append(path)
    vanish(connection, ids)
    return trees


def remove_tree(connection: sqlite3.Connection, path: str) -> bool:
    """A batch of what lies in a directory vanishes, the deepest first, itself last; False when nothing is left."""
    found = connection.execute(_BELOW, (*below(path), 64)).fetchall() or connection.execute(_ITSELF, (path,)).fetchall()
    directories = [directory for (directory,) in found]
    if not directories:
        return False
    ids = _files_of(connection, directories)
    if len(ids) < BATCH and unpack_one_of(connection, directories):
        vanish(connection, _files_of(connection, directories))  # with it: so there is always less left
        return True
    vanish(connection, ids)
    if len(ids) < BATCH:  # that were all their files
        for some in by_powers(directories):
            connection.execute(with_values(_DROP_EMPTY, len(some), 1), some)
            connection.execute(with_values(_KEEP_WAITING, len(some), 1), some)
    return True


def _files_of(connection: sqlite3.Connection, directories: Sequence[int]) -> list[int]:
    ids: list[int] = []
    for some in by_powers(directories):
        query = with_values(_FILES_OF, len(some), 1)
        ids += [file for (file,) in connection.execute(query, (*some, BATCH - len(ids)))]
    return ids


def children(connection: sqlite3.Connection, directory: str) -> Iterator[str]:
    """The paths of the known directories directly in a directory, each by one or two steps in the index of paths."""
    at, end = below(directory)
    start = len(at)
    query = _NEXT
    while (found := connection.execute(query, (at, end)).fetchone()) is not None:
        (path,) = found
        child, _, deeper = path[start:].partition("/")
        if deeper:  # leap over all that is below this child
            at, query = f"{path[:start]}{child}0", _NEXT_FROM
        else:
            yield path
            at, query = path, _NEXT
