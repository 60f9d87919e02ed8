"""A Kerberos realm on this machine: MIT's KDC on a TCP port of the loopback, and keytabs. Needs Debian's ``krb5-kdc``,
``krb5-admin-server`` and ``krb5-user``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.process import Server, ServerFailed, free_ports, listens

_PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit", "curl")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def missing() -> list[str]:
    """Why there can be no realm, one sentence; [] when there can."""
    absent = [program for program in _PROGRAMS if shutil.which(program, path=_PATH) is None]
    packages = "krb5-kdc krb5-admin-server krb5-user curl"
    return [f"{', '.join(absent)} not found: apt-get install --no-install-recommends {packages}"] if absent else []


class Kdc:
    """A realm in ``directory``. No host belongs to a realm by name: a client asks the KDC of its own realm."""

    def __init__(self, directory: Path, realm: str = "TESTBED.LOCAL") -> None:
        self.directory = directory.absolute()
        self.realm = realm
        (self.port,) = free_ports(1)
        self.configuration = self.directory / "krb5.conf"
        self.environment = {
            "PATH": _PATH,
            "KRB5_CONFIG": str(self.configuration),
            "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf"),
        }
        self.server = Server(
            f"kdc {realm}",
            ["krb5kdc", "-n", "-r", realm],
            log=self.directory / "kdc.out",
            ready=lambda: listens(self.port),
            environment=self.environment,
        )

    def start(self) -> None:
        """Make the database and start. Raises ServerFailed."""
        if reasons := missing():
            raise ServerFailed("; ".join(reasons))
        self.directory.mkdir(parents=True)
        self.configuration.write_text(client_configuration(self))
        (self.directory / "kdc.conf").write_text(
            f"""\
[kdcdefaults]
 kdc_listen = ""
 kdc_tcp_listen = 127.0.0.1:{self.port}
[realms]
 {self.realm} = {{
  database_name = {self.directory}/principal
  key_stash_file = {self.directory}/stash
  max_life = 24h
  max_renewable_life = 7d
  supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal
 }}
[logging]
 kdc = FILE:{self.directory}/kdc.log
"""
        )
        self._run("kdb5_util", "create", "-s", "-r", self.realm, "-P", "of no use without the stash")
        self.server.start()

    def stop(self) -> None:
        self.server.kill()

    def add(self, *principals: str, life: str = "24h") -> None:
        """Principals with a random key, each in the keytab of its first component too; ``life``: of their tickets."""
        for principal in principals:
            self._kadmin(f'addprinc -randkey -maxlife "{life}" +requires_preauth {principal}')

    def keytab(self, *principals: str, name: str | None = None) -> Path:
        """A file with the keys of these, as they are: it makes none of their other keytabs invalid."""
        path = self.directory / f"{name or principals[0].replace('/', '-')}.keytab"
        if not path.exists():
            self._kadmin(f"ktadd -k {path} -norandkey {' '.join(principals)}")
        return path

    def change_key(self, principal: str) -> None:
        """Make every keytab of this principal outdated."""
        self._kadmin(f"cpw -randkey {principal}")

    def kinit(self, principal: str, cache: Path, *options: str) -> None:
        """A ticket in a file."""
        keytab = self.keytab(principal)
        self._run("kinit", "-c", f"FILE:{cache}", "-k", "-t", str(keytab), *options, principal)

    def cookie(self, principal: str, url: str) -> str:
        """What a Hadoop web server gives to who has shown a ticket: good for hours, as a ``Cookie`` header."""
        cache, jar = self.directory / f"curl-{os.getpid()}.cache", self.directory / f"curl-{os.getpid()}.jar"
        self.kinit(principal, cache)
        command = ["curl", "--silent", "--show-error", "--fail", "--negotiate", "--user", ":", "--cookie-jar", str(jar)]
        self._run(*command, "--output", "/dev/null", url, KRB5CCNAME=f"FILE:{cache}")
        for line in jar.read_text().splitlines():
            fields = line.split("\t")
            if len(fields) == 7 and fields[5] == "hadoop.auth":
                return f"hadoop.auth={fields[6]}"
        raise ServerFailed(f"{url} gave no cookie")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _kadmin(self, query: str) -> None:
        self._run("kadmin.local", "-r", self.realm, "-q", query)

    def _run(self, *command: str, **environment: str) -> None:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment | environment,
            timeout=60,
        )
        # kadmin.local tells of failures and ends with 0 all the same
        if done.returncode or (command[0] == "kadmin.local" and "while" in done.stderr):
            raise ServerFailed(f"{command[0]} failed: {done.stderr.strip()[-1000:]}")


def client_configuration(*realms: Kdc, options: Mapping[str, str] | None = None) -> str:
    """A krb5.conf for one or several realms, the first one the default; ``options`` of [libdefaults]."""
    defaults = {
        "default_realm": realms[0].realm,
        "dns_lookup_kdc": "false",
        "dns_lookup_realm": "false",
        "rdns": "false",
        "dns_canonicalize_hostname": "false",
        "udp_preference_limit": "1",
        **(options or {}),
    }
    lines = ["[libdefaults]", *(f" {name} = {value}" for name, value in defaults.items()), "[realms]"]
    lines += [f" {kdc.realm} = {{\n  kdc = 127.0.0.1:{kdc.port}\n }}" for kdc in realms]
    return "\n".join(lines) + "\n"
