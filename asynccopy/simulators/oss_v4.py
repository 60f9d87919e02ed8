"""The server's side of OSS's signature version 4 (``OSS4-HMAC-SHA256``), in headers and in query strings, and of STS.

Written from Alibaba's description, apart from any client's signer: a mistake in one must not hide in the other.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from asynccopy.simulators.sigv4 import S3Error, canonical_pairs, check_clock, keyed, recode, seconds_of, signing_key

ALGORITHM = "OSS4-HMAC-SHA256"
PAYLOAD = "x-oss-content-sha256"
_DEFAULT = ("content-type", "content-md5")
_LONGEST = 7 * 24 * 3600  # the most that a presigned URL may be valid


class Credential(NamedTuple):
    """What belongs to an access key id. ``token`` "": no STS credential. ``expires``: seconds since the epoch."""

    secret: str
    token: str = ""
    expires: float = float("inf")


class Claim(NamedTuple):
    """What a request says of its signature, in a header or in its query."""

    access_key: str
    scope: str
    additional: str
    given: str
    moment: str
    token: str
    lifetime: float | None = None


def verify(
    method: str,
    resource: str,
    query: str,
    headers: Mapping[str, str],
    credentials: Mapping[str, Credential],
    region: str,
    now: float,
) -> None:
    """Prove who sent a request. ``resource`` is ``/bucket/key``, percent-encoded as it came, whatever the host name
    was; ``query`` as on the wire; ``now`` the server's clock in seconds.

    Raises S3Error: anonymous, malformed, unknown key, wrong token or an expired one, wrong region or day, clocks more
    than 15 minutes apart, a URL that is too old, and above all a signature that differs.
    """
    parameters = dict(item.partition("=")[::2] for item in query.split("&")) if query else {}
    claim = _in_query(parameters) if "x-oss-signature" in parameters else _in_header(headers)
    credential = _known(credentials, claim, now)
    if claim.lifetime is None:
        check_clock(claim.moment, now)
        if headers.get(PAYLOAD) != "UNSIGNED-PAYLOAD":
            raise S3Error(400, "InvalidArgument", f"{PAYLOAD} must be UNSIGNED-PAYLOAD.")
    elif not 1 <= claim.lifetime <= _LONGEST:
        raise S3Error(400, "InvalidArgument", "x-oss-expires is out of range.")
    elif now > _begun(claim.moment) + claim.lifetime:
        raise S3Error(403, "AccessDenied", "Request has expired.")
    if claim.scope != f"{claim.moment[:8]}/{region}/oss/aliyun_v4_request":
        raise S3Error(400, "InvalidArgument", f"Invalid signing scope in Authorization; expecting '{region}'.")
    digest = hashlib.sha256(_canonical(method, resource, query, headers, claim)).hexdigest()
    text = f"{ALGORITHM}\n{claim.moment}\n{claim.scope}\n{digest}"
    key = signing_key(f"aliyun_v4{credential.secret}", *claim.scope.split("/"))
    expected = keyed(key, text).hex()
    if not hmac.compare_digest(expected.encode(), claim.given.encode("utf-8", "surrogateescape")):
        message = "The request signature we calculated does not match the signature you provided."
        raise S3Error(403, "SignatureDoesNotMatch", message)


def _in_header(headers: Mapping[str, str]) -> Claim:
    authorization = headers.get("Authorization", "")
    if not authorization:
        raise S3Error(403, "AccessDenied", "Anonymous user has no right to access this bucket.")
    algorithm, _, rest = authorization.partition(" ")
    if algorithm == "OSS":
        raise S3Error(501, "NotImplemented", "signature version 1 is not simulated")
    fields = dict(field.strip().partition("=")[::2] for field in rest.split(","))
    if algorithm != ALGORITHM or not {"Credential", "Signature"} <= fields.keys():
        raise S3Error(400, "InvalidArgument", "Authorization header is invalid.")
    access_key, _, scope = fields["Credential"].partition("/")
    additional = fields.get("AdditionalHeaders", "")
    token = headers.get("x-oss-security-token", "")
    return Claim(access_key, scope, additional, fields["Signature"], headers.get("x-oss-date", ""), token)


def _in_query(parameters: Mapping[str, str]) -> Claim:
    def value(name: str) -> str:
        return unquote(parameters.get(f"x-oss-{name}", ""))

    if value("signature-version") != ALGORITHM or not value("expires").isdigit():
        raise S3Error(400, "InvalidArgument", "Query string authentication parameters are invalid.")
    access_key, _, scope = value("credential").partition("/")
    lifetime = float(value("expires"))
    token = value("security-token")
    return Claim(access_key, scope, value("additional-headers"), value("signature"), value("date"), token, lifetime)


def _begun(moment: str) -> int:
    try:
        return seconds_of(moment)
    except ValueError:
        raise S3Error(400, "InvalidArgument", "x-oss-date is invalid.") from None


def _known(credentials: Mapping[str, Credential], claim: Claim, now: float) -> Credential:
    credential = credentials.get(claim.access_key)
    if credential is None:
        message = "The OSS Access Key Id you provided does not exist in our records."
        raise S3Error(403, "InvalidAccessKeyId", message)
    if credential.token and not claim.token:
        message = "The OSS Access Key Id you provided does not exist in our records. The Security Token may be lost."
        raise S3Error(403, "InvalidAccessKeyId", message)
    if credential.token != claim.token:
        raise S3Error(403, "InvalidSecurityToken", "The security token you provided is invalid.")
    if now >= credential.expires:
        raise S3Error(403, "SecurityTokenExpired", "The security token you provided has expired.")
    return credential


def _canonical(method: str, resource: str, query: str, headers: Mapping[str, str], claim: Claim) -> bytes:
    """The bytes whose hash is signed. A parameter without a value is its bare name; the host is in only if named."""
    additional = claim.additional.split(";") if claim.additional else []
    if additional != sorted(set(additional)):
        raise S3Error(400, "InvalidArgument", "AdditionalHeaders are not in order.")
    signed = {name: headers[name] for name in additional if name in headers}
    for name, value in headers.items():
        if name.lower().startswith("x-oss-") or name.lower() in _DEFAULT:
            signed[name.lower()] = value
    pairs = [(name, value) for name, value in canonical_pairs(query) if name != "x-oss-signature"]
    lines = [method, recode(resource, "/-_.~"), "&".join(f"{name}={value}" if value else name for name, value in pairs)]
    lines += [f"{name}:{value.strip()}" for name, value in sorted(signed.items())]
    lines += ["", claim.additional, headers.get(PAYLOAD, "UNSIGNED-PAYLOAD")]
    return "\n".join(lines).encode("utf-8", "surrogateescape")
