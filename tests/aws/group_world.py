"""Auto Scaling and EC2 in memory: a group that acts while its launcher sleeps, strict where AWS is, and breakable."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cache
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError
from botocore.session import get_session

from airflow_transient.core.asg.spec import GroupSpec
from airflow_transient.localcloud.groups import Member, Standing, moves, refused_to_detach

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
ITSELF, USER = "Client.InstanceInitiatedShutdown", "Client.UserInitiatedShutdown"
THEIRS = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "t3.small", "UserData": "IyEvYmluL3NoCiMgdGhlaXJzCg=="}


class Died(BaseException):
    """The process is gone in the middle of it."""


def refusal(code: str, message: str = "…", status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Call")  # type: ignore[arg-type]


@cache
def model(service: str) -> Any:
    return get_session().get_service_model(service)


@dataclass
class World:
    """
    `calls`: what was asked, in order; `about_to`: what comes next. `break_at`: raises `broken` at that call, before
    or `after` it took effect. `denied`: actions that AWS refuses. `life`: seconds after which a machine shuts itself
    down; `stays_stopped`: and is not terminated. `told_after`: seconds until EC2 tells of a machine. `no_room`: how
    many machines there is no room for.
    """

    now: datetime = T0
    calls: list[str] = field(default_factory=list)
    break_at: int | None = None
    after: bool = False
    broken: Callable[[], BaseException] = Died
    denied: frozenset[str] = frozenset()
    life: float = 3600
    boots_in: float = 3
    told_after: float = 0
    stays_stopped: bool = False
    room: int = 1000
    no_room: str = "We currently do not have sufficient t3.small capacity in the Availability Zone you requested."
    between: Callable[[], None] | None = None
    about_to: str = ""
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    activities: list[dict[str, Any]] = field(default_factory=list)
    refreshes: list[dict[str, Any]] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.templates["lt-theirs"] = {"name": "theirs", "data": THEIRS}

    # --- what a test does

    def make_group(self, name: str = "batch", **words: Any) -> dict[str, Any]:
        launches_from = {"LaunchTemplate": {"LaunchTemplateId": "lt-theirs", "LaunchTemplateName": "theirs"}}
        self.groups[name] = {
            "AutoScalingGroupName": name,
            "MinSize": 0,
            "MaxSize": 4,
            "DesiredCapacity": 0,
            "Instances": [],
            "SuspendedProcesses": [{"ProcessName": "AZRebalance", "SuspensionReason": "theirs"}],
            "Tags": [{"Key": "team", "Value": "x", "PropagateAtLaunch": True}],
            **(launches_from if not {"LaunchConfigurationName", "MixedInstancesPolicy"} & set(words) else {}),
            **words,
        }
        return self.groups[name]

    def shape(self, name: str = "batch") -> dict[str, Any]:
        """All of a group that a launch may change, in a form that compares."""
        group = dict(self.groups[name])
        group["SuspendedProcesses"] = sorted(one["ProcessName"] for one in group["SuspendedProcesses"])
        group["Tags"] = sorted(tag["Key"] for tag in group["Tags"])
        return group

    def alive(self) -> list[str]:
        return [id for id, m in self.machines.items() if m["State"]["Name"] in ("pending", "running")]

    def client(self, service: str, **_: Any) -> Any:
        return Client(self, service)

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.tick()

    def clock(self) -> datetime:
        return self.now

    # --- what AWS does meanwhile

    def tick(self) -> None:
        for machine in self.machines.values():
            age, state = (self.now - machine["LaunchTime"]).total_seconds(), machine["State"]["Name"]
            if state == "pending" and age >= self.boots_in:
                machine["State"]["Name"] = "running"
            if state == "running" and age >= self.life:
                self.end(machine, ITSELF, "stopped" if self.stays_stopped else "terminated")
        for group in self.groups.values():
            self._keep(group)

    def end(self, machine: dict[str, Any], reason: str, state: str = "terminated") -> None:
        if machine["State"]["Name"] != "terminated":
            machine["State"]["Name"], machine["StateReason"] = state, {"Code": reason}

    def _keep(self, group: dict[str, Any]) -> None:
        suspended = frozenset(one["ProcessName"] for one in group["SuspendedProcesses"])
        todo = moves(Standing(group["DesiredCapacity"], suspended, self._members(group)))
        for one in group["Instances"]:
            one["LifecycleState"] = "InService" if one["InstanceId"] in todo.up else one["LifecycleState"]
            one["HealthStatus"] = "Unhealthy" if one["InstanceId"] in todo.sick else one["HealthStatus"]
        gone = {*todo.lost, *todo.end}
        for id in todo.end:
            self.end(self.machines[id], USER)
        group["Instances"] = [one for one in group["Instances"] if one["InstanceId"] not in gone]
        for _ in range(todo.launch):
            self._launch(group)

    def _members(self, group: dict[str, Any]) -> tuple[Member, ...]:
        return tuple(
            Member(
                one["InstanceId"],
                self.machines[one["InstanceId"]]["State"]["Name"],
                one["LifecycleState"] == "InService",
                one["HealthStatus"] == "Healthy",
            )
            for one in group["Instances"]
        )

    def _launch(self, group: dict[str, Any]) -> None:
        told = {"Description": "Launching a new EC2 instance", "StartTime": self.now, "StatusCode": "Successful"}
        self.activities.insert(0, told)
        if self.room <= 0:
            told |= {"StatusCode": "Failed", "StatusMessage": self.no_room}
            return
        self.room -= 1
        id = f"i-{next(self._ids):017x}"
        policy = group.get("MixedInstancesPolicy")
        source = policy["LaunchTemplate"]["LaunchTemplateSpecification"] if policy else group.get("LaunchTemplate", {})
        self.machines[id] = {
            "InstanceId": id,
            "State": {"Name": "pending"},
            "LaunchTime": self.now,
            "Tags": [{"Key": t["Key"], "Value": t["Value"]} for t in group["Tags"] if t.get("PropagateAtLaunch")],
            "from": source.get("LaunchTemplateName") or group.get("LaunchConfigurationName"),
        }
        group["Instances"].append({"InstanceId": id, "LifecycleState": "Pending", "HealthStatus": "Healthy"})


class Client:
    """The calls that a launcher makes; each is written down, and may break."""

    def __init__(self, world: World, service: str) -> None:
        self._world, self._service = world, service
        self.meta = SimpleNamespace(region_name="eu-west-1", service_model=model(service))

    def __getattr__(self, operation: str) -> Any:
        if operation.startswith("_"):
            raise AttributeError(operation)
        act = getattr(self, f"_{operation}")

        def call(**words: Any) -> Any:
            world = self._world
            world.about_to = operation
            if world.between:
                world.between()
            number = len(world.calls)
            world.calls.append(operation)
            if operation in world.denied:
                raise refusal("AccessDenied", f"not authorized to perform {operation}", 403)
            if number == world.break_at and not world.after:
                raise world.broken()
            answer = act(**words)
            if number == world.break_at:
                raise world.broken()
            return answer or {}

        return call

    def _group(self, name: str) -> dict[str, Any]:
        if name not in self._world.groups:
            raise refusal("ValidationError", "AutoScalingGroup name not found - null")
        return self._world.groups[name]

    # --- Auto Scaling

    def _describe_auto_scaling_groups(self, AutoScalingGroupNames: list[str] | None = None, **_: Any) -> Any:
        wanted = list(self._world.groups) if AutoScalingGroupNames is None else AutoScalingGroupNames
        found = [self._world.groups[name] for name in wanted if name in self._world.groups]
        return {"AutoScalingGroups": found}

    def _describe_scaling_activities(self, AutoScalingGroupName: str, MaxRecords: int) -> Any:
        return {"Activities": self._world.activities[:MaxRecords]}

    def _describe_instance_refreshes(self, **_: Any) -> Any:
        return {"InstanceRefreshes": self._world.refreshes}

    def _describe_launch_configurations(self, LaunchConfigurationNames: list[str]) -> Any:
        plain = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "t3.small", "SecurityGroups": ["sg-1"]}
        return {"LaunchConfigurations": [plain] if LaunchConfigurationNames == ["old"] else []}

    def _create_or_update_tags(self, Tags: list[dict[str, Any]]) -> Any:
        for tag in Tags:
            group = self._group(tag["ResourceId"])
            kept = [one for one in group["Tags"] if one["Key"] != tag["Key"]]
            assert len(tag["Value"]) <= 256
            group["Tags"] = [*kept, {k: tag[k] for k in ("Key", "Value", "PropagateAtLaunch")}]

    def _delete_tags(self, Tags: list[dict[str, Any]]) -> Any:
        for tag in Tags:
            group = self._group(tag["ResourceId"])
            group["Tags"] = [one for one in group["Tags"] if one["Key"] != tag["Key"]]

    def _suspend_processes(self, AutoScalingGroupName: str, ScalingProcesses: list[str]) -> Any:
        assert ScalingProcesses, "none named are all of them"
        group = self._group(AutoScalingGroupName)
        known = {one["ProcessName"] for one in group["SuspendedProcesses"]}
        group["SuspendedProcesses"] += [{"ProcessName": p} for p in ScalingProcesses if p not in known]

    def _resume_processes(self, AutoScalingGroupName: str, ScalingProcesses: list[str]) -> Any:
        assert ScalingProcesses, "none named are all of them"
        group = self._group(AutoScalingGroupName)
        kept = [one for one in group["SuspendedProcesses"] if one["ProcessName"] not in ScalingProcesses]
        group["SuspendedProcesses"] = kept

    def _update_auto_scaling_group(self, AutoScalingGroupName: str, **change: Any) -> Any:
        group = self._group(AutoScalingGroupName)
        sizes = {name: change.pop(name, group[name]) for name in ("MinSize", "MaxSize", "DesiredCapacity")}
        if not sizes["MinSize"] <= sizes["DesiredCapacity"] <= sizes["MaxSize"]:
            raise refusal("ValidationError", "Desired capacity must be between min and max")
        change = {name: self._resolved(value) for name, value in change.items()}
        if change:
            for name in ("LaunchTemplate", "LaunchConfigurationName", "MixedInstancesPolicy"):
                group.pop(name, None)
        group.update(**sizes, **change)

    def _resolved(self, source: Any) -> Any:
        """AWS tells id and name, whichever of them it was given."""
        if not isinstance(source, dict):
            return source
        if "LaunchTemplate" in source:
            template = source["LaunchTemplate"]
            told = self._resolved(template["LaunchTemplateSpecification"])
            return {**source, "LaunchTemplate": {**template, "LaunchTemplateSpecification": told}}
        for id, template in self._world.templates.items():
            if source.get("LaunchTemplateId") == id or source.get("LaunchTemplateName") == template["name"]:
                return {**source, "LaunchTemplateId": id, "LaunchTemplateName": template["name"]}
        raise refusal("ValidationError", "You must use a valid fully-formed launch template.")

    def _detach_instances(
        self, AutoScalingGroupName: str, InstanceIds: list[str], ShouldDecrementDesiredCapacity: bool
    ) -> Any:
        group = self._group(AutoScalingGroupName)
        assert len(InstanceIds) <= 20
        left = group["DesiredCapacity"] - len(InstanceIds) * ShouldDecrementDesiredCapacity
        members = self._world._members(group)
        if no := refused_to_detach(InstanceIds, members, AutoScalingGroupName, left, group["MinSize"]):
            raise refusal("ValidationError", no)
        group["Instances"] = [one for one in group["Instances"] if one["InstanceId"] not in InstanceIds]
        group["DesiredCapacity"] = left

    # --- EC2

    def _create_launch_template(self, LaunchTemplateName: str, LaunchTemplateData: Any, **_: Any) -> Any:
        if any(one["name"] == LaunchTemplateName for one in self._world.templates.values()):
            raise refusal("InvalidLaunchTemplateName.AlreadyExistsException")
        made = {"name": LaunchTemplateName, "data": LaunchTemplateData}
        self._world.templates[f"lt-{next(self._world._ids):x}"] = made

    def _delete_launch_template(self, LaunchTemplateName: str) -> Any:
        found = [id for id, one in self._world.templates.items() if one["name"] == LaunchTemplateName]
        if not found:
            raise refusal("InvalidLaunchTemplateName.NotFoundException")
        del self._world.templates[found[0]]

    def _describe_launch_template_versions(self, LaunchTemplateId: str, Versions: list[str]) -> Any:
        data = self._world.templates[LaunchTemplateId]["data"]
        return {"LaunchTemplateVersions": [{"VersionNumber": 1, "LaunchTemplateData": data}]}

    def _describe_images(self, ImageIds: list[str]) -> Any:
        return {"Images": [{"ImageId": ImageIds[0], "RootDeviceName": "/dev/xvda", "BlockDeviceMappings": []}]}

    def _get_paginator(self, operation: str) -> Any:
        return SimpleNamespace(paginate=lambda **words: [getattr(self, operation)(**words)])

    def get_paginator(self, operation: str) -> Any:
        return self._get_paginator(operation)

    def _describe_instances(self, Filters: list[dict[str, Any]]) -> Any:
        (wanted,) = Filters
        key = wanted["Name"].removeprefix("tag:")
        found = [
            machine
            for machine in self._world.machines.values()
            if (machine["InstanceId"] if key == "instance-id" else _tag(machine, key)) in wanted["Values"]
            and (self._world.now - machine["LaunchTime"]).total_seconds() >= self._world.told_after
        ]
        return {"Reservations": [{"Instances": found}]}

    def _create_tags(self, Resources: list[str], Tags: list[dict[str, str]]) -> Any:
        for id in Resources:
            self._world.machines[id]["Tags"] += Tags

    def _terminate_instances(self, InstanceIds: list[str]) -> Any:
        for id in InstanceIds:
            self._world.end(self._world.machines[id], USER)

    def _get_console_output(self, **_: Any) -> Any:
        return {"Output": ""}


def _tag(machine: dict[str, Any], key: str) -> str | None:
    return next((tag["Value"] for tag in machine["Tags"] if tag["Key"] == key), None)


def spec(**words: Any) -> GroupSpec:
    return GroupSpec.of(**{"group_name": "batch", "command": "true", "count": 2, **words})
