"""The life of a delegation token: fetched once, renewed early, replaced, kept while nobody renews it, cancelled."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from time import monotonic

import pytest
import structlog

from asynccopy.config.cluster import Cluster
from asynccopy.errors import AsyncCopyError, CredentialsRefused, ServerTrouble, Unreachable, UsageError
from asynccopy.storage.http import Response
from asynccopy.storage.pool import Origin
from asynccopy.storage.registry import NameNodes, Place, Settings
from asynccopy.storage.webhdfs import kerberos
from asynccopy.storage.webhdfs.auth import ASK, Auth, Given, Lent, Password, Simple
from asynccopy.storage.webhdfs.delegation import AGAIN, Delegated, EachDelegated, Issued, SpnegoIssuer
from asynccopy.storage.webhdfs.delegation import refusal as token_refusal
from asynccopy.storage.webhdfs.identity import FoundOut, TokenFile, identity
from asynccopy.storage.webhdfs.kerberos import Identity, refusal
from asynccopy.storage.webhdfs.nameservice import Nameservice, servers
from asynccopy.storage.webhdfs.tokens import Token

INVALID = Response(403, {}, b'{"RemoteException":{"exception":"InvalidToken","message":"expired"}}')
DENIED = Response(403, {}, b'{"RemoteException":{"exception":"AccessControlException","message":"no"}}')
NEGOTIATE = Response(401, {"www-authenticate": "Negotiate"}, b"")
NN = Nameservice(servers(["webhdfs://nn:9870"]))


class Bank:
    """Issues tokens of 20 s that can be renewed up to 60 s, like the secure test cluster."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.issued = self.renewed = 0
        self.cancelled: list[str] = []
        self.trouble: AsyncCopyError | None = None
        self.slow: asyncio.Event | None = None

    async def issue(self) -> Issued:
        await self._may()
        self.issued += 1
        return Issued(f"token-{self.issued}", self.now, self.now + 20, last=False)

    async def renew(self, token: Issued) -> Issued:
        await self._may()
        self.renewed += 1
        ends = min(self.now + 20, token.born + 60)
        return Issued(token.text, token.born, ends, last=ends == token.born + 60)

    async def cancel(self, token: Issued) -> None:
        await self._may()
        self.cancelled.append(token.text)

    async def _may(self) -> None:
        if self.slow is not None:
            await self.slow.wait()
        if self.trouble is not None:
            raise self.trouble


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def auth(bank: Bank) -> Delegated:
    return Delegated(bank, lambda: bank.now)


async def test_one_token_serves_all_who_ask_at_once(bank: Bank, auth: Delegated) -> None:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(auth.query()) for _ in range(100)]
    assert {each.result() for each in asked} == {"&delegation=token-1"}
    assert bank.issued == 1


async def test_it_never_hands_out_a_token_that_has_ended(bank: Bank, auth: Delegated) -> None:
    ends: dict[str, float] = {}
    for _ in range(600):
        who = await auth.query()
        ends.setdefault(who, bank.now + 60)
        assert bank.now < ends[who]
        bank.now += 0.5
    assert bank.issued == 6, "300 s of 60 s each, replaced a little before"
    assert 18 <= bank.renewed <= 24


async def test_nobody_waits_while_a_good_token_is_renewed(bank: Bank, auth: Delegated) -> None:
    await auth.query()
    bank.now += 15
    bank.slow = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        renewing = group.create_task(auth.query())
        await asyncio.sleep(0)
        assert await asyncio.wait_for(auth.query(), 0.2) == "&delegation=token-1"
        bank.slow.set()
    assert renewing.result() == "&delegation=token-1"
    assert bank.renewed == 1


async def test_an_old_token_is_used_while_the_kdc_is_away(bank: Bank, auth: Delegated) -> None:
    with structlog.testing.capture_logs() as told:
        await auth.query()
        bank.trouble = Unreachable("no KDC")
        for _ in range(19):
            bank.now += 1
            assert await auth.query() == "&delegation=token-1"
        bank.now += 2
        for _ in range(3):
            with pytest.raises(Unreachable):  # which is waited for, as for a NameNode
                await auth.query()
        bank.trouble = None
        bank.now += AGAIN
        assert await auth.query() == "&delegation=token-1", "within its 60 s even an ended one can be renewed"
    assert [line["log_level"] for line in told] == ["warning", "info"], "said once, and once more when it is over"


async def test_where_nothing_holds_one_try_is_made_for_all_who_wait(bank: Bank, auth: Delegated) -> None:
    tries = 0

    async def issue() -> Issued:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        raise Unreachable("no KDC")

    bank.issue = issue  # type: ignore[method-assign]
    results = await asyncio.gather(*(auth.query() for _ in range(200)), return_exceptions=True)
    assert {type(result) for result in results} == {Unreachable}
    assert tries == 1


async def test_a_refused_token_is_replaced_once(bank: Bank, auth: Delegated) -> None:
    who = await auth.query()
    bank.now += AGAIN + 1
    assert not auth.refused(who, DENIED)
    assert auth.refused(who, INVALID)
    assert auth.refused(who, INVALID), "another request that was under way"
    assert await auth.query() == "&delegation=token-2"
    assert auth.refused(who, INVALID), "the old one, again"
    assert await auth.query() == "&delegation=token-2"
    assert bank.issued == 2


async def test_tokens_are_not_fetched_one_after_the_other(bank: Bank, auth: Delegated) -> None:
    """A server that refuses every one would get thousands."""
    for _ in range(50):
        auth.refused(await auth.query(), INVALID)
    assert bank.issued == 1


async def test_closing_cancels_and_a_later_request_gets_another(bank: Bank, auth: Delegated) -> None:
    await auth.aclose()
    await auth.query()
    await auth.aclose()
    await auth.aclose()
    assert bank.cancelled == ["token-1"]
    assert await auth.query() == "&delegation=token-2"
    bank.trouble = Unreachable("gone")
    await auth.aclose()  # is no failure of the copy


@pytest.mark.parametrize(
    ("exception", "message", "kind"),
    [
        ("AccessControlException", "alice tries to renew a token with non-matching renewer = bob", CredentialsRefused),
        ("UnsupportedOperationException", "op=RENEWDELEGATIONTOKEN is not supported", CredentialsRefused),
        ("InvalidToken", "alice tried to renew an expired token", CredentialsRefused),
        ("IOException", "the edit log is busy", ServerTrouble),
    ],
)
def test_no_file_is_to_blame_for_a_token_that_is_refused(
    exception: str, message: str, kind: type[AsyncCopyError]
) -> None:
    """Else every file would fail by it, one after the other, and a token that cannot be renewed not be replaced."""
    body = json.dumps({"RemoteException": {"exception": exception, "message": message}}).encode()
    error = token_refusal(Response(403, {}, body), "nn RENEWDELEGATIONTOKEN")
    assert type(error) is kind
    assert message in error.message


# --- others who have one ------------------------------------------------------------------------------------------


async def test_a_given_token_is_read_again_when_it_is_refused() -> None:
    texts = ["a", "a", "b"]

    async def read() -> str:
        return texts.pop(0)

    given = Given(read, "FILE")
    assert await given.query() == "&delegation=a" == await given.query()
    assert given.refused("&delegation=a", INVALID)
    with pytest.raises(CredentialsRefused, match="FILE is not valid"):
        await given.query()
    assert await given.query() == "&delegation=b"


@pytest.mark.parametrize(("owner", "right"), [("bob", True), ("bob@A.TEST", True), ("alice", False), ("", False)])
@pytest.mark.parametrize("way", ["ASYNCCOPY_DELEGATION_TOKEN", "token_file", "HADOOP_TOKEN_FILE_LOCATION"])
async def test_a_token_that_is_somebody_elses_than_doas_says_is_not_used(
    owner: str, right: bool, way: str, tmp_path: Path
) -> None:
    """The server takes the token, and does not look at ``doas`` then: all would be done as its owner."""
    identifier = bytes([0, len(owner)]) + owner.encode() + b"\5alice\0\1\2"
    text = Token(identifier, b"secret", "WEBHDFS delegation", "").text
    (tmp_path / "token").write_text(text)
    file = str(tmp_path / "token")

    async def who() -> str:
        if way == "token_file":
            return await found(doas="bob", token_file=file).query()
        return await found({way: text if way.startswith("ASYNC") else file}, doas="bob").query()

    if right:
        assert await who() == f"&delegation={text}"
    else:
        with pytest.raises(UsageError, match=f"is that of {owner or 'nobody'}, and `doas` says bob"):
            await who()


@pytest.mark.parametrize("cause", ["StandbyException", "ipc.RetriableException: SecretManager$InvalidToken: not found"])
async def test_a_token_is_not_refused_by_who_cannot_know_it_yet(cause: str) -> None:
    """A standby NameNode, and one that is becoming active and still reads which tokens there are."""
    given, lent = Given(lambda: asyncio.sleep(0, "a"), "FILE"), Lent(lambda *asked: asyncio.sleep(0, "a"))
    said = {"exception": "SecurityException", "message": f"Failed: SecretManager$InvalidToken: {cause}"}
    if cause.startswith("ipc"):
        said["message"] = f"Failed: org.apache.hadoop.{cause}"
    answer = Response(403, {}, json.dumps({"RemoteException": said}).encode())
    for auth in (given, lent):
        assert not auth.refused(await auth.query(), answer)


async def test_a_worker_asks_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked, answer = 0.0, list[str](), "&delegation=a"
    monkeypatch.setattr("asynccopy.storage.webhdfs.auth.monotonic", lambda: now)

    async def ask(refused: str, at: Origin | None, ticket: bool) -> str:
        asked.append(refused)
        return answer

    lent = Lent(ask)
    assert await lent.query() == "&delegation=a" == await lent.query()
    answer, now = "&delegation=b", now + ASK
    assert await lent.query() == "&delegation=b"
    assert not lent.refused("&delegation=b", DENIED)
    assert lent.refused("&delegation=a", INVALID)
    assert await lent.query() == "&delegation=b"
    assert lent.refused("&delegation=b", INVALID)
    answer = "&delegation=c"
    assert await lent.query() == "&delegation=c"
    assert asked == ["", "", "&delegation=b"]


async def test_a_worker_asks_for_each_gateway_apart() -> None:
    one, two = (server.origin for server in servers(["http://h1:14000", "http://h2:14000"]))
    asked = list[tuple[str, Origin | None]]()

    async def ask(refused: str, at: Origin | None, ticket: bool) -> str:
        asked.append((refused, at))
        return f"&delegation={len(asked)}"

    lent = Lent(ask)
    assert [await lent.query(at) for at in (None, one, two, one, two)] == [f"&delegation={n}" for n in (1, 2, 3, 2, 3)]
    assert lent.refused("&delegation=2", INVALID)
    assert [await lent.query(at) for at in (None, one, two)] == [f"&delegation={n}" for n in (1, 4, 3)]
    assert asked == [("", None), ("", one), ("", two), ("&delegation=2", one)]


async def test_what_is_lent_is_the_same_as_what_is_used() -> None:
    namenodes = NameNodes()
    place = Place("webhdfs://nn:9870/a", Settings(cluster=Cluster(user="me", auth="simple")))
    assert await namenodes.lend(place) == "&user.name=me"
    mine = namenodes.identity(
        "webhdfs://nn:9870", Settings(cluster=Cluster(user="me", auth="simple"), concurrency=3), NN
    )
    other = namenodes.identity("webhdfs://nn:9870", Settings(cluster=Cluster(user="you", auth="simple")), NN)
    assert await mine.query() == "&user.name=me"
    assert await other.query() == "&user.name=you"
    there = namenodes.identity("webhdfs://nn:9870", place.settings, NN)
    assert there is mine


# --- at gateways --------------------------------------------------------------------------------------------------


class Banks(SpnegoIssuer):
    """Each server of a nameservice is a bank of its own; the first one asked is the second of them."""

    def __init__(self) -> None:
        super().__init__(Nameservice(servers(["http://h1:14000", "http://h2:14000"])), Identity())
        self.banks = {server.origin: Bank() for server in self._servers}
        for bank in self.banks.values():
            bank.now = monotonic()
        self._answered = self._servers[1]

    def only(self, origin: Origin) -> SpnegoIssuer:
        return self.banks[origin]  # type: ignore[return-value]

    async def issue(self) -> Issued:
        return await self.banks[self._servers[1].origin].issue()

    async def cancel(self, token: Issued) -> None:
        await self.banks[self._servers[1].origin].cancel(token)


async def test_each_gateway_has_a_token_of_its_own() -> None:
    issuer = Banks()
    (one, first), (two, second) = issuer.banks.items()
    auth = EachDelegated(issuer)
    shared = await auth.query()
    assert shared == await auth.query(two), "the one that was issued there before they were known to be gateways"
    assert issuer._nameservice.servers == (issuer._servers[1],), "and which is renewed and cancelled nowhere else"
    await auth.query(one)
    assert (first.issued, second.issued) == (1, 1)
    assert auth.refused(shared, INVALID)
    assert not auth.refused(shared, DENIED)
    await auth.aclose()
    assert (first.cancelled, second.cancelled) == (["token-1"], ["token-1"])


# --- found out ----------------------------------------------------------------------------------------------------


def found(environ: dict[str, str] | None = None, **keys: object) -> Auth:
    cluster = Cluster(**keys)  # type: ignore[arg-type]
    nameservice = Nameservice(servers(cluster.servers)) if cluster.servers else NN
    return identity(cluster, "webhdfs://nn:9870", nameservice, environ or {})


@pytest.mark.parametrize(
    ("keys", "environ", "kind"),
    [
        ({}, {}, FoundOut),
        ({"auth": "simple"}, {"ASYNCCOPY_DELEGATION_TOKEN": "x"}, Simple),
        ({"keytab": "/k"}, {}, Delegated),
        ({"principal": "a"}, {"ASYNCCOPY_DELEGATION_TOKEN": "x"}, Delegated),
        ({"ccache": "KCM:"}, {}, Delegated),
        ({"auth": "kerberos"}, {}, Delegated),
        ({"auth": "kerberos", "servers": ("http://h1:14000", "http://h2:14000")}, {}, EachDelegated),
        ({"token_file": "/t"}, {}, Given),
        ({"auth": "token"}, {"HADOOP_TOKEN_FILE_LOCATION": "/t"}, Given),
        ({}, {"HADOOP_TOKEN_FILE_LOCATION": "/t"}, FoundOut),
    ],
)
def test_who_we_are_follows_from_what_is_told(keys: dict[str, object], environ: dict[str, str], kind: type) -> None:
    assert type(found(environ, **keys)) is kind


def test_what_is_missing_is_said() -> None:
    with pytest.raises(UsageError, match="no delegation token"):
        found(auth="token")
    with pytest.raises(UsageError, match="ASYNCCOPY_DELEGATION_TOKEN: is no delegation token"):
        found({"ASYNCCOPY_DELEGATION_TOKEN": "%%%"}, auth="token")
    with pytest.raises(UsageError, match="`user` and `password_file`"):
        found(auth="password")


async def test_a_process_whose_user_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As containers have it that run under some number."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert await found({"HADOOP_USER_NAME": "etl"}).query() == "&user.name=etl"
    assert type(found(auth="kerberos")) is Delegated
    with pytest.raises(UsageError, match="webhdfs://nn:9870: the user who runs this has no name") as raised:
        await found().query()
    assert "HADOOP_USER_NAME" in raised.value.hint


async def test_a_password_is_a_header(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("öpen sesame\n")
    auth = found(auth="password", user="me", password_file=str(tmp_path / "p"), doas="bob")
    assert isinstance(auth, Password)
    [(name, value)] = await auth.headers(NN.active.origin)
    assert (name, value) == ("Authorization", "Basic " + base64.b64encode("me:öpen sesame".encode()).decode())
    assert await auth.query() == "&doas=bob"


async def test_a_server_that_wants_kerberos_gets_it() -> None:
    auth = FoundOut(lambda: Simple("me"), lambda: Simple("by ticket"), None)
    who = await auth.query()
    assert who == "&user.name=me"
    assert not auth.refused(who, DENIED)
    assert not auth.refused(who, Response(401, {"www-authenticate": "Basic realm=x"}, b""))
    assert auth.refused(who, NEGOTIATE)
    assert auth.refused(who, NEGOTIATE), "another request that was under way"
    assert await auth.query() == "&user.name=by%20ticket"


class Looking(TokenFile):
    """A file with tokens of another cluster; each look at it takes until ``may`` is set for it."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"HDTS\1\0")
        super().__init__(str(path), "webhdfs://nn:9870", NN, meant=False)
        self.may: list[asyncio.Event] = []

    async def find(self) -> str | None:
        self.may.append(asyncio.Event())
        await self.may[-1].wait()
        return await super().find()


async def test_what_was_found_out_is_not_forgotten_by_who_looked_for_longer(tmp_path: Path) -> None:
    file = Looking(tmp_path / "tokens")
    auth = FoundOut(lambda: Simple("me"), lambda: Simple("by ticket"), file)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(auth.query()) for _ in range(2)]
        await asyncio.sleep(0)
        file.may[0].set()
        who = await asked[0]
        assert auth.refused(who, NEGOTIATE)
        for event in file.may:
            event.set()
    assert await auth.query() == "&user.name=by%20ticket"


async def test_a_token_file_of_another_cluster_is_named_where_nothing_else_helps(tmp_path: Path) -> None:
    class NoTicket(Simple):
        async def query(self, at: Origin | None = None) -> str:
            raise CredentialsRefused("nn: Kerberos: No credentials", hint="run kinit")

    (tmp_path / "tokens").write_bytes(b"HDTS\1\0")
    file = TokenFile(str(tmp_path / "tokens"), "webhdfs://nn:9870", NN, meant=False)
    auth = FoundOut(lambda: Simple("me"), lambda: NoTicket(None), file)
    auth.refused(await auth.query(), NEGOTIATE)
    with pytest.raises(CredentialsRefused, match="nn: Kerberos: No credentials") as raised:
        await auth.query()
    assert raised.value.hint.startswith("run kinit; ")
    assert f"{tmp_path}/tokens: holds no delegation token that is surely for webhdfs://nn:9870" in raised.value.hint


async def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    kerberos.library.cache_clear()
    monkeypatch.setattr(kerberos, "LIBRARY", "libnosuchgssapi.so.2")
    with pytest.raises(UsageError, match="libnosuchgssapi") as raised:
        await Identity().greeting(NN.active.origin)
    assert "libgssapi-krb5-2" in raised.value.hint
    kerberos.library.cache_clear()


@pytest.mark.parametrize(
    ("said", "kind", "hint"),
    [
        ("Cannot contact any KDC for realm 'A'", Unreachable, "KDC"),
        ("Clock skew too great", CredentialsRefused, "NTP"),
        ("Server HTTP/10.0.0.1@A not found in Kerberos database", CredentialsRefused, "not by its address"),
        ("Client 'x@A' not found in Kerberos database", CredentialsRefused, "principal"),
        ("Ticket expired", CredentialsRefused, "kinit"),
        ("something new", CredentialsRefused, "kinit"),
    ],
)
def test_what_kerberos_says_has_a_hint(said: str, kind: type[AsyncCopyError], hint: str) -> None:
    error = refusal(NN.active.origin, said)
    assert type(error) is kind
    assert said in error.message
    assert hint in error.hint
