"""A group on loan: raised flag, processes suspended, capacity asked for, machines taken out, everything given back.

Law: every step may be done twice, and what comes after a step finds out from AWS how far an earlier process had come.
Before each step the group is looked at: nothing is done to one whose flag is gone, and until our tags are on it nothing
to one that its owner uses after all. The machines are detached as soon as they are in service, and the group given back
then: it is changed for the minutes of a launch and not for the hours of a job, nothing that a group does can reach the
job, and what crashes later leaves nothing to restore.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from airflow_transient.aws import asg_template
from airflow_transient.aws.asg_hands import Aboard, Hands
from airflow_transient.aws.asg_return import LOOK_EVERY, give_back
from airflow_transient.aws.launcher import Refused
from airflow_transient.core.asg import requests
from airflow_transient.core.asg.activities import failed_to_launch, scope_of_failure
from airflow_transient.core.asg.group import LAUNCH, Group, in_use, is_changed
from airflow_transient.core.asg.requests import Plan
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import Launch
from airflow_transient.errors import TransientError

#: Seconds between a flag and the look for others: Auto Scaling does not say how soon a tag is seen everywhere.
SETTLE = 1.0
#: So many looks until our own flag must be seen.
SEEN_WITHIN = 5
#: So often a group is claimed where another launch claims it at the same moment.
CLAIMS = 3
#: So many looks must find that the group could not launch: after a refusal in one zone it tries another.
FAILING = 5
#: So often it is looked whether a call of ours came after the group had been given back.
LATE = 5


class Loan:
    """One attempt to launch through one group."""

    def __init__(self, hands: Hands, plan: Plan, user_data: str, launch: Launch) -> None:
        self._hands, self._desk, self._user_data = hands, hands.desk, user_data
        self.plan, self.launch = plan, launch
        self.claimed = False
        self._asked: list[tuple[Mapping[str, Any], Group]] = []
        self._late: set[str] = set()

    def came(self) -> tuple[str, ...]:
        """What this attempt has started, ended or not, as long as EC2 shows it."""
        return tuple(id for id in self._hands.machines_of(self.plan.token) if id not in self._late)

    def is_on(self) -> bool:
        """Whether an earlier process has come to borrow the group for this attempt, and its flag is up."""
        group = self._desk.find(self.plan.group)
        self.claimed = group is not None and self._is_up(group)
        return self.claimed

    def _is_up(self, group: Group) -> bool:
        return self.plan.token in group.flags

    # --- take

    def claim(self) -> None:
        """Raise the flag, then look whether it is the only one. Raises Refused where the group is not free."""
        for again in range(CLAIMS):
            self._desk.do("create_or_update_tags", **requests.raise_flag(self.plan))
            self.claimed = True
            group = self._seen()
            refusal = self._refusal(group)
            if refusal is None:
                self._preflight()
                return
            self._desk.do("delete_tags", **requests.lower_flag(self.plan.group, self.plan.flag))
            self.claimed = False
            if refusal.scope is not Scope.AGAIN or len(group.flags) < 2 or again == CLAIMS - 1:
                raise refusal
            # Both have seen the other and given way; chance decides who is first now.
            self._hands.sleep(1.0 + secrets.randbelow(3000) / 1000)

    def _seen(self) -> Group:
        """The group, with our flag on it."""
        for _ in range(SEEN_WITHIN):
            self._hands.sleep(SETTLE)
            group = self._desk.group(self.plan.group)
            if self._is_up(group):
                break
        return group

    def _refusal(self, group: Group) -> Refused | None:
        """Why it is not ours to change; None as soon as it is: what is there then, we have asked for."""
        if group.holder == self.plan.token:
            return None
        if why := in_use(group, self.plan.token):
            return Refused(Scope.AGAIN if len(group.flags) > 1 else Scope.POOL, why)
        if is_changed(group, self.plan.was):
            return Refused(Scope.AGAIN, f"Auto Scaling group {group.name!r} was changed at this moment")
        return None

    def _preflight(self) -> None:
        """To resume what is not suspended changes nothing, and tells whether we may: before it is suspended."""
        if processes := requests.suspended(self.plan.was):
            self._desk.do("resume_processes", AutoScalingGroupName=self.plan.group, ScalingProcesses=processes)

    def take(self) -> Refused | None:
        """Start the machines, take them out of the group, give it back. None, or why not all have come."""
        lack = self._started()
        for look in range(LATE):
            if not self._took_back_what_came_late(last=look == LATE - 1):
                break
        give_back(self._hands, self.plan.group, self.plan.flag)
        return lack

    def _started(self) -> Refused | None:
        try:
            return self._ask() or self._wait()
        except TransientError as error:
            if self.is_on():
                raise
            return Refused(Scope.POOL, f"another process has given the group back: {error}")

    def _took_back_what_came_late(self, last: bool) -> bool:
        """
        A call of ours was on its way when another process gave the group back: a flag again, to take that back.

        False: there is nothing of the kind.
        """
        group = self._desk.find(self.plan.group)
        if group is None or group.holder not in (None, self.plan.token):
            return False  # the next one's, who gives all of it back
        before = self._before_its_capacity(group)
        on_loan = self._is_up(group) and group.holder
        if group.flags and (on_loan or not (group.holder or before)):
            return False
        if group.flags and not (last and before and self._is_up(group)):
            # Whoever gives it back lowers the flag now; and another launch gives way to what is not as it was.
            self._hands.sleep(LOOK_EVERY)
        elif before:
            self._take_back_capacity(before)
        elif group.holder or {*group.was.suspended} & {*requests.suspended(self.plan.was)}:
            self._take_back()
        else:
            return False
        return True

    def _before_its_capacity(self, group: Group) -> Group | None:
        """What the group was before a call of ours gave it the capacity that it has. None: no call of ours did."""
        found = (was for asked, was in self._asked if requests.is_what_we_asked(self.plan, asked, was, group))
        return next(found, None)

    def _take_back_capacity(self, before: Group) -> None:
        """
        With tags at once, so that whoever finds the flag gives the sizes back, too.

        What has started is one too many, also what was too early for the tags: it ends with its capacity.
        """
        self._desk.do("create_or_update_tags", **requests.raise_flag_and_tag(self.plan))
        self._hands.start_no_more(self._desk.group(self.plan.group))
        owners = {member.id for member in before.staying}
        self._late |= {member.id for member in self._seen().staying} - owners
        give_back(self._hands, self.plan.group, self.plan.flag, keep=False, owners=owners)

    def _take_back(self) -> None:
        self._desk.do("create_or_update_tags", **requests.raise_flag(self.plan))
        if len(self._seen().flags) > 1:  # it is the next one's already, who gives all of it back
            self._desk.do("delete_tags", **requests.lower_flag(self.plan.group, self.plan.flag))
        else:
            give_back(self._hands, self.plan.group, self.plan.flag)

    def _ask(self) -> Refused | None:
        for step in (self._suspend, self._publish, self._tag, self._grow):
            group = self._desk.group(self.plan.group)
            if no := self._gone(group) or self._refusal(group):
                return no
            step(group)
        return None

    def _gone(self, group: Group) -> Refused | None:
        """Another process has done all of it, or has been told that it is not to be."""
        words = f"Auto Scaling group {group.name!r} was given back by another process"
        return None if self._is_up(group) else Refused(Scope.POOL, words)

    def _suspend(self, group: Group) -> None:
        if processes := requests.to_suspend(self.plan.was):  # none named would be all of them
            self._desk.do("suspend_processes", AutoScalingGroupName=group.name, ScalingProcesses=processes)

    def _publish(self, group: Group) -> None:
        if self.plan.template:
            asg_template.publish(self._hands.client, self.plan, self._user_data)

    def _tag(self, group: Group) -> None:
        self._desk.do("create_or_update_tags", **requests.tag_machines(self.plan))

    def _grow(self, group: Group) -> None:
        self._desk.do_looking("update_auto_scaling_group", self._more_capacity)

    def _more_capacity(self) -> Mapping[str, Any] | None:
        """None: all have come, or another process has given the group back."""
        group = self._desk.group(self.plan.group)
        missing = self._lack(self._hands.aboard(group, self.plan.token))
        group = self._desk.group(group.name)
        if missing <= 0 or not self._is_up(group) or LAUNCH in group.was.suspended:
            return None
        self._asked.append((requests.more_capacity(self.plan, group, missing), group))
        return self._asked[-1][0]

    def _lack(self, aboard: Aboard) -> int:
        known = {*self.came(), *(member.id for member in (*aboard.ours, *aboard.unseen))}
        return self.plan.wanted - len(known)

    def _wait(self) -> Refused | None:
        """Until all are in service, or it is clear that they will not be."""
        plan, failing, waited = self.plan, 0, False
        while True:
            group = self._desk.group(plan.group)
            if no := self._gone(group):
                return no
            if waited and group.holder == plan.token:
                self._asked.clear()  # in time, then: who gives the group back from now on sees what we asked for
            aboard = self._hands.aboard(group, plan.token)
            lack = self._lack(aboard)
            if lack <= 0:
                self._no_more()
                if all(member.in_service for member in aboard.alive):
                    return None
            elif LAUNCH in group.was.suspended:
                return Refused(Scope.POOL, f"an earlier try has given up {lack} of {plan.wanted}")
            elif said := failed_to_launch(self._desk.activities(plan.group), plan.since):
                failing += 1
                if failing == FAILING:
                    return Refused(scope_of_failure(said), said)
            if self._hands.clock() >= plan.until:
                return Refused(Scope.POOL, f"{max(lack, 0)} of {plan.wanted} did not come within boot_timeout")
            self._hands.sleep(LOOK_EVERY)
            waited = True

    def _no_more(self) -> None:
        group = self._desk.group(self.plan.group)
        if self._is_up(group):
            self._hands.start_no_more(group)

    # --- and back

    def undo(self) -> None:
        """Nothing of it is to be: what is still in the group ends with its capacity."""
        give_back(self._hands, self.plan.group, self.plan.flag, keep=False)

    def left_behind(self) -> str:
        """In words, what is not as it was: for whoever has to do by hand what we may not."""
        plan = self.plan
        return (
            f"Auto Scaling group {plan.group!r} may still have {', '.join(requests.suspended(plan.was))} suspended and "
            f"other sizes than min={plan.was.min} max={plan.was.max} desired={plan.was.desired}; its tag "
            f"{plan.flag.name!r} says what it was, and the next launch or `airflow transient reap` gives it back"
        )
