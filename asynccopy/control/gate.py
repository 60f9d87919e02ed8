"""Who may ask for what over TCP. Pure: headers in, nothing or a Rejection out.

A browser on an operator's machine will carry any web page's requests to a loopback port. Three walls stand against
that. The Host must be ours: a name that an attacker rebinds to this address is not. The Origin, where there is one,
must be the Host. What changes something must be JSON, which a form cannot send and a script only after a preflight
that is never answered.
"""

from __future__ import annotations

import hmac
from typing import Final

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class Rejection(Exception):
    """An answer that is no success: the HTTP status, what is wrong, and what to do about it.

    ``message`` and ``hint`` never repeat anything of the request.
    """

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint


def authority(host: str, port: int) -> str:
    """``host:port`` as a Host header has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def allowed_hosts(host: str, address: tuple[str, int]) -> frozenset[str]:
    """The Host headers that mean us.

    ``host``: as it was given to listen on. ``address``: where this very connection came to, which is more than that
    when we listen everywhere.
    """
    port = address[1]
    own = {authority(name, port) for name in (host, address[0], *_LOOPBACK)}
    if port == 80:
        own |= {each.removesuffix(":80") for each in own}
    return frozenset(each.lower() for each in own)


def check_host(hosts: list[str], allowed: frozenset[str]) -> None:
    """``hosts``: all Host headers of the request."""
    if len(hosts) != 1:
        raise Rejection(400, "exactly one Host header is needed")
    if hosts[0].lower() not in allowed:
        raise Rejection(403, "this Host is not ours", "use the address that the daemon listens on")


def check_origin(origin: str | None, host: str) -> None:
    """An Origin must be the Host; schemes differ behind a proxy that speaks TLS."""
    if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        raise Rejection(403, "requests from other sites are refused")


def check_token(authorization: str | None, token: str) -> None:
    scheme, _, given = (authorization or "").partition(" ")
    known = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    if scheme.lower() != "bearer" or not known:
        raise Rejection(401, "a token is needed", "send `Authorization: Bearer TOKEN` with the daemon's token")


def check_json(content_type: str) -> None:
    if content_type != "application/json":
        raise Rejection(415, "the request must be JSON", "send `Content-Type: application/json`")
