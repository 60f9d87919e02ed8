"""``asynccopy status``: how a running daemon's mirrors stand."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from asynccopy.cli.connect import connect, talks_to_daemon
from asynccopy.control.client import ControlClient
from asynccopy.control.messages import Counts, DaemonStatus, MirrorDetail, MirrorStatus
from asynccopy.errors import AsyncCopyError, UsageError
from asynccopy.logs import printable
from asynccopy.units import size_text, span_text

_WATCH_SECONDS: Final = 1.0
_TIMES: Final = ("started", "last_scan", "last_full_scan", "next_scan")
_HEADINGS: Final = ("MIRROR", "STATE", "FILES", "BYTES", "RATE", "LAG", "LEFT", "FAILED", "LAST SCAN")


@click.command("status")
@click.argument("mirror", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for scripts.")
@click.option("--watch", is_flag=True, help="Show it until Ctrl-C, anew each second.")
@talks_to_daemon
def command(mirror: str | None, as_json: bool, watch: bool, socket: Path | None, config: Path | None) -> int:
    """Show how the daemon's mirrors stand, or all that is known of one MIRROR.

    Exit code 1 when a mirror is failed or has failed files, 3 when no daemon answers.
    """
    if as_json and watch:
        raise click.UsageError("--json and --watch exclude each other", click.get_current_context())
    if watch and not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal; scripts take --json", click.get_current_context())
    client = connect(socket, config)
    if watch:
        return _watch(client, mirror)
    status, mirrors = _ask(client, mirror)
    if as_json:
        click.echo(json.dumps(document(status, mirrors), indent=2))
    elif mirror is None:
        click.echo("\n".join(printable(line) for line in overview(status, mirrors, _now())))
    else:
        click.echo("\n".join(printable(line) for line in close_up(client.detail(mirror), _now())))
    return 1 if any(each.state == "failed" or each.failed for each in mirrors) else 0


def _ask(client: ControlClient, mirror: str | None) -> tuple[DaemonStatus, tuple[MirrorStatus, ...]]:
    status = client.status()
    mirrors = tuple(each for each in status.mirrors if mirror in (None, each.name))
    if mirror is not None and not mirrors:
        known = ", ".join(each.name for each in status.mirrors) or "none"
        raise UsageError(f"there is no mirror {mirror!r}", hint=f"the daemon's mirrors: {known}")
    return status, mirrors


def document(status: DaemonStatus, mirrors: tuple[MirrorStatus, ...]) -> dict[str, Any]:
    """The JSON document. Times are RFC 3339 or null, durations seconds, rates per second."""
    daemon = _cells(status)
    return {**daemon, "mirrors": {each.name: _cells(each) for each in mirrors}}


def _cells(of: DaemonStatus | MirrorStatus) -> dict[str, Any]:
    cells: dict[str, Any] = msgspec.to_builtins(of)
    return {key: _iso(value) if key in _TIMES else value for key, value in cells.items() if key != "name"}


def overview(status: DaemonStatus, mirrors: tuple[MirrorStatus, ...], now: float) -> list[str]:
    """A line about the daemon and a table of the mirrors. ``now``: seconds since the epoch."""
    rows = [_HEADINGS, *(_row(each, now) for each in mirrors)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [_daemon(status, now), ""]
    for number, row in enumerate(rows):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number and mirrors[number - 1].reason:
            lines.append(f"  {mirrors[number - 1].reason}")
    return lines if mirrors else [*lines[:1], "no mirror is configured"]


def close_up(detail: MirrorDetail, now: float) -> list[str]:
    """All that is known of one mirror, a line for each thing."""
    mirror = detail.status
    rate = "no limit" if mirror.bandwidth is None else f"{size_text(mirror.bandwidth)}/s"
    facts = {
        "mirror": mirror.name,
        "source": mirror.source,
        "destination": mirror.destination,
        "state": f"{mirror.state}: {mirror.reason}" if mirror.reason else mirror.state,
        "files": f"{_progress(mirror.files, mirror.listing, _count)}, {mirror.failed:,} failed",
        "bytes": _progress(mirror.bytes, mirror.listing, size_text),
        "now": f"{size_text(mirror.bytes_per_second)}/s, {mirror.files_per_second:,.1f} files/s, "
        f"{mirror.in_flight:,} ranges in flight of {mirror.concurrency:,}",
        "left": _left(mirror),
        "lag": span_text(mirror.lag_seconds),
        "watch": f"{mirror.watch}; last scan {_ago(mirror.last_scan, now)}, next {_ahead(mirror.next_scan, now)}",
        "bandwidth": "; ".join((rate, *mirror.windows)),
        "since start": f"{mirror.copied_files:,} files, {size_text(mirror.copied_bytes)} copied, "
        f"{mirror.retries:,} retries, {mirror.deleted_files:,} deleted",
        "open files": f"{mirror.open_files:,}" if mirror.open_files else "",
        "deletions": f"{mirror.deletions.count:,} held: {mirror.deletions.held}" if mirror.deletions.held else "",
    }
    lines = [f"{name:>12}  {text}" for name, text in facts.items() if text]
    for flying in detail.flying[:5]:
        moved = f"{size_text(flying.moved)} of {size_text(flying.length)}"
        lines.append(f"{'in flight':>12}  {flying.path}  {moved}, {span_text(flying.seconds)}")
    for failed in detail.errors:
        lines.append(f"{'failed':>12}  {failed.count:,} {failed.error}: {failed.path}: {failed.message}")
        if failed.hint:
            lines.append(f"{'':>12}  hint: {failed.hint}")
    for scan in detail.scans[:5]:
        took = span_text(max(0, scan.finished - scan.started) / 1000) if scan.finished else "under way"
        lines.append(
            f"{'scan':>12}  {_iso(scan.started)} {scan.kind}, {took}: {scan.outcome}; {scan.files:,} files seen, "
            f"{scan.copied:,} copied ({size_text(scan.bytes)}), {scan.failed:,} failed, {scan.deleted:,} deleted"
        )
    return lines


def _watch(client: ControlClient, mirror: str | None) -> int:
    """Draw until Ctrl-C. A daemon that is away is said so and asked again: it may be restarting."""
    from rich.console import Console  # late: rich costs more than all the rest of this command
    from rich.live import Live
    from rich.text import Text

    def picture() -> Text:
        try:
            status, mirrors = _ask(client, mirror)
            lines = overview(status, mirrors, _now())
        except UsageError:
            raise
        except AsyncCopyError as error:
            lines = [error.message, error.hint]
        # Text, not a string: rich would read [brackets] in a name as markup
        return Text("\n".join(map(printable, lines)), no_wrap=True, overflow="ellipsis")

    _ask(client, mirror)  # without a daemon to begin with, there is nothing to watch
    try:
        with Live(picture(), console=Console(), auto_refresh=False) as live:
            while True:
                time.sleep(_WATCH_SECONDS)
                live.update(picture(), refresh=True)
    except KeyboardInterrupt:
        return 0


def _daemon(status: DaemonStatus, now: float) -> str:
    up = span_text(max(0.0, now - status.started / 1000))
    return f"asynccopy {status.version} {status.state} for {up}, pid {status.pid}, {status.config}"


def _row(mirror: MirrorStatus, now: float) -> tuple[str, ...]:
    return (
        mirror.name,
        mirror.state,
        _progress(mirror.files, mirror.listing, _count),
        _progress(mirror.bytes, mirror.listing, size_text),
        f"{size_text(mirror.bytes_per_second)}/s" if mirror.bytes_per_second else "-",
        span_text(mirror.lag_seconds),
        _left(mirror),
        f"{mirror.failed:,}",
        _ago(mirror.last_scan, now),
    )


def _progress(counts: Counts, listing: bool, text: Any) -> str:
    """``done of total (percent)``; a plus where more may still be found."""
    if counts.done >= counts.total:
        return f"{text(counts.total)}{'+' if listing else ''}"
    percent = 100 * counts.done // max(1, counts.total)
    return f"{text(counts.done)} of {text(counts.total)}{'+' if listing else ''} ({percent}%)"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _left(mirror: MirrorStatus) -> str:
    return "-" if mirror.eta_seconds is None else span_text(mirror.eta_seconds)


def _ago(moment: int, now: float) -> str:
    return f"{span_text(max(0.0, now - moment / 1000))} ago" if moment else "never"


def _ahead(moment: int, now: float) -> str:
    return f"in {span_text(max(0.0, moment / 1000 - now))}" if moment else "when it is due"


def _now() -> float:
    return time.time()


def _iso(milliseconds: int) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
