"""What a look at the source brings into the journal: pages of a listing, or single files. For the writer thread.

What lies in a directory is compared with what is known of it when its last page comes, by all that its pages have
shown. It is not compared page by page by intervals of names: sources list in different orders (HDFS by signed bytes),
and a cursor need not be a name.

A quick pass passes over a directory that its parent shows with the modification time and inode it was known by, if
that is settled, if it is a leaf, and if nothing of it is left to copy. That is safe for names that came or went: each
sets the directory's time to the clock's, and one that came after the directory was listed finds a clock that has gone
on, because the same time had been seen in a pass before already (``settled``): neither the same millisecond nor a
clock that was put back by less than the time between two passes hides it. It is not safe for appends: writing to a file
that is there, and closing it, leaves its directory's time alone in HDFS. Those are found by full passes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from asynccopy.errors import AsyncCopyError
from asynccopy.journal.attributes import kept
from asynccopy.journal.columns import Known
from asynccopy.journal.packed import Packs, Unpack, packs_of
from asynccopy.journal.rows import PageCount
from asynccopy.journal.sqlite import by_powers, execute_values, with_values
from asynccopy.journal.vanishing import BATCH, children, vanish
from asynccopy.model import FileStatus

# A file met again: done and unchanged stays as it is; all else is to be copied, and older evidence is void. The ETag
# stays: should the file vanish before it is copied, it tells which object is left.
_MEET_FILE = """
INSERT INTO files (directory, name, length, modification_time, file_id, block_size, attributes, access_time)
VALUES {rows}
ON CONFLICT (directory, name) DO UPDATE SET
    length = excluded.length, modification_time = excluded.modification_time, file_id = excluded.file_id,
    block_size = excluded.block_size, attributes = excluded.attributes, access_time = excluded.access_time, state = 0,
    method = '', source_checksum = '', object_checksum = '', done_at = 0, error_class = '', error = '', hint = ''
WHERE state <> 1 OR length <> excluded.length OR modification_time <> excluded.modification_time
    OR file_id <> excluded.file_id
"""
_DONE_BEFORE = """
SELECT name, length, modification_time, file_id FROM files WHERE directory = ? AND name IN (VALUES {rows}) AND state = 1
"""
_IDS = "SELECT id FROM files WHERE directory = ? AND name IN (VALUES {rows})"
_DIRECTORY = """
SELECT d.path, d.first_pass < j.pass_number, d.pass = j.pass_number AND d.first_pass < d.pass, d.after = '',
    d.settled, d.leaf, d.files, d.bytes, j.pass_number, j.kind = 'quick'
FROM directories AS d, job AS j WHERE d.id = ?
"""
# Within a pass a directory is listed once.
_MEET_DIRECTORY = """
INSERT INTO directories (path, modification_time, file_id, first_pass, pass) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET
    state = 0, after = '', pass = excluded.pass, modification_time = excluded.modification_time,
    file_id = excluded.file_id, settled = excluded.modification_time > 0
        AND modification_time = excluded.modification_time AND file_id = excluded.file_id
WHERE pass < excluded.pass
"""
_PASSED_OVER = """
SELECT path, modification_time, file_id, files, bytes FROM directories
WHERE pass < ? AND settled = 2 AND leaf = 1 AND path IN (VALUES {rows})
"""
_REFUSED = """
UPDATE files SET state = 2, error_class = ?, error = ?, hint = ? WHERE directory = ? AND name = ? AND state = 0
"""
_LISTED = """
UPDATE directories SET state = ?, after = ?, settled = ?, leaf = ?, files = ?, bytes = ? WHERE id = ?
"""
_COUNT = """
UPDATE job SET listed_directories = listed_directories + ?, listed_files = listed_files + ?,
    listed_bytes = listed_bytes + ?
"""
# Not of this pass: a listing that meets it must still list it.
_PLACE = "INSERT INTO directories (path, state, first_pass, pass) VALUES (?, 1, ?, 0)"
_LIST_AGAIN = """
INSERT INTO directories (path, first_pass, pass) VALUES (?, ?, ?)
ON CONFLICT (path) DO UPDATE SET state = 0, after = '', settled = 0, pass = excluded.pass
"""
_Row = tuple[int, str, int, int, int, int, int, int]
"""directory, name, length, modification time, file id, block size, attributes, access time"""
_Version = tuple[str, int, int, int]
"""name, length, modification time, file id"""
_decode_ids = msgspec.msgpack.Decoder(list[int]).decode
_decode_paths = msgspec.msgpack.Decoder(list[str]).decode


class Page(NamedTuple):
    """One page of a directory's listing, see ``Journal.record_page``."""

    directory: int
    files: Sequence[FileStatus]
    subdirectories: Sequence[FileStatus]
    others: Sequence[FileStatus]
    after: str | None
    refused: Sequence[tuple[FileStatus, AsyncCopyError]] = ()


class Unmet(NamedTuple):
    """What is known of a directory, and was in none of its pages: ids of files, of packs that hold others, and paths of
    directories.
    """

    files: list[int]
    packs: set[int]
    directories: list[str]


class _Known(NamedTuple):
    """The directory of a page. ``compared``: this pass listed it from the beginning, and there may be older rows."""

    path: str
    before: bool
    compared: bool
    begins: bool
    settled: int
    leaf: int
    files: int
    bytes: int
    number: int
    quick: bool


class _Look(NamedTuple):
    """A page beside what is known. ``names``: of all its files, selected or not. ``done``: name and version of its
    files that are done, in the version that is. ``packed``: those of its names that are, each with its pack.
    """

    page: Page
    known: _Known
    names: list[str]
    done: set[_Version]
    packs: Packs
    packed: dict[str, tuple[Known, int]]


def record_page(connection: sqlite3.Connection, page: Page, *, swept: bool) -> PageCount | Unmet | Unpack:
    """Record a page. Answers, with nothing recorded, which packs it must not leave as they are; or what is unmet where
    that is more than one transaction should hold: it is to be removed first, and the page recorded again, ``swept``.
    """
    found = connection.execute(_DIRECTORY, (page.directory,)).fetchone()
    if found is None:  # removed meanwhile, with all that is below
        return PageCount(0, 0, 0, 0)
    known = _Known(*found)
    prefix = f"{known.path}/" if known.path else ""
    rows = _rows(connection, page.directory, prefix, page.files)
    look = _look(connection, page, known, prefix, rows)
    done = look.done
    changed = _changed(look.packed, rows)
    if known.compared and page.after is None:
        unmet = _unmet(connection, look)
        if changed := changed | unmet.packs:
            return Unpack(sorted(changed))
        if not swept and (unmet.directories or len(unmet.files) > BATCH):
            return unmet
        vanish(connection, unmet.files)
    elif changed:
        return Unpack(sorted(changed))
    unchanged = [row for row in rows if row[1:5] in done] if done else []
    execute_values(connection, _MEET_FILE, [row for row in rows if row[1:5] not in done] if done else rows)
    connection.executemany(_REFUSED, _refusals(page))
    passed_over = _meet_directories(connection, page.subdirectories, known)
    if known.compared and page.after is not None:
        _note_met(connection, look)
    count = sum(bool(row[1]) for row in rows)  # the marker of an empty directory is no file
    size = sum(file.length for file in page.files)
    _go_on(connection, page, known, count, size)
    same, same_size = (sum(of) for of in zip((0, 0), *passed_over, strict=True))
    connection.execute(_COUNT, (page.after is None, count + same, size + same_size))
    return PageCount(
        count + same,
        size + same_size,
        sum(bool(row[1]) for row in unchanged) + same,
        sum(row[2] for row in unchanged) + same_size,
    )


def record_files(connection: sqlite3.Connection, files: Sequence[FileStatus]) -> PageCount | Unpack:
    """Record single files, wherever they lie."""
    if packs := packs_of(connection, [file.path for file in files]):
        return Unpack(packs)
    number = _number(connection)
    places: dict[str, int] = {}
    by_place: dict[int, list[_Row]] = {}
    for file in files:
        path = file.path.rpartition("/")[0]
        place = _place(connection, path, number, places, is_parent=not file.path.endswith("/"))
        by_place.setdefault(place, []).extend(_rows(connection, place, f"{path}/" if path else "", [file]))
    unchanged = []
    for place, rows in by_place.items():
        done = _done_before(connection, place, rows)
        unchanged += [row for row in rows if row[1:5] in done]
        execute_values(connection, _MEET_FILE, [row for row in rows if row[1:5] not in done])
    real = [file for file in files if not file.is_directory]
    count, size = len(real), sum(file.length for file in real)
    connection.execute(_COUNT, (0, count, size))
    return PageCount(count, size, sum(bool(row[1]) for row in unchanged), sum(row[2] for row in unchanged))


def list_again(connection: sqlite3.Connection, paths: Sequence[str]) -> None:
    """These directories are to be listed from their beginning."""
    number = _number(connection)
    places: dict[str, int] = {}
    for path in paths:
        if path:
            parent = _place(connection, path.rpartition("/")[0], number, places, is_parent=True)
            connection.execute("UPDATE directories SET leaf = 0 WHERE id = ?", (parent,))
        connection.execute(_LIST_AGAIN, (path, number, number))
        connection.execute("DELETE FROM met WHERE directory = (SELECT id FROM directories WHERE path = ?)", (path,))


def _number(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT pass_number FROM job").fetchone()[0])


def _rows(connection: sqlite3.Connection, directory: int, prefix: str, files: Sequence[FileStatus]) -> list[_Row]:
    return [
        (directory, _name(prefix, file.path), file.length, file.modification_time, file.file_id, file.block_size, *has)
        for file, has in zip(files, kept(connection, files), strict=True)
    ]


def _refusals(page: Page) -> list[tuple[str, str, str, int, str]]:
    return [
        (type(error).__name__, error.message, error.hint, page.directory, file.path.rpartition("/")[2])
        for file, error in page.refused
    ]


def _name(prefix: str, path: str) -> str:
    """The last component, "" for the marker of the directory itself."""
    name = path[len(prefix) :]
    if "/" in name or not path.startswith(prefix):
        raise ValueError(f"{path!r} does not lie in {prefix!r}")
    return name


def _look(connection: sqlite3.Connection, page: Page, known: _Known, prefix: str, rows: list[_Row]) -> _Look:
    # The marker of an empty directory ends in "/", so that its name is "" here too.
    others = [other.path for other in page.others if not other.is_directory or other.path.endswith("/")]
    names = [row[1] for row in rows] + [_name(prefix, path) for path in others]
    packs = Packs(connection, page.directory)
    packed = packs.find(names)
    loose = [row for row in rows if row[1] not in packed] if packed else rows
    done = _done_before(connection, page.directory, loose) if known.before else set()
    done.update(file[1:5] for file, _ in packed.values())
    return _Look(page, known, names, done, packs, packed)


def _changed(packed: dict[str, tuple[Known, int]], rows: Sequence[_Row]) -> set[int]:
    """The packs that hold another version of one of the rows."""
    if not packed:
        return set()
    beside = ((row, packed[row[1]]) for row in rows if row[1] in packed)
    return {pack for row, (file, pack) in beside if file[1:5] != row[1:5]}


def _done_before(connection: sqlite3.Connection, directory: int, rows: Sequence[_Row]) -> set[_Version]:
    """Name and version of those files that are done, in the version that is done."""
    done: set[_Version] = set()
    for some in by_powers(rows):
        query = with_values(_DONE_BEFORE, len(some), 1)
        done.update(connection.execute(query, (directory, *(row[1] for row in some))))
    return done


# --- comparing with what is known -------------------------------------------------------------------------------------


def _met(connection: sqlite3.Connection, look: _Look) -> set[int]:
    """The ids of the known files that are on the page, selected or not."""
    met = {file.id for file, _ in look.packed.values()}
    for some in by_powers([name for name in look.names if name not in look.packed]):
        found = connection.execute(with_values(_IDS, len(some), 1), (look.page.directory, *some))
        met.update(file for (file,) in found)
    return met


def _subdirectories(page: Page) -> set[str]:
    """Those on the page, entered or not."""
    return {entry.path for entry in (*page.subdirectories, *page.others) if entry.is_directory}


def _note_met(connection: sqlite3.Connection, look: _Look) -> None:
    files, paths = list(_met(connection, look)), list(_subdirectories(look.page))
    row = (look.page.directory, msgspec.msgpack.encode(files), msgspec.msgpack.encode(paths))
    connection.execute("INSERT INTO met (directory, files, subdirectories) VALUES (?, ?, ?)", row)


def _unmet(connection: sqlite3.Connection, look: _Look) -> Unmet:
    paths = _subdirectories(look.page)
    if not look.known.begins:
        query = "SELECT subdirectories FROM met WHERE directory = ?"
        for (earlier,) in connection.execute(query, (look.page.directory,)):
            paths.update(_decode_paths(earlier))
    directories = [path for path in children(connection, look.known.path) if path not in paths]
    return Unmet(*_unmet_files(connection, look), directories=directories)


def _unmet_files(connection: sqlite3.Connection, look: _Look) -> tuple[list[int], set[int]]:
    directory = (look.page.directory,)
    if look.known.begins:  # mostly this page is the only one, and all that is known is on it, and done
        (count,) = connection.execute("SELECT count(*) FROM files WHERE directory = ?", directory).fetchone()
        if count + sum(look.packs.files) == len(look.done):
            return [], set()
    met = _met(connection, look)
    for (earlier,) in connection.execute("SELECT files FROM met WHERE directory = ?", directory):
        met.update(_decode_ids(earlier))
    known = connection.execute("SELECT id FROM files WHERE directory = ?", directory)
    files = [file for (file,) in known if file not in met]
    return files, look.packs.with_others_than(met)


# --- directories ------------------------------------------------------------------------------------------------------


def _meet_directories(
    connection: sqlite3.Connection, subdirectories: Sequence[FileStatus], known: _Known
) -> list[tuple[int, int]]:
    """The subdirectories are to be listed; answers files and bytes of each that a quick pass passes over."""
    over: dict[tuple[str, int, int], tuple[int, int]] = {}
    if known.quick:
        for some in by_powers(subdirectories):
            query = with_values(_PASSED_OVER, len(some), 1)
            found = connection.execute(query, (known.number, *(entry.path for entry in some)))
            over.update({row[:3]: row[3:] for row in found})
    passed_over = []
    listed = []
    for entry in subdirectories:
        counted = over.get((entry.path, entry.modification_time, entry.file_id))
        if counted is None:
            listed.append((entry.path, entry.modification_time, entry.file_id, known.number, known.number))
        else:
            passed_over.append(counted)
    connection.executemany(_MEET_DIRECTORY, listed)
    return passed_over


def _go_on(connection: sqlite3.Connection, page: Page, known: _Known, count: int, size: int) -> None:
    """The directory's cursor; with its last page, what its listing has shown."""
    is_last = page.after is None
    leaf = not page.subdirectories and (known.begins or bool(known.leaf))
    if not known.begins:
        count, size = known.files + count, known.bytes + size
    settled = 2 if is_last and known.settled else min(known.settled, 1)
    row = (is_last, page.after or "", settled, leaf, count, size, page.directory)
    connection.execute(_LISTED, row)
    if is_last and known.compared and not known.begins:
        connection.execute("DELETE FROM met WHERE directory = ?", (page.directory,))


def _place(connection: sqlite3.Connection, path: str, number: int, places: dict[str, int], *, is_parent: bool) -> int:
    """The id of a directory that holds something, made with its parents where it is not known yet."""
    if path in places:
        return places[path]
    found = connection.execute("SELECT id, state FROM directories WHERE path = ?", (path,)).fetchone()
    if path:
        parent = _place(connection, path.rpartition("/")[0], number, places, is_parent=True)
        if found is None:
            connection.execute("UPDATE directories SET leaf = 0 WHERE id = ?", (parent,))
    if found is None:
        place = int(connection.execute(_PLACE, (path, number)).lastrowid or 0)
    else:
        place, state = found
        if state == 3:
            connection.execute("UPDATE directories SET state = 1 WHERE id = ?", (place,))
    if is_parent:  # so it is not empty
        vanish(connection, [file for (file,) in connection.execute(with_values(_IDS, 1, 1), (place, ""))])
        places[path] = place
    return place
