"""What is known of a cluster's DataNodes: which ones the NameNode has named lately, and which ones failed."""

from __future__ import annotations

import re
from collections import deque
from functools import lru_cache
from time import monotonic
from typing import Final

from asynccopy.storage.pool import Origin
from asynccopy.storage.webhdfs.redirects import Redirect

SUSPECT: Final = 30.0
"""Seconds for which a DataNode that failed is avoided: about what a NameNode with usual settings takes to call it
stale.
"""
LONGEST: Final = 480.0
"""One that fails again within so many seconds after it was let back is avoided twice as long as before, up to this."""
FRESH: Final = 60.0
"""Seconds for which a DataNode that the NameNode has named is asked without it."""
ASKED: Final = 16
"""Every so many-th time the NameNode is asked all the same, so that new DataNodes come to be known."""
OPENED: Final = 8192
"""Files remembered with the DataNode that read them; more than are ever between their reading and their checksum."""

_OP: Final = re.compile(r"(^|&)op=OPEN(?=&|$)")
_RANGE: Final = re.compile(r"(?:^|&)(offset|length)=[^&]*")


class DataNodes:
    """DataNodes as the NameNode's redirects show them. No address comes from anywhere else."""

    def __init__(self) -> None:
        self._suspects: dict[Origin, tuple[float, float]] = {}  # until when, and for how long
        self._known: dict[Origin, tuple[float, str]] = {}
        self._turns: deque[Origin] = deque()
        self._asked = 0
        self._who = ""
        self._opened: dict[str, Redirect] = {}

    def asked_as(self, who: str) -> None:
        """Who asks the NameNode from now on: redirects that were given to somebody else, or to an older token, are
        forgotten.
        """
        if who != self._who:
            self._who = who
            self._known.clear()
            self._turns.clear()
            self._opened.clear()

    def named(self, found: Redirect) -> None:
        """The NameNode has redirected an OPEN there."""
        if _plain(found.query):
            if found.origin not in self._known:
                self._turns.append(found.origin)
            self._known[found.origin] = (monotonic() + FRESH, found.query)

    def next(self) -> Redirect | None:
        """A DataNode to open a small file at without asking the NameNode, each in turn; None: ask it.

        Any DataNode serves any file: what it does not hold it reads from one that does.
        """
        self._asked += 1
        if self._asked % ASKED == 0:
            return None
        now = monotonic()
        for _ in range(len(self._turns)):
            origin = self._turns[0]
            until, query = self._known[origin]
            if until < now:
                self._turns.popleft()
                del self._known[origin]
            else:
                self._turns.rotate(-1)
                if not self.suspected(origin):
                    return Redirect(origin, query)
        return None

    def suspect(self, origin: Origin) -> None:
        """It failed: avoid it for a while."""
        now = monotonic()
        until, seconds = self._suspects.get(origin, (0.0, 0.0))
        if until <= now:  # else what was under way there fails with it: one failure
            seconds = min(2 * seconds, LONGEST) if seconds and now - until < LONGEST else SUSPECT
            self._suspects[origin] = (now + seconds, seconds)

    def suspected(self, origin: Origin) -> bool:
        found = self._suspects.get(origin)
        return found is not None and found[0] > monotonic()

    def opened(self, path: str, at: Redirect) -> None:
        """A file is being read there, which is where to ask for its checksum afterwards."""
        checksum = queries(at.query)[1]
        if checksum is None:
            return
        if len(self._opened) >= OPENED:
            del self._opened[next(iter(self._opened))]
        self._opened[path] = Redirect(at.origin, checksum, at.prefix, at.who)

    def reader_of(self, path: str) -> Redirect | None:
        """Where to ask for the checksum of a file that was read: once, and not of a DataNode that failed since."""
        found = self._opened.pop(path, None)
        return None if found is None or self.suspected(found.origin) else found


@lru_cache(maxsize=4096)
def queries(query: str) -> tuple[str, str | None]:
    """A redirect's query without its range, and the same asking for the checksum: None of a gateway's redirect, which
    only it can read. Remembered: files of one length have the same.
    """
    rest = _RANGE.sub("", query).lstrip("&")
    checksum, swapped = _OP.subn(r"\1op=GETFILECHECKSUM", rest)
    return rest, checksum if swapped == 1 else None


def _plain(query: str) -> bool:
    """Whether it is a DataNode's own query, which means the same with another path."""
    return "namenoderpcaddress=" in query and queries(query)[1] is not None
