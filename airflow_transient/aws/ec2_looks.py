"""What EC2 shows of machines, many in a call; and when it is time to read what their jobs have left behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from airflow_transient.aws import brief, pacing
from airflow_transient.aws.ec2_leavings import Leavings, Start, is_last
from airflow_transient.aws.found import tags_of
from airflow_transient.aws.launcher import FAILURES, ClientFactory, looked, scope_of_error, side_by_side, words_of
from airflow_transient.core.cadence import Looked
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.fallback import Scope
from airflow_transient.core.judging import ended_members
from airflow_transient.core.launch import STOPPED_BY, Launch
from airflow_transient.core.verdict import Phase
from airflow_transient.errors import LaunchError

log = logging.getLogger(__name__)

PHASES: dict[str, Phase] = {
    "pending": Phase.STARTING,
    "running": Phase.RUNNING,
    "shutting-down": Phase.RUNNING,
    "stopping": Phase.RUNNING,
    "stopped": Phase.ENDED,
    "terminated": Phase.ENDED,
}
#: DescribeInstances takes 200 values in one filter.
FILTER_LIMIT = 200
#: Of so many machines in one look S3 is asked for what it need not have yet; so many objects are read at once.
READS_A_LOOK, AT_ONCE = 20, 10
#: Of so many that have just ended: a thousand that end at once are read in a few looks.
NEW_A_LOOK = 200
#: Seconds. After so many in one look no further object is read: a bucket that does not answer delays no look for long.
READING = 10.0
CALLS_AT_ONCE = 4
#: So many members at most are remembered, the oldest are forgotten; what is forgotten is read again.
REMEMBERED = 10_000


IN_TURN = "its receipt is read in turn"

X = TypeVar("X")
#: One member of one launch.
Pair = tuple[Launch, str]
Key = tuple[str | None, str]


class Looks:
    """
    Looks at the machines of launches. A look that fails is a sighting, too: UNKNOWN, with the reason.

    What a job leaves is read when there is a reason to: its end when the machine has ended, its start while that is not
    known, and for what EC2 does not know. In turns, but for an end that has just come, so that a look at a thousand
    stays a look. What was not yet its turn is `unread`, and no ending. An end is told in a look that has read it, and
    never after an older reading, for a receipt may come late; but what once was enough for a member's verdict is
    remembered until all of its launch is over, as EC2 forgets it. Another process reads it anew without harm.
    """

    def __init__(self, client: ClientFactory, left: Leavings | None = None) -> None:
        self._client = client
        self._left = left or Leavings(client)
        self._starts: dict[Key, Start] = {}
        self._ends: dict[Key, Ec2Sighting] = {}
        self._read_at: dict[Key, datetime] = {}
        self._first_read: dict[Key, datetime] = {}
        self._addresses: dict[Key, str] = {}

    def observe(self, launch: Launch, now: datetime) -> tuple[Ec2Sighting, ...]:
        return self.observe_all((launch,), now).answers[0]

    def observe_all(self, launches: Sequence[Launch], now: datetime) -> Looked[tuple[Ec2Sighting, ...]]:
        ids = tuple(dict.fromkeys(member for launch in launches for member in launch.ids))
        chunks = [ids[start : start + FILTER_LIMIT] for start in range(0, len(ids), FILTER_LIMIT)]
        answers = side_by_side(self._show, chunks, CALLS_AT_ONCE)
        shown = {member: seen for told, _ in answers for member, seen in told.items()}
        pairs = [(launch, member) for launch in launches for member in launch.ids]
        self._forget_the_oldest()
        until = time.monotonic() + READING
        over = [p for p in pairs if p[1] not in shown or _phase(shown[p[1]]) is Phase.ENDED]
        read = self._read_ends(over, shown, now, until)
        self._read_starts([p for p in pairs if _phase(shown.get(p[1])) is Phase.RUNNING], now, until)
        told = [tuple(self._sighting(launch, member, shown, read) for member in launch.ids) for launch in launches]
        return looked(told, (scope for _, scope in answers if scope))

    def _show(self, ids: tuple[str, ...]) -> tuple[dict[str, Any], Scope | None]:
        """Each instance as EC2 tells it, or a sighting that says why not; what is not there EC2 does not know."""
        try:
            return {i["InstanceId"]: i for i in self.instances(ids)}, None
        except (*FAILURES, LaunchError) as error:
            unseen = {member: Ec2Sighting(member, Phase.UNKNOWN, note=words_of(error)) for member in ids}
            return unseen, scope_of_error(error)

    def _forget_the_oldest(self) -> None:
        read: tuple[dict[Key, Any], ...] = (self._starts, self._ends, self._read_at, self._first_read)
        for each in (*read, self._addresses):
            for key in list(each)[: max(0, len(each) - REMEMBERED)]:
                del each[key]

    def _turn(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Those that were read the longest time ago, or never."""
        once = {_key(*pair): pair for pair in pairs}
        keys = sorted(once, key=lambda key: self._read_at[key].timestamp() if key in self._read_at else 0.0)
        return [once[key] for key in keys[:READS_A_LOOK]]

    def _read(self, act: Callable[[Pair], X], turn: Sequence[Pair], now: datetime, until: float) -> dict[Key, X]:
        """As many as there is time for."""

        def in_time(pair: Pair) -> tuple[X, ...]:
            try:
                return (act(pair),) if time.monotonic() < until else ()
            except Exception:  # one launch that cannot be read keeps no other from its end
                log.exception("what %s of launch %s has left could not be read", pair[1], pair[0].token)
                return ()

        answers = side_by_side(in_time, turn, AT_ONCE)
        told = {_key(*pair): answer for pair, answers in zip(turn, answers, strict=True) for answer in answers}
        self._read_at |= dict.fromkeys(told, now)
        return told

    def _read_starts(self, running: Sequence[Pair], now: datetime, until: float) -> None:
        turn = self._turn(pair for pair in running if self._start_is_open(*pair))
        self._starts |= self._read(lambda pair: self._left.start(*pair, now), turn, now, until)

    def _start_is_open(self, launch: Launch, member: str) -> bool:
        known = self._starts.get(_key(launch, member))
        return known is None or known.started is None or (launch.hold_seconds > 0 and known.held is None)

    def _read_ends(
        self, over: Sequence[Pair], shown: Mapping[str, Any], now: datetime, until: float
    ) -> dict[Key, Ec2Sighting]:
        """Those that have just ended; in turns what had not said its last word before, and what EC2 does not know."""
        unread = {_key(*pair): pair for pair in over if not self._has_said_its_last(pair, shown)}
        new = [pair for key, pair in unread.items() if pair[1] in shown and key not in self._first_read]
        again = [pair for key, pair in unread.items() if pair[1] not in shown or key in self._first_read]
        turn = new[:NEW_A_LOOK] + self._turn(again)
        read = self._read(lambda pair: self._left_by(*pair, shown.get(pair[1])), turn, now, until)
        for key, end in read.items():
            self._remember(key, unread[key][0], end, now)
        return read

    def _remember(self, key: Key, launch: Launch, end: Ec2Sighting, now: datetime) -> None:
        if not end.absent:
            self._first_read.setdefault(key, now)
        if len(launch.ids) > 1 and self._is_judged(launch, end, now):  # for the other members' sake
            self._ends[key] = end

    def _left_by(self, launch: Launch, member: str, instance: Any) -> Ec2Sighting:
        try:
            read = self._left.end(launch, member, instance) if instance else self._left.absent(launch, member)
        except Exception as error:  # its clients cannot be made any more: no answer
            read = Ec2Sighting(member, Phase.UNKNOWN, receipt_known=False, note=words_of(error))
        known = self._ends.get(_key(launch, member))
        if known and known.receipt and not read.receipt and not (known.absent and instance):
            return known
        return replace(read, **_common(instance)) if instance else read

    def _has_said_its_last(self, pair: Pair, shown: Mapping[str, Any]) -> bool:
        end = self._ends.get(_key(*pair))
        if end is None or (end.absent and pair[1] in shown):
            return False
        forgotten = pair[1] not in shown and not end.absent and end.receipt is not None
        return forgotten or is_last(end, judged=True)

    def _is_judged(self, launch: Launch, end: Ec2Sighting, now: datetime) -> bool:
        """Whether it would be a verdict, were it alone. What cannot be judged says so where it is waited for."""
        dated = end if end.ended or end.absent else replace(end, ended=self._first_read[_key(launch, end.member)])
        try:
            return bool(ended_members(launch, (dated,), now))
        except Exception:
            return False

    def instances(self, ids: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """By filter and not by id: one unknown id fails a call that names it, a filter passes over it."""
        ec2 = self._client("ec2")
        for start in range(0, len(ids), FILTER_LIMIT):
            chunk = list(ids[start : start + FILTER_LIMIT])
            with pacing.paced(ec2, "looks at EC2", scope_of_error), brief.answers():
                shown = list(describe(ec2, [{"Name": "instance-id", "Values": chunk}]))
            yield from shown

    def _sighting(
        self, launch: Launch, member: str, shown: Mapping[str, Any], read: Mapping[Key, Ec2Sighting]
    ) -> Ec2Sighting:
        instance, key = shown.get(member), _key(launch, member)
        end = read.get(key) or self._ends.get(key)
        if instance is None or isinstance(instance, Ec2Sighting):  # "absent" is only said of what was looked for
            return replace(end or instance or _in_turn(member), public_ip=self._addresses.get(key))
        phase, common = PHASES.get(instance["State"]["Name"], Phase.UNKNOWN), _common(instance)
        common["public_ip"] = self._address(key, instance)
        if phase is Phase.ENDED:
            self._starts.pop(key, None)
            return replace(end if end and not end.absent else _in_turn(member), **common)
        if phase is not Phase.RUNNING or key not in self._starts:
            return Ec2Sighting(member, phase, **common)
        told = self._starts[key]
        seen = Ec2Sighting(member, phase, started=told.started, receipt=told.held, **common)
        return replace(seen, boot_evidence=told.boot_evidence, note=told.note)

    def _address(self, key: Key, instance: Mapping[str, Any]) -> str | None:
        """Its public address, also after its end, when EC2 tells it no more."""
        if address := instance.get("PublicIpAddress"):
            self._addresses[key] = address
        return self._addresses.get(key)


def _common(instance: dict[str, Any]) -> dict[str, Any]:
    return {
        "state": instance["State"]["Name"],
        "reason": instance.get("StateReason", {}).get("Code") or None,
        "launched": instance.get("LaunchTime"),
        "instance_type": instance.get("InstanceType"),
        "stopped_by": tags_of(instance.get("Tags")).get(STOPPED_BY),
    }


def _in_turn(member: str) -> Ec2Sighting:
    return Ec2Sighting(member, Phase.UNKNOWN, note=IN_TURN, unread=True)


def _key(launch: Launch, member: str) -> Key:
    return launch.receipts, member


def _phase(instance: Any) -> Phase | None:
    return PHASES.get(instance["State"]["Name"]) if isinstance(instance, dict) else None


def describe(ec2: Any, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for page in ec2.get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]
