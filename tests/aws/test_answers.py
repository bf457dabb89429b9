"""What EC2 may answer to RunInstances and TerminateInstances, clear and unclear, and that one token starts once."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

from airflow_transient import errors
from airflow_transient.aws.ec2 import Ec2Launcher
from airflow_transient.aws.launcher import Refused
from airflow_transient.core.ec2.bootscript import ReportForm
from airflow_transient.core.ec2.requests import call as run_instances_call
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.fallback import Scope
from airflow_transient.core.intent import Intent
from airflow_transient.core.launch import Launch
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import Member, Outcome

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
LAUNCH = Launch("ec2", "t0-1", "n0", (), "eu-west-1", T0, T0 + timedelta(minutes=10), T0 + timedelta(hours=1))
REQUEST = Request(
    LAUNCH, Pool("t3.small"), "t0-1-1", 1, {"ClientToken": "t0-1-1", "MaxCount": 1}, base64.b64encode(b"#!").decode()
)
INSTANCE = {"InstanceId": "i-1", "AmiLaunchIndex": 0, "State": {"Name": "running"}, "Tags": []}


def said(code: str, status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": "…"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "RunInstances")


CAME = {"Instances": [INSTANCE]}
TIMEOUT = ReadTimeoutError(endpoint_url="https://ec2")
UNREACHABLE = EndpointConnectionError(endpoint_url="https://ec2")
NO_ROOM = said("InsufficientInstanceCapacity", 500)


class Ec2:
    """A client whose answers are written down."""

    def __init__(self, answers: Sequence[Any], shown: Sequence[Any] = (), terminate: Sequence[Any] = ()) -> None:
        self.answers, self.shown, self.terminate = list(answers), list(shown), list(terminate)
        self.sent: list[dict[str, Any]] = []
        self.stopped: list[str] = []

    def run_instances(self, **arguments: Any) -> Any:
        self.sent.append(arguments)
        return self._next(self.answers)

    def terminate_instances(self, InstanceIds: list[str]) -> Any:
        answer = self._next(self.terminate) if self.terminate else {}
        self.stopped += InstanceIds
        return answer

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, Filters: Any) -> Any:
        found = self._next(self.shown) if self.shown else []
        return [{"Reservations": [{"Instances": found}]}]

    def create_tags(self, **_: Any) -> None:
        pass

    @staticmethod
    def _next(answers: list[Any]) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def launcher(ec2: Ec2) -> Ec2Launcher:
    return Ec2Launcher(lambda service, **_: ec2, sleep=lambda seconds: None)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([CAME], id="at once"),
        pytest.param([TIMEOUT, CAME], id="the answer was lost"),
        pytest.param([UNREACHABLE, UNREACHABLE, CAME], id="the network was down"),
        pytest.param([said("InternalError", 500), CAME], id="a 500 that says nothing"),
        pytest.param([said("Novelty", 503), CAME], id="an unknown 5xx"),
        pytest.param([said("RequestLimitExceeded", 503)] * 3 + [CAME], id="throttled three times"),
    ],
)
def test_what_is_no_answer_is_asked_again_with_the_same_bytes(answers: list[Any]) -> None:
    ec2 = Ec2(answers)
    assert launcher(ec2).launch(REQUEST).ids == ("i-1",)
    assert all(sent == run_instances_call(REQUEST) for sent in ec2.sent)


@pytest.mark.parametrize(
    ("answer", "scope"),
    [
        pytest.param(NO_ROOM, Scope.POOL, id="no room, which is a 500"),
        pytest.param(said("VcpuLimitExceeded"), Scope.MARKET, id="quota"),
        pytest.param(said("InsufficientFreeAddressesInSubnet"), Scope.SUBNET, id="no address"),
        pytest.param(said("InvalidSubnetID.NotFound"), Scope.SPEC, id="unknown subnet"),
        pytest.param(said("UnauthorizedOperation", 403), Scope.ACCESS, id="not allowed"),
        pytest.param(NoCredentialsError(), Scope.ACCESS, id="no credentials"),
    ],
)
def test_a_definite_no_to_the_first_asking_is_refused_at_once(answer: Exception, scope: Scope) -> None:
    ec2 = Ec2([answer])
    with pytest.raises(Refused) as refusal:
        launcher(ec2).launch(REQUEST)
    assert refusal.value.scope is scope
    assert len(ec2.sent) == 1


@pytest.mark.parametrize(
    "second",
    [said("RequestExpired"), said("UnauthorizedOperation", 403), NoCredentialsError(), said("InvalidParameterValue")],
    ids=["expired", "not allowed", "no credentials", "a 400"],
)
def test_after_an_unclear_answer_a_refused_call_proves_nothing(second: Exception) -> None:
    found = launcher(Ec2([TIMEOUT, second], shown=[[INSTANCE]])).launch(REQUEST)
    assert found.ids == ("i-1",)
    with pytest.raises(errors.LaunchError, match="no clear answer") as unclear:
        launcher(Ec2([TIMEOUT, second])).launch(REQUEST)
    assert not isinstance(unclear.value, Refused)


def test_the_same_holds_when_an_earlier_process_may_have_asked() -> None:
    with pytest.raises(errors.LaunchError) as unclear:
        launcher(Ec2([said("UnauthorizedOperation", 403)])).launch(REQUEST, again=True)
    assert not isinstance(unclear.value, Refused)


def test_no_room_after_an_unclear_answer_is_a_no_for_this_token() -> None:
    """EC2 looks at the token first: had the first asking started anything, it would have been the answer."""
    with pytest.raises(Refused):
        launcher(Ec2([TIMEOUT, NO_ROOM])).launch(REQUEST)


def test_nobody_answers_and_it_is_found_by_its_token() -> None:
    assert launcher(Ec2([ConnectTimeoutError(endpoint_url="x")] * 4, shown=[[], [INSTANCE]])).launch(REQUEST).ids == (
        "i-1",
    )


@pytest.mark.parametrize("code", ["IdempotentInstanceTerminated", "IdempotentParameterMismatch"])
def test_a_token_that_was_used_finds_what_it_started_and_launches_nothing(code: str) -> None:
    ec2 = Ec2([said(code)], shown=[[], [INSTANCE]])
    assert launcher(ec2).launch(REQUEST).ids == ("i-1",)
    assert len(ec2.sent) == 1
    with pytest.raises(errors.Lost, match="has run before"):
        launcher(Ec2([said(code)])).launch(REQUEST)


def test_members_are_in_the_order_of_their_index() -> None:
    second, first = {**INSTANCE, "InstanceId": "i-2", "AmiLaunchIndex": 1}, INSTANCE
    assert launcher(Ec2([{"Instances": [second, first]}])).launch(REQUEST).ids == ("i-1", "i-2")


class Bucket:
    """S3, where these members have left something."""

    def __init__(self, *members: str) -> None:
        self.meta, self.members = SimpleNamespace(region_name="eu-west-1"), members

    def head_bucket(self, **_: Any) -> Any:
        return {"BucketRegion": "eu-west-1"}

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, Prefix: str, **_: Any) -> Any:
        return [{"CommonPrefixes": [{"Prefix": f"{Prefix}{member}/"} for member in self.members]}]


def test_what_ec2_has_forgotten_is_known_by_what_it_left_and_each_once() -> None:
    clients = {"ec2": Ec2([]), "s3": Bucket("i-1", "i-2")}
    hands = Ec2Launcher(lambda service, **_: clients[service], sleep=lambda seconds: None)
    before = replace(LAUNCH, ids=("i-1",), receipts="s3://bucket/t0-1/")
    assert hands.adopt(replace(REQUEST, launch=before)).ids == ("i-1", "i-2")  # type: ignore[union-attr]


def test_what_earlier_attempts_left_is_no_answer_to_this_one() -> None:
    clients = {"ec2": Ec2([TIMEOUT] * 4), "s3": Bucket("i-0", "i-1")}
    hands = Ec2Launcher(lambda service, **_: clients[service], sleep=lambda seconds: None)
    lives = replace(LAUNCH, ids=("i-1",), receipts="s3://bucket/t0-1/")
    ended = Member("i-0", Outcome.SUCCEEDED)
    request = Intent("t0", 2, launch=lives, ended=(ended,)).asking(replace(REQUEST, launch=lives)).asked
    assert request is not None
    assert hands.adopt(request) is None
    with pytest.raises(errors.LaunchError, match="no clear answer"):
        hands.launch(request)


@pytest.mark.parametrize(
    ("life", "fields", "words"),
    [
        pytest.param(True, {}, None, id="long enough"),
        pytest.param(False, {}, "end before the deadline", id="too short"),
        pytest.param(None, {}, None, id="a key that does not end"),
        pytest.param(None, {"X-Amz-Security-Token": "x"}, "nobody can say how long", id="temporary, of unknown length"),
    ],
)
def test_a_form_that_may_end_before_the_job_is_warned_about(life: Any, fields: dict[str, str], words: Any) -> None:
    hands = Ec2Launcher(lambda service: None, lambda seconds: life)
    spec = Ec2Spec.of(command="true", image_id="ami-0123456789abcdef0", instance_type="t3.small")
    warned = hands._reporting_warnings(spec, ReportForm("https://s3", fields, "bucket", "p/"))
    assert len(warned) == (words is not None)
    assert all(words in line for line in warned)


def test_what_ec2_does_not_know_yet_is_stopped_a_moment_later() -> None:
    unknown = said("InvalidInstanceID.NotFound")
    ec2 = Ec2([], terminate=[unknown, unknown, {}])
    launcher(ec2).stop(LAUNCH.with_ids(("i-1",)))
    assert ec2.stopped == ["i-1"]


def test_a_stop_that_is_not_allowed_names_the_permission() -> None:
    with pytest.raises(errors.AccessError, match="ec2:TerminateInstances"):
        launcher(Ec2([], terminate=[said("UnauthorizedOperation", 403)])).stop(LAUNCH.with_ids(("i-1",)))


@pytest.mark.parametrize(
    "failure",
    [said("RequestLimitExceeded", 503), said("ExpiredToken"), UNREACHABLE, NoCredentialsError()],
    ids=["throttled", "expired", "unreachable", "no credentials"],
)
def test_a_look_that_fails_is_unknown(failure: Exception) -> None:
    (seen,) = launcher(Ec2([], shown=[failure])).observe(LAUNCH.with_ids(("i-1",)), T0)
    assert (seen.phase.value, seen.absent) == ("unknown", False)
