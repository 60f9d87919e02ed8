"""The XML documents that S3 brought up and OSS took over, and what goes with them. Pure.

Sources: the API references of both; answers seen from versitygw, s3proxy, radosgw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element, SubElement, TreeBuilder, tostring
from xml.parsers import expat

from msgspec import Struct

from asynccopy.errors import AsyncCopyError, NameRefused, Refused, ServerTrouble, WrongServer
from asynccopy.model import ObjectMeta, ObjectPage, PartReceipt

_MAX_XML: Final = 16 << 20
"""A page of 1,000 keys of 1,024 bytes, each byte percent-encoded, and room."""


def plain_etag(text: str | None) -> str:
    return (text or "").strip().strip('"')


def check_key(key: str, longest: int) -> None:
    """Raises NameRefused for a key that no store can hold."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise NameRefused(f"{shown(key)}: the name is not valid Unicode") from error
    if not 0 < size <= longest:
        raise NameRefused(f"{shown(key)}: a key has 1 to {longest} bytes in UTF-8, this one has {size}")


def shown(key: str) -> str:
    """A key as it may stand in a one-line message."""
    return "".join([letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in key])


def content_length(headers: Mapping[str, str], subject: str) -> int:
    """The length that the answer to a HEAD tells. Raises WrongServer where it tells none."""
    size = headers.get("content-length", "")
    if not size.isascii() or not size.isdigit():
        raise WrongServer(f"{subject}: HEAD names no length")
    return int(size)


def http_milliseconds(text: str | None) -> int:
    """A date of a header in ms since the epoch, 0 where there is none."""
    try:
        return int(parsedate_to_datetime(text or "").timestamp() * 1000)
    except ValueError:
        return 0


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
        raise WrongServer(f"{subject}: the answer is no document of an object store: {error}") from error
    if root.tag != name:
        raise WrongServer(f"{subject}: expected {name} in the answer, got {shown(root.tag)[:40]}")
    return root


def read_upload_id(body: bytes, subject: str) -> str:
    upload_id = _answer(body, "InitiateMultipartUploadResult", subject).findtext("UploadId")
    if not upload_id:
        raise WrongServer(f"{subject}: the answer names no upload id")
    return upload_id


class Level(Struct, frozen=True):
    """One page of one level of keys: its objects, the prefixes that keys further down begin with, the next token."""

    objects: list[ObjectMeta]
    prefixes: list[str]
    after: str | None


def read_page(
    body: bytes, subject: str, decode: Callable[[str], str] = unquote_plus, *, encoded_token: bool = False
) -> ObjectPage:
    """As ``read_level``, of an answer to a request without a delimiter."""
    level = read_level(body, subject, decode, encoded_token=encoded_token)
    return ObjectPage(level.objects, level.after)


def read_level(
    body: bytes, subject: str, decode: Callable[[str], str] = unquote_plus, *, encoded_token: bool = False
) -> Level:
    """One ListObjectsV2 answer. Keys are decoded when the store says that it encoded them, else taken as they are.

    ``encoded_token``: so is the token of the next page.
    """
    root = _answer(body, "ListBucketResult", subject)
    encoded = root.findtext("EncodingType") == "url"
    objects = [
        ObjectMeta(
            key=_key(entry, decode if encoded else None),
            size=_size(entry, subject),
            etag=plain_etag(entry.findtext("ETag")),
            modification_time=_iso_milliseconds(entry.findtext("LastModified")),
        )
        for entry in root.iterfind("Contents")
    ]
    found = [entry.findtext("Prefix") or "" for entry in root.iterfind("CommonPrefixes")]
    prefixes = [decode(prefix) for prefix in found] if encoded else found
    if root.findtext("IsTruncated") != "true":
        return Level(objects, prefixes, None)
    after = root.findtext("NextContinuationToken")
    if not after:
        raise WrongServer(f"{subject}: the listing goes on but names no token")
    return Level(objects, prefixes, decode(after) if encoded and encoded_token else after)


def read_uploads(
    body: bytes, subject: str, decode: Callable[[str], str] = unquote_plus
) -> tuple[list[tuple[str, str, int]], str | None]:
    """One ListMultipartUploads answer: (key, upload id, ms when it began by the store's clock, 0 where none is told) of
    each, and the key marker of the next page.
    """
    root = _answer(body, "ListMultipartUploadsResult", subject)
    encoding = decode if root.findtext("EncodingType") == "url" else None
    uploads = [
        (_key(entry, encoding), entry.findtext("UploadId") or "", _iso_milliseconds(entry.findtext("Initiated")))
        for entry in root.iterfind("Upload")
    ]
    if root.findtext("IsTruncated") != "true" or not uploads:
        return uploads, None
    marker = root.findtext("NextKeyMarker") or ""
    return uploads, (encoding(marker) if encoding else marker) or uploads[-1][0]


def read_any_part(body: bytes, subject: str) -> bool:
    """Whether a ListParts answer names a part."""
    return _answer(body, "ListPartsResult", subject).find("Part") is not None


def _key(entry: Element, decode: Callable[[str], str] | None) -> str:
    text = entry.findtext("Key") or ""
    return text if decode is None else decode(text)


def _size(entry: Element, subject: str) -> int:
    text = entry.findtext("Size") or ""
    if not text.isascii() or not text.isdigit():
        raise WrongServer(f"{subject}: an object without a size in the listing")
    return int(text)


def _iso_milliseconds(text: str | None) -> int:
    try:
        return int(datetime.fromisoformat(text or "").timestamp() * 1000)
    except ValueError:
        return 0


# --- completions --------------------------------------------------------------------------------------------------


def write_completion(
    parts: Sequence[PartReceipt], *, namespace: str = "", crc32c: Callable[[int], str] | None = None
) -> bytes:
    """CompleteMultipartUpload, with the CRC-32C of each part where ``crc32c`` writes it."""
    root = Element("CompleteMultipartUpload", {"xmlns": namespace} if namespace else {})
    for part in parts:
        entry = SubElement(root, "Part")
        SubElement(entry, "PartNumber").text = str(part.number)
        SubElement(entry, "ETag").text = f'"{part.plain_etag}"'
        if crc32c is not None:
            SubElement(entry, "ChecksumCRC32C").text = crc32c(part.crc32c)
    return tostring(root)


def completed(body: bytes, subject: str, refusal: Callable[[bytes], AsyncCopyError]) -> Element:
    """The root of the answer to a Complete or a copy. Raises what an ``<Error>`` in it means: a 200 goes out before the
    store knows whether it succeeds.
    """
    try:
        root = parse_xml(body)
    except ValueError as error:
        raise ServerTrouble(f"{subject}: the answer ended early or is no XML") from error
    if root.tag == "Error":
        raise refusal(body)
    return root


# --- other parts of answers ---------------------------------------------------------------------------------------


class PreconditionFailed(Refused):
    """The condition in the request is not met; nothing was done."""


class Completion(Struct, frozen=True):
    """What the answer to CompleteMultipartUpload, CopyObject or UploadPartCopy says; the CRCs are of the whole.

    Some stores leave the ETag empty and send no checksum.
    """

    etag: str
    crc32c: int | None = None
    crc64: int | None = None


class ErrorBody(Struct, frozen=True):
    """The ``<Error>`` document of an answer; empty strings where it has none. ``detail``: the finer code of OSS."""

    code: str = ""
    message: str = ""
    region: str = ""
    endpoint: str = ""
    detail: str = ""


def read_error(body: bytes) -> ErrorBody:
    try:
        root = parse_xml(body)
    except ValueError:
        return ErrorBody()
    if root.tag != "Error":
        return ErrorBody()
    texts = [_line(root.findtext(name)) for name in ("Code", "Message", "Region", "Endpoint", "EC")]
    return ErrorBody(*texts)


def _line(text: str | None) -> str:
    return shown(" ".join((text or "").split()))[:200]


def whole_seconds(text: str | None) -> float | None:
    """What a header like Retry-After says, None where it says no number."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
