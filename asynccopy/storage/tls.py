"""TLS: whom we trust, who we are there, and what a refusal means. Nothing here switches the proof off."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from asynccopy.errors import AsyncCopyError, ConnectionLost, CredentialsRefused, UsageError, WrongServer

# X509_V_ERR_* of OpenSSL
_NOT_YET: Final = 9
_EXPIRED: Final = 10
_UNTRUSTED: Final = (18, 19, 20, 21)
_OTHER_HOST: Final = (62, 64)

_OURS: Final = frozenset(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_UNKNOWN_CA",
    }
)
"""What servers say of a client certificate that they miss or do not trust; by TLS 1.3 after the handshake."""
_TOO_OLD: Final = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"})
_JAVA: Final = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce", b"0\x82", b"0\x80")
"""How JKS, JCEKS and PKCS#12 files begin."""


def context(
    ca_file: str | None = None, client_certificate: str | None = None, client_key: str | None = None
) -> ssl.SSLContext:
    """TLS 1.2 or newer; the server's certificate and its host name are always checked.

    ``ca_file``: PEM certificates to trust instead of the system's. ``client_certificate``: PEM, with those that lead up
    to its CA; ``client_key``: its key, PEM and not encrypted, None where the same file holds it. Raises UsageError.
    """
    try:
        found = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # an SSLError is one
        raise _unusable(ca_file or "the system's certificates", error) from error
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    # CPython 3.13 asks for what RFC 5280 wants of a CA's own certificate, such as a key usage: many a company's CA has
    # none, and what one Python trusts, the others do too. Chain, dates and name are checked all the same.
    found.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if client_certificate is not None:
        try:
            found.load_cert_chain(client_certificate, client_key, password=lambda: _encrypted(client_key))
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise UsageError(f"{client_certificate}: {client_key or 'the key in it'} is not its key") from error
            raise _unusable(_broken(client_certificate, client_key), error) from error
        except OSError as error:
            raise _unusable(_broken(client_certificate, client_key), error) from error
    return found


def refusal(name: str, error: ssl.SSLError) -> AsyncCopyError:
    """What ended a connection to ``name``, which is passing trouble only where no certificate is its reason."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrust(name, error)
    reason = error.reason or str(error)
    if reason in _OURS:
        return CredentialsRefused(
            f"{name}: TLS: the server wants a client certificate that it trusts ({_words(reason)})",
            hint="set `client_certificate` and `client_key` of the endpoint",
        )
    return ConnectionLost(f"{name}: connection lost: TLS: {_words(reason)}")


def handshake_refusal(name: str, error: ssl.SSLError) -> AsyncCopyError:
    """Why there is no connection to ``name``."""
    meaning = refusal(name, error)
    if not isinstance(meaning, ConnectionLost):
        return meaning
    reason = error.reason or str(error)
    if reason in _TOO_OLD:
        return WrongServer(f"{name}: TLS refused: the server has no TLS 1.2", hint="update the server")
    return WrongServer(
        f"{name}: TLS refused: {_words(reason)}", hint="check host and port: is it the port without TLS?"
    )


def _distrust(name: str, error: ssl.SSLCertVerificationError) -> AsyncCopyError:
    code = error.verify_code
    if code == _EXPIRED:
        return WrongServer(f"{name}: TLS: the server's certificate has expired", hint="renew it at the server")
    if code == _NOT_YET:
        return WrongServer(f"{name}: TLS: the server's certificate is not valid yet", hint="check both clocks")
    if code in _OTHER_HOST:
        return WrongServer(
            f"{name}: TLS: the server's certificate is for another host",
            hint="write the host as the certificate has it, or give the server a certificate for this name",
        )
    if code in _UNTRUSTED:
        return WrongServer(
            f"{name}: TLS: the server's certificate comes from a CA that is not trusted here",
            hint="name the CA's PEM file: `ca_file` of the endpoint, or SSL_CERT_FILE",
        )
    return WrongServer(f"{name}: TLS: the server's certificate is refused: {error.verify_message}")


def _unusable(path: str, error: OSError) -> UsageError:
    if not isinstance(error, ssl.SSLError):
        return UsageError(f"{path}: cannot be read: {error.strerror}", hint="check the file and its owner")
    if _begins(path).startswith(_JAVA):
        return UsageError(
            f"{path}: is a Java or PKCS#12 key store, not PEM",
            hint="export it: keytool -exportcert -rfc, or openssl pkcs12 -nodes",
        )
    return UsageError(f"{path}: holds no usable PEM: {_words(error.reason or 'not PEM')}")


def _broken(certificate: str, key: str | None) -> str:
    """Which of the two files it is that OpenSSL, which does not say it, cannot take."""
    if key is None:
        return certificate
    return certificate if b"-----BEGIN CERTIFICATE" not in _begins(certificate, 1 << 20) else key


def _begins(path: str, count: int = 4) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(count)
    except OSError:
        return b""  # it is its being unreadable that is told


def _encrypted(key: str | None) -> str:
    # Without an answer of ours OpenSSL would ask the terminal.
    raise UsageError(f"{key or 'the client key'}: is encrypted", hint="decrypt it: openssl pkey -in FILE -out FILE")


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ")
