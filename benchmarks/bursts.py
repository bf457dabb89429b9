"""`python -m benchmarks.bursts`: how fast AWS's limits let a burst be launched, and how near to that we come.

The fake of AWS enforces the documented token buckets and refuses what is faster. The table goes into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import boto3
from botocore.config import Config

from airflow_transient.aws import pacing
from airflow_transient.aws.ec2 import Ec2Launcher
from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.aws.launcher import Refused
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.launch import LaunchKey, Owner
from airflow_transient.errors import LaunchError
from benchmarks import figures, records
from benchmarks.fake.process import FakeAws
from benchmarks.fake.world import LIMITS

PART = "bursts"
TASKS, MACHINES = 500, 100
OFF = pacing.Limit(1_000_000, 1_000_000)
WORDS = {
    "ecs": "{} ECS tasks on Fargate",
    "ecs unpaced": "the same without our pacing: AWS refuses, we ask again later",
    "ec2": "{} EC2 machines",
}
NAMES = {"ecs": "RunTask", "ec2": "RunInstances"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--machines", type=int, default=MACHINES)
    wishes = parser.parse_args()
    for name, count in {"ecs": wishes.tasks, "ecs unpaced": wishes.tasks, "ec2": wishes.machines}.items():
        print(WORDS[name].format(count), flush=True)
        records.keep(PART, name, burst(name, count))
    figures.write("performance-bursts", block(records.kept(PART)), figures.PAGE)


def burst(name: str, count: int) -> dict[str, Any]:
    kind, _, unpaced = name.partition(" ")
    with FakeAws() as aws, paced(not unpaced):
        aws.door(limits=True)
        launcher, request = asked(kind, count, aws)
        began = time.monotonic()
        try:
            came = len(launcher.launch(request).ids)
        except Refused as error:
            came = len(error.came.ids) if error.came else 0
        except LaunchError:
            came = 0
        seconds, told = time.monotonic() - began, aws.door()
    call = NAMES[kind]
    return {
        "count": count,
        "came": came,
        "seconds": seconds,
        "floor": floor(kind, count),
        "calls": told.calls[call],
        "refused": sum(number for limit, number in told.refused.items() if limit.startswith(call)),
    }


@contextmanager
def paced(on: bool) -> Iterator[None]:
    pacing.configure({} if on else dict.fromkeys(pacing.LIMITS, OFF))
    try:
        yield
    finally:
        pacing.configure({})


def asked(kind: str, count: int, aws: FakeAws) -> tuple[Any, Any]:
    """The launcher, and the request that it is to be timed with."""
    session = boto3.Session("AKIAIOSFODNN7EXAMPLE", "secret", region_name=aws.env["AWS_DEFAULT_REGION"])

    def client(service: str, region_name: str | None = None, **config: Any) -> Any:
        return session.client(service, region_name=region_name, endpoint_url=aws.url, config=Config(**config))

    if kind == "ecs":
        launcher: Any = EcsLauncher(client)
        words = {"task_definition": "work", "launch_type": "FARGATE", "hard_cap": count, "task_count": count}
        spec: Any = replace(EcsSpec.of(**words), count=count)
    else:
        launcher = Ec2Launcher(client)
        image = {"image_id": "ami-0123456789abcdef0", "instance_type": "t3.small"}
        spec = Ec2Spec.of(command="true", count=count, **image)
    key = LaunchKey(Owner("benchmark", "dag", "run", "task"), f"{time.time_ns():x}")
    return launcher, launcher.prepare(spec, key, spec.pools()[0], datetime.now(timezone.utc))


def floor(kind: str, count: int) -> float:
    """The least seconds that the documented limits let it take, if it is the only one who asks."""
    burst_of, a_second = LIMITS["RunTask tasks" if kind == "ecs" else "RunInstances instances"]
    return max(0.0, count - burst_of) / a_second


def block(found: dict[str, Any]) -> str:
    head = ["burst", "calls", "refused by AWS's limits", "started", "seconds", "the limits' floor"]
    rows = [
        [
            WORDS[name].format(said["count"]),
            *(str(said[number]) for number in ("calls", "refused", "came")),
            f"{said['seconds']:.1f}",
            f"{said['floor']:.0f}",
        ]
        for name, said in found.items()
    ]
    own = figures.measured_by(
        "python -m benchmarks.bursts", records.days(found), f"boto3 {boto3.__version__}, {records.codes(found)}"
    )
    return f"{figures.table(head, rows)}\n\n{own}"


if __name__ == "__main__":
    main()
