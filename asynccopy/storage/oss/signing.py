"""OSS4-HMAC-SHA256, the signature of OSS's own API. Pure: a request and a time in, headers out.

Source: "Include a V4 signature in the header" of the OSS API reference; seen equal to the official SDK's.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from asynccopy.storage.signing import Credentials, DayKey

_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
"""OSS knows no other: a checksum protects the body."""
_STANDARD: Final = frozenset({"content-type", "content-md5"})


def encode_query(pairs: Sequence[tuple[str, str]]) -> str:
    """The canonical query string, which is also sent: sorted, encoded, a parameter without a value as its bare name."""
    encoded = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in pairs)
    return "&".join([f"{name}={value}" if value else name for name, value in encoded])


class Signer:
    """Signs the requests of one region."""

    def __init__(self, region: str) -> None:
        self._key = DayKey("aliyun_v4", region, "oss", "aliyun_v4_request")

    def sign(
        self,
        credentials: Credentials,
        method: str,
        resource: str,
        query: str,
        headers: Sequence[tuple[str, str]],
        now: float,
    ) -> list[tuple[str, str]]:
        """The headers to add to a request whose ``query`` is encoded and whose header names are lower-case.

        ``resource``: ``/bucket/key``, encoded, wherever the bucket's name is sent; ``/bucket/`` for the bucket itself.
        Signed are those of OSS's own, the content's type and MD5: what it demands. ``now``: seconds since the epoch.
        """
        stamp = self._key.stamp(now)
        self._key.derive(credentials.secret_key, stamp[:8])
        scope = self._key.scope(stamp)
        added = [("x-oss-content-sha256", _UNSIGNED), ("x-oss-date", stamp)]
        if credentials.token:
            added.append(("x-oss-security-token", credentials.token))
        signed = sorted([field for field in headers if field[0].startswith("x-oss-") or field[0] in _STANDARD] + added)
        lines = "".join([f"{name}:{value}\n" for name, value in signed])
        request = f"{method}\n{resource}\n{query}\n{lines}\n\n{_UNSIGNED}"
        text = f"OSS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        credential = f"{credentials.access_key}/{scope}"
        authorization = f"OSS4-HMAC-SHA256 Credential={credential},Signature={self._key.sign(text)}"
        return [*added, ("authorization", authorization)]
