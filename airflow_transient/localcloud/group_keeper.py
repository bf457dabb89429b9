"""Keeps the groups of the local cloud: looks at each again and again, and does what AWS would.

A group is a client of EC2 like any other: what RunInstances refuses is a failed activity.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_transient.localcloud import groups
from airflow_transient.localcloud.groups import Member, Standing
from airflow_transient.localcloud.moto_reads import ACCOUNT

log = logging.getLogger(__name__)
#: Seconds between two looks at every group.
TICK = 0.1
#: Seconds after which a group tries again that could not launch; AWS waits longer each time.
AGAIN_AFTER = 2.0
GROUP_TAG = "aws:autoscaling:groupName"


@dataclass
class Activity:
    group: str
    description: str
    status: str = "InProgress"
    message: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    start: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    end: datetime | None = None

    def over(self, status: str, message: str = "") -> None:
        self.status, self.message, self.end = status, message, datetime.now(timezone.utc)

    def told(self) -> dict[str, Any]:
        return {
            "ActivityId": self.id,
            "AutoScalingGroupName": self.group,
            "Description": self.description,
            "Cause": "a difference between desired and actual capacity",
            "StartTime": self.start,
            "EndTime": self.end,
            "StatusCode": self.status,
            "StatusMessage": self.message or None,
            "Progress": 100 if self.end else 50,
        }


class Keeper:
    """
    :param lock: EC2's own: under it nothing else changes machines.
    :param client: makes clients of this cloud, by service and region.
    """

    def __init__(self, lock: threading.RLock, client: Callable[[str, str], Any]) -> None:
        self._lock, self._client = lock, client
        self._activities: dict[tuple[str, str], list[Activity]] = {}
        self._starting: dict[str, Activity] = {}
        self._not_before: dict[tuple[str, str], float] = {}
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    # --- life

    def wake(self) -> None:
        """With the first group; a cloud without any has no such thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="groups", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread:
            self._thread.join(10)

    def _keep(self) -> None:
        while not self._closed.wait(TICK):
            with self._lock:
                found = list(_all_groups())
            for group in found:
                try:
                    self._look_after(group)
                except Exception:  # one group that cannot be kept keeps no other
                    log.exception("group %s", group.name)

    def activities(self, region: str, name: str) -> list[dict[str, Any]]:
        """The newest first, those under way before them."""
        told = [a.told() for a in reversed(self._activities.get((region, name), []))]
        return sorted(told, key=lambda a: a["EndTime"] is not None)

    # --- one group

    def _look_after(self, group: Any) -> None:
        with self._lock:
            _apply_schedule(group)
            todo = groups.moves(standing(group))
            self._settle(group, todo)
        if todo.launch and time.monotonic() >= self._not_before.get((group.region, group.name), 0.0):
            self._launch(group, todo.launch)

    def _settle(self, group: Any, todo: groups.Moves) -> None:
        states = {one.instance.id: one for one in group.instance_states}
        for id in todo.up:
            states[id].lifecycle_state = "InService"
            self._starting.pop(id).over("Successful")
        for id in todo.lost:
            self._starting.pop(id).over("Failed", f"Instance {id} ended before it came into service")
        for id in todo.sick:
            states[id].health_status = "Unhealthy"
        gone = {*todo.lost, *todo.end}
        if gone:
            group.instance_states = [one for one in group.instance_states if one.instance.id not in gone]
        for id in todo.end:
            self._note(group, f"Terminating EC2 instance: {id}").over("Successful")
            group.ec2_backend.terminate_instances([id])

    def _launch(self, group: Any, count: int) -> None:
        """As a client of EC2: outside of its lock, through its door."""
        asked = run_instances(group, count)
        started = self._note(group, "Launching a new EC2 instance")
        try:
            answer = self._client("ec2", group.region).run_instances(**asked)
        except (ClientError, BotoCoreError) as error:
            words = error.response["Error"]["Message"] if isinstance(error, ClientError) else str(error)
            started.over("Failed", f"{words} Launching EC2 instance failed.")
            self._not_before[group.region, group.name] = time.monotonic() + AGAIN_AFTER
            return
        ids = [each["InstanceId"] for each in answer["Instances"]]
        with self._lock:
            for id, activity in zip(ids, [started, *(self._note(group, "") for _ in ids[1:])], strict=True):
                activity.description = f"Launching a new EC2 instance: {id}"
                self._starting[id] = activity
                _join(group, id)

    def _note(self, group: Any, description: str) -> Activity:
        made = Activity(group.name, description)
        self._activities.setdefault((group.region, group.name), []).append(made)
        return made


# --- how a group stands


def _all_groups() -> Iterator[Any]:
    from moto.autoscaling.models import autoscaling_backends

    for region in list(dict.keys(autoscaling_backends[ACCOUNT])):
        yield from list(dict.__getitem__(autoscaling_backends[ACCOUNT], region).autoscaling_groups.values())


def standing(group: Any) -> Standing:
    suspended = frozenset(one["ProcessName"] for one in group.suspended_processes)
    return Standing(group.desired_capacity or 0, suspended, members(group))


def members(group: Any) -> tuple[Member, ...]:
    return tuple(
        Member(
            one.instance.id,
            one.instance.state,
            one.lifecycle_state == "InService",
            one.health_status == "Healthy",
            bool(one.protected_from_scale_in),
        )
        for one in group.instance_states
    )


def _join(group: Any, id: str) -> None:
    from moto.autoscaling.models import InstanceState

    instance = group.ec2_backend.get_instance(id)
    instance.autoscaling_group = group
    group.ec2_backend.create_tags([id], {GROUP_TAG: group.name})
    protected = group.new_instances_protected_from_scale_in
    group.instance_states.append(InstanceState(instance, "Pending", protected_from_scale_in=protected))


def _apply_schedule(group: Any) -> None:
    """Actions with one moment; a recurrence is not kept here."""
    if any(one["ProcessName"] == "ScheduledActions" for one in group.suspended_processes):
        return
    kept, now = group.autoscaling_backend.scheduled_actions, datetime.now(timezone.utc)
    for name, action in list(kept.items()):
        if action.auto_scaling_group_name != group.name or action.recurrence or not action.start_time:
            continue
        # moto has them as it parsed them, or as they came; without a zone they are UTC.
        start = datetime.fromisoformat(str(action.start_time).replace("Z", "+00:00"))
        if (start if start.tzinfo else start.replace(tzinfo=timezone.utc)) <= now:
            del kept[name]
            group.min_size = group.min_size if action.min_size is None else action.min_size
            group.max_size = group.max_size if action.max_size is None else action.max_size
            group.set_desired_capacity(
                group.desired_capacity if action.desired_capacity is None else action.desired_capacity
            )


# --- how it launches


def run_instances(group: Any, count: int) -> dict[str, Any]:
    """What the group asks EC2 for, as boto3 takes it."""
    tags = [{"Key": name, "Value": value} for name, value in group.get_propagated_tags().items()]
    asked: dict[str, Any] = {"MinCount": 1, "MaxCount": count}
    if tags:
        asked["TagSpecifications"] = [{"ResourceType": "instance", "Tags": tags}]
    if group.ec2_launch_template is None:
        return {**asked, **_of_config(group.launch_config), **_place(group, brings_cards=False)}
    version = group.launch_template_version
    template = {"LaunchTemplateId": group.ec2_launch_template.id, "Version": version}
    data = group.ec2_launch_template.get_version(version).data
    overrides = ((group.mixed_instances_policy or {}).get("LaunchTemplate") or {}).get("Overrides") or []
    if kind := next((one["InstanceType"] for one in overrides if one.get("InstanceType")), None):
        asked["InstanceType"] = kind
    return {**asked, "LaunchTemplate": template, **_place(group, bool(data.get("NetworkInterfaces")))}


def _place(group: Any, brings_cards: bool) -> dict[str, Any]:
    if brings_cards:
        return {}
    if group.vpc_zone_identifier:
        return {"SubnetId": group.vpc_zone_identifier.split(",")[0]}
    return {"Placement": {"AvailabilityZone": group.availability_zones[0]}}


def _of_config(config: Any) -> dict[str, Any]:
    words = {
        "ImageId": config.image_id,
        "InstanceType": config.instance_type,
        "KeyName": config.key_name,
        "SecurityGroupIds": list(config.security_groups or ()),
        "UserData": base64.b64decode(str(config.user_data)) if config.user_data else None,
        "IamInstanceProfile": {"Name": config.iam_instance_profile} if config.iam_instance_profile else None,
        "InstanceMarketOptions": {"MarketType": "spot"} if config.spot_price else None,
    }
    return {name: value for name, value in words.items() if value}
