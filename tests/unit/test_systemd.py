from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynccopy.daemon.systemd import LoopLag, ServiceManager, Watchdog


class Listener:
    """What systemd is to the daemon: a datagram socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def received(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(65536).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Listener, str]]:
    if request.param == "path":
        name = address = str(tmp_path / "notify")
    else:
        name = f"@asynccopy-test-{os.getpid()}-{time.monotonic_ns()}"
        address = "\0" + name[1:]
    listening = Listener(address)
    yield listening, name
    listening.socket.close()


def test_each_word_arrives(listener: tuple[Listener, str]) -> None:
    listening, name = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.ready()
    manager.reloading()
    manager.stopping()
    manager.status("3 mirrors: 2 watching, 1 failed")
    manager.ping()
    manager.close()
    manager.ping()  # after the end it says nothing
    ready, reloading, *rest = listening.received()
    assert ready == "READY=1"
    words = dict(line.split("=") for line in reloading.splitlines())
    assert words["RELOADING"] == "1"
    assert before <= int(words["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert rest == ["STOPPING=1", "STATUS=3 mirrors: 2 watching, 1 failed", "WATCHDOG=1"]


def test_a_name_cannot_say_another_word(listener: tuple[Listener, str]) -> None:
    listening, name = listener
    ServiceManager({"NOTIFY_SOCKET": name}).status("copying a\nSTOPPING=1\udcff")
    assert listening.received() == ["STATUS=copying a\\nSTOPPING=1\\udcff"]
    ServiceManager({"NOTIFY_SOCKET": name}).status("\N{SNOWMAN}" * 5000)
    (long,) = listening.received()
    assert len(long.encode()) <= 4096  # systemd ignores longer ones


def test_started_by_hand_nothing_is_said() -> None:
    manager = ServiceManager({"WATCHDOG_USEC": "30000000"})
    manager.ready()
    assert manager.watchdog is None


def test_a_socket_that_is_gone_is_warned_of_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    manager.ready()
    manager.ping()
    text = "".join(capsys.readouterr())
    assert text.count("the service manager cannot be told") == 1


@pytest.mark.timeout(20)
def test_a_manager_that_does_not_read_blocks_nothing(listener: tuple[Listener, str]) -> None:
    _, name = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    started = time.monotonic()
    for _ in range(5000):
        manager.ping()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_whom_the_watchdog_watches(words: dict[str, str], seconds: float | None, tmp_path: Path) -> None:
    assert ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify"), **words}).watchdog == seconds


async def test_pings_go_out_while_it_is_alive(listener: tuple[Listener, str]) -> None:
    listening, name = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "150000"})
    alive = True
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Watchdog(manager, lambda: alive).run(), name="watchdog")
        await asyncio.sleep(0.26)
        assert 2 <= len(listening.received()) <= 7
        alive = False
        await asyncio.sleep(0.06)  # one that was on its way
        listening.received()
        await asyncio.sleep(0.2)
        assert listening.received() == []
        alive = True
        await asyncio.sleep(0.11)
        assert listening.received() != []
        task.cancel()


async def test_a_blocked_loop_pings_nobody(listener: tuple[Listener, str]) -> None:
    listening, name = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "90000"})
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Watchdog(manager, lambda: True).run(), name="watchdog")
        await asyncio.sleep(0.05)
        assert listening.received() != []
        time.sleep(0.3)
        assert listening.received() == []
        task.cancel()


async def test_nobody_watching_the_watchdog_ends() -> None:
    await asyncio.wait_for(Watchdog(ServiceManager({}), lambda: True).run(), 1)


async def test_a_blocked_loop_is_seen() -> None:
    lag = LoopLag()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(lag.run(), name="loop lag")
        await asyncio.sleep(0.1)
        assert lag.worst == 0.0
        time.sleep(0.6)
        await asyncio.sleep(0.05)
        assert 0.4 < lag.worst < 5
        task.cancel()


def test_the_worst_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    lag = LoopLag()
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for seconds in (0.1, 0.9, 0.2, 0.5, 0.3):
        now += 10
        lag.note(now, seconds)
    assert lag.worst == 0.9  # at 1020
    now = 1080.5
    assert lag.worst == 0.5  # at 1040
    now = 1105.0
    assert lag.worst == 0.3
    now = 1200.0
    assert lag.worst == 0.0
