"""A builder waits, stopped, for its image: the reaper leaves it while its task waits, and no longer."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_transient.core.ec2 import requests as ec2
from airflow_transient.core.ec2.requests import Resolved
from airflow_transient.core.images.plan import Plan
from airflow_transient.core.images.requests import as_builder
from airflow_transient.core.images.spec import BakeSpec
from airflow_transient.core.launch import LaunchKey, Owner
from airflow_transient.core.reaping import Act, Answer, Case, Found, decide
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
KEY = LaunchKey(Owner("prod", "dag", "run", "task"), "t1")
SPEC = BakeSpec.of(name="worker", script="#!/bin/sh\n", image_id="ami-0123456789abcdef0", instance_type="t3.small")


def request() -> Request:
    draft = ec2.draft(SPEC, KEY, "eu-west-1", NOW, "nonce")
    arguments = ec2.run_instances(SPEC, KEY, Resolved("ami-0123456789abcdef0"), Pool("t3.small"), draft)
    asked = Request(draft, Pool("t3.small"), KEY.token, 1, arguments)
    return as_builder(asked, Plan("worker-abc", "worker", "abc", "ami-0123456789abcdef0"))


def tags() -> dict[str, str]:
    """Those that the launch call itself sends."""
    (instance,) = [each for each in request().arguments["TagSpecifications"] if each["ResourceType"] == "instance"]
    return {tag["Key"]: tag["Value"] for tag in instance["Tags"]}


@pytest.mark.parametrize(
    ("state", "task", "minutes", "act"),
    [
        pytest.param("running", "deferred", 30, Act.LEAVE, id="it runs its script"),
        pytest.param("stopped", "deferred", 30, Act.LEAVE, id="its image is made"),
        pytest.param("stopping", "running", 30, Act.LEAVE, id="on its way"),
        pytest.param("stopped", "failed", 30, Act.MARK, id="nobody waits any more"),
        pytest.param("stopped", "deferred", 60 * 24, Act.TERMINATE, id="past its deadline"),
    ],
)
def test_a_stopped_builder_is_left_while_its_task_waits(state: str, task: str, minutes: int, act: Act) -> None:
    found = Found("i-1", state, NOW, tags())
    assert decide(Case(found, NOW + timedelta(minutes=minutes), "prod", Answer.of_state(task))).act is act


def test_it_stops_and_everything_else_is_as_for_every_launch() -> None:
    asked = request().arguments
    assert asked["InstanceInitiatedShutdownBehavior"] == "stop"
    assert asked["DisableApiTermination"] is False
    assert {each["ResourceType"] for each in asked["TagSpecifications"]} == {"instance", "volume"}
