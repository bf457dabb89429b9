"""From what was seen of an ECS task to how it ended, to what should be stopped, and to the wait in words.

STOPPED is not success: success is every deciding container's exit code 0 in a task that ended by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from airflow_transient.core.ecs.failures import fix_for, scope_of_start
from airflow_transient.core.ecs.terms import Terms
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import AT_DEADLINE, BY_PERSON, BY_REQUEST, CALLED_OFF, NEVER_BOOTED, Launch
from airflow_transient.core.verdict import MARKS, STOP_GRACE, UNANSWERED, Member, Outcome, Phase, Sighting

#: Fargate bills from the pull of the image to the end, a minute at least; tasks on instances are not billed.
MIN_BILLED = timedelta(seconds=60)
#: ECS may not know yet what it has just started ("back off up to five minutes"); after that MISSING means forgotten.
UNKNOWN_AFTER = timedelta(minutes=10)
#: So long it must be MISSING at every look: one answer may come from a replica that is behind.
ABSENT_FOR = timedelta(minutes=2)
#: What StopTask is told, and what stoppedReason then says.
STOP_REASON = "airflow_transient: "

#: An exit code over 128 is a signal's, as shells tell it; the names of those that containers die of (Linux).
SIGNALS: dict[int, str] = {
    129: "SIGHUP",
    130: "SIGINT",
    132: "SIGILL",
    134: "SIGABRT",
    135: "SIGBUS",
    136: "SIGFPE",
    137: "SIGKILL",
    139: "SIGSEGV",
    143: "SIGTERM",
}

#: stopCode -> what that was. None: the containers' exit codes decide.
STOP_CODES: dict[str, Outcome | None] = {
    "EssentialContainerExited": None,
    "TaskFailedToStart": Outcome.BOOT_FAILED,
    "UserInitiated": Outcome.STOPPED,
    "ServiceSchedulerInitiated": Outcome.STOPPED,
    "SpotInterruption": Outcome.INTERRUPTED,
    "TerminationNotice": Outcome.INTERRUPTED,
    "InfrastructureHealth": Outcome.INTERRUPTED,
}
#: lastStatus in ECS's order of a task's life (developer guide, "task lifecycle").
PHASES: dict[str, Phase] = {
    "PROVISIONING": Phase.STARTING,
    "PENDING": Phase.STARTING,
    "ACTIVATING": Phase.STARTING,
    "RUNNING": Phase.RUNNING,
    "DEACTIVATING": Phase.RUNNING,
    "STOPPING": Phase.RUNNING,
    "DEPROVISIONING": Phase.RUNNING,
    "STOPPED": Phase.ENDED,
    "DELETED": Phase.ENDED,
}
STATES_IN_WORDS: dict[str, str] = {
    "PROVISIONING": "waiting for capacity",
    "PENDING": "starting",
    "ACTIVATING": "starting",
    "DEACTIVATING": "ending",
    "STOPPING": "ending",
    "DEPROVISIONING": "ending",
}


@dataclass(frozen=True)
class Container:
    name: str
    exit_code: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class EcsSighting(Sighting):
    """One look at one task. `reason` is its stopCode, `detail` its stoppedReason; `stopping`: it is on its way out."""

    started: datetime | None = None
    pulled: datetime | None = None
    detail: str = ""
    containers: tuple[Container, ...] = ()
    capacity: str | None = None
    stopping: bool = False


def judge_member(launch: Launch, seen: EcsSighting, now: datetime) -> Member | None:
    """The verdict table of one task; None: keep waiting."""
    if seen.phase is Phase.ENDED:
        return _ended(_terms(launch), seen, now)
    if seen.absent and now >= launch.asked_at + UNKNOWN_AFTER and now >= (seen.absent_since or now) + ABSENT_FOR:
        words = "ECS no longer knows it, as it does an hour after the end, and nobody saw how it ended"
        return _member(seen, now, Outcome.LOST, words)
    if seen.phase is Phase.UNKNOWN:
        if now < launch.deadline + UNANSWERED:
            return None
        return _member(seen, now, Outcome.LOST, f"not seen long past its deadline: {seen.note}")
    if now < launch.deadline + STOP_GRACE:
        return None
    return _member(seen, now, Outcome.OVERDUE, f"stopped at its deadline, but ECS still says {seen.state}: look at it")


def _terms(launch: Launch) -> Terms:
    if launch.ecs is None:
        raise ValueError(f"launch {launch.token} is not one of ECS tasks")
    return launch.ecs


def _ended(terms: Terms, seen: EcsSighting, now: datetime) -> Member:
    told = MARKS.get(seen.stopped_by) if seen.stopped_by else STOP_CODES.get(seen.reason or "")
    if seen.stopped_by == NEVER_BOOTED:
        return _member(seen, now, Outcome.BOOT_FAILED, _said(seen), missed=Scope.POOL)
    if told is Outcome.BOOT_FAILED:
        return _never_started(seen, now)
    if seen.reason and seen.reason not in STOP_CODES and not any(c.exit_code for c in seen.containers):
        return _member(seen, now, Outcome.LOST, f"{_said(seen)}, which is not known here")
    if told is Outcome.INTERRUPTED or (told is None and _host_went(seen)):
        return _member(seen, now, Outcome.INTERRUPTED, _said(seen), missed=Scope.POOL)
    if told is not None:
        return _member(seen, now, told, _said(seen))
    return _by_exit_codes(terms, seen, now)


def _host_went(seen: EcsSighting) -> bool:
    """ "Host EC2 (instance i-…) terminated." comes without a stopCode of its own."""
    return seen.detail.startswith("Host EC2")


def _never_started(seen: EcsSighting, now: datetime) -> Member:
    reasons = [seen.detail, *(c.reason for c in seen.containers)]
    reason = ": ".join(dict.fromkeys(r for r in reasons if r)) or "AWS gave no reason"
    words = f"never started: {reason}{fix_for(reason)}"
    return _member(seen, now, Outcome.BOOT_FAILED, words, missed=scope_of_start(reason, len(seen.containers)))


def _by_exit_codes(terms: Terms, seen: EcsSighting, now: datetime) -> Member:
    """A sidecar that is killed because the job has ended does not decide; a code that is missing is no success."""
    deciding = [c for c in seen.containers if c.name in terms.deciding]
    bad = [c for c in deciding if c.exit_code]
    if bad:
        return _member(seen, now, Outcome.FAILED, _failed_words(terms, bad, deciding), exit_code=bad[0].exit_code)
    codes = {c.name: c.exit_code for c in deciding}
    silent = [name for name in terms.deciding if codes.get(name) is None]
    if silent or not deciding:
        why = "; ".join(f"{c.name}: {c.reason}{fix_for(c.reason)}" for c in deciding if c.reason)
        told = ", ".join(silent) or "no container"
        return _member(seen, now, Outcome.LOST, f"{told} left no exit code; {_said(seen)}{why and f' ({why})'}")
    return _member(seen, now, Outcome.SUCCEEDED, ", ".join(f"{name} exit 0" for name in codes), exit_code=0)


def _failed_words(terms: Terms, bad: Sequence[Container], deciding: Sequence[Container]) -> str:
    told = "; ".join(_exit_words(c) for c in bad)
    killed_beside = [c for c in bad if c.exit_code in (137, 143) and not c.reason]
    if len(killed_beside) == len(bad) < len(deciding):
        names = ", ".join(c.name for c in killed_beside)
        told += f" - if {names} is a sidecar, make it essential=false, or name the job's own in deciding_containers"
    return told


def _exit_words(container: Container) -> str:
    code = container.exit_code or 0
    signal = f" ({SIGNALS[code]})" if code in SIGNALS else ""
    reason = f": {container.reason}{fix_for(container.reason)}" if container.reason else ""
    return f"{container.name} exit {code}{signal}{reason}"


def _said(seen: EcsSighting) -> str:
    """ECS's own words for the end, or ours where one of us stopped it."""
    words = {
        BY_REQUEST: "stopped by Airflow: the task was killed, cleared or marked",
        BY_PERSON: "stopped by a person, on Airflow's page of what runs",
        AT_DEADLINE: "stopped: it ran longer than max_runtime",
        NEVER_BOOTED: "stopped: it did not start within start_timeout",
        CALLED_OFF: "stopped: the burst could not succeed any more",
    }
    return words.get(seen.stopped_by or "") or f"ECS says {seen.reason or 'no stopCode'}: {seen.detail or 'no reason'}"


def _member(
    seen: EcsSighting,
    now: datetime,
    outcome: Outcome,
    evidence: str,
    exit_code: int | None = None,
    missed: Scope | None = None,
) -> Member:
    codes = {c.name: c.exit_code for c in seen.containers}
    return Member(
        id=seen.member,
        outcome=outcome,
        evidence=evidence,
        exit_code=exit_code,
        signal=SIGNALS.get(exit_code or 0),
        launched=seen.launched,
        started=seen.started,
        ended=seen.ended or now,
        billed_seconds=billed_seconds(seen, seen.ended or now),
        capacity=seen.capacity,
        exit_codes=codes if len(codes) > 1 else None,
        missed=missed,
    )


def billed_seconds(seen: EcsSighting, ended: datetime) -> int:
    """Of a Fargate task; a task on an instance is paid for with the instance."""
    began = seen.pulled or seen.started
    if not began or not (seen.capacity or "").startswith("FARGATE"):
        return 0
    return int(max(ended - began, MIN_BILLED).total_seconds())


def to_stop(
    launch: Launch, seen: Sequence[EcsSighting], ended: Mapping[str, Member], now: datetime
) -> dict[str, tuple[str, ...]]:
    """Why -> which tasks should not be there any more: each for itself, or the rest of a burst that has failed."""
    why: dict[str, tuple[str, ...]] = {}
    up = [s for s in seen if s.member not in ended and not s.stopping and s.phase is not Phase.UNKNOWN]
    called_off = _called_off(launch, ended)
    for sighting in up:
        if reason := _reason_to_stop(launch, sighting, now) or (CALLED_OFF if called_off else None):
            why[reason] = (*why.get(reason, ()), sighting.member)
    return why


def _reason_to_stop(launch: Launch, seen: EcsSighting, now: datetime) -> str | None:
    terms = _terms(launch)
    if now >= launch.deadline:
        return AT_DEADLINE
    if seen.phase is Phase.RUNNING:
        late = seen.started and now >= seen.started + timedelta(seconds=terms.runtime_seconds)
        return AT_DEADLINE if late else None
    late = now >= (seen.launched or launch.asked_at) + timedelta(seconds=terms.start_seconds)
    return NEVER_BOOTED if late else None


def _called_off(launch: Launch, ended: Mapping[str, Member]) -> bool:
    """Whether too few are left to reach what is needed; what AWS took back or never started may yet be replaced."""
    terms = _terms(launch)
    lost = sum(m.outcome is not Outcome.SUCCEEDED and m.missed is None for m in ended.values())
    return terms.stop_on_failure and terms.wanted - lost < terms.need


def in_words(launch: Launch, seen: EcsSighting, now: datetime) -> str:
    """What the wait for this task is for."""
    if seen.phase is Phase.UNKNOWN:
        return f"cannot be seen ({seen.note}); looking again"
    if seen.phase is Phase.ENDED:
        return "ended"
    if seen.stopping or seen.state in ("DEACTIVATING", "STOPPING", "DEPROVISIONING"):
        return "ending"
    if seen.phase is Phase.RUNNING:
        # Where boto3 reads a moment, it is a local one.
        return f"running since {seen.started.astimezone(timezone.utc):%H:%M:%S} UTC" if seen.started else "running"
    return STATES_IN_WORDS.get(seen.state, seen.state.lower())
