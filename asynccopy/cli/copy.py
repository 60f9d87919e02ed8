"""``asynccopy copy``: one shot; the same command again resumes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import click

from asynccopy import logs
from asynccopy.cli import progress as display
from asynccopy.cli.job import Sides, journal_path, make_journal_directory, open_sides
from asynccopy.cli.options import (
    FILE,
    PRESERVE,
    PROCESSES,
    RATE,
    SIZE,
    selection_options,
    side_options,
    take_selection,
    talk_options,
)
from asynccopy.cli.result import ResultFile, Run
from asynccopy.cli.running import run
from asynccopy.errors import AsyncCopyError, Interrupted, NameRefused
from asynccopy.executors.cores import default_processes, most_ranges
from asynccopy.executors.recipe import Build, inline
from asynccopy.journal import Journal
from asynccopy.journal.scratch import scratch
from asynccopy.logs import log, printable
from asynccopy.mirror.mirror import CopyOptions, Mirror
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.storage.settings import Settings


@click.command("copy", epilog="Exit codes: see asynccopy --help.")
@side_options
@click.option(
    "--verify",
    type=click.Choice(["checksum", "size", "none"]),
    default="checksum",
    show_default=True,
    help="How each file is proven equal.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print what would be copied, and on stderr what cannot be; write nothing.",
)
@selection_options
@click.option("--bandwidth", type=RATE, help="Read at most so fast, e.g. 200MiB/s.")
@click.option(
    "--processes",
    type=PROCESSES,
    default="auto",
    show_default=True,
    metavar="N",
    help="Processes that copy. auto: by the cores; one below four.",
)
@click.option("--part-size", type=SIZE, help="Size of an upload's parts. Default: by the length.")
@click.option(
    "--preserve",
    type=PRESERVE,
    metavar="WORDS",
    help="From HDFS to HDFS, keep owner,group,permission,times,replication,block-size, or all.",
)
@click.option("--sign-payload", is_flag=True, help="Let the S3 signature cover the bodies (costs a SHA-256).")
@click.option("--storage-class", metavar="CLASS", help="Of every object, e.g. STANDARD_IA (s3://) or IA (oss://).")
@click.option("--no-file-metadata", is_flag=True, help="Do not say in objects whose file they were.")
@click.option("--result", type=FILE, help="Write the outcome there as one JSON document.")
@talk_options
def command(**options: Any) -> int:
    """Copy the contents of SOURCE to DESTINATION and prove every file equal.

    What was copied and is unchanged is skipped, so the same command again goes on where the last one ended, and
    repeats nothing that was finished. Empty files become empty objects, an empty directory becomes a zero-byte object
    named `directory/`.
    """
    selection = take_selection(options)
    logs.configure(verbose=options["verbose"])
    return run(lambda stop: _copy(options, selection, stop))


async def _copy(options: dict[str, Any], selection: Selection, stop: asyncio.Event) -> int:
    result = None if options["result"] is None else ResultFile(options["result"])
    started, progress = datetime.now(UTC), Progress()
    error: BaseException | None = None
    try:
        await _work(options, selection, stop, progress)
    except BaseException as raised:
        # The second signal cancels: what it means is made of it only further out, see running.
        error = Interrupted("stopped at once") if isinstance(raised, asyncio.CancelledError) else raised
        raise
    finally:
        ended = Run(started, datetime.now(UTC), progress, error)
        if result is not None and not options["dry_run"]:
            result.write(ended.document())
        if not options["quiet"] and not options["dry_run"] and (error is None or progress.listed_files):
            ended.summarize()
    return 1 if progress.failed_files else 0


async def _work(options: dict[str, Any], selection: Selection, stop: asyncio.Event, progress: Progress) -> None:
    settings = Settings(
        sign_payload=options["sign_payload"],
        bandwidth=options["bandwidth"],
        concurrency=options["concurrency"] or most_ranges(),
        preserve=options["preserve"] or (),
        file_checksums=options["verify"] == "checksum",
    )
    objects: dict[str, object] = {}
    if options["storage_class"] is not None:
        objects["storage_class"] = options["storage_class"]
    if options["no_file_metadata"]:
        objects["file_metadata"] = False
    async with open_sides(options["source"], options["destination"], options["config"], settings, objects) as sides:
        if options["dry_run"]:
            await _dry_run(options, selection, sides, stop, progress)
            return
        path = journal_path(options["journal"], sides.source.url, sides.destination.url)
        log.info("journal", path=str(path))
        make_journal_directory(path)
        journal = await Journal.open(path, source=sides.source.url, destination=sides.destination.url)
        try:
            with display.shown(progress, lambda: sides.stores.warning or progress.throttled, quiet=options["quiet"]):
                await _mirror(options, selection, sides, journal, stop, progress).copy()
        finally:
            await journal.close()


async def _dry_run(
    options: dict[str, Any], selection: Selection, sides: Sides, stop: asyncio.Event, progress: Progress
) -> None:
    """Print what would be copied, and what DESTINATION cannot hold.

    The listing goes into a copy of the journal, so the job's own stays as it is.
    """
    source, destination = sides.source.url, sides.destination.url
    path = journal_path(options["journal"], source, destination)
    async with scratch(path, source=source, destination=destination) as journal:
        async for status in _mirror(options, selection, sides, journal, stop, progress).plan():
            click.echo(printable(status.path))
        for failure in await journal.failures(progress.failed_files, NameRefused.__name__):
            click.echo(printable(f"cannot be copied: {failure.path}: {failure.message}"), err=True)
    if stop.is_set():
        raise Interrupted("stopped before everything was listed")


def _mirror(
    options: dict[str, Any],
    selection: Selection,
    sides: Sides,
    journal: Journal,
    stop: asyncio.Event,
    progress: Progress,
) -> Mirror:
    chosen = CopyOptions(
        verify=options["verify"],
        concurrency=options["concurrency"],
        part_size=options["part_size"],
        preserving=bool(options["preserve"]),
    )

    def noticed(error: AsyncCopyError, delay: float) -> None:
        log.info("retrying", error=type(error).__name__, reason=error.message, delay=round(delay, 3))

    return Mirror(
        sides.source,
        sides.destination,
        journal,
        selection=selection,
        options=chosen,
        stop=stop,
        progress=progress,
        noticed=noticed,
        build=_build(sides, options["processes"] or default_processes()),
    )


def _build(sides: Sides, processes: int) -> Build:
    if processes == 1:
        return inline
    from asynccopy.executors.processes import in_processes  # late: a small machine does without

    return in_processes(sides.source_place, sides.destination_place, processes, sides.namenodes.lend)
