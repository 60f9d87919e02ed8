"""The event loop of one command, and the two signals that stop it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from asynccopy.errors import Interrupted
from asynccopy.executors.loop import new_loop

T = TypeVar("T")


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """Run ``main(stop)`` to its end.

    The first SIGINT or SIGTERM sets ``stop``: main ends in order by itself. The second cancels it at once.
    Raises Interrupted when it was cancelled, else what main raises.
    """
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_run(main))


async def _run(main: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    stop = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def on_signal() -> None:
        if not stop.is_set():
            stop.set()
            click.echo("asynccopy: stopping after the ranges in flight; once more to stop at once", err=True)
        elif not task.cancelling():
            task.cancel()

    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, on_signal)
    try:
        return await main(stop)
    except asyncio.CancelledError:
        raise Interrupted("stopped at once", hint="run the same command again to go on") from None
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
