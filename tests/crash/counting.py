"""What there is in the cloud of each run: members ever launched, members left, jobs that were done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_transient.localcloud import LocalCloud
from tests.crash.points import DAGS, MACHINES, Point, Row

BUCKET = "results"
FAMILY = "burst"


def furnish(cloud: LocalCloud) -> None:
    cloud.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    script = "sleep $JOB_SECONDS; while [ -e $HELD ]; do sleep 1; done; echo done"
    job = {"name": "main", "image": "busybox", "command": ["sh", "-c", script], "memory": 64, "stopTimeout": 2}
    cloud.client("ecs").register_task_definition(family=FAMILY, containerDefinitions=[job])


def nothing_runs(cloud: LocalCloud) -> bool:
    return set(cloud.states().values()) <= {"terminated"} and not any(map(_runs, tasks(cloud)))


def running(cloud: LocalCloud) -> dict[str, list[str]]:
    """run id -> its machines, and the ARNs of its tasks, that run."""
    found = [(task["lastStatus"], run_of(task), task["taskArn"]) for task in tasks(cloud)]
    found += [(m["State"]["Name"], tags(m).get("transient:run", ""), m["InstanceId"]) for m in machines(cloud)]
    up: dict[str, list[str]] = {}
    for state, run, member in found:
        if state.lower() == "running":
            up.setdefault(run, []).append(member)
    return up


class Count:
    """One look, when all is over."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.tasks = list(tasks(cloud))
        self.machines = list(machines(cloud))
        pages = cloud.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        self.keys = [found["Key"] for page in pages for found in page.get("Contents", ())]

    def row(self, name: str, point: Point, verdict: str) -> Row:
        count = self._machines if point.dag in MACHINES else self._tasks
        launched, left, jobs = count(name)
        return Row(point.dag, point.at, launched, left, jobs if DAGS[point.dag][1] else None, verdict)

    def _machines(self, name: str) -> tuple[int, int, int]:
        mine = [machine for machine in self.machines if tags(machine).get("transient:run") == name]
        ids = [m["InstanceId"] for m in mine]
        jobs = sum(key.endswith("/ran") and any(f"/{member}/" in key for member in ids) for key in self.keys)
        return len(mine), sum(m["State"]["Name"] != "terminated" for m in mine), jobs

    def _tasks(self, name: str) -> tuple[int, int, int]:
        mine = [task for task in self.tasks if run_of(task) == name]
        jobs = sum(self.cloud.output(task["taskArn"], "main").count(b"done") for task in mine)
        return len(mine), sum(map(_runs, mine)), jobs


def machines(cloud: LocalCloud) -> Iterator[dict[str, Any]]:
    for page in cloud.client("ec2").get_paginator("describe_instances").paginate():
        yield from (machine for reservation in page["Reservations"] for machine in reservation["Instances"])


def tags(machine: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in machine.get("Tags", ())}


def tasks(cloud: LocalCloud) -> Iterator[dict[str, Any]]:
    """All there ever were: ListTasks tells those that are to run and those that are to stop apart."""
    ecs = cloud.client("ecs")
    listing = ecs.get_paginator("list_tasks")
    for status in ("RUNNING", "STOPPED"):
        for page in listing.paginate(desiredStatus=status):
            if page["taskArns"]:
                yield from ecs.describe_tasks(tasks=page["taskArns"])["tasks"]


def run_of(task: dict[str, Any]) -> str:
    (container,) = task["overrides"]["containerOverrides"]
    return next(str(pair["value"]) for pair in container["environment"] if pair["name"] == "RUN")


def _runs(task: dict[str, Any]) -> bool:
    return bool(task["lastStatus"] != "STOPPED")
