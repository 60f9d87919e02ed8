"""One connection of the control server: how long it may take, how much it may send, what it is told when it may not.

aiohttp parses; here it gets the limits that it lacks. A connection carries one request. That costs a page one connect
in two seconds, and in exchange a deadline for the connection is a deadline for the request, and what was pipelined
behind it is never looked at.
"""

from __future__ import annotations

import asyncio
import http
import logging
from typing import Any, Final, cast

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict

from asynccopy.control.api import Refusal
from asynccopy.control.gate import Rejection
from asynccopy.logs import log

MOST_CONNECTIONS: Final = 64
MOST_HEADERS: Final = 16 * 1024
MOST_BODY: Final = 64 * 1024
RECEIVE_SECONDS: Final = 10.0
"""A request must have come whole within this."""
ANSWER_SECONDS: Final = 60.0
"""And its answer must have gone out within this."""

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "asynccopy",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer, errors too."""

_SLOW: Final = Rejection(408, "the request did not come in time", f"send it within {RECEIVE_SECONDS:.0f} s")
_FULL: Final = Rejection(503, "too many connections", f"at most {MOST_CONNECTIONS} are open at once; try again")
_LONG: Final = Rejection(431, "the request's headers are too long", f"they may have {MOST_HEADERS // 1024} KiB")


class Connection(web.RequestHandler):
    """aiohttp's, with deadlines. ``listener`` is whose connections are counted."""

    __slots__ = ("_alarm", "_heard", "_listener", "_received")

    def __init__(self, manager: web.Server, listener: set[Connection]) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=0,
            access_log=None,  # type: ignore[arg-type]  # aiohttp asks whether there is one
            max_headers=64,
            lingering_time=1.0,
            auto_decompress=False,
        )
        self._listener = listener
        self._alarm: asyncio.TimerHandle | None = None
        self._heard = False
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.add(self)
        self._alarm = self._loop.call_later(RECEIVE_SECONDS, self._refuse, _SLOW)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._listener.discard(self)
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        # The parser bounds each header, not their sum.
        waits = not self._heard and not self._messages and self._current_request is None
        if waits and self._received > MOST_HEADERS + MOST_BODY:
            self._refuse(_LONG)

    def is_received(self) -> None:
        """The request is here as a whole, or need not be. From now on the answer has its time."""
        self._heard = True
        self._disarm()
        if self.transport is not None:
            self._alarm = self._loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _refuse(self, rejection: Rejection) -> None:
        """Answer without having read, and end."""
        if self.transport is not None:
            self.transport.write(raw(rejection))
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp found wrong while it parsed. Its text quotes the request, so it is not passed on."""
        if status >= 500 and not isinstance(exc, ConnectionError):  # a client that went away is no failure of ours
            log.tell(logging.ERROR, "control failed", exc_info=exc)
            return answer(Rejection(500, "the daemon failed at this", "its log says more"))
        if isinstance(exc, LineTooLong):
            return answer(_LONG)
        return answer(Rejection(400, "this is not a proper HTTP request"))


class TurnedAway(asyncio.Protocol):
    """A connection above the limit: told so and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast("asyncio.Transport", transport)
        writing.write(raw(_FULL))
        writing.close()


def answer(rejection: Rejection) -> web.Response:
    """The rejection as a response, with a body that scripts can read."""
    extra = {401: {"WWW-Authenticate": "Bearer"}}.get(rejection.status, {})
    return reply(rejection.status, _refusal(rejection), "application/json", extra)


def reply(status: int, body: bytes, content_type: str, extra: dict[str, str] | None = None) -> web.Response:
    headers: CIMultiDict[Any] = CIMultiDict({**HEADERS, **(extra or {}), "Content-Type": content_type})
    response = web.Response(status=status, body=body, headers=headers)
    response.force_close()
    return response


def raw(rejection: Rejection) -> bytes:
    """The same without aiohttp, for who did not send a request."""
    body = _refusal(rejection)
    lines = [f"HTTP/1.1 {rejection.status} {http.HTTPStatus(rejection.status).phrase}"]
    headers = {**HEADERS, "Content-Type": "application/json", "Content-Length": str(len(body))}
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _refusal(rejection: Rejection) -> bytes:
    return msgspec.json.encode(Refusal(rejection.message, rejection.hint))
