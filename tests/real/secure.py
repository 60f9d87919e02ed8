"""What every secure cluster of these tests has: people, delegation tokens that live for seconds, and a log of them."""

from __future__ import annotations

import re
from typing import Final

from testbed.hdfs import Hdfs
from testbed.kdc import Kdc

RENEW, MOST = 20, 60
"""Seconds: for how long a delegation token is good, and up to when it can be renewed."""
TICKET = 25
"""Seconds that a ticket of alice is good: it ends in the middle of every longer test."""
TOKENS: Final[dict[str, object]] = {
    "dfs.namenode.delegation.token.renew-interval": RENEW * 1000,
    "dfs.namenode.delegation.token.max-lifetime": MOST * 1000,
}


def people(cluster: Hdfs, realm: Kdc) -> None:
    """alice, bob, each with a home where nobody else may look, and proxy; with keytabs."""
    realm.add("bob", "proxy")
    realm.add("alice", life=f"{TICKET} seconds")
    for name in ("alice", "bob", "proxy"):
        realm.keytab(name)
    with cluster.client() as client:
        for name in ("alice", "bob"):
            client.mkdirs(f"/home/{name}")
            client.set_owner(f"/home/{name}", name, "users")
            client.set_permission(f"/home/{name}", "700")


def issued(log: str, owner: str = "alice") -> int:
    """How many tokens the NameNode has made for somebody."""
    return len(re.findall(rf"Creating password for identifier: \(token for {owner}:", log))


def used(log: str) -> set[str]:
    """The tokens that requests have carried, as a server's request log shows them."""
    return set(re.findall(r"[?&](?:delegation|token)=([\w-]{60,})", log))
