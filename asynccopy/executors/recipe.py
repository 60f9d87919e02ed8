"""What a copier is made of: a recipe of plain values, which another process can follow too, and two sides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct

from asynccopy.executors.inline import Executor, InlineExecutor
from asynccopy.retry import RetryPolicy
from asynccopy.storage.budget import Budget
from asynccopy.storage.interface import Capabilities, Destination, Source
from asynccopy.storage.retrying import Noticed, RetryingSource
from asynccopy.storage.single import SingleFile
from asynccopy.transfer.copy import Copier, Verify
from asynccopy.transfer.verify import Prover


class Recipe(Struct, frozen=True):
    """How to copy. ``single_file``: the source's root is a file. ``capabilities``: what the destination proved able to
    do. ``part_size``: bytes, None for automatic. ``concurrency``: ranges in flight.
    """

    single_file: bool
    capabilities: Capabilities
    verify: Verify
    part_size: int | None
    concurrency: int
    policy: RetryPolicy


class Watch(Struct, frozen=True):
    """Who looks on: told of retries and of (path, bytes) moved, and says when to begin nothing new."""

    noticed: Noticed
    moved: Callable[[str, int], None]
    stop: asyncio.Event


Build = Callable[[Recipe, Source, Destination, Watch], Executor]
"""Makes the executor of a run, from sides that have been checked and retry."""


def retrying_source(source: Source, single_file: bool, policy: RetryPolicy, noticed: Noticed) -> Source:
    retrying = RetryingSource(source, policy, noticed)
    return SingleFile(retrying) if single_file else retrying


def copier(recipe: Recipe, source: Source, destination: Destination, watch: Watch) -> Copier:
    """A copier between sides that retry."""
    prover = Prover(source, destination, recipe.capabilities, recipe.verify, recipe.policy, watch.noticed)
    return Copier(
        source,
        destination,
        prover,
        wanted_part_size=recipe.part_size,
        budget=Budget(recipe.concurrency),
        policy=recipe.policy,
        noticed=watch.noticed,
        moved=watch.moved,
        stop=watch.stop,
    )


def inline(recipe: Recipe, source: Source, destination: Destination, watch: Watch) -> Executor:
    """Copies run on this very loop."""
    return InlineExecutor(copier(recipe, source, destination, watch), recipe.concurrency)
