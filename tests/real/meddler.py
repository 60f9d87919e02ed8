"""What stands between a client and a real S3 server, and meddles: faults that no healthy server can be made to show.

It passes every request on as it came, under the same Host, so that the server checks the signature that the client
made. The faults are the simulators' (``asynccopy.simulators.faults``).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Self

from aiohttp import ClientSession, DummyCookieJar, web
from yarl import URL

from asynccopy.simulators.faults import Action, Call, Delay, Fault, FlipBit, LostReply, Reset, Status, pick

_HOPS = frozenset({"connection", "transfer-encoding", "keep-alive", "date", "server"})
_ADDED = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


class Meddler:
    """``async with Meddler(store.endpoint) as meddler: meddler.url``. ``counts``: requests by their S3 operation."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self.faults: list[Fault] = []
        self.counts: Counter[str] = Counter()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._session = ClientSession(auto_decompress=False, cookie_jar=DummyCookieJar())
        self._runner = web.ServerRunner(web.Server(self._pass))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, shutdown_timeout=0.1)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _pass(self, request: web.BaseRequest) -> web.StreamResponse:
        op = operation(request)
        self.counts[op] += 1
        action = pick(self.faults, Call(op, request.method, request.path))
        if isinstance(action, Status):
            return web.Response(status=action.code, body=action.body, headers=action.headers)
        if isinstance(action, Reset):
            return _cut(request)
        if isinstance(action, Delay):
            await asyncio.sleep(action.seconds)
        # The server's work goes on when the client has hung up, as it does where nothing stands between them.
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(self._ask(request, await request.content.read(), action), name=op)
        if isinstance(action, LostReply):
            return _cut(request)
        return answering.result()

    async def _ask(self, request: web.BaseRequest, body: bytes, action: Action | None) -> web.Response:
        if isinstance(action, FlipBit) and body:
            damaged = bytearray(body)
            damaged[min(action.offset, len(body) - 1)] ^= 1 << action.bit
            body = bytes(damaged)
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOPS]
        url = URL(self._endpoint + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False, skip_auto_headers=_ADDED
        ) as reply:
            kept = [(name, value) for name, value in reply.headers.items() if name.lower() not in _HOPS]
            found = b"" if request.method == "HEAD" else await reply.read()
            response = web.Response(status=reply.status, body=found)
            response.headers.extend(kept)  # a HEAD's Content-Length is the object's
            return response


def operation(request: web.BaseRequest) -> str:
    """The S3 operation that a request asks for."""
    query, method = request.query, request.method
    if "uploadId" in query:
        part = "UploadPart" if "partNumber" in query else "PutObject"
        return {"PUT": part, "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}.get(
            method, "ListParts"
        )
    if "uploads" in query:
        return "CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"
    if method == "GET" and "list-type" in query:
        return "ListObjectsV2"
    return {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}.get(method, method)


def _cut(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
