"""A cluster, as far as a URL does not say it."""

from __future__ import annotations

import getpass
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Literal

from msgspec import Struct

from asynccopy.logs import HIDDEN

Auth = Literal["simple", "kerberos", "token", "password"]
FILES: Final = ("keytab", "token_file", "password_file", "ca_file", "client_certificate", "client_key")
"""The fields that name files."""

_ENTRY: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")
_NAME: Final = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")
_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")


class Access(Struct, frozen=True, kw_only=True):
    """How a cluster is reached, and who we are there. None and () stand for what is usual.

    ``user``: of simple security, or of the password. ``doas``: the user to act for. ``auth``: how we say who we are;
    None: found out. ``keytab``: a file, ``ccache``: a Kerberos credential cache by its name, each with the tickets of
    ``principal``; ``mutual``: the server must show who it is. ``token_file``: Hadoop's, or one with the text of a
    delegation token. ``redirects``: host names and networks that DataNodes may have beside those that the NameNode
    reported (see ``Place``). ``ca_file``: PEM certificates to trust instead of the system's; ``client_certificate``,
    ``client_key``: see ``storage.tls``.
    """

    user: str | None = None
    doas: str | None = None
    auth: Auth | None = None
    principal: str | None = None
    keytab: str | None = None
    ccache: str | None = None
    mutual: bool = False
    token_file: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    redirects: tuple[str, ...] = ()


class Cluster(Access, frozen=True):
    """In plain values, as another process can take them.

    ``servers``: the base URLs of all NameNodes or gateways of the nameservice, ``http://nn1:9870`` or
    ``https://knox:8443/gateway/TOPOLOGY``; () is the one in the URL.
    """

    servers: tuple[str, ...] = ()
    token: str | None = None
    """The text of a delegation token: a secret, which is not shown."""

    def __repr__(self) -> str:
        said = {key: getattr(self, key) for key in self.__struct_fields__}
        if self.token is not None:
            said["token"] = HIDDEN
        return (
            f"Cluster({', '.join(f'{key}={value!r}' for key, value in said.items() if value not in (None, (), False))})"
        )


def user_name() -> str | None:
    """Who runs this, None where the machine has only a number for it, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter from CPython 3.13 on
        return None


class Place(Struct, frozen=True):
    """Where DataNodes may be: below a ``domain`` (with its dot), at the host ``name``, or in a ``network``; at one
    ``port``, or None for those that DataNodes have.
    """

    name: str = ""
    domain: str = ""
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None


def place(text: str) -> Place:
    """From ``dn1.example``, ``*.dn.example``, ``10.1.2.3``, ``10.1.0.0/16`` or ``2001:db8::/32``, each with ``:port``
    where it is not a DataNode's usual one (``[2001:db8::5]:9864``). Raises ValueError.
    """
    match = _ENTRY.fullmatch(text)
    host, port = (match["six"] or match["host"], match["port"]) if match else (text, None)
    if port is not None and not 0 < int(port) < 65536:
        raise ValueError(f"port {port} does not exist")
    number = None if port is None else int(port)
    if ":" in host or "/" in host or _NUMBER.fullmatch(host):
        return Place(network=ip_network(host), port=number)
    if _NAME.fullmatch(host) is None:
        raise ValueError("is no host name, *.domain, address or network")
    name = host.lower().rstrip(".")
    return Place(domain=name[1:], port=number) if name.startswith("*.") else Place(name=name, port=number)
