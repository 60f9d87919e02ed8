"""A stand-in for Knox: a proxy with a topology in its path, that wants a password and hides where it redirects to.

As Knox does it: a redirect leads to the proxy itself, below ``webhdfs/data/v1``, and its query is one parameter ``_``
that only the proxy can read. What Knox encrypts is kept in a table here.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from typing import Final, Self
from urllib.parse import urlsplit

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web
from yarl import URL

from asynccopy.simulators.server import HttpServer
from asynccopy.storage.http import Headers, Response
from asynccopy.storage.pool import Origin

TOPOLOGY: Final = "/gateway/prod"
INBOUND: Final = f"{TOPOLOGY}/webhdfs/v1"
DATA: Final = f"{TOPOLOGY}/webhdfs/data/v1"
USER, PASSWORD = "guest", "guest-password"


class Knox:
    """In front of the NameNode at ``namenode``, as ``user``. ``elsewhere``: an origin that redirects lead to instead of
    here.
    """

    def __init__(self, namenode: str, user: str) -> None:
        self._namenode = namenode
        self._user = user
        self._server = HttpServer(self._answer)
        self._sealed: dict[str, tuple[str, str]] = {}
        self.elsewhere = ""
        self.refused = 0
        self.headers: list[str] = []
        """What came as Authorization with each request for bytes"""

    @property
    def url(self) -> str:
        return f"http://{self._server.address}{TOPOLOGY}"

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            auto_decompress=False, cookie_jar=DummyCookieJar(), timeout=ClientTimeout(60), max_line_size=65536
        )
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.__aexit__(None, None, None)
        await self._session.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        given = request.headers.get("Authorization", "")
        if given != basic(USER, PASSWORD):
            self.refused += 1
            return web.Response(status=401, text="<html>Unauthorized</html>", content_type="text/html")
        if path.startswith(DATA):
            self.headers.append(given)
            name, _, token = query.partition("=")
            if name != "_" or token not in self._sealed:
                return web.Response(status=500, text="<html>the query cannot be decrypted</html>")
            origin, query = self._sealed[token]
            return await self._pass(request, f"{origin}{path.removeprefix(DATA)}?{query}")
        if not path.startswith(INBOUND):
            return web.Response(status=404, text="<html>Not Found</html>")
        rest = f"/webhdfs/v1{path.removeprefix(INBOUND)}"
        return await self._pass(request, f"{self._namenode}{rest}?{query}&user.name={self._user}")

    async def _pass(self, request: web.BaseRequest, url: str) -> web.StreamResponse:
        body = await request.read()
        async with self._session.request(
            request.method,
            URL(url, encoded=True),
            data=body or None,
            headers={"Content-Type": request.headers.get("Content-Type", "application/octet-stream")},
            allow_redirects=False,
        ) as answer:
            headers = {"Content-Type": answer.headers.get("Content-Type", "application/octet-stream")}
            if location := answer.headers.get("Location"):
                headers["Location"] = self._seal(location)
            return web.Response(status=answer.status, headers=headers, body=await answer.read())

    def _seal(self, location: str) -> str:
        parts = urlsplit(location)
        token = secrets.token_urlsafe()
        self._sealed[token] = (f"{parts.scheme}://{parts.netloc}", parts.query)
        return f"{self.elsewhere or 'http://' + self._server.address}{DATA}{parts.path}?_={token}"


class Basic:
    """An ``Auth`` by name and password."""

    async def query(self, at: Origin | None = None) -> str:
        return ""

    async def headers(self, origin: Origin) -> Headers:
        return (("Authorization", basic(USER, PASSWORD)),)

    def refused(self, who: str, response: Response) -> bool:
        return False

    async def ticket(self, server: Origin) -> str:
        return ""

    async def aclose(self) -> None:
        return


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()
