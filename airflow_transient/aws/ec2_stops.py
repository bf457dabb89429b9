"""End instances by the hundred, each marked with why. What one of them is refused for keeps no other from its end."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws import launcher, pacing
from airflow_transient.aws.ec2_looks import CALLS_AT_ONCE, FILTER_LIMIT, REMEMBERED, Looks
from airflow_transient.aws.found import tags_of
from airflow_transient.aws.launcher import FAILURES, ClientFactory, Stop, code_of, in_our_tree, scope_of_error
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import STOPPED_BY
from airflow_transient.errors import TransientError

#: Ids in one call: as many as one look takes. TerminateInstances and CreateTags take 1,000, and advise fewer.
AT_ONCE = FILTER_LIMIT
#: EC2 may not know yet what it has just started: NotFound is believed after a few seconds. on_kill has five (Airflow's
#: task runner).
STOP_AGAIN = (0.5, 1.0, 2.0)
#: So often a call is refused for want of a permission and sent again without those that it named: who may end nothing
#: learns it soon.
WITHOUT = 5
#: So often one is refused for some of its ids, such as those protected from termination, and sent again in halves: each
#: refusal names one of them, and a half without any is ended. Fewer than EC2 takes at once.
HALVED = 40
_NOT_FOUND = "InvalidInstanceID.NotFound"


class Stops:
    """Stops of launches on EC2: for each, what kept it from its end, or None."""

    def __init__(self, client: ClientFactory, looks: Looks, sleep: Callable[[float], None]) -> None:
        self._client, self._looks, self._sleep = client, looks, sleep
        #: Refused by name before: asked for apart, so that hundreds of them keep nothing healthy alive for long.
        self._refused: dict[str, None] = {}

    def __call__(self, stops: Sequence[Stop]) -> list[Exception | None]:
        why: dict[str, str] = {}
        for launch, reason in stops:
            for member in launch.ids:
                why.setdefault(member, reason)  # the first mark is the true one
        parts = [dict(tuple(why.items())[start : start + AT_ONCE]) for start in range(0, len(why), AT_ONCE)]
        failed: dict[str, Exception] = {}
        for each in launcher.side_by_side(self._stop, parts, CALLS_AT_ONCE):
            failed |= each
        plain = {member: in_our_tree("ec2:TerminateInstances", error) for member, error in failed.items()}
        return [launcher.first_of(plain.get(member) for member in launch.ids) for launch, _ in stops]

    def _stop(self, why: Mapping[str, str]) -> dict[str, Exception]:
        with launcher.said_plainly("ec2:TerminateInstances"):
            ec2 = self._client("ec2")
        self._mark(ec2, why)
        return self._end(ec2, tuple(why))

    def _end(self, ec2: Any, ids: Sequence[str]) -> dict[str, Exception]:
        """Those that could not be ended, and why. TerminateInstances is idempotent; what is gone is what was wanted."""
        failed: dict[str, Exception] = {}
        for pause in (*STOP_AGAIN, None):
            refused = _without_refused(partial(_terminate, ec2), *self._apart(ids))
            self._refused |= {member: None for member, error in refused.items() if _speaks_of(error, member)}
            failed |= {member: error for member, error in refused.items() if pause is None or not _may_pass(error)}
            ids = [member for member in refused if member not in failed]
            if pause is None or not ids:
                break
            self._sleep(pause)
        return {member: error for member, error in failed.items() if code_of(error) != _NOT_FOUND}

    def _apart(self, ids: Sequence[str]) -> tuple[list[str], list[str]]:
        if len(self._refused) > REMEMBERED:
            self._refused = {}
        return [m for m in ids if m not in self._refused], [m for m in ids if m in self._refused]

    def _mark(self, ec2: Any, why: Mapping[str, str]) -> None:
        """Best effort, and only on what is still up: the first mark is the true one."""
        try:
            up = [i["InstanceId"] for i in self._looks.instances(tuple(why)) if _markable(i)]
        except (*FAILURES, TransientError):
            return  # without a mark EC2's own reason and the deadline must do
        for reason in dict.fromkeys(why[member] for member in up):
            _without_refused(partial(_mark, ec2, reason), [member for member in up if why[member] == reason])


def _terminate(ec2: Any, ids: list[str]) -> None:
    taken = {"instances terminated": len(ids)}
    with pacing.paced(ec2, "terminations in EC2", scope_of_error, also=taken):
        ec2.terminate_instances(InstanceIds=ids)


def _mark(ec2: Any, why: str, ids: list[str]) -> None:
    with pacing.paced(ec2, "tags in EC2", scope_of_error):
        ec2.create_tags(Resources=ids, Tags=[{"Key": STOPPED_BY, "Value": why}])


def _without_refused(act: Callable[[list[str]], None], *groups: list[str]) -> dict[str, Exception]:
    """One call for each group, and again for those that it is not refused for. Who is left out, and why."""
    failed: dict[str, Exception] = {}
    calls, refusals = deque(group for group in groups if group), 0
    while calls:
        asked = calls.popleft()
        try:
            act(asked)
        except FAILURES as error:
            refusals += code_of(error) != _NOT_FOUND
            named = _named(error, asked)
            parts = _parts(error, [member for member in asked if member not in named], refusals, bool(named))
            calls.extend(part for part in parts if part)
            again = {member for part in parts for member in part}
            failed |= dict.fromkeys((member for member in asked if member not in again), error)
    return failed


def _parts(error: Exception, others: list[str], refusals: int, named: bool) -> tuple[list[str], ...]:
    """What to ask for next, those that a refusal has named left out; nothing where no other call would do better."""
    unknown, scope = code_of(error) == _NOT_FOUND, scope_of_error(error)
    if named and (unknown or (scope is Scope.ACCESS and refusals < WITHOUT)):
        return (others,)
    of_some = unknown or (scope is Scope.SPEC and refusals < HALVED)
    if not of_some or (len(others) < 2 and not named):
        return ()
    half = (len(others) + 1) // 2
    return others[:half], others[half:]


def _named(error: Exception, ids: Sequence[str]) -> list[str]:
    """ "The instance IDs 'i-0a, i-0b' do not exist"."""
    message = str(error.response.get("Error", {}).get("Message", "")) if isinstance(error, ClientError) else ""
    words = set(re.findall(r"[\w-]+", message))
    return [member for member in ids if member in words]


def _speaks_of(error: Exception, member: str) -> bool:
    return scope_of_error(error) is Scope.SPEC and code_of(error) != _NOT_FOUND and bool(_named(error, [member]))


def _may_pass(error: Exception) -> bool:
    return code_of(error) == _NOT_FOUND or scope_of_error(error) is Scope.PACE


def _markable(instance: dict[str, Any]) -> bool:
    up = instance["State"]["Name"] not in ("terminated", "shutting-down")
    return up and STOPPED_BY not in tags_of(instance.get("Tags"))
