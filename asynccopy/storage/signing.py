"""What the signatures of S3 and of OSS are both made of. Pure: a secret, a time and a text in, a signature out."""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair, with the session token of temporary ones. The secrets stay out of every repr."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def encode_path(path: str) -> str:
    """Percent-encoded once, ``/`` kept, as it is signed and as it must go on the wire."""
    return quote(path, safe="/")


class DayKey:
    """The HMAC key of one day, region and service: derived once, like the time, which is written once per second."""

    def __init__(self, prefix: str, region: str, service: str, terminator: str) -> None:
        self._prefix = prefix
        self._scope = (region, service, terminator)
        self._second = -1
        self._stamp = ""
        self._day_of = ("", "")
        self._day_key = b""
        self._inner = self._outer = sha256()

    def stamp(self, now: float) -> str:
        """``now``, in seconds since the epoch, as ``20260131T235959Z``."""
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._second))
        return self._stamp

    def scope(self, stamp: str) -> str:
        return "/".join((stamp[:8], *self._scope))

    def derive(self, secret: str, day: str) -> bytes:
        """The key to sign with on a day, written as in a stamp; ``sign`` uses it from then on."""
        if self._day_of != (secret, day):
            key = self._prefix.encode() + secret.encode()
            for text in (day, *self._scope):
                key = hmac.digest(key, text.encode(), "sha256")
            self._day_key = key
            self._day_of = (secret, day)
            padded = key.ljust(64, b"\0")
            self._inner = sha256(bytes(byte ^ 0x36 for byte in padded))
            self._outer = sha256(bytes(byte ^ 0x5C for byte in padded))
        return self._day_key

    def sign(self, text: str) -> str:
        """HMAC-SHA256 with the derived key, whose two halves are hashed already: that spares half of its cost."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text.encode())
        outer.update(inner.digest())
        return outer.hexdigest()
