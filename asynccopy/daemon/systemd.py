"""What the service manager is told, and when it is told that all is well: sd_notify(3), without a library.

Nothing happens where there is no ``NOTIFY_SOCKET``, that is, where the daemon was started by hand.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from asynccopy.logs import log, printable

LOOK: Final = 0.1
"""Seconds between two looks at the loop's lag: what blocks it for longer is always seen"""
REMEMBERED: Final = 60.0
"""Seconds for which a lag is told"""
STATUS: Final = 900
"""Characters of a status: systemd ignores messages above 4096 bytes"""


class ServiceManager:
    """The socket that the service manager listens on. A message that does not get through is lost and warned of once.

    ``environment``: where ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` are looked up.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path  # @: Linux's abstract namespace
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if path else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self._warned = False
        self.watchdog = _watchdog(environment) if path else None
        """Seconds without a ping after which the daemon is killed; None: nobody watches"""

    def ready(self) -> None:
        """All is set up; also after a reload, whether the new configuration was taken or refused."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """A reload begins. ``ready`` must follow."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The end begins."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._tell(f"STATUS={printable(text)[:STATUS]}")  # a line break in a name must not become an assignment

    def ping(self) -> None:
        """All is well."""
        self._tell("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode("utf-8", "backslashreplace"), self._address)
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning("the service manager cannot be told", message=message, reason=error.strerror)


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Seconds, where the watchdog is meant for this process."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6


class Watchdog:
    """Pings three times within the service manager's patience, as long as ``alive`` says so.

    It runs on the event loop: where that does not turn, no ping goes out either. ``alive`` is to answer at once whether
    the threads that the daemon cannot do without have answered lately.
    """

    def __init__(self, manager: ServiceManager, alive: Callable[[], bool]) -> None:
        self._manager = manager
        self._alive = alive

    async def run(self) -> None:
        """Until cancelled; returns at once where nobody watches."""
        if self._manager.watchdog is None:
            return
        was_alive = True
        while True:
            alive = self._alive()
            if alive:
                self._manager.ping()
            elif was_alive:
                log.warning("no ping to the watchdog: a thread does not answer", seconds=self._manager.watchdog)
            was_alive = alive
            await asyncio.sleep(self._manager.watchdog / 3)


class LoopLag:
    """By how much the event loop is late: something blocks it, or the machine has no time for it."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque()  # when, seconds; each larger than all after it

    @property
    def worst(self) -> float:
        """Seconds, the worst of the last minute."""
        self._forget(time.monotonic())
        return self._late[0][1] if self._late else 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            due = time.monotonic() + LOOK
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            self.note(now, max(0.0, now - due))

    def note(self, now: float, seconds: float) -> None:
        """The loop was late by so many seconds at this moment of the monotonic clock."""
        while self._late and self._late[-1][1] <= seconds:
            self._late.pop()
        self._late.append((now, seconds))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._late and self._late[0][0] < now - REMEMBERED:
            self._late.popleft()
