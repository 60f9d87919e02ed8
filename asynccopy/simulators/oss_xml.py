"""The XML of the simulated OSS: S3's elements with other contents, without a namespace; and the lists that come in."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote
from xml.etree import ElementTree as ET

from asynccopy.simulators.faults import Status
from asynccopy.simulators.s3_xml import HEAD, Page, document, part_page, stamp, tag, upload_page
from asynccopy.simulators.sigv4 import S3Error
from asynccopy.simulators.store import Body, StoredObject, Upload

_OWNER = "<Owner><ID>0022012</ID><DisplayName>0022012</DisplayName></Owner>"
# The finer codes that Alibaba documents one by one; a code without one here goes out without.
_EC = {
    "SecurityTokenExpired": "0002-00000007",
    "InvalidAccessKeyId": "0002-00000003",
    "FileAlreadyExists": "0026-00000002",
    "TotalQpsLimitExceeded": "0004-00000302",
    "PartitionQpsLimitted": "0026-00000028",
}


def ec(code: str) -> str:
    """The ``EC`` of an error code, "" where none is known."""
    return _EC.get(code, "")


def error(code: str, message: str, host: str = "", request_id: str = "0" * 24, **more: str) -> bytes:
    """An ``<Error>`` document."""
    content = tag("Code", code) + tag("Message", message) + tag("RequestId", request_id) + tag("HostId", host)
    content += "".join(tag(name, value) for name, value in more.items())
    content += tag("EC", ec(code)) if ec(code) else ""
    return f"{HEAD}<Error>{content}</Error>".encode("utf-8", "surrogateescape")


def refusal(status: int, code: str, *, delay: int | None = None) -> Status:
    """A scripted error answer; ``delay`` in milliseconds is that of a throttled request."""
    headers = {"Content-Type": "application/xml", "x-oss-request-id": "0" * 24}
    if delay is not None:
        headers["x-oss-qos-delay-time"] = str(delay)
    return Status(status, error(code, "scripted"), headers)


def _name(text: str, query: Mapping[str, str]) -> str:
    return quote(text, safe="/", errors="surrogateescape") if query.get("encoding-type") == "url" else text


def _encoding(query: Mapping[str, str]) -> str:
    return tag("EncodingType", "url") if query.get("encoding-type") == "url" else ""


def list_objects(bucket: str, query: Mapping[str, str], page: Page, entries: list[tuple[str, StoredObject]]) -> bytes:
    """ListBucketResult of ListObjectsV2; a hundred keys where none says how many."""
    content = [
        tag("Name", bucket),
        tag("Prefix", _name(query.get("prefix", ""), query)),
        tag("StartAfter", _name(query.get("start-after", ""), query)),
        tag("MaxKeys", query.get("max-keys", 100)),
        tag("KeyCount", len(entries) + len(page.prefixes)),
        _encoding(query),
        tag("IsTruncated", "true" if page.following else "false"),
    ]
    if "continuation-token" in query:
        content.append(tag("ContinuationToken", _name(query["continuation-token"], query)))
    if page.following:
        content.append(tag("NextContinuationToken", _name(page.following, query)))
    for key, stored in entries:
        item = tag("Key", _name(key, query)) + tag("LastModified", stamp(stored.modified)) + tag("ETag", stored.etag)
        item += tag("Type", "Multipart" if "-" in stored.etag else "Normal") + tag("Size", stored.size)
        content.append(f"<Contents>{item}{tag('StorageClass', stored.headers['x-oss-storage-class'])}</Contents>")
    content += [f"<CommonPrefixes>{tag('Prefix', _name(prefix, query))}</CommonPrefixes>" for prefix in page.prefixes]
    return document("ListBucketResult", *content, namespace="")


def create_upload(bucket: str, upload: Upload, query: Mapping[str, str]) -> bytes:
    """InitiateMultipartUploadResult."""
    content = _encoding(query) + tag("Bucket", bucket) + tag("Key", _name(upload.key, query))
    return document("InitiateMultipartUploadResult", content, tag("UploadId", upload.upload_id), namespace="")


def complete_upload(bucket: str, key: str, location: str, etag: str, query: Mapping[str, str]) -> bytes:
    """CompleteMultipartUploadResult."""
    content = _encoding(query) + tag("Location", location) + tag("Bucket", bucket) + tag("Key", _name(key, query))
    return document("CompleteMultipartUploadResult", content, tag("ETag", etag), namespace="")


def copy(name: str, etag: str, modified: float) -> bytes:
    """CopyObjectResult or CopyPartResult."""
    return document(name, tag("LastModified", stamp(modified)), tag("ETag", etag), namespace="")


def list_parts(bucket: str, upload: Upload, query: Mapping[str, str], parts: list[tuple[int, str, Body, str]]) -> bytes:
    """ListPartsResult of (number, ETag, body, CRC-64)."""
    shown, page = part_page(query, parts)
    names = tag("Bucket", bucket) + tag("Key", _name(upload.key, query)) + tag("UploadId", upload.upload_id)
    content = [_encoding(query), names, *page]
    for number, etag, body, crc64 in shown:
        item = tag("PartNumber", number) + tag("LastModified", stamp(upload.begun)) + tag("ETag", etag)
        content.append(f"<Part>{item}{tag('HashCrc64ecma', crc64)}{tag('Size', body.size)}</Part>")
    return document("ListPartsResult", *content, namespace="")


def list_uploads(bucket: str, query: Mapping[str, str], uploads: list[Upload]) -> bytes:
    """ListMultipartUploadsResult."""
    shown, page = upload_page(query, uploads)
    content = [tag("Bucket", bucket), _encoding(query), tag("KeyMarker", _name(query.get("key-marker", ""), query))]
    content += [tag("Prefix", _name(query.get("prefix", ""), query)), *page]
    if shown:
        content.append(tag("NextKeyMarker", _name(shown[-1].key, query)))
        content.append(tag("NextUploadIdMarker", shown[-1].upload_id))
    for upload in shown:
        item = tag("Key", _name(upload.key, query)) + tag("UploadId", upload.upload_id)
        item += tag("StorageClass", upload.headers["x-oss-storage-class"]) + tag("Initiated", stamp(upload.begun))
        content.append(f"<Upload>{item}</Upload>")
    return document("ListMultipartUploadsResult", *content, namespace="")


def bucket_info(bucket: str, region: str, zone: str) -> bytes:
    """BucketInfo: where the bucket is and of what kind. Versioning was never set, so nothing is said of it."""
    content = tag("Name", bucket) + tag("Location", f"oss-{region}") + tag("CreationDate", stamp(0))
    content += tag("ExtranetEndpoint", f"oss-{region}.{zone}")
    content += tag("IntranetEndpoint", f"oss-{region}-internal.{zone}")
    content += tag("StorageClass", "Standard") + tag("DataRedundancyType", "LRS") + _OWNER
    return document("BucketInfo", f"<Bucket>{content}</Bucket>", namespace="")


def deleted(keys: list[str], query: Mapping[str, str]) -> bytes:
    """DeleteResult."""
    items = [f"<Deleted>{tag('Key', _name(key, query))}</Deleted>" for key in keys]
    return document("DeleteResult", _encoding(query), *items, namespace="")


def _parsed(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)
    except ET.ParseError:
        raise S3Error(400, "MalformedXML", "The XML you provided was not well-formed.") from None


def parse_delete(body: bytes) -> tuple[list[str], bool]:
    """(keys, quiet) of DeleteMultipleObjects, at most a thousand. Raises S3Error."""
    root = _parsed(body)
    keys = [found.findtext("Key", "") for found in root.iterfind("Object")]
    if not 1 <= len(keys) <= 1000:
        raise S3Error(400, "MalformedXML", "Between 1 and 1000 objects can be deleted at once.")
    return keys, root.findtext("Quiet") == "true"


def parse_tagging(body: bytes) -> list[tuple[str, str]]:
    """The tags of PutObjectTagging. Raises S3Error."""
    return [(found.findtext("Key", ""), found.findtext("Value", "")) for found in _parsed(body).iterfind("TagSet/Tag")]
