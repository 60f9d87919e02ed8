"""The event loop that copies run on."""

from __future__ import annotations

import asyncio
import gc
import resource
from typing import Final

COLLECTED: Final = (10_000, 10, 10)
"""Hardly any of the objects that a copy makes are in cycles: looking for them every 700 costs 3 % of its CPU."""

OPEN: Final = 65_536
"""Files; more are never needed."""


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for a process that does nothing else: uvloop's, where there is one."""
    gc.freeze()  # what is there by now stays: no collection need look at it
    gc.set_threshold(*COLLECTED)
    _open_more()
    try:
        import uvloop  # late: `asynccopy copy --help` needs no loop
    except ImportError:  # no wheel for this platform: asyncio's own loop does the same, slower
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _open_more() -> None:
    """Take as many open files as this user may have: a range needs up to three sockets; systems begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN if hard == resource.RLIM_INFINITY else min(hard, OPEN)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
