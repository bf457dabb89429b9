"""The depths of queues for all waits of a process: each queue is read once a tick, whoever asks for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_transient.core.cadence import Looked, Pause
from airflow_transient.core.condition import Look
from airflow_transient.core.depth import Depth, Unread
from airflow_transient.errors import AccessError, SpecError

if TYPE_CHECKING:
    from airflow_transient.aws.sqs import Reader

#: Of so many queues at once; botocore keeps ten connections a client.
AT_ONCE = 10
#: No look is on the dot.
NEARLY = 0.9
#: What a wait is told: a look, or what waiting does not help.
Answer = Look | SpecError | AccessError


@dataclass(frozen=True)
class Asked:
    """
    Some queues that somebody waits for. `until`: the wait's own end, by the monotonic clock. `apart`: two looks are an
    interval apart, as the readings of one row have to be; else the second may come as soon as others look.
    """

    queues: tuple[str, ...]
    asks_age: bool
    interval: float
    until: float = math.inf
    apart: bool = False

    @property
    def pause(self) -> Pause:
        left = self.until - time.monotonic()
        least = NEARLY * self.interval if self.apart else 0.0
        return Pause(self.interval, left if left > 0 else math.inf, least)


class QueueLook:
    """
    The look of a poll of queues.

    :param make_reader: of the one queue it is given; called in the thread.
    """

    def __init__(self, make_reader: Callable[[Asked], Reader]) -> None:
        self._make_reader = make_reader
        self._readers: dict[tuple[str, bool], Reader] = {}

    def __call__(self, waits: Sequence[Asked], now: datetime) -> Looked[Answer | None]:
        from airflow_transient.aws.launcher import side_by_side

        wanted = list(dict.fromkeys((queue, wait.asks_age) for wait in waits for queue in wait.queues))
        answers = side_by_side(lambda one: self._read(*one, now), wanted, AT_ONCE)
        read = dict(zip(wanted, answers, strict=True))
        return Looked([_joined([read[queue, wait.asks_age] for queue in wait.queues]) for wait in waits])

    def _read(self, queue: str, asks_age: bool, now: datetime) -> Answer:
        try:
            if (queue, asks_age) not in self._readers:
                self._readers[queue, asks_age] = self._make_reader(Asked((queue,), asks_age, interval=0.0))
            return self._readers[queue, asks_age].look(now)
        except (SpecError, AccessError) as error:  # the author's or an administrator's move
            return error
        except Exception as error:  # whatever it is, it is no answer
            return Unread(queue, f"{type(error).__name__}: {error}")


def _joined(answers: Sequence[Answer]) -> Answer:
    """One answer for several queues: the first that is none, else their depths."""
    depths: list[Depth] = []
    for answer in answers:
        if isinstance(answer, Unread | Exception):
            return answer
        depths += answer
    return tuple(depths)
