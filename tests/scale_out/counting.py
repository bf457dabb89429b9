"""What there was of each launch in the end, by the cloud's word and by Airflow's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow_transient.localcloud import LocalCloud
from tests.crash.counting import BUCKET, machines, tags, tasks


@dataclass(frozen=True)
class Member:
    """One machine, or one task of ECS. `number`: whose, of the mapped tasks; `token`: of which launch."""

    number: str
    token: str
    runs: bool
    jobs: int


@dataclass(frozen=True)
class Row:
    """All launches of one DAG."""

    dag: str
    wanted: int
    succeeded: int
    tries: int
    launched: int
    tokens: int
    jobs: int
    doubled: int
    lost: int
    left: int

    @property
    def as_promised(self) -> bool:
        once = self.wanted == self.succeeded == self.launched == self.tokens == self.jobs
        return once and not (self.doubled or self.lost or self.left)


def launched(cloud: LocalCloud) -> int:
    return len(cloud.states()) + sum(1 for _ in tasks(cloud))


def row(cloud: LocalCloud, dag: str, wanted: int, told: list[dict[str, Any]]) -> Row:
    """:param told: the task instances of the DAG, as Airflow has them."""
    members = list(MEMBERS[dag](cloud))
    of = Counter(member.number for member in members)
    worked = Counter(dict.fromkeys(map(str, range(wanted)), 0))
    for member in members:
        worked[member.number] += member.jobs
    return Row(
        dag=dag,
        wanted=wanted,
        succeeded=sum(task["state"] == "success" for task in told),
        tries=sum(task["try_number"] for task in told),
        launched=len(members),
        tokens=len({member.token for member in members}),
        jobs=sum(worked.values()),
        doubled=sum(count > 1 for count in of.values()),
        lost=sum(count == 0 for count in worked.values()),
        left=sum(member.runs for member in members),
    )


def _machines(cloud: LocalCloud) -> Iterator[Member]:
    pages = cloud.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
    ran = Counter(part for key in keys if key.endswith("/ran") for part in key.split("/"))
    for machine in machines(cloud):
        told, name = tags(machine), machine["InstanceId"]
        up = machine["State"]["Name"] != "terminated"
        yield Member(told["transient:map-index"], told["transient:launch"], up, ran[name])


def _tasks(cloud: LocalCloud) -> Iterator[Member]:
    for task in tasks(cloud):
        (container,) = task["overrides"]["containerOverrides"]
        words = {pair["name"]: str(pair["value"]) for pair in container["environment"]}
        done = cloud.output(task["taskArn"], "main").count(b"done")
        yield Member(words["RUN"], words["TRANSIENT_LAUNCH"], task["lastStatus"] != "STOPPED", done)


MEMBERS = {"machines": _machines, "tasks": _tasks}
