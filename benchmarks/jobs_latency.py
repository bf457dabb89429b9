"""`python -m benchmarks.jobs_latency`: from the fire of a job that was just POSTed to the start of its first task.

A whole Airflow and the local cloud on one machine; each job is new and fires once. The table goes into docs/jobs.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow_transient.localcloud import LocalCloud
from benchmarks import figures
from tests.e2e.serving import Server, serving
from tests.waiting import eventually

PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
JOBS = 20
#: Seconds from a POST to the fire, and from one POST to the next.
AHEAD, APART = 8, 12
FAMILY = "brief"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS, help="how many, one every 12 s (%(default)s)")
    count = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder, LocalCloud() as cloud:
        container = {"name": "main", "image": "busybox", "command": ["true"], "memory": 64}
        cloud.client("ecs").register_task_definition(family=FAMILY, containerDefinitions=[container])
        more = {**cloud.env, "AIRFLOW__TRANSIENT__DEPLOYMENT_ID": "benchmark"}
        with serving(Path(folder) / "airflow", PARTS, more) as server:
            due = dict(post(server, number) for number in range(count))
            eventually(lambda: len(started(cloud)) >= count, within=60)
            came = started(cloud)
    late = sorted((came[dag] - at).total_seconds() for dag, at in due.items())
    print("seconds:", " ".join(f"{seconds:.1f}" for seconds in late), flush=True)
    told = [figures.share(late, 0.5), figures.share(late, 0.95), late[0], late[-1]]
    head = ["a new job's fire until its task has started", "p50", "p95", "least", "most"]
    rows = [[f"{count} jobs, POSTed {AHEAD} s before", *(f"{seconds:.1f} s" for seconds in told)]]
    block = f"{figures.table(head, rows)}\n\n{figures.measured_by('python -m benchmarks.jobs_latency')}"
    figures.write("jobs-latency", block)


def post(server: Server, number: int) -> tuple[str, datetime]:
    """One job that fires in some seconds, and not again today; its DAG and its moment."""
    began = time.monotonic()
    at = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=AHEAD)
    document = {"id": f"job-{number}", "taskDefinition": FAMILY, "schedule": f"{at.second} {at.minute} {at.hour}"}
    answer = server.ask("POST", "/transient/jobs", document)
    if answer.status != 201:
        raise SystemExit(f"POST answered {answer.status}: {answer.content.decode()}")
    time.sleep(max(0.0, APART - (time.monotonic() - began)))
    return f"job.job-{number}", at


def started(cloud: LocalCloud) -> dict[str, datetime]:
    """DAG -> when its task began to run."""
    return {_dag(task): task["startedAt"] for task in _tasks(cloud) if "startedAt" in task}


def _tasks(cloud: LocalCloud) -> Iterator[dict[str, Any]]:
    ecs = cloud.client("ecs")
    arns = [arn for state in ("RUNNING", "STOPPED") for arn in ecs.list_tasks(desiredStatus=state)["taskArns"]]
    if arns:
        yield from ecs.describe_tasks(tasks=arns, include=["TAGS"])["tasks"]


def _dag(task: dict[str, Any]) -> str:
    return str(next(tag["value"] for tag in task["tags"] if tag["key"] == "transient:dag"))


if __name__ == "__main__":
    main()
