"""What is worth telling a person: decided by looking at a mirror's status now and then. Pure."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from asynccopy.control.messages import MirrorStatus
from asynccopy.logs import printable, redact

Occasion = Literal["failure", "completion", "lag"]

TEXT: Final = 2000
"""Characters of a text: DingTalk takes 20,000 bytes in all"""


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
        self._broken = False
        self._failed = failed  # failed files when last told of
        self._scanned: int | None = None  # last_scan of the former look
        self._completed = False

    def look(self, status: MirrorStatus, now: int) -> list[Notice]:
        """Notices that are due. ``now``: milliseconds since the epoch."""
        found = [*self._state(status), *self._files(status), *self._first_pass(status), *self._lag(status)]
        self._scanned = status.last_scan
        return [
            Notice(occasion, status.name, _short(text), _short(hint), over, now) for occasion, text, hint, over in found
        ]

    def _state(self, status: MirrorStatus) -> list[tuple[Occasion, str, str, bool]]:
        """Failed is told of once, until a pass has ended well: between, every few minutes, it is tried again."""
        if status.state == "failed":
            told, self._broken = self._broken, True
            return [] if told else [("failure", f"the mirror {status.name} failed: {status.reason}", "", False)]
        works = status.state == "watching" or (self._scanned is not None and status.last_scan > self._scanned)
        if self._broken and works:
            self._broken = False
            return [("failure", f"the mirror {status.name} works again", "", True)]
        return []

    def _files(self, status: MirrorStatus) -> list[tuple[Occasion, str, str, bool]]:
        """Told of when there are some and when they have doubled; not those that were there when the daemon started.

        That none are left is known at the end of a pass: it begins by trying all of them again.
        """
        told, failed = self._failed, status.failed
        if told is None or (failed == 0 and status.state == "watching"):
            self._failed = failed
            return []
        if failed < max(1, 2 * told):
            return []
        self._failed = failed
        hint = f"asynccopy errors {status.name} tells which and why"
        return [("failure", f"{status.name}: {failed} files cannot be copied", hint, False)]

    def _first_pass(self, status: MirrorStatus) -> list[tuple[Occasion, str, str, bool]]:
        told, self._completed = self._completed, status.completed
        if told or not status.completed:
            return []
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
