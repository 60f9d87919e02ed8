"""The XML of the simulated S3: what goes out, the part list that comes in, and how listings are cut into pages."""

from __future__ import annotations

import base64
import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote_plus
from xml.etree import ElementTree as ET

from asynccopy.simulators.sigv4 import S3Error
from asynccopy.simulators.store import Body, StoredObject, Upload

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_SPECIAL = re.compile('[&<>"\\x00-\\x1f\\x7f-\\x9f\\ufffe\\uffff]')
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def _text(value: object) -> str:
    """Escaped as S3 does: control characters by number, though XML 1.0 forbids them; hence ``encoding-type=url``."""
    return _SPECIAL.sub(lambda found: _NAMED.get(found[0]) or f"&#x{ord(found[0]):x};", str(value))


def _tag(name: str, value: object) -> str:
    return f"<{name}>{_text(value)}</{name}>"


def _document(name: str, *content: str) -> bytes:
    text = f'{_HEAD}<{name} xmlns="{_NAMESPACE}">{"".join(content)}</{name}>'
    return text.encode("utf-8", "surrogateescape")


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def error(code: str, message: str, resource: str, number: int) -> bytes:
    """An ``<Error>`` document; the only one without a namespace. For ``Status`` faults, too."""
    content = _tag("Code", code) + _tag("Message", message) + _tag("Resource", resource)
    return f"{_HEAD}<Error>{content}{_tag('RequestId', f'{number:016X}')}</Error>".encode("utf-8", "surrogateescape")


def with_etag(document: bytes, etag: str) -> bytes:
    """The same document with another ETag."""
    return re.sub(rb"<ETag>.*?</ETag>", _tag("ETag", etag).encode(), document)


class Page(NamedTuple):
    """The keys of one page, and the token of the next or ""."""

    keys: list[str]
    following: str


def page(keys: Sequence[str], query: Mapping[str, str]) -> Page:
    """Cut a page out of the sorted keys, as ``prefix``, ``start-after``, ``continuation-token`` ``max-keys`` ask."""
    prefix = query.get("prefix", "")
    start = bisect_left(keys, prefix)
    token = query.get("continuation-token")
    after = query.get("start-after", "")
    if token is not None:
        try:
            after = base64.urlsafe_b64decode(token).decode("utf-8", "surrogateescape")
        except ValueError:
            raise S3Error(400, "InvalidArgument", "The continuation token provided is incorrect") from None
    if after:
        start = max(start, bisect_right(keys, after))
    limit = min(1000, _number(query, "max-keys", 1000))
    chosen = []
    for key in keys[start : start + limit + 1]:
        if not key.startswith(prefix):
            break
        chosen.append(key)
    if len(chosen) <= limit or not limit:
        return Page(chosen[:limit], "")
    last = chosen[limit - 1].encode("utf-8", "surrogateescape")
    return Page(chosen[:limit], base64.urlsafe_b64encode(last).decode())


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name) or str(default)
    if not text.isdigit():
        raise S3Error(400, "InvalidArgument", f"{name} is not a number")
    return int(text)


def list_objects(
    bucket: str, query: Mapping[str, str], page: Page, entries: list[tuple[str, StoredObject]], *, url: bool
) -> bytes:
    """ListBucketResult. Where ``url``, keys are percent-encoded with ``+`` for a space."""

    def name(text: str) -> str:
        return quote_plus(text, safe="/*", errors="surrogateescape") if url else text

    content = [
        _tag("Name", bucket),
        _tag("Prefix", name(query.get("prefix", ""))),
        _tag("KeyCount", len(entries)),
        _tag("MaxKeys", query.get("max-keys", 1000)),
        _tag("IsTruncated", "true" if page.following else "false"),
    ]
    if url:
        content.append(_tag("EncodingType", "url"))
    if page.following:
        content.append(_tag("NextContinuationToken", page.following))
    for key, stored in entries:
        item = _tag("Key", name(key)) + _tag("LastModified", _stamp(stored.modified)) + _tag("ETag", stored.etag)
        if stored.checksum:
            item += _tag("ChecksumAlgorithm", "CRC32C") + _tag("ChecksumType", stored.checksum_type)
        content.append(f"<Contents>{item}{_tag('Size', stored.size)}<StorageClass>STANDARD</StorageClass></Contents>")
    return _document("ListBucketResult", *content)


def create_upload(bucket: str, key: str, upload_id: str) -> bytes:
    """InitiateMultipartUploadResult."""
    content = _tag("Bucket", bucket) + _tag("Key", key) + _tag("UploadId", upload_id)
    return _document("InitiateMultipartUploadResult", content)


def complete_upload(bucket: str, key: str, stored: StoredObject) -> bytes:
    """CompleteMultipartUploadResult."""
    content = _tag("Bucket", bucket) + _tag("Key", key) + _tag("ETag", stored.etag)
    if stored.checksum:
        content += _tag("ChecksumCRC32C", stored.checksum) + _tag("ChecksumType", stored.checksum_type)
    return _document("CompleteMultipartUploadResult", content)


def copy(name: str, etag: str, modified: float, crc32c: str, checksum_type: str = "") -> bytes:
    """CopyObjectResult or CopyPartResult; ``crc32c`` in base64 or ""."""
    content = [_tag("LastModified", _stamp(modified)), _tag("ETag", etag)]
    if crc32c:
        content.append(_tag("ChecksumCRC32C", crc32c))
    if checksum_type:
        content.append(_tag("ChecksumType", checksum_type))
    return _document(name, *content)


def list_parts(bucket: str, upload: Upload, query: Mapping[str, str], parts: list[tuple[int, str, Body, str]]) -> bytes:
    """ListPartsResult of (number, ETag, body, CRC32C or ""), paged by ``part-number-marker`` and ``max-parts``."""
    marker, limit = _number(query, "part-number-marker", 0), min(1000, _number(query, "max-parts", 1000))
    rest = [part for part in parts if part[0] > marker]
    shown = rest[:limit]
    content = [
        _tag("Bucket", bucket),
        _tag("Key", upload.key),
        _tag("UploadId", upload.upload_id),
        _tag("PartNumberMarker", marker),
        _tag("NextPartNumberMarker", shown[-1][0] if shown else 0),
        _tag("MaxParts", limit),
        _tag("IsTruncated", "true" if len(rest) > limit else "false"),
    ]
    if upload.checksum_type:
        content.append(_tag("ChecksumAlgorithm", "CRC32C") + _tag("ChecksumType", upload.checksum_type))
    for number, etag, body, crc32c in shown:
        item = _tag("PartNumber", number) + _tag("LastModified", _stamp(upload.begun)) + _tag("ETag", etag)
        item += _tag("Size", body.size) + (_tag("ChecksumCRC32C", crc32c) if crc32c else "")
        content.append(f"<Part>{item}</Part>")
    return _document("ListPartsResult", *content)


def list_uploads(bucket: str, query: Mapping[str, str], uploads: list[Upload]) -> bytes:
    """ListMultipartUploadsResult, paged by ``key-marker``, ``upload-id-marker`` and ``max-uploads``."""
    limit = min(1000, _number(query, "max-uploads", 1000))
    key, upload_id = query.get("key-marker", ""), query.get("upload-id-marker", "")
    start = 0
    if key:
        inside = next((n for n, u in enumerate(uploads) if (u.key, u.upload_id) == (key, upload_id)), None)
        behind = next((n for n, u in enumerate(uploads) if u.key > key), len(uploads))
        start = behind if inside is None else inside + 1
    shown = uploads[start : start + limit]
    url = query.get("encoding-type") == "url"

    def name(text: str) -> str:
        return quote_plus(text, safe="/*", errors="surrogateescape") if url else text

    content = [
        _tag("Bucket", bucket),
        _tag("KeyMarker", name(key)),
        _tag("UploadIdMarker", upload_id),
        _tag("MaxUploads", limit),
        _tag("IsTruncated", "true" if start + limit < len(uploads) else "false"),
    ]
    if url:
        content.append(_tag("EncodingType", "url"))
    if shown:
        content.append(_tag("NextKeyMarker", name(shown[-1].key)) + _tag("NextUploadIdMarker", shown[-1].upload_id))
    for upload in shown:
        item = _tag("Key", name(upload.key)) + _tag("UploadId", upload.upload_id)
        content.append(f"<Upload>{item}{_tag('Initiated', _stamp(upload.begun))}</Upload>")
    return _document("ListMultipartUploadsResult", *content)


class ListedPart(NamedTuple):
    """One part as Complete lists it; ``crc32c`` in base64 or ""."""

    number: int
    etag: str
    crc32c: str


def parse_complete(document: bytes) -> list[ListedPart]:
    """The part list of CompleteMultipartUpload, with or without a namespace. Raises S3Error (MalformedXML)."""
    try:
        root = ET.fromstring(document)
        return [
            ListedPart(
                int(part.findtext("{*}PartNumber", "")),
                part.findtext("{*}ETag", ""),
                part.findtext("{*}ChecksumCRC32C", ""),
            )
            for part in root.iterfind("{*}Part")
        ]
    except (ET.ParseError, ValueError):
        raise S3Error(400, "MalformedXML", "The XML you provided was not well-formed") from None
