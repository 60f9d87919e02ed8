"""A daemon that mirrors one folder of the local disk into another: what most tests of it need, and quick."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from asynccopy.control.client import ControlClient
from asynccopy.errors import AsyncCopyError
from tests.program import Ended, Program, eventually
from tests.service import Service


def equal(status: dict[str, Any]) -> bool:
    """Everything that a scan has found is there."""
    return status["state"] == "watching" and status["files"]["pending"] == 0 == status["failed"]


class Place:
    """A folder with a tree ``src``, its mirror ``dst``, and the daemon that keeps them equal."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.source, self.destination = folder / "src", folder / "dst"
        self.source.mkdir(exist_ok=True)
        self.program = Program(folder, environment)
        self.service = Service(self.program, "")
        self._services = [self.service]

    def mirror(self, name: str = "m", **keys: object) -> str:
        """The table of a mirror, quick unless the keys say otherwise."""
        number = "" if name == "m" else name
        sides = {"source": f"{self.source}{number}", "destination": f"{self.destination}{number}"}
        table = {**sides, "interval": "1s", "settle": "0s", **keys}
        return f"[mirrors.{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())

    def write(self, *mirrors: str, daemon: str = "") -> None:
        self.service.write("\n".join(mirrors), daemon=daemon)

    def start(self, *mirrors: str, daemon: str = "", **environment: str) -> None:
        self.write(*(mirrors or (self.mirror(),)), daemon=daemon)
        self.service.start(**environment)
        self.answers()

    def again(self) -> None:
        self.service.start()
        self.answers()

    def answers(self) -> None:
        """Wait until it answers."""
        running = self.service.running
        assert running is not None
        eventually(lambda: not running.runs or self.client.responds())
        assert running.runs, running.so_far()

    @property
    def client(self) -> Asking:
        return Asking(self.service.socket)

    def fill(self, count: int, size: int, name: str = "f", folder: str = "") -> None:
        for number in range(count):
            path = Path(f"{self.source}{folder}") / f"{name}{number:03d}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(random.Random(number).randbytes(size))

    def tree(self, root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def is_equal(self) -> bool:
        return self.tree(self.source) == self.tree(self.destination)

    def ask(self, *words: str) -> Ended:
        """A verb that must do."""
        ended = self.service.ask(*words)
        assert ended.code == 0, ended.err
        return ended

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.service.errors().splitlines()]

    def end(self) -> None:
        if self.service.running is not None and self.service.running.runs:
            self.service.kill()


class Asking(ControlClient):
    """Quicker than a command."""

    def responds(self) -> bool:
        try:
            self.status()
        except AsyncCopyError:
            return False
        return True
