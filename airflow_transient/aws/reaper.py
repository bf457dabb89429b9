"""The reaper's hands: list what carries our tag in each region, ask, decide, end; and tell all of it in one report.

`python -m airflow_transient.aws.reaper --region eu-west-1` does so without Airflow: then only deadlines decide.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from airflow_transient.aws import launcher
from airflow_transient.aws.launcher import ClientFactory, words_of
from airflow_transient.core import reaping
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import MANAGED_BY, TAG_PREFIX, Owner
from airflow_transient.core.reaping import UNANSWERED, Act, Answer, Case, Decision, Machine, Standing
from airflow_transient.errors import TransientError

T = TypeVar("T")

#: What Airflow says of these owners; one that is missing, or UNKNOWN, was not answered.
Ask = Callable[[Collection[Owner]], Mapping[Owner, Answer]]

#: TerminateInstances refills 20 instances a second (facts of EC2's API throttling): a batch, then a breath.
BATCH, BREATH = 50, 2.5
#: The pauses before a throttled call is made again, in seconds.
THROTTLED_AGAIN = (1.0, 3.0, 8.0)
STOPPED_BY = TAG_PREFIX + "stopped-by"
GONE_CODES = ("InvalidInstanceID.NotFound", "InvalidInstanceId.NotFound")

_OURS = [{"Name": f"tag:{reaping.MANAGED}", "Values": [MANAGED_BY]}]
_DONE = {
    Act.TERMINATE: "terminated",
    Act.MARK: "marked",
    Act.UNMARK: "unmarked",
    Act.DELETE: "deleted",
    Act.LEAVE: "left",
}


@dataclass(frozen=True)
class Line:
    """One decision and what came of it: `outcome` is "terminated", "marked", … , "would be …", or an error's words."""

    region: str
    id: str
    act: Act
    reason: str
    outcome: str
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.region:<14} {self.id:<22} {self.outcome}: {self.reason}"


@dataclass(frozen=True)
class Report:
    """What one pass saw and did. `leftovers` are told about only; `unseen` is what could not be looked at, or done."""

    lines: tuple[Line, ...] = ()
    leftovers: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        return not self.unseen and not any(line.failed for line in self.lines)

    @property
    def totals(self) -> dict[str, int]:
        """How many of each act; what failed counts as failed only."""
        acts = [line.act for line in self.lines if not line.failed]
        told = {_DONE[act]: acts.count(act) for act in Act}
        failed = sum(line.failed for line in self.lines)
        return {**told, "failed": failed, "leftovers": len(self.leftovers), "unseen": len(self.unseen)}

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "totals": self.totals, "complete": self.complete}

    def __str__(self) -> str:
        totals = ", ".join(f"{count} {name}" for name, count in self.totals.items() if count)
        verb = "dry run, nothing was changed; it would be" if self.dry_run else "reaper"
        return "\n".join(
            [
                *map(str, self.lines),
                *(f"leftover: {words}" for words in self.leftovers),
                *(f"NOT LOOKED AT: {words}" for words in self.unseen),
                f"{verb}: {totals or 'nothing of ours is there'}",
            ]
        )


class Reaper:
    """
    One pass over regions.

    :param client: makes boto3 clients, ``client("ec2", region_name=...)``.
    :param ask: what Airflow says of owners, asked after EC2 was listed; None where there is no Airflow to ask.
    :param deployment: whose launches are ours; None: nobody's, then only deadlines decide.
    """

    def __init__(
        self,
        client: ClientFactory,
        ask: Ask | None = None,
        deployment: str | None = None,
        dry_run: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._ask = ask
        self._deployment = deployment
        self._dry_run = dry_run
        self._sleep = sleep

    def reap(self, regions: Iterable[str | None], now: datetime) -> Report:
        """One pass; a region that fails is told and does not keep the others waiting. None: the client's own region."""
        reports = [self._one_region(region, now) for region in dict.fromkeys(regions)]
        return Report(
            tuple(line for r in reports for line in r.lines),
            tuple(words for r in reports for words in r.leftovers),
            tuple(words for r in reports for words in r.unseen),
            self._dry_run,
        )

    def _one_region(self, region: str | None, now: datetime) -> Report:
        try:
            with launcher.said_plainly(f"a client for EC2 in {region or 'the default region'}"):
                ec2 = self._client("ec2", region_name=region)
        except TransientError as error:
            return Report(unseen=(str(error),))
        pass_ = _Pass(ec2, now, self._dry_run, self._sleep)
        if pass_.machines(self._ask, self._deployment):
            pass_.templates()
            pass_.look_for_leftovers()
        return pass_.report()


class _Pass:
    """One region, once: what it did so far."""

    def __init__(self, ec2: Any, now: datetime, dry_run: bool, sleep: Callable[[float], None]) -> None:
        self._ec2 = ec2
        self._region: str = ec2.meta.region_name
        self._now = now
        self._dry_run = dry_run
        self._sleep = sleep
        self._lines: list[Line] = []
        self._leftovers: list[str] = []
        self._unseen: list[str] = []

    def report(self) -> Report:
        return Report(tuple(self._lines), tuple(self._leftovers), tuple(self._unseen), self._dry_run)

    # --- machines

    def machines(self, ask: Ask | None, deployment: str | None) -> bool:
        """Whether they could be listed: where EC2 does not answer, nothing else is asked of it."""
        states = {"Name": "instance-state-name", "Values": list(reaping.LISTED)}
        found = self._list("describe_instances", "Reservations", [*_OURS, states])
        if self._unseen:
            return False
        machines = [_machine(i) for reservation in found for i in reservation["Instances"]]
        answers = self._answers(machines, ask, deployment)
        self._act([self._decide(m, deployment, answers) for m in machines], {m.id: m for m in machines})
        return True

    def _decide(self, machine: Machine, deployment: str | None, answers: Mapping[Owner, Answer]) -> Decision:
        owner = machine.owner_in(deployment)
        answer = answers.get(owner, UNANSWERED) if owner else UNANSWERED
        return reaping.decide(Case(machine, self._now, deployment, answer))

    def _answers(self, machines: list[Machine], ask: Ask | None, deployment: str | None) -> Mapping[Owner, Answer]:
        """Asked for once an owner, and only where it would decide."""
        wanted = {o for m in machines if (o := reaping.owner_to_ask_for(m, self._now, deployment))}
        if ask is None or not wanted:
            return {}
        answers = ask(wanted)
        if missing := sorted(str(o) for o in wanted if answers.get(o, UNANSWERED).standing is Standing.UNKNOWN):
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            self._unseen.append(f"{self._region}: no answer from Airflow about {', '.join(missing[:3])}{more}")
        return answers

    def _act(self, decisions: list[Decision], machines: Mapping[str, Machine]) -> None:
        by_act = {act: [d for d in decisions if d.act is act] for act in Act}
        failed: dict[str, str] = {}
        if not self._dry_run:
            since = [{"Key": reaping.ORPHAN_SINCE, "Value": str(int(self._now.timestamp()))}]
            failed |= self._each(by_act[Act.MARK], lambda ids: self._ec2.create_tags(Resources=ids, Tags=since))
            mark = [{"Key": reaping.ORPHAN_SINCE}]
            failed |= self._each(by_act[Act.UNMARK], lambda ids: self._ec2.delete_tags(Resources=ids, Tags=mark))
            self._tell_why([d for d in by_act[Act.TERMINATE] if STOPPED_BY not in machines[d.id].tags])
            failed |= self._each(by_act[Act.TERMINATE], lambda ids: self._ec2.terminate_instances(InstanceIds=ids))
        self._lines += [self._line(decision, failed.get(decision.id)) for decision in decisions]

    def _tell_why(self, decisions: list[Decision]) -> None:
        """The mark that the launch's own task reads. Best effort: without it EC2's reason and the deadline must do."""
        for told in sorted({d.told for d in decisions if d.told}):
            tags = [{"Key": STOPPED_BY, "Value": told}]
            mine = [d for d in decisions if d.told == told]
            self._each(mine, lambda ids, tags=tags: self._ec2.create_tags(Resources=ids, Tags=tags))  # type: ignore[misc]

    def _each(self, decisions: list[Decision], call: Callable[[list[str]], Any]) -> dict[str, str]:
        """The call for all of them, in batches; what failed, in words.

        One unknown or protected id refuses the whole batch: then each is asked for alone. Unknown is gone, so done.
        """
        failed: dict[str, str] = {}
        for start in range(0, len(decisions), BATCH):
            ids = [d.id for d in decisions[start : start + BATCH]]
            if start:
                self._sleep(BREATH)
            failed |= self._alone_if_refused(ids, call)
        return failed

    def _alone_if_refused(self, ids: list[str], call: Callable[[list[str]], Any]) -> dict[str, str]:
        error = self._refusal(ids, call)
        if error is None:
            return {}
        if launcher.scope_of_error(error) is Scope.PACE:
            return dict.fromkeys(ids, words_of(error))
        alone = {one: self._refusal([one], call) for one in ids}
        return {one: words_of(e) for one, e in alone.items() if e and launcher.code_of(e) not in GONE_CODES}

    def _refusal(self, ids: list[str], call: Callable[[list[str]], Any]) -> Exception | None:
        try:
            self._politely(lambda: call(ids))
        except (ClientError, BotoCoreError) as error:
            refusal: Exception = error
            return refusal
        return None

    def _line(self, decision: Decision, failed: str | None) -> Line:
        done = _DONE[decision.act]
        outcome = f"would be {done}" if self._dry_run and decision.act is not Act.LEAVE else done
        outcome = f"COULD NOT BE {done.upper()} ({failed})" if failed else outcome
        return Line(self._region, decision.id, decision.act, decision.reason, outcome, failed is not None)

    # --- what else may be left

    def templates(self) -> None:
        """We make none today; one that carries our tags and outlived its deadline is deleted."""
        for found in self._list("describe_launch_templates", "LaunchTemplates", _OURS):
            decision = reaping.decide_template(found["LaunchTemplateId"], _tags(found.get("Tags")), self._now)
            if decision is None:
                continue
            error = None if self._dry_run else self._refusal([decision.id], self._delete_template)
            self._lines.append(self._line(decision, words_of(error) if error else None))

    def _delete_template(self, ids: list[str]) -> None:
        self._ec2.delete_launch_template(LaunchTemplateId=ids[0])

    def look_for_leftovers(self) -> None:
        """Volumes and network interfaces that nothing uses: told about, because only a person knows what is on them."""
        unused = [*_OURS, {"Name": "status", "Values": ["available"]}]
        for volume in self._list("describe_volumes", "Volumes", unused):
            self._leftover(volume["VolumeId"], f"volume, {volume.get('Size')} GiB", _tags(volume.get("Tags")))
        for card in self._list("describe_network_interfaces", "NetworkInterfaces", unused):
            self._leftover(card["NetworkInterfaceId"], "network interface", _tags(card.get("TagSet")))

    def _leftover(self, name: str, kind: str, tags: Mapping[str, str]) -> None:
        if words := reaping.leftover(tags, self._now):
            self._leftovers.append(f"{self._region} {name} ({kind}): unused, {words}")

    # --- asking EC2

    def _list(self, operation: str, key: str, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """All pages; what cannot be listed is told, and nothing is found."""
        pages = self._ec2.get_paginator(operation)
        try:
            with launcher.said_plainly(f"ec2:{operation.title().replace('_', '')}"):
                return self._politely(lambda: [one for page in pages.paginate(Filters=filters) for one in page[key]])
        except TransientError as error:
            self._unseen.append(f"{self._region}: {error}")
            return []

    def _politely(self, call: Callable[[], T]) -> T:
        """Once more after a throttled answer, a little later each time."""
        for pause in THROTTLED_AGAIN:
            try:
                return call()
            except ClientError as error:
                if launcher.scope_of_error(error) is not Scope.PACE:
                    raise
            self._sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
        return call()


def _machine(instance: dict[str, Any]) -> Machine:
    state = instance["State"]["Name"]
    return Machine(instance["InstanceId"], state, instance["LaunchTime"], _tags(instance.get("Tags")))


def _tags(tags: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags or ()}


# --- without Airflow


def main(argv: Sequence[str] | None = None) -> int:
    """For cron: boto3's own credentials, no Airflow, so that deadlines are enforced while Airflow is down."""
    import boto3

    parser = argparse.ArgumentParser(prog="python -m airflow_transient.aws.reaper", description=main.__doc__)
    parser.add_argument("--region", nargs="+", action="extend", help="default: boto3's own")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    said = parser.parse_args(argv)
    report = Reaper(boto3.client, dry_run=said.dry_run).reap(said.region or [None], datetime.now(timezone.utc))
    print(report)
    return 0 if report.complete else 1


if __name__ == "__main__":
    sys.exit(main())
