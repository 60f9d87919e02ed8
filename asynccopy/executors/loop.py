"""The event loop that copies run on."""

from __future__ import annotations

import asyncio
import gc
from typing import Final

COLLECTED: Final = (10_000, 10, 10)
"""Hardly any of the objects that a copy makes are in cycles: looking for them every 700 costs 3 % of its CPU."""


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for a process that does nothing else: uvloop's, where there is one."""
    gc.freeze()  # what is there by now stays: no collection need look at it
    gc.set_threshold(*COLLECTED)
    try:
        import uvloop  # late: `asynccopy copy --help` needs no loop
    except ImportError:  # no wheel for this platform: asyncio's own loop does the same, slower
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
