"""What a worker process and its parent say to each other: MessagePack behind a length, over a socket pair.

Pure but for ``Channel``. Errors cross as plain values and come out as the same class of ``errors``; nothing is pickled.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Generic, TypeVar

import msgspec
from msgspec import Struct

from asynccopy import errors
from asynccopy.errors import AsyncCopyError, Throttled
from asynccopy.executors.recipe import Recipe
from asynccopy.model import FileStatus, OpenUpload, PartReceipt
from asynccopy.storage.pool import Origin
from asynccopy.storage.settings import Place
from asynccopy.transfer.copy import Copied

MAX_FRAME: Final = 64 << 20
"""Bytes. The largest honest frame holds the chunk CRCs of one part of 5 GiB, 40 MiB; a longer one is garbage."""
_HEAD: Final = 4
_CLASSES: Final[dict[str, type[AsyncCopyError]]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, AsyncCopyError)
}


class FrameError(Exception):
    """The other end says what this protocol does not know."""


class Trouble(Struct, frozen=True, array_like=True):
    """An AsyncCopyError on its way. ``delay``: seconds, of Throttled."""

    name: str
    message: str
    hint: str
    delay: float | None = None

    @classmethod
    def of(cls, error: AsyncCopyError) -> Trouble:
        """A class that a backend has for itself goes as the nearest one that everybody knows."""
        name = next(kind.__name__ for kind in type(error).__mro__ if _CLASSES.get(kind.__name__) is kind)
        delay = error.delay if isinstance(error, Throttled) else None
        return cls(name, _unicode(error.message), _unicode(error.hint), delay)

    def error(self) -> AsyncCopyError:
        """Raises FrameError for a class that there is not."""
        kind = _CLASSES.get(self.name)
        if kind is None:
            raise FrameError(f"an error of an unknown class {self.name!r}")
        error = Throttled(self.message, delay=self.delay) if kind is Throttled else kind(self.message)
        error.hint = self.hint
        return error


# --- from the parent ----------------------------------------------------------------------------------------------


class SetUp(Struct, frozen=True, array_like=True, tag="setup"):
    """The first frame: what to open, and how to copy. Concurrency and bandwidth are this worker's share."""

    source: Place
    destination: Place
    recipe: Recipe


class Assignment(Struct, frozen=True, array_like=True):
    """One file to copy. ``begun``: the part log has an upload of it; if not, the worker need not ask."""

    number: int
    status: FileStatus
    begun: bool


class Assignments(Struct, frozen=True, array_like=True, tag="orders"):
    orders: list[Assignment]


class Stop(Struct, frozen=True, array_like=True, tag="stop"):
    """Finish the ranges in flight, and begin nothing new."""


class Answer(Struct, frozen=True, array_like=True, tag="answer"):
    """What a part log call came to: it is durable. ``upload``: of AskUpload, its parts spread over several answers."""

    call: int
    upload: OpenUpload | None = None
    last: bool = True


class Who(Struct, frozen=True, array_like=True, tag="who"):
    """Who the worker is to be at a cluster, ready for a query; or why that cannot be said now."""

    call: int
    query: str
    trouble: Trouble | None = None


# --- from the worker ----------------------------------------------------------------------------------------------


class Outcome(Struct, frozen=True, array_like=True):
    """How one file ended: exactly one of the two."""

    number: int
    copied: Copied | None
    trouble: Trouble | None = None


class Report(Struct, frozen=True, array_like=True, tag="report"):
    """What happened since the last one; an empty one is a sign of life.

    ``moved``: (number, bytes) of the files in flight; ``noticed``: what is retried, and after how many seconds.
    """

    moved: list[tuple[int, int]] = []
    noticed: list[tuple[Trouble, float]] = []
    outcomes: list[Outcome] = []


class AskUpload(Struct, frozen=True, array_like=True, tag="upload?"):
    call: int
    number: int


class BeginUpload(Struct, frozen=True, array_like=True, tag="begin"):
    call: int
    number: int
    upload: OpenUpload


class PartDone(Struct, frozen=True, array_like=True, tag="part"):
    call: int
    number: int
    receipt: PartReceipt


class DropUpload(Struct, frozen=True, array_like=True, tag="drop"):
    call: int
    number: int


class AskWho(Struct, frozen=True, array_like=True, tag="who?"):
    """Who to be at the cluster of a place, or ``at`` one of its gateways; ``refused``: not the one that was told last.
    Or a ``ticket`` for the server ``at``.
    """

    call: int
    place: Place
    refused: str
    at: Origin | None
    ticket: bool


class Unfit(Struct, frozen=True, array_like=True, tag="unfit"):
    """The worker cannot work at all: the sides do not open (``trouble``), or it met a bug (``trace``)."""

    trouble: Trouble | None = None
    trace: str = ""


LogCall = AskUpload | BeginUpload | PartDone | DropUpload
ToWorker = SetUp | Assignments | Stop | Answer | Who
ToParent = Report | LogCall | AskWho | Unfit

# --- the line -----------------------------------------------------------------------------------------------------

In = TypeVar("In")
_encode = msgspec.msgpack.Encoder().encode
to_worker: Final[msgspec.msgpack.Decoder[ToWorker]] = msgspec.msgpack.Decoder(ToWorker)
to_parent: Final[msgspec.msgpack.Decoder[ToParent]] = msgspec.msgpack.Decoder(ToParent)


class Channel(Generic[In]):
    """One end of the socket pair. What is sent is queued; callers bound it by what they let be outstanding."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoder: msgspec.msgpack.Decoder[In]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decode = decoder.decode

    @classmethod
    async def over(cls, end: socket.socket, decoder: msgspec.msgpack.Decoder[In]) -> Channel[In]:
        """Takes the socket over; it is closed with the channel."""
        return cls(*await asyncio.open_unix_connection(sock=end), decoder)

    def send(self, frame: ToWorker | ToParent) -> None:
        """To an end that is gone, nothing is sent: ``receive`` tells of it."""
        if not self._writer.is_closing():
            body = _encode(frame)
            self._writer.write(len(body).to_bytes(_HEAD, "big") + body)

    async def drain(self) -> None:
        """Wait until the other end has taken most of what was sent."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return  # see send

    @property
    def clogged(self) -> bool:
        """The other end does not read."""
        return self._writer.transport.get_write_buffer_size() > 0

    async def receive(self) -> In | None:
        """The next frame, None when the other end is gone. Raises FrameError."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_HEAD), "big")
            if length > MAX_FRAME:
                raise FrameError(f"a frame of {length} bytes")
            body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        try:
            return self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise FrameError(f"a frame that cannot be read: {error}") from error

    def close(self) -> None:
        self._writer.close()


def _unicode(text: str) -> str:
    """Messages may quote names that are no Unicode; MessagePack cannot hold them."""
    return text.encode("utf-8", "backslashreplace").decode()
