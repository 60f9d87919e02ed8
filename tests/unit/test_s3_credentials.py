"""Who we are: the environment first, then AWS's own chain, renewed in time and by one request at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError

from asynccopy.errors import CredentialsRefused
from asynccopy.storage.s3 import credentials as room
from asynccopy.storage.s3.credentials import CredentialChain
from asynccopy.storage.signing import Credentials

KEYS = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"}


class Chain:
    """What aiobotocore hands out: credentials that change with every renewal, or fail to."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.fails:
            raise CredentialRetrievalError(provider="iam-role", error_msg="metadata server is down")
        return ReadOnlyCredentials(f"AK{self.asked}", "SK", "token")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(room, "monotonic", lambda: now[0])
    return now


async def test_the_environment_needs_no_chain() -> None:
    assert await CredentialChain(KEYS).current() == Credentials("AK", "SK")
    assert await CredentialChain({**KEYS, "AWS_SESSION_TOKEN": "T"}).current() == Credentials("AK", "SK", "T")


def test_the_chain_is_not_imported_for_nothing() -> None:
    script = (
        "import asyncio, sys\n"
        "from asynccopy.storage.s3.credentials import CredentialChain\n"
        f"asyncio.run(CredentialChain({KEYS!r}).current())\n"
        "print([name for name in sys.modules if 'botocore' in name or name == 'aiohttp'])\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr


async def test_many_requests_make_one_renewal(clock: list[float]) -> None:
    chain = CredentialChain({})
    chain._chain = inner = Chain()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(chain.current()) for _ in range(50)]
    assert {task.result().access_key for task in tasks} == {"AK1"}
    assert inner.asked == 1
    clock[0] += room.FRESH + 1
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(chain.current()) for _ in range(50)]
    # One renews; the others do not wait for it, they sign with what is still valid.
    assert sorted({task.result().access_key for task in tasks}) == ["AK1", "AK2"]
    assert inner.asked == 2
    assert (await chain.current()).access_key == "AK2"


async def test_a_metadata_server_that_is_down_does_not_take_away_what_we_have(clock: list[float]) -> None:
    chain = CredentialChain({})
    chain._chain = inner = Chain()
    await chain.current()
    inner.fails = True
    clock[0] += room.FRESH + 1
    assert (await chain.current()).access_key == "AK1"
    inner.fails = False
    clock[0] += room.FRESH + 1
    assert (await chain.current()).access_key == "AK3"


async def test_a_chain_that_fails_from_the_start() -> None:
    chain = CredentialChain({})
    chain._chain = inner = Chain()
    inner.fails = True
    with pytest.raises(CredentialsRefused, match="metadata server is down"):
        await chain.current()


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.mark.usefixtures("nobody")
async def test_nobody_at_all_is_told_what_to_set() -> None:
    with pytest.raises(CredentialsRefused) as caught:
        await CredentialChain().current()
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert "AWS_PROFILE" in caught.value.hint


@pytest.mark.usefixtures("nobody")
async def test_a_profile_is_found_by_the_chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        "[lab]\naws_access_key_id = PK\naws_secret_access_key = PS\naws_session_token = PT\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert await CredentialChain().current() == Credentials("PK", "PS", "PT")
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(CredentialsRefused, match="missing"):
        await CredentialChain().current()


async def test_expired_before_their_time(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    dealt: list[Chain] = []

    class Session:
        async def get_credentials(self) -> Chain:
            chain = Chain()
            chain.asked = 10 * len(dealt)
            dealt.append(chain)
            return chain

    monkeypatch.setattr("aiobotocore.session.get_session", Session)
    chain = CredentialChain({})
    first = await chain.current()
    assert chain.expired(first)
    second = await chain.current()
    assert (first.access_key, second.access_key) == ("AK1", "AK11")
    clock[0] += 20.0
    assert chain.expired(first)  # a part that took long: there are others by now
    assert await chain.current() is second
    assert not chain.expired(second)  # what was just given out is refused, too
    clock[0] += room.DOUBT
    assert chain.expired(second)
    assert (await chain.current()).access_key == "AK21"


async def test_what_the_environment_has_is_no_other_the_next_time() -> None:
    chain = CredentialChain(KEYS)
    assert not chain.expired(await chain.current())
