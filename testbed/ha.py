"""A real HDFS with two NameNodes, one of them active; who that is, is told by hand, as ``hdfs haadmin`` does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from testbed import hadoop
from testbed.hdfs import MIB, NAMENODE, SUPERUSER, Hdfs, bean
from testbed.process import Server, ServerFailed, free_ports

HAADMIN = "org.apache.hadoop.hdfs.tools.DFSHAAdmin"
DFSADMIN = "org.apache.hadoop.hdfs.tools.DFSAdmin"
NAMESERVICE = "ns"


class NameNode(Server):
    """``id``: nn1 or nn2. Started anew it is standby."""

    def __init__(self, id: str, cluster: HaHdfs, jvm: hadoop.Jvm) -> None:
        self.id = id
        self.rpc_port, self.http_port = free_ports(2)
        self.address = f"http://localhost:{self.http_port}"
        self.storage = cluster.directory / f"name-{id}"
        self._cluster = cluster
        super().__init__(
            id,
            cluster.daemon_command(
                jvm,
                NAMENODE,
                **{"dfs.ha.namenode.id": id, "dfs.namenode.name.dir": f"file://{self.storage}"},
            ),
            log=cluster.directory / "logs" / f"{id}.log",
            ready=lambda: self.state() != "",
            environment=hadoop.environment(),
        )

    def state(self) -> str:
        """``active`` or ``standby``, "" while it does not answer."""
        return str(self._bean("NameNodeStatus").get("State") or "")

    def serves(self) -> bool:
        """It is active, and not in safe mode."""
        return self.state() == "active" and self._bean("NameNodeInfo").get("Safemode") == ""

    def _bean(self, name: str) -> dict[str, object]:
        if not self._cluster.sign_in(self.address):
            return {}
        return bean(self.address, f"Hadoop:service=NameNode,name={name}", self._cluster.cookie)


class HaHdfs(Hdfs):
    """``namenode`` is the one that was made active last. They share their edits in a folder, which fences nobody: one
    that was suspended while the other became active must be killed, not woken.
    """

    def __init__(self, directory: Path, *, datanodes: int = 1, block_size: int = 128 * MIB, **options: Any) -> None:
        super().__init__(directory, datanodes=datanodes, block_size=block_size, **options)
        jvm = hadoop.Jvm(192)
        self.namenodes = [NameNode(id, self, jvm) for id in ("nn1", "nn2")]
        self.namenode: NameNode
        self._point_to(self.namenodes[0])
        self.rpc = f"hdfs://{NAMESERVICE}"
        self._core["fs.defaultFS"] = self.rpc
        for name in ("dfs.namenode.rpc-address", "dfs.namenode.http-address", "dfs.namenode.name.dir"):
            del self._hdfs[name]
        for each in self.namenodes:
            self._hdfs[f"dfs.namenode.rpc-address.{NAMESERVICE}.{each.id}"] = f"localhost:{each.rpc_port}"
            self._hdfs[f"dfs.namenode.http-address.{NAMESERVICE}.{each.id}"] = f"localhost:{each.http_port}"
        provider = "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
        self._hdfs |= {
            "dfs.nameservices": NAMESERVICE,
            f"dfs.ha.namenodes.{NAMESERVICE}": ",".join(each.id for each in self.namenodes),
            "dfs.namenode.shared.edits.dir": f"file://{self._shared}",
            f"dfs.client.failover.proxy.provider.{NAMESERVICE}": provider,
            "dfs.ha.fencing.methods": "shell(/bin/true)",
            "dfs.ha.automatic-failover.enabled": "false",
            "dfs.ha.tail-edits.period": 1,
            "dfs.ha.log-roll.period": 5,
            # A DataNode asks the NameNodes too, for every file that it opens.
            "dfs.client.failover.sleep.base.millis": 100,
            "dfs.client.failover.sleep.max.millis": 1000,
        }

    @property
    def _shared(self) -> Path:
        return self.directory / "shared"

    @property
    def urls(self) -> tuple[str, ...]:
        """The web addresses of both."""
        return tuple(each.address for each in self.namenodes)

    @property
    def servers(self) -> list[Server]:
        return [*self.namenodes, *self.datanodes]

    def _launch_namenodes(self) -> None:
        """What is formatted is copied: the same bytes for both; the shared folder needs to know the version only."""
        first, second = self.namenodes
        self._format(**{"dfs.ha.namenode.id": first.id, "dfs.namenode.name.dir": f"file://{first.storage}"})
        shutil.copytree(first.storage, second.storage)
        if not (self._shared / "current" / "VERSION").exists():
            (self._shared / "current").mkdir(parents=True, exist_ok=True)
            shutil.copy(first.storage / "current" / "VERSION", self._shared / "current")
        for each in self.namenodes:
            each.launch()
        for each in self.namenodes:
            each.wait_ready()
        self.make_active(first)

    def other(self) -> NameNode:
        """The one that is not ``namenode``."""
        return next(each for each in self.namenodes if each is not self.namenode)

    def make_active(self, namenode: NameNode, *, wait: bool = True) -> None:
        """Whether or not the other one is there to be asked. Returns when it serves."""
        self.haadmin("-transitionToActive", "--forceactive", namenode.id)
        self._point_to(namenode)
        if wait:
            namenode.ready, ready = namenode.serves, namenode.ready
            try:
                namenode.wait_ready()
            finally:
                namenode.ready = ready

    def make_standby(self, namenode: NameNode) -> None:
        self.haadmin("-transitionToStandby", namenode.id)

    def fail_over(self) -> None:
        """Kill the active one, make the other one active, and bring the dead one back as standby."""
        dead = self.namenode
        dead.kill()
        self.make_active(self.other())
        dead.start()

    def haadmin(self, *arguments: str) -> str:
        """What ``hdfs haadmin`` prints. Raises ServerFailed."""
        return self._tool(HAADMIN, *arguments)

    def dfsadmin(self, *arguments: str) -> str:
        """What ``hdfs dfsadmin`` prints, of the active NameNode. Raises ServerFailed."""
        return self._tool(DFSADMIN, "-fs", f"hdfs://localhost:{self.namenode.rpc_port}", *arguments)

    def _tool(self, main: str, *arguments: str) -> str:
        command, environment = self.daemon_command(hadoop.Jvm(64), main), hadoop.environment()
        if self.kdc is not None:
            cache = self.directory / "tool.cache"
            self.kdc.kinit(SUPERUSER, cache)
            environment["KRB5CCNAME"] = f"FILE:{cache}"
        done = subprocess.run(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if done.returncode:
            raise ServerFailed(f"{main} {' '.join(arguments)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
        return done.stdout.strip()

    def repair(self) -> None:
        """As ever, and one of the NameNodes is active."""
        for each in self.namenodes:
            if each.suspended:
                each.kill()  # it may still take itself for the active one
            if not each.alive:
                each.start()
        if not any(each.state() == "active" for each in self.namenodes):
            self.make_active(self.namenodes[0])
        self._point_to(next(each for each in self.namenodes if each.state() == "active"))
        super().repair()

    def _point_to(self, namenode: NameNode) -> None:
        self.namenode = namenode
        self.address = namenode.address
        self.http = f"{self.address}/webhdfs/v1"
        self.url = self.address.replace("http://", "webhdfs://")
