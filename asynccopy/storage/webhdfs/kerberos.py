"""SPNEGO: showing a server a Kerberos ticket, through the system's own library.

MIT's ``libgssapi_krb5.so.2``, which every machine with ``kinit`` has, is called by ctypes (see decision 0032). It reads
``/etc/krb5.conf`` (``KRB5_CONFIG``) and talks to the KDC by itself, which blocks: each call is made in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p, cast
from functools import cache
from itertools import count
from threading import Thread
from typing import Any, Final, TypeVar

from asynccopy.errors import AsyncCopyError, CredentialsRefused, Unreachable, UsageError
from asynccopy.storage.pool import Origin

LIBRARY: Final = "libgssapi_krb5.so.2"
INSTALL: Final = "install it: libgssapi-krb5-2 on Debian and Ubuntu, krb5-libs on Red Hat, krb5 on SUSE"
LIMIT: Final = 30.0
"""Seconds for a KDC to answer. The library asks one after the other, each for some seconds."""

_MUTUAL: Final = 2
_INITIATE: Final = 1
_CONTINUE: Final = 1
_FAILED: Final = 0xFFFF0000
_numbers = count(1)

T = TypeVar("T")


class _Buffer(Structure):
    _fields_ = [("length", c_size_t), ("value", c_void_p)]


class _Oid(Structure):
    _fields_ = [("length", c_uint32), ("elements", c_char_p)]


class _OidSet(Structure):
    _fields_ = [("count", c_size_t), ("elements", POINTER(_Oid))]


class _Pair(Structure):
    _fields_ = [("key", c_char_p), ("value", c_char_p)]


class _Store(Structure):
    _fields_ = [("count", c_uint32), ("elements", POINTER(_Pair))]


def _oid(numbers: bytes) -> _Oid:
    return _Oid(len(numbers), numbers)


_SPNEGO: Final = _oid(b"\x2b\x06\x01\x05\x05\x02")
_KERBEROS: Final = _oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02")
_HOST_SERVICE: Final = _oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04")
_PRINCIPAL: Final = _oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01")


class Identity:
    """Who we are in a realm: by a keytab, by a credential cache (``FILE:/path``, ``KCM:``), or as the environment has
    it (``KRB5CCNAME``, ``KRB5_CLIENT_KTNAME``).

    With a keytab the tickets are kept in memory, apart from those of any other Identity in this process, and new ones
    come when they end. A cache that somebody else renews is read anew each time. ``mutual``: the server must show that
    it is who it says.
    """

    def __init__(
        self,
        principal: str | None = None,
        *,
        keytab: str | None = None,
        ccache: str | None = None,
        mutual: bool = False,
    ) -> None:
        self._principal = principal
        self._keytab = keytab
        self._ccache = ccache
        self._mutual = mutual
        self._cache = 0
        self.forget()

    def forget(self) -> None:
        """Use none of the tickets again that the keytab gave: the server takes them no longer."""
        self._cache = next(_numbers)
        self._filled = False

    async def greeting(self, server: Origin) -> Greeting:
        """The first words to a web server. Raises CredentialsRefused, Unreachable (the KDC), UsageError."""
        return await _apart(lambda: self._greet(server), server)

    def _greet(self, server: Origin) -> Greeting:
        library()
        if self._keytab is None:
            return self._first_words(server)
        _check_readable(self._keytab, server)
        if self._filled:
            try:
                return self._first_words(server)
            except CredentialsRefused:
                self.forget()  # of tickets that have ended the library does not say why there are no others
        try:
            greeting = self._first_words(server)
        except CredentialsRefused as error:
            if "No credentials cache" not in error.message:
                raise
            # No ticket was asked for: the library found no key in it to ask with.
            message = f"{server.netloc}: Kerberos: keytab {self._keytab} holds no key of {self._principal or 'anybody'}"
            raise CredentialsRefused(message, hint=_KEYTAB) from None
        self._filled = True
        return greeting

    def _first_words(self, server: Origin) -> Greeting:
        return Greeting(self._credentials(), self._principal or "", server, self._mutual)

    def _credentials(self) -> dict[str, str]:
        if self._keytab is not None:
            return {"client_keytab": f"FILE:{self._keytab}", "ccache": f"MEMORY:asynccopy-{self._cache}"}
        return {} if self._ccache is None else {"ccache": self._ccache}


class Greeting:
    """One conversation with a server. ``principal`` is who we are in it; ``header`` goes into the request."""

    def __init__(self, store: dict[str, str], principal: str, server: Origin, mutual: bool) -> None:
        self._library = library()
        self._server = server
        self._mutual = mutual
        self._context = c_void_p()
        name = f"HTTP@{server.host}"
        with self._named(name, _HOST_SERVICE) as target, self._credential(store, principal) as credential:
            self.principal = self._name_of(credential)
            self.header = "Negotiate " + base64.b64encode(self._step(credential, target, b"")).decode()

    async def answered(self, challenge: str) -> None:
        """Take the ``WWW-Authenticate`` of a success. Raises CredentialsRefused where the server should have shown who
        it is and did not.
        """
        if not self._mutual:
            return
        kind, _, text = challenge.partition(" ")
        try:
            reply = base64.b64decode(text, validate=True) if kind.lower() == "negotiate" else b""
        except binascii.Error:
            reply = b""
        if not reply:
            raise CredentialsRefused(f"{self._server.netloc}: the server did not show who it is", hint=_MUTUAL_HINT)
        await _apart(lambda: self._finish(reply), self._server)

    def _finish(self, reply: bytes) -> None:
        with self._named(f"HTTP@{self._server.host}", _HOST_SERVICE) as target:
            self._step(c_void_p(), target, reply)

    def _step(self, credential: c_void_p, target: c_void_p, reply: bytes) -> bytes:
        minor, out = c_uint32(), _Buffer()
        held = _Buffer(len(reply), cast(c_char_p(reply), c_void_p))
        major = self._library.gss_init_sec_context(
            byref(minor),
            credential,
            byref(self._context),
            target,
            byref(_SPNEGO),
            c_uint32(_MUTUAL),
            c_uint32(0),
            None,
            byref(held) if reply else None,
            None,
            byref(out),
            None,
            None,
        )
        try:
            self._check(major, minor)
            if reply and major & _CONTINUE:
                raise CredentialsRefused(f"{self._server.netloc}: the server did not show who it is", hint=_MUTUAL_HINT)
            return ctypes.string_at(out.value, out.length) if out.value else b""
        finally:
            self._library.gss_release_buffer(byref(minor), byref(out))

    @contextmanager
    def _named(self, text: str, kind: _Oid) -> Iterator[c_void_p]:
        raw, minor, name = text.encode(), c_uint32(), c_void_p()
        held = _Buffer(len(raw), cast(c_char_p(raw), c_void_p))
        self._check(self._library.gss_import_name(byref(minor), byref(held), byref(kind), byref(name)), minor)
        try:
            yield name
        finally:
            self._library.gss_release_name(byref(minor), byref(name))

    @contextmanager
    def _credential(self, store: dict[str, str], principal: str) -> Iterator[c_void_p]:
        major, minor, credential = self._acquired(store, principal, _SPNEGO)
        if major & _FAILED:  # SPNEGO says "no credentials" whatever it was: ask Kerberos itself
            major, minor, credential = self._acquired(store, principal, _KERBEROS)
            self._check(major, minor)
        try:
            yield credential
        finally:
            self._library.gss_release_cred(byref(minor), byref(credential))

    def _acquired(self, store: dict[str, str], principal: str, mechanism: _Oid) -> tuple[int, c_uint32, c_void_p]:
        pairs = (_Pair * len(store))(*(_Pair(key.encode(), value.encode()) for key, value in store.items()))
        given = byref(_Store(len(store), pairs)) if store else None
        minor, credential = c_uint32(), c_void_p()
        with self._named(principal, _PRINCIPAL) if principal else nullcontext(c_void_p()) as name:
            major = self._library.gss_acquire_cred_from(
                byref(minor),
                name,
                c_uint32(0xFFFFFFFF),
                byref(_OidSet(1, ctypes.pointer(mechanism))),
                c_int(_INITIATE),
                given,
                byref(credential),
                None,
                None,
            )
        return major, minor, credential

    def _name_of(self, credential: c_void_p) -> str:
        minor, name, out = c_uint32(), c_void_p(), _Buffer()
        self._check(self._library.gss_inquire_cred(byref(minor), credential, byref(name), None, None, None), minor)
        try:
            self._check(self._library.gss_display_name(byref(minor), name, byref(out), None), minor)
            return ctypes.string_at(out.value, out.length).decode("utf-8", "backslashreplace")
        finally:
            self._library.gss_release_buffer(byref(minor), byref(out))
            self._library.gss_release_name(byref(minor), byref(name))

    def _check(self, major: int, minor: c_uint32) -> None:
        if major & _FAILED:
            # What the minor status says is the better one, where it says anything.
            said = [*self._said(minor.value, 2), *self._said(major, 1)]
            raise refusal(self._server, next((each for each in said if each != "Success"), "failed"))

    def _said(self, code: int, kind: int) -> Iterator[str]:
        more, minor = c_uint32(0), c_uint32()
        while code:
            out = _Buffer()
            self._library.gss_display_status(byref(minor), c_uint32(code), c_int(kind), None, byref(more), byref(out))
            if out.value:
                yield ctypes.string_at(out.value, out.length).decode("utf-8", "backslashreplace")
            self._library.gss_release_buffer(byref(minor), byref(out))
            if not more.value:
                return

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._library.gss_delete_sec_context(byref(c_uint32()), byref(self._context), None)


def _check_readable(keytab: str, server: Origin) -> None:
    """Raises CredentialsRefused. The library would only say that it has no ticket."""
    try:
        with open(keytab, "rb"):
            return
    except OSError as error:
        raise CredentialsRefused(
            f"{server.netloc}: Kerberos: keytab {keytab}: {error.strerror}", hint="check `keytab` and the file's owner"
        ) from None


@cache
def library() -> Any:
    """The system's GSSAPI. Raises UsageError where it is missing."""
    try:
        found = ctypes.CDLL(LIBRARY)
    except OSError:
        raise UsageError(f"this cluster wants Kerberos, and {LIBRARY} is not on this machine", hint=INSTALL) from None
    for name in ("import_name", "init_sec_context", "acquire_cred_from", "inquire_cred", "display_name"):
        getattr(found, f"gss_{name}").restype = c_uint32
    return found


_MUTUAL_HINT: Final = "`mutual` asks for it; is there a proxy in between that takes the answer away?"
_KEYTAB: Final = "compare `klist -kt KEYTAB` with `principal` and the KDC; a changed key makes older keytabs useless"
_MEANINGS: Final = (
    ("Clock skew", "set the clocks of this machine, the KDC and the cluster by NTP: Kerberos allows 5 minutes"),
    ("Server ", "no HTTP/HOST of this name: write the server as its principal has it, not by its address"),
    ("Client ", "the realm does not know this principal: check `principal`, and the keytab by `klist -kt KEYTAB`"),
    ("Preauthentication failed", _KEYTAB),
    ("keytab", _KEYTAB),
    ("Cannot find KDC", "name the realm's KDC in /etc/krb5.conf"),
    ("", "run kinit, or give a keytab: `keytab` and `principal` of the endpoint, or KRB5_CLIENT_KTNAME"),
)


def refusal(server: Origin, said: str) -> AsyncCopyError:
    """What the library's words mean, in its English; it knows no other language unless the locale is set."""
    message = f"{server.netloc}: Kerberos: {said}"
    if "Cannot contact any KDC" in said:
        return Unreachable(message, hint="check the KDC and /etc/krb5.conf")
    return CredentialsRefused(message, hint=next(hint for words, hint in _MEANINGS if words in said))


async def _apart(call: Callable[[], T], server: Origin) -> T:
    """Run a blocking call in a thread that nobody waits for when the process ends: a KDC may be silent for long."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if outcome.done():
            return  # who asked has gone
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # one of the two is there

    def work() -> None:
        result, failed = None, None
        try:
            result = call()
        except BaseException as error:  # it comes out where it is awaited
            failed = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, result, failed)

    Thread(target=work, name="kerberos", daemon=True).start()
    try:
        async with asyncio.timeout(LIMIT):
            return await outcome
    except TimeoutError:
        message = f"{server.netloc}: Kerberos: no KDC answered in {LIMIT:g} s"
        raise Unreachable(message, hint="check /etc/krb5.conf") from None
