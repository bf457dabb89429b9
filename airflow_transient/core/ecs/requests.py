"""Spec + key + task definition -> the arguments of RunTask, in calls of ten. Pure: the same input, the same bytes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.ecs.terms import LogPlace, Terms
from airflow_transient.core.ecs.words import MAX_OVERRIDES
from airflow_transient.core.launch import Launch, LaunchKey, Owner
from airflow_transient.core.reaping import UNATTENDED
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.errors import SpecError

#: RunTask's `count` (API reference: up to 10 tasks in each call).
PER_CALL = 10
LAUNCH_VARIABLE, DEADLINE_VARIABLE = "TRANSIENT_LAUNCH", "TRANSIENT_DEADLINE"
_NO_TAG, _ESCAPED = re.compile(r"[^\w .:/=+@-]"), re.compile(r"=u([0-9a-f]{1,6})=")
_STRANGE = re.compile(r"[^A-Za-z0-9_/-]+")


@dataclass(frozen=True)
class Definition:
    """What a task definition says today, pinned: a family without a revision may mean another one tomorrow."""

    arn: str
    family: str
    containers: tuple[str, ...]
    essential: tuple[str, ...]
    awsvpc: bool
    logs: tuple[LogPlace, ...] = ()


def started_by(owner: Owner) -> str:
    """
    The job's key: the same for every run of one task, so that a top-up finds its own live tasks and nobody else's.

    ECS takes 128 letters, digits, - _ and /; the digest keeps apart what that makes alike.
    """
    mapped = f"/{owner.map_index}" if owner.map_index >= 0 else ""
    job = f"{owner.deployment}/{owner.dag_id}/{owner.task_id}{mapped}"
    return f"{_STRANGE.sub('-', job)[:110]}-{hashlib.sha256(job.encode()).hexdigest()[:10]}"


def started_by_prefix(deployment: str) -> str:
    """How `started_by` begins for every job of this deployment."""
    return _STRANGE.sub("-", f"{deployment}/")[:110]


def family_of(task_definition: str) -> str:
    """Of a family, family:revision or ARN."""
    return task_definition.rpartition("/")[2].partition(":")[0]


def check(spec: EcsSpec, definition: Definition) -> None:
    """What the task definition makes of the spec's words; ECS says most of it with a code and without the fix."""
    if definition.awsvpc and not spec.network:
        raise SpecError(
            f"{definition.family} has network mode awsvpc: give network_configuration (in a job's document: "
            "networkConfiguration), such as {'subnets': ['subnet-…']}"
        )
    if spec.network and not definition.awsvpc:
        raise SpecError(f"{definition.family} does not have network mode awsvpc: leave network_configuration out")
    named = {c["name"] for c in spec.overrides.get("containerOverrides", ())} | set(spec.deciding)
    if strange := sorted(named - set(definition.containers)):
        raise SpecError(f"{definition.family} has no container {strange}; it has {sorted(definition.containers)}")


def run_task(spec: EcsSpec, key: LaunchKey, definition: Definition, pool: Pool, launch: Launch) -> dict[str, Any]:
    """The arguments of RunTask for what the launch still misses, before they are divided into calls."""
    wanted = {
        "networkConfiguration": spec.network,
        "platformVersion": spec.platform_version,
        "group": spec.group,
        "propagateTags": "TASK_DEFINITION" if spec.propagate_tags else None,
        "enableExecuteCommand": spec.enable_execute_command,
    }
    return {
        "cluster": spec.cluster,
        "taskDefinition": definition.arn,
        "startedBy": started_by(key.owner),
        "overrides": _overrides(spec, definition, key, launch),
        "tags": [{"key": name, "value": tag_value(value)} for name, value in _tags(spec, key, launch).items()],
        **spec.capacity[pool.market],
        **{name: value for name, value in wanted.items() if value},
    }


def tag_value(text: str) -> str:
    """
    As ECS takes it: letters, digits, spaces and + - = . _ : / @ (the Tag type's pattern in its API reference).

    A run's id may hold anything: what is not allowed becomes =u and the character's number, which `plain_value` reads.
    """
    return _NO_TAG.sub(lambda found: f"=u{ord(found[0]):x}=", text)[:256]


def plain_value(tag: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), tag)


def _tags(spec: EcsSpec, key: LaunchKey, launch: Launch) -> dict[str, str]:
    """The author's and ours; the reaper leaves to its deadline what nobody was ever to wait for."""
    return {**spec.tags, **key.tags(launch), **({UNATTENDED: "true"} if spec.unattended else {})}


def _overrides(spec: EcsSpec, definition: Definition, key: LaunchKey, launch: Launch) -> dict[str, Any]:
    """The author's, and in every container what tells whose it is: tags go when a task is stopped (StopTask)."""
    own = [
        {"name": LAUNCH_VARIABLE, "value": key.token},
        {"name": DEADLINE_VARIABLE, "value": str(int(launch.deadline.timestamp()))},
    ]
    asked = {c["name"]: c for c in spec.overrides.get("containerOverrides", ())}
    containers = [
        {**asked.get(name, {"name": name}), "environment": [*asked.get(name, {}).get("environment", ()), *own]}
        for name in definition.containers
    ]
    made = {**spec.overrides, "containerOverrides": containers}
    if (size := len(json.dumps(made))) > MAX_OVERRIDES:
        raise SpecError(f"overrides, with ours, have {size:,} characters as JSON: ECS takes {MAX_OVERRIDES:,}")
    return made


def terms(spec: EcsSpec, definition: Definition, so_far: Launch | None) -> Terms:
    """For the whole launch: later attempts go on with what the first one needed."""
    before = so_far.ecs if so_far else None
    return Terms(
        cluster=spec.cluster,
        deciding=spec.deciding or definition.essential,
        start_seconds=int(spec.start_timeout.total_seconds()),
        runtime_seconds=int(spec.max_runtime.total_seconds()),
        need=before.need if before else spec.need(spec.count),
        wanted=before.wanted if before else spec.count,
        stop_on_failure=spec.stop_on_failure,
        logs=definition.logs,
        definition=definition.arn,
    )


def calls(request: Request) -> Iterator[dict[str, Any]]:
    """One RunTask for ten tasks or fewer, each with a token of its own: who asks again asks the same calls."""
    for number, start in enumerate(range(0, request.wanted, PER_CALL)):
        count = min(PER_CALL, request.wanted - start)
        yield {**request.arguments, "count": count, "clientToken": f"{request.token}-{number}"}


def token_of(task: Mapping[str, Any]) -> str | None:
    """Which launch a described task is of, by its variables: those stay when its tags are gone."""
    for container in task.get("overrides", {}).get("containerOverrides", ()):
        for pair in container.get("environment", ()):
            if pair.get("name") == LAUNCH_VARIABLE:
                return str(pair.get("value"))
    return None
