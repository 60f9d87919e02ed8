"""What files have besides bytes and version. Owner, group, permission and replication repeat: each combination is kept
once, and a row has its number. Statements for the writer thread.

They are kept from the listing until the file is copied, and dropped then: one that is copied again is listed again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from asynccopy.model import Attributes, FileStatus

_ID = 'SELECT id FROM attributes WHERE owner = ? AND "group" = ? AND permission = ? AND replication = ?'
_NEW = 'INSERT INTO attributes (owner, "group", permission, replication) VALUES (?, ?, ?, ?)'

Kept = tuple[int, int]
"""The columns ``attributes`` and ``access_time`` of a row, both 0 where nothing is known."""
UNKNOWN: Final[Kept] = (0, 0)


def kept(connection: sqlite3.Connection, files: Iterable[FileStatus]) -> list[Kept]:
    """For each file what its row is to have. Combinations that are new are entered."""
    # Numbers are not remembered beyond a call: a transaction that is rolled back takes new ones with it.
    numbers: dict[tuple[str, str, int, int], int] = {}
    found = []
    for file in files:
        has = file.attributes
        if has is None:
            found.append(UNKNOWN)
            continue
        key = (has.owner, has.group, has.permission, has.replication)
        number = numbers.get(key)
        if number is None:
            number = numbers[key] = _number(connection, key)
        found.append((number, has.access_time))
    return found


def _number(connection: sqlite3.Connection, key: tuple[str, str, int, int]) -> int:
    row = connection.execute(_ID, key).fetchone()
    return int(row[0]) if row is not None else int(connection.execute(_NEW, key).lastrowid or 0)


def attributes_of(columns: Sequence[object]) -> Attributes | None:
    """Of access time, owner, group, permission and replication, as a query answered them."""
    access_time, owner, group, permission, replication = columns
    if owner is None:
        return None
    return Attributes(owner, group, permission, access_time, replication)  # type: ignore[arg-type]  # the schema's
