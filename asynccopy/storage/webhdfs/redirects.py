"""Where a redirect may lead. Pure. A redirect is hostile until it is proven to lead to one of the cluster's DataNodes.

What is said here of the server's behaviour was seen on Hadoop 3.5.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import msgspec
from msgspec import Struct

from asynccopy.config.cluster import place
from asynccopy.errors import WrongServer
from asynccopy.storage.http import Response
from asynccopy.storage.pool import Origin
from asynccopy.storage.webhdfs.messages import PREFIX, DataNode, location

PORTS: Final = frozenset({9864, 9865, 50075, 50475, 1006})
"""A DataNode's web ports by Hadoop's defaults: of 3.x, of 2.x, and the privileged one."""

_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[^\[\]@:/?#\\]{1,253}))(?::(?P<port>[0-9]{1,5}))?"
)
_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")
_QUERY: Final = re.compile(r"[!-~]*")
_METADATA: Final = frozenset(
    map(ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
"""Cloud metadata services outside of the link-local addresses (Alibaba Cloud, Azure, Oracle, AWS, Google)."""
_NAT64: Final = ip_network("64:ff9b::/96")


class Redirect(Struct, frozen=True):
    """Where the NameNode sends us. The path is not taken from it, but what precedes the HDFS path: see ``redirect``.

    ``who``: who we are there, "" for who asked the NameNode.
    """

    origin: Origin
    query: str
    prefix: str = PREFIX
    who: str = ""


class _LiveNodes(Struct, rename={"nodes": "LiveNodes"}):
    nodes: str = "{}"


class _LiveNodesAnswer(Struct):
    beans: list[_LiveNodes] = []


class _LiveNode(Struct, rename="camel"):
    info_addr: str
    info_secure_addr: str = ""


_live = msgspec.json.Decoder(_LiveNodesAnswer)
_live_nodes = msgspec.json.Decoder(dict[str, _LiveNode])


def redirect(response: Response, asking: Origin, asked: str) -> Redirect:
    """The DataNode to go to, as the answer has it.

    The path in it is NFC-normalised by the server, so that following it as it is reads *another file* where two names
    differ only in normalisation: only host, port and query are taken. Raises WrongServer for a redirect that no
    NameNode gives; none of it is quoted but scheme and host, for it may hold a token.
    """
    scheme, _, rest = location(response, asked).partition("://")
    authority, _, rest = rest.partition("/")
    if scheme != asking.scheme and (asking.scheme, scheme) != ("http", "https"):
        raise WrongServer(f"{asked}: redirected to {ascii(scheme[:20]) if scheme else 'no scheme'}, refused")
    origin = _datanode(scheme, authority)
    if origin is None:
        raise WrongServer(f"{asked}: redirected to an address that no DataNode has, refused")
    path, _, query = rest.partition("?")
    if not _QUERY.fullmatch(query):
        # ``noredirect`` leaves non-ASCII unescaped, but only in the path.
        raise WrongServer(f"{asked}: malformed redirect")
    # A gateway that redirects to itself may have more before the HDFS path: Knox has /gateway/TOPOLOGY/webhdfs/data/v1.
    before = f"/{path}".partition(f"{PREFIX}/")[0] if origin == asking else ""
    return Redirect(origin, query, f"{before}{PREFIX}")


@lru_cache(maxsize=4096)
def _datanode(scheme: str, authority: str) -> Origin | None:
    """The address in a redirect, None when no DataNode can have it. Remembered: it comes with every range."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    host = (match["six"] or match["host"]).lower()
    port = int(match["port"] or (443 if scheme == "https" else 80))
    return Origin(scheme, host, port) if 0 < port < 65536 and _may_be_datanode(host) else None


def _may_be_datanode(host: str) -> bool:
    """False for what is no host, and for the addresses where cloud metadata services live, in any notation."""
    try:
        address = ip_address(host)
    except ValueError:
        # What ends in a number resolves as an IPv4 address too: 2852039166 and 0xa9.16689662 are 169.254.169.254.
        return _HOST.fullmatch(host) is not None and _NUMBER.fullmatch(host) is None
    return not _forbidden(_meant(address))


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for (mapped, compatible, 6to4, NAT64), else itself."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and (address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1)):
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


def _forbidden(address: IPv4Address | IPv6Address) -> bool:
    return address.is_link_local or address.is_unspecified or address.is_multicast or address in _METADATA


class Permitted:
    """Where the redirects of one cluster may lead: to its own servers, to the DataNodes that it has reported, and to
    ``places`` (see ``config.cluster.place``).

    An address is looked at once more when it is known (``connects``): no name makes a forbidden one good, and this
    machine itself is right only for a cluster that is asked on this machine.
    """

    def __init__(self, own: Iterable[Origin], places: Sequence[str] = ()) -> None:
        self._own = frozenset(own)
        self._places = [place(text) for text in places]
        self._reported: set[Origin] = set()
        self._ports = set(PORTS)
        self._here = any(_is_here(origin.host) for origin in self._own)

    def report(self, nodes: Iterable[DataNode]) -> None:
        """The NameNode has told of these DataNodes."""
        for node in nodes:
            for scheme, port in (("http", node.info_port), ("https", node.info_secure_port)):
                if port:
                    self._ports.add(port)
                    self._reported |= {Origin(scheme, _plain(host), port) for host in (node.host_name, node.ip_addr)}

    def leads(self, origin: Origin) -> bool:
        """Whether a redirect there is followed. A host name may still have an address that is refused."""
        return self._known(origin) or any(
            each.network is not None and self._at(each.port, origin) and _may_be_in(each.network, origin.host)
            for each in self._places
        )

    def connects(self, origin: Origin, address: str) -> None:
        """Whether a connection may be made to this address, which the host of a redirect has. Raises WrongServer."""
        if origin in self._own:
            return
        found = _meant(ip_address(address))
        placed = any(
            each.network is not None and self._at(each.port, origin) and found in each.network for each in self._places
        )
        if _forbidden(found):
            raise WrongServer(f"{origin}: its address is {found}, which no DataNode has: refused", hint="")
        here = found.is_loopback and not (self._here or any(origin.host == own.host for own in self._own))
        if not placed and (here or not self._known(origin)):
            raise refused(str(origin), origin, f" ({found})")

    def _known(self, origin: Origin) -> bool:
        host = _plain(origin.host)
        return (
            origin in self._own
            or Origin(origin.scheme, host, origin.port) in self._reported
            or any(
                (host == each.name or bool(each.domain and host.endswith(each.domain))) and self._at(each.port, origin)
                for each in self._places
            )
        )

    def _at(self, port: int | None, origin: Origin) -> bool:
        return origin.port == port if port is not None else origin.port in self._ports


def live_datanodes(response: Response) -> list[DataNode]:
    """NameNodeInfo of ``/jmx``: every DataNode that is alive, [] where it is not told."""
    try:
        beans = _live.decode(response.body).beans
        nodes = _live_nodes.decode(beans[0].nodes) if beans else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    found = []
    for name, node in nodes.items():
        host, _, port = node.info_addr.rpartition(":")
        secure = node.info_secure_addr.rpartition(":")[2]
        if port.isdecimal():
            secure_port = int(secure) if secure.isdecimal() else 0
            found.append(DataNode(host, name.rpartition(":")[0] or name, int(port), 0, secure_port))
    return found


def refused(asked: str, origin: Origin, why: str = "") -> WrongServer:
    """What is told of a redirect that leads to nobody whom the cluster has reported."""
    where = f"{origin.host}:{origin.port}"
    return WrongServer(
        f"{asked}: redirected to {where}{why}, where the NameNode has reported no DataNode: refused",
        hint=f'if the DataNodes of this cluster are there, say so in its [endpoints.NAME]: redirects = ["{where}"]; '
        "names as *.example.com and networks as 10.0.0.0/8 are taken too",
    )


@lru_cache(maxsize=4096)
def _plain(host: str) -> str:
    """A host in the one form by which it is compared."""
    try:
        return str(_meant(ip_address(host)))
    except ValueError:
        return host.lower().rstrip(".")


def _may_be_in(network: IPv4Network | IPv6Network, host: str) -> bool:
    """True also of a name: what address it has is seen when it is looked up."""
    try:
        return _meant(ip_address(host)) in network
    except ValueError:
        return True


def _is_here(host: str) -> bool:
    name = _plain(host)
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
