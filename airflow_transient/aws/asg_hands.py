"""What acts on a group and its machines, and tells whose they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from airflow_transient.aws.asg_desk import Desk
from airflow_transient.aws.ec2_looks import FILTER_LIMIT, describe
from airflow_transient.aws.found import tags_of
from airflow_transient.aws.launcher import FAILURES, ClientFactory, said_plainly
from airflow_transient.core.asg.group import LAUNCH, LAUNCHED_BY, Group, GroupMember
from airflow_transient.core.asg.judging import ITSELF
from airflow_transient.core.launch import STOPPED_BY


@dataclass(frozen=True)
class Machine:
    """What EC2 says of one. `launch`: the token of the launch it is of, in its tag from birth."""

    state: str
    reason: str | None = None
    launch: str | None = None

    @property
    def alive(self) -> bool:
        return self.state in ("pending", "running")

    @property
    def only_stopped(self) -> bool:
        """It has shut itself down, and EC2 will say nothing of that any more once its group has ended it."""
        return self.state in ("stopping", "stopped") and self.reason == ITSELF


@dataclass(frozen=True)
class Aboard:
    """Who is in a group: a launch's own by their tag, somebody else's, and whom EC2 does not know yet."""

    ours: Mapping[GroupMember, Machine]
    theirs: tuple[GroupMember, ...] = ()
    unseen: tuple[GroupMember, ...] = ()

    @property
    def alive(self) -> list[GroupMember]:
        """What may be ours and has not ended."""
        return [member for member, machine in self.ours.items() if machine.alive] + list(self.unseen)


@dataclass(frozen=True)
class Hands:
    """What acts on AWS, and the time."""

    client: ClientFactory
    desk: Desk
    sleep: Callable[[float], None]
    clock: Callable[[], datetime]

    def _machines(self, name: str, values: Sequence[str]) -> dict[str, Machine]:
        """By id, in the order in which they were launched."""
        with said_plainly("ec2:DescribeInstances"):
            found = list(describe(self.client("ec2"), [{"Name": name, "Values": list(values)}]))
        found.sort(key=lambda i: (i["LaunchTime"], i.get("AmiLaunchIndex", 0), i["InstanceId"]))
        return {
            i["InstanceId"]: Machine(
                i["State"]["Name"], i.get("StateReason", {}).get("Code"), tags_of(i.get("Tags")).get(LAUNCHED_BY)
            )
            for i in found
        }

    def machines_of(self, token: str) -> dict[str, Machine]:
        """By the tag that the group has given them at their birth."""
        return self._machines(f"tag:{LAUNCHED_BY}", [token])

    def machines_in(self, group: Group) -> dict[str, Machine]:
        """By their ids, as far as EC2 knows them yet."""
        ids = [member.id for member in group.staying]
        batches = (ids[start : start + FILTER_LIMIT] for start in range(0, len(ids), FILTER_LIMIT))
        return {id: machine for batch in batches for id, machine in self._machines("instance-id", batch).items()}

    def aboard(self, group: Group, token: str) -> Aboard:
        known = self.machines_in(group)
        seen = [member for member in group.staying if member.id in known]
        ours = {member: known[member.id] for member in seen if known[member.id].launch == token}
        theirs = tuple(member for member in seen if member not in ours)
        return Aboard(ours, theirs, tuple(member for member in group.staying if member.id not in known))

    def mark(self, ids: Sequence[str], why: str) -> None:
        """Best effort: without it EC2's own reason must do."""
        with suppress(*FAILURES):
            if ids:
                self.client("ec2").create_tags(Resources=list(ids), Tags=[{"Key": STOPPED_BY, "Value": why}])

    def start_no_more(self, group: Group) -> None:
        """At once: one that has ended by itself is one too few, and the group would start it, and the job, again."""
        if LAUNCH not in group.was.suspended:
            self.desk.do("suspend_processes", AutoScalingGroupName=group.name, ScalingProcesses=[LAUNCH])
