"""Whose launch it is, and the handle of what now exists.

A launch is found again by its owner, and asked for by its token: asking twice with one token starts once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

#: The tags that make a launch findable without Airflow; keys are read by the reaper and by people.
TAG_PREFIX = "transient:"
MANAGED_BY = "airflow_transient"


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


@dataclass(frozen=True)
class LaunchKey:
    """`owner` finds a launch again; `token` asks for it."""

    owner: Owner
    launch_id: str
    generation: int = 1
    attempt: int = 1
    try_number: int = 1

    @property
    def token(self) -> str:
        """EC2 takes 64 ASCII characters at most; ours are about 40."""
        return f"{self.launch_id}-{self.generation}-{self.attempt}"

    def tags(self, deadline: datetime) -> dict[str, str]:
        """The tags that ride in the launch call. AWS allows 256 characters a value."""
        told = {
            "managed-by": MANAGED_BY,
            "owner": str(self.owner),
            "dag": self.owner.dag_id,
            "run": self.owner.run_id,
            "task": self.owner.task_id,
            "map-index": str(self.owner.map_index),
            "try": str(self.try_number),
            "launch": self.token,
            "deadline": str(int(deadline.timestamp())),
        }
        return {TAG_PREFIX + name: value[:256] for name, value in told.items()}


@dataclass(frozen=True)
class Launch:
    """What one operator run started: 1..N members. Prints well, travels as a dict, needs nothing beside itself.

    `receipts` is an s3:// prefix, or None when the console is the only channel. `index_offset` is the
    TRANSIENT_INDEX of the first member.
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
    index_offset: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: moments as ISO 8601, ids as a list."""
        said = asdict(self)
        said["ids"] = list(self.ids)
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
        return cls(**known)

    def with_ids(self, ids: tuple[str, ...]) -> Launch:
        return replace(self, ids=ids)

    def receipt_key(self, member: str, name: str) -> str:
        """The S3 address of one object that a member leaves behind."""
        return f"{self.receipts}{member}/{name}"
