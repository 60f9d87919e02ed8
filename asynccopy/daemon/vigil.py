"""What is worth telling a person: decided by looking at a mirror's status now and then. Pure."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from asynccopy.control.messages import MirrorStatus
from asynccopy.logs import printable, redact

Occasion = Literal["failure", "completion", "lag"]

TEXT: Final = 2000
"""Characters of a text: DingTalk takes 20,000 bytes in all"""

PATIENCE: Final = 5 * 60_000
"""Milliseconds for which a mirror waits before a person hears of it"""
STEADY: Final = 60_000
"""Milliseconds of copying that end a wait: what only tries does not last so long"""


class Notice(Struct, frozen=True):
    """Something that a person should know. ``text`` is one line, ``hint`` what to do, or "". ``over``: it has passed.

    ``time``: milliseconds since the epoch.
    """

    occasion: Occasion
    mirror: str
    text: str
    hint: str
    over: bool
    time: int


class Vigil:
    """Looks at one mirror's status now and then, and says what is new to a person.

    Each thing is said once when it begins and once when it is over, however long it lasts and however often the mirror
    tries again meanwhile. ``lag``: seconds above which a lag is worth a notice, None for never. ``failed``: how many
    failed files are no news; None: those of the first look.
    """

    def __init__(self, lag: float | None, failed: int | None = None) -> None:
        self.lag = lag
        self._behind = False
        self.failed = failed
        """Failed files when last told of; None: not known yet"""
        self._scanned: int | None = None  # last_scan of the former look
        self._completed: tuple[str, str] | None = None  # the sides whose first copy is complete
        self._told: Literal["", "waiting", "failed"] = ""
        self._waits: int | None = None  # since when
        self._copies: int | None = None  # likewise

    def look(self, status: MirrorStatus, now: int, *, read: bool = True) -> list[Notice]:
        """Notices that are due. ``now``: milliseconds since the epoch. ``read``: whether the mirror's journal was open
        by now; before that what the status says of files and scans is not known yet.
        """
        found = [*self._state(status, now), *self._lag(status)]
        if read:
            found += [*self._files(status), *self._first_pass(status)]
            self._scanned = status.last_scan
        return [
            Notice(occasion, status.name, _short(text), _short(hint), over, now) for occasion, text, hint, over in found
        ]

    def _state(self, status: MirrorStatus, now: int) -> list[tuple[Occasion, str, str, bool]]:
        """Failed is told of once, until a pass has ended well: between, every few minutes, it is tried again. Waiting
        likewise, but only when it has lasted, and until it copies again.
        """
        waited, copied = self._durations(status, now)
        works = status.state == "watching" or (self._scanned is not None and status.last_scan > self._scanned)
        if status.state == "failed" and self._told != "failed":
            self._told = "failed"
            return [("failure", f"the mirror {status.name} failed: {status.reason}", "", False)]
        if waited >= PATIENCE and not self._told:
            self._told = "waiting"
            text = f"the mirror {status.name} has waited for {waited // 60_000} minutes: {status.reason}"
            return [("failure", text, "it goes on by itself once that is there again", False)]
        if self._told and (works or (self._told == "waiting" and copied >= STEADY)):
            self._told = ""
            return [("failure", f"the mirror {status.name} works again", "", True)]
        return []

    def _durations(self, status: MirrorStatus, now: int) -> tuple[int, int]:
        """For how long it has waited, and copied without a break. What is tried again looks like copying for a moment,
        which does not end a wait.
        """
        state = status.state
        self._copies = (now if self._copies is None else self._copies) if state == "copying" else None
        copied = 0 if self._copies is None else now - self._copies
        if state == "waiting":
            self._waits = now if self._waits is None else self._waits
        elif state != "copying" or copied >= STEADY:
            self._waits = None
        waited = 0 if self._waits is None or state != "waiting" else now - self._waits
        return waited, copied

    def _files(self, status: MirrorStatus) -> list[tuple[Occasion, str, str, bool]]:
        """Told of when there are some and when they have doubled; not those that were there when the daemon started.

        That none are left is known at the end of a pass: it begins by trying all of them again.
        """
        told, failed = self.failed, status.failed
        if told is None or (failed == 0 and status.state == "watching"):
            self.failed = failed
            return []
        if failed < max(1, 2 * told):
            return []
        self.failed = failed
        hint = f"asynccopy errors {status.name} tells which and why"
        return [("failure", f"{status.name}: {failed} files cannot be copied", hint, False)]

    def _first_pass(self, status: MirrorStatus) -> list[tuple[Occasion, str, str, bool]]:
        sides = (status.source, status.destination)
        if not status.completed or sides == self._completed:
            return []
        self._completed = sides
        done = f"{status.files.done} files, {status.bytes.done} bytes"
        rest = f"; {status.failed} files failed" if status.failed else ""
        return [("completion", f"{status.name}: the first copy is complete: {done}{rest}", "", True)]

    def _lag(self, status: MirrorStatus) -> list[tuple[Occasion, str, str, bool]]:
        """Back only well below the limit: a lag that hovers around it is one event, not a hundred."""
        lag = status.lag_seconds
        if self.lag is None or status.state == "paused":  # a person knows
            return []
        if not self._behind and lag > self.lag:
            self._behind = True
            hint = status.reason or f"asynccopy status {status.name} tells what it does"
            return [("lag", f"{status.name} is {lag:.0f} s behind its source, more than {self.lag:.0f} s", hint, False)]
        if self._behind and lag <= 0.75 * self.lag:
            self._behind = False
            return [("lag", f"{status.name} is only {lag:.0f} s behind its source again", "", True)]
        return []


def _short(text: str) -> str:
    """One line of bounded length, fit to leave the house."""
    text = redact(printable(text))
    return text if len(text) <= TEXT else f"{text[: TEXT - 3]}..."
