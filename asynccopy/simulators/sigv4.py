"""The server's side of AWS Signature Version 4: signed headers, and bodies signed piece by piece (``aws-chunked``).

Written from AWS's description, apart from the client's signer: a mistake in one must not hide in the other.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from calendar import timegm
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
MAX_SKEW = 15 * 60
_EMPTY = hashlib.sha256(b"").hexdigest()


class S3Error(Exception):
    """An error as S3 tells it: status, code, message."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code
        self.message = message or code


class Signature(NamedTuple):
    """A header signature that held; what the chunks of a signed body need of it."""

    value: str
    key: bytes
    time: str
    scope: str


@lru_cache(maxsize=64)
def signing_key(secret: str, *scope: str) -> bytes:
    """The key of one scope: day, region, service and a last word. ``secret`` with its prefix."""
    key = secret.encode()
    for word in scope:
        key = keyed(key, word)
    return key


def keyed(key: bytes, text: str) -> bytes:
    """HMAC-SHA256."""
    return hmac.digest(key, text.encode("utf-8", "surrogateescape"), "sha256")


@lru_cache(maxsize=4096)
def recode(text: str, safe: str) -> str:
    """Percent-encoded in the one way, however it was before."""
    return quote(unquote_to_bytes(text), safe=safe)


def canonical_pairs(query: str) -> list[tuple[str, str]]:
    """Every parameter decoded, encoded anew by AWS's rules, which are OSS's too, and sorted."""
    pairs = []
    for item in query.split("&") if query else ():
        name, _, value = item.replace("+", "%20").partition("=")
        pairs.append((recode(name, "-_.~"), recode(value, "-_.~")))
    return sorted(pairs)


def verify(
    method: str,
    target: str,
    headers: Mapping[str, str],
    secrets: Mapping[str, str],
    region: str,
    now: float,
) -> Signature:
    """Prove who sent a request. ``target`` is path and query as on the wire; ``now`` the server's clock in seconds.

    Raises S3Error: no or malformed authorization, unknown key, wrong region or day, clocks more than 15 minutes apart,
    a header that must be signed and is not, and above all a signature that differs.
    """
    authorization = headers.get("Authorization", "")
    if not authorization:
        raise S3Error(403, "AccessDenied", "Access Denied")
    access_key, scope, signed, given = _fields(authorization)
    secret = secrets.get(access_key)
    if secret is None:
        raise S3Error(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
    moment = headers.get("x-amz-date", "")
    check_clock(moment, now)
    if scope != f"{moment[:8]}/{region}/s3/aws4_request":
        raise S3Error(400, "AuthorizationHeaderMalformed", f"the scope is wrong; expecting '{region}'")
    payload = headers.get("x-amz-content-sha256")
    if payload is None:
        raise S3Error(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    names = signed.split(";")
    must = {"host"} | {name.lower() for name in headers if name.lower().startswith("x-amz-")}
    if names != sorted(names) or not must <= set(names):
        raise S3Error(403, "AccessDenied", f"headers that are not signed: {sorted(must - set(names))}")
    path, _, query = target.partition("?")
    parameters = "&".join(f"{name}={value}" for name, value in canonical_pairs(query))
    lines = [method, recode(path, "/-_.~"), parameters]
    lines += [f"{name}:{' '.join(headers.get(name, '').split())}" for name in names]
    lines += ["", signed, payload]
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    key = signing_key(f"AWS4{secret}", *scope.split("/"))
    expected = keyed(key, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}").hex()
    if not hmac.compare_digest(expected, given):
        raise S3Error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature.")
    return Signature(given, key, moment, scope)


def _fields(authorization: str) -> tuple[str, str, str, str]:
    """(access key, scope, signed headers, signature) of the header."""
    algorithm, _, rest = authorization.partition(" ")
    fields = dict(field.strip().partition("=")[::2] for field in rest.split(","))
    if algorithm != "AWS4-HMAC-SHA256" or not {"Credential", "SignedHeaders", "Signature"} <= fields.keys():
        raise S3Error(400, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
    access_key, _, scope = fields["Credential"].partition("/")
    return access_key, scope, fields["SignedHeaders"], fields["Signature"]


@lru_cache(maxsize=64)
def seconds_of(moment: str) -> int:
    """``yyyymmddThhmmssZ`` as seconds since the epoch. Raises ValueError."""
    return timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ"))


def check_clock(moment: str, now: float) -> None:
    """Raises S3Error for a moment (``yyyymmddThhmmssZ``) that is none, or too far from the server's."""
    try:
        skew = abs(seconds_of(moment) - now)
    except ValueError:
        raise S3Error(403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header") from None
    if skew > MAX_SKEW:
        raise S3Error(
            403, "RequestTimeTooSkewed", "The difference between the request time and the server's is too large."
        )


class ChunkedBody:
    """Decodes an ``aws-chunked`` body as it comes, checking each chunk's signature where there are any.

    ``trailer`` holds the trailing headers, lower-cased, once ``finish`` has been called.
    """

    def __init__(self, signature: Signature, *, signed: bool) -> None:
        self.trailer: dict[str, str] = {}
        self._signature = signature
        self._signed = signed
        self._previous = signature.value
        self._buffer = bytearray()
        self._left = 0
        self._hash = hashlib.sha256()
        self._claimed = ""
        self._state = "header"

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payload within the next bytes from the wire. Raises S3Error for a chunk that is not signed rightly."""
        self._buffer += data
        while True:
            if self._state == "data":
                piece = bytes(self._buffer[: self._left])
                if not piece:
                    return
                del self._buffer[: len(piece)]
                self._left -= len(piece)
                if self._signed:
                    self._hash.update(piece)
                if not self._left:
                    self._state = "gap"
                yield piece
                continue
            line = self._line()
            if line is None:
                return
            self._take(line)

    def finish(self) -> None:
        """Raises S3Error unless the last chunk, the empty one, has come."""
        if self._state != "trailer":
            raise S3Error(400, "IncompleteBody", "The request body terminated unexpectedly")

    def _line(self) -> str | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return None
        line = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + 2]
        return line

    def _take(self, line: str) -> None:
        if self._state == "gap":
            self._check()
            self._state = "header"
        elif self._state == "header":
            size, _, extension = line.partition(";")
            try:
                self._left = int(size, 16)
            except ValueError:
                raise S3Error(400, "InvalidRequest", "not a chunk header") from None
            self._claimed = extension.removeprefix("chunk-signature=")
            if self._left:
                self._state = "data"
            else:
                self._check()
                self._state = "trailer"
        elif line:
            name, _, value = line.partition(":")
            self.trailer[name.lower()] = value.strip()

    def _check(self) -> None:
        if not self._signed:
            return
        lines = ("AWS4-HMAC-SHA256-PAYLOAD", self._signature.time, self._signature.scope, self._previous, _EMPTY)
        expected = keyed(self._signature.key, "\n".join((*lines, self._hash.hexdigest()))).hex()
        if not hmac.compare_digest(expected, self._claimed):
            raise S3Error(403, "SignatureDoesNotMatch", "A chunk's signature does not match.")
        self._previous = expected
        self._hash = hashlib.sha256()
