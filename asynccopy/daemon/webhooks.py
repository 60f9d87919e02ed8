"""Notices to people: how each kind of receiver wants them, and the way out.

A receiver that is slow or away costs a mirror nothing: what cannot be delivered is dropped, and the log says so. A
webhook's URL is a secret, so nothing here ever prints more than the webhook's name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from asynccopy.daemon.vigil import Notice, Occasion
from asynccopy.errors import AsyncCopyError, UsageError
from asynccopy.logs import hide, log
from asynccopy.storage.http import HttpDoor, Response
from asynccopy.storage.pool import Origin

Shape = Literal["json", "dingtalk", "slack"]

WAITING: Final = 100
"""Notices kept for one receiver; beyond that the oldest goes"""
PAUSES: Final = (1.0, 10.0)
"""Seconds before the second and the third try"""
PATIENCE: Final = 10.0
"""Seconds that one try may take"""
ANSWER: Final = 64 * 1024


class Webhook(Struct, frozen=True):
    """Where notices go. Raises UsageError, without the URL, when that is not http or https."""

    name: str
    url: str
    shape: Shape
    on: frozenset[Occasion]

    def __post_init__(self) -> None:
        hide(self.url)
        try:
            hide(self.address()[1])
        except ValueError:
            raise UsageError(f"webhook {self.name}: its URL must look like https://host/path") from None

    def __repr__(self) -> str:
        return f"Webhook({self.name!r})"

    def address(self) -> tuple[Origin, str]:
        """The server, and path and query there. Raises ValueError."""
        parts = urlsplit(self.url)
        host = parts.hostname
        if parts.scheme not in ("http", "https") or not host or not host.isascii() or "@" in parts.netloc:
            raise ValueError("not a webhook's address")
        query = f"?{parts.query}" if parts.query else ""
        target = quote(f"{parts.path or '/'}{query}", safe="/?%:@!$&'()*+,;=~")
        return Origin(parts.scheme, host, parts.port or (443 if parts.scheme == "https" else 80)), target


# --- how it is said -----------------------------------------------------------------------------------------------


def message(shape: Shape, notice: Notice) -> bytes:
    """The body of the request, JSON.

    ``json`` has the notice's fields and ``time`` as RFC 3339. DingTalk and Slack take one text; it names the program,
    because a DingTalk robot may be told to take only texts with a certain word.
    """
    body: dict[str, Any]
    if shape == "json":
        body = msgspec.structs.asdict(notice) | {"time": _rfc3339(notice.time), "program": "asynccopy"}
    else:
        text = f"asynccopy: {notice.text}" + (f"\n{notice.hint}" if notice.hint else "")
        if shape == "dingtalk":
            body = {"msgtype": "text", "text": {"content": text}}
        else:
            body = {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}
    return msgspec.json.encode(body)


def _rfc3339(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))


class Refusal(Struct, frozen=True):
    """A receiver did not take a notice. ``again``: another try may help."""

    reason: str
    again: bool


def refusal(shape: Shape, response: Response) -> Refusal | None:
    """What an answer means; None: taken. A redirect is not followed: a notice goes where the configuration says."""
    status = response.status
    if not 200 <= status < 300:
        return Refusal(f"HTTP {status}", status in (408, 429) or status >= 500)
    if shape == "dingtalk":  # it refuses with 200 and says so inside
        try:
            code = msgspec.json.decode(response.body, type=_DingTalk).errcode
        except msgspec.DecodeError:
            return Refusal("no DingTalk robot answers there", again=False)
        if code:
            return Refusal(f"DingTalk says errcode {code}", code in _DINGTALK_BUSY)
    return None


class _DingTalk(Struct):
    errcode: int


_DINGTALK_BUSY: Final = frozenset({-1, 130101})
"""Busy; more than 20 messages a minute. From DingTalk's list of global error codes"""


# --- the way out --------------------------------------------------------------------------------------------------


class Webhooks:
    """Brings notices to their receivers, each at its own pace. ``pauses``: seconds before each try after the first."""

    def __init__(self, hooks: Sequence[Webhook], door: HttpDoor, *, pauses: Sequence[float] = PAUSES) -> None:
        self._door = door
        self._pauses = pauses
        self._queues = [(hook, asyncio.Queue[Notice](WAITING)) for hook in hooks]

    def tell(self, notice: Notice) -> None:
        """Have it delivered to all who want to know. Never waits."""
        for hook, queue in self._queues:
            if notice.occasion not in hook.on:
                continue
            if queue.full():
                queue.get_nowait()
                queue.task_done()
                log.warning("a webhook does not keep up: its oldest notice is dropped", webhook=hook.name)
            queue.put_nowait(notice)

    async def run(self) -> None:
        """Deliver, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for hook, queue in self._queues:
                group.create_task(self._serve(hook, queue), name=f"webhook {hook.name}")

    async def delivered(self) -> None:
        """Wait until nothing is left to deliver; for the end of the daemon, under a timeout."""
        for _, queue in self._queues:
            await queue.join()

    async def _serve(self, hook: Webhook, queue: asyncio.Queue[Notice]) -> None:
        while True:
            notice = await queue.get()
            try:
                await self._deliver(hook, notice)
            finally:
                queue.task_done()

    async def _deliver(self, hook: Webhook, notice: Notice) -> None:
        body = message(hook.shape, notice)
        refused = await self._post(hook, body)
        for pause in self._pauses:
            if refused is None or not refused.again:
                break
            await asyncio.sleep(pause)
            refused = await self._post(hook, body)
        if refused is not None:
            about = {"occasion": notice.occasion, "mirror": notice.mirror, "reason": refused.reason}
            log.warning("a webhook was not told", webhook=hook.name, **about)

    async def _post(self, hook: Webhook, body: bytes) -> Refusal | None:
        origin, target = hook.address()
        headers = [("Content-Type", "application/json; charset=utf-8"), ("User-Agent", "asynccopy")]
        try:
            async with asyncio.timeout(PATIENCE):
                response = await self._door.request(origin, "POST", target, headers, body, limit=ANSWER)
        except TimeoutError:
            return Refusal(f"no answer within {PATIENCE:.0f} s", again=True)
        except AsyncCopyError as error:
            # the door names the server, which is part of the URL
            return Refusal(error.message.replace(str(origin), hook.name), error.retryable)
        return refusal(hook.shape, response)
