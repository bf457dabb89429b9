"""One region's instances of ours, and what else EC2 may have kept of a launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_transient.aws import launcher
from airflow_transient.aws.found import instance_found, tags_of
from airflow_transient.aws.launcher import FAILURES, words_of
from airflow_transient.aws.reaper.one_pass import Pass
from airflow_transient.aws.reaper.report import Line, Report
from airflow_transient.core import reaping
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import MANAGED_BY, TAG_PREFIX
from airflow_transient.core.reaping import Act, Decision, Found
from airflow_transient.errors import TransientError

#: TerminateInstances refills 20 instances a second (facts of EC2's API throttling): a batch, then a breath.
BATCH, BREATH = 50, 2.5
STOPPED_BY = TAG_PREFIX + "stopped-by"
GONE_CODES = ("InvalidInstanceID.NotFound", "InvalidInstanceId.NotFound")

_OURS = [{"Name": f"tag:{reaping.MANAGED}", "Values": [MANAGED_BY]}]


def sweep(ec2: Any, one_pass: Pass) -> Report:
    """List, decide, end; where EC2 does not answer, nothing else is asked of it."""
    region = _Region(ec2, one_pass)
    if region.machines():
        region.templates()
        region.look_for_leftovers()
    return region.report()


class _Region:
    """One region, once: what it did so far."""

    def __init__(self, ec2: Any, one_pass: Pass) -> None:
        self._ec2 = ec2
        self._name: str = ec2.meta.region_name
        self._pass = one_pass
        self._lines: list[Line] = []
        self._leftovers: list[str] = []
        self._unseen: list[str] = []

    def report(self) -> Report:
        return Report(tuple(self._lines), tuple(self._leftovers), tuple(self._unseen))

    # --- machines

    def machines(self) -> bool:
        """Whether they could be listed."""
        states = {"Name": "instance-state-name", "Values": list(reaping.LISTED)}
        reservations = self._list("describe_instances", "Reservations", [*_OURS, states])
        if self._unseen:
            return False
        machines = [instance_found(i) for reservation in reservations for i in reservation["Instances"]]
        decisions, unanswered = self._pass.decide(self._name, machines)
        self._unseen += unanswered
        self._act(decisions, {m.id: m for m in machines})
        return True

    def _act(self, decisions: list[Decision], machines: Mapping[str, Found]) -> None:
        by_act = {act: [d for d in decisions if d.act is act] for act in Act}
        failed: dict[str, str] = {}
        if not self._pass.dry_run:
            since = [{"Key": reaping.ORPHAN_SINCE, "Value": self._pass.mark}]
            failed |= self._each(by_act[Act.MARK], lambda ids: self._ec2.create_tags(Resources=ids, Tags=since))
            mark = [{"Key": reaping.ORPHAN_SINCE}]
            failed |= self._each(by_act[Act.UNMARK], lambda ids: self._ec2.delete_tags(Resources=ids, Tags=mark))
            self._tell_why([d for d in by_act[Act.TERMINATE] if STOPPED_BY not in machines[d.id].tags])
            failed |= self._each(by_act[Act.TERMINATE], lambda ids: self._ec2.terminate_instances(InstanceIds=ids))
        self._lines += [self._pass.line(self._name, decision, failed.get(decision.id)) for decision in decisions]

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
                self._pass.sleep(BREATH)
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
            self._pass.politely(lambda: call(ids))
        except FAILURES as error:
            refusal: Exception = error
            return refusal
        return None

    # --- what else may be left

    def templates(self) -> None:
        """A launch through a group deletes its own; one of ours that outlived its deadline is deleted."""
        for found in self._list("describe_launch_templates", "LaunchTemplates", _OURS):
            decision = reaping.decide_template(found["LaunchTemplateId"], tags_of(found.get("Tags")), self._pass.now)
            if decision is None:
                continue
            error = None if self._pass.dry_run else self._refusal([decision.id], self._delete_template)
            self._lines.append(self._pass.line(self._name, decision, words_of(error) if error else None))

    def _delete_template(self, ids: list[str]) -> None:
        self._ec2.delete_launch_template(LaunchTemplateId=ids[0])

    def look_for_leftovers(self) -> None:
        """Volumes and network interfaces that nothing uses: told about, because only a person knows what is on them."""
        unused = [*_OURS, {"Name": "status", "Values": ["available"]}]
        for volume in self._list("describe_volumes", "Volumes", unused):
            self._leftover(volume["VolumeId"], f"volume, {volume.get('Size')} GiB", tags_of(volume.get("Tags")))
        for card in self._list("describe_network_interfaces", "NetworkInterfaces", unused):
            self._leftover(card["NetworkInterfaceId"], "network interface", tags_of(card.get("TagSet")))

    def _leftover(self, name: str, kind: str, tags: Mapping[str, str]) -> None:
        if words := reaping.leftover(tags, self._pass.now):
            self._leftovers.append(f"{self._name} {name} ({kind}): unused, {words}")

    def _list(self, operation: str, key: str, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """All pages; what cannot be listed is told, and nothing is found."""
        pages = self._ec2.get_paginator(operation)
        try:
            with launcher.said_plainly(f"ec2:{operation.title().replace('_', '')}"):
                return self._pass.politely(
                    lambda: [one for page in pages.paginate(Filters=filters) for one in page[key]]
                )
        except TransientError as error:
            self._unseen.append(f"{self._name}: {error}")
            return []
