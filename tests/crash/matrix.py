"""`make crash-matrix`: kill the task process at every step, let Airflow recover, and count what there is.

All points are parallel runs of one Airflow (api-server, scheduler, dag-processor, triggerer) on one local cloud. What
is counted is asked of the cloud afterwards: instances ever launched, instances left, jobs that ran, and the verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from _children import descendants, managed  # noqa: E402 - the scripts are no package
from up import Api, airflow_env, free_port, generated_password, server_env, unhealthy  # noqa: E402

from airflow_transient.localcloud import LocalCloud  # noqa: E402

HOME = ROOT / ".airflow" / "crash"
REPORT = ROOT / "docs" / "reliability.md"
DAGS = Path(__file__).parent / "dags"
PATIENCE = 200.0

#: Steps of the journey at which the task process is killed, in their order.
LAUNCHING = (
    "before prepare",
    "after prepare",
    "before writing 'asked'",
    "after writing 'asked'",
    "before launch",
    "after launch",
    "before writing 'placed in part'",
    "after writing 'placed in part'",
    "before writing 'placed'",
    "after writing 'placed'",
)
DEFERRED = (
    *LAUNCHING,
    "before deferring",
    "before execute_complete",
    "before writing 'told succeeded'",
    "after writing 'told succeeded'",
    "after execute_complete",
)
IN_WORKER = (
    *LAUNCHING,
    "before observe",
    "after observe",
    "before writing 'told succeeded'",
    "after writing 'told succeeded'",
)
STOCK = ("before launch", "after launch")
#: No kill, but an unclear answer: RunInstances takes effect and the connection is reset before it says so.
LOST = "answer of RunInstances lost"
#: What a person does to a deferred task, and what is to be left of it: (instances launched, verdict).
ACTS = {"cleared": (2, "succeeded"), "marked failed": (1, "failed"), "marked success": (1, "success")}
SHORT = (
    "after writing 'asked'",
    "after launch",
    "before writing 'placed'",
    "before deferring",
    "before execute_complete",
)


@dataclass(frozen=True)
class Row:
    """What there was of one run in the end."""

    dag: str
    at: str
    launched: int
    left: int
    jobs: int | None
    verdict: str


class Airflow:
    """The REST API, with what the matrix does to runs."""

    def __init__(self, api: Api, token: str) -> None:
        self.api, self.token = api, token

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api.url}/api/v2{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return dict(json.loads(answer.read() or b"{}"))

    def trigger(self, dag: str, run: str, at: str) -> None:
        self.ask("POST", f"/dags/{dag}/dagRuns", {"dag_run_id": run, "logical_date": None, "conf": {"at": at}})

    def task(self, dag: str, run: str) -> dict[str, Any]:
        return self.ask("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/job")

    def over(self, dag: str, run: str) -> bool:
        return self.ask("GET", f"/dags/{dag}/dagRuns/{run}")["state"] in ("success", "failed")

    def verdict(self, dag: str, run: str) -> str:
        state = str(self.task(dag, run)["state"])
        try:
            said = self.ask("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/job/xcomEntries/return_value")["value"]
        except urllib.error.HTTPError:
            return state
        said = json.loads(said) if isinstance(said, str) else said
        return str(said["outcome"]) if isinstance(said, dict) and "outcome" in said else state

    def act(self, what: str, dag: str, run: str) -> None:
        if what == "cleared":
            wish = {"dry_run": False, "task_ids": ["job"], "dag_run_id": run, "only_failed": False}
            self.ask("POST", f"/dags/{dag}/clearTaskInstances", wish)
        else:
            state = what.removeprefix("marked ")
            self.ask("PATCH", f"/dags/{dag}/dagRuns/{run}/taskInstances/job", {"new_state": state})


def main() -> int:
    wishes = argparse.ArgumentParser(description=__doc__)
    wishes.add_argument("--short", action="store_true", help="the points that matter most, for the tests")
    wishes.add_argument("--json", type=Path, help="write the rows there")
    wishes.add_argument("--report", action="store_true", help=f"write the table into {REPORT.name}")
    asked = wishes.parse_args()
    rows = run(asked.short)
    lines = table(rows)
    print("\n".join(lines))
    if asked.json:
        asked.json.write_text(json.dumps([vars(row) for row in rows]), encoding="utf-8")
    if asked.report:
        write_report(lines)
    return 0 if all(as_promised(row) for row in rows if row.dag != "stock") else 1


def as_promised(row: Row) -> bool:
    launched, verdict = ACTS.get(row.at, (1, "succeeded"))
    return (row.launched, row.left, row.verdict) == (launched, 0, verdict)


def run(short: bool) -> list[Row]:
    shutil.rmtree(HOME, ignore_errors=True)
    (HOME / "marks").mkdir(parents=True)
    with LocalCloud() as cloud, ExitStack() as stack:
        cloud.client("s3").create_bucket(
            Bucket="results", CreateBucketConfiguration={"LocationConstraint": cloud.region}
        )
        env = environment(cloud)
        airflow = stack.enter_context(started(env))
        runs = plan(short)
        lose_answers(cloud, airflow, runs)
        for name, (dag, at) in runs.items():
            if at != LOST:
                airflow.trigger(dag, name, "" if at in ACTS else at)
        acts(airflow, runs)
        kill_triggerer(stack, env, airflow)
        wait_for(lambda: all(airflow.over(dag, name) for name, (dag, _) in runs.items()), "every run to end")
        wait_for(lambda: set(cloud.states().values()) <= {"terminated"}, "every machine to end", give_up=False)
        return [row_of(cloud, airflow, name, dag, at) for name, (dag, at) in runs.items()]


def plan(short: bool) -> dict[str, tuple[str, str]]:
    """run id -> (dag, step)."""
    wanted = {"deferred": DEFERRED, "in_worker": IN_WORKER, "stock": STOCK}
    points = [(dag, at) for dag, steps in wanted.items() for at in steps if not short or dag == "stock" or at in SHORT]
    points += [("deferred", LOST), ("in_worker", LOST), ("stock", LOST)]
    points += [("deferred", "never"), ("in_worker", "never"), *(("deferred", act) for act in ACTS)]
    return {f"run-{number:02d}": point for number, point in enumerate(points)}


def environment(cloud: LocalCloud) -> dict[str, str]:
    ec2 = cloud.client("ssm").get_parameter(
        Name="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    )
    return {
        **airflow_env(HOME, cloud.env),
        **server_env(free_port(8380)),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW_VAR_CRASH_IMAGE": ec2["Parameter"]["Value"],
        "AIRFLOW__TRANSIENT__DEPLOYMENT_ID": "crash-matrix",
        "CRASH_MARKS": str(HOME / "marks"),
        # A killed supervisor is noticed after 300 s and a killed triggerer after 30 s otherwise.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    }


@contextmanager
def started(env: Mapping[str, str]) -> Iterator[Airflow]:
    with ExitStack() as stack:
        airflow = [sys.executable, "-m", "airflow"]
        done = subprocess.run([*airflow, "db", "migrate"], env=env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        for part in ("api-server", "scheduler", "dag-processor", "triggerer"):
            stack.enter_context(component(part, env))
        api = Api(env["AIRFLOW__API__BASE_URL"])
        wait_for(lambda: not unhealthy(api), "Airflow")
        asked = Airflow(api, api.token("admin", generated_password(HOME)))
        wait_for(lambda: len(asked.ask("GET", "/dags")["dags"]) >= 3, "the DAGs")
        yield asked


@contextmanager
def component(part: str, env: Mapping[str, str], name: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with (HOME / f"{name or part}.log").open("wb") as log:
        argv = [sys.executable, "-m", "airflow", part]
        with managed(argv, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as child:
            running[part] = child
            yield child


running: dict[str, subprocess.Popen[bytes]] = {}


def lose_answers(cloud: LocalCloud, airflow: Airflow, runs: Mapping[str, tuple[str, str]]) -> None:
    """One by one, and before the others: the fault hits the next call, whoever makes it."""
    for name, (dag, at) in runs.items():
        if at == LOST:
            fault = cloud.faults.lose_answer("RunInstances")
            airflow.trigger(dag, name, "")
            wait_for(lambda fault=fault: cloud.faults.hits(fault) > 0, f"{name} to lose its answer")


def acts(airflow: Airflow, runs: Mapping[str, tuple[str, str]]) -> None:
    """Clear and mark what is deferred."""
    for name, (dag, at) in runs.items():
        if at in ACTS:
            wait_for(lambda dag=dag, name=name: airflow.task(dag, name)["state"] == "deferred", f"{name} to defer")
            airflow.act(at, dag, name)


def kill_triggerer(stack: ExitStack, env: Mapping[str, str], airflow: Airflow) -> None:
    """SIGKILL the whole triggerer while runs are deferred, and start another."""
    for pid in descendants(running["triggerer"].pid):
        os.kill(pid, signal.SIGKILL)
    stack.enter_context(component("triggerer", env, "triggerer-2"))


def wait_for(holds: Any, what: str, give_up: bool = True) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if holds():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            if give_up:
                raise SystemExit(f"Gave up waiting for {what}; the logs are in {HOME}.")
            return
        time.sleep(0.5)


def row_of(cloud: LocalCloud, airflow: Airflow, name: str, dag: str, at: str) -> Row:
    mine = [{"Name": "tag:transient:run", "Values": [name]}]
    found = [i for r in cloud.client("ec2").describe_instances(Filters=mine)["Reservations"] for i in r["Instances"]]
    ids = [i["InstanceId"] for i in found]
    keys = [o["Key"] for o in cloud.client("s3").list_objects_v2(Bucket="results").get("Contents", ())]
    jobs = sum(key.endswith("/ran") and any(f"/{member}/" in key for member in ids) for key in keys)
    left = sum(i["State"]["Name"] != "terminated" for i in found)
    return Row(dag, at, len(found), left, None if dag == "stock" else jobs, airflow.verdict(dag, name))


def table(rows: list[Row]) -> list[str]:
    titles = {"deferred": "ours, deferred", "in_worker": "ours, in a worker", "stock": "EC2CreateInstanceOperator"}
    lines = ["| operator | killed | launched | left running | jobs run | verdict |", "|---|---|---|---|---|---|"]
    for row in rows:
        jobs = "" if row.jobs is None else row.jobs
        lines.append(f"| {titles[row.dag]} | {row.at} | {row.launched} | {row.left} | {jobs} | {row.verdict} |")
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
