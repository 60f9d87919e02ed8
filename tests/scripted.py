"""HTTP servers that say what a test scripts, byte for byte."""

from __future__ import annotations

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from asynccopy.storage.pool import Origin

Script = Callable[[StreamReader, StreamWriter], Awaitable[None]]


class Server:
    """Runs a script for every connection. ``requests`` are the heads that came in, ``connections`` how many came."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.origin = Origin("http", "127.0.0.1", 0)

    async def head(self, reader: StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        return head


@asynccontextmanager
async def serving(script: Callable[[Server], Script], **options: object) -> AsyncIterator[Server]:
    server = Server()
    writers: list[StreamWriter] = []

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        server.connections += 1
        writers.append(writer)
        try:
            await script(server)(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
    scheme = "https" if "ssl" in options else "http"
    server.origin = Origin(scheme, "127.0.0.1", listening.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listening.close()
        for writer in writers:
            writer.transport.abort()


def saying(*answers: bytes, close: bool = False) -> Callable[[Server], Script]:
    """One answer per request on a connection, as the bytes say; then the end where ``close``."""

    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            for answer in answers:
                await server.head(reader)
                writer.write(answer)
                await writer.drain()
            if not close:
                await reader.read()

        return run

    return script


def ok(body: bytes = b"", *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def linger(writer: StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
