"""What stands in front of a NameNode: HttpFS, which sends the bytes itself, and a Router of a federation."""

from __future__ import annotations

import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from testbed import fetch, hadoop
from testbed.hdfs import Hdfs
from testbed.kdc import Kdc
from testbed.process import Server, ServerFailed, free_ports

HTTPFS = "org.apache.hadoop.fs.http.server.HttpFSServerWebServer"
ROUTER = "org.apache.hadoop.hdfs.server.federation.router.DFSRouter"
STATE_STORE = "org.apache.hadoop.hdfs.server.federation.store.driver.impl.StateStoreFileImpl"
ROUTER_ADMIN = "org.apache.hadoop.hdfs.tools.federation.RouterAdmin"


class HttpFs(Server):
    """In front of a cluster, HA or not, which must be running: its configuration is taken over, and its realm. Each has
    delegation tokens of its own. ``properties`` are of its httpfs-site.xml.
    """

    def __init__(self, cluster: Hdfs, name: str = "httpfs", properties: Mapping[str, object] | None = None) -> None:
        [port] = free_ports(1)
        self.address = f"http://localhost:{port}"
        self.url = self.address.replace("http://", "webhdfs://")
        home = cluster.directory / name
        self._home, self._port, self._cluster = home, port, cluster
        self._properties = dict(properties or {})
        options = {
            "hadoop.log.dir": cluster.directory / "logs",
            "httpfs.home.dir": home,
            "httpfs.config.dir": home / "conf",
            "httpfs.log.dir": home / "log",
            "httpfs.temp.dir": home / "temp",
            "httpfs.http.hostname": "127.0.0.1",
        }
        if cluster.kdc is not None:
            options["java.security.krb5.conf"] = cluster.kdc.configuration
        super().__init__(
            name,
            _command(home / "conf", HTTPFS, options),
            log=cluster.directory / "logs" / f"{name}.log",
            ready=lambda: _answers(f"{self.address}/webhdfs/v1/?op=GETFILESTATUS&user.name={cluster.user}"),
            environment=hadoop.environment(),
        )

    def launch(self) -> None:
        if not self._home.exists():
            self._configure()
        super().launch()

    def _configure(self) -> None:
        for name in ("conf", "log", "temp"):
            (self._home / name).mkdir(parents=True)
        conf, secret = self._home / "conf", self._home / "secret"
        secret.write_text("testbed")
        for file in self._cluster.configuration.iterdir():
            shutil.copy(file, conf)
        # hadoop.httpfs.http.port would be ignored.
        site = {
            "httpfs.http.port": self._port,
            "httpfs.http.hostname": "127.0.0.1",
            "httpfs.hadoop.config.dir": conf,
            "hadoop.http.temp.dir": self._home / "temp",
            "hadoop.http.authentication.signature.secret.file": secret,
            "httpfs.authentication.signature.secret.file": secret,
        }
        if self._cluster.kdc is not None:
            site |= _security(self._cluster.kdc)
        site |= self._properties
        hadoop.write_resource(conf / "httpfs-site.xml", site)


class Router(Server):
    """In front of one NameNode as the nameservice ``ns``; ``mounts``: HDFS paths by the paths under which they are
    seen. What no mount holds is seen under its own path.
    """

    def __init__(self, cluster: Hdfs, mounts: Mapping[str, str] | None = None, name: str = "router") -> None:
        rpc, http, admin = free_ports(3)
        self.address = f"http://localhost:{http}"
        self.url = self.address.replace("http://", "webhdfs://")
        self._home, self._cluster, self._mounts = cluster.directory / name, cluster, dict(mounts or {})
        key = "dfs.federation.router"
        self._site: dict[str, object] = {
            "dfs.nameservices": "ns",
            "dfs.namenode.rpc-address.ns": cluster.rpc.removeprefix("hdfs://"),
            "dfs.namenode.http-address.ns": cluster.address.removeprefix("http://"),
            f"{key}.rpc-address": f"localhost:{rpc}",
            f"{key}.http-address": f"localhost:{http}",
            f"{key}.admin-address": f"localhost:{admin}",
            f"{key}.monitor.namenode": "ns",
            f"{key}.monitor.localnamenode.enable": "false",
            f"{key}.default.nameserviceId": "ns",
            f"{key}.store.driver.class": STATE_STORE,
            f"{key}.store.driver.file.directory": self._home / "store",
            f"{key}.heartbeat.interval": 1000,
            f"{key}.cache.ttl": 1000,
            f"{key}.safemode.enable": "false",
        }
        super().__init__(
            name,
            _command(self._home / "conf", ROUTER, {"hadoop.log.dir": cluster.directory / "logs"}),
            log=cluster.directory / "logs" / f"{name}.log",
            ready=lambda: _answers(f"{self.address}/webhdfs/v1/?op=GETFILESTATUS&user.name={cluster.user}"),
            environment=hadoop.environment(),
        )

    def launch(self) -> None:
        if not self._home.exists():
            conf = self._home / "conf"
            # The jars lack them, and without them no web server starts.
            for webapp in ("router", "static"):
                (conf / "webapps" / webapp).mkdir(parents=True)
            (self._home / "store").mkdir()
            for file in self._cluster.configuration.iterdir():
                shutil.copy(file, conf)
            hadoop.write_resource(conf / "hdfs-site.xml", self._site)
        super().launch()

    def start(self) -> None:
        super().start()
        for seen, path in self._mounts.items():
            self.admin("-add", seen, "ns", path)
        if self._mounts:
            self.admin("-refresh")

    def admin(self, *arguments: str) -> str:
        """What ``hdfs dfsrouteradmin`` prints. Raises ServerFailed."""
        done = subprocess.run(
            [*_command(self._home / "conf", ROUTER_ADMIN, {}, heap=64), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=hadoop.environment(),
        )
        if done.returncode:
            raise ServerFailed(f"dfsrouteradmin {' '.join(arguments)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
        return done.stdout.strip()


def _security(kdc: Kdc) -> dict[str, object]:
    """Kerberos for those who ask HttpFS, and for HttpFS, which asks the NameNode in their names."""
    if not (kdc.directory / "httpfs.keytab").exists():
        kdc.add("httpfs/localhost")
    keytab = kdc.keytab("httpfs/localhost", "HTTP/localhost", name="httpfs")
    return {
        "httpfs.hadoop.authentication.type": "kerberos",
        "httpfs.hadoop.authentication.kerberos.principal": f"httpfs/localhost@{kdc.realm}",
        "httpfs.hadoop.authentication.kerberos.keytab": keytab,
        "httpfs.authentication.type": "kerberos",
        "httpfs.authentication.kerberos.principal": f"HTTP/localhost@{kdc.realm}",
        "httpfs.authentication.kerberos.keytab": keytab,
    }


def _command(conf: Path, main: str, options: Mapping[str, object], heap: int = 128) -> Sequence[str]:
    given = [f"-D{name}={value}" for name, value in options.items()]
    return hadoop.Jvm(heap).command([conf, *hadoop.jars(fetch.GATEWAYS)], main, options=given)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except urllib.error.HTTPError as error:
        return error.code == 401 and "Negotiate" in error.headers.get("WWW-Authenticate", "")
    except OSError:
        return False
