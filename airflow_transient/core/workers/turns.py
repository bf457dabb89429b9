"""When a queue's workers become more, and when they are done: what one reading or one look asks for. No clock.

Law: nobody's work is ended. Machines are added while the queue asks for more than those that live will take; they end
by themselves. It is over when the queue is drained for a while, reading after reading, and no machine lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from airflow_transient.core.condition import Condition, Look
from airflow_transient.core.depth import Depth, Live, Rule, Size, Unread, size
from airflow_transient.core.judging import HAND_ON_AFTER
from airflow_transient.core.verdict import Member, Outcome
from airflow_transient.errors import SpecError

DRAINED = Condition(drained=True)


class Move(str, Enum):
    GROW = "launch more"
    NOTE = "write down what has ended"
    END = "it is over"


@dataclass(frozen=True)
class Terms:
    """
    What a wait needs beside its launch.

    :param share: messages in flight that one machine can hold at a time: its processes.
    :param until: without a machine, what is in flight or delayed is waited for till then.
    :param may_grow: False once more machines would not help.
    :param not_before: beside machines that work it may be that more help then, whatever came of others.
    """

    queue: str
    rule: Rule
    share: int
    interval: float
    until: datetime
    may_grow: bool = True
    not_before: datetime | None = None

    def lets_grow(self, live: int, now: datetime) -> bool:
        if live and self.not_before:
            return now >= self.not_before
        return self.may_grow

    def to_dict(self) -> dict[str, Any]:
        not_before = self.not_before.isoformat() if self.not_before else None
        said = {"rule": dict(vars(self.rule)), "until": self.until.isoformat(), "not_before": not_before}
        return {**vars(self), **said}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Terms:
        """Keys of a later version are ignored."""
        rule = {name: said["rule"][name] for name in Rule.__dataclass_fields__ if name in said["rule"]}
        known = {name: said[name] for name in cls.__dataclass_fields__ if name in said}
        times = {name: datetime.fromisoformat(known[name]) for name in ("until", "not_before") if known.get(name)}
        return cls(**known | {"rule": Rule(**rule)} | times)


@dataclass(frozen=True)
class Crew:
    """The machines of one launch as last seen. `stopped`: a person has ended some, and wants no others for them."""

    ids: tuple[str, ...] = ()
    ended: Mapping[str, Member] = field(default_factory=dict)
    stopped: bool = False

    @property
    def open(self) -> tuple[str, ...]:
        return tuple(i for i in self.ids if i not in self.ended)

    def lately(self, now: datetime, window: timedelta) -> tuple[str, ...]:
        """Those that drained the queue so lately that its counters may not show it yet."""
        return tuple(
            m.id for m in self.ended.values() if m.outcome is Outcome.SUCCEEDED and m.ended and now - m.ended < window
        )


@dataclass(frozen=True)
class Turn:
    """
    What is to be done now.

    `members`: those that have ended and are written down. `count`: of machines that the queue asks for; where it is
    over, those that it would have asked for. `live`: machines that still work. `drained`: why it is over.
    """

    move: Move
    members: tuple[Member, ...] = ()
    count: int = 0
    reason: str = ""
    drained: bool = False
    stopped: bool = False
    live: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "move": self.move.value, "members": [m.to_dict() for m in self.members]}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Turn:
        known = {name: said[name] for name in cls.__dataclass_fields__ if name in said}
        members = tuple(map(Member.from_dict, said.get("members", ())))
        return cls(**known | {"move": Move(said["move"]), "members": members})


@dataclass(frozen=True)
class Waiting:
    """What a wait remembers: since which reading all have been drained, till which one, and the last in words."""

    since: datetime | None = None
    till: datetime | None = None
    said: str = "the queue has not been read yet"

    def after(self, look: Look, now: datetime) -> Waiting:
        if isinstance(look, Unread):
            return Waiting(said=str(look))
        said = "; ".join(map(str, look))
        return Waiting(self.since or now, now, said) if DRAINED.holds(look) else Waiting(said=said)

    def drained(self, terms: Terms) -> bool:
        """Two readings, so far apart that what was sent before the first would show in the second."""
        return bool(self.since and self.till and (self.till - self.since).total_seconds() >= terms.interval)


def unread(queue: str, why: Exception) -> Unread:
    return Unread(queue, str(why), gone=isinstance(why, SpecError))


def wanted(terms: Terms, crew: Crew, depth: Depth, now: datetime) -> Size:
    """
    How many more machines the queue asks for.

    In flight are messages that our machines hold, who stand for them, and those of others, who may hold them for hours;
    or nobody's, where a machine was lost. So no more are counted than ours can hold: the rest is work again when it
    can be seen.
    """
    lately = len(crew.lately(now, timedelta(seconds=terms.rule.claim_seconds)))
    live = Live(tasks=len(crew.open), ended=lately)
    ours = min(depth.in_flight, terms.share * (live.tasks + live.ended))
    return size([replace(depth, in_flight=ours)], terms.rule, live)


def on_reading(terms: Terms, crew: Crew, waiting: Waiting, look: Look, now: datetime) -> Turn | None:
    """After a reading of the queue; None: go on waiting."""
    if isinstance(look, Unread):
        if look.gone and not crew.open:
            return Turn(Move.END, tuple(crew.ended.values()), reason=str(look), stopped=crew.stopped)
        return on_sighting(terms, crew, waiting, now)
    (depth,) = look
    asked = wanted(terms, crew, depth, now)
    live = len(crew.open)
    if asked.count and not crew.stopped and terms.lets_grow(live, now):
        return Turn(Move.GROW, _settled(terms, crew, now), asked.count, asked.reason, live=live)
    if asked.count and not live:
        return Turn(Move.END, tuple(crew.ended.values()), asked.count, str(depth), stopped=crew.stopped)
    return on_sighting(terms, crew, waiting, now)


def on_sighting(terms: Terms, crew: Crew, waiting: Waiting, now: datetime) -> Turn | None:
    """After a look at the machines. No machine is launched by it: the last reading may be a minute old."""
    drained = waiting.drained(terms)
    if not crew.open and (drained or now >= terms.until):
        everyone = tuple(crew.ended.values())
        return Turn(Move.END, everyone, reason=waiting.said, drained=drained, stopped=crew.stopped)
    if any(m.ended and now - m.ended >= HAND_ON_AFTER for m in crew.ended.values()):
        return Turn(Move.NOTE, _settled(terms, crew, now), stopped=crew.stopped)
    return None


def _settled(terms: Terms, crew: Crew, now: datetime) -> tuple[Member, ...]:
    """Whose end needs no more watching; the others still claim what they have just worked off."""
    lately = crew.lately(now, timedelta(seconds=terms.rule.claim_seconds))
    return tuple(m for m in crew.ended.values() if m.id not in lately)
