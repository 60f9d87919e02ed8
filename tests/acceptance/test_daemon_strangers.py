"""What strangers may send to the TCP port of a daemon that runs for real: it stays alive, and nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from asynccopy.control.client import ControlClient
from testbed.process import free_ports
from tests.program import Program, eventually
from tests.service import Service
from tests.unit.test_control_fuzz import (
    TOKEN,
    Port,
    test_a_body_that_ends_early_is_not_obeyed,
    test_a_count_that_is_not_the_plans_is_a_conflict,
    test_a_limit_of_nothing_is_refused,
    test_a_long_request_line,
    test_a_preflight_gets_no_permission,
    test_a_rebound_name_is_not_ours,
    test_an_oversized_body_is_refused_although_it_does_not_say_so,
    test_an_oversized_body_is_refused_by_its_length,
    test_an_unknown_mirror,
    test_an_upgrade_is_not_followed,
    test_another_origin_is_refused,
    test_headers_that_never_end_are_cut,
    test_malformed_bodies,
    test_malformed_chunks,
    test_malformed_http,
    test_only_the_first_of_pipelined_requests_is_looked_at,
    test_other_methods,
    test_oversized_headers,
    test_paths_lead_nowhere_but_to_what_they_name,
    test_queries_that_are_no_numbers,
    test_random_damage_to_good_requests,
    test_the_method_of_the_other_kind,
    test_what_a_form_can_send_changes_nothing,
    test_without_the_token_nothing_is_told_and_nothing_done,
)

__all__ = [  # the requests of strangers, here to a real daemon: see `port` below
    "test_a_body_that_ends_early_is_not_obeyed",
    "test_a_count_that_is_not_the_plans_is_a_conflict",
    "test_a_limit_of_nothing_is_refused",
    "test_a_long_request_line",
    "test_a_preflight_gets_no_permission",
    "test_a_rebound_name_is_not_ours",
    "test_an_oversized_body_is_refused_although_it_does_not_say_so",
    "test_an_oversized_body_is_refused_by_its_length",
    "test_an_unknown_mirror",
    "test_an_upgrade_is_not_followed",
    "test_another_origin_is_refused",
    "test_headers_that_never_end_are_cut",
    "test_malformed_bodies",
    "test_malformed_chunks",
    "test_malformed_http",
    "test_only_the_first_of_pipelined_requests_is_looked_at",
    "test_other_methods",
    "test_oversized_headers",
    "test_paths_lead_nowhere_but_to_what_they_name",
    "test_queries_that_are_no_numbers",
    "test_random_damage_to_good_requests",
    "test_the_method_of_the_other_kind",
    "test_what_a_form_can_send_changes_nothing",
    "test_without_the_token_nothing_is_told_and_nothing_done",
]


class Listening:
    """A daemon with a port, and where its socket is."""

    def __init__(self, folder: Path) -> None:
        [self.port] = free_ports(1)
        (folder / "src").mkdir()
        (folder / "token").write_text(TOKEN)
        mirror = f"""[mirrors.logs]\nsource = "{folder}/src"\ndestination = "{folder}/dst"\ninterval = "1h"\n"""
        daemon = f"""listen = "127.0.0.1:{self.port}"\ntoken_file = "{folder}/token"\n"""
        self.service = Service(Program(folder, {}), mirror, daemon=daemon)
        self.service.start()
        self.client = ControlClient(self.service.socket, timeout=10.0)


class RealPort(Port):
    """As ``Port``, but the daemon is a process: what it was told is seen in what it says of itself."""

    def __init__(self, listening: Listening) -> None:
        self.listening = listening
        self.host, self.port = f"127.0.0.1:{listening.port}", listening.port
        self.path = listening.service.socket
        self.before = self.state()

    def state(self) -> tuple[Any, ...]:
        status = self.listening.client.status()
        mirrors = [(each.name, each.state, each.last_scan, each.bandwidth, each.concurrency) for each in status.mirrors]
        events = [event.text for event in self.listening.client.events()]
        return status.pid, status.state, mirrors, events

    async def is_well(self) -> None:
        assert await self.ask("GET", "/v1/status") == 200
        assert await asyncio.to_thread(self.state) == self.before


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    listening = Listening(tmp_path_factory.mktemp("strangers"))
    listening.service.until(lambda status: status["state"] == "watching", mirror="logs")
    yield listening
    said = listening.service.errors()
    assert "control failed" not in said
    assert "Traceback" not in said
    assert TOKEN not in said
    assert listening.service.stop().code == 0


@pytest.fixture
async def port(listening: Listening) -> AsyncIterator[RealPort]:
    port = RealPort(listening)
    yield port
    await port.is_well()


async def test_the_port_obeys_who_has_the_token(listening: Listening) -> None:
    port = RealPort(listening)
    assert await port.ask("POST", "/v1/mirrors/logs/pause", b"{}") == 200
    assert listening.client.status().mirrors[0].state == "paused"
    assert await port.ask("POST", "/v1/mirrors/logs/resume", b"{}") == 200
    eventually(lambda: listening.client.status().mirrors[0].state == "watching")
    assert listening.client.events()[-1].text == "resumed"


async def test_the_socket_answers_although_the_port_is_full(listening: Listening) -> None:
    held = [await asyncio.open_connection("127.0.0.1", listening.port) for _ in range(200)]
    status = await asyncio.to_thread(listening.client.status)
    assert status.mirrors[0].name == "logs"
    for _, writer in held:
        writer.close()
    await asyncio.sleep(0.2)
    await RealPort(listening).is_well()
