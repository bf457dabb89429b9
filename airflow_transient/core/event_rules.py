"""What there has to be in AWS for state changes to reach a queue: the queue, its policy and two rules, as values.

docs/events.yaml says the same to CloudFormation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_transient.core.ecs.requests import started_by_prefix
from airflow_transient.core.events import SOURCES
from airflow_transient.core.launch import MANAGED_BY, TAG_PREFIX
from airflow_transient.errors import SpecError

DEFAULT_QUEUE = "airflow-transient-events"
#: A rule is named after its queue and its kind, and PutRule takes 64 characters. FIFO queues have a dot in their name,
#: and nobody needs an order here.
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
#: An event matters for as long as a poll takes to come by. What a triggerer had received when it died comes back after
#: ten seconds. The keys of SSE-SQS need no grant for EventBridge, unlike KMS's.
QUEUE_ATTRIBUTES = {"MessageRetentionPeriod": "300", "VisibilityTimeout": "10", "SqsManagedSseEnabled": "true"}
MANAGED_TAG, DEPLOYMENT_TAG = TAG_PREFIX + "managed-by", TAG_PREFIX + "deployment"
TARGET = "queue"

READER_ACTIONS = ("sqs:GetQueueUrl", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility")
QUEUE_ACTIONS = (
    *("sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:ListQueueTags"),
    *("sqs:CreateQueue", "sqs:SetQueueAttributes", "sqs:TagQueue", "sqs:DeleteQueue"),
)
RULE_ACTIONS = (
    *("events:DescribeRule", "events:ListTargetsByRule", "events:ListTagsForResource"),
    *("events:PutRule", "events:PutTargets", "events:TagResource", "events:RemoveTargets", "events:DeleteRule"),
)


@dataclass(frozen=True)
class Rule:
    name: str
    description: str
    pattern: Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What one deployment wants in one region. All is named after the queue: two queues never meet."""

    deployment: str
    queue: str = DEFAULT_QUEUE

    def __post_init__(self) -> None:
        if not _QUEUE_NAME.fullmatch(self.queue):
            raise SpecError(f"queue {self.queue!r}: give a name of up to 60 letters, digits, - and _")
        if not self.deployment:
            raise SpecError("whose events? the deployment has no id")

    @property
    def tags(self) -> dict[str, str]:
        return {MANAGED_TAG: MANAGED_BY, DEPLOYMENT_TAG: self.deployment}

    def rules(self) -> Iterator[Rule]:
        """EC2's events do not say whose instance it is: every one of the region comes. ECS's are this deployment's."""
        own = {"ecs": {"startedBy": [{"prefix": started_by_prefix(self.deployment)}]}}
        for kind, source in SOURCES.items():
            pattern = {
                "source": [source.source],
                "detail-type": [source.detail_type],
                "detail": {source.state: list(source.states), **own.get(kind, {})},
            }
            yield Rule(f"{self.queue}-{kind}", f"airflow_transient: {source.detail_type} -> {self.queue}", pattern)


@dataclass(frozen=True)
class Arn:
    """A queue's, taken apart."""

    partition: str
    region: str
    account: str
    queue: str

    @classmethod
    def of(cls, words: str) -> Arn:
        _, partition, _, region, account, queue = words.split(":")
        return cls(partition, region, account, queue)

    def __str__(self) -> str:
        return f"arn:{self.partition}:sqs:{self.region}:{self.account}:{self.queue}"

    def rule(self, name: str) -> str:
        return f"arn:{self.partition}:events:{self.region}:{self.account}:rule/{name}"


def queue_policy(arn: Arn, wanted: Wanted) -> dict[str, Any]:
    """
    Our two rules may send, and nobody else.

    A condition as in EventBridge's user guide, "cross-service confused deputy prevention".
    """
    statement = {
        "Sid": "StateChanges",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": str(arn),
        "Condition": {
            "ArnEquals": {"aws:SourceArn": [arn.rule(rule.name) for rule in wanted.rules()]},
            "StringEquals": {"aws:SourceAccount": arn.account},
        },
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def reader_statement(arn: Arn) -> dict[str, Any]:
    """What the triggerer needs."""
    return {"Effect": "Allow", "Action": list(READER_ACTIONS), "Resource": str(arn)}


def maker_statements(arn: Arn, wanted: Wanted) -> list[dict[str, Any]]:
    """What whoever runs setup and teardown needs."""
    rules = [arn.rule(rule.name) for rule in wanted.rules()]
    return [
        {"Effect": "Allow", "Action": list(QUEUE_ACTIONS), "Resource": str(arn)},
        {"Effect": "Allow", "Action": list(RULE_ACTIONS), "Resource": rules},
    ]


# --- what is there, against what is wanted --------------------------------------------------------------------------


@dataclass(frozen=True)
class FoundQueue:
    """What is there by that name. `policy`: read."""

    url: str
    arn: Arn
    attributes: Mapping[str, str]
    tags: Mapping[str, str]
    policy: Any = None

    def faults(self, wanted: Wanted) -> tuple[str, ...]:
        """What setup would change, in words."""
        differing = {
            name: self.attributes.get(name, "nothing")
            for name, value in QUEUE_ATTRIBUTES.items()
            if str(self.attributes.get(name)).lower() != value
        }
        words = [f"{name} is {value}, not {QUEUE_ATTRIBUTES[name]}" for name, value in differing.items()]
        allowed = _alike(self.policy, queue_policy(self.arn, wanted))
        return (*words, *(() if allowed else ("its policy does not let our two rules send, and nobody else",)))


@dataclass(frozen=True)
class FoundRule:
    """What is there by that name. `targets`: as ListTargetsByRule tells them."""

    name: str
    state: str
    pattern: Any
    tags: Mapping[str, str]
    targets: tuple[Mapping[str, Any], ...] = ()

    def faults(self, rule: Rule, arn: Arn | None) -> tuple[str, ...]:
        return (
            *(() if _alike(self.pattern, rule.pattern) else ("its pattern is another",)),
            *(() if self.state == "ENABLED" else (f"it is {self.state}",)),
            *(() if self.sends_to(arn) else ("it does not send to the queue",)),
        )

    def sends_to(self, arn: Arn | None) -> bool:
        """As an event is: a target that changes it on the way would not be understood."""
        return any(target.get("Arn") == str(arn) and set(target) <= {"Id", "Arn"} for target in self.targets)


def not_ours(what: str, tags: Mapping[str, str], wanted: Wanted) -> str | None:
    """Why this is not to be touched; None where it is ours."""
    if stack := tags.get("aws:cloudformation:stack-name"):
        return f"{what} was made by the CloudFormation stack {stack}: change or delete it there"
    if tags.get(MANAGED_TAG) != MANAGED_BY:
        return f"{what} is there, and not ours (it has no tag {MANAGED_TAG})"
    if (other := tags.get(DEPLOYMENT_TAG)) != wanted.deployment:
        return f"{what} is of deployment {other!r}, and this is {wanted.deployment!r}"
    return None


def _alike(one: Any, other: Any) -> bool:
    """JSON in which the order of lists means nothing."""
    return bool(_sorted(one) == _sorted(other))


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _sorted(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return sorted(map(_sorted, value), key=repr)
    return value
