"""The daemon as a service manager runs it, and the questions that scripts ask it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.program import Ended, Program, Running


class Service:
    """``asynccopy run`` with a configuration of its own. Its state lies in the program's folder."""

    def __init__(self, program: Program, mirrors: str, *, daemon: str = "") -> None:
        self.program = program
        self.socket = program.folder / "c.sock"
        self.config = program.folder / "config.toml"
        self.write(mirrors, daemon=daemon)
        self.running: Running | None = None

    def write(self, mirrors: str, *, daemon: str = "") -> None:
        """Write the configuration; tables below [daemon] as given."""
        state = self.program.folder / "daemon"
        self.config.write_text(f'[daemon]\nstate = "{state}"\nsocket = "{self.socket}"\n{daemon}\n{mirrors}\n')

    def start(self, before: tuple[str, ...] = (), **environment: str) -> None:
        """``before``: the words of a command that starts it."""
        self.running = self.program.start("run", "--config", str(self.config), before=before, **environment)

    def kill(self) -> None:
        assert self.running is not None
        self.running.kill()

    def stop(self) -> Ended:
        assert self.running is not None
        self.running.process.terminate()
        return self.running.wait()

    def ask(self, *words: str) -> Ended:
        """A verb that talks to it."""
        return self.program.run(*words, "--socket", str(self.socket))

    def status(self, mirror: str = "m") -> dict[str, Any] | None:
        """What ``status --json`` says of a mirror, None while nobody answers."""
        ended = self.ask("status", "--json")
        if ended.code == 3:
            return None
        found: dict[str, Any] = json.loads(ended.out)["mirrors"][mirror]
        return found

    def until(
        self, what: Callable[[dict[str, Any]], object], seconds: float = 60.0, mirror: str = "m"
    ) -> dict[str, Any]:
        """Its status, once that is so."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status(mirror)
            if status is not None and what(status):
                return status
            assert self.running is None or self.running.runs, self.errors()
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {status}\n{self.errors()[-2000:]}"
            time.sleep(0.2)

    def errors(self) -> str:
        assert self.running is not None
        return self.running.so_far()

    def journal(self, mirror: str = "m") -> Path:
        [found] = (self.program.folder / "daemon").glob(f"{mirror}.*.journal")
        return found
