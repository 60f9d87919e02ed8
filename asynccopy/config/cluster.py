"""A cluster, as far as a URL does not say it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Cluster(Struct, frozen=True):
    """In plain values, as another process can take them. None and () stand for what is usual.

    ``servers``: the base URLs of all NameNodes or gateways of the nameservice, ``http://nn1:9870`` or
    ``https://knox:8443/gateway/TOPOLOGY``; () is the one in the URL. ``user``: of simple security, or of the password.
    ``doas``: the user to act for. ``auth``: how we say who we are; None: found out. ``keytab``: a file, ``ccache``: a
    Kerberos credential cache by its name, each with the tickets of ``principal``; ``mutual``: the server must show who
    it is. ``token_file``: Hadoop's, or one with the text of a delegation token. ``redirects``: host names and
    networks that DataNodes may have beside those that the NameNode reported.
    """

    servers: tuple[str, ...] = ()
    user: str | None = None
    doas: str | None = None
    auth: Literal["simple", "kerberos", "token", "password"] | None = None
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
