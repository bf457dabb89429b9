"""Which container of a task starts when, and what the end of one means for the task: no clock, no process.

Law: a container starts once. As soon as an essential one has ended, or one that must start cannot, the task ends.
HEALTHY is taken for START: images are not run here, so there are no health checks of theirs to wait for.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html, stopTimeout
STOP_TIMEOUT = 30.0
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
EXITED = "Essential container in task exited"


class Phase(enum.Enum):
    WAITING = "PENDING"
    STARTING = "CREATED"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"


@dataclass(frozen=True)
class State:
    """code: of a container that ran and ended; None where it never started."""

    phase: Phase = Phase.WAITING
    code: int | None = None
    ran: bool = False


@dataclass(frozen=True)
class Rule:
    """What a definition says of one container's start and end; after: (container, condition) pairs."""

    name: str
    essential: bool = True
    after: tuple[tuple[str, str], ...] = ()
    stop_timeout: float = STOP_TIMEOUT


@dataclass(frozen=True)
class Ending:
    """Why a task ended, in AWS's words."""

    code: str
    reason: str


def rules(definitions: Sequence[Mapping[str, Any]]) -> tuple[Rule, ...]:
    return tuple(_rule(each) for each in definitions)


def _rule(words: Mapping[str, Any]) -> Rule:
    after = tuple((each["containerName"], each["condition"]) for each in words.get("dependsOn") or ())
    timeout = words.get("stopTimeout")
    return Rule(words["name"], words.get("essential", True), after, STOP_TIMEOUT if timeout is None else float(timeout))


def _met(condition: str, state: State) -> bool | None:
    """Is it met: yes, no longer possible (False), or not yet (None)?"""
    if condition in ("START", "HEALTHY"):
        return True if state.ran else (False if state.phase is Phase.STOPPED else None)
    if state.phase is not Phase.STOPPED:
        return None
    return state.ran and (condition == "COMPLETE" or state.code == 0)


def startable(containers: Sequence[Rule], states: Mapping[str, State]) -> list[str]:
    return [
        each.name
        for each in containers
        if states[each.name].phase is Phase.WAITING
        and all(_met(condition, states[name]) for name, condition in each.after)
    ]


def hopeless(containers: Sequence[Rule], states: Mapping[str, State]) -> list[str]:
    """Waiting for what can no longer come."""
    return [
        each.name
        for each in containers
        if states[each.name].phase is Phase.WAITING
        and any(_met(condition, states[name]) is False for name, condition in each.after)
    ]


def all_started(states: Mapping[str, State]) -> bool:
    """Then the task is RUNNING: its status is that of its slowest container."""
    return all(state.phase in (Phase.RUNNING, Phase.STOPPED) for state in states.values())


def ending(containers: Sequence[Rule], states: Mapping[str, State]) -> Ending | None:
    """Why the task is to end now; None: it goes on."""
    ended = [each for each in containers if states[each.name].phase is Phase.STOPPED]
    if any(each.essential for each in ended) or len(ended) == len(containers):
        return Ending("EssentialContainerExited", EXITED)
    return None
