"""What EC2 shows of machines, and what their jobs have left behind: in the bucket of receipts, else on the console."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from airflow_transient.aws import pacing
from airflow_transient.aws.found import instance_ended, tags_of
from airflow_transient.aws.launcher import FAILURES, ClientFactory, looked, scope_of_error, side_by_side, words_of
from airflow_transient.aws.receipts import ReceiptBox
from airflow_transient.core.cadence import Looked
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.ec2.receipts import (
    UNAVAILABLE,
    Receipt,
    boot_evidence,
    parse_receipt,
    parse_result,
    receipts_on_console,
)
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import STOPPED_BY, Launch
from airflow_transient.core.spec import S3Prefix
from airflow_transient.core.verdict import Phase
from airflow_transient.errors import LaunchError

PHASES: dict[str, Phase] = {
    "pending": Phase.STARTING,
    "running": Phase.RUNNING,
    "shutting-down": Phase.RUNNING,
    "stopping": Phase.RUNNING,
    "stopped": Phase.ENDED,
    "terminated": Phase.ENDED,
}
#: What a post-mortem reads and shows: the log object is at most this long.
LOG_LIMIT, LOG_LINES = 256 * 1024, 20
#: DescribeInstances takes 200 values in one filter.
FILTER_LIMIT = 200
#: Of so many machines in one look S3 is asked for what it need not have yet; so many objects are read at once.
READS_A_LOOK, AT_ONCE = 20, 10
CALLS_AT_ONCE = 4
#: So many members at most are remembered; what is forgotten is read again.
REMEMBERED = 10_000


@dataclass(frozen=True)
class Start:
    """What was read of a running machine's job. `held`: the receipt of a job that left its machine up."""

    started: Receipt | None = None
    held: Receipt | None = None
    boot_evidence: str | None = None
    note: str | None = None


#: One member of one launch.
Pair = tuple[Launch, str]
Key = tuple[str | None, str]


class Looks:
    """
    Looks at the machines of launches. A look that fails is a sighting, too: UNKNOWN, with the reason.

    What a job leaves is read when there is a reason to: its end when the machine has ended, its start while that is not
    known, and for what EC2 does not know. The last two in turns, so that a look at a thousand stays a look. It is
    remembered here, and another process reads it anew without harm.
    """

    def __init__(self, client: ClientFactory) -> None:
        self._client = client
        self._starts: dict[Key, Start] = {}
        self._ends: dict[Key, Ec2Sighting] = {}
        self._read_at: dict[Key, datetime] = {}

    def observe(self, launch: Launch, now: datetime) -> tuple[Ec2Sighting, ...]:
        return self.observe_all((launch,), now).answers[0]

    def observe_all(self, launches: Sequence[Launch], now: datetime) -> Looked[tuple[Ec2Sighting, ...]]:
        ids = tuple(dict.fromkeys(member for launch in launches for member in launch.ids))
        chunks = [ids[start : start + FILTER_LIMIT] for start in range(0, len(ids), FILTER_LIMIT)]
        answers = side_by_side(self._show, chunks, CALLS_AT_ONCE)
        shown = {member: seen for told, _ in answers for member, seen in told.items()}
        pairs = [(launch, member) for launch in launches for member in launch.ids]
        self._forget_if_full()
        self._read_starts([pair for pair in pairs if _phase(shown.get(pair[1])) is Phase.RUNNING], now)
        self._read_ends([pair for pair in pairs if _phase(shown.get(pair[1])) is Phase.ENDED], shown)
        absent = self._look_for([pair for pair in pairs if pair[1] not in shown], now)
        told = [tuple(self._sighting(launch, member, shown, absent) for member in launch.ids) for launch in launches]
        return looked(told, (scope for _, scope in answers if scope))

    def _show(self, ids: tuple[str, ...]) -> tuple[dict[str, Any], Scope | None]:
        """Each instance as EC2 tells it, or a sighting that says why not; what is not there EC2 does not know."""
        try:
            return {i["InstanceId"]: i for i in self.instances(ids)}, None
        except (*FAILURES, LaunchError) as error:
            unseen = {member: Ec2Sighting(member, Phase.UNKNOWN, note=words_of(error)) for member in ids}
            return unseen, scope_of_error(error)

    def _forget_if_full(self) -> None:
        if max(len(self._starts), len(self._ends), len(self._read_at)) > REMEMBERED:
            for kept in (self._starts, self._ends, self._read_at):
                kept.clear()

    def _turn(self, pairs: Iterable[Pair], now: datetime) -> list[Pair]:
        """Those that were read the longest time ago, or never."""
        once = {_key(*pair): pair for pair in pairs}
        keys = sorted(once, key=lambda key: self._read_at[key].timestamp() if key in self._read_at else 0.0)
        turn = keys[:READS_A_LOOK]
        self._read_at |= dict.fromkeys(turn, now)
        return [once[key] for key in turn]

    def _read_starts(self, running: Sequence[Pair], now: datetime) -> None:
        turn = self._turn((pair for pair in running if self._start_is_open(*pair)), now)
        starts = side_by_side(lambda pair: self._start(*pair, now), turn, AT_ONCE)
        self._starts |= {_key(*pair): start for pair, start in zip(turn, starts, strict=True)}

    def _start_is_open(self, launch: Launch, member: str) -> bool:
        known = self._starts.get(_key(launch, member))
        return known is None or known.started is None or (launch.hold_seconds > 0 and known.held is None)

    def _look_for(self, absent: Sequence[Pair], now: datetime) -> dict[Key, Ec2Sighting]:
        turn = self._turn(absent, now)
        return {_key(*pair): seen for pair, seen in zip(turn, side_by_side(self._absent, turn, AT_ONCE), strict=True)}

    def _read_ends(self, ended: Sequence[Pair], shown: Mapping[str, Any]) -> None:
        unread = [pair for pair in ended if _key(*pair) not in self._ends]
        ends = side_by_side(lambda pair: self._end(*pair, shown[pair[1]]), unread, AT_ONCE)
        self._ends |= {_key(*pair): end for pair, end in zip(unread, ends, strict=True)}

    def _absent(self, pair: Pair) -> Ec2Sighting:
        """Too new for EC2, or forgotten by it, an hour after its end: then the receipt is all there is."""
        launch, member = pair
        receipt, note = self._receipt(launch, member), "EC2 does not know it"
        result, fault = self._result(box_of(self._client, launch), launch, member, receipt)
        return Ec2Sighting(
            member, Phase.UNKNOWN, receipt=receipt, result=result, result_error=fault, absent=True, note=note
        )

    def instances(self, ids: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """By filter and not by id: one unknown id fails a call that names it, a filter passes over it."""
        ec2 = self._client("ec2")
        for start in range(0, len(ids), FILTER_LIMIT):
            chunk = list(ids[start : start + FILTER_LIMIT])
            with pacing.paced(ec2, "looks at EC2", scope_of_error):
                yield from describe(ec2, [{"Name": "instance-id", "Values": chunk}])

    def _sighting(
        self, launch: Launch, member: str, shown: Mapping[str, Any], absent: Mapping[Key, Ec2Sighting]
    ) -> Ec2Sighting:
        instance, key = shown.get(member), _key(launch, member)
        if isinstance(instance, Ec2Sighting):
            return instance
        if instance is None:  # "absent" is only said of what was looked for
            return absent.get(key, Ec2Sighting(member, Phase.UNKNOWN, note="its receipt is read in turn"))
        phase, common = PHASES.get(instance["State"]["Name"], Phase.UNKNOWN), _common(instance)
        if phase is Phase.ENDED:
            self._starts.pop(key, None)
            # Kept for the other members' sake; what may still get a last word is read again at the next look.
            kept = len(launch.ids) > 1 and _is_last(self._ends[key])
            return replace(self._ends[key] if kept else self._ends.pop(key), **common)
        if phase is not Phase.RUNNING or key not in self._starts:
            return Ec2Sighting(member, phase, **common)
        told = self._starts[key]
        seen = Ec2Sighting(member, phase, started=told.started, receipt=told.held, **common)
        return replace(seen, boot_evidence=told.boot_evidence, note=told.note)

    def _start(self, launch: Launch, member: str, now: datetime) -> Start:
        started, note = self._started(launch, member)
        evidence = None
        if not started and now > launch.boot_by:  # no way out to the bucket, or no boot: the console tells which
            console = self._console(member)
            started = receipts_on_console(console, launch.nonce)[0]
            evidence = boot_evidence(console, launch.nonce)
        held = self._receipt(launch, member) if launch.hold_seconds and started else None
        return Start(started, held, evidence, note)

    def _receipt(self, launch: Launch, member: str) -> Receipt | None:
        box = box_of(self._client, launch)
        read = box.read(member, "receipt.json") if box else None
        if read and read.data:
            return parse_receipt(_text(read.data), launch.nonce, "bucket")
        return receipts_on_console(self._console(member), launch.nonce)[1]

    def _started(self, launch: Launch, member: str) -> tuple[Receipt | None, str | None]:
        if box := box_of(self._client, launch):
            read = box.read(member, "started.json")
            return (parse_receipt(_text(read.data), launch.nonce, "bucket") if read.data else None), read.note
        return receipts_on_console(self._console(member), launch.nonce)[0], None

    def _end(self, launch: Launch, member: str, instance: dict[str, Any]) -> Ec2Sighting:
        """Everything that was left behind, read after the end: a receipt written between two looks is not missed."""
        box = box_of(self._client, launch)
        read = box.read(member, "receipt.json") if box else None
        receipt = parse_receipt(_text(read.data), launch.nonce, "bucket") if read and read.data else None
        console = "" if receipt else self._console(member)
        started, told = receipts_on_console(console, launch.nonce)
        receipt = receipt or told
        result, fault = self._result(box, launch, member, receipt)
        return Ec2Sighting(
            member,
            Phase.ENDED,
            ended=instance_ended(instance) or (receipt.ended if receipt else None),
            started=started,
            receipt=receipt,
            receipt_known=read.known if read else True,
            result=result,
            result_error=fault,
            boot_evidence=None if receipt or started else boot_evidence(console, launch.nonce),
            note=read.note if read else None,
        )

    def _result(
        self, box: ReceiptBox | None, launch: Launch, member: str, receipt: Receipt | None
    ) -> tuple[Any, str | None]:
        if receipt is None or receipt.result_bytes is None:
            return None, None
        data = box.read(member, "result.json").data if box else None
        return parse_result(data, receipt.result_bytes, launch.receipt_key(member, "result.json"))

    def _console(self, member: str) -> str:
        """The last 64 KB of what the machine printed; `Latest` is for Nitro types only, older ones refuse it."""
        for arguments in ({"Latest": True}, {}):
            try:
                return self._client("ec2").get_console_output(InstanceId=member, **arguments).get("Output") or ""
            except (*FAILURES, LaunchError):
                continue
        return ""

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        box = box_of(self._client, launch)
        log = _text(box.read(member, "job.log", LOG_LIMIT).data) if box else ""
        said = _tail("the job's last lines", log, LOG_LINES)
        # The console repeats the job's last lines; what matters there is what came before the job.
        return said or _tail("the console's last lines", self._console(member), LOG_LINES)


def _common(instance: dict[str, Any]) -> dict[str, Any]:
    return {
        "state": instance["State"]["Name"],
        "reason": instance.get("StateReason", {}).get("Code") or None,
        "launched": instance.get("LaunchTime"),
        "instance_type": instance.get("InstanceType"),
        "stopped_by": tags_of(instance.get("Tags")).get(STOPPED_BY),
    }


def _key(launch: Launch, member: str) -> Key:
    return launch.receipts, member


def _phase(instance: Any) -> Phase | None:
    return PHASES.get(instance["State"]["Name"]) if isinstance(instance, dict) else None


def _is_last(end: Ec2Sighting) -> bool:
    """Whether nothing more can come of it."""
    lacking = (end.result_error or "").startswith(UNAVAILABLE)
    return end.receipt is not None and end.receipt.final and end.receipt_known and not lacking


def box_of(client: ClientFactory, launch: Launch) -> ReceiptBox | None:
    """Where a launch's machines report to; None where there is only the console."""
    place = S3Prefix.of(launch.receipts)
    return ReceiptBox(client, place) if place else None


def describe(ec2: Any, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for page in ec2.get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]


def _tail(title: str, text: str, lines: int) -> tuple[str, ...]:
    kept = [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-lines:]
    return (f"--- {title}:", *kept) if kept else ()


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")
