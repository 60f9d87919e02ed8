"""``asynccopy check``: compare two sides without copying."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from asynccopy import logs
from asynccopy.cli import progress as display
from asynccopy.cli.job import open_ledger, open_sides
from asynccopy.cli.options import selection_options, side_options, take_selection, talk_options
from asynccopy.cli.running import run
from asynccopy.errors import Interrupted
from asynccopy.journal.scratch import scratch
from asynccopy.logs import printable
from asynccopy.mirror.check import Check
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.storage.settings import Settings

FILES = 64
"""Compared at once, where nobody says how many."""


@click.command("check")
@side_options
@selection_options
@talk_options
def command(**options: Any) -> int:
    """Compare SOURCE with DESTINATION without copying and print what differs.

    One line per difference on stdout, tab-separated: what it is (missing, different, extra, or unproven), the path,
    and what was seen. Exit code 1 if there is any. What the job's journal proves is not read again while both sides
    still keep the checksums that it holds.
    """
    selection = take_selection(options)
    logs.configure(verbose=options["verbose"])
    return run(lambda stop: _check(options, selection, stop))


async def _check(options: dict[str, Any], selection: Selection, stop: asyncio.Event) -> int:
    progress, differences = Progress(), 0
    settings = Settings(concurrency=options["concurrency"] or FILES)
    async with (
        open_sides(options["source"], options["destination"], options["config"], settings) as sides,
        scratch(None, source=sides.source.url, destination=sides.destination.url) as listing,
        open_ledger(options["journal"], sides) as ledger,
    ):
        comparison = Check(
            sides.source,
            sides.destination,
            scratch=listing,
            ledger=ledger,
            selection=selection,
            concurrency=options["concurrency"] or FILES,
            progress=progress,
            stop=stop,
        )
        with display.shown(progress, lambda: sides.stores.warning, quiet=options["quiet"]):
            async for difference in comparison.run():
                differences += 1
                click.echo("\t".join(map(printable, (difference.kind, difference.path, difference.detail))))
    if stop.is_set():
        raise Interrupted("stopped before everything was compared")
    if not options["quiet"]:
        click.echo(f"asynccopy: compared {progress.listed_files:,} files: {differences:,} differences", err=True)
    return 1 if differences else 0
