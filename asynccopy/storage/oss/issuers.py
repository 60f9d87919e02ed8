"""Who gives credentials out: an instance's metadata server, STS for an OIDC token, any URL, a program.

Sources: Alibaba's pages on instance RAM roles, RRSA and AssumeRoleWithOIDC; the official credentials library. What they
answer is never shown, not even in an error.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

from msgspec import Struct

from asynccopy.errors import AsyncCopyError, CredentialsRefused, ServerTrouble, Unreachable, UsageError
from asynccopy.storage.http import Headers, HttpDoor, Response
from asynccopy.storage.pool import Origin
from asynccopy.storage.signing import Credentials

METADATA: Final = Origin("http", "100.100.100.200", 80)
_ROLES: Final = "/latest/meta-data/ram/security-credentials/"
_TOKEN_LIFE: Final = 21_600
_PATIENCE: Final = 2.0
"""Seconds. The metadata server is on the same machine, as it were; where there is none, nobody answers at all."""
_PROCESS_PATIENCE: Final = 60.0
_MESSAGE: Final = 1 << 20


class Issued(Struct, frozen=True):
    """Credentials, and until when they are good: seconds since the epoch, None where that is not told."""

    credentials: Credentials
    expires: float | None = None


class Issuer(Protocol):
    async def issue(self, door: HttpDoor) -> Issued:
        """Raises CredentialsRefused, and what the door raises."""
        ...


def read_issued(body: bytes, whence: str) -> Issued:
    """Credentials in JSON, as Alibaba's services spell them (AccessKeyId) or its command line (access_key_id)."""
    try:
        fields = json.loads(body)
        pick = {name.replace("_", "").lower(): value for name, value in fields.items() if isinstance(value, str)}
        token = pick.get("securitytoken") or pick.get("ststoken")
        credentials = Credentials(pick["accesskeyid"], pick["accesskeysecret"], token)
        expiration = pick.get("expiration")
        expires = datetime.fromisoformat(expiration).timestamp() if expiration else None
    except (ValueError, AttributeError, KeyError):
        # not chained: what json and datetime say quotes what they were given
        raise CredentialsRefused(f"{whence}: the answer holds no credentials") from None
    if not credentials.access_key or not credentials.secret_key:
        raise CredentialsRefused(f"{whence}: the answer holds empty credentials")
    return Issued(credentials, expires)


class Static:
    """Credentials that never change."""

    def __init__(self, credentials: Credentials) -> None:
        self._issued = Issued(credentials, float("inf"))

    async def issue(self, door: HttpDoor) -> Issued:
        return self._issued


class EcsRole:
    """The RAM role of the instance. ``role`` "" is asked for. ``hardened``: only by a session token (IMDSv2)."""

    def __init__(self, role: str = "", *, hardened: bool = False, origin: Origin = METADATA) -> None:
        self._role = role
        self._hardened = hardened
        self._origin = origin

    async def issue(self, door: HttpDoor) -> Issued:
        headers = await self._session(door)
        role = self._role or (await self._ask(door, "GET", _ROLES, headers)).body.decode(errors="replace").strip()
        if not role or "\n" in role:
            raise CredentialsRefused(f"{self._origin}: the instance has no RAM role, or several")
        response = await self._ask(door, "GET", _ROLES + quote(role, safe=""), headers)
        return read_issued(response.body, str(self._origin))

    async def _session(self, door: HttpDoor) -> Headers:
        lifetime = [("x-aliyun-ecs-metadata-token-ttl-seconds", str(_TOKEN_LIFE))]
        try:
            response = await self._ask(door, "PUT", "/latest/api/token", lifetime)
            return [("x-aliyun-ecs-metadata-token", _one_line(response.body, str(self._origin)))]
        except (CredentialsRefused, ServerTrouble):
            if self._hardened:
                raise
            return ()

    async def _ask(self, door: HttpDoor, method: str, target: str, headers: Headers) -> Response:
        try:
            async with asyncio.timeout(_PATIENCE):
                return _answered(
                    await door.request(self._origin, method, target, headers, limit=_MESSAGE), "the instance"
                )
        except TimeoutError:
            raise Unreachable(f"{self._origin}: no metadata server answers") from None


class OidcRole:
    """A RAM role for a pod or a job (RRSA): STS takes the OIDC token that lies in a file, read anew each time."""

    def __init__(self, role: str, provider: str, token_file: str, session: str, sts: Origin) -> None:
        self._role = role
        self._provider = provider
        self._token_file = Path(token_file)
        self._session = session
        self._sts = sts

    async def issue(self, door: HttpDoor) -> Issued:
        try:
            token = await asyncio.to_thread(self._token_file.read_text, encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialsRefused(f"{self._token_file}: no OIDC token can be read there") from error
        action = {"Action": "AssumeRoleWithOIDC", "Format": "JSON", "Version": "2015-04-01"}
        action["Timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        form = {
            "RoleArn": self._role,
            "OIDCProviderArn": self._provider,
            "OIDCToken": token.strip(),
            "RoleSessionName": self._session,
            "DurationSeconds": "3600",
        }
        headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")]
        response = await door.request(
            self._sts, "POST", f"/?{urlencode(action)}", headers, urlencode(form).encode(), limit=_MESSAGE
        )
        body = _answered(response, str(self._sts)).body
        try:
            inner = json.dumps(json.loads(body)["Credentials"]).encode()
        except (ValueError, KeyError, TypeError):
            raise CredentialsRefused(f"{self._sts}: the answer holds no credentials") from None
        return read_issued(inner, str(self._sts))


class CredentialsUri:
    """A URL that answers with credentials. It may hold a secret itself: only its host is shown."""

    def __init__(self, uri: str) -> None:
        url = urlsplit(uri)
        try:
            port = url.port or (443 if url.scheme == "https" else 80)
        except ValueError:
            port = 0
        if url.scheme not in ("http", "https") or not url.hostname or not port:
            raise UsageError("ALIBABA_CLOUD_CREDENTIALS_URI must be an http or https URL")
        self._origin = Origin(url.scheme, url.hostname, port)
        self._target = quote(
            f"{url.path or '/'}?{url.query}" if url.query else url.path or "/", safe="/?&=%:+,;@!$'()*~"
        )

    async def issue(self, door: HttpDoor) -> Issued:
        response = await door.request(self._origin, "GET", self._target, limit=_MESSAGE)
        return read_issued(_answered(response, str(self._origin)).body, str(self._origin))


class Program:
    """A program that prints credentials. Neither its output nor its arguments are shown."""

    def __init__(self, command: str) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError:
            raise UsageError("OSS_CREDENTIAL_PROCESS: a quote is never closed") from None
        if not self._command:
            raise UsageError("OSS_CREDENTIAL_PROCESS is empty")

    async def issue(self, door: HttpDoor) -> Issued:
        name = f"credential program {self._command[0]}"
        try:
            process = await asyncio.create_subprocess_exec(*self._command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
        except OSError as error:
            raise CredentialsRefused(f"{name}: cannot be started: {error.strerror}") from None
        try:
            async with asyncio.timeout(_PROCESS_PATIENCE):
                output, _ = await process.communicate()
        except TimeoutError:
            raise CredentialsRefused(f"{name}: no answer within {_PROCESS_PATIENCE:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise CredentialsRefused(f"{name}: ended with status {process.returncode}")
        return read_issued(output, name)


def issuer_of(environ: Mapping[str, str]) -> Issuer:
    """Who the environment names: a key pair first, then a program, an OIDC role, a URL, and at last the instance's
    role. Raises UsageError for what is only half there.
    """
    if (static := _static(environ)) is not None:
        return static
    if command := environ.get("OSS_CREDENTIAL_PROCESS"):
        return Program(command)
    if (oidc := _oidc(environ)) is not None:
        return oidc
    if uri := environ.get("ALIBABA_CLOUD_CREDENTIALS_URI"):
        return CredentialsUri(uri)
    if environ.get("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "").lower() == "true":
        raise CredentialsRefused("no OSS credentials found", hint=HINT)
    hardened = environ.get("ALIBABA_CLOUD_IMDSV1_DISABLED", "").lower() == "true"
    return EcsRole(environ.get("ALIBABA_CLOUD_ECS_METADATA", ""), hardened=hardened)


HINT: Final = "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or run on an instance with a RAM role"


def _static(environ: Mapping[str, str]) -> Static | None:
    for key, secret, token in (
        ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"),
    ):
        pair = environ.get(key), environ.get(secret)
        if pair[0] and pair[1]:
            return Static(Credentials(pair[0], pair[1], environ.get(token) or None))
        if pair[0] or pair[1]:
            raise UsageError(f"{key} and {secret} belong together, and only one of them is set")
    return None


def _oidc(environ: Mapping[str, str]) -> OidcRole | None:
    names = ("ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE")
    given = [environ.get(name, "") for name in names]
    if not given[1] and not given[2]:
        return None  # a role alone is for other ways of taking it on
    if not all(given):
        raise UsageError(f"an OIDC role needs all of {', '.join(names)}")
    vpc = environ.get("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "").lower() == "true"
    region = environ.get("ALIBABA_CLOUD_STS_REGION")
    host = f"{'sts-vpc' if vpc else 'sts'}.{region}.aliyuncs.com" if region else "sts.aliyuncs.com"
    session = environ.get("ALIBABA_CLOUD_ROLE_SESSION_NAME") or "asynccopy"
    role, provider, token_file = given
    return OidcRole(role, provider, token_file, session, Origin("https", host, 443))


def _answered(response: Response, whence: str) -> Response:
    if response.status == 200:
        return response
    said: type[AsyncCopyError] = ServerTrouble if response.status in (429, *range(500, 600)) else CredentialsRefused
    raise said(f"{whence}: no credentials: the answer is {response.status}")


def _one_line(body: bytes, whence: str) -> str:
    text = body.decode("ascii", errors="replace").strip()
    if not text.isascii() or not text.isprintable() or not text:
        raise CredentialsRefused(f"{whence}: the answer is no session token")
    return text
