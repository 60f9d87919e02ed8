"""Packs: files that are done and at rest, thousands to one row of ``packed``. Statements for both threads.

A file that proves unchanged stays in its pack, which is only read. What changes or vanishes is unpacked first, with all
of its pack, into the very rows that it was packed from; everything else in the journal knows rows only. Work that meets
packs it must not leave answers with ``Unpack`` and has changed nothing then; it is done again when they are unpacked,
pack by pack, each in a transaction of its own: so that nobody who waits for the writer waits long.

In a directory the packs part the names among themselves. New files join the pack of their names, and a pack that
has grown too large is cut in pieces.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from asynccopy.journal.columns import Known, Proof, pack_proofs, pack_versions, unpack_proofs, unpack_versions
from asynccopy.journal.sqlite import execute_values

FULL = 1000
"""Files in a pack at most. More would save less than a byte per file, and cost whoever looks for one of them."""
WORTH = 250
"""So many files at rest are packed, although others of their directory are not at rest."""
_SHARE = 50
"""Files join a pack only when they are this part of it: a pack is not written again for each of them."""
_STEP = 20
"""What a directory costs besides its files, counted as files."""

Key = tuple[int, str]
"""A file by the id of its directory and its name: the order of packs, of the ledger, and of ``pack``."""
BEGINNING: Key = (0, "")

_PACKS = "SELECT first, id, files FROM packed WHERE directory = ? ORDER BY first"
_VERSIONS = "SELECT versions FROM packed WHERE id = ?"
_ROWS = "SELECT directory, versions, proofs FROM packed WHERE id = ?"
_HOLDER = "SELECT id, versions, proofs FROM packed WHERE directory = ? AND first <= ? ORDER BY first DESC LIMIT 1"
_FROM = """
SELECT directory, versions, proofs FROM packed
WHERE (directory, first) >= (?, coalesce((SELECT max(first) FROM packed WHERE directory = ? AND first <= ?), ''))
ORDER BY directory, first
"""
_INTO_ROWS = """
INSERT INTO files (directory, id, name, length, modification_time, file_id, block_size,
    method, source_checksum, object_checksum, etag, done_at, state) VALUES {rows}
"""
_INTO_PACKS = "INSERT INTO packed (directory, first, files, bytes, versions, proofs) VALUES (?, ?, ?, ?, ?, ?)"

# The marker of a directory, which is mostly alone there, is never packed.
_NEXT = """
SELECT f.directory, d.state = 1, CASE d.path WHEN '' THEN '' ELSE d.path || '/' END
FROM files AS f CROSS JOIN directories AS d ON d.id = f.directory
WHERE (f.directory, f.name) > (?, ?) AND f.name > '' ORDER BY f.directory, f.name LIMIT 1
"""
_WINDOW = """
SELECT count(*), total(state = 1 AND done_at <= ? AND NOT EXISTS (SELECT 1 FROM uploads WHERE file = f.id)), max(name)
FROM (SELECT id, name, state, done_at FROM files WHERE directory = ? AND name > ? ORDER BY name LIMIT ?) AS f
"""
# A path in gone is never packed: whether it lives again is asked of the rows alone, see vanishing.
_AT_REST = """
SELECT id, name, length, modification_time, file_id, block_size,
    method, source_checksum, object_checksum, etag, done_at
FROM files AS f
WHERE directory = ? AND name > ? AND name <= ?
    AND state = 1 AND done_at <= ? AND NOT EXISTS (SELECT 1 FROM uploads WHERE file = f.id)
    AND NOT EXISTS (SELECT 1 FROM gone WHERE path = ? || f.name)
ORDER BY name
"""


class Unpack(NamedTuple):
    """These packs, by their ids, must be unpacked first."""

    packs: list[int]


class Packs:
    """The packs of one directory: where a name would be, and what they hold."""

    def __init__(self, connection: sqlite3.Connection, directory: int) -> None:
        self._connection = connection
        found = connection.execute(_PACKS, (directory,)).fetchall()
        self.firsts = [first for first, _, _ in found]
        self.ids = [id for _, id, _ in found]
        self.files = [files for _, _, files in found]

    def place(self, name: str) -> int:
        """The number of the pack of this name, whether it is in it or not; -1: it can be in none."""
        return bisect_right(self.firsts, name) - 1

    def versions(self, place: int) -> list[Known]:
        (packed,) = self._connection.execute(_VERSIONS, (self.ids[place],)).fetchone()
        return unpack_versions(packed)

    def find(self, names: Iterable[str]) -> dict[str, tuple[Known, int]]:
        """Those of the names that are packed, each with the id of its pack."""
        if not self.ids:
            return {}
        wanted = set(names)
        return {
            file.name: (file, self.ids[place])
            for place in {self.place(name) for name in wanted} - {-1}
            for file in self.versions(place)
            if file.name in wanted
        }

    def with_others_than(self, met: set[int]) -> set[int]:
        """The ids of the packs that hold a file that is not among these."""
        return {id for place, id in enumerate(self.ids) if any(file.id not in met for file in self.versions(place))}


def packs_of(connection: sqlite3.Connection, paths: Iterable[str]) -> list[int]:
    """The packs that hold one of these files."""
    places: dict[str, list[str]] = {}
    for path in paths:
        directory, _, name = path.rpartition("/")
        places.setdefault(directory, []).append(name)
    found: set[int] = set()
    for directory, names in places.items():
        for (id,) in connection.execute("SELECT id FROM directories WHERE path = ?", (directory,)):
            found.update(pack for _, pack in Packs(connection, id).find(names).values())
    return sorted(found)


def packed_row(connection: sqlite3.Connection, directory: int, name: str) -> tuple[Known, Proof] | None:
    """What is known of one file, if it is packed."""
    found = connection.execute(_HOLDER, (directory, name)).fetchone()
    if found is not None:
        _, versions, proofs = found
        for at, file in enumerate(unpack_versions(versions)):
            if file.name == name:
                return file, unpack_proofs(proofs)[at]
    return None


def packed_after(connection: sqlite3.Connection, after: Key) -> Iterator[tuple[Key, Known, Proof]]:
    """All that is packed behind this key, in order, pack by pack as it is asked for."""
    for directory, versions, proofs in connection.execute(_FROM, (after[0], *after)):
        for file, proof in zip(unpack_versions(versions), unpack_proofs(proofs), strict=True):
            if (directory, file.name) > after:
                yield (directory, file.name), file, proof


def unpack(connection: sqlite3.Connection, pack: int) -> None:
    """The files of a pack become rows again. One that is not there is no error."""
    directory, files = _taken(connection, pack)
    execute_values(connection, _INTO_ROWS, [(directory, *file, *proof, 1) for file, proof in files])


def _taken(connection: sqlite3.Connection, pack: int) -> tuple[int, list[tuple[Known, Proof]]]:
    """What a pack held, and of which directory."""
    found = connection.execute(_ROWS, (pack,)).fetchone()
    if found is None:
        return 0, []
    directory, versions, proofs = found
    connection.execute("DELETE FROM packed WHERE id = ?", (pack,))
    return directory, list(zip(unpack_versions(versions), unpack_proofs(proofs), strict=True))


def unpack_one(connection: sqlite3.Connection) -> bool:
    """One pack becomes rows again; False when there is none."""
    return _unpack_first(connection, "SELECT id FROM packed LIMIT 1")


def unpack_one_of(connection: sqlite3.Connection, directories: Sequence[int]) -> bool:
    """One pack of these directories becomes rows again; False when there is none."""
    query = "SELECT id FROM packed WHERE directory = ? LIMIT 1"
    return any(_unpack_first(connection, query, directory) for directory in directories)


def _unpack_first(connection: sqlite3.Connection, query: str, *values: int) -> bool:
    found = connection.execute(query, values).fetchone()
    if found is not None:
        unpack(connection, found[0])
    return found is not None


# --- packing ----------------------------------------------------------------------------------------------------------


class Packed(NamedTuple):
    """``files`` that were packed, and the key up to which was looked; None: nothing lies behind."""

    files: int
    upto: Key | None


def pack_some(connection: sqlite3.Connection, after: Key, before: int, limit: int) -> Packed:
    """Pack what is at rest behind a key: done before that time (ms), with no upload, in a directory not being listed.

    Ends when about ``limit`` files were looked at or written.
    """
    packed = 0
    while limit > 0:
        found = connection.execute(_NEXT, after).fetchone()
        if found is None:
            return Packed(packed, None)
        directory, is_listed, prefix = found
        if not is_listed:
            limit -= _STEP
            after = (directory + 1, "")
            continue
        start = after[1] if directory == after[0] else ""
        count, resting, last = connection.execute(_WINDOW, (before, directory, start, FULL)).fetchone()
        limit -= max(count, _STEP)
        if resting == count or resting >= WORTH:
            rows = connection.execute(_AT_REST, (directory, start, last, before, prefix)).fetchall()
            joined = _join_packs(connection, directory, rows, limit)
            packed += joined.files
            limit -= joined.rewritten
            last = joined.upto or last
        after = (directory, last)
    return Packed(packed, after)


class _Joined(NamedTuple):
    """``rewritten``: files of older packs that were packed again. ``upto``: the last name, where rows are left over."""

    files: int
    rewritten: int
    upto: str


def _join_packs(
    connection: sqlite3.Connection, directory: int, rows: Sequence[tuple[object, ...]], limit: int
) -> _Joined:
    """Rows, sorted by name, join the packs of their names, until more than ``limit`` files were packed again."""
    packs = Packs(connection, directory)
    joined = rewritten = 0
    for place, group in groupby(rows, lambda row: packs.place(str(row[1]))):
        files = [(Known._make(row[:6]), Proof._make(row[6:])) for row in group]
        last = files[-1][0].name
        if place >= 0 and len(files) * _SHARE < packs.files[place]:
            continue
        joined += len(files)
        execute_values(connection, "DELETE FROM files WHERE id IN (VALUES {rows})", [(file.id,) for file, _ in files])
        first = ""
        if place >= 0 and _follow(packs, place, files):
            first = files[0][0].name
        elif place >= 0:
            first = packs.firsts[place]
            _, older = _taken(connection, packs.ids[place])
            rewritten += len(older)
            files = sorted(files + older, key=lambda each: each[0].name)
        connection.executemany(_INTO_PACKS, _pieces(directory, first, files))
        if rewritten > limit:
            return _Joined(joined, rewritten, last)
    return _Joined(joined, rewritten, "")


def _follow(packs: Packs, place: int, files: Sequence[tuple[Known, Proof]]) -> bool:
    """Whether a pack is full, and these files all behind its last: they make another, and it stays as it is."""
    return packs.files[place] + len(files) > FULL and packs.versions(place)[-1].name < files[0][0].name


def _pieces(
    directory: int, first: str, files: Sequence[tuple[Known, Proof]]
) -> Iterator[tuple[int, str, int, int, bytes, bytes]]:
    """The packs that so many files make, of about one size."""
    count = -(-len(files) // FULL)
    size = -(-len(files) // count)
    for at in range(0, len(files), size):
        versions, proofs = zip(*files[at : at + size], strict=True)
        length = sum(file.length for file in versions)
        name = versions[0].name if at else first
        yield directory, name, len(versions), length, pack_versions(versions), pack_proofs(proofs)
