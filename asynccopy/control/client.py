"""Asks a daemon over its Unix socket, and turns what stands in the way into errors with a hint.

It blocks, and it is plain http.client: a command asks once and ends, and importing aiohttp would take it longer than
everything else together.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from asynccopy.control.api import (
    UNSET,
    Confirmation,
    DeletionPlan,
    Limit,
    Nothing,
    Rate,
    Refusal,
    Reloaded,
    Retried,
    UnsetType,
)
from asynccopy.control.messages import DaemonStatus, Event, FailedFile, MirrorDetail
from asynccopy.errors import CredentialsRefused, ServerTrouble, Unreachable, UsageError, WrongServer

T = TypeVar("T")

_SECONDS: Final = 65.0
"""Longer than the daemon gives itself for an answer."""
_ELSEWHERE: Final = "name another socket with --socket PATH, or the daemon's file with --config FILE"


class ControlClient:
    """The daemon that listens at ``path``. A connection is made for each question.

    Every method raises Unreachable (no daemon), CredentialsRefused (the socket is not for this user), WrongServer (not
    a daemon), ServerTrouble (the daemon failed at it) and UsageError (the daemon refused: its message and hint).
    """

    def __init__(self, path: Path, timeout: float = _SECONDS) -> None:
        """``timeout``: seconds to wait for an answer."""
        self._path = path
        self._timeout = timeout

    def status(self) -> DaemonStatus:
        return self._get("/v1/status", DaemonStatus)

    def detail(self, name: str) -> MirrorDetail:
        return self._get(_of(name), MirrorDetail)

    def errors(self, name: str, error_class: str | None = None) -> list[FailedFile]:
        query = {} if error_class is None else {"class": error_class}
        return self._get(_of(name, "errors"), list[FailedFile], query)

    def events(self, after: int = 0) -> list[Event]:
        return self._get("/v1/events", list[Event], {"after": str(after)})

    def pause(self, name: str | None) -> None:
        self._post(_of(name, "pause"), Nothing(), Nothing)

    def resume(self, name: str | None) -> None:
        self._post(_of(name, "resume"), Nothing(), Nothing)

    def retry(self, name: str | None) -> int:
        return self._post(_of(name, "retry"), Nothing(), Retried).files

    def scan(self, name: str | None) -> None:
        self._post(_of(name, "scan"), Nothing(), Nothing)

    def limit(
        self,
        name: str,
        *,
        bandwidth: Rate = UNSET,
        concurrency: int | UnsetType | None = UNSET,
    ) -> None:
        self._post(_of(name, "limit"), Limit(bandwidth, concurrency), Nothing)

    def drain(self) -> None:
        self._post("/v1/drain", Nothing(), Nothing)

    def reload(self) -> tuple[str, ...]:
        return self._post("/v1/reload", Nothing(), Reloaded).changed

    def deletions(self, name: str) -> DeletionPlan:
        return self._get(_of(name, "deletions"), DeletionPlan)

    def confirm_deletions(self, name: str, count: int) -> None:
        self._post(_of(name, "deletions"), Confirmation(count), Nothing)

    def _get(self, path: str, kind: type[T], query: Mapping[str, str] | None = None) -> T:
        return self._ask("GET", f"{path}?{urlencode(query)}" if query else path, None, kind)

    def _post(self, path: str, body: object, kind: type[T]) -> T:
        return self._ask("POST", path, msgspec.json.encode(body), kind)

    def _ask(self, method: str, path: str, body: bytes | None, kind: type[T]) -> T:
        connection = _OverUnix(self._path, self._timeout)
        try:
            connection.request(method, path, body, {} if body is None else {"Content-Type": "application/json"})
            response = connection.getresponse()
            said = response.read()
        except http.client.HTTPException as error:
            raise self._not_a_daemon() from error
        except OSError as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        try:
            if response.status == 200:
                return msgspec.json.decode(said, type=kind)
            refusal = msgspec.json.decode(said, type=Refusal)
        except msgspec.MsgspecError as error:
            raise self._not_a_daemon() from error
        if response.status >= 500:
            raise ServerTrouble(refusal.error, hint=refusal.hint)
        raise UsageError(refusal.error, hint=refusal.hint)

    def _not_a_daemon(self) -> WrongServer:
        return WrongServer(
            f"{self._path}: what answers there is not a daemon of this release", hint=f"restart it, or {_ELSEWHERE}"
        )

    def _unreachable(self, error: OSError) -> Unreachable | CredentialsRefused:
        match error:
            case PermissionError():
                return CredentialsRefused(
                    f"{self._path}: you may not use this socket", hint="its group may: join it, or use sudo"
                )
            case FileNotFoundError() | ConnectionRefusedError() | NotADirectoryError():
                return Unreachable(
                    f"{self._path}: no daemon listens there", hint=f"is `asynccopy run` running? Else {_ELSEWHERE}"
                )
            case TimeoutError():
                return Unreachable(f"{self._path}: the daemon did not answer in {self._timeout:.0f} s", hint="")
            case _:
                return Unreachable(f"{self._path}: {error.strerror or error}", hint=_ELSEWHERE)


class _OverUnix(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


def _of(name: str | None, verb: str = "") -> str:
    """The path of a mirror, of a verb of it, or of the verb for all mirrors. ``name`` may be anything a user typed."""
    place = "/v1" if name is None else f"/v1/mirrors/{quote(name, safe='')}"
    return f"{place}/{verb}" if verb else place
