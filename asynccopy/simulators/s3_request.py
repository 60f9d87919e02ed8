"""One S3 request: which operation it is, and its body, held against everything the client claims about it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from urllib.parse import unquote, unquote_plus

from aiohttp import web

from asynccopy.simulators.faults import Call, FlipBit, Slow
from asynccopy.simulators.server import flipped, slowly
from asynccopy.simulators.sigv4 import SIGNED_CHUNKS, UNSIGNED_TRAILER, ChunkedBody, S3Error, Signature
from asynccopy.simulators.store import Body, Incoming, Place, base64_crc, take

CRC32C = "x-amz-checksum-crc32c"
CRC32 = "x-amz-checksum-crc32"
TYPE = "x-amz-checksum-type"
META = "x-amz-meta-"
STORAGE_CLASS = "x-amz-storage-class"
STORAGE_CLASSES = (
    *("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "REDUCED_REDUNDANCY"),
    *("EXPRESS_ONEZONE", "GLACIER", "DEEP_ARCHIVE"),
)
FROZEN = STORAGE_CLASSES[-2:]
"""The classes whose objects must be restored before they can be read."""
ENCRYPTION = "x-amz-server-side-encryption"
_REPEATED = ("cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires")
_KNOWN = {CRC32C, CRC32, TYPE, "x-amz-checksum-algorithm"}


class Gone(Exception):
    """The client left in the middle of its body."""


class Request:
    """One request on its way through: what was asked, of what, and what is to go wrong."""

    __slots__ = ("bucket_name", "call", "http", "key", "query", "signature")

    copy_source = "x-amz-copy-source"

    def __init__(self, http: web.BaseRequest, bucket_name: str | None = None) -> None:
        """``bucket_name`` None: path style, the bucket is the path's first component."""
        raw, _, query = http.raw_path.partition("?")
        self.http = http
        path = unquote(raw[1:], errors="surrogateescape")
        if bucket_name is None:
            self.bucket_name, _, self.key = path.partition("/")
        else:
            self.bucket_name, self.key = bucket_name, path
        self.query: dict[str, str] = {}
        for item in query.split("&") if query else ():
            name, _, value = item.replace("+", "%20").partition("=")
            self.query[unquote(name)] = unquote(value)
        self.signature = Signature("", b"", "", "")
        number = self.query.get("partNumber", "")
        part = int(number) if number.isdigit() else None
        self.call = Call(self.operation(http.method), http.method, f"/{self.bucket_name}/{self.key}", part)

    def header(self, name: str) -> str:
        return self.http.headers.get(name, "")

    def operation(self, method: str) -> str:
        """The operation's name in S3's own words, "" where it is not simulated."""
        query = self.query
        if not self.key:
            if method == "GET" and "uploads" in query:
                return "ListMultipartUploads"
            if method == "GET" and query.get("list-type") == "2":
                return "ListObjectsV2"
            return "HeadBucket" if method == "HEAD" else ""
        if "tagging" in query:
            return "GetObjectTagging" if method == "GET" else ""
        copying = method == "PUT" and self.copy_source in self.http.headers
        if "uploadId" in query:
            ops = {
                "PUT": "UploadPartCopy" if copying else "UploadPart",
                "POST": "CompleteMultipartUpload",
                "DELETE": "AbortMultipartUpload",
                "GET": "ListParts",
            }
            return ops.get(method, "")
        if "uploads" in query:
            return "CreateMultipartUpload" if method == "POST" else ""
        if not query.keys() <= self.harmless():
            return ""
        return {
            "PUT": "CopyObject" if copying else "PutObject",
            "GET": "GetObject",
            "HEAD": "HeadObject",
            "DELETE": "DeleteObject",
        }.get(method, "")

    def harmless(self) -> set[str]:
        """The query parameters that change nothing of what is asked."""
        return {"x-id"}


def tags(text: str) -> dict[str, str]:
    """``x-oss-tagging``, ``x-amz-tagging``: at most ten tags, names of 1 to 128 and values of up to 256 characters.

    Raises S3Error.
    """
    pairs = [item.partition("=") for item in text.split("&")] if text else []
    found = {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}
    check_tags(found, len(pairs))
    return found


def check_tags(found: Mapping[str, str], count: int) -> None:
    """Raises S3Error for tags that no store would take. ``count``: how many were sent, twins included."""
    if count > 10 or count != len(found):
        raise S3Error(400, "InvalidTag", "There are more than ten tags, or two of one name.")
    if any(not 1 <= len(name) <= 128 or len(value) > 256 for name, value in found.items()):
        raise S3Error(400, "InvalidTag", "A tag's name or value is empty or too long.")


def kept_headers(request: Request, *prefixes: str) -> dict[str, str]:
    """Those of a request's headers that the object it makes keeps, lower-cased: content headers, and by prefix."""
    headers = {name.lower(): value for name, value in request.http.headers.items()}
    return {name: value for name, value in headers.items() if name in _REPEATED or name.startswith(prefixes)}


def attributes(request: Request, *, weak: bool) -> dict[str, str]:
    """What an object keeps of the request that makes it: content headers, user metadata, storage class (but the usual
    one), encryption. Raises S3Error for a class or an algorithm that S3 does not know. ``weak``: only content and
    metadata are kept.
    """
    kept = kept_headers(request, META, *(() if weak else (ENCRYPTION,)))
    kept.setdefault("content-type", "binary/octet-stream")
    if kept.get("content-encoding") == "aws-chunked":
        del kept["content-encoding"]
    if sum(len(name) - len(META) + len(value) for name, value in kept.items() if name.startswith(META)) > 2048:
        raise S3Error(400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
    kind = request.header(STORAGE_CLASS) or "STANDARD"
    if weak:
        return kept
    if kind not in STORAGE_CLASSES:
        raise S3Error(400, "InvalidStorageClass", "The storage class you specified is not valid")
    if kind != "STANDARD":
        kept[STORAGE_CLASS] = kind
    algorithm = kept.get(ENCRYPTION)
    if algorithm not in (None, "AES256", "aws:kms", "aws:kms:dsse"):
        raise S3Error(400, "InvalidEncryptionAlgorithmError", "The encryption request you specified is not valid.")
    if f"{ENCRYPTION}-aws-kms-key-id" in kept and algorithm in (None, "AES256"):
        raise S3Error(400, "InvalidArgument", "A key id needs server-side encryption by aws:kms.")
    return kept


def encryption(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of an object's headers that every answer about it repeats."""
    return {name: value for name, value in headers.items() if name.startswith(ENCRYPTION)}


async def receive(request: Request, place: Place, *, md5: bool = False, weak: bool = False) -> Body:
    """Take the request's whole body and hold it against everything the client claims about it.

    ``md5``: its MD5 is wanted, be it claimed or not. ``weak``: claims in checksum headers are not looked at.
    Raises Gone when it ends early, S3Error when it is not what was claimed; then nothing is kept.
    """
    http = request.http
    invite(request)
    claimed = request.header("x-amz-content-sha256")
    chunked = None
    if claimed in (SIGNED_CHUNKS, UNSIGNED_TRAILER):
        chunked = ChunkedBody(request.signature, signed=claimed == SIGNED_CHUNKS)
    elif claimed.startswith("STREAMING-"):
        raise S3Error(501, "NotImplemented", f"{claimed} is not simulated")
    for name in map(str.lower, http.headers):
        if name.startswith("x-amz-checksum-") and name not in _KNOWN:
            raise S3Error(501, "NotImplemented", f"{name} is not simulated")
    incoming = Incoming(
        place,
        md5=md5 or "Content-MD5" in http.headers,
        sha256=len(claimed) == 64,
        crc32=CRC32 in http.headers or request.header("x-amz-trailer") == CRC32,
    )
    if http.content_length is None and http.body_exists:
        raise S3Error(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
    pieces = payload(request)
    if chunked is not None:
        pieces = _decoded(pieces, chunked)
    trailer = chunked.trailer if chunked is not None else {}
    return await take(incoming, hurt(request, pieces), lambda body: _check(request, body, trailer, weak=weak))


def invite(request: Request) -> None:
    """Tell a client that waits with its body to go on."""
    http = request.http
    if http.headers.get("Expect", "").lower() == "100-continue" and http.transport is not None:
        http.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def payload(request: Request) -> AsyncIterator[bytes]:
    """The body's pieces from the wire; as many as promised, or Gone."""
    http = request.http
    got = 0
    try:
        while data := await http.content.readany():
            got += len(data)
            yield data
    except (ConnectionError, web.RequestPayloadError) as error:
        raise Gone from error
    if http.content_length is not None and got != http.content_length:
        raise Gone


async def _decoded(pieces: AsyncIterator[bytes], chunked: ChunkedBody) -> AsyncIterator[bytes]:
    async for data in pieces:
        for piece in chunked.feed(data):
            yield piece
    chunked.finish()


def hurt(request: Request, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces as a fault lets them in."""
    match request.call.action:
        case FlipBit(offset, bit):
            return flipped(pieces, offset, bit)
        case Slow(rate):
            return slowly(pieces, rate)
    return pieces


def _check(request: Request, body: Body, trailer: dict[str, str], *, weak: bool) -> None:
    claimed = request.header("x-amz-content-sha256")
    if body.sha256 and body.sha256 != claimed:
        raise S3Error(400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match.")
    decoded = request.header("x-amz-decoded-content-length")
    if decoded and int(decoded) != body.size:
        raise S3Error(400, "IncompleteBody", "The body is not as long as x-amz-decoded-content-length says")
    if weak:
        return
    promised = request.header("x-amz-trailer")
    if promised and promised not in trailer:
        raise S3Error(400, "MalformedTrailerError", f"the trailer {promised} is missing")
    md5 = request.header("Content-MD5")
    if md5 and base64.b64encode(body.md5).decode() != md5:
        raise S3Error(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
    crc32 = request.header(CRC32) or trailer.get(CRC32, "")
    if crc32 and base64_crc(body.crc32 or 0) != crc32:
        raise S3Error(400, "BadDigest", "The CRC32 you specified did not match the calculated checksum.")
    # On Complete this header speaks of the object, not of the request's body.
    crc32c = request.header(CRC32C) or trailer.get(CRC32C, "")
    if crc32c and request.call.op != "CompleteMultipartUpload" and base64_crc(body.crc32c) != crc32c:
        raise S3Error(400, "BadDigest", "The CRC32C you specified did not match the calculated checksum.")
