"""A NameNode and its DataNodes as they look through WebHDFS, oddities included (seen on Hadoop 3.5.0).

Worth knowing: only ``startafter`` in lower case pages a listing; the DataNode closes every connection; a redirect
carries the path NFC-normalised, so an NFD name leads to another file's bytes; the checksum's hex is longer than
its ``length``.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from functools import partial
from json import dumps
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from aiohttp import web

from asynccopy.simulators.checksums import block_digest, file_checksum
from asynccopy.simulators.faults import Call, Fault, WrongRange, pick
from asynccopy.simulators.namespace import Inode, Namespace, TreeNamespace
from asynccopy.simulators.server import PIECE, HttpServer, Reply, answer
from asynccopy.simulators.webhdfs_messages import (
    JSON,
    ROOT,
    FileStatus,
    Query,
    RemoteException,
    file_status,
    illegal,
    io_error,
    json,
    location_path,
    missing,
    parse,
    traced,
    within,
)
from asynccopy.simulators.webhdfs_snapshots import METHODS, snapshot_operations, snapshots_of
from asynccopy.simulators.webhdfs_writing import METHODS as WRITING
from asynccopy.simulators.webhdfs_writing import create, write_operations

_XFER_PORT = 9866
_INVERTED = bytes(range(255, -1, -1))
_METHODS = METHODS | WRITING


class _DataNode:
    """One DataNode: where it is, under the two addresses it has."""

    def __init__(self, number: int, server: HttpServer) -> None:
        self.server = server
        self.xfer_port = _XFER_PORT + number

    @property
    def xfer_address(self) -> str:
        return f"127.0.0.1:{self.xfer_port}"

    def info(self) -> dict[str, Any]:
        return {
            "ipAddr": "127.0.0.1",
            "hostName": "127.0.0.1",
            "name": self.xfer_address,
            "xferPort": self.xfer_port,
            "infoPort": self.server.port,
            "infoSecurePort": 0,
            "ipcPort": 0,
            "storageID": f"DS-{self.xfer_port}",
            "networkLocation": "/default-rack",
            "adminState": "NORMAL",
        }


class WebHdfsSimulator:
    """``async with WebHdfsSimulator(namespace) as hdfs: hdfs.url`` is ``http://127.0.0.1:PORT``, the NameNode's door.

    ``faults`` may be changed at any time; ``counts`` counts requests by op, the DataNodes' as ``OPEN@DataNode``.
    """

    def __init__(
        self,
        namespace: Namespace,
        datanodes: int = 1,
        *,
        page_size: int = 1000,
        batch_listing: bool = True,
        lacks: Collection[str] = (),
        latency: float = 0.0,
        replication: int = 1,
    ) -> None:
        """``page_size`` is ``dfs.ls.limit``, and ``dfs.namenode.snapshotdiff.listing.limit`` too.

        ``batch_listing=False`` plays a server that lacks LISTSTATUS_BATCH; ``lacks`` names more operations that it does
        not know. ``latency``: seconds that every request waits first.
        """
        self.namespace = namespace
        self.page_size = page_size
        self.lives = True  # whether /jmx tells of the DataNodes, as it does unless it is locked
        self.faults: list[Fault] = []
        self.counts: Counter[str] = Counter()
        self._replication = min(replication, datanodes)
        self._namenode = HttpServer(self._serve_namenode, latency=latency)
        self._datanodes = [_DataNode(n, HttpServer(self._serve_datanode, latency=latency)) for n in range(datanodes)]
        self._stack = AsyncExitStack()
        self._ops: dict[str, Callable[[str, Query], Reply]] = {
            "GETFILESTATUS": self._get_file_status,
            "LISTSTATUS": self._list_status,
            "LISTSTATUS_BATCH": self._list_status_batch,
            "OPEN": self._redirect,
            "GETFILECHECKSUM": self._redirect,
            "GETFILEBLOCKLOCATIONS": self._get_file_block_locations,
            "GET_BLOCK_LOCATIONS": self._get_block_locations,
        }
        if isinstance(namespace, TreeNamespace):
            self._ops |= snapshot_operations(namespace, page_size)
            self._ops |= {"CREATE": self._redirect_writer, **write_operations(namespace)}
        for op in (*lacks, *(() if batch_listing else ("LISTSTATUS_BATCH",))):
            del self._ops[op]

    @property
    def url(self) -> str:
        """The NameNode's HTTP address."""
        return f"http://{self._namenode.address}"

    @property
    def datanode_addresses(self) -> list[str]:
        """``host:infoPort`` of every DataNode, as redirects name them."""
        return [node.server.address for node in self._datanodes]

    async def stop_datanode(self, address: str) -> None:
        """End the DataNode at ``host:infoPort``; the NameNode goes on naming it, as before heartbeats are missed."""
        (node,) = (node for node in self._datanodes if node.server.address == address)
        await node.server.stop()

    async def __aenter__(self) -> Self:
        for server in (self._namenode, *(node.server for node in self._datanodes)):
            await self._stack.enter_async_context(server)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # --- the NameNode

    async def _serve_namenode(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.startswith("/jmx?") and self.lives:
            self.counts["jmx"] += 1
            return await answer(request, Call("jmx", request.method, "/jmx"), self._live_nodes)
        try:
            path, query = parse(request)
            op = query.op()
            work = self._ops.get(op) if request.method == _METHODS.get(op, "GET") else None
            self.counts[op if work else "unknown"] += 1
            call = Call(op, request.method, path)
            call.action = pick(self.faults, call) if self.faults else None

            async def reply() -> Reply:
                if work is None:
                    raise illegal(f'Invalid value for webhdfs parameter "op": No enum constant {op}')
                return work(path, query)

            return await answer(request, call, reply)
        except RemoteException as error:
            return web.Response(status=error.status, body=error.body, headers=JSON)

    async def _live_nodes(self) -> Reply:
        """NameNodeInfo: the DataNodes as JSON in a string."""
        nodes = {node.xfer_address: {"infoAddr": node.server.address} for node in self._datanodes}
        return json({"beans": [{"LiveNodes": dumps(nodes)}]})

    def _status(self, path: str, message: str) -> Inode:
        inode = self.namespace.status(path)
        if inode is None:
            raise missing(message.format(path))
        return inode

    def _get_file_status(self, path: str, query: Query) -> Reply:
        inode = self._status(path, "File does not exist: {}")
        return json({"FileStatus": file_status(inode, "")})

    def _list_status(self, path: str, query: Query) -> Reply:
        entries, _ = self._entries(path, "", 1 << 62)
        return json({"FileStatuses": {"FileStatus": entries}})

    def _list_status_batch(self, path: str, query: Query) -> Reply:
        entries, remaining = self._entries(path, query.get("startafter", ""), self.page_size)
        listing = {"partialListing": {"FileStatuses": {"FileStatus": entries}}, "remainingEntries": remaining}
        return json({"DirectoryListing": listing})

    def _entries(self, path: str, after: str, limit: int) -> tuple[list[FileStatus], int]:
        if isinstance(self.namespace, TreeNamespace) and path.endswith("/.snapshot"):
            return [file_status(inode, name) for name, inode in snapshots_of(self.namespace, path[:-10] or "/")], 0
        inode = self._status(path, "File {} does not exist.")
        if not inode.is_directory:
            return [file_status(inode, "")], 0
        children, remaining = self.namespace.children(path, after, limit)
        return [file_status(child, child.name) for child in children], remaining

    def _redirect(self, path: str, query: Query) -> Reply:
        """Send the reader of OPEN or GETFILECHECKSUM to a DataNode that holds the range's first block."""
        inode = self._status(path, "File {} not found.")
        offset = query.number("offset", 0)
        op = query.op()
        if op == "OPEN" and inode.length and offset >= inode.length:
            raise io_error(f"Offset={offset} out of the range [0, {inode.length}); OPEN, path={path}")
        excluded = set(query.get("excludedatanodes", "").split(","))
        holders = [node for node in self._holders(inode, offset) if node.xfer_address not in excluded]
        if not holders:
            raise io_error("No active and not excluded nodes contain this block")
        return self._location(path, query, holders[0], ("user.name", "delegation", "length", "offset"))

    def _redirect_writer(self, path: str, query: Query) -> Reply:
        """Send the writer of CREATE to a DataNode, which one in turn. Nothing is looked at: the DataNode will."""
        node = self._datanodes[self.counts["CREATE"] % len(self._datanodes)]
        names = ("user.name", "delegation", "overwrite", "createparent", "blocksize", "replication", "permission")
        return self._location(path, query, node, names)

    def _location(self, path: str, query: Query, node: _DataNode, names: Collection[str]) -> Reply:
        plain = query.get("noredirect", "").lower() == "true"
        carried = {name: query[name] for name in names if name in query}
        carried = {"op": query.op(), **carried, "namenoderpcaddress": self._namenode.address}
        # java.net.URI normalises to NFC when it writes a URL in ASCII. Whether the JSON form
        # is spared is not known: the harsher reading.
        composed = unicodedata.normalize("NFC", path)
        escaped = location_path(composed, ascii_only=not plain)
        location = f"http://{node.server.address}{ROOT}{escaped}?{urlencode(carried)}"
        if plain:
            return json({"Location": location})
        return Reply(307, headers={"Location": location})

    def _holders(self, inode: Inode, offset: int) -> list[_DataNode]:
        """The DataNodes with a replica of the block at an offset; all of them for a file without blocks."""
        block = inode.block_at(offset)
        if block is None:
            return self._datanodes
        first = inode.file_id + block
        return [self._datanodes[(first + n) % len(self._datanodes)] for n in range(self._replication)]

    def _get_file_block_locations(self, path: str, query: Query) -> Reply:
        inode = self._file(path)
        locations = []
        for at, length in within(inode, query):
            nodes = self._holders(inode, at)
            locations.append(
                {
                    "hosts": ["127.0.0.1" for _ in nodes],
                    "names": [node.xfer_address for node in nodes],
                    "cachedHosts": [],
                    "topologyPaths": [f"/default-rack/{node.xfer_address}" for node in nodes],
                    "storageTypes": ["DISK" for _ in nodes],
                    "offset": at,
                    "length": length,
                    "corrupt": False,
                }
            )
        return json({"BlockLocations": {"BlockLocation": locations}})

    def _get_block_locations(self, path: str, query: Query) -> Reply:
        inode = self._file(path)
        located = [self._located(inode, number, at, length) for number, (at, length) in enumerate(inode.blocks())]
        wanted = set(within(inode, query))
        # In a snapshot no file shows as being written, though it may grow there.
        written = inode.under_construction and "/.snapshot/" not in path
        answer = {
            "fileLength": inode.length,
            "isUnderConstruction": written,
            "locatedBlocks": [b for b, span in zip(located, inode.blocks(), strict=True) if span in wanted],
            "lastLocatedBlock": located[-1] if located else None,
            "isLastBlockComplete": not written,
        }
        return json({"LocatedBlocks": answer})

    def _file(self, path: str) -> Inode:
        inode = self._status(path, "File does not exist: {}")
        if inode.is_directory:
            raise missing(f"Path is not a file: {path}")
        return inode

    def _located(self, inode: Inode, number: int, at: int, length: int) -> dict[str, Any]:
        nodes = self._holders(inode, at)
        return {
            "startOffset": at,
            "isCorrupt": False,
            "block": {
                "blockPoolId": "BP-1-127.0.0.1-1",
                "blockId": inode.file_id * 1000 + number,
                "numBytes": length,
                "generationStamp": 1001,
            },
            "locations": [node.info() for node in nodes],
            "storageTypes": ["DISK" for _ in nodes],
            "cachedLocations": [],
        }

    # --- the DataNodes

    async def _serve_datanode(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            path, query = parse(request)
            op = query.op()
            works: dict[str, Callable[[str, Query, Call], Awaitable[Reply]]] = {
                "OPEN": self._open,
                "GETFILECHECKSUM": self._get_file_checksum,
            }
            work = works.get(op) if request.method == "GET" else None
            tree = self.namespace
            if op == "CREATE" and request.method == "PUT" and isinstance(tree, TreeNamespace):
                work = partial(create, tree, request)
            if work is None:
                raise illegal(f"Invalid operation {op}")
            self.counts[f"{op}@DataNode"] += 1
            call = Call(f"{op}@DataNode", request.method, path)
            call.action = pick(self.faults, call) if self.faults else None
            return await answer(request, call, lambda: work(path, query, call))
        except RemoteException as error:
            response = web.Response(status=error.status, body=error.body, headers=JSON)
            response.force_close()
            return response

    def _readable(self, path: str) -> Inode:
        inode = self._status(path, traced("File does not exist: {}"))
        if inode.is_directory:
            raise missing(traced(f"Path is not a file: {path}"))
        return inode

    async def _open(self, path: str, query: Query, call: Call) -> Reply:
        visible = self._readable(path).visible_length
        offset = query.number("offset", 0)
        if offset > visible:
            raise RemoteException(403, "java.io.EOFException", traced("Cannot seek after EOF"))
        length = min(query.number("length", visible), visible - offset)
        if isinstance(call.action, WrongRange):
            if call.action.whole:
                offset, length = 0, visible
            else:
                offset = max(0, min(offset + call.action.shift, visible - length))
        headers = {"Content-Type": "application/octet-stream", "Access-Control-Allow-Methods": "GET"}
        if length <= PIECE:
            return Reply(200, self.namespace.read(path, offset, length), headers, close=True)
        return Reply(200, headers=headers, pieces=self._pieces(path, offset, length), length=length, close=True)

    async def _pieces(self, path: str, offset: int, length: int) -> AsyncIterator[bytes]:
        for at in range(offset, offset + length, PIECE):
            yield self.namespace.read(path, at, min(PIECE, offset + length - at))

    async def _get_file_checksum(self, path: str, query: Query, call: Call) -> Reply:
        inode = self._readable(path)
        if inode.under_construction:
            raise io_error(traced(f"Fail to get checksum, since file {path} is under construction."))
        if inode.length <= PIECE:
            algorithm, value = self._checksum(path, inode)
        else:
            algorithm, value = await asyncio.to_thread(self._checksum, path, inode)
        reply = json({"FileChecksum": {"algorithm": algorithm, "bytes": value, "length": 28}})
        reply.close = True
        return reply

    def _checksum(self, path: str, inode: Inode) -> tuple[str, str]:
        blocks = inode.blocks()
        digests = [
            block_digest(
                _stored(inode, self.namespace.read(path, start, min(PIECE, at + length - start)))
                for start in range(at, at + length, PIECE)
            )
            for at, length in blocks
        ]
        return file_checksum(digests, blocks[0][1] if blocks else 0)


def _stored(inode: Inode, data: bytes) -> bytes:
    """What the disks hold for it: of a coded file other bytes, which is all that matters here."""
    return data.translate(_INVERTED) if inode.coding else data
