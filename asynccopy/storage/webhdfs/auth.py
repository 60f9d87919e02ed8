"""Who we are at a cluster."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote

from asynccopy.storage.http import Headers, Response
from asynccopy.storage.pool import Origin


class Auth(Protocol):
    """What goes with each request to a NameNode, or to a gateway that stands for one.

    Never to a DataNode: that gets what the NameNode put into its redirect, and nothing else.
    """

    async def query(self) -> str:
        """Ready to be appended to a query: ``&user.name=...``, ``&delegation=...``. Raises CredentialsRefused."""
        ...

    async def headers(self, origin: Origin) -> Headers:
        """Headers for a request to this server. Raises CredentialsRefused."""
        ...

    def answered(self, origin: Origin, response: Response) -> bool:
        """Take what an answer tells (a cookie). True: it refused who we are, and the same request, asked with a new
        ``query`` and new ``headers``, may do.
        """
        ...

    async def aclose(self) -> None:
        """Give back what was lent to us: tokens are cancelled."""
        ...


class Simple:
    """A cluster without security believes the name. Without one it takes us for ``dr.who``."""

    def __init__(self, user: str | None) -> None:
        self._query = f"&user.name={quote(user, safe='')}" if user else ""

    async def query(self) -> str:
        return self._query

    async def headers(self, origin: Origin) -> Headers:
        return ()

    def answered(self, origin: Origin, response: Response) -> bool:
        return False

    async def aclose(self) -> None:
        return
