"""From what was seen of an instance to how it ended, to what should be stopped, and to the wait in words.

"Terminated" is not success: success is a receipt that says exit 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_transient.core.ec2.receipts import UNAVAILABLE, Receipt
from airflow_transient.core.launch import AT_DEADLINE, BY_PERSON, BY_REQUEST, NEVER_BOOTED, Launch
from airflow_transient.core.verdict import MARKS, STOP_GRACE, UNANSWERED, Member, Outcome, Phase, Sighting

#: EC2 bills by the second with a minimum of one minute (Linux, on-demand and spot).
MIN_BILLED = timedelta(seconds=60)
#: The console of an ended instance is posted "shortly after" its end; seen up to minutes in public reports.
CONSOLE_DELAY = timedelta(minutes=3)
TERMINATED = "terminated"
ENDED_STATES = (TERMINATED, "stopped")

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


@dataclass(frozen=True)
class Ec2Sighting(Sighting):
    """
    One look at one instance, and at what its job has left behind. `reason` is its StateReason code. `public_ip`: the
    last that was seen; EC2 tells none of what has ended.
    """

    started: Receipt | None = None
    receipt: Receipt | None = None
    receipt_known: bool = True
    instance_type: str | None = None
    public_ip: str | None = None
    result: Any = None
    result_error: str | None = None
    boot_evidence: str | None = None


def judge_member(launch: Launch, seen: Ec2Sighting, now: datetime) -> Member | None:
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


def to_stop(
    launch: Launch, seen: Sequence[Ec2Sighting], ended: Mapping[str, Member], now: datetime
) -> dict[str, tuple[str, ...]]:
    """Why -> which members should not be there any more. A launch on EC2 ends as a whole."""
    if all(s.member in ended for s in seen):
        # A machine that is stopped and not terminated still costs its disk; a held one is meant to stay.
        there = any(s.phase is not Phase.UNKNOWN and s.state != TERMINATED for s in seen)
        return {AT_DEADLINE: launch.ids} if there and not launch.hold_seconds else {}
    if now >= launch.deadline:
        return {AT_DEADLINE: launch.ids}
    never = any(s.phase is Phase.RUNNING and s.boot_evidence is not None for s in seen)
    return {NEVER_BOOTED: launch.ids} if never else {}


def in_words(launch: Launch, seen: Ec2Sighting, now: datetime) -> str:
    """What the wait for this member is for."""
    over = seen.phase is Phase.ENDED or seen.state in ENDED_STATES
    if seen.phase is Phase.UNKNOWN and not over:
        return f"cannot be seen ({seen.note}); looking again"
    if over:
        return f"{seen.state}" if seen.receipt else f"{seen.state}, waiting for its receipt"
    if now >= launch.deadline:
        return "past its deadline, being stopped"
    if seen.state in ("shutting-down", "stopping"):
        return "shutting down"
    if seen.boot_evidence:
        return f"stopping it: {seen.boot_evidence}"
    if seen.started and seen.started.started:
        return f"running since {seen.started.started:%H:%M:%S} UTC"
    if now > launch.boot_by:
        return "has not said that the job started (no way out of its subnet? a dead form?); waiting for the deadline"
    return "booting" if seen.phase is Phase.RUNNING else "waiting for EC2 to start it"


def _forgotten(seen: Ec2Sighting, receipt: Receipt, now: datetime) -> Member:
    """It ended more than an hour ago, and EC2 has forgotten it: its receipt has not."""
    told = _by_receipt(receipt, seen)
    if told is None:
        told = Outcome.INTERRUPTED, "its machine was shut down under it, and EC2 no longer says by whom"
    return _member(seen, now, *told)


def _held(launch: Launch, seen: Ec2Sighting, now: datetime) -> Member | None:
    """The job has ended badly, and its machine is kept up for a person to look at."""
    told = _by_receipt(seen.receipt, seen) if seen.receipt else None
    if not told or told[0] is Outcome.SUCCEEDED:
        return None
    return _member(seen, now, told[0], f"{told[1]}; its machine is held for {launch.hold_seconds} s to be looked at")


def _not_ended(launch: Launch, seen: Ec2Sighting, now: datetime) -> Member | None:
    if seen.absent and seen.receipt and seen.receipt.final:
        return _forgotten(seen, seen.receipt, now)
    if seen.unread:
        return None  # it may have said how it ended
    answered = seen.phase is not Phase.UNKNOWN or (seen.absent and seen.receipt_known)
    if now < launch.deadline + (STOP_GRACE if answered else UNANSWERED):
        return None
    if seen.phase is Phase.UNKNOWN:
        return _member(seen, now, Outcome.LOST, f"no receipt, and not seen long past its deadline: {seen.note}")
    return _member(
        seen, now, Outcome.OVERDUE, f"stopped at its deadline, but EC2 still says {seen.state}: look at it by hand"
    )


def _told_by_ec2(seen: Ec2Sighting) -> bool:
    """Whether EC2's own word is enough. A spot reclaim may still leave a receipt, so it is waited for as well."""
    return STATE_REASONS.get(seen.reason or "") in (Outcome.STOPPED, Outcome.BOOT_FAILED)


def _by_receipt(receipt: Receipt, seen: Ec2Sighting) -> tuple[Outcome, str] | None:
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


def _exit_words(where: str, receipt: Receipt) -> str:
    how = {"signal": f"killed by {receipt.signal}", "oom-kill": "killed, out of memory"}.get(receipt.cause or "")
    at = f" at {receipt.ended:%H:%M:%S} UTC" if receipt.ended else ""
    return f"{where}: {how or f'exit {receipt.exit_code}'}{at}"


def _by_reason(launch: Launch, seen: Ec2Sighting, now: datetime) -> tuple[Outcome, str]:
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


def _mark_words(seen: Ec2Sighting) -> str:
    words = {
        BY_REQUEST: "stopped by Airflow: the task was killed, cleared or marked",
        BY_PERSON: "stopped by a person, on Airflow's page of what runs",
        AT_DEADLINE: "stopped at its deadline",
        NEVER_BOOTED: f"stopped because it never reached the job: {seen.boot_evidence or 'cloud-init had ended'}",
    }
    return words[seen.stopped_by or BY_REQUEST]


def _member(seen: Ec2Sighting, now: datetime, outcome: Outcome, evidence: str) -> Member:
    receipt = seen.receipt
    ended = seen.ended or (receipt.ended if receipt else None) or now
    return Member(
        id=seen.member,
        outcome=outcome,
        evidence=f"{evidence}; {seen.state or 'not seen'}, {seen.reason}" if receipt and seen.reason else evidence,
        exit_code=receipt.exit_code if receipt else None,
        signal=receipt.signal if receipt else None,
        instance_type=seen.instance_type,
        public_ip=seen.public_ip,
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
