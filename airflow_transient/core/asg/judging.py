"""How a member ended that came from a group: as any instance where it reports, else by EC2's word alone.

A machine of a group may be set to *stop* when it shuts down, which is EC2's default: it has ended, and is swept away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from airflow_transient.core.ec2 import judging as ec2
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.launch import SWEPT, Launch
from airflow_transient.core.verdict import Member, Outcome, Phase

ITSELF = "Client.InstanceInitiatedShutdown"


def judge_member(launch: Launch, seen: Ec2Sighting, now: datetime) -> Member | None:
    """The verdict table of one member; None: keep waiting."""
    seen = _as_it_was(launch, seen)
    if _reports(launch) or seen.phase is not Phase.ENDED or seen.reason != ITSELF:
        return ec2.judge_member(launch, seen, now)
    ended = seen.ended or now
    return Member(
        id=seen.member,
        outcome=Outcome.SUCCEEDED if _trusts(launch) else Outcome.UNVERIFIED,
        evidence=f"it shut itself down{', which trust_shutdown takes for a success' if _trusts(launch) else ''}",
        instance_type=seen.instance_type,
        public_ip=seen.public_ip,
        launched=seen.launched,
        ended=ended,
        billed_seconds=ec2.billed_seconds(seen.launched, ended),
    )


def to_stop(
    launch: Launch, seen: Sequence[Ec2Sighting], ended: Mapping[str, Member], now: datetime
) -> dict[str, tuple[str, ...]]:
    """Why -> which members should not be there any more."""
    over = ec2.to_stop(launch, [_as_it_was(launch, one) for one in seen], ended, now)
    stopped = tuple(s.member for s in seen if s.phase is Phase.ENDED and s.state == "stopped" and s.reason == ITSELF)
    if launch.hold_seconds or not stopped:
        return over
    # Not "at the deadline": who looks later must still see that it ended by itself.
    rest = {why: tuple(i for i in ids if i not in stopped) for why, ids in over.items()}
    return {why: ids for why, ids in rest.items() if ids} | {SWEPT: stopped}


def in_words(launch: Launch, seen: Ec2Sighting, now: datetime) -> str:
    if _reports(launch) or seen.phase in (Phase.STARTING, Phase.UNKNOWN) or now >= launch.deadline:
        return ec2.in_words(launch, seen, now)
    if seen.phase is Phase.ENDED:
        return seen.state
    return "shutting down" if seen.state in ("shutting-down", "stopping") else "running"


def _reports(launch: Launch) -> bool:
    return launch.group is None or launch.group.reports


def _trusts(launch: Launch) -> bool:
    return launch.group is not None and launch.group.trust_shutdown


def _as_it_was(launch: Launch, seen: Ec2Sighting) -> Ec2Sighting:
    """Before we swept it away; and without what the console says where nobody has promised to report there."""
    if seen.stopped_by == SWEPT:
        seen = replace(seen, reason=ITSELF, stopped_by=None)
    return seen if _reports(launch) else replace(seen, boot_evidence=None, started=None, receipt=None)
