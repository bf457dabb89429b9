"""What AWS tells of one instance or ECS task, as the rules take it: the reaper's, and those of what runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from airflow_transient.aws.ecs_reads import task_id
from airflow_transient.core import reaping
from airflow_transient.core.ecs.requests import DEADLINE_VARIABLE, LAUNCH_VARIABLE, plain_value
from airflow_transient.core.launch import MANAGED_BY, TAG_PREFIX
from airflow_transient.core.reaping import Found

#: As core/ecs/requests.py ends `startedBy`.
_STARTED_BY = re.compile(r".+/.+-[0-9a-f]{10}")
_MOMENT = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
_LONG_AGO = datetime(2000, 1, 1, tzinfo=timezone.utc)


def instance_found(instance: Mapping[str, Any]) -> Found:
    """One instance as DescribeInstances tells it."""
    state = instance["State"]["Name"]
    return Found(instance["InstanceId"], state, instance["LaunchTime"], tags_of(instance.get("Tags")))


def instance_ended(instance: Mapping[str, Any]) -> datetime | None:
    """From "User initiated (2026-11-21 10:51:00 GMT)", the only place where EC2 tells the moment."""
    found = _MOMENT.search(instance.get("StateTransitionReason") or "")
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc) if found else None


def tags_of(tags: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    """As EC2 tells them."""
    return {tag["Key"]: tag["Value"] for tag in tags or ()}


def task_found(task: Mapping[str, Any]) -> Found:
    """One task as DescribeTasks tells it. What is to be stopped is on its way out, whatever it says."""
    state, ending = task.get("lastStatus", ""), task.get("desiredStatus") == "STOPPED"
    return Found(
        task_id(task["taskArn"]),
        "STOPPING" if ending and state not in reaping.ENDING else state,
        task.get("createdAt") or _LONG_AGO,
        _task_tags(task),
        kind="ecs",
    )


def _task_tags(task: Mapping[str, Any]) -> dict[str, str]:
    """Its tags; where all of ours are gone, what its variables still tell: that it is ours, and its deadline."""
    tags = {tag["key"]: plain_value(tag.get("value", "")) for tag in task.get("tags") or ()}
    deadline = variable(task, DEADLINE_VARIABLE)
    ours = variable(task, LAUNCH_VARIABLE) and _STARTED_BY.fullmatch(task.get("startedBy") or "")
    if any(name.startswith(TAG_PREFIX) for name in tags) or not deadline or not ours:
        return tags
    return {**tags, reaping.MANAGED: MANAGED_BY, reaping.DEADLINE: deadline}


def variable(task: Mapping[str, Any], name: str) -> str | None:
    """A variable that the launch gave to a task's containers."""
    overrides = task.get("overrides", {}).get("containerOverrides", ())
    pairs = [pair for container in overrides for pair in container.get("environment", ())]
    return next((pair.get("value") for pair in pairs if pair.get("name") == name), None)


def region_of(cluster: str) -> str | None:
    """The region in an ARN; None of a name."""
    return cluster.split(":")[3] if cluster.startswith("arn:") else None
