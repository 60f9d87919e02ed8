"""Who we are at a cluster."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, Protocol
from urllib.parse import quote

from asynccopy.errors import CredentialsRefused, Transient
from asynccopy.logs import hide
from asynccopy.storage.http import Headers, Response
from asynccopy.storage.pool import Origin
from asynccopy.storage.webhdfs.messages import passive

ASK: Final = 5.0
"""Seconds for which a worker process takes its parent's word for who we are."""


class Auth(Protocol):
    """What goes with each request to a NameNode, or to a gateway that stands for one.

    Never to a DataNode: that gets what the NameNode put into its redirect, and nothing else.
    """

    async def query(self, at: Origin | None = None) -> str:
        """Ready to be appended to a query: ``&user.name=...``, ``&delegation=...``. ``at``: for this gateway alone, one
        of several. Raises CredentialsRefused, Unreachable.
        """
        ...

    async def headers(self, origin: Origin) -> Headers:
        """Headers for a request to this server. Raises CredentialsRefused."""
        ...

    def refused(self, who: str, response: Response) -> bool:
        """An answer of 401 or 403 came to a request made with this ``query``, from the NameNode or from a DataNode.

        True: it refused who we are, and with a new ``query`` the same request may do.
        """
        ...

    async def ticket(self, server: Origin) -> str:
        """``Authorization`` for a page of a server that takes no token, such as /jmx; "" where we have none. Raises
        CredentialsRefused, Unreachable.
        """
        ...

    async def aclose(self) -> None:
        """Give back what was lent to us: tokens are cancelled."""
        ...


class TokenEnded(Transient):
    """A DataNode takes the delegation token no longer that the NameNode has put into its redirect."""


class _Plain:
    """What most of them have not: headers, another try, tickets, and something to give back."""

    async def headers(self, origin: Origin) -> Headers:
        return ()

    def refused(self, who: str, response: Response) -> bool:
        return False

    async def ticket(self, server: Origin) -> str:
        return ""

    async def aclose(self) -> None:
        return


class Simple(_Plain):
    """A cluster without security believes the name. Without one it takes us for ``dr.who``."""

    def __init__(self, user: str | None, doas: str | None = None) -> None:
        self._query = parameter("user.name", user) + parameter("doas", doas)

    async def query(self, at: Origin | None = None) -> str:
        return self._query


class Password(_Plain):
    """A gateway's basic authentication. Only its own servers are shown the password."""

    def __init__(self, user: str, password: str, doas: str | None = None) -> None:
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        hide(secret)
        hide(password)
        self._headers = (("Authorization", f"Basic {secret}"),)
        self._query = parameter("doas", doas)

    async def query(self, at: Origin | None = None) -> str:
        return self._query

    async def headers(self, origin: Origin) -> Headers:
        return self._headers


class Given(_Plain):
    """A token that somebody else has fetched, and renews if anybody does. It is read again when it is refused.

    ``read`` gives its text, or raises; ``place`` says in messages where it is from.
    """

    def __init__(self, read: Callable[[], Awaitable[str]], place: str) -> None:
        self._read = read
        self._place = place
        self._held: str | None = None
        self._ended = ""

    async def query(self, at: Origin | None = None) -> str:
        if self._held is None:
            found = parameter("delegation", await self._read())
            if found == self._ended:
                raise CredentialsRefused(
                    f"the delegation token of {self._place} is not valid, or not any more",
                    hint="put a new one there; with `principal` and `keytab` tokens are fetched and renewed",
                )
            self._held = found
        return self._held

    def refused(self, who: str, response: Response) -> bool:
        if not token_refused(response):
            return False
        if who == self._held:
            self._held, self._ended = None, who
        return True


class Shared:
    """An Auth of several sides, closed with the last of them."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._users = 0
        self.query, self.headers, self.refused, self.ticket = auth.query, auth.headers, auth.refused, auth.ticket

    def join(self) -> None:
        self._users += 1

    async def lend(self, refused: str, at: Origin | None) -> str:
        """The query for somebody who has just been ``refused`` with that one, "" for none."""
        if refused:
            self._auth.refused(refused, Response(401, {}, b""))
        return await self._auth.query(at)

    async def aclose(self) -> None:
        self._users -= 1
        if self._users == 0:
            await self._auth.aclose()


Ask = Callable[[str, Origin | None, bool], Awaitable[str]]
"""Asks somebody else for the query, told the one that was refused, "" at first, and the gateway where it is for one
alone; or, with True, for a ticket for a server. Raises what ``Auth.query`` does.
"""


class Lent(_Plain):
    """Who we are as another process has it, which also renews and cancels: a worker's parent."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._loans: dict[Origin | None, _Loan] = {}

    async def query(self, at: Origin | None = None) -> str:
        loan = self._loans.setdefault(at, _Loan())
        if loan.held is None or monotonic() >= loan.again:
            loan.again = monotonic() + ASK  # the others go on with what there is, and do not ask too
            loan.held = await self._ask(loan.refused, at, False)
            loan.refused = ""
        return loan.held

    def refused(self, who: str, response: Response) -> bool:
        if not token_refused(response):
            return False
        for loan in self._loans.values():
            if who == loan.held:
                loan.held, loan.refused = None, who
        return True

    async def ticket(self, server: Origin) -> str:
        return await self._ask("", server, True)


class _Loan:
    """``again``: from when on it is to be asked for anew. ``refused``: what was held before, and is no good."""

    def __init__(self) -> None:
        self.held: str | None = None
        self.refused = ""
        self.again = 0.0


def token_refused(response: Response) -> bool:
    """Whether it says that a token has ended, was cancelled, or never was one. The NameNode says so in the message of a
    SecurityException, a DataNode by InvalidToken itself, both with 403; HttpFS and gateways may answer 401. A NameNode
    that is not active says it too, for it cannot know.
    """
    if response.status == 403:
        return b"InvalidToken" in response.body and not passive(response)
    return response.status == 401


def parameter(name: str, value: str | None) -> str:
    return f"&{name}={quote(value, safe='')}" if value else ""
