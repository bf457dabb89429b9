"""`python -m benchmarks.jobs_fires`: what a fire of a job costs, in CPU seconds of all of Airflow's processes.

A whole Airflow and the local cloud on one machine; what Airflow needs while nothing fires is taken off. The table goes
into docs/jobs.md.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow_transient.jobs.editing import begun, made
from airflow_transient.jobs.store import Snapshot, open_store, update
from airflow_transient.localcloud import LocalCloud
from benchmarks import figures
from tests.e2e.serving import ROOT, Server, serving

sys.path.insert(0, str(ROOT / "scripts"))

from _children import descendants

PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
#: Seconds that are measured, and those before, in which what is new comes in.
SPAN, SETTLING = 60.0, 25.0
TICKS = os.sysconf("SC_CLK_TCK")
SQS = {"type": "sqs", "queueName": "empty", "messagesPerTask": 10}


@dataclass(frozen=True)
class Kind:
    """So many jobs that fire every so many seconds, and how such a fire goes."""

    what: str
    jobs: int
    every: int
    words: Mapping[str, Any]


KINDS = (
    Kind("`depth` finds nothing to do: skipped in the triggerer", 12, 10, {"taskDefinition": "brief", "trigger": SQS}),
    Kind("`launch` finds enough running: one start of a worker", 2, 10, {"taskDefinition": "long"}),
    Kind("`launch` launches, `wait` waits and tells: three starts", 2, 20, {"taskDefinition": "brief"}),
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, LocalCloud() as cloud:
        furnish(cloud)
        home = Path(folder) / "airflow"
        more = {**cloud.env, "AIRFLOW__TRANSIENT__DEPLOYMENT_ID": "benchmark"}
        with serving(home, PARTS, {**more, "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10"}) as server:
            time.sleep(SETTLING)
            idle, _ = spent(server)
            rows = [row(server, number, kind, idle) for number, kind in enumerate(KINDS)]
    head = ["a fire of which", "CPU seconds", "so many a minute and core"]
    note = f"Airflow itself, where nothing fires, takes {idle / SPAN:.2f} of a core."
    block = f"{figures.table(head, rows)}\n\n{note}\n\n{figures.measured_by('python -m benchmarks.jobs_fires')}"
    figures.write("jobs-fires", block)


def furnish(cloud: LocalCloud) -> None:
    cloud.client("sqs").create_queue(QueueName="empty")
    for family, script in (("long", "sleep 600"), ("brief", "true")):
        container = {"name": "main", "image": "busybox", "command": ["sh", "-c", script], "memory": 64}
        cloud.client("ecs").register_task_definition(family=family, containerDefinitions=[container])


def row(server: Server, number: int, kind: Kind, idle: float) -> list[str]:
    ids = [f"kind-{number}-{one}" for one in range(kind.jobs)]
    written(server, ids, kind)
    time.sleep(SETTLING)
    seconds, fires = spent(server)
    anew = Server(server.url, server.token, server.home)  # the other connection was idle for too long
    for id in ids:
        anew.ask("PATCH", f"/api/v2/dags/job.{id}", {"is_paused": True})
    if not fires:
        raise SystemExit(f"nothing has fired: {kind.what}")
    each = max(0.0, seconds - idle) / fires
    print(f"{kind.what}: {fires} fires, {seconds:.1f} s, idle {idle:.1f} s", flush=True)
    return [kind.what, f"{each:.2f}", f"{60 / each:.0f}" if each else "–"]


def written(server: Server, ids: list[str], kind: Kind) -> None:
    now = datetime.now(timezone.utc)
    documents = [made({"id": id, "schedule": f"*/{kind.every}", **kind.words}, lambda low, _: low) for id in ids]

    def change(snapshot: Snapshot) -> Snapshot:
        return snapshot.with_jobs(*(begun(one, now, snapshot.next_revision) for one in documents))

    update(open_store(f"file://{server.home}/transient/jobs.json"), change)


def spent(server: Server) -> tuple[float, int]:
    """CPU seconds of all processes below this one, and runs of jobs that ended, in one span of time."""
    seconds, ended = cpu(), runs(server)
    time.sleep(SPAN)
    return cpu() - seconds, runs(server) - ended


def runs(server: Server) -> int:
    query = "SELECT count(*) FROM dag_run WHERE dag_id LIKE 'job.%' AND state IN ('success', 'failed')"
    with sqlite3.connect(f"file:{server.home}/airflow.db?mode=ro", uri=True, timeout=60) as database:
        return int(database.execute(query).fetchone()[0])


def cpu() -> float:
    """With what their ended children took."""
    return sum(_times()) / TICKS


def _times() -> Iterator[int]:
    for pid in descendants(os.getpid()):
        try:
            said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        except OSError:
            continue  # it has ended since: its parent's now
        yield sum(int(word) for word in said.rpartition(")")[2].split()[11:15])


if __name__ == "__main__":
    main()
