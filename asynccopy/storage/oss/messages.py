"""The wire and the model: checksums, keys, completions, and what a refusal of OSS means. Pure.

Sources: the OSS API reference and its page of error codes; the official SDK.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from asynccopy.errors import (
    AlreadyThere,
    AsyncCopyError,
    ChecksumMismatch,
    ConnectionLost,
    CredentialsRefused,
    NameRefused,
    NotThere,
    Refused,
    ServerTrouble,
    SideError,
    Throttled,
    UploadGone,
    WrongServer,
)
from asynccopy.storage.documents import (
    Completion,
    ErrorBody,
    check_key,
    completed,
    plain_etag,
    read_error,
    shown,
    whole_seconds,
)
from asynccopy.storage.refusals import by_status

CRC64_HEADER: Final = "x-oss-hash-crc64ecma"
DELAY_HEADER: Final = "x-oss-qos-delay-time"
"""Milliseconds."""


# --- checksums and keys -------------------------------------------------------------------------------------------


def read_crc64(headers: Mapping[str, str]) -> int | None:
    """The CRC-64 of a part or a whole object, which OSS writes in decimal; None where the answer tells none."""
    text = headers.get(CRC64_HEADER, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) < 1 << 64 else None


def check_oss_key(key: str, longest: int) -> None:
    """Raises NameRefused for a key that OSS cannot hold."""
    check_key(key, longest)
    if key[0] in "/\\":
        raise NameRefused(f"{shown(key)}: OSS takes no key that begins with {key[0]}")


# --- completions --------------------------------------------------------------------------------------------------


def read_completion(headers: Mapping[str, str], body: bytes, subject: str) -> Completion:
    """Raises what an ``<Error>`` inside the answer means."""
    root = completed(body, subject, lambda error: refusal(200, headers, error, subject))
    return Completion(plain_etag(root.findtext("ETag")), crc64=read_crc64(headers))


# --- refusals -----------------------------------------------------------------------------------------------------

_CROWDED: Final = {
    "ActiveRequestLimitExceeded",
    "CpuLimitExceeded",
    "DownloadTrafficRateLimitExceeded",
    "UploadTrafficRateLimitExceeded",
}
_THROTTLED: Final = _CROWDED | {
    "MetaOperationQpsLimitExceeded",
    "PartitionQpsLimitted",  # so written by OSS
    "QpsLimitExceeded",
    "ServiceUnavailable",
    "TotalQpsLimitExceeded",
}
EXPIRED: Final = {
    "InvalidAccessKeyId": "the access key is unknown",
    "InvalidSecurityToken": "the session token is not valid",
    "SecurityTokenExpired": "the session token has expired",
}
"""What new credentials may help against."""
_CREDENTIALS: Final = {
    **EXPIRED,
    "AccessKeyDisabled": "the access key is disabled",
    "InvalidAccessKeySecret": "the secret key does not fit the access key",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "UserDisable": "the account is disabled, perhaps for an unpaid bill",
}
_CODES: Final[Mapping[str, type[AsyncCopyError]]] = {
    "BadDigest": ChecksumMismatch,
    "FileAlreadyExists": AlreadyThere,
    "IncompleteBody": ConnectionLost,
    "InternalError": ServerTrouble,
    "InvalidBucketName": NotThere,
    "InvalidDigest": ChecksumMismatch,
    "InvalidObjectName": NameRefused,
    "InvalidObjectState": Refused,  # archived: cannot be read before it is restored
    "KeyTooLongError": NameRefused,
    "NoSuchBucket": NotThere,
    "NoSuchUpload": UploadGone,
    "ObjectAlreadyExists": AlreadyThere,
    "OperationTimeout": ServerTrouble,
    "QuotaExceeded": SideError,
    "RequestTimeTooSkewed": ServerTrouble,
    "RequestTimeout": ServerTrouble,
    "SecondLevelDomainForbidden": WrongServer,
}
_HINTS: Final = {
    "NoSuchBucket": "create the bucket, or correct its name",
    "QuotaExceeded": "raise the quota of the bucket, or make room",
    "InvalidObjectState": "objects of an archive class must be restored before they can be read or copied",
}


def error_of(headers: Mapping[str, str], body: bytes) -> ErrorBody:
    """What an answer says of its refusal. To a HEAD, which has no body, OSS says it in a header."""
    if not body and (text := headers.get("x-oss-err")):
        try:
            body = base64.b64decode(text, validate=True)
        except binascii.Error:
            return ErrorBody()
    return read_error(body)


def refusal(status: int, headers: Mapping[str, str], body: bytes, subject: str) -> AsyncCopyError:
    """What an answer means that is no success. ``subject`` is an address without query: it opens the message.

    The code decides, for it says more than the status; where there is none that we know, the status does.
    """
    error = error_of(headers, body)
    detail = error.detail or headers.get("x-oss-ec", "")
    said = f"{subject}: {status} {error.code or 'without an error code'}"
    said = f"{said} ({shown(detail)})" if detail else said
    # What OSS says about a refused signature quotes pieces of it, so only our own words are used there.
    if (why := _CREDENTIALS.get(error.code)) is not None:
        return CredentialsRefused(f"{said}: {why}")
    if error.message:
        said = f"{said}: {error.message}"
    if error.code in _THROTTLED:
        return Throttled(said, delay=_delay(headers), crowded=error.code in _CROWDED)
    if error.endpoint and status == 403:
        return WrongServer(said, hint=f"set the endpoint to {error.endpoint}")
    if error.code == "InvalidArgument" and "signing" in error.message:
        return WrongServer(said, hint="check the bucket's region: OSS_REGION")
    if (meaning := _CODES.get(error.code)) is not None:
        return meaning(said, hint=_HINTS.get(error.code))
    return by_status(status, said, told=bool(body), delay=_delay(headers), moved="check endpoint and region")


def _delay(headers: Mapping[str, str]) -> float | None:
    """Seconds that OSS asks us to wait."""
    delay = whole_seconds(headers.get(DELAY_HEADER))
    return whole_seconds(headers.get("retry-after")) if delay is None else delay / 1000
