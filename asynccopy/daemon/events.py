"""What happened lately, for people who look, and for the log."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final, Literal

from asynccopy.control.messages import Event
from asynccopy.errors import AsyncCopyError
from asynccopy.logs import log

KEPT: Final = 1000
_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
Level = Literal["info", "warning", "error"]


class Events:
    """The last thousand. What a mirror tells again and again within a minute comes once."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._numbers = count(1)
        self._said: dict[tuple[str, str], float] = {}
        self.files = False
        """Whether the log has a line for every file"""

    def tell(self, mirror: str, level: Level, text: str) -> None:
        self._events.append(Event(next(self._numbers), int(time.time() * 1000), level, mirror, text))
        log.tell(_LEVELS[level], text, **({"mirror": mirror} if mirror else {}))

    def teller(self, mirror: str) -> Callable[[Level, str], None]:
        def told(level: Level, text: str) -> None:
            now = time.time()
            self._said = {what: when for what, when in self._said.items() if now - when < 60.0}
            if (mirror, text) not in self._said:
                self._said[mirror, text] = now
                self.tell(mirror, level, text)

        return told

    def settled(self, mirror: str, path: str, length: int, error: AsyncCopyError | None) -> None:
        """A file was copied, or failed. For the log alone: there are too many of them for people."""
        if self.files:
            failure = {} if error is None else {"error": type(error).__name__, "reason": error.message}
            log.info("copied" if error is None else "failed", mirror=mirror, path=path, bytes=length, **failure)

    def after(self, number: int, limit: int) -> list[Event]:
        """The newest ``limit`` of those with a higher number, oldest first."""
        found = [event for event in self._events if event.number > number]
        return found[-limit:] if limit > 0 else []
