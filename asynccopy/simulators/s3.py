"""An S3 endpoint, path style, that believes nothing: it verifies signatures, checksums, lengths and part lists.

Odd bodies never become objects: one that ends early is forgotten. Errors are S3's, in XML. What is not simulated
answers 501 instead of guessing.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import fastcrc
from aiohttp import web

from asynccopy.simulators import s3_xml as xml
from asynccopy.simulators.faults import (
    ErrorInOk,
    Fault,
    NoSuchUpload,
    OtherETag,
    WrongRange,
    pick,
)
from asynccopy.simulators.s3_copies import copied, original
from asynccopy.simulators.s3_request import CRC32C, TYPE, Gone, Request, receive
from asynccopy.simulators.server import PIECE, HttpServer, Reply, answer, reset
from asynccopy.simulators.sigv4 import S3Error, verify
from asynccopy.simulators.store import Body, Bucket, Place, StoredObject, Upload, base64_crc, joined_crc32c

MIB = 1 << 20
_XML = {"Content-Type": "application/xml"}


class S3Simulator:
    """``async with S3Simulator(["bucket"]) as s3: s3.url`` is the endpoint, ``http://127.0.0.1:PORT``.

    ``faults`` and ``clock_offset`` may be changed at any time; ``counts`` counts requests by operation;
    ``buckets[name].objects`` is there for tests to look into.
    """

    def __init__(
        self,
        buckets: list[str],
        access_key: str = "simulator",
        secret_key: str = "simulator-secret",
        region: str = "us-east-1",
        *,
        weak: bool = False,
        etag: Literal["md5", "opaque"] = "md5",
        min_part: int = 5 * MIB,
        max_parts: int = 10_000,
        max_copy: int = 5 << 30,
        discard: bool = False,
        directory: Path | None = None,
        latency: float = 0.0,
        port: int = 0,
    ) -> None:
        """``weak``: a poor vendor that ignores checksum headers and a copy's condition, and makes a multipart ETag the
        MD5 of the whole. ``max_copy``: the most bytes that one copying request takes.

        ``etag="opaque"``: ETags that are no MD5, as with SSE-KMS. ``discard`` keeps sizes and digests and no bytes;
        ``directory`` keeps the bytes in files there. ``latency``: seconds that every request waits first.
        """
        self.buckets = {name: Bucket() for name in buckets}
        self.faults: list[Fault] = []
        self.counts: Counter[str] = Counter()
        self.clock_offset = 0.0
        self.access_key = access_key
        self.secret_key = secret_key
        self.region = region
        self.min_part = min_part
        self.max_parts = max_parts
        self.max_copy = max_copy
        self._weak = weak
        self._md5 = etag == "md5"
        self._place = Place(directory=directory, discard=discard)
        self._serial = 0
        self._server = HttpServer(self._serve, port=port, latency=latency)
        self._ops: dict[str, Callable[[Request, Bucket], Awaitable[Reply]]] = {
            "PutObject": self._put_object,
            "CopyObject": self._copy_object,
            "GetObject": self._get_object,
            "HeadObject": self._head_object,
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

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.__aexit__(kind, error, trace)
        for bucket in self.buckets.values():
            bucket.drop()

    # --- every request

    async def _serve(self, http: web.BaseRequest) -> web.StreamResponse:
        request = Request(http)
        call = request.call
        self.counts[call.op or "unknown"] += 1
        call.action = pick(self.faults, call) if self.faults else None
        try:
            return await answer(http, call, lambda: self._work(request))
        except Gone:
            return reset(http)
        except S3Error as error:
            return self._error(http, error)

    def _error(self, http: web.BaseRequest, error: S3Error) -> web.Response:
        self._serial += 1
        body = b"" if http.method == "HEAD" else xml.error(error.code, error.message, http.raw_path, self._serial)
        headers = {**_XML, "x-amz-request-id": f"{self._serial:016X}"}
        headers["Date"] = formatdate(self._now(), usegmt=True)
        return web.Response(status=error.status, body=body, headers=headers)

    def _now(self) -> float:
        return time.time() + self.clock_offset

    async def _work(self, request: Request) -> Reply:
        http = request.http
        secrets = {self.access_key: self.secret_key}
        request.signature = verify(http.method, http.raw_path, http.headers, secrets, self.region, self._now())
        work = self._ops.get(request.call.op)
        if work is None:
            raise S3Error(501, "NotImplemented", "not simulated")
        bucket = self.buckets.get(request.bucket_name)
        if bucket is None:
            raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist")
        if len(request.key.encode("utf-8", "surrogateescape")) > 1024:
            raise S3Error(400, "KeyTooLongError", "Your key is too long")
        action = request.call.action
        if isinstance(action, ErrorInOk):
            await receive(request, Place(), weak=self._weak)
            return Reply(
                200, xml.error(action.code, "We encountered an internal error. Please try again.", "", 0), _XML
            )
        if isinstance(action, NoSuchUpload):
            self._forget(bucket, request.query.get("uploadId", ""))
        reply = await work(request, bucket)
        if isinstance(action, OtherETag):
            reply.body = xml.with_etag(reply.body, action.etag)
            reply.length = len(reply.body)
            reply.headers["ETag"] = action.etag
        reply.headers["x-amz-request-id"] = "0" * 16
        return reply

    # --- objects

    async def _put_object(self, request: Request, bucket: Bucket) -> Reply:
        body = await receive(request, self._place, md5=self._md5, weak=self._weak)
        try:
            self._check_absent(request, bucket)
        except S3Error:
            body.stored.drop()
            raise
        asked = request.header(CRC32C) or request.header("x-amz-trailer") == CRC32C
        checksum = base64_crc(body.crc32c) if asked and not self._weak else ""
        etag = self._etag(body.md5.hex())
        stored = StoredObject(body.size, etag, self._now(), body.crc32c, [body], checksum)
        bucket.put(request.key, stored)
        return Reply(200, headers={"ETag": etag, **_checksum_headers(stored)})

    async def _copy_object(self, request: Request, bucket: Bucket) -> Reply:
        stored = original(request, self.buckets, weak=self._weak)
        body = await self._copied(stored, 0, stored.size)
        asked = request.header("x-amz-checksum-algorithm").upper() == "CRC32C" or stored.checksum
        new = StoredObject(body.size, self._etag(body.md5.hex()), self._now(), body.crc32c, [body])
        if asked and not self._weak:
            new.checksum = base64_crc(body.crc32c)
        bucket.put(request.key, new)
        kind = new.checksum_type if new.checksum else ""
        return Reply(200, xml.copy("CopyObjectResult", new.etag, new.modified, new.checksum, kind), _XML)

    async def _copied(self, stored: StoredObject, start: int, stop: int) -> Body:
        if stop - start > self.max_copy:
            raise S3Error(400, "InvalidRequest", "The specified copy source is larger than the maximum allowable size")
        return await copied(stored, start, stop, self._place, md5=self._md5)

    def _check_absent(self, request: Request, bucket: Bucket) -> None:
        if request.header("If-None-Match") == "*" and request.key in bucket.objects:
            raise S3Error(412, "PreconditionFailed", "At least one of the preconditions you specified did not hold.")

    def _etag(self, md5: str, suffix: str = "") -> str:
        if self._md5 and md5:
            return f'"{md5}{suffix}"'
        self._serial += 1
        return f'"{hashlib.blake2b(str(self._serial).encode(), digest_size=16).hexdigest()}{suffix}"'

    def _object(self, request: Request, bucket: Bucket) -> StoredObject:
        stored = bucket.objects.get(request.key)
        if stored is None:
            raise S3Error(404, "NoSuchKey", "The specified key does not exist.")
        return stored

    def _object_headers(self, request: Request, stored: StoredObject) -> dict[str, str]:
        headers = {
            "ETag": stored.etag,
            "Last-Modified": formatdate(stored.modified, usegmt=True),
            "Accept-Ranges": "bytes",
            "Content-Type": "binary/octet-stream",
        }
        if request.header("x-amz-checksum-mode").upper() == "ENABLED":
            headers |= _checksum_headers(stored)
        return headers

    async def _head_object(self, request: Request, bucket: Bucket) -> Reply:
        stored = self._object(request, bucket)
        return Reply(200, headers=self._object_headers(request, stored), length=stored.size)

    async def _get_object(self, request: Request, bucket: Bucket) -> Reply:
        stored = self._object(request, bucket)
        if self._place.discard and stored.size:
            raise S3Error(501, "NotImplemented", "the simulator was told to discard bodies")
        headers = self._object_headers(request, stored)
        status, start, stop = 200, 0, stored.size
        if request.header("Range"):
            start, stop = _range(request.header("Range"), stored.size)
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
            headers = {name: value for name, value in headers.items() if name not in (CRC32C, TYPE)}
        action = request.call.action
        if isinstance(action, WrongRange):
            shift = 0 if action.whole else max(-start, min(action.shift, stored.size - stop))
            start, stop = (0, stored.size) if action.whole else (start + shift, stop + shift)
        if stop - start <= PIECE:
            return Reply(status, b"".join([piece async for piece in stored.read(start, stop - start)]), headers)
        return Reply(status, headers=headers, pieces=stored.read(start, stop - start), length=stop - start)

    async def _delete_object(self, request: Request, bucket: Bucket) -> Reply:
        bucket.delete(request.key)
        return Reply(204)

    async def _head_bucket(self, request: Request, bucket: Bucket) -> Reply:
        return Reply(200, headers={"x-amz-bucket-region": self.region})

    async def _list_objects(self, request: Request, bucket: Bucket) -> Reply:
        query = request.query
        if query.get("delimiter"):
            raise S3Error(501, "NotImplemented", "delimiter is not simulated")
        page = xml.page(bucket.keys(), query)
        url = query.get("encoding-type") == "url"
        entries = [(key, bucket.objects[key]) for key in page.keys]
        return Reply(200, xml.list_objects(request.bucket_name, query, page, entries, url=url), _XML)

    # --- multipart uploads

    async def _create_upload(self, request: Request, bucket: Bucket) -> Reply:
        algorithm = request.header("x-amz-checksum-algorithm").upper()
        kind = ""
        if algorithm == "CRC32C" and not self._weak:
            kind = request.header(TYPE).upper() or "COMPOSITE"
        self._serial += 1
        upload_id = hashlib.sha256(f"{request.key}:{self._serial}".encode("utf-8", "replace")).hexdigest()[:40]
        bucket.uploads[upload_id] = Upload(request.key, upload_id, self._now(), kind)
        headers = {**_XML, "x-amz-checksum-algorithm": algorithm, TYPE: kind} if kind else _XML
        return Reply(200, xml.create_upload(request.bucket_name, request.key, upload_id), headers)

    def _upload(self, request: Request, bucket: Bucket) -> Upload:
        upload = bucket.uploads.get(request.query["uploadId"])
        if upload is None or upload.key != request.key:
            raise S3Error(404, "NoSuchUpload", "The specified upload does not exist.")
        return upload

    def _part_number(self, request: Request) -> int:
        number = request.call.part
        if number is None or not 1 <= number <= self.max_parts:
            raise S3Error(400, "InvalidArgument", f"Part number must be an integer between 1 and {self.max_parts}")
        return number

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
        start, stop = _range(asked, stored.size) if asked else (0, stored.size)
        body = await self._copied(stored, start, stop)
        upload = self._take_part(request, bucket, number, body)
        crc = base64_crc(body.crc32c) if upload.checksum_type else ""
        return Reply(200, xml.copy("CopyPartResult", self._part_etag(upload, number), self._now(), crc), _XML)

    def _take_part(self, request: Request, bucket: Bucket, number: int, body: Body) -> Upload:
        try:
            upload = self._upload(request, bucket)  # it may have been aborted while the body came
        except S3Error:
            body.stored.drop()
            raise
        old = upload.parts.get(number)
        if old is not None:
            old.stored.drop()
        upload.parts[number] = body
        return upload

    def _part_etag(self, upload: Upload, number: int) -> str:
        body = upload.parts[number]
        if self._md5:
            return f'"{body.md5.hex()}"'
        return f'"{hashlib.blake2b(f"{upload.upload_id}{number}{body.crc32c}".encode(), digest_size=16).hexdigest()}"'

    async def _complete_upload(self, request: Request, bucket: Bucket) -> Reply:
        received = await receive(request, Place(), weak=self._weak)
        document = await received.stored.read(0, received.size)
        upload = self._upload(request, bucket)
        bodies = self._chosen(upload, xml.parse_complete(document))
        self._check_absent(request, bucket)
        crc32c = joined_crc32c(bodies)
        self._check_whole(request, upload, bodies, crc32c)
        del bucket.uploads[upload.upload_id]
        etag = await self._whole_etag(bodies)
        stored = StoredObject(sum(body.size for body in bodies), etag, self._now(), crc32c, bodies)
        if upload.checksum_type:
            stored.checksum, stored.checksum_type = _whole_checksum(upload.checksum_type, bodies, crc32c)
        bucket.put(request.key, stored)
        document = xml.complete_upload(request.bucket_name, request.key, stored)
        return Reply(200, document, _XML)

    def _chosen(self, upload: Upload, listed: list[xml.ListedPart]) -> list[Body]:
        """The bodies of the parts that Complete lists. Raises S3Error for a list that S3 would not take."""
        numbers = [part.number for part in listed]
        if not numbers or numbers != sorted(set(numbers)):
            raise S3Error(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        bodies = []
        for part in listed:
            body = upload.parts.get(part.number)
            if body is None or part.etag.strip('"') != self._part_etag(upload, part.number).strip('"'):
                raise S3Error(400, "InvalidPart", f"Part {part.number} could not be found or its ETag does not match.")
            if part.crc32c and upload.checksum_type and part.crc32c != base64_crc(body.crc32c):
                raise S3Error(400, "InvalidPart", f"The CRC32C of part {part.number} does not match.")
            bodies.append(body)
        if any(body.size < self.min_part for body in bodies[:-1]):
            raise S3Error(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
        return bodies

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

    def _forget(self, bucket: Bucket, upload_id: str) -> None:
        upload = bucket.uploads.pop(upload_id, None)
        if upload is not None:
            upload.drop()

    async def _abort_upload(self, request: Request, bucket: Bucket) -> Reply:
        self._forget(bucket, self._upload(request, bucket).upload_id)
        return Reply(204)

    async def _list_parts(self, request: Request, bucket: Bucket) -> Reply:
        upload = self._upload(request, bucket)
        parts = [
            (number, self._part_etag(upload, number), body, base64_crc(body.crc32c) if upload.checksum_type else "")
            for number, body in sorted(upload.parts.items())
        ]
        return Reply(200, xml.list_parts(request.bucket_name, upload, request.query, parts), _XML)

    async def _list_uploads(self, request: Request, bucket: Bucket) -> Reply:
        prefix = request.query.get("prefix", "")
        uploads = [upload for upload in bucket.uploads.values() if upload.key.startswith(prefix)]
        uploads.sort(key=lambda upload: (upload.key, upload.begun, upload.upload_id))
        return Reply(200, xml.list_uploads(request.bucket_name, request.query, uploads), _XML)


def _whole_checksum(kind: str, bodies: list[Body], crc32c: int) -> tuple[str, str]:
    """(value, type) of a multipart object's CRC32C: of all the bytes, or of the parts' CRCs."""
    if kind == "FULL_OBJECT":
        return base64_crc(crc32c), kind
    crcs = b"".join(body.crc32c.to_bytes(4, "big") for body in bodies)
    return f"{base64_crc(fastcrc.crc32.iscsi(crcs))}-{len(bodies)}", kind


def _checksum_headers(stored: StoredObject) -> dict[str, str]:
    return {CRC32C: stored.checksum, TYPE: stored.checksum_type} if stored.checksum else {}


def _range(header: str, size: int) -> tuple[int, int]:
    """(start, stop) of a Range header. Raises S3Error (416) for one that touches no byte."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if match is None or not any(match.groups()):
        raise S3Error(416, "InvalidRange", "The requested range is not satisfiable")
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        raise S3Error(416, "InvalidRange", "The requested range is not satisfiable")
    return start, stop
