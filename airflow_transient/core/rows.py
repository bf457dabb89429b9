"""One launch as it is shown among everything that runs: where it is, since when, until when, at what cost so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_transient.core.ecs.judging import STATES_IN_WORDS
from airflow_transient.core.launch import Launch, Owner
from airflow_transient.core.prices import cost, without_price
from airflow_transient.core.reaping import DEADLINE, moment
from airflow_transient.core.sources import OVER, Resource, Task, short

#: So many ids are told of a launch.
IDS_TOLD = 5
UNITS = {"ec2": "instance", "ecs": "task", "asg": "instance"}

#: EC2's state -> in words; ECS's words are those of its judging.
STATES: dict[str, str] = STATES_IN_WORDS | {
    "pending": "starting",
    "running": "running",
    "RUNNING": "running",
    "stopping": "ending",
    "shutting-down": "ending",
    "stopped": "stopped, and its disk still costs",
    **dict.fromkeys(OVER, "ended"),
}
STARTING = frozenset({"pending", "PROVISIONING", "PENDING", "ACTIVATING"})


@dataclass(frozen=True)
class Mismatch:
    kind: str
    words: str


@dataclass(frozen=True)
class Row:
    """
    One launch. `task` is the one that waits for it; `seen`: whether AWS said all where it should be; `young`: launched
    so lately that AWS or Airflow may not show it yet.
    """

    owner: Owner
    task_state: str | None
    task: Task | None = None
    members: tuple[Resource, ...] = ()
    seen: bool = True
    young: bool = False
    mismatch: Mismatch | None = None
    note: str | None = None

    @property
    def launch(self) -> Launch | None:
        return self.task.launch if self.task else None

    @property
    def token(self) -> str | None:
        return self.launch.token if self.launch else next((m.token for m in self.members if m.token), None)

    @property
    def key(self) -> str:
        owner = self.owner
        return "/".join((owner.dag_id, owner.run_id, owner.task_id, str(owner.map_index), self.token or ""))

    @property
    def kind(self) -> str | None:
        return self.launch.kind if self.launch else next((m.found.kind for m in self.members), None)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(m.found.id for m in self.members) or (self.launch.ids if self.launch else ())

    @property
    def since(self) -> datetime | None:
        launched = min((m.found.launched for m in self.members), default=None)
        return launched or (self.launch and self.launch.requested_at) or (self.task and self.task.since) or None

    @property
    def deadline(self) -> datetime | None:
        told = [at for m in self.members if (at := moment(m.found.tags, DEADLINE))]
        return self.launch.deadline if self.launch else max(told, default=None)

    @property
    def missing(self) -> int:
        """How many of the launch's AWS does not show any more."""
        if not (self.launch and self.seen) or self.young:
            return 0
        return len(set(self.launch.ids) - {m.found.id for m in self.members})

    @property
    def stopping(self) -> bool:
        """Whether there is nothing left to stop."""
        return bool(self.members) and all(m.ending for m in self.members)

    @property
    def resource(self) -> str:
        """What it is, in words."""
        if len(self.members) == 1:
            return self.members[0].words or self.members[0].found.id
        many = f"{len(self.ids)} {UNITS.get(self.kind or '', 'member')}s"
        return many if len(self.ids) > 1 else next(iter(self.ids), "")

    @property
    def phase(self) -> str:
        if not self.members:
            return self._nothing_seen[1]
        told = Counter(STATES.get(m.found.state, m.found.state.lower()) for m in self.members)
        told.update({"ended": self.missing} if self.missing else {})
        return ", ".join(words if told.total() == 1 else f"{count} {words}" for words, count in told.most_common())

    @property
    def state(self) -> str:
        """One word, for a colour: the furthest that any member is."""
        if not self.members:
            return self._nothing_seen[0]
        alive = [m.found.state for m in self.members if not m.ending]
        if not alive:
            return "ended" if all(m.over for m in self.members) else "ending"
        return "starting" if all(state in STARTING for state in alive) else "running"

    @property
    def _nothing_seen(self) -> tuple[str, str]:
        if self.launch is None or not self.launch.ids:
            return "launching", "being launched"
        if not self.seen:
            return "unknown", "not seen: AWS could not be asked for all of it"
        if self.young:
            return "starting", "launched a moment ago, and not yet shown by AWS"
        return "ended", "nothing of it is there any more"

    def cost_at(self, now: datetime, prices: Mapping[str, float]) -> tuple[float | None, str | None]:
        """(USD so far, what that leaves out)."""
        parts = [cost(m.rates, m.billed_from, m.ended or now, prices) for m in self.members]
        known = [part for part in parts if part is not None]
        lacking = sorted({name for m in self.members for name in without_price(m.rates, prices)})
        unknown = len(parts) - len(known)
        left_out = [
            f"without {self.missing} that AWS does not show any more" if known and self.missing else "",
            f"without {unknown} whose cost is not known" if known and unknown else "",
            f"no price for {', '.join(lacking)}" if lacking and prices else "",
        ]
        return (round(sum(known), 6) if known else None), ", ".join(filter(None, left_out)) or None

    def to_dict(self, now: datetime, prices: Mapping[str, float]) -> dict[str, Any]:
        """JSON-ready; whoever shows it adds what its reader may do."""
        usd, cost_note = self.cost_at(now, prices)
        place = self.members[0].place if self.members else None
        terms = self.launch.ecs if self.launch else None
        owner = {name: value for name, value in vars(self.owner).items() if name != "deployment"}
        return {
            "key": self.key,
            **owner,
            "task_state": self.task_state,
            "token": self.token,
            "kind": self.kind,
            "ids": list(self.ids[:IDS_TOLD]),
            "count": len(self.ids),
            "resource": self.resource,
            "region": place.region if place else self.launch and self.launch.region,
            "cluster": short(place.cluster if place else terms.cluster if terms else None),
            "phase": self.phase,
            "state": self.state,
            "since": _iso(self.since),
            "deadline": _iso(self.deadline),
            "overdue": bool(self.deadline and now > self.deadline),
            "cost_usd": usd,
            "cost_note": cost_note,
            "mismatch": vars(self.mismatch) if self.mismatch else None,
            "note": self.note,
            "stopping": self.stopping,
        }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
