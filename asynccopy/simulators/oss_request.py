"""One OSS request: which bucket its host name means, which operation it is, and what its body and headers claim."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

from asynccopy.simulators.s3_request import Request, hurt, invite, kept_headers, payload
from asynccopy.simulators.sigv4 import S3Error
from asynccopy.simulators.store import Body, Incoming, Place, StoredObject, take

CRC64 = "x-oss-hash-crc64ecma"
STORAGE_CLASS = "x-oss-storage-class"
STORAGE_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
FROZEN = STORAGE_CLASSES[2:]
"""The classes whose objects must be restored before they can be read."""

_ENCRYPTION = "x-oss-server-side-encryption"
ENCRYPTIONS = (_ENCRYPTION, "x-oss-server-side-data-encryption")


class OssRequest(Request):
    """One request on its way through; the host name has already said which bucket it is for."""

    __slots__ = ()
    copy_source = "x-oss-copy-source"

    def operation(self, method: str) -> str:
        """The operation's name in OSS's words, but for those of a multipart upload's beginning, where it is S3's."""
        queries = self.query.keys()
        if not self.key:
            if method == "GET" and "bucketInfo" in queries:
                return "GetBucketInfo"
            if method == "POST" and "delete" in queries:
                return "DeleteMultipleObjects"
        elif "tagging" in queries:
            verb = {"GET": "Get", "PUT": "Put", "DELETE": "Delete"}.get(method)
            return f"{verb}ObjectTagging" if verb else ""
        elif method == "HEAD" and "objectMeta" in queries:
            return "GetObjectMeta"
        return super().operation(method)

    def harmless(self) -> set[str]:
        return {name for name in self.query if name.startswith("x-oss-")} | {"encoding-type"}


def bucket_of(host: str, region: str, zone: str, cnames: Mapping[str, str]) -> str:
    """The bucket that a Host header names: ``BUCKET.oss-REGION.ZONE``, its internal and accelerated kin, or a CNAME.

    Raises S3Error for everything else: OSS wants the bucket in the host name, and the right region's.
    """
    name = re.sub(r":\d+$", "", host).lower()
    if name in cnames:
        return cnames[name]
    if re.fullmatch(r"[\d.]+|\[.*", name) or re.fullmatch(rf"oss-[a-z0-9-]+\.{re.escape(zone)}", name):
        message = "The bucket you are attempting to access must be addressed using OSS third level domain."
        raise S3Error(403, "SecondLevelDomainForbidden", message)
    found = re.fullmatch(rf"([a-z0-9][a-z0-9-]*)\.(oss-[a-z0-9-]+)\.{re.escape(zone)}", name)
    if found is None:
        message = "Your host is invalid. Please use Open Storage Service standard host."
        raise S3Error(403, "NonStandardHostForbidden", message)
    if found[2] not in (f"oss-{region}", f"oss-{region}-internal", "oss-accelerate"):
        message = "The bucket you are attempting to access must be addressed using the specified endpoint."
        raise S3Error(403, "AccessDenied", message)
    return found[1]


def check_key(key: str) -> None:
    """1 to 1,023 bytes of UTF-8 that begin with neither ``/`` nor ``\\``. Raises S3Error."""
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise S3Error(400, "InvalidObjectName", "The specified object is not valid.") from None
    if length > 1023:
        raise S3Error(400, "InvalidObjectName", "The Length of Object name must be less than 1024.")
    if key.startswith(("/", "\\")):
        raise S3Error(400, "InvalidObjectName", "The specified object is not valid.")


async def receive(request: Request, place: Place, *, md5: bool = False, most: int | None = None) -> Body:
    """Take the request's whole body, of a promised length or in HTTP's own chunks, and hold its Content-MD5 against it.

    ``md5``: its MD5 is wanted, be it claimed or not. ``most``: the most bytes that OSS takes of this kind.
    Raises Gone when it ends early, S3Error when it is too long or not what was claimed; then nothing is kept.
    """
    http = request.http
    if "aws-chunked" in request.header("Content-Encoding"):
        message = "aws-chunked encoding is not supported with the specified x-amz-content-sha256 value"
        raise S3Error(400, "InvalidArgument", message)
    if most is not None and (http.content_length or 0) > most:
        raise S3Error(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.")
    claimed = _claimed_md5(request)
    invite(request)

    def check(body: Body) -> None:
        if claimed and body.md5 != claimed:
            raise S3Error(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")

    incoming = Incoming(place, md5=md5 or bool(claimed))
    return await take(incoming, hurt(request, payload(request)), check)


def _claimed_md5(request: Request) -> bytes:
    text = request.header("Content-MD5")
    try:
        claimed = base64.b64decode(text, validate=True)
    except binascii.Error:
        claimed = b"?"
    if len(claimed) not in (0, 16):
        raise S3Error(400, "InvalidDigest", "The Content-MD5 you specified is not valid.")
    return claimed


def attributes(request: Request) -> dict[str, str]:
    """What an object keeps of the request that makes it, lower-cased: content headers, user metadata, storage class,
    encryption. Raises S3Error for a class or an algorithm that OSS does not know.
    """
    kept = kept_headers(request, "x-oss-meta-", *ENCRYPTIONS)
    kept.setdefault("content-type", "application/octet-stream")
    kept[STORAGE_CLASS] = request.header(STORAGE_CLASS) or "Standard"
    if kept[STORAGE_CLASS] not in STORAGE_CLASSES:
        raise S3Error(400, "InvalidArgument", "The storage class you specified is not valid.")
    algorithm = kept.get(_ENCRYPTION)
    if algorithm not in (None, "AES256", "KMS", "SM4"):
        raise S3Error(400, "InvalidEncryptionAlgorithmError", "The encryption algorithm you specified is not valid.")
    if f"{_ENCRYPTION}-key-id" in kept and algorithm != "KMS":
        raise S3Error(400, "InvalidArgument", "A key id needs server-side encryption by KMS.")
    return kept


def encryption(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of an object's headers that every answer about it repeats."""
    return {name: value for name, value in headers.items() if name.startswith(ENCRYPTIONS)}


def check_conditions(request: Request, stored: StoredObject, prefix: str = "") -> None:
    """``If-Match`` and its three sisters, of a read or, with ``x-oss-copy-source-``, of a copy. Raises S3Error."""

    def asked(name: str) -> str:
        return request.header(prefix + name)

    def moment(name: str) -> float:
        try:
            return parsedate_to_datetime(asked(name)).timestamp()
        except ValueError:
            raise S3Error(400, "InvalidArgument", f"{prefix}{name} is no date.") from None

    etag = stored.etag.strip('"')
    failed = S3Error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
    if asked("If-Match") and asked("If-Match").strip('"') != etag:
        raise failed
    if asked("If-Unmodified-Since") and int(stored.modified) > moment("If-Unmodified-Since"):
        raise failed
    if asked("If-None-Match") and asked("If-None-Match").strip('"') == etag:
        raise S3Error(304, "NotModified", "Not Modified")
    if asked("If-Modified-Since") and int(stored.modified) <= moment("If-Modified-Since"):
        raise S3Error(304, "NotModified", "Not Modified")


def source_of(request: Request) -> tuple[str, str]:
    """(bucket, key) that ``x-oss-copy-source`` names. Raises S3Error."""
    text = unquote(request.header(request.copy_source), errors="surrogateescape")
    bucket_name, _, key = text.removeprefix("/").partition("/")
    if not text.startswith("/") or not key:
        raise S3Error(400, "InvalidArgument", "Copy Source must mention the source bucket and key: /bucket/key.")
    return bucket_name, key
