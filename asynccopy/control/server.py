"""The control server: the API, the page and the metrics, over a Unix socket and, where wanted, over TCP.

Who may open the Unix socket may do everything: the file's mode says who that is. Over TCP a request must pass the gate.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from asynccopy.control import gate, sockets
from asynccopy.control.api import Controller
from asynccopy.control.connection import (
    MOST_BODY,
    MOST_CONNECTIONS,
    MOST_HEADERS,
    Connection,
    TurnedAway,
    answer,
    reply,
)
from asynccopy.control.gate import Rejection
from asynccopy.control.routes import Answer, Call, Routes
from asynccopy.errors import AsyncCopyError, UsageError
from asynccopy.logs import log

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_STOP_SECONDS: Final = 1.0


class ControlServer:
    """``async with`` listens and stops. ``port`` is the TCP port once it does, None where there is none."""

    def __init__(
        self,
        controller: Controller,
        *,
        path: Path,
        listen: str | None = None,
        token: str | None = None,
    ) -> None:
        """``listen``: ``host:port`` of TCP. ``token``: asked for over TCP."""
        self.port: int | None = None
        self._routes = Routes(controller)
        self._path = path
        self._listen = listen
        self._token = token
        self._page = _load_page()
        self._web: web.Server | None = None
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> Self:
        """Raises UsageError when it cannot listen; it listens nowhere then."""
        self._web = web.Server(self._answer, access_log=None)
        try:
            unix = await asyncio.to_thread(sockets.unix_socket, self._path)
            self._inode = self._path.lstat()
            await self._serve(unix)
            if self._listen is not None:
                tcp = await asyncio.to_thread(sockets.tcp_socket, self._listen)
                self.port = tcp.getsockname()[1]
                await self._serve(tcp)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _serve(self, listening: socket.socket) -> None:
        loop, make = asyncio.get_running_loop(), self._connections()
        if listening.family == socket.AF_UNIX:
            self._servers.append(await loop.create_unix_server(make, sock=listening))
        else:
            self._servers.append(await loop.create_server(make, sock=listening))

    def _connections(self) -> Callable[[], asyncio.BaseProtocol]:
        """What makes a listener's connections, as many as it may have."""
        assert self._web is not None
        manager, open_ones = self._web, set[Connection]()
        return lambda: Connection(manager, open_ones) if len(open_ones) < MOST_CONNECTIONS else TurnedAway()

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        if self._servers:
            sockets.remove(self._path, self._inode)
        if self._web is not None:
            await self._web.shutdown(_STOP_SECONDS)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        try:
            found = await self._respond(request, connection)
        except Rejection as rejection:
            return answer(rejection)
        except UsageError as error:
            # Well-formed, and refused by the daemon as it stands now
            return answer(Rejection(409, error.message, error.hint))
        except AsyncCopyError as error:
            return answer(Rejection(503, error.message, error.hint))
        finally:
            connection.is_received()
        return reply(200, found.body, found.content_type)

    async def _respond(self, request: web.BaseRequest, connection: Connection) -> Answer:
        path = request.rel_url.raw_path
        if sum(len(name) + len(value) + 4 for name, value in request.raw_headers) > MOST_HEADERS:
            raise Rejection(431, "the request's headers are too long", f"they may have {MOST_HEADERS // 1024} KiB")
        over_tcp = self._over_tcp(request)
        if over_tcp:
            self._check_place(request)
        if request.method == "GET" and path in self._page:
            return self._page[path]
        if over_tcp and self._token is not None:
            gate.check_token(request.headers.get("Authorization"), self._token)
        route, name = self._routes.find(request.method, path)
        if request.method == "GET":
            connection.is_received()
            return await route(Call(name, request.rel_url.query, b""))
        gate.check_json(request.content_type)
        body = await _read(request)
        connection.is_received()
        try:
            found = await route(Call(name, request.rel_url.query, body))
        except (AsyncCopyError, Rejection) as error:
            log.info("control refused", path=path, by=_who(request), reason=error.message)
            raise
        log.info("control", path=path, by=_who(request), body=body.decode("utf-8", "backslashreplace")[:200])
        return found

    def _over_tcp(self, request: web.BaseRequest) -> bool:
        assert request.transport is not None
        return isinstance(request.transport.get_extra_info("sockname"), tuple)

    def _check_place(self, request: web.BaseRequest) -> None:
        assert request.transport is not None
        assert self._listen is not None
        host = self._listen.rpartition(":")[0].strip("[]")
        address = request.transport.get_extra_info("sockname")[:2]
        hosts = request.headers.getall("Host", [])
        gate.check_host(hosts, gate.allowed_hosts(host, address))
        gate.check_origin(request.headers.get("Origin"), hosts[0])


async def _read(request: web.BaseRequest) -> bytes:
    """The body. Refused by its stated length before anything of it is read."""
    if (request.content_length or 0) > MOST_BODY:
        raise Rejection(413, "the body is too long", f"it may have {MOST_BODY // 1024} KiB")
    body = bytearray()
    try:
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > MOST_BODY:
                raise Rejection(413, "the body is too long", f"it may have {MOST_BODY // 1024} KiB")
    except (ConnectionError, web.RequestPayloadError, HttpProcessingError) as error:
        raise Rejection(400, "the body did not come whole") from error
    return bytes(body)


def _who(request: web.BaseRequest) -> str:
    """For the log; a client that is gone already is still worth a line."""
    if request.transport is None:
        return "gone"
    connection: socket.socket = request.transport.get_extra_info("socket")
    return sockets.peer(connection)


def _load_page() -> dict[str, Answer]:
    folder = resources.files("asynccopy.control").joinpath("page")
    page = {
        f"/{file.name}": Answer(file.read_bytes(), _TYPES[suffix])
        for file in folder.iterdir()
        if (suffix := Path(file.name).suffix) in _TYPES
    }
    return {**page, "/": page["/index.html"]}
