"""TLS over real sockets: each refusal has its own sentence, and files that cannot serve are refused by name."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

from asynccopy.errors import AsyncCopyError, ConnectionLost, CredentialsRefused, UsageError, WrongServer
from asynccopy.storage.http import HttpDoor
from asynccopy.storage.pool import Origin
from asynccopy.storage.tls import context, handshake_refusal, refusal
from testbed.certificates import Authority, Certificate


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make certificates with")
    return Authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def serving(
    certificate: Certificate, *, clients: Path | None = None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> Iterator[Origin]:
    """A server that answers 200 to whatever it is asked. ``clients``: the CA of those that it takes alone.

    Not asyncio's, which ends a connection without a word where the handshake fails.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.chain, certificate.key)
    tls.maximum_version = version
    if clients is not None:
        tls.load_verify_locations(clients)
        tls.verify_mode = ssl.CERT_REQUIRED

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return  # closed: the test is over
            plain.settimeout(5)
            secure = tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            try:
                secure.do_handshake()
                if secure.recv(4096):
                    secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            except ssl.SSLError:
                socket.socket.recv(secure, 4096)  # what is closed unread is reset, and the reason lost
            except OSError:
                pass  # the client hung up
            finally:
                secure.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Origin("https", "localhost", listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


async def ask(origin: Origin, tls: ssl.SSLContext) -> bytes:
    async with aclosing(HttpDoor(stall=5, tls=tls)) as door:
        return (await door.request(origin, "GET", "/")).body


async def refused(origin: Origin, tls: ssl.SSLContext) -> AsyncCopyError:
    with pytest.raises(AsyncCopyError) as raised:
        await ask(origin, tls)
    assert raised.value.exit_code == 3
    assert not raised.value.retryable
    assert raised.value.hint
    return raised.value


async def test_what_is_trusted_is_read(authority: Authority) -> None:
    with serving(authority.issue("server")) as origin:
        assert await ask(origin, context(str(authority.ca))) == b"ok"


async def test_a_foreign_authority(authority: Authority, tmp_path: Path) -> None:
    with serving(authority.issue("server")) as origin:
        stranger = Authority(tmp_path, "Somebody else").ca
        for tls in (context(), context(str(stranger))):
            error = await refused(origin, tls)
            assert isinstance(error, WrongServer)
            assert "not trusted" in error.message
            assert "ca_file" in error.hint


async def test_an_expired_certificate(authority: Authority) -> None:
    with serving(authority.issue("old", days=-1)) as origin:
        error = await refused(origin, context(str(authority.ca)))
    assert "has expired" in error.message


async def test_a_certificate_for_another_host(authority: Authority) -> None:
    with serving(authority.issue("elsewhere", ("DNS:elsewhere.example",))) as origin:
        for host in ("localhost", "127.0.0.1"):
            error = await refused(Origin("https", host, origin.port), context(str(authority.ca)))
            assert "for another host" in error.message


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_a_client_certificate_is_wanted(authority: Authority, tmp_path: Path, version: ssl.TLSVersion) -> None:
    ours, ca = authority.issue("client", ("DNS:client",)), str(authority.ca)
    theirs = Authority(tmp_path, "Somebody else").issue("stranger")
    with serving(authority.issue("server"), clients=authority.ca, version=version) as origin:
        assert await ask(origin, context(ca, str(ours.chain), str(ours.key))) == b"ok"
        for tls in (context(ca), context(ca, str(theirs.chain), str(theirs.key))):
            error = await refused(origin, tls)
            assert isinstance(error, CredentialsRefused)
            assert "client certificate" in error.message


async def test_certificate_and_key_in_one_file(authority: Authority, tmp_path: Path) -> None:
    ours, both = authority.issue("client", ("DNS:client",)), tmp_path / "both.pem"
    both.write_bytes(ours.chain.read_bytes() + ours.key.read_bytes())
    with serving(authority.issue("server"), clients=authority.ca) as origin:
        assert await ask(origin, context(str(authority.ca), str(both))) == b"ok"


def test_nothing_older_than_1_2_and_no_way_around_the_proof() -> None:
    tls = context()
    assert tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_damage_on_the_way_is_passing_trouble() -> None:
    damage = ssl.SSLError(1, "decryption failed")
    damage.reason = "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
    assert isinstance(refusal("https://nn", damage), ConnectionLost)
    assert isinstance(handshake_refusal("https://nn", damage), WrongServer)


def test_files_that_cannot_serve(authority: Authority, tmp_path: Path) -> None:
    one, other, ca = authority.issue("one"), authority.issue("other"), str(authority.ca)
    empty, store, locked = tmp_path / "empty.pem", tmp_path / "trust.jks", tmp_path / "locked.key"
    empty.write_text("nothing\n")
    store.write_bytes(b"\xfe\xed\xfe\xed\x00\x00\x00\x02rest")
    command = ["openssl", "pkey", "-in", one.key, "-aes128", "-passout", "pass:secret-word", "-out", locked]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    chain = str(one.chain)
    for given, wrong, why in (
        ((str(tmp_path / "absent"),), tmp_path / "absent", "cannot be read"),
        ((str(empty),), empty, "no usable PEM"),
        ((str(store),), store, "key store, not PEM"),
        ((ca, str(empty), str(one.key)), empty, "no usable PEM"),
        ((ca, chain, str(empty)), empty, "no usable PEM"),
        ((ca, chain, str(tmp_path / "absent")), tmp_path / "absent", "cannot be read"),
        ((ca, chain, str(other.key)), other.key, "is not its key"),
        ((ca, chain, str(locked)), locked, "is encrypted"),
    ):
        with pytest.raises(UsageError, match=why) as raised:
            context(*given)
        assert str(wrong) in raised.value.message
        assert raised.value.exit_code == 2
