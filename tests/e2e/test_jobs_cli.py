"""`airflow transient jobs`, as a person types it, beside a whole Airflow and the local cloud.

One Airflow for the tests here, and its commands are forks of its warm process (tests/warm_airflow.py); each test leaves
no job behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_transient.localcloud import LocalCloud
from tests.e2e.serving import Server, airflow_env, serving
from tests.waiting import eventually

pytestmark = [
    *(pytest.mark.slow, pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.e2e),
    pytest.mark.timeout(600),
]

PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
PATIENCE = 120.0
#: Never of its own accord within a test.
SLEEPER = {"taskDefinition": "sleeper", "schedule": "0 0 0 * * 1 1"}


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Shell:
    server: Server
    cloud: LocalCloud

    def __call__(self, *words: str, said: Any = None) -> Said:
        """`airflow transient jobs <words>`, with `said` as JSON on its standard input."""
        home = self.server.home
        env = {
            **airflow_env(home, self.cloud.env),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        }
        done = self.server.airflow.run("transient", "jobs", *words, said=json.dumps(said), env=env)
        print(words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return Said(done.returncode, done.stdout, done.stderr)

    def waits(self, id: str, run_id: str) -> bool:
        found = self.server.ask("GET", f"/api/v2/dags/job.{id}/dagRuns/{run_id}/taskInstances/wait")
        return found.status == 200 and found.json()["state"] == "deferred"

    def run_state(self, id: str, run_id: str) -> str:
        return str(self.server.ask("GET", f"/api/v2/dags/job.{id}/dagRuns/{run_id}").json()["state"])

    def running(self) -> list[str]:
        return list(self.cloud.client("ecs").list_tasks(family="sleeper", desiredStatus="RUNNING")["taskArns"])


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home = tmp_path_factory.mktemp("cli") / "airflow"
    with LocalCloud() as cloud:
        container = {"name": "main", "image": "busybox", "command": ["sh", "-c", "sleep 600"], "memory": 64}
        cloud.client("ecs").register_task_definition(family="sleeper", containerDefinitions=[container])
        more = {
            **cloud.env,
            "AIRFLOW__TRANSIENT__DEPLOYMENT_ID": "cli-test",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
        }
        with serving(home, PARTS, more) as server:
            yield Shell(server, cloud)


def test_a_job_from_its_document_to_its_deletion_which_stops_what_it_launched(jobs: Shell) -> None:
    created = jobs("put", "-", "-o", "json", said={**SLEEPER, "schedule": "? 0 0 * * 1 1"})
    assert (created.code, created.err) == (0, ""), "Airflow knows the job when the command ends"
    assert created.json()["outcome"] == "created"
    run_id = jobs("run", "sleeper").out.strip()
    eventually(lambda: jobs.waits("sleeper", run_id), PATIENCE, 0.5)
    (task,) = jobs.running()
    document = jobs("get", "sleeper").json()
    assert document["lastRunTasks"] == [{"taskId": task}]
    assert document["estimatedNextRun"].startswith("20")
    deleted = jobs("delete", "sleeper", "--yes")
    assert (deleted.code, deleted.out) == (0, "sleeper deleted; 1 live runs ended\n")
    assert jobs.run_state("sleeper", run_id) == "failed"
    eventually(lambda: jobs.running() == [], PATIENCE, 0.5)
    assert jobs("get", "sleeper").code == 1
    again = jobs("put", "-", said=SLEEPER)
    assert (again.code, again.err) == (0, "")
    assert "lastRun" not in jobs("get", "sleeper").json()
    second = jobs("run", "sleeper").out.strip()
    eventually(lambda: jobs.waits("sleeper", second), PATIENCE, 0.5)
    jobs("delete", "sleeper", "--yes")
    eventually(lambda: jobs.running() == [], PATIENCE, 0.5)


def test_an_export_of_the_original_is_taken_over(jobs: Shell, tmp_path: Path) -> None:
    """As it kept them in S3: a file for each job."""
    kept = {"lastRun": "2017-04-03T01:00:00+00:00", "lastRunTasks": [], "taskCount": 2, "suspended": True}
    for name in ("hourly", "nightly", "bad:3"):
        document = {"id": name, "taskDefinition": name, "schedule": "0 0", **kept}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    dry = jobs("import", str(tmp_path), "--dry-run")
    assert (dry.code, dry.out.splitlines()[-1]) == (1, "1 refused, 2 created; a dry run: nothing was written")
    assert jobs("list", "-o", "json").json()["total"] == 0
    done = jobs("import", str(tmp_path))
    assert done.code == 1
    assert done.out.splitlines()[1].startswith("bad:3    refused  ")
    assert "must contain only alphanumeric, underscore, and hyphen" in done.out
    told = jobs("list", "-o", "json").json()
    assert [(job["id"], job["suspended"]) for job in told["jobs"]] == [("hourly", True), ("nightly", True)]
    eventually(lambda: jobs.server.ask("GET", "/api/v2/dags/job.hourly").json().get("is_paused"), PATIENCE, 0.5)
    refused = jobs("run", "hourly")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("Job hourly is suspended")
