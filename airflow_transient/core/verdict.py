"""From what was seen to how the launch ended: no clock, no network.

A failed look is UNKNOWN, never an ending. "Terminated" is not success: success is a receipt that says exit 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from airflow_transient import errors
from airflow_transient.core.launch import AT_DEADLINE, BY_REQUEST, NEVER_BOOTED, Launch
from airflow_transient.core.spec import RESULT_LIMIT

#: EC2 bills by the second with a minimum of one minute (Linux, on-demand and spot).
MIN_BILLED = timedelta(seconds=60)
#: The console of an ended instance is posted "shortly after" its end; seen up to minutes in public reports.
CONSOLE_DELAY = timedelta(minutes=3)
#: A stop that AWS has accepted shows within minutes; after that the machine is reported as still there.
STOP_GRACE = timedelta(minutes=10)
#: How long past its deadline a launch is asked for that nobody answers for: expired credentials, a deleted connection.
UNANSWERED = timedelta(hours=24)


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
    OVERDUE = "overdue"
    LOST = "lost"


ERRORS: dict[Outcome, type[errors.RunError]] = {
    Outcome.FAILED: errors.JobFailed,
    Outcome.BOOT_FAILED: errors.BootFailed,
    Outcome.INTERRUPTED: errors.Interrupted,
    Outcome.STOPPED: errors.Stopped,
    Outcome.OVERDUE: errors.Overdue,
    Outcome.LOST: errors.Lost,
}

#: Worst first: the outcome of a launch is the worst of its members'.
SEVERITY = (
    Outcome.LOST,
    Outcome.OVERDUE,
    Outcome.STOPPED,
    Outcome.FAILED,
    Outcome.BOOT_FAILED,
    Outcome.INTERRUPTED,
    Outcome.SUCCEEDED,
)

#: What EC2 says of an instance that ended, from the StateReason codes in botocore's EC2 model.
#: None: the guest shut itself down, which says nothing about the job.
STATE_REASONS: dict[str, Outcome | None] = {
    "Client.InstanceInitiatedShutdown": None,
    "Client.UserInitiatedShutdown": Outcome.STOPPED,
    "Client.UserInitiatedHibernate": Outcome.STOPPED,
    "Server.SpotInstanceTermination": Outcome.INTERRUPTED,
    "Server.SpotInstanceShutdown": Outcome.INTERRUPTED,
    "Server.SpotInstanceStop": Outcome.INTERRUPTED,
    "Server.InternalError": Outcome.INTERRUPTED,
    "Server.ScheduledStop": Outcome.INTERRUPTED,
    "Server.InsufficientInstanceCapacity": Outcome.BOOT_FAILED,
    "Client.VolumeLimitExceeded": Outcome.BOOT_FAILED,
    "Client.InternalError": Outcome.BOOT_FAILED,
    "Client.InvalidSnapshot.NotFound": Outcome.BOOT_FAILED,
}

#: Why we stopped it ourselves -> what that was.
MARKS: dict[str | None, Outcome] = {
    BY_REQUEST: Outcome.STOPPED,
    AT_DEADLINE: Outcome.OVERDUE,
    NEVER_BOOTED: Outcome.BOOT_FAILED,
}

WHAT_NEXT: dict[Outcome, str] = {
    Outcome.FAILED: "Read the job's log.",
    Outcome.BOOT_FAILED: "Read the console: the image, its cloud-init or a limit of the account kept it from the job.",
    Outcome.INTERRUPTED: "AWS took the machine back; another try starts anew.",
    Outcome.STOPPED: "Somebody ended it with the EC2 API; CloudTrail knows who.",
    Outcome.OVERDUE: "Raise max_runtime, or find out what the job was waiting for.",
    Outcome.LOST: "Nobody can say how the job ended: give `results`, so that it can leave a receipt.",
}


@dataclass(frozen=True)
class Receipt:
    """What a job left behind about its own end, from S3 or from the console.

    `phase`: "started", "end", or "cut" where the machine was shut down under the job.
    `cause`: "exit", "signal", "oom-kill", "overdue", "setup".
    """

    nonce: str
    instance: str
    phase: str
    index: int = 0
    exit_code: int | None = None
    signal: str | None = None
    cause: str | None = None
    note: str | None = None
    booted: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    log_bytes: int | None = None
    result_bytes: int | None = None
    channel: str = ""

    @property
    def final(self) -> bool:
        return self.phase in ("end", "cut")


@dataclass(frozen=True)
class Sighting:
    """
    One look at one member. `note` says what could not be seen, `reason` is EC2's StateReason code, `stopped_by` the
    mark that one of us left when stopping it. `absent`: EC2 answered and does not know it, which it does of what is too
    new and of what ended an hour ago; without it, UNKNOWN is a look that failed.
    """

    member: str
    phase: Phase
    state: str = ""
    reason: str | None = None
    launched: datetime | None = None
    ended: datetime | None = None
    started: Receipt | None = None
    receipt: Receipt | None = None
    receipt_known: bool = True
    instance_type: str | None = None
    result: Any = None
    result_error: str | None = None
    boot_evidence: str | None = None
    stopped_by: str | None = None
    absent: bool = False
    note: str | None = None


@dataclass(frozen=True)
class Member:
    """How one member ended, and the evidence in one line."""

    id: str
    outcome: Outcome
    evidence: str
    exit_code: int | None = None
    signal: str | None = None
    instance_type: str | None = None
    launched: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    billed_seconds: int = 0
    result: Any = None
    result_error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        said = asdict(self) | {"outcome": self.outcome.value}
        for name in ("launched", "started", "ended"):
            moment = getattr(self, name)
            said[name] = moment.isoformat() if moment else None
        if self.result_error:
            del said["result"]  # "result unavailable" must never read as a null result
        return said

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Member:
        known = {name: said[name] for name in cls.__dataclass_fields__ if name in said}
        for name in ("launched", "started", "ended"):
            known[name] = datetime.fromisoformat(known[name]) if known.get(name) else None
        return cls(**known | {"outcome": Outcome(known["outcome"])})


@dataclass(frozen=True)
class Verdict:
    """How a launch ended. `to_dict` is the XCom a DAG author reads."""

    token: str
    members: tuple[Member, ...]
    log: str | None = None

    @property
    def outcome(self) -> Outcome:
        return min((m.outcome for m in self.members), key=SEVERITY.index)

    @property
    def worst(self) -> Member:
        return min(self.members, key=lambda m: SEVERITY.index(m.outcome))

    def to_dict(self) -> dict[str, Any]:
        worst = self.worst
        said = {
            "outcome": self.outcome.value,
            "exit_code": worst.exit_code,
            "signal": worst.signal,
            "ids": [m.id for m in self.members],
            "launched": _iso(min, (m.launched for m in self.members)),
            "started": _iso(min, (m.started for m in self.members)),
            "ended": _iso(max, (m.ended for m in self.members)),
            "billed_seconds": sum(m.billed_seconds for m in self.members),
            "token": self.token,
            "log": self.log,
            "members": [m.to_dict() for m in self.members],
        }
        if faults := [m.result_error for m in self.members if m.result_error]:
            said["result_error"] = faults[0]
        else:
            results = [m.result for m in self.members]
            said["result"] = results[0] if len(results) == 1 else results
        return said

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Verdict:
        return cls(said["token"], tuple(map(Member.from_dict, said["members"])), said.get("log"))

    def lines(self) -> list[str]:
        """What the task log says at the end: one line a member, the worst first, ten at most."""
        told = sorted(self.members, key=lambda m: SEVERITY.index(m.outcome))
        rest = [f"… and {len(told) - 10} more"] if len(told) > 10 else []
        return [f"{m.id}: {m.outcome.value}: {m.evidence}" for m in told[:10]] + rest

    def raise_for_outcome(self) -> Verdict:
        """Return self if every member succeeded; else raise the error of the worst."""
        if self.outcome is Outcome.SUCCEEDED:
            return self
        bad = [m for m in self.members if m.outcome is not Outcome.SUCCEEDED]
        many = f" ({len(bad)} of {len(self.members)} members)" if len(self.members) > 1 else ""
        log = f" Log: {self.log}" if self.log else ""
        raise ERRORS[self.outcome](
            f"launch {self.token}: {self.worst.id} {self.outcome.value}{many}: {self.worst.evidence}. "
            f"{WHAT_NEXT[self.outcome]}{log}"
        )


def _iso(pick: Any, moments: Iterable[datetime | None]) -> str | None:
    known = [m for m in moments if m]
    return pick(known).isoformat() if known else None


def judge(launch: Launch, sightings: Iterable[Sighting], now: datetime) -> Verdict | None:
    """How the launch ended, or None: keep waiting. Every member must have ended, or be past all hope."""
    members = [judge_member(launch, sighting, now) for sighting in sightings]
    if not members or not all(members):
        return None
    verdict = Verdict(launch.token, tuple(m for m in members if m))
    return replace(verdict, log=launch.receipt_key(verdict.worst.id, "job.log")) if launch.receipts else verdict


def judge_member(launch: Launch, seen: Sighting, now: datetime) -> Member | None:
    """The verdict table of one member; None: keep waiting."""
    if seen.phase is not Phase.ENDED:
        if launch.hold_seconds and seen.receipt and seen.receipt.phase == "end":
            return _held(launch, seen, now)
        return _not_ended(launch, seen, now)
    if seen.receipt and (told := _by_receipt(seen.receipt, seen)):
        return _member(seen, now, *told)
    if not seen.receipt and now < (seen.ended or now) + CONSOLE_DELAY and not _told_by_ec2(seen):
        return None  # the console is posted late; the receipt may still come
    if not seen.receipt and not seen.receipt_known and now < launch.deadline + STOP_GRACE:
        return None  # the bucket could not be read: that is no answer
    return _member(seen, now, *_by_reason(launch, seen, now))


def _forgotten(seen: Sighting, receipt: Receipt, now: datetime) -> Member:
    """It ended more than an hour ago, and EC2 has forgotten it: its receipt has not."""
    told = _by_receipt(receipt, seen)
    if told is None:
        told = Outcome.INTERRUPTED, "its machine was shut down under it, and EC2 no longer says by whom"
    return _member(seen, now, *told)


def _held(launch: Launch, seen: Sighting, now: datetime) -> Member | None:
    """The job has ended badly, and its machine is kept up for a person to look at."""
    told = _by_receipt(seen.receipt, seen) if seen.receipt else None
    if not told or told[0] is Outcome.SUCCEEDED:
        return None
    return _member(seen, now, told[0], f"{told[1]}; its machine is held for {launch.hold_seconds} s to be looked at")


def _not_ended(launch: Launch, seen: Sighting, now: datetime) -> Member | None:
    if seen.absent and seen.receipt and seen.receipt.final:
        return _forgotten(seen, seen.receipt, now)
    if now < launch.deadline + (STOP_GRACE if seen.absent or seen.phase is not Phase.UNKNOWN else UNANSWERED):
        return None
    if seen.phase is Phase.UNKNOWN:
        return _member(seen, now, Outcome.LOST, f"no receipt, and not seen long past its deadline: {seen.note}")
    return _member(
        seen, now, Outcome.OVERDUE, f"stopped at its deadline, but EC2 still says {seen.state}: look at it by hand"
    )


def killed(sightings: Iterable[Sighting]) -> bool:
    """Whether one of us ended this launch on request: then it is over, and no verdict for the next try."""
    return any(s.stopped_by == BY_REQUEST for s in sightings)


def _told_by_ec2(seen: Sighting) -> bool:
    """Whether EC2's own word is enough. A spot reclaim may still leave a receipt, so it is waited for as well."""
    return STATE_REASONS.get(seen.reason or "") in (Outcome.STOPPED, Outcome.BOOT_FAILED)


def _by_receipt(receipt: Receipt, seen: Sighting) -> tuple[Outcome, str] | None:
    """What the receipt decides; None where the machine was cut down and EC2's reason decides."""
    where = f"receipt from the {receipt.channel}"
    if receipt.cause == "overdue":
        return Outcome.OVERDUE, f"{where}: outlived max_runtime and was stopped by its own timer"
    if receipt.cause == "setup":
        return Outcome.BOOT_FAILED, f"{where}: {receipt.note or 'the job could not be set up'}"
    own_end = STATE_REASONS.get(seen.reason or "", Outcome.LOST) is None
    if receipt.phase == "cut" and not (own_end and receipt.exit_code == 0):
        return (Outcome.FAILED, _exit_words(where, receipt)) if own_end else None
    if receipt.exit_code == 0:
        fault = seen.result_error if seen.result_error and not seen.result_error.startswith(UNAVAILABLE) else None
        if fault:
            return Outcome.FAILED, f"{where}: exit 0, but {fault}"
        return Outcome.SUCCEEDED, _exit_words(where, receipt)
    return Outcome.FAILED, _exit_words(where, receipt)


#: The start of a result error that is not the job's fault.
UNAVAILABLE = "result unavailable"


def _exit_words(where: str, receipt: Receipt) -> str:
    how = {"signal": f"killed by {receipt.signal}", "oom-kill": "killed, out of memory"}.get(receipt.cause or "")
    at = f" at {receipt.ended:%H:%M:%S} UTC" if receipt.ended else ""
    return f"{where}: {how or f'exit {receipt.exit_code}'}{at}"


def _by_reason(launch: Launch, seen: Sighting, now: datetime) -> tuple[Outcome, str]:
    """No receipt decides: EC2's reason does, and where it says nothing, the job is lost."""
    outcome = STATE_REASONS.get(seen.reason or "", Outcome.LOST)
    if outcome is Outcome.STOPPED and seen.stopped_by in MARKS:
        return MARKS[seen.stopped_by], _mark_words(seen)
    said = f"no receipt of an end; EC2 says {seen.state}, {seen.reason or 'no reason'}"
    if outcome is Outcome.STOPPED and (seen.ended or now) >= launch.deadline:
        return Outcome.OVERDUE, f"{said}, after its deadline"
    # We stop a machine that never boots, after boot_by; somebody who stops it earlier leaves the same console.
    stopped_by_us = outcome is Outcome.STOPPED and (seen.ended or now) >= launch.boot_by
    if seen.boot_evidence and (outcome is None or stopped_by_us):
        return Outcome.BOOT_FAILED, seen.boot_evidence
    return outcome or Outcome.LOST, said


def _mark_words(seen: Sighting) -> str:
    words = {
        BY_REQUEST: "stopped by Airflow: the task was killed, cleared or marked",
        AT_DEADLINE: "stopped at its deadline",
        NEVER_BOOTED: f"stopped because it never reached the job: {seen.boot_evidence or 'cloud-init had ended'}",
    }
    return words[seen.stopped_by or BY_REQUEST]


def _member(seen: Sighting, now: datetime, outcome: Outcome, evidence: str) -> Member:
    receipt = seen.receipt
    ended = seen.ended or (receipt.ended if receipt else None) or now
    return Member(
        id=seen.member,
        outcome=outcome,
        evidence=f"{evidence}; {seen.state or 'not seen'}, {seen.reason}" if receipt and seen.reason else evidence,
        exit_code=receipt.exit_code if receipt else None,
        signal=receipt.signal if receipt else None,
        instance_type=seen.instance_type,
        launched=seen.launched,
        started=receipt.started if receipt else (seen.started.started if seen.started else None),
        ended=ended,
        billed_seconds=billed_seconds(seen.launched, ended),
        result=seen.result,
        result_error=seen.result_error,
    )


def billed_seconds(launched: datetime | None, ended: datetime | None) -> int:
    if not launched or not ended:
        return 0
    return int(max(ended - launched, MIN_BILLED).total_seconds())


_MARKER = re.compile(r"TRANSIENT (\{.*?\})\s*$", re.MULTILINE)
_CLOUD_INIT_END = re.compile(r"Cloud-init v\. \S+ finished at .*")
_CLOUD_INIT_FAULT = re.compile(
    r".*(?:Unhandled non-multipart|Failed to run module scripts[-_]user|Exec format error).*"
)


def parse_receipt(text: str, nonce: str, channel: str) -> Receipt | None:
    """One receipt as JSON; None for what is not ours: broken, of another launch, or of another attempt."""
    try:
        said = json.loads(text)
        if said["nonce"] != nonce:
            return None
        known = {name: said[name] for name in Receipt.__dataclass_fields__ if said.get(name) is not None}
        for name in ("booted", "started", "ended"):
            if name in known:
                known[name] = datetime.fromisoformat(str(known[name]).replace("Z", "+00:00"))
        return Receipt(**known | {"channel": channel})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def receipts_on_console(console: str, nonce: str) -> tuple[Receipt | None, Receipt | None]:
    """(started, end) as the markers on a console tell; the last of each wins, a torn line is passed over."""
    found = [parse_receipt(match[1], nonce, "console") for match in _MARKER.finditer(console.replace("\r", ""))]
    started = [r for r in found if r and r.phase == "started"]
    ended = [r for r in found if r and r.final]
    return (started[-1] if started else None, ended[-1] if ended else None)


def boot_evidence(console: str, nonce: str) -> str | None:
    """Positive evidence that the machine will never reach the job: cloud-init has ended without our marker.

    No marker alone proves nothing: it may be no egress, a dead form, or an instance type whose console is late.
    """
    if f'"{nonce}"' in console:
        return None
    if fault := _CLOUD_INIT_FAULT.search(console):
        return f"cloud-init refused the boot script: {fault[0].strip()[:200]}"
    if end := _CLOUD_INIT_END.search(console):
        return f"cloud-init ended without running the boot script: {end[0].strip()[:200]}"
    return None


def parse_result(data: bytes | None, declared: int | None, address: str) -> tuple[Any, str | None]:
    """(result, what is wrong with it) from what the job wrote to $TRANSIENT_RESULT."""
    if declared is None:
        return None, None
    if declared > RESULT_LIMIT:
        kept = f"it is at {address}" if data is not None else "it was not uploaded"
        return None, f"its result has {declared:,} bytes, over the limit of {RESULT_LIMIT:,}; {kept}"
    if data is None:
        return None, f"{UNAVAILABLE}: the job wrote {declared:,} bytes that could not be read from {address}"
    try:
        return json.loads(data), None
    except ValueError as error:
        return None, f"its result is not JSON ({error}); it is at {address}"
