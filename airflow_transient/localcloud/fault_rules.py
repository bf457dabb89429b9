"""From the faults that were asked for and one call to what becomes of it: no clock, no chance, no network.

Law: among faults that refuse a call the one asked for first wins, and a refused call never loses its answer too.
A fault whose `times` are used up stays listed, with its hits, and does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from airflow_transient.localcloud.errors import FaultError, Refused

PLACE = ("zone", "instance_type", "region", "market")
GUESTS = ("hang", "never-boots", "cloud-init-refuses", "no-network", "disk-full", "out-of-memory")
TASKS = ("never-provisions", "capacity-gives-up", "no-network-interface", "cannot-pull", "interrupted", "host-lost")
RATES = ("calls", "calls_rate", "tasks", "tasks_rate")
REFUSING = ("error", "throttle", "expire_credentials", "bucket_down")


@dataclass(frozen=True)
class Kind:
    """What a fault fakes, in words, and which fields it needs and may have."""

    words: str
    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()


KINDS = {
    "error": Kind("{action} answers {code}", ("action", "code"), ("status", "message", "times", "probability", *PLACE)),
    "lose_answer": Kind("{action} takes effect, and its answer is lost", ("action",), ("times",)),
    "delay": Kind("{action} takes {seconds:g} s longer", ("action", "seconds"), ("times",)),
    "throttle": Kind("{action} is throttled", ("action",), ("times", "disguised")),
    "lag": Kind(
        "a new instance is unknown for {describe_seconds:g} s, and its tags for {tags_seconds:g} s",
        ("describe_seconds", "tags_seconds"),
    ),
    "expire_credentials": Kind("the caller's credentials have expired", (), ("times", "presigned")),
    "capacity": Kind("room for {count} more ({taken} taken)", ("count",), ("taken", *PLACE)),
    "guest": Kind("the next machine: {guest}", ("guest",), ("times",)),
    "console_delay": Kind("GetConsoleOutput is {seconds:g} s behind", ("seconds",)),
    "bucket_down": Kind("every request on s3://{bucket} answers {code}", ("bucket", "code"), ("times",)),
    "task": Kind("the next task: {task}", ("task",), ("times", "seconds", "provider")),
    "task_failures": Kind(
        "RunTask answers failures: {reason}", ("reason",), ("times", "count", "taken", "start", "provider")
    ),
    "task_lag": Kind("a new task is MISSING for {seconds:g} s", ("seconds",)),
    "task_rate": Kind(
        "RunTask has {calls:g} calls, {calls_rate:g} more a second, and {tasks:g} tasks, {tasks_rate:g} more a second",
        ("calls", "calls_rate", "tasks", "tasks_rate"),
    ),
    "sqs_lag": Kind("the counters of queue {queue} are {seconds:g} s old", ("seconds", "queue")),
    "lose_events": Kind("events are lost: {detail_type}", ("detail_type",), ("times", "probability")),
    "duplicate_events": Kind("events arrive twice: {detail_type}", ("detail_type",), ("times", "probability")),
    "delay_events": Kind(
        "events arrive {seconds:g} s later: {detail_type}", ("seconds", "detail_type"), ("times", "probability")
    ),
}
# What each field may hold; a number may be written without its point.
TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("kind", "id", "action", "code", "message", *PLACE, "bucket", "guest"), (str,)),
    **dict.fromkeys(("queue", "detail_type"), (str,)),
    **dict.fromkeys(("task", "reason", "provider"), (str,)),
    **dict.fromkeys(("hits", "status", "times", "count", "taken", "start"), (int,)),
    **dict.fromkeys(("probability", "seconds", "describe_seconds", "tags_seconds"), (int, float)),
    **dict.fromkeys(("calls", "calls_rate", "tasks", "tasks_rate"), (int, float)),
    **dict.fromkeys(("presigned", "disguised"), (bool,)),
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fake. `hits` counts how often it made a difference; `taken` is what a capacity has given away."""

    kind: str
    id: str = ""
    hits: int = 0
    action: str | None = None
    code: str | None = None
    status: int | None = None
    message: str | None = None
    times: int | None = None
    probability: float = 1.0
    zone: str | None = None
    instance_type: str | None = None
    region: str | None = None
    market: str | None = None
    seconds: float | None = None
    describe_seconds: float | None = None
    tags_seconds: float | None = None
    count: int | None = None
    taken: int = 0
    bucket: str | None = None
    guest: str | None = None
    presigned: bool = False
    queue: str | None = None
    detail_type: str | None = None
    task: str | None = None
    reason: str | None = None
    provider: str | None = None
    start: int = 0
    calls: float | None = None
    calls_rate: float | None = None
    tasks: float | None = None
    tasks_rate: float | None = None
    disguised: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FaultError(f"no fault is called {self.kind!r}. Known: {', '.join(KINDS)}")
        _check_fields(self)
        _check_values(self)

    @property
    def spent(self) -> bool:
        return self.times is not None and self.hits >= self.times

    def words(self) -> dict[str, Any]:
        """What was said of it, as JSON holds it."""
        return {name: value for name, value in asdict(self).items() if value != _DEFAULTS[name] or name == "hits"}

    def __str__(self) -> str:
        said = self.words()
        limits = [f"{name}={said[name]}" for name in (*PLACE, "status", "probability", "times") if name in said]
        text = KINDS[self.kind].words.format(**asdict(self))
        limited = f" ({', '.join(limits)})" if limits else ""
        named = f"{self.id}: " if self.id else ""
        return f"{named}fake: {text}{limited}; {self.hits} hits"


_DEFAULTS: dict[str, Any] = {field.name: None if field.default is MISSING else field.default for field in fields(Fault)}


def read(words: Any) -> Fault:
    """A fault as it came over the wire."""
    if not isinstance(words, dict) or "kind" not in words:
        raise FaultError('a fault is a JSON object with a kind: {"kind": "throttle", "action": "DescribeInstances"}')
    if unknown := sorted(set(words) - {*_DEFAULTS, "fake"}):
        raise FaultError(f"no fault has {', '.join(unknown)}. Known: {', '.join(_DEFAULTS)}")
    return Fault(**{name: value for name, value in words.items() if name != "fake"})


def _check_fields(fault: Fault) -> None:
    kind, said = KINDS[fault.kind], {**fault.words(), "kind": fault.kind}
    if missing := [name for name in kind.needs if name not in said]:
        raise FaultError(f"{fault.kind} needs {', '.join(missing)}")
    if extra := sorted(set(said) - {"kind", "id", "hits", *kind.needs, *kind.may}):
        raise FaultError(f"{fault.kind} has no {', '.join(extra)}: it takes {', '.join((*kind.needs, *kind.may))}")
    for name, value in said.items():
        if not isinstance(value, TYPES[name]) or (isinstance(value, bool) and bool not in TYPES[name]):
            raise FaultError(
                f"{name}={value!r}: {fault.kind} wants {' or '.join(t.__name__ for t in TYPES[name])} there"
            )


def _check_values(fault: Fault) -> None:
    if not 0 < fault.probability <= 1:
        raise FaultError(f"probability={fault.probability}: above 0 and at most 1")
    if fault.times is not None and fault.times < 1:
        raise FaultError(f"times={fault.times}: at least 1, or leave it out for every time")
    for name in ("seconds", "describe_seconds", "tags_seconds", "count", "start", *RATES):
        if (getattr(fault, name) or 0) < 0:
            raise FaultError(f"{name}={getattr(fault, name)}: not below 0")
    if fault.guest is not None and fault.guest not in GUESTS:
        raise FaultError(f"no guest does {fault.guest!r}. Known: {', '.join(GUESTS)}")
    if fault.task is not None and fault.task not in TASKS:
        raise FaultError(f"no task does {fault.task!r}. Known: {', '.join(TASKS)}")
    if fault.status is not None and not 400 <= fault.status <= 599:
        raise FaultError(f"status={fault.status}: an error's is 400 to 599")


# --- one call -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One request, as far as faults care. zone, instance_type and market: of RunInstances only."""

    action: str = ""
    service: str = ""
    protocol: str = "ec2"
    region: str = ""
    zone: str = ""
    instance_type: str = ""
    market: str = ""
    bucket: str = ""
    signed: bool = False  # in its Authorization header
    presigned: bool = False
    guest: bool = False


@dataclass(frozen=True)
class Outcome:
    """What becomes of a call: wait so long, then refuse it, or do it and lose the answer, or nothing."""

    delay: float = 0.0
    refused_by: Fault | None = None
    lost_by: Fault | None = None
    hit: tuple[str, ...] = ()


def decide(faults: Iterable[Fault], call: Call, lucky: Callable[[Fault], bool]) -> Outcome:
    """lucky: does this fault strike this time? Asked once, of faults that apply and nothing else prevents."""
    live = [fault for fault in faults if not fault.spent and applies(fault, call)]
    delays = [fault for fault in live if fault.kind == "delay" and lucky(fault)]
    refusing = next((fault for fault in live if fault.kind in REFUSING and lucky(fault)), None)
    losing = next((fault for fault in live if refusing is None and fault.kind == "lose_answer"), None)
    hit = (*delays, *(fault for fault in (refusing, losing) if fault is not None))
    return Outcome(sum(fault.seconds or 0.0 for fault in delays), refusing, losing, tuple(fault.id for fault in hit))


def applies(fault: Fault, call: Call) -> bool:
    if fault.kind == "bucket_down":
        return call.bucket == fault.bucket
    if fault.kind == "expire_credentials":
        return (call.signed and not call.guest) or (call.presigned and fault.presigned)
    if fault.action is None:
        return False
    named = f"{call.service}:{call.action}" if ":" in fault.action else call.action
    return fnmatchcase(named, fault.action) and here(fault, call)


def here(fault: Fault, call: Call) -> bool:
    return all(getattr(fault, name) in (None, getattr(call, name)) for name in PLACE)


# --- one event ----------------------------------------------------------------------------------------------------


def fate(
    faults: Iterable[Fault], detail_type: str, lucky: Callable[[Fault], bool]
) -> tuple[tuple[float, ...], list[str]]:
    """When an event arrives, in seconds from now (never, once or twice), and which faults had their part in it."""
    live = [fault for fault in faults if not fault.spent and fnmatchcase(detail_type, fault.detail_type or "")]
    losing = next((fault for fault in live if fault.kind == "lose_events" and lucky(fault)), None)
    if losing is not None:
        return (), [losing.id]
    delays = [fault for fault in live if fault.kind == "delay_events" and lucky(fault)]
    doubling = next((fault for fault in live if fault.kind == "duplicate_events" and lucky(fault)), None)
    late = sum(fault.seconds or 0.0 for fault in delays)
    hit = [fault.id for fault in (*delays, *([doubling] if doubling else []))]
    return (late, late) if doubling else (late,), hit


# --- one RunTask --------------------------------------------------------------------------------------------------

# Reasons with a sentence for a name: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html
REASONS = {
    "capacity": "Capacity is unavailable at this time. Please try again later or in a different availability zone",
    "vcpus": "You've reached the limit on the number of vCPUs you can run concurrently",
}


def refuse_tasks(faults: Sequence[Fault], pools: Sequence[str]) -> tuple[list[str | None], list[Fault]]:
    """For each task of one call, by the pool it is for: why it does not start, or None; and the faults that changed."""
    reasons: list[str | None] = [None] * len(pools)
    changed = []
    for fault in (each for each in faults if each.kind == "task_failures" and not each.spent):
        mine = [at for at, pool in enumerate(pools) if reasons[at] is None and fault.provider in (None, pool)]
        left = len(mine) if fault.count is None else max(0, fault.count - fault.taken)
        struck = mine[fault.start :][:left]
        for at in struck:
            reasons[at] = REASONS.get(fault.reason or "", fault.reason)
        if struck:
            changed.append(replace(fault, hits=fault.hits + 1, taken=fault.taken + len(struck)))
    return reasons, changed


# --- room -----------------------------------------------------------------------------------------------------------


def give(faults: Sequence[Fault], call: Call, least: int, most: int) -> tuple[int, list[Fault]]:
    """How many instances there is room for, and the faults that changed; 0 refuses the launch."""
    pools = [fault for fault in faults if fault.kind == "capacity" and here(fault, call)]
    room = min([most, *(max(0, (fault.count or 0) - fault.taken) for fault in pools)])
    given = room if room >= least else 0
    short = [fault for fault in pools if (fault.count or 0) - fault.taken < most]
    changed = [replace(fault, taken=fault.taken + given, hits=fault.hits + (fault in short)) for fault in pools]
    return given, changed


def no_room(call: Call) -> Refused:
    """In AWS's words: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html, HTTP 500."""
    if call.market == "spot":
        words = "There is no Spot capacity available that matches your request."
    else:
        words = (
            f"We currently do not have sufficient {call.instance_type} capacity in the Availability Zone you requested "
            f"({call.zone}). Our system will be working on provisioning additional capacity."
        )
    return Refused("InsufficientInstanceCapacity", words, 500)
