"""`make crash-matrix`: kill the task process at every step, let Airflow recover, and count what there is.

All points are parallel runs of one Airflow (api-server, scheduler, dag-processor, triggerer) on one local cloud. What
is counted is asked of the cloud afterwards: members ever launched, members left, jobs that were done, and the verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_transient.localcloud import LocalCloud
from tests.crash.counting import Count, furnish, nothing_runs
from tests.crash.meddling import Meddling, lose_answers
from tests.crash.points import BURST, BURSTS, DAGS, LOST, MACHINES, Row, Runs, as_promised, plan
from tests.crash.runs import ROOT, started, wait_for

REPORT = ROOT / "docs" / "reliability.md"


def main() -> int:
    wishes = argparse.ArgumentParser(description=__doc__)
    wishes.add_argument("--short", action="store_true", help="the points that matter most, for the tests")
    wishes.add_argument("--json", type=Path, help="write the rows there")
    wishes.add_argument("--report", action="store_true", help=f"write the tables into {REPORT.name}")
    asked = wishes.parse_args()
    rows = run(plan(asked.short))
    lines = tables(rows)
    print("\n".join(lines))
    broken = [row for row in rows if not as_promised(row)]
    print("\n".join(f"not as promised: {row}" for row in broken))
    if asked.json:
        asked.json.write_text(json.dumps([vars(row) for row in rows]), encoding="utf-8")
    if asked.report:
        write_report(lines)
    return 1 if broken else 0


def run(runs: Runs) -> list[Row]:
    with TemporaryDirectory() as held, LocalCloud(share=[held]) as cloud:
        furnish(cloud)
        with started(cloud, Path(held)) as airflow:
            lose_answers(cloud, airflow, runs)
            for name, point in sorted(runs.items(), key=lambda run: not run[1].met):
                if point.at not in LOST:
                    airflow.trigger(name, point)
            wait_for(Meddling(cloud, airflow, runs).over, "all to be met that something is done to")
            wait_for(lambda: all(airflow.over(name, point) for name, point in runs.items()), "every run to end")
            wait_for(lambda: nothing_runs(cloud), "every member to end", give_up=False)
            count = Count(cloud)
            return [count.row(name, point, airflow.verdict(name, point)) for name, point in runs.items()]


def tables(rows: list[Row]) -> list[str]:
    machines, bursts = ([row for row in rows if row.dag in dags] for dags in (MACHINES, BURSTS))
    return [
        *("### One machine of EC2", "", *table(machines), ""),
        *(f"### A burst of {BURST} tasks of ECS", "", *table(bursts)),
    ]


def table(rows: list[Row]) -> list[str]:
    lines = ["| operator | killed | launched | left running | jobs run | verdict |", "|---|---|---|---|---|---|"]
    for row in rows:
        jobs = "" if row.jobs is None else row.jobs
        lines.append(f"| {DAGS[row.dag][0]} | {row.at} | {row.launched} | {row.left} | {jobs} | {row.verdict} |")
    return lines


def write_report(lines: list[str]) -> None:
    machine = f"{os.cpu_count()} shared cores, Python {platform.python_version()}, Airflow {version('apache-airflow')}"
    block = "\n".join(
        [
            "<!-- crash-matrix -->",
            *lines,
            "",
            f"Written by `make crash-matrix` on {date.today()}, {machine}.",
            "<!-- /crash-matrix -->",
        ]
    )
    text = REPORT.read_text(encoding="utf-8")
    before, rest = text.split("<!-- crash-matrix -->")
    REPORT.write_text(before + block + rest.split("<!-- /crash-matrix -->")[1], encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
