"""One request to one bucket: signed, sent through the door, and its refusal turned into an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from asynccopy.errors import AlreadyThere, NotFound, UploadGone
from asynccopy.model import ObjectMeta
from asynccopy.storage.client import BucketClient, Query, SendAgain, store_name
from asynccopy.storage.documents import PreconditionFailed, content_length, http_milliseconds, plain_etag, read_error
from asynccopy.storage.http import Headers, Response
from asynccopy.storage.interface import PartBody, Reader
from asynccopy.storage.pacing import Pacing
from asynccopy.storage.pool import Origin
from asynccopy.storage.s3.bodies import SignedBody, TrailedBody, framed_length
from asynccopy.storage.s3.credentials import CredentialChain
from asynccopy.storage.s3.messages import CRC32C_HEADER, EXPIRED, object_crc32c, refusal
from asynccopy.storage.s3.settings import Address, S3Settings, place
from asynccopy.storage.s3.signing import (
    SIGNED_CHUNKS,
    SIGNED_CHUNKS_TRAILER,
    UNSIGNED,
    UNSIGNED_TRAILER,
    ChunkSigner,
    Signature,
    Signer,
    encode_query,
)
from asynccopy.storage.signing import Credentials, encode_path

ABSENT: Final = ("if-none-match", "*")
LONG_HASH: Final = 1 << 20
"""Bytes from which hashing goes to a thread: more would hold the event loop for over a millisecond."""


class S3Client(BucketClient):
    """A refusal for a wrong clock or for an expired session token is raised as SendAgain: the next one has others."""

    scheme = "s3"

    def __init__(
        self,
        bucket: str,
        settings: S3Settings,
        credentials: CredentialChain | None = None,
        latency: Callable[[float], None] | None = None,
        pacing: Callable[[Origin], Pacing] = Pacing,
    ) -> None:
        self.address = Address.of(bucket, settings)
        super().__init__(bucket, self.address.origin, settings.connections, latency, pacing, settings.ca_file)
        self._sign_payload = settings.sign_payload
        self._signer = Signer(settings.region)
        self._credentials = credentials or CredentialChain()
        self.store = store_name(place(settings), self._credentials.environ, ("AWS_",))

    async def _request(
        self,
        method: str,
        key: str | None,
        query: Query,
        headers: Headers,
        body: bytes | memoryview,
        patience: float | None,
    ) -> Response:
        payload = UNSIGNED
        if self._sign_payload:
            digest = await asyncio.to_thread(sha256, body) if len(body) > LONG_HASH else sha256(body)
            payload = digest.hexdigest()
        used = await self._credentials.current()
        target, signature = self._sign(used, method, key, query, headers, payload)
        response = await self._door.request(
            self.origin, method, target, [*headers, *signature.headers], body, patience=patience
        )
        try:
            return self._successful(response, key, used)
        except PreconditionFailed as error:
            if ABSENT in headers:
                raise AlreadyThere(error.message) from error
            raise

    async def head(self, key: str) -> ObjectMeta | None:
        try:
            response = await self.request("HEAD", key, headers=[("x-amz-checksum-mode", "ENABLED")])
        except NotFound:
            return None
        fields = response.headers
        size, etag = content_length(fields, self.subject(key)), plain_etag(fields.get("etag"))
        return ObjectMeta(key, size, etag, object_crc32c(fields), http_milliseconds(fields.get("last-modified")))

    async def upload(self, key: str, query: Query, size: int, body: PartBody, *, trailer: bool) -> Response:
        """PUT ``size`` bytes as they are pulled, with ``trailer`` followed by the CRC-32C that the body tells."""
        return await self._pacing.once(self._upload, key, query, size, body, trailer)

    async def _upload(self, key: str, query: Query, size: int, body: PartBody, trailer: bool) -> Response:
        used = await self._credentials.current()
        if not trailer and not self._sign_payload:
            target, signature = self._sign(used, "PUT", key, query, (), UNSIGNED)
            response = await self._door.upload(self.origin, "PUT", target, signature.headers, size, body)
            return self._taken(response, key, used)
        headers = [("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", str(size))]
        if trailer:
            headers.append(("x-amz-trailer", CRC32C_HEADER))
        framed: TrailedBody
        if self._sign_payload:
            payload = SIGNED_CHUNKS_TRAILER if trailer else SIGNED_CHUNKS
            target, signature = self._sign(used, "PUT", key, query, headers, payload)
            framed = SignedBody(body, size, ChunkSigner(signature), trailer=trailer)
        else:
            target, signature = self._sign(used, "PUT", key, query, headers, UNSIGNED_TRAILER)
            framed = TrailedBody(body, size)
        length = framed_length(size, signed=self._sign_payload, trailer=trailer)
        response = await self._door.upload(self.origin, "PUT", target, [*headers, *signature.headers], length, framed)
        return self._taken(response, key, used)

    def _taken(self, response: Response, key: str, used: Credentials) -> Response:
        try:
            return self._successful(response, key, used)
        except NotFound as error:  # what stores say of a part whose upload they do not know; raised here, and not
            raise UploadGone(error.message) from error  # around the whole upload: the body may miss its file, too

    async def _download(self, key: str, headers: Headers, length: int) -> Reader | Response:
        used = await self._credentials.current()
        target, signature = self._sign(used, "GET", key, (), headers, UNSIGNED)
        answer = await self._door.download(self.origin, "GET", target, [*headers, *signature.headers], length)
        return self._successful(answer, key, used) if isinstance(answer, Response) else answer

    def _sign(
        self, used: Credentials, method: str, key: str | None, query: Query, headers: Headers, payload: str
    ) -> tuple[str, Signature]:
        """The target on the wire, and the signature over exactly that."""
        root = self.address.root
        path = encode_path(root + key) if key is not None else encode_path(root.rstrip("/") or "/")
        encoded = encode_query(query)
        signature = self._signer.sign(
            used,
            method,
            self.origin.netloc,
            path,
            encoded,
            headers,
            payload,
            self._clock.now(),
        )
        return f"{path}?{encoded}" if encoded else path, signature

    def _successful(self, response: Response, key: str | None, used: Credentials) -> Response:
        if 200 <= response.status < 300:
            return response
        if response.status == 403:  # it may be about our clock; the answer to a HEAD cannot even say so
            self._clock.heed(response.headers.get("date", ""), self.subject(key))
        if (
            response.status in (400, 403)
            and read_error(response.body).code in EXPIRED
            and self._credentials.expired(used)
        ):
            raise SendAgain(f"{self.subject(key)}: the session token has expired; another one is asked for")
        raise refusal(response.status, response.headers, response.body, self.subject(key))
