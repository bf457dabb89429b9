"""How many tasks to launch now: the depths, what of ours is live, and core's one rule over both."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from airflow_transient.aws.ecs import describe, list_tasks
from airflow_transient.aws.launcher import ClientFactory, said_plainly
from airflow_transient.aws.sqs import read_depths
from airflow_transient.core.depth import Live, Size, size
from airflow_transient.core.ecs.requests import family_of, started_by
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.launch import Owner

_PENDING = ("PROVISIONING", "PENDING", "ACTIVATING")


def size_burst(client: ClientFactory, spec: EcsSpec, owner: Owner, now: datetime, again: bool = False) -> Size:
    """
    Depths first: what was launched between the two readings counts as live, and not the other way round.

    Raises what reading raises: SpecError, AccessError or LaunchError. Nothing is launched on a guess.

    :param again: to replace tasks of this very burst, so at most as many: then what has ended claims nothing, or the
        tasks that did their share would be taken for those that did not.
    """
    depths = read_depths(client, spec.queues, now) if spec.queues else None
    live = live_tasks(client, spec, owner, now, not again) if spec.sized else Live()
    return size(depths, spec.rule, live)


def live_tasks(client: ClientFactory, spec: EcsSpec, owner: Owner, now: datetime, with_ended: bool = True) -> Live:
    """Our own tasks of this job, whichever run launched them, and nobody else's."""
    window = timedelta(seconds=spec.rule.claim_seconds)
    with said_plainly("ecs:ListTasks and ecs:DescribeTasks"):
        found = _tasks(client("ecs"), spec, started_by(owner), with_ended)
        tasks = list({t["taskArn"]: t for t in found}.values())  # what ends meanwhile is in both lists
    up = [t for t in tasks if t.get("desiredStatus") == "RUNNING"]
    over = [t for t in tasks if _ended_by_itself(t) and _since(t, "stoppedAt", now) < window]
    began_lately = [t for t in over if "startedAt" in t and _since(t, "startedAt", now) < window]
    pending = [t for t in up if t.get("lastStatus") in _PENDING]
    working = [t for t in up if t not in pending and _since(t, "startedAt", now) < window]
    return Live(len(up), len(pending) + len(working) + len(began_lately), len(pending), len(over))


def _tasks(ecs: Any, spec: EcsSpec, job: str, with_ended: bool) -> Iterator[dict[str, Any]]:
    """ECS lists by startedBy what is to run only; what has ended is found by its family, and told apart here."""
    yield from describe(ecs, spec.cluster, list_tasks(ecs, spec.cluster, startedBy=job))
    if spec.queues and with_ended:
        family = family_of(spec.task_definition)
        stopped = list_tasks(ecs, spec.cluster, family=family, desiredStatus="STOPPED")
        yield from (t for t in describe(ecs, spec.cluster, stopped) if t.get("startedBy") == job)


def _ended_by_itself(task: dict[str, Any]) -> bool:
    """What was taken back or stopped has received messages, too, but gives them back."""
    return task.get("desiredStatus") != "RUNNING" and task.get("stopCode") in (None, "EssentialContainerExited")


def _since(task: dict[str, Any], what: str, now: datetime) -> timedelta:
    """What has not happened yet happens now."""
    moment: datetime = task.get(what, now)
    return now - moment
