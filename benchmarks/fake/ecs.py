"""ECS: tasks on Fargate as DescribeTasks tells them, RunTask, and one task definition for every name."""

from __future__ import annotations

import json
import time
from typing import Any

from benchmarks.fake.http import Told
from benchmarks.fake.world import ACCOUNT, REGION, Resource, World

ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
CLUSTER = f"{ARN}:cluster/default"
CONTAINER = "main"
#: The variable that a task's label is read from.
LABEL = "LABEL"


def describe_tasks(world: World, said: dict[str, Any]) -> Told:
    if not world.gives("DescribeTasks"):
        return throttled()
    known, unknown = [], []
    for name in said["tasks"]:
        found = world.resources.get(name.rpartition("/")[2])
        known.append(task(found.seen())) if found else unknown.append({"arn": name, "reason": "MISSING"})
    return told({"tasks": known, "failures": unknown})


def run_task(world: World, said: dict[str, Any]) -> Told:
    token, count = said.get("clientToken"), said.get("count", 1)
    if token in world.tokens:
        return Told(world.tokens[token])
    if not (world.gives("RunTask calls") and world.gives("RunTask tasks", count)):
        return throttled()
    answer = told({"tasks": [task(world.new("ecs", _label(said))) for _ in range(count)], "failures": []})
    if token:
        world.tokens[token] = answer.body
    return answer


def _label(said: dict[str, Any]) -> str:
    containers = said.get("overrides", {}).get("containerOverrides", ())
    variables = [variable for container in containers for variable in container.get("environment", ())]
    return next((variable["value"] for variable in variables if variable["name"] == LABEL), "")


def describe_task_definition(world: World, said: dict[str, Any]) -> Told:
    family = said["taskDefinition"].rpartition("/")[2].partition(":")[0]
    container = {"name": CONTAINER, "image": "busybox", "essential": True, "memory": 512, "cpu": 256}
    arn = f"{ARN}:task-definition/{family}:1"
    definition = {"taskDefinitionArn": arn, "family": family, "containerDefinitions": [container], "revision": 1}
    return told({"taskDefinition": {**definition, "status": "ACTIVE", "networkMode": "bridge"}})


def list_tasks(world: World, said: dict[str, Any]) -> Told:
    return told({"taskArns": []})


def stop_task(world: World, said: dict[str, Any]) -> Told:
    found = world.resources[said["task"].rpartition("/")[2]]
    world.end({found.id: time.monotonic()})
    return told({"task": task(found)})


ANSWERS = {
    "DescribeTasks": describe_tasks,
    "RunTask": run_task,
    "DescribeTaskDefinition": describe_task_definition,
    "ListTasks": list_tasks,
    "StopTask": stop_task,
}


def task(one: Resource) -> dict[str, Any]:
    """One Fargate task, with all that AWS tells of it unasked."""
    arn, state = f"{ARN}:task/default/{one.id}", "STOPPED" if one.over else "RUNNING"
    eni, short = f"eni-{one.id[-17:]}", one.id[-12:]
    container = {
        "containerArn": f"{ARN}:container/default/{one.id}/{short}",
        "taskArn": arn,
        "name": CONTAINER,
        "image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/work:latest",
        "imageDigest": f"sha256:{one.id * 2}",
        "runtimeId": f"{one.id}-{short}",
        "lastStatus": state,
        "networkBindings": [],
        "networkInterfaces": [{"attachmentId": f"{one.id[:8]}-0000", "privateIpv4Address": "10.0.1.17"}],
        "healthStatus": "UNKNOWN",
        "cpu": "256",
        "memory": "512",
        **({"exitCode": 0} if one.over else {}),
    }
    details = {
        "subnetId": "subnet-0123456789abcdef0",
        "networkInterfaceId": eni,
        "macAddress": "0a:00:27:00:00:01",
        "privateDnsName": f"ip-10-0-1-17.{REGION}.compute.internal",
        "privateIPv4Address": "10.0.1.17",
    }
    attachment = {
        "id": f"{one.id[:8]}-0000",
        "type": "ElasticNetworkInterface",
        "status": "ATTACHED",
        "details": [{"name": name, "value": value} for name, value in details.items()],
    }
    ended = {
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "Essential container in task exited",
        "stoppedAt": one.ended,
        "stoppingAt": one.ended,
        "executionStoppedAt": one.ended,
    }
    return {
        "taskArn": arn,
        "clusterArn": CLUSTER,
        "taskDefinitionArn": f"{ARN}:task-definition/work:1",
        "attachments": [attachment],
        "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
        "availabilityZone": f"{REGION}a",
        "connectivity": "CONNECTED",
        "connectivityAt": one.begun + 10,
        "containers": [container],
        "cpu": "256",
        "memory": "512",
        "createdAt": one.begun,
        "pullStartedAt": one.begun + 12,
        "pullStoppedAt": one.begun + 18,
        "startedAt": one.begun + 20,
        "desiredStatus": state,
        "lastStatus": state,
        "enableExecuteCommand": False,
        "ephemeralStorage": {"sizeInGiB": 20},
        "group": "family:work",
        "healthStatus": "UNKNOWN",
        "inferenceAccelerators": [],
        "launchType": "FARGATE",
        "overrides": {"containerOverrides": [{"name": CONTAINER}], "inferenceAcceleratorOverrides": []},
        "platformFamily": "Linux",
        "platformVersion": "1.4.0",
        "startedBy": "benchmark",
        "tags": [],
        "version": 5 if one.over else 4,
        **(ended if one.over else {}),
    }


def told(said: dict[str, Any]) -> Told:
    return Told(json.dumps(said).encode())


def throttled() -> Told:
    return refused("ThrottlingException", "Rate exceeded")


def unknown(action: str) -> Told:
    return refused("UnknownOperationException", f"{action} is not in this fake")


def refused(code: str, words: str) -> Told:
    return Told(json.dumps({"__type": code, "message": words}).encode(), status=400)
