"""/queues: how deep queues on the local cloud are, and what their jobs would launch for that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from airflow_transient.core.launch import Owner
from airflow_transient.jobs.operators import WAIT
from airflow_transient.plugin import looking
from tests.plugin import history
from tests.plugin.conftest import Asker
from tests.plugin.site import DEPLOYMENT, Site, forget

pytestmark = [pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.slow, pytest.mark.usefixtures("on_site")]

SIZED = {
    "id": "mine",
    "taskDefinition": "sleeper",
    "schedule": "0 0 4",
    "maxCount": 5,
    "launchType": "FARGATE",
    "trigger": {"type": "sqs", "queueName": "work", "messagesPerTask": 10},
}
#: As EcsBurstOperator's fields are rendered, of a hand-written DAG.
RENDERED = {
    "task_definition": "sleeper",
    "cluster": "default",
    "queues": "work",
    "task_count": 1,
    "messages_per_task": 7,
}
SIZE = {"count": 4, "reason": "work: 28 visible, 7 per task asks for 4", "terms": {}}


@pytest.fixture(autouse=True)
def queue(on_site: None, site: Site) -> Any:
    """Empty, and deleted afterwards."""
    sqs = site.cloud.client("sqs")
    url = sqs.create_queue(QueueName="work")["QueueUrl"]
    yield lambda count: [sqs.send_message(QueueUrl=url, MessageBody=str(n)) for n in range(count)]
    sqs.delete_queue(QueueUrl=url)


def queues(ask: Asker, path: str = "/queues") -> dict[str, Any]:
    forget()
    answer = ask.get(path)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def job_of(told: dict[str, Any]) -> dict[str, Any]:
    (queue,) = told["queues"]
    (job,) = queue["jobs"]
    found: dict[str, Any] = job
    return found


def test_a_jobs_queue_and_what_it_asks_for(ask: Asker, queue: Callable[[int], Any]) -> None:
    ask.post("/jobs", json=SIZED)
    queue(25)
    told = queues(ask)
    (found,) = told["queues"]
    assert (found["key"], found["queue"], found["error"]) == ("aws_default//work", "work", None)
    oldest = found["depth"].pop("oldest_seconds")
    assert oldest is None or 0 <= oldest < 300  # it is not waited for
    assert found["depth"] == {"visible": 25, "in_flight": 0, "delayed": 0}
    assert datetime.fromisoformat(found["at"]) <= datetime.fromisoformat(told["now"])
    assert job_of(told) == {
        "job_id": "mine",
        "dag_id": "job.mine",
        "task_id": "wait",
        "suspended": None,
        "queues": ["work"],
        "would_launch": 3,
        "reason": "work: 25 visible: 10 per task asks for 3",
        "live": 0,
        "limit": 5,
        "last": None,
        "error": None,
    }


def test_what_runs_of_it_already_counts(ask: Asker, site: Site, queue: Callable[[int], Any]) -> None:
    ask.post("/jobs", json=SIZED)
    queue(25)
    site.burst(2, Owner(DEPLOYMENT, "job.mine", "any", WAIT))
    found = job_of(queues(ask))
    assert (found["live"], found["would_launch"]) == (2, 1)
    assert found["reason"].startswith("work: 25 visible: 10 per task less 20 claimed by 2 tasks")


def test_an_empty_queue_asks_for_nothing_and_ecs_is_not_troubled(ask: Asker, site: Site) -> None:
    ask.post("/jobs", json=SIZED)
    site.cloud.faults.error("ListTasks", code="AccessDeniedException")
    found = job_of(queues(ask))
    assert (found["would_launch"], found["live"], found["error"]) == (0, None, None)


def test_a_suspended_job_says_so(ask: Asker) -> None:
    ask.post("/jobs", json=SIZED)
    history.dag("job.mine", paused=True)
    assert job_of(queues(ask))["suspended"] is True


def test_a_task_of_a_hand_written_dag_goes_by_what_it_was_rendered_with(
    ask: Asker, queue: Callable[[int], Any]
) -> None:
    history.task(run_id="old", state="success", xcoms={"size": {**SIZE, "count": 1}}, rendered=RENDERED)
    history.task(run_id="new", state="success", xcoms={"size": SIZE}, rendered=RENDERED)
    queue(8)
    found = job_of(queues(ask))
    assert (found["job_id"], found["dag_id"], found["task_id"]) == (None, "dag", "task")
    assert (found["would_launch"], found["reason"]) == (2, "work: 8 visible: 7 per task asks for 2")
    assert found["last"] == {"count": 4, "reason": SIZE["reason"], "run_id": "new"}


@pytest.mark.parametrize(
    "rendered",
    [None, {**RENDERED, "queues": None}, {**RENDERED, "task_count": "***"}],
    ids=["none", "no queue", "masked"],
)
def test_a_task_that_does_not_tell_its_queue_is_not_shown(ask: Asker, rendered: dict[str, Any] | None) -> None:
    history.task(state="success", xcoms={"size": SIZE}, rendered=rendered)
    assert queues(ask)["queues"] == []


def test_two_jobs_of_one_queue(ask: Asker, queue: Callable[[int], Any]) -> None:
    ask.post("/jobs", json=SIZED)
    ask.post("/jobs", json={**SIZED, "id": "other", "maxCount": 2})
    queue(25)
    (found,) = queues(ask)["queues"]
    assert [(job["job_id"], job["would_launch"]) for job in found["jobs"]] == [("mine", 3), ("other", 2)]


def test_jobs_without_a_queue_have_none_here(ask: Asker) -> None:
    for id, more in {"noop": {"trigger": {"type": "noop"}}, "plain": {}}.items():
        ask.post("/jobs", json={"id": id, "taskDefinition": "sleeper", "schedule": "0 0 4", **more})
    assert queues(ask)["queues"] == []


def test_a_queue_that_is_not_there_is_said_and_nothing_is_guessed(ask: Asker) -> None:
    ask.post("/jobs", json={**SIZED, "trigger": {"type": "sqs", "queueName": "typo"}})
    told = queues(ask)
    (found,) = told["queues"]
    assert (found["depth"], found["at"]) == (None, None)
    assert found["error"].startswith("there is no queue 'typo' in eu-west-1")
    assert job_of(told)["would_launch"] is None
    assert "there is no queue 'typo'" in job_of(told)["error"]


def test_what_is_not_allowed_names_what_is_needed(ask: Asker, site: Site, queue: Callable[[int], Any]) -> None:
    ask.post("/jobs", json=SIZED)
    queue(1)
    site.cloud.faults.error("ListTasks", code="AccessDeniedException")
    found = job_of(queues(ask))
    assert (found["would_launch"], found["live"]) == (None, None)
    assert "ecs:ListTasks" in found["error"]
    assert "sqs:GetQueueAttributes" in found["error"]


def test_each_sees_the_queues_of_the_jobs_they_may_see(ask: Asker, ask_as: Callable[..., Asker]) -> None:
    ask.post("/jobs", json=SIZED)
    ask.post("/jobs", json={**SIZED, "id": "other"})
    (found,) = queues(ask_as("user", "narrow"))["queues"]
    assert [job["job_id"] for job in found["jobs"]] == ["mine"]


def test_as_many_queues_as_were_asked_for(ask: Asker) -> None:
    for name in ("a", "b", "c"):
        ask.post("/jobs", json={**SIZED, "id": name, "trigger": {"type": "sqs", "queueName": name}})
    told = queues(ask, "/queues?limit=2")
    assert ([found["queue"] for found in told["queues"]], told["total"], told["truncated"]) == (["a", "b"], 3, True)


def test_a_damaged_store_is_said_and_hand_written_dags_are_shown(
    ask: Asker, service: Any, queue: Callable[[int], Any]
) -> None:
    history.task(state="success", xcoms={"size": SIZE}, rendered=RENDERED)
    path = service.store.url.removeprefix("file://")
    with open(path, "w") as damaged:
        damaged.write("no snapshot")
    told = queues(ask)
    assert [found["queue"] for found in told["queues"]] == ["work"]
    assert [source["name"] for source in told["sources"] if not source["ok"]] == ["The jobs' store"]


def test_a_second_browser_costs_nothing(ask: Asker, site: Site, queue: Callable[[int], Any]) -> None:
    ask.post("/jobs", json=SIZED)
    queue(25)
    queues(ask)
    calls: list[str] = []
    client = looking.HOOKS.of("aws_default").client("sqs")
    client.meta.events.register("before-call", lambda model, **_: calls.append(model.name))
    queues(ask)
    assert "GetQueueAttributes" in calls
    before = len(calls)
    ask.get("/queues")
    assert len(calls) == before
