"""One worker process from its start to its end, whichever way that comes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from contextlib import suppress
from pathlib import Path
from typing import Final

from asynccopy.executors.frames import Channel, ToParent, to_parent
from asynccopy.logs import log

GOODBYE: Final = 5.0
"""Seconds for a worker with nothing left to do to close its connections."""


class WorkerProcess:
    """A child and the channel to it. Whoever starts it calls ``end``, and then none is left behind."""

    def __init__(self, number: int, process: Process, channel: Channel[ToParent]) -> None:
        self.channel = channel
        self.words = ""
        """The last line it printed."""
        self._number = number
        self._process = process

    @classmethod
    async def start(cls, number: int) -> WorkerProcess:
        """Raises OSError. Its end of the socket pair is its standard input: no address, no key on a command line."""
        ours, theirs = socket.socketpair()
        with theirs:
            channel = await Channel.over(ours, to_parent)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    "-m",
                    "asynccopy.executors",
                    stdin=theirs.fileno(),
                    stdout=PIPE,
                    stderr=STDOUT,
                    env=_environment(),
                    start_new_session=True,  # Ctrl-C goes to a terminal's whole process group, and is ours to take
                )
            except BaseException:
                channel.close()  # which ends a child that did start
                raise
        return cls(number, process, channel)

    def kill(self) -> None:
        """Also one that is stopped or hangs."""
        if self._process.returncode is None:
            # Not Process.kill: asyncio's looks first whether it runs, and by that takes its exit status from the loop.
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def goodbye(self) -> None:
        """Wait until it has ended by itself, for ``GOODBYE`` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await self._process.wait()

    async def end(self) -> None:
        """Kill it, unless it has ended, and wait for that."""
        self.channel.close()
        self.kill()
        await self._process.communicate()  # reads what is left, too: without that, the wait may never end

    @property
    def ending(self) -> str:
        """How it ended."""
        code = self._process.returncode
        if code is not None and code < 0:
            with suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exited with code {code}"

    async def relay(self) -> None:
        """What it prints, a traceback above all, goes where our own events go. Until it ends."""
        assert self._process.stdout is not None
        rest = b""
        while piece := await self._process.stdout.read(65536):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._tell(line)
        self._tell(rest)

    def _tell(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip()
        if text:
            self.words = text
            log.warning("worker process", worker=self._number, says=text)


def _environment() -> dict[str, str]:
    """A worker finds every module where this process does, and none in the current directory. Credentials go along."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path)}
