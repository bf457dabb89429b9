"""Through Airflow's own command line, as its users run it, with jobs that really execute.

One home, one cloud and one warm Airflow (tests/warm_airflow.py) for all tests here; each looks at what was launched
since it began.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_home import migrate
from tests.waiting import eventually
from tests.warm_airflow import WarmAirflow, warm_airflow

pytestmark = [
    *(pytest.mark.slow, pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.e2e),
    pytest.mark.timeout(400),
]

DAGS = Path(__file__).parent / "dags"


@pytest.fixture(scope="module")
def airflow(cloud: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmAirflow]:
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
    with warm_airflow(env) as airflow:
        yield airflow


@dataclass(frozen=True)
class Done:
    code: int
    said: str


def run(airflow: WarmAirflow, *argv: str, env: Mapping[str, str] | None = None) -> Done:
    done = airflow.run(*argv, env=env)
    said = done.stdout + done.stderr
    print(said[-6000:])
    return Done(done.returncode, said)


@pytest.fixture
def launched(cloud: Any) -> Any:
    """Asks which instances were launched since the test began: {id: state}."""
    before = set(cloud.states())
    return lambda: {member: state for member, state in cloud.states().items() if member not in before}


def test_a_run_with_mapped_regions_members_and_no_bucket(airflow: WarmAirflow, launched: Any) -> None:
    done = run(airflow, "dags", "test", "journeys")
    assert done.code == 0
    assert "ALL WAS TOLD AS IT WAS" in done.said
    assert sorted(launched().values()) == ["terminated"] * 6


def test_the_job_s_exit_code_fails_the_task(airflow: WarmAirflow, launched: Any) -> None:
    done = run(airflow, "dags", "test", "fails")
    assert "JobFailed" in done.said
    assert "exit 3" in done.said
    assert "--- the job's last lines" in done.said
    assert "on my way out" in done.said
    assert "interrupted" not in done.said
    assert list(launched().values()) == ["terminated"]


def test_a_connection_s_secret_in_the_environment_launches_nothing(airflow: WarmAirflow, launched: Any) -> None:
    env = {**airflow.env, "AIRFLOW_CONN_SECRET_DB": "postgres://me:correct-horse-battery@db/x"}
    done = run(airflow, "dags", "test", "leaks", env=env)
    assert "SpecError" in done.said
    assert "environment['PASSWORD']" in done.said
    assert "correct-horse" not in done.said
    assert launched() == {}


def test_tasks_test_launches_anew_each_time(airflow: WarmAirflow, launched: Any) -> None:
    """Twice in a row, and over a run that exists: its state store must not be taken for this test's."""
    run(airflow, "dags", "test", "alone", "2026-01-01")
    before = len(launched())
    for _ in range(2):
        done = run(airflow, "tasks", "test", "alone", "console_only", "2026-01-01")
        assert "launching anew" in done.said
        assert "succeeded" in done.said
    assert len(launched()) == before + 2
    run(airflow, "dags", "test", "alone", "2026-01-01")
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
    airflow: WarmAirflow, launched: Any, argv: tuple[str, ...], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("w") as out:
        command = airflow.begin(*argv, out=out, err=out)
    try:
        eventually(lambda: "running" in launched().values() and "running since" in log.read_text(), within=60)
        os.killpg(command.pid, signal.SIGINT)
        eventually(lambda: set(launched().values()) <= {"terminated"}, within=30)
        command.wait(timeout=30)
    finally:
        print(log.read_text()[-3000:])
        command.kill()
    assert launched()


def test_the_verdict_is_in_xcom(airflow: WarmAirflow) -> None:
    import sqlite3

    with sqlite3.connect(Path(airflow.env["AIRFLOW_HOME"]) / "airflow.db") as database:
        rows = database.execute("SELECT key, value FROM xcom WHERE task_id = 'members'").fetchall()
    told = {key: json.loads(value) if isinstance(value, str) else value for key, value in rows}
    assert {"launch", "return_value"} <= set(told)
    assert any("InstanceLink" in key for key in told)
