"""The wire and the model: checksums, completions, and what a store's refusal means. Pure.

Sources: the S3 API reference; answers seen from versitygw, s3proxy, radosgw.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final

from asynccopy.errors import (
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
    Unavailable,
    UploadGone,
    WrongServer,
)
from asynccopy.model import PartReceipt
from asynccopy.storage import documents
from asynccopy.storage.documents import Completion, completed, plain_etag, read_error, whole_seconds
from asynccopy.storage.refusals import by_status

CRC32C_HEADER: Final = "x-amz-checksum-crc32c"
TYPE_HEADER: Final = "x-amz-checksum-type"
FULL_OBJECT: Final = "FULL_OBJECT"
_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"

# --- checksums ----------------------------------------------------------------------------------------------------


def encode_crc32c(value: int) -> str:
    """A CRC-32C as S3 writes it: base64 of its four bytes, big-endian."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def decode_crc32c(text: str | None) -> int | None:
    """The CRC-32C in an answer, None when there is none (a composite value, ``...-3``, is none of the object)."""
    if not text:
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None


def object_crc32c(headers: Mapping[str, str]) -> int | None:
    """The CRC-32C of the whole object, from the headers of a PUT or HEAD answer."""
    if headers.get(TYPE_HEADER, FULL_OBJECT) != FULL_OBJECT:
        return None
    return decode_crc32c(headers.get(CRC32C_HEADER))


# --- completions --------------------------------------------------------------------------------------------------


def write_completion(parts: Sequence[PartReceipt], *, with_crc32c: bool) -> bytes:
    return documents.write_completion(parts, namespace=_NAMESPACE, crc32c=encode_crc32c if with_crc32c else None)


def read_completion(body: bytes, subject: str) -> Completion:
    """Raises what an ``<Error>`` inside the answer means."""
    root = completed(body, subject, lambda error: refusal(200, {}, error, subject))
    whole = root.findtext("ChecksumType") in (None, FULL_OBJECT)
    return Completion(
        etag=plain_etag(root.findtext("ETag")),
        crc32c=decode_crc32c(root.findtext("ChecksumCRC32C")) if whole else None,
    )


# --- refusals -----------------------------------------------------------------------------------------------------

_CROWDED: Final = {"BandwidthLimitExceeded"}
_THROTTLED: Final = _CROWDED | {
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "TooManyRequests",
}
EXPIRED: Final = frozenset({"ExpiredToken", "TokenRefreshRequired"})
_CREDENTIALS: Final = {
    "InvalidAccessKeyId": "the access key is unknown",
    "XAdminUserNotFound": "the access key is unknown",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "TokenRefreshRequired": "the session token must be renewed",
    "AuthorizationHeaderMalformed": "the request is signed for another region, or the access key is malformed",
    "AccountProblem": "the account is blocked",
    "UserSuspended": "the user is suspended",
    "NotSignedUp": "the account is not signed up for S3",
    "AllAccessDisabled": "the account is blocked",
}
_CODES: Final[Mapping[str, type[AsyncCopyError]]] = {
    "InternalError": ServerTrouble,
    "OperationAborted": ServerTrouble,
    "ConditionalRequestConflict": ServerTrouble,
    "OperationTimeout": ServerTrouble,
    "RequestTimeout": ServerTrouble,
    "RequestTimeTooSkewed": ServerTrouble,
    "ServiceUnavailable": Unavailable,  # S3 throttles in this word, too; other servers say it while they start
    "IncompleteBody": ConnectionLost,
    "BadDigest": ChecksumMismatch,
    "InvalidDigest": ChecksumMismatch,
    "XAmzContentSHA256Mismatch": ChecksumMismatch,
    "XAmzContentChecksumMismatch": ChecksumMismatch,
    "NoSuchUpload": UploadGone,
}
_CONFLICTS: Final = {
    "ObjectParentIsFile": "a part of its path is an object already, and this store keeps keys as files and folders",
    "ExistingObjectIsDirectory": "it is a folder of other keys already, and this store keeps keys as files and folders",
    "DirectoryObjectContainsData": "a key that ends in / can hold no data on this store",
}
_NAMES: Final = {
    "KeyTooLongError": "the key is too long",
    "InvalidObjectName": "the store does not take this key",
    "XMinioInvalidObjectName": "the store does not take this key",
    "InvalidURI": "the store cannot parse this key",
}


_VIRTUAL: Final = {"PathStyleDomainForbidden", "SecondLevelDomainForbidden"}  # of COS; of the S3 face of OSS
_ARCHIVED: Final = "objects of an archive class must be restored before they can be read or copied"
_HINTS: Final = {
    "InvalidObjectState": _ARCHIVED,
    "ObjectNotInActiveTierError": _ARCHIVED,
    "InvalidStorageClass": "choose a storage class that this store knows",
    "MetadataTooLarge": "give objects less metadata, or leave out those of their files: file_metadata = false",
}


def refusal(status: int, headers: Mapping[str, str], body: bytes, subject: str) -> AsyncCopyError:
    """What an answer means that is no success. ``subject`` is an address without query: it opens the message.

    The code decides, for it says more than the status; where there is none that we know, the status does.
    """
    error = read_error(body)
    said = f"{subject}: {status} {error.code or 'without an error code'}"
    # What a store says about a refused signature quotes pieces of it, so only our own words are used there.
    if (why := _CREDENTIALS.get(error.code)) is not None:
        region = error.region or headers.get("x-amz-bucket-region", "")
        hint = f"set the region to {region}" if region and error.code == "AuthorizationHeaderMalformed" else None
        return CredentialsRefused(f"{said}: {why}", hint=hint)
    if (why := _CONFLICTS.get(error.code) or _NAMES.get(error.code)) is not None:
        return NameRefused(f"{said}: {why}")
    if error.message:
        said = f"{said}: {error.message}"
    if error.code in _THROTTLED:
        return Throttled(said, delay=whole_seconds(headers.get("retry-after")), crowded=error.code in _CROWDED)
    if (meaning := _CODES.get(error.code)) is not None:
        return meaning(said)
    if (hint := _HINTS.get(error.code)) is not None:
        return Refused(said, hint=hint)
    if error.code in _VIRTUAL:
        return WrongServer(said, hint='set addressing = "virtual" in the endpoint\'s table')
    if error.code == "QuotaExceeded":
        return SideError(said, hint="raise the quota of the bucket or the user, or make room")
    if error.code == "NoSuchBucket":
        return NotThere(said, hint="create the bucket, or correct its name")
    there = headers.get("x-amz-bucket-region")
    moved = f"set the region to {there}" if there else "check endpoint, region, addressing"
    return by_status(status, said, told=bool(body), delay=whole_seconds(headers.get("retry-after")), moved=moved)
