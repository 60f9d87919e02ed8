"""Whether the daemon calls itself alive, which is what the watchdog's pings hang on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asynccopy.config import load
from asynccopy.daemon import daemon as module
from asynccopy.daemon.build import Builder
from asynccopy.daemon.daemon import Daemon
from asynccopy.daemon.events import Events
from asynccopy.daemon.kept import Kept


async def until(alive: bool, daemon: Daemon) -> None:
    async with asyncio.timeout(30.0):
        while daemon.alive() is not alive:
            await asyncio.sleep(0.01)


async def test_a_journal_that_does_not_answer_is_no_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "from").mkdir()
    path = tmp_path / "config.toml"
    path.write_text(
        f'[daemon]\nstate = "{tmp_path}"\nsocket = "{tmp_path}/socket"\n'
        f'[mirrors.m]\nsource = "{tmp_path}/from"\ndestination = "{tmp_path}/to"\n'
    )
    monkeypatch.setattr(module, "LOOK", 0.02)
    monkeypatch.setattr(module, "SILENCE", 1.0)
    answers, look = asyncio.Event(), Kept.look
    answers.set()

    async def hanging(kept: Kept) -> None:
        await answers.wait()
        await look(kept)

    monkeypatch.setattr(Kept, "look", hanging)
    config, events = load(path), Events()
    daemon = Daemon(config, lambda: config, Builder(events), events, 4)
    async with asyncio.TaskGroup() as group:
        group.create_task(daemon.run(lambda: None, lambda: None), name="daemon")
        await asyncio.sleep(1.5)
        assert daemon.alive()
        answers.clear()
        await until(False, daemon)
        answers.set()
        await until(True, daemon)
        daemon.begin_drain()
