"""How a launch ended: one outcome a member, one verdict a launch. No clock, no network.

A failed look is UNKNOWN, never an ending. "Stopped" is not success: success is a job's own word that it ended with 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from airflow_transient import errors
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import AT_DEADLINE, BY_PERSON, BY_REQUEST, CALLED_OFF, NEVER_BOOTED

#: A stop that AWS has accepted shows within minutes; after that the machine is reported as still there.
STOP_GRACE = timedelta(minutes=10)
#: How long past its deadline a launch is asked for that nobody answers for: expired credentials, a deleted connection.
UNANSWERED = timedelta(hours=24)
#: How many members that did not succeed an XCom tells one by one.
FAILED_TOLD = 20


class Phase(str, Enum):
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"


class Outcome(str, Enum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    BOOT_FAILED = "boot failed"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    CALLED_OFF = "called off"
    OVERDUE = "overdue"
    LOST = "lost"
    UNVERIFIED = "ended-unverified"


ERRORS: dict[Outcome, type[errors.RunError]] = {
    Outcome.FAILED: errors.JobFailed,
    Outcome.BOOT_FAILED: errors.BootFailed,
    Outcome.INTERRUPTED: errors.Interrupted,
    Outcome.STOPPED: errors.Stopped,
    Outcome.CALLED_OFF: errors.Stopped,
    Outcome.OVERDUE: errors.Overdue,
    Outcome.LOST: errors.Lost,
    Outcome.UNVERIFIED: errors.Unverified,
}

#: Worst first: the outcome of a launch is the worst of its members'. What was called off was so for another's sake.
SEVERITY = (
    Outcome.LOST,
    Outcome.OVERDUE,
    Outcome.STOPPED,
    Outcome.FAILED,
    Outcome.BOOT_FAILED,
    Outcome.INTERRUPTED,
    Outcome.UNVERIFIED,
    Outcome.CALLED_OFF,
    Outcome.SUCCEEDED,
)

#: Why we stopped it ourselves -> what that was.
MARKS: dict[str | None, Outcome] = {
    BY_REQUEST: Outcome.STOPPED,
    BY_PERSON: Outcome.STOPPED,
    AT_DEADLINE: Outcome.OVERDUE,
    NEVER_BOOTED: Outcome.BOOT_FAILED,
    CALLED_OFF: Outcome.CALLED_OFF,
}

WHAT_NEXT: dict[Outcome, str] = {
    Outcome.FAILED: "Read the job's log.",
    Outcome.BOOT_FAILED: "The job was never reached: the reason above says whose move it is.",
    Outcome.INTERRUPTED: "AWS took the machine back; another try starts anew.",
    Outcome.STOPPED: "Somebody ended it: Airflow's audit log knows who, or CloudTrail if it was through AWS's API.",
    Outcome.CALLED_OFF: "It was stopped because another member had failed.",
    Outcome.OVERDUE: "Raise max_runtime, or find out what the job was waiting for.",
    Outcome.LOST: "Nobody can say how the job ended.",
    Outcome.UNVERIFIED: (
        "Nobody can say how the job ended: give command or script, which leaves a receipt, or trust_shutdown=True."
    ),
}
#: What one kind of launch has to add to that.
WHAT_NEXT_FOR: dict[tuple[str, Outcome], str] = {
    ("ec2", Outcome.BOOT_FAILED): (
        "Read the console: the image, its cloud-init or a limit of the account kept it from the job."
    ),
    ("asg", Outcome.BOOT_FAILED): (
        "Read the console: the group's image, its cloud-init or a limit of the account kept it from the job."
    ),
    ("ec2", Outcome.LOST): "Nobody can say how the job ended: give `results`, so that it can leave a receipt.",
    ("image", Outcome.BOOT_FAILED): (
        "Read the console: the base image, its cloud-init or a limit of the account kept it from the script."
    ),
    ("image", Outcome.LOST): "Nothing is left of it; another try builds anew.",
    ("image", Outcome.OVERDUE): "Raise max_runtime or image_timeout, or find out what it was waiting for.",
}
#: The kinds whose jobs leave receipts, and may hand back a result with them.
REPORTING = frozenset({"ec2", "asg"})


@dataclass(frozen=True)
class Sighting:
    """
    One look at one member. `note` says what could not be seen, `reason` is AWS's code for its end, `stopped_by` the
    mark that one of us left when stopping it. `absent`: AWS answered and does not know it, which it does of what is too
    new and of what ended an hour ago, as far as one waiting process has seen since `absent_since`; without it, UNKNOWN
    is a look that failed. `unread`: AWS answered, and what its job has left is read at a later look.
    """

    member: str
    phase: Phase
    state: str = ""
    reason: str | None = None
    launched: datetime | None = None
    ended: datetime | None = None
    stopped_by: str | None = None
    absent: bool = False
    absent_since: datetime | None = None
    note: str | None = None
    unread: bool = False


@dataclass(frozen=True)
class Member:
    """
    How one member ended, and the evidence in one line.

    `exit_codes` are an ECS task's, container by container. `missed` is how much of the world speaks against launching
    it elsewhere, where AWS never started it or took it back: a member that may be replaced.
    """

    id: str
    outcome: Outcome
    evidence: str = ""
    exit_code: int | None = None
    signal: str | None = None
    launched: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    billed_seconds: int = 0
    result: Any = None
    result_error: str | None = None
    instance_type: str | None = None
    public_ip: str | None = None
    capacity: str | None = None
    exit_codes: Mapping[str, int | None] | None = None
    missed: Scope | None = None

    def to_dict(self) -> dict[str, Any]:
        said = asdict(self) | {"outcome": self.outcome.value, "missed": self.missed and self.missed.value}
        for name in ("launched", "started", "ended"):
            moment = getattr(self, name)
            said[name] = moment.isoformat() if moment else None
        for name in ("instance_type", "public_ip", "capacity", "exit_codes", "missed"):
            if said[name] is None:
                del said[name]
        if self.result_error:
            del said["result"]  # "result unavailable" must never read as a null result
        return said

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Member:
        known = {name: said[name] for name in cls.__dataclass_fields__ if name in said}
        for name in ("launched", "started", "ended"):
            known[name] = datetime.fromisoformat(known[name]) if known.get(name) else None
        missed = Scope(known["missed"]) if known.get("missed") else None
        return cls(**known | {"outcome": Outcome(known["outcome"]), "missed": missed})


@dataclass(frozen=True)
class Verdict:
    """
    How a launch ended. `to_dict` is the XCom a DAG author reads.

    `need` of the members must have succeeded; None: all. `open` are those that still run: then it is what has ended so
    far, written down before AWS forgets it.
    """

    token: str
    members: tuple[Member, ...]
    log: str | None = None
    kind: str = "ec2"
    need: int | None = None
    open: tuple[str, ...] = ()

    @property
    def succeeded(self) -> int:
        return sum(m.outcome is Outcome.SUCCEEDED for m in self.members)

    @property
    def enough(self) -> bool:
        return self.succeeded >= (len(self.members) if self.need is None else self.need)

    @property
    def outcome(self) -> Outcome:
        if self.enough:
            return Outcome.SUCCEEDED
        # All that were seen have succeeded, and they are too few: of the others nobody can say.
        return Outcome.LOST if self.worst.outcome is Outcome.SUCCEEDED else self.worst.outcome

    @property
    def worst(self) -> Member:
        return min(self.members, key=lambda m: SEVERITY.index(m.outcome))

    @property
    def _told(self) -> Member:
        """The member that speaks for the launch: the worst, or one that succeeded where enough have."""
        good = [m for m in self.members if m.outcome is Outcome.SUCCEEDED]
        return good[0] if self.enough and good else self.worst

    @property
    def failed(self) -> tuple[Member, ...]:
        """Those that did not succeed, the worst first."""
        bad = [m for m in self.members if m.outcome is not Outcome.SUCCEEDED]
        return tuple(sorted(bad, key=lambda m: SEVERITY.index(m.outcome)))

    def joined(self, earlier: Iterable[Member], need: int | None) -> Verdict:
        """With the members that had ended before, and how many of all must have succeeded."""
        return replace(self, members=(*earlier, *self.members), need=need)

    def to_dict(self) -> dict[str, Any]:
        told = self._told
        said = {
            "outcome": self.outcome.value,
            "exit_code": told.exit_code,
            "signal": told.signal,
            "ids": [m.id for m in self.members if m.id],
            "launched": _iso(min, (m.launched for m in self.members)),
            "started": _iso(min, (m.started for m in self.members)),
            "ended": _iso(max, (m.ended for m in self.members)),
            "billed_seconds": sum(m.billed_seconds for m in self.members),
            "token": self.token,
            "kind": self.kind,
            "log": self.log,
            "need": self.need,
            "counts": dict(Counter(m.outcome.value for m in self.members)),
            "exit_codes": _tally(m.exit_code for m in self.members),
            "failed": [_in_short(m) for m in self.failed[:FAILED_TOLD]],
            "members": [m.to_dict() for m in self.members if m.id],
        }
        if self.open:
            said["open"] = list(self.open)
        if self.kind not in REPORTING:
            return said
        if faults := [m.result_error for m in self.members if m.result_error]:
            said["result_error"] = faults[0]
        else:
            results = [m.result for m in self.members]
            said["result"] = results[0] if len(results) == 1 else results
        return said

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Verdict:
        """Of a dict of this version or an earlier one."""
        members = tuple(map(Member.from_dict, said["members"]))
        rest = tuple(said.get("open", ()))
        return cls(said["token"], members, said.get("log"), said.get("kind", "ec2"), said.get("need"), rest)

    def lines(self) -> list[str]:
        """What the task log says at the end: one line a member, the worst first, ten at most."""
        told = sorted(self.members, key=lambda m: SEVERITY.index(m.outcome))
        rest = [f"… and {len(told) - 10} more"] if len(told) > 10 else []
        return [": ".join(filter(None, (m.id, m.outcome.value, m.evidence))) for m in told[:10]] + rest

    def raise_for_outcome(self) -> Verdict:
        """Return self if as many members succeeded as must; else raise the error of the worst."""
        if self.outcome is Outcome.SUCCEEDED:
            return self
        many = f" ({len(self.failed)} of {len(self.members)} members)" if len(self.members) > 1 else ""
        needed = f", {self.succeeded} succeeded and {self.need} must" if self.need is not None else ""
        log = f" Log: {self.log}" if self.log else ""
        next_move = WHAT_NEXT_FOR.get((self.kind, self.outcome), WHAT_NEXT[self.outcome])
        raise ERRORS[self.outcome](
            f"launch {self.token}: {self.worst.outcome.value}{many}{needed}: {self.worst.evidence} ({self.worst.id}). "
            f"{next_move}{log}"
        )


def _iso(pick: Any, moments: Iterable[datetime | None]) -> str | None:
    known = [m for m in moments if m]
    return pick(known).isoformat() if known else None


def _tally(codes: Iterable[int | None]) -> dict[str, int]:
    """How many members ended with which code, as JSON keys; "none" where there is no code."""
    return dict(Counter("none" if code is None else str(code) for code in codes))


def _in_short(member: Member) -> dict[str, Any]:
    said = {
        "id": member.id,
        "outcome": member.outcome.value,
        "exit_code": member.exit_code,
        "evidence": member.evidence,
    }
    return said | ({"public_ip": member.public_ip} if member.public_ip else {})


def killed(sightings: Iterable[Sighting]) -> bool:
    """Whether one of us ended this launch on request: then it is over, and no verdict for the next try."""
    return any(s.stopped_by == BY_REQUEST for s in sightings)
