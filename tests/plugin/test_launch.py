"""/launch: one task's launch, for the tab of its task instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Member, Outcome, Verdict
from tests.plugin import history
from tests.plugin.conftest import Asker
from tests.plugin.site import OWNER, Site, forget, token, waits
from tests.waiting import eventually

pytestmark = [pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.slow, pytest.mark.usefixtures("on_site")]

ITS = {"dag_id": "dag", "run_id": "run", "task_id": "task"}


def launch(ask: Asker, **other: Any) -> Any:
    forget()
    return ask.get("/launch", params={**ITS, **other})


def told(ask: Asker, **other: Any) -> dict[str, Any]:
    answer = launch(ask, **other)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def machine(*ids: str, **other: Any) -> Launch:
    """A launch on EC2, as its XCom has it."""
    now = datetime.now(timezone.utc)
    return replace(Launch("ec2", f"{token()}-1", "n", ids, "eu-west-1", now, now, now), **other)


def verdict_of(launch: Launch, outcome: Outcome, **failed: Any) -> dict[str, Any]:
    member = Member(launch.ids[0], outcome, "main exit 3", exit_code=3)
    said = Verdict(launch.token, (member,), kind=launch.kind).to_dict()
    for entry in said["failed"]:
        entry.update(failed)
    return said


def test_a_burst_that_runs(ask: Asker, site: Site) -> None:
    made = site.burst(2)
    waits(made, size={"count": 2, "reason": "task_count 2", "terms": {}})
    found = eventually(lambda: (said := told(ask))["phase"] == "2 running" and said, within=60)
    assert found
    assert (found["state"], found["may_stop"], found["verdict"]) == ("running", True, None)
    assert found["task"] == {
        **ITS,
        "map_index": -1,
        "state": "deferred",
        "try_number": 1,
        "operator": "EcsBurstOperator",
    }
    assert (found["launch"]["token"], found["launch"]["count"], found["launch"]["cluster"]) == (
        made.token,
        2,
        "default",
    )
    assert [member["id"] for member in found["members"]] == list(made.ids)
    assert found["members"][0]["phase"].startswith("running since")
    assert found["size"] == {"count": 2, "reason": "task_count 2"}
    assert found["log"]["note"].startswith("Its containers write to no log")
    assert [link["name"] for link in found["links"]] == ["ECS tasks"]


def test_one_that_failed_with_its_evidence_and_the_end_of_its_log(ask: Asker, site: Site) -> None:
    made = site.burst()
    said = verdict_of(made, Outcome.FAILED, log_tail=["--- the last lines of main:", "no such table"])
    xcoms = {"launch": {**made.to_dict(), "failed": made.ids[0]}, "verdict": said}
    history.task(state="failed", xcoms=xcoms)
    found = told(ask)
    assert (found["phase"], found["state"], found["may_stop"]) == ("failed (1 failed)", "ended", False)
    assert found["verdict"]["failed"] == [
        {"id": made.ids[0], "outcome": "failed", "exit_code": 3, "evidence": "main exit 3"}
    ]
    assert found["log"] == {"member": made.ids[0], "lines": said["failed"][0]["log_tail"], "note": None}
    assert [link["name"] for link in found["links"]] == ["ECS tasks", "Failed ECS task"]


def test_one_that_succeeded_tells_what_it_returned(ask: Asker, site: Site) -> None:
    made = site.burst()
    history.task(state="success", xcoms={"launch": made.to_dict(), "return_value": verdict_of(made, Outcome.SUCCEEDED)})
    found = told(ask)
    assert (found["phase"], found["verdict"]["outcome"]) == ("succeeded (1 succeeded)", "succeeded")


NOTHING: dict[str, tuple[dict[str, Any], str, str]] = {
    "being launched": ({"state": "running"}, "being launched", "launching"),
    "another operator": (
        {"state": "running", "operator": "PythonOperator"},
        "this task has launched nothing",
        "ended",
    ),
    "skipped": (
        {"state": "skipped", "xcoms": {"size": {"count": 0, "reason": "work: 0 visible, so there is no work"}}},
        "nothing was launched: work: 0 visible, so there is no work",
        "ended",
    ),
    "an XCom that is none of ours": (
        {"state": "success", "xcoms": {"launch": {"kind": "ec2", "token": "mine"}}},
        "this task has launched nothing",
        "ended",
    ),
}


@pytest.mark.parametrize(("task", "phase", "state"), NOTHING.values(), ids=NOTHING)
def test_a_task_without_a_launch(ask: Asker, task: dict[str, Any], phase: str, state: str) -> None:
    history.task(**task)
    found = told(ask)
    assert (found["phase"], found["state"], found["launch"], found["links"]) == (phase, state, None, [])


@pytest.mark.parametrize("index", [None, "", "{MAP_INDEX}", "-1"])
def test_of_a_task_that_is_not_mapped(ask: Asker, index: str | None) -> None:
    history.task()
    assert told(ask, **({} if index is None else {"map_index": index}))["task"]["map_index"] == -1


def test_of_a_mapped_task(ask: Asker) -> None:
    history.task(map_index=3)
    assert told(ask, map_index="3")["task"]["map_index"] == 3
    assert launch(ask).status_code == 404


@pytest.mark.parametrize("other", [{"map_index": "x"}, {"map_index": "1e3"}, {"dag_id": ""}])
def test_what_cannot_be_meant_is_said(ask: Asker, other: dict[str, Any]) -> None:
    answer = launch(ask, **other)
    assert (answer.status_code, set(answer.json()["messages"])) == (400, set(other))


def test_whether_there_is_such_a_task_is_told_to_who_may_see_it(ask_as: Callable[..., Asker]) -> None:
    history.task()
    narrow = ask_as("user", "narrow")
    assert [launch(narrow, dag_id=dag).status_code for dag in ("dag", "none")] == [403, 403]
    assert launch(narrow, dag_id="job.mine").status_code == 404


def test_logs_are_a_right_of_their_own(ask_as: Callable[..., Asker], site: Site) -> None:
    made = site.burst()
    said = verdict_of(made, Outcome.FAILED, log_tail=["no such table"])
    history.task(state="failed", xcoms={"launch": made.to_dict(), "verdict": said})
    answer = launch(ask_as("viewer", "without logs"))
    assert answer.json()["log"] is None
    assert "no such table" not in answer.text
    assert "The right to read this task's logs is missing" in answer.json()["sources"][-1]["note"]


def test_what_is_somebody_elses_is_not_looked_at(ask: Asker, site: Site) -> None:
    """An XCom may name any instance; its console is nobody's business who can only edit XComs."""
    theirs = site.instance(replace(OWNER, dag_id="other"))
    eventually(lambda: site.cloud.states().get(theirs) == "running", within=60)
    history.task(xcoms={"launch": machine(theirs).to_dict()})
    found = told(ask)
    assert (found["phase"], found["members"]) == ("what its XCom names was not launched by this task", [])
    assert found["log"] == {"member": theirs, "lines": [], "note": "Not read: this is not the task's own."}


def test_where_aws_cannot_be_asked_airflows_half_is_shown(ask: Asker, site: Site) -> None:
    waits(site.burst())
    site.cloud.faults.error("DescribeTasks", code="AccessDeniedException")
    found = told(ask)
    assert (found["state"], found["phase"]) == ("unknown", "not seen: AWS could not be asked")
    assert found["log"]["note"].startswith("Not read: AWS could not be asked")
    (refused,) = [source["error"] for source in found["sources"] if not source["ok"]]
    assert "ecs:DescribeTasks" in refused


def test_a_secret_that_airflow_knows_is_not_shown(ask: Asker, site: Site, mask_secret: Callable[[str], None]) -> None:
    mask_secret("hunter2-of-tests")
    made = site.burst()
    said = verdict_of(made, Outcome.FAILED, evidence="exit 3: hunter2-of-tests", log_tail=["pw=hunter2-of-tests"])
    history.task(state="failed", xcoms={"launch": made.to_dict(), "verdict": said})
    answer = launch(ask)
    assert "hunter2" not in answer.text
    assert answer.json()["log"]["lines"] == ["pw=***"]
