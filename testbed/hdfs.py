"""A real HDFS on this machine: one NameNode, some DataNodes, ready for WebHDFS in a few seconds."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed import fetch, hadoop
from testbed.fill import WebHdfs
from testbed.kdc import Kdc
from testbed.process import Server, ServerFailed, free_ports

NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
SERVICES = ("nn/localhost", "dn/localhost", "HTTP/localhost")
"""The servers' principals, in a realm that has them: see ``kdc``."""
SUPERUSER = SERVICES[0]
DATANODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"
MIB = 1 << 20


class DataNode(Server):
    """Its three addresses stay the same across restarts."""

    def __init__(self, index: int, cluster: Hdfs, jvm: hadoop.Jvm) -> None:
        self.data_port, self.ipc_port, self.http_port = free_ports(3)
        super().__init__(
            f"datanode{index}",
            cluster.daemon_command(
                jvm,
                DATANODE,
                **{
                    "dfs.datanode.data.dir": f"file://{cluster.directory}/data{index}",
                    "dfs.datanode.address": f"127.0.0.1:{self.data_port}",
                    "dfs.datanode.ipc.address": f"127.0.0.1:{self.ipc_port}",
                    "dfs.datanode.http.address": f"127.0.0.1:{self.http_port}",
                },
            ),
            log=cluster.directory / "logs" / f"datanode{index}.log",
            ready=self._registered,
            environment=hadoop.environment(),
        )

    def _registered(self) -> bool:
        """It serves, and the NameNode has had a heartbeat of this very process (not of the one before)."""
        info = bean(f"http://localhost:{self.http_port}", "Hadoop:service=DataNode,name=DataNodeInfo")
        services = json.loads(str(info.get("BPServiceActorInfo") or "[]"))
        return bool(services) and all(
            service["ActorState"] == "RUNNING" and int(service["LastHeartbeat"]) < 5 for service in services
        )


class Hdfs:
    """A cluster in ``directory``, which must not hold another one. Sizes in bytes, heaps in MiB.

    ``fast`` is for measuring throughput: larger heaps and the optimising compiler, in exchange for a slower start.
    ``properties`` override ours, by Hadoop's names. ``tls``: what ssl-server.xml says, to serve TLS too, at
    ``secure_url``. ``kdc``: ask for Kerberos, of this realm, which must run; then ``cookie`` is the superuser's,
    ``nn/localhost``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        datanodes: int = 1,
        replication: int | None = None,
        block_size: int = 128 * MIB,
        min_block_size: int = 4096,
        properties: Mapping[str, object] | None = None,
        fast: bool = False,
        namenode_heap: int | None = None,
        datanode_heap: int | None = None,
        tls: Mapping[str, object] | None = None,
        kdc: Kdc | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.configuration = self.directory / "conf"
        self.user = hadoop.user()
        self.kdc = kdc
        self.cookie = ""
        rpc_port, http_port = free_ports(2)
        self.rpc = f"hdfs://localhost:{rpc_port}"
        self.url = f"webhdfs://localhost:{http_port}"
        self.address = f"http://localhost:{http_port}"
        self.http = f"{self.address}/webhdfs/v1"
        core, hdfs = _properties(self.user, self.directory)
        core["fs.defaultFS"] = self.rpc
        hdfs |= {
            "dfs.namenode.rpc-address": f"localhost:{rpc_port}",
            "dfs.namenode.http-address": f"localhost:{http_port}",
            "dfs.blocksize": block_size,
            "dfs.namenode.fs-limits.min-block-size": min_block_size,
            "dfs.replication": replication or min(3, datanodes),
        }
        if fast:
            # Creating files waits for no disk; a NameNode killed then may forget what it acknowledged.
            hdfs["dfs.namenode.edits.noeditlogchannelflush"] = "true"
        if kdc is not None:
            for name, value in _security(kdc).items():
                (core if name.startswith("hadoop.") else hdfs)[name] = value
        self._tls = tls
        if tls is not None:
            [https_port] = free_ports(1)
            self.secure_url = f"swebhdfs://localhost:{https_port}"
            hdfs |= {
                "dfs.http.policy": "HTTP_AND_HTTPS",
                "dfs.namenode.https-address": f"localhost:{https_port}",
                "dfs.datanode.https.address": "127.0.0.1:0",
            }
        for name, value in (properties or {}).items():
            (core if name.startswith(("fs.", "hadoop.", "ipc.", "io.")) else hdfs)[name] = value
        self._core, self._hdfs = core, hdfs
        namenode_jvm = hadoop.Jvm(namenode_heap or (512 if fast else 192), quick=not fast)
        datanode_jvm = hadoop.Jvm(datanode_heap or (512 if fast else 128), quick=not fast)
        self.namenode = Server(
            "namenode",
            self.daemon_command(namenode_jvm, NAMENODE),
            log=self.directory / "logs" / "namenode.log",
            ready=self._left_safe_mode,
            environment=hadoop.environment(),
        )
        self.datanodes = [DataNode(index, self, datanode_jvm) for index in range(datanodes)]

    @property
    def servers(self) -> list[Server]:
        return [self.namenode, *self.datanodes]

    def start(self) -> None:
        """Format, start, and wait until a file can be written. Raises ServerFailed with the reasons."""
        if reasons := fetch.missing(fetch.HADOOP):
            raise ServerFailed("; ".join(reasons))
        (self.directory / "logs").mkdir(parents=True)
        hadoop.write_configuration(self.configuration, self._core, self._hdfs)
        if self.kdc is not None:
            self.kdc.add(*SERVICES)
            self.kdc.keytab(*SERVICES, name="services")
        if self._tls is not None:
            hadoop.write_resource(self.configuration / "ssl-server.xml", self._tls)
        try:
            for datanode in self.datanodes:  # they knock until the NameNode answers: three JVMs start at once
                datanode.launch()
            self._launch_namenodes()
            for server in reversed(self.servers):
                server.wait_ready()
        except BaseException:
            self.stop()
            raise
        self.client().set_permission("/", "755")

    def stop(self) -> None:
        for server in self.servers:
            server.kill()

    def repair(self) -> None:
        """Wake what is suspended, start what is dead, and wait until the NameNode counts every DataNode as live."""
        for server in self.servers:
            server.resume()
        dead = [server for server in self.servers if not server.alive]
        for server in dead:
            server.launch()
        for server in reversed(dead):
            server.wait_ready()
        deadline = time.monotonic() + 30
        while self.live_datanodes() < len(self.datanodes):
            if time.monotonic() > deadline:
                raise ServerFailed(f"only {self.live_datanodes()} of {len(self.datanodes)} DataNodes came back")
            time.sleep(0.05)

    def live_datanodes(self) -> int:
        """How many DataNodes the NameNode believes to be alive: it notices a dead one after about 12 s."""
        state = bean(self.address, "Hadoop:service=NameNode,name=FSNamesystemState", self.cookie)
        return int(str(state.get("NumLiveDataNodes", 0)))

    def sign_in(self, address: str) -> bool:
        """Have the superuser's cookie, which every NameNode of the cluster takes, from the one at this address. False
        where that gives none; without Kerberos nobody needs one.
        """
        if self.kdc is not None and not self.cookie:
            try:
                self.cookie = self.kdc.cookie(SUPERUSER, f"{address}/jmx?qry=none")
            except ServerFailed:
                return False
        return True

    def client(self) -> WebHdfs:
        """A new connection to the NameNode as the superuser; use it in one thread."""
        return WebHdfs(self.http, self.user, cookie=self.cookie)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def daemon_command(self, jvm: hadoop.Jvm, main: str, **properties: str) -> list[str]:
        """Properties given here are for this daemon alone, on top of the configuration directory's."""
        settings = [word for name, value in properties.items() for word in ("-D", f"{name}={value}")]
        return jvm.command(
            [self.configuration, *hadoop.jars(fetch.HADOOP)],
            main,
            *settings,
            options=[
                f"-Dhadoop.log.dir={self.directory}/logs",
                *([] if self.kdc is None else [f"-Djava.security.krb5.conf={self.kdc.configuration}"]),
            ],
        )

    def _launch_namenodes(self) -> None:
        self._format()
        self.namenode.launch()

    def _format(self, **properties: str) -> None:
        command = [
            *self.daemon_command(hadoop.Jvm(128), NAMENODE, **properties),
            "-format",
            "-nonInteractive",
            "-force",
            "-clusterid",
            "test",
        ]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=hadoop.environment()
        )
        if done.returncode:
            raise ServerFailed(f"the NameNode's storage could not be formatted:\n{done.stderr[-2000:]}")

    def _left_safe_mode(self) -> bool:
        """Blocks are reported and files can be written. (CREATE's redirect is given in safe mode too: no sign.)"""
        if not self.sign_in(self.address):
            return False  # it does not serve yet
        return bean(self.address, "Hadoop:service=NameNode,name=NameNodeInfo", self.cookie).get("Safemode") == ""


def _security(kdc: Kdc) -> dict[str, object]:
    """Kerberos for people and servers. Block tokens are a must then; privileged ports or TLS are not, for tests."""
    keytab, secret = kdc.directory / "services.keytab", kdc.directory / "cookie-secret"
    secret.write_text("of this test alone")
    at = {service.partition("/")[0]: f"{service}@{kdc.realm}" for service in SERVICES}
    return {
        "hadoop.security.authentication": "kerberos",
        "hadoop.security.authorization": "true",
        "hadoop.user.group.static.mapping.overrides": (
            "nn=supergroup;dn=;HTTP=;httpfs=;alice=users;bob=users;proxy=;dr.who="
        ),
        "hadoop.proxyuser.httpfs.hosts": "*",
        "hadoop.proxyuser.httpfs.groups": "*",
        # Since 3.5.0 the web filter reads these; with dfs.web.authentication.* alone every request is 403.
        "hadoop.http.authentication.type": "kerberos",
        "hadoop.http.authentication.kerberos.principal": at["HTTP"],
        "hadoop.http.authentication.kerberos.keytab": keytab,
        "hadoop.http.authentication.signature.secret.file": secret,
        "dfs.block.access.token.enable": "true",
        "ignore.secure.ports.for.testing": "true",
        "dfs.namenode.kerberos.principal": at["nn"],
        "dfs.namenode.keytab.file": keytab,
        "dfs.datanode.kerberos.principal": at["dn"],
        "dfs.datanode.keytab.file": keytab,
        "dfs.namenode.kerberos.internal.spnego.principal": at["HTTP"],
        "dfs.web.authentication.kerberos.principal": at["HTTP"],
        "dfs.web.authentication.kerberos.keytab": keytab,
    }


def bean(address: str, name: str, cookie: str = "") -> dict[str, object]:
    """One JMX bean of a daemon, {} while it does not answer."""
    request = urllib.request.Request(f"{address}/jmx?qry={name}", headers={"Cookie": cookie} if cookie else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            beans = json.load(reply)["beans"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return {}
    return dict(beans[0]) if beans else {}


def _properties(user: str, directory: Path) -> tuple[dict[str, object], dict[str, object]]:
    """What core-site.xml and hdfs-site.xml hold for every cluster, whatever its size and ports."""
    core: dict[str, object] = {
        "hadoop.tmp.dir": f"{directory}/tmp",
        f"hadoop.proxyuser.{user}.hosts": "*",
        f"hadoop.proxyuser.{user}.groups": "*",
        # Without it every new user costs the NameNode a process to ask for groups.
        "hadoop.user.group.static.mapping.overrides": f"{user}=supergroup;alice=users;bob=users;dr.who=",
        # A DataNode that gives up on the NameNode sleeps 5 s before it tries again: let it not give up.
        "ipc.client.connect.max.retries": 300,
        "ipc.client.connect.retry.interval": 200,
        "io.native.lib.available": "false",
    }
    hdfs: dict[str, object] = {
        "dfs.namenode.name.dir": f"file://{directory}/name",
        "dfs.datanode.hostname": "localhost",
        "dfs.namenode.datanode.registration.ip-hostname-check": "false",
        "dfs.namenode.safemode.extension": 0,
        "dfs.namenode.safemode.threshold-pct": "0.999f",
        "dfs.namenode.safemode.min.datanodes": 1,
        "dfs.namenode.resource.du.reserved": 10 * MIB,
        "dfs.datanode.du.reserved": 0,
        # A dead DataNode is found after 2 * recheck + 10 * heartbeat = 12 s instead of 10.5 minutes.
        "dfs.heartbeat.interval": 1,
        "dfs.namenode.heartbeat.recheck-interval": 1000,
        "dfs.namenode.stale.datanode.interval": 3000,
        "dfs.namenode.avoid.read.stale.datanode": "true",
        "dfs.namenode.redundancy.interval.seconds": 1,
        "dfs.namenode.handler.count": 8,
        "dfs.datanode.handler.count": 4,
        "dfs.namenode.acls.enabled": "true",
        "dfs.namenode.checkpoint.period": 86400,
        # The default first delay of 400 ms would be paid by every small file written through WebHDFS.
        "dfs.client.block.write.locateFollowingBlock.initial.delay.ms": 5,
        "dfs.client.block.write.locateFollowingBlock.retries": 12,
        "dfs.blockreport.initialDelay": 0,
        "dfs.datanode.scan.period.hours": -1,
    }
    return core, hdfs
