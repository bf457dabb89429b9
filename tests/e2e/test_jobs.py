"""Jobs on a whole Airflow and the local cloud: fires that do not wait for one another, and what stops no job."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from airflow_transient.jobs.store import JobStore, Snapshot, StoredJob, open_store, update
from airflow_transient.localcloud import LocalCloud
from tests.e2e.serving import Server, serving
from tests.waiting import eventually

pytestmark = [
    *(pytest.mark.slow, pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.e2e),
    pytest.mark.timeout(500),
]

UTC = timezone.utc
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
#: Seconds between fires, and of a task's life: four fires come while one waits.
PERIOD, LIFE = 10, 40
PATIENCE = 120.0
Row = Mapping[str, Any]


class Site:
    """An Airflow whose jobs are written past the API, as another host's would be."""

    def __init__(self, server: Server, cloud: LocalCloud) -> None:
        self.server, self.cloud = server, cloud
        self.home = server.home
        self.store: JobStore = open_store(f"file://{self.home}/transient/jobs.json")
        self.file = self.home / "transient" / "jobs.json"

    def write(self, *raws: Mapping[str, Any]) -> None:
        now = datetime.now(UTC)

        def change(snapshot: Snapshot) -> Snapshot:
            return snapshot.with_jobs(*(self._job(snapshot, raw, now) for raw in raws))

        update(self.store, change)

    def _job(self, snapshot: Snapshot, raw: Mapping[str, Any], now: datetime) -> StoredJob:
        made = StoredJob(raw["id"], dict(raw), snapshot.next_revision, now, now)
        before = snapshot.jobs.get(made.id)
        return replace(made, created_at=before.created_at, not_before=before.not_before) if before else made

    def rows(self, query: str, *values: str) -> list[Row]:
        with sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=60) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(query, values)]

    def tasks(self, job: str, task: str) -> list[Row]:
        """Of all its runs, in the order of their fires."""
        return self.rows(
            "SELECT t.*, r.logical_date AS fire, r.state AS run FROM task_instance t JOIN dag_run r"
            " ON r.dag_id = t.dag_id AND r.run_id = t.run_id"
            " WHERE t.dag_id = ? AND t.task_id = ? ORDER BY r.logical_date",
            f"job.{job}",
            task,
        )

    def states(self, job: str, task: str) -> list[str | None]:
        return [row["state"] for row in self.tasks(job, task)]

    def dag(self, dag_id: str) -> Row:
        found = self.rows("SELECT * FROM dag WHERE dag_id = ?", dag_id)
        return found[0] if found else {}

    def running(self, family: str) -> list[str]:
        return list(self.cloud.client("ecs").list_tasks(family=family)["taskArns"])

    def told(self) -> str:
        """What the service DAG's page says."""
        return str(self.ask("GET", "/dags/transient_jobs/details")["doc_md"])

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """On a connection of its own: between two questions a minute may pass."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.server.url}/api/v2{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", f"Bearer {self.server.token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))

    def logs(self, row: Row) -> list[Path]:
        folder = (
            self.home / "logs" / f"dag_id={row['dag_id']}" / f"run_id={row['run_id']}" / f"task_id={row['task_id']}"
        )
        return sorted(folder.glob("*"))


def document(id: str, **words: Any) -> dict[str, Any]:
    return {"id": id, "schedule": f"*/{PERIOD}", "taskDefinition": "brief", **words}


STEADY = document("steady", taskDefinition="sleeper", taskCount=2)
DRAIN = document("drain", trigger={"type": "sqs", "queueName": "orders", "messagesPerTask": 10})
#: Its fires are a person's.
CLEARED = document("cleared", schedule="0 0 0 * * 29 2 9996", taskDefinition="cleared", taskCount=2)
LOST = document("lost", trigger={"type": "sqs", "queueName": "nowhere"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("jobs") / "airflow"
    with LocalCloud() as cloud:
        cloud.client("sqs").create_queue(QueueName="orders")
        for family, script in (("sleeper", f"sleep {LIFE}"), ("cleared", "sleep 300"), ("brief", "true")):
            container = {"name": "main", "image": "busybox", "command": ["sh", "-c", script], "memory": 64}
            cloud.client("ecs").register_task_definition(family=family, containerDefinitions=[container])
        more = {
            **cloud.env,
            "AIRFLOW__TRANSIENT__DEPLOYMENT_ID": "jobs-test",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
        }
        with serving(home, PARTS, more) as server:
            site = Site(server, cloud)
            site.write(STEADY, DRAIN, LOST, CLEARED)
            yield site


def gaps(rows: list[Row]) -> set[timedelta]:
    """Between fires; those of runs that a person made have no moment of their own."""
    moments = [datetime.fromisoformat(row["fire"]) for row in rows if row["fire"]]
    return {later - earlier for earlier, later in pairwise(moments)}


def test_every_fire_decides_while_earlier_ones_wait(site: Site) -> None:
    """Four fires come while the tasks of the first run; none is lost, and none launches what is there already."""
    eventually(lambda: "deferred" in site.states("steady", "wait"), PATIENCE, 0.5)
    first = site.states("steady", "wait").index("deferred")
    eventually(lambda: site.states("steady", "launch")[first:].count("skipped") >= 2, PATIENCE, 0.5)
    assert site.states("steady", "wait")[first] == "deferred"
    eventually(lambda: site.states("steady", "wait")[first] == "success", PATIENCE, 0.5)
    eventually(lambda: site.states("steady", "launch").count("success") >= 2, PATIENCE, 0.5)
    assert gaps(site.tasks("steady", "launch")) == {timedelta(seconds=PERIOD)}
    assert "failed" not in site.states("steady", "wait")
    assert len(site.running("sleeper")) <= 2


def test_a_gate_with_nothing_to_launch_starts_no_worker(site: Site) -> None:
    eventually(lambda: site.states("drain", "depth").count("skipped") >= 2, PATIENCE, 0.5)
    for row in site.tasks("drain", "depth"):
        if row["state"] == "skipped":
            assert (row["hostname"], row["pid"], row["try_number"]) == ("", None, 1)
            (log,) = site.logs(row)
            assert ".trigger." in log.name
            assert "nothing to launch: orders: 0 visible, so there is no work" in log.read_text()
    assert set(site.states("drain", "launch")) <= {"skipped", None}
    assert gaps(site.tasks("drain", "depth")) == {timedelta(seconds=PERIOD)}


def test_a_gate_with_work_lets_the_fire_go_on(site: Site) -> None:
    sqs = site.cloud.client("sqs")
    queue = sqs.get_queue_url(QueueName="orders")["QueueUrl"]
    for number in range(15):
        sqs.send_message(QueueUrl=queue, MessageBody=str(number))
    eventually(lambda: "success" in site.states("drain", "wait"), PATIENCE, 0.5)
    opened = next(row for row in site.tasks("drain", "depth") if row["state"] == "success")
    assert (opened["hostname"], opened["pid"]) == ("", None)
    sqs.purge_queue(QueueUrl=queue)


def test_a_queue_that_is_not_there_fails_the_fire_with_the_reason(site: Site) -> None:
    eventually(lambda: "upstream_failed" in site.states("lost", "wait"), PATIENCE, 0.5)
    (log,) = site.logs(site.tasks("lost", "depth")[0])
    assert "nothing is launched" in log.read_text()
    assert "nowhere" in log.read_text()


def test_a_change_of_the_document_is_for_the_next_fire(site: Site) -> None:
    eventually(lambda: "deferred" in site.states("steady", "wait"), PATIENCE, 0.5)
    site.write({**STEADY, "taskCount": 3})
    eventually(lambda: len(site.running("sleeper")) == 3, PATIENCE, 0.5)
    assert "failed" not in site.states("steady", "wait")


def test_cleared_with_all_after_it_a_launch_is_exactly_one_new_launch(site: Site) -> None:
    """Airflow tells the trigger of a clear only after the next try may have begun."""
    eventually(lambda: site.dag("job.cleared"), PATIENCE, 0.5)
    run = site.ask("POST", "/dags/job.cleared/dagRuns", {"logical_date": None})["dag_run_id"]
    eventually(lambda: site.states("cleared", "wait") == ["deferred"], PATIENCE, 0.5)
    old = site.running("cleared")
    wish = {"dry_run": False, "task_ids": ["launch"], "dag_run_id": run, "include_downstream": True}
    site.ask("POST", "/dags/job.cleared/clearTaskInstances", {**wish, "only_failed": False})

    def waits_again() -> bool:
        """And its trigger looks: one that a mark comes before is never told of it."""
        (row,) = site.tasks("cleared", "wait")
        looks = any(f"attempt={row['try_number']}.log.trigger" in log.name for log in site.logs(row))
        return bool(row["state"] == "deferred" and row["try_number"] >= 2 and looks)

    eventually(waits_again, PATIENCE, 0.5)
    new = eventually(lambda: {*site.running("cleared")} - {*old}, PATIENCE, 0.5)
    eventually(lambda: {*site.running("cleared")} == new, PATIENCE, 0.5)
    ended = site.cloud.client("ecs").list_tasks(family="cleared", desiredStatus="STOPPED")["taskArns"]
    assert (len(new), set(ended)) == (2, set(old))
    site.ask("PATCH", f"/dags/job.cleared/dagRuns/{run}", {"state": "failed"})
    eventually(lambda: not site.running("cleared"), PATIENCE, 0.5)


def test_what_is_broken_stops_no_other_job(site: Site) -> None:
    """A document beside it that cannot be read, and then none that can be: what waits is resumed, what fires fires."""
    site.write(document("broken", schedule="x"))
    eventually(lambda: site.dag("job.broken"), PATIENCE, 0.5)
    eventually(lambda: "deferred" in site.states("steady", "wait"), PATIENCE, 0.5)
    waiting = site.states("steady", "wait").index("deferred")
    good = site.file.read_bytes()
    site.file.write_text("{")
    try:
        eventually(lambda: "cannot be read there now" in site.told(), PATIENCE, 0.5)
        before = len(site.tasks("steady", "launch"))
        run = site.ask("POST", "/dags/job.broken/dagRuns", {"logical_date": None})["dag_run_id"]
        eventually(lambda: site.states("steady", "wait")[waiting] == "success", PATIENCE, 0.5)
        eventually(lambda: len(site.tasks("steady", "launch")) > before, PATIENCE, 0.5)
        eventually(lambda: "failed" in site.states("broken", "launch"), PATIENCE, 0.5)
        assert {site.dag(f"job.{id}")["is_stale"] for id in ("steady", "drain", "broken")} == {0}
        (row,) = (row for row in site.tasks("broken", "launch") if row["run_id"] == run)
        assert "Invalid schedule syntax" in site.logs(row)[0].read_text()
    finally:
        site.file.write_bytes(good)
    eventually(lambda: "cannot be read there now" not in site.told(), PATIENCE, 0.5)
