"""A job run by hand: `airflow dags test` and `tasks test`, where triggers run inline and nobody else waits.

One home with three jobs, one cloud and one warm Airflow (tests/warm_airflow.py) for all tests here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_transient.jobs.store import StoredJob, open_store, update
from tests.airflow_home import migrate
from tests.e2e.serving import JOBS_FILE, airflow_env
from tests.warm_airflow import warm_airflow

pytestmark = [
    *(pytest.mark.slow, pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.e2e),
    pytest.mark.timeout(400),
]

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
ONCE = {"id": "once", "schedule": "0 0 4", "taskDefinition": "brief"}
DRAIN = {**ONCE, "id": "drain", "trigger": {"type": "sqs", "queueName": "orders", "messagesPerTask": 10}}
BOX = {
    **{name: value for name, value in ONCE.items() if name != "taskDefinition"},
    "id": "box",
    "kind": "ec2",
    "instanceType": "t3.small",
    "results": "s3://results/jobs",
    "script": '#!/bin/bash\n# {{ ds }}\n[ "$WORD" = "{""{ conn.secret.password }""}" ]\n',
    "environment": {"WORD": "{{ conn.secret.password }}"},
}


@pytest.fixture(scope="module")
def airflow(cloud: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """`airflow ...` in a home with three jobs, that knows the local cloud and no other."""
    home = tmp_path_factory.mktemp("by-hand")
    (home / "dags").mkdir()
    (home / "dags" / "jobs.py").write_bytes(JOBS_FILE.read_bytes())
    cloud.client("sqs").create_queue(QueueName="orders")
    container = {"name": "main", "image": "busybox", "command": ["true"], "memory": 64}
    cloud.client("ecs").register_task_definition(family="brief", containerDefinitions=[container])
    image = cloud.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    jobs = (ONCE, DRAIN, {**BOX, "imageId": image})
    store = open_store(f"file://{home}/transient/jobs.json")
    update(store, lambda now: now.with_jobs(*(StoredJob(raw["id"], raw, 1, NOW, NOW) for raw in jobs)))
    env = {
        **airflow_env(home, cloud.env),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__TRANSIENT__DEPLOYMENT_ID": "by-hand",
    }

    migrate(env)
    with warm_airflow(env) as airflow:

        def run(*argv: str) -> str:
            done = airflow.run(*argv)
            assert done.returncode == 0, done.stderr[-3000:]
            return done.stdout + done.stderr

        yield run


def test_dags_test_runs_a_job_from_end_to_end(airflow: Callable[..., str]) -> None:
    said = airflow("dags", "test", "job.once")
    assert "taken over from launch" in said
    assert ": succeeded, " in said


def test_dags_test_of_a_job_whose_queue_is_empty_launches_nothing(airflow: Callable[..., str]) -> None:
    said = airflow("dags", "test", "job.drain")
    assert "nothing to launch: orders: 0 visible" in said
    assert "launched 1" not in said


def test_dags_test_of_a_job_on_a_machine_gives_it_its_words_as_they_are(airflow: Callable[..., str]) -> None:
    said = airflow("dags", "test", "job.box")
    assert ": succeeded, " in said


def test_tasks_test_launches_anew_each_time_and_waits(airflow: Callable[..., str]) -> None:
    said = [airflow("tasks", "test", "job.once", "launch", "2026-01-01") for _ in range(2)]
    assert all(": succeeded, " in one for one in said)
    assert len({re.findall(r"launched 1 in .* as (\S+),", one)[0] for one in said}) == 2
