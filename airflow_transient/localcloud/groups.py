"""What an Auto Scaling group does next, from how it stands: no moto, no clock, no network.

Law: a group wants as many members as its desired capacity. Which of the ways there it may go is what its processes say;
one that has ended, for whatever reason, is unhealthy, and is replaced unless that is suspended.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

UP = "running"
DOWN = frozenset({"shutting-down", "terminated", "stopping", "stopped"})


@dataclass(frozen=True)
class Member:
    """`state`: EC2's word for it; `in_service`, `healthy`: the group's."""

    id: str
    state: str
    in_service: bool = True
    healthy: bool = True
    protected: bool = False


@dataclass(frozen=True)
class Standing:
    desired: int
    suspended: frozenset[str]
    members: tuple[Member, ...]

    def may(self, *processes: str) -> bool:
        return not self.suspended & set(processes)


@dataclass(frozen=True)
class Moves:
    """`up`: come into service; `lost`: ended before they did; `sick`: found unhealthy; `end`: taken out and ended."""

    up: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    sick: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    launch: int = 0


def moves(group: Standing) -> Moves:
    lost = tuple(m.id for m in group.members if not m.in_service and m.state in DOWN)
    up = tuple(m.id for m in group.members if not m.in_service and m.state == UP)
    sick = tuple(m.id for m in group.members if m.in_service and m.healthy and m.state in DOWN)
    if not group.may("HealthCheck"):
        sick = ()
    unhealthy = [m.id for m in group.members if not m.healthy or m.id in sick]
    end = tuple(unhealthy) if group.may("ReplaceUnhealthy", "Terminate") else ()
    staying = [m for m in group.members if m.id not in (*lost, *end)]
    if group.may("Terminate"):
        end += _too_many(staying, group.desired, unhealthy)
    missing = group.desired - len(staying) if group.may("Launch") else 0
    return Moves(up, lost, sick, end, max(0, missing))


def _too_many(staying: list[Member], desired: int, unhealthy: Collection[str]) -> tuple[str, ...]:
    """The unhealthy first, then the oldest; those protected from scale-in stay."""
    order = sorted((m for m in staying if not m.protected), key=lambda m: m.id not in unhealthy)
    return tuple(m.id for m in order[: max(0, len(staying) - desired)])


def refused_to_detach(names: Collection[str], members: Collection[Member], group: str, left: int, least: int) -> str:
    """Why, in AWS's words; empty where it may be. `left`: the capacity there will be, `least`: the group's minimum."""
    known = {m.id: m for m in members}
    if unknown := [name for name in names if name not in known]:
        return f"The instance {unknown[0]} is not part of Auto Scaling group {group}."
    if young := [name for name in names if not known[name].in_service]:
        return f"The instance {young[0]} is not in InService or Standby."
    if left < least:
        return f"Currently, desiredSize equals minSize ({least}). Detaching without a replacement will violate it."
    return ""
