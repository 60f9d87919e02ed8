"""``asynccopy run``: the daemon with everything around it: signals, control server, service manager, webhooks."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

from asynccopy.config import Config, load, read_secret
from asynccopy.control.server import ControlServer
from asynccopy.daemon.build import Builder, ranges
from asynccopy.daemon.daemon import Daemon
from asynccopy.daemon.events import Events
from asynccopy.daemon.state import claim
from asynccopy.daemon.systemd import ServiceManager, Watchdog
from asynccopy.daemon.vigil import Vigil
from asynccopy.daemon.webhooks import Webhook, Webhooks
from asynccopy.errors import AsyncCopyError, Interrupted, UsageError, root_cause
from asynccopy.storage.http import HttpDoor

LOOK: Final = 5.0
"""Seconds between two looks at what people are to be told"""
LAST_WORDS: Final = 10.0
"""Seconds for the webhooks to deliver what the end of the daemon finds in their queues"""


async def serve(path: Path) -> None:
    """Run the configuration's mirrors until a signal or a person drains them. Raises UsageError, Interrupted."""
    config = await asyncio.to_thread(configured, path)
    events, manager = Events(), ServiceManager()
    builder = Builder(events)
    daemon = Daemon(config, lambda: configured(path), builder, events, ranges(config))
    async with AsyncExitStack() as stack:
        stack.callback(manager.close)
        door = HttpDoor(connections=8)
        stack.push_async_callback(door.aclose)
        webhooks = Webhooks(hooks(config), door)
        address = config.daemon.listen
        secret = token(config)
        stack.enter_context(await asyncio.to_thread(claim, Path(config.daemon.state)))
        server = ControlServer(daemon, path=Path(config.daemon.socket), listen=address, token=secret)
        await stack.enter_async_context(server)
        stopped = stack.enter_context(Signals(daemon, events))

        def begun() -> None:
            page = "" if address is None else f", page at http://{address}/"
            events.tell("", "info", f"keeping {', '.join(config.mirrors)}; control at {config.daemon.socket}{page}")
            manager.ready()

        try:
            async with asyncio.TaskGroup() as group:
                watchdog = group.create_task(Watchdog(manager, daemon.alive).run(), name="watchdog")
                telling = group.create_task(webhooks.run(), name="webhooks")
                watching = group.create_task(_tell(daemon, webhooks, manager), name="vigil")
                reloading = group.create_task(_reload(daemon, manager, stopped.hangup), name="reloads")
                await daemon.run(begun, manager.stopping)
                reloading.cancel()
                watching.cancel()
                await _last_words(webhooks)
                telling.cancel()
                watchdog.cancel()
        except asyncio.CancelledError:
            if stopped.at_once:
                raise Interrupted("stopped at once", hint="start it again to go on") from None
            raise
        except BaseExceptionGroup as failures:
            raise root_cause(failures) from None


def configured(path: Path) -> Config:
    """A daemon's configuration; one without mirrors is a mistake, also when it is read again. Raises UsageError."""
    config = load(path)
    if not config.mirrors:
        raise UsageError(f"{path}: there are no mirrors", hint="write a [mirrors.NAME] table; see config.example.toml")
    return config


def token(config: Config) -> str | None:
    """What is asked for over TCP. Raises UsageError where its file cannot be read."""
    return None if config.daemon.token_file is None else read_secret(config.daemon.token_file)


def hooks(config: Config) -> list[Webhook]:
    """Raises UsageError where a URL's file cannot be read."""
    found = []
    for name, each in config.webhooks.items():
        url = each.url.reveal() if each.url is not None else read_secret(each.url_file or "")
        found.append(Webhook(name, url, each.shape, frozenset(each.on)))
    return found


async def _tell(daemon: Daemon, webhooks: Webhooks, manager: ServiceManager) -> None:
    """What changed, to the webhooks; how it is, to the service manager."""
    vigils: dict[str, Vigil] = {}
    while True:
        for status, failed_before in daemon.looks():
            mirror = daemon.config.mirrors.get(status.name)
            if mirror is None:
                continue
            vigil = vigils.setdefault(status.name, Vigil(mirror.lag_alert))
            vigil.lag = mirror.lag_alert  # a reload may have changed it
            if vigil.failed is None:
                vigil.failed = failed_before
            for notice in vigil.look(status, int(time.time() * 1000), read=failed_before is not None):
                webhooks.tell(notice)
        manager.status(daemon.tell_status())
        await asyncio.sleep(LOOK)


async def _last_words(webhooks: Webhooks) -> None:
    try:
        async with asyncio.timeout(LAST_WORDS):
            await webhooks.delivered()
    except TimeoutError:
        pass  # the webhooks have told the log why


async def _reload(daemon: Daemon, manager: ServiceManager, hangup: asyncio.Event) -> None:
    """The configuration anew, at each SIGHUP."""
    while True:
        await hangup.wait()
        hangup.clear()
        manager.reloading()
        try:
            await daemon.reload()
        except AsyncCopyError:
            pass  # the daemon has told it
        finally:
            manager.ready()


class Signals:
    """SIGTERM and SIGINT drain, the second one cancels. ``at_once``: the second one came; ``hangup``: a SIGHUP did."""

    def __init__(self, daemon: Daemon, events: Events) -> None:
        self._daemon = daemon
        self._events = events
        self._stopping = False
        self.at_once = False
        self.hangup = asyncio.Event()

    def __enter__(self) -> Self:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, task.cancel)
        loop.add_signal_handler(signal.SIGHUP, self.hangup.set)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)

    def _stop(self, cancel: Callable[[], object]) -> None:
        if self._stopping:
            self.at_once = True
            cancel()
            return
        self._stopping = True
        self._events.tell("", "info", "stopping after the ranges in flight; a second signal stops at once")
        self._daemon.begin_drain()
