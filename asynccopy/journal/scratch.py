"""A journal to throw away: what a dry run or a check lists is recorded in it, and the real one stays as it is."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from asynccopy.journal.journal import Journal
from asynccopy.journal.reading import JournalReader


@asynccontextmanager
async def scratch(like: Path | None, *, source: str, destination: str) -> AsyncIterator[Journal]:
    """A journal of the same job in a temporary folder, beginning as a copy of the journal ``like`` if that exists.

    Raises what ``Journal.open`` does. The copy is taken in one read transaction, also while another process writes.
    """
    with tempfile.TemporaryDirectory(prefix="asynccopy-") as folder:
        path = Path(folder) / "scratch.journal"
        if like is not None and like.exists():
            await (await JournalReader.read(like)).close()  # a file that is no journal is told by its own name
            await asyncio.to_thread(_copy, like, path)
        journal = await Journal.open(path, source=source, destination=destination)
        try:
            yield journal
        finally:
            await journal.close()


def _copy(journal: Path, to: Path) -> None:
    with (
        closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as old,
        closing(sqlite3.connect(to)) as new,
    ):
        old.backup(new)
    to.chmod(0o600)
