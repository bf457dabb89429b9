"""A cluster and task definitions in one word, and waiting for a task."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_transient.localcloud import LocalCloud
from tests.waiting import eventually

#: A strategy of spot capacity alone.
SPOT = [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]
ROLE = "arn:aws:iam::123456789012:role/worker"
Words = dict[str, Any]


def container(*command: str, name: str = "main", **more: Any) -> Words:
    return {"name": name, "image": "busybox", "command": list(command), **more}


def sh(script: str, name: str = "main", **more: Any) -> Words:
    return container("sh", "-c", script, name=name, **more)


@dataclass
class Tasks:
    """RunTask for people in a hurry."""

    cloud: LocalCloud
    ecs: Any
    network: Words
    _numbers: Any = field(default_factory=itertools.count)

    def define(self, *containers: Words, **more: Any) -> str:
        """The family of a new definition."""
        base = {"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512"}
        words = {"family": f"job-{next(self._numbers)}", **base, **more}
        answer = self.ecs.register_task_definition(containerDefinitions=list(containers), **words)
        return str(answer["taskDefinition"]["family"])

    def ask(self, family: str, **more: Any) -> Words:
        pool = {} if "capacityProviderStrategy" in more else {"launchType": "FARGATE"}
        request = {"taskDefinition": family, "networkConfiguration": self.network, **pool, **more}
        answer: Words = self.ecs.run_task(**{name: value for name, value in request.items() if value is not None})
        return answer

    def start(self, *containers: Words, define: Words | None = None, **more: Any) -> str:
        """The ARN of a new task of these containers."""
        (task,) = self.ask(self.define(*containers, **(define or {})), **more)["tasks"]
        return str(task["taskArn"])

    def run(self, *containers: Words, define: Words | None = None, **more: Any) -> Words:
        """A task, from its end."""
        return self.until(self.start(*containers, define=define, **more), "STOPPED")

    def look(self, arn: str) -> Words:
        (task,) = self.ecs.describe_tasks(cluster=arn.split("/")[1], tasks=[arn], include=["TAGS"])["tasks"]
        found: Words = task
        return found

    def until(self, arn: str, status: str, within: float = 10.0) -> Words:
        def reached() -> Words | None:
            task = self.look(arn)
            return task if task["lastStatus"] == status else None

        return eventually(reached, within, every=0.02) or {}

    def says(self, arn: str, text: str, name: str = "main") -> None:
        eventually(lambda: text in self.said(arn, name))

    def said(self, arn: str, name: str = "main") -> str:
        return self.cloud.output(arn, name).decode()


def tasks_of(cloud: LocalCloud) -> Tasks:
    keys = {
        "aws_access_key_id": cloud.env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": cloud.env["AWS_SECRET_ACCESS_KEY"],
    }
    once = Config(retries={"total_max_attempts": 1})  # botocore would ask again by itself
    ecs = boto3.client("ecs", cloud.region, endpoint_url=cloud.url, config=once, **keys)
    subnets = [each["SubnetId"] for each in cloud.client("ec2").describe_subnets()["Subnets"]]
    return Tasks(cloud, ecs, {"awsvpcConfiguration": {"subnets": subnets[:2]}})


def code_of(task: Words, name: str = "main") -> int | None:
    return {each["name"]: each.get("exitCode") for each in task["containers"]}[name]


def refused(call: Any, *words: Any, **more: Any) -> tuple[str, str]:
    """The code and the words of a refusal."""
    with pytest.raises(ClientError) as caught:
        call(*words, **more)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]
