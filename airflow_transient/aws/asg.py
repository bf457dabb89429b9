"""Machines that an existing Auto Scaling group starts and then lets go: from there on, instances like any other."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from airflow_transient.aws import asg_template
from airflow_transient.aws.asg_desk import Desk
from airflow_transient.aws.asg_hands import Hands
from airflow_transient.aws.asg_loan import Loan
from airflow_transient.aws.asg_return import LOOK_EVERY, give_back
from airflow_transient.aws.ec2 import ASK_AGAIN, Ec2Launcher, SigningLife
from airflow_transient.aws.launcher import ClientFactory, Refused, Stop
from airflow_transient.core.asg import activities, requests
from airflow_transient.core.asg import group as groups
from airflow_transient.core.asg.group import Group
from airflow_transient.core.asg.requests import Plan
from airflow_transient.core.asg.spec import GroupSpec
from airflow_transient.core.cadence import Looked
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import BY_REQUEST, Launch, LaunchKey
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.errors import AccessError, LaunchError, SpecError, TransientError

#: So many looks at a group that is clearing away what has ended, two seconds apart.
CLEARED_WITHIN = 30


def _utcnow() -> datetime:
    return datetime.now(timezone.utc)


class AsgLauncher:
    """
    The Launcher of Auto Scaling groups.

    A group takes no token. What a launch has started is found by a tag that the group gives to its machines, and how
    far an earlier process came by the flag on the group: docs/groups.md tells the steps.
    """

    kind = "asg"
    #: EC2 shows what has ended for about an hour, and its tag with it.
    memory: timedelta | None = timedelta(minutes=50)

    def __init__(
        self,
        client: ClientFactory,
        signing_life: SigningLife = lambda seconds: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = _utcnow,
    ) -> None:
        self._client = client
        self._sleep = sleep
        self._ec2 = Ec2Launcher(client, signing_life, sleep)
        self._hands = Hands(client, Desk(client, sleep), sleep, clock)

    # --- ask

    def prepare(
        self, spec: GroupSpec, key: LaunchKey, pool: Pool, now: datetime, so_far: Launch | None = None
    ) -> Request:
        desk = self._hands.desk
        region = desk.region
        if spec.region not in (None, region):
            raise SpecError(f"Auto Scaling group {spec.group!r} is in {spec.region}, and this launch is in {region}")
        group = self._free(spec, key, now)
        draft = requests.draft(spec, key, region, now, so_far or secrets.token_hex(8))
        plan = requests.plan(spec, key, group, draft, self._idle_since(group.name))
        warnings = _warnings(spec, group, plan)
        if not spec.reports:
            return Request(draft, pool, key.token, plan.wanted, plan.to_dict(), warnings=warnings)
        template = asg_template.drawn_up(self._client, desk, spec, group.was.source, plan.tags)
        plan = replace(plan, template=template)
        user_data, reporting = self._ec2.boot_data(spec.machine(), key, draft)
        return Request(draft, pool, key.token, plan.wanted, plan.to_dict(), user_data, (*warnings, *reporting))

    def _free(self, spec: GroupSpec, key: LaunchKey, now: datetime) -> Group:
        """The group, as its owner has left it. Raises SpecError where it cannot be used, LaunchError where not now."""
        desk = self._hands.desk
        group = desk.group(spec.group)
        for flag in group.flags.values():
            if flag.is_left_behind(key.launch_id, now):
                give_back(self._hands, group.name, flag)
        group = self._cleared(spec.group)
        if no := groups.unusable(group, spec.reports):
            raise SpecError(no)
        if no := groups.in_use(group, None):
            raise LaunchError(no)
        return group

    def _idle_since(self, name: str) -> datetime:
        """When it last did something. Raises LaunchError while it does."""
        told = self._hands.desk.activities(name)
        if under_way := activities.launching(told):
            raise LaunchError(f"Auto Scaling group {name!r} is in use: {under_way}. Try again later")
        if self._hands.desk.is_refreshing(name):
            raise LaunchError(f"Auto Scaling group {name!r} is in use: an instance refresh is in progress")
        return activities.newest(told)

    def _cleared(self, name: str) -> Group:
        """Where all that a group holds has ended, it is about to let go of it: a job of seconds, or one left behind."""
        group = self._hands.desk.group(name)
        for _ in range(CLEARED_WITHIN):
            known = self._hands.machines_in(group)
            if not known or group.was.desired or any(machine.alive for machine in known.values()):
                break
            self._sleep(LOOK_EVERY)
            group = self._hands.desk.group(name)
        return group

    def launch(self, request: Request, again: bool = False) -> Launch:
        """
        Every step finds out how far an earlier process came, so asking twice starts once.

        It holds its process until the machines are in service: half a minute, and boot_timeout at most.
        """
        loan = self._loan(request)
        try:
            borrowed = loan.is_on()
            if not borrowed and (ids := self._came(loan, patiently=again)):
                return _answer(request, ids, None)
            if not borrowed:
                loan.claim()
            lack = loan.take()
        except (SpecError, AccessError) as error:
            raise self._refused(loan, error, again) from error
        return _answer(request, loan.came(), lack)

    def _refused(self, loan: Loan, error: TransientError, again: bool) -> TransientError:
        """A definite no, if all of it could be undone; else whoever asks again undoes the rest."""
        if not loan.claimed:
            # Of a call that was refused before anything was looked at, nothing is known of an earlier process's.
            return error if again else _no(error)
        try:
            self._undo(loan)
        except TransientError as left:
            return type(error)(f"{error}. And it could not be undone ({left}): {loan.left_behind()}")
        return _no(error)

    def _undo(self, loan: Loan) -> None:
        """No machine runs on, in the group or out of it, though the group itself may not let us give it back."""
        try:
            loan.undo()
        finally:
            self._ec2.stop(loan.launch.with_ids(loan.came()))

    def adopt(self, request: Request) -> Launch | None:
        """By their tag, in every state EC2 still shows; a group that is still on loan for them is given back."""
        loan = self._loan(request)
        if loan.is_on():
            give_back(self._hands, loan.plan.group, loan.plan.flag)
        ids = self._came(loan, patiently=True)
        return request.launch.with_ids(request.launch.ids + ids) if ids else None

    def _came(self, loan: Loan, patiently: bool) -> tuple[str, ...]:
        """EC2 may not tell at once of what it has just started."""
        for pause in (*ASK_AGAIN, None) if patiently else (None,):
            if ids := loan.came():
                return ids
            if pause is not None:
                self._sleep(pause)
        return ()

    def _loan(self, request: Request) -> Loan:
        return Loan(self._hands, Plan.from_dict(request.arguments), request.user_data, request.launch)

    # --- what has left its group is an instance like any other

    def observe(self, launch: Launch, now: datetime) -> tuple[Ec2Sighting, ...]:
        return self._ec2.observe(launch, now)

    def observe_all(self, launches: Sequence[Launch], now: datetime) -> Looked[tuple[Ec2Sighting, ...]]:
        return self._ec2.observe_all(launches, now)

    def stop(self, launch: Launch, why: str = BY_REQUEST) -> None:
        """Its group has let it go and does not start another one in its place."""
        self._ec2.stop(launch, why)

    def stop_all(self, stops: Sequence[Stop]) -> list[Exception | None]:
        return self._ec2.stop_all(stops)

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        return self._ec2.explain(launch, member)

    def follow(self, launch: Launch) -> Callable[[], list[str]]:
        return self._ec2.follow(launch)


def _answer(request: Request, ids: tuple[str, ...], lack: Refused | None) -> Launch:
    """All of it; Raises Refused with what came, where that is not enough."""
    launch = request.launch.with_ids(request.launch.ids + ids)
    if len(ids) >= request.wanted:
        return launch
    words = f"{len(ids)} of {request.wanted}: {lack or 'an earlier try has given up the others'}"
    raise Refused(lack.scope if lack else Scope.POOL, words, launch if ids else None)


def _no(error: TransientError) -> Refused:
    return Refused(Scope.ACCESS if isinstance(error, AccessError) else Scope.SPEC, str(error))


def _warnings(spec: GroupSpec, group: Group, plan: Plan) -> tuple[str, ...]:
    told = []
    if plan.wanted > group.was.max:
        told.append(f"the group's maximum is raised from {group.was.max} to {plan.wanted} while it starts machines")
    if not spec.reports:
        told.append("the user data of the group's own template runs: nobody will hear how its job ends")
    return tuple(told)
