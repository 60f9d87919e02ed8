"""A certificate authority of our own, by the openssl and keytool commands, and what Hadoop needs to serve TLS."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PASSWORD: Final = "testbed"
HERE: Final = ("DNS:localhost", "IP:127.0.0.1")


@dataclass(frozen=True)
class Certificate:
    """PEM files."""

    chain: Path
    key: Path


class Authority:
    """Its files lie in ``directory``, which is made; ``ca`` is the certificate that a client trusts."""

    def __init__(self, directory: Path, name: str = "Testbed CA") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.ca, self._key = directory / "ca.pem", directory / "ca.key"
        _run("openssl", "req", "-x509", *_NEW_KEY, "-days", "3", "-subj", f"/CN={name}",
             "-keyout", self._key, "-out", self.ca)  # fmt: skip

    def issue(self, name: str, hosts: tuple[str, ...] = HERE, days: int = 2) -> Certificate:
        """A certificate for a server or a client; of ``days`` below 0 it has expired."""
        request, extensions = self.directory / f"{name}.csr", self.directory / f"{name}.ext"
        made = Certificate(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        extensions.write_text(f"subjectAltName={','.join(hosts)}\n")
        _run("openssl", "req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", made.key, "-out", request)
        _run("openssl", "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial",
             "-days", str(days), "-extfile", extensions, "-out", made.chain)  # fmt: skip
        return made

    def server_properties(self, certificate: Certificate) -> dict[str, object]:
        """What Hadoop's ssl-server.xml says to serve with this certificate, and to trust clients of this authority."""
        key_store, trust_store = (certificate.chain.with_suffix(end) for end in (".p12", ".trust.p12"))
        _run("openssl", "pkcs12", "-export", "-in", certificate.chain, "-inkey", certificate.key, "-name", "server",
             "-passout", f"pass:{PASSWORD}", "-out", key_store)  # fmt: skip
        _run("keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", self.ca, "-storetype", "PKCS12",
             "-storepass", PASSWORD, "-keystore", trust_store)  # fmt: skip
        return {
            "ssl.server.keystore.location": key_store,
            "ssl.server.keystore.type": "pkcs12",
            "ssl.server.keystore.password": PASSWORD,
            "ssl.server.keystore.keypassword": PASSWORD,
            "ssl.server.truststore.location": trust_store,
            "ssl.server.truststore.type": "pkcs12",
            "ssl.server.truststore.password": PASSWORD,
        }


_NEW_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr or done.stdout}")
