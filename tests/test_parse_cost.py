"""What a DAG file loads with what is ours. What that costs in time is measured by `benchmarks.imports`, not here."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

#: All that a DAG file may import of ours, and the triggers, which a triggerer imports while its event loop waits.
DOORS = (
    *("errors", "retry", "timetables.cron", "links.ec2", "links.ecs", "links.launch"),
    *("links.asg", "operators.ec2", "operators.ecs", "operators.asg", "operators.batch", "operators.queue_workers"),
    *("operators.images", "jobs.dags", "notifications.report", "plugin", "sensors.sqs", "triggers.sqs"),
    *("triggers.depth", "triggers.gate", "triggers.launch", "triggers.workers"),
)
#: What a trigger imports as it begins, in the event loop.
ON_THE_LOOP = ("aws.polling", "aws.stops", "aws.watching")
#: What may come along that Airflow itself has not loaded. APScheduler and what it needs: the dialect of schedules.
LIGHT = {"airflow", "airflow_transient", "apscheduler", "asgiref", "pydantic", "tzlocal"}
#: Of Airflow's own these are heavy.
HEAVY = ("airflow.providers", "airflow.api_fastapi.app", "airflow.models", "airflow.jobs")
SCRIPT = """
import importlib, json, sys
from airflow.sdk import DAG
brought, known = {}, set(sys.modules)
for name in json.loads(sys.argv[1]):
    importlib.import_module("airflow_transient." + name)
    brought[name], known = sorted(set(sys.modules) - known), set(sys.modules)
print(json.dumps(brought))
"""


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What each is the first to bring, in a fresh interpreter."""
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow"))}
    script = [sys.executable, "-c", SCRIPT, json.dumps([*DOORS, *ON_THE_LOOP])]
    done = subprocess.run(script, env=env, capture_output=True, text=True, check=True, timeout=120)
    told: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.airflow
@pytest.mark.parametrize("door", [*DOORS, *ON_THE_LOOP])
def test_a_door_brings_nothing_heavy(door: str, brought: dict[str, list[str]]) -> None:
    strange = [name for name in brought[door] if name.partition(".")[0] not in {*LIGHT, *sys.stdlib_module_names}]
    assert strange == []
    assert [name for name in brought[door] if name.startswith(HEAVY)] == []


@pytest.mark.airflow
def test_an_operator_brings_no_trigger(brought: dict[str, list[str]]) -> None:
    """No DAG file needs one. A sensor's begins in the triggerer, so that its words are needed."""
    doors = [door for door in DOORS if door.startswith(("operators.", "jobs."))]
    ours = [name for door in doors for name in brought[door]]
    assert [name for name in ours if name.startswith("airflow_transient.triggers.")] == []
