"""How many processes and ranges a machine is worth."""

from __future__ import annotations

import os
import resource
from typing import Final

FEW: Final = 4
"""With fewer cores, one process: the journal and the kernel's share of the network want a core as well."""
MOST: Final = 8
"""By default. One process settles what eight copy; more must be asked for."""
RANGES: Final = 512
"""In flight at most, where nobody says how many: 64 KiB files behind 50 ms of round trip can use them all."""


def most_ranges() -> int:
    """As many as RANGES, or as the open files allow that this process may have: about three sockets each."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return RANGES if files == resource.RLIM_INFINITY else max(1, min(RANGES, (files - 64) // 3))


def default_processes() -> int:
    """For the cores that this process may use: 1 below four of them, else half of them, 8 at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if cores < FEW else min(cores // 2, MOST)
