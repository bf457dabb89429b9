"""What exists in the fake's AWS: tasks and machines that run, and the moments at which they end.

Moments are of CLOCK_MONOTONIC (`time.monotonic()`), which all processes of one machine share.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import count

REGION, ACCOUNT = "eu-west-1", "123456789012"
#: Seconds that everything has been running for when it is made.
AGE = 1200


def task_id(number: int) -> str:
    return f"{number:032x}"


def instance_id(number: int) -> str:
    return f"i-{number:017x}"


NAMES = {"ecs": task_id, "ec2": instance_id}


@dataclass
class Throttle:
    """AWS's token bucket: so many at once, so many a second after that, and a refusal where there is no token."""

    burst: float
    per_second: float
    tokens: float = field(init=False)
    seen: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def gives(self, wanted: int = 1) -> bool:
        now = time.monotonic()
        self.tokens = min(self.burst, self.tokens + (now - self.seen) * self.per_second)
        self.seen = now
        if self.tokens < wanted:
            return False
        self.tokens -= wanted
        return True


#: As documented (aws.amazon.com: ECS request throttling, Fargate throttling quotas, EC2 request throttling), and not
#: read from airflow_transient, which they are to judge.
LIMITS: Mapping[str, tuple[float, float]] = {
    "RunTask calls": (20, 20),
    "RunTask tasks": (100, 20),
    "DescribeTasks": (100, 20),
    "RunInstances calls": (5, 2),
    "RunInstances instances": (1000, 2),
    "DescribeInstances": (100, 20),
}


@dataclass
class Resource:
    id: str
    kind: str
    begun: float
    ends: float | None = None
    asked_first: float | None = None
    #: By what its launcher knows it.
    label: str = ""

    @property
    def over(self) -> bool:
        return self.ends is not None and self.ends <= time.monotonic()

    @property
    def ended(self) -> float:
        """In seconds of the epoch."""
        return time.time() - (time.monotonic() - (self.ends or 0.0))

    def seen(self) -> Resource:
        if self.asked_first is None:
            self.asked_first = time.monotonic()
        return self


class World:
    def __init__(self) -> None:
        self.empty()

    def empty(self) -> None:
        """Nothing exists, and nothing was asked."""
        self.resources: dict[str, Resource] = {}
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.throttles: dict[str, Throttle] = {}
        #: Answers by client token: asking twice starts once.
        self.tokens: dict[str, bytes] = {}
        #: Whose end a message tells, and how often it was received.
        self.queue: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        #: What was received and not deleted, by its receipt handle.
        self.given: dict[str, tuple[str, int]] = {}
        self.emits = False
        self._numbers = count(10_000_000)  # above all that `fill` makes

    def fill(self, kind: str, number: int) -> None:
        """So many that run, with the names 0..n-1."""
        begun = time.time() - AGE
        self.resources |= {id: Resource(id, kind, begun) for id in map(NAMES[kind], range(number))}

    def new(self, kind: str, label: str = "") -> Resource:
        made = Resource(NAMES[kind](next(self._numbers)), kind, time.time(), label=label)
        self.resources[made.id] = made
        return made

    def end(self, moments: Mapping[str, float]) -> None:
        loop = asyncio.get_running_loop()
        for id, moment in moments.items():
            self.resources[id].ends = moment
            if self.emits:
                loop.call_later(max(0.0, moment - time.monotonic()), self.queue.put_nowait, (id, 0))

    def limit(self, on: bool) -> None:
        self.throttles = {name: Throttle(*limit) for name, limit in LIMITS.items()} if on else {}

    def gives(self, name: str, wanted: int = 1) -> bool:
        throttle = self.throttles.get(name)
        if throttle is None or throttle.gives(wanted):
            return True
        self.refused[name] += 1
        return False


def iso(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
