"""AWS Signature Version 4, as S3 wants it. Pure: a request and a time in, headers out.

Source: "Authenticating Requests (AWS Signature Version 4)" of the S3 API reference, and its pages on chunked uploads.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from asynccopy.storage.signing import Credentials, DayKey

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
UNSIGNED_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED_CHUNKS: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_TRAILER: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"

_EMPTY_SHA256: Final = sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Signature:
    """A signed request: the headers to add, and what the signatures of its chunks build on."""

    headers: list[tuple[str, str]] = field(repr=False)
    value: str = field(repr=False)
    stamp: str
    scope: str
    key: bytes = field(repr=False)


def encode_query(pairs: Sequence[tuple[str, str]]) -> str:
    """The canonical query string, which is also sent: sorted, encoded, ``key=`` for an empty value."""
    return "&".join(sorted(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs))


class Signer:
    """Signs the requests of one region. The key of a day is derived once, and the time is written once per second."""

    def __init__(self, region: str) -> None:
        self._key = DayKey("AWS4", region, "s3", "aws4_request")

    def sign(
        self,
        credentials: Credentials,
        method: str,
        host: str,
        path: str,
        query: str,
        headers: Sequence[tuple[str, str]],
        payload: str,
        now: float,
    ) -> Signature:
        """Sign a request whose ``path`` and ``query`` are encoded and whose header names are lower-case.

        ``payload`` is the hex SHA-256 of the body or one of the names above; ``now`` in seconds since the epoch.
        """
        stamp = self._key.stamp(now)
        key = self._key.derive(credentials.secret_key, stamp[:8])
        scope = self._key.scope(stamp)
        added = [("x-amz-content-sha256", payload), ("x-amz-date", stamp)]
        if credentials.token:
            added.append(("x-amz-security-token", credentials.token))
        signed = sorted([("host", host), *headers, *added])
        names = ";".join([name for name, _ in signed])
        lines = "".join([f"{name}:{' '.join(value.split())}\n" for name, value in signed])
        request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        value = self._key.sign(text)
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={value}"
        )
        return Signature([*added, ("authorization", authorization)], value, stamp, scope, key)


class ChunkSigner:
    """Signs the chunks of one aws-chunked body, each with the signature before it; the request's own comes first."""

    def __init__(self, request: Signature) -> None:
        self._request = request
        self._previous = request.value

    def chunk(self, data: bytes | memoryview) -> str:
        return self._next("AWS4-HMAC-SHA256-PAYLOAD", f"{_EMPTY_SHA256}\n{sha256(data).hexdigest()}")

    def trailer(self, line: str) -> str:
        """Sign the trailing header, given as ``name:value`` without a line end."""
        return self._next("AWS4-HMAC-SHA256-TRAILER", sha256(f"{line}\n".encode()).hexdigest())

    def _next(self, algorithm: str, digests: str) -> str:
        request = self._request
        text = f"{algorithm}\n{request.stamp}\n{request.scope}\n{self._previous}\n{digests}"
        self._previous = hmac.digest(request.key, text.encode(), "sha256").hex()
        return self._previous
