"""`python -m benchmarks.looks`: what one look at a thousand waits is made of: AWS's client, and what is ours.

CPU seconds, the least of several, in one process and without an event loop. The table goes into docs/performance.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

import boto3

from airflow_transient.aws import brief
from airflow_transient.aws.ec2 import Ec2Launcher
from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.aws.polling import LaunchLook, Waited
from benchmarks import figures, records
from benchmarks.fake.process import FakeAws
from benchmarks.fake.world import NAMES, REGION
from benchmarks.launches import launch

PART = "looks"
COUNT, TIMES = 1000, 5
WORDS = {"ecs": "ECS tasks", "ec2": "EC2 machines"}
#: As many as one call takes: DescribeTasks names ids, DescribeInstances has them in a filter.
PER_CALL = {"ecs": 100, "ec2": 200}


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for kind in WORDS:
        print(f"a look at {COUNT:,} {WORDS[kind]}, and boto3's calls of it alone", flush=True)
        records.keep(PART, kind, measured(kind))
    figures.write("performance-looks", block(records.kept(PART)), figures.PAGE)


def measured(kind: str) -> dict[str, float]:
    with FakeAws() as aws:
        aws.door(fill={kind: COUNT})
        session = boto3.Session("AKIAIOSFODNN7EXAMPLE", "secret", region_name=REGION)
        clients = {name: brief.can_be_brief(session.client(name, endpoint_url=aws.url)) for name in (kind, "s3")}
        look = whole_look(kind, lambda service, region_name=None, **_: clients[service])
        while aws.door().calls.get("S3", 0) < (COUNT if kind == "ec2" else 0):
            look()  # until it is known of each machine that its job has started
        return {
            "full": least(lambda: describe(kind, clients[kind])),
            "client": least(lambda: describe_in_brief(kind, clients[kind])),
            "whole": least(look),
        }


def whole_look(kind: str, client: Any) -> Callable[[], object]:
    launcher: Any = EcsLauncher(client) if kind == "ecs" else Ec2Launcher(client)
    look = LaunchLook(lambda: launcher, lambda: None, _no_stop)
    waits = [Waited(launch(kind, NAMES[kind](number)), 15.0) for number in range(COUNT)]
    return lambda: look(waits, datetime.now(timezone.utc))


def _no_stop(*_: Any) -> Any:
    raise AssertionError("nothing is to be stopped here")


def describe(kind: str, client: Any) -> None:
    """The same calls, and nothing done with their answers."""
    for start in range(0, COUNT, PER_CALL[kind]):
        ids: Sequence[str] = [NAMES[kind](number) for number in range(start, start + PER_CALL[kind])]
        if kind == "ecs":
            client.describe_tasks(tasks=ids)
        else:
            client.describe_instances(Filters=[{"Name": "instance-id", "Values": ids}])


def describe_in_brief(kind: str, client: Any) -> None:
    with brief.answers():
        describe(kind, client)


def least(act: Callable[[], object]) -> float:
    def once() -> float:
        began = time.process_time()
        act()
        return time.process_time() - began

    return min(once() for _ in range(TIMES))


def block(found: dict[str, Any]) -> str:
    head = ["one look at", "CPU seconds", "of which boto3 takes: sign, send, receive, read"]
    rows = [
        [f"{COUNT:,} {WORDS[kind]}", f"{said['whole']:.3f}", f"{said['client']:.3f} ({client_share(said):.0%})"]
        for kind, said in found.items()
    ]
    own = figures.measured_by(
        "python -m benchmarks.looks", records.days(found), f"boto3 {boto3.__version__}, {records.codes(found)}"
    )
    return f"{figures.table(head, rows)}\n\n{own}"


def client_share(said: dict[str, float]) -> float:
    return said["client"] / said["whole"]


if __name__ == "__main__":
    main()
