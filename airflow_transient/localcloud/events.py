"""State changes of the cloud's own things, told to EventBridge's rules as AWS tells them: late, and not for sure.

Law: `emit` never raises and never waits. One thread delivers, in the order of emission where no fault says otherwise.
An event is lost, doubled or late once for all rules that want it; an event that no rule wants meets no fault.
"""

from __future__ import annotations

import heapq
import itertools
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol

REGION = "eu-west-1"
log = logging.getLogger(__name__)


def emit(
    source: str, detail_type: str, detail: Mapping[str, Any], resources: Sequence[str] = (), region: str = REGION
) -> None:
    """Tell the rules of this region's default bus; returns at once. Without a running cloud, nothing happens.

    :param source: whose event, in AWS's words: "aws.ec2", "aws.ecs".
    :param detail_type: "ECS Task State Change".
    :param detail: as it is now: what becomes of the object later does not change the event.
    :param resources: ARNs.
    """
    stream = _stream
    if stream is None:
        return
    try:
        stream.put(Event(source, detail_type, json.dumps(detail, default=_plain), tuple(resources), region))
    except Exception:  # whatever it was given: the launch or the end that it tells of is more than the telling
        log.exception("%s of %s could not be told", detail_type, source)


@dataclass(frozen=True)
class Event:
    """detail: JSON, so that nobody changes it on the way."""

    source: str
    detail_type: str
    detail: str
    resources: tuple[str, ...] = ()
    region: str = REGION
    time: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class Fate(Protocol):
    """From an event's detail type to when it arrives, in seconds from now: () is never, two are twice."""

    def __call__(self, detail_type: str) -> Sequence[float]: ...


_stream: Stream | None = None


class Stream:
    """Between emission and arrival. wanted(event): does a rule want it; deliver(event): to all that do."""

    def __init__(self, wanted: Callable[[Event], bool], deliver: Callable[[Event], None], fate: Fate) -> None:
        self._wanted, self._deliver, self._fate = wanted, deliver, fate
        self._due: list[tuple[float, int, bool, Event]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="localcloud-events", daemon=True)

    def open(self) -> None:
        global _stream
        self._thread.start()
        _stream = self

    def close(self) -> None:
        """What has not arrived never will."""
        global _stream
        _stream = None
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join(timeout=10)

    def put(self, event: Event) -> None:
        self._await(0.0, event, decided=False)

    def _await(self, seconds: float, event: Event, *, decided: bool) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._count), decided, event))
            self._changed.notify_all()

    def _run(self) -> None:
        while (due := self._next()) is not None:
            decided, event = due
            if decided:
                self._deliver(event)
            elif self._wanted(event):
                for seconds in self._fate(event.detail_type):
                    self._await(seconds, event, decided=True)

    def _next(self) -> tuple[bool, Event] | None:
        """Waits for the next that is due; None at the end."""
        with self._changed:
            while not self._over:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2:]
                self._changed.wait(wait)
        return None


def _plain(value: Any) -> str:
    """A time as AWS writes it in events; anything else as it prints."""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return str(value)
