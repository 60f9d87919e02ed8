"""Packing the journal's finished files in the background: 50 bytes instead of 340 for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final, NoReturn

from asynccopy.journal import Journal

SHARE: Final = 0.1
"""Of the writer's time, while files are copied that wait for its commits"""
PAUSE: Final = 60.0
"""Seconds between two walks through all files"""


async def keep_packed(journal: Journal, busy: Callable[[], bool]) -> NoReturn:
    """Until cancelled. Also while the first copy goes on for weeks: a file of the disk never shrinks again.

    Raises JournalError.
    """
    rest = PAUSE  # a daemon that has just started has better things to do
    while True:
        await asyncio.sleep(rest)
        began = monotonic()
        packed = await journal.pack()
        spent = monotonic() - began
        rest = (spent * (1 / SHARE - 1) if busy() else 0.0) if packed else PAUSE
