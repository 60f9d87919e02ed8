"""Scripted faults: which requests are met (``Fault``), and what happens to them (the actions).

A fault counts the requests that match it: the first ``after`` of them pass, the next ``times`` are hit. Nothing is
random, so a test that fails fails again. At most one fault, the first of the list, hits a request.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import Struct


class Status(Struct, frozen=True):
    """Answer this at once; the work is not done, the request's body is not read."""

    code: int
    body: bytes = b""
    headers: dict[str, str] = {}


class Reset(Struct, frozen=True):
    """Reset the connection before the work."""


class LostReply(Struct, frozen=True):
    """Do the work, then reset the connection instead of answering."""


class Delay(Struct, frozen=True):
    """Wait before the work."""

    seconds: float


class Stall(Struct, frozen=True):
    """Send ``after`` bytes of the answer's body, then nothing for ``seconds``, then go on.

    With ``after`` 0 not even the headers come before.
    """

    seconds: float
    after: int = 0


class Slow(Struct, frozen=True):
    """Send the answer's body, and read the request's, no faster than this."""

    bytes_per_second: int


class Cut(Struct, frozen=True):
    """Promise the whole body, send ``after`` bytes of it, and close (by a reset where ``reset``)."""

    after: int
    reset: bool = False


class FlipBit(Struct, frozen=True):
    """Damage one bit: of the request's body where there is one (as if on its way in), else of the answer's."""

    offset: int
    bit: int = 0


class ErrorInBody(Struct, frozen=True):
    """Overwrite the answer's body from ``after`` on by an error document, inside the promised length, with status 200.

    A DataNode that fails after its headers can do this: the count is right, only a checksum sees it.
    """

    after: int
    body: bytes = (
        b'{"RemoteException":{"exception":"IOException","javaClassName":"java.io.IOException","message":"disk error"}}'
    )


class WrongRange(Struct, frozen=True):
    """Deliver bytes that were not asked for: ``shift`` bytes further on, or the whole file."""

    shift: int = 1
    whole: bool = False


class ErrorInOk(Struct, frozen=True):
    """S3: answer 200 with an ``<Error>`` document instead of the result, as Complete may; the work is not done."""

    code: str = "InternalError"


class NoSuchUpload(Struct, frozen=True):
    """S3: forget the multipart upload first, as if it had been aborted by another."""


class OtherCrc64(Struct, frozen=True):
    """OSS: do the work, but answer with this ``x-oss-hash-crc64ecma``, as if other bytes had come."""

    crc64: int = 1


class OtherETag(Struct, frozen=True):
    """S3: do the work, but answer with this ETag (radosgw answers an empty one to the first Complete)."""

    etag: str = ""


Action = (
    Status
    | Reset
    | LostReply
    | Delay
    | Stall
    | Slow
    | Cut
    | FlipBit
    | ErrorInBody
    | WrongRange
    | ErrorInOk
    | NoSuchUpload
    | OtherCrc64
    | OtherETag
)


class Call(Struct):
    """What is known of a request before the work. ``path`` is decoded: the HDFS path, or ``/bucket/key``."""

    op: str
    method: str
    path: str
    part: int | None = None
    action: Action | None = None


@dataclass(slots=True)
class Fault:
    """One fault. Empty conditions match everything; ``path`` is a substring.

    ``op`` is WebHDFS's (``OPEN`` is the NameNode's side, ``OPEN@DataNode`` the other) or the
    object stores' (``UploadPart``). ``times`` None means for ever. ``hits`` is for the test to assert.
    """

    action: Action
    op: str = ""
    method: str = ""
    path: str = ""
    part: int | None = None
    times: int | None = 1
    after: int = 0
    hits: int = 0
    _passed: int = field(default=0, repr=False)

    def matches(self, call: Call) -> bool:
        return (
            (not self.op or self.op == call.op)
            and (not self.method or self.method == call.method)
            and self.path in call.path
            and (self.part is None or self.part == call.part)
        )

    def strike(self) -> bool:
        """Whether a request that matches is hit; counts it."""
        if self._passed < self.after:
            self._passed += 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


def pick(faults: Iterable[Fault], call: Call) -> Action | None:
    """The action of the first fault that hits this request. Counts."""
    for fault in faults:
        if fault.matches(call) and fault.strike():
            return fault.action
    return None
