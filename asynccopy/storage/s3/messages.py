"""The wire and the model: XML of the few operations, checksums, keys, and what a store's refusal means. Pure.

Sources: the S3 API reference; answers seen from versitygw, s3proxy, radosgw.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element, SubElement, TreeBuilder, tostring
from xml.parsers import expat

from msgspec import Struct

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
from asynccopy.model import ObjectMeta, ObjectPage, PartReceipt

CRC32C_HEADER: Final = "x-amz-checksum-crc32c"
TYPE_HEADER: Final = "x-amz-checksum-type"
FULL_OBJECT: Final = "FULL_OBJECT"

_MAX_XML: Final = 16 << 20
"""A page of 1,000 keys of 1,024 bytes, each byte percent-encoded, and room."""

# --- checksums and keys -------------------------------------------------------------------------------------------


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


def plain_etag(text: str | None) -> str:
    return (text or "").strip().strip('"')


def check_key(key: str, longest: int) -> None:
    """Raises NameRefused for a key that no S3 store can hold."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise NameRefused(f"{shown(key)}: the name is not valid Unicode") from error
    if not 0 < size <= longest:
        raise NameRefused(f"{shown(key)}: a key has 1 to {longest} bytes in UTF-8, this one has {size}")


def shown(key: str) -> str:
    """A key as it may stand in a one-line message."""
    return "".join([letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in key])


# --- XML ----------------------------------------------------------------------------------------------------------


def parse_xml(body: bytes) -> Element:
    """The root of an answer, names without their namespace. Raises ValueError for anything but plain, bounded XML."""
    if len(body) > _MAX_XML:
        raise ValueError("longer than any answer may be")
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True

    def refuse(*_: object) -> None:
        raise ValueError("a document type in an answer")  # entities could only be declared there

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda name, _: builder.start(name.rpartition("}")[2], {})
    parser.EndElementHandler = lambda name: builder.end(name.rpartition("}")[2])
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise ValueError(f"not XML: {error}") from error
    return builder.close()


def _answer(body: bytes, name: str, subject: str) -> Element:
    """The root, which must have this name."""
    try:
        root = parse_xml(body)
    except ValueError as error:
        raise WrongServer(f"{subject}: the answer is no S3 document: {error}") from error
    if root.tag != name:
        raise WrongServer(f"{subject}: expected {name} in the answer, got {shown(root.tag)[:40]}")
    return root


def read_upload_id(body: bytes, subject: str) -> str:
    upload_id = _answer(body, "InitiateMultipartUploadResult", subject).findtext("UploadId")
    if not upload_id:
        raise WrongServer(f"{subject}: the answer names no upload id")
    return upload_id


def read_page(body: bytes, subject: str) -> ObjectPage:
    """One ListObjectsV2 answer. Keys are decoded when the store says that it encoded them, else taken as they are."""
    root = _answer(body, "ListBucketResult", subject)
    encoded = root.findtext("EncodingType") == "url"
    objects = [
        ObjectMeta(
            key=_key(entry, encoded),
            size=_size(entry, subject),
            etag=plain_etag(entry.findtext("ETag")),
            modification_time=_milliseconds(entry.findtext("LastModified")),
        )
        for entry in root.iterfind("Contents")
    ]
    if root.findtext("IsTruncated") != "true":
        return ObjectPage(objects, None)
    after = root.findtext("NextContinuationToken")
    if not after:
        raise WrongServer(f"{subject}: the listing goes on but names no token")
    return ObjectPage(objects, after)


def read_uploads(body: bytes, subject: str) -> tuple[list[tuple[str, str]], str | None]:
    """One ListMultipartUploads answer: (key, upload id) of each, and the key marker of the next page."""
    root = _answer(body, "ListMultipartUploadsResult", subject)
    encoded = root.findtext("EncodingType") == "url"
    uploads = [(_key(entry, encoded), entry.findtext("UploadId") or "") for entry in root.iterfind("Upload")]
    if root.findtext("IsTruncated") != "true" or not uploads:
        return uploads, None
    marker = root.findtext("NextKeyMarker") or ""
    return uploads, (unquote_plus(marker) if encoded else marker) or uploads[-1][0]


def _key(entry: Element, encoded: bool) -> str:
    text = entry.findtext("Key") or ""
    return unquote_plus(text) if encoded else text


def _size(entry: Element, subject: str) -> int:
    text = entry.findtext("Size") or ""
    if not text.isascii() or not text.isdigit():
        raise WrongServer(f"{subject}: an object without a size in the listing")
    return int(text)


def _milliseconds(text: str | None) -> int:
    try:
        return int(datetime.fromisoformat(text or "").timestamp() * 1000)
    except ValueError:
        return 0


class Completion(Struct, frozen=True):
    """What the answer to CompleteMultipartUpload, CopyObject or UploadPartCopy says.

    Some stores leave the ETag empty and send no checksum.
    """

    etag: str
    crc32c: int | None


def write_completion(parts: Sequence[PartReceipt], *, with_crc32c: bool) -> bytes:
    root = Element("CompleteMultipartUpload", xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
    for part in parts:
        entry = SubElement(root, "Part")
        SubElement(entry, "PartNumber").text = str(part.number)
        SubElement(entry, "ETag").text = f'"{part.etag}"'
        if with_crc32c:
            SubElement(entry, "ChecksumCRC32C").text = encode_crc32c(part.crc32c)
    return tostring(root)


def read_completion(body: bytes, subject: str) -> Completion:
    """Raises what an ``<Error>`` inside the answer means: a 200 goes out before the store knows whether it succeeds."""
    try:
        root = parse_xml(body)
    except ValueError as error:
        raise ServerTrouble(f"{subject}: the answer ended early or is no XML") from error
    if root.tag == "Error":
        raise refusal(200, {}, body, subject)
    whole = root.findtext("ChecksumType") in (None, FULL_OBJECT)
    return Completion(
        etag=plain_etag(root.findtext("ETag")),
        crc32c=decode_crc32c(root.findtext("ChecksumCRC32C")) if whole else None,
    )


# --- refusals -----------------------------------------------------------------------------------------------------

_THROTTLED: Final = {
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "BandwidthLimitExceeded",
    "TooManyRequests",
}
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
    "OperationTimeout": ServerTrouble,
    "RequestTimeout": ServerTrouble,
    "RequestTimeTooSkewed": ServerTrouble,
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


class ErrorBody(Struct, frozen=True):
    """The ``<Error>`` document of an answer; empty strings where it has none."""

    code: str = ""
    message: str = ""
    region: str = ""


def read_error(body: bytes) -> ErrorBody:
    try:
        root = parse_xml(body)
    except ValueError:
        return ErrorBody()
    if root.tag != "Error":
        return ErrorBody()
    message = shown(" ".join((root.findtext("Message") or "").split()))[:200]
    return ErrorBody(root.findtext("Code") or "", message, root.findtext("Region") or "")


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
        return Throttled(said, delay=_seconds(headers.get("retry-after")))
    if (meaning := _CODES.get(error.code)) is not None:
        return meaning(said)
    if error.code == "QuotaExceeded":
        return SideError(said, hint="raise the quota of the bucket or the user, or make room")
    if error.code == "NoSuchBucket":
        return NotThere(said, hint="create the bucket, or correct its name")
    return _by_status(status, headers, said)


def _by_status(status: int, headers: Mapping[str, str], said: str) -> AsyncCopyError:
    if status in (429, 503):
        return Throttled(said, delay=_seconds(headers.get("retry-after")))
    if status == 408 or (status >= 500 and status != 501) or status < 300:  # an error inside a success
        return ServerTrouble(said)
    if status < 400:
        region = headers.get("x-amz-bucket-region")
        return WrongServer(said, hint=f"set the region to {region}" if region else "check endpoint, region, addressing")
    if status == 401:
        return CredentialsRefused(said)
    if status == 403:
        return PermissionDenied(said, hint="grant the access key this action on the bucket")
    if status == 404:
        return NotFound(said)
    return Refused(said)


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
