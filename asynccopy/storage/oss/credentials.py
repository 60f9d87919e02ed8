"""Who we are: credentials that are valid now, renewed in time, one renewal at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from time import time
from typing import Final

from asynccopy.errors import AsyncCopyError, CredentialsRefused, Unreachable
from asynccopy.storage.http import HttpDoor
from asynccopy.storage.oss.issuers import HINT, EcsRole, Issued, Issuer, Static, issuer_of
from asynccopy.storage.signing import Credentials

EARLY: Final = 300.0
"""Seconds before the end of temporary credentials at which they are renewed; a third of their life if that is less."""
UNTOLD: Final = 300.0
"""Seconds for which credentials are used that do not say how long they are good."""
AGAIN: Final = 5.0
"""Seconds until the issuer is asked again after it failed, while what we have still holds."""


class CredentialChain:
    """Hands out the credentials to sign with. ``issuer``: who gives them out; without it, whom the environment names.

    While a renewal is under way, what is still valid is used: nobody waits for it in the middle of an upload.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ, *, issuer: Issuer | None = None) -> None:
        self.environ = environ
        self._issuer = issuer
        self._held: Issued | None = None
        self._renew_at = 0.0
        self._renewal = asyncio.Lock()
        self._door = HttpDoor(connections=2, stall=10.0)

    async def current(self) -> Credentials:
        """Raises CredentialsRefused when there are none, and what keeps the issuer from answering."""
        held = self._held
        if held is not None and (time() < self._renew_at or (self._renewal.locked() and _valid(held))):
            return held.credentials
        async with self._renewal:
            if self._held is None or time() >= self._renew_at:
                self._held = await self._renewed()
            return self._held.credentials

    async def replace(self, used: Credentials) -> bool:
        """The store has refused these: are there others by now?"""
        async with self._renewal:
            if self._held is not None and self._held.credentials != used:
                return True
            if self._issuer is None or isinstance(self._issuer, Static):
                return False
            self._held = await self._asked(self._issuer)
            return self._held.credentials != used

    async def aclose(self) -> None:
        await self._door.aclose()

    async def _renewed(self) -> Issued:
        if self._issuer is None:
            self._issuer = issuer_of(self.environ)
        try:
            return await self._asked(self._issuer)
        except AsyncCopyError as error:
            if self._held is not None and _valid(self._held):
                self._renew_at = time() + AGAIN
                return self._held
            if isinstance(error, Unreachable) and isinstance(self._issuer, EcsRole):
                raise CredentialsRefused(f"no OSS credentials found: {error}", hint=HINT) from error
            raise

    async def _asked(self, issuer: Issuer) -> Issued:
        issued = await issuer.issue(self._door)
        now = time()
        life = UNTOLD if issued.expires is None else issued.expires - now
        self._renew_at = now + (life if issued.expires is None else max(1.0, life - min(EARLY, life / 3)))
        return issued


def _valid(issued: Issued) -> bool:
    return issued.expires is None or time() < issued.expires
