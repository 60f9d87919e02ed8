"""One writer thread with group commit, one reader thread apart; the event loop only waits."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, BinaryIO, NamedTuple, TypeVar

from asynccopy.errors import JournalError
from asynccopy.journal.lock import lock
from asynccopy.journal.sqlite import check, from_disk, open_reader, open_writer, translated, translating
from asynccopy.metrics import COMMIT

GATHER = 0.005
"""Seconds that the writer waits for others to join a transaction, unless somebody is in a hurry. More brings nothing
more.
"""

R = TypeVar("R")
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
"""Statements for a connection. It runs in another thread, so it brings its values and touches no other state."""
Together = Callable[[sqlite3.Connection, list[R]], list[T]]
"""The same statements for many rows, with an answer for each. A function, not a closure: by it the rows are grouped."""


class Reader:
    """A connection that cannot write, on a thread of its own: sees what is committed, blocks no writer."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-reader")

    @classmethod
    async def open(cls, path: Path) -> Reader:
        """Open without the lock, also while another process writes. Raises UsageError (no such file), JournalError."""
        return cls(path, await asyncio.to_thread(_open_reader, path))

    async def read(self, work: Work[T]) -> T:
        """Execute and return: all its statements see the same state. Raises JournalError."""
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._thread, self._execute, work)
        except RuntimeError:  # its thread takes nothing more
            raise JournalError(f"{self.path} is closed") from None
        return await reading

    def _execute(self, work: Work[T]) -> T:
        with translating(self.path):
            self._connection.execute("BEGIN")
            try:
                return work(self._connection)
            finally:
                self._connection.execute("ROLLBACK")  # nothing was written

    async def close(self) -> None:
        """Wait for what runs, then let go. May be called twice."""
        await asyncio.to_thread(self.shut)

    def shut(self) -> None:
        self._thread.shutdown()
        self._connection.close()


class _Write(NamedTuple):
    work: Together[Any, Any]
    row: Any
    future: asyncio.Future[Any]


def _each(connection: sqlite3.Connection, works: list[Work[T]]) -> list[T]:
    return [work(connection) for work in works]


class Database:
    """The journal's file, locked for this process.

    ``write`` returns only after COMMIT with synchronous=FULL. Whatever was queued while the last commit ran shares one
    transaction, so a thousand writers pay for one fsync. After the first error of the disk nothing is acknowledged any
    more: every later write raises the same class.
    """

    def __init__(self, path: Path, writer: sqlite3.Connection, reader: sqlite3.Connection, held: BinaryIO) -> None:
        self.path = path
        self.reader = Reader(path, reader)
        self._connection = writer
        self._lock = held
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._hurry = Event()
        self._closing = False
        self._broken: Exception | None = None  # owned by the writer thread
        # A daemon thread: it must not keep a process alive that ends without closing; nothing it holds is acknowledged.
        self._thread = Thread(target=self._write_until_closed, name="journal-writer", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, path: Path) -> Database:
        """Open or create, mode 0600, missing directories 0700.

        Raises JournalLocked, JournalDamaged (not a journal, damaged, newer: left untouched), JournalFull, JournalError.
        """
        return cls(path, *await asyncio.to_thread(_open, path))

    @property
    def broken(self) -> JournalError | None:
        """What ended all writing, None while it goes on."""
        error = None if self._broken is None else translated(self.path, self._broken)
        return error if isinstance(error, JournalError) else None

    async def write(self, work: Work[T], *, hurry: bool = True) -> T:
        """Execute durably and in the order of the calls. A caller that is cancelled does not take its write back.

        Without ``hurry`` others may join the transaction for a few milliseconds.

        Raises JournalError; what ``work`` itself raises comes out of every write that shared the transaction.
        """
        return await self.write_together(_each, work, hurry=hurry)

    def write_together(self, work: Together[R, T], row: R, *, hurry: bool) -> asyncio.Future[T]:
        """As ``write``, but rows for the same work that stand side by side in a transaction come to it in one call.

        That spares more than the calls: SQLite lets go of the GIL for every statement, and has to win it back from
        a busy loop.
        """
        if self._closing:
            raise JournalError(f"{self.path} is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Write(work, row, future))
        if hurry:
            self._hurry.set()
        return future

    async def close(self) -> None:
        """Finish what is queued, bring the WAL home, let go of the lock. May be called twice."""
        self._closing = True
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        self.reader.shut()  # before the writer: only a last connection that can write removes the WAL
        self._queue.put(None)
        self._hurry.set()
        self._thread.join()
        self._lock.close()

    # --- in the writer thread -------------------------------------------------------------------------------------

    def _write_until_closed(self) -> None:
        closing = False
        while not closing:
            first = self._queue.get()
            self._hurry.wait(GATHER)
            self._hurry.clear()
            queued = [first, *(self._queue.get() for _ in range(self._queue.qsize()))]
            batch = [write for write in queued if write is not None]
            closing = len(batch) < len(queued)
            if batch:
                self._commit(batch)
        with suppress(sqlite3.Error):  # what was acknowledged lies safe in the WAL; the next opening tries again
            if self._broken is None:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _commit(self, batch: list[_Write]) -> None:
        """One transaction for all; their callers hear of it in one go, and only after it is durable."""
        results: list[Any] = []
        error = self._broken
        if error is None:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                for work, writes in groupby(batch, itemgetter(0)):
                    results += work(self._connection, [write.row for write in writes])
                begun = time.perf_counter()
                self._connection.execute("COMMIT")
                COMMIT.observe(time.perf_counter() - begun)
            except Exception as raised:
                error = raised
                self._roll_back()
                if from_disk(raised):
                    self._broken = raised
        with suppress(RuntimeError):  # the loop was closed before us: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, batch, results, error)

    def _roll_back(self) -> None:
        # After some errors SQLite has rolled back already; if it cannot now, the next BEGIN fails and says so.
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    # --- back on the loop -----------------------------------------------------------------------------------------

    def _settle(self, batch: list[_Write], results: list[Any], error: Exception | None) -> None:
        if error is None:
            for write, result in zip(batch, results, strict=True):
                if not write.future.done():
                    write.future.set_result(result)
            return
        for write in batch:
            if not write.future.done():
                raised = translated(self.path, error)
                raised.__cause__ = error if raised is not error else None
                write.future.set_exception(raised)


def _open_reader(path: Path) -> sqlite3.Connection:
    with translating(path):
        return open_reader(path)


def _open(path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection, BinaryIO]:
    with translating(path):
        if path.exists():
            check(path)
            if not os.access(path, os.W_OK):  # SQLite would open it all the same, and fail at the first write
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        _make_private(path.parent)
        held = lock(path)
        try:
            writer = open_writer(path)
            try:
                return writer, open_reader(path), held
            except BaseException:
                writer.close()
                raise
        except BaseException:
            held.close()
            raise


def _make_private(directory: Path) -> None:
    """Create what is missing of the path, for the owner's eyes alone: file names can be secrets."""
    if not directory.is_dir():
        _make_private(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
