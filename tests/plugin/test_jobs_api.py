"""The jobs API, call by call: bodies, codes and words are those of the original, links have the mount's prefix."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_transient.jobs.port import LastStart
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


def test_the_root_lists_what_there_is(ask: Asker) -> None:
    resources = [
        {"link": {"rel": "jobs", "title": "Jobs", "href": "/transient/jobs"}},
        {"link": {"rel": "spec", "title": "Spec", "href": "/transient/spec"}},
    ]
    assert ask.get("/").json() == {"resources": resources}


def test_a_new_job_is_answered_with_its_id_and_link(ask: Asker) -> None:
    answer = ask.post("/jobs", json=SLEEPER)
    assert (answer.status_code, answer.json()) == (201, SAVED)
    assert "Location" not in answer.headers


def test_json_is_printed_as_the_original_did(ask: Asker) -> None:
    answer = ask.post("/jobs", json=SLEEPER)
    assert answer.text == json.dumps(SAVED, indent=4, sort_keys=True) + "\n"
    assert answer.headers["content-type"] == "application/json"


def test_an_answer_has_the_length_of_the_original_s(ask: Asker) -> None:
    answer = ask.post("/jobs", json={**SLEEPER, "id": "long-sleep-task"})
    assert len(answer.content) == 160 + len("/transient")


def test_a_job_is_shown_with_its_link_and_the_default_count(sleeper: Asker) -> None:
    shown = sleeper.get("/jobs/sleeper-task").json()
    assert shown.pop("estimatedNextRun") == "2026-11-21T12:00:00+00:00"
    assert shown == {"id": "sleeper-task", **SLEEPER, "taskCount": 1, "link": SLEEPER_LINK}


def test_airflow_s_runs_are_told_of(sleeper: Asker, airflow: QuickAirflow) -> None:
    fired = datetime(2026, 11, 21, 12, 5, tzinfo=timezone.utc)
    airflow.starts["job.sleeper-task"] = LastStart("a", fired, (("arn:task", "arn:host"), ("arn:fargate", None)))
    shown = sleeper.get("/jobs/sleeper-task").json()
    assert shown["lastRun"] == "2026-11-21T12:05:00+00:00"
    assert shown["lastRunTasks"] == [{"taskId": "arn:task", "hostId": "arn:host"}, {"taskId": "arn:fargate"}]


def test_put_merges_fields_and_replaces_objects_whole(sleeper: Asker) -> None:
    sqs = {"type": "sqs", "queueName": "q", "messagesPerTask": 10}
    answer = sleeper.put("/jobs/sleeper-task", json={"trigger": sqs, "maxCount": 10})
    assert (answer.status_code, answer.json()) == (200, SAVED)
    sleeper.put("/jobs/sleeper-task", json={"trigger": {"type": "sqs", "queueName": "q2"}})
    shown = sleeper.get("/jobs/sleeper-task").json()
    assert (shown["trigger"], shown["maxCount"]) == ({"type": "sqs", "queueName": "q2"}, 10)
    assert shown["schedule"] == SLEEPER["schedule"]


def test_a_wildcard_is_drawn_once_and_stored(sleeper: Asker) -> None:
    sleeper.put("/jobs/sleeper-task", json={"schedule": "? */5"})
    assert sleeper.get("/jobs/sleeper-task").json()["schedule"] == "9 */5"


def test_an_empty_put_changes_nothing(sleeper: Asker) -> None:
    before = sleeper.get("/jobs/sleeper-task").json()
    assert sleeper.put("/jobs/sleeper-task", json={}).status_code == 200
    assert sleeper.get("/jobs/sleeper-task").json() == before


def test_a_deleted_job_is_gone_and_may_come_back(sleeper: Asker) -> None:
    answer = sleeper.delete("/jobs/sleeper-task")
    assert (answer.status_code, answer.json()) == (200, {"id": "sleeper-task"})
    assert sleeper.get("/jobs/sleeper-task").status_code == 404
    assert sleeper.post("/jobs", json=SLEEPER).status_code == 201


def test_what_is_suspended_is_airflow_s_pause(sleeper: Asker, airflow: QuickAirflow) -> None:
    sleeper.put("/jobs/sleeper-task", json={"suspended": True})
    assert airflow.dags["job.sleeper-task"] is True
    airflow.dags["job.sleeper-task"] = False  # someone resumed it in Airflow's own pages
    assert sleeper.get("/jobs/sleeper-task").json()["suspended"] is False


GONE = {"message": "Job nowhere does not exist."}
MALFORMED = "The browser (or proxy) sent a request that this server could not understand."
NO_OBJECT = {"messages": {"_schema": ["Invalid input type."]}}
NO_TYPE = {"message": "Header Content-Type: application/json required to send a request body."}
NO_INTEGER = ["Not a valid integer."]
NAMES = "task definition names must contain only alphanumeric, underscore, and hyphen"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "request_", "status", "body"),
    [
        pytest.param("GET", "/jobs/nowhere", {}, 404, GONE, id="no such job to read"),
        pytest.param("PUT", "/jobs/nowhere", {"json": {}}, 404, GONE, id="no such job to change"),
        pytest.param("DELETE", "/jobs/nowhere", {}, 404, GONE, id="no such job to delete"),
        pytest.param("GET", "/jobs/nowhere/next", {}, 404, GONE, id="no such job to preview"),
        pytest.param("POST", "/jobs/nowhere/run", {}, 404, GONE, id="no such job to run"),
        pytest.param("PUT", "/jobs/nowhere", {"json": {"taskCount": 99}}, 404, GONE, id="existence before validation"),
        pytest.param(
            "PUT", "/jobs/nowhere", {"content": "{", "headers": JSON}, 404, GONE, id="existence before syntax"
        ),
        pytest.param("PUT", "/jobs/nowhere", {"content": "{}"}, 415, NO_TYPE, id="type before existence"),
        pytest.param("POST", "/jobs", {"content": "{}"}, 415, NO_TYPE, id="no type"),
        pytest.param("POST", "/jobs", {}, 415, NO_TYPE, id="no type and no body"),
        pytest.param("POST", "/jobs", {"data": {"a": "b"}}, 415, NO_TYPE, id="a form's type"),
        pytest.param(
            "POST", "/jobs", {"json": SLEEPER}, 409, {"message": "Job sleeper-task already exists."}, id="twice"
        ),
        pytest.param("POST", "/jobs", {"json": []}, 400, NO_OBJECT, id="a list"),
        pytest.param("POST", "/jobs", {"json": 5}, 400, NO_OBJECT, id="a number"),
        pytest.param("PUT", "/jobs/sleeper-task", {"json": "x"}, 400, NO_OBJECT, id="a string to change with"),
        pytest.param(
            *("POST", "/jobs", {"json": {**SLEEPER, "taskDefinition": "a:3"}}),
            *(400, {"messages": {"taskDefinition": [NAMES]}}),
            id="a name that is none",
        ),
        pytest.param(
            *("PUT", "/jobs/sleeper-task", {"json": {"taskCount": "x"}}),
            *(400, {"messages": {"taskCount": NO_INTEGER}}),
            id="a count that is none",
        ),
        pytest.param("GET", "/jobs?skip=x", {}, 400, {"messages": {"skip": NO_INTEGER}}, id="skip is no number"),
        pytest.param("GET", "/jobs?count=1.5", {}, 400, {"messages": {"count": NO_INTEGER}}, id="count is no integer"),
        pytest.param("GET", "/jobs?count=", {}, 400, {"messages": {"count": NO_INTEGER}}, id="count is empty"),
        pytest.param(
            *("GET", "/jobs/sleeper-task/next?count=101", {}, 400),
            {"messages": {"count": ["Must be between 1 and 100."]}},
            id="a preview of too many",
        ),
    ],
)
def test_a_refusal_has_the_original_s_words(
    sleeper: Asker, method: str, path: str, request_: dict[str, Any], status: int, body: Any
) -> None:
    answer = sleeper(method, path, **request_)
    assert (answer.status_code, answer.json()) == (status, body)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "application/json5"])
def test_the_type_is_tested_by_its_beginning(ask: Asker, content_type: str) -> None:
    answer = ask.post("/jobs", content=json.dumps(SLEEPER), headers={"Content-Type": content_type})
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "Expecting value", id="empty"),
        pytest.param(b'{"a": ', "Expecting value", id="cut off"),
        pytest.param(b'{"a": 1} {', "Extra data", id="two of them"),
        pytest.param(b'{"id": "a", "id": "b"}', "given twice: id", id="a key twice"),
        pytest.param(b"{" + b'"a":1,' * 10_000 + b'"b":1}', "given twice: a", id="a key ten thousand times"),
        pytest.param(b'{"a": NaN}', "NaN is no JSON number", id="NaN"),
        pytest.param(b'{"a": -Infinity}', "-Infinity is no JSON number", id="infinity"),
        pytest.param(b"\xff\xfe\x00", "not JSON in UTF-8", id="not UTF-8"),
        pytest.param(b'{"a": "\\ud800"}', "not JSON in UTF-8", id="half a character"),
        pytest.param(b"[" * 60_000, "not JSON in UTF-8", id="too deep for Python"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", "not JSON in UTF-8", id="a number too long for Python"),
    ],
)
def test_malformed_json_is_refused_with_a_reason_that_repeats_nothing(ask: Asker, content: bytes, reason: str) -> None:
    answer = ask.post("/jobs", content=content, headers=JSON)
    assert (answer.status_code, answer.json()["message"]) == (400, MALFORMED)
    assert reason in answer.json()["reason"]


@pytest.mark.parametrize(
    "id", ["é", "日本", "a b", "a%2Fb", "..%2F..%2Fetc%2Fpasswd", "%00", "a%0Db", "x" * 300, "%2e%2e", "job.x"]
)
def test_ids_that_no_job_can_have_are_not_found(ask: Asker, id: str) -> None:
    for method in ("GET", "DELETE"):
        answer = ask(method, f"/jobs/{id}")
        assert answer.status_code == 404
        assert list(answer.json()) == ["message"]


def test_an_id_may_come_percent_encoded(sleeper: Asker) -> None:
    assert sleeper.get("/jobs/sleeper%2Dtask").json()["id"] == "sleeper-task"


# --- where it is mounted


def test_links_have_airflow_s_own_prefix_too(server: Any, ask: Asker) -> None:
    """As where [api] base_url ends with /air."""
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.testclient import TestClient

    from airflow_transient.plugin.app import the_app

    with TestClient(Starlette(routes=[Mount("/transient", the_app())]), root_path="/air") as client:
        below = Asker(client, ask.token, "/air/transient")
        link = below.post("/jobs", json=SLEEPER).json()["link"]
        assert link["href"] == "/air/transient/jobs/sleeper-task"
        run = below.post("/jobs/sleeper-task/run").json()["link"]
        assert run["href"].startswith("/air/api/v2/dags/job.sleeper-task/dagRuns/manual__")
        assert below.get("/spec").json()["servers"] == [{"url": "/air/transient"}]
        assert below.get("/nowhere").status_code == 404
