"""A group given back by its flag alone, whoever has raised it: its machines leave it first, and then it is as it was.

Law: before each step the group is looked at, and nothing is done where the flag is gone. Then somebody else has given
it back, and the next one may have borrowed it. And a flag alone is no loan: where the launch's tags never got onto the
group, it has changed no sizes, and what runs there is its owner's.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from airflow_transient.aws import asg_template
from airflow_transient.aws.asg_desk import Desk
from airflow_transient.aws.asg_hands import Hands
from airflow_transient.core.asg import requests
from airflow_transient.core.asg.group import Flag, Group, Was
from airflow_transient.core.launch import NEVER_BOOTED, SWEPT
from airflow_transient.errors import SpecError

#: Seconds between two looks at a group that is starting machines; so long is a group watched that gives them away.
LOOK_EVERY = 2.0
#: So often a machine is detached before its refusal is believed.
DETACHED_AGAIN = 3


def give_back(hands: Hands, name: str, flag: Flag, keep: bool = True, owners: Container[str] | None = None) -> None:
    """
    Its machines live on, outside of it.

    :param keep: False: they end with their capacity, unless somebody else's would, too.
    :param owners: which of the machines without our tags are somebody else's, where that is known; else all.
    """
    if flag.was is None:
        return
    back = _Return(hands, flag, flag.was, keep, owners)
    for step in (back.start_no_more, back.take_out, back.restore, back.let_go, back.lower_flag):
        group = hands.desk.find(name)
        if group is None or flag.token not in group.flags:
            return
        step(group)


@dataclass(frozen=True)
class _Return:
    hands: Hands
    flag: Flag
    was: Was
    keep: bool
    owners: Container[str] | None

    def _has(self, group: Group) -> bool:
        return group.holder == self.flag.token

    def _holds_theirs(self, group: Group) -> bool:
        theirs = self.hands.aboard(group, self.flag.token).theirs
        return any(self.owners is None or member.id in self.owners for member in theirs)

    def start_no_more(self, group: Group) -> None:
        if self._has(group) and (group.staying or group.was.desired > self.was.desired):
            self.hands.start_no_more(group)

    def take_out(self, group: Group) -> None:
        if not self._has(group) or not group.staying:
            return
        if self.keep or self._holds_theirs(group):
            _take_out(self.hands, group.name, self.flag)

    def restore(self, group: Group) -> None:
        """Sizes and template; of two flags at most one has changed them."""
        theirs = self._holds_theirs(group)
        group = self.hands.desk.group(group.name) if group.staying else group  # another look took its time
        if not self._has(group):
            return
        if change := requests.as_it_was(group, self.flag, theirs):
            self.hands.desk.do("update_auto_scaling_group", AutoScalingGroupName=group.name, **change)

    def let_go(self, group: Group) -> None:
        """The tags before the processes: what the owner's schedule starts must not be taken for ours."""
        if group.holder not in (None, self.flag.token):
            return
        try:
            if self._has(group):
                self.hands.desk.do("delete_tags", **requests.without_our_tags(group))
        finally:
            if processes := [one for one in requests.suspended(self.was) if one in group.was.suspended]:
                self.hands.desk.do("resume_processes", AutoScalingGroupName=group.name, ScalingProcesses=processes)

    def lower_flag(self, group: Group) -> None:
        """Last: as long as anything is left to do, it says so."""
        if self.flag.own_template:
            asg_template.withdraw(self.hands.client, requests.template_name(self.flag.token))
        self.hands.desk.do("delete_tags", **requests.lower_flag(group.name, self.flag))


def _take_out(hands: Hands, name: str, flag: Flag) -> None:
    """Detach what runs. What has ended stays for the group to clear away, and what is still to come is waited for."""
    refused: dict[str, int] = {}
    while True:
        group = hands.desk.group(name)
        if flag.token not in group.flags:
            return
        aboard = hands.aboard(group, flag.token)
        hands.mark([member.id for member, machine in aboard.ours.items() if machine.only_stopped], SWEPT)
        alive = aboard.alive
        ready = [member.id for member in alive if member.in_service and member in aboard.ours]
        if not alive:
            return
        for error, id in _detached(hands.desk, name, ready):
            refused[id] = refused.get(id, 0) + 1
            if refused[id] >= DETACHED_AGAIN:
                raise error
        if len(ready) == len(alive) and not refused:
            return
        if not ready and flag.until and hands.clock() >= flag.until:
            hands.mark([member.id for member in alive if member in aboard.ours], NEVER_BOOTED)
            return  # it never came into service: it goes with its capacity
        hands.sleep(LOOK_EVERY)


def _detached(desk: Desk, name: str, ids: Sequence[str]) -> list[tuple[SpecError, str]]:
    """By twenty; a batch that is refused is asked for one by one. The refusals, and of whom."""
    refusals: list[tuple[SpecError, str]] = []
    for start in range(0, len(ids), requests.DETACHED_AT_ONCE):
        batch = list(ids[start : start + requests.DETACHED_AT_ONCE])
        refusal = _refusal_to_detach(desk, name, batch)
        if refusal and len(batch) == 1:
            refusals.append((refusal, batch[0]))
        elif refusal:
            refusals += [(no, one) for one in batch if (no := _refusal_to_detach(desk, name, [one]))]
    return refusals


def _refusal_to_detach(desk: Desk, name: str, ids: list[str]) -> SpecError | None:
    try:
        desk.do("detach_instances", AutoScalingGroupName=name, InstanceIds=ids, ShouldDecrementDesiredCapacity=True)
    except SpecError as error:
        return error
    return None
