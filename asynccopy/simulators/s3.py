"""An S3 endpoint, path style, that believes nothing: it verifies signatures, checksums, lengths and part lists.

Odd bodies never become objects: one that ends early is forgotten. Errors are S3's, in XML. What is not simulated
answers 501 instead of guessing.
"""

from __future__ import annotations

import hashlib
from email.utils import formatdate
from typing import Unpack

import fastcrc
from aiohttp import web

from asynccopy.simulators import s3_xml as xml
from asynccopy.simulators.object_server import MIB, XML, Keeping, ObjectServer, byte_range, uploads_under
from asynccopy.simulators.s3_copies import described, original
from asynccopy.simulators.s3_request import (
    CRC32C,
    ENCRYPTION,
    FROZEN,
    STORAGE_CLASS,
    TYPE,
    Request,
    attributes,
    encryption,
    receive,
    tags,
)
from asynccopy.simulators.server import PIECE, Reply
from asynccopy.simulators.sigv4 import S3Error, verify
from asynccopy.simulators.store import Body, Bucket, Place, StoredObject, Upload, base64_crc, joined_crc32c
from asynccopy.simulators.throttle import Throttle

SLOW_DOWN = ("SlowDown", "Please reduce your request rate.")


class S3Simulator(ObjectServer[Request]):
    """``async with S3Simulator(["bucket"]) as s3: s3.url`` is the endpoint, ``http://127.0.0.1:PORT``."""

    def __init__(
        self,
        buckets: list[str],
        access_key: str = "simulator",
        secret_key: str = "simulator-secret",
        region: str = "us-east-1",
        *,
        weak: bool = False,
        min_part: int = 5 * MIB,
        max_parts: int = 10_000,
        max_copy: int = 5 << 30,
        per_second: int | None = None,
        per_prefix: int | None = None,
        **keeping: Unpack[Keeping],
    ) -> None:
        """``weak``: a poor vendor that ignores checksum headers, storage classes, encryption and all conditions, and
        makes a multipart ETag the MD5 of the whole. ``max_copy``: the most bytes that one copying request takes.
        ``per_second``, ``per_prefix``: see ``Throttle``.
        """
        super().__init__(buckets, min_part=min_part, max_parts=max_parts, max_copy=max_copy, **keeping)
        self.access_key = access_key
        self.secret_key = secret_key
        self.region = region
        self._weak = weak
        self.throttle = Throttle(per_second, per_prefix, SLOW_DOWN, SLOW_DOWN)
        self._ops = {
            "PutObject": self._put_object,
            "CopyObject": self._copy_object,
            "GetObject": self._get_object,
            "HeadObject": self._head_object,
            "GetObjectTagging": self._get_tagging,
            "DeleteObject": self._delete_object,
            "HeadBucket": self._head_bucket,
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
        """The endpoint."""
        return f"http://{self._server.address}"

    # --- every request

    def _request(self, http: web.BaseRequest) -> Request:
        return Request(http)

    def _admit(self, request: Request) -> None:
        http = request.http
        secrets = {self.access_key: self.secret_key}
        request.signature = verify(http.method, http.raw_path, http.headers, secrets, self.region, self._now())
        self.throttle.admit(request.bucket_name, request.key, self._now())

    def _check_key(self, key: str) -> None:
        if len(key.encode("utf-8", "surrogateescape")) > 1024:
            raise S3Error(400, "KeyTooLongError", "Your key is too long")

    def _refuse(self, http: web.BaseRequest, error: S3Error) -> web.Response:
        self._serial += 1
        body = b"" if http.method == "HEAD" else xml.error(error.code, error.message, http.raw_path, self._serial)
        headers = {**XML, "x-amz-request-id": f"{self._serial:016X}"}
        headers["Date"] = formatdate(self._now(), usegmt=True)
        return web.Response(status=error.status, body=body, headers=headers)

    async def _swallow(self, request: Request) -> Body:
        return await receive(request, Place(), weak=self._weak)

    async def _work(self, request: Request) -> Reply:
        reply = await super()._work(request)
        reply.headers["x-amz-request-id"] = "0" * 16
        return reply

    # --- objects

    async def _put_object(self, request: Request, bucket: Bucket) -> Reply:
        kept, given = attributes(request, weak=self._weak), tags(request.header("x-amz-tagging"))
        body = await receive(request, self._place, md5=self._md5, weak=self._weak)
        try:
            self._check_absent(request, bucket)
        except S3Error:
            body.stored.drop()
            raise
        asked = request.header(CRC32C) or request.header("x-amz-trailer") == CRC32C
        checksum = base64_crc(body.crc32c) if asked and not self._weak else ""
        etag = self._etag(body.md5.hex())
        stored = StoredObject(body.size, etag, self._now(), body.crc32c, [body], checksum, headers=kept, tags=given)
        bucket.put(request.key, stored)
        return Reply(200, headers={"ETag": etag, **_checksum_headers(stored), **encryption(kept)})

    async def _copy_object(self, request: Request, bucket: Bucket) -> Reply:
        stored = original(request, self.buckets, weak=self._weak)
        if stored.headers.get(STORAGE_CLASS) in FROZEN:
            raise S3Error(403, "ObjectNotInActiveTierError", "The source object of the COPY action is not active")
        headers, given = attributes(request, weak=self._weak), tags(request.header("x-amz-tagging"))
        headers, given = described(request, stored, headers, given, (STORAGE_CLASS, ENCRYPTION))
        body = await self._copied(stored, 0, stored.size)
        asked = request.header("x-amz-checksum-algorithm").upper() == "CRC32C" or stored.checksum
        etag = self._etag(body.md5.hex())
        new = StoredObject(body.size, etag, self._now(), body.crc32c, [body], headers=headers, tags=given)
        if asked and not self._weak:
            new.checksum = base64_crc(body.crc32c)
        bucket.put(request.key, new)
        kind = new.checksum_type if new.checksum else ""
        return Reply(200, xml.copy("CopyObjectResult", new.etag, new.modified, new.checksum, kind), XML)

    def _check_absent(self, request: Request, bucket: Bucket) -> None:
        asked = request.header("If-None-Match") == "*" and request.call.op not in self.overwrites and not self._weak
        if asked and request.key in bucket.objects:
            raise S3Error(412, "PreconditionFailed", "At least one of the preconditions you specified did not hold.")

    def _object_headers(self, request: Request, stored: StoredObject) -> dict[str, str]:
        headers = stored.headers | {
            "ETag": stored.etag,
            "Last-Modified": formatdate(stored.modified, usegmt=True),
            "Accept-Ranges": "bytes",
            **({"x-amz-tagging-count": str(len(stored.tags))} if stored.tags else {}),
        }
        if request.header("x-amz-checksum-mode").upper() == "ENABLED":
            headers |= _checksum_headers(stored)
        return headers

    async def _head_object(self, request: Request, bucket: Bucket) -> Reply:
        stored = self._object(request, bucket)
        return Reply(200, headers=self._object_headers(request, stored), length=stored.size)

    async def _get_tagging(self, request: Request, bucket: Bucket) -> Reply:
        return Reply(200, xml.tagging(self._object(request, bucket).tags), XML)

    async def _get_object(self, request: Request, bucket: Bucket) -> Reply:
        stored = self._object(request, bucket)
        if stored.headers.get(STORAGE_CLASS) in FROZEN:
            message = "The operation is not valid for the object's storage class"
            raise S3Error(403, "InvalidObjectState", message)
        if not self._weak and request.header("If-Match").strip('"') not in ("", stored.etag.strip('"')):
            raise S3Error(412, "PreconditionFailed", "At least one of the preconditions you specified did not hold.")
        headers = self._object_headers(request, stored)
        status, start, stop = 200, 0, stored.size
        if request.header("Range"):
            start, stop = byte_range(request.header("Range"), stored.size)
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
            headers = {name: value for name, value in headers.items() if name not in (CRC32C, TYPE)}
        return await self._deliver(request, stored, status, start, stop, headers)

    async def _head_bucket(self, request: Request, bucket: Bucket) -> Reply:
        return Reply(200, headers={"x-amz-bucket-region": self.region})

    async def _list_objects(self, request: Request, bucket: Bucket) -> Reply:
        query = request.query
        page = xml.page(bucket.keys(), query)
        url = query.get("encoding-type") == "url"
        entries = [(key, bucket.objects[key]) for key in page.keys]
        return Reply(200, xml.list_objects(request.bucket_name, query, page, entries, url=url), XML)

    # --- multipart uploads

    async def _create_upload(self, request: Request, bucket: Bucket) -> Reply:
        algorithm = request.header("x-amz-checksum-algorithm").upper()
        kind = ""
        if algorithm == "CRC32C" and not self._weak:
            kind = request.header(TYPE).upper() or "COMPOSITE"
        kept, given = attributes(request, weak=self._weak), tags(request.header("x-amz-tagging"))
        upload_id = self._open_upload(request, bucket, checksum_type=kind, headers=kept, tags=given).upload_id
        headers = {**XML, "x-amz-checksum-algorithm": algorithm, TYPE: kind} if kind else {**XML}
        headers |= encryption(kept)
        return Reply(200, xml.create_upload(request.bucket_name, request.key, upload_id), headers)

    async def _upload_part(self, request: Request, bucket: Bucket) -> Reply:
        number = self._part_number(request)
        self._upload(request, bucket)
        body = await receive(request, self._place, md5=self._md5, weak=self._weak)
        upload = self._take_part(request, bucket, number, body)
        headers = {"ETag": self._part_etag(upload, number)}
        if upload.checksum_type:
            headers[CRC32C] = base64_crc(body.crc32c)
        return Reply(200, headers=headers)

    async def _upload_part_copy(self, request: Request, bucket: Bucket) -> Reply:
        number = self._part_number(request)
        self._upload(request, bucket)
        stored = original(request, self.buckets, weak=self._weak)
        asked = request.header("x-amz-copy-source-range")
        start, stop = byte_range(asked, stored.size) if asked else (0, stored.size)
        body = await self._copied(stored, start, stop)
        upload = self._take_part(request, bucket, number, body)
        crc = base64_crc(body.crc32c) if upload.checksum_type else ""
        return Reply(200, xml.copy("CopyPartResult", self._part_etag(upload, number), self._now(), crc), XML)

    def _part_etag(self, upload: Upload, number: int) -> str:
        body = upload.parts[number]
        if self._md5:
            return f'"{body.md5.hex()}"'
        return f'"{hashlib.blake2b(f"{upload.upload_id}{number}{body.crc32c}".encode(), digest_size=16).hexdigest()}"'

    async def _complete_upload(self, request: Request, bucket: Bucket) -> Reply:
        received = await self._swallow(request)
        document = await received.stored.read(0, received.size)
        upload = self._upload(request, bucket)
        listed = xml.parse_complete(document)
        bodies = self._chosen(upload, listed)
        _check_parts(upload, listed)
        self._check_absent(request, bucket)
        crc32c = joined_crc32c(bodies)
        self._check_whole(request, upload, bodies, crc32c)
        del bucket.uploads[upload.upload_id]
        etag = await self._whole_etag(bodies)
        stored = StoredObject(sum(body.size for body in bodies), etag, self._now(), crc32c, bodies)
        stored.headers, stored.tags = upload.headers, upload.tags
        if upload.checksum_type:
            stored.checksum, stored.checksum_type = _whole_checksum(upload.checksum_type, bodies, crc32c)
        bucket.put(request.key, stored)
        document = xml.complete_upload(request.bucket_name, request.key, stored)
        return Reply(200, document, XML)

    def _check_whole(self, request: Request, upload: Upload, bodies: list[Body], crc32c: int) -> None:
        size = request.header("x-amz-mp-object-size")
        if size and int(size) != sum(body.size for body in bodies):
            raise S3Error(400, "InvalidRequest", "x-amz-mp-object-size does not match the size of the parts")
        if not upload.checksum_type:
            return
        claimed_type = request.header(TYPE).upper()
        if claimed_type and claimed_type != upload.checksum_type:
            raise S3Error(400, "InvalidRequest", "The checksum type is not the one that the upload was created with.")
        claimed = request.header(CRC32C)
        if claimed and claimed != _whole_checksum(upload.checksum_type, bodies, crc32c)[0]:
            raise S3Error(400, "BadDigest", "The CRC32C you specified did not match the calculated checksum.")

    async def _whole_etag(self, bodies: list[Body]) -> str:
        if not self._weak:
            return self._etag(hashlib.md5(b"".join(body.md5 for body in bodies)).hexdigest(), f"-{len(bodies)}")
        if self._place.discard:
            return self._etag("")
        whole = hashlib.md5()
        for body in bodies:
            for at in range(0, body.size, PIECE):
                whole.update(await body.stored.read(at, PIECE))
        return self._etag(whole.hexdigest())

    async def _list_parts(self, request: Request, bucket: Bucket) -> Reply:
        upload = self._upload(request, bucket)
        parts = [
            (number, self._part_etag(upload, number), body, base64_crc(body.crc32c) if upload.checksum_type else "")
            for number, body in sorted(upload.parts.items())
        ]
        return Reply(200, xml.list_parts(request.bucket_name, upload, request.query, parts), XML)

    async def _list_uploads(self, request: Request, bucket: Bucket) -> Reply:
        uploads = uploads_under(bucket, request.query.get("prefix", ""))
        return Reply(200, xml.list_uploads(request.bucket_name, request.query, uploads), XML)


def _check_parts(upload: Upload, listed: list[xml.ListedPart]) -> None:
    for part in listed:
        if part.crc32c and upload.checksum_type and part.crc32c != base64_crc(upload.parts[part.number].crc32c):
            raise S3Error(400, "InvalidPart", f"The CRC32C of part {part.number} does not match.")


def _whole_checksum(kind: str, bodies: list[Body], crc32c: int) -> tuple[str, str]:
    """(value, type) of a multipart object's CRC32C: of all the bytes, or of the parts' CRCs."""
    if kind == "FULL_OBJECT":
        return base64_crc(crc32c), kind
    crcs = b"".join(body.crc32c.to_bytes(4, "big") for body in bodies)
    return f"{base64_crc(fastcrc.crc32.iscsi(crcs))}-{len(bodies)}", kind


def _checksum_headers(stored: StoredObject) -> dict[str, str]:
    return {CRC32C: stored.checksum, TYPE: stored.checksum_type} if stored.checksum else {}
