"""What a queue's workers came to: the sum of their receipts, how many machines it took, and why each growth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_transient.core.verdict import Member, Outcome

#: The worker's word for it -> ours.
COUNTED = {
    "done": "processed",
    "failed": "failed",
    "dead_lettered": "dead_lettered",
    "interrupted": "interrupted",
    "bytes_in": "bytes_in",
    "bytes_out": "bytes_out",
}
#: Growths in a row after machines that had nothing to show for themselves; then more would not help.
MAX_FRUITLESS = 3
#: What ended a machine without a receipt, and is no sign that it had found nothing to do.
INNOCENT = (Outcome.INTERRUPTED, Outcome.STOPPED)
#: Seconds between two growths beside machines that work, at most, however little came of those before.
LONGEST_PAUSE = 3600.0
#: So many growths are told, the first and the last of them, and so many different problems.
GROWTHS_TOLD, PROBLEMS_TOLD = 100, 5


@dataclass(frozen=True)
class Tally:
    """
    `failed` are tries, `dead_lettered` messages. `unreported`: machines that left no receipt; what they did is in no
    sum. `unread`: those whose receipt may still be found. `since`: how many have ended since the last growth, `fruits`
    what they came to, `idlers` those of them that came to nothing by themselves. `fruitless`: growths in a row while
    nobody worked; `idle`: while somebody did; `refused`: those that brought nobody; `tried`: when the last of them was.
    `stopped`: the mark that somebody left who ended them.
    """

    processed: int = 0
    failed: int = 0
    dead_lettered: int = 0
    interrupted: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    machines: int = 0
    machine_seconds: int = 0
    unreported: int = 0
    growth: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    since: int = 0
    fruits: int = 0
    fruitless: int = 0
    idlers: int = 0
    idle: int = 0
    refused: int = 0
    tried: str | None = None
    stopped: str | None = None

    def ended(self, members: Iterable[Member]) -> Tally:
        """With these; `member.result` is what the worker left."""
        told = self
        for member in members:
            seconds = (member.ended - member.launched).total_seconds() if member.ended and member.launched else 0
            told = replace(
                told,
                machines=told.machines + 1,
                machine_seconds=told.machine_seconds + int(seconds),
                since=told.since + 1,
            )
            told = told.reported(member.result) if is_receipt(member.result) else told._silent(member)
        return told

    def reported(self, receipt: Mapping[str, Any]) -> Tally:
        added = {ours: getattr(self, ours) + _number(receipt.get(theirs)) for theirs, ours in COUNTED.items()}
        fruits = self.fruits + _number(receipt.get("done")) + _number(receipt.get("dead_lettered"))
        told = replace(self, **added, fruits=fruits, idlers=self.idlers + (fruits == self.fruits))
        problem = receipt.get("problem")
        return told._with(str(problem)[:600]) if problem else told

    def found(self, member: str, receipt: Mapping[str, Any]) -> Tally:
        """A receipt that could not be read when its machine ended."""
        unread = tuple(i for i in self.unread if i != member)
        return replace(self.reported(receipt), unread=unread, unreported=self.unreported - 1)

    def _silent(self, member: Member) -> Tally:
        """Of one that ended well nobody says that it did nothing."""
        good = member.outcome is Outcome.SUCCEEDED
        told = replace(
            self,
            unreported=self.unreported + 1,
            unread=(*self.unread, member.id)[-50:],
            fruits=self.fruits + good,
            idlers=self.idlers + (not good and member.outcome not in INNOCENT),
        )
        return told if good else told._with(f"{member.outcome.value}: {member.evidence}"[:600])

    def _with(self, problem: str) -> Tally:
        return self if problem in self.problems else replace(self, problems=(*self.problems, problem)[-PROBLEMS_TOLD:])

    def grown(self, count: int, reason: str, at: str) -> Tally:
        fruitless = self.fruitless if not self.since else 0 if self.fruits else self.fruitless + 1
        told = self._with_growth(count, reason, at)
        return replace(told, since=0, fruits=0, idlers=0, fruitless=fruitless, tried=at)

    def turned_down(self, why: str, at: str) -> Tally:
        """A growth that brought nobody, beside machines that work."""
        told = self._with_growth(0, f"no more came: {why}"[:400], at)
        return replace(told, refused=self.refused + 1, tried=at)

    def answered(self) -> Tally:
        return replace(self, refused=0)

    def weighed(self, at: str) -> Tally:
        """
        Before a growth beside machines that work: what came of those that have ended since the last one.

        SQS counts as visible what nobody can receive, such as all of a FIFO group of which one message is in flight. So
        helpers that found nothing say little of the queue while another works: growth slows down, and does not stop.
        """
        if not self.since:
            return self
        fresh = replace(self, since=0, fruits=0, idlers=0)
        if self.fruits:
            return replace(fresh, idle=0, fruitless=0)
        return replace(fresh, idle=self.idle + 1, tried=at) if self.idlers else fresh

    def _with_growth(self, count: int, reason: str, at: str) -> Tally:
        half = GROWTHS_TOLD // 2
        kept = (*self.growth, {"at": at, "count": count, "reason": reason})
        return replace(self, growth=kept if len(kept) <= GROWTHS_TOLD else kept[:half] + kept[-half:])

    def at_most(self, count: int) -> int:
        """Of so many helpers: half of them after each time that they found nothing, and one at least."""
        return max(1, count >> min(self.idle, 16))

    def not_before(self, interval: float) -> datetime | None:
        """When those who work may get others beside them; None: there is nothing to wait for, or no others ever."""
        poor = self.idle + self.refused + self.fruitless
        if not poor or not self.tried or not self.may_help:
            return None
        pause = min(interval * 2 ** min(poor, 16), max(interval, LONGEST_PAUSE))
        return datetime.fromisoformat(self.tried) + timedelta(seconds=pause)

    @property
    def may_grow(self) -> bool:
        """Not after fruitless growths, nor after a person's stop."""
        return (self.fruits > 0 or self.fruitless < MAX_FRUITLESS) and self.may_help

    @property
    def may_help(self) -> bool:
        return not self.stopped and not self.cannot_work

    @property
    def cannot_work(self) -> bool:
        """Those that ended have done nothing and said why: the next would say the same. (What fails for want of rights
        is counted as failed, too.)"""
        return bool(self.problems) and not self.processed and self.unreported == 0

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), **{name: list(getattr(self, name)) for name in ("growth", "problems", "unread")}}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any] | None) -> Tally:
        known: dict[str, Any] = {name: said[name] for name in cls.__dataclass_fields__ if name in said} if said else {}
        lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        return cls(**known | lists)

    def told(self) -> dict[str, Any]:
        """What an XCom tells of it."""
        hidden = ("unread", "since", "fruits", "fruitless", "idlers", "idle", "refused", "tried", "stopped")
        return {name: value for name, value in self.to_dict().items() if name not in hidden}


def is_receipt(said: Any) -> bool:
    return isinstance(said, Mapping) and isinstance(said.get("done"), int)


def _number(said: Any) -> int:
    return said if isinstance(said, int) and said > 0 else 0
