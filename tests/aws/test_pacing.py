"""How fast machines are asked for: by two buckets, again where AWS has enough of it, and always with one token."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from airflow_transient.aws import ec2, pacing
from airflow_transient.aws.ec2 import Ec2Launcher
from airflow_transient.aws.launcher import Refused
from airflow_transient.aws.pacing import Bucket, Limit
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import Launch
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
LAUNCH = Launch("ec2", "t0-1", "n0", (), "eu-west-1", T0, T0 + timedelta(minutes=10), T0 + timedelta(hours=1))
SCRIPT = base64.b64encode(b"#!").decode()
REQUEST = Request(LAUNCH, Pool("t3.small"), "t0-1-1", 300, {"ClientToken": "t0-1-1", "MaxCount": 300}, SCRIPT)
THROTTLED = ClientError({"Error": {"Code": "RequestLimitExceeded", "Message": "…"}}, "RunInstances")
LOST = ReadTimeoutError(endpoint_url="https://ec2")


class Ec2:
    """A client whose answers are written down; then all come. `most`: so many there is room for."""

    def __init__(self, answers: Sequence[Exception] = (), most: int = 1000) -> None:
        self.answers, self.most = list(answers), most
        self.asked: list[dict[str, Any]] = []
        self.configured: list[dict[str, Any]] = []
        self.meta = SimpleNamespace(region_name="eu-west-1", endpoint_url=f"https://ec2-{id(self)}")
        pacing.bucket(self, "launches in EC2")._sleep = lambda seconds: None

    def __call__(self, service: str, **config: Any) -> Ec2:
        self.configured.append(config)
        return self

    def run_instances(self, **arguments: Any) -> Any:
        self.asked.append(arguments)
        if self.answers:
            raise self.answers.pop(0)
        return {"Instances": [{"InstanceId": f"i-{n}"} for n in range(min(arguments["MaxCount"], self.most))]}

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, **_: Any) -> Any:
        return [{"Reservations": [{"Instances": [{"InstanceId": "i-found"}]}]}]


def test_three_hundred_machines_are_one_call() -> None:
    cloud = Ec2()
    full = {name: pacing.bucket(cloud, name) for name in pacing.LIMITS}
    for each in full.values():
        each._clock, each._seen = (lambda: 0.0), 0.0
    assert len(Ec2Launcher(cloud).launch(REQUEST).ids) == 300
    used = {name: round(each.limit.burst - each._tokens) for name, each in full.items()}
    assert {name: count for name, count in used.items() if count} == {"launches in EC2": 1, "instances launched": 300}


def test_where_there_is_room_for_some_they_are_what_came() -> None:
    launch = Ec2Launcher(Ec2(most=2)).launch(REQUEST)
    assert launch.ids == ("i-0", "i-1")


def test_a_throttled_launch_is_asked_again_with_the_same_bytes_after_pauses_of_random_length() -> None:
    cloud, slept = Ec2([THROTTLED] * 9), list[float]()
    assert len(Ec2Launcher(cloud, sleep=slept.append).launch(REQUEST).ids) == 300
    assert all(sent == cloud.asked[0] for sent in cloud.asked)
    factors = [pause / meant for pause, meant in zip(slept, ec2.TOO_MANY, strict=False)]
    assert all(0.5 <= factor <= 1.5 for factor in factors)
    assert len({round(factor, 3) for factor in factors}) > 3


def test_throttled_without_end_surely_nothing_has_started_and_the_same_place_is_asked_later() -> None:
    cloud = Ec2([THROTTLED] * 99)
    with pytest.raises(Refused) as refusal:
        Ec2Launcher(cloud, sleep=lambda seconds: None).launch(REQUEST)
    assert refusal.value.scope is Scope.AGAIN
    assert len(cloud.asked) == len(ec2.TOO_MANY) + 1


@pytest.mark.parametrize("again", [False, True], ids=["a lost answer", "an earlier process"])
def test_throttled_without_end_after_an_asking_that_may_have_come_it_is_looked_for(again: bool) -> None:
    cloud = Ec2([*([] if again else [LOST]), *[THROTTLED] * 99])
    assert Ec2Launcher(cloud, sleep=lambda seconds: None).launch(REQUEST, again).ids == ("i-found",)


def test_botocore_does_not_ask_again_by_itself() -> None:
    Ec2Launcher(cloud := Ec2()).launch(REQUEST)
    assert cloud.configured == [{"retries": {"mode": "standard", "total_max_attempts": 1}}]


def test_after_a_throttled_launch_the_bucket_is_taken_for_empty() -> None:
    cloud, slept = Ec2([THROTTLED]), list[float]()
    calls = pacing.bucket(cloud, "launches in EC2")
    calls._clock, calls._seen, calls._sleep = (lambda: 0.0), 0.0, slept.append
    Ec2Launcher(cloud, sleep=lambda seconds: None).launch(REQUEST)
    assert slept == pytest.approx([1 / 2])


def test_what_a_throttled_launch_asked_for_was_not_taken() -> None:
    cloud = Ec2([THROTTLED] * 5)
    machines = pacing.bucket(cloud, "instances launched")
    machines._clock, machines._seen = (lambda: 0.0), 0.0
    Ec2Launcher(cloud, sleep=lambda seconds: None).launch(REQUEST)
    assert machines.limit.burst - machines._tokens == 300


def test_a_kill_may_interrupt_who_takes_from_a_bucket() -> None:
    """A signal handler runs in the very thread that it interrupted."""
    bucket = Bucket(Limit(5, 10), lambda: 0.0, lambda seconds: None)
    with bucket._lock:
        bucket.take()
    assert bucket._tokens == 4


@pytest.mark.parametrize(
    ("limit", "less"),
    [(Limit(100, 20), Limit(90, 20)), (Limit(5, 2), Limit(4, 2)), (Limit(1, 1), Limit(1, 1))],
    ids=["Fargate tasks", "launches in EC2", "one by one"],
)
def test_a_little_of_a_burst_is_kept_back(limit: Limit, less: Limit) -> None:
    assert limit.with_slack() == less


def test_five_hundred_tasks_take_the_floor_and_a_tenth_at_most_with_what_is_kept_back() -> None:
    limit = pacing.LIMITS["Fargate tasks"]
    assert limit.floor_seconds(500) <= limit.with_slack().floor_seconds(500) <= limit.floor_seconds(500) * 1.1


def test_every_call_that_starts_or_ends_something_has_a_documented_bucket() -> None:
    documented = {
        "launches in EC2": Limit(5, 2),
        "instances launched": Limit(1000, 2),
        "terminations in EC2": Limit(100, 5),
        "instances terminated": Limit(1000, 20),
        "tags in EC2": Limit(100, 10),
        "changes of a cluster": Limit(100, 40),
        "Fargate RunTask calls": Limit(20, 20),
        "Fargate tasks": Limit(100, 20),
    }
    assert {name: pacing.LIMITS[name] for name in documented} == documented
