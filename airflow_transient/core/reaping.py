"""From what AWS shows of an instance or ECS task and what Airflow says of its task: leave, mark, unmark, or end it.

Law: only what carries our tag. What is past its deadline goes, whosever it is. Anything else goes only where it is this
deployment's, and only when two passes five minutes apart found nobody waiting for it: the first one marks. Airflow is
asked after AWS was listed, so its answer is the younger one; no answer ends nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum

from airflow_transient.core.launch import AT_DEADLINE, BY_REQUEST, MANAGED_BY, TAG_PREFIX, Owner

MANAGED, OWNER = TAG_PREFIX + "managed-by", TAG_PREFIX + "owner"
DEADLINE, HOLD = TAG_PREFIX + "deadline", TAG_PREFIX + "hold-until"
#: A person's "leave it alone": any value, or the epoch second until which.
KEEP = TAG_PREFIX + "keep"
#: In the launch call of what nobody is to wait for: any value. Then its task's end says nothing, its deadline all.
UNATTENDED = TAG_PREFIX + "unattended"
#: In the launch call of a machine that stops because an image is made of it: while its task waits, stopped is well.
BUILDER = TAG_PREFIX + "image-builder"
#: The first pass leaves this on what nobody waits for: the epoch second.
ORPHAN_SINCE = TAG_PREFIX + "orphan-since"

#: The trigger stops a launch at its deadline, and can still read and tell how it ended: it goes first.
DEADLINE_GRACE = timedelta(minutes=10)
#: So far apart are the two passes that end a machine before its deadline.
BETWEEN_PASSES = timedelta(minutes=5)
#: A launch this young may not have reached Airflow's database yet.
YOUNG = timedelta(minutes=2)

#: States in which EC2 still bills something and asks for nobody's help.
LISTED = ("pending", "running", "stopping", "stopped", "shutting-down")
#: States of an instance, then of an ECS task (in capitals), after which there is nothing left to end.
ENDING = frozenset({"shutting-down", "terminated", "DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED", "DELETED"})
#: Task instance states after which nobody waits. Cleared and not yet scheduled is None, and alive.
OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


class Standing(str, Enum):
    """Whether somebody still waits for it."""

    ALIVE = "alive"
    OVER = "over"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Answer:
    """What Airflow says of one task instance."""

    standing: Standing
    words: str

    @classmethod
    def of_state(cls, state: str | None) -> Answer:
        said = str(getattr(state, "value", state or "to be scheduled"))
        return cls(Standing.OVER if said in OVER else Standing.ALIVE, f"its task is {said}")


UNANSWERED = Answer(Standing.UNKNOWN, "Airflow did not say how its task is")
#: 404 counts as over, or what was deleted would run to its deadline (github-aws-runners#4724).
GONE = Answer(Standing.OVER, "its task is gone: the task instance, its run or its DAG was deleted")


@dataclass(frozen=True)
class Found:
    """What AWS shows of one thing that a launch may have started: an instance (`kind` ec2) or an ECS task (ecs)."""

    id: str
    state: str
    launched: datetime
    tags: Mapping[str, str]
    kind: str = "ec2"

    def owner_in(self, deployment: str | None) -> Owner | None:
        """The task instance it was launched for, where this deployment launched it; None where another did.

        Put together from the single tags and compared, not taken apart: AWS's 256 characters may cut the owner tag off.
        """
        dag, run, task, index = (self.tags.get(TAG_PREFIX + name, "") for name in ("dag", "run", "task", "map-index"))
        if not deployment or not re.fullmatch(r"-1|\d{1,9}", index):
            return None
        owner = Owner(deployment, dag, run, task, int(index))
        return owner if str(owner)[:256] == self.tags.get(OWNER) else None


class Act(str, Enum):
    LEAVE = "leave"
    MARK = "mark"
    UNMARK = "unmark"
    TERMINATE = "terminate"
    STOP = "stop"
    DELETE = "delete"
    GIVE_BACK = "give back"


#: AWS's words for the end of each kind.
ENDS: dict[str, Act] = {"ec2": Act.TERMINATE, "ecs": Act.STOP}


@dataclass(frozen=True)
class Decision:
    """What to do with one thing. `told` is the mark that tells the launch's own task why it was stopped."""

    id: str
    act: Act
    reason: str
    told: str | None = None


@dataclass(frozen=True)
class Case:
    """All that a decision needs. `deployment`: ours; None where this Airflow has launched nothing yet."""

    found: Found
    now: datetime
    deployment: str | None
    answer: Answer = UNANSWERED

    @property
    def orphan_since(self) -> datetime | None:
        return moment(self.found.tags, ORPHAN_SINCE)

    def leave(self, reason: str) -> Decision:
        """As it is; a mark of an earlier pass comes off, because somebody speaks for it."""
        act = Act.UNMARK if ORPHAN_SINCE in self.found.tags else Act.LEAVE
        return Decision(self.found.id, act, reason)

    def wait(self, reason: str) -> Decision:
        """As it is, mark included: this look has found out nothing."""
        return Decision(self.found.id, Act.LEAVE, reason)

    def suspect(self, reason: str, told: str | None = None) -> Decision:
        """Nobody speaks for it: mark it, or end it where an earlier pass has marked it long enough ago."""
        since = self.orphan_since
        if since is None:
            return Decision(self.found.id, Act.MARK, reason)
        if self.now - since < BETWEEN_PASSES:
            return self.wait(f"{reason}; marked at {clock(since)}, the next pass decides")
        return self.end(f"{reason}, and was so at {clock(since)}", told)

    def end(self, reason: str, told: str | None) -> Decision:
        return Decision(self.found.id, ENDS[self.found.kind], reason, told)


def decide(case: Case) -> Decision:
    """The first rule that speaks."""
    return next(decision for rule in RULES if (decision := rule(case)))


def owner_to_ask_for(found: Found, now: datetime, deployment: str | None) -> Owner | None:
    """The owner whose task's state would decide; None where the decision stands without it."""
    case = Case(found, now, deployment)
    return found.owner_in(deployment) if next(rule for rule in RULES if rule(case)) is _unanswered else None


def moment(tags: Mapping[str, str], name: str) -> datetime | None:
    """A tag's epoch second; None where there is none, or something else."""
    value = tags.get(name, "")
    return datetime.fromtimestamp(int(value), timezone.utc) if re.fullmatch(r"\d{10,11}", value) else None


def overdue(tags: Mapping[str, str], now: datetime) -> str | None:
    """In words, that the deadline and its grace are over; None while they are not, or where no deadline is told."""
    deadline = moment(tags, DEADLINE)
    return f"past its deadline, {clock(deadline)}" if deadline and now > deadline + DEADLINE_GRACE else None


def kept(tags: Mapping[str, str], now: datetime) -> str | None:
    """In words, that a person asked for it to be left alone."""
    until = moment(tags, KEEP)
    if KEEP not in tags or (until and now >= until):
        return None
    return f"kept on purpose ({KEEP}{f' until {clock(until)}' if until else ''})"


def decide_template(id: str, tags: Mapping[str, str], now: datetime) -> Decision | None:
    """A launch template of ours that outlived its deadline is deleted."""
    if tags.get(MANAGED) != MANAGED_BY or kept(tags, now):
        return None
    reason = overdue(tags, now)
    return Decision(id, Act.DELETE, reason) if reason else None


def leftover(tags: Mapping[str, str], now: datetime) -> str | None:
    """In words, why a volume or network interface that nothing uses is told about. Never deleted: it may hold data."""
    return overdue(tags, now) if tags.get(MANAGED) == MANAGED_BY and not kept(tags, now) else None


def clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


# --- the rules, in the order in which they are asked


def _not_ours(case: Case) -> Decision | None:
    return None if case.found.tags.get(MANAGED) == MANAGED_BY else case.wait("not ours")


def _ending(case: Case) -> Decision | None:
    return case.wait("ending already") if case.found.state in ENDING else None


def _kept(case: Case) -> Decision | None:
    words = kept(case.found.tags, case.now)
    return case.leave(words) if words else None


def _held(case: Case) -> Decision | None:
    until = moment(case.found.tags, HOLD)
    return case.leave(f"may be held to be looked at until {clock(until)}") if until and case.now < until else None


def _young(case: Case) -> Decision | None:
    return case.wait("launched less than two minutes ago") if case.now - case.found.launched < YOUNG else None


def _overdue(case: Case) -> Decision | None:
    words = overdue(case.found.tags, case.now)
    return case.end(words, AT_DEADLINE) if words else None


def _of_another(case: Case) -> Decision | None:
    """Left to its own reaper, or to its deadline."""
    if case.found.owner_in(case.deployment):
        return None
    until = moment(case.found.tags, DEADLINE)
    ends = f"its deadline is {clock(until)}" if until else "IT HAS NO READABLE DEADLINE: nobody will end it"
    owner = case.found.tags.get(OWNER)
    whose = f"not of this deployment (owner {owner})" if owner else "its tags do not tell whose it is"
    return case.wait(f"{whose}; {ends}")


def _stopped(case: Case) -> Decision | None:
    """Stopped is not ended: its volumes are billed, and it can start again. No mark tells its task that it was us."""
    if case.found.state not in ("stopping", "stopped") or BUILDER in case.found.tags:
        return None
    return case.suspect(f"{case.found.state}, not terminated")


def _unattended(case: Case) -> Decision | None:
    """Its task has ended long ago, on purpose. Without a deadline that can be read it is an orphan like any other."""
    until = moment(case.found.tags, DEADLINE)
    if UNATTENDED not in case.found.tags or until is None:
        return None
    return case.leave(f"launched for nobody to wait for; its deadline is {clock(until)}")


def _unanswered(case: Case) -> Decision | None:
    return case.wait(case.answer.words) if case.answer.standing is Standing.UNKNOWN else None


def _waited_for(case: Case) -> Decision | None:
    return case.leave(case.answer.words) if case.answer.standing is Standing.ALIVE else None


def _orphan(case: Case) -> Decision:
    return case.suspect(case.answer.words, BY_REQUEST)


RULES: tuple[Callable[[Case], Decision | None], ...] = (
    _not_ours,
    _ending,
    _kept,
    _held,
    _young,
    _overdue,
    _of_another,
    _stopped,
    _unattended,
    _unanswered,
    _waited_for,
    _orphan,
)
