"""From what a cluster's configuration and the environment say to who we are there."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from asynccopy.config.cluster import Cluster, user_name
from asynccopy.config.file import read_secret
from asynccopy.errors import CredentialsRefused, UsageError
from asynccopy.logs import hide
from asynccopy.storage.http import Headers, Response
from asynccopy.storage.pool import Origin
from asynccopy.storage.webhdfs import tokens
from asynccopy.storage.webhdfs.auth import Auth, Given, Password, Simple
from asynccopy.storage.webhdfs.nameservice import Nameservice

TOKEN: Final = "ASYNCCOPY_DELEGATION_TOKEN"  # noqa: S105 - the variable that holds one
TOKEN_FILE: Final = "HADOOP_TOKEN_FILE_LOCATION"  # noqa: S105


def identity(
    cluster: Cluster,
    base: str,
    nameservice: Nameservice,
    environ: Mapping[str, str],
    tls: ssl.SSLContext | None = None,
) -> Auth:
    """The Auth for a cluster; ``base`` is its URL, nothing is contacted yet. Raises UsageError."""
    simple = partial(_simple, cluster, base, environ)
    kerberos = partial(_kerberos, cluster, nameservice, environ, tls)
    match cluster.auth:
        case "simple":
            return simple()
        case "password":
            if cluster.user is None or cluster.password_file is None:
                raise UsageError(f"{base}: a password needs `user` and `password_file`")
            return Password(cluster.user, read_secret(cluster.password_file, environ), cluster.doas)
        case "kerberos":
            return kerberos()
        case "token":
            return _token(cluster, base, nameservice, environ)
    if cluster.token_file is not None or cluster.token is not None:
        return _token(cluster, base, nameservice, environ)
    if cluster.principal is not None or cluster.keytab is not None or cluster.ccache is not None:
        return kerberos()
    if environ.get(TOKEN):
        return _token(cluster, base, nameservice, environ)
    lying = environ.get(TOKEN_FILE)
    found = None if lying is None else TokenFile(lying, base, nameservice, meant=False, doas=cluster.doas)
    return FoundOut(simple, kerberos, found)


class FoundOut:
    """Who we are where nobody says: by a token of the environment that is for this cluster, else by name; and by
    Kerberos where the server wants that.
    """

    def __init__(self, simple: Callable[[], Auth], kerberos: Callable[[], Auth], file: TokenFile | None) -> None:
        self._simple = simple
        self._kerberos = kerberos
        self._file = file
        self._auth: Auth | None = None
        self._negotiated = False

    async def query(self, at: Origin | None = None) -> str:
        if self._auth is None:
            token = None if self._file is None else await self._file.find()
            if self._auth is None:  # else somebody has found out meanwhile
                if self._file is not None and token is not None:
                    self._auth = Given(self._file.read, self._file.path)
                else:
                    self._auth = self._simple()
        try:
            return await self._auth.query(at)
        except CredentialsRefused as error:
            if self._file is None or not self._negotiated:
                raise
            instead = await self._file.nothing()  # the file that was to spare us the ticket
            raise CredentialsRefused(error.message, hint=f"{error.hint}; {instead.message}; {instead.hint}") from error

    async def headers(self, origin: Origin) -> Headers:
        return ()

    def refused(self, who: str, response: Response) -> bool:
        if response.status == 401 and not self._negotiated and isinstance(self._auth, Simple):
            if not response.headers.get("www-authenticate", "").lower().startswith("negotiate"):
                return False
            self._auth, self._negotiated = self._kerberos(), True
            return True
        if self._negotiated and who.startswith("&user.name="):
            return True  # asked before another one found out
        return self._auth is not None and self._auth.refused(who, response)

    async def ticket(self, server: Origin) -> str:
        return "" if self._auth is None else await self._auth.ticket(server)

    async def aclose(self) -> None:
        if self._auth is not None:
            await self._auth.aclose()


class TokenFile:
    """A file with delegation tokens, read when one is needed. ``meant``: it was given for this cluster alone; ``doas``:
    whose it must be.
    """

    def __init__(self, path: str, base: str, nameservice: Nameservice, *, meant: bool, doas: str | None = None) -> None:
        self.path = path
        self._base = base
        self._nameservice = nameservice
        self._meant = meant
        self._doas = doas

    async def find(self) -> str | None:
        """The text of the token for this cluster. Raises UsageError for a file that cannot be read, and for somebody
        else's token.
        """
        found = tokens.choose(await self._tokens(), await self._services(), meant=self._meant)
        if found is None:
            return None
        hide(found.text)
        _check_owner(found, self._doas, self.path)
        return found.text

    async def read(self) -> str:
        """The same. Raises UsageError also where there is none."""
        found = await self.find()
        if found is None:
            raise await self.nothing()
        return found

    async def nothing(self) -> UsageError:
        """What is told where it has none for this cluster. Raises UsageError for a file that cannot be read."""
        held = ", ".join(f"{token.kind} for {token.service or 'any service'}" for token in await self._tokens())
        return UsageError(
            f"{self.path}: holds no delegation token that is surely for {self._base}",
            hint=f"it holds: {held or 'none'}; this cluster is {', '.join(sorted(await self._services()))}",
        )

    async def _tokens(self) -> list[tokens.Token]:
        def read() -> bytes:
            with Path(self.path).open("rb") as file:
                return file.read(tokens.LARGEST)

        try:
            return tokens.parse_file(await asyncio.to_thread(read))
        except OSError as error:
            raise UsageError(
                f"{self.path}: cannot be read: {error.strerror}", hint="check the token file and its owner"
            ) from None
        except ValueError as error:
            raise UsageError(f"{self.path}: {error}", hint="`hdfs fetchdt` writes one") from None

    async def _services(self) -> set[str]:
        names = {self._base.removeprefix("hdfs://")} if self._base.startswith("hdfs://") else set()
        found = {f"ha-hdfs:{name.lower()}" for name in names}
        loop = asyncio.get_running_loop()
        for server in self._nameservice.servers:
            host, port = server.origin.host.lower(), server.origin.port
            found.add(f"{host}:{port}")
            try:
                addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError:
                continue  # the request will tell
            found |= {f"{address[4][0]}:{port}" for address in addresses}
        return found


def _simple(cluster: Cluster, base: str, environ: Mapping[str, str]) -> Auth:
    user = cluster.user or environ.get("HADOOP_USER_NAME") or user_name()
    if user is None:
        raise UsageError(
            f"{base}: the user who runs this has no name (uid {os.getuid()})",
            hint="set HADOOP_USER_NAME, or `user` of the endpoint",
        )
    return Simple(user, cluster.doas)


def _token(cluster: Cluster, base: str, nameservice: Nameservice, environ: Mapping[str, str]) -> Auth:
    text = (cluster.token or environ.get(TOKEN, "")).strip()
    place = TOKEN if cluster.token is None else f"`token` of {base}"
    if cluster.token_file is None and text:
        try:
            token = tokens.parse_text(text)
        except ValueError as error:
            raise UsageError(f"{place}: {error}", hint="it is the `urlString` of GETDELEGATIONTOKEN") from None
        hide(text)
        _check_owner(token, cluster.doas, place)

        async def same() -> str:
            return text

        return Given(same, place)
    path = _placed(cluster.token_file, environ) or environ.get(TOKEN_FILE)
    if path is None:
        raise UsageError(f"{base}: no delegation token", hint=f"set `token_file`, {TOKEN} or {TOKEN_FILE}")
    file = TokenFile(path, base, nameservice, meant=cluster.token_file is not None, doas=cluster.doas)
    return Given(file.read, path)


def _check_owner(token: tokens.Token, doas: str | None, place: str) -> None:
    """A server does not look at ``doas`` beside a token (seen on Hadoop 3.5.0): all would be done as the token's owner.
    Raises UsageError.
    """
    if doas is None:
        return
    try:
        owner = tokens.owner(token)
    except ValueError as error:
        raise UsageError(f"the delegation token of {place}: {error}", hint="leave `doas` out") from None
    if owner != doas:
        raise UsageError(
            f"the delegation token of {place} is that of {owner or 'nobody'}, and `doas` says {doas}",
            hint="give one that was fetched for that user, or leave `doas` out",
        )


def _placed(name: str | None, environ: Mapping[str, str]) -> str | None:
    """A name without a folder is a credential of systemd, where there are any."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    return f"{folder}/{name}" if name and folder and "/" not in name else name


def _kerberos(
    cluster: Cluster, nameservice: Nameservice, environ: Mapping[str, str], tls: ssl.SSLContext | None
) -> Auth:
    # Late: few clusters need it.
    from asynccopy.storage.webhdfs.delegation import Delegated, EachDelegated, SpnegoIssuer
    from asynccopy.storage.webhdfs.kerberos import Identity

    keytab = _placed(cluster.keytab, environ)
    ours = Identity(cluster.principal, keytab=keytab, ccache=cluster.ccache, mutual=cluster.mutual)
    issuer = SpnegoIssuer(nameservice, ours, cluster.doas, tls)
    return Delegated(issuer) if len(nameservice.servers) == 1 else EachDelegated(issuer)
