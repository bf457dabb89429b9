"""Who may do what: Airflow's auth manager decides, DAG by DAG."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.plugin.conftest import Asker

pytestmark = pytest.mark.airflow

JOB = {"id": "mine", "taskDefinition": "t", "schedule": "0 0 4"}
OTHER = {**JOB, "id": "other"}
CALLS = {
    "see": ("GET", "/jobs/mine", None, 200),
    "preview": ("GET", "/jobs/mine/next", None, 200),
    "create": ("POST", "/jobs", OTHER, 201),
    "change": ("PUT", "/jobs/mine", {"taskCount": 2}, 200),
    "run": ("POST", "/jobs/mine/run", None, 202),
    "delete": ("DELETE", "/jobs/mine", None, 200),
}
READS = {"see", "preview"}


@pytest.fixture(autouse=True)
def mine(ask: Asker) -> None:
    assert ask.post("/jobs", json=JOB).status_code == 201


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("role", "may"), [("viewer", READS), ("user", set(CALLS)), ("op", set(CALLS))])
def test_a_role_may_what_it_may_with_dags(ask_as: Callable[..., Asker], role: str, may: set[str], call: str) -> None:
    method, path, body, status = CALLS[call]
    answer = ask_as(role)(method, path, json=body)
    assert answer.status_code == (status if call in may else 403)


def test_a_refusal_names_the_right_that_is_missing(ask_as: Callable[..., Asker]) -> None:
    answer = ask_as("viewer").delete("/jobs/mine")
    assert answer.json() == {
        "message": "You may not delete the DAG job.mine: ask an administrator of this Airflow for the right."
    }


def test_lists_show_what_one_may_see(ask: Asker, ask_as: Callable[..., Asker]) -> None:
    ask.post("/jobs", json=OTHER)
    narrow = ask_as("user", "narrow")
    assert [job["id"] for job in narrow.get("/jobs").json()["jobs"]] == ["mine"]
    assert len(ask.get("/jobs").json()["jobs"]) == 2


@pytest.mark.parametrize(
    ("method", "path", "body"), [(m, p.replace("mine", "other"), b) for m, p, b, _ in CALLS.values()]
)
def test_a_refusal_does_not_tell_whether_there_is_such_a_job(
    ask: Asker, ask_as: Callable[..., Asker], method: str, path: str, body: dict[str, str] | None
) -> None:
    narrow = ask_as("user", "narrow")
    without = narrow(method, path, json=body)
    ask.post("/jobs", json=OTHER)
    with_it = narrow(method, path, json=body)
    assert without.status_code == with_it.status_code == 403
    assert without.text == with_it.text


@pytest.mark.parametrize("body", [{}, {"id": None}, {"id": 5}, {"taskDefinition": ["mine"]}])
def test_who_may_create_nothing_is_not_told_what_is_wrong(ask_as: Callable[..., Asker], body: dict[str, str]) -> None:
    assert ask_as("viewer").post("/jobs", json=body).status_code == 403


def test_rights_follow_the_id_that_a_document_gets(ask_as: Callable[..., Asker]) -> None:
    """`mine` as its task definition gives no right to the id it really has."""
    document = {"id": "other", "taskDefinition": "mine", "schedule": "0 0 4"}
    narrow = ask_as("user", "narrow")
    assert narrow.post("/jobs", json=document).status_code == 403
    assert narrow.post("/jobs", json={**document, "id": ""}).status_code in {400, 403}
    assert narrow.post("/jobs", json={**document, "id": None}).status_code in {400, 403}
    assert narrow.put("/jobs/mine", json={"id": "other"}).status_code == 400
