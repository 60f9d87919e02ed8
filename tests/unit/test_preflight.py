"""What is waited for before anything is done, and what is told at once."""

from __future__ import annotations

import pytest

from asynccopy.errors import AsyncCopyError, NoActiveNameNode, ServerTrouble, Unreachable
from asynccopy.mirror.preflight import patiently
from asynccopy.retry import RetryPolicy


class Side:
    """Fails by these errors, one after the other, and then answers."""

    def __init__(self, *failures: AsyncCopyError) -> None:
        self._failures = list(failures)
        self.noticed: list[AsyncCopyError] = []

    async def check(self) -> str:
        if self._failures:
            raise self._failures.pop(0)
        return "root"

    async def checked(self, patience: float = 5.0) -> str:
        policy = RetryPolicy(first=0.001, patience=patience)
        return await patiently(self.check, policy, lambda error, delay: self.noticed.append(error))


async def test_a_failover_is_waited_for() -> None:
    failures = [NoActiveNameNode("nn1 is standby, nn2 is starting"), ServerTrouble("HTTP 503")]
    side = Side(*failures)
    assert await side.checked() == "root"
    assert side.noticed == failures


async def test_but_not_for_ever() -> None:
    with pytest.raises(NoActiveNameNode):
        await Side(*[NoActiveNameNode("nn1 is standby") for _ in range(1000)]).checked(patience=0.01)


async def test_a_wrong_address_is_told_at_once() -> None:
    side = Side(Unreachable("connection refused"))
    with pytest.raises(Unreachable):
        await side.checked()
    assert side.noticed == []
