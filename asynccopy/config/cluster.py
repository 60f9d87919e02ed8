"""A cluster, as far as a URL does not say it."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from asynccopy.logs import HIDDEN

Auth = Literal["simple", "kerberos", "token", "password"]
FILES: Final = ("keytab", "token_file", "password_file", "ca_file", "client_certificate", "client_key")
"""The fields that name files."""


class Cluster(Struct, frozen=True):
    """In plain values, as another process can take them. None and () stand for what is usual.

    ``servers``: the base URLs of all NameNodes or gateways of the nameservice, ``http://nn1:9870`` or
    ``https://knox:8443/gateway/TOPOLOGY``; () is the one in the URL. ``user``: of simple security, or of the password.
    ``doas``: the user to act for. ``auth``: how we say who we are; None: found out. ``redirects``: host names and
    networks that DataNodes may have beside those that the NameNode reported. ``ca_file``: PEM certificates to trust
    instead of the system's; ``client_certificate``, ``client_key``: see ``storage.tls``.
    """

    servers: tuple[str, ...] = ()
    user: str | None = None
    doas: str | None = None
    auth: Auth | None = None
    principal: str | None = None
    keytab: str | None = None
    mutual: bool = False
    token: str | None = None
    """The text of a delegation token: a secret, which is not shown."""
    token_file: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    redirects: tuple[str, ...] = ()

    def __repr__(self) -> str:
        said = {key: getattr(self, key) for key in self.__struct_fields__}
        if self.token is not None:
            said["token"] = HIDDEN
        return (
            f"Cluster({', '.join(f'{key}={value!r}' for key, value in said.items() if value not in (None, (), False))})"
        )
