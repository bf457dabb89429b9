"""What the reaper takes for a task of ours, and what it does with ECS's answers: written down, no cloud."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_transient.aws.found import task_found
from airflow_transient.aws.reaper import Reaper, Report
from airflow_transient.core.ecs.requests import started_by
from airflow_transient.core.launch import Launch, LaunchKey, Owner
from airflow_transient.core.reaping import GONE, MANAGED

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
OWNER = Owner("prod", "dag", "run", "task")
REGION = "eu-west-1"
CLUSTER = f"arn:aws:ecs:{REGION}:123456789012:cluster/etl"


def tags(minutes_left: float = 60, **more: str) -> dict[str, str]:
    launch = Launch("ecs", "t1-1", "n", (), REGION, NOW, NOW, NOW + timedelta(minutes=minutes_left))
    return {**LaunchKey(OWNER, "t1").tags(launch), **{f"transient:{name}": value for name, value in more.items()}}


def task(number: int = 1, tags: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """As DescribeTasks tells it, launched half an hour ago with a deadline in an hour."""
    environment = [
        {"name": "TRANSIENT_LAUNCH", "value": "t1-1-1"},
        {"name": "TRANSIENT_DEADLINE", "value": str(int((NOW + timedelta(hours=1)).timestamp()))},
    ]
    return {
        "taskArn": f"arn:aws:ecs:{REGION}:123456789012:task/etl/{number:032x}",
        "lastStatus": "RUNNING",
        "desiredStatus": "RUNNING",
        "createdAt": NOW - timedelta(minutes=30),
        "startedBy": started_by(OWNER),
        "tags": [{"key": key, "value": value} for key, value in (tags or {}).items()],
        "overrides": {"containerOverrides": [{"name": "side"}, {"name": "main", "environment": environment}]},
        **more,
    }


OTHERS: dict[str, dict[str, Any]] = {
    "a service's": task(startedBy="ecs-svc/0123456789012345678", overrides={}),
    "somebody's, without overrides": task(overrides={}, startedBy=""),
    "somebody's, with our variables": task(startedBy="me"),
    "ours, after its managed-by tag was taken away": task(tags={"transient:owner": "prod/dag/run/task/-1"}),
    "ours, of which nothing is left but a person's keep": task(tags={"transient:keep": "ask Ann"}),
}
OURS: dict[str, dict[str, Any]] = {
    "with its tags": task(tags=tags()),
    "without any tag": task(),
    "without any tag but a person's": task(tags={"team": "data"}),
    "in an answer that tells no tags": {name: value for name, value in task().items() if name != "tags"},
    "of a mapped task of a long name": task(startedBy=started_by(Owner("prod", "d" * 200, "r", "t", 3))),
}


@pytest.mark.parametrize("said", OTHERS.values(), ids=OTHERS)
def test_not_ours(said: dict[str, Any]) -> None:
    assert MANAGED not in task_found(said).tags


@pytest.mark.parametrize("said", OURS.values(), ids=OURS)
def test_ours_with_its_deadline(said: dict[str, Any]) -> None:
    found = task_found(said)
    assert found.tags[MANAGED] == "airflow_transient"
    assert found.tags["transient:deadline"] == str(int((NOW + timedelta(hours=1)).timestamp()))


def test_what_is_to_be_stopped_is_on_its_way_out() -> None:
    assert task_found(task(desiredStatus="STOPPED")).state == "STOPPING"


class Ecs:
    """A client of a cluster `etl`, whose pages hold two; `refuse` names what each call answers with instead."""

    def __init__(self, *tasks: dict[str, Any], **refuse: list[ClientError | None]) -> None:
        self.tasks, self.refuse = {each["taskArn"]: each for each in tasks}, refuse
        self.meta = SimpleNamespace(region_name=REGION, endpoint_url=f"written-down-{id(self)}")
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**words: Any) -> Any:
            self.calls.append((name, words))
            answers = self.refuse.get(name) or [None]
            error = answers.pop(0) if len(answers) > 1 else answers[0]
            if error:
                raise error
            return ANSWERS.get(name, lambda *_: {})(self, words)

        return call

    def made(self, name: str) -> list[Any]:
        return [words for called, words in self.calls if called == name]


def listed(ecs: Ecs, words: dict[str, Any]) -> dict[str, Any]:
    arns, start = list(ecs.tasks), int(words.get("nextToken", 0))
    more = {"nextToken": str(start + 2)} if start + 2 < len(arns) else {}
    return {"taskArns": arns[start : start + 2], **more}


def described(ecs: Ecs, words: dict[str, Any]) -> dict[str, Any]:
    assert words["include"] == ["TAGS"]
    found = [ecs.tasks[arn] for arn in words["tasks"]]
    return {
        "tasks": [each for each in found if "missing" not in each],
        "failures": [{"arn": each["taskArn"], "reason": each["missing"]} for each in found if "missing" in each],
    }


ANSWERS: dict[str, Callable[[Ecs, dict[str, Any]], dict[str, Any]]] = {
    "list_clusters": lambda *_: {"clusterArns": [CLUSTER]},
    "list_tasks": listed,
    "describe_tasks": described,
}


def error(code: str, message: str = "…") -> ClientError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(answer, "Something")


def reap(ecs: Ecs, now: datetime = NOW, **more: Any) -> Report:
    """One pass of deployment `prod`, whose Airflow knows nobody."""
    words = {"ask": lambda owners: dict.fromkeys(owners, GONE), "deployment": "prod", "only": ["ecs"], **more}
    report = Reaper(lambda service, **_: ecs, **{"sleep": lambda seconds: None, **words}).reap([REGION], now)
    print(report)
    return report


def outcomes(report: Report) -> list[str]:
    return [line.outcome for line in report.lines]


def test_every_page_is_read_and_only_ours_is_told() -> None:
    ecs = Ecs(task(1, tags()), task(2, overrides={}), task(3, tags()), task(4, overrides={}), task(5, tags()))
    assert [int(line.id, 16) for line in reap(ecs).lines] == [1, 3, 5]
    assert len(ecs.made("list_tasks")) == 3


def test_a_hundred_are_described_at_a_time() -> None:
    ecs = Ecs(*(task(number, overrides={}) for number in range(210)))
    reap(ecs)
    assert [len(words["tasks"]) for words in ecs.made("describe_tasks")] == [100, 100, 10]


def test_a_burst_is_one_question_to_airflow() -> None:
    asked: list[Any] = []
    ecs = Ecs(*(task(number, tags()) for number in range(15)))
    report = reap(ecs, ask=lambda owners: asked.append(owners) or {})
    assert asked == [{OWNER}]
    assert {line.reason for line in report.lines} == {"Airflow did not say how its task is"}
    assert report.unseen == ("eu-west-1: no answer from Airflow about prod/dag/run/task/-1",)


LONG_ARN = error("InvalidParameterException", "Long arn format must be used for tagging operations")
NOT_ALLOWED = error("AccessDeniedException", "User is not authorized to perform: ecs:TagResource")


@pytest.mark.parametrize("refusal", [LONG_ARN, NOT_ALLOWED], ids=["the short ARN format", "no permission"])
def test_what_takes_no_mark_is_told_at_every_pass_and_stopped_at_its_deadline_only(refusal: ClientError) -> None:
    ecs = Ecs(task(1, tags()), tag_resource=[refusal])
    for minutes in (0, 10):
        report = reap(ecs, NOW + timedelta(minutes=minutes))
        assert report.lines[0].outcome.startswith("COULD NOT BE MARKED")
        assert not report.complete
    assert ecs.made("stop_task") == []
    assert outcomes(reap(ecs, NOW + timedelta(minutes=71))) == ["stopped"]


def test_a_task_without_tags_is_stopped_at_its_deadline() -> None:
    ecs = Ecs(task())
    assert "its tags do not tell whose it is; its deadline is" in str(reap(ecs))
    assert outcomes(reap(ecs, NOW + timedelta(minutes=71))) == ["stopped"]
    assert ecs.made("stop_task")[0]["reason"] == "airflow_transient: deadline"


ENDED = {
    "not found": error("InvalidParameterException", "The referenced task was not found."),
    "its cluster is gone": error("ClusterNotFoundException", "Cluster not found."),
    "stopped": error(
        "InvalidParameterException", "The specified task is stopped. Specify a running task and try again."
    ),
}


@pytest.mark.parametrize("answer", ENDED.values(), ids=ENDED)
def test_what_ended_meanwhile_is_what_was_wanted(answer: ClientError) -> None:
    ecs = Ecs(task(1, tags(-30)), task(2, tags()), stop_task=[answer], tag_resource=[answer])
    report = reap(ecs)
    assert outcomes(report) == ["stopped", "marked"]
    assert report.complete


def test_what_cannot_be_stopped_does_not_save_the_others() -> None:
    ecs = Ecs(*(task(number, tags(-30)) for number in range(5)), stop_task=[error("AccessDeniedException"), None])
    report = reap(ecs)
    assert report.totals["stopped"] == 4
    assert report.totals["failed"] == 1


THROTTLED = {
    "plainly": error("ThrottlingException", "Rate exceeded"),
    "in disguise": error("InvalidParameterException", "Unexpected EC2 error: Throttling: Rate exceeded"),
}


@pytest.mark.parametrize("answer", THROTTLED.values(), ids=THROTTLED)
@pytest.mark.parametrize("call", ["list_clusters", "list_tasks", "describe_tasks", "stop_task"])
def test_a_throttled_call_is_made_again_later(call: str, answer: ClientError) -> None:
    slept: list[float] = []
    ecs = Ecs(task(1, tags(-30)), **{call: [answer, answer, None]})
    assert outcomes(reap(ecs, sleep=slept.append)) == ["stopped"]
    assert len(slept) == 2
    assert 0 < slept[0] < slept[1]


DENIED = {
    "list_clusters": "eu-west-1: not allowed: ecs:ListClusters is needed",
    "list_tasks": "eu-west-1: not allowed: ecs:ListTasks of cluster etl is needed",
    "describe_tasks": "eu-west-1: not allowed: ecs:DescribeTasks of cluster etl is needed",
}


@pytest.mark.parametrize(("call", "words"), DENIED.items(), ids=DENIED)
def test_what_it_may_not_look_at_is_told(call: str, words: str) -> None:
    report = reap(Ecs(task(1, tags()), **{call: [error("AccessDeniedException")]}))
    assert [told.startswith(words) for told in report.unseen] == [True]
    assert not report.complete


def test_a_task_that_ecs_has_forgotten_is_passed_over_and_another_reason_is_told() -> None:
    assert reap(Ecs(task(1, tags(), missing="MISSING"))) == Report()
    assert "ECS says ODD" in str(reap(Ecs(task(1, tags(), missing="ODD"))))


def test_named_clusters_are_looked_at_and_no_others() -> None:
    there = "arn:aws:ecs:us-east-1:123456789012:cluster/etl"
    ecs = Ecs(task(1, tags(-30)))
    report = reap(ecs, clusters=[CLUSTER, there])
    assert ecs.made("list_clusters") == []
    assert [words["cluster"] for words in ecs.made("list_tasks")] == [CLUSTER]
    assert report.unseen == (f"{there}: its region was not asked for",)


def test_a_cluster_that_was_named_must_be_there_and_one_that_was_listed_may_be_gone() -> None:
    gone = error("ClusterNotFoundException", "Cluster not found.")
    assert reap(Ecs(list_tasks=[gone])) == Report()
    assert "cluster etl: ClusterNotFoundException" in str(reap(Ecs(list_tasks=[gone]), clusters=["etl"]))


def test_a_service_that_is_not_asked_for_is_not_asked() -> None:
    asked: list[str] = []

    def client(service: str, **_: Any) -> Any:
        asked.append(service)
        raise error("AccessDenied")

    report = Reaper(client, only=["ec2"]).reap([REGION], NOW)
    assert asked == ["ec2"]
    assert len(report.unseen) == 1
