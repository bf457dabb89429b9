"""The schedule that terminates a launch when nobody else does, on the local cloud."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient import errors
from airflow_transient.aws.kill_schedule import arguments, arm
from airflow_transient.core.launch import Launch

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
ROLE = "arn:aws:iam::123456789012:role/killer"
LAUNCH = Launch(
    "ec2", "t0-1", "n0", ("i-1", "i-2"), "eu-west-1", T0, T0 + timedelta(minutes=10), T0 + timedelta(hours=1)
)


def test_it_terminates_every_member_at_the_deadline_and_deletes_itself() -> None:
    asked = arguments(LAUNCH, ROLE)
    assert asked["ScheduleExpression"] == "at(2026-11-21T13:00:00)"
    assert asked["ActionAfterCompletion"] == "DELETE"
    assert json.loads(asked["Target"]["Input"]) == {"InstanceIds": ["i-1", "i-2"]}
    assert asked["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:ec2:terminateInstances"


@pytest.mark.slow
@pytest.mark.sandbox
def test_asking_twice_makes_one(cloud: Any) -> None:
    for _ in range(2):
        arm(cloud.client, LAUNCH, ROLE)
    made = cloud.client("scheduler").list_schedules()["Schedules"]
    assert [s["Name"] for s in made] == ["t0-1-i-2"]


def test_what_is_refused_is_said_plainly() -> None:
    from botocore.exceptions import ClientError

    class Refusing:
        def create_schedule(self, **_: Any) -> None:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "CreateSchedule")

    with pytest.raises(errors.AccessError, match="scheduler:CreateSchedule"):
        arm(lambda service: Refusing(), LAUNCH, ROLE)
