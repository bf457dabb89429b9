"""`python -m benchmarks.end_to_end`: one run of many deferred tasks through a whole Airflow, its triggerer and workers.

The fake stands in for AWS: 200 jobs on these cores would be measured instead of Airflow, and the moment at which a job
ends must be known. Some end one by one while the others wait, then all the others at once. The table goes into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import signal
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import figures, records
from benchmarks.fake.process import FakeAws
from benchmarks.whole_airflow import Airflow, until, whole_airflow

PART = "end-to-end"
DAG = "many"
#: Seconds: in which nothing ends; in which what is young is looked at more often; between two that end one by one.
REST, YOUNG, APART = 30.0, 65.0, 6.0
PATIENCE = 2400.0
SETTINGS = {
    "AIRFLOW__TRANSIENT__DEPLOYMENT_ID": "benchmark",
    "AIRFLOW__CORE__PARALLELISM": "8",
}
FILE = """
from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_transient.operators.ecs import EcsBurstOperator

with DAG("{dag}", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=1000):
    EcsBurstOperator.partial(
        task_id="work", task_definition="work", launch_type="EC2", deferrable=True, retry_delay=timedelta(seconds=5)
    ).expand(
        overrides=[{{"main": {{"LABEL": str(number)}}}} for number in range({count})]
    )
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--tasks", type=int, default=200, help="mapped tasks that wait (%(default)s)")
    parser.add_argument("--rest", type=float, default=REST, help="seconds in which nothing ends (%(default)s)")
    parser.add_argument("--singles", type=int, default=20, help="tasks that end one by one (%(default)s)")
    wishes = parser.parse_args()
    end_when_asked()
    plan = {"tasks": wishes.tasks, "rest": wishes.rest, "singles": min(wishes.singles, wishes.tasks)}
    records.keep(PART, "run", {**measured(*plan.values()), "plan": plan})
    figures.write("performance-end-to-end", block(records.kept(PART)), figures.PAGE)


def measured(count: int, rest: float, singles: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, FakeAws() as aws:
        dags = {"many.py": FILE.format(dag=DAG, count=count)}
        with whole_airflow(Path(folder) / "airflow", dags, {**aws.env, **SETTINGS}) as airflow:
            until(lambda: airflow.knows(DAG), "Airflow has read the DAG")
            say(f"a run of {count} tasks, until all of them are deferred")
            began = time.monotonic()
            airflow.ask("POST", f"/api/v2/dags/{DAG}/dagRuns", {"logical_date": None})
            wait_for(airflow, count, "deferred")
            record: dict[str, Any] = {"count": count, "deferred": time.monotonic() - began}
            say(f"nothing ends: till none is young, {YOUNG:.0f} s, and then {rest:.0f} s that are measured")
            record["rest"] = rested(airflow, aws, rest)
            say(f"{singles} end one by one, {APART:.0f} s apart")
            record["singles"] = one_by_one(airflow, aws, singles)
            say("the others end at once")
            record["together"] = all_at_once(airflow, aws, count, singles)
            record["states"] = states(airflow)
    return record


def end_when_asked() -> None:
    """Once, with all that was started, and its folder."""
    wanted = (signal.SIGINT, signal.SIGTERM)

    def end(number: int, _: Any) -> None:
        for each in wanted:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for each in wanted:
        signal.signal(each, end)


def say(words: str) -> None:
    print(words, flush=True)


def rested(airflow: Airflow, aws: FakeAws, seconds: float) -> dict[str, Any]:
    """While all wait and nothing ends."""
    time.sleep(YOUNG)
    before, used, began = aws.door(), airflow.cpu("triggerer"), time.monotonic()
    time.sleep(seconds)
    took, used = time.monotonic() - began, airflow.cpu("triggerer") - used
    calls = {name: number * 60 / took for name, number in aws.door().since(before).items()}
    return {"calls": calls, "cpu": used * 60 / took, "mib": airflow.memory("triggerer") / 1024}


def one_by_one(airflow: Airflow, aws: FakeAws, count: int) -> list[float]:
    """Seconds from each state change to the end of its task instance."""
    labels = aws.door().labels
    moments = {str(number): time.monotonic() + 1 + APART * number for number in range(count)}
    aws.door(end={labels[name]: moment for name, moment in moments.items()})
    wait_for(airflow, count, "success", "failed")
    ahead, ends = time.time() - time.monotonic(), ended(airflow)
    return sorted(ends[int(name)] - (moment + ahead) for name, moment in moments.items() if int(name) in ends)


def all_at_once(airflow: Airflow, aws: FakeAws, count: int, before: int) -> dict[str, float]:
    moment = time.monotonic() + 1
    rest = [id for name, id in aws.door().labels.items() if int(name) >= before]
    aws.door(end=dict.fromkeys(rest, moment))
    wait_for(airflow, count, "success", "failed")
    return {"tasks": len(rest), "seconds": max(0.0, time.monotonic() - moment)}


def wait_for(airflow: Airflow, count: int, *wanted: str) -> None:
    def there() -> bool:
        found = states(airflow)
        return sum(found.get(state, 0) for state in wanted) >= count

    until(there, f"{count} are {' or '.join(wanted)}", PATIENCE, lambda: states(airflow))


def states(airflow: Airflow) -> dict[str, int]:
    query = "SELECT coalesce(state, 'none'), count(*) FROM task_instance WHERE dag_id = ? GROUP BY 1"
    return {str(state): int(number) for state, number in airflow.rows(query, DAG)}


def ended(airflow: Airflow) -> dict[int, float]:
    """Map index -> when the task instance succeeded, in seconds of the epoch."""
    query = "SELECT map_index, end_date FROM task_instance WHERE dag_id = ? AND state = 'success'"
    return {
        index: datetime.fromisoformat(date).replace(tzinfo=timezone.utc).timestamp()
        for index, date in airflow.rows(query, DAG)
    }


# --- the table


def block(found: Mapping[str, Any]) -> str:
    said = found["run"]
    count, rest, singles, together = said["count"], said["rest"], said["singles"], said["together"]
    succeeded = said["states"].get("success", 0)
    shares = [figures.share(singles, 0.5), figures.share(singles, 0.95), singles[-1]] if singles else []
    rows = [
        ["tasks that succeeded", f"{succeeded} of {count}"],
        ["from the run's start until all are deferred", f"{said['deferred']:.0f} s"],
        ["while all wait: calls to AWS a minute", ", ".join(f"{n:.0f} {name}" for name, n in rest["calls"].items())],
        ["the triggerer's CPU, Airflow's own included", f"{rest['cpu']:.1f} s a minute"],
        ["the memory of its processes", f"{rest['mib']:.0f} MiB"],
        [
            f"from a state change until its task has succeeded, {len(singles)} one by one: p50 / p95 / max",
            " / ".join(f"{value:.1f}" for value in shares) + " s",
        ],
        [f"the other {together['tasks']} at once, until all tasks have succeeded", f"{together['seconds']:.0f} s"],
    ]
    own = figures.measured_by(
        "python -m benchmarks.end_to_end",
        records.days(dict(found)),
        f"SQLite {sqlite3.sqlite_version}, {records.codes(dict(found))}",
    )
    return f"{figures.table(['one run', 'measured'], rows)}\n\n{own}"


if __name__ == "__main__":
    main()
