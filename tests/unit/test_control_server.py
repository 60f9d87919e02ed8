"""The control server over real sockets: what each path does, and who is let in."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop
from msgspec import UNSET

from asynccopy.control.client import ControlClient
from asynccopy.control.server import ControlServer
from asynccopy.errors import CredentialsRefused, ServerTrouble, Unreachable, UsageError, WrongServer
from asynccopy.model import MIB
from tests.steered import SteeredDaemon


@pytest.fixture
def daemon() -> SteeredDaemon:
    return SteeredDaemon()


@pytest.fixture
async def server(daemon: SteeredDaemon, tmp_path: Path) -> AsyncIterator[ControlServer]:
    async with serving(daemon, tmp_path) as server:
        yield server


@asynccontextmanager
async def serving(daemon: SteeredDaemon, folder: Path, **more: Any) -> AsyncIterator[ControlServer]:
    async with ControlServer(daemon, path=folder / "s", listen="127.0.0.1:0", **more) as server:
        yield server


async def ask(
    server: ControlServer, method: str, path: str, body: object = None, **headers: str | None
) -> tuple[int, dict[str, str], bytes]:
    """Over TCP. A header given as None is left out."""
    sent = b"" if body is None else json.dumps(body).encode()
    lines: dict[str, str | None] = {"Host": f"127.0.0.1:{server.port}", "Content-Length": str(len(sent))}
    if method == "POST":
        lines["Content-Type"] = "application/json"
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode() + sent)
    said = await reader.read()
    writer.close()
    return parsed(said)


def parsed(said: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = said.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body


async def called(function: Any, *arguments: object, **more: object) -> Any:
    return await asyncio.to_thread(function, *arguments, **more)


# --- what each path does -----------------------------------------------------------------------------------------


@pytest.fixture
def client(server: ControlServer, tmp_path: Path) -> ControlClient:
    return ControlClient(tmp_path / "s")


async def test_the_status_comes_over_the_socket_as_it_is(client: ControlClient, daemon: SteeredDaemon) -> None:
    assert await called(client.status) == daemon.status()


async def test_a_mirror_comes_in_detail(client: ControlClient, daemon: SteeredDaemon) -> None:
    detail = await called(client.detail, "logs")
    assert detail.status == daemon.mirrors["logs"]
    assert [(each.error, each.count) for each in detail.errors] == [("PermissionDenied", 2), ("ChecksumMismatch", 2)]


async def test_failed_files_come_by_class(client: ControlClient) -> None:
    assert len(await called(client.errors, "logs")) == 4
    assert {each.error for each in await called(client.errors, "logs", "ChecksumMismatch")} == {"ChecksumMismatch"}
    assert await called(client.errors, "logs", "a b&limit=1") == []


async def test_one_mirror_or_all_are_paused_and_resumed(client: ControlClient, daemon: SteeredDaemon) -> None:
    await called(client.pause, "sales")
    assert [mirror.state for mirror in daemon.mirrors.values()] == ["paused", "failed"]
    await called(client.pause, None)
    assert [mirror.state for mirror in daemon.mirrors.values()] == ["paused", "paused"]
    await called(client.resume, None)
    assert [mirror.state for mirror in daemon.mirrors.values()] == ["copying", "copying"]


async def test_failed_files_are_tried_again_and_counted(client: ControlClient, daemon: SteeredDaemon) -> None:
    assert await called(client.retry, None) == 4
    assert await called(client.retry, "logs") == 0
    assert daemon.mirrors["logs"].failed == 0


async def test_a_scan_is_asked_for(client: ControlClient, daemon: SteeredDaemon) -> None:
    before = daemon.mirrors["sales"].next_scan
    await called(client.scan, "sales")
    assert daemon.mirrors["sales"].next_scan < before


async def test_limits_are_set_lifted_and_left_alone(client: ControlClient, daemon: SteeredDaemon) -> None:
    await called(client.limit, "sales", bandwidth=5.0 * MIB)
    assert (daemon.mirrors["sales"].bandwidth, daemon.mirrors["sales"].concurrency) == (5.0 * MIB, 64)
    await called(client.limit, "sales", bandwidth=None, concurrency=7)
    assert (daemon.mirrors["sales"].bandwidth, daemon.mirrors["sales"].concurrency) == (None, 7)
    await called(client.limit, "sales", bandwidth=UNSET, concurrency=None)
    assert (daemon.mirrors["sales"].bandwidth, daemon.mirrors["sales"].concurrency) == (None, 64)


async def test_deletions_are_done_only_for_the_plan_that_was_seen(client: ControlClient, daemon: SteeredDaemon) -> None:
    plan = await called(client.deletions, "logs")
    assert (plan.deletions.count, len(plan.paths)) == (9, 9)
    with pytest.raises(UsageError, match="9 deletions by now"):
        await called(client.confirm_deletions, "logs", 8)
    assert daemon.confirmed == []
    await called(client.confirm_deletions, "logs", 9)
    assert daemon.confirmed == [("logs", 9)]


async def test_a_reload_tells_what_changed_or_why_it_was_refused(client: ControlClient, daemon: SteeredDaemon) -> None:
    assert await called(client.reload) == ("mirror sales: bandwidth 200 MiB/s",)
    daemon.bad_configuration = True
    with pytest.raises(UsageError, match="write 30s") as refused:
        await called(client.reload)
    assert refused.value.hint == "the old one goes on"


async def test_drain_and_events(client: ControlClient, daemon: SteeredDaemon) -> None:
    await called(client.drain)
    assert daemon.draining
    await called(client.pause, "sales")
    assert [event.number for event in await called(client.events)] == [1, 2]
    assert [event.mirror for event in await called(client.events, 1)] == ["sales"]


async def test_an_unknown_mirror_is_told_as_one(client: ControlClient) -> None:
    for name in ("nobody", "..", "a/b", "a b", "ä", "<b>"):
        with pytest.raises(UsageError, match="no mirror of this name"):
            await called(client.detail, name)
        with pytest.raises(UsageError, match="no mirror of this name"):
            await called(client.pause, name)


async def test_trouble_of_the_daemon_is_no_fault_of_the_user(client: ControlClient, daemon: SteeredDaemon) -> None:
    daemon.broken = True
    with pytest.raises(ServerTrouble, match="disk under the journal is full") as trouble:
        await called(client.errors, "logs")
    assert "free space" in trouble.value.hint


async def test_a_bug_is_told_without_its_inside(client: ControlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret-inside")

    monkeypatch.setattr(SteeredDaemon, "events", broken)
    with pytest.raises(ServerTrouble, match="failed at this") as trouble:
        await called(client.events)
    assert "secret-inside" not in f"{trouble.value}{trouble.value.hint}"
    await called(client.status)


async def test_metrics_are_text_for_prometheus(server: ControlServer) -> None:
    code, headers, body = await ask(server, "GET", "/metrics")
    assert code == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert b"sales" in body


async def test_the_page_and_its_files_are_served_under_a_strict_policy(server: ControlServer) -> None:
    folder = Path(__file__).parents[2] / "asynccopy" / "control" / "page"
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    for file in folder.iterdir():
        code, headers, body = await ask(server, "GET", f"/{file.name}")
        assert (code, body) == (200, file.read_bytes())
        assert headers["Content-Type"].startswith(kinds[file.suffix])
    code, headers, body = await ask(server, "GET", "/")
    assert (code, body) == (200, (folder / "index.html").read_bytes())
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")


async def test_what_changes_something_is_logged_with_who_wanted_it(
    server: ControlServer, client: ControlClient
) -> None:
    with structlog.testing.capture_logs() as told:
        await called(client.pause, "sales")
        await called(client.status)
        await ask(server, "POST", "/v1/mirrors/sales/limit", {"bandwidth": 1e6})
        with pytest.raises(UsageError):
            await called(client.confirm_deletions, "logs", 3)
    seen = [(line["event"], line["path"], line["by"]) for line in told]
    assert seen == [
        ("control", "/v1/mirrors/sales/pause", f"uid {os.getuid()}"),
        ("control", "/v1/mirrors/sales/limit", "127.0.0.1"),
        ("control refused", "/v1/mirrors/logs/deletions", f"uid {os.getuid()}"),
    ]


# --- the sockets ---------------------------------------------------------------------------------------------------


async def test_the_socket_is_for_its_group_alone_and_goes_with_the_daemon(
    daemon: SteeredDaemon, tmp_path: Path
) -> None:
    async with serving(daemon, tmp_path):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660
        assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert list(tmp_path.iterdir()) == []


async def test_a_socket_that_a_killed_daemon_left_is_replaced(daemon: SteeredDaemon, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))
    async with serving(daemon, tmp_path):
        assert (await called(ControlClient(tmp_path / "s").status)).pid == 4711


async def test_a_socket_that_somebody_answers_on_is_left_alone(daemon: SteeredDaemon, tmp_path: Path) -> None:
    async with serving(daemon, tmp_path):
        with pytest.raises(UsageError, match="another daemon answers there"):
            async with serving(SteeredDaemon(), tmp_path):
                pass
        assert await called(ControlClient(tmp_path / "s").status) == daemon.status()


async def test_a_socket_that_another_daemon_put_there_is_not_removed(daemon: SteeredDaemon, tmp_path: Path) -> None:
    async with serving(daemon, tmp_path):
        (tmp_path / "s").unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "s"))
    assert (tmp_path / "s").exists()


async def test_no_file_is_taken_for_a_stale_socket(daemon: SteeredDaemon, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    with pytest.raises(UsageError, match="is no socket"):
        async with serving(daemon, tmp_path):
            pass
    assert (tmp_path / "s").read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "says"), [("missing/s", "no socket can be made there"), ("x" * 120, "too long for a socket")]
)
async def test_a_place_where_no_socket_can_be(daemon: SteeredDaemon, tmp_path: Path, path: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        async with ControlServer(daemon, path=tmp_path / path):
            pass


@pytest.mark.parametrize(
    "listen", ["8787", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:http", "no.such.host.invalid:1"]
)
async def test_a_wrong_address_to_listen_on(daemon: SteeredDaemon, tmp_path: Path, listen: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        async with ControlServer(daemon, path=tmp_path / "s", listen=listen):
            pass
    assert list(tmp_path.iterdir()) == []


async def test_a_taken_port_is_told_and_leaves_no_socket(
    server: ControlServer, daemon: SteeredDaemon, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="Address already in use"):
        async with ControlServer(daemon, path=tmp_path / "other", listen=f"127.0.0.1:{server.port}"):
            pass
    assert not (tmp_path / "other").exists()


def test_the_loop_that_the_daemon_runs_on(tmp_path: Path) -> None:
    async def live() -> None:
        daemon = SteeredDaemon()
        async with serving(daemon, tmp_path) as server:
            await called(ControlClient(tmp_path / "s").pause, "sales")
            assert daemon.mirrors["sales"].state == "paused"
            assert (await ask(server, "POST", "/v1/resume"))[0] == 200
            assert daemon.mirrors["sales"].state == "copying"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())


# --- the client's troubles -----------------------------------------------------------------------------------------


def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no daemon listens there") as error:
        ControlClient(tmp_path / "s").status()
    assert "--socket" in error.value.hint
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))
    with pytest.raises(Unreachable, match="no daemon listens there"):
        ControlClient(tmp_path / "s").status()
    with pytest.raises(Unreachable, match="too long"):
        ControlClient(tmp_path / ("s" * 200)).status()


def test_a_socket_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("asynccopy.control.client._OverUnix.connect", refuse)
    with pytest.raises(CredentialsRefused, match="may not use this socket"):
        ControlClient(tmp_path / "s").status()


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html></>",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"",
    ],
)
async def test_what_is_not_a_daemon(said: bytes, tmp_path: Path) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with await asyncio.start_unix_server(speak, tmp_path / "s"):
        with pytest.raises(WrongServer, match="not a daemon"):
            await called(ControlClient(tmp_path / "s").status)


async def test_a_daemon_that_hangs(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        with pytest.raises(Unreachable, match="did not answer"):
            await called(ControlClient(tmp_path / "s", timeout=0.1).status)
