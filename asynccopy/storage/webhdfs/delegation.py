"""One delegation token for all that a user does on a cluster: fetched by Kerberos, renewed, replaced, cancelled.

Without a token the NameNode would issue one for every OPEN, and keep them all (seen on Hadoop 3.5.0).
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol, TypeVar

import msgspec
from msgspec import Struct

from asynccopy.errors import AsyncCopyError, CredentialsRefused, FileError, WrongServer
from asynccopy.logs import hide, log
from asynccopy.storage.http import Headers, HttpDoor, Response
from asynccopy.storage.pool import Origin
from asynccopy.storage.webhdfs import tokens
from asynccopy.storage.webhdfs.auth import parameter, token_refused
from asynccopy.storage.webhdfs.kerberos import Identity
from asynccopy.storage.webhdfs.messages import failure
from asynccopy.storage.webhdfs.nameservice import Nameservice, Server, active

EARLY: Final = 0.6
"""The share of its life after which a token is renewed or replaced. The rest is for a KDC that is away."""
AGAIN: Final = 5.0
"""Seconds between two tries while the KDC or the NameNode gives no token."""
GOODBYE: Final = 5.0
"""Seconds that cancelling may take."""
_GSS: Final = re.compile(rb"GSSException: [^<\r\n]{1,200}")

T = TypeVar("T")


class Issued(Struct, frozen=True):
    """A token. By our monotonic clock, ``born`` when it was issued, and ``ends`` unless it is renewed; ``last``: it
    cannot be.
    """

    text: str
    born: float
    ends: float
    last: bool


class Issuer(Protocol):
    """Where tokens come from. Every method raises CredentialsRefused, Unreachable and what a request raises."""

    async def issue(self) -> Issued: ...

    async def renew(self, token: Issued) -> Issued: ...

    async def cancel(self, token: Issued) -> None: ...

    async def ticket(self, server: Origin) -> str: ...


class Delegated:
    """Hands out a token that holds. Closing it cancels the token; asked again, it gets another one.

    While it is renewed, requests go on with what there is; nobody waits for a KDC as long as the token holds.
    """

    def __init__(self, issuer: Issuer, clock: Callable[[], float] = monotonic) -> None:
        self._issuer = issuer
        self._clock = clock
        self._held: Issued | None = None
        self._due = 0.0
        self._since = 0.0
        self._renewal = asyncio.Lock()
        self._failure: AsyncCopyError | None = None
        self._next_try = 0.0

    async def query(self, at: Origin | None = None) -> str:
        held, now = self._held, self._clock()
        if held is not None and now < held.ends and (now < self._due or self._renewal.locked()):
            return parameter("delegation", held.text)
        async with self._renewal:
            if self._held is None or self._clock() >= self._due:
                await self._keep()
            assert self._held is not None
            return parameter("delegation", self._held.text)

    async def headers(self, origin: Origin) -> Headers:
        return ()

    def refused(self, who: str, response: Response) -> bool:
        """A token that was just fetched is kept: another one would be refused, too, and they would become many."""
        if not token_refused(response):
            return False
        held = self._held
        if held is not None and who == parameter("delegation", held.text) and self._clock() - self._since > AGAIN:
            log.info("the delegation token was refused, and is replaced")
            self._held = None
        return True

    async def ticket(self, server: Origin) -> str:
        return await self._issuer.ticket(server)

    async def aclose(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        try:
            async with asyncio.timeout(GOODBYE):
                await self._issuer.cancel(held)
        except (AsyncCopyError, TimeoutError) as error:
            log.info("the delegation token was not cancelled, and ends by itself", reason=str(error) or "no answer")

    async def _keep(self) -> None:
        """Renew or replace the token. What fails matters only when the old one is at its end."""
        held, now = self._held, self._clock()
        usable = held is not None and now < held.ends
        if self._failure is not None and now < self._next_try and not usable:
            raise type(self._failure)(self._failure.message, hint=self._failure.hint)  # for all who have waited
        try:
            token = await (self._issuer.issue() if held is None or held.last else self._renewed(held))
        except AsyncCopyError as error:
            now = self._clock()
            first, self._failure = self._failure is None, error
            self._next_try = now + AGAIN
            if held is None or now >= held.ends:
                raise
            self._due = min(self._next_try, held.ends)
            if first:
                left = round(held.ends - now)
                log.warning("the delegation token cannot be renewed", reason=error.message, holds_seconds=left)
            return
        if self._failure is not None:
            log.info("the delegation token is renewed again")
        now = self._clock()
        self._failure = None
        if held is None or token.text != held.text:
            self._since = now
        self._held = token
        self._due = now + EARLY * (token.ends - now)

    async def _renewed(self, held: Issued) -> Issued:
        try:
            return await self._issuer.renew(held)
        except CredentialsRefused as error:
            log.info("the delegation token cannot be renewed, and is replaced", reason=error.message)
            return await self._issuer.issue()


class EachDelegated:
    """One token for all NameNodes of a nameservice; where they turn out to be HttpFS servers, one of each, which knows
    none of the others' (seen on 3.4.2: it keeps them in its memory).
    """

    def __init__(self, issuer: SpnegoIssuer) -> None:
        self._issuer = issuer
        self._first = Delegated(issuer)
        self._each: dict[Origin, Delegated] = {}

    async def query(self, at: Origin | None = None) -> str:
        if at is None:
            return await self._first.query()
        if at not in self._each:
            self._each[at] = self._first if self._issuer.stay(at) else Delegated(self._issuer.only(at))
        return await self._each[at].query()

    async def headers(self, origin: Origin) -> Headers:
        return ()

    def refused(self, who: str, response: Response) -> bool:
        told = [each.refused(who, response) for each in self._all]  # all of them: one of them gave it out
        return any(told)

    async def ticket(self, server: Origin) -> str:
        return await self._issuer.ticket(server)

    async def aclose(self) -> None:
        for each in self._all:
            await each.aclose()

    @property
    def _all(self) -> set[Delegated]:
        return {self._first, *self._each.values()}


class _Text(Struct):
    url_string: str = msgspec.field(name="urlString")


class _Token(Struct):
    token: _Text = msgspec.field(name="Token")


class _Expiry(Struct):
    long: int


class SpnegoIssuer:
    """The NameNode, or HttpFS, which we show a Kerberos ticket. ``doas``: the user to act for."""

    def __init__(
        self,
        nameservice: Nameservice,
        identity: Identity,
        doas: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._servers = nameservice.servers
        self._nameservice = nameservice
        self._identity = identity
        self._doas = doas
        self._tls = tls
        self._answered: Server | None = None

    def only(self, origin: Origin) -> SpnegoIssuer:
        """The same, of one server alone."""
        server = next(server for server in self._servers if server.origin == origin)
        return SpnegoIssuer(Nameservice([server]), self._identity, self._doas, self._tls)

    def stay(self, origin: Origin) -> bool:
        """Ask none but this server from now on, if it is the one that has answered last; whether it is."""
        if self._answered is None or self._answered.origin != origin:
            return False
        self._nameservice = Nameservice([self._answered])
        return True

    async def issue(self) -> Issued:
        born = monotonic()
        # Who may renew: we, also where the token is another user's.
        answer = await self._ask(
            "GET",
            "GETDELEGATIONTOKEN",
            lambda principal: parameter("renewer", principal) + parameter("doas", self._doas),
        )
        text = self._decoded(answer, _token, "GETDELEGATIONTOKEN").token.url_string
        hide(text)
        log.info("a delegation token was issued", cluster=self._netloc, doas=self._doas)
        unlimited = Issued(text, born, math.inf, last=False)
        try:
            return await self.renew(unlimited)  # which alone says how long it holds
        except CredentialsRefused as error:
            log.warning("delegation tokens cannot be renewed here, and are replaced", reason=error.message)
            return msgspec.structs.replace(unlimited, last=True)

    async def renew(self, token: Issued) -> Issued:
        answer = await self._ask("PUT", "RENEWDELEGATIONTOKEN", lambda _: parameter("token", token.text))
        expiry = self._decoded(answer, _expiry, "RENEWDELEGATIONTOKEN").long
        try:
            life = tokens.life(tokens.parse_text(token.text))
        except ValueError as error:
            raise WrongServer(f"{self._netloc} GETDELEGATIONTOKEN: an unknown form of token: {error}") from None
        # By the token's own times, not by our clock, which may differ from the server's.
        ends = token.born + (expiry - life.issued) / 1000
        return Issued(token.text, token.born, ends, last=expiry >= life.most)

    async def cancel(self, token: Issued) -> None:
        await self._ask("PUT", "CANCELDELEGATIONTOKEN", lambda _: parameter("token", token.text))

    async def ticket(self, server: Origin) -> str:
        return (await self._identity.greeting(server)).header

    @property
    def _netloc(self) -> str:
        return self._nameservice.active.origin.netloc

    async def _ask(self, method: str, op: str, query: Callable[[str], str]) -> Response:
        async def send(server: Server, patience: float | None) -> Response:
            greeting = await self._identity.greeting(server.origin)
            target = f"{server.prefix}/?op={op}{query(greeting.principal)}"
            ours = (("Authorization", greeting.header),)
            response = await door.request(server.origin, method, target, ours, patience=patience)
            if active(server, response).status == 200:
                self._answered = server
                await greeting.answered(response.headers.get("www-authenticate", ""))
            return response

        door = HttpDoor(connections=1, tls=self._tls)  # there are hours between two of these
        try:
            response = await self._nameservice.ask(send)
        finally:
            await door.aclose()
        if response.status != 200:
            self._identity.forget()  # the server may have a new key, for which our ticket is none
            raise refusal(response, f"{self._netloc} {op}")
        return response

    def _decoded(self, response: Response, decoder: msgspec.json.Decoder[T], op: str) -> T:
        try:
            return decoder.decode(response.body)
        except (msgspec.DecodeError, UnicodeDecodeError):  # its text might hold the token
            raise WrongServer(
                f"{self._netloc} {op}: no delegation token in the answer",
                hint="does this cluster want Kerberos at all?",
            ) from None


_token = msgspec.json.Decoder(_Token)
_expiry = msgspec.json.Decoder(_Expiry)


def refusal(response: Response, asked: str) -> AsyncCopyError:
    """What the answer to a ticket means that is not a success."""
    found = _GSS.search(response.body)
    if found is not None:
        text = found[0].decode("utf-8", "backslashreplace")
        ours = "is `principal` of the server's realm, and the server's own keytab the KDC's newest?"
        hint = "set the clocks by NTP" if "skew" in text else ours
        return CredentialsRefused(f"{asked}: the server refuses our ticket: {text}", hint=hint)
    if response.status == 401:
        return CredentialsRefused(f"{asked}: the server refuses our ticket (HTTP 401)")
    error = failure(response, asked)
    return CredentialsRefused(error.message) if isinstance(error, FileError) else error  # no file is to blame
