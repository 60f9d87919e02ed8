"""Arguments and options that several verbs share, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from asynccopy import units
from asynccopy.mirror.selection import Selection
from asynccopy.model import Preserved

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Parsed(click.ParamType[Any]):
    """A value that a function reads; its ValueError becomes the message, click adds the option's name."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _auto_or_up_to(most: int, text: str) -> int | None:
    """A number from 1 on; None for `auto`."""
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise ValueError(f"{text!r} is neither `auto` nor a number from 1 to {most}")
    return int(text)


def _preserved(text: str) -> tuple[Preserved, ...]:
    words: tuple[Preserved, ...] = get_args(Preserved)
    given = text.split(",")
    wrong = [word for word in given if word not in (*words, "all")]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is none of {', '.join(words)}, all")
    return tuple(word for word in words if word in given or "all" in given)


SIZE = _Parsed("size", units.parse_size)
RATE = _Parsed("rate", units.parse_rate)
MOMENT = _Parsed("time", lambda text: units.parse_moment(text, datetime.now(UTC)))
PROCESSES = _Parsed("number", partial(_auto_or_up_to, 64))
CONCURRENCY = _Parsed("number", partial(_auto_or_up_to, 10_000))
PRESERVE = _Parsed("words", _preserved)
FILE = click.Path(path_type=Path, dir_okay=False)

_SELECTION = (
    click.option("--include", multiple=True, metavar="GLOB", help="Take only paths that match; ** crosses /."),
    click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out paths that match; wins over --include."),
    click.option("--include-regex", multiple=True, metavar="REGEX", help="As --include, by regular expression."),
    click.option("--exclude-regex", multiple=True, metavar="REGEX", help="As --exclude, by regular expression."),
    click.option("--min-size", type=SIZE, help="Leave out smaller files, e.g. 1MiB."),
    click.option("--max-size", type=SIZE, help="Leave out bigger files, e.g. 10GB."),
    click.option("--newer-than", type=MOMENT, help="Only files modified since: 2026-01-31, ISO 8601 (UTC), or 7d ago."),
    click.option("--older-than", type=MOMENT, help="Only files modified before."),
    click.option("--no-empty-directories", is_flag=True, help="Do not write a `name/` object for an empty directory."),
)
_SIDES = (
    click.argument("source"),
    click.argument("destination"),
    click.option("--config", type=FILE, help="TOML file that names endpoints; see config.example.toml."),
    click.option("--journal", type=FILE, help="The journal's file. Default: one per job in XDG_STATE_HOME."),
    click.option(
        "--concurrency",
        type=CONCURRENCY,
        default="auto",
        show_default=True,
        help="Ranges in flight. auto: as many as pay, found by trying.",
    ),
)
_TALK = (
    click.option("--quiet", is_flag=True, help="No progress and no summary; errors only."),
    click.option("-v", "--verbose", is_flag=True, help="Tell more."),
)


def side_options(command: _Command) -> _Command:
    return _apply(_SIDES, command)


def selection_options(command: _Command) -> _Command:
    return _apply(_SELECTION, command)


def talk_options(command: _Command) -> _Command:
    return _apply(_TALK, command)


def take_selection(options: dict[str, Any]) -> Selection:
    """Take the selection's options out of a command's keywords. Raises click.UsageError for bounds no file can meet."""
    low, high = options.pop("min_size"), options.pop("max_size")
    after, before = options.pop("newer_than"), options.pop("older_than")
    if low is not None and high is not None and low > high:
        raise click.UsageError("--min-size is above --max-size", click.get_current_context())
    if after is not None and before is not None and after >= before:
        raise click.UsageError("--newer-than is not before --older-than", click.get_current_context())
    return Selection(
        include=options.pop("include"),
        exclude=options.pop("exclude"),
        include_regex=options.pop("include_regex"),
        exclude_regex=options.pop("exclude_regex"),
        min_size=low,
        max_size=high,
        modified_after=after,
        modified_before=before,
        empty_directories=not options.pop("no_empty_directories"),
    )


def _apply(decorators: tuple[Callable[[Any], Any], ...], command: _Command) -> _Command:
    for decorator in reversed(decorators):
        command = decorator(command)
    return command
