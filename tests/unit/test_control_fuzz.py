"""Everything a stranger may send to the control port: refused with the right code, nothing changed, still serving."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from msgspec.structs import replace

from asynccopy.control import connection, gate
from asynccopy.control.client import ControlClient
from asynccopy.control.server import ControlServer
from tests.steered import SteeredDaemon, watching

TOKEN = "a-token-that-nobody-guesses"
BODY = b'{"count": 9}'


class Port:
    """A daemon's TCP port, and what its state was before."""

    def __init__(self, daemon: SteeredDaemon, server: ControlServer, path: Path) -> None:
        self.daemon = daemon
        self.host = f"127.0.0.1:{server.port}"
        self.port = server.port
        self.path = path
        self.before = self.state()

    def state(self) -> tuple[Any, ...]:
        daemon = self.daemon
        return dict(daemon.mirrors), list(daemon.told), daemon.draining, list(daemon.confirmed)

    async def send(self, *pieces: bytes, pause: float = 0.0, end: bool = False) -> bytes:
        """All that is answered until the server closes. ``end``: say that no more will come."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        reading = asyncio.create_task(reader.read(), name="read")
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            if end:
                writer.write_eof()
        except ConnectionError:
            pass  # it has heard enough; its answer may have come all the same
        try:
            return await reading
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def request(self, method: str, path: str, body: bytes = b"", **headers: str | None) -> bytes:
        """A request that is good as far as the headers do not make it otherwise; None leaves one out."""
        lines: dict[str, str | None] = {
            "Host": self.host,
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
        return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode("utf-8", "surrogateescape") + body

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str | None) -> int:
        return code(await self.send(self.request(method, path, body, **headers)))

    async def is_well(self) -> None:
        """It serves, on both sockets, and nothing was changed."""
        assert await self.ask("GET", "/v1/status") == 200
        status = await asyncio.to_thread(ControlClient(self.path, timeout=10.0).status)
        assert status == self.daemon.status()
        assert self.state() == self.before


def code(said: bytes) -> int:
    """The status; what is not 200 has to be JSON with an error, under the same strict headers."""
    head, _, body = said.partition(b"\r\n\r\n")
    number = int(head.split()[1])
    assert b"Content-Security-Policy: default-src 'none'" in head
    assert b"nosniff" in head
    assert b"Access-Control" not in head
    assert b"Server: asynccopy\r\n" in head
    if number != 200:
        assert b"application/json" in head
        assert set(json.loads(body)) == {"error", "hint"}
    return number


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    daemon = SteeredDaemon()
    with structlog.testing.capture_logs() as told:
        async with ControlServer(daemon, path=tmp_path / "s", listen="127.0.0.1:0", token=TOKEN) as server:
            port = Port(daemon, server, tmp_path / "s")
            yield port
            await port.is_well()
    assert [line for line in told if line["event"] == "control failed"] == []


CHANGES = [
    *(f"/v1/{verb}" for verb in ("pause", "resume", "retry", "scan", "drain", "reload")),
    *(f"/v1/mirrors/logs/{verb}" for verb in ("pause", "resume", "retry", "scan", "limit", "deletions")),
]


async def test_the_requests_of_this_suite_are_good_but_for_what_each_test_does_to_them(tmp_path: Path) -> None:
    daemon = SteeredDaemon()
    async with ControlServer(daemon, path=tmp_path / "s", listen="127.0.0.1:0", token=TOKEN) as server:
        port = Port(daemon, server, tmp_path / "s")
        for path in CHANGES:
            body = {"limit": b'{"bandwidth": 5}', "deletions": BODY}.get(path.rpartition("/")[2], b"{}")
            assert await port.ask("POST", path, body) == 200
        assert port.state() != port.before


# --- who may ask ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer ä\udcff",
    ],
)
async def test_without_the_token_nothing_is_told_and_nothing_done(port: Port, authorization: str | None) -> None:
    for path in ("/v1/status", "/v1/health", "/v1/events", "/v1/mirrors/logs", "/metrics", f"/v1/status?token={TOKEN}"):
        assert await port.ask("GET", path, Authorization=authorization) == 401
    for path in CHANGES:
        assert await port.ask("POST", path, BODY, Authorization=authorization) == 401
    assert await port.ask("GET", "/v1/mirrors/nobody", Authorization=authorization) == 401
    assert await port.ask("GET", "/", Authorization=authorization) == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("evil.example", 403),
        ("evil.example:{port}", 403),
        ("127.0.0.1", 403),
        ("127.0.0.1:1", 403),
        ("127.0.0.1.evil.example:{port}", 403),
        ("localhost.evil.example:{port}", 403),
        ("127.0.0.1:{port}@evil.example", 403),
        ("127.0.0.1:{port}, evil.example", 403),
        ("0x7f000001:{port}", 403),
        ("", 403),
        (None, 400),
        ("localhost:{port}\r\nHost: 127.0.0.1:{port}", 400),
        ("LOCALHOST:{port}", 200),
        ("[::1]:{port}", 200),
    ],
)
async def test_a_rebound_name_is_not_ours(port: Port, host: str | None, expected: int) -> None:
    given = None if host is None else host.format(port=port.port)
    assert await port.ask("GET", "/v1/status", Host=given) == expected
    assert await port.ask("GET", "/", Host=given) == expected
    if expected != 200:
        assert await port.ask("POST", "/v1/pause", b"{}", Host=given) == expected


async def test_an_absolute_address_does_not_stand_in_for_the_host(port: Port) -> None:
    assert await port.ask("GET", f"http://127.0.0.1:{port.port}/v1/status", Host="evil.example") == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://127.0.0.1",
        "http://localhost:{port}",
        "file://",
        "http://{host}.evil.example",
    ],
)
async def test_another_origin_is_refused(port: Port, origin: str) -> None:
    given = origin.format(port=port.port, host=port.host)
    assert await port.ask("GET", "/v1/status", Origin=given) == 403
    for path in CHANGES:
        assert await port.ask("POST", path, BODY, Origin=given) == 403


async def test_our_own_origin_is_let_in(port: Port) -> None:
    assert await port.ask("GET", "/v1/status", Origin=f"http://{port.host}") == 200
    assert await port.ask("GET", "/v1/status", Origin=f"https://{port.host}") == 200


@pytest.mark.parametrize(
    "kind",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"],
)
async def test_what_a_form_can_send_changes_nothing(port: Port, kind: str | None) -> None:
    for path in CHANGES:
        assert await port.ask("POST", path, BODY, Content_Type=kind) == 415


async def test_a_preflight_gets_no_permission(port: Port) -> None:
    said = await port.send(port.request("OPTIONS", "/v1/pause", Origin="http://evil.example"))
    assert code(said) == 403
    assert code(await port.send(port.request("OPTIONS", "/v1/pause"))) == 405


def test_hosts_that_mean_us() -> None:
    assert gate.allowed_hosts("0.0.0.0", ("192.0.2.7", 80)) >= {
        "192.0.2.7",
        "192.0.2.7:80",
        "localhost",
    }
    assert "[2001:db8::7]:8787" in gate.allowed_hosts("::", ("2001:db8::7", 8787))
    assert "192.0.2.7" not in gate.allowed_hosts("edge", ("192.0.2.7", 8787))


# --- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND"])
async def test_other_methods(port: Port, method: str) -> None:
    for path in ("/v1/status", "/v1/pause", "/v1/mirrors/logs/limit"):
        said = await port.send(port.request(method, path))
        assert said.split()[1] == b"405"


async def test_the_method_of_the_other_kind(port: Port) -> None:
    for path in CHANGES[:-1]:
        assert await port.ask("GET", path) == 405
    for path in ("/v1/status", "/v1/mirrors/logs", "/metrics"):
        assert await port.ask("POST", path, b"{}") == 405


@pytest.mark.parametrize(
    "path",
    [
        "/v2/status", "/v1", "/v1/", "/v1/status/", "//v1/status", "/v1//status", "/V1/status", "/v1/%73tatus",
        "/page/app.js", "/app.js/", "//app.js", "/%61pp.js", "/../app.js", "/./app.js", "/app.js%00", "/app.js/../",
        "/../../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/messages.py", "/messages.py", "/.", "/__init__.py",
        "/v1/mirrors/../status", "/v1/mirrors/logs/../../status", "/v1/mirrors//pause", "/v1/mirrors/logs%2fpause",
    ],
)  # fmt: skip
async def test_paths_lead_nowhere_but_to_what_they_name(port: Port, path: str) -> None:
    assert await port.ask("GET", path) == 404
    assert await port.ask("POST", path, b"{}") == 404


@pytest.mark.parametrize(
    "name", ["nobody", "%00", "..", "<script>alert(1)</script>", "logs%20", "lögs", "LOGS", "l" * 4000]
)
async def test_an_unknown_mirror(port: Port, name: str) -> None:
    for rest in ("", "/errors", "/deletions"):
        said = await port.send(port.request("GET", f"/v1/mirrors/{name}{rest}"))
        assert code(said) in (400, 404)
        assert name.encode() not in said.partition(b"\r\n\r\n")[2] or name == ".."
    for verb in ("pause", "limit", "deletions"):
        assert await port.ask("POST", f"/v1/mirrors/{name}/{verb}", BODY) in (400, 404)


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"}", b"null", b"[]", b'"count"', b"9", b"\xff\xfe", b'{"count": }', b'{"count": "9"}', b'{"count": 9.5}',
        b'{"count": -1}', b'{"count": 0}', b'{"count": 1e99}', b'{"count": NaN}', b'{"count": 9, "more": 1}', b"{} {}",
        b'{"count": 99999999999999999999999999}', b'{"bandwidth": -1}', b'{"bandwidth": 0}', b'{"bandwidth": Infinity}',
        b'{"bandwidth": 1e400}', b'{"concurrency": 0}', b'{"concurrency": 1.5}', b'{"concurrency": 100000}',
        b'{"concurrency": true}', b"[" * 30_000, b'{"count":' * 7000, b"\0" * 1000, b"<?xml version='1.0'?><a/>",
        b'{"<img src=x onerror=alert(1)>": 1}',
    ],
)  # fmt: skip
async def test_malformed_bodies(port: Port, body: bytes) -> None:
    for path in CHANGES:
        said = await port.send(port.request("POST", path, body))
        assert code(said) == 400
        assert b"<img" not in said


async def test_a_limit_of_nothing_is_refused(port: Port) -> None:
    assert await port.ask("POST", "/v1/mirrors/logs/limit", b"{}") == 400
    assert await port.ask("POST", "/v1/mirrors/logs/limit") == 400


async def test_a_count_that_is_not_the_plans_is_a_conflict(port: Port) -> None:
    assert await port.ask("POST", "/v1/mirrors/logs/deletions", b'{"count": 8}') == 409


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "after=", "after=1e3", "limit=99999999999999999999", "limit=1001", "after=%D9%A3"]
)
async def test_queries_that_are_no_numbers(port: Port, query: str) -> None:
    assert await port.ask("GET", f"/v1/events?{query}") == 400


# --- how much and how slowly -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [str(connection.MOST_BODY + 1), str(10**12), str(2**63 - 1)])
async def test_an_oversized_body_is_refused_by_its_length(port: Port, length: str) -> None:
    assert await port.ask("POST", "/v1/pause", b"{}", Content_Length=length) == 413


async def test_an_oversized_body_is_refused_although_it_does_not_say_so(port: Port) -> None:
    head = port.request("POST", "/v1/pause", Content_Length=None, Transfer_Encoding="chunked")
    pieces = [b"4000\r\n" + b" " * 0x4000 + b"\r\n"] * 6
    said = await port.send(head, *pieces, b"0\r\n\r\n")
    assert said == b"" or code(said) == 413  # a reset may overtake the answer to who goes on sending


async def test_a_body_of_the_greatest_size_is_read(port: Port) -> None:
    assert await port.ask("POST", "/v1/pause", b" " * connection.MOST_BODY) == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"X-One": "x" * 9000},
        {"X-One": "x" * 200_000},
        {f"X-{number}": "x" * 1000 for number in range(20)},
        {f"X-{number}": "x" for number in range(500)},
    ],
    ids=["long", "endless", "twenty", "many"],
)
async def test_oversized_headers(port: Port, headers: dict[str, str]) -> None:
    said = await port.send(port.request("POST", "/v1/pause", b"{}", **headers))
    assert said == b"" or code(said) in (400, 431)  # a reset may overtake the answer to who goes on sending


async def test_a_long_request_line(port: Port) -> None:
    assert await port.ask("GET", f"/v1/status?{'x' * 9000}") == 431
    said = await port.send(port.request("GET", f"/{'x' * 300_000}"))
    assert said == b"" or code(said) == 431


async def test_headers_that_never_end_are_cut(port: Port) -> None:
    said = await port.send(b"GET / HTTP/1.1\r\n", *[b"X: " + b"y" * 4000 + b"\r\n"] * 60)
    assert said == b"" or code(said) in (400, 431)


@pytest.mark.parametrize(
    ("pieces", "pause"),
    [
        ([b""], 0.0),
        ([b"POST /v1/pa"], 0.0),
        ([b"P", b"O", b"S", b"T", b" /", b"v1/", b"pause"], 0.1),
        (["head"], 0.0),
        (["head", b'{"c', b"o", b"u", b"n", b"t", b'"'], 0.1),
    ],
    ids=["nothing", "half a line", "by letters", "no body", "a body by letters"],
)
async def test_the_slow_are_cut(port: Port, pieces: list[Any], pause: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RECEIVE_SECONDS", 0.4)
    head = port.request("POST", "/v1/mirrors/logs/deletions", Content_Length="12")
    loop = asyncio.get_running_loop()
    began = loop.time()
    said = await port.send(*[head if piece == "head" else piece for piece in pieces], pause=pause)
    assert code(said) == 408
    assert 0.3 < loop.time() - began < 3.0


async def test_who_does_not_take_the_answer_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.5)
    daemon = SteeredDaemon(*(replace(watching(f"m{number}"), reason="x" * 100_000) for number in range(100)))
    async with ControlServer(daemon, path=tmp_path / "s", listen="127.0.0.1:0", token=TOKEN) as server:
        port = Port(daemon, server, tmp_path / "s")
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", port.port))
            deaf.sendall(port.request("GET", "/v1/status"))
            await asyncio.sleep(1.5)
            deaf.settimeout(5.0)
            taken = 0
            with pytest.raises(ConnectionResetError):
                while piece := await asyncio.to_thread(deaf.recv, 1 << 20):
                    taken += len(piece)
                raise ConnectionResetError  # an end before all had come is as good
            assert taken < 9_000_000
        monkeypatch.undo()
        await port.is_well()


# --- what is no request ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET /v1/status\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nX: a\0b\r\n\r\n",
        b"GET /v1/st\0atus HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /v1/pause HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/pause HTTP/1.1\r\nHost: a\r\nContent-Length: 1x\r\n\r\n",
        b"POST /v1/pause HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /v1/pause HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST /v1/pause HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        b"<img src=x onerror=alert(1)> / HTTP/1.1\r\n\r\n",
        b"\0" * 5000,
        b"\r\n" * 2000,
    ],
)
async def test_malformed_http(port: Port, said: bytes) -> None:
    answer = await port.send(said, end=True)
    assert answer == b"" or code(answer) in (400, 403, 404, 431)
    assert b"<img" not in answer
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n{}", b"-2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}garbage"]
)
async def test_malformed_chunks(port: Port, chunks: bytes) -> None:
    head = port.request("POST", "/v1/pause", Content_Length=None, Transfer_Encoding="chunked")
    said = await port.send(head + chunks, end=True)
    assert said == b"" or code(said) == 400


async def test_a_body_that_ends_early_is_not_obeyed(port: Port) -> None:
    said = await port.send(port.request("POST", "/v1/pause", b"{}", Content_Length="3"), end=True)
    assert said == b"" or code(said) == 400


async def test_only_the_first_of_pipelined_requests_is_looked_at(port: Port) -> None:
    first = port.request("GET", "/v1/status")
    second = port.request("POST", "/v1/pause", b"{}")
    for following in (second, second * 50):
        said = await port.send(first + following)
        assert code(said) == 200
        assert said.count(b"HTTP/1.1 ") == 1
    assert code(await port.send(port.request("POST", "/v1/mirrors/nobody/pause", b"{}") + second)) == 404


async def test_an_upgrade_is_not_followed(port: Port) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"}
    said = await port.send(port.request("GET", "/v1/status", **upgrade) + port.request("POST", "/v1/pause", b"{}"))
    assert code(said) in (200, 400)
    assert said.count(b"HTTP/1.1 ") == 1


async def test_a_thousand_connections(port: Port) -> None:
    held, turned_away = [], 0
    for _ in range(1000):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        try:
            said = await asyncio.wait_for(reader.read(), 0.02) if len(held) >= connection.MOST_CONNECTIONS else b""
        except TimeoutError:
            said = b""
        if said:
            assert code(said) == 503
            turned_away += 1
            writer.close()
        else:
            held.append(writer)
    assert turned_away > 800
    # the other door is as open as ever
    status = await asyncio.to_thread(ControlClient(port.path).status)
    assert status.pid == 4711
    for writer in held:
        writer.close()
    await asyncio.sleep(0.2)


async def test_random_damage_to_good_requests(port: Port) -> None:
    rng = random.Random(20261121)
    good = [
        port.request("GET", "/v1/status", Authorization=None),
        port.request("POST", "/v1/mirrors/logs/deletions", BODY, Authorization="Bearer no"),
        port.request("POST", "/v1/pause", Content_Length=None, Transfer_Encoding="chunked", Authorization=None)
        + b"2\r\n{}\r\n0\r\n\r\n",
    ]
    for _ in range(300):
        damaged = bytearray(rng.choice(good))
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(damaged))
            match rng.randrange(4):
                case 0:
                    damaged[at] = rng.randrange(256)
                case 1:
                    del damaged[at : at + rng.randint(1, 20)]
                case 2:
                    damaged[at:at] = rng.randbytes(rng.randint(1, 20))
                case _:
                    damaged[at:at] = damaged[at : at + rng.randint(1, 40)]
        said = await asyncio.wait_for(port.send(bytes(damaged), end=True), 15)
        assert said == b"" or 400 <= code(said) < 500 or b"GET / " in damaged
    await port.is_well()
