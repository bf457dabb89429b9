"""Whose launch it is, and the handle of what now exists.

A launch is found again by its owner, and asked for by its token: asking twice with one token starts once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_transient.core.asg.terms import GroupTerms
from airflow_transient.core.ecs.terms import Terms
from airflow_transient.core.images.plan import Plan, is_image

#: Why a launch was stopped, as its members' tags tell whoever looks next, with Airflow or without.
BY_REQUEST, AT_DEADLINE, NEVER_BOOTED, CALLED_OFF = "request", "deadline", "never-booted", "called-off"
#: By somebody who wanted no other in its place: unlike after BY_REQUEST, a next try tells that and launches nothing.
BY_PERSON = "person"
#: Had ended by itself, and was only stopped: whoever looks next sees how it ended, and not that we swept it away.
SWEPT = "swept"

#: The tags that make a launch findable without Airflow; keys are read by the reaper and by people.
TAG_PREFIX = "transient:"
MANAGED_BY = "airflow_transient"
#: Left on a machine that one of us stops: why.
STOPPED_BY = TAG_PREFIX + "stopped-by"


@dataclass(frozen=True)
class Owner:
    """The task instance a launch belongs to. No try: every try of one task instance is the same owner."""

    deployment: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def __str__(self) -> str:
        return "/".join((self.deployment, self.dag_id, self.run_id, self.task_id, str(self.map_index)))

    @property
    def tags(self) -> dict[str, str]:
        """Of all that is made for it, at their full length."""
        told = {
            "managed-by": MANAGED_BY,
            "owner": str(self),
            "dag": self.dag_id,
            "run": self.run_id,
            "task": self.task_id,
            "map-index": str(self.map_index),
        }
        return {TAG_PREFIX + name: value for name, value in told.items()}


@dataclass(frozen=True)
class LaunchKey:
    """`owner` finds a launch again; `token` asks for it."""

    owner: Owner
    launch_id: str
    generation: int = 1
    attempt: int = 1
    try_number: int = 1

    @property
    def name(self) -> str:
        """What all attempts of one generation share: their receipts and what people call it."""
        return f"{self.launch_id}-{self.generation}"

    @property
    def token(self) -> str:
        """One attempt. EC2 takes 64 ASCII characters at most; ours are about 30."""
        return f"{self.name}-{self.attempt}"

    def tags(self, launch: Launch) -> dict[str, str]:
        """The tags that ride in the launch call. AWS allows 256 characters a value."""
        told = {
            "try": str(self.try_number),
            "launch": self.token,
            "deadline": str(int(launch.deadline.timestamp())),
        }
        if launch.hold_seconds:
            told["hold-until"] = str(int(launch.deadline.timestamp()) + launch.hold_seconds)
        ours = self.owner.tags | {TAG_PREFIX + name: value for name, value in told.items()}
        return {name: value[:256] for name, value in ours.items()}


@dataclass(frozen=True)
class Launch:
    """What one operator run started: 1..N members. Prints well, travels as a dict, needs nothing beside itself.

    `token` is launch id and generation; `ids` are in the order of TRANSIENT_INDEX. `receipts` is an s3:// prefix, or
    None when the console is the only channel. `hold_seconds`: how long a failed machine stays up to be looked at.
    `ecs`: what a launch of ECS tasks is watched and judged by; `image`: what image a builder's launch is for;
    `group`: what one through an Auto Scaling group is watched and judged by.
    """

    kind: str
    token: str
    nonce: str
    ids: tuple[str, ...]
    region: str
    requested_at: datetime
    boot_by: datetime
    deadline: datetime
    receipts: str | None = None
    hold_seconds: int = 0
    ecs: Terms | None = None
    image: Plan | None = None
    group: GroupTerms | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: moments as ISO 8601, ids as a list."""
        said = asdict(self)
        said["ids"] = list(self.ids)
        said["ecs"] = self.ecs.to_dict() if self.ecs else None
        said["image"] = self.image.to_dict() if self.image else None
        said["group"] = self.group.to_dict() if self.group else None
        for name in ("requested_at", "boot_by", "deadline"):
            said[name] = getattr(self, name).isoformat()
        return said

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Launch:
        """The other way; keys of a later version are ignored, so an upgrade can be rolled back mid-flight."""
        known = {f.name: said[f.name] for f in fields(cls) if f.name in said}
        for name in ("requested_at", "boot_by", "deadline"):
            known[name] = datetime.fromisoformat(known[name])
        known["ids"] = tuple(known["ids"])
        known["ecs"] = Terms.from_dict(known["ecs"]) if known.get("ecs") else None
        known["image"] = Plan.from_dict(known["image"]) if known.get("image") else None
        known["group"] = GroupTerms.from_dict(known["group"]) if known.get("group") else None
        return cls(**known)

    @property
    def asked_at(self) -> datetime:
        """When the last attempt was made."""
        if self.group:
            return self.boot_by - timedelta(seconds=self.group.boot_seconds)
        return self.boot_by - timedelta(seconds=self.ecs.start_seconds) if self.ecs else self.requested_at

    @property
    def made_of(self) -> str:
        """What AWS shows of it: instances ("ec2"), also where a group has started them or an image is made of them, or
        tasks ("ecs"), or images."""
        builder = self.kind == "image" and not any(map(is_image, self.ids))
        return "ec2" if self.group or builder else self.kind

    def with_ids(self, ids: tuple[str, ...]) -> Launch:
        return replace(self, ids=ids)

    def without(self, ended: Collection[str], successes: int, others: int) -> Launch:
        """What is left to wait for once some have ended: `successes`, and `others` that none will replace."""
        ids = tuple(i for i in self.ids if i not in ended)
        return replace(self, ids=ids, ecs=self.ecs.less(successes, others) if self.ecs else None)

    def receipt_key(self, member: str, name: str) -> str:
        """The S3 address of one object that a member leaves behind."""
        return f"{self.receipts}{member}/{name}"


def draft_launch(
    kind: str, spec: Any, key: LaunchKey, region: str, now: datetime, so_far: Launch | str, **kind_of_its_own: Any
) -> Launch:
    """The handle of one more attempt: what exists so far, and the deadline that holds from now on.

    :param spec: tells its `boot_timeout` and its `lifetime`.
    :param so_far: the launch as far as it was placed, or the nonce of a new one: all attempts of a generation share
        their nonce and their receipts.
    :param kind_of_its_own: the fields that one kind of launch has.
    """
    before = so_far if isinstance(so_far, Launch) else None
    return Launch(
        kind=kind,
        token=key.name,
        nonce=before.nonce if before else str(so_far),
        ids=before.ids if before else (),
        region=region,
        requested_at=before.requested_at if before else now,
        boot_by=now + spec.boot_timeout,
        deadline=now + spec.lifetime,
        **kind_of_its_own,
    )
