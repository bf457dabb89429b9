"""What is asked of a group, and in which words it is given back. Pure: the same plan asks with the same words.

A launch template of our own, and no version in the owner's: other groups may follow its $Latest, and would run our job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from airflow_transient.core.asg.group import LAUNCH, OUR_TAGS, SUSPENDED, Flag, Group, Source, Was
from airflow_transient.core.asg.spec import GroupSpec
from airflow_transient.core.asg.terms import GroupTerms
from airflow_transient.core.ec2 import requests as machines
from airflow_transient.core.ec2.requests import Resolved
from airflow_transient.core.launch import Launch, LaunchKey

#: DetachInstances takes so many at once.
DETACHED_AT_ONCE = 20
#: CreateLaunchTemplate takes 3-128 characters; ours are about 40.
TEMPLATE_NAME = "transient-{token}"


@dataclass(frozen=True)
class Plan:
    """
    One attempt to borrow a group: all that it takes to ask for it, and all that it takes to give it back.

    `tags`: what the machines carry. `template`: the launch template to launch from, without its user data; None: the
    group's own. `since`: when the group last did something before it, by AWS's clock; `until`: when the launch
    begins to give it back, whatever has come.
    """

    group: str
    token: str
    wanted: int
    was: Was
    since: datetime
    until: datetime
    tags: Mapping[str, str]
    template: Mapping[str, Any] | None = None

    @property
    def flag(self) -> Flag:
        return Flag(self.token, self.until, self.was, bool(self.template))

    @property
    def template_name(self) -> str:
        return template_name(self.token)

    def to_dict(self) -> dict[str, Any]:
        said = asdict(self) | {"was": str(self.was)}
        said |= {"since": self.since.isoformat(), "until": self.until.isoformat()}
        return said | {"template": dict(self.template) if self.template else None}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Plan:
        known = {name: said[name] for name in cls.__dataclass_fields__ if name in said}
        moments = {name: datetime.fromisoformat(known[name]) for name in ("since", "until")}
        return cls(**known | moments | {"was": Was.of(known["was"])})


def template_name(token: str) -> str:
    return TEMPLATE_NAME.format(token=token)


def draft(spec: GroupSpec, key: LaunchKey, region: str, now: datetime, so_far: Launch | str) -> Launch:
    """The handle of one more attempt."""
    boot_seconds = int(spec.boot_timeout.total_seconds())
    terms = GroupTerms(spec.group, boot_seconds, spec.reports, spec.trust_shutdown)
    return machines.draft(spec, key, region, now, so_far, kind="asg", group=terms)


def plan(spec: GroupSpec, key: LaunchKey, group: Group, launch: Launch, since: datetime) -> Plan:
    """One attempt for what the launch still misses."""
    return Plan(
        group=group.name,
        token=key.token,
        wanted=spec.count - len(launch.ids),
        was=group.was,
        since=since,
        until=launch.boot_by,
        tags=machines.machine_tags(spec, key, launch),
    )


# --- the template


def our_template(base: Mapping[str, Any], resolved: Resolved, tags: Mapping[str, str]) -> dict[str, Any]:
    """
    The group's own, but it runs our boot script, ends itself for good, and leaves no volume behind.

    :param base: what the group launches from, as CreateLaunchTemplate takes it.
    """
    data = {**base, **machines.ENDS_ITSELF, "TagSpecifications": _tagged(base, tags)}
    data["MetadataOptions"] = {**base.get("MetadataOptions", {}), **machines.ENDS_ITSELF["MetadataOptions"]}
    data.pop("UserData", None)
    if devices := _devices(base, resolved):
        data["BlockDeviceMappings"] = devices
    if resolved.hibernates:
        data["HibernationOptions"] = {"Configured": False}
    if market := data.get("InstanceMarketOptions"):
        data["InstanceMarketOptions"] = {**market, "SpotOptions": {**market.get("SpotOptions", {}), **machines.ONCE}}
    return data


def _tagged(base: Mapping[str, Any], tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """Ours on top of the owner's, on machines and on their volumes."""
    theirs = {one["ResourceType"]: _plain(one["Tags"]) for one in base.get("TagSpecifications", ())}
    wanted = {kind: {**theirs.get(kind, {}), **tags} for kind in ("instance", "volume")}
    return [{"ResourceType": kind, "Tags": machines.tag_list(both)} for kind, both in (theirs | wanted).items()]


def _plain(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in tags}


def _devices(base: Mapping[str, Any], resolved: Resolved) -> list[dict[str, Any]]:
    """As RunInstances is asked elsewhere: no volume outlives its machine; what is no volume stays as it is."""
    rest = [one for one in base.get("BlockDeviceMappings", ()) if not one.get("Ebs")]
    return [*rest, *({"DeviceName": name, "Ebs": ebs} for name, ebs in machines.ending_with_it(resolved).items())]


def template_of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A launch configuration, AWS's older form, in the words of a launch template."""
    words = {
        "ImageId": config.get("ImageId"),
        "InstanceType": config.get("InstanceType"),
        "KeyName": config.get("KeyName"),
        "KernelId": config.get("KernelId"),
        "RamDiskId": config.get("RamdiskId"),
        "EbsOptimized": config.get("EbsOptimized"),
        "Monitoring": config.get("InstanceMonitoring"),
        "IamInstanceProfile": machines.profile(config.get("IamInstanceProfile")),
        "BlockDeviceMappings": [_device_of_config(one) for one in config.get("BlockDeviceMappings") or ()],
        "Placement": {"Tenancy": config["PlacementTenancy"]} if config.get("PlacementTenancy") else None,
        "InstanceMarketOptions": _spot(config.get("SpotPrice")),
        **_network(config),
    }
    return {name: value for name, value in words.items() if value}


def _spot(price: str | None) -> dict[str, Any] | None:
    return {"MarketType": "spot", "SpotOptions": {"MaxPrice": price}} if price else None


def _network(config: Mapping[str, Any]) -> dict[str, Any]:
    """A public address can be asked for through an interface only, which then carries the groups."""
    groups = list(config.get("SecurityGroups") or ())
    if config.get("AssociatePublicIpAddress") is None:
        return {"SecurityGroupIds": groups}
    door = {"DeviceIndex": 0, "AssociatePublicIpAddress": config["AssociatePublicIpAddress"]}
    return {"NetworkInterfaces": [door | ({"Groups": groups} if groups else {})]}


def _device_of_config(said: Mapping[str, Any]) -> dict[str, Any]:
    """NoDevice is a truth there and an empty text here."""
    if said.get("NoDevice"):
        return {"DeviceName": said["DeviceName"], "NoDevice": ""}
    return {name: said[name] for name in ("DeviceName", "VirtualName", "Ebs") if said.get(name)}


# --- the calls, each as boto3 takes it


def raise_flag(plan: Plan) -> dict[str, Any]:
    return {"Tags": [_tag(plan.group, plan.flag.name, plan.flag.words, propagate=False)]}


def raise_flag_and_tag(plan: Plan) -> dict[str, Any]:
    """In one call, where the group may be starting machines already."""
    return {"Tags": [*raise_flag(plan)["Tags"], *tag_machines(plan)["Tags"]]}


def lower_flag(group: str, flag: Flag) -> dict[str, Any]:
    return {"Tags": [_tag(group, flag.name)]}


def tag_machines(plan: Plan) -> dict[str, Any]:
    """On the group, for the machines: they carry them from their first moment on, in whatever state they are."""
    return {"Tags": [_tag(plan.group, name, value, propagate=True) for name, value in group_tags(plan).items()]}


def group_tags(plan: Plan) -> dict[str, str]:
    """The author's tags are in our template, because a group may have some of the same name."""
    return {name: value for name, value in plan.tags.items() if name in OUR_TAGS}


def suspended(was: Was) -> list[str]:
    """What a launch suspends, and may resume: not what was suspended before."""
    return [process for process in (*SUSPENDED, LAUNCH) if process not in was.suspended]


def to_suspend(was: Was) -> list[str]:
    """At first; Launch follows when enough have come."""
    return [process for process in suspended(was) if process != LAUNCH]


def more_capacity(plan: Plan, group: Group, missing: int) -> dict[str, Any]:
    """In one call, so that no machine starts from the wrong template."""
    desired = len(group.staying) + missing
    change: dict[str, Any] = {"AutoScalingGroupName": plan.group, "DesiredCapacity": desired}
    if desired > group.was.max:
        change["MaxSize"] = desired
    if plan.template:
        change |= _launching(group, plan.was.source.kind, {"LaunchTemplateName": plan.template_name, "Version": "1"})
    return change


def is_what_we_asked(plan: Plan, asked: Mapping[str, Any], before: Group, group: Group) -> bool:
    """
    Whether the group's capacity is by that call of ours: by our template, or else by its very sizes.

    :param before: the group as it was when `asked` was made up.
    """
    if plan.template:
        return group.template_name == plan.template_name
    sizes = (asked["DesiredCapacity"], asked.get("MaxSize", before.was.max))
    return (group.was.desired, group.was.max) == sizes and group.was.desired > plan.was.desired


def as_it_was(group: Group, flag: Flag, theirs: bool) -> dict[str, Any]:
    """
    The arguments that undo what a launch has changed; none where nothing is changed.

    :param theirs: whether the group holds machines of somebody else, none of which may end by what it is asked for.
    """
    was = flag.was
    if was is None:
        return {}
    desired = max(was.desired, len(group.staying)) if theirs else was.desired
    sizes = {"MinSize": was.min, "MaxSize": max(was.max, desired), "DesiredCapacity": desired}
    change = sizes if (group.was.min, group.was.max, group.was.desired) != tuple(sizes.values()) else {}
    # What somebody else has set meanwhile is his.
    if group.template_name == template_name(flag.token):
        change = {**change, **launched_from(group, was.source)}
    return change


def launched_from(group: Group, source: Source) -> dict[str, Any]:
    """The arguments that make a group launch from there again."""
    if source.kind == "config":
        return {"LaunchConfigurationName": source.name}
    version = {"Version": source.version} if source.version else {}
    return _launching(group, source.kind, {"LaunchTemplateId": source.name, **version})


def _launching(group: Group, kind: str, template: Mapping[str, str]) -> dict[str, Any]:
    """From this template; a policy stays as it is but for that."""
    if kind != "mixed":
        return {"LaunchTemplate": dict(template)}
    policy = {**(group.policy or {})}
    policy["LaunchTemplate"] = {**policy.get("LaunchTemplate", {}), "LaunchTemplateSpecification": dict(template)}
    return {"MixedInstancesPolicy": policy}


def without_our_tags(group: Group) -> dict[str, Any]:
    """All of ours but the flag, which comes off last; the owner's own stay, whatever they are called."""
    return {"Tags": [_tag(group.name, name) for name in OUR_TAGS if name in group.tags]}


def _tag(group: str, name: str, value: str | None = None, propagate: bool | None = None) -> dict[str, Any]:
    tag: dict[str, Any] = {"ResourceId": group, "ResourceType": "auto-scaling-group", "Key": name}
    return tag | {k: v for k, v in {"Value": value, "PropagateAtLaunch": propagate}.items() if v is not None}
