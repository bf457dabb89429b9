"""What the jobs API has beyond the original's verbs, and what it says when something is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plugin.conftest import Asker
from tests.plugin.fakes import QuickAirflow

pytestmark = pytest.mark.airflow

SLEEPER = {"taskDefinition": "sleeper-task", "schedule": "* */5"}
SLEEPER_LINK = {"href": "/transient/jobs/sleeper-task", "rel": "item", "title": "Job for sleeper-task"}
SAVED = {"id": "sleeper-task", "link": SLEEPER_LINK}


@pytest.fixture
def sleeper(ask: Asker) -> Asker:
    assert ask.post("/jobs", json=SLEEPER).status_code == 201
    return ask


# --- previews


def test_the_next_fires_of_a_job(sleeper: Asker) -> None:
    answer = sleeper.get("/jobs/sleeper-task/next?count=2")
    fires = ["2026-11-21T12:00:00+00:00", "2026-11-21T12:00:01+00:00"]
    assert (answer.status_code, answer.json()) == (200, {"schedule": "* */5", "drawn": False, "next": fires})
    assert len(sleeper.get("/jobs/sleeper-task/next").json()["next"]) == 5


def test_the_next_fires_of_a_draft(ask: Asker) -> None:
    draft = {"schedule": "? 30 9", "timezone": "Europe/Berlin", "taskDefinition": "not: looked: at"}
    told = ask.post("/jobs/preview?count=1", json=draft).json()
    assert told["drawn"] is True
    assert told["next"] == [f"2026-11-22T09:30:{int(told['schedule'].split()[0]):02}+01:00"]


def test_a_draft_that_never_fires_is_told_so(ask: Asker) -> None:
    told = ask.post("/jobs/preview", json={"schedule": "0 0 0 * * 31 2"}).json()
    assert (told["next"], told["words"]) == ([], "This schedule never fires again.")


def test_a_draft_that_is_wrong_is_told_field_by_field(ask: Asker) -> None:
    answer = ask.post("/jobs/preview", json={"schedule": "60", "timezone": "Nowhere"})
    assert answer.status_code == 400
    assert set(answer.json()["messages"]) == {"parsedSchedule", "timezone"}


def test_a_job_may_be_called_preview(ask: Asker) -> None:
    ask.post("/jobs", json={"id": "preview", **SLEEPER})
    assert ask.get("/jobs/preview").json()["id"] == "preview"
    assert ask.put("/jobs/preview", json={"taskCount": 2}).status_code == 200
    assert ask.delete("/jobs/preview").status_code == 200


# --- running


@pytest.mark.parametrize("request_", [{}, {"json": {}}], ids=["no body", "an empty object"])
def test_a_run_is_answered_with_where_it_is(sleeper: Asker, request_: dict[str, Any]) -> None:
    answer = sleeper.post("/jobs/sleeper-task/run", **request_)
    assert answer.status_code == 202
    told = answer.json()
    assert told["runId"].startswith("manual__")
    assert told["link"]["href"] == f"/api/v2/dags/job.sleeper-task/dagRuns/{told['runId']}"


def test_a_run_s_body_has_a_type_or_is_not_there(sleeper: Asker) -> None:
    assert sleeper.post("/jobs/sleeper-task/run", content="x").status_code == 415


def test_a_suspended_job_runs_only_when_resumed(sleeper: Asker, airflow: QuickAirflow) -> None:
    airflow.dags["job.sleeper-task"] = True
    answer = sleeper.post("/jobs/sleeper-task/run")
    assert answer.status_code == 409
    assert "resume it first" in answer.json()["message"]


def test_a_job_that_is_not_parsed_yet_runs_in_a_moment(sleeper: Asker, airflow: QuickAirflow) -> None:
    airflow.dags.clear()
    answer = sleeper.post("/jobs/sleeper-task/run")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


# --- what is broken


def test_without_a_jobs_file_the_line_to_add_is_told(ask: Asker, airflow: QuickAirflow) -> None:
    airflow.has_file = False
    answer = ask.post("/jobs", json=SLEEPER)
    assert answer.status_code == 503
    assert "from airflow_transient.jobs import build_dags" in answer.json()["message"]
    assert ask.get("/jobs").json() == {"jobs": []}


def test_saved_and_not_told_is_the_original_s_500(ask: Asker, airflow: QuickAirflow) -> None:
    airflow.fails_at = "reparse"
    told = "Job update was saved correctly but failed to post update message to scheduler."
    answer = ask.post("/jobs", json=SLEEPER)
    assert (answer.status_code, answer.json()) == (500, {"item": SAVED, "message": told})
    assert ask.get("/jobs/sleeper-task").status_code == 200
    answer = ask.delete("/jobs/sleeper-task")
    assert (answer.status_code, answer.json()) == (500, {"item": {"id": "sleeper-task"}, "message": told})


@pytest.mark.parametrize("content", ["{", "{}", "[]", "\x00"])
def test_a_damaged_store_is_said_and_left_as_it_is(ask: Asker, service: Any, content: str) -> None:
    path = Path(service.store.url.removeprefix("file://"))
    path.write_text(content)
    for method, request_ in (("GET", {}), ("POST", {"json": SLEEPER})):
        answer = ask(method, "/jobs", **request_)
        assert answer.status_code == 503
        assert len(answer.json()["message"]) > 20
    assert path.read_text() == content


def test_what_nobody_expected_tells_a_reference_and_no_more(
    sleeper: Asker, airflow: QuickAirflow, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paused(_dag_ids: Any) -> Any:
        raise RuntimeError("postgres://me:hush@db")

    monkeypatch.setattr(airflow, "paused", paused)
    answer = sleeper.get("/jobs")
    assert answer.status_code == 500
    assert "hush" not in answer.text
    reference = answer.json()["message"].split()[-1].rstrip(".")
    assert reference in caplog.text
