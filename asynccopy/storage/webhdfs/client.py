"""One WebHDFS request: to the NameNode, or by its redirect to a DataNode."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from asynccopy.errors import (
    AsyncCopyError,
    ConnectionLost,
    FileError,
    NoActiveNameNode,
    ServerTrouble,
    SourceChanged,
    Stalled,
    Transient,
    Unreachable,
    WrongServer,
)
from asynccopy.model import ByteRange
from asynccopy.storage.http import Headers, HttpDoor, Response, media_type
from asynccopy.storage.interface import Reader
from asynccopy.storage.pace import Pace
from asynccopy.storage.pool import Origin
from asynccopy.storage.webhdfs.allowance import Allowance
from asynccopy.storage.webhdfs.auth import Auth, TokenEnded
from asynccopy.storage.webhdfs.datanodes import DataNodes, queries
from asynccopy.storage.webhdfs.messages import (
    PREFIX,
    LocatedBlock,
    UnknownOperation,
    encoded,
    failure,
    located_blocks,
)
from asynccopy.storage.webhdfs.nameservice import Nameservice, Server, active
from asynccopy.storage.webhdfs.politeness import overloaded
from asynccopy.storage.webhdfs.reader import DataNodeReader
from asynccopy.storage.webhdfs.redirects import Permitted, Redirect, live_datanodes, redirect, refused

LISTING: Final = 1 << 30
"""The largest LISTSTATUS answer taken from a server without LISTSTATUS_BATCH: 3 million entries."""

DIRECT: Final = 1 << 20
"""Ranges up to so many bytes are opened at any DataNode, without asking the NameNode for the nearest."""
PER_DATANODE: Final = 64
"""Connections to one DataNode at once. Each costs it a thread to read the block by; a few feed any line."""
LIVE: Final = "/jmx?qry=Hadoop:service=NameNode,name=NameNodeInfo"
"""Where a NameNode tells of its DataNodes."""
BYTES: Final = "application/octet-stream"
"""The content type of a file's bytes; everything else is a message."""

E = TypeVar("E", bound=BaseException)
T = TypeVar("T")


class NoBlocks(SourceChanged):
    """The redirect of a file without blocks leads to a DataNode that nothing is known of."""


class WebHdfsClient:
    """Requests to a nameservice and the DataNodes it names, or to a gateway that stands for all of them.

    ``asked`` texts in errors name the host, the operation and the path, never the query. ``latency`` is told the
    seconds from each request to the NameNode to its answer, the time before it may be sent not counted. ``redirects``:
    as in ``Cluster``.
    """

    latency: Callable[[float], None] | None = None

    def __init__(
        self,
        nameservice: Nameservice,
        auth: Auth,
        *,
        connections: int,
        stall: float = 30.0,
        tls: ssl.SSLContext | None = None,
        redirects: Sequence[str] = (),
    ) -> None:
        self.nameservice = nameservice
        self._auth = auth
        self._names = HttpDoor(connections=connections, stall=stall, tls=tls)
        self._data = HttpDoor(connections=connections, stall=stall, tls=tls)
        self._datanodes = DataNodes()
        self._permitted = Permitted((server.origin for server in nameservice.servers), redirects)
        self._data.pool.admits = self._permitted.connects
        self._data.pool.each = PER_DATANODE
        self._pace = Pace()
        self._learning = asyncio.Lock()
        self.share(Allowance(connections))
        self._names.observe = self._answered

    @property
    def namenode(self) -> Origin:
        """The one that is asked now."""
        return self.nameservice.active.origin

    def share(self, allowance: Allowance, nameservice: Nameservice | None = None) -> None:
        """Take the places for requests to the NameNode from there, as others may, and what is known of the nameservice.
        Not after the first request.
        """
        self.nameservice = nameservice or self.nameservice
        self.allowance = allowance
        self._names.pool.places = allowance.places

    async def get(
        self, op: str, path: str, query: str = "", *, method: str = "GET", limit: int | None = None
    ) -> Response:
        """An operation that the NameNode answers itself; a success, else the error it means is raised.

        What the nameservice does not know is asked for once: from then on it is UnknownOperation at once.
        """
        if op in self.nameservice.unknown:
            raise UnknownOperation(f"{self._asked(op, path)}: not known there")
        _, response = await self._ask(op, path, query, method=method, limit=limit)
        if response.status != 200:
            error = self._failure(response, self._asked(op, path))
            if isinstance(error, UnknownOperation):
                self.nameservice.unknown.add(op)
            raise error
        return response

    async def read(self, path: str, range: ByteRange) -> Reader:
        """OPEN a range. A DataNode that fails on the way is avoided for a while."""
        query = f"&offset={range.offset}&length={range.length}"
        who = await self._who()
        # Nor can a DataNode serve a file while it finds no NameNode: then it is the NameNode that is waited for.
        direct = range.length <= DIRECT and not self.nameservice.trouble
        target = self._datanodes.next() if direct else None
        if target is None:
            target = await self._datanode("OPEN", path, query, range.offset)
            self._datanodes.named(target)
        asked = self._asked("OPEN", path)
        # Our path (see ``messages.redirect``) and, whatever the redirect said, our range.
        rest, plain = queries(target.query)
        url = f"{target.prefix}{encoded(path)}?{target.query if plain is None else rest + query}"
        headers = await self._credentials(target.origin)
        try:
            answer = await self._data.download(target.origin, "GET", url, headers, range.length, pace=self._pace)
        except Unreachable as error:
            raise self._unreachable(target.origin, asked, error) from error
        except Transient as error:
            raise self.suspect(target.origin, error) from None
        if not isinstance(answer, Response):
            self._datanodes.opened(path, target)
            return DataNodeReader(self.suspect, target.origin, answer, range.length, self._pace)
        if answer.status != 200:
            raise self._refusal(target, who, answer, asked)
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
        server, response = await self._ask("CREATE", path, query, method="PUT")
        if response.status not in (200, 307):
            raise self._failure(response, asked)
        target = await self._proven(redirect(response, server.origin, asked), asked)
        url = f"{target.prefix}{encoded(path)}?{target.query}"  # our path: the redirect's is NFC-normalised
        headers = (("Content-Type", BYTES), *await self._credentials(target.origin))
        try:
            if isinstance(body, bytes | memoryview):
                response = await self._data.request(target.origin, "PUT", url, headers, body)
            else:
                response = await self._data.upload(target.origin, "PUT", url, headers, size, body)
        except Unreachable as error:
            raise self._unreachable(target.origin, asked, error) from error
        if response.status not in (200, 201):
            raise self._refusal(target, who, response, asked)

    async def checksum(self, path: str) -> Response | None:
        """GETFILECHECKSUM; None of an empty file for which only a stranger would answer.

        Asked of the DataNode that has just read the file, which spares the NameNode a request: one that fails is not
        believed, and the NameNode names another.
        """
        who = await self._who()
        opened = self._datanodes.reader_of(path)
        if opened is not None:
            try:
                return await self._checksum_at(path, opened, who)
            except Transient:
                pass  # it is suspected now, if it was its fault
        try:
            target = await self._datanode("GETFILECHECKSUM", path, "", 0)
        except NoBlocks:
            return None
        return await self._checksum_at(path, target, who)

    async def _checksum_at(self, path: str, target: Redirect, who: str) -> Response:
        asked = self._asked("GETFILECHECKSUM", path)
        headers = await self._credentials(target.origin)
        url = f"{target.prefix}{encoded(path)}?{target.query}"
        try:
            response = await self._data.request(target.origin, "GET", url, headers)
        except Unreachable as error:
            raise self._unreachable(target.origin, asked, error) from error
        if response.status != 200:
            raise self._refusal(target, who, response, asked)
        return response

    async def blocks(self, path: str, range: ByteRange) -> list[LocatedBlock]:
        """The blocks of a range with their DataNodes; GET_BLOCK_LOCATIONS is private but everywhere, and names both
        ports.
        """
        query = f"&offset={range.offset}&length={range.length}"
        response = await self.get("GET_BLOCK_LOCATIONS", path, query)
        blocks = list(located_blocks(response, self._asked("GET_BLOCK_LOCATIONS", path)))
        for block in blocks:
            self._permitted.report(block.locations)
        return blocks

    async def aclose(self) -> None:
        await self._auth.aclose()
        await self._names.aclose()
        await self._data.aclose()

    # --- NameNode ------------------------------------------------------------------------------------------------

    async def _ask(
        self, op: str, path: str, query: str, *, method: str = "GET", limit: int | None = None
    ) -> tuple[Server, Response]:
        async def send(server: Server, who: str, patience: float | None) -> tuple[Server, Response]:
            target = f"{server.prefix}{encoded(path)}?op={op}{who}{query}"
            target += _noredirect(server) if op == "CREATE" else ""  # which asks only where to
            headers = await self._auth.headers(server.origin)
            response = await self._names.request(server.origin, method, target, headers, patience=patience, limit=limit)
            return server, active(server, response)

        return await self._as_us(send, once=method != "GET" and op != "CREATE", patient=limit is not None)

    async def _who(self, server: Server | None = None) -> str:
        """Who we are to the nameservice; or to this server, where each sends the bytes itself: HttpFS knows no tokens
        but its own.
        """
        if self.nameservice.streams:
            return "" if server is None else await self._auth.query(server.origin)
        who = await self._auth.query()
        self._datanodes.asked_as(who)
        return who

    async def _as_us(
        self,
        send: Callable[[Server, str, float | None], Awaitable[tuple[Server, T]]],
        *,
        once: bool = False,
        patient: bool = False,
    ) -> tuple[Server, T]:
        """What the nameservice answers to who we are: to who we are by now, where it no longer takes the first."""
        who = await self._who()

        async def as_known(server: Server, patience: float | None) -> tuple[Server, T]:
            nonlocal who
            if self.nameservice.streams:
                who = await self._who(server)
            return await send(server, who, patience)

        ask = partial(self.nameservice.ask, as_known, once=once, patient=patient)
        tries = len(self.nameservice.servers) if self.nameservice.streams else 1
        try:
            server, answer = await ask()
            while tries and isinstance(answer, Response) and answer.status in (401, 403):
                if not self._auth.refused(who, answer):
                    break
                who, tries = await self._who(), tries - 1
                server, answer = await ask()
        except Stalled:
            self.allowance.refused()
            raise
        return server, answer

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
        found = await self._redirect(op, path, query, offset, asked)
        if found.origin in self.nameservice.origins or not self._datanodes.suspected(found.origin):
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
            return await self._redirect(op, path, f"{query}&excludedatanodes={avoid}", offset, asked)
        except ServerTrouble:
            return found  # nobody else has the block: "No active and not excluded nodes contain this block"

    async def _redirect(self, op: str, path: str, query: str, offset: int, asked: str) -> Redirect:
        if self.nameservice.streams:
            return await self._itself(self.nameservice.turn(), op)

        async def send(server: Server, who: str, patience: float | None) -> tuple[Server, Reader | Response]:
            target = f"{server.prefix}{encoded(path)}?op={op}{who}{query}{_noredirect(server)}"
            headers = await self._auth.headers(server.origin)
            answer = await self._names.download(server.origin, "GET", target, headers, 0, kind=BYTES, patience=patience)
            return server, active(server, answer) if isinstance(answer, Response) else answer

        server, answer = await self._as_us(send)
        if isinstance(answer, Response) and not _served(answer):
            if answer.status not in (200, 307):
                raise self._failure(answer, asked)
            found = redirect(answer, server.origin, asked)
            if found.origin != server.origin:
                return await self._proven(found, asked, (path, offset))
            self.nameservice.gateways = True  # it names itself: HttpFS, or Knox, by a query that only it can read
            if queries(found.query)[1] is None:
                return found
        elif not isinstance(answer, Response):
            answer.close()
        self.nameservice.gateways = self.nameservice.streams = True
        return await self._itself(server, op)

    async def _itself(self, gateway: Server, op: str) -> Redirect:
        try:
            who = await self._who(gateway)
        except Unreachable as error:
            raise self.suspect(gateway.origin, error) from None
        return Redirect(gateway.origin, f"op={op}{who}", gateway.prefix, who)

    async def _credentials(self, origin: Origin) -> Headers:
        """What goes with a request for bytes: nothing to a DataNode, all to a gateway."""
        return await self._auth.headers(origin) if origin in self.nameservice.origins else ()

    async def _proven(self, found: Redirect, asked: str, block: tuple[str, int] | None = None) -> Redirect:
        """The redirect, once it is known to lead to a DataNode. Of a host that is met for the first time the NameNode
        is asked what it reports: of the ``block`` (path, offset) that was asked for, or, where there is none, of the
        whole cluster. Raises WrongServer, NoBlocks.
        """
        if self._permitted.leads(found.origin):
            return found
        blocks: list[LocatedBlock] | None = None
        async with self._learning:
            if block is not None and not self._permitted.leads(found.origin):
                with suppress(FileError):  # a server that does not know GET_BLOCK_LOCATIONS, or a file gone meanwhile
                    blocks = await self.blocks(block[0], ByteRange(block[1], 1))
            if not self._permitted.leads(found.origin):
                await self._survey()
        if self._permitted.leads(found.origin):
            return found
        if blocks == []:  # empty files are common: where /jmx is locked, they are no reason to end a run
            raise NoBlocks(f"{asked}: the file has no block there, and its redirect leads to a stranger")
        raise refused(asked, found.origin)

    async def _survey(self) -> None:
        """Learn all DataNodes at once. Not WebHDFS, and behind no gateway; where it is not allowed, nothing is learnt.

        It alone tells where a new file may be written, which has no blocks yet.
        """

        async def send(server: Server, patience: float | None) -> Response:
            headers = await self._auth.headers(server.origin)
            if ticket := await self._auth.ticket(server.origin):
                headers = (*headers, ("Authorization", ticket))
            return await self._names.request(server.origin, "GET", LIVE, headers, patience=patience)

        response = await self.nameservice.ask(send)
        if response.status >= 500:
            raise ServerTrouble(f"{self.namenode.netloc} /jmx: HTTP {response.status}")
        if response.status == 200:
            self._permitted.report(live_datanodes(response))

    def _asked(self, op: str, path: str) -> str:
        return f"{self.namenode.netloc} {op} {path}"

    def _refusal(self, target: Redirect, who: str, answer: Response, asked: str) -> AsyncCopyError:
        """What the answer of a DataNode means that is no success, to a request with the token of ``who``. One that
        redirects once more, or answers as no DataNode does, is in trouble itself; the others are not.
        """
        meaning: AsyncCopyError
        datanode = target.origin
        if 300 <= answer.status < 400:
            meaning = ServerTrouble(f"{asked}: redirected once more by {datanode.netloc}, refused")
        elif answer.status in (401, 403) and self._auth.refused(target.who or who, answer):
            meaning = TokenEnded(f"{asked}: the delegation token has ended")
        else:
            meaning = failure(answer, asked)
            if isinstance(meaning, WrongServer) and datanode not in self.nameservice.origins:
                meaning = ServerTrouble(f"{asked}: no DataNode answers at {datanode.netloc}: HTTP {answer.status}")
        return self.suspect(datanode, meaning) if isinstance(meaning, ServerTrouble) else meaning

    def _unreachable(self, datanode: Origin, asked: str, error: Unreachable) -> AsyncCopyError:
        # A DataNode is one of many; a gateway is the side itself, by whose absence no file fails.
        if datanode in self.nameservice.origins:
            return self.suspect(datanode, error)
        hint = "see whether that DataNode is up (hdfs dfsadmin -report); where it has the only replica, start it"
        return self.suspect(datanode, ConnectionLost(f"{asked}: DataNode {error}", hint=hint))

    def suspect(self, datanode: Origin, error: E) -> E | NoActiveNameNode:
        """Avoid a DataNode or a gateway for a while, because of this error, which is given back. Where a DataNode says
        nothing while a NameNode hangs, the file is not to blame: it waits two minutes for it, as every DataNode does.
        """
        self._datanodes.suspect(datanode)
        self.nameservice.failed(datanode)
        if isinstance(error, Stalled) and (hung := self.nameservice.hung) and datanode not in self.nameservice.origins:
            return NoActiveNameNode(f"{error.message}: it may wait for a NameNode that hangs: {hung}")
        return error


def _noredirect(server: Server) -> str:
    """Spares the 307 (3.x; an older server redirects all the same). Knox makes a way through itself of a 307 only."""
    return "&noredirect=true" if server.prefix == PREFIX else ""


def _served(answer: Response) -> bool:
    """Whether it is already what was asked for: the bytes (of another length than the range's), or the checksum."""
    return answer.status == 200 and (media_type(answer.headers) == BYTES or b'"FileChecksum"' in answer.body)
