"""How many tasks to launch now: the depths, what of ours is live, and core's one rule over both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from airflow_transient.aws.ecs_reads import describe, list_tasks
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

    :param again: after tasks of this launch were taken back, stopped or have failed: what they had received is in
        flight until its visibility timeout, so that counts, too; and what has ended claims nothing any more.
    """
    depths = read_depths(client, spec.queues, now) if spec.queues else None
    live = live_tasks(client, spec, owner, now, not again) if spec.sized else Live()
    rule = replace(spec.rule, count_in_flight=True, count_delayed=True) if again else spec.rule
    return size(depths, rule, live)


def live_tasks(client: ClientFactory, spec: EcsSpec, owner: Owner, now: datetime, with_ended: bool = True) -> Live:
    """Our own tasks of this job, whichever run launched them, and nobody else's."""
    window = timedelta(seconds=spec.rule.claim_seconds)
    with said_plainly("ecs:ListTasks and ecs:DescribeTasks"):
        ecs, job = client("ecs"), started_by(owner)
        listed = set(list_tasks(ecs, spec.cluster, startedBy=job))
        tasks = {t["taskArn"]: t for t in describe(ecs, spec.cluster, listed)}
        unseen = len(listed - set(tasks))  # listed, and not to be described yet: just launched
        if spec.queues and with_ended:
            tasks |= {t["taskArn"]: t for t in _ended(ecs, spec, job)}  # what ends meanwhile is in both
    up = [t for t in tasks.values() if t.get("desiredStatus") == "RUNNING"]
    over = [t for t in tasks.values() if _did_its_share(t) and _since(t, "stoppedAt", now) < window]
    began_lately = [t for t in over if "startedAt" in t and _since(t, "startedAt", now) < window]
    pending = [t for t in up if t.get("lastStatus") in _PENDING]
    working = [t for t in up if t not in pending and _since(t, "startedAt", now) < window]
    not_begun = len(pending) + unseen
    return Live(len(up) + unseen, not_begun + len(working) + len(began_lately), not_begun, len(over))


def _ended(ecs: Any, spec: EcsSpec, job: str) -> Iterator[dict[str, Any]]:
    """ECS lists by startedBy what is to run only; what has ended is found by its family, and told apart here."""
    stopped = list_tasks(ecs, spec.cluster, family=family_of(spec.task_definition), desiredStatus="STOPPED")
    yield from (t for t in describe(ecs, spec.cluster, stopped) if t.get("startedBy") == job)


def _did_its_share(task: dict[str, Any]) -> bool:
    """What was taken back or stopped, or has failed, has received messages, too, but gives them back."""
    ended = task.get("desiredStatus") != "RUNNING" and task.get("stopCode") in (None, "EssentialContainerExited")
    codes = [container.get("exitCode") for container in task.get("containers", ())]
    return ended and (not codes or 0 in codes)


def _since(task: dict[str, Any], what: str, now: datetime) -> timedelta:
    """What has not happened yet happens now."""
    moment: datetime = task.get(what, now)
    return now - moment
