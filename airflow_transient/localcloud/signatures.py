"""Is this S3 request signed by somebody we know, for this, and in time? Signature version 4, as AWS checks it.

The signature itself is computed by botocore's own signers. The order of the checks is AWS's: shape, time, key,
signature. Everything here is a value or an error; nothing is read from the network or the clock.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl

from airflow_transient.localcloud.errors import Refused

WEEK = 604800
CLOCK_SKEW = timedelta(minutes=15)
STAMP = "%Y%m%dT%H%M%SZ"
ALGORITHM = "AWS4-HMAC-SHA256"
VERSION_4_ONLY = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
NEEDED = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders")


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str
    token: str | None = None


# Who has this access key? None: nobody.
Keyring = Callable[[str], "Credentials | None"]


@dataclass(frozen=True)
class Scope:
    """What a credential string says: AKIA.../20260102/eu-west-1/s3/aws4_request."""

    access_key: str
    date: str
    region: str
    service: str

    @classmethod
    def read(cls, text: str) -> Scope:
        parts = text.rsplit("/", 4)
        if len(parts) != 5 or parts[4] != "aws4_request" or parts[3] != "s3":
            raise Refused(
                "AuthorizationQueryParametersError",
                'Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting "'
                '<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
            )
        return cls(*parts[:4])


def check_url(
    method: str, url: str, headers: Mapping[str, str], keyring: Keyring, now: datetime
) -> tuple[Credentials, Scope]:
    """A presigned URL, as it came over the wire (still percent-encoded); headers: lower-case names."""
    query = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))
    if missing := [name for name in NEEDED if name not in query]:
        raise Refused(
            "AuthorizationQueryParametersError",
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
            f"X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters; missing: {', '.join(missing)}",
        )
    if query["X-Amz-Algorithm"] != ALGORITHM:
        raise Refused("AuthorizationQueryParametersError", f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    scope = Scope.read(query["X-Amz-Credential"])
    _check_time(query["X-Amz-Date"], query["X-Amz-Expires"], now)
    credentials = known(scope.access_key, query.get("X-Amz-Security-Token"), keyring)
    signed = query["X-Amz-SignedHeaders"].split(";")
    _check_headers_signed(headers, signed)
    expected = _url_signature(method, url, {name: headers.get(name, "") for name in signed}, credentials, scope, query)
    compare(expected, query.get("X-Amz-Signature", ""))
    return credentials, scope


def _check_time(date: str, expires: str, now: datetime) -> None:
    try:
        signed_at = read_stamp(date)
        seconds = int(expires)
    except ValueError:
        message = "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\" and X-Amz-Expires a number"
        raise Refused("AuthorizationQueryParametersError", message) from None
    if seconds < 0:
        raise Refused("AuthorizationQueryParametersError", "X-Amz-Expires must be non-negative")
    if seconds > WEEK:
        message = "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be"
        raise Refused("AuthorizationQueryParametersError", f"{message} less than {WEEK} seconds")
    if signed_at > now + CLOCK_SKEW:
        raise Refused("AccessDenied", "Request is not yet valid", 403)
    if now > signed_at + timedelta(seconds=seconds):
        raise Refused("AccessDenied", "Request has expired", 403)


def read_stamp(text: str) -> datetime:
    return datetime.strptime(text, STAMP).replace(tzinfo=timezone.utc)


def known(access_key: str, token: str | None, keyring: Keyring) -> Credentials:
    credentials = keyring(access_key)
    if credentials is None:
        raise Refused("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", 403)
    if credentials.token != token:
        raise Refused("InvalidToken", "The provided token is malformed or otherwise invalid.")
    return credentials


def _check_headers_signed(headers: Mapping[str, str], signed: list[str]) -> None:
    unsigned = [name for name in headers if name.startswith("x-amz-") and name not in signed]
    if unsigned or "host" not in signed:
        message = "There were headers present in the request which were not signed"
        raise Refused("AccessDenied", f"{message}: {', '.join(unsigned) or 'host'}", 403)


def _url_signature(
    method: str,
    url: str,
    headers: dict[str, str],
    credentials: Credentials,
    scope: Scope,
    query: dict[str, str],
) -> str:
    from botocore.awsrequest import AWSRequest

    address, _, words = url.partition("?")
    # Raw, because what was signed is the encoding that was sent.
    unsigned = "&".join(word for word in words.split("&") if not word.startswith("X-Amz-Signature="))
    request: Any = AWSRequest(method=method, url=f"{address}?{unsigned}", headers=headers)
    request.context["timestamp"] = query["X-Amz-Date"]
    signer = _signer("S3SigV4QueryAuth", credentials, scope)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(text, request))


def policy_signature(policy: str, date: str, credentials: Credentials, scope: Scope) -> str:
    """Of a POST form: the policy is signed as it stands, in base64."""
    from botocore.awsrequest import AWSRequest

    request: Any = AWSRequest(method="POST", url="http://localhost/")
    request.context["timestamp"] = date
    return str(_signer("S3SigV4PostAuth", credentials, scope).signature(policy, request))


def _signer(kind: str, credentials: Credentials, scope: Scope) -> Any:
    import botocore.auth
    import botocore.credentials

    keys = botocore.credentials.Credentials(credentials.access_key, credentials.secret_key, credentials.token)
    return getattr(botocore.auth, kind)(keys, scope.service, scope.region)


def compare(expected: str, given: str) -> None:
    if not hmac.compare_digest(expected, given):
        raise Refused(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and "
            "signing method.",
            403,
        )
