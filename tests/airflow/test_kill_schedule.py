"""The schedules that end a launch when nobody else does, on the local cloud."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient import errors
from airflow_transient.aws.kill_schedule import arm, schedules
from airflow_transient.core.ecs.terms import Terms
from airflow_transient.core.launch import Launch

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
ROLE = "arn:aws:iam::123456789012:role/killer"
LAUNCH = Launch(
    "ec2", "t0-1", "n0", ("i-1", "i-2"), "eu-west-1", T0, T0 + timedelta(minutes=10), T0 + timedelta(hours=1)
)
TASKS = ("0123456789abcdef0123456789abcde1", "0123456789abcdef0123456789abcde2")
BURST = replace(LAUNCH, kind="ecs", ids=TASKS, ecs=Terms("etl", ("main",), 60, 3600, need=2, wanted=2))


def test_it_terminates_every_member_at_the_deadline_and_deletes_itself() -> None:
    (asked,) = schedules(LAUNCH, ROLE)
    assert asked["ScheduleExpression"] == "at(2026-11-21T13:00:00)"
    assert asked["ActionAfterCompletion"] == "DELETE"
    assert json.loads(asked["Target"]["Input"]) == {"InstanceIds": ["i-1", "i-2"]}
    assert asked["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:ec2:terminateInstances"


def test_a_machine_that_may_be_held_has_that_long() -> None:
    (asked,) = schedules(replace(LAUNCH, hold_seconds=1800), ROLE)
    assert asked["ScheduleExpression"] == "at(2026-11-21T13:30:00)"


def test_each_task_is_stopped_at_the_deadline_with_the_reason_that_its_verdict_reads() -> None:
    asked = list(schedules(BURST, ROLE.replace("arn:aws:", "arn:aws-cn:")))
    assert [json.loads(each["Target"]["Input"]) for each in asked] == [
        {"Cluster": "etl", "Task": task, "Reason": "airflow_transient: deadline"} for task in TASKS
    ]
    assert {each["ScheduleExpression"] for each in asked} == {"at(2026-11-21T13:00:00)"}
    assert {each["ActionAfterCompletion"] for each in asked} == {"DELETE"}
    assert {each["Target"]["Arn"] for each in asked} == {"arn:aws-cn:scheduler:::aws-sdk:ecs:stopTask"}


@pytest.mark.parametrize("token", ["t0-1", "t" * 40 + "-1"], ids=["short", "long"])
def test_names_differ_by_task_and_fit(token: str) -> None:
    names = [each["Name"] for each in schedules(replace(BURST, token=token), ROLE)]
    assert len(set(names)) == len(TASKS)
    assert all(re.fullmatch(r"[0-9A-Za-z._-]{1,64}", name) for name in names)


def test_what_has_ended_already_needs_none() -> None:
    for launch in (LAUNCH, BURST):
        arm(lambda service: pytest.fail("nothing to ask for"), replace(launch, ids=()), ROLE)


@pytest.mark.slow
@pytest.mark.sandbox
def test_asking_twice_makes_one(cloud: Any) -> None:
    for _ in range(2):
        arm(cloud.client, LAUNCH, ROLE)
    made = cloud.client("scheduler").list_schedules()["Schedules"]
    assert [s["Name"] for s in made] == ["t0-1-i-2"]


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_burst_is_armed_task_by_task_and_in_parts(cloud: Any) -> None:
    burst = replace(BURST, token="t1-1", ids=tuple(f"{number:032x}" for number in range(30)))
    for launch in (replace(burst, ids=burst.ids[:10]), burst):
        arm(cloud.client, launch, ROLE)
    pages = cloud.client("scheduler").get_paginator("list_schedules").paginate(NamePrefix="t1-1-")
    made = [schedule["Name"] for page in pages for schedule in page["Schedules"]]
    assert sorted(made) == [f"t1-1-{number:032x}" for number in range(30)]


def test_what_is_refused_is_said_plainly() -> None:
    from botocore.exceptions import ClientError

    class Refusing:
        def create_schedule(self, **_: Any) -> None:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "CreateSchedule")

    with pytest.raises(errors.AccessError, match="scheduler:CreateSchedule"):
        arm(lambda service: Refusing(), LAUNCH, ROLE)


def test_one_refusal_does_not_keep_the_others_from_being_armed() -> None:
    from botocore.exceptions import ClientError

    made: list[str] = []

    class Choosy:
        def create_schedule(self, **words: Any) -> None:
            if words["Name"].endswith("1"):
                raise ClientError({"Error": {"Code": "ServiceQuotaExceededException", "Message": "full"}}, "")
            made.append(words["Name"])

    with pytest.raises(errors.LaunchError, match=r"ServiceQuotaExceededException: full \(1 of 2 schedules\)"):
        arm(lambda service: Choosy(), BURST, ROLE)
    assert made == [f"t0-1-{TASKS[1]}"]
