"""One HTTP/1.1 connection, reading straight into the caller's buffers.

Own code because this is the data path, and it is measured: a ``BufferedProtocol`` lets the loop receive into the
buffer that is sent on, so a byte is copied by the kernel only. Strict: HTTP/1.x, known lengths, no surprises.
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
import ssl
import struct
from collections.abc import Callable
from time import monotonic
from typing import Final, cast

from asynccopy.errors import AsyncCopyError, ConnectionLost, ShortRead, Transient, WrongServer
from asynccopy.storage.pace import Pace
from asynccopy.storage.tls import refusal

JOINED: Final = 128 * 1024
"""Bodies up to here are copied behind their heads where the loop cannot gather: a call of the kernel's costs more."""
HEAD: Final = 16 * 1024
"""The longest head accepted, and the most that comes before anyone asked for it."""
SCRATCH: Final = 128 * 1024
"""What a read without a target may bring: a small file with its head, by one call of the kernel's."""

_STATUS: Final = re.compile(r"HTTP/1\.([01]) ([0-9]{3})(?![^ \r])")
_FIELD: Final = re.compile(r"\r\n([^:\r\n]+):[ \t]*([^\r\n]*)")
_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1\d\d[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n")
_RESET: Final = struct.pack("ii", 1, 0)


class Connection(asyncio.BufferedProtocol):
    """A connected socket. One exchange at a time; the door owns it in between.

    ``scratch`` is shared by the connections of one loop: what came is taken out of it before the loop goes on.
    ``waiting`` tells whether somebody waits for the network right now, ``moved`` how many bytes have passed so far in
    both directions: what the door's watch needs to tell a stall from a slow consumer. ``pace``: what is usual
    for such a body, where that is known.
    """

    __slots__ = (
        "_drain", "_eof", "_filled", "_gathers", "_held", "_loop", "_lost", "_scratch", "_start", "_target", "_wake",
        "deadline", "mark", "mark_moved", "moved", "name", "observe", "pace", "transport", "used",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, scratch: memoryview) -> None:
        self._loop = loop
        self.name = name
        self.transport = cast("asyncio.Transport", None)
        self._scratch = scratch
        # Not asyncio's own writelines: before 3.12.9 and 3.13.2 it does not pause the writer (CVE-2024-12254).
        self._gathers = type(loop).__module__.startswith("uvloop")
        self._held = b""  # what came without a target; before _start it is consumed
        self._start = 0
        self._target: memoryview | None = None
        self._filled = 0
        self._wake: asyncio.Future[None] | None = None
        self._drain: asyncio.Future[None] | None = None
        self._eof = False
        self._lost: AsyncCopyError | None = None
        self.used = False  # kept after an earlier exchange
        self.moved = 0
        self.mark = 0.0
        self.mark_moved = 0
        self.deadline: float | None = None
        self.observe: Callable[[float], None] | None = None
        self.pace: Pace | None = None

    # --- what the loop calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        # 0: resume_writing comes exactly when everything is in the kernel, so a buffer may be used again. Over TLS a
        # high-water mark of 0 is reached by an empty buffer too, and nothing would ever resume.
        self.transport.set_write_buffer_limits(0 if transport.get_extra_info("sslcontext") is None else 1, 0)

    def get_buffer(self, sizehint: int) -> memoryview:
        target = self._target
        return self._scratch if target is None else target[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self.moved += nbytes
        if self._target is not None:
            self._filled += nbytes
            if self._filled < len(self._target):
                return
            self.transport.pause_reading()
        else:
            came = bytes(self._scratch[:nbytes])
            self._held = self._held[self._start :] + came if self._start < len(self._held) else came
            self._start = 0
            if len(self._held) >= HEAD:
                self.transport.pause_reading()
        self._awake()

    def eof_received(self) -> bool:
        self._eof = True
        self._awake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = True
        if self._lost is None and exc is not None:
            if isinstance(exc, ssl.SSLError):
                self._lost = refusal(self.name, exc)
            else:
                self._lost = ConnectionLost(f"{self.name}: connection lost: {exc}")
            self._lost.__cause__ = exc
        self._awake()
        self.resume_writing()

    def pause_writing(self) -> None:
        if self._drain is None:
            self._drain = self._loop.create_future()

    def resume_writing(self) -> None:
        drain, self._drain = self._drain, None
        if drain is not None and not drain.done():
            drain.set_result(None)

    def _awake(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)

    # --- state ---------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """``_wake`` may be left over from a reader that was cancelled."""
        return (self._wake is not None and not self._wake.done()) or self._drain is not None

    @property
    def reusable(self) -> bool:
        """Nothing is under way: no rest of a body, no end of stream seen."""
        return (
            not self._eof and self._start == len(self._held) and self._drain is None and not self.transport.is_closing()
        )

    @property
    def passed(self) -> int:
        """Bytes that have really passed: ``moved`` without what still waits to be sent."""
        return self.moved - self.transport.get_write_buffer_size()

    @property
    def hung_up(self) -> bool:
        """Between two uses: whether the kernel knows of the server's end of the connection, and the loop not yet."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    @property
    def answered(self) -> bool:
        """An answer has begun that nobody has asked for yet: the server does not want the rest of the request.

        1xx are passed over: an unasked ``100 Continue`` means the contrary.
        """
        if self._start == len(self._held):
            return False
        while (interim := _INTERIM.match(self._held, self._start)) is not None:
            self._start = interim.end()
        begun = self._held[self._start : self._start + 10]
        return bool(begun) and not b"HTTP/1.1 1".startswith(begun)

    def listen(self) -> None:
        """Notice from now on what the server does, even while nobody reads: its closing, or an early answer."""
        if not self.transport.is_reading() and not self.transport.is_closing():
            self.transport.resume_reading()

    def reset_on_close(self) -> None:
        """From now on, however this socket is closed, even by kill -9, the peer sees a reset.

        A server that takes the polite end of a connection for the end of an object would publish a short one (versitygw
        1.8.0 does).
        """
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def fail(self, error: AsyncCopyError) -> None:
        """End the connection now; whoever waits on it gets ``error``."""
        if self._lost is None:
            self._lost = error
        self.abort()
        self._awake()
        self.resume_writing()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # --- writing -------------------------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview, more: bytes | memoryview = b"") -> None:
        """Send ``data`` and then ``more``: a request and its body, by one call of the kernel's if that is small."""
        self.moved += len(data) + len(more)
        if not more:
            self.transport.write(data)
        elif self._gathers:
            self.transport.writelines((data, more))
        elif len(more) <= JOINED:
            self.transport.write(b"".join((data, more)))
        else:
            self.transport.write(data)
            self.transport.write(more)

    async def drained(self) -> None:
        """Return once all that was written is in the kernel. Raises ConnectionLost, or what ``fail`` was given."""
        if self._drain is not None:
            await self._drain
        if self._lost is not None:
            raise self._lost
        if self.transport.is_closing():
            raise ConnectionLost(f"{self.name}: closed by the server while the request was being sent")

    # --- reading -------------------------------------------------------------------------------------------------

    def _more(self) -> asyncio.Future[None]:
        """To be awaited: done when something has come, or the target is full."""
        if self._lost is not None:
            raise self._lost
        if self._eof:
            raise ShortRead(f"{self.name}: closed by the server before its answer was complete")
        self._wake = wake = self._loop.create_future()
        self.listen()
        return wake

    def _more_of_head(self) -> asyncio.Future[None]:
        if len(self._held) - self._start >= HEAD:
            raise WrongServer(f"{self.name}: no HTTP answer within {HEAD} bytes")
        # The very first bytes decide whether this is HTTP at all: an RPC port answers a few bytes and closes.
        if self._eof and self._start < len(self._held) and not self._held.startswith(b"HTTP/", self._start):
            raise WrongServer(f"{self.name}: does not answer in HTTP")
        return self._more()

    async def read_exactly(self, buffer: memoryview) -> None:
        """Fill the buffer. Whatever Transient it raises has ``received`` set to the bytes that are good."""
        have = min(len(self._held) - self._start, len(buffer))
        if have:
            buffer[:have] = self._take(have)
        if have == len(buffer):
            return
        self._target, self._filled = buffer, have
        try:
            while self._filled < len(buffer):
                await self._more()
        except Transient as error:
            error.received = self._filled
            raise
        finally:
            self._target = None

    def take_held(self, count: int) -> bytes | None:
        """The next bytes, if they have all come already."""
        return bytes(self._take(count)) if self._start + count <= len(self._held) else None

    def _take(self, count: int) -> memoryview:
        """The next bytes of what is held."""
        taken = memoryview(self._held)[self._start : self._start + count]
        self._start += count
        if self._start == len(self._held):
            self._held, self._start = b"", 0
        return taken

    async def read_until(self, mark: bytes) -> bytes:
        """The bytes up to and including ``mark``. Raises WrongServer when it does not come within 16 KiB."""
        while (found := self._held.find(mark, self._start, self._start + HEAD)) < 0:
            if len(self._held) - self._start >= HEAD:
                raise WrongServer(f"{self.name}: no end of a line within {HEAD} bytes")
            await self._more()
        return bytes(self._take(found + len(mark) - self._start))

    async def read_some(self) -> bytes:
        """What has come, at least one byte; b"" at the end of the stream."""
        if self._start == len(self._held):
            if self._eof and self._lost is None:
                return b""
            try:
                await self._more()
            except ShortRead:
                return b""
            if self._start == len(self._held) and self._lost is not None:
                raise self._lost  # broken, which is no end
        return bytes(self._take(len(self._held) - self._start))

    async def read_head(self, patience: float) -> tuple[int, dict[str, str], bool]:
        """(status, headers with lower-case names, may the connection be kept) of the final answer; 1xx are passed
        over. It has to come within ``patience`` seconds: Stalled. ``observe`` is told how many it took.
        """
        began = monotonic()
        self.deadline = began + patience
        while True:
            while (end := self._held.find(b"\r\n\r\n", self._start, self._start + HEAD)) < 0:
                await self._more_of_head()
            text = self._held[self._start : end].decode("latin-1")
            self._start = end + 4
            match = _STATUS.match(text)
            if match is None:
                raise WrongServer(f"{self.name}: does not answer in HTTP/1.1")
            status = int(match[2])
            if status >= 200:
                break
        self.deadline = None
        if self.observe is not None:
            self.observe(monotonic() - began)
        fields = _FIELD.findall(text)
        if len(fields) != text.count("\n"):
            raise WrongServer(f"{self.name}: malformed header in the answer")
        headers = {name.lower(): value.rstrip() for name, value in fields}
        if len(headers) < len(fields):
            headers = _joined(fields)
        keep = match[1] == "1" and headers.get("connection", "").lower() != "close"
        return status, headers, keep


def _joined(fields: list[tuple[str, str]]) -> dict[str, str]:
    """Headers of which some come more than once."""
    headers: dict[str, str] = {}
    for name, value in fields:
        key, value = name.lower(), value.rstrip()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers
