"""What a copier is made of: a recipe of plain values, which another process can follow too, and two sides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial

from msgspec import Struct

from asynccopy.errors import AsyncCopyError, Stalled
from asynccopy.executors.inline import Executor, InlineExecutor
from asynccopy.executors.steering import FILE, follow, steer
from asynccopy.retry import RetryPolicy
from asynccopy.storage.budget import Budget
from asynccopy.storage.interface import Capabilities, Destination, Source
from asynccopy.storage.retrying import Noticed, RetryingSource
from asynccopy.storage.single import SingleFile
from asynccopy.transfer.copy import Copier, Verify
from asynccopy.transfer.verify import Prover


class Recipe(Struct, frozen=True):
    """How to copy. ``single_file``: the source's root is a file. ``capabilities``: what the destination proved able to
    do. ``part_size``: bytes, None for automatic. ``concurrency``: ranges in flight; ``steered``: at most, and as
    many as pay. ``preserving``: the destination keeps more of a file than its bytes.
    """

    single_file: bool
    capabilities: Capabilities
    verify: Verify
    part_size: int | None
    concurrency: int
    steered: bool
    policy: RetryPolicy
    preserving: bool = False


class Watch:
    """Who looks on: told of retries and of (path, bytes) moved, and says when to begin nothing new.

    ``amount`` is what was moved so far, files counting too, and ``troubles`` how often a side stalled: what steering
    goes by. A store that throttles is no trouble: fewer ranges would not make it allow more requests.
    """

    def __init__(self, noticed: Noticed, moved: Callable[[str, int], None], stop: asyncio.Event) -> None:
        self._noticed = noticed
        self._moved = moved
        self.stop = stop
        self.amount = 0
        self.troubles = 0

    def noticed(self, error: AsyncCopyError, delay: float) -> None:
        self.troubles += isinstance(error, Stalled)
        self._noticed(error, delay)

    def moved(self, path: str, size: int) -> None:
        self.amount += size
        self._moved(path, size)

    def ended(self) -> None:
        """A file was copied, or failed."""
        self.amount += FILE


Build = Callable[[Recipe, Source, Destination, Watch], Executor]
"""Makes the executor of a run, from sides that have been checked and retry."""


def retrying_source(source: Source, single_file: bool, policy: RetryPolicy, noticed: Noticed) -> Source:
    retrying = RetryingSource(source, policy, noticed)
    return SingleFile(retrying) if single_file else retrying


def copier(recipe: Recipe, source: Source, destination: Destination, watch: Watch, budget: Budget) -> Copier:
    """A copier between sides that retry; ``budget`` is for its ranges in flight."""
    prover = Prover(
        source,
        destination,
        recipe.capabilities,
        recipe.verify,
        recipe.policy,
        watch.noticed,
        preserving=recipe.preserving,
    )
    return Copier(
        source,
        destination,
        prover,
        wanted_part_size=recipe.part_size,
        budget=budget,
        policy=recipe.policy,
        noticed=watch.noticed,
        moved=watch.moved,
        stop=watch.stop,
        preserving=recipe.preserving,
    )


def inline(
    recipe: Recipe,
    source: Source,
    destination: Destination,
    watch: Watch,
    allowed: Callable[[], int] | None = None,
    ranges: Budget | None = None,
) -> Executor:
    """Copies run on this very loop. ``allowed`` may lower the ranges in flight at any time; ``ranges`` is of them, for
    who wants to know how many there are.
    """
    files = Budget(recipe.concurrency)
    ranges = Budget(recipe.concurrency) if ranges is None else ranges
    copying = copier(recipe, source, destination, watch, ranges)
    steering: Callable[[], Coroutine[None, None, None]] | None = None
    if recipe.steered:
        steering = partial(steer, (ranges, files), watch, allowed)
    elif allowed is not None:
        steering = partial(follow, (ranges, files), allowed)
    return InlineExecutor(copying, files, watch, steering)
