"""`python -m benchmarks.imports`: what a DAG file pays for importing our modules, and for the stock provider's.

CPU seconds over `from airflow.sdk import DAG`, each in a fresh interpreter, by turns. The table goes into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from benchmarks import figures, records, stock

PART = "imports"
SDK = "from airflow.sdk import DAG"
RUNS = 5
#: CPU seconds that a module of ours may take at most.
TARGET = 0.10
OURS = (
    "airflow_transient.operators.ec2.TransientEc2Operator",
    "airflow_transient.operators.ecs.EcsBurstOperator",
    "airflow_transient.sensors.sqs.SqsDepthSensor",
    "airflow_transient.triggers.sqs.SqsDepthEventTrigger",
    "airflow_transient.timetables.cron.EightFieldCronTimetable",
    "airflow_transient.jobs.build_dags",
    "airflow_transient.retry.transient_retry_policy",
)
STOCK = (
    "airflow.providers.amazon.aws.operators.ec2.EC2CreateInstanceOperator",
    "airflow.providers.amazon.aws.operators.ecs.EcsRunTaskOperator",
    "airflow.providers.amazon.aws.sensors.ec2.EC2InstanceStateSensor",
    "airflow.providers.amazon.aws.sensors.sqs.SqsSensor",
)
HEAVY = ("boto3", "botocore", "fastapi")
SCRIPT = """
import json, sys, time
{sdk}
before, began = set(sys.modules), time.process_time()
from {module} import {name}
took, new = time.process_time() - began, set(sys.modules) - before
print(json.dumps([took, len(new), [name for name in {heavy} if name in new]]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="interpreters for each module (%(default)s)")
    runs = parser.parse_args().runs
    for name, record in measured(runs).items():
        records.keep(PART, name, record)
    figures.write("performance-imports", block(records.kept(PART)), figures.PAGE)


def measured(runs: int) -> dict[str, dict[str, Any]]:
    names = (*OURS, *STOCK)
    for name in names:  # writes what Python compiles
        once(name)
    found: dict[str, list[Any]] = {name: [] for name in names}
    for number in range(runs):
        print(f"{len(names)} imports, turn {number + 1} of {runs}", flush=True)
        for name in names:
            found[name].append(once(name))
    return {name: summed(name, runs) for name, runs in found.items()}


def once(name: str) -> Any:
    module, _, what = name.rpartition(".")
    script = SCRIPT.format(sdk=SDK, module=module, name=what, heavy=HEAVY)
    env = stock.environment({}, records.FOLDER / "home-imports")
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def summed(name: str, runs: list[Any]) -> dict[str, Any]:
    seconds = [run[0] for run in runs]
    _, modules, heavy = runs[0]
    side = "ours" if name in OURS else "stock"
    return {"side": side, "runs": len(runs), "least": min(seconds), "modules": modules, "heavy": heavy}


def block(found: dict[str, Any]) -> str:
    runs = min(said["runs"] for said in found.values())
    head = ["import", f"CPU seconds, the least of {runs}", "modules", "of these"]
    provider = f"its provider for Amazon {version('apache-airflow-providers-amazon')}, {records.codes(found)}"
    own = figures.measured_by("python -m benchmarks.imports", records.days(found), provider)
    return f"{figures.table(head, rows(found))}\n\n{own}"


def rows(found: dict[str, Any]) -> Iterator[list[str]]:
    for name in (*OURS, *STOCK):
        if said := found.get(name):
            yield [f"`{name}`", f"{said['least']:.3f}", str(said["modules"]), ", ".join(said["heavy"]) or "–"]


if __name__ == "__main__":
    main()
