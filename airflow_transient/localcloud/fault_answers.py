"""A refusal as the service would say it: its code, status and words, in the shape boto3 reads for that protocol."""

from __future__ import annotations

import json
from dataclasses import dataclass
from xml.sax.saxutils import escape

from airflow_transient.localcloud.errors import Refused
from airflow_transient.localcloud.fault_rules import Call, Fault, no_room

# Of codes whose HTTP status is not 400.
STATUS = {
    **dict.fromkeys(("RequestLimitExceeded", "SlowDown", "ServiceUnavailable", "Unavailable"), 503),
    **dict.fromkeys(
        (
            *("InsufficientInstanceCapacity", "InsufficientAddressCapacity", "InsufficientCapacity"),
            *("InsufficientHostCapacity", "InsufficientReservedInstanceCapacity", "InsufficientVolumeCapacity"),
            *("InternalError", "InternalFailure", "InternalServerError", "ServerException"),
        ),
        500,
    ),
    **dict.fromkeys(
        (
            "UnauthorizedOperation",
            "AccessDenied",
            "SignatureDoesNotMatch",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
        ),
        403,
    ),
    "AuthFailure": 401,
    **dict.fromkeys(("NoSuchBucket", "NoSuchKey"), 404),
}
WORDS = {
    "RequestLimitExceeded": "Request limit exceeded.",
    "UnauthorizedOperation": "You are not authorized to perform this operation.",
    "AccessDenied": "Access Denied",
    "ExpiredToken": "The provided token has expired.",
    "ExpiredTokenException": "The security token included in the request is expired",
    "RequestExpired": "Request has expired.",
    "InternalError": "An internal error has occurred",
    "ServiceUnavailable": "Please reduce your request rate.",
    "SlowDown": "Please reduce your request rate.",
    "Throttling": "Rate exceeded",
    "ThrottlingException": "Rate exceeded",
    "RequestThrottled": "The request was denied due to request throttling.",
    "VcpuLimitExceeded": "You have requested more vCPU capacity than your current vCPU limit allows.",
}
# The same thing has another name everywhere: by service, else by protocol.
EXPIRED = {"ec2": "RequestExpired", **dict.fromkeys(("json", "rest-json", "cbor"), "ExpiredTokenException")}
THROTTLED = {
    "ec2": "RequestLimitExceeded",
    "s3": "SlowDown",
    "sqs": "RequestThrottled",
    **dict.fromkeys(("json", "rest-json", "cbor"), "ThrottlingException"),
}


@dataclass(frozen=True)
class Answer:
    status: str
    headers: list[tuple[str, str]]
    body: bytes


# As ECS passes on that EC2 throttled it (dagster-io/dagster#33439).
DISGUISED = "Error retrieving subnet information for [subnet-0]: Rate exceeded (ErrorCode: Throttling)"


def refusal(fault: Fault, call: Call) -> Refused:
    """What this fault says to this call."""
    if fault.disguised:
        return Refused("InvalidParameterException", DISGUISED)
    code = fault.code or _own_name(fault.kind, call)
    words = WORDS.get(code, f"localcloud fakes {code}")
    if code == "InsufficientInstanceCapacity":
        words = no_room(call).message
    status = 403 if code == "ExpiredToken" and call.protocol == "query" else STATUS.get(code, 400)
    return Refused(code, fault.message or words, fault.status or status)


def _own_name(kind: str, call: Call) -> str:
    names, other = (EXPIRED, "ExpiredToken") if kind == "expire_credentials" else (THROTTLED, "Throttling")
    return names.get(call.service, names.get(call.protocol, other))


def answer(refused: Refused, protocol: str, method: str = "POST") -> Answer:
    kind, body = SHAPES[protocol](refused)
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("x-amzn-RequestId", "LOCALCLOUD")]
    if protocol == "rest-json":
        headers.append(("x-amzn-ErrorType", refused.code))
    if protocol == "cbor":
        headers.append(("smithy-protocol", "rpc-v2-cbor"))
    return Answer(f"{refused.status} {refused.code}", headers, b"" if method == "HEAD" else body)


def _xml(refused: Refused, frame: str) -> tuple[str, bytes]:
    inner = f"<Code>{escape(refused.code)}</Code><Message>{escape(refused.message)}</Message>"
    return "text/xml", ('<?xml version="1.0" encoding="UTF-8"?>\n' + frame.format(inner)).encode()


def _ec2(refused: Refused) -> tuple[str, bytes]:
    return _xml(refused, "<Response><Errors><Error>{}</Error></Errors><RequestID>LOCALCLOUD</RequestID></Response>")


def _query(refused: Refused) -> tuple[str, bytes]:
    side = "Sender" if refused.status < 500 else "Receiver"
    frame = f"<ErrorResponse><Error><Type>{side}</Type>{{}}</Error><RequestId>LOCALCLOUD</RequestId></ErrorResponse>"
    return _xml(refused, frame)


def _s3(refused: Refused) -> tuple[str, bytes]:
    return _xml(refused, "<Error>{}<RequestId>LOCALCLOUD</RequestId></Error>")


def _json(refused: Refused) -> tuple[str, bytes]:
    return "application/x-amz-json-1.1", json.dumps({"__type": refused.code, "message": refused.message}).encode()


def _rest_json(refused: Refused) -> tuple[str, bytes]:
    return "application/json", json.dumps({"message": refused.message}).encode()


def _cbor(refused: Refused) -> tuple[str, bytes]:
    texts = ("__type", refused.code, "message", refused.message)
    return "application/cbor", b"\xa2" + b"".join(_cbor_text(text.encode()) for text in texts)


def _cbor_text(text: bytes) -> bytes:
    return b"\x79" + len(text).to_bytes(2, "big") + text


SHAPES = {"ec2": _ec2, "query": _query, "rest-xml": _s3, "json": _json, "rest-json": _rest_json, "cbor": _cbor}
