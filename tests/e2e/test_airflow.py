"""Through Airflow's own command line, as its users run it, with jobs that really execute."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_home import migrate
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.e2e]

DAGS = Path(__file__).parent / "dags"
AIRFLOW = [sys.executable, "-m", "airflow"]


@pytest.fixture(scope="module")
def env(cloud: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An Airflow home with its tables made, that knows the local cloud and no other."""
    home = tmp_path_factory.mktemp("airflow")
    env = {
        **os.environ,
        **cloud.env,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
    }
    migrate(env)
    return env


def run(env: Mapping[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*AIRFLOW, *argv], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=110
    )
    print(done.stdout[-6000:])
    return done


@pytest.fixture
def launched(cloud: Any) -> Any:
    """Asks which instances were launched since the test began: {id: state}."""
    before = set(cloud.states())
    return lambda: {member: state for member, state in cloud.states().items() if member not in before}


def test_a_run_with_mapped_regions_members_and_no_bucket(env: Mapping[str, str], launched: Any) -> None:
    done = run(env, "dags", "test", "journeys")
    assert done.returncode == 0
    assert "ALL WAS TOLD AS IT WAS" in done.stdout
    assert sorted(launched().values()) == ["terminated"] * 6


def test_the_job_s_exit_code_fails_the_task(env: Mapping[str, str], launched: Any) -> None:
    done = run(env, "dags", "test", "fails")
    assert "JobFailed" in done.stdout
    assert "exit 3" in done.stdout
    assert "--- the job's last lines" in done.stdout
    assert "on my way out" in done.stdout
    assert "interrupted" not in done.stdout
    assert list(launched().values()) == ["terminated"]


def test_a_connection_s_secret_in_the_environment_launches_nothing(env: Mapping[str, str], launched: Any) -> None:
    done = run({**env, "AIRFLOW_CONN_SECRET_DB": "postgres://me:correct-horse-battery@db/x"}, "dags", "test", "leaks")
    assert "SpecError" in done.stdout
    assert "environment['PASSWORD']" in done.stdout
    assert "correct-horse" not in done.stdout
    assert launched() == {}


def test_tasks_test_launches_anew_each_time(env: Mapping[str, str], launched: Any) -> None:
    """Twice in a row, and over a run that exists: its state store must not be taken for this test's."""
    run(env, "dags", "test", "alone", "2026-01-01")
    before = len(launched())
    for _ in range(2):
        done = run(env, "tasks", "test", "alone", "console_only", "2026-01-01")
        assert "launching anew" in done.stdout
        assert "succeeded" in done.stdout
    assert len(launched()) == before + 2
    run(env, "dags", "test", "alone", "2026-01-01")
    assert len(launched()) == 2 * before + 2
    assert set(launched().values()) == {"terminated"}


@pytest.mark.parametrize(
    "argv",
    [
        ("dags", "test", "takes_long"),
        ("tasks", "test", "takes_long", "deferred", "2026-01-01"),
        ("dags", "test", "takes_long_here"),
    ],
    ids=" ".join,
)
def test_ctrl_c_leaves_nothing_running(
    env: Mapping[str, str], launched: Any, argv: tuple[str, ...], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("w") as out:
        child = subprocess.Popen([*AIRFLOW, *argv], env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        eventually(lambda: "running" in launched().values() and "running since" in log.read_text(), within=60)
        os.killpg(child.pid, signal.SIGINT)
        eventually(lambda: set(launched().values()) <= {"terminated"}, within=30)
        child.wait(timeout=30)
    finally:
        print(log.read_text()[-3000:])
        child.kill()
    assert launched()


def test_the_verdict_is_in_xcom(env: Mapping[str, str]) -> None:
    import sqlite3

    with sqlite3.connect(Path(env["AIRFLOW_HOME"]) / "airflow.db") as database:
        rows = database.execute("SELECT key, value FROM xcom WHERE task_id = 'members'").fetchall()
    told = {key: json.loads(value) if isinstance(value, str) else value for key, value in rows}
    assert {"launch", "return_value"} <= set(told)
    assert any("InstanceLink" in key for key in told)
