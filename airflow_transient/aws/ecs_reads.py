"""What ECS shows: tasks by the hundred, a task definition, one task as a sighting; and what its errors speak of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws import launcher
from airflow_transient.core.ecs import failures
from airflow_transient.core.ecs.judging import PHASES, STOP_REASON, Container, EcsSighting
from airflow_transient.core.ecs.requests import Definition
from airflow_transient.core.ecs.terms import LogPlace
from airflow_transient.core.fallback import Scope
from airflow_transient.core.verdict import MARKS, Phase

#: DescribeTasks takes a hundred, ListTasks gives a hundred (API reference).
PER_LOOK = 100


def list_tasks(ecs: Any, cluster: str, **filters: str) -> Iterator[str]:
    """ARNs, page by page. `startedBy` must be the only filter, and then only what is to run is listed (botocore)."""
    for page in ecs.get_paginator("list_tasks").paginate(cluster=cluster, **filters):
        yield from page["taskArns"]


def describe(ecs: Any, cluster: str, tasks: Iterable[str]) -> Iterator[dict[str, Any]]:
    for part in parts(list(tasks)):
        yield from ecs.describe_tasks(cluster=cluster, tasks=part)["tasks"]


def parts(ids: Sequence[str]) -> Iterator[list[str]]:
    return (list(ids[start : start + PER_LOOK]) for start in range(0, len(ids), PER_LOOK))


def definition_of(said: dict[str, Any], region: str) -> Definition:
    containers = said.get("containerDefinitions", ())
    return Definition(
        arn=said["taskDefinitionArn"],
        family=said["family"],
        containers=tuple(c["name"] for c in containers),
        essential=tuple(c["name"] for c in containers if c.get("essential", True)),
        awsvpc=said.get("networkMode") == "awsvpc",
        logs=tuple(place for c in containers if (place := _log_place(c, region))),
    )


def _log_place(container: dict[str, Any], region: str) -> LogPlace | None:
    """Without a stream prefix the stream is the container's id, which only the agent knows (awslogs driver)."""
    configured = container.get("logConfiguration", {})
    options = configured.get("options", {})
    if configured.get("logDriver") != "awslogs" or not options.get("awslogs-stream-prefix"):
        return None
    where = options.get("awslogs-region", region)
    return LogPlace(container["name"], options["awslogs-group"], options["awslogs-stream-prefix"], where)


def sighting_of(member: str, task: dict[str, Any]) -> EcsSighting:
    """One task as DescribeTasks tells it."""
    state = task.get("lastStatus", "")
    detail = task.get("stoppedReason") or ""
    containers = tuple(
        Container(c["name"], c.get("exitCode"), c.get("reason") or "") for c in task.get("containers", ())
    )
    return EcsSighting(
        member,
        PHASES.get(state, Phase.UNKNOWN),
        state=state,
        reason=task.get("stopCode"),
        launched=task.get("createdAt"),
        ended=task.get("stoppedAt"),
        stopped_by=_stopped_by(detail),
        started=task.get("startedAt"),
        pulled=task.get("pullStartedAt"),
        detail=detail,
        containers=containers,
        capacity=task.get("capacityProviderName") or task.get("launchType"),
        stopping=task.get("desiredStatus") == "STOPPED",
        note=None if state in PHASES else f"ECS says {state!r}, which is not known here",
    )


def _stopped_by(detail: str) -> str | None:
    why = detail.removeprefix(STOP_REASON) if detail.startswith(STOP_REASON) else None
    return why if why in MARKS else None


def scope_of(error: Exception) -> Scope:
    """How much of the world an error of ECS speaks of."""
    if not isinstance(error, ClientError):
        return launcher.scope_of_error(error)
    message = str(error.response.get("Error", {}).get("Message", ""))
    return failures.scope_of_error(launcher.code_of(error), message, launcher.status_of(error))


def task_id(arn: str) -> str:
    """The last part: a launch keeps hundreds of them."""
    return arn.rpartition("/")[2]
