"""One request to one bucket: signed, sent through the door, and its refusal turned into an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from asynccopy.errors import NotFound, UploadGone
from asynccopy.model import ObjectMeta
from asynccopy.storage.client import BucketClient, Query, SendAgain, store_name
from asynccopy.storage.documents import content_length, http_milliseconds, plain_etag
from asynccopy.storage.http import Headers, Response
from asynccopy.storage.interface import Reader
from asynccopy.storage.oss.credentials import CredentialChain
from asynccopy.storage.oss.messages import EXPIRED, error_of, read_crc64, refusal
from asynccopy.storage.oss.settings import OssSettings, origin_of, place
from asynccopy.storage.oss.signing import Signer, encode_query
from asynccopy.storage.pacing import Pacing
from asynccopy.storage.pool import Origin
from asynccopy.storage.signing import Credentials, encode_path

_MAY_CHANGE: Final = (400, 401, 403)
"""Statuses of refusals that another time or other credentials may turn."""


class OssClient(BucketClient):
    """A refusal for a wrong clock or for expired credentials is raised as SendAgain once these are put right."""

    scheme = "oss"

    def __init__(
        self,
        bucket: str,
        settings: OssSettings,
        credentials: CredentialChain | None = None,
        latency: Callable[[float], None] | None = None,
        pacing: Callable[[Origin], Pacing] = Pacing,
    ) -> None:
        super().__init__(bucket, origin_of(bucket, settings), settings.connections, latency, pacing)
        self._signer = Signer(settings.region)
        self._credentials = credentials or CredentialChain()
        self.store = store_name(place(settings), self._credentials.environ, ("OSS_", "ALIBABA_"))

    async def _request(
        self,
        method: str,
        key: str | None,
        query: Query,
        headers: Headers,
        body: bytes | memoryview,
        patience: float | None,
    ) -> Response:
        used = await self._credentials.current()
        target, added = self._sign(used, method, key, query, headers)
        response = await self._door.request(self.origin, method, target, [*headers, *added], body, patience=patience)
        return await self._successful(response, key, used)

    async def head(self, key: str) -> ObjectMeta | None:
        try:
            response = await self.request("HEAD", key)
        except NotFound:
            return None
        fields = response.headers
        return ObjectMeta(
            key,
            content_length(fields, self.subject(key)),
            plain_etag(fields.get("etag")),
            modification_time=http_milliseconds(fields.get("last-modified")),
            crc64=read_crc64(fields),
        )

    async def upload(self, key: str, query: Query, size: int, body: Reader) -> Response:
        """PUT ``size`` bytes of a part as they are pulled."""
        return await self._pacing.once(self._upload, key, query, size, body)

    async def _upload(self, key: str, query: Query, size: int, body: Reader) -> Response:
        used = await self._credentials.current()
        target, added = self._sign(used, "PUT", key, query, ())
        response = await self._door.upload(self.origin, "PUT", target, added, size, body)
        try:
            return await self._successful(response, key, used)
        except NotFound as error:  # the upload is not known; raised here, and not around the
            raise UploadGone(error.message) from error  # whole upload: the body may miss its file, too

    async def _download(self, key: str, headers: Headers, length: int) -> Reader | Response:
        used = await self._credentials.current()
        target, added = self._sign(used, "GET", key, (), headers)
        answer = await self._door.download(self.origin, "GET", target, [*headers, *added], length)
        return await self._successful(answer, key, used) if isinstance(answer, Response) else answer

    async def aclose(self) -> None:
        await super().aclose()
        await self._credentials.aclose()

    def _sign(
        self, credentials: Credentials, method: str, key: str | None, query: Query, headers: Headers
    ) -> tuple[str, Headers]:
        """The target on the wire, and the headers to add. Signed is the bucket's name too, which the host carries."""
        path, encoded = encode_path(f"/{key or ''}"), encode_query(query)
        resource = f"/{self.bucket}{path}"
        added = self._signer.sign(credentials, method, resource, encoded, headers, self._clock.now())
        return f"{path}?{encoded}" if encoded else path, added

    async def _successful(self, response: Response, key: str | None, used: Credentials) -> Response:
        if 200 <= response.status < 300:
            return response
        subject = self.subject(key)
        if response.status in _MAY_CHANGE:
            self._clock.heed(response.headers.get("date", ""), subject)
            code = error_of(response.headers, response.body).code
            if code in EXPIRED and await self._credentials.replace(used):
                raise SendAgain(f"{subject}: {code}; the credentials were renewed")
        raise refusal(response.status, response.headers, response.body, subject)
