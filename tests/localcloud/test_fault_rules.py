"""What a fault is, what it applies to, and what it leaves of a call: tables, no cloud."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_transient.localcloud import calls, fault_answers, fault_rules
from airflow_transient.localcloud.fault_door import stranger
from airflow_transient.localcloud.fault_rules import Call, Fault, decide, give
from airflow_transient.localcloud.faults import FaultError, Faults

RUN = Call("RunInstances", "ec2", "ec2", "eu-west-1", "eu-west-1a", "t3.micro", "spot", signed=True)
GET = Call("GetObject", "s3", "rest-xml", "eu-west-1", bucket="reports", presigned=True)


def error(**more: Any) -> Fault:
    return Fault(kind="error", **{"action": "RunInstances", "code": "InternalError", **more})


@pytest.mark.parametrize(
    ("fault", "call", "expected"),
    [
        pytest.param(error(), RUN, True, id="its action"),
        pytest.param(error(), GET, False, id="another action"),
        pytest.param(error(action="Run*"), RUN, True, id="a pattern"),
        pytest.param(error(action="ec2:*"), RUN, True, id="a service"),
        pytest.param(error(action="s3:*"), RUN, False, id="another service"),
        pytest.param(error(zone="eu-west-1a", market="spot"), RUN, True, id="its pool"),
        pytest.param(error(zone="eu-west-1b"), RUN, False, id="another zone"),
        pytest.param(error(instance_type="t3.small"), RUN, False, id="another type"),
        pytest.param(error(region="us-east-1"), RUN, False, id="another region"),
        pytest.param(error(action="*", zone="eu-west-1a"), GET, False, id="a call that has no zone"),
        pytest.param(error(times=1, hits=1), RUN, False, id="used up"),
        pytest.param(Fault(kind="bucket_down", bucket="reports", code="SlowDown"), GET, True, id="its bucket"),
        pytest.param(Fault(kind="bucket_down", bucket="others", code="SlowDown"), GET, False, id="another bucket"),
        pytest.param(Fault(kind="expire_credentials"), RUN, True, id="a signed call"),
        pytest.param(Fault(kind="expire_credentials"), GET, False, id="a presigned call"),
        pytest.param(Fault(kind="expire_credentials", presigned=True), GET, True, id="a presigned call, asked for"),
        pytest.param(Fault(kind="expire_credentials"), Call(signed=True, guest=True), False, id="a guest's own role"),
    ],
)
def test_what_a_fault_refuses(fault: Fault, call: Call, expected: bool) -> None:
    assert (decide([fault], call, lambda _: True).refused_by is not None) == expected


def test_the_first_refusal_wins_and_delays_add_up_and_nothing_is_lost_of_what_is_refused() -> None:
    slow = Fault(kind="delay", id="slow", action="*", seconds=2)
    lost = Fault(kind="lose_answer", id="lost", action="*", times=1)
    outcome = decide([lost, slow, error(id="one"), error(id="two"), slow], RUN, lambda _: True)
    assert (outcome.delay, outcome.hit, outcome.lost_by) == (4, ("slow", "slow", "one"), None)
    assert decide([lost, slow], RUN, lambda _: True).lost_by == lost


@pytest.mark.parametrize(
    ("counts", "least", "most", "given"),
    [
        pytest.param([], 1, 3, 3, id="no limit"),
        pytest.param([5], 1, 3, 3, id="room enough"),
        pytest.param([2], 1, 3, 2, id="some of it"),
        pytest.param([2], 3, 3, 0, id="all or nothing"),
        pytest.param([5, 1], 1, 3, 1, id="the narrower of two"),
    ],
)
def test_what_there_is_room_for(counts: list[int], least: int, most: int, given: int) -> None:
    pools = [Fault(kind="capacity", count=count) for count in counts]
    answer, changed = give(pools, RUN, least, most)
    assert answer == given
    assert all(fault.taken == given for fault in changed)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param([], "is a JSON object with a kind", id="no object"),
        pytest.param({"kind": "earthquake"}, "no fault is called 'earthquake'. Known: error, lose_answer", id="kind"),
        pytest.param({"kind": "error", "action": "X"}, "error needs code", id="missing"),
        pytest.param({"kind": "delay", "action": "X", "seconds": 1, "zone": "a"}, "delay has no zone", id="extra"),
        pytest.param({"kind": "throttle", "acton": "X"}, "no fault has acton", id="misspelt"),
        pytest.param({"kind": "delay", "action": "X", "seconds": "1"}, "wants int or float", id="type"),
        pytest.param({"kind": "guest", "guest": "sulk"}, "no guest does 'sulk'. Known: hang", id="guest"),
        pytest.param({"kind": "throttle", "action": "X", "times": 0}, "at least 1", id="never"),
        pytest.param({"kind": "throttle", "action": "X", "times": True}, "wants int", id="a truth is no number"),
        pytest.param({"kind": "error", "action": "X", "code": "Y", "probability": 2}, "at most 1", id="too probable"),
        pytest.param({"kind": "error", "action": "X", "code": "Y", "status": 200}, "400 to 599", id="no error"),
        pytest.param({"kind": "capacity", "count": -1}, "not below 0", id="negative"),
    ],
)
def test_what_cannot_be_asked_for(words: Any, why: str) -> None:
    with pytest.raises(FaultError) as caught:
        fault_rules.read(words)
    assert why in str(caught.value)


def test_a_fault_prints_as_what_it_fakes_and_travels_whole() -> None:
    fault = error(id="fault-1", zone="eu-west-1a", times=2, hits=1, code="RequestLimitExceeded")
    text = "fault-1: fake: RunInstances answers RequestLimitExceeded (zone=eu-west-1a, times=2); 1 hits"
    assert str(fault) == text
    assert fault_rules.read(fault.words()) == fault


def test_chance_is_the_same_in_every_run() -> None:
    def strikes() -> list[bool]:
        faults = Faults()
        faults.error("RunInstances", "InternalError", probability=0.5)
        return [faults.meet(RUN).refused_by is not None for _ in range(50)]

    assert strikes() == strikes()
    assert 10 < sum(strikes()) < 40


def test_lag_ends_by_itself() -> None:
    faults = Faults()
    fault = faults.lag(describe_seconds=2, tags_seconds=3)
    assert [(faults.unknown(age), faults.untagged(age)) for age in (1.0, 2.5, 3.5)] == [
        (True, True),
        (False, True),
        (False, False),
    ]
    assert faults.hits(fault) == 3


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("InsufficientInstanceCapacity", 500),
        ("RequestLimitExceeded", 503),
        ("UnauthorizedOperation", 403),
        ("ExpiredToken", 400),
        ("RequestExpired", 400),
        ("InternalError", 500),
        ("VcpuLimitExceeded", 400),
        ("WhatEver", 400),
    ],
)
def test_the_status_is_awss(code: str, status: int) -> None:
    assert fault_answers.refusal(error(code=code), RUN).status == status
    assert fault_answers.refusal(error(code=code, status=418, message="no"), RUN).status == 418


# --- what a request is --------------------------------------------------------------------------------------------

S3_SCOPE = "X-Amz-Credential=AKIA/20260101/eu-west-1/s3/aws4_request&X-Amz-Signature=1"


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ("GET /reports/a/b", "GetObject"),
        ("HEAD /reports/a", "HeadObject"),
        ("PUT /reports/a", "PutObject"),
        ("PUT /reports/a?partNumber=1&uploadId=x", "UploadPart"),
        ("PUT /reports/a?tagging", "PutObjectTagging"),
        ("DELETE /reports/a", "DeleteObject"),
        ("POST /reports/a?uploads", "CreateMultipartUpload"),
        ("GET /reports?list-type=2&prefix=a", "ListObjectsV2"),
        ("GET /reports/", "ListObjects"),
        ("GET /reports?location", "GetBucketLocation"),
        ("POST /reports?delete", "DeleteObjects"),
        ("PUT /reports", "CreateBucket"),
        ("GET /", "ListBuckets"),
    ],
)
def test_what_a_request_to_s3_asks_for(line: str, action: str) -> None:
    method, _, target = line.partition(" ")
    path, _, query = target.partition("?")
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "&".join(filter(None, (query, S3_SCOPE)))}
    call = calls.read(environ, lambda form, region: ("", "", ""))
    assert (call.action, call.region, call.bucket) == (action, "eu-west-1", path.split("/")[1])


@pytest.mark.parametrize(
    ("host", "more", "welcome"),
    [
        ("127.0.0.1:5055", {}, True),
        ("localhost", {}, True),
        ("[::1]:5055", {}, True),
        ("127.0.0.1:5055", {calls.GUEST: True}, False),
        ("evil.example:5055", {}, False),
        ("10.0.0.1", {}, False),
        ("", {}, False),
        ("127.0.0.1:5055", {"HTTP_ORIGIN": "http://evil.example"}, False),
    ],
)
def test_who_may_touch_the_faults(host: str, more: dict[str, Any], welcome: bool) -> None:
    assert (stranger({"HTTP_HOST": host, **more}) == "") == welcome
