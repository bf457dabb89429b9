"""The calls on Auto Scaling groups, each in our own errors, and again where AWS is busy with the group."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from airflow_transient.aws import launcher
from airflow_transient.aws.launcher import FAILURES, UNREACHABLE, ClientFactory
from airflow_transient.core.asg.group import REFRESH_OVER, Group
from airflow_transient.core.fallback import Scope
from airflow_transient.errors import SpecError

#: The pauses before a call is made again, in seconds. All of them may be made twice.
ASK_AGAIN = (1.0, 3.0, 8.0)
#: Not of the request, but of the moment (botocore's model of Auto Scaling).
BUSY = frozenset({"ResourceContention", "ScalingActivityInProgress", "ResourceInUse"})
#: A page of DescribeAutoScalingGroups.
GROUPS_AT_ONCE = 100
#: What a group has done of late; the newest come first.
ACTIVITIES = 20


class Desk:
    """
    Where groups are asked for.

    :param insist: whether to ask again where nobody is there.
    """

    def __init__(self, client: ClientFactory, sleep: Callable[[float], None], insist: bool = True) -> None:
        self._client = client
        self._sleep = sleep
        self._insist = insist

    @property
    def region(self) -> str:
        with launcher.said_plainly("a client for Auto Scaling"):
            return str(self._client("autoscaling").meta.region_name)

    def find(self, name: str) -> Group | None:
        found = self.do("describe_auto_scaling_groups", AutoScalingGroupNames=[name])["AutoScalingGroups"]
        return Group.of(found[0]) if found else None

    def all(self) -> list[Group]:
        """Every group of the region."""
        found: list[Group] = []
        page: dict[str, str] = {}
        while True:
            said = self.do("describe_auto_scaling_groups", MaxRecords=GROUPS_AT_ONCE, **page)
            found += map(Group.of, said["AutoScalingGroups"])
            if not said.get("NextToken"):
                return found
            page = {"NextToken": said["NextToken"]}

    def group(self, name: str) -> Group:
        """Raises SpecError where there is none."""
        if found := self.find(name):
            return found
        raise SpecError(f"there is no Auto Scaling group {name!r} in {self.region}")

    def activities(self, name: str) -> tuple[Mapping[str, Any], ...]:
        said = self.do("describe_scaling_activities", AutoScalingGroupName=name, MaxRecords=ACTIVITIES)
        return tuple(said["Activities"])

    def is_refreshing(self, name: str) -> bool:
        said = self.do("describe_instance_refreshes", AutoScalingGroupName=name, MaxRecords=1)
        return any(one["Status"] not in REFRESH_OVER for one in said["InstanceRefreshes"])

    def config(self, name: str) -> Mapping[str, Any]:
        said = self.do("describe_launch_configurations", LaunchConfigurationNames=[name])
        if not said["LaunchConfigurations"]:
            raise SpecError(f"there is no launch configuration {name!r} any more, of which the group is to launch")
        found: Mapping[str, Any] = said["LaunchConfigurations"][0]
        return found

    def do(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Raises AccessError naming the action, SpecError, or LaunchError where there is no clear answer."""
        return self.do_looking(operation, lambda: arguments)

    def do_looking(self, operation: str, words: Callable[[], Mapping[str, Any] | None]) -> dict[str, Any]:
        """
        The same for what may be wrong by the time it is asked again.

        :param words: looks, before each time, and tells the arguments; None: it is not to be asked any more.
        """
        action = "autoscaling:" + "".join(word.title() for word in operation.split("_"))
        with launcher.said_plainly(action):
            call = getattr(self._client("autoscaling"), operation)
            for pause in (*ASK_AGAIN, None):
                if (arguments := words()) is None:
                    break
                try:
                    return dict(call(**arguments))
                except FAILURES as error:
                    in_vain = isinstance(error, UNREACHABLE) and not self._insist
                    if pause is None or in_vain or not _passes(error):
                        raise
                self._sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
            return {}


def _passes(error: Exception) -> bool:
    scope = launcher.scope_of_error(error)
    return scope in (Scope.PACE, Scope.UNCLEAR) or launcher.code_of(error) in BUSY
