"""An Alibaba OSS endpoint that believes nothing: it verifies V4 signatures, host names, tokens, lengths and part lists.

Buckets are named by the host name, so a client either resolves ``BUCKET.oss-REGION.localhost`` to 127.0.0.1, or
connects there with a Host header of its own, or uses ``cname``, a custom domain that is bound to the first bucket.
Errors are OSS's, in XML. What is not simulated answers 501 instead of guessing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Unpack

from aiohttp import web

from asynccopy.simulators import oss_xml as xml
from asynccopy.simulators.faults import OtherCrc64
from asynccopy.simulators.object_server import XML, Keeping, ObjectServer, byte_range, uploads_under
from asynccopy.simulators.oss_request import (
    CRC64,
    ENCRYPTIONS,
    FROZEN,
    STORAGE_CLASS,
    OssRequest,
    attributes,
    bucket_of,
    check_conditions,
    check_key,
    encryption,
    receive,
    source_of,
)
from asynccopy.simulators.oss_v4 import Credential, verify
from asynccopy.simulators.s3_copies import described
from asynccopy.simulators.s3_request import check_tags, tags
from asynccopy.simulators.s3_xml import page, parse_complete, tagging
from asynccopy.simulators.server import Reply
from asynccopy.simulators.sigv4 import S3Error
from asynccopy.simulators.store import Body, Bucket, Place, StoredObject, Upload, joined_crc32c, joined_crc64
from asynccopy.simulators.throttle import Throttle, Throttled

ZONE = "localhost"
KIB = 1 << 10
GIB = 1 << 30
TOO_MANY = ("TotalQpsLimitExceeded", "Max total qps limit is exceeded")
TOO_MANY_THERE = ("PartitionQpsLimitted", "Partition qps limit is exceeded")


class OssSimulator(ObjectServer[OssRequest]):
    """``async with OssSimulator(["bucket"]) as oss: oss.url`` is the endpoint, without a bucket.

    ``throttle`` and ``credentials`` (by access key id) may be changed at any time, ``issue`` makes STS credentials.
    ``complete_seconds``: how long a Complete takes once its body has come; it ends also when the client has hung up.
    """

    def __init__(
        self,
        buckets: list[str],
        access_key: str = "simulator",
        secret_key: str = "simulator-secret",
        region: str = "cn-hangzhou",
        *,
        min_part: int = 100 * KIB,
        max_parts: int = 10_000,
        max_put: int = 5 * GIB,
        per_second: int | None = None,
        per_prefix: int | None = None,
        **keeping: Unpack[Keeping],
    ) -> None:
        """``max_put``: the most bytes of one PUT, part or copy. ``per_second``, ``per_prefix``: see ``Throttle``."""
        super().__init__(buckets, min_part=min_part, max_parts=max_parts, max_copy=max_put, **keeping)
        self.access_key = access_key
        self.secret_key = secret_key
        self.region = region
        self.credentials = {access_key: Credential(secret_key)}
        self.throttle = Throttle(per_second, per_prefix, TOO_MANY, TOO_MANY_THERE)
        self.complete_seconds = 0.0
        self._cnames = {"localhost": buckets[0]}
        self._ops = self._operations()

    def _operations(self) -> dict[str, Callable[[OssRequest, Bucket], Awaitable[Reply]]]:
        return {
            "PutObject": self._put_object,
            "CopyObject": self._copy_object,
            "GetObject": self._get_object,
            "HeadObject": self._head_object,
            "GetObjectMeta": self._get_meta,
            "DeleteObject": self._delete_object,
            "DeleteMultipleObjects": self._delete_objects,
            "PutObjectTagging": self._put_tagging,
            "GetObjectTagging": self._get_tagging,
            "DeleteObjectTagging": self._delete_tagging,
            "GetBucketInfo": self._bucket_info,
            "ListObjectsV2": self._list_objects,
            "CreateMultipartUpload": self._create_upload,
            "UploadPart": self._upload_part,
            "UploadPartCopy": self._upload_part_copy,
            "CompleteMultipartUpload": self._complete_upload,
            "AbortMultipartUpload": self._abort_upload,
            "ListParts": self._list_parts,
            "ListMultipartUploads": self._list_uploads,
        }

    @property
    def url(self) -> str:
        """The endpoint; the bucket goes before its host name."""
        return f"http://oss-{self.region}.{ZONE}:{self._server.port}"

    @property
    def cname(self) -> str:
        """A custom domain that is bound to the first bucket; every machine can resolve it."""
        return f"http://localhost:{self._server.port}"

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect to, whatever the host name."""
        return "127.0.0.1", self._server.port

    def issue(self, lifetime: float) -> tuple[str, Credential]:
        """(access key id, credential): a new STS triple, good for so many seconds."""
        self._serial += 1
        access_key = f"STS.{self._serial:020}"
        mark = hashlib.sha256(access_key.encode()).hexdigest()
        credential = Credential(f"secret-{mark[:30]}", f"token+/{mark}==", self._now() + lifetime)
        self.credentials[access_key] = credential
        return access_key, credential

    # --- every request

    def _request(self, http: web.BaseRequest) -> OssRequest:
        try:
            return OssRequest(http, bucket_of(http.headers.get("Host", ""), self.region, ZONE, self._cnames))
        except S3Error:
            return OssRequest(http, "")  # _admit finds the same, where an error can be answered

    def _admit(self, request: OssRequest) -> None:
        http = request.http
        bucket_name = bucket_of(http.headers.get("Host", ""), self.region, ZONE, self._cnames)
        path, _, query = http.raw_path.partition("?")
        resource = f"/{bucket_name}{path}"
        verify(http.method, resource, query, http.headers, self.credentials, self.region, self._now())
        self.throttle.admit(bucket_name, request.key, self._now())

    def _check_key(self, key: str) -> None:
        check_key(key)

    def _refuse(self, http: web.BaseRequest, error: S3Error) -> web.Response:
        headers = {**XML, **self._common()}
        if isinstance(error, Throttled):
            headers["x-oss-qos-delay-time"] = str(error.delay)
        if xml.ec(error.code):
            headers["x-oss-ec"] = xml.ec(error.code)
        more = {}
        if error.code in ("SecurityTokenExpired", "InvalidSecurityToken"):
            # So does OSS, which is why a client must not log an error's document.
            more["SecurityToken"] = http.headers.get("x-oss-security-token", "")
        host = http.headers.get("Host", "")
        document = xml.error(error.code, error.message, host, headers["x-oss-request-id"], **more)
        if http.method == "HEAD":
            headers["x-oss-err"] = base64.b64encode(document).decode()
        body = b"" if http.method == "HEAD" or error.status == 304 else document
        return web.Response(status=error.status, body=body, headers=headers)

    def _common(self) -> dict[str, str]:
        self._serial += 1
        date = formatdate(self._now(), usegmt=True)
        return {"x-oss-request-id": f"{self._serial:024X}", "Date": date, "Server": "AliyunOSS"}

    async def _swallow(self, request: OssRequest) -> Body:
        return await receive(request, Place())

    async def _document(self, request: OssRequest) -> bytes:
        body = await self._swallow(request)
        return await body.stored.read(0, body.size)

    async def _work(self, request: OssRequest) -> Reply:
        reply = await super()._work(request)
        if isinstance(request.call.action, OtherCrc64):
            reply.headers[CRC64] = str(request.call.action.crc64)
        reply.headers.update(self._common())
        return reply

    # --- objects

    async def _put_object(self, request: OssRequest, bucket: Bucket) -> Reply:
        headers, given = attributes(request), tags(request.header("x-oss-tagging"))
        body = await receive(request, self._place, md5=self._md5, most=self.max_copy)
        try:
            self._check_absent(request, bucket)
        except S3Error:
            body.stored.drop()
            raise
        stored = self._new_object(body, headers, given)
        bucket.put(request.key, stored)
        return Reply(200, headers=self._proofs(stored.etag, body) | encryption(headers))

    def _new_object(self, body: Body, headers: dict[str, str], given: dict[str, str]) -> StoredObject:
        etag = self._etag(body.md5.hex().upper())
        stored = StoredObject(body.size, etag, self._now(), body.crc32c, [body])
        stored.crc64, stored.headers, stored.tags = body.crc64, headers, given
        return stored

    def _proofs(self, etag: str, body: Body) -> dict[str, str]:
        headers = {"ETag": etag, CRC64: str(body.crc64)}
        if body.md5:
            headers["Content-MD5"] = base64.b64encode(body.md5).decode()
        return headers

    def _check_absent(self, request: OssRequest, bucket: Bucket) -> None:
        asked = request.header("x-oss-forbid-overwrite").lower() == "true" and request.call.op not in self.overwrites
        if asked and request.key in bucket.objects:
            message = "The object you specified already exists and can not be overwritten."
            raise S3Error(409, "FileAlreadyExists", message)

    def _original(self, request: OssRequest) -> StoredObject:
        bucket_name, key = source_of(request)
        bucket = self.buckets.get(bucket_name)
        if bucket is None:
            raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist.")
        stored = bucket.objects.get(key)
        if stored is None:
            raise S3Error(404, "NoSuchKey", "The specified key does not exist.")
        check_conditions(request, stored, "x-oss-copy-source-")
        _check_thawed(stored)
        return stored

    async def _copy_object(self, request: OssRequest, bucket: Bucket) -> Reply:
        stored = self._original(request)
        headers, given = attributes(request), tags(request.header("x-oss-tagging"))
        headers, given = described(request, stored, headers, given, (STORAGE_CLASS, *ENCRYPTIONS))
        self._check_absent(request, bucket)
        new = self._new_object(await self._copied(stored, 0, stored.size), headers, given)
        bucket.put(request.key, new)
        proof = {CRC64: str(new.crc64)} | encryption(headers)
        return Reply(200, xml.copy("CopyObjectResult", new.etag, new.modified), XML | proof)

    def _object_headers(self, stored: StoredObject) -> dict[str, str]:
        return stored.headers | {
            "ETag": stored.etag,
            "Last-Modified": formatdate(stored.modified, usegmt=True),
            "Accept-Ranges": "bytes",
            CRC64: str(stored.crc64),
            "x-oss-object-type": "Multipart" if "-" in stored.etag else "Normal",
            **({"x-oss-tagging-count": str(len(stored.tags))} if stored.tags else {}),
        }

    async def _head_object(self, request: OssRequest, bucket: Bucket) -> Reply:
        stored = self._object(request, bucket)
        check_conditions(request, stored)
        return Reply(200, headers=self._object_headers(stored), length=stored.size)

    async def _get_meta(self, request: OssRequest, bucket: Bucket) -> Reply:
        stored = self._object(request, bucket)
        shown = self._object_headers(stored)
        headers = {name: shown[name] for name in ("ETag", "Last-Modified", CRC64)}
        return Reply(200, headers=headers, length=stored.size)

    async def _get_object(self, request: OssRequest, bucket: Bucket) -> Reply:
        stored = self._object(request, bucket)
        check_conditions(request, stored)
        _check_thawed(stored)
        headers = self._object_headers(stored)
        found = _range(request, stored.size)
        start, stop = found or (0, stored.size)
        if found:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        return await self._deliver(request, stored, 206 if found else 200, start, stop, headers)

    async def _delete_objects(self, request: OssRequest, bucket: Bucket) -> Reply:
        if not request.header("Content-MD5"):
            raise S3Error(400, "MissingArgument", "Missing Some Required Arguments: Content-MD5.")
        keys, quiet = xml.parse_delete(await self._document(request))
        for key in keys:
            bucket.delete(key)
        return Reply(200, xml.deleted([] if quiet else keys, request.query), XML)

    async def _put_tagging(self, request: OssRequest, bucket: Bucket) -> Reply:
        stored = self._object(request, bucket)
        pairs = xml.parse_tagging(await self._document(request))
        check_tags(dict(pairs), len(pairs))
        stored.tags = dict(pairs)
        return Reply(200)

    async def _get_tagging(self, request: OssRequest, bucket: Bucket) -> Reply:
        return Reply(200, tagging(self._object(request, bucket).tags, namespace=""), XML)

    async def _delete_tagging(self, request: OssRequest, bucket: Bucket) -> Reply:
        self._object(request, bucket).tags = {}
        return Reply(204)

    async def _bucket_info(self, request: OssRequest, bucket: Bucket) -> Reply:
        return Reply(200, xml.bucket_info(request.bucket_name, self.region, ZONE), XML)

    async def _list_objects(self, request: OssRequest, bucket: Bucket) -> Reply:
        cut = page(bucket.keys(), request.query, 100)
        entries = [(key, bucket.objects[key]) for key in cut.keys]
        return Reply(200, xml.list_objects(request.bucket_name, request.query, cut, entries), XML)

    # --- multipart uploads

    async def _create_upload(self, request: OssRequest, bucket: Bucket) -> Reply:
        headers, given = attributes(request), tags(request.header("x-oss-tagging"))
        upload = self._open_upload(request, bucket, headers=headers, tags=given)
        document = xml.create_upload(request.bucket_name, upload, request.query)
        return Reply(200, document, XML | encryption(headers))

    async def _upload_part(self, request: OssRequest, bucket: Bucket) -> Reply:
        number = self._part_number(request)
        self._upload(request, bucket)
        body = await receive(request, self._place, md5=self._md5, most=self.max_copy)
        upload = self._take_part(request, bucket, number, body)
        return Reply(200, headers=self._proofs(self._part_etag(upload, number), body) | encryption(upload.headers))

    async def _upload_part_copy(self, request: OssRequest, bucket: Bucket) -> Reply:
        number = self._part_number(request)
        self._upload(request, bucket)
        stored = self._original(request)
        asked = request.header("x-oss-copy-source-range")
        start, stop = byte_range(asked, stored.size) if asked else (0, stored.size)
        body = await self._copied(stored, start, stop)
        upload = self._take_part(request, bucket, number, body)
        proof = {CRC64: str(body.crc64)}
        return Reply(200, xml.copy("CopyPartResult", self._part_etag(upload, number), self._now()), XML | proof)

    def _part_etag(self, upload: Upload, number: int) -> str:
        body = upload.parts[number]
        return f'"{body.md5.hex().upper() or _mark(f"{upload.upload_id}{number}{body.crc64}")}"'

    async def _complete_upload(self, request: OssRequest, bucket: Bucket) -> Reply:
        document = await self._document(request)
        await asyncio.sleep(self.complete_seconds)
        upload = self._upload(request, bucket)
        bodies = self._chosen(upload, parse_complete(document))
        self._check_absent(request, bucket)
        del bucket.uploads[upload.upload_id]
        # An ETag that is no digest of anything the client could compute: nothing may be concluded from it.
        etag = f'"{_mark(upload.upload_id)}-{len(bodies)}"'
        size = sum(body.size for body in bodies)
        stored = StoredObject(size, etag, self._now(), joined_crc32c(bodies), bodies)
        stored.crc64, stored.headers, stored.tags = joined_crc64(bodies), upload.headers, upload.tags
        bucket.put(request.key, stored)
        location = f"http://{request.header('Host')}{request.http.raw_path.partition('?')[0]}"
        document = xml.complete_upload(request.bucket_name, request.key, location, etag, request.query)
        return Reply(200, document, XML | {"ETag": etag, CRC64: str(stored.crc64)} | encryption(stored.headers))

    async def _list_parts(self, request: OssRequest, bucket: Bucket) -> Reply:
        upload = self._upload(request, bucket)
        parts = [
            (number, self._part_etag(upload, number), body, str(body.crc64))
            for number, body in sorted(upload.parts.items())
        ]
        return Reply(200, xml.list_parts(request.bucket_name, upload, request.query, parts), XML)

    async def _list_uploads(self, request: OssRequest, bucket: Bucket) -> Reply:
        uploads = uploads_under(bucket, request.query.get("prefix", ""))
        return Reply(200, xml.list_uploads(request.bucket_name, request.query, uploads), XML)


def _mark(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest().upper()


def _check_thawed(stored: StoredObject) -> None:
    if stored.headers[STORAGE_CLASS] in FROZEN:
        raise S3Error(403, "InvalidObjectState", "The operation is not valid for the object's state.")


def _range(request: OssRequest, size: int) -> tuple[int, int] | None:
    """(start, stop), None for the whole object: so OSS answers, with 200, a range that reaches beyond the end.

    With ``x-oss-range-behavior: standard`` such a range is cut, or refused by 416, as elsewhere.
    """
    header = request.header("Range")
    if not header:
        return None
    standard = request.header("x-oss-range-behavior").lower() == "standard"
    try:
        start, stop = byte_range(header, size)
    except S3Error:
        if standard:
            raise
        return None
    last = header.rpartition("-")[2]
    most = size if header.startswith("bytes=-") else size - 1
    beyond = last.isdigit() and int(last) > most
    return None if beyond and not standard else (start, stop)
