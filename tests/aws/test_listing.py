"""What AWS's answers become, and what becomes of the look where there is too much, no answer, or a refusal."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from airflow_transient.aws import listing
from airflow_transient.aws.listing import look_at, look_up
from airflow_transient.core.ecs.requests import started_by
from airflow_transient.core.launch import Launch, LaunchKey, Owner
from airflow_transient.core.prices import Rates
from airflow_transient.core.sources import Place, Resource

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
OWNER = Owner("prod", "dag", "run", "task")
EC2, ECS = Place("ec2", None), Place("ecs", "eu-west-1", "etl")


def tags(owner: Owner = OWNER) -> dict[str, str]:
    launch = Launch("ecs", "t1-1", "n", (), "eu-west-1", NOW, NOW, NOW + timedelta(hours=1))
    return LaunchKey(owner, "t1").tags(launch)


def instance(id: str = "i-1", state: str = "running", owner: Owner = OWNER, **more: Any) -> dict[str, Any]:
    told = [{"Key": name, "Value": value} for name, value in tags(owner).items()]
    return {"InstanceId": id, "State": {"Name": state}, "LaunchTime": NOW, "Tags": told, **more}


def task(number: int = 1, owner: Owner | None = OWNER, **more: Any) -> dict[str, Any]:
    """Without an owner: as StopTask leaves it."""
    environment = [
        {"name": "TRANSIENT_LAUNCH", "value": "t1-1-1"},
        {"name": "TRANSIENT_DEADLINE", "value": "1795266000"},
    ]
    return {
        "taskArn": f"arn:aws:ecs:eu-west-1:123456789012:task/etl/{number:032x}",
        "lastStatus": "RUNNING",
        "desiredStatus": "RUNNING",
        "createdAt": NOW,
        "startedBy": started_by(OWNER),
        "tags": [{"key": key, "value": value} for key, value in (tags(owner) if owner else {}).items()],
        "overrides": {"containerOverrides": [{"name": "main", "environment": environment}]},
        **more,
    }


class Aws:
    """Clients of one region that show these; `refuse` is what every call raises instead."""

    def __init__(self, *things: dict[str, Any], refuse: Exception | None = None) -> None:
        self.things, self.refuse = things, refuse
        self.meta = SimpleNamespace(region_name="eu-west-1", endpoint_url=f"written-down-{id(self)}")
        self.asked: list[dict[str, Any]] = []

    def __call__(self, service: str, region_name: str | None = None) -> Aws:
        return self

    def get_paginator(self, operation: str) -> Any:
        return SimpleNamespace(paginate=getattr(self, operation))

    def describe_instances(self, **words: Any) -> Any:
        self._ask(words)
        page = {"Reservations": [{"Instances": list(self.things)}]}
        return [page] if "PaginationConfig" in words else page

    def list_tasks(self, **words: Any) -> Any:
        self._ask(words)
        return [{"taskArns": [one["taskArn"] for one in self.things]}]

    def describe_tasks(self, tasks: list[str], **words: Any) -> Any:
        self._ask({"tasks": tasks, **words})
        return {"tasks": [one for one in self.things if one["taskArn"] in tasks or one["taskArn"][-32:] in tasks]}

    def _ask(self, words: dict[str, Any]) -> None:
        self.asked.append(words)
        if self.refuse:
            raise self.refuse


def seen(*things: dict[str, Any], place: Place = EC2) -> tuple[Resource, ...]:
    look = look_at(Aws(*things), place, "prod", NOW)
    assert look.complete, look
    return look.resources


def test_an_instance() -> None:
    (found,) = seen(instance(InstanceType="t3.micro"))
    assert (found.found.id, found.found.owner_in("prod"), found.token) == ("i-1", OWNER, "t1-1")
    assert (found.words, found.rates, found.billed_from) == ("i-1 (t3.micro)", (("t3.micro", 1.0),), NOW)


def test_a_place_tells_the_region_that_answered() -> None:
    (found,) = seen(instance())
    assert found.place == Place("ec2", "eu-west-1")


BILLED = {"pending": False, "running": True, "stopping": True, "shutting-down": True, "stopped": False}


@pytest.mark.parametrize(("state", "billed"), BILLED.items())
def test_what_an_instance_is_billed_for(state: str, billed: bool) -> None:
    (found,) = seen(instance(state=state, InstanceType="t3.micro"))
    assert bool(found.billed_from) is billed


def test_a_spot_instance_has_a_price_of_its_own() -> None:
    (found,) = seen(instance(InstanceType="t3.micro", InstanceLifecycle="spot"))
    assert (found.words, found.rates) == ("i-1 (t3.micro, spot)", (("spot:t3.micro", 1.0),))


FARGATE = {"cpu": "512", "memory": "1024", "launchType": "FARGATE", "pullStartedAt": NOW}
ARM = [{"name": "ecs.cpu-architecture", "value": "arm64"}]
RATES: dict[str, tuple[dict[str, Any], Rates]] = {
    "Fargate": (FARGATE, (("fargate:vcpu", 0.5), ("fargate:gb", 1.0))),
    "Fargate Spot": (
        {**FARGATE, "capacityProviderName": "FARGATE_SPOT"},
        (("fargate-spot:vcpu", 0.5), ("fargate-spot:gb", 1.0)),
    ),
    "Fargate on ARM": ({**FARGATE, "attributes": ARM}, (("fargate-arm:vcpu", 0.5), ("fargate-arm:gb", 1.0))),
    "instances of the cluster": ({**FARGATE, "launchType": "EC2"}, ()),
    "a provider of its own": ({**FARGATE, "capacityProviderName": "mine"}, ()),
    "sizes that are not told": ({**FARGATE, "cpu": ""}, ()),
}


@pytest.mark.parametrize(("more", "rates"), RATES.values(), ids=RATES)
def test_what_a_task_is_billed_by(more: dict[str, Any], rates: Rates) -> None:
    (found,) = seen(task(**more), place=ECS)
    assert found.rates == rates


def test_a_task_that_was_stopped_is_known_by_its_variables() -> None:
    (found,) = seen(task(owner=None, desiredStatus="STOPPED"), place=ECS)
    assert (found.token, found.job, found.found.state) == ("t1-1", started_by(OWNER), "STOPPING")


OTHERS: dict[str, tuple[Place, dict[str, Any]]] = {
    "another deployment's instance": (EC2, instance(owner=Owner("test", "dag", "run", "task"))),
    "another deployment's task": (ECS, task(owner=Owner("test", "dag", "run", "task"))),
    "a service's task": (ECS, task(owner=None, startedBy="ecs-svc/1", overrides={})),
}


@pytest.mark.parametrize(("place", "thing"), OTHERS.values(), ids=OTHERS)
def test_what_is_not_ours(place: Place, thing: dict[str, Any]) -> None:
    assert seen(thing, place=place) == ()


def test_ec2_is_asked_for_this_deployments_only() -> None:
    aws = Aws()
    look_at(aws, EC2, "prod", NOW)
    assert {"Name": "tag:transient:owner", "Values": ["prod/*"]} in aws.asked[0]["Filters"]


@pytest.mark.parametrize("name", ["a*", "a?", "a\\b"])
def test_a_name_that_a_filter_would_read_otherwise_is_compared_here(name: str) -> None:
    aws = Aws(instance(owner=Owner(name, "dag", "run", "task")), instance("i-2", owner=Owner("ab", "d", "r", "t")))
    look = look_at(aws, EC2, name, NOW)
    assert [found.found.id for found in look.resources] == ["i-1"]
    assert "tag:transient:owner" not in {one["Name"] for one in aws.asked[0]["Filters"]}


def test_no_more_is_read_than_fits_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "AT_MOST", 3)
    look = look_at(Aws(*(instance(f"i-{n}") for n in range(5))), EC2, "prod", NOW)
    assert (len(look.resources), look.truncated, look.complete) == (3, True, False)


def test_no_longer_is_looked_than_a_person_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PATIENCE", -1.0)
    look = look_at(Aws(task()), ECS, "prod", NOW)
    assert (look.resources, look.truncated) == ((), True)


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Any")


ERRORS: dict[str, tuple[Exception, str]] = {
    "not allowed": (
        refusal("AccessDeniedException"),
        "not allowed: .* is needed .* ec2:DescribeInstances, ecs:ListTasks",
    ),
    "no credentials": (NoCredentialsError(), "no AWS credentials.* The API server's own AWS credentials need"),
    "throttled": (refusal("ThrottlingException"), "ThrottlingException"),
    "out of reach": (EndpointConnectionError(endpoint_url="https://x"), "EndpointConnectionError"),
}


@pytest.mark.parametrize("place", [EC2, ECS], ids=["ec2", "ecs"])
@pytest.mark.parametrize(("error", "words"), ERRORS.values(), ids=ERRORS)
def test_what_fails_is_told_in_a_sentence(place: Place, error: Exception, words: str) -> None:
    look = look_at(Aws(refuse=error), place, "prod", NOW)
    assert (look.resources, look.complete) == ((), False)
    assert look.error
    assert re.search(words, look.error)


def test_a_cluster_that_is_gone_is_told() -> None:
    look = look_at(Aws(refuse=refusal("ClusterNotFoundException")), ECS, "prod", NOW)
    assert look.error
    assert "ClusterNotFoundException" in look.error


def test_the_default_cluster_may_not_be_there() -> None:
    look = look_at(Aws(refuse=refusal("ClusterNotFoundException")), Place("ecs", None, "default"), "prod", NOW)
    assert (look.resources, look.complete) == ((), True)


ENDED: dict[str, tuple[Place, dict[str, Any], str, str, datetime | None]] = {
    "an instance": (
        EC2,
        instance(state="terminated", StateTransitionReason="User initiated (2026-11-21 10:51:00 GMT)"),
        "i-1",
        "terminated",
        datetime(2026, 11, 21, 10, 51, tzinfo=timezone.utc),
    ),
    "an instance that does not tell when": (EC2, instance(state="terminated"), "i-1", "terminated", None),
    "a task": (
        ECS,
        task(lastStatus="STOPPED", desiredStatus="STOPPED", stoppedAt=NOW),
        f"{1:032x}",
        "STOPPED",
        NOW,
    ),
}


@pytest.mark.parametrize(("place", "thing", "id", "state", "ended"), ENDED.values(), ids=ENDED)
def test_what_has_ended_is_found_by_its_id(
    place: Place, thing: dict[str, Any], id: str, state: str, ended: datetime | None
) -> None:
    (found,) = look_up(Aws(thing), place, [id], NOW).resources
    assert (found.found.state, found.over, found.ended) == (state, True, ended)


def test_an_id_that_aws_does_not_know_is_not_found() -> None:
    assert look_up(Aws(task(2)), ECS, ["f" * 32], NOW).resources == ()


def test_so_many_ids_and_no_more_are_asked_for() -> None:
    aws = Aws()
    look_up(aws, EC2, [f"i-{n}" for n in range(500)], NOW)
    assert [len(words["Filters"][0]["Values"]) for words in aws.asked] == [100]
