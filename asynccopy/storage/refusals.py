"""What a refusal of S3 or OSS means by its status, where its code says nothing. Pure."""

from __future__ import annotations

from asynccopy.errors import (
    AsyncCopyError,
    CredentialsRefused,
    NotFound,
    PermissionDenied,
    Refused,
    ServerTrouble,
    Throttled,
    Unavailable,
    WrongServer,
)
from asynccopy.storage.documents import PreconditionFailed


def by_status(status: int, said: str, *, told: bool, delay: float | None, moved: str) -> AsyncCopyError:
    """``said``: the message. ``told``: the answer has a body. ``delay``: seconds that it asks for. ``moved``: what to
    do about a redirect.
    """
    if status == 429:
        return Throttled(said, delay=delay)
    # The answer to a HEAD has no body that could tell; a 503 in other words is of a server that is down.
    if status == 503 and not told:
        return Unavailable(said)
    if status == 408 or (status >= 500 and status != 501) or status < 300:  # an error inside a success
        return ServerTrouble(said)
    if status < 400:
        return WrongServer(said, hint=moved)
    if status == 401:
        return CredentialsRefused(said)
    if status == 403:
        return PermissionDenied(said, hint="grant the access key this action on the bucket")
    if status == 404:
        return NotFound(said)
    return PreconditionFailed(said) if status == 412 else Refused(said)
