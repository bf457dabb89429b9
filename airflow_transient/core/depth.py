"""How many tasks a queue's depth asks for, and why: one pure function, so that each answer can be told and replayed.

SQS's counters are approximate and settle about a minute after the last change (GetQueueAttributes, API reference): a
task that was launched a moment ago has not received yet what still shows as visible. The default strategy subtracts
what such tasks will take; the others are there by name to compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_transient.core.reading import text, truth, whole
from airflow_transient.errors import SpecError

#: A burst is no larger without the author's word: the ECS Scheduler promised this limit, and its code did not keep it.
HARD_CAP = 50
#: The largest cap there is to ask for.
MAX_HARD_CAP = 1000
#: A task claims messages from its launch until its receives show in the counters: those lag "up to a minute".
CLAIM_WINDOW = timedelta(seconds=90)


@dataclass(frozen=True)
class Depth:
    """One reading of one queue. `oldest_seconds`: the age of its oldest message, where it was asked for."""

    queue: str
    visible: int
    in_flight: int = 0
    delayed: int = 0
    at: datetime | None = None
    oldest_seconds: float | None = None

    @property
    def drained(self) -> bool:
        return not (self.visible or self.in_flight or self.delayed)

    def counted(self, in_flight: bool, delayed: bool) -> int:
        return self.visible + in_flight * self.in_flight + delayed * self.delayed

    def __str__(self) -> str:
        return f"{self.queue}: {self.visible} visible, {self.in_flight} in flight, {self.delayed} delayed"


@dataclass(frozen=True)
class Unread:
    """A queue that could not be read. Nothing is launched on a guess. `gone`: there is no such queue."""

    queue: str
    why: str
    gone: bool = False

    def __str__(self) -> str:
        return f"{self.queue} could not be read: {self.why}"


@dataclass(frozen=True)
class Live:
    """
    Our own tasks of this job, and nobody else's.

    `tasks` exist now; `pending` of those have not begun. `claiming`: pending, or began work so lately that the counters
    do not show their receives yet, even where they have ended since. `ended`: so lately that the counters may still
    show their messages as in flight; no part of `tasks`.
    """

    tasks: int = 0
    claiming: int = 0
    pending: int = 0
    ended: int = 0


@dataclass(frozen=True)
class Rule:
    """
    What an author says about sizes.

    :param task_count: as many at least, once there is work; without queues: as many.
    :param messages_per_task: one task for so many messages, rounded up; None: `task_count` whatever the depth.
    :param max_count: as many of ours at once, at most. It may be less than `task_count`; then it wins.
    :param hard_cap: the limit where `max_count` says nothing, and of it.
    :param activation: a depth up to this asks for nothing.
    :param top_up: what is live counts towards `task_count`: start only what is missing.
    :param claim_seconds: how long a task may not have received its `messages_per_task` after it began.
    """

    task_count: int = 1
    messages_per_task: int | None = None
    max_count: int | None = None
    hard_cap: int = HARD_CAP
    activation: int = 0
    count_in_flight: bool = False
    count_delayed: bool = False
    top_up: bool = False
    strategy: str = "lag-aware"
    claim_seconds: int = int(CLAIM_WINDOW.total_seconds())

    def __post_init__(self) -> None:
        if not 1 <= self.hard_cap <= MAX_HARD_CAP:
            raise SpecError(f"hard_cap is {self.hard_cap}: it must be from 1 to {MAX_HARD_CAP}")
        for name in ("task_count", "max_count"):
            if (value := getattr(self, name)) is not None and not 1 <= value <= self.hard_cap:
                raise SpecError(
                    f"{name} is {value}: it must be from 1 to {self.hard_cap}, which is hard_cap (raise that for more)"
                )
        if self.messages_per_task is not None and self.messages_per_task < 1:
            raise SpecError(f"messages_per_task is {self.messages_per_task}: it must be at least 1")
        if self.claim_seconds < 0:
            raise SpecError(f"claim_seconds is {self.claim_seconds}: it must be 0 or more")
        if self.activation < 0:
            raise SpecError(f"activation is {self.activation}: it must be 0 or more messages")
        if self.strategy not in STRATEGIES:
            raise SpecError(f"strategy is {self.strategy!r}: it must be one of {', '.join(STRATEGIES)}")

    @property
    def limit(self) -> int:
        return self.max_count or self.hard_cap


#: The author's words for a rule: those that say how many, which a sensor takes as well, and the rest.
COUNT_WORDS = ("task_count", "messages_per_task", "max_count", "hard_cap", "activation")
RULE_WORDS = (*COUNT_WORDS, "count_in_flight", "count_delayed", "top_up", "strategy", "claim_seconds")


def rule_of(words: Mapping[str, Any]) -> Rule:
    """The rule that an author's words make; what is not given is the default. Raises SpecError."""
    numbers = {name: whole(words.get(name), name) for name in (*COUNT_WORDS, "claim_seconds")}
    switches = {name: truth(words.get(name), name) for name in ("count_in_flight", "count_delayed", "top_up")}
    said: dict[str, Any] = {**numbers, **switches, "strategy": text(words.get("strategy"), "strategy")}
    return Rule(**{name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True)
class Size:
    """How many to launch now, the sentence that says why, and every number that led there."""

    count: int
    reason: str
    terms: Mapping[str, int | str | None]

    def to_dict(self) -> dict[str, object]:
        return {"count": self.count, "reason": self.reason, "terms": dict(self.terms)}


def size(readings: Sequence[Depth | Unread] | None, rule: Rule, live: Live) -> Size:
    """
    How many tasks to launch now.

    :param readings: one for each queue, summed; None where the job has no queue.
    """
    if readings is None:
        return _fixed(rule, live)
    if unread := [reading for reading in readings if isinstance(reading, Unread)]:
        reason = f"nothing is launched on a guess: {'; '.join(map(str, unread))}"
        return Size(0, reason, _rule_terms(rule, live) | {"count": 0})
    depths = [reading for reading in readings if isinstance(reading, Depth)]
    work = sum(depth.counted(rule.count_in_flight, rule.count_delayed) for depth in depths)
    terms = _terms(depths, work, rule, live)
    if work <= rule.activation:
        below = f"which does not exceed activation {rule.activation}" if rule.activation else "so there is no work"
        return Size(0, f"{_seen(depths, rule)}, {below}", terms | {"count": 0})
    asked, why = STRATEGIES[rule.strategy](work, rule, live)
    room = rule.limit - live.tasks
    count = max(0, min(asked, room))
    reason = f"{_seen(depths, rule)}: {why}" + _bounded(asked, room, rule, live)
    return Size(count, reason, terms | {"asked": asked, "room": room, "count": count})


def _fixed(rule: Rule, live: Live) -> Size:
    asked = _missing(rule, live) if rule.top_up else rule.task_count
    room = rule.limit - live.tasks
    count = max(0, min(asked, room))
    have = f" less {live.tasks} live" if rule.top_up and live.tasks else ""
    reason = f"task_count {rule.task_count}{have}" + _bounded(asked, room, rule, live)
    return Size(count, reason, _rule_terms(rule, live) | {"asked": asked, "room": room, "count": count})


def _missing(rule: Rule, live: Live) -> int:
    return max(0, rule.task_count - live.tasks)


def _ceil(messages: int, per_task: int) -> int:
    return -(-max(0, messages) // per_task)


def _lag_aware(work: int, rule: Rule, live: Live) -> tuple[int, str]:
    """What no task of ours has taken or will take; where messages in flight are counted, every task stands for some."""
    takers = live.tasks + live.ended if rule.count_in_flight else live.claiming
    which = "live or just ended" if rule.count_in_flight else "just launched or begun"
    if not (per_task := rule.messages_per_task):
        if rule.top_up:
            return _missing(rule, live), f"task_count {rule.task_count} less {live.tasks} live"
        claim = f" less {takers} {which}" if takers else ""
        return max(0, rule.task_count - takers), f"task_count {rule.task_count}{claim}"
    claim = f" less {per_task * takers} claimed by {_tasks(takers)} {which}" if takers else ""
    need = _ceil(work - per_task * takers, per_task)
    floor = _missing(rule, live) if rule.top_up else rule.task_count * (need > 0)
    above = f", task_count {rule.task_count} for {floor}" if floor > need else ""
    return max(need, floor), f"{per_task} per task{claim} asks for {need}{above}"


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"


def _wanted(work: int, rule: Rule) -> int:
    """The ECS Scheduler's: `task_count` is a floor, and all there is to go by without `messages_per_task`."""
    return max(_ceil(work, rule.messages_per_task) if rule.messages_per_task else 0, rule.task_count)


def _desired_state(work: int, rule: Rule, live: Live) -> tuple[int, str]:
    """As the ECS Scheduler: what should be there less what is there, whatever it is doing."""
    wanted = _wanted(work, rule)
    return wanted - live.tasks, f"{_tasks(wanted)} wanted less {live.tasks} live"


def _keda_scale(work: int, rule: Rule) -> int:
    """KEDA's maxScale. It knows no floor; without `messages_per_task` there is only `task_count` to go by."""
    return min(rule.limit, _ceil(work, rule.messages_per_task) if rule.messages_per_task else rule.task_count)


def _keda_default(work: int, rule: Rule, live: Live) -> tuple[int, str]:
    scale = _keda_scale(work, rule)
    return scale - live.tasks, f"KEDA default: scale {scale} less {live.tasks} live"


def _keda_accurate(work: int, rule: Rule, live: Live) -> tuple[int, str]:
    scale = _keda_scale(work, rule)
    if scale + live.tasks - live.pending > rule.limit:
        return rule.limit - live.tasks, f"KEDA accurate: limit {rule.limit} less {live.tasks} live (scale {scale})"
    return scale - live.pending, f"KEDA accurate: scale {scale} less {live.pending} pending"


def _keda_eager(work: int, rule: Rule, live: Live) -> tuple[int, str]:
    scale = _keda_scale(work, rule)
    free = rule.limit - live.tasks - live.pending
    return min(free, scale), f"KEDA eager: scale {scale}, limit {rule.limit} leaves {max(0, free)}"


#: name -> how many (work, rule, live) asks for, before the bounds; KEDA's as in scale_jobs.go (ScalingStrategy).
STRATEGIES: dict[str, Callable[[int, Rule, Live], tuple[int, str]]] = {
    "lag-aware": _lag_aware,
    "desired-state": _desired_state,
    "keda-default": _keda_default,
    "keda-accurate": _keda_accurate,
    "keda-eager": _keda_eager,
}


def _seen(depths: Sequence[Depth], rule: Rule) -> str:
    """The sum, in words: "60 visible + 3 in flight"."""
    counted = [(sum(d.visible for d in depths), "visible")]
    if rule.count_in_flight:
        counted.append((sum(d.in_flight for d in depths), "in flight"))
    if rule.count_delayed:
        counted.append((sum(d.delayed for d in depths), "delayed"))
    where = depths[0].queue if len(depths) == 1 else f"{len(depths)} queues"
    return f"{where}: " + " + ".join(f"{count} {what}" for count, what in counted)


def _bounded(asked: int, room: int, rule: Rule, live: Live) -> str:
    if asked <= max(0, room):
        return ""
    name = "max_count" if rule.max_count else "hard_cap"
    have = f" less {live.tasks} live" if live.tasks else ""
    return f"; {name} {rule.limit}{have}: room for {max(0, room)}"


def _rule_terms(rule: Rule, live: Live) -> dict[str, int | str | None]:
    said = vars(rule) | {"limit": rule.limit}
    claims = {"claiming": live.claiming, "pending": live.pending, "ended": live.ended}
    return {**said, "live": live.tasks, **claims}


def _terms(depths: Sequence[Depth], work: int, rule: Rule, live: Live) -> dict[str, int | str | None]:
    sums = {name: sum(getattr(d, name) for d in depths) for name in ("visible", "in_flight", "delayed")}
    return {**sums, "work": work, **_rule_terms(rule, live)}
