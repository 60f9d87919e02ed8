"""Server processes: started in their own group, watched, stopped. None is signalled that was not started here."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import count as counter
from pathlib import Path

FIRST_PORT, EPHEMERAL = 12_000, 32_768
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

_steps = counter()


class ServerFailed(RuntimeError):
    """A server did not start, or died; the message carries the end of its log."""


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, outside the range from which the kernel takes its own (32768 and up).

    A port of that range could be given to some client's connection between this look and the server's bind. For the
    same reason none is given out twice, and processes with neighbouring ids, such as test workers, look in different
    places.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = FIRST_PORT + (os.getpid() * 199 + next(_steps)) % (EPHEMERAL - FIRST_PORT)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
    return ports


def listens(port: int) -> bool:
    """Somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name, [] when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def start_time(pid: int) -> int | None:
    """When the process started, in ticks since boot. With the pid it names a process; the pid alone may be reused."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def cpu_seconds(pid: int) -> float:
    """User and system time the process has used, without its children; 0.0 when it is gone."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND if fields else 0.0


def memory(pid: int, field: str = "VmRSS") -> int:
    """Resident bytes now (VmRSS) or at the peak (VmHWM); 0 when the process is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


_running: weakref.WeakSet[Server] = weakref.WeakSet()


class Server:
    """One server process. ``start`` and ``restart`` return when ``ready()`` is true."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        ready: Callable[[], bool],
        environment: Mapping[str, str],
        timeout: float = 60.0,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.ready = ready
        self.environment = dict(environment)
        self.timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._born: int | None = None

    @property
    def pid(self) -> int:
        """Raises ServerFailed when it is not running."""
        if self._process is None or not self.alive:
            raise ServerFailed(f"{self.name} is not running")
        return self._process.pid

    @property
    def alive(self) -> bool:
        process = self._process
        return process is not None and process.poll() is None and start_time(process.pid) == self._born

    @property
    def suspended(self) -> bool:
        return self.alive and _stat(self.pid)[0] in "Tt"

    def launch(self) -> None:
        """Start the process without waiting for it to be ready."""
        if self.alive:
            raise ServerFailed(f"{self.name} is running already")
        # The kernel kills the server when the *thread* that forked it ends, so only the main thread may ask for this:
        # it lasts as long as the process and covers its kill -9, which no atexit sees.
        main_thread = threading.current_thread() is threading.main_thread()
        tied = ["setpriv", "--pdeathsig", "KILL"] if main_thread and shutil.which("setpriv") else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                tied + self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.log.parent,
                start_new_session=True,
            )
        self._born = start_time(self._process.pid)
        _running.add(self)

    def wait_ready(self) -> None:
        """Raises ServerFailed when it dies or is not ready in time."""
        deadline = time.monotonic() + self.timeout
        while not self.ready():
            if not self.alive:
                raise ServerFailed(f"{self.name} died:\n{self.log_end()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} was not ready after {self.timeout:.0f} s:\n{self.log_end()}")
            time.sleep(0.02)

    def start(self) -> None:
        self.launch()
        self.wait_ready()

    def restart(self) -> None:
        """Kill it if it runs, and start it again on the same ports."""
        self.kill()
        self.start()

    def kill(self) -> None:
        """kill -9, and wait until it is gone. Nothing happens when it is gone already."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def stop(self, patience: float = 5.0) -> None:
        """SIGTERM, then SIGKILL when it does not obey in time."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        if self._process is not None:
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self.kill()

    def suspend(self) -> None:
        """Freeze it: its connections stay open and silent."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def rss(self) -> int:
        return memory(self.pid)

    def peak_rss(self) -> int:
        return memory(self.pid, "VmHWM")

    def cpu(self) -> float:
        return cpu_seconds(self.pid)

    def log_end(self, characters: int = 2000) -> str:
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.alive:
            os.killpg(self._process.pid, number)


@atexit.register
def _kill_what_was_left() -> None:
    for server in list(_running):
        server.kill()
