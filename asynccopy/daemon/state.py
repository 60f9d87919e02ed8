"""The state directory: of one daemon at a time."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from asynccopy.errors import JournalError, JournalLocked
from asynccopy.journal.lock import lock


def claim(directory: Path) -> BinaryIO:
    """Make the directory where it is missing and lock it; closing what is returned lets go of it. Blocks for the disk.

    Raises JournalLocked (another daemon has it), JournalError (it cannot be made or written).
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return lock(directory / "daemon")
    except JournalLocked as error:
        raise JournalLocked(
            f"{directory}: another daemon has its state there: {error.message}",
            hint="stop that one, or give this one another [daemon] state",
        ) from error
    except OSError as error:
        raise JournalError(
            f"{directory}: no state can be kept there: {error.strerror}",
            hint="[daemon] state must be a directory that the daemon's user may write",
        ) from error
