"""The two places where the control server listens, made so that nobody who should not can connect at any moment."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

from asynccopy.errors import UsageError

MODE: Final = 0o660
_MOST_PATH: Final = 100
"""Linux takes 107 bytes; the name that the socket has first may be a little longer."""


def unix_socket(path: Path) -> socket.socket:
    """A listening Unix socket of mode 0660. One that a killed daemon left is replaced.

    It is bound under another name, restricted, and renamed into place: there is no moment at which it is open to all,
    and none at which the path is empty. Blocks for as long as a connect to a local socket does.
    Raises UsageError: a daemon answers there, the path is too long or is something else, the folder is not ours.
    """
    if len(os.fsencode(path)) > _MOST_PATH:
        raise UsageError(
            f"{path}: too long for a socket (at most {_MOST_PATH} bytes)", hint="choose a shorter `socket`"
        )
    _check_free(path)
    first = path.with_name(f".{os.getpid()}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        first.unlink(missing_ok=True)
        listening.bind(os.fspath(first))
        first.chmod(MODE)
        listening.listen(128)
        listening.setblocking(False)
        first.replace(path)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"{path}: no socket can be made there: {error.strerror}",
            hint="its folder must exist and belong to the daemon's user",
        ) from error
    return listening


def _check_free(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(f"{path}: exists and is no socket", hint="choose another `socket`, or move that away")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(5.0)
            probe.connect(os.fspath(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", hint="choose another `socket`") from error
    raise UsageError(f"{path}: another daemon answers there", hint="stop it, or choose another `socket`")


def remove(path: Path, ours: os.stat_result) -> None:
    """Remove the socket, unless somebody has put another in its place."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
        path.unlink(missing_ok=True)


def tcp_socket(listen: str) -> socket.socket:
    """A listening socket on ``host:port``; port 0 takes a free one. Blocks: it resolves the name. Raises UsageError."""
    host, separator, port = listen.rpartition(":")
    try:
        if not separator or not 0 <= int(port) < 1 << 16:
            raise ValueError
        family, kind, _, _, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
    except (ValueError, OSError) as error:
        raise UsageError(f"`listen`: {listen!r} is no address", hint="write host:port, e.g. 127.0.0.1:8787") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        ours = "`listen` must name an address of this machine"
        hint = ours if error.errno == errno.EADDRNOTAVAIL else "is another daemon running, or the port taken?"
        raise UsageError(f"`listen`: {listen}: {error.strerror}", hint=hint) from error
    return listening


def peer(connection: socket.socket) -> str:
    """Who is at the other end: the user of a Unix socket, an address of TCP."""
    if connection.family != socket.AF_UNIX:
        return str(connection.getpeername()[0])
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return f"uid {uid}"
