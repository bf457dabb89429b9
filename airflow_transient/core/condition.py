"""When a queue is deep enough, shallow enough, drained or stale: one condition, however one waits for it.

A look is the depths of all queues, or Unread: nobody could say. Without an answer nothing holds, whatever held before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_transient.core.depth import COUNT_WORDS, Depth, Live, Rule, Unread, rule_of, size
from airflow_transient.core.reading import duration, names, truth, whole
from airflow_transient.errors import SpecError

Look = Sequence[Depth] | Unread

#: The author's words for a condition, and for the size of a burst.
CONDITION_WORDS = (
    *("at_least", "at_most", "drained", "oldest_older_than"),
    *("each", "count_in_flight", "count_delayed", "consecutive"),
)
WORDS = ("queues", *CONDITION_WORDS, *COUNT_WORDS)
#: A message that is received and returned may be in neither counter for a moment, and would make one reading of 0.
DRAINED_READINGS = 2


@dataclass(frozen=True)
class Condition:
    """
    What must be seen, `consecutive` times in a row.

    :param each: of every queue by itself; else of their sum (of the oldest message of all, for an age).
    """

    at_least: int | None = None
    at_most: int | None = None
    drained: bool = False
    oldest_older_than: timedelta | None = None
    each: bool = False
    count_in_flight: bool = False
    count_delayed: bool = False
    consecutive: int = 1

    def __post_init__(self) -> None:
        given = self._amounts()
        if len(given) > 1:
            raise SpecError(f"{' and '.join(given)} are given: give one of them, and two sensors for two conditions")
        if not given and self.oldest_older_than is None:
            raise SpecError("no condition: give one of at_least, at_most, drained=True and oldest_older_than")
        self._check_numbers()
        self._check_what_is_counted()

    def _amounts(self) -> dict[str, str]:
        """The conditions on an amount that are given, in words: one or none."""
        said = {
            "at_least": None if self.at_least is None else f"at least {self.at_least}",
            "at_most": None if self.at_most is None else f"at most {self.at_most}",
            "drained": "drained" if self.drained else None,
        }
        return {name: words for name, words in said.items() if words}

    def _check_numbers(self) -> None:
        for name in ("at_least", "at_most"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise SpecError(f"{name} is {value}: it must be 0 or more messages")
        if self.oldest_older_than is not None and self.oldest_older_than < timedelta(0):
            raise SpecError(f"oldest_older_than is {self.oldest_older_than.total_seconds()} s: it must be 0 or more")
        if self.consecutive < 1:
            raise SpecError(f"consecutive is {self.consecutive}: it must be at least 1 reading")

    def _check_what_is_counted(self) -> None:
        if self.drained and self.oldest_older_than is not None:
            raise SpecError(
                "drained and oldest_older_than contradict each other: a drained queue has no oldest message"
            )
        if not (self.count_in_flight or self.count_delayed):
            return
        if self.drained:
            raise SpecError("drained always counts messages in flight and delayed: leave count_* out")
        if self.at_least is None and self.at_most is None:
            raise SpecError("count_in_flight and count_delayed say what at_least and at_most count: give one of those")

    @classmethod
    def of(cls, **words: Any) -> Condition:
        """From the author's words (CONDITION_WORDS). Raises SpecError."""
        drained = bool(truth(words.get("drained"), "drained"))
        default = DRAINED_READINGS if drained else 1
        given = whole(words.get("consecutive"), "consecutive")
        oldest = words.get("oldest_older_than")
        return cls(
            at_least=whole(words.get("at_least"), "at_least"),
            at_most=whole(words.get("at_most"), "at_most"),
            drained=drained,
            oldest_older_than=None if oldest in (None, "") else duration(oldest, "oldest_older_than"),
            consecutive=default if given is None else given,
            **{name: bool(truth(words.get(name), name)) for name in ("each", "count_in_flight", "count_delayed")},
        )

    def holds(self, depths: Sequence[Depth]) -> bool:
        return self._amount_holds(depths) and self._age_holds(depths)

    def after(self, streak: int, look: Look) -> int:
        """How many looks in a row it has held, this one included."""
        return streak + 1 if not isinstance(look, Unread) and self.holds(look) else 0

    def amount(self, depths: Sequence[Depth]) -> int:
        """What is compared; with `each`, that of the queue which decides."""
        counts = [self._count(depth) for depth in depths]
        if not self.each:
            return sum(counts)
        return min(counts) if self.at_least is not None else max(counts)

    def _count(self, depth: Depth) -> int:
        return depth.counted(self.drained or self.count_in_flight, self.drained or self.count_delayed)

    def _amount_holds(self, depths: Sequence[Depth]) -> bool:
        amount = self.amount(depths)
        if self.at_least is not None:
            return amount >= self.at_least
        limit = 0 if self.drained else self.at_most
        return limit is None or amount <= limit

    def _age_holds(self, depths: Sequence[Depth]) -> bool:
        if (limit := self.oldest_older_than) is None:
            return True
        older = [(depth.oldest_seconds or 0.0) > limit.total_seconds() for depth in depths]
        return all(older) if self.each else any(older)

    def __str__(self) -> str:
        said = list(self._amounts().values())
        if self.oldest_older_than is not None:
            said.append(f"a message older than {self.oldest_older_than.total_seconds():g} s")
        return " and ".join(said) + (" in each queue" if self.each else "")


@dataclass(frozen=True)
class Question:
    """What is asked of which queues, and how large a burst their depth would ask for."""

    queues: tuple[str, ...]
    condition: Condition
    rule: Rule | None = None

    @classmethod
    def of(cls, **words: Any) -> Question:
        """From the author's words (WORDS). Raises SpecError."""
        queues = tuple(dict.fromkeys(names(words.get("queues"))))
        if not queues:
            raise SpecError("queues names no queue: give names, URLs or ARNs")
        condition = Condition.of(**{name: words.get(name) for name in CONDITION_WORDS})
        return cls(queues, condition, _rule(condition, words))

    @property
    def asks_age(self) -> bool:
        return self.condition.oldest_older_than is not None

    def told(self, depths: Sequence[Depth]) -> dict[str, Any]:
        """What was seen, as JSON; with a rule, how many tasks a burst would launch and why (nothing of ours lives)."""
        said: dict[str, Any] = {"readings": [_reading(depth, self.asks_age) for depth in depths]}
        said |= {name: sum(getattr(d, name) for d in depths) for name in ("visible", "in_flight", "delayed")}
        return said | ({"size": size(depths, self.rule, Live()).to_dict()} if self.rule else {})

    def in_words(self, look: Look, streak: int) -> str:
        """One line; the same line as long as nothing has changed, so that a log can leave repetitions out."""
        if isinstance(look, Unread):
            return f"{look}; looking again"
        seen = "; ".join(map(str, look)) + (_ages(look) if self.asks_age else "")
        needed = self.condition.consecutive
        if streak >= needed:
            return f"{seen}: {self.condition}"
        counted = f" ({streak} of {needed} readings in a row)" if needed > 1 else ""
        return f"{seen}: waiting for {self.condition}{counted}"


def _rule(condition: Condition, words: Mapping[str, Any]) -> Rule | None:
    """None where no word of it is given."""
    given = {name: words.get(name) for name in COUNT_WORDS}
    if all(value in (None, "") for value in given.values()):
        return None
    counted = {"count_in_flight": condition.count_in_flight, "count_delayed": condition.count_delayed}
    return rule_of({**given, **counted})


def plain(value: Any) -> Any:
    """A word as a database keeps it: seconds, lists, and what is plain already."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    return list(value) if isinstance(value, tuple | set | frozenset) else value


def _reading(depth: Depth, aged: bool) -> dict[str, Any]:
    said: dict[str, Any] = {name: getattr(depth, name) for name in ("queue", "visible", "in_flight", "delayed")}
    said["at"] = depth.at.isoformat() if depth.at else None
    return said | ({"oldest_seconds": depth.oldest_seconds} if aged else {})


def _ages(depths: Sequence[Depth]) -> str:
    """To the minute, as CloudWatch tells them: a line for each second would be a line for each look."""
    known = [depth.oldest_seconds for depth in depths if depth.oldest_seconds is not None]
    return f", oldest {max(known) // 60:.0f} min" if known else ", no oldest message known"


@dataclass(frozen=True)
class Waiting:
    """What a wait remembers from look to look: since when it waits, what held in a row, and what it said last."""

    since: datetime
    streak: int = 0
    said: str = ""
    looked: datetime | None = None

    def after(self, question: Question, look: Look, now: datetime) -> Waiting:
        streak = question.condition.after(self.streak, look)
        return replace(self, streak=streak, said=question.in_words(look, streak), looked=now)

    def resumed(self, now: datetime, within: timedelta) -> Waiting:
        """As it goes on elsewhere. What was read longer ago than that is in no row with the next reading."""
        late = self.looked is not None and now - self.looked > within
        return replace(self, streak=0) if late else self

    def is_over(self, question: Question) -> bool:
        return self.streak >= question.condition.consecutive

    def seconds(self, now: datetime) -> float:
        return (now - self.since).total_seconds()

    def to_dict(self) -> dict[str, Any]:
        looked = self.looked.isoformat() if self.looked else None
        return {"since": self.since.isoformat(), "streak": self.streak, "said": self.said, "looked": looked}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Waiting:
        looked = datetime.fromisoformat(said["looked"]) if said.get("looked") else None
        return cls(datetime.fromisoformat(said["since"]), said.get("streak", 0), said.get("said", ""), looked)
