"""Does this upload form obey its own policy? The rules of S3's browser POST, which moto never looks at.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
Law: every field of the form must be covered by a condition, except the signature, the file and the policy itself.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_transient.localcloud import signatures
from airflow_transient.localcloud.errors import Refused

UNCOVERED = {"x-amz-signature", "file", "policy"}
NEEDED = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")


@dataclass(frozen=True)
class Form:
    """A parsed form: fields before the file (what follows it is ignored, as AWS does), names in lower case."""

    bucket: str
    fields: Mapping[str, str]
    file: bytes | None
    filename: str = ""

    @property
    def key(self) -> str:
        return self.fields.get("key", "").replace("${filename}", self.filename)


def check(form: Form, keyring: signatures.Keyring, now: datetime) -> signatures.Scope:
    """The whole judgement, in AWS's order; Refused says what was wrong."""
    if "policy" not in form.fields:
        raise Refused("AccessDenied", "Access Denied", 403)
    if "awsaccesskeyid" in form.fields:
        raise Refused("InvalidRequest", signatures.VERSION_4_ONLY)
    if missing := [name for name in NEEDED if name not in form.fields]:
        raise Refused("InvalidArgument", f"Bucket POST must contain a field named '{missing[0]}'.")
    if "key" not in form.fields:
        words = "If it is specified, please check the order of the fields."
        raise Refused("InvalidArgument", f"Bucket POST must contain a field named 'key'.  {words}")
    if form.file is None:
        raise Refused("InvalidArgument", "POST requires exactly one file upload per request.")
    scope = _check_signature(form, keyring)
    policy = _read_policy(form.fields["policy"])
    if now > policy.expiration:
        raise _against("Policy expired.")
    _check_conditions(form, policy.conditions, len(form.file))
    return scope


def _check_signature(form: Form, keyring: signatures.Keyring) -> signatures.Scope:
    fields = form.fields
    if fields["x-amz-algorithm"] != signatures.ALGORITHM:
        raise Refused("InvalidArgument", f"X-Amz-Algorithm only supports {signatures.ALGORITHM}")
    scope = signatures.Scope.read(fields["x-amz-credential"])
    credentials = signatures.known(scope.access_key, fields.get("x-amz-security-token"), keyring)
    expected = signatures.policy_signature(fields["policy"], fields["x-amz-date"], credentials, scope)
    signatures.compare(expected, fields["x-amz-signature"])
    return scope


@dataclass(frozen=True)
class Policy:
    expiration: datetime
    conditions: tuple[Any, ...]


def _read_policy(text: str) -> Policy:
    try:
        document = json.loads(base64.b64decode(text, validate=True))
        expiration = str(document["expiration"]).replace("Z", "+00:00")
        if "." in expiration:  # Python 3.10 reads three or six digits only
            expiration = expiration.partition(".")[0] + "+00:00"
        return Policy(datetime.fromisoformat(expiration).astimezone(timezone.utc), tuple(document["conditions"]))
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise Refused("InvalidPolicyDocument", f"Invalid Policy: {error}") from None


def _check_conditions(form: Form, conditions: tuple[Any, ...], size: int) -> None:
    values = {**form.fields, "bucket": form.bucket, "key": form.key}
    covered = set(UNCOVERED)
    for condition in conditions:
        operator, name, wanted = _normal(condition)
        if operator == "content-length-range":
            _check_size(size, int(name), int(wanted))
            continue
        covered.add(name)
        value = values.get(name, "")
        if not (value == wanted if operator == "eq" else value.startswith(wanted)):
            raise _against(f"Policy Condition failed: {json.dumps(condition)}")
    extra = [name for name in form.fields if name not in covered and not name.startswith("x-ignore-")]
    if extra:
        raise _against(f"Extra input fields: {', '.join(sorted(extra))}")


def _normal(condition: Any) -> tuple[str, str, str]:
    """{"acl": "private"} and ["eq", "$acl", "private"] are one."""
    if isinstance(condition, dict) and len(condition) == 1:
        ((name, value),) = condition.items()
        return "eq", str(name).lower(), str(value)
    if isinstance(condition, list) and len(condition) == 3:
        operator, name, value = (str(part) for part in condition)
        if operator.lower() in ("eq", "starts-with", "content-length-range"):
            return operator.lower(), name.lstrip("$").lower(), value
    raise Refused("InvalidPolicyDocument", f"Invalid Policy: Invalid Condition {json.dumps(condition)}")


def _check_size(size: int, least: int, most: int) -> None:
    if size > most:
        raise Refused("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
    if size < least:
        raise Refused("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")


def _against(why: str) -> Refused:
    return Refused("AccessDenied", f"Invalid according to Policy: {why}", 403)
