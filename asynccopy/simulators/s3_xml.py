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

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_SPECIAL = re.compile('[&<>"\\x00-\\x1f\\x7f-\\x9f\\ufffe\\uffff]')
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def _text(value: object) -> str:
    """Escaped as S3 does: control characters by number, though XML 1.0 forbids them; hence ``encoding-type=url``."""
    return _SPECIAL.sub(lambda found: _NAMED.get(found[0]) or f"&#x{ord(found[0]):x};", str(value))


def tag(name: str, value: object) -> str:
    """One element."""
    return f"<{name}>{_text(value)}</{name}>"


def document(name: str, *content: str, namespace: str = _NAMESPACE) -> bytes:
    """A whole document; OSS's have no namespace."""
    spelt = f' xmlns="{namespace}"' if namespace else ""
    text = f"{HEAD}<{name}{spelt}>{''.join(content)}</{name}>"
    return text.encode("utf-8", "surrogateescape")


def stamp(seconds: float) -> str:
    """A time as both stores write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def error(code: str, message: str, resource: str, number: int) -> bytes:
    """An ``<Error>`` document; the only one without a namespace. For ``Status`` faults, too."""
    content = tag("Code", code) + tag("Message", message) + tag("Resource", resource)
    return f"{HEAD}<Error>{content}{tag('RequestId', f'{number:016X}')}</Error>".encode("utf-8", "surrogateescape")


def tagging(tags: Mapping[str, str], namespace: str = _NAMESPACE) -> bytes:
    """Tagging, the answer to GetObjectTagging."""
    items = [f"<Tag>{tag('Key', name)}{tag('Value', value)}</Tag>" for name, value in tags.items()]
    return document("Tagging", f"<TagSet>{''.join(items)}</TagSet>", namespace=namespace)


def with_etag(document: bytes, etag: str) -> bytes:
    """The same document with another ETag."""
    return re.sub(rb"<ETag>.*?</ETag>", tag("ETag", etag).encode(), document)


class Page(NamedTuple):
    """The keys of one page, the token of the next or "", and the prefixes that a delimiter folded keys into."""

    keys: list[str]
    following: str
    prefixes: Sequence[str] = ()


def page(keys: Sequence[str], query: Mapping[str, str], default: int = 1000) -> Page:
    """Cut a page out of the sorted keys, as ``prefix``, ``delimiter``, ``start-after``, ``continuation-token``,
    ``max-keys`` ask.

    ``default``: how many keys where none say.
    """
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    start = bisect_left(keys, prefix)
    token = query.get("continuation-token")
    after = query.get("start-after", "")
    if token is not None:
        try:
            after = base64.urlsafe_b64decode(token).decode("utf-8", "surrogateescape")
        except ValueError:
            raise S3Error(400, "InvalidArgument", "The continuation token provided is incorrect") from None
    elif after and delimiter:
        raise S3Error(501, "NotImplemented", "delimiter with start-after is not simulated")
    if after:
        folded = delimiter and after.endswith(delimiter) and after != prefix
        start = max(start, _behind(keys, after) if folded else bisect_right(keys, after))
    limit = min(1000, _number(query, "max-keys", default))
    chosen: list[str] = []
    prefixes: set[str] = set()
    while start < len(keys) and len(chosen) <= limit and keys[start].startswith(prefix):
        cut = keys[start].find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            chosen.append(keys[start])
            start += 1
        else:
            chosen.append(keys[start][: cut + len(delimiter)])
            prefixes.add(chosen[-1])
            start = _behind(keys, chosen[-1])
    following = ""
    if len(chosen) > limit > 0:
        last = chosen[limit - 1].encode("utf-8", "surrogateescape")
        following = base64.urlsafe_b64encode(last).decode()
    shown = chosen[:limit]
    plain = [key for key in shown if key not in prefixes]
    return Page(plain, following, [key for key in shown if key in prefixes])


def _behind(keys: Sequence[str], prefix: str) -> int:
    """Where the keys that begin so end."""
    return bisect_left(keys, prefix[:-1] + chr(ord(prefix[-1]) + 1))


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
        tag("Name", bucket),
        tag("Prefix", name(query.get("prefix", ""))),
        tag("KeyCount", len(entries) + len(page.prefixes)),
        tag("MaxKeys", query.get("max-keys", 1000)),
        tag("IsTruncated", "true" if page.following else "false"),
    ]
    if url:
        content.append(tag("EncodingType", "url"))
    if page.following:
        content.append(tag("NextContinuationToken", page.following))
    for key, stored in entries:
        item = tag("Key", name(key)) + tag("LastModified", stamp(stored.modified)) + tag("ETag", stored.etag)
        if stored.checksum:
            item += tag("ChecksumAlgorithm", "CRC32C") + tag("ChecksumType", stored.checksum_type)
        content.append(f"<Contents>{item}{tag('Size', stored.size)}<StorageClass>STANDARD</StorageClass></Contents>")
    content += [f"<CommonPrefixes>{tag('Prefix', name(prefix))}</CommonPrefixes>" for prefix in page.prefixes]
    return document("ListBucketResult", *content)


def create_upload(bucket: str, key: str, upload_id: str, *, namespace: str = _NAMESPACE) -> bytes:
    """InitiateMultipartUploadResult."""
    content = tag("Bucket", bucket) + tag("Key", key) + tag("UploadId", upload_id)
    return document("InitiateMultipartUploadResult", content, namespace=namespace)


def complete_upload(bucket: str, key: str, stored: StoredObject) -> bytes:
    """CompleteMultipartUploadResult."""
    content = tag("Bucket", bucket) + tag("Key", key) + tag("ETag", stored.etag)
    if stored.checksum:
        content += tag("ChecksumCRC32C", stored.checksum) + tag("ChecksumType", stored.checksum_type)
    return document("CompleteMultipartUploadResult", content)


def copy(
    name: str, etag: str, modified: float, crc32c: str = "", checksum_type: str = "", *, namespace: str = _NAMESPACE
) -> bytes:
    """CopyObjectResult or CopyPartResult; ``crc32c`` in base64 or ""."""
    content = [tag("LastModified", stamp(modified)), tag("ETag", etag)]
    if crc32c:
        content.append(tag("ChecksumCRC32C", crc32c))
    if checksum_type:
        content.append(tag("ChecksumType", checksum_type))
    return document(name, *content, namespace=namespace)


def part_page(
    query: Mapping[str, str], parts: list[tuple[int, str, Body, str]]
) -> tuple[list[tuple[int, str, Body, str]], list[str]]:
    """(the parts of one page, the tags that say which page it is), by ``part-number-marker`` and ``max-parts``."""
    marker, limit = _number(query, "part-number-marker", 0), min(1000, _number(query, "max-parts", 1000))
    rest = [part for part in parts if part[0] > marker]
    shown = rest[:limit]
    return shown, [
        tag("PartNumberMarker", marker),
        tag("NextPartNumberMarker", shown[-1][0] if shown else 0),
        tag("MaxParts", limit),
        tag("IsTruncated", "true" if len(rest) > limit else "false"),
    ]


def list_parts(bucket: str, upload: Upload, query: Mapping[str, str], parts: list[tuple[int, str, Body, str]]) -> bytes:
    """ListPartsResult of (number, ETag, body, CRC32C or ""), paged by ``part-number-marker`` and ``max-parts``."""
    shown, page = part_page(query, parts)
    content = [
        tag("Bucket", bucket),
        tag("Key", upload.key),
        tag("UploadId", upload.upload_id),
        *page,
    ]
    if upload.checksum_type:
        content.append(tag("ChecksumAlgorithm", "CRC32C") + tag("ChecksumType", upload.checksum_type))
    for number, etag, body, crc32c in shown:
        item = tag("PartNumber", number) + tag("LastModified", stamp(upload.begun)) + tag("ETag", etag)
        item += tag("Size", body.size) + (tag("ChecksumCRC32C", crc32c) if crc32c else "")
        content.append(f"<Part>{item}</Part>")
    return document("ListPartsResult", *content)


def upload_page(query: Mapping[str, str], uploads: list[Upload]) -> tuple[list[Upload], list[str]]:
    """The same for uploads, by ``key-marker``, ``upload-id-marker`` and ``max-uploads``."""
    limit = min(1000, _number(query, "max-uploads", 1000))
    key, upload_id = query.get("key-marker", ""), query.get("upload-id-marker", "")
    start = 0
    if key:
        inside = next((n for n, u in enumerate(uploads) if (u.key, u.upload_id) == (key, upload_id)), None)
        behind = next((n for n, u in enumerate(uploads) if u.key > key), len(uploads))
        start = behind if inside is None else inside + 1
    return uploads[start : start + limit], [
        tag("UploadIdMarker", upload_id),
        tag("MaxUploads", limit),
        tag("IsTruncated", "true" if start + limit < len(uploads) else "false"),
    ]


def list_uploads(bucket: str, query: Mapping[str, str], uploads: list[Upload]) -> bytes:
    """ListMultipartUploadsResult."""
    shown, page = upload_page(query, uploads)
    url = query.get("encoding-type") == "url"

    def name(text: str) -> str:
        return quote_plus(text, safe="/*", errors="surrogateescape") if url else text

    content = [tag("Bucket", bucket), tag("KeyMarker", name(query.get("key-marker", ""))), *page]
    if url:
        content.append(tag("EncodingType", "url"))
    if shown:
        content.append(tag("NextKeyMarker", name(shown[-1].key)) + tag("NextUploadIdMarker", shown[-1].upload_id))
    for upload in shown:
        item = tag("Key", name(upload.key)) + tag("UploadId", upload.upload_id)
        content.append(f"<Upload>{item}{tag('Initiated', stamp(upload.begun))}</Upload>")
    return document("ListMultipartUploadsResult", *content)


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
