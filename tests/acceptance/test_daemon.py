"""The daemon as an administrator runs it: a process with a configuration file, signals, a socket, a service manager."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from asynccopy import metrics
from testbed.process import free_ports
from tests.place import Place, equal
from tests.program import Ended, Program, eventually

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.end()


def refused(ended: Ended, code: int, *says: str) -> None:
    """One line, perhaps a hint, nothing else."""
    lines = ended.err.splitlines()
    assert (ended.code, ended.out) == (code, ""), ended.err
    assert 1 <= len(lines) <= 2, ended.err
    assert lines[0].startswith("asynccopy: ")
    assert all(line.startswith("hint: ") for line in lines[1:])
    for words in says:
        assert re.search(words, ended.err), ended.err


def journal(place: Place, *words: str) -> str:
    ended = place.program.run("journal", *words, "--mirror", "m", "--config", str(place.service.config))
    assert ended.code == 0, ended.err
    return ended.out


# --- the configuration -----------------------------------------------------------------------------------------------

MIRROR = '[mirrors.m]\nsource = "/s"\ndestination = "/d"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", ["no mirrors", r"\[mirrors.NAME\]"], id="empty"),
        pytest.param("[daemon]\n", ["no mirrors"], id="no mirrors"),
        pytest.param("mirrors = [", ["not TOML", "hint"], id="not TOML"),
        pytest.param('[mirrors.m]\nsource = "/s"\n', [r"\[mirrors.m\]", "destination"], id="missing key"),
        pytest.param(
            MIRROR + "intervall = '5s'\n", [r"\[mirrors.m\]", "intervall", "`interval` meant"], id="unknown key"
        ),
        pytest.param("[mirror.m]\n", ["mirror", r"\[mirrors.NAME\]"], id="unknown table"),
        pytest.param(MIRROR + "interval = 5\n", ["interval", "unit"], id="no unit"),
        pytest.param(MIRROR + "interval = '0s'\n", ["interval", "1s"], id="too often"),
        pytest.param(MIRROR + "deletions = 'yes'\n", ["deletions", '"trash"'], id="unknown word"),
        pytest.param(MIRROR + "bandwidth = ['25:00-26:00 = 1MiB/s']\n", ["bandwidth", "25:00"], id="no such hour"),
        pytest.param(MIRROR.replace("/s", "s"), ["source", "absolute path"], id="relative source"),
        pytest.param(MIRROR.replace("/d", "/s/d"), ["destination", "overlaps"], id="into itself"),
        pytest.param(MIRROR + MIRROR.replace(".m", ".n"), [r"\[mirrors.n\]", "that of .* too"], id="same place"),
        pytest.param(MIRROR.replace("/s", "dc1:/s"), ["dc1", r"endpoints in this file: none"], id="unknown endpoint"),
        pytest.param("[daemon]\nstate = 'state'\n" + MIRROR, ["state", "absolute path"], id="relative state"),
        pytest.param("[daemon]\nlisten = '0.0.0.0:80'\n" + MIRROR, ["listen", "token_file"], id="open to all"),
        pytest.param("[daemon]\nlisten = '8787'\n" + MIRROR, ["listen", "host:port"], id="a port alone"),
        pytest.param("[daemon]\ntoken_file = '/no/token'\n" + MIRROR, ["/no/token", "No such file"], id="no token"),
        pytest.param("[daemon]\ntoken_file = 'token'\n" + MIRROR, ["CREDENTIALS_DIRECTORY"], id="no credential"),
        pytest.param(MIRROR + "[webhooks.w]\nurl_file = '/no/url'\n", ["/no/url", "No such file"], id="no webhook"),
        pytest.param(MIRROR + "[webhooks.w]\nurl = 'ftp://x'\n", [r"\[webhooks.w\]", "https"], id="no address"),
    ],
)
def test_a_wrong_configuration_is_told_before_anything_is_done(tmp_path: Path, text: str, says: list[str]) -> None:
    program = Program(tmp_path, {})
    (tmp_path / "c.toml").write_text(text)
    for words in ((), ("--check",)):
        refused(program.run("run", "--config", "c.toml", *words), 2, *says)
    assert os.listdir(tmp_path / "state") == [] if (tmp_path / "state").exists() else True


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    program = Program(tmp_path, {})
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes(b'[mirrors.m]\nsource = "/caf\xe9"\n')
    refused(program.run("run"), 2, "--config")
    refused(program.run("run", "--config", "folder"), 2, "folder")
    refused(program.run("run", "--config", "nothing"), 2, "nothing", "No such file")
    refused(program.run("run", "--config", "latin"), 2, "latin", "UTF-8")


def test_check_reaches_both_sides_and_writes_nothing(place: Place) -> None:
    place.write(place.mirror())
    ended = place.program.run("run", "--config", str(place.service.config), "--check")
    assert (ended.code, ended.err) == (0, "")
    assert f"m: file://{place.source} -> file://{place.destination}: ok" in ended.out
    assert "1 mirror, all reachable" in ended.out
    assert not place.destination.exists()
    assert not (place.folder / "daemon").exists()
    place.write(place.mirror(watch="snapshots"))
    ended = place.program.run("run", "--config", str(place.service.config), "--check")
    assert ended.code == 2
    assert "has no snapshots" in ended.out


def test_check_names_the_side_that_cannot_be_reached(place: Place) -> None:
    [port] = free_ports(1)
    place.write(
        place.mirror("n", source=f"webhdfs://localhost:{port}/data"),
        place.mirror("o", source="/no/such/folder"),
        place.mirror(),
    )
    ended = place.program.run("run", "--config", str(place.service.config), "--check")
    assert ended.code == 3, ended.err
    n, o, m, summary = ended.out.splitlines()
    assert n.startswith("n: ")
    assert f"localhost:{port}" in n
    assert o.startswith("o: ")
    assert "/no/such/folder" in o
    assert m.endswith("ok (no checksum of its own)")
    assert summary.endswith("3 mirrors, see above")


# --- the service manager and signals ---------------------------------------------------------------------------------


class Manager:
    """Stands in for systemd: what was told on its socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(os.fspath(path))
        self.told: list[str] = []

    def hears(self, words: str) -> bool:
        """Whether it was told this up to now."""
        while True:
            try:
                self.told.append(self._socket.recv(4096, socket.MSG_DONTWAIT).decode())
            except BlockingIOError:
                return any(words in said for said in self.told)

    def close(self) -> None:
        self._socket.close()


def test_the_service_manager_is_told(place: Place) -> None:
    manager = Manager(place.folder / "notify")
    try:
        place.fill(3, 100)
        place.start(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="600000")
        eventually(lambda: manager.hears("READY=1"))
        eventually(lambda: manager.hears("WATCHDOG=1"))
        eventually(lambda: re.search(r"STATUS=1 (watching|copying)", "\n".join(manager.told)) or manager.hears("\0"))
        manager.told.clear()
        assert place.service.running is not None
        place.service.running.signal(signal.SIGHUP)
        eventually(lambda: manager.hears("READY=1"))
        order = [said.split("=")[0] for said in manager.told if said.startswith(("RELOADING", "READY"))]
        assert order == ["RELOADING", "READY"]
        assert place.service.stop().code == 0
        assert manager.hears("STOPPING=1")
    finally:
        manager.close()


def test_a_signal_drains_and_nothing_is_lost(place: Place) -> None:
    place.fill(60, 100 * KIB)
    place.start(place.mirror(bandwidth="1MiB/s", concurrency=4))
    place.service.until(lambda status: status["files"]["done"] >= 10)
    ended = place.service.stop()
    assert ended.code == 0, ended.err
    done = len(place.tree(place.destination))
    assert 10 <= done < 60
    rows = [json.loads(line) for line in journal(place, "export").splitlines()]
    assert sum(row["state"] == "done" for row in rows) == done
    place.write(place.mirror())
    place.again()
    status = place.service.until(lambda status: equal(status) and status["files"]["done"] == 60)
    assert status["copied_files"] == 60 - done
    assert place.is_equal()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(place: Place, number: int) -> None:
    place.fill(1, 8 * MIB)
    place.start(place.mirror(bandwidth="100KiB/s"))
    eventually(lambda: any(flying.moved for flying in place.client.detail("m").flying))
    running = place.service.running
    assert running is not None
    running.signal(number)
    eventually(lambda: "stopping after the ranges in flight" in running.so_far())
    time.sleep(0.5)
    assert running.runs
    running.signal(number)
    began = time.monotonic()
    ended = running.wait()
    assert ended.code == 5
    assert time.monotonic() - began < 5
    assert "Traceback" not in ended.err
    assert not place.service.socket.exists()
    place.write(place.mirror())
    place.again()
    place.service.until(lambda status: equal(status) and status["files"]["done"] == 1)
    assert place.is_equal()


def test_drain_ends_it_like_a_signal(place: Place) -> None:
    place.start()
    place.ask("drain")
    assert place.service.running is not None
    assert place.service.running.wait().code == 0


# --- another configuration -------------------------------------------------------------------------------------------


def reload_by_verb(place: Place) -> None:
    place.ask("reload")


def reload_by_signal(place: Place) -> None:
    assert place.service.running is not None
    place.service.running.signal(signal.SIGHUP)


Reload = Callable[[Place], None]
both_ways = pytest.mark.parametrize("reload", [reload_by_verb, reload_by_signal], ids=["verb", "signal"])


def test_a_reload_leaves_the_journals_where_they_are_until_the_restart(place: Place) -> None:
    place.fill(3, 1000)
    place.start()
    place.service.until(equal)
    here, there = place.folder / "daemon", place.folder / "other"
    text = place.service.config.read_text()
    place.service.config.write_text(text.replace(str(here), str(there)) + 'exclude = ["f001"]\n')
    for _ in range(2):
        assert "daemon: state: holds after a restart" in place.ask("reload").out
    place.service.until(lambda status: equal(status) and status["files"]["done"] == 3)
    assert not there.exists()


@both_ways
def test_a_reload_changes_adds_removes_and_rebuilds(place: Place, reload: Reload) -> None:
    place.fill(5, 1000)
    place.fill(5, 1000, folder="n")
    place.fill(5, 1000, folder="o")
    place.start(place.mirror(), place.mirror("n"))
    place.service.until(equal)
    place.service.until(equal, mirror="n")
    other = place.folder / "elsewhere"
    place.write(place.mirror(bandwidth="3MiB/s", destination=str(other)), place.mirror("o", bandwidth="2MiB/s"))
    reload(place)
    eventually(lambda: {each.name for each in place.client.status().mirrors} == {"m", "o"})
    status = place.service.until(lambda status: equal(status) and status["files"]["done"] == 5)
    assert (status["destination"], status["bandwidth"]) == (f"file://{other}", 3 * MIB)
    assert place.tree(other) == place.tree(place.source)
    assert place.service.until(equal, mirror="o")["bandwidth"] == 2 * MIB
    said = place.ask("events").out
    for line in ("mirror o: added", "mirror n: removed", "mirror m: bandwidth, destination: begun anew"):
        assert f"configuration: {line}" in said
    place.write(place.mirror(bandwidth="1MiB/s", destination=str(other)), place.mirror("o", bandwidth="2MiB/s"))
    reload(place)
    place.service.until(lambda status: status["bandwidth"] == MIB)
    assert "configuration: mirror m: bandwidth\n" in place.ask("events").out


def test_what_is_counted_outlives_a_rebuild(place: Place) -> None:
    receiver = Receiver()
    webhook = f'[webhooks.w]\nurl = "{receiver.url}"\n'
    try:
        place.fill(3, 1000)
        place.start(place.mirror(), webhook)
        place.service.until(lambda status: equal(status) and status["copied_files"] == 3)
        eventually(lambda: receiver.has("completion", "m", over=True))
        place.fill(2, 1000, "later.log")
        place.service.until(lambda status: equal(status) and status["copied_files"] == 5)
        receiver.told.clear()
        place.write(place.mirror(exclude=["**/*.tmp"]), webhook)
        assert place.ask("reload").out == "mirror m: exclude: begun anew\n"
        place.fill(1, 1000, "last")
        status = place.service.until(lambda status: equal(status) and status["files"]["done"] == 6)
        assert (status["copied_files"], status["copied_bytes"]) == (6, 6000)
        assert [each.kind for each in place.client.detail("m").scans].count("first") == 2
        time.sleep(6.0)  # longer than from one look to the next
        assert receiver.told == []
        place.write(place.mirror(destination=str(place.folder / "elsewhere")), webhook)
        place.ask("reload")
        eventually(lambda: receiver.has("completion", "m", over=True))  # that one is another first copy
    finally:
        receiver.close()


def test_a_mirror_that_is_not_watched_does_not_lag(place: Place) -> None:
    place.fill(2, 1000)
    place.start(place.mirror(watch="off"))
    place.service.until(lambda status: equal(status) and status["files"]["done"] == 2)
    place.service.kill()
    place.fill(1, 1000, "later")
    place.again()
    status = place.service.until(lambda status: status["state"] == "watching")
    assert (status["watch"], status["lag_seconds"], status["files"]["done"]) == ("off", 0, 2)


def test_a_reload_does_not_drop_what_is_in_flight(place: Place) -> None:
    place.fill(1, 12 * MIB)
    place.start(place.mirror(bandwidth="2MiB/s"))
    place.service.until(lambda status: status["in_flight"] == 1 and status["bytes_per_second"] > 0)
    place.write(place.mirror(bandwidth="500MiB/s", lag_alert="1h"))
    assert place.ask("reload").out == "mirror m: bandwidth, lag_alert\n"
    place.service.until(lambda status: equal(status) and status["files"]["done"] == 1, 10)
    (scan, *_) = [each for each in place.client.detail("m").scans if each.kind == "first"]
    assert (scan.outcome, scan.copied) == ("complete", 1)
    assert place.is_equal()


def test_mirrors_that_are_replaced_finish_first_and_nobody_waits(place: Place) -> None:
    place.fill(1, 6 * MIB)
    place.start(place.mirror(bandwidth="1MiB/s"))
    eventually(lambda: any(flying.moved for flying in place.client.detail("m").flying))
    for number in (1, 2):
        place.write(place.mirror(destination=f"{place.folder}/elsewhere{number}"))
        assert place.ask("reload").out.startswith("mirror m: ")
    [status] = place.client.status().mirrors
    assert (status.state, status.destination) == ("copying", f"file://{place.destination}")
    place.write(place.mirror("n"))
    assert place.ask("reload").out == "mirror n: added\nmirror m: removed\n"
    assert {each.name for each in place.client.status().mirrors} == {"m", "n"}
    place.write(place.mirror(destination=f"{place.folder}/elsewhere3"))
    place.ask("reload")
    place.service.until(
        lambda status: status["destination"].endswith("elsewhere3") and equal(status) and status["files"]["done"] == 1,
        20,
    )
    assert [each.name for each in place.client.status().mirrors] == ["m"]
    assert place.tree(place.folder / "elsewhere3") == place.tree(place.source)
    assert not (place.folder / "elsewhere1").exists()
    assert not (place.folder / "elsewhere2").exists()
    ended = place.service.stop()
    assert ended.code == 0
    assert "Traceback" not in ended.err


@both_ways
def test_a_bad_configuration_is_refused_and_the_old_one_goes_on(place: Place, reload: Reload) -> None:
    place.start(place.mirror(bandwidth="3MiB/s"))
    place.service.until(equal)
    for text, says in (("[mirrors.m]\nsauce = 1\n", "sauce"), ("", "no mirrors"), ("[", "TOML")):
        place.service.config.write_text(text)
        if reload is reload_by_verb:
            refused(place.service.ask("reload"), 2, says)
        else:
            reload(place)
        eventually(lambda says=says: re.search(f"configuration is refused.*{says}", place.ask("events").out))
        assert re.search(f"configuration is refused.*{says}", place.service.errors())
    place.fill(1, 1000, "later")
    status = place.service.until(lambda status: equal(status) and status["files"]["done"] == 1)
    assert status["bandwidth"] == 3 * MIB


# --- steering --------------------------------------------------------------------------------------------------------


def test_a_pause_outlives_a_kill(place: Place) -> None:
    place.fill(3, 1000)
    place.start()
    place.service.until(equal)
    place.ask("pause", "m")
    place.fill(1, 1000, "later")
    for _ in range(2):
        status = place.service.until(lambda status: status["state"] == "paused")
        assert "asynccopy resume" in status["reason"]
        time.sleep(1.5)
        assert not (place.destination / "later000").exists()
        place.service.kill()
        place.again()
    place.ask("resume")
    place.service.until(lambda status: equal(status) and status["files"]["done"] == 4)
    place.service.kill()
    place.again()
    place.service.until(equal)
    assert place.is_equal()


def test_a_scan_is_made_now(place: Place) -> None:
    place.start(place.mirror(interval="1h", full_scan_interval="6h"))
    place.service.until(equal)
    place.fill(1, 1000)
    time.sleep(1.5)
    assert not (place.destination / "f000").exists()
    place.ask("scan", "m")
    place.service.until(lambda status: status["files"]["done"] == 1, 10)


def test_failed_files_are_told_and_tried_again(place: Place) -> None:
    place.fill(3, 1000)
    (place.destination / "f001" / "in the way").mkdir(parents=True)
    place.start(place.mirror(interval="1h", full_scan_interval="6h"))
    place.service.until(lambda status: status["failed"] == 1 and status["state"] == "watching")
    path, error_class, message, _ = place.ask("errors", "m").out.rstrip("\n").split("\t")
    assert path == "f001"
    assert place.ask("errors", "m", "--class", error_class, "--json").out.count("\n") == 1
    assert place.ask("errors", "m", "--class", "NoSuchClass").out == ""
    assert place.service.ask("status").code == 1
    assert message in place.service.ask("status", "m").out
    (place.destination / "f001" / "in the way").rmdir()
    (place.destination / "f001").rmdir()
    assert place.ask("retry", "m").out == "1 files are tried again\n"
    place.service.until(equal, 10)
    assert place.is_equal()
    assert place.ask("errors", "m").out == ""


def test_a_limit_holds_at_once_and_outlives_a_kill(place: Place) -> None:
    place.fill(40, 100 * KIB)
    place.start(place.mirror(bandwidth="200KiB/s"))
    place.service.until(lambda status: status["in_flight"] > 0)
    place.ask("limit", "m", "--bandwidth", "20MiB/s", "--concurrency", "3")
    place.service.until(lambda status: equal(status) and status["files"]["done"] == 40, 10)
    place.service.kill()
    place.fill(20, 100 * KIB, "g")
    refused(place.service.ask("status"), 3, "no daemon listens there")
    place.again()
    status = place.service.until(lambda status: status["bandwidth"] is not None)
    assert (status["bandwidth"], status["concurrency"]) == (20 * MIB, 3)
    place.ask("limit", "m", "--bandwidth", "none")
    assert place.service.until(lambda status: status["bandwidth"] is None)["concurrency"] == 3
    place.ask("limit", "m", "--bandwidth", "configured")
    place.service.until(lambda status: status["bandwidth"] == 200 * KIB)
    place.service.kill()
    place.again()
    assert place.service.until(lambda status: status["bandwidth"] is not None)["bandwidth"] == 200 * KIB
    refused(place.service.ask("limit", "m"), 2, "--bandwidth")
    refused(place.service.ask("limit", "m", "--bandwidth", "fast"), 2, "fast", "200MiB/s")
    refused(place.service.ask("limit", "nobody", "--bandwidth", "5MiB/s"), 2, "no mirror", "asynccopy status")


def test_a_pause_in_the_timetable_begins_nothing_and_breaks_nothing(place: Place) -> None:
    place.fill(2, 3 * MIB, "a")
    place.fill(20, 100 * KIB, "b")
    place.start(place.mirror(bandwidth="1MiB/s", concurrency=2))
    place.service.until(lambda status: status["in_flight"] == 2)
    place.write(place.mirror(bandwidth=["00:00-24:00 = pause"], concurrency=2))
    place.ask("reload")
    # what was in flight comes to its end
    place.service.until(lambda status: status["in_flight"] == 0 and status["files"]["done"] >= 2)
    status = place.service.until(lambda status: status["bandwidth"] == 0)
    assert (status["failed"], status["retries"], status["concurrency"]) == (0, 0, 0)
    assert status["files"]["pending"] > 10
    time.sleep(2.0)
    later = place.service.until(lambda status: status["in_flight"] == 0)
    assert later["files"]["done"] == status["files"]["done"]
    assert place.service.stop().code == 0  # it can be drained meanwhile
    place.again()
    time.sleep(2.0)
    assert place.service.until(lambda status: status["state"] == "copying")["copied_files"] == 0
    place.write(place.mirror(bandwidth=["00:00-24:00 = unlimited"], concurrency=2))
    place.ask("reload")
    status = place.service.until(lambda status: equal(status) and status["files"]["done"] == 22, 20)
    assert status["retries"] == 0
    assert place.is_equal()


def test_who_else_limits_it_is_told(place: Place) -> None:
    place.fill(3, 1000)
    mirror = place.mirror(bandwidth="3MiB/s")
    place.start(mirror, daemon='bandwidth = ["00:00-24:00 = pause"]')
    status = place.service.until(lambda status: status["state"] == "copying")
    assert status["reason"] == "paused by the timetable of [daemon]"
    assert (status["bandwidth"], status["concurrency"], status["files"]["done"]) == (0, 0, 0)
    assert status["windows"] == ["[daemon] 00:00-24:00 = pause"]
    place.write(mirror, daemon='bandwidth = "2MiB/s"')
    place.ask("reload")
    status = place.service.until(lambda status: equal(status) and status["files"]["done"] == 3)
    assert (status["bandwidth"], status["reason"], status["windows"]) == (2 * MIB, "", ["[daemon] 2MiB/s"])
    place.write(mirror, daemon='bandwidth = "9MiB/s"')
    place.ask("reload")
    place.service.until(lambda status: status["bandwidth"] == 3 * MIB)


def test_a_shared_bandwidth_goes_by_priority(place: Place) -> None:
    for folder in ("x", "y"):
        place.fill(400, 32 * KIB, folder=folder)
    place.start(place.mirror("x", priority=9), place.mirror("y", priority=3), daemon='bandwidth = "1MiB/s"')
    began = time.monotonic()
    x = place.service.until(lambda status: status["files"]["done"] >= 150, mirror="x")["files"]["done"]
    took = time.monotonic() - began
    y = place.service.until(lambda status: True, mirror="y")["files"]["done"]
    assert 2.0 <= x / y <= 4.5, (x, y)
    assert (x + y) * 32 * KIB / took < 1.6 * MIB


def test_the_ranges_in_flight_are_capped(place: Place) -> None:
    for folder in ("x", "y"):
        place.fill(200, 32 * KIB, folder=folder)
    place.start(place.mirror("x", bandwidth="1MiB/s"), place.mirror("y", bandwidth="1MiB/s"), daemon="concurrency = 4")
    place.service.until(lambda status: status["concurrency"] == 2, mirror="x")
    time.sleep(1.0)
    seen = []
    for _ in range(20):
        seen.append(sum(each.in_flight for each in place.client.status().mirrors))
        time.sleep(0.1)
    assert 0 < max(seen) <= 4, seen


def test_the_cap_holds_for_the_parts_of_one_file(place: Place) -> None:
    place.fill(1, 64 * MIB)
    place.start(place.mirror(bandwidth="12MiB/s", part_size="5MiB", concurrency=3))
    place.service.until(lambda status: status["in_flight"] > 1)
    seen = []
    for _ in range(20):
        detail = place.client.detail("m")
        assert len(detail.flying) == 1
        seen.append(detail.status.in_flight)
        time.sleep(0.1)
    assert max(seen) == 3, seen
    place.ask("limit", "m", "--bandwidth", "none")
    status = place.service.until(lambda status: equal(status) and status["files"]["done"] == 1)
    assert status["in_flight"] == 0
    assert place.is_equal()


@pytest.mark.parametrize("order", ["smallest", "largest", "oldest", "newest"])
def test_the_order_of_copies(place: Place, order: str) -> None:
    sizes = [3000, 1000, 5000, 2000, 4000]
    times = [2, 5, 1, 4, 3]
    for number, (size, hours) in enumerate(zip(sizes, times, strict=True)):
        path = place.source / f"f{number}"
        path.write_bytes(b"x" * size)
        os.utime(path, (1.7e9 + 3600 * hours,) * 2)
    place.start(place.mirror(order=order, concurrency=1, bandwidth="10KiB/s"))
    place.service.until(lambda status: equal(status) and status["files"]["done"] == 5)
    rows = [json.loads(line) for line in journal(place, "export").splitlines()]
    copied = [int(row["path"][1:]) for row in sorted(rows, key=lambda row: row["done_at"])]
    by = {"smallest": sizes, "largest": [-size for size in sizes], "oldest": times, "newest": [-at for at in times]}
    assert copied == sorted(range(5), key=lambda number: by[order][number])


def test_deletions_above_the_cap_wait_for_a_person(place: Place) -> None:
    place.fill(10, 100)
    place.start(place.mirror(deletions="delete", max_delete=2))
    place.service.until(lambda status: status["files"]["done"] == 10)
    for number in range(5):
        (place.source / f"f{number:03d}").unlink()

    # while a pass goes on, the reason is that of the pass
    def planned(status: dict[str, Any]) -> bool:
        return status["state"] == "watching" and status["deletions"]["count"] == 5

    status = place.service.until(lambda status: status["deletions"]["held"] and planned(status))
    assert "asynccopy deletions" in status["reason"]
    ended = place.ask("deletions", "m")
    assert ended.out.splitlines() == [f"f{number:03d}" for number in range(5)]
    assert "--confirm 5" in ended.err
    refused(place.service.ask("deletions", "m", "--confirm", "4"), 2, "5 deletions now, not 4")
    assert len(place.tree(place.destination)) == 10
    place.ask("deletions", "m", "--confirm", "5")
    eventually(place.is_equal)
    place.service.until(lambda status: status["deletions"]["count"] == 0 and not status["deletions"]["held"])
    (place.source / "f005").unlink()  # within the cap
    eventually(place.is_equal)
    assert place.service.until(lambda status: status["deleted_files"] == 6)


def test_a_source_that_comes_later_is_found_by_a_scan(place: Place) -> None:
    place.source.rmdir()
    place.start()
    status = place.service.until(lambda status: status["state"] == "failed")
    assert str(place.source) in status["reason"]
    assert place.service.ask("status").code == 1
    place.source.mkdir()
    place.fill(1, 1000)
    place.ask("scan")
    place.service.until(lambda status: equal(status) and status["files"]["done"] == 1, 10)
    assert re.search(r"error +m +.*src", place.ask("events").out)


# --- what it leaves and what it tells --------------------------------------------------------------------------------


def test_the_journal_tells_a_files_whole_life(place: Place) -> None:
    place.fill(2, 1000)
    place.start()
    place.service.until(lambda status: status["files"]["done"] == 2)
    assert re.search(r"^now\n(.*\n)* +state +done\n +length +1000\n", journal(place, "show", "f000"))
    (place.source / "f000").unlink()
    place.service.until(lambda status: status["deletions"]["count"] == 1)
    path, missed, length = journal(place, "gone").rstrip("\n").split("\t")
    assert (path, length) == ("f000", "1000")
    assert re.match(r"20\d\d-\d\d-\d\dT", missed)
    assert re.search(r"^gone 20\d\d-(.*\n)+ +length +1000\n", journal(place, "show", "f000"))
    (place.source / "f000").write_bytes(b"anew")
    place.service.until(lambda status: equal(status) and status["files"]["done"] == 2)
    assert re.search(r"^gone 20\d\d-(.*\n)+now\n(.*\n)* +length +4\n", journal(place, "show", "f000"))
    assert re.search(r"done +2 files.*\n(.*\n)* +gone +1 files\n", journal(place, "show"))
    passes = [json.loads(line) for line in journal(place, "passes").splitlines()]
    assert passes[-1].items() >= {"kind": "first", "outcome": "complete", "copied": 2, "bytes": 2000}.items()
    assert [each["number"] for each in passes] == list(range(len(passes), 0, -1))
    assert sum(each["copied"] for each in passes) == 3
    assert len(journal(place, "passes", "--limit", "1").splitlines()) == 1
    config = ("--config", str(place.service.config))
    refused(place.program.run("journal", "show", "--mirror", "n", *config), 2, "n", "mirrors in this file: m")
    refused(place.program.run("journal", "show", "--mirror", "m"), 2, "--config")
    refused(place.program.run("journal", "show", "nothing", "--mirror", "m", *config), 2, "not in this journal")


def test_one_daemon_for_a_state_directory(place: Place) -> None:
    place.start()
    place.service.until(equal)
    other = place.folder / "other.toml"
    text = place.service.config.read_text()
    other.write_text(text.replace("c.sock", "d.sock"))
    refused(
        place.program.run("run", "--config", str(other)), 4, "another daemon has its state there", "process", "hint"
    )
    other.write_text(text.replace('/daemon"', '/daemon2"'))
    refused(place.program.run("run", "--config", str(other)), 2, "another daemon answers there", "hint")
    assert not (place.folder / "d.sock").exists()
    place.fill(1, 100)
    place.service.until(lambda status: equal(status) and status["files"]["done"] == 1)


def test_what_cannot_be_listened_on_or_written_is_told(place: Place) -> None:
    """Before it says that it is ready, and with nothing left behind."""
    file, config = place.folder / "file", str(place.service.config)
    file.touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place.write(place.mirror(), daemon=f'listen = "127.0.0.1:{taken.getsockname()[1]}"')
        refused(place.program.run("run", "--config", config), 2, "in use", "port taken")
    assert not place.service.socket.exists()
    place.write(place.mirror())
    text = place.service.config.read_text()
    place.service.config.write_text(text.replace('/daemon"', '/file"'))
    refused(place.program.run("run", "--config", config), 4, "file: no state can be kept there", "hint")
    place.service.config.write_text(text.replace('c.sock"', 'file"'))
    refused(place.program.run("run", "--config", config), 2, "exists and is no socket", "hint")
    place.service.config.write_text(text.replace('c.sock"', 'none/c.sock"'))
    refused(place.program.run("run", "--config", config), 2, "none/c.sock", "hint: its folder must exist")
    place.write(place.mirror(source="gs://bucket/x"))
    refused(place.program.run("run", "--config", config), 2, "unknown scheme gs://", "hint")
    assert not place.destination.exists()


def test_a_copy_keeps_away_from_a_daemons_journal(place: Place) -> None:
    place.start()
    place.service.until(equal)
    sides = (str(place.source), str(place.destination))
    ended = place.program.run("copy", *sides, "--journal", str(place.service.journal()))
    refused(ended, 4, "in use by process", "hint")
    assert place.service.status() is not None


def test_a_journal_in_use_is_waited_for(place: Place) -> None:
    place.fill(1, 100)
    place.start()
    place.service.until(equal)
    path = place.service.journal()
    assert place.service.stop().code == 0
    place.fill(1, 4 * MIB, "big")
    sides = (str(place.source), str(place.destination))
    copy = place.program.start("copy", *sides, "--journal", str(path), "--bandwidth", "1MiB/s")
    eventually(lambda: Path(f"{path}.lock").read_text().strip() == str(copy.pid))
    place.again()
    status = place.service.until(lambda status: "in use" in status["reason"])
    assert status["state"] == "waiting"
    refused(place.service.ask("limit", "m", "--bandwidth", "1MiB/s"), 2, "journal is not open")
    place.ask("pause", "m")
    assert copy.wait().code == 0
    status = place.service.until(lambda status: status["state"] == "paused")
    place.service.kill()
    place.again()  # the pause was asked for before the journal could keep it
    place.service.until(lambda status: status["state"] == "paused")
    place.ask("resume", "m")
    place.service.until(lambda status: equal(status) and status["files"]["done"] == 2)


class Receiver:
    """A webhook's end: a web server that keeps what it was sent."""

    def __init__(self, answer: int = 204) -> None:
        told = self.told = list[dict[str, Any]]()

        class Page(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))) | {"path": self.path})
                self.send_response(answer)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook/hunter2secret"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def has(self, occasion: str, mirror: str, *, over: bool = False) -> bool:
        found = {(each["occasion"], each["mirror"], each["over"]) for each in self.told}
        return (occasion, mirror, over) in found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_webhooks_hear_of_failure_completion_and_lag(place: Place) -> None:
    receiver = Receiver()
    try:
        place.fill(3, 1000)
        mirrors = (
            place.mirror(interval="1h", full_scan_interval="6h", lag_alert="8s"),
            place.mirror("n"),
            f'[webhooks.w]\nurl = "{receiver.url}"\n',
        )
        place.start(*mirrors)
        eventually(lambda: receiver.has("completion", "m") or receiver.has("completion", "m", over=True))
        eventually(lambda: receiver.has("failure", "n"))
        eventually(lambda: receiver.has("lag", "m"))
        Path(f"{place.source}n").mkdir()
        place.ask("scan")
        eventually(lambda: receiver.has("failure", "n", over=True))
        eventually(lambda: receiver.has("lag", "m", over=True))
        assert place.service.stop().code == 0
        assert "hunter2secret" not in place.service.errors()
        [completion] = [each for each in receiver.told if each["occasion"] == "completion" and each["mirror"] == "m"]
        assert "3 files, 3000 bytes" in completion["text"]
        assert completion["path"] == "/hook/hunter2secret"
        receiver.told.clear()
        place.again()
        time.sleep(6.5)  # longer than from one look to the next
        assert not [each for each in receiver.told if each["occasion"] == "completion"]
    finally:
        receiver.close()


@pytest.mark.parametrize("wanted", [False, True])
def test_the_log_is_json_without_secrets_and_names_files_where_that_is_wanted(place: Place, wanted: bool) -> None:
    receiver = Receiver(404)
    try:
        place.fill(2, 1000)
        (place.destination / "f001" / "in the way").mkdir(parents=True)
        hook = f'[webhooks.w]\nurl = "{receiver.url}?token=hunter2secret"\n'
        place.start(place.mirror(), hook, daemon=f"file_events = {json.dumps(wanted)}")
        eventually(lambda: "webhook was not told" in place.service.errors())
        ended = place.service.stop()
    finally:
        receiver.close()
    assert ended.code == 0
    assert "hunter2secret" not in ended.err
    assert all({"event", "level", "timestamp"} <= line.keys() for line in place.lines())
    files = [line for line in place.lines() if "path" in line]
    if not wanted:
        assert files == []
        return
    [copied] = [line for line in files if line["event"] == "copied"]
    assert copied.items() >= {"mirror": "m", "path": "f000", "bytes": 1000}.items()
    failed = next(line for line in files if line["event"] == "failed")
    assert failed.items() >= {"mirror": "m", "path": "f001", "bytes": 1000}.items()
    assert failed["error"]
    assert failed["reason"]


# --- on the wire -----------------------------------------------------------------------------------------------------


@pytest.fixture
def simulators() -> Iterator[dict[str, str]]:
    """An HDFS of 40 files of 64 KiB in four directories and an empty store: their addresses."""
    options = ("--directories", "4", "--files-per-directory", "10", "--file-length", str(64 * KIB))
    words = (sys.executable, "-m", "asynccopy.simulators", *options)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.communicate(b"", timeout=20)


class Wire(Place):
    """Mirrors from the simulated HDFS to the simulated store."""

    def __init__(self, folder: Path, urls: dict[str, str]) -> None:
        super().__init__(folder, AWS_ACCESS_KEY_ID="simulator", AWS_SECRET_ACCESS_KEY="simulator-secret")
        self.store = urls["s3"]
        self.endpoints = (
            f'[endpoints.dc1]\ntype = "webhdfs"\nurl = "{urls["webhdfs"]}"\nuser = "hdfs"\nconcurrency = 3\n'
            f'[endpoints.lake]\ntype = "s3"\nbucket = "bucket"\nendpoint = "{urls["s3"]}"\nregion = "us-east-1"\n'
        )

    def pair(self, name: str = "m", **keys: object) -> str:
        return self.mirror(name, **{"source": "dc1:/", "destination": f"lake:/{name}", **keys})


@pytest.fixture
def wire(tmp_path: Path, simulators: dict[str, str]) -> Iterator[Wire]:
    wire = Wire(tmp_path, simulators)
    yield wire
    wire.end()


def families(text: str) -> dict[str, Any]:
    """By the name as it is declared."""
    found = {family.name: family for family in text_string_to_metric_families(text)}
    return {name if family.type != "counter" else f"{name}_total": family for name, family in found.items()}


def test_every_metric_is_there_and_grows(wire: Wire) -> None:
    [port] = free_ports(1)
    wire.start(wire.endpoints, wire.pair(bandwidth="900MiB/s"), daemon=f'listen = "127.0.0.1:{port}"')
    wire.service.until(lambda status: equal(status) and status["files"]["done"] == 40)

    def scrape() -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
            return families(reply.read().decode())

    def value(found: dict[str, Any], name: str, **labels: str) -> float:
        [value] = [
            sample.value
            for family in found.values()
            for sample in family.samples
            if sample.name == f"asynccopy_{name}" and labels.items() <= sample.labels.items()
        ]
        return float(value)

    first = scrape()
    assert {family.name for family in metrics.FAMILIES} == set(first)
    silent = {name for name, family in first.items() if not family.samples}
    assert silent == {"asynccopy_failed_files"}  # none has failed
    assert value(first, "files", mirror="m", state="done") == 40
    assert value(first, "bytes", mirror="m", state="done") == 40 * 64 * KIB
    assert value(first, "copied_bytes_total", mirror="m") == 40 * 64 * KIB
    assert value(first, "bandwidth_limit_bytes_per_second", mirror="m") == 900 * MIB
    assert 10 * MIB < value(first, "resident_memory_bytes") < 1024 * MIB
    assert abs(value(first, "start_time_seconds") - time.time()) < 60
    assert abs(value(first, "last_scan_timestamp_seconds", mirror="m") - time.time()) < 60
    assert value(first, "scan_duration_seconds_count", mirror="m", kind="first") == 1
    assert value(first, "store_request_seconds_count") >= 40
    time.sleep(1.5)
    later = scrape()
    for name in ("namenode_request_seconds_count", "journal_commit_seconds_count", "journal_commit_seconds_sum"):
        assert value(later, name) > value(first, name) > 0, name
    assert value(later, "journal_commit_seconds_sum") / value(later, "journal_commit_seconds_count") < 5


def test_an_endpoint_caps_all_its_mirrors_together(wire: Wire) -> None:
    slow = {"bandwidth": "200KiB/s"}
    wire.start(wire.endpoints, wire.pair("x", **slow), wire.pair("y", **slow), daemon='log = "json"')
    wire.service.until(lambda status: status["concurrency"] in (1, 2), mirror="x")
    wire.service.until(lambda status: status["concurrency"] in (1, 2), mirror="y")
    time.sleep(1.0)
    seen = []
    for _ in range(20):
        mirrors = wire.client.status().mirrors
        assert sum(each.concurrency for each in mirrors) == 3
        seen.append(sum(each.in_flight for each in mirrors))
        time.sleep(0.1)
    assert 0 < max(seen) <= 3, seen


def test_check_tells_a_wrong_bucket_and_wrong_credentials(wire: Wire) -> None:
    def check(text: str, **environment: str) -> str:
        wire.write(wire.endpoints, text)
        ended = wire.program.run("run", "--config", str(wire.service.config), "--check", **environment)
        assert (ended.code, ended.err) == (3, "")
        return ended.out.splitlines()[0]

    assert "no-such-bucket" in check(wire.pair(destination="s3://no-such-bucket/x"), AWS_ENDPOINT_URL_S3=wire.store)
    assert "/no/such/place" in check(wire.pair(source="dc1:/no/such/place"))
    refusal = check(wire.pair(), AWS_SECRET_ACCESS_KEY="hunter2wrong")
    assert "credentials" in refusal
    assert "hunter2wrong" not in refusal
