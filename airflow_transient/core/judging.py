"""From what was seen of a launch to its verdict, and to what should be stopped: one table of kinds, one way for all.

Law: a verdict is given once. Members that have ended are written down before AWS forgets them, and not asked for again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_transient.core.asg import judging as asg
from airflow_transient.core.ec2 import judging as ec2
from airflow_transient.core.ecs import judging as ecs
from airflow_transient.core.images import judging as images
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Member, Phase, Sighting, Verdict

#: AWS shows what has ended for an hour or less; what ended so long ago is handed on while others still run.
HAND_ON_AFTER = timedelta(minutes=20)


@dataclass(frozen=True)
class Rules:
    """
    What one kind of compute's sightings mean; `sighting` is the kind's own class of them, `stopped` AWS's word.

    `hands_on`: whether what has ended is written down while others run. An instance's receipt stays where it is.
    """

    sighting: type[Sighting]
    judge_member: Callable[[Launch, Any, datetime], Member | None]
    to_stop: Callable[[Launch, Sequence[Any], Mapping[str, Member], datetime], dict[str, tuple[str, ...]]]
    in_words: Callable[[Launch, Any, datetime], str]
    hands_on: bool
    stopped: str


RULES: dict[str, Rules] = {
    "ec2": Rules(ec2.Ec2Sighting, ec2.judge_member, ec2.to_stop, ec2.in_words, hands_on=False, stopped="terminated"),
    "ecs": Rules(ecs.EcsSighting, ecs.judge_member, ecs.to_stop, ecs.in_words, hands_on=True, stopped="stopped"),
    "asg": Rules(ec2.Ec2Sighting, asg.judge_member, asg.to_stop, asg.in_words, hands_on=False, stopped="terminated"),
    "image": Rules(
        images.ImageSighting,
        images.judge_member,
        images.to_stop,
        images.in_words,
        hands_on=False,
        stopped="called off",
    ),
}


def judge(launch: Launch, sightings: Iterable[Sighting], now: datetime) -> Verdict | None:
    """
    How the launch ended, or None: keep waiting.

    Where some members ended a while ago and others still run, it is a verdict with those `open`.
    """
    ended = ended_members(launch, sightings, now)
    left = tuple(i for i in launch.ids if i not in ended)
    if not ended or (left and not (RULES[launch.kind].hands_on and _long_over(ended.values(), now))):
        return None
    members = tuple(ended[i] for i in launch.ids if i in ended)
    need = launch.ecs.need if launch.ecs else None
    verdict = Verdict(launch.token, members, kind=launch.kind, need=need, open=left)
    return replace(verdict, log=launch.receipt_key(verdict.worst.id, "job.log")) if launch.receipts else verdict


def unseen(launch: Launch, note: str) -> tuple[Sighting, ...]:
    """A look that failed, for every member."""
    return tuple(RULES[launch.kind].sighting(member, Phase.UNKNOWN, note=note) for member in launch.ids)


def _long_over(ended: Iterable[Member], now: datetime) -> bool:
    return any(m.ended and now - m.ended >= HAND_ON_AFTER for m in ended)


def ended_members(launch: Launch, sightings: Iterable[Sighting], now: datetime) -> dict[str, Member]:
    judged = (RULES[launch.kind].judge_member(launch, seen, now) for seen in sightings)
    return {member.id: member for member in judged if member}


def to_stop(launch: Launch, sightings: Sequence[Sighting], now: datetime) -> dict[str, tuple[str, ...]]:
    """Why -> the members that should not be there any more."""
    return RULES[launch.kind].to_stop(launch, sightings, ended_members(launch, sightings, now), now)


def wait_in_words(launch: Launch, sightings: Sequence[Sighting], now: datetime) -> str:
    """One line; the same line as long as nothing has changed, so that a log can leave repetitions out."""
    say = RULES[launch.kind].in_words
    if len(sightings) == 1:
        return f"{sightings[0].member}: {say(launch, sightings[0], now)}"
    told = Counter(say(launch, s, now).split(" since ")[0] for s in sightings)
    return ", ".join(f"{count} {words}" for words, count in told.most_common())
