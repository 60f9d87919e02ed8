"""Who we are on OSS: whom the environment names, what each of them answers, and when it is asked again."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from asynccopy.errors import AsyncCopyError, CredentialsRefused, ServerTrouble, UsageError
from asynccopy.storage.http import HttpDoor
from asynccopy.storage.oss import credentials as room
from asynccopy.storage.oss import issuers
from asynccopy.storage.oss.credentials import CredentialChain
from asynccopy.storage.oss.issuers import (
    CredentialsUri,
    EcsRole,
    Issued,
    OidcRole,
    Program,
    Static,
    issuer_of,
    read_issued,
)
from asynccopy.storage.signing import Credentials
from tests.scripted import Server, serving

SECRET = "canary-secret"
EXPIRES = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
ANSWER = {
    "Code": "Success",
    "AccessKeyId": "STS.1",
    "AccessKeySecret": SECRET,
    "SecurityToken": "token",
    "Expiration": "2031-01-02T03:04:05Z",
}
STS = Issued(Credentials("STS.1", SECRET, "token"), EXPIRES)
ROLES = "/latest/meta-data/ram/security-credentials/"

Answer = tuple[int, str]


@asynccontextmanager
async def answering(answer: Callable[[str, str, dict[str, str], str], Answer]) -> AsyncIterator[Server]:
    """A server that is told method, target, headers and body of every request."""

    def script(server: Server) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                head = (await server.head(reader)).decode()
                line, *lines = head.strip().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
                body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
                method, target, _ = line.split(" ")
                status, text = answer(method, target, headers, body)
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
                await writer.drain()

        return run

    async with serving(script) as server:  # type: ignore[arg-type]
        yield server


@pytest.fixture
async def door() -> AsyncIterator[HttpDoor]:
    async with aclosing(HttpDoor()) as door:
        yield door


# --- whom the environment names -----------------------------------------------------------------------------------

KEYS = {"OSS_ACCESS_KEY_ID": "AK", "OSS_ACCESS_KEY_SECRET": SECRET}
CLOUD = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "CK", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET}
OIDC = {
    "ALIBABA_CLOUD_ROLE_ARN": "acs:ram::1:role/r",
    "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": "acs:ram::1:oidc-provider/p",
    "ALIBABA_CLOUD_OIDC_TOKEN_FILE": "/var/run/token",
}


@pytest.mark.parametrize(
    ("environ", "credentials"),
    [
        (KEYS, Credentials("AK", SECRET)),
        ({**KEYS, "OSS_SESSION_TOKEN": "T"}, Credentials("AK", SECRET, "T")),
        ({**KEYS, **CLOUD, **OIDC}, Credentials("AK", SECRET)),
        (CLOUD, Credentials("CK", SECRET)),
        ({**CLOUD, "ALIBABA_CLOUD_SECURITY_TOKEN": "T"}, Credentials("CK", SECRET, "T")),
    ],
)
async def test_keys_in_the_environment(environ: dict[str, str], credentials: Credentials) -> None:
    assert await CredentialChain(environ).current() == credentials
    assert not await CredentialChain(environ).replace(credentials)


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        (OIDC, OidcRole),
        ({"OSS_CREDENTIAL_PROCESS": "prog -x", **OIDC}, Program),
        ({"ALIBABA_CLOUD_CREDENTIALS_URI": "http://h/x?y=1"}, CredentialsUri),
        ({"ALIBABA_CLOUD_ROLE_ARN": "acs:ram::1:role/r"}, EcsRole),
        ({}, EcsRole),
    ],
)
def test_the_order_of_the_others(environ: dict[str, str], kind: type[object]) -> None:
    assert type(issuer_of(environ)) is kind


@pytest.mark.parametrize(
    "environ",
    [
        {"OSS_ACCESS_KEY_ID": "AK"},
        {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET},
        {**OIDC, "ALIBABA_CLOUD_ROLE_ARN": ""},
        {"OSS_CREDENTIAL_PROCESS": "  "},
        {"OSS_CREDENTIAL_PROCESS": f"prog '{SECRET}"},
        {"ALIBABA_CLOUD_CREDENTIALS_URI": f"file:///{SECRET}"},
        {"ALIBABA_CLOUD_CREDENTIALS_URI": f"http://h:x/{SECRET}"},
    ],
)
def test_what_is_half_there_is_told(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        issuer_of(environ)
    assert SECRET not in str(caught.value)


async def test_nobody_at_all_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CredentialsRefused) as caught:
        await CredentialChain({"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}).current()
    assert "OSS_ACCESS_KEY_ID" in caught.value.hint
    monkeypatch.setattr(issuers, "_PATIENCE", 0.05)
    async with serving(lambda server: lambda reader, writer: asyncio.sleep(5)) as silent:
        with pytest.raises(CredentialsRefused, match="no metadata server answers") as caught:
            await CredentialChain(issuer=EcsRole(origin=silent.origin)).current()
    assert "OSS_ACCESS_KEY_ID" in caught.value.hint


# --- what they answer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["", "my role"])
async def test_the_role_of_an_instance(door: HttpDoor, role: str) -> None:
    asked: list[str] = []

    def answer(method: str, target: str, headers: dict[str, str], body: str) -> Answer:
        asked.append(f"{method} {target}")
        if method == "PUT":
            assert headers["x-aliyun-ecs-metadata-token-ttl-seconds"] == "21600"
            return 200, "session"
        assert headers["x-aliyun-ecs-metadata-token"] == "session"
        return 200, "my role" if target == ROLES else json.dumps(ANSWER)

    async with answering(answer) as server:
        assert await EcsRole(role, hardened=True, origin=server.origin).issue(door) == STS
    looked = [f"GET {ROLES}"] if not role else []
    assert asked == ["PUT /latest/api/token", *looked, f"GET {ROLES}my%20role"]


@pytest.mark.parametrize("hardened", [False, True])
@pytest.mark.parametrize("token", [(404, ""), (403, "no"), (200, "two\r\nlines"), (200, "")])
async def test_an_instance_without_hardened_mode(door: HttpDoor, hardened: bool, token: Answer) -> None:
    def answer(method: str, target: str, headers: dict[str, str], body: str) -> Answer:
        if method == "PUT":
            return token
        assert "x-aliyun-ecs-metadata-token" not in headers
        return 200, json.dumps(ANSWER)

    async with answering(answer) as server:
        role = EcsRole("r", hardened=hardened, origin=server.origin)
        if hardened:
            with pytest.raises(CredentialsRefused):
                await role.issue(door)
        else:
            assert await role.issue(door) == STS
    methods = [request.split()[0] for request in server.requests]
    assert methods == ([b"PUT"] if hardened else [b"PUT", b"GET"])


def test_the_switch_that_forbids_the_old_mode() -> None:
    for text, hardened in (("true", True), ("TRUE", True), ("false", False), ("", False)):
        issuer = issuer_of({"ALIBABA_CLOUD_IMDSV1_DISABLED": text, "ALIBABA_CLOUD_ECS_METADATA": "r"})
        assert isinstance(issuer, EcsRole)
        assert (issuer._role, issuer._hardened) == ("r", hardened)


async def test_a_role_for_an_oidc_token(door: HttpDoor, tmp_path: Path) -> None:
    token = tmp_path / "token"
    tokens: list[str] = []

    def answer(method: str, target: str, headers: dict[str, str], body: str) -> Answer:
        form = parse_qs(body)
        tokens.append(form.pop("OIDCToken")[0])
        assert form == {
            "RoleArn": ["arn:role"],
            "OIDCProviderArn": ["arn:provider"],
            "RoleSessionName": ["me"],
            "DurationSeconds": ["3600"],
        }
        assert re.fullmatch(
            r"/\?Action=AssumeRoleWithOIDC&Format=JSON&Version=2015-04-01&Timestamp=\d{4}-\d\d-\d\dT\d\d%3A\d\d%3A\d\dZ",
            target,
        )
        return 200, json.dumps({"RequestId": "1", "Credentials": ANSWER})

    async with answering(answer) as server:
        role = OidcRole("arn:role", "arn:provider", str(token), "me", server.origin)
        with pytest.raises(CredentialsRefused, match="no OIDC token"):
            await role.issue(door)
        for text in ("one", "two+/="):
            token.write_text(f"{text}\n")
            assert await role.issue(door) == STS
    assert tokens == ["one", "two+/="]


def test_where_sts_is() -> None:
    for more, host in (
        ({}, "sts.aliyuncs.com"),
        ({"ALIBABA_CLOUD_STS_REGION": "cn-beijing"}, "sts.cn-beijing.aliyuncs.com"),
        (
            {"ALIBABA_CLOUD_STS_REGION": "cn-beijing", "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED": "true"},
            "sts-vpc.cn-beijing.aliyuncs.com",
        ),
    ):
        issuer = issuer_of({**OIDC, **more})
        assert isinstance(issuer, OidcRole)
        assert str(issuer._sts) == f"https://{host}"


async def test_a_url_that_answers(door: HttpDoor) -> None:
    async with answering(lambda *_: (200, json.dumps(ANSWER))) as server:
        assert await CredentialsUri(f"{server.origin}/a b?key={SECRET}").issue(door) == STS
    assert server.requests[0].startswith(f"GET /a%20b?key={SECRET} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("status", [302, 403, 404, 429, 500, 503])
async def test_a_url_that_does_not(door: HttpDoor, status: int) -> None:
    async with answering(lambda *_: (status, SECRET)) as server:
        with pytest.raises(AsyncCopyError, match=str(status)) as caught:
            await CredentialsUri(f"{server.origin}/?{SECRET}").issue(door)
    assert isinstance(caught.value, ServerTrouble if status in (429, 500, 503) else CredentialsRefused)
    assert SECRET not in str(caught.value)


PRINTED = {
    "mode": "StsToken",
    "access_key_id": "STS.1",
    "access_key_secret": SECRET,
    "sts_token": "token",
    "expiration": "2031-01-02T03:04:05Z",
}


@pytest.mark.parametrize("printed", [PRINTED, ANSWER], ids=["command line", "services"])
async def test_a_program(door: HttpDoor, tmp_path: Path, printed: dict[str, str]) -> None:
    script = tmp_path / "a program.py"
    script.write_text(f"import sys; print({json.dumps(printed)!r}); print({SECRET!r}, file=sys.stderr)")
    assert await Program(f"{sys.executable} '{script}'").issue(door) == STS


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (f"import sys; sys.exit({SECRET!r})", "status 1"),
        (f"print({SECRET!r})", "holds no credentials"),
        ("import time; time.sleep(60)", "no answer"),
    ],
)
async def test_a_program_that_fails(
    door: HttpDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    if "sleep" in code:
        monkeypatch.setattr(issuers, "_PROCESS_PATIENCE", 0.2)
    script = tmp_path / "program.py"
    script.write_text(code)
    with pytest.raises(CredentialsRefused, match=told) as caught:
        await Program(f"{sys.executable} {script} --key {SECRET}").issue(door)
    assert SECRET not in str(caught.value)
    with pytest.raises(CredentialsRefused, match="cannot be started"):
        await Program(f"/no/such/program {SECRET}").issue(door)


@pytest.mark.parametrize(
    "body",
    [
        *[b"", b"[]", b"null", SECRET.encode(), b'"x"', b"{}", b"\xff", b'{"AccessKeyId": "a"}'],
        json.dumps({**ANSWER, "Expiration": SECRET}).encode(),
        json.dumps({**ANSWER, "AccessKeySecret": ""}).encode(),
    ],
)
def test_an_answer_that_is_none_is_not_shown(body: bytes) -> None:
    with pytest.raises(CredentialsRefused) as caught:
        read_issued(body, "whence")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_nothing_shows_a_secret() -> None:
    assert SECRET not in f"{STS!r} {STS} {STS.credentials!r} {Static(STS.credentials)!r}"
    assert "token" not in repr(STS)


# --- when they are asked ------------------------------------------------------------------------------------------


class Counting:
    """Issues new credentials each time, good for ``life`` seconds, or fails."""

    def __init__(self, life: float | None) -> None:
        self.life = life
        self.asked = 0
        self.fails = False

    async def issue(self, door: HttpDoor) -> Issued:
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.fails:
            raise ServerTrouble("the metadata server is down")
        return Issued(Credentials(f"AK{self.asked}", SECRET), None if self.life is None else room.time() + self.life)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000_000.0]
    monkeypatch.setattr(room, "time", lambda: now[0])
    return now


async def ask(chain: CredentialChain, times: int = 50) -> set[str]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(chain.current()) for _ in range(times)]
    return {task.result().access_key for task in tasks}


@pytest.mark.parametrize(("life", "kept"), [(3600.0, 3300.0), (90.0, 60.0), (None, room.UNTOLD)])
async def test_renewed_in_time_and_once(clock: list[float], life: float | None, kept: float) -> None:
    chain = CredentialChain(issuer=(issuer := Counting(life)))
    assert await ask(chain) == {"AK1"}
    clock[0] += kept - 1
    assert await ask(chain) == {"AK1"}
    clock[0] += 2
    # One renews; the others do not wait for it, they sign with what is still valid.
    assert await ask(chain) == {"AK1", "AK2"}
    assert issuer.asked == 2
    assert await ask(chain) == {"AK2"}


async def test_nobody_signs_with_what_has_expired(clock: list[float]) -> None:
    chain = CredentialChain(issuer=(issuer := Counting(90.0)))
    await ask(chain)
    clock[0] += 91
    assert await ask(chain) == {"AK2"}
    assert issuer.asked == 2


async def test_an_issuer_that_is_down_does_not_take_away_what_still_holds(clock: list[float]) -> None:
    chain = CredentialChain(issuer=(issuer := Counting(90.0)))
    await ask(chain)
    issuer.fails = True
    clock[0] += 61
    assert await ask(chain) == {"AK1"}
    assert await ask(chain) == {"AK1"}
    assert issuer.asked == 2  # not with every request
    clock[0] += room.AGAIN + 1
    assert await ask(chain) == {"AK1"}
    assert issuer.asked == 3
    clock[0] += 60
    with pytest.raises(ServerTrouble):
        await chain.current()
    issuer.fails = False
    assert await ask(chain) == {"AK5"}


async def test_refused_credentials_are_replaced_once(clock: list[float]) -> None:
    chain = CredentialChain(issuer=(issuer := Counting(3600.0)))
    refused = await chain.current()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(chain.replace(refused)) for _ in range(20)]
    assert all(task.result() for task in tasks)
    assert issuer.asked == 2
    assert (await chain.current()).access_key == "AK2"


async def test_a_renewal_that_is_cancelled_keeps_nobody_waiting(clock: list[float]) -> None:
    chain = CredentialChain(issuer=Counting(90.0))
    first = asyncio.create_task(chain.current())
    await asyncio.sleep(0)
    first.cancel()
    assert await ask(chain, 3) == {"AK2"}
