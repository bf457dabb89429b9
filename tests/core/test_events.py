"""What an event says, and what becomes of its message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_transient.core.ecs.requests import started_by
from airflow_transient.core.event_rules import DEPLOYMENT_TAG, MANAGED_TAG, Arn, Wanted, not_ours, queue_policy
from airflow_transient.core.events import LONGEST, Change, EventError, Fate, Standing, fate, read
from airflow_transient.core.launch import Owner
from airflow_transient.errors import SpecError

TASK = "7f2c9d0b5e1a4c63a8f0d2b41e6c9a55"
ARN = f"arn:aws:ecs:eu-west-1:123456789012:task/etl/{TASK}"


def of_ec2(state: Any = "terminated", **changed: Any) -> dict[str, Any]:
    """As EC2's user guide shows it."""
    return {
        "version": "0",
        "id": "7bf73129-1428-4cd3-a780-95db273d1602",
        "detail-type": "EC2 Instance State-change Notification",
        "source": "aws.ec2",
        "account": "123456789012",
        "time": "2026-11-21T21:29:54Z",
        "region": "eu-west-1",
        "resources": ["arn:aws:ec2:eu-west-1:123456789012:instance/i-0a"],
        "detail": {"instance-id": "i-0a", "state": state},
        **changed,
    }


def of_ecs(state: str = "STOPPED", **changed: Any) -> dict[str, Any]:
    secret = [{"name": "main", "environment": [{"name": "PASSWORD", "value": "swordfish"}]}]
    detail = {"taskArn": ARN, "lastStatus": state, "version": 4, "overrides": {"containerOverrides": secret}}
    return {
        "version": "0",
        "detail-type": "ECS Task State Change",
        "source": "aws.ecs",
        "region": "eu-west-1",
        "detail": detail,
        **changed,
    }


@pytest.mark.parametrize(
    ("event", "change", "worth_a_look"),
    [
        pytest.param(of_ec2("terminated"), Change("ec2", "eu-west-1", "i-0a", "terminated"), True, id="terminated"),
        pytest.param(of_ec2("stopped"), Change("ec2", "eu-west-1", "i-0a", "stopped"), True, id="stopped"),
        pytest.param(
            of_ec2("shutting-down"), Change("ec2", "eu-west-1", "i-0a", "shutting-down"), True, id="on its way"
        ),
        pytest.param(of_ec2("running"), Change("ec2", "eu-west-1", "i-0a", "running"), False, id="a start"),
        pytest.param(of_ec2("new word"), Change("ec2", "eu-west-1", "i-0a", "new word"), False, id="not known here"),
        pytest.param(of_ecs(), Change("ecs", "eu-west-1", TASK, "STOPPED"), True, id="a task that stopped"),
        pytest.param(of_ecs("RUNNING"), Change("ecs", "eu-west-1", TASK, "RUNNING"), False, id="a task that runs"),
        pytest.param(
            of_ecs(detail={"taskArn": f"arn:aws:ecs:eu-west-1:1:task/{TASK}", "lastStatus": "STOPPED"}),
            Change("ecs", "eu-west-1", TASK, "STOPPED"),
            True,
            id="in the short ARN format",
        ),
        pytest.param(of_ec2(more="x"), Change("ec2", "eu-west-1", "i-0a", "terminated"), True, id="with more in it"),
    ],
)
def test_an_event_says_whose_and_what(event: dict[str, Any], change: Change, worth_a_look: bool) -> None:
    assert read(json.dumps(event)) == change
    assert change.worth_a_look is worth_a_look


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="nothing"),
        pytest.param("{", id="no JSON"),
        pytest.param("[]", id="no object"),
        pytest.param("NaN", id="no number"),
        pytest.param("[" * 100_000, id="too deep"),
        pytest.param(json.dumps(of_ec2(padding="x" * LONGEST)), id="too long"),
        pytest.param(json.dumps(of_ec2(version="1")), id="another version"),
        pytest.param(json.dumps(of_ec2(source="mine")), id="another source"),
        pytest.param(json.dumps(of_ec2(**{"detail-type": "EC2 Spot Instance Interruption Warning"})), id="a warning"),
        pytest.param(json.dumps(of_ec2(detail=None)), id="no detail"),
        pytest.param(json.dumps(of_ec2(detail={"instance-id": "i-0a"})), id="no state"),
        pytest.param(json.dumps(of_ec2(detail={"instance-id": ["i-0a"], "state": "terminated"})), id="a list of ids"),
        pytest.param(json.dumps(of_ec2(state={"terminated": 1})), id="a state that is an object"),
        pytest.param(json.dumps(of_ec2(region=7)), id="a region that is none"),
        pytest.param(json.dumps({"Records": [{"eventSource": "aws:s3"}]}), id="another service's message"),
    ],
)
def test_what_is_no_event_of_ours_is_said_so_and_nothing_of_it(body: str) -> None:
    with pytest.raises(EventError) as said:
        read(body)
    assert "i-0a" not in str(said.value)
    assert "x" * 20 not in str(said.value)


def test_of_a_task_s_event_nothing_is_kept_but_whose_and_what() -> None:
    assert "swordfish" not in repr(read(json.dumps(of_ecs())))


ENDED, RUNS = Change("ec2", "eu-west-1", "i-0a", "terminated"), Change("ec2", "eu-west-1", "i-0a", "running")


@pytest.mark.parametrize(
    ("change", "standing", "receives", "becomes"),
    [
        pytest.param(ENDED, Standing.WAITS, 1, Fate.WAKE, id="somebody here waits for it"),
        pytest.param(ENDED, Standing.WAITS, 9, Fate.WAKE, id="however often it was received"),
        pytest.param(ENDED, Standing.UNKNOWN, 1, Fate.RELEASE, id="perhaps another triggerer"),
        pytest.param(ENDED, Standing.UNKNOWN, 2, Fate.RELEASE, id="perhaps a third one"),
        pytest.param(ENDED, Standing.UNKNOWN, 3, Fate.DELETE, id="nobody's"),
        pytest.param(ENDED, Standing.ENDED, 1, Fate.DELETE, id="it was ours, and is over"),
        pytest.param(RUNS, Standing.WAITS, 1, Fate.DELETE, id="worth no look"),
        pytest.param(RUNS, Standing.UNKNOWN, 1, Fate.DELETE, id="worth nobody's look"),
        pytest.param(None, Standing.UNKNOWN, 1, Fate.DELETE, id="no event of ours"),
    ],
)
def test_what_becomes_of_a_message(change: Change | None, standing: Standing, receives: int, becomes: Fate) -> None:
    assert fate(change, standing, receives) is becomes


# --- what there has to be in AWS ------------------------------------------------------------------------------------


def test_the_rules_let_through_what_is_worth_a_look_and_no_more() -> None:
    ec2, ecs = Wanted("prod").rules()
    assert (ec2.name, ec2.pattern) == (
        "airflow-transient-events-ec2",
        {
            "source": ["aws.ec2"],
            "detail-type": ["EC2 Instance State-change Notification"],
            "detail": {"state": ["stopping", "shutting-down", "stopped", "terminated"]},
        },
    )
    assert (ecs.name, ecs.pattern) == (
        "airflow-transient-events-ecs",
        {
            "source": ["aws.ecs"],
            "detail-type": ["ECS Task State Change"],
            "detail": {"lastStatus": ["STOPPED"], "startedBy": [{"prefix": "prod/"}]},
        },
    )


@pytest.mark.parametrize("deployment", ["prod", "airflow-1a2b3c4d", "Größe & Co.", "a" * 200, "x/y!"])
def test_the_rule_of_ecs_lets_every_job_of_its_deployment_through(deployment: str) -> None:
    _, ecs = Wanted(deployment).rules()
    (prefix,) = ecs.pattern["detail"]["startedBy"]
    assert started_by(Owner(deployment, "dag", "run", "task", 3)).startswith(prefix["prefix"])


def test_only_our_two_rules_may_send() -> None:
    arn = Arn.of("arn:aws-cn:sqs:cn-north-1:123456789012:q")
    (statement,) = queue_policy(arn, Wanted("prod", "q"))["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Resource"] == str(arn)
    assert statement["Condition"] == {
        "ArnEquals": {
            "aws:SourceArn": [f"arn:aws-cn:events:cn-north-1:123456789012:rule/q-{kind}" for kind in ("ec2", "ecs")]
        },
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }


@pytest.mark.parametrize("name", ["", "q.fifo", "a" * 61, "arn:aws:sqs:eu-west-1:1:q", "two words"])
def test_a_name_that_a_rule_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="up to 60 letters"):
        Wanted("prod", name)


OURS = {MANAGED_TAG: "airflow_transient", DEPLOYMENT_TAG: "prod"}


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        pytest.param(OURS, None, id="ours"),
        pytest.param({**OURS, "team": "data"}, None, id="ours, with a tag of a person"),
        pytest.param({}, "not ours", id="without tags"),
        pytest.param({DEPLOYMENT_TAG: "prod"}, "not ours", id="half of the tags"),
        pytest.param({**OURS, DEPLOYMENT_TAG: "dev"}, "of deployment 'dev'", id="another deployment's"),
        pytest.param({**OURS, "aws:cloudformation:stack-name": "x"}, "by the CloudFormation stack x", id="a stack's"),
    ],
)
def test_what_is_not_ours_is_said_so(tags: dict[str, str], why: str | None) -> None:
    said = not_ours("queue q", tags, Wanted("prod"))
    assert said is None if why is None else why in str(said)
