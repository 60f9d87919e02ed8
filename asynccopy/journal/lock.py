"""One process per journal: an advisory lock that the kernel lets go of, even after kill -9."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from asynccopy.errors import JournalLocked


def lock(journal: Path) -> BinaryIO:
    """Take ``<journal>.lock``; closing the returned file lets go of it.

    Raises JournalLocked (naming the holder's pid where it can be read), OSError.
    The lock file stays: removing it would let two processes hold locks on two files of one name. It is not the journal
    itself that is locked, because SQLite's own locks live there.
    """
    path = Path(f"{journal}.lock")
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(b"%d\n" % os.getpid())
    except BlockingIOError:
        holder = file.read(32).strip().decode("ascii", "replace")
        file.close()
        raise JournalLocked(f"{journal} is in use by {f'process {holder}' if holder else 'another process'}") from None
    except BaseException:
        file.close()
        raise
    return file
