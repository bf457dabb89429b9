"""/running and /running/stop: tasks in Airflow's database, instances and ECS tasks on the local cloud."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_transient import operators
from airflow_transient.aws.watching import look
from airflow_transient.core.verdict import Outcome, killed
from airflow_transient.jobs.port import AirflowUnreachable
from airflow_transient.operators.launch import LaunchOperator
from airflow_transient.plugin import airflow_rows, looking
from tests.plugin import history
from tests.plugin.conftest import Asker
from tests.plugin.site import OWNER, Site, forget, waits
from tests.waiting import eventually

pytestmark = [pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.slow, pytest.mark.usefixtures("on_site")]

MINE = replace(OWNER, dag_id="job.mine")


def running(ask: Asker) -> dict[str, Any]:
    """Read anew."""
    forget()
    answer = ask.get("/running")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def row(ask: Asker) -> dict[str, Any]:
    (only,) = running(ask)["rows"]
    found: dict[str, Any] = only
    return found


def stop(ask: Asker, row: dict[str, Any], **other: Any) -> Any:
    named = {name: row[name] for name in ("dag_id", "run_id", "task_id", "map_index", "token")}
    return ask.post("/running/stop", json={**named, **other})


# --- what is shown


def test_a_burst_and_the_task_that_waits_for_it(ask: Asker, site: Site) -> None:
    launch = site.burst(3, cluster="etl")
    waits(launch)
    told = running(ask)
    assert (told["total"], told["truncated"], told["deployment"]) == (1, False, "prod")
    (found,) = told["rows"]
    assert (found["token"], found["kind"], found["cluster"], found["region"]) == (
        launch.token,
        "ecs",
        "etl",
        "eu-west-1",
    )
    assert (sorted(found["ids"]), found["count"], found["resource"]) == (sorted(launch.ids), 3, "3 tasks")
    assert (found["task_state"], found["mismatch"], found["may_stop"]) == ("deferred", None, True)
    assert datetime.fromisoformat(found["deadline"]) == launch.deadline
    assert found["airflow_path"] == "dags/dag/runs/run/tasks/task"
    assert [link["name"] for link in found["links"]] == ["ECS tasks"]
    assert all(source["ok"] for source in told["sources"])


def test_an_instance_for_which_nobody_waits(ask: Asker, site: Site) -> None:
    member = site.instance(keep="ask Ann")
    found = row(ask)
    assert (found["ids"], found["resource"], found["note"]) == (
        [member],
        f"{member} (t3.micro)",
        "kept on purpose (transient:keep)",
    )
    assert (found["task_state"], found["airflow_path"]) == ("gone", None)


def test_what_a_reaper_would_end_is_a_mismatch(ask: Asker, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    history.dag("dag")
    history.task(state="failed")
    site.instance()
    monkeypatch.setattr("airflow_transient.core.reaping.YOUNG", -looking.utcnow().resolution)
    assert row(ask)["mismatch"] == {
        "kind": "resource without task",
        "words": "its task is failed; the reaper's next pass marks it, and one five minutes later ends it",
    }


def test_a_task_of_each_operator_that_launches_is_known_before_it_has_told_what() -> None:
    for module in pkgutil.iter_modules(operators.__path__):
        importlib.import_module(f"{operators.__name__}.{module.name}")
    found: list[type[Any]] = [LaunchOperator]
    seen = set()
    while found:
        operator = found.pop()
        found += operator.__subclasses__()
        if not inspect.isabstract(operator) and operator.__module__.startswith("airflow_transient.operators."):
            seen.add(operator.__name__)
    assert "BakeImageOperator" in seen
    assert seen <= set(airflow_rows.LAUNCHING)


def test_a_task_that_launches_right_now(ask: Asker) -> None:
    history.dag("dag")
    history.task(state="running", operator="TransientEc2Operator")
    found = row(ask)
    assert (found["phase"], found["state"], found["token"], found["may_stop"]) == (
        "being launched",
        "launching",
        None,
        False,
    )


@pytest.mark.parametrize(
    "task",
    [
        {"state": "running", "operator": "PythonOperator"},
        {"state": "success"},
        {"state": "running", "operator": "BashOperator", "xcoms": {"launch": {"rocket": "Ariane"}}},
    ],
    ids=["another operator's", "ended", "with an XCom of that name"],
)
def test_other_tasks_are_not_shown(ask: Asker, task: dict[str, Any]) -> None:
    history.task(**task)
    assert [found for found in running(ask)["rows"] if found["token"]] == []


def test_the_cost_is_told_where_prices_are(ask: Asker, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.instance()
    eventually(lambda: row(ask)["phase"] == "running")
    assert (running(ask)["prices_known"], row(ask)["cost_usd"]) == (False, None)
    monkeypatch.setenv("AIRFLOW__TRANSIENT__PRICES", '{"t3.micro": 60}')
    told = running(ask)
    assert (told["prices_known"], told["cost_usd"], told["rows"][0]["cost_usd"]) == (True, 1.0, 1.0)


def test_prices_that_cannot_be_read_are_said(ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRANSIENT__PRICES", "t3.micro=1")
    (said,) = [source for source in running(ask)["sources"] if not source["ok"]]
    assert said["error"].startswith("[transient] prices is no JSON")


def test_nothing_was_ever_launched_here(ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__TRANSIENT__DEPLOYMENT_ID")
    told = running(ask)
    assert (told["rows"], told["deployment"]) == ([], None)
    assert told["sources"] == [{"name": "Airflow", "ok": True, "error": None, "note": "nothing was ever launched here"}]


# --- what could not be asked


def test_airflows_half_is_shown_where_aws_refuses(ask: Asker, site: Site) -> None:
    waits(site.burst())
    site.cloud.faults.error("ListTasks", code="AccessDeniedException")
    site.cloud.faults.error("DescribeInstances", code="UnauthorizedOperation")
    told = running(ask)
    (found,) = told["rows"]
    assert (found["state"], found["mismatch"], found["may_stop"]) == ("unknown", None, False)
    assert found["phase"] == "not seen: AWS could not be asked for all of it"
    refused = [source["error"] for source in told["sources"] if not source["ok"]]
    assert any("ecs:ListTasks" in error and "The API server's own AWS credentials need" in error for error in refused)


def test_awss_half_is_shown_where_the_database_does_not_answer(
    ask: Asker, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: Any) -> Any:
        raise AirflowUnreachable("Airflow's database did not answer")

    member = site.instance()
    for name in ("waiting", "states", "known_dags", "newest_launches"):
        monkeypatch.setattr(airflow_rows, name, silent)
    told = running(ask)
    (found,) = told["rows"]
    assert (found["ids"], found["mismatch"], found["task_state"]) == ([member], None, None)
    assert {source["name"] for source in told["sources"] if not source["ok"]} >= {"Airflow"}


def test_without_credentials_that_is_said(ask: Asker, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    waits(site.burst())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    looking.HOOKS.drop("aws_default")
    told = running(ask)
    looking.HOOKS.drop("aws_default")
    assert told["rows"][0]["state"] == "unknown"
    assert any("no AWS credentials" in (source["error"] or "") for source in told["sources"])


def test_who_may_make_no_dags_is_not_told_which_places_there_are(ask: Asker, ask_as: Any, site: Site) -> None:
    site.cloud.faults.error("DescribeInstances", code="UnauthorizedOperation")
    waits(site.burst())
    everything = {source["name"] for source in running(ask)["sources"]}
    told = running(ask_as("viewer"))["sources"]
    assert any("eu-west-1" in name for name in everything)
    assert [source["name"] for source in told if "eu-west-1" in str(source)] == []
    assert told[-1]["name"] == "AWS"


def test_where_nothing_is_known_to_be_a_refusal_is_a_note(ask: Asker, site: Site) -> None:
    site.cloud.faults.error("ListTasks", code="AccessDeniedException")
    sources = {source["name"]: source for source in running(ask)["sources"]}
    said = sources["ECS cluster default in eu-west-1 (aws_default)"]
    assert said["ok"]
    assert said["note"].startswith("not looked at: not allowed: ecs:ListTasks")


def test_it_tells_how_old_it_is(ask: Asker) -> None:
    told = running(ask)
    assert 0 <= told["age_seconds"] < 60
    assert datetime.fromisoformat(told["as_of"]) <= datetime.fromisoformat(told["now"])


# --- who may see what


def test_each_sees_the_dags_they_may_see(site: Site, ask: Asker, ask_as: Callable[..., Asker]) -> None:
    waits(site.burst())
    waits(site.burst(owner=MINE), MINE)
    narrow = running(ask_as("user", "narrow"))
    assert [(found["job_id"], found["may_stop"]) for found in narrow["rows"]] == [("mine", True)]
    assert (narrow["total"], running(ask)["total"]) == (1, 2)


def test_a_viewer_may_stop_nothing(site: Site, ask_as: Callable[..., Asker]) -> None:
    waits(site.burst())
    viewer = ask_as("viewer")
    found = row(viewer)
    assert not found["may_stop"]
    answer = stop(viewer, found)
    assert (answer.status_code, answer.json()["message"]) == (
        403,
        "You may not stop launches of this DAG: that takes the right to change its task instances.",
    )
    assert site.task(found["ids"][0])["desiredStatus"] == "RUNNING"


def test_nobody_comes_without_signing_in(server: Any) -> None:
    assert server.get("/transient/running").status_code == 401
    assert server.post("/transient/running/stop", json={}).status_code == 401


def test_what_a_deleted_dag_left_takes_the_right_to_all_dags(
    site: Site, ask: Asker, ask_as: Callable[..., Asker]
) -> None:
    site.burst(owner=MINE)
    narrow = ask_as("user", "narrow")
    found = row(narrow)
    assert (found["task_state"], found["may_stop"]) == ("gone", False)
    assert stop(narrow, found).status_code == 403
    assert row(ask)["may_stop"]
    assert stop(ask, found).json()["words"] == "stopping 1 ECS task; no task waits for it"


# --- many at once


def test_many_browsers_cost_one_set_of_calls(site: Site, ask: Asker) -> None:
    running(ask)  # the clients are there
    calls: list[str] = []
    for service in ("ec2", "ecs"):
        client = looking.HOOKS.of("aws_default").client(service, region_name=site.cloud.region)
        client.meta.events.register("before-call", lambda model, **_: calls.append(model.name))
    forget()
    with ThreadPoolExecutor(20) as browsers:
        answers = list(browsers.map(lambda _: ask.get("/running").status_code, range(40)))
    assert set(answers) == {200}
    assert sorted(calls) == ["DescribeInstances", "ListTasks"]


# --- to stop


def test_what_is_stopped_ends_and_its_task_is_told_by_whom(site: Site, ask: Asker) -> None:
    launch = site.burst(2)
    waits(launch)
    eventually(lambda: row(ask)["phase"] == "2 running", within=60)
    answer = stop(ask, row(ask))
    assert (answer.status_code, answer.json()["stopped"]) == (200, 2)
    assert answer.json()["words"].startswith("stopping 2 ECS tasks; the task that waits for this ends as stopped")
    verdict = eventually(lambda: look(site.launcher, launch, datetime.now(timezone.utc))[0], within=60)
    assert verdict
    assert (verdict.outcome, verdict.worst.evidence) == (
        Outcome.STOPPED,
        "stopped by a person, on Airflow's page of what runs",
    )
    assert history.audited() == [
        ("transient_stop", "someone", "dag", f"launch {launch.token}: {', '.join(answer.json()['ids'])}")
    ]


def test_what_a_person_stopped_is_told_by_the_next_try_and_not_launched_again(site: Site, ask: Asker) -> None:
    """A launch that Airflow itself has ended is launched anew by a retry; this one is not (operators/launch.py)."""
    launch = site.burst()
    waits(launch, state="up_for_retry")
    stop(ask, row(ask))
    assert not killed(site.launcher.observe(launch, datetime.now(timezone.utc)))


def test_after_a_stop_everybody_sees_it_ending(site: Site, ask: Asker, ask_as: Callable[..., Asker]) -> None:
    waits(site.burst())
    stop(ask, row(ask))
    (found,) = ask_as("viewer").get("/running").json()["rows"]
    assert found["state"] in ("ending", "ended")
    assert not found["may_stop"]


def test_an_instance_is_terminated_with_a_persons_mark(site: Site, ask: Asker) -> None:
    history.dag("dag")
    member = site.instance()
    assert stop(ask, row(ask)).json()["stopped"] == 1
    (there,) = site.ec2.describe_instances(InstanceIds=[member])["Reservations"][0]["Instances"]
    assert there["State"]["Name"] in ("shutting-down", "terminated")
    assert {"Key": "transient:stopped-by", "Value": "person"} in there["Tags"]


def test_what_is_on_its_way_out_is_not_stopped_again(site: Site, ask: Asker) -> None:
    waits(site.burst())
    found = row(ask)
    stop(ask, found)
    assert stop(ask, found).status_code == 409


def test_nothing_is_stopped_that_an_xcom_only_claims(site: Site, ask_as: Callable[..., Asker]) -> None:
    """Whoever may edit the XComs of one DAG could write there what belongs to another one."""
    theirs = site.burst()
    waits(theirs, MINE)
    narrow = ask_as("user", "narrow")
    found = row(narrow)
    assert (found["may_stop"], stop(narrow, found).status_code) == (False, 404)
    assert site.task(theirs.ids[0])["desiredStatus"] == "RUNNING"


WRONG: dict[str, tuple[Any, str]] = {
    "no object": ([], "_schema"),
    "nothing": ({}, "dag_id"),
    "ids": ({"dag_id": "d", "run_id": "r", "task_id": "t", "token": None, "ids": ["i-1"]}, "ids"),
    "a number": ({"dag_id": 1, "run_id": "r", "task_id": "t", "token": None}, "dag_id"),
    "a text for an index": (
        {"dag_id": "d", "run_id": "r", "task_id": "t", "token": "x", "map_index": "0"},
        "map_index",
    ),
}


@pytest.mark.parametrize(("body", "field"), WRONG.values(), ids=WRONG)
def test_a_stop_names_a_row_and_nothing_else(ask: Asker, body: Any, field: str) -> None:
    answer = ask.post("/running/stop", json=body)
    assert answer.status_code == 400
    assert field in answer.json()["messages"]


def test_what_is_not_there_cannot_be_stopped(ask: Asker) -> None:
    row = {"dag_id": "no", "run_id": "no", "task_id": "no", "map_index": -1, "token": "t1-1"}
    assert stop(ask, row).status_code == 404


def test_a_refusal_of_awss_is_said_with_what_is_needed(site: Site, ask: Asker) -> None:
    waits(site.burst())
    site.cloud.faults.error("StopTask", code="AccessDeniedException")
    answer = stop(ask, row(ask))
    assert answer.status_code == 502
    assert answer.json()["message"].startswith("not allowed: ecs:StopTask is needed")
    assert history.audited() == []


def test_who_is_slow_keeps_nobody_waiting(site: Site, ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    waits(site.burst())
    running(ask)  # the clients are there
    monkeypatch.setattr(looking.PATIENCE, "part", 0.5)
    site.cloud.faults.delay("DescribeInstances", 5)
    told = running(ask)
    assert told["rows"][0]["state"] in ("starting", "running")
    slow = {source["name"]: source["error"] for source in told["sources"] if not source["ok"] or source["note"]}
    assert slow == {"EC2 in eu-west-1 (aws_default)": None}
    note = next(source["note"] for source in told["sources"] if source["name"].startswith("EC2"))
    assert note.startswith("not looked at: no answer for 0.")
