"""``asynccopy status`` and the verbs that steer a daemon, as a user calls them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import structlog
from msgspec.structs import replace

from asynccopy.cli.main import main
from asynccopy.cli.status import overview
from asynccopy.control.messages import Deletions
from asynccopy.control.server import ControlServer
from asynccopy.model import MIB
from tests.program import Program, eventually
from tests.steered import EVIL, SteeredDaemon, copying, failing, watching

HEAVY = {"aiohttp", "aiobotocore", "asyncio", "prometheus_client", "rich", "sqlite3", "structlog", "tomli", "uvloop"}


class Served:
    """A daemon that serves in a thread of its own, as the verbs block."""

    def __init__(self, path: Path) -> None:
        self.daemon = SteeredDaemon(copying("sales"), watching("orders"), failing("logs"))
        self.path = path
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="daemon")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        with structlog.testing.capture_logs():
            async with ControlServer(self.daemon, path=self.path):
                self._ready.set()
                await self._stop.wait()

    def call(self, *words: str) -> int:
        return main([*words, "--socket", str(self.path)])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path / "s") as served:
        yield served


def test_status_json_has_what_scripts_rely_on(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.mirrors["orders"] = replace(
        served.daemon.mirrors["orders"], last_scan=1_700_000_000_123, last_full_scan=0
    )
    served.daemon.mirrors["new"] = replace(watching("new"), last_scan=0)
    assert served.call("status", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert list(found["mirrors"]) == ["sales", "orders", "logs", "new"]
    orders = found["mirrors"]["orders"]
    assert orders["state"] == "watching"
    assert orders["files"] == {"total": 1_204_331, "done": 1_204_331, "pending": 0, "failed": 0}
    assert set(orders["bytes"]) == {"total", "done", "pending", "failed"}
    assert (orders["failed"], orders["lag_seconds"]) == (0, 12.0)
    assert orders["last_scan"] == "2023-11-14T22:13:20.123Z"
    assert orders["last_full_scan"] is found["mirrors"]["new"]["last_scan"] is None
    assert found["mirrors"]["logs"]["failed"] == 4
    assert (found["state"], found["pid"]) == ("running", 4711)


@pytest.mark.parametrize(("mirror", "code"), [("sales", 0), ("orders", 0), ("logs", 1)])
def test_status_of_one_mirror_ends_by_its_state(
    served: Served, mirror: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert served.call("status", mirror, "--json") == code
    assert list(json.loads(capsys.readouterr().out)["mirrors"]) == [mirror]
    assert served.call("status", mirror) == code
    assert f"  mirror  {mirror}\n" in capsys.readouterr().out


def test_failed_files_alone_are_exit_code_1_too(served: Served) -> None:
    served.daemon.mirrors["logs"] = replace(watching("logs"), failed=1)
    assert served.call("status", "logs") == 1
    served.daemon.mirrors["logs"] = watching("logs")
    assert served.call("status") == 0


def test_status_for_people_is_a_table(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.call("status")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("asynccopy 0.1.0 running for 3 d 0 h, pid 4711")
    assert lines[2].split() == ["MIRROR", "STATE", "FILES", "BYTES", "RATE", "LAG", "LEFT", "FAILED", "LAST", "SCAN"]
    assert lines[3].startswith("sales   copying   7,811,020 of 12,480,112+ (62%)  131 TiB of 210 TiB+ (62%)  912 MiB/s")
    assert lines[4].startswith("orders  watching  1,204,331 ")
    assert lines[6] == "  dc1 refuses the credentials: no valid ticket; check the credentials and their permissions"
    assert len({line.index("ago") - line.index(" ago") for line in lines[3:6]}) == 1


def test_a_mirror_close_up_tells_what_failed_and_why(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.call("status", "logs")
    said = capsys.readouterr().out
    assert "failed  2 PermissionDenied: dir/" in said
    assert "hint: grant the user access to the path" in said
    assert "9 held: 9 % of the files are above max_delete" in said
    assert "08:00-20:00 = 200MiB/s" in said
    assert "quick, 2 s: complete; 1,204,331 files seen, 212 copied (9.0 GiB)" in said


def test_no_mirrors() -> None:
    lines = overview(SteeredDaemon(watching("a")).status(), (), 0.0)
    assert lines[-1] == "no mirror is configured"


def test_the_verbs_steer_one_mirror_or_all(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    mirrors = served.daemon.mirrors
    assert served.call("pause", "sales") == 0
    assert [mirror.state for mirror in mirrors.values()] == ["paused", "watching", "failed"]
    assert served.call("pause") == 0
    assert {mirror.state for mirror in mirrors.values()} == {"paused"}
    assert served.call("resume", "orders") == 0
    assert mirrors["orders"].state == "copying"
    assert served.call("retry") == 0
    assert "4 files are tried again" in capsys.readouterr().out
    before = mirrors["sales"].next_scan
    assert served.call("scan", "sales") == 0
    assert mirrors["sales"].next_scan != before
    assert served.call("drain") == 0
    assert served.daemon.draining


@pytest.mark.parametrize(
    ("words", "bandwidth", "concurrency"),
    [
        (["--bandwidth", "50MiB/s"], 50.0 * MIB, 192),
        (["--bandwidth", "none"], None, 192),
        (["--concurrency", "12"], None, 12),
        (["--concurrency", "auto"], None, 64),
        (["--bandwidth", "1MiB/s", "--concurrency", "3"], 1.0 * MIB, 3),
    ],
)
def test_limit(served: Served, words: list[str], bandwidth: float | None, concurrency: int) -> None:
    assert served.call("limit", "sales", *words) == 0
    mirror = served.daemon.mirrors["sales"]
    assert (mirror.bandwidth, mirror.concurrency) == (bandwidth, concurrency)


def test_reload_prints_what_changed_or_the_mistake(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert served.call("reload") == 0
    assert capsys.readouterr().out == "mirror sales: bandwidth 200 MiB/s\n"
    served.daemon.bad_configuration = True
    assert served.call("reload") == 2
    assert capsys.readouterr().err == (
        "asynccopy: config.toml: [mirrors.sales] `interval`: write 30s\nhint: the old one goes on\n"
    )


def test_errors_are_lines_for_people_and_for_scripts(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert served.call("errors", "logs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [len(line.split("\t")) for line in lines] == [4] * 4
    assert served.call("errors", "logs", "--class", "ChecksumMismatch", "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["path"], each["error"]) for each in found] == [
        (f"dir/{EVIL}-1", "ChecksumMismatch"),
        (f"dir/{EVIL}-3", "ChecksumMismatch"),
    ]


def test_events_are_told_with_their_time_and_mirror(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.note("sales", "a\x1b[2Jb")
    assert served.call("events") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("info     -  started")
    assert second.endswith("info     sales  a\\x1b[2Jb")


def test_deletions_are_shown_and_done_only_when_confirmed(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert served.call("deletions", "logs") == 0
    seen = capsys.readouterr()
    assert seen.out.splitlines() == [f"old/{number}" for number in range(9)]
    assert "asynccopy: 9 objects (9.0%), held: " in seen.err
    assert "asynccopy deletions logs --confirm 9" in seen.err
    assert served.call("deletions", "logs", "--confirm", "8") == 2
    assert "look at it again" in capsys.readouterr().err
    assert served.daemon.mirrors["logs"].deletions.count == 9
    assert served.call("deletions", "logs", "--confirm", "9") == 0
    assert served.daemon.mirrors["logs"].deletions == Deletions()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["status", "nobody"], 2, "there is no mirror 'nobody'"),
        (["status", "nobody", "--json"], 2, "there is no mirror 'nobody'"),
        (["status", "--json", "--watch"], 2, "exclude each other"),
        (["status", "--watch"], 2, "needs a terminal"),
        (["pause", "nobody"], 2, "there is no mirror of this name"),
        (["pause", "../drain"], 2, "there is no mirror of this name"),
        (["limit", "sales"], 2, "name --bandwidth, --concurrency or both"),
        (["limit", "sales", "--bandwidth", "fast"], 2, "'fast' is not a rate"),
        (["limit", "sales", "--concurrency", "0"], 2, "neither `auto` nor a number"),
        (["deletions", "logs", "--confirm", "0"], 2, "0 is not in the range"),
        (["errors"], 2, "Missing argument 'MIRROR'"),
    ],
)
def test_wrong_usage(
    served: Served, words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = dict(served.daemon.mirrors)
    assert served.call(*words) == code
    seen = capsys.readouterr()
    assert says in seen.err.splitlines()[0]
    assert seen.out == ""
    assert served.daemon.mirrors == before
    assert not served.daemon.draining


VERBS = ["status", "pause", "resume", "retry", "scan", "drain", "reload", "events", "errors x", "deletions x"]


@pytest.mark.parametrize("verb", [*VERBS, "limit x --concurrency 3"])
def test_no_daemon_is_exit_code_3(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--socket", str(tmp_path / "none")]) == 3
    seen = capsys.readouterr().err.splitlines()
    assert seen[0] == f"asynccopy: {tmp_path}/none: no daemon listens there"
    assert "--socket" in seen[1]


def test_the_socket_is_found_where_the_service_has_it(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = served.path.parent / "run"
    folder.mkdir()
    (folder / "control.sock").symlink_to(served.path)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder))
    assert main(["status", "sales"]) == 0


def test_the_socket_is_found_by_the_daemons_file(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = served.path.parent
    named, unnamed = folder / "named.toml", folder / "unnamed.toml"
    named.write_text(f'[daemon]\nsocket = "{served.path}"\n')
    unnamed.write_text(f'[daemon]\nstate = "{folder}"\n')
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert main(["status", "sales", "--config", str(named)]) == 0
    assert main(["status", "sales", "--config", str(unnamed)]) == 3
    assert f"{folder}/control.sock" in capsys.readouterr().err
    (folder / "control.sock").symlink_to(served.path)
    monkeypatch.setattr("asynccopy.cli.connect._SERVICE", folder / "control.sock")
    unnamed.write_text('[daemon]\nstate = "/var/lib/asynccopy"\n')
    assert main(["status", "sales", "--config", str(unnamed)]) == 0
    # a daemon that is down is not mistaken for the one that the machine runs as a service
    named.write_text(f'[daemon]\nsocket = "{folder}/other"\n')
    assert main(["pause", "--config", str(named)]) == 3


def test_without_any_socket_the_places_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("asynccopy.cli.connect._SERVICE", tmp_path / "run" / "control.sock")
    assert main(["status"]) == 3
    assert f"{tmp_path}/asynccopy/control.sock" in capsys.readouterr().err


def test_status_starts_with_little(served: Served) -> None:
    code = (
        "import json, sys\nfrom asynccopy.cli.main import main\n"
        f"code = main(['status', '--json', '--socket', {str(served.path)!r}])\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\nsys.exit(code)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 1
    assert not HEAVY & set(json.loads(done.stderr))
    # 0.11 s on an idle machine; the bound only catches a heavy import that comes back under another name
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


class Terminal:
    """``asynccopy`` on a terminal of its own, and all that it drew there."""

    def __init__(self, *words: str) -> None:
        self._ours, theirs = os.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asynccopy", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._drawn = b""

    def shows(self, text: str) -> bool:
        """Whether it was drawn since this was asked with success."""
        with contextlib.suppress(BlockingIOError):
            self._drawn += os.read(self._ours, 1 << 20)
        found = text.encode() in self._drawn
        if found:
            self._drawn = b""
        return found

    def end(self) -> int:
        try:
            self.process.send_signal(signal.SIGINT)
            return self.process.wait(10)
        finally:
            self.process.kill()
            os.close(self._ours)


def test_watching_draws_until_it_is_stopped_and_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Served(path):
        terminal = Terminal("status", "--watch", "--socket", str(path))
        eventually(lambda: terminal.shows("12 s"))
    eventually(lambda: terminal.shows("no daemon listens there"))
    with Served(path) as served:
        served.daemon.mirrors["returned[red]"] = watching("returned[red]")
        eventually(lambda: terminal.shows("returned[red]"))
    assert terminal.end() == 0


def test_watching_without_a_daemon_ends_at_once(tmp_path: Path) -> None:
    terminal = Terminal("status", "--watch", "--socket", str(tmp_path / "none"))
    eventually(lambda: terminal.shows("no daemon listens there"))
    assert terminal.process.wait(10) == 3
    terminal.end()


def test_following_events_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Served(path) as served:
        running = Program(tmp_path, dict(os.environ)).start("events", "--follow", "--socket", str(path))
        eventually(lambda: "started" in running._read(running._out))
        served.daemon.note("sales", "something new")
        eventually(lambda: "something new" in running._read(running._out))
        running.signal(2)
        ended = running.wait(10)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("started") == 1
