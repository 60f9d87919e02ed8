"""What each path of the API means: a request's words into a call of the Controller, and its result into JSON."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from asynccopy.control.api import (
    MOST_LINES,
    Confirmation,
    Controller,
    DeletionPlan,
    Limit,
    Nothing,
    Reloaded,
    Retried,
)
from asynccopy.control.gate import Rejection

T = TypeVar("T")

JSON: Final = "application/json"
_NAME: Final = "([A-Za-z][A-Za-z0-9_-]*)"
_NUMBER: Final = re.compile(r"[0-9]{1,18}\Z", re.ASCII)


class Call(Struct, frozen=True):
    """One request: the mirror in its path, or None; its query; its body."""

    name: str | None
    query: Mapping[str, str]
    body: bytes


class Answer(Struct, frozen=True):
    body: bytes
    content_type: str = JSON


Route = Callable[[Call], Awaitable[Answer]]


class Routes:
    """The API's paths. ``find`` gives what answers a request; that raises Rejection or what the Controller raises."""

    def __init__(self, controller: Controller) -> None:
        self._daemon = controller
        steer = self._steering
        verbs = {
            "pause": steer(controller.pause),
            "resume": steer(controller.resume),
            "retry": self._retry,
            "scan": steer(controller.scan),
        }
        table: dict[str, dict[str, Route]] = {
            "/metrics": {"GET": self._metrics},
            "/v1/health": {"GET": self._health},
            "/v1/status": {"GET": self._status},
            "/v1/events": {"GET": self._events},
            "/v1/drain": {"POST": self._drain},
            "/v1/reload": {"POST": self._reload},
            f"/v1/mirrors/{_NAME}": {"GET": self._detail},
            f"/v1/mirrors/{_NAME}/errors": {"GET": self._errors},
            f"/v1/mirrors/{_NAME}/deletions": {"GET": self._deletions, "POST": self._confirm},
            f"/v1/mirrors/{_NAME}/limit": {"POST": self._limit},
            **{f"/v1/{verb}": {"POST": route} for verb, route in verbs.items()},
            **{f"/v1/mirrors/{_NAME}/{verb}": {"POST": route} for verb, route in verbs.items()},
        }
        self._table = [(re.compile(pattern, re.ASCII), methods) for pattern, methods in table.items()]

    def find(self, method: str, path: str) -> tuple[Route, str | None]:
        """The route and the mirror's name. ``path`` as it was sent: what is percent-encoded matches nothing."""
        for pattern, methods in self._table:
            if found := pattern.fullmatch(path):
                if method not in methods:
                    raise Rejection(405, "this method is not for this path", f"use {' or '.join(methods)}")
                name = found[1] if pattern.groups else None
                self._check_mirror(name)
                return methods[method], name
        raise _no_mirror() if path.startswith("/v1/mirrors/") else Rejection(404, "there is nothing at this path")

    def _check_mirror(self, name: str | None) -> None:
        if name is not None and name not in (mirror.name for mirror in self._daemon.status().mirrors):
            raise _no_mirror()

    async def _health(self, call: Call) -> Answer:
        return _json(Nothing())

    async def _status(self, call: Call) -> Answer:
        return _json(self._daemon.status())

    async def _metrics(self, call: Call) -> Answer:
        from asynccopy.control import exposition  # prometheus-client is for those who scrape

        status = self._daemon.status()
        failing = [mirror.name for mirror in status.mirrors if mirror.failed]
        errors = {name: (await self._daemon.detail(name)).errors for name in failing}
        return Answer(exposition.render(status, errors), exposition.CONTENT_TYPE)

    async def _events(self, call: Call) -> Answer:
        return _json(self._daemon.events(_number(call, "after", 0, 1 << 59), _lines(call)))

    async def _detail(self, call: Call) -> Answer:
        return _json(await self._daemon.detail(_mirror(call)))

    async def _errors(self, call: Call) -> Answer:
        return _json(await self._daemon.errors(_mirror(call), call.query.get("class"), _lines(call)))

    async def _deletions(self, call: Call) -> Answer:
        deletions, paths = await self._daemon.deletions(_mirror(call), _lines(call))
        return _json(DeletionPlan(deletions, tuple(paths)))

    async def _confirm(self, call: Call) -> Answer:
        await self._daemon.confirm_deletions(_mirror(call), _body(call, Confirmation).count)
        return _json(Nothing())

    async def _limit(self, call: Call) -> Answer:
        wanted = _body(call, Limit)
        if wanted == Limit():
            raise Rejection(400, "nothing to limit", "name `bandwidth`, `concurrency` or both")
        await self._daemon.limit(_mirror(call), bandwidth=wanted.bandwidth, concurrency=wanted.concurrency)
        return _json(Nothing())

    def _steering(self, verb: Callable[[str | None], Awaitable[None]]) -> Route:
        async def steer(call: Call) -> Answer:
            _body(call, Nothing)
            await verb(call.name)
            return _json(Nothing())

        return steer

    async def _retry(self, call: Call) -> Answer:
        _body(call, Nothing)
        return _json(Retried(await self._daemon.retry(call.name)))

    async def _drain(self, call: Call) -> Answer:
        _body(call, Nothing)
        await self._daemon.drain()
        return _json(Nothing())

    async def _reload(self, call: Call) -> Answer:
        _body(call, Nothing)
        return _json(Reloaded(tuple(await self._daemon.reload())))


def _json(value: object) -> Answer:
    return Answer(msgspec.json.encode(value))


def _mirror(call: Call) -> str:
    assert call.name is not None, "only paths with a name lead here"
    return call.name


def _body(call: Call, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(call.body or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # msgspec's reason may quote a key of the request, so it is not repeated
        raise Rejection(400, "the body is not the JSON that this path takes", "see docs/control.md") from error


def _number(call: Call, key: str, default: int, most: int) -> int:
    text = call.query.get(key)
    if text is None:
        return default
    if not _NUMBER.match(text) or int(text) > most:
        raise Rejection(400, f"`{key}` must be a number from 0 to {most}")
    return int(text)


def _lines(call: Call) -> int:
    return _number(call, "limit", MOST_LINES, MOST_LINES)


def _no_mirror() -> Rejection:
    return Rejection(404, "there is no mirror of this name", "`asynccopy status` lists them")
