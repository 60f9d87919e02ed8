"""``asynccopy journal``: look inside a journal, also while its copy runs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from asynccopy import logs
from asynccopy.cli.job import journal_path, open_sides
from asynccopy.cli.options import FILE
from asynccopy.cli.running import run
from asynccopy.errors import UsageError
from asynccopy.journal import GoneFile, JournalReader, LedgerRow
from asynccopy.logs import printable
from asynccopy.model import OpenUpload
from asynccopy.storage.settings import Settings
from asynccopy.units import size_text

_Command = TypeVar("_Command", bound=Callable[..., Any])
_COLUMNS = LedgerRow.__struct_fields__
_TIMES = {"modification_time", "done_at", "until", "gone_at"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@click.group("journal")
def command() -> None:
    """Look inside a journal: by its file, or by the copy or the daemon's mirror that it belongs to."""


def _which(function: _Command) -> _Command:
    for option in (
        click.option("--config", type=FILE, help="The file that has the endpoints of --job, or the --mirror."),
        click.option("--mirror", metavar="NAME", help="A daemon's mirror, in the file given by --config."),
        click.option("--job", nargs=2, metavar="SOURCE DESTINATION", help="The job, as it was given to copy."),
        click.option("--journal", type=FILE, help="The journal's file."),
    ):
        function = option(function)
    return function


@command.command("export")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@_which
def export(form: str, **which: Any) -> None:
    """Print the ledger: every file with its state and both checksums.

    Times are milliseconds since the epoch, lengths bytes. In CSV a cell that a spreadsheet would take for a formula (it
    begins with = + - or @) has an apostrophe before it.
    """
    _ask(which, _export_csv if form == "csv" else _export_jsonl)


@command.command("show")
@click.argument("path", required=False)
@_which
def show(path: str | None, **which: Any) -> None:
    """Print how the job stands, or the whole life of one source PATH: what it was before and how it failed, the oldest
    first, what it is now, the parts of an upload under way, and what is gone. Times are UTC.
    """
    _ask(which, _show_job if path is None else lambda journal: _show_file(journal, path))


@command.command("gone")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="So many at most.")
@_which
def gone(limit: int, **which: Any) -> None:
    """Print the files that the source no longer has and whose objects are still there, tab-separated: path, when it was
    missed, length.
    """

    async def show_gone(journal: JournalReader) -> None:
        for file in await journal.gone(0, limit):
            click.echo("\t".join((printable(file.path), _moment(file.gone_at), str(file.version.length))))

    _ask(which, show_gone)


@command.command("passes")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="So many at most.")
@_which
def passes(limit: int, **which: Any) -> None:
    """Print the last passes over a mirror's source, the newest first, one JSON document a line."""

    async def show_passes(journal: JournalReader) -> None:
        for each in await journal.passes(limit):
            times = {name: _moment(getattr(each, name)) for name in ("started_at", "finished_at")}
            click.echo(json.dumps(msgspec.structs.asdict(each) | times))

    _ask(which, show_passes)


@command.command("errors")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="So many at most.")
@_which
def errors(limit: int, **which: Any) -> None:
    """Print the files that failed in the last pass, tab-separated: path, class, message, hint."""

    async def show_errors(journal: JournalReader) -> None:
        for failure in await journal.failures(limit):
            cells = (failure.path, failure.error_class, failure.message, failure.hint)
            click.echo("\t".join(map(printable, cells)))

    _ask(which, show_errors)


def _ask(which: dict[str, Any], question: Callable[[JournalReader], Coroutine[Any, Any, None]]) -> None:
    if sum(which[name] is not None for name in ("journal", "job", "mirror")) != 1:
        raise click.UsageError("name the journal by one of --journal FILE, --job SOURCE DESTINATION, --mirror NAME")
    if which["mirror"] is not None and which["config"] is None:
        raise click.UsageError("--mirror needs --config, the daemon's file")
    logs.configure()

    async def ask() -> None:
        async with _opened(await _path(which)) as journal:
            await question(journal)

    run(lambda _: ask())


async def _path(which: dict[str, Any]) -> Path:
    if which["mirror"] is not None:
        return await _of_mirror(which["mirror"], which["config"])
    if which["job"] is None:
        return Path(which["journal"])
    source, destination = which["job"]
    async with open_sides(source, destination, which["config"], Settings()) as sides:
        return journal_path(None, sides.source.url, sides.destination.url)


async def _of_mirror(name: str, file: Path) -> Path:
    from asynccopy.config import load  # late: a journal by its file needs neither
    from asynccopy.daemon import build

    config = load(file)
    if name not in config.mirrors:
        known = ", ".join(config.mirrors) or "none"
        raise UsageError(f"{config.source}: there is no [mirrors.{name}]", hint=f"mirrors in this file: {known}")
    source, destination = await build.open_sides(config, config.mirrors[name])
    await destination.aclose()
    await source.aclose()
    return build.journal_path(config, name, source.url, destination.url)


@asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[JournalReader]:
    journal = await JournalReader.read(path)
    try:
        yield journal
    finally:
        await journal.close()


async def _export_jsonl(journal: JournalReader) -> None:
    async for row in journal.ledger():
        click.echo(json.dumps(_cells(row)))


async def _export_csv(journal: JournalReader) -> None:
    # A terminal obeys control characters in names; a file or a pipe gets them as they are.
    terminal = sys.stdout.isatty()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    async for row in journal.ledger():
        cells = [guarded(str(cell)) for cell in _cells(row).values()]
        writer.writerow(map(printable, cells) if terminal else cells)


def guarded(cell: str) -> str:
    """The cell with an apostrophe before it where a spreadsheet would take it for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell


async def _show_job(journal: JournalReader) -> None:
    state, totals = await journal.state(), await journal.totals()
    lines = {
        "source": state.source,
        "destination": state.destination,
        "pass": f"{state.pass_number}, {'finished' if state.finished else 'not finished'}",
        "started": _moment(state.started_at),
        "finished": _moment(state.finished_at),
        "listed": f"{state.listed_files:,} files, {size_text(state.listed_bytes)}"
        + ("" if state.listing_done else " so far"),
        "done": f"{totals.done_files:,} files, {size_text(totals.done_bytes)}",
        "to copy": f"{totals.pending_files:,} files, {size_text(totals.pending_bytes)}",
        "failed": f"{totals.failed_files:,} files, {size_text(totals.failed_bytes)}",
        "still being written": f"{totals.open_files:,} files, {size_text(totals.open_bytes)}",
        "gone": f"{(await journal.gone_count())[0]:,} files",
        "unfinished uploads": str(len(await journal.open_uploads())),
    }
    _echo(lines)


async def _show_file(journal: JournalReader, path: str) -> None:
    row, former, gone = await journal.row(path), await journal.former(path), await journal.gone_of(path)
    if row is None and not former and not gone:
        raise UsageError(f"{path!r} is not in this journal", hint="paths are relative to the source")
    for life in former:
        _section(f"{life.why} {_moment(life.until, 'milliseconds')}", msgspec.structs.asdict(life))
    if row is not None:
        _section("now", _cells(row))
    if (upload := await journal.upload_of(path)) is not None:
        _show_upload(upload)
    for file in gone:
        _section("gone, not dealt with", _gone_cells(file))


def _show_upload(upload: OpenUpload) -> None:
    facts = msgspec.structs.asdict(upload) | {"parts": len(upload.parts)}
    _section("upload under way", facts | msgspec.structs.asdict(facts.pop("version")))
    for part in upload.parts:
        _section(f"part {part.number}", msgspec.structs.asdict(part) | {"blocks": len(part.blocks)})


def _gone_cells(file: GoneFile) -> dict[str, object]:
    proof = {"method": file.evidence.method, "source_checksum": file.evidence.source}
    proof |= {"object_checksum": file.evidence.object, "etag": file.evidence.etag}
    times = {"done_at": file.done_at, "gone_at": file.gone_at}
    return {"path": file.path, **msgspec.structs.asdict(file.version), **proof, **times}


def _section(title: str, facts: Mapping[str, Any]) -> None:
    """A title, and below it each fact on a line; times in words."""
    click.echo(title)
    _echo({name: _moment(at, "milliseconds") if name in _TIMES else at for name, at in facts.items()})


def _echo(facts: Mapping[str, object]) -> None:
    for name, value in facts.items():
        click.echo(f"{name:>18}  {printable(str(value))}")


def _cells(row: LedgerRow) -> dict[str, str | int]:
    return {**msgspec.structs.asdict(row), "state": row.state.name.lower()}


def _moment(milliseconds: int, precision: str = "seconds") -> str:
    if not milliseconds:
        return "-"
    try:
        return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec=precision)
    except OverflowError:  # a source may show any number
        return f"{milliseconds} ms"
