"""Which image is to be made, resolved before the first call: it travels with the launch of its builder.

CreateImage has no client token, so the name stands for it: derived from what goes in, the same however often it is
asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Plan:
    """
    `inputs` stands for all that goes into the image, `source` is the base image it starts from. `tags` are those of the
    image and of its snapshots. `regions` get a copy. `builder` is the stopped machine while the image is made of it,
    `asked` when something was last asked for, `reused` whether the image was there before. `deployment`: whose Airflow
    makes it.
    """

    name: str
    family: str
    inputs: str
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)
    regions: tuple[str, ...] = ()
    parameter: str | None = None
    keep_last: int | None = None
    builder: str | None = None
    asked: datetime | None = None
    reused: bool = False
    deployment: str = ""

    def to_dict(self) -> dict[str, Any]:
        said = asdict(self) | {"regions": list(self.regions), "tags": dict(self.tags)}
        return said | {"asked": self.asked.isoformat() if self.asked else None}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Plan:
        """The other way; keys of a later version are ignored."""
        known = {f.name: said[f.name] for f in fields(cls) if f.name in said}
        known["regions"] = tuple(known.get("regions") or ())
        known["asked"] = datetime.fromisoformat(known["asked"]) if known.get("asked") else None
        return cls(**known)


def member_of(image_id: str, region: str, home: str) -> str:
    """How a launch names an image: by its id, and the region where that is not the launch's own."""
    return image_id if region == home else f"{image_id}@{region}"


def place_of_member(member: str, home: str) -> tuple[str, str]:
    """(image id, region)."""
    image_id, _, region = member.partition("@")
    return image_id, region or home


def is_image(member: str) -> bool:
    return member.startswith("ami-")
