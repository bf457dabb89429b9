"""When a condition that comes and goes is told: once as it begins to hold, and again as the author said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_transient.core.condition import Condition, Look
from airflow_transient.core.depth import Depth, Unread
from airflow_transient.core.reading import duration, whole
from airflow_transient.errors import SpecError

#: The counters settle about a minute after the last change, and until then a depth at the limit flutters.
COOLDOWN = timedelta(minutes=1)


@dataclass(frozen=True)
class Edge:
    """What a watcher remembers. Armed: the next time it holds is a new beginning."""

    armed: bool = True
    fired_at: datetime | None = None
    streak: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Without the streak: after a restart it is counted anew."""
        return {"armed": self.armed, "fired_at": self.fired_at.isoformat() if self.fired_at else None}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Edge:
        fired = datetime.fromisoformat(said["fired_at"]) if said.get("fired_at") else None
        return cls(bool(said.get("armed", True)), fired)


@dataclass(frozen=True)
class Bell:
    """
    When to ring.

    :param rearm_at: armed again when the depth has fallen to it (risen to it, for at_most and drained); None: when the
        condition no longer holds.
    :param cooldown: the least time between two rings. What begins within it rings at its end, if it still holds.
    :param repeat_every: ring again so often while it goes on holding; None: only when it begins.
    """

    condition: Condition
    rearm_at: int | None = None
    cooldown: timedelta = COOLDOWN
    repeat_every: timedelta | None = None

    def __post_init__(self) -> None:
        if self.cooldown < timedelta(0):
            raise SpecError(f"cooldown is {self.cooldown.total_seconds()} s: it must be 0 or more")
        if self.repeat_every is not None and self.repeat_every <= timedelta(0):
            raise SpecError(f"repeat_every is {self.repeat_every.total_seconds()} s: it must be more than 0")
        if self.rearm_at is not None:
            self._check_rearm(self.rearm_at)

    def _check_rearm(self, rearm_at: int) -> None:
        least, most = self.condition.at_least, 0 if self.condition.drained else self.condition.at_most
        if rearm_at < 0:
            raise SpecError(f"rearm_at is {rearm_at}: it must be 0 or more messages")
        if least is None and most is None:
            raise SpecError("rearm_at is a depth: it goes with at_least, at_most or drained")
        if least is not None and rearm_at >= least:
            raise SpecError(f"rearm_at is {rearm_at}: it must be below at_least, which is {least}")
        if most is not None and rearm_at <= most:
            raise SpecError(f"rearm_at is {rearm_at}: it must be above the depth that rings, which is {most}")

    @classmethod
    def of(cls, condition: Condition, rearm_at: Any = None, cooldown: Any = COOLDOWN, repeat_every: Any = None) -> Bell:
        """From the author's words. Raises SpecError."""
        again = None if repeat_every in (None, "") else duration(repeat_every, "repeat_every")
        return cls(condition, whole(rearm_at, "rearm_at"), duration(cooldown, "cooldown"), again)

    def ring(self, before: Edge, look: Look, now: datetime) -> tuple[bool, Edge]:
        """Whether to ring now, and what to remember once it has rung."""
        edge = replace(before, streak=self.condition.after(before.streak, look))
        if isinstance(look, Unread):
            return False, edge
        if self._fell(look):
            edge = replace(edge, armed=True)
        if edge.streak < self.condition.consecutive or not self._due(edge, now):
            return False, edge
        return True, replace(edge, armed=False, fired_at=now)

    def _fell(self, depths: Sequence[Depth]) -> bool:
        if self.rearm_at is None:
            return not self.condition.holds(depths)
        amount = self.condition.amount(depths)
        return amount <= self.rearm_at if self.condition.at_least is not None else amount >= self.rearm_at

    def _due(self, edge: Edge, now: datetime) -> bool:
        if edge.fired_at is None:
            return edge.armed
        passed = now - edge.fired_at
        again = self.repeat_every is not None and passed >= self.repeat_every
        return passed >= self.cooldown and (edge.armed or again)
