"""What every simulated object store does: admit a request, script its faults, keep the books of multipart uploads."""

from __future__ import annotations

import hashlib
import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypedDict, TypeVar, Unpack

from aiohttp import web

from asynccopy.simulators import s3_xml as xml
from asynccopy.simulators.faults import ErrorInOk, Fault, NoSuchUpload, OtherETag, WrongRange, pick
from asynccopy.simulators.s3_copies import copied
from asynccopy.simulators.s3_request import Gone, Request
from asynccopy.simulators.server import PIECE, HttpServer, Reply, answer, reset
from asynccopy.simulators.sigv4 import S3Error
from asynccopy.simulators.store import Body, Bucket, Place, StoredObject, Upload

MIB = 1 << 20
XML = {"Content-Type": "application/xml"}

R = TypeVar("R", bound=Request)


class Keeping(TypedDict, total=False):
    """What any of them may be told.

    ``etag="opaque"``: ETags that are no MD5, as with SSE-KMS. ``discard`` keeps sizes and digests and no bytes;
    ``directory`` keeps the bytes in files there. ``latency``: seconds that every request waits first. ``port`` 0, the
    default, takes a free one.
    """

    etag: Literal["md5", "opaque"]
    discard: bool
    directory: Path | None
    latency: float
    port: int


class ObjectServer(ABC, Generic[R]):
    """One listening store. ``faults`` and ``clock_offset`` may be changed at any time; ``counts`` counts requests by
    operation and ``refusals`` answers by error code; ``buckets[name].objects`` is there for tests to look into.
    ``overwrites`` names operations that replace what is there though they are asked not to, as radosgw's Complete
    does, and everything in a bucket of OSS that has versions.
    """

    def __init__(
        self,
        buckets: list[str],
        *,
        min_part: int,
        max_parts: int,
        max_copy: int,
        **keeping: Unpack[Keeping],
    ) -> None:
        self.buckets = {name: Bucket() for name in buckets}
        self.faults: list[Fault] = []
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.clock_offset = 0.0
        self.overwrites: set[str] = set()
        self.min_part = min_part
        self.max_parts = max_parts
        self.max_copy = max_copy
        self._md5 = keeping.get("etag", "md5") == "md5"
        self._place = Place(directory=keeping.get("directory"), discard=keeping.get("discard", False))
        self._serial = 0
        self._server = HttpServer(self._serve, keeping.get("port", 0), keeping.get("latency", 0.0))
        self._ops: dict[str, Callable[[R, Bucket], Awaitable[Reply]]] = {}

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.__aexit__(kind, error, trace)
        for bucket in self.buckets.values():
            bucket.drop()

    # --- what the kind of store decides

    @abstractmethod
    def _request(self, http: web.BaseRequest) -> R: ...

    @abstractmethod
    def _admit(self, request: R) -> None:
        """Raises S3Error for a request that is not to be looked at any further."""

    @abstractmethod
    def _check_key(self, key: str) -> None:
        """Raises S3Error for a key that the store would not take."""

    @abstractmethod
    def _refuse(self, http: web.BaseRequest, error: S3Error) -> web.Response: ...

    @abstractmethod
    async def _swallow(self, request: R) -> Body:
        """Take a request's body that is no object's."""

    @abstractmethod
    def _part_etag(self, upload: Upload, number: int) -> str: ...

    # --- every request

    async def _serve(self, http: web.BaseRequest) -> web.StreamResponse:
        request = self._request(http)
        call = request.call
        self.counts[call.op or "unknown"] += 1
        call.action = pick(self.faults, call) if self.faults else None
        try:
            return await answer(http, call, lambda: self._work(request))
        except Gone:
            return reset(http)
        except S3Error as error:
            self.refusals[error.code] += 1
            return self._refuse(http, error)

    def _now(self) -> float:
        return time.time() + self.clock_offset

    async def _work(self, request: R) -> Reply:
        self._admit(request)
        work = self._ops.get(request.call.op)
        if work is None:
            raise S3Error(501, "NotImplemented", "not simulated")
        bucket = self.buckets.get(request.bucket_name)
        if bucket is None:
            raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist")
        if request.key:
            self._check_key(request.key)
        action = request.call.action
        if isinstance(action, ErrorInOk):
            await self._swallow(request)
            return Reply(200, xml.error(action.code, "We encountered an internal error. Please try again.", "", 0), XML)
        if isinstance(action, NoSuchUpload):
            self._forget(bucket, request.query.get("uploadId", ""))
        reply = await work(request, bucket)
        if isinstance(action, OtherETag):
            reply.body = xml.with_etag(reply.body, action.etag)
            reply.length = len(reply.body)
            reply.headers["ETag"] = action.etag
        return reply

    # --- objects

    def _etag(self, md5: str, suffix: str = "") -> str:
        if self._md5 and md5:
            return f'"{md5}{suffix}"'
        self._serial += 1
        return f'"{hashlib.blake2b(str(self._serial).encode(), digest_size=16).hexdigest()}{suffix}"'

    def _object(self, request: R, bucket: Bucket) -> StoredObject:
        stored = bucket.objects.get(request.key)
        if stored is None:
            raise S3Error(404, "NoSuchKey", "The specified key does not exist.")
        return stored

    async def _copied(self, stored: StoredObject, start: int, stop: int) -> Body:
        if stop - start > self.max_copy:
            raise S3Error(400, "InvalidRequest", "The specified copy source is larger than the maximum allowable size")
        return await copied(stored, start, stop, self._place, md5=self._md5)

    async def _deliver(
        self, request: R, stored: StoredObject, status: int, start: int, stop: int, headers: dict[str, str]
    ) -> Reply:
        """Answer with the bytes of a range, or with those that a fault takes for them."""
        if self._place.discard and stored.size:
            raise S3Error(501, "NotImplemented", "the simulator was told to discard bodies")
        action = request.call.action
        if isinstance(action, WrongRange):
            shift = 0 if action.whole else max(-start, min(action.shift, stored.size - stop))
            start, stop = (0, stored.size) if action.whole else (start + shift, stop + shift)
        if stop - start <= PIECE:
            return Reply(status, b"".join([piece async for piece in stored.read(start, stop - start)]), headers)
        return Reply(status, headers=headers, pieces=stored.read(start, stop - start), length=stop - start)

    async def _delete_object(self, request: R, bucket: Bucket) -> Reply:
        bucket.delete(request.key)
        return Reply(204)

    # --- multipart uploads

    def _open_upload(self, request: R, bucket: Bucket, **kept: Any) -> Upload:
        self._serial += 1
        upload_id = hashlib.sha256(f"{request.key}:{self._serial}".encode("utf-8", "replace")).hexdigest()[:40]
        upload = Upload(request.key, upload_id, self._now(), **kept)
        bucket.uploads[upload_id] = upload
        return upload

    def _upload(self, request: R, bucket: Bucket) -> Upload:
        upload = bucket.uploads.get(request.query["uploadId"])
        if upload is None or upload.key != request.key:
            raise S3Error(404, "NoSuchUpload", "The specified upload does not exist.")
        return upload

    def _part_number(self, request: R) -> int:
        number = request.call.part
        if number is None or not 1 <= number <= self.max_parts:
            raise S3Error(400, "InvalidArgument", f"Part number must be an integer between 1 and {self.max_parts}")
        return number

    def _take_part(self, request: R, bucket: Bucket, number: int, body: Body) -> Upload:
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

    def _chosen(self, upload: Upload, listed: list[xml.ListedPart]) -> list[Body]:
        """The bodies of the parts that Complete lists. Raises S3Error for a list that the store would not take."""
        numbers = [part.number for part in listed]
        if not numbers or numbers != sorted(set(numbers)):
            raise S3Error(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        bodies = []
        for part in listed:
            body = upload.parts.get(part.number)
            if body is None or part.etag.strip('"') != self._part_etag(upload, part.number).strip('"'):
                raise S3Error(400, "InvalidPart", f"Part {part.number} could not be found or its ETag does not match.")
            bodies.append(body)
        if any(body.size < self.min_part for body in bodies[:-1]):
            raise S3Error(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
        return bodies

    def _forget(self, bucket: Bucket, upload_id: str) -> None:
        upload = bucket.uploads.pop(upload_id, None)
        if upload is not None:
            upload.drop()

    async def _abort_upload(self, request: R, bucket: Bucket) -> Reply:
        self._forget(bucket, self._upload(request, bucket).upload_id)
        return Reply(204)


def uploads_under(bucket: Bucket, prefix: str) -> list[Upload]:
    """The uploads whose keys begin so, in the order of a listing."""
    uploads = [upload for upload in bucket.uploads.values() if upload.key.startswith(prefix)]
    return sorted(uploads, key=lambda upload: (upload.key, upload.begun, upload.upload_id))


def byte_range(header: str, size: int) -> tuple[int, int]:
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
