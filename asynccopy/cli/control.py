"""The verbs that steer a running daemon, and those that ask it for lists."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from asynccopy.cli.connect import connect, talks_to_daemon
from asynccopy.cli.options import CONCURRENCY
from asynccopy.control.api import MOST_LINES, UNSET, Rate, UnsetType
from asynccopy.control.messages import Event
from asynccopy.errors import AsyncCopyError, UsageError
from asynccopy.logs import printable
from asynccopy.units import parse_rate

_FOLLOW_SECONDS: Final = 1.0


class _Rate(click.ParamType[Any]):
    """A rate, `none` for no limit, or `configured`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return None if value == "none" else value if value == "configured" else parse_rate(value)
        except ValueError as error:
            self.fail(f"{error}, none or configured", param, ctx)


@click.command("pause")
@click.argument("mirror", required=False)
@talks_to_daemon
def pause(mirror: str | None, **which: Path | None) -> None:
    """Pause MIRROR, or all of them, after the ranges in flight. It stays paused over a restart."""
    connect(**which).pause(mirror)


@click.command("resume")
@click.argument("mirror", required=False)
@talks_to_daemon
def resume(mirror: str | None, **which: Path | None) -> None:
    """Let a paused MIRROR, or all of them, go on."""
    connect(**which).resume(mirror)


@click.command("retry")
@click.argument("mirror", required=False)
@talks_to_daemon
def retry(mirror: str | None, **which: Path | None) -> None:
    """Try the failed files of MIRROR, or of all, again now."""
    click.echo(f"{connect(**which).retry(mirror):,} files are tried again")


@click.command("scan")
@click.argument("mirror", required=False)
@talks_to_daemon
def scan(mirror: str | None, **which: Path | None) -> None:
    """Look at the source of MIRROR, or of all, now instead of at its time."""
    connect(**which).scan(mirror)


@click.command("limit")
@click.argument("mirror")
@click.option(
    "--bandwidth",
    type=_Rate(),
    default=UNSET,
    help="At most so fast, e.g. 200MiB/s; none: no limit; configured: as the file says again.",
)
@click.option(
    "--concurrency", type=CONCURRENCY, default=UNSET, help="Ranges in flight; auto: as many as pay, found by trying."
)
@talks_to_daemon
def limit(mirror: str, bandwidth: Rate, concurrency: int | UnsetType | None, **which: Path | None) -> None:
    """Limit MIRROR from now on, without stopping what is in flight."""
    if bandwidth is UNSET and concurrency is UNSET:
        raise click.UsageError("name --bandwidth, --concurrency or both", click.get_current_context())
    connect(**which).limit(mirror, bandwidth=bandwidth, concurrency=concurrency)


@click.command("drain")
@talks_to_daemon
def drain(**which: Path | None) -> None:
    """Let the daemon finish the ranges in flight and exit."""
    connect(**which).drain()


@click.command("reload")
@talks_to_daemon
def reload(**which: Path | None) -> None:
    """Let the daemon read its configuration again, and print what changed. A wrong one is refused, the old goes on."""
    changed = connect(**which).reload()
    click.echo("\n".join(map(printable, changed)) if changed else "nothing changed")


@click.command("errors")
@click.argument("mirror")
@click.option("--class", "error_class", metavar="CLASS", help="Only the files that failed with this class.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document per line.")
@talks_to_daemon
def errors(mirror: str, error_class: str | None, as_json: bool, **which: Path | None) -> None:
    """Print the failed files of MIRROR, tab-separated: path, class, message, hint. At most 1000 of them."""
    failed = connect(**which).errors(mirror, error_class)
    for each in failed:
        cells = msgspec.structs.astuple(each)
        click.echo(json.dumps(msgspec.to_builtins(each)) if as_json else "\t".join(map(printable, cells)))
    if len(failed) == MOST_LINES:
        click.echo(f"asynccopy: the first {MOST_LINES:,} only", err=True)


@click.command("events")
@click.option("--follow", is_flag=True, help="Print new ones as they happen, until Ctrl-C.")
@talks_to_daemon
def events(follow: bool, **which: Path | None) -> None:
    """Print what happened lately, the oldest first."""
    client = connect(**which)
    seen = _print_events(client.events(), 0)
    try:
        while follow:
            time.sleep(_FOLLOW_SECONDS)
            try:
                seen = _print_events(client.events(seen), seen)
            except UsageError:
                raise
            except AsyncCopyError as error:
                # It may be restarting; its numbers begin anew then.
                click.echo(f"asynccopy: {printable(error.message)}", err=True)
                seen = 0
    except KeyboardInterrupt:
        return


def _print_events(found: list[Event], seen: int) -> int:
    for event in found:
        moment = datetime.fromtimestamp(event.time / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        click.echo("  ".join((moment, f"{event.level:<7}", printable(event.mirror or "-"), printable(event.text))))
    return max([seen, *(event.number for event in found)])


@click.command("deletions")
@click.argument("mirror")
@click.option("--confirm", type=click.IntRange(1), metavar="COUNT", help="Do it; COUNT is that of the plan shown.")
@talks_to_daemon
def deletions(mirror: str, confirm: int | None, **which: Path | None) -> None:
    """Print the objects whose files the source of MIRROR no longer has. Deletes nothing without --confirm."""
    client = connect(**which)
    if confirm is not None:
        client.confirm_deletions(mirror, confirm)
        return
    plan = client.deletions(mirror)
    for path in plan.paths:
        click.echo(printable(path))
    summary = f"{plan.deletions.count:,} objects ({plan.deletions.share:.1%})"
    if plan.deletions.held:
        summary += f", held: {plan.deletions.held}; to do it: asynccopy deletions {mirror} "
        summary += f"--confirm {plan.deletions.count}"
    click.echo(f"asynccopy: {summary}", err=True)
