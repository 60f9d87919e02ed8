"""How many processes a machine is worth. Pure but for one look at the cores."""

from __future__ import annotations

import os
from typing import Final

FEW: Final = 4
"""With fewer cores, one process: the journal and the kernel's share of the network want a core as well."""
MOST: Final = 8
"""By default. One process settles what eight copy; more must be asked for."""


def default_processes() -> int:
    """For the cores that this process may use: 1 below four of them, else half of them, 8 at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if cores < FEW else min(cores // 2, MOST)
