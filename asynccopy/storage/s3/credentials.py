"""Who we are: the key pair in the environment, else what AWS's own chain finds (profile, container, instance, role)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from math import inf
from time import monotonic
from typing import Any, Final

from asynccopy.errors import CredentialsRefused
from asynccopy.storage.signing import Credentials

FRESH: Final = 30.0
"""Seconds for which an answer of the chain is used; the chain renews keys 15 minutes before they expire."""

_HINT: Final = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile that has credentials"

DOUBT: Final = 60.0
"""Seconds in which credentials that the store calls expired are asked for anew but once."""


class CredentialChain:
    """Hands out credentials that are valid now, renewing temporary ones in time, one renewal at once.

    The chain is aiobotocore's, imported only when the environment does not hold the keys: it costs 270 ms and 50 MB.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.environ = environ
        self._chain: Any = None
        self._current: Credentials | None = None
        self._fresh_until = 0.0
        self._doubted = -inf
        self._renewal = asyncio.Lock()

    async def current(self) -> Credentials:
        """The credentials to sign with now. Raises CredentialsRefused when there are none, or they cannot be had."""
        if self._current is not None and (monotonic() < self._fresh_until or self._renewal.locked()):
            return self._current
        async with self._renewal:
            if self._current is None or monotonic() >= self._fresh_until:
                self._current = self._from_environment() or await self._from_chain()
                self._fresh_until = monotonic() + FRESH
        return self._current

    def expired(self, used: Credentials) -> bool:
        """The store calls these expired before their time. True: there are others by now, or ``current`` asks for some.

        A request that was under way with the former ones may be refused long after they were replaced.
        """
        if used is not self._current:
            return True
        if self._chain is None or monotonic() - self._doubted < DOUBT:
            return False  # the environment's are what they are; and what was just given out is no better
        self._chain = self._current = None
        self._doubted = monotonic()
        return True

    def _from_environment(self) -> Credentials | None:
        environ = self.environ
        access_key, secret_key = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
        if not access_key or not secret_key:
            return None
        return Credentials(
            access_key, secret_key, environ.get("AWS_SESSION_TOKEN") or environ.get("AWS_SECURITY_TOKEN")
        )

    async def _from_chain(self) -> Credentials:
        from aiobotocore.session import get_session
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._chain is None:
                self._chain = await get_session().get_credentials()
            if self._chain is None:
                raise CredentialsRefused("no AWS credentials found", hint=_HINT)
            frozen = await self._chain.get_frozen_credentials()
        except (BotoCoreError, ClientError, OSError, TimeoutError) as error:
            if self._current is not None:
                return self._current  # the metadata server is down: they hold for a while yet, the store decides
            raise CredentialsRefused(f"AWS credentials cannot be had: {error}", hint=_HINT) from error
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)
