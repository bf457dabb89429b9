"""Looks read answers in brief: the same sightings as from boto3's own reading, and what is odd is left to that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from airflow_transient.aws import brief
from airflow_transient.aws.ec2_looks import Looks
from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.core.ecs.judging import PHASES
from airflow_transient.core.ecs.terms import Terms
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Phase
from benchmarks.fake import ec2 as fake_ec2
from benchmarks.fake import ecs as fake_ecs
from benchmarks.fake.world import Resource, instance_id, task_id

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
BEGUN = T0.timestamp()
SESSION = boto3.Session("AKIAIOSFODNN7EXAMPLE", "secret", region_name="eu-west-1")
TASK, MACHINE = task_id(7), instance_id(7)
TERMS = Terms("default", ("main",), 2100, 3600, need=1, wanted=1)
BOOT_BY, DEADLINE = T0 + timedelta(minutes=35), T0 + timedelta(hours=1)
ECS = Launch("ecs", "t0-1", "n0", (TASK,), "eu-west-1", T0, BOOT_BY, DEADLINE, ecs=TERMS)
EC2 = replace(ECS, kind="ec2", ids=(MACHINE,), ecs=None)


class Raw:
    """A body as it came over the network."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body


def client(service: str, body: bytes, status: int = 200, in_brief: bool = True) -> Any:
    """One of boto3 that is always answered so."""
    made = SESSION.client(service)
    made.meta.events.register("before-send", lambda request, **_: AWSResponse(request.url, status, {}, Raw(body)))
    return brief.can_be_brief(made) if in_brief else made


def both(look: Callable[[Any], Any], service: str, body: bytes, status: int = 200) -> tuple[Any, Any]:
    """What is seen in brief, and by boto3's own reading."""
    return look(client(service, body, status)), look(client(service, body, status, in_brief=False))


def see_task(ecs: Any) -> Any:
    return EcsLauncher(lambda *_, **__: ecs).observe(ECS, T0)


def see_machine(ec2: Any) -> Any:
    return Looks(lambda *_, **__: ec2).observe(EC2, T0)


def task(**more: Any) -> dict[str, Any]:
    return fake_ecs.task(Resource(TASK, "ecs", BEGUN + 0.123)) | more


def told(*tasks: Any, **more: Any) -> bytes:
    return json.dumps({"tasks": tasks, "failures": [], **more}).encode()


ENDED = {"stoppedAt": BEGUN + 60, "stoppedReason": "airflow_transient: deadline", "stopCode": "UserInitiated"}
TASKS: dict[str, bytes] = {
    **{f"a task that is {state}": told(task(lastStatus=state)) for state in (*PHASES, "NOVEL")},
    "a task that has ended": told(task(lastStatus="STOPPED", desiredStatus="STOPPED", **ENDED)),
    "containers with and without an exit code": told(
        task(containers=[{"name": "main", "exitCode": 137, "reason": "OutOfMemoryError"}, {"name": "beside"}])
    ),
    "only what must be there": told({"taskArn": task()["taskArn"]}),
    "a capacity provider": told(task(capacityProviderName="FARGATE_SPOT")),
    "words beyond ASCII": told(task(stoppedReason="größer \u2028 \U0001f4a5")),
    "whole seconds": told(task(createdAt=int(BEGUN))),
    "not known any more": told(failures=[{"arn": task()["taskArn"], "reason": "MISSING"}]),
    "another failure": told(failures=[{"arn": TASK, "reason": "RESOURCE:AGENT"}]),
}
#: What boto3 has to read itself, or to refuse.
ODD_TASKS: dict[str, tuple[bytes, int]] = {
    "null": (told(task(containers=None, startedAt=None)), 200),
    "moments in words": (told(task(createdAt="2026-11-21T12:00:00Z")), 200),
    "no tasks": (b"{}", 200),
    "no JSON": (b"<html>a proxy's page</html>", 200),
    "not UTF-8": (b"\xff\xfe", 200),
    "nothing": (b"", 200),
    "a list": (b"[]", 200),
    "refused": (json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"}).encode(), 400),
    "an error of the server": (told(task()), 500),
}


@pytest.mark.parametrize("body", TASKS.values(), ids=TASKS)
def test_a_task_is_seen_in_brief_as_by_boto3(body: bytes) -> None:
    in_brief, in_full = both(see_task, "ecs", body)
    assert in_brief == in_full


@pytest.mark.parametrize(("body", "status"), ODD_TASKS.values(), ids=ODD_TASKS)
def test_an_odd_answer_of_ecs_is_left_to_boto3(body: bytes, status: int) -> None:
    said: dict[str, Any] = {"body": body, "status_code": status}
    kept: dict[str, Any] = {}
    with brief.answers():
        brief._tasks(said, kept)
    assert (said["body"], kept) == (body, {})


def machine(over: bool = False) -> str:
    return fake_ec2.reservation(Resource(MACHINE, "ec2", BEGUN, ends=0.0 if over else None))


def shown(inside: str) -> bytes:
    return fake_ec2.told("DescribeInstances", f"<reservationSet>{inside}</reservationSet>").body


TAG = "<item><key>transient:stopped-by</key><value>&lt;placement&gt; request &lt;/placement&gt;</value></item></tagSet>"
MACHINES: dict[str, tuple[bytes, int]] = {
    "running": (shown(machine()), 200),
    "terminated": (shown(machine(over=True)), 200),
    "pending": (shown(machine().replace(">running<", ">pending<")), 200),
    "spaced out": (shown(machine().replace("><", ">\n  <")), 200),
    "our own words in a tag": (shown(machine().replace("</tagSet>", TAG)), 200),
    "others' words in a tag": (shown(machine().replace("</tagSet>", f"<!-- <placement> -->{TAG}")), 200),
    "not known": (shown(""), 200),
    "refused": (fake_ec2.refused("UnauthorizedOperation", "You are not authorized.", 403).body, 403),
    "no XML": (b"a proxy's page", 200),
    "cut off": (shown(machine())[:2000], 200),
}


@pytest.mark.parametrize(("body", "status"), MACHINES.values(), ids=MACHINES)
def test_a_machine_is_seen_in_brief_as_by_boto3(body: bytes, status: int) -> None:
    in_brief, in_full = both(see_machine, "ec2", body, status)
    assert [(s.note or "").split(":")[0] for s in in_brief] == [(s.note or "").split(":")[0] for s in in_full]
    assert [replace(s, note=None) for s in in_brief] == [replace(s, note=None) for s in in_full]


def test_a_public_address_is_not_left_out() -> None:
    """EC2 tells it twice: of the machine, which is read, and of its interface, which is not."""
    inner = "<association><publicIp>54.1.2.3</publicIp></association>"
    faces = f"<networkInterfaceSet><item>{inner}</item></networkInterfaceSet><ipAddress>54.1.2.3</ipAddress><tagSet>"
    for seen in both(see_machine, "ec2", shown(machine().replace("<tagSet>", faces, 1))):
        assert [s.public_ip for s in seen] == ["54.1.2.3"]


@pytest.mark.parametrize("looking", [True, False])
def test_only_looks_are_answered_in_brief(looking: bool) -> None:
    """Whoever else asks with the same client is told everything."""
    with brief.answers() if looking else nullcontext():
        said = client("ec2", shown(machine())).describe_instances()["Reservations"][0]["Instances"][0]
        asked = client("ecs", told(task())).describe_tasks(tasks=[TASK])
    assert ("NetworkInterfaces" in said) is not looking
    assert isinstance(asked["tasks"][0]["connectivityAt"], datetime) is not looking
    assert asked["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_moment_is_told_in_utc_wherever_this_runs() -> None:
    """boto3's own are local ones."""
    (seen,) = see_task(client("ecs", told(task())))
    assert seen.phase is Phase.RUNNING
    assert seen.started.utcoffset() == timedelta(0)
