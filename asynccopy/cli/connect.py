"""Which daemon a command talks to: its socket as told, or where one usually lies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from asynccopy.control.client import ControlClient
from asynccopy.errors import Unreachable

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_SOCKET: Final = click.Path(path_type=Path, dir_okay=False, readable=False)  # who may use it, the client says better
_SERVICE: Final = Path("/run/asynccopy/control.sock")


def talks_to_daemon(command: _Command) -> _Command:
    """The options that say which daemon; the command takes them as ``**which`` for ``connect``."""
    command = click.option("--config", type=_FILE, help="Find the socket in the daemon's configuration file.")(command)
    socket = click.option("--socket", type=_SOCKET, help="The daemon's socket. Default: where the service has it.")
    return socket(command)


def connect(socket: Path | None, config: Path | None) -> ControlClient:
    """Talks to nobody yet. Raises UsageError for a wrong configuration file, Unreachable when no socket is found."""
    if socket is not None:
        return ControlClient(socket)
    if config is not None:
        from asynccopy.config import load  # late: the parser costs more than the question

        # Where the file names no socket, the daemon's is in a folder that systemd told it, and us nothing of.
        service = {"RUNTIME_DIRECTORY": str(_SERVICE.parent)} if _SERVICE.exists() else {}
        return ControlClient(Path(load(config, service | os.environ).daemon.socket))
    return ControlClient(_usual())


def _usual() -> Path:
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime:
        return Path(runtime) / "control.sock"
    if _SERVICE.exists():
        return _SERVICE
    from asynccopy.config import state_directory  # late, as above

    own = state_directory() / "control.sock"
    if not own.exists():
        raise Unreachable(
            f"no daemon's socket at {_SERVICE} or {own}",
            hint="is `asynccopy run` running? Else name its socket with --socket PATH, or its file with --config FILE",
        )
    return own
