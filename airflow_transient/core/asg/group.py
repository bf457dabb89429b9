"""An Auto Scaling group as AWS tells it: what it was before it was borrowed, who has, and why it may not be.

Law: whoever borrows a group leaves a flag on it, a tag of its own that says what the group was. A flag is raised before
the group is looked at: of two that do so at once at least one sees the other, and whoever sees another gives way.
So a flag alone says that somebody came to ask. Who has the group is told by the tags that it gives to its machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from airflow_transient.core.launch import TAG_PREFIX
from airflow_transient.core.reaping import DEADLINE_GRACE

#: What a launch sets on a group, for its machines, and takes off again: the names of LaunchKey.tags.
OUR_TAGS = tuple(
    TAG_PREFIX + name
    for name in ("managed-by", "owner", "dag", "run", "task", "map-index", "try", "launch", "deadline", "hold-until")
)
#: Which launch a machine is of, and so whose a group is that gives this tag to its machines.
LAUNCHED_BY = TAG_PREFIX + "launch"
#: The start of a flag's name; the token of the launch that borrows is the rest of it.
FLAG = TAG_PREFIX + "borrowed-by:"
#: A tag's value, in Auto Scaling as in EC2.
VALUE_LIMIT = 256
#: Tags on one group (Auto Scaling's limit, as for EC2 resources).
MAX_GROUP_TAGS = 50
#: On their way out: neither capacity nor anybody's work.
LEAVING = ("Terminat", "Detach", "Warmed:")
#: A refresh that replaces nothing any more.
REFRESH_OVER = frozenset({"Successful", "Failed", "Cancelled", "RollbackSuccessful", "RollbackFailed"})
#: The processes that would start machines or end them beside the launch, and so run a job twice or not to its end.
SUSPENDED = ("ReplaceUnhealthy", "ScheduledActions", "AlarmNotification", "InstanceRefresh", "AZRebalance")
#: And the one that starts machines at all, once enough have come.
LAUNCH = "Launch"


@dataclass(frozen=True)
class Source:
    """What a group's machines are launched from: "template", "mixed" (a policy with a template), or "config"."""

    kind: str
    name: str
    version: str = ""

    def __str__(self) -> str:
        # Without the $ of $Latest and $Default: not every service takes one in a tag.
        return ":".join((self.kind, self.version.replace("$", ""), self.name))

    @classmethod
    def of(cls, words: str) -> Source:
        kind, version, name = words.split(":", 2)
        return cls(kind, name, f"${version}" if version in ("Latest", "Default") else version)


@dataclass(frozen=True)
class Was:
    """What of a group a launch may change, as it was before. Everything is in its words, which fit in a tag."""

    min: int
    max: int
    desired: int
    suspended: tuple[str, ...]
    source: Source

    def __str__(self) -> str:
        sizes = f"min={self.min} max={self.max} desired={self.desired}"
        return f"{sizes} suspended={'/'.join(self.suspended)} source={self.source}"

    @classmethod
    def of(cls, words: str) -> Was:
        """Raises ValueError or KeyError for what are no such words."""
        sizes, _, source = words.partition(" source=")
        said = dict(pair.split("=", 1) for pair in sizes.split(" "))
        suspended = tuple(filter(None, said["suspended"].split("/")))
        return cls(int(said["min"]), int(said["max"]), int(said["desired"]), suspended, Source.of(source))


@dataclass(frozen=True)
class Flag:
    """
    That a launch has borrowed the group, until when at most, and what the group was. None: words nobody can read.

    `own_template`: whether the launch brings a launch template of ours, to be deleted after it.
    """

    token: str
    until: datetime | None
    was: Was | None
    own_template: bool = False

    @property
    def name(self) -> str:
        return FLAG + self.token

    @property
    def words(self) -> str:
        return _flag_words(int(self.until.timestamp()) if self.until else 0, self.own_template, self.was)

    @classmethod
    def of(cls, name: str, words: str) -> Flag:
        token = name.removeprefix(FLAG)
        try:
            until, template, was = words.split(" ", 2)
            moment = datetime.fromtimestamp(int(until.removeprefix("until=")), timezone.utc)
            return cls(token, moment, Was.of(was), template == "template=ours")
        except (ValueError, KeyError, OverflowError):
            return cls(token, None, None)

    @property
    def others_from(self) -> datetime | None:
        """When others may give the group back: at `until` the launch itself begins to, and its clock may be another."""
        return self.until + DEADLINE_GRACE if self.until else None

    def is_left_behind(self, launch_id: str, now: datetime) -> bool:
        """Whether nobody is about to give the group back: its time is over, or it is an earlier attempt of our own."""
        over = self.others_from is not None and now >= self.others_from
        return over or self.token.startswith(f"{launch_id}-")


def _flag_words(until_seconds: int, own_template: bool, was: Was | None) -> str:
    return f"until={until_seconds} template={'ours' if own_template else 'theirs'} {was}"


@dataclass(frozen=True)
class GroupMember:
    id: str
    state: str

    @property
    def in_service(self) -> bool:
        return self.state == "InService"

    @property
    def leaving(self) -> bool:
        return self.state.startswith(LEAVING)


@dataclass(frozen=True)
class Group:
    """What DescribeAutoScalingGroups tells. `policy`: the mixed instances policy, whole."""

    name: str
    was: Was
    members: tuple[GroupMember, ...]
    tags: Mapping[str, str]
    policy: Mapping[str, Any] | None = None
    template_name: str | None = None
    status: str | None = None
    warm_pool: bool = False
    units: str = "units"
    operator: str | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Group:
        suspended = tuple(sorted(one["ProcessName"] for one in said.get("SuspendedProcesses", ())))
        sizes = (said["MinSize"], said["MaxSize"], said["DesiredCapacity"])
        return cls(
            name=said["AutoScalingGroupName"],
            was=Was(*sizes, suspended, _source(said)),
            members=tuple(map(_member, said.get("Instances", ()))),
            tags={tag["Key"]: tag.get("Value", "") for tag in said.get("Tags", ())},
            policy=said.get("MixedInstancesPolicy"),
            template_name=_template(said).get("LaunchTemplateName"),
            status=said.get("Status"),
            warm_pool="WarmPoolConfiguration" in said,
            units=said.get("DesiredCapacityType") or "units",
            operator=(said.get("Operator") or {}).get("Principal"),
        )

    @property
    def flags(self) -> dict[str, Flag]:
        """By the token of the launch that has raised it."""
        found = [Flag.of(name, words) for name, words in self.tags.items() if name.startswith(FLAG)]
        return {flag.token: flag for flag in found}

    @property
    def holder(self) -> str | None:
        """The token of the launch whose tags its machines are given: no other has changed its sizes or its template."""
        return self.tags.get(LAUNCHED_BY)

    @property
    def staying(self) -> tuple[GroupMember, ...]:
        return tuple(member for member in self.members if not member.leaving)


def _template(said: Mapping[str, Any]) -> Mapping[str, Any]:
    policy = said.get("MixedInstancesPolicy")
    found: Mapping[str, Any] = (
        policy["LaunchTemplate"]["LaunchTemplateSpecification"] if policy else said.get("LaunchTemplate") or {}
    )
    return found


def _source(said: Mapping[str, Any]) -> Source:
    if template := _template(said):
        kind = "mixed" if said.get("MixedInstancesPolicy") else "template"
        return Source(kind, template["LaunchTemplateId"], template.get("Version") or "")
    return Source("config", said.get("LaunchConfigurationName") or "")


def _member(said: Mapping[str, Any]) -> GroupMember:
    return GroupMember(said["InstanceId"], said["LifecycleState"])


def unusable(group: Group, reports: bool) -> str | None:
    """Why no launch can ever go through this group as it is, in words: its owner's or the author's move."""
    name = f"Auto Scaling group {group.name!r}"
    if group.status:
        return f"{name} is being deleted ({group.status})"
    if group.operator:
        return f"{name} is managed by {group.operator}, which alone may change it"
    if group.warm_pool:
        return f"{name} has a warm pool, whose machines have booted before: user data does not run again in them"
    if group.units != "units" or _is_weighted(group.policy):
        return f"{name} counts its capacity in {group.units if group.units != 'units' else 'weights'}, not in machines"
    if LAUNCH in group.was.suspended:
        return f"{name}: its process Launch is suspended, so that it starts nothing: resume it first"
    if group.was.source.kind == "config" and not group.was.source.name:
        return f"{name} has no launch template"
    if reports and (own := _templates_of_overrides(group.policy)):
        return f"{name}: an override of its policy has a launch template of its own ({own}), which would run instead"
    if len(_flag_words(9_999_999_999, False, group.was)) > VALUE_LIMIT:
        return f"{name}: the name of its launch configuration is too long to be noted on the group"
    return _no_place_for_tags(group)


def _no_place_for_tags(group: Group) -> str | None:
    """Where a flag is up, such names are a launch's."""
    name, needed = f"Auto Scaling group {group.name!r}", len(OUR_TAGS) + 1
    taken = [tag for tag in OUR_TAGS if tag in group.tags]
    if taken and not group.flags:
        return f"{name} has tags of its own by names that a launch sets and takes off again: {', '.join(taken)}"
    if len(group.tags) + needed > MAX_GROUP_TAGS:
        return f"{name} has {len(group.tags)} tags, and of the {MAX_GROUP_TAGS} that AWS takes a launch needs {needed}"
    return None


def in_use(group: Group, token: str | None) -> str | None:
    """Why the group is not free now, in words: somebody else's, who will be done with it. Whose time is over is asked
    elsewhere: until his flag is off, the group is not as it was."""
    name = f"Auto Scaling group {group.name!r}"
    for flag in group.flags.values():
        if flag.token == token:
            continue
        if flag.was is None or flag.others_from is None:
            return f"{name} carries the tag {flag.name!r} with words that nobody can read: look at it, and take it off"
        until = f"{flag.others_from:%H:%M:%S} UTC"
        return f"{name} is borrowed by launch {flag.token} until {until} at most: try again later"
    if group.staying:
        ids = ", ".join(member.id for member in group.staying[:3])
        more = f" and {len(group.staying) - 3} more" if len(group.staying) > 3 else ""
        return f"{name} is in use: it holds {ids}{more}. Use a group that is empty between launches"
    if group.was.desired:
        return f"{name} is in use: its desired capacity is {group.was.desired}. Set it to 0, or use another group"
    return None


def is_changed(group: Group, was: Was) -> bool:
    """Whether its owner has changed it. What a launch suspends first of all may be suspended: an earlier try has."""
    is_off, was_off = {*group.was.suspended}, {*was.suspended}
    resized = replace(group.was, suspended=()) != replace(was, suspended=())
    return resized or not was_off <= is_off <= was_off | {*SUSPENDED, LAUNCH}


def _is_weighted(policy: Mapping[str, Any] | None) -> bool:
    return any(str(one.get("WeightedCapacity") or "1") != "1" for one in _overrides(policy))


def _templates_of_overrides(policy: Mapping[str, Any] | None) -> str:
    named = (one.get("LaunchTemplateSpecification") or {} for one in _overrides(policy))
    return ", ".join(t.get("LaunchTemplateId") or t.get("LaunchTemplateName", "") for t in named if t)


def _overrides(policy: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return list((policy or {}).get("LaunchTemplate", {}).get("Overrides") or ())
