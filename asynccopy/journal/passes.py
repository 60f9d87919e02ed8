"""Beginning a pass, and entering it into the history. Statements for the writer thread."""

from __future__ import annotations

import sqlite3

from asynccopy.journal.rows import Kind
from asynccopy.journal.vanishing import now

_BEGIN_PASS = """
UPDATE job SET pass_number = pass_number + 1, selection = ?, kind = ?, started_at = ?, listing_done = 0,
    finished_at = 0, listed_files = 0, listed_bytes = 0, listed_directories = 0
"""
_LIST_ROOT = """
INSERT INTO directories (path, first_pass, pass) SELECT '', pass_number, pass_number FROM job WHERE true
ON CONFLICT (path) DO UPDATE SET state = 0, after = '', settled = 0, pass = excluded.pass
"""
# What a pass could not list, no later diff names again.
_STILL_TO_LIST = "UPDATE directories SET after = '', pass = (SELECT pass_number FROM job) WHERE state = 0"
_SELECTS_OTHERWISE = "UPDATE directories SET settled = 0 WHERE settled <> 0 AND (SELECT settled_for FROM job) <> ?"
_UNSETTLE = """
UPDATE directories SET settled = 0
WHERE id IN (SELECT directory FROM files INDEXED BY files_not_done WHERE state <> 1) AND settled <> 0
"""
RETRY = "UPDATE files SET state = 0 WHERE state = 2 AND state <> 1 AND (? IS NULL OR error_class = ?)"
_NOTE = """
INSERT INTO passes (
    kind, started_at, finished_at, outcome, directories, files, copied, bytes, failed, deleted, requests
)
SELECT ?, ?, ?, ?, listed_directories, listed_files, ?, ?, ?, ?, ? FROM job
"""
_KEPT_PASSES = 1000


def begin_pass(connection: sqlite3.Connection, selection: str, kind: Kind) -> bool:
    """See ``Journal.begin_pass``."""
    query = "SELECT pass_number > 0 AND finished_at = 0 AND selection = ? AND kind = ? FROM job"
    if connection.execute(query, (selection, kind)).fetchone()[0]:
        connection.execute(RETRY, (None, None))
        return True
    (was_finished,) = connection.execute("SELECT finished_at > 0 FROM job").fetchone()
    connection.execute(_BEGIN_PASS, (selection, kind, now()))
    connection.execute("DELETE FROM met")
    if kind == "snapshot" and was_finished:
        connection.execute(_STILL_TO_LIST)
    else:
        connection.execute("UPDATE directories SET state = 1, after = '' WHERE state = 0")
    if kind == "snapshot":
        connection.execute("UPDATE files SET state = 0 WHERE state <> 1 AND state <> 0")
        return False
    connection.execute("UPDATE files SET state = 3 WHERE state <> 1 AND state <> 3")
    connection.execute(_SELECTS_OTHERWISE, (selection,))
    connection.execute("UPDATE job SET settled_for = selection")
    if kind == "quick":
        connection.execute(_UNSETTLE)
    connection.execute(_LIST_ROOT)
    return False


def note_pass(connection: sqlite3.Connection, row: tuple[Kind, int, int, str, int, int, int, int, int]) -> None:
    """kind, start and end in ms, outcome, then copied files and bytes, failed, deleted, requests."""
    number = connection.execute(_NOTE, row).lastrowid or 0
    connection.execute("DELETE FROM passes WHERE number <= ?", (number - _KEPT_PASSES,))
