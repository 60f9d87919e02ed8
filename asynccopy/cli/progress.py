"""How far a run is: a live display on a terminal, a line every ten seconds elsewhere; always on stderr."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click
from msgspec import Struct

from asynccopy.logs import printable
from asynccopy.mirror.progress import Progress
from asynccopy.units import size_text, span_text

_LINE_SECONDS: Final = 10.0
_DRAW_SECONDS: Final = 0.25
_RECENT_SECONDS: Final = 5.0
_SHOWN_FILES: Final = 5


class View(Struct, frozen=True):
    """The figures of one moment; rates in bytes per second, ``left`` in seconds, None while nobody can say.
    ``hindrance``: the trouble in which nothing moves.
    """

    done_files: int
    known_files: int
    done_bytes: int
    known_bytes: int
    rate: float
    mean: float
    left: float | None
    complete: bool
    failed: int
    hindrance: str = ""

    def sentence(self) -> str:
        """All of it in one line."""
        known = "" if self.complete else " so far"
        text = (
            f"{self.done_files:,} of {self.known_files:,} files{known}, "
            f"{size_text(self.done_bytes)} of {size_text(self.known_bytes)}, "
            f"{size_text(self.rate)}/s now, {size_text(self.mean)}/s mean"
        )
        if self.left is not None:
            text += f", {'' if self.complete else 'at least '}{span_text(self.left)} left"
        text = f"{text}, {self.failed:,} failed" if self.failed else text
        return f"{text}; {printable(self.hindrance)}" if self.hindrance else text


class Meter:
    """Turns counters into rates. ``now`` is any clock in seconds that only goes forward."""

    def __init__(self, now: float) -> None:
        self._start = now
        self._samples: deque[tuple[float, int]] = deque([(now, 0)])

    def look(self, progress: Progress, now: float) -> View:
        """The figures now. Rates count bytes as they are read; what is left counts what is not done yet."""
        self._samples.append((now, progress.moved_bytes))
        while len(self._samples) > 2 and self._samples[1][0] <= now - _RECENT_SECONDS:
            self._samples.popleft()
        then, moved = self._samples[0]
        elapsed = now - self._start
        done_files = progress.skipped_files + progress.copied_files + progress.failed_files
        done_bytes = progress.skipped_bytes + progress.copied_bytes + progress.failed_bytes
        in_flight = sum(flight.moved for flight in progress.in_flight.values())
        worked_files = done_files - progress.skipped_files
        worked_bytes = done_bytes - progress.skipped_bytes + in_flight
        waits = [
            _left(progress.listed_files - done_files, worked_files, elapsed),
            _left(progress.listed_bytes - done_bytes - in_flight, worked_bytes, elapsed),
        ]
        known = [wait for wait in waits if wait is not None]
        return View(
            done_files=done_files,
            known_files=progress.listed_files,
            done_bytes=done_bytes + in_flight,
            known_bytes=progress.listed_bytes,
            # What a file has to begin anew with was not moved: that may be more than what came meanwhile.
            rate=max(0.0, progress.moved_bytes - moved) / (now - then) if now > then else 0.0,
            mean=progress.moved_bytes / elapsed if elapsed > 0 else 0.0,
            left=max(known) if known else None,
            complete=progress.listing_done,
            failed=progress.failed_files,
            hindrance=progress.hindrance,
        )


def _left(missing: int, done: int, elapsed: float) -> float | None:
    return missing * elapsed / done if done > 0 and missing >= 0 else None


@contextmanager
def shown(progress: Progress, warning: Callable[[], str] = str, *, quiet: bool) -> Iterator[None]:
    """Show the progress while the block runs in an event loop, and what there is to warn of, "" for nothing."""
    if quiet:
        yield
    elif sys.stderr.isatty():
        with _live(progress, warning):
            yield
    else:
        meter = Meter(time.monotonic())

        def line() -> None:
            click.echo(meter.look(progress, time.monotonic()).sentence(), err=True)
            if text := warning():
                click.echo(f"warning: {printable(text)}", err=True)

        with _every(_LINE_SECONDS, line):
            yield


@contextmanager
def _every(seconds: float, draw: Callable[[], None]) -> Iterator[None]:
    """Call ``draw`` again and again. A timer and not a task: it never waits, and what it raises cannot end the work."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def tick() -> None:
        nonlocal timer
        timer = loop.call_later(seconds, tick)
        draw()

    timer = loop.call_later(seconds, tick)
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _live(progress: Progress, warning: Callable[[], str]) -> Iterator[None]:
    # Imported late: only a terminal needs it, and it is the largest import of all.
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    meter = Meter(time.monotonic())
    console = Console(stderr=True, highlight=False)

    def picture() -> Text:
        lines = [meter.look(progress, time.monotonic()).sentence()]
        if text := warning():
            lines.append(f"  warning: {printable(text)}")
        lines += [
            f"  {flight.moved * 100 // flight.length if flight.length else 0:3d} % of {size_text(flight.length):>9}"
            f"  {printable(path)}"
            for path, flight in list(progress.in_flight.items())[:_SHOWN_FILES]
        ]
        lines += [f"  failed {printable(lost.path)}: {printable(lost.message)}" for lost in progress.failures[-3:]]
        # Text, not a string: rich would read [brackets] in a name as markup
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    with (
        Live(picture(), console=console, auto_refresh=False, transient=True) as live,
        _every(_DRAW_SECONDS, lambda: live.update(picture(), refresh=True)),
    ):
        yield
