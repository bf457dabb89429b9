"""`python -m tests.scale_out`: many launches through a whole deployment, a worker and a triggerer killed on the way.

Airflow runs in all its parts, on Postgres and Redis with two triggerers and two workers, against one local cloud. What
is counted is asked of the cloud and of Airflow afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import textwrap
import time
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_transient.localcloud import LocalCloud
from tests.crash.counting import furnish, nothing_runs
from tests.scale_out.counting import Row, launched, row
from tests.scale_out.rig import (
    DAGS,
    ROOT,
    SIZE,
    Airflow,
    GaveUp,
    Parts,
    kill,
    processes,
    started,
    wait_for,
)

REPORT = ROOT / "docs" / "deployment.md"
BEGIN, END = "<!-- scale-out -->", "<!-- /scale-out -->"
PATIENCE = 900.0
#: As many tasks as a worker has processes may have died with it, and come back when Airflow has given them up.
IN_HANDS = int(SIZE["AIRFLOW__CELERY__WORKER_CONCURRENCY"])


def main() -> int:
    wishes = argparse.ArgumentParser(description=__doc__)
    wishes.add_argument("--launches", type=int, default=200, help="half of them machines, half tasks (%(default)s)")
    wishes.add_argument("--json", type=Path, help="write the rows there")
    wishes.add_argument("--report", action="store_true", help=f"write the table into {REPORT.name}")
    asked = wishes.parse_args()
    try:
        rows, hit, story = run(asked.launches // 2)
    except GaveUp as error:
        print(error, file=sys.stderr)
        return 1
    lines = [*table(rows), "", *textwrap.wrap(story, 120)]
    print("\n".join(lines))
    if asked.json:
        asked.json.write_text(json.dumps({"rows": [asdict(row) for row in rows], **asdict(hit)}), encoding="utf-8")
    if nothing := hit.nothing(rows):
        print(nothing, file=sys.stderr)
    elif asked.report:
        write_report(lines)
    return 0 if not nothing and all(row.as_promised for row in rows) else 1


@dataclass(frozen=True)
class Hit:
    """What the kills met. `held`: tasks in the worker's hands; `orphaned`: waits of the triggerer's."""

    held: int
    orphaned: int

    def nothing(self, rows: list[Row]) -> str:
        """Which of them proves nothing, in words."""
        if not self.held and all(row.tries == row.wanted for row in rows):
            return "The worker that was killed had no task in its hands: the run proves nothing."
        return "" if self.orphaned else "No launch waited with the triggerer that was killed: the run proves nothing."


def run(each: int) -> tuple[list[Row], Hit, str]:
    with TemporaryDirectory() as folder, LocalCloud(share=[folder]) as cloud:
        furnish(cloud)
        held = Path(folder)
        for dag in DAGS:
            (held / dag).touch()
        with started(cloud, held, each) as (airflow, parts):
            hit, story = journey(cloud, airflow, parts, held, each)
            return [row(cloud, dag, each, airflow.tasks(dag)) for dag in DAGS], hit, story


def journey(cloud: LocalCloud, airflow: Airflow, parts: Parts, held: Path, each: int) -> tuple[Hit, str]:
    """From the first launch to the last end; what happened on the way, in words."""
    wanted, began = each * len(DAGS), time.monotonic()
    worker = parts["worker-1"]
    idle = processes(worker)
    for dag in DAGS:
        airflow.trigger(dag)
    wait_for(lambda: launched(cloud) >= wanted // 3, "a third of the launches", PATIENCE)
    early = launched(cloud)
    wait_for(lambda: processes(worker) > idle, "the worker to have a task in its hands", PATIENCE)
    in_hands = kill(worker) - idle
    wait_for(lambda: airflow.waits().total() >= wanted - IN_HANDS, "the launches to be waited for", PATIENCE)
    waits, triggerers = airflow.waits(), airflow.triggerers()
    kill(parts["triggerer-1"])
    (held / "tasks").unlink()
    found = wait_for(lambda: len(airflow.triggerers()) < len(triggerers), "Airflow to notice", PATIENCE)
    living = airflow.triggerers()
    taken = wait_for(lambda: set(airflow.waits()) <= living, "the other triggerer to take over", PATIENCE)
    (held / "machines").unlink()
    ended = wait_for(lambda: all(map(airflow.over, DAGS)), "every run to end", PATIENCE)
    wait_for(lambda: nothing_runs(cloud), "every member to end", 60, give_up=False)
    orphaned = sum(count for triggerer, count in waits.items() if triggerer not in living)
    return Hit(max(0, in_hands), orphaned), (
        f"One of two workers was killed when {early} of {wanted} were launched, and one of two triggerers when "
        f"{waits.total()} waited, {orphaned} of them with it. The jobs of ECS ended while nobody watched those, "
        f"the jobs of EC2 after the other triggerer had taken them over, {found + taken:.0f} s later. "
        f"All runs had ended {ended:.0f} s after that, and {time.monotonic() - began:.0f} s after their start. "
        f"{airflow.refused()} times a message was given out again, and Airflow refused it."
    )


def table(rows: list[Row]) -> list[str]:
    names = {"machines": "EC2, `TransientEc2Operator`", "tasks": "ECS, `EcsBurstOperator`"}
    return [
        "| launches | wanted | succeeded | launched in the cloud | jobs run | doubled | lost | left running | tries |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {names[row.dag]} | {row.wanted} | {row.succeeded} | {row.launched} | {row.jobs} | {row.doubled} "
            f"| {row.lost} | {row.left} | {row.tries} |"
            for row in rows
        ),
    ]


def write_report(lines: list[str]) -> None:
    packages = {"Airflow": "apache-airflow", "celery": "celery", "its provider": "apache-airflow-providers-celery"}
    versions = ", ".join(f"{name} {version(package)}" for name, package in packages.items())
    machine = f"{os.cpu_count()} shared cores (load {os.getloadavg()[2]:.0f}), Python {platform.python_version()}"
    written = f"Written by `python -m tests.scale_out --report` on {date.today()}, {machine}, {versions}."
    text = REPORT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    block = "\n".join([BEGIN, *lines, "", written, END])
    REPORT.write_text(before + block + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
