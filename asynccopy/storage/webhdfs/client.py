"""One WebHDFS request: to the NameNode, or by its redirect to a DataNode."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from asynccopy.errors import (
    AsyncCopyError,
    ConnectionLost,
    ServerTrouble,
    SourceChanged,
    Stalled,
    Transient,
    Unreachable,
)
from asynccopy.model import ByteRange
from asynccopy.storage.http import HttpDoor, Response, media_type
from asynccopy.storage.interface import Reader
from asynccopy.storage.pool import Origin
from asynccopy.storage.webhdfs.allowance import Allowance
from asynccopy.storage.webhdfs.auth import Auth, TokenEnded
from asynccopy.storage.webhdfs.datanodes import DataNodes, queries
from asynccopy.storage.webhdfs.messages import (
    LocatedBlock,
    Redirect,
    encoded,
    failure,
    located_blocks,
    redirect,
)
from asynccopy.storage.webhdfs.nameservice import PREFIX, Nameservice, Server
from asynccopy.storage.webhdfs.politeness import overloaded

LISTING: Final = 1 << 30
"""The largest LISTSTATUS answer taken from a server without LISTSTATUS_BATCH: 3 million entries."""

DIRECT: Final = 1 << 20
"""Ranges up to so many bytes are opened at any DataNode, without asking the NameNode for the nearest."""
BYTES: Final = "application/octet-stream"
"""The content type of a file's bytes; everything else is a message."""

E = TypeVar("E", bound=BaseException)
T = TypeVar("T")


class WebHdfsClient:
    """Requests to a nameservice and the DataNodes it names, or to a gateway that stands for all of them.

    ``asked`` texts in errors name the host, the operation and the path, never the query. ``latency`` is told the
    seconds from each request to the NameNode to its answer, the time before it may be sent not counted.
    """

    latency: Callable[[float], None] | None = None

    def __init__(self, nameservice: Nameservice, auth: Auth, *, connections: int, stall: float = 30.0) -> None:
        self.nameservice = nameservice
        self._auth = auth
        self._names = HttpDoor(connections=connections, stall=stall)
        self._data = HttpDoor(connections=connections, stall=stall)
        self._datanodes = DataNodes()
        self._gateway = False  # until the server sends the bytes where a NameNode sends a redirect
        self.share(Allowance(connections))
        self._names.observe = self._answered

    @property
    def namenode(self) -> Origin:
        """The one that is asked now."""
        return self.nameservice.active.origin

    def share(self, allowance: Allowance) -> None:
        """Take the places for requests to the NameNode from there, as others may. Not after the first request."""
        self.allowance = allowance
        self._names.pool.places = allowance.places

    async def get(
        self, op: str, path: str, query: str = "", *, method: str = "GET", limit: int | None = None
    ) -> Response:
        """An operation that the NameNode answers itself; a success, else the error it means is raised."""
        response = await self._ask(op, path, query, method=method, limit=limit)
        if response.status != 200:
            raise self._failure(response, self._asked(op, path))
        return response

    async def read(self, path: str, range: ByteRange) -> Reader:
        """OPEN a range. A DataNode that fails on the way is avoided for a while."""
        query = f"&offset={range.offset}&length={range.length}"
        who = await self._who()
        target = self._datanodes.next() if range.length <= DIRECT else None
        if target is None:
            target = await self._datanode("OPEN", path, query, range.offset)
            self._datanodes.named(target)
        asked = self._asked("OPEN", path)
        # Our path (see ``messages.redirect``) and, whatever the redirect said, our range.
        url = f"{PREFIX}{encoded(path)}?{queries(target.query)[0]}{query}"
        try:
            answer = await self._data.download(target.origin, "GET", url, (), range.length)
        except Unreachable as error:
            raise self.suspect(target.origin, ConnectionLost(f"{asked}: DataNode {error}")) from error
        except Transient as error:
            raise self.suspect(target.origin, error) from None
        if not isinstance(answer, Response):
            self._datanodes.opened(path, target)
            return _DataNodeReader(self, target.origin, answer)
        if answer.status != 200:
            meaning = self._datanode_failure(who, answer, asked)
            raise self.suspect(target.origin, meaning) if isinstance(meaning, ServerTrouble) else meaning
        length = answer.headers.get("content-length", "")
        if length.isdigit() and int(length) < range.length:
            raise SourceChanged(f"{asked}: the file is shorter than it was when it was listed")
        raise ServerTrouble(
            f"{asked}: the DataNode offers {length or 'an unknown number of'} bytes, not {range.length}"
        )

    async def create(self, path: str, query: str, size: int, body: bytes | memoryview | Reader) -> None:
        """CREATE a file of ``size`` bytes. What ``body`` raises comes out unchanged.

        **A DataNode keeps what came of a body that was cut off, as a whole file**: nothing may be taken for written
        before its length was looked up.
        """
        asked = self._asked("CREATE", path)
        who = await self._who()
        response = await self._ask("CREATE", path, f"{query}&noredirect=true", method="PUT")
        if response.status not in (200, 307):
            raise self._failure(response, asked)
        target = redirect(response, self.namenode, asked)
        url = f"{PREFIX}{encoded(path)}?{target.query}"  # our path: the redirect's is NFC-normalised
        headers = (("Content-Type", BYTES),)
        try:
            if isinstance(body, bytes | memoryview):
                response = await self._data.request(target.origin, "PUT", url, headers, body)
            else:
                response = await self._data.upload(target.origin, "PUT", url, headers, size, body)
        except Unreachable as error:
            raise self.suspect(target.origin, ConnectionLost(f"{asked}: DataNode {error}")) from error
        if response.status not in (200, 201):
            raise self._datanode_failure(who, response, asked)

    async def checksum(self, path: str) -> Response:
        """GETFILECHECKSUM. Asked of the DataNode that has just read the file, which spares the NameNode a request: one
        that fails is not believed, and the NameNode names another.
        """
        who = await self._who()
        opened = self._datanodes.reader_of(path)
        if opened is not None:
            try:
                return await self._checksum_at(path, opened, who)
            except Transient:
                pass  # it is suspected now, if it was its fault
        return await self._checksum_at(path, await self._datanode("GETFILECHECKSUM", path, "", 0), who)

    async def _checksum_at(self, path: str, target: Redirect, who: str) -> Response:
        asked = self._asked("GETFILECHECKSUM", path)
        try:
            response = await self._data.request(target.origin, "GET", f"{PREFIX}{encoded(path)}?{target.query}")
        except Unreachable as error:
            raise self.suspect(target.origin, ConnectionLost(f"{asked}: DataNode {error}")) from error
        if response.status != 200:
            raise self._datanode_failure(who, response, asked)
        return response

    async def blocks(self, path: str, range: ByteRange) -> list[LocatedBlock]:
        """The blocks of a range with their DataNodes; GET_BLOCK_LOCATIONS is private but everywhere, and names both
        ports.
        """
        query = f"&offset={range.offset}&length={range.length}"
        response = await self.get("GET_BLOCK_LOCATIONS", path, query)
        return list(located_blocks(response, self._asked("GET_BLOCK_LOCATIONS", path)))

    async def aclose(self) -> None:
        await self._auth.aclose()
        await self._names.aclose()
        await self._data.aclose()

    # --- NameNode ------------------------------------------------------------------------------------------------

    async def _ask(self, op: str, path: str, query: str, *, method: str = "GET", limit: int | None = None) -> Response:
        async def send(server: Server, who: str) -> Response:
            target = f"{server.prefix}{encoded(path)}?op={op}{who}{query}"
            headers = await self._auth.headers(server.origin)
            return await self._names.request(server.origin, method, target, headers, limit=limit)

        return await self._as_us(send)

    async def _who(self) -> str:
        who = await self._auth.query()
        self._datanodes.asked_as(who)
        return who

    async def _as_us(self, send: Callable[[Server, str], Awaitable[T]]) -> T:
        """What the nameservice answers to who we are: to who we are by now, where it no longer takes the first."""
        who = await self._who()
        try:
            answer = await self.nameservice.ask(lambda server: send(server, who))
            if isinstance(answer, Response) and answer.status in (401, 403) and self._auth.refused(who, answer):
                who = await self._who()
                answer = await self.nameservice.ask(lambda server: send(server, who))
        except Stalled:
            self.allowance.refused()
            raise
        return answer

    def _datanode_failure(self, who: str, response: Response, asked: str) -> AsyncCopyError:
        """What a DataNode's answer means, to a request that carried the token of ``who``."""
        if response.status in (401, 403) and self._auth.refused(who, response):
            return TokenEnded(f"{asked}: the delegation token has ended")
        return failure(response, asked)

    def _answered(self, seconds: float) -> None:
        self.allowance.answered(seconds)
        if self.latency is not None:
            self.latency(seconds)

    def _failure(self, response: Response, asked: str) -> AsyncCopyError:
        """What the NameNode's answer means; where it says so, less is asked of it from now on."""
        if overloaded(response.status, response.body):
            self.allowance.refused()
        return failure(response, asked)

    async def _datanode(self, op: str, path: str, query: str, offset: int) -> Redirect:
        """Ask the NameNode for a DataNode, and once more for another one when it names one that has just failed."""
        asked = self._asked(op, path)
        found = await self._redirect(op, path, query, asked)
        if found.origin == self.namenode or not self._datanodes.suspected(found.origin):
            return found  # a gateway knows no other one than itself
        avoid = ",".join(
            f"{node.ip_addr}:{node.xfer_port}"  # the only form that is understood; the redirect's host:port is ignored
            for block in await self.blocks(path, ByteRange(offset, 1))
            for node in block.locations
            if any(
                self._datanodes.suspected(Origin(found.origin.scheme, host, node.info_port))
                for host in (node.host_name, node.ip_addr)
            )
        )
        if not avoid:
            return found
        try:
            return await self._redirect(op, path, f"{query}&excludedatanodes={avoid}", asked)
        except ServerTrouble:
            return found  # nobody else has the block: "No active and not excluded nodes contain this block"

    async def _redirect(self, op: str, path: str, query: str, asked: str) -> Redirect:
        if self._gateway:
            return Redirect(self.namenode, f"op={op}{await self._who()}")

        async def send(server: Server, who: str) -> Reader | Response:
            # noredirect (3.x) spares the 307; an older server redirects all the same.
            target = f"{server.prefix}{encoded(path)}?op={op}{who}{query}&noredirect=true"
            headers = await self._auth.headers(server.origin)
            return await self._names.download(server.origin, "GET", target, headers, 0, kind=BYTES)

        answer = await self._as_us(send)
        if isinstance(answer, Response) and not _served(answer):
            if answer.status not in (200, 307):
                raise self._failure(answer, asked)
            return redirect(answer, self.namenode, asked)
        if not isinstance(answer, Response):
            answer.close()
        self._gateway = True
        return Redirect(self.namenode, f"op={op}{await self._who()}")

    def _asked(self, op: str, path: str) -> str:
        return f"{self.namenode.netloc} {op} {path}"

    def suspect(self, datanode: Origin, error: E) -> E:
        """Avoid a DataNode for a while, because of this error, which is given back."""
        self._datanodes.suspect(datanode)
        return error


def _served(answer: Response) -> bool:
    """Whether it is already what was asked for: the bytes (of another length than the range's), or the checksum."""
    return answer.status == 200 and (media_type(answer.headers) == BYTES or b'"FileChecksum"' in answer.body)


class _DataNodeReader:
    """A range coming from a DataNode; a failure puts it under suspicion."""

    __slots__ = ("_client", "_datanode", "_reader")

    def __init__(self, client: WebHdfsClient, datanode: Origin, reader: Reader) -> None:
        self._client = client
        self._datanode = datanode
        self._reader = reader

    async def readinto(self, buffer: memoryview) -> int:
        try:
            return await self._reader.readinto(buffer)
        except Transient as error:
            raise self._client.suspect(self._datanode, error) from None

    def close(self) -> None:
        self._reader.close()
