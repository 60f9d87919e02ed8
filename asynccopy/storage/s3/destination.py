"""A bucket, or a prefix in one, as a ``Destination``."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Final

from asynccopy.errors import (
    AsyncCopyError,
    ChecksumMismatch,
    ConnectionLost,
    CredentialsRefused,
    NotFound,
    NotThere,
    PermissionDenied,
    Refused,
    ServerTrouble,
    SideError,
    Transient,
    UploadGone,
    UsageError,
    WrongServer,
)
from asynccopy.model import ByteRange, ObjectMeta, ObjectPage, PartReceipt, PartReply
from asynccopy.storage.http import NoBytes, Response
from asynccopy.storage.interface import Capabilities, PartBody, Reader, UploadLimits
from asynccopy.storage.s3.bodies import Md5Body
from asynccopy.storage.s3.client import LONG_HASH, ClockCorrected, S3Client
from asynccopy.storage.s3.copies import Copies
from asynccopy.storage.s3.credentials import CredentialChain
from asynccopy.storage.s3.messages import (
    CRC32C_HEADER,
    FULL_OBJECT,
    TYPE_HEADER,
    check_key,
    decode_crc32c,
    encode_crc32c,
    object_crc32c,
    plain_etag,
    read_completion,
    read_page,
    read_upload_id,
    read_uploads,
    write_completion,
)
from asynccopy.storage.s3.probe import ALGORITHM, DECLARATION, abort, probe
from asynccopy.storage.s3.settings import S3Settings

COMPLETE_PATIENCE: Final = 300.0
"""Seconds. A store may copy every part before it answers."""
PROBE_KEY: Final = ".asynccopy-probe"


class S3Destination:
    """Objects below ``s3://bucket/prefix``.

    ``capabilities`` spares a worker the probe that another process made already; without it the first call that must
    know makes it. Raises UsageError for a URL or an endpoint that cannot be one.
    """

    page_size = 1000
    """Entries in a page of a listing; S3 gives no more."""

    def __init__(
        self,
        url: str,
        *,
        settings: S3Settings,
        credentials: CredentialChain | None = None,
        capabilities: Capabilities | None = None,
        latency: Callable[[float], None] | None = None,
    ) -> None:
        bucket, prefix = _split(url)
        self.prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self.limits = UploadLimits()
        self._client = S3Client(bucket, settings, credentials, latency)
        self._capabilities = capabilities
        self._probing = asyncio.Lock()
        self._copies = Copies(self._client)

    # --- what the store can do -----------------------------------------------------------------------------------

    async def check(self) -> Capabilities:
        try:
            await self._look()
        except ClockCorrected:
            await self._look()
        try:
            await self._sweep(self.prefix + PROBE_KEY)
            self._capabilities = await probe(self._client, self.prefix + PROBE_KEY)
        except PermissionDenied as error:
            raise CredentialsRefused(
                f"{self.url}: may not be written: {error}",
                hint="the access key needs s3:PutObject and s3:AbortMultipartUpload",
            ) from error
        return self._capabilities

    async def _sweep(self, probed: str) -> None:
        """Abort the uploads of probes that were killed in the middle, as far as the store lets us see them."""
        try:
            left = await self.list_uploads(probed)
        except (Refused, NotFound, PermissionDenied):
            return
        for key, upload_id in left:
            if key == probed:
                await abort(self._client, key, upload_id)

    async def _look(self) -> None:
        """Read one entry of the listing. A HEAD of the bucket would not say why it is refused."""
        query = [("list-type", "2"), ("max-keys", "1"), ("prefix", self.prefix)]
        where = f"{self.url} at {self._client.address.origin}"
        try:
            response = await self._client.request("GET", None, query)
        except (NotFound, Refused) as error:
            raise WrongServer(f"{where}: no S3 store answers: {error}") from error
        except NotThere as error:
            raise NotThere(f"{where}: the bucket {self._client.bucket} does not exist", hint=error.hint) from error
        except PermissionDenied as error:
            raise CredentialsRefused(f"{where}: {error}", hint="the access key needs s3:ListBucket") from error
        read_page(response.body, where)

    async def _probed(self) -> Capabilities:
        async with self._probing:
            return self._capabilities or await self.check()

    # --- objects -------------------------------------------------------------------------------------------------

    async def put(self, key: str, body: bytes | memoryview, crc32c: int) -> ObjectMeta:
        check_key(key, self.limits.max_key)
        checksum = (self._capabilities or await self._probed()).checksum
        if checksum == "CRC32C":
            response = await self._client.request(
                "PUT", key, headers=[(CRC32C_HEADER, encode_crc32c(crc32c))], body=body
            )
            held = object_crc32c(response.headers)
            if held is not None and held != crc32c:
                raise ChecksumMismatch(
                    f"{self._client.subject(key)}: the store holds CRC-32C {held:08x}, not {crc32c:08x}"
                )
            return ObjectMeta(key, len(body), plain_etag(response.headers.get("etag")), held)
        # Some stores publish a body that was cut, unless the request carries a hash of it: so it always does.
        md5 = await asyncio.to_thread(_md5, body) if len(body) > LONG_HASH else _md5(body)
        response = await self._client.request(
            "PUT", key, headers=[("content-md5", base64.b64encode(md5).decode())], body=body
        )
        etag = plain_etag(response.headers.get("etag"))
        if checksum == "MD5":
            self._compare_md5(key, etag, md5.hex())
        return ObjectMeta(key, len(body), etag)

    async def head(self, key: str) -> ObjectMeta | None:
        try:
            response = await self._client.request("HEAD", key, headers=[("x-amz-checksum-mode", "ENABLED")])
        except NotFound:
            return None
        fields = response.headers
        size = fields.get("content-length", "")
        if not size.isascii() or not size.isdigit():
            raise WrongServer(f"{self._client.subject(key)}: HEAD names no length")
        etag = plain_etag(fields.get("etag"))
        return ObjectMeta(key, int(size), etag, object_crc32c(fields), _milliseconds(fields.get("last-modified")))

    async def open(self, key: str, range: ByteRange) -> Reader:
        if range.length == 0:
            return NoBytes()
        asked = [("range", f"bytes={range.offset}-{range.end - 1}")]
        answer = await self._client.download(key, asked, range.length)
        if isinstance(answer, Response):
            length = answer.headers.get("content-length", "an unknown number of")
            raise Refused(f"{self._client.subject(key)}: {length} bytes instead of the {range.length} asked for")
        return answer

    async def copy(self, key: str, to: str, size: int, etag: str) -> ObjectMeta:
        """CopyObject, or a multipart upload beyond ``limits.max_part`` (5 GiB), of which no CRC-32C is known.

        Where the store does not heed the condition on the ETag, the object is looked at first: what replaces it between
        that look and the copy is copied in its place, and told by its size, ETag or checksum alone. ``key`` must not be
        ``to``: S3 refuses that. Raises also Refused where the store cannot copy.
        """
        check_key(to, self.limits.max_key)
        large = size > self.limits.max_part
        if large or not size or not self._copies.heeded:
            held = await self.head(key)
            if held is None or (held.size, held.etag) != (size, etag):
                raise self._copies.changed(key)
        if not size:  # versitygw copies no key that ends in a slash
            return await self.put(to, b"", 0)
        if large:
            await self._copies.in_parts(key, to, size, etag, self.limits)
        else:
            capable = (self._capabilities or await self._probed()).checksum == "CRC32C"
            told, crc32c = await self._copies.whole(key, to, etag, [ALGORITHM] if capable else ())
            if told and crc32c is not None:
                return ObjectMeta(to, size, told, crc32c)
        copied = await self.head(to)
        if copied is None or copied.size != size:
            raise ServerTrouble(f"{self._client.subject(to)}: copied, yet not there with {size} bytes")
        return copied

    async def delete(self, key: str) -> None:
        try:
            await self._client.request("DELETE", key)
        except NotFound:
            return

    # --- multipart uploads ---------------------------------------------------------------------------------------

    async def create_upload(self, key: str) -> str:
        check_key(key, self.limits.max_key)
        headers = DECLARATION if (self._capabilities or await self._probed()).checksum == "CRC32C" else []
        response = await self._client.request("POST", key, [("uploads", "")], headers)
        return read_upload_id(response.body, self._client.subject(key))

    async def upload_part(self, key: str, upload_id: str, number: int, size: int, body: PartBody) -> PartReply:
        query = [("partNumber", str(number)), ("uploadId", upload_id)]
        checksum = (self._capabilities or await self._probed()).checksum
        watched = Md5Body(body) if checksum == "MD5" else body
        try:
            response = await self._client.upload(key, query, size, watched, trailer=checksum == "CRC32C")
        except ConnectionLost:
            await self._must_be_open(key, upload_id)
            raise
        etag = plain_etag(response.headers.get("etag"))
        if isinstance(watched, Md5Body):
            self._compare_md5(key, etag, watched.hexdigest())
        if checksum != "CRC32C":
            return PartReply(etag, None)
        held = decode_crc32c(response.headers.get(CRC32C_HEADER))
        if held is not None and held != body.crc32c:
            raise ChecksumMismatch(
                f"{self._client.subject(key)}: part {number} arrived with CRC-32C {held:08x}, not {body.crc32c:08x}"
            )
        return PartReply(etag, held)

    async def _must_be_open(self, key: str, upload_id: str) -> None:
        """Raises UploadGone if the store forgot the upload: a refusal sent in the middle of a part is lost with the
        connection more often than not, and the same part would be sent in vain again and again."""
        try:
            await self._client.request("GET", key, [("max-parts", "1"), ("uploadId", upload_id)])
        except NotFound as error:
            raise _gone(error) from error
        except (Transient, SideError, PermissionDenied, Refused):
            return  # not known: the lost connection itself is the news

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[PartReceipt], crc32c: int) -> ObjectMeta:
        capable = (self._capabilities or await self._probed()).checksum == "CRC32C"
        headers = [(CRC32C_HEADER, encode_crc32c(crc32c)), (TYPE_HEADER, FULL_OBJECT)] if capable else []
        try:
            response = await self._client.request(
                "POST",
                key,
                [("uploadId", upload_id)],
                [*headers, ("content-type", "application/xml")],
                write_completion(parts, with_crc32c=capable),
                patience=COMPLETE_PATIENCE,
            )
        except NotFound as error:
            raise _gone(error) from error
        said = read_completion(response.body, self._client.subject(key))
        if said.etag and said.crc32c is not None:
            if said.crc32c != crc32c:
                raise ChecksumMismatch(
                    f"{self._client.subject(key)}: the store holds CRC-32C {said.crc32c:08x}, not {crc32c:08x}"
                )
            return ObjectMeta(key, sum(part.size for part in parts), said.etag, said.crc32c)
        held = await self.head(key)
        if held is None:
            raise ServerTrouble(f"{self._client.subject(key)}: completed, yet not there")
        return held

    async def abort_upload(self, key: str, upload_id: str) -> None:
        await abort(self._client, key, upload_id)

    async def list_uploads(self, prefix: str) -> list[tuple[str, str]]:
        # Pages follow the key marker alone, for versitygw refuses its own upload id marker. Of a key with more
        # unfinished uploads than one page holds, the rest shows once the first are gone.
        found: list[tuple[str, str]] = []
        marker: str | None = ""
        while marker is not None:
            query = [
                ("uploads", ""),
                ("max-uploads", str(self.page_size)),
                ("prefix", prefix),
                ("encoding-type", "url"),
            ]
            if marker:
                query.append(("key-marker", marker))
            response = await self._client.request("GET", None, query)
            page, following = read_uploads(response.body, self._client.subject(prefix))
            found += page
            if following == marker:
                raise WrongServer(f"{self._client.subject(prefix)}: the list of uploads does not advance")
            marker = following
        return found

    # Last but for the small ones: its name hides the built-in type from the annotations after it.
    async def list(self, prefix: str, after: str | None = None) -> ObjectPage:
        query = [("list-type", "2"), ("max-keys", str(self.page_size)), ("prefix", prefix), ("encoding-type", "url")]
        if after is not None:
            query.append(("continuation-token", after))
        response = await self._client.request("GET", None, query)
        return read_page(response.body, self._client.subject(prefix))

    async def aclose(self) -> None:
        await self._client.aclose()

    def _compare_md5(self, key: str, etag: str, md5: str) -> None:
        if etag != md5:
            raise ChecksumMismatch(
                f"{self._client.subject(key)}: the store's ETag is {etag[:64]}, the bytes' MD5 {md5}"
            )


def _split(url: str) -> tuple[str, str]:
    """(bucket, prefix without slashes at its ends); the prefix is literal: ``%``, ``?`` and ``#`` are parts of keys."""
    scheme, found, rest = url.partition("://")
    if not found or scheme != "s3":
        raise UsageError("the destination must be a URL like s3://bucket/prefix")
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:
        raise UsageError("an s3:// URL must not carry credentials", hint="set AWS_ACCESS_KEY_ID, or AWS_PROFILE")
    prefix = prefix.strip("/")
    check_key(f"{prefix}/{PROBE_KEY}", UploadLimits().max_key)
    return bucket, prefix


def _gone(error: AsyncCopyError) -> UploadGone:
    """Once an upload is completed, some stores call its key missing rather than the upload."""
    return UploadGone(error.message)


def _md5(body: bytes | memoryview) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


def _milliseconds(text: str | None) -> int:
    try:
        return int(parsedate_to_datetime(text or "").timestamp() * 1000)
    except ValueError:
        return 0
