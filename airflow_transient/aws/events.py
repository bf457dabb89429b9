"""The queue and the rules by which AWS tells of state changes: looked at, made, and taken away again.

Law: what is there already is changed or removed only where its tags say that it is ours. Twice is fine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws.launcher import ClientFactory, code_of, said_plainly
from airflow_transient.aws.sqs import MISSING
from airflow_transient.core.event_rules import (
    QUEUE_ATTRIBUTES,
    TARGET,
    Arn,
    FoundQueue,
    FoundRule,
    Rule,
    Wanted,
    not_ours,
    queue_policy,
)
from airflow_transient.errors import LaunchError, SpecError

COUNTERS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
#: Seconds. CreateQueue's page: "you must wait at least one second after the queue is created".
NEW_QUEUE = (1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Step:
    """What is there, or was done, by one name. `lacking`: it is not as it has to be. `ours`: setup would mend it."""

    what: str
    words: str
    lacking: bool = False
    changed: bool = False
    ours: bool = True


@dataclass(frozen=True)
class Region:
    """What became of one region. `arn`: of its queue, there or not."""

    name: str
    arn: Arn
    steps: tuple[Step, ...]
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not any(step.lacking for step in self.steps)


@dataclass(frozen=True)
class _Found:
    queue: FoundQueue | None
    rules: tuple[tuple[Rule, FoundRule | None], ...]

    @property
    def arn(self) -> Arn | None:
        return self.queue.arn if self.queue else None


class Events:
    """One deployment's events in one region. Raises SpecError, AccessError or LaunchError."""

    def __init__(self, client: ClientFactory, wanted: Wanted, region: str | None = None) -> None:
        self.wanted = wanted
        with said_plainly("sqs:GetQueueUrl"):
            self._sqs, self._bridge = client("sqs", region_name=region), client("events", region_name=region)
        self.region = str(self._sqs.meta.region_name)

    def show(self) -> Region:
        found = self._found()
        queue = found.queue
        steps = [self._seen(f"queue {self.wanted.queue}", queue, queue.faults(self.wanted) if queue else ())]
        for rule, there in found.rules:
            steps.append(self._seen(f"rule {rule.name}", there, there.faults(rule, found.arn) if there else ()))
        counters = {name: int(queue.attributes.get(name, 0)) for name in COUNTERS} if queue else {}
        return Region(self.region, self._arn(queue), tuple(steps), counters)

    def _seen(self, what: str, there: FoundQueue | FoundRule | None, faults: tuple[str, ...]) -> Step:
        if there is None:
            return Step(what, "is not there", lacking=True)
        if faults and (why := not_ours("it", there.tags, self.wanted)):
            return Step(what, "; ".join([why, *faults]), lacking=True, ours=False)
        return Step(what, "; ".join(faults) or "is as it has to be", lacking=bool(faults))

    def setup(self, dry_run: bool = False) -> Region:
        """Make what is missing, mend what differs."""
        found = self._found()
        self._refuse(found, mending=True)
        steps = [self._queue_set_up(found.queue, dry_run)]
        arn = self._arn(found.queue if found.queue or dry_run else self._new_queue())
        steps += [self._rule_set_up(rule, there, arn, dry_run) for rule, there in found.rules]
        return Region(self.region, arn, tuple(steps))

    def teardown(self, dry_run: bool = False) -> Region:
        """Remove what setup has made."""
        found = self._found()
        self._refuse(found, mending=False)
        steps = [self._rule_removed(rule, there, found.arn, dry_run) for rule, there in found.rules]
        return Region(self.region, self._arn(found.queue), (*steps, self._queue_removed(found.queue, dry_run)))

    # --- looking --------------------------------------------------------------------------------------------------

    def _found(self) -> _Found:
        return _Found(self._queue(), tuple((rule, self._rule(rule)) for rule in self.wanted.rules()))

    def _queue(self) -> FoundQueue | None:
        answer = self._ask("sqs:GetQueueUrl", self._sqs.get_queue_url, QueueName=self.wanted.queue)
        if answer is None:
            return None
        url = answer["QueueUrl"]
        said = self._ask("sqs:GetQueueAttributes", self._sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["All"])
        named = self._ask("sqs:ListQueueTags", self._sqs.list_queue_tags, QueueUrl=url)
        if said is None or named is None:
            return None
        attributes = said["Attributes"]
        arn, policy = Arn.of(attributes["QueueArn"]), _read(attributes.get("Policy"))
        return FoundQueue(url, arn, attributes, named.get("Tags", {}), policy)

    def _new_queue(self) -> FoundQueue:
        for pause in NEW_QUEUE:
            if queue := self._queue():
                return queue
            time.sleep(pause)
        raise LaunchError(f"{self.region}: queue {self.wanted.queue} was made, and SQS does not show it yet: once more")

    def _rule(self, rule: Rule) -> FoundRule | None:
        said = self._ask("events:DescribeRule", self._bridge.describe_rule, Name=rule.name)
        if said is None:
            return None
        tags = self._ask("events:ListTagsForResource", self._bridge.list_tags_for_resource, ResourceARN=said["Arn"])
        sent = self._ask("events:ListTargetsByRule", self._bridge.list_targets_by_rule, Rule=rule.name)
        if tags is None or sent is None:
            return None
        named = {tag["Key"]: tag["Value"] for tag in tags["Tags"]}
        pattern = _read(said.get("EventPattern"))
        return FoundRule(rule.name, said.get("State", ""), pattern, named, tuple(sent["Targets"]))  # never over a page

    def _ask(self, action: str, call: Callable[..., Any], **words: Any) -> Any:
        """As said_plainly; None: it is not there, which is no error."""
        with said_plainly(f"{action} for {self.wanted.queue} in {self.region}"):
            try:
                return call(**words)
            except ClientError as error:
                if code_of(error) not in {*MISSING, "ResourceNotFoundException"}:
                    raise
        return None

    def _refuse(self, found: _Found, mending: bool) -> None:
        """SpecError where something by these names is not ours, before anything is done.

        :param mending: what is as it has to be stays as it is, and may be anybody's.
        """
        there: list[tuple[str, FoundQueue | FoundRule, tuple[str, ...]]] = []
        if found.queue:
            there.append((f"queue {self.wanted.queue}", found.queue, found.queue.faults(self.wanted)))
        there += [(f"rule {rule.name}", one, one.faults(rule, found.arn)) for rule, one in found.rules if one]
        for what, one, faults in there:
            if (faults or not mending) and (why := not_ours(what, one.tags, self.wanted)):
                advice = "take another name with --queue" if mending else "it is left alone"
                raise SpecError(f"{self.region}: {why}: {advice}")

    def _arn(self, queue: FoundQueue | None) -> Arn:
        """Of a queue that is not there the account is not known."""
        return queue.arn if queue else Arn(self._sqs.meta.partition, self.region, "<account>", self.wanted.queue)

    # --- making ---------------------------------------------------------------------------------------------------

    def _queue_set_up(self, queue: FoundQueue | None, dry_run: bool) -> Step:
        what = f"queue {self.wanted.queue}"
        faults = queue.faults(self.wanted) if queue else ()
        if queue and not faults:
            return Step(what, "is there")
        if not dry_run:
            self._write_queue(queue)
        return _changed(what, "made" if queue is None else f"mended: {'; '.join(faults)}", dry_run)

    def _write_queue(self, queue: FoundQueue | None) -> None:
        """Its policy is written once its ARN is known; till then nobody may send."""
        name = self.wanted.queue
        if queue is None:
            with said_plainly(f"sqs:CreateQueue of {name}"):
                self._sqs.create_queue(QueueName=name, Attributes=QUEUE_ATTRIBUTES, tags=self.wanted.tags)
            queue = self._new_queue()
        policy = json.dumps(queue_policy(queue.arn, self.wanted))
        with said_plainly(f"sqs:SetQueueAttributes on {name}"):
            self._sqs.set_queue_attributes(QueueUrl=queue.url, Attributes={**QUEUE_ATTRIBUTES, "Policy": policy})

    def _rule_set_up(self, rule: Rule, there: FoundRule | None, arn: Arn, dry_run: bool) -> Step:
        what = f"rule {rule.name}"
        faults = there.faults(rule, arn) if there else ()
        if there and not faults:
            return Step(what, "is there")
        if not dry_run:
            self._write_rule(rule, there is None, arn)
        return _changed(what, "made" if there is None else f"mended: {'; '.join(faults)}", dry_run)

    def _write_rule(self, rule: Rule, new: bool, arn: Arn) -> None:
        """PutRule takes tags for a new rule only. A target has no role: the queue's policy is what lets it send."""
        pattern = {"Name": rule.name, "Description": rule.description, "EventPattern": json.dumps(rule.pattern)}
        tags = [{"Key": name, "Value": value} for name, value in self.wanted.tags.items()]
        with said_plainly(f"events:PutRule of {rule.name}"):
            self._bridge.put_rule(**pattern, State="ENABLED", **({"Tags": tags} if new else {}))
        with said_plainly(f"events:PutTargets on {rule.name}"):
            _all_done(self._bridge.put_targets(Rule=rule.name, Targets=[{"Id": TARGET, "Arn": str(arn)}]))

    # --- taking away ----------------------------------------------------------------------------------------------

    def _rule_removed(self, rule: Rule, there: FoundRule | None, arn: Arn | None, dry_run: bool) -> Step:
        what = f"rule {rule.name}"
        if there is None:
            return Step(what, "is not there")
        ours = [target["Id"] for target in there.targets if target["Id"] == TARGET or target.get("Arn") == str(arn)]
        left = len(there.targets) - len(ours)
        if not dry_run:
            self._unwrite_rule(rule, ours, whole=not left)
        if left:
            return Step(
                what,
                f"left: {left} of its targets {'is' if left == 1 else 'are'} not ours",
                lacking=True,
                changed=bool(ours),
            )
        return _changed(what, "deleted", dry_run)

    def _unwrite_rule(self, rule: Rule, targets: list[str], whole: bool) -> None:
        if targets:
            with said_plainly(f"events:RemoveTargets on {rule.name}"):
                _all_done(self._bridge.remove_targets(Rule=rule.name, Ids=targets))
        if whole:
            with said_plainly(f"events:DeleteRule of {rule.name}"):
                self._bridge.delete_rule(Name=rule.name)

    def _queue_removed(self, queue: FoundQueue | None, dry_run: bool) -> Step:
        what = f"queue {self.wanted.queue}"
        if queue is None:
            return Step(what, "is not there")
        if not dry_run:
            with said_plainly(f"sqs:DeleteQueue of {self.wanted.queue}"):
                self._sqs.delete_queue(QueueUrl=queue.url)
        return _changed(what, "deleted", dry_run)


def _changed(what: str, words: str, dry_run: bool) -> Step:
    return Step(what, f"would be {words}" if dry_run else words, changed=not dry_run)


def _read(words: str | None) -> Any:
    """What is no JSON is like nothing that we want."""
    try:
        return json.loads(words) if words else None
    except ValueError:
        return None


def _all_done(answer: dict[str, Any]) -> None:
    for entry in answer.get("FailedEntries", ()):
        raise LaunchError(f"EventBridge: {entry.get('ErrorCode')}: {entry.get('ErrorMessage')}")
