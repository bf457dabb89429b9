"""What a launch through an Auto Scaling group is watched and judged by: it travels with the launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class GroupTerms:
    """
    `reports`: whether our boot script runs, which leaves a receipt; else the user data of the group's own template,
    of which nobody hears how it ended. `trust_shutdown`: then a machine that shut itself down counts as a success.
    `boot_seconds`: how long one attempt may take to come into service.
    """

    name: str
    boot_seconds: int
    reports: bool = True
    trust_shutdown: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> GroupTerms:
        return cls(**{name: said[name] for name in cls.__dataclass_fields__ if name in said})
