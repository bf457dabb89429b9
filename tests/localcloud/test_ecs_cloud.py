"""Tasks and the cloud as a whole: its settings, many at once, and nothing left of them."""

from __future__ import annotations

import sys

import pytest

from airflow_transient.localcloud import LocalCloud, container_python
from airflow_transient.localcloud.sandbox import WAYS, probe
from tests.waiting import eventually

from .ecs import ROLE, code_of, container, sh, tasks_of

pytestmark = pytest.mark.sandbox
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"


def test_provisioning_takes_the_time_it_is_given() -> None:
    with LocalCloud(task_delay=600, task_memory=0.1) as cloud:
        tasks = tasks_of(cloud)
        arn = tasks.start(sh("exit 0"))
        assert tasks.look(arn)["lastStatus"] == "PROVISIONING"
        tasks.ecs.stop_task(task=arn, reason="enough")
        # and what has stopped is forgotten
        eventually(lambda: tasks.ecs.describe_tasks(tasks=[arn])["failures"] == [{"arn": arn, "reason": "MISSING"}])


def test_closing_the_cloud_ends_all_tasks() -> None:
    with LocalCloud() as cloud:
        tasks = tasks_of(cloud)
        arn = tasks.start(sh(STUBBORN))
        tasks.says(arn, "up")
        (pid,) = cloud.sandbox_pids()
    assert cloud.sandbox_pids() == []
    eventually(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("way", WAYS)
def test_tasks_run_in_every_sandbox(way: str) -> None:
    if (why := probe(WAYS[way])) is not None:
        pytest.skip(why)
    with LocalCloud(sandbox=way) as cloud:
        tasks = tasks_of(cloud)
        script = "import boto3, sys; boto3.client('sqs').list_queues(); sys.exit(3)"
        assert code_of(tasks.run(container("python3", "-c", script), define={"taskRoleArn": ROLE})) == 3


def test_where_the_machines_python_is_too_old_a_container_has_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_python, "LEAST", (99, 0))
    with LocalCloud() as cloud:
        tasks = tasks_of(cloud)
        task = tasks.run(container("python3", "-c", "import boto3, sys; print(sys.prefix)"))
        assert tasks.said(task["taskArn"]).strip() == sys.base_prefix


@pytest.mark.slow
def test_two_hundred_tasks_at_once() -> None:
    with LocalCloud() as cloud:
        tasks = tasks_of(cloud)
        family = tasks.define(container("true"))
        for _ in range(20):
            assert len(tasks.ask(family, count=10, startedBy="burst")["tasks"]) == 10
        found = tasks.ecs.get_paginator("list_tasks").paginate
        eventually(lambda: not [arn for page in found(startedBy="burst") for arn in page["taskArns"]], within=60)
        ended = [arn for page in found(family=family, desiredStatus="STOPPED") for arn in page["taskArns"]]
        assert len(ended) == len(set(ended)) == 200
        eventually(lambda: cloud.sandbox_pids() == [])
