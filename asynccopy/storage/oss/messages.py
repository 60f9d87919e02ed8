"""The wire and the model: checksums, keys, completions, and what a refusal of OSS means. Pure.

Sources: the OSS API reference and its page of error codes; the official SDK.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from asynccopy.errors import (
    AsyncCopyError,
    ChecksumMismatch,
    ConnectionLost,
    CredentialsRefused,
    NameRefused,
    NotFound,
    NotThere,
    PermissionDenied,
    Refused,
    ServerTrouble,
    SideError,
    Throttled,
    UploadGone,
    WrongServer,
)
from asynccopy.model import PartReceipt
from asynccopy.storage.documents import (
    Completion,
    ErrorBody,
    PreconditionFailed,
    check_key,
    parse_xml,
    plain_etag,
    read_error,
    shown,
    whole_seconds,
)

CRC64_HEADER: Final = "x-oss-hash-crc64ecma"
DELAY_HEADER: Final = "x-oss-qos-delay-time"
"""Milliseconds."""


class AlreadyThere(Refused):
    """There is an object of this key, and the request forbids to overwrite it."""


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


def write_completion(parts: Sequence[PartReceipt]) -> bytes:
    root = Element("CompleteMultipartUpload")
    for part in parts:
        entry = SubElement(root, "Part")
        SubElement(entry, "PartNumber").text = str(part.number)
        SubElement(entry, "ETag").text = f'"{part.plain_etag}"'
    return tostring(root)


def read_completion(headers: Mapping[str, str], body: bytes, subject: str) -> Completion:
    """Raises what an ``<Error>`` inside the answer means."""
    try:
        root = parse_xml(body)
    except ValueError as error:
        raise ServerTrouble(f"{subject}: the answer ended early or is no XML") from error
    if root.tag == "Error":
        raise refusal(200, headers, body, subject)
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
    return _by_status(status, headers, said, told=bool(body))


def _by_status(status: int, headers: Mapping[str, str], said: str, *, told: bool) -> AsyncCopyError:
    # The answer to a HEAD has no body that could tell; a 503 in other words is of a server that is down.
    if status == 429 or (status == 503 and not told):
        return Throttled(said, delay=_delay(headers))
    if status == 408 or (status >= 500 and status != 501) or status < 300:  # an error inside a success
        return ServerTrouble(said)
    if status < 400:
        return WrongServer(said, hint="check endpoint and region")
    if status == 401:
        return CredentialsRefused(said)
    if status == 403:
        return PermissionDenied(said, hint="grant the access key this action on the bucket")
    if status == 404:
        return NotFound(said)
    return PreconditionFailed(said) if status == 412 else Refused(said)


def _delay(headers: Mapping[str, str]) -> float | None:
    """Seconds that OSS asks us to wait."""
    delay = whole_seconds(headers.get(DELAY_HEADER))
    return whole_seconds(headers.get("retry-after")) if delay is None else delay / 1000
