from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from asynccopy import logs
from asynccopy.control.messages import Counts, MirrorStatus
from asynccopy.daemon.vigil import Notice, Occasion, Vigil
from asynccopy.daemon.webhooks import WAITING, Refusal, Shape, Webhook, Webhooks, message, refusal
from asynccopy.errors import UsageError
from asynccopy.storage.http import HttpDoor, Response

ALL: frozenset[Occasion] = frozenset(get_args(Occasion))
SECRET = "hunter2secret"


def notice(text: str = "the mirror sales failed", *, occasion: Occasion = "failure", hint: str = "look") -> Notice:
    return Notice(occasion, "sales", text, hint, False, 1_700_000_000_123)


# --- what is worth a notice ---------------------------------------------------------------------------------------


def status(**fields: Any) -> MirrorStatus:
    return MirrorStatus(**({"name": "sales", "source": "a", "destination": "b", "state": "watching"} | fields))


def told(vigil: Vigil, *looks: MirrorStatus) -> list[list[tuple[str, bool]]]:
    return [[(each.occasion, each.over) for each in vigil.look(look, 5)] for look in looks]


def test_a_lag_is_told_once_when_over_and_once_when_back() -> None:
    lags = [10, 61, 65, 300, 59, 50, 61, 45, 10, 70]
    assert told(Vigil(60), *[status(lag_seconds=lag) for lag in lags]) == [
        [],
        [("lag", False)],
        [],
        [],
        [],  # only just below: not back yet
        [],
        [],
        [("lag", True)],
        [],
        [("lag", False)],
    ]


def test_no_lag_where_nobody_asked_or_a_person_paused_it() -> None:
    assert told(Vigil(None), status(lag_seconds=1e9)) == [[]]
    vigil = Vigil(60)
    assert told(vigil, status(lag_seconds=100, state="paused")) == [[]]
    assert told(vigil, status(lag_seconds=100)) == [[("lag", False)]]


def test_a_failed_mirror_is_told_of_once_until_it_works() -> None:
    looks = [
        status(state="failed", reason="no such bucket", last_scan=5),  # also when the daemon starts with it
        status(state="copying", last_scan=5),  # tried again
        status(state="failed", last_scan=5),
        status(state="waiting", last_scan=5),
        status(state="failed", last_scan=5),
        status(state="copying", last_scan=9),  # a pass has ended
        status(state="failed", last_scan=9),
        status(state="watching", last_scan=9),
    ]
    down, up = [("failure", False)], [("failure", True)]
    assert told(Vigil(None), *looks) == [down, [], [], [], [], up, down, up]


def waits(vigil: Vigil, *looks: tuple[float, str]) -> list[tuple[float, bool]]:
    """(minute, over) of the notices, for (minute, state) of the looks."""
    found = []
    for minute, state in looks:
        seen = vigil.look(status(state=state, reason="nn1 is away", last_scan=7), int(minute * 60_000))
        found += [(minute, each.over) for each in seen if each.occasion == "failure"]
    return found


def test_a_wait_is_told_when_it_lasts_and_when_it_is_over() -> None:
    tried = [(minute, "copying" if minute % 2 else "waiting") for minute in range(12)]
    quick = [(minute + 0.05, "waiting") for minute, _ in tried]  # what is tried again fails in a moment
    looks = sorted([*tried, *quick])
    assert waits(Vigil(None), *looks, (12, "watching"), (13, "waiting")) == [(5.05, False), (12, True)]
    copies = [(12 + second / 60, "copying") for second in range(0, 90, 5)]
    assert waits(Vigil(None), *looks, *copies) == [(5.05, False), (13, True)]  # long before its pass ends


def test_a_short_wait_is_not_told() -> None:
    vigil = Vigil(None)
    assert waits(vigil, (0, "waiting"), (4.9, "waiting"), (5, "watching"), (6, "waiting"), (10, "waiting")) == []
    copies = [(minute / 4, "copying") for minute in range(41, 80)]
    assert waits(vigil, *copies, (20, "waiting"), (21, "waiting")) == []
    assert waits(vigil, (22, "paused"), (23, "waiting"), (27, "waiting")) == []


def test_a_wait_may_become_a_failure() -> None:
    looks = [(0, "waiting"), (5, "waiting"), (6, "failed"), (7, "waiting"), (20, "waiting"), (21, "watching")]
    assert waits(Vigil(None), *looks) == [(5, False), (6, False), (21, True)]


def test_before_the_journal_is_open_only_the_state_counts() -> None:
    vigil = Vigil(None)
    assert vigil.look(status(state="waiting"), 0, read=False) == []
    assert [each.occasion for each in vigil.look(status(state="waiting"), 300_000, read=False)] == ["failure"]
    vigil.failed = 3
    [back] = vigil.look(status(failed=3, last_scan=9), 310_000)
    assert (back.occasion, back.over) == ("failure", True)


def test_each_pair_of_sides_has_its_first_copy() -> None:
    there, elsewhere = status(completed=True), status(completed=True, destination="c")
    assert told(Vigil(None), there, there, elsewhere, elsewhere) == [
        [("completion", True)],
        [],
        [("completion", True)],
        [],
    ]


def test_the_reason_is_in_the_notice() -> None:
    (found,) = Vigil(None).look(status(state="failed", reason="no bucket\n\x1b ?token=hunter2"), 77)
    assert found.text == "the mirror sales failed: no bucket\\n\\x1b ?token=[redacted]"
    assert (found.mirror, found.time) == ("sales", 77)
    (long,) = Vigil(None).look(status(state="failed", reason="x" * 100_000), 77)
    assert len(long.text) == 2000


def test_failed_files_are_told_of_when_they_appear_and_when_they_have_doubled() -> None:
    counts = [7, 7, 8, 14, 20, 0, 1, 1, 2]
    due = [bool(each) for each in told(Vigil(None), *[status(failed=count) for count in counts])]
    assert due == [False, False, False, True, False, False, True, False, True]


def test_the_first_copy_is_told_of_and_no_later_one() -> None:
    vigil = Vigil(None)
    done = status(completed=True, files=Counts(total=3, done=3), bytes=Counts(total=30, done=30))
    assert told(vigil, status(state="copying"), status(state="copying")) == [[], []]
    (found,) = vigil.look(done, 5)
    assert (found.occasion, found.text) == ("completion", "sales: the first copy is complete: 3 files, 30 bytes")
    assert told(vigil, status(completed=True, last_scan=10)) == [[]]
    assert told(Vigil(None), status(last_scan=10)) == [[]]  # complete before the daemon started


def test_files_that_fail_in_every_pass_are_told_of_once() -> None:
    looks = [status(failed=failed, state=state) for failed in (2, 0) for state in ("watching", "copying")]
    assert told(Vigil(None, 0), looks[0], looks[3], looks[1], looks[0], looks[2], looks[0]) == [
        [("failure", False)],
        [],  # they are being tried again
        [],
        [],
        [],  # and succeeded
        [("failure", False)],
    ]
    assert told(Vigil(None, 2), looks[0]) == [[]]


# --- how it is said -----------------------------------------------------------------------------------------------


def test_the_shapes() -> None:
    said = notice('5 < 6 & "x"\\n\N{SNOWMAN}')
    assert json.loads(message("json", said)) == {
        "program": "asynccopy",
        "occasion": "failure",
        "mirror": "sales",
        "text": '5 < 6 & "x"\\n\N{SNOWMAN}',
        "hint": "look",
        "over": False,
        "time": "2023-11-14T22:13:20Z",
    }
    assert json.loads(message("dingtalk", said)) == {
        "msgtype": "text",
        "text": {"content": 'asynccopy: 5 < 6 & "x"\\n\N{SNOWMAN}\nlook'},
    }
    assert json.loads(message("slack", said)) == {"text": 'asynccopy: 5 &lt; 6 &amp; "x"\\n\N{SNOWMAN}\nlook'}
    assert json.loads(message("slack", notice("a", hint=""))) == {"text": "asynccopy: a"}


@pytest.mark.parametrize(
    ("shape", "code", "body", "becomes"),
    [
        ("json", 200, b"", None),
        ("json", 204, b"", None),
        ("slack", 200, b"ok", None),
        ("slack", 404, b"no_team", Refusal("HTTP 404", False)),
        ("json", 302, b"", Refusal("HTTP 302", False)),
        ("json", 429, b"", Refusal("HTTP 429", True)),
        ("json", 503, b"", Refusal("HTTP 503", True)),
        ("dingtalk", 200, b'{"errcode":0,"errmsg":"ok"}', None),
        ("dingtalk", 200, b'{"errcode":310000,"errmsg":"keywords"}', Refusal("DingTalk says errcode 310000", False)),
        ("dingtalk", 200, b'{"errcode":130101}', Refusal("DingTalk says errcode 130101", True)),
        ("dingtalk", 200, b"<html>", Refusal("no DingTalk robot answers there", False)),
        ("dingtalk", 200, b"{}", Refusal("no DingTalk robot answers there", False)),
    ],
)
def test_what_an_answer_means(shape: Shape, code: int, body: bytes, becomes: Refusal | None) -> None:
    assert refusal(shape, Response(code, {}, body)) == becomes


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://host/{SECRET}",
        f"{SECRET}",
        f"https:///{SECRET}",
        f"https://host:{SECRET}/",
        f"https://me:{SECRET}@host/",
        f"http://[::1/{SECRET}",
        f"https://日本/{SECRET}",
    ],
)
def test_a_url_that_is_none_is_refused_without_being_told(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Webhook("ops", url, "json", ALL)
    assert "ops" in str(caught.value)
    assert SECRET not in str(caught.value) + repr(caught.value)


def test_a_webhook_shows_only_its_name() -> None:
    hook = Webhook("ops", f"https://host/a b?x={SECRET}\u2603", "json", ALL)
    assert SECRET not in f"{hook!r} {hook}"
    origin, target = hook.address()
    assert (origin.netloc, target) == ("host", f"/a%20b?x={SECRET}%E2%98%83")


# --- the way out --------------------------------------------------------------------------------------------------

Answer = Callable[[int], bytes | None]
"""The number of a request, from 0, to its answer; None: say nothing"""


class Receiver:
    """A small HTTP server that keeps what was posted."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.bodies: list[Any] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length"))
                number = len(self.heads)
                self.heads.append(head)
                self.bodies.append(json.loads(await reader.readexactly(length)))
                answer = self.answer(number)
                if answer is not None:
                    writer.write(answer)
        writer.close()


def answers(*codes: int) -> Answer:
    """These, then the last for ever."""
    return lambda number: f"HTTP/1.1 {codes[min(number, len(codes) - 1)]} X\r\nContent-Length: 0\r\n\r\n".encode()


@contextlib.asynccontextmanager
async def receiving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


@contextlib.asynccontextmanager
async def sending(hooks: Sequence[Webhook], stall: float = 5.0) -> AsyncIterator[Webhooks]:
    door = HttpDoor(stall=stall)
    webhooks = Webhooks(hooks, door, pauses=(0.01, 0.02))
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(webhooks.run(), name="webhooks")
            yield webhooks
            task.cancel()
    finally:
        await door.aclose()


def ops(port: int, *, scheme: str = "http", name: str = "ops", on: frozenset[Occasion] = ALL) -> Webhook:
    return Webhook(name, f"{scheme}://127.0.0.1:{port}/hook/{SECRET}?key={SECRET}", "json", on)


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was logged, as it would be without any redaction."""
    monkeypatch.setattr(logs, "redact", lambda text: text)
    path = tmp_path / "events"
    logs.configure(file=path)
    yield lambda: [json.loads(line) for line in path.read_text().splitlines()]
    logs.configure()


Events = Callable[[], list[dict[str, Any]]]


async def test_a_notice_arrives_where_it_is_wanted(events: Events) -> None:
    async with receiving(answers(204)) as receiver:
        hooks = [ops(receiver.port), ops(receiver.port, name="lags", on=frozenset({"lag"}))]
        async with sending(hooks) as webhooks:
            webhooks.tell(notice("first"))
            webhooks.tell(notice("second", occasion="completion"))
            await asyncio.wait_for(webhooks.delivered(), 5)
    assert [body["text"] for body in receiver.bodies] == ["first", "second"]
    head = receiver.heads[0]
    assert head.startswith(f"POST /hook/{SECRET}?key={SECRET} HTTP/1.1\r\nHost: 127.0.0.1:{receiver.port}\r\n")
    assert "Content-Type: application/json" in head
    assert events() == []


async def test_it_is_tried_three_times_and_no_secret_is_logged(events: Events) -> None:
    async with receiving(answers(503)) as receiver, sending([ops(receiver.port)]) as webhooks:
        webhooks.tell(notice())
        await asyncio.wait_for(webhooks.delivered(), 5)
    assert len(receiver.bodies) == 3
    (event,) = events()
    assert (event["webhook"], event["reason"], event["mirror"]) == ("ops", "HTTP 503", "sales")
    assert SECRET not in json.dumps(event)


async def test_a_second_try_may_do(events: Events) -> None:
    async with receiving(answers(500, 200)) as receiver, sending([ops(receiver.port)]) as webhooks:
        webhooks.tell(notice())
        await asyncio.wait_for(webhooks.delivered(), 5)
    assert len(receiver.bodies) == 2
    assert events() == []


async def test_a_redirect_is_not_followed(events: Events) -> None:
    async with receiving(answers(200)) as other:
        target = f"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:{other.port}/\r\nContent-Length: 0\r\n\r\n".encode()
        async with receiving(lambda _: target) as receiver, sending([ops(receiver.port)]) as webhooks:
            webhooks.tell(notice())
            await asyncio.wait_for(webhooks.delivered(), 5)
    assert (len(receiver.bodies), len(other.bodies)) == (1, 0)
    assert events()[0]["reason"] == "HTTP 307"


async def test_nobody_there(events: Events) -> None:
    async with receiving(answers(200)) as receiver:
        pass
    async with sending([ops(receiver.port)]) as webhooks:
        webhooks.tell(notice())
        await asyncio.wait_for(webhooks.delivered(), 5)
    (event,) = events()
    assert event["reason"] == "ops: cannot connect: connection refused"
    assert "127.0.0.1" not in json.dumps(event)


async def test_a_receiver_that_is_silent_holds_up_nobody(events: Events) -> None:
    async with receiving(lambda _: None) as silent, receiving(answers(200)) as other:
        hooks = [ops(silent.port, name="silent"), ops(other.port, name="other")]
        async with sending(hooks, stall=30.0) as webhooks:
            started = time.monotonic()
            for number in range(WAITING + 10):
                webhooks.tell(notice(str(number)))
                await asyncio.sleep(0.005)  # so that the other keeps up
            assert time.monotonic() - started < 10
            async with asyncio.timeout(5):
                while len(other.bodies) < WAITING + 10:
                    await asyncio.sleep(0.01)
            # one is under way, the newest wait, the oldest of the waiting are gone
            waiting = next(queue for hook, queue in webhooks._queues if hook.name == "silent")
            assert [waiting.get_nowait().text, waiting.qsize()] == ["10", WAITING - 1]
    dropped = [event for event in events() if "dropped" in event["event"]]
    assert [event["webhook"] for event in dropped] == ["silent"] * 9


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A server's side, with a certificate that no authority has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {key} -out {certificate}"
    words += " -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_certificate_that_nobody_vouches_for_is_refused(events: Events, tls: ssl.SSLContext) -> None:
    async with receiving(answers(200), tls) as receiver, sending([ops(receiver.port, scheme="https")]) as webhooks:
        webhooks.tell(notice())
        await asyncio.wait_for(webhooks.delivered(), 5)
    assert receiver.bodies == []
    assert "a CA that is not trusted" in events()[0]["reason"]
