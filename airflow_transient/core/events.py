"""What an event says, and what becomes of the message that brought it. No clock, no network.

Law: an event decides nothing. It may be late, doubled, forged or somebody else's: it only says where to look now.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_transient.core.launch import Launch

#: Characters; EventBridge's events have 256 KiB at most (quotas). What is longer is none of them, and is not parsed.
LONGEST = 256 * 1024
#: So often a message that nobody here waits for is given back: to N triggerers of one queue each event is wrong N - 1
#: times, and what nobody waits for at all should not go round for ever.
RECEIVES = 3

#: kind, region and member: what a wait is found by.
Whose = tuple[str, str, str]


class EventError(ValueError):
    """This message is no event that a rule of ours lets through; the message says why, and nothing of its content."""


@dataclass(frozen=True)
class Change:
    """A state change, as much of it as matters: an ECS task's event holds all of its overrides, secrets included."""

    kind: str
    region: str
    member: str
    state: str

    @property
    def whose(self) -> Whose:
        return self.kind, self.region, self.member

    @property
    def worth_a_look(self) -> bool:
        return self.state in SOURCES[self.kind].states


@dataclass(frozen=True)
class Source:
    """
    Where one kind's events come from. `states`: those that a look is worth; `member`, `state`: the names by which an
    event's detail tells them.

    Starts are not among them: what was just asked for is looked at every five seconds anyway.
    """

    source: str
    detail_type: str
    states: tuple[str, ...]
    member: str
    state: str


#: Of EC2 also what comes before the end: its events are sent on a best-effort basis, those of ECS at least once
#: (EventBridge user guide, "events from AWS services"). Of a machine that is known to be on its way out the end is
#: looked for every five seconds, should the other event be lost.
SOURCES: dict[str, Source] = {
    "ec2": Source(
        "aws.ec2",
        "EC2 Instance State-change Notification",
        ("stopping", "shutting-down", "stopped", "terminated"),
        member="instance-id",
        state="state",
    ),
    "ecs": Source(
        "aws.ecs",
        "ECS Task State Change",
        ("STOPPED",),
        member="taskArn",
        state="lastStatus",
    ),
}


def read(body: str) -> Change:
    """The change that a message's body tells of. EventError: none of ours."""
    if len(body) > LONGEST:
        raise EventError(f"longer than any event ({len(body)} characters)")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise EventError("no JSON") from None
    if not isinstance(said, dict) or said.get("version", "0") != "0":
        raise EventError("no event of EventBridge's, version 0")
    for kind, source in SOURCES.items():
        if (said.get("source"), said.get("detail-type")) == (source.source, source.detail_type):
            return _change(kind, source, said)
    raise EventError("an event of something else than EC2's instances and ECS's tasks")


def _change(kind: str, source: Source, said: Mapping[str, Any]) -> Change:
    detail = said.get("detail")
    region = said.get("region")
    member, state = (detail.get(source.member), detail.get(source.state)) if isinstance(detail, dict) else (None, None)
    if not (isinstance(member, str) and isinstance(state, str) and isinstance(region, str)):
        raise EventError(f"a {source.detail_type} that does not say whose")
    return Change(kind, region, member.rpartition("/")[2], state)  # an instance's id, or a task's at the end of its ARN


class Standing(str, Enum):
    """What this process has to do with whom an event is of."""

    WAITS = "is waited for here"
    ENDED = "was waited for here until it ended, lately"
    UNKNOWN = "is not known here"


class Fate(str, Enum):
    WAKE = "wake its wait, delete"
    DELETE = "delete"
    RELEASE = "give it back at once: another triggerer may wait for it"


def fate(change: Change | None, standing: Standing, receives: int) -> Fate:
    """
    What becomes of a message.

    :param change: None: no event of ours. Given back it would come again and again.
    :param receives: how often it was received so far, by whomever; ApproximateReceiveCount.
    """
    if change is None or not change.worth_a_look or standing is Standing.ENDED:
        return Fate.DELETE
    if standing is Standing.WAITS:
        return Fate.WAKE
    return Fate.RELEASE if receives < RECEIVES else Fate.DELETE


def whose(launch: Launch) -> Iterator[Whose]:
    """By what the events of a launch are known."""
    return ((launch.kind, launch.region, member) for member in launch.ids)
