"""What of this deployment AWS shows, place by place: for a person to look at, so bounded, and never an exception.

The reaper looks everywhere and asks again; this looks where launches were seen, once, and says what it left out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws import pacing
from airflow_transient.aws.ecs_reads import parts
from airflow_transient.aws.found import instance_ended, instance_found, task_found, variable
from airflow_transient.aws.launcher import ClientFactory, code_of, said_plainly
from airflow_transient.core import reaping
from airflow_transient.core.ecs.requests import LAUNCH_VARIABLE
from airflow_transient.core.launch import MANAGED_BY, TAG_PREFIX
from airflow_transient.core.prices import Rates
from airflow_transient.core.sources import Look, Place, Resource
from airflow_transient.errors import AccessError, TransientError

#: One place shows so many at most, and is looked at so long: seconds.
AT_MOST = 1000
PATIENCE = 15.0
#: A look at what launches once named: so many of their ids.
NAMED = 100
DEFAULT_CLUSTER = "default"

NEEDED = (
    "The API server's own AWS credentials need ec2:DescribeInstances, ecs:ListTasks and ecs:DescribeTasks to show what "
    "runs, and ec2:CreateTags, ec2:TerminateInstances and ecs:StopTask to stop it."
)
ACTIONS = {"ec2": "ec2:DescribeInstances", "ecs": "ecs:ListTasks and ecs:DescribeTasks"}
_WILD = re.compile(r"[*?\\]")


def look_at(client: ClientFactory, place: Place, deployment: str, now: datetime) -> Look:
    """What runs there of this deployment; what is to be stopped in ECS is not listed any more."""
    looks = {"ec2": _instances, "ecs": _tasks}
    return _told(client, place, now, lambda aws, budget: looks[place.kind](aws, place, deployment, budget))


def look_up(client: ClientFactory, place: Place, ids: Iterable[str], now: datetime) -> Look:
    """Those of these ids that AWS still knows, ended or not, and whosever they are."""
    wanted = sorted(set(ids))[:NAMED]
    looks = {"ec2": _named_instances, "ecs": _described}
    return _told(client, place, now, lambda aws, _: looks[place.kind](aws, place, wanted))


class _Budget:
    """So much is looked at: then the rest is left out, and that is said."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._until = clock, clock() + PATIENCE
        self.spent = False

    def of(self, items: Iterable[Any]) -> Iterator[Any]:
        for count, item in enumerate(items):
            if count >= AT_MOST or self._clock() > self._until:
                self.spent = True
                return
            yield item


def _told(client: ClientFactory, place: Place, now: datetime, look: Callable[[Any, _Budget], list[Resource]]) -> Look:
    """What fails is told in a sentence, and nothing is found."""
    budget = _Budget()
    try:
        with said_plainly(f"{ACTIONS[place.kind]} in {place}"):
            aws = client(place.kind, region_name=place.region)
            there = replace(place, region=aws.meta.region_name)
            found = look(aws, budget)
    except AccessError as error:
        return Look(place, now, error=f"{error}. {NEEDED}")
    except TransientError as error:
        return Look(place, now, error=str(error))
    return Look(there, now, tuple(replace(r, place=there) for r in found), truncated=budget.spent)


# --- EC2


def _instances(ec2: Any, place: Place, deployment: str, budget: _Budget) -> list[Resource]:
    tags = {"managed-by": MANAGED_BY}
    if not _WILD.search(deployment):  # in a filter these stand for others
        tags["owner"] = f"{deployment}/*"
    filters = [{"Name": f"tag:{TAG_PREFIX}{name}", "Values": [value]} for name, value in tags.items()]
    states = {"Name": "instance-state-name", "Values": list(reaping.LISTED)}
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=[*filters, states], PaginationConfig={"PageSize": AT_MOST}
    )
    found = [_instance(i, place) for i in budget.of(_each_instance(pages))]
    return [r for r in found if r.found.owner_in(deployment)]


def _named_instances(ec2: Any, place: Place, ids: Sequence[str]) -> list[Resource]:
    """By filter and not by id: one unknown id fails a call that names it."""
    if not ids:
        return []
    answer = ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": list(ids)}])
    return [_instance(i, place) for i in _each_instance([answer])]


def _each_instance(pages: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for page in pages:
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]


def _instance(said: Mapping[str, Any], place: Place) -> Resource:
    found = instance_found(said)
    kind, spot = said.get("InstanceType", ""), said.get("InstanceLifecycle") == "spot"
    ended = instance_ended(said) if found.state == "terminated" else None
    billed = found.state in ("running", "stopping", "shutting-down") or ended
    return Resource(
        found,
        place,
        attempt=found.tags.get(f"{TAG_PREFIX}launch"),
        words=f"{found.id} ({kind}{', spot' if spot else ''})" if kind else found.id,
        rates=((f"spot:{kind}" if spot else kind, 1.0),) if kind else (),
        billed_from=found.launched if billed else None,
        ended=ended,
    )


# --- ECS


def _tasks(ecs: Any, place: Place, deployment: str, budget: _Budget) -> list[Resource]:
    """All that is to run there is described: ListTasks can filter neither by tag nor by a part of startedBy."""
    try:
        arns = list(budget.of(_listed(ecs, place.cluster or DEFAULT_CLUSTER)))
    except ClientError as error:
        if code_of(error) == "ClusterNotFoundException" and place.cluster == DEFAULT_CLUSTER:
            return []  # nobody has named it: it is looked at because nothing else may have been
        raise
    found = [r for r in _described(ecs, place, arns) if r.found.tags.get(reaping.MANAGED) == MANAGED_BY]
    return [r for r in found if r.found.owner_in(deployment) or r.found.tags.get(reaping.OWNER) is None]


def _listed(ecs: Any, cluster: str) -> Iterator[str]:
    for page in ecs.get_paginator("list_tasks").paginate(cluster=cluster):
        pacing.bucket(ecs, "looks at a cluster").take()
        yield from page["taskArns"]


def _described(ecs: Any, place: Place, tasks: Sequence[str]) -> list[Resource]:
    said = []
    for part in parts(tasks):
        pacing.bucket(ecs, "looks at a cluster").take()
        said += ecs.describe_tasks(cluster=place.cluster or DEFAULT_CLUSTER, tasks=part, include=["TAGS"])["tasks"]
    return [_task(task, place) for task in said]


def _task(said: Mapping[str, Any], place: Place) -> Resource:
    found = task_found(said)
    capacity = said.get("capacityProviderName") or said.get("launchType") or ""
    return Resource(
        found,
        place,
        attempt=found.tags.get(f"{TAG_PREFIX}launch") or variable(said, LAUNCH_VARIABLE),
        job=said.get("startedBy"),
        words=f"{found.id} ({capacity})" if capacity else found.id,
        rates=_fargate(said, capacity),
        billed_from=said.get("pullStartedAt") or said.get("startedAt"),
        ended=said.get("stoppedAt"),
    )


def _fargate(said: Mapping[str, Any], capacity: str) -> Rates:
    """Of a task on instances there is no price of its own: its instance is paid for."""
    if not capacity.startswith("FARGATE"):
        return ()
    arm = any(a.get("value") == "arm64" for a in said.get("attributes", ()) if a.get("name") == "ecs.cpu-architecture")
    name = "fargate" + ("-spot" if capacity == "FARGATE_SPOT" else "") + ("-arm" if arm else "")
    try:
        return ((f"{name}:vcpu", int(said["cpu"]) / 1024), (f"{name}:gb", int(said["memory"]) / 1024))
    except (KeyError, ValueError):
        return ()
