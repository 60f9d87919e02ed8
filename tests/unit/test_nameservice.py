"""Which server of a nameservice is asked, and what becomes of a request that one does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from asynccopy.errors import AsyncCopyError, ConnectionLost, NoActiveNameNode, NotFound, Stalled, Unreachable
from asynccopy.storage.http import HttpDoor, Response
from asynccopy.storage.pool import Origin
from asynccopy.storage.registry import NameNodes
from asynccopy.storage.webhdfs.auth import Simple
from asynccopy.storage.webhdfs.client import WebHdfsClient
from asynccopy.storage.webhdfs.nameservice import HUNG, SLOW, Nameservice, Server, servers
from asynccopy.storage.webhdfs.redirects import Permitted, redirect

ONE, TWO = servers(["http://nn1:9870", "http://nn2:9870"])


class Cluster:
    """Servers that answer with their name, or fail by what ``how`` says."""

    def __init__(self) -> None:
        self.how: dict[Server, Callable[[], AsyncCopyError]] = {}
        self.asked: list[tuple[Server, float | None]] = []

    async def send(self, server: Server, patience: float | None) -> str:
        self.asked.append((server, patience))
        await asyncio.sleep(0)
        if server in self.how:
            error = self.how[server]()
            raise error
        return server.origin.host

    def standby(self, *those: Server) -> None:
        self.how |= {each: lambda each=each: NoActiveNameNode(f"{each.origin} is standby") for each in those}

    def dead(self, *those: Server) -> None:
        self.how |= {each: lambda each=each: Unreachable(f"{each.origin}: refused") for each in those}

    def lost(self, *those: Server) -> None:
        self.how |= {each: lambda each=each: ConnectionLost(f"{each.origin}: lost") for each in those}

    def hung(self, *those: Server) -> None:
        self.how |= {each: lambda each=each: Stalled(f"{each.origin}: no answer in time") for each in those}

    def well(self, *those: Server) -> None:
        for each in those:
            self.how.pop(each, None)

    def names(self) -> list[str]:
        asked = [server.origin.host for server, _ in self.asked]
        self.asked.clear()
        return asked


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def nameservice() -> Nameservice:
    return Nameservice([ONE, TWO])


@pytest.mark.parametrize("way", ["standby", "dead", "lost", "hung"])
async def test_the_active_one_is_found_and_remembered(nameservice: Nameservice, cluster: Cluster, way: str) -> None:
    getattr(cluster, way)(ONE)
    assert await nameservice.ask(cluster.send) == "nn2"
    assert nameservice.active == TWO
    assert cluster.names() == ["nn1", "nn2"]
    assert await nameservice.ask(cluster.send) == "nn2"
    assert cluster.names() == ["nn2"]
    cluster.well(ONE)
    getattr(cluster, way)(TWO)
    assert await nameservice.ask(cluster.send) == "nn1"


async def test_an_error_that_is_an_answer_comes_from_the_active_one(nameservice: Nameservice, cluster: Cluster) -> None:
    cluster.how[ONE] = lambda: NotFound("/f")
    with pytest.raises(NotFound):
        await nameservice.ask(cluster.send)
    assert cluster.names() == ["nn1"]


async def test_when_none_is_active_the_error_says_what_each_one_is(nameservice: Nameservice, cluster: Cluster) -> None:
    cluster.standby(ONE)
    cluster.dead(TWO)
    with pytest.raises(NoActiveNameNode) as raised:
        await nameservice.ask(cluster.send)
    assert raised.value.message == "waiting for an active NameNode: nn1:9870 is standby, nn2:9870: refused"
    assert raised.value.fatal and raised.value.retryable and raised.value.exit_code == 3
    assert nameservice.trouble
    cluster.well(TWO)
    assert await nameservice.ask(cluster.send) == "nn2"
    assert not nameservice.trouble


async def test_when_nobody_answers_the_address_may_be_wrong(nameservice: Nameservice, cluster: Cluster) -> None:
    cluster.dead(ONE, TWO)
    with pytest.raises(Unreachable) as raised:
        await nameservice.ask(cluster.send)
    assert type(raised.value) is Unreachable
    assert raised.value.message == "no NameNode answers: nn1:9870: refused, nn2:9870: refused"


async def test_what_may_have_been_heard_is_not_repeated(nameservice: Nameservice, cluster: Cluster) -> None:
    """A RENAME whose reply is lost may have happened: whoever asked for it looks."""
    for way in (cluster.lost, cluster.hung):
        way(ONE)
        with pytest.raises((ConnectionLost, Stalled)):
            await nameservice.ask(cluster.send, once=True)
        assert cluster.names() == ["nn1"]
    for way in (cluster.standby, cluster.dead):  # refused, or never sent
        way(ONE)
        nameservice.active = ONE
        assert await nameservice.ask(cluster.send, once=True) == "nn2"
        assert cluster.names() == ["nn1", "nn2"]


async def test_a_slow_one_gets_more_time_where_no_other_is_active(nameservice: Nameservice, cluster: Cluster) -> None:
    cluster.hung(ONE)
    cluster.standby(TWO)
    with pytest.raises(NoActiveNameNode):
        await nameservice.ask(cluster.send)
    assert cluster.asked == [(ONE, HUNG), (TWO, HUNG), (ONE, SLOW)]


@pytest.mark.parametrize(("once", "patient"), [(True, False), (False, True)])
async def test_what_takes_its_time_is_not_hurried(
    nameservice: Nameservice, cluster: Cluster, once: bool, patient: bool
) -> None:
    await nameservice.ask(cluster.send, once=once, patient=patient)
    assert cluster.asked == [(ONE, None)]


async def test_a_single_server_is_waited_for_as_ever(cluster: Cluster) -> None:
    single = Nameservice([ONE])
    for way, kind in (
        (cluster.dead, Unreachable),
        (cluster.lost, ConnectionLost),
        (cluster.hung, Stalled),
        (cluster.standby, NoActiveNameNode),
    ):
        way(ONE)
        with pytest.raises(AsyncCopyError) as raised:
            await single.ask(cluster.send)
        assert type(raised.value) is kind
        assert cluster.asked == [(ONE, None)]
        cluster.asked.clear()


async def test_many_at_once_find_it_together(nameservice: Nameservice, cluster: Cluster) -> None:
    cluster.dead(ONE)
    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(nameservice.ask(cluster.send), name="ask") for _ in range(20)]
    assert {answer.result() for answer in answers} == {"nn2"}
    cluster.names()
    await nameservice.ask(cluster.send)
    assert cluster.names() == ["nn2"]


async def test_gateways_take_turns_and_one_that_failed_rests(cluster: Cluster) -> None:
    three = servers(["http://a:14000", "http://b:14000", "http://c:14000"])
    gateways = Nameservice(three)
    gateways.gateways = True
    assert sorted([await gateways.ask(cluster.send) for _ in range(6)]) == ["a", "a", "b", "b", "c", "c"]
    cluster.dead(three[1])
    answers = [await gateways.ask(cluster.send) for _ in range(6)]
    assert "b" not in answers and set(answers) == {"a", "c"}
    cluster.names()
    await gateways.ask(cluster.send)
    await gateways.ask(cluster.send)
    assert "b" not in cluster.names()
    cluster.dead(*three)
    with pytest.raises(Unreachable):
        await gateways.ask(cluster.send)
    assert sorted(cluster.names()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("webhdfs://nn", Server(Origin("http", "nn", 9870))),
        ("swebhdfs://nn", Server(Origin("https", "nn", 9871))),
        ("http://[::1]:50070/", Server(Origin("http", "::1", 50070))),
        ("https://knox:8443/gateway/prod", Server(Origin("https", "knox", 8443), "/gateway/prod/webhdfs/v1")),
    ],
)
def test_servers(url: str, server: Server) -> None:
    assert servers([url]) == [server]


def test_a_gateway_that_writes_its_name_otherwise_is_itself() -> None:
    """Else it would be taken for a DataNode that nobody has reported."""
    [knox] = servers(["https://Knox.Corp:8443/gateway/prod"])
    answer = Response(307, {"location": "https://KNOX.corp:8443/gateway/prod/webhdfs/data/v1/webhdfs/v1/f?_=x"}, b"")
    found = redirect(answer, knox.origin, "asked")
    assert found.origin == knox.origin
    assert found.prefix == "/gateway/prod/webhdfs/data/v1/webhdfs/v1"
    assert Permitted([knox.origin]).leads(found.origin)


def client(*urls: str) -> WebHdfsClient:
    return WebHdfsClient(Nameservice(servers(urls)), Simple("me"), connections=16)


async def test_sides_on_one_nameservice_share_what_is_known_of_it() -> None:
    shared = NameNodes()
    both, again, one, other = (
        client("http://a", "http://b"),
        client("http://b", "http://a"),
        client("http://a"),
        client("http://c"),
    )
    for each in (both, again, one, other):
        shared.join(each)
    assert both.nameservice is again.nameservice
    assert one.nameservice is not both.nameservice and other.nameservice is not both.nameservice
    assert both.allowance is again.allowance is one.allowance
    assert other.allowance is not both.allowance
    for each in (both, again, one, other):
        await each.aclose()


async def test_connection_refused_and_silence_are_told_apart() -> None:
    """By real sockets: one that nobody listens on, one that accepts and says nothing."""
    held: list[object] = []  # what nobody holds is closed
    silent = await asyncio.start_server(lambda *streams: held.append(streams), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    refused, door = Server(Origin("http", "127.0.0.1", 9)), HttpDoor(connections=4)

    async def send(server: Server, patience: float | None) -> object:
        return await door.request(server.origin, "GET", "/", patience=None if patience is None else patience / 50)

    two = Nameservice([refused, Server(Origin("http", "127.0.0.1", port))])
    with pytest.raises(Unreachable) as raised:
        await two.ask(send)
    assert "127.0.0.1:9: cannot connect: connection refused" in raised.value.message
    assert f"127.0.0.1:{port}: no answer in time" in raised.value.message
    await door.aclose()
    silent.close()


async def test_a_silent_datanode_is_no_files_fault_while_a_namenode_hangs(cluster: Cluster) -> None:
    """For the DataNode asks the NameNodes too, and waits for the hung one."""
    datanode, asking = Origin("http", "dn", 9864), client("http://nn1:9870", "http://nn2:9870")
    stalled = Stalled("http://dn:9864: no answer in time")
    assert asking.suspect(datanode, stalled) is stalled
    cluster.hung(ONE)
    assert await asking.nameservice.ask(cluster.send) == "nn2"
    error = asking.suspect(datanode, stalled)
    assert isinstance(error, NoActiveNameNode)
    assert error.message == f"{stalled.message}: it may wait for a NameNode that hangs: nn1:9870"
    lost = ConnectionLost("http://dn:9864: connection lost")
    assert asking.suspect(datanode, lost) is lost
    cluster.well(ONE)
    cluster.dead(TWO)
    assert await asking.nameservice.ask(cluster.send) == "nn1"
    assert asking.suspect(datanode, stalled) is stalled
    await asking.aclose()
