"""Before anything is done: both sides are looked at, and what the journal says of the destination is tried."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from msgspec.structs import replace

from asynccopy.errors import NoActiveNameNode, Transient
from asynccopy.journal import Journal
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Destination
from asynccopy.storage.retrying import Noticed, Trouble

PATIENCE: Final = 15.0
"""Seconds for which passing trouble of a side is waited for: somebody may look on."""
LOOKED_BACK: Final = 16
"""Done files whose objects are looked up before a journal is believed."""

T = TypeVar("T")


async def patiently(check: Callable[[], Awaitable[T]], policy: RetryPolicy, noticed: Noticed) -> T:
    """What a side's ``check`` returns. A wrong address is told at once; passing trouble is waited for, but not long."""
    trouble = Trouble(replace(policy, patience=min(policy.patience, PATIENCE)), noticed)
    while True:
        try:
            return await check()
        except (Transient, NoActiveNameNode) as error:
            await trouble.wait(error)


async def look_back(journal: Journal, destination: Destination) -> None:
    """Look up a few objects that the journal has as done, before it is believed for all the others.

    The destination may be another store under the same name, or emptied. Then everything is copied again; where only
    some objects are gone, those are.
    """
    rows = await journal.some_done(LOOKED_BACK)
    gone = []
    for row in rows:
        meta = await destination.head(destination.prefix + row.status.path)
        if meta is None or meta.size != row.status.length:
            gone.append(row.status.path)
    if gone:
        await journal.reopen(gone if len(gone) < len(rows) else None)
