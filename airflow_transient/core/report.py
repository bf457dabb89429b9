"""How launches ended, in the rows of a message to a person. No clock, no network.

What is not known is left out. Nothing of what a job was given (its command, its environment) is told; what it wrote
itself is: its log's end, which `mask` has to clear of secrets before it is cut.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_transient.core.images.plan import is_image
from airflow_transient.core.launch import Launch
from airflow_transient.core.message import Part, Report, as_subject, cut, fitting, plain
from airflow_transient.core.rows import UNITS
from airflow_transient.core.verdict import SEVERITY, WHAT_NEXT, WHAT_NEXT_FOR, Outcome

VALUE_LIMIT, LOG_LIMIT = 1000, 6000
#: So many launches of one run are told one by one, so many members of one launch, so many ids of those.
LAUNCHES_TOLD, MEMBERS_TOLD, IDS_TOLD = 20, 5, 5
#: What workers count -> in words.
MESSAGES = {
    "processed": "processed",
    "failed": "tries failed",
    "dead_lettered": "dead-lettered",
    "interrupted": "interrupted",
}
#: What the state of a task adds to how its launch ended.
STATES: dict[str | None, str] = {
    "up_for_retry": "another try follows",
    "skipped": "its task is skipped",
}
NO_VERDICT = "nobody waited for its end: its task was marked by hand, or ended before"
NOT_ASKED = "not known here"
_SEVERITY = {outcome.value: rank for rank, outcome in enumerate(SEVERITY)}

#: (what it is, what is to be said of it)
Rows = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Told:
    """
    One task, and as much as is known of its launch.

    :param state: of the task, in Airflow's words; None: not known.
    :param verdict: as in the XCom `return_value`, or `verdict` of a task that failed; empty: there is none.
    :param error: why the task failed, in one sentence.
    :param cost: in words.
    :param links: (name, address).
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int | None = None
    state: str | None = None
    launch: Launch | None = None
    verdict: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    cost: str | None = None
    links: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.dag_id}.{self.task_id}" + (f"[{self.map_index}]" if self.map_index >= 0 else "")

    @property
    def outcome(self) -> str:
        """The verdict's; without one, as good or bad as the task."""
        if said := self.verdict.get("outcome"):
            return str(said)
        if self.error or self.state in ("failed", "up_for_retry", "upstream_failed"):
            return Outcome.FAILED.value
        return Outcome.SUCCEEDED.value if self.state == "success" else self.state or "unknown"

    @property
    def rank(self) -> int:
        """The worst first; between what failed and what succeeded, whatever we have no word for."""
        return _SEVERITY.get(self.outcome, len(SEVERITY) - 1)

    @property
    def failed(self) -> list[Mapping[str, Any]]:
        return _dicts(self.verdict.get("failed"))

    @property
    def members(self) -> list[Mapping[str, Any]]:
        """Those that speak for it: the worst that failed, else those that there are."""
        return self.failed or _dicts(self.verdict.get("members"))


Mask = Callable[[str], str]


def of_task(told: Told, mask: Mask = str) -> Report:
    """The report of one task."""
    how = " ".join(filter(None, (_how(told), f"({STATES[told.state]})" if told.state in STATES else "")))
    subject = f"{how}: {told.name}{_where(told)}"
    return Report(told.outcome, as_subject(mask(subject)), (_part(told, mask),))


def of_run(
    dag_id: str, run_id: str, ending: str, reason: str | None, each: Sequence[Told] | None, mask: Mask = str
) -> Report:
    """
    The report of a DAG run, the worst of its launches first.

    :param ending: "failed", "succeeded" or "ended".
    :param each: the tasks that launched, or were to; None: nobody could say which.
    """
    worst_first = sorted(each or (), key=lambda told: told.rank)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in Counter(t.outcome for t in worst_first).items())
    counts = counts or ("none" if each is not None else NOT_ASKED)
    rows = [("run", run_id), ("reason", reason or ""), ("launches", counts)]
    head = Part(plain(mask(f"DAG {dag_id}: {ending}")), _bounded(rows, mask))
    parts = fitting([head, *(_part(told, mask) for told in worst_first[:LAUNCHES_TOLD])], len(worst_first))
    return Report(ending, as_subject(mask(f"{ending}: DAG {dag_id}, launches: {counts}")), parts)


def _part(told: Told, mask: Mask) -> Part:
    return Part(f"{plain(mask(told.name))}: {told.outcome}", _bounded(_rows(told, mask), mask), _log(told, mask))


def _bounded(rows: Rows | Sequence[tuple[str, str]], mask: Mask) -> tuple[tuple[str, str], ...]:
    """Masked before it is cut: half a secret is not known to the masker."""
    return tuple((name, cut(plain(mask(value)), VALUE_LIMIT)) for name, value in rows if value)


# --- one launch


def _rows(told: Told, mask: Mask) -> Rows:
    yield "run", told.run_id
    yield "try", f"{told.try_number or ''}"
    yield "task", STATES.get(told.state, "" if told.verdict else told.state or "")
    yield from _ending(told, mask)
    if told.launch:
        yield from _place(told, told.launch)
    yield "up", _up(told)
    yield "cost", told.cost or ""
    if told.launch:
        yield from _where_the_log_is(told, told.launch)
    yield "what next", _what_next(told)
    yield from told.links


def _ending(told: Told, mask: Mask) -> Rows:
    said, members = told.verdict, told.members
    if sum(_counts(said).values()) > 1:
        yield "members", ", ".join(f"{count} {outcome}" for outcome, count in _counts(said).items())
    yield "messages", _messages(said)
    if len(told.failed) > 1:
        for member in told.failed[:MEMBERS_TOLD]:
            words = ": ".join(str(member.get(name) or "") for name in ("id", "outcome", "evidence"))
            yield str(UNITS.get(str(said.get("kind")), "member")), cut(mask(words), 300)
    elif members:
        yield "evidence", str(members[0].get("evidence") or "")
    yield "exit code", _exit_codes(said)
    yield "signal", str(said.get("signal") or "")
    yield "result", str(said.get("result_error") or "")
    if said.get("image_id"):
        yield "image", f"{said['image_id']} ({said.get('name')}){' as before' if said.get('reused') else ''}"
    if not said:
        yield "error", told.error or ("" if told.state in ("success", "up_for_retry") else _unwaited(told))


def _messages(said: Mapping[str, Any]) -> str:
    """Of a queue's workers: what they did with its messages."""
    tally = said.get("messages")
    counts = {name: tally.get(name) for name in MESSAGES} if isinstance(tally, Mapping) else {}
    return ", ".join(f"{count} {MESSAGES[name]}" for name, count in counts.items() if isinstance(count, int))


def _unwaited(told: Told) -> str:
    return NO_VERDICT if told.launch else "nothing was launched"


def _exit_codes(said: Mapping[str, Any]) -> str:
    """Of one member its code, of many how often each came."""
    tally = said.get("exit_codes")
    if isinstance(tally, Mapping) and sum(_int(count) for count in tally.values()) > 1:
        return ", ".join(f"{code} ({count} of them)" for code, count in list(tally.items())[:20])
    code = said.get("exit_code")
    return "" if code is None else str(code)


def _place(told: Told, launch: Launch) -> Rows:
    count = f"{len(launch.ids)}: " if len(launch.ids) > 1 else ""
    unit = UNITS.get(launch.kind, "member") + ("s" if len(launch.ids) > 1 else "")
    more = f" and {len(launch.ids) - IDS_TOLD} more" if len(launch.ids) > IDS_TOLD else ""
    types = sorted({str(m["instance_type"]) for m in told.members if m.get("instance_type")})
    yield unit, f"{count}{', '.join(launch.ids[:IDS_TOLD])}{more}" + (f" ({', '.join(types)})" if types else "")
    yield "region", launch.region
    yield "cluster", launch.ecs.cluster if launch.ecs else ""
    yield "group", launch.group.name if launch.group else ""
    yield "public IP", ", ".join(str(m["public_ip"]) for m in told.members[:IDS_TOLD] if m.get("public_ip"))
    if not told.verdict:
        yield "deadline", f"{launch.deadline:%Y-%m-%d %H:%M:%S} UTC; then whatever still runs of it is ended"


def _up(told: Told) -> str:
    """From the first that was launched to the last that ended."""
    launched, ended = (_moment(told.verdict.get(name)) for name in ("launched", "ended"))
    if not launched or not ended:
        return ""
    billed = _int(told.verdict.get("billed_seconds"))
    return f"{in_words(ended - launched)} ({launched:%Y-%m-%d %H:%M:%S} to {ended:%H:%M:%S} UTC)" + (
        f", {billed:,} s billed" if billed else ""
    )


def _where_the_log_is(told: Told, launch: Launch) -> Rows:
    yield "log", str(told.verdict.get("log") or "")
    if command := log_command(launch, str(told.members[0].get("id") or "") if told.members else ""):
        yield "to read it", shlex.join(command)


def log_command(launch: Launch, member: str = "") -> tuple[str, ...]:
    """How to look at a member's log from a shell; empty where AWS keeps none.

    :param member: default: the launch's first.
    """
    one = member or next(iter(launch.ids), "")
    if not one or is_image(one):
        return ()
    if launch.ecs:
        place = next(iter(launch.ecs.logs), None)
        if place is None:
            return ()
        where = ("--log-group-name", place.group, "--log-stream-name", place.stream(one), "--region", place.region)
        return ("aws", "logs", "get-log-events", *where, "--query", "events[].message", "--output", "text")
    if launch.receipts:
        return ("aws", "s3", "cp", launch.receipt_key(one, "job.log"), "-", "--region", launch.region)
    return ("aws", "ec2", "get-console-output", "--instance-id", one, "--region", launch.region, "--output", "text")


def _what_next(told: Told) -> str:
    try:
        outcome = Outcome(told.verdict.get("outcome"))
    except ValueError:
        return ""
    return WHAT_NEXT_FOR.get((str(told.verdict.get("kind")), outcome), WHAT_NEXT.get(outcome, ""))


def _log(told: Told, mask: Mask) -> str:
    """The end of the log of the worst that has one; its last lines are what is kept."""
    tails = [m["log_tail"] for m in told.failed if isinstance(m.get("log_tail"), list | tuple) and m["log_tail"]]
    lines = "\n".join(map(str, tails[0])) if tails else ""
    return plain(mask(lines)).encode()[-LOG_LIMIT:].decode(errors="ignore")


# --- words


def _how(told: Told) -> str:
    """Such as "failed, exit 3", or "failed (2 of 60)"."""
    counts = _counts(told.verdict)
    if (total := sum(counts.values())) > 1:
        good = counts.get(Outcome.SUCCEEDED.value, 0)
        return f"{told.outcome} ({good if told.outcome == Outcome.SUCCEEDED.value else total - good} of {total})"
    code = told.verdict.get("exit_code")
    return f"{told.outcome}, exit {code}" if code else told.outcome


def _counts(said: Mapping[str, Any]) -> dict[str, int]:
    """How many members came to what."""
    counts = said.get("counts")
    return {str(name): _int(count) for name, count in counts.items()} if isinstance(counts, Mapping) else {}


def _where(told: Told) -> str:
    if not told.launch or not told.launch.ids:
        return ""
    ids = told.launch.ids
    return f", {ids[0] if len(ids) == 1 else f'{len(ids)} members'} in {told.launch.region}"


def in_words(time: timedelta) -> str:
    """As a person says it: "42 s", "4 min 12 s", "2 h 05 min"."""
    seconds = max(0, int(time.total_seconds()))
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds % 60:02} s" if minutes else f"{seconds} s"


def _dicts(said: Any) -> list[Mapping[str, Any]]:
    """Whoever may edit XComs can write anything there."""
    return [one for one in said if isinstance(one, Mapping)] if isinstance(said, list | tuple) else []


def _int(said: Any) -> int:
    return int(said) if isinstance(said, int | float) else 0


def _moment(said: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(said)
    except (TypeError, ValueError):
        return None
