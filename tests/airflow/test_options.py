"""Every documented option has its effect: a table of them for each operator, sensor and trigger, none left out."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy
from airflow.sdk.exceptions import TaskDeferred

from airflow_transient import cli
from airflow_transient.core.condition import Question
from airflow_transient.core.ec2.bootscript import Boot, boot_script
from airflow_transient.core.launch import LaunchKey, Owner
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.operators.ec2 import TransientEc2Operator
from airflow_transient.operators.ecs import EcsBurstOperator
from airflow_transient.operators.journal import Journal
from airflow_transient.operators.launch import LaunchOperator
from airflow_transient.retry import transient_retry_policy
from airflow_transient.sensors import sqs as sensors
from airflow_transient.sensors.sqs import SqsDepthSensor
from airflow_transient.testing import FakeEcsLauncher, FakeLauncher
from airflow_transient.triggers import depth, sqs
from airflow_transient.triggers.depth import SqsDepthTrigger
from airflow_transient.triggers.sqs import SqsDepthEventTrigger
from tests.airflow.stubs import Queue, context

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
KEY = LaunchKey(Owner("tests", "dag", "manual__2026", "task"), "t0")
IMAGE = "ami-0123456789abcdef0"
MACHINE = {"task_id": "task", "command": "true", "image_id": IMAGE, "instance_type": "t3.small"}
BURST = {"task_id": "task", "task_definition": "work"}
ONE = {"queues": "jobs", "at_least": 1}
ROLE = "arn:aws:iam::123456789012:role/killer"
#: In __init__, and no option of ours: the rest of BaseOperator's.
REST = {"self", "kwargs", "later", "version"}


def options_of(kind: type) -> set[str]:
    return set(inspect.signature(kind.__init__).parameters) - REST  # type: ignore[misc]  # of the class itself


# --- machines

#: option -> the words beside MACHINE, where they show in the spec, and as what.
OF_MACHINES: dict[str, tuple[dict[str, Any], str, Any]] = {
    "command": ({"command": ["run", "a b"]}, "command", ("run", "a b")),
    "script": ({"command": None, "script": "#!/bin/sh\nrun\n"}, "script", "#!/bin/sh\nrun\n"),
    "image_id": ({"image_id": "ami-00000001"}, "image.id", "ami-00000001"),
    "image_ssm_parameter": ({"image_id": None, "image_ssm_parameter": "/al"}, "image.ssm_parameter", "/al"),
    "image_name": ({"image_id": None, "image_name": "al-*", "image_owners": "self"}, "image.name", "al-*"),
    "image_owners": ({"image_id": None, "image_name": "al-*", "image_owners": "a, b"}, "image.owners", ("a", "b")),
    "instance_type": ({"instance_type": ["t3.a", "t3.b"]}, "instance_types", ("t3.a", "t3.b")),
    "subnet_ids": ({"subnet_ids": "s-1,s-2"}, "subnet_ids", ("s-1", "s-2")),
    "security_group_ids": ({"security_group_ids": "sg-1"}, "security_group_ids", ("sg-1",)),
    "instance_profile": ({"instance_profile": "worker"}, "instance_profile", "worker"),
    "key_name": ({"key_name": "ann"}, "key_name", "ann"),
    "volume_size": ({"volume_size": "30"}, "volume_size", 30),
    "launch_template": ({"launch_template": {"name": "base", "version": 3}}, "launch_template.version", "3"),
    "associate_public_ip": ({"associate_public_ip": "false"}, "associate_public_ip", False),
    "count": ({"count": "3"}, "count", 3),
    "market": ({"market": "spot"}, "market", "spot"),
    "hold_on_failure": ({"hold_on_failure": 60}, "hold_on_failure", timedelta(minutes=1)),
    "kill_schedule_role": ({"kill_schedule_role": ROLE}, "kill_schedule_role", ROLE),
    "environment": ({"environment": {"DAY": 1}}, "environment", {"DAY": "1"}),
    "secrets": ({"secrets": {"KEY": "/prod/key"}, "instance_profile": "p"}, "secrets", {"KEY": "/prod/key"}),
    "max_runtime": ({"max_runtime": "60"}, "max_runtime", timedelta(minutes=1)),
    "boot_timeout": ({"boot_timeout": 90}, "boot_timeout", timedelta(seconds=90)),
    "results": ({"results": "s3://bucket/a"}, "results.prefix", "a/"),
    "tags": ({"tags": {"team": "data"}}, "tags", {"team": "data"}),
}


@pytest.mark.parametrize("name", sorted(options_of(TransientEc2Operator)))
def test_an_option_of_machines_is_in_their_spec(name: str) -> None:
    words, where, value = OF_MACHINES[name]
    assert attrgetter(where)(TransientEc2Operator(**{**MACHINE, **words}).make_spec()) == value


#: option -> the words, what of the request or of its launch shows them, and as what.
IN_THE_CALL: dict[str, tuple[dict[str, Any], str, Any]] = {
    "key_name": ({"key_name": "ann"}, "arguments.KeyName", "ann"),
    "security_group_ids": ({"security_group_ids": "sg-1"}, "arguments.SecurityGroupIds", ["sg-1"]),
    "subnet_ids": ({"subnet_ids": "s-1,s-2"}, "arguments.SubnetId", "s-1"),
    "instance_type": ({"instance_type": "t3.a,t3.b"}, "arguments.InstanceType", "t3.a"),
    "boot_timeout": ({"boot_timeout": 90}, "launch.boot_by", T0 + timedelta(seconds=90)),
    "max_runtime": ({"max_runtime": 60, "boot_timeout": 60}, "launch.deadline", T0 + timedelta(minutes=4)),
    "results": ({"results": "s3://bucket/a"}, "launch.receipts", "s3://bucket/a/t0-1/"),
    "hold_on_failure": ({"hold_on_failure": 60}, "launch.hold_seconds", 60),
}


@pytest.mark.parametrize("name", IN_THE_CALL)
def test_an_option_of_machines_is_in_their_request(name: str) -> None:
    words, where, value = IN_THE_CALL[name]
    spec = TransientEc2Operator(**{**MACHINE, **words}).make_spec()
    request = FakeLauncher().prepare(spec, KEY, spec.pools()[0], T0)
    part, _, key = where.partition(".")
    found = getattr(request, part)
    assert (found[key] if part == "arguments" else getattr(found, key)) == value


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"environment": {"DAY": "a b"}}, "export DAY="),
        ({"secrets": {"KEY": "/prod/key"}, "instance_profile": "p"}, 'SECRETS=\'{"KEY": "/prod/key"}\''),
        ({"command": "run it"}, "run it"),
        ({"max_runtime": 77}, "MAX_RUNTIME=77"),
        ({"hold_on_failure": 78}, "HOLD=78"),
        ({"count": 3}, "COUNT=3"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_option_of_the_job_is_in_its_boot_script(words: dict[str, Any], line: str) -> None:
    spec = TransientEc2Operator(**{**MACHINE, **words}).make_spec()
    assert line in boot_script(spec, Boot("t0-1", "n0", "eu-west-1"))


# --- bursts

SUBNETS = {"subnets": ["s-1"]}
#: The same of bursts, beside BURST. Whether it waits is no part of what is asked for, but of how it is watched over.
OF_BURSTS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "task_definition": ({"task_definition": "other:3"}, "task_definition", "other:3"),
    "cluster": ({"cluster": "etl"}, "cluster", "etl"),
    "queues": ({"queues": "a, b"}, "queues", ("a", "b")),
    "task_count": ({"task_count": "2"}, "rule.task_count", 2),
    "messages_per_task": ({"messages_per_task": "7"}, "rule.messages_per_task", 7),
    "max_count": ({"max_count": 9}, "rule.max_count", 9),
    "hard_cap": ({"hard_cap": 60}, "rule.hard_cap", 60),
    "activation": ({"activation": 3}, "rule.activation", 3),
    "count_in_flight": ({"count_in_flight": "true"}, "rule.count_in_flight", True),
    "count_delayed": ({"count_delayed": True}, "rule.count_delayed", True),
    "top_up": ({"top_up": True}, "rule.top_up", True),
    "strategy": ({"strategy": "keda-eager"}, "rule.strategy", "keda-eager"),
    "claim_seconds": ({"claim_seconds": "5"}, "rule.claim_seconds", 5),
    "overrides": ({"overrides": {"cpu": "512"}}, "overrides", {"cpu": "512"}),
    "launch_type": ({"launch_type": "EC2"}, "capacity", {"EC2": {"launchType": "EC2"}}),
    "capacity_provider_strategies": (
        {"capacity_provider_strategies": "FARGATE_SPOT"},
        "capacity",
        {"FARGATE_SPOT": {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT"}]}},
    ),
    "network_configuration": ({"network_configuration": SUBNETS}, "network", {"awsvpcConfiguration": SUBNETS}),
    "platform_version": ({"platform_version": "1.3.0"}, "platform_version", "1.3.0"),
    "group": ({"group": "night"}, "group", "night"),
    "tags": ({"tags": {"team": "data"}}, "tags", {"team": "data"}),
    "propagate_tags": ({"propagate_tags": True}, "propagate_tags", True),
    "enable_execute_command": ({"enable_execute_command": "True"}, "enable_execute_command", True),
    "deciding_containers": ({"deciding_containers": "main"}, "deciding", ("main",)),
    "min_success": ({"min_success": "90%"}, "min_success", 0.9),
    "stop_on_failure": ({"stop_on_failure": True}, "stop_on_failure", True),
    "max_runtime": ({"max_runtime": 60}, "max_runtime", timedelta(minutes=1)),
    "start_timeout": ({"start_timeout": "60"}, "start_timeout", timedelta(minutes=1)),
    "kill_schedule_role": ({"kill_schedule_role": ROLE}, "kill_schedule_role", ROLE),
    "wait_for_completion": ({"wait_for_completion": False}, "unattended", True),
}


@pytest.mark.parametrize("name", sorted(options_of(EcsBurstOperator)))
def test_an_option_of_bursts_is_in_their_spec(name: str) -> None:
    words, where, value = OF_BURSTS[name]
    assert attrgetter(where)(EcsBurstOperator(**BURST).make_spec()) != value
    assert attrgetter(where)(EcsBurstOperator(**{**BURST, **words}).make_spec()) == value


# --- what all launches share

SHARED = {
    "aws_conn_id": "other",
    "region_name": "us-east-1",
    "deferrable": True,
    "poll_interval": 7.0,
    "on_kill": "leave",
}
#: Told in test_journey.py and test_burst.py.
ELSEWHERE = {"retry_on_exit_codes", "fail_on_exit_codes", "skip_on_exit_codes", "retries", "retry_policy"}


@pytest.mark.parametrize(
    ("operator", "words", "fake"),
    [(TransientEc2Operator, MACHINE, FakeLauncher()), (EcsBurstOperator, BURST, FakeEcsLauncher())],
    ids=["machines", "a burst"],
)
def test_a_shared_option_reaches_the_connection_or_the_trigger(
    operator: Any, words: dict[str, Any], fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert options_of(LaunchOperator) == {*SHARED, *ELSEWHERE}
    asked: list[Any] = []
    monkeypatch.setattr(TransientHook, "launcher", lambda hook, kind: asked.append(hook) or fake)
    with pytest.raises(TaskDeferred) as deferred:
        operator(**{**words, **SHARED}).execute(context())
    assert (asked[0].aws_conn_id, asked[0].region_name) == ("other", "us-east-1")
    told = deferred.value.trigger.serialize()[1]
    assert {name: told[name] for name in ("aws_conn_id", "poll_interval", "on_kill")} == {
        name: SHARED[name] for name in ("aws_conn_id", "poll_interval", "on_kill")
    }


@pytest.mark.parametrize(
    ("made", "words"),
    [(TransientEc2Operator, MACHINE), (EcsBurstOperator, BURST), (SqsDepthSensor, {**ONE, "task_id": "task"})],
    ids=["machines", "a burst", "a sensor"],
)
def test_errors_that_another_try_does_not_cure_are_not_tried_again_unless_one_says_so(
    made: Any, words: dict[str, Any]
) -> None:
    own = ExceptionRetryPolicy(rules=[])
    assert made(**words).retry_policy is transient_retry_policy
    assert made(**words, retry_policy=own).retry_policy is own


# --- queues

#: option -> the words, and where they show in the question that the sensor and the watcher ask.
OF_QUESTIONS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "queues": ({"queues": "a,b"}, "queues", ("a", "b")),
    "at_least": ({"at_least": 7}, "condition.at_least", 7),
    "at_most": ({"at_least": None, "at_most": 7}, "condition.at_most", 7),
    "drained": ({"at_least": None, "drained": True}, "condition.drained", True),
    "oldest_older_than": ({"oldest_older_than": 60}, "condition.oldest_older_than", timedelta(minutes=1)),
    "each": ({"each": True}, "condition.each", True),
    "count_in_flight": ({"count_in_flight": True}, "condition.count_in_flight", True),
    "count_delayed": ({"count_delayed": True}, "condition.count_delayed", True),
    "consecutive": ({"consecutive": 3}, "condition.consecutive", 3),
    "messages_per_task": ({"messages_per_task": 4}, "rule.messages_per_task", 4),
    "task_count": ({"task_count": 4}, "rule.task_count", 4),
    "max_count": ({"max_count": 4}, "rule.max_count", 4),
    "hard_cap": ({"hard_cap": 4}, "rule.hard_cap", 4),
    "activation": ({"activation": 4}, "rule.activation", 4),
}


@pytest.mark.parametrize("name", OF_QUESTIONS)
def test_an_option_of_a_wait_is_in_its_question(name: str) -> None:
    words, where, value = OF_QUESTIONS[name]
    sensor = SqsDepthSensor(task_id="task", **{**ONE, **words})
    watcher = SqsDepthEventTrigger(**SqsDepthEventTrigger(**{**ONE, **words}).serialize()[1])
    assert attrgetter(where)(sensor._question()) == value
    assert attrgetter(where)(Question.of(**watcher.words)) == value


def test_every_option_of_a_wait_has_a_test() -> None:
    where = {"aws_conn_id", "region_name"}
    # In test_sqs_sensor.py, test_sqs_watcher.py.
    of_sensors = {"or_skip", "poke_interval", "deferrable", "start_from_trigger", "retry_policy"}
    of_watchers = {"rearm_at", "cooldown", "repeat_every", "poll_interval"}
    assert options_of(SqsDepthSensor) == {*OF_QUESTIONS, *where, *of_sensors}
    assert options_of(SqsDepthEventTrigger) == {*OF_QUESTIONS, *where, *of_watchers}


async def first(events: Any) -> Any:
    async with aclosing(events):
        return await anext(events)


def test_a_wait_reads_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, asked = Queue(5), []

    def make_reader(aws_conn_id: Any, region_name: Any, question: Any, hook: Any = None) -> Queue:
        asked.append((aws_conn_id, region_name))
        return queue

    for room in (sensors, depth, sqs):
        monkeypatch.setattr(room, "make_reader", make_reader)
    where = {**ONE, "aws_conn_id": "other", "region_name": "us-east-1"}
    SqsDepthSensor(task_id="task", **where).execute(context())
    for trigger in (SqsDepthTrigger(**where), SqsDepthEventTrigger(**where)):
        asyncio.run(first(trigger.run()))
    assert asked == [("other", "us-east-1")] * 3


# --- the command line and the configuration


def test_an_option_of_the_reaper_is_in_its_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")  # the command sets it, and its process ends with it
    asked: list[Any] = []
    report = SimpleNamespace(complete=False, to_dict=lambda: {"lines": []})
    monkeypatch.setattr(cli, "one_pass", lambda *words: asked.append(words) or report)
    parser = argparse.ArgumentParser()
    for arg in cli._reap_arguments():
        arg.add_to_parser(parser)
    words = "--dry-run --region r1 r2 --only ecs --cluster c1 --aws-conn-id other --deployment dev -o json"
    with pytest.raises(SystemExit) as ended:
        cli.reap(parser.parse_args(words.split()))
    ((where, conn, dry, _, deployment),) = asked
    assert (where.regions, where.only, where.clusters) == (("r1", "r2"), "ecs", ("c1",))
    assert (conn, dry, deployment) == ("other", True, "dev")
    assert (json.loads(capsys.readouterr().out), ended.value.code) == ({"lines": []}, 1)


def test_launches_are_signed_with_the_deployment_s_configured_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRANSIENT__DEPLOYMENT_ID", "blue")
    assert Journal(context()).owner.deployment == "blue"
