"""What a rule would have done with a trace: `size()` asked at every poll, and tasks that do as they are told.

Nothing here is left to chance: the same trace, rule and model give the same numbers. Tasks that act alike go as one
group, so that a large burst costs no more than a small one.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from airflow_transient.core.depth import Depth, Live, Rule, size
from airflow_transient.core.trace import Trace
from airflow_transient.errors import SpecError

MAX_POLLS = 200_000
#: What happens first when several things happen at one moment.
ARRIVAL, TASK, POLL = range(3)


@dataclass(frozen=True)
class Model:
    """
    How the world behaves, in seconds.

    :param start_seconds: from a launch to the task's first receive.
    :param work_seconds: for one message, from its receive to its delete.
    :param lag_seconds: the counters are so old.
    :param poll_seconds: from one look at the counters to the next; the first is at 0.
    :param until_empty: a task goes on till it finds no message; else it ends after `messages_per_task` of them.
    """

    start_seconds: float = 60
    work_seconds: float = 60
    lag_seconds: float = 60
    poll_seconds: float = 60
    until_empty: bool = False

    def __post_init__(self) -> None:
        for name in ("start_seconds", "work_seconds", "lag_seconds"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise SpecError(f"{name} is {value}: it must be 0 or more")
        if not 0 < self.poll_seconds < math.inf:
            raise SpecError(f"poll_seconds is {self.poll_seconds}: it must be more than 0")


@dataclass(frozen=True)
class Sample:
    """What was there at a poll, after it: the true depth, not the counters'."""

    seconds: float
    visible: int
    live: int


@dataclass(frozen=True)
class Replay:
    """How it went."""

    launched: int
    #: Tasks that found no message.
    wasted: int
    #: When the last message was done; None where some are left, or there were none.
    drained_at: float | None
    #: Messages that nobody was launched for.
    left: int
    #: From a message's arrival to its receive, the oldest being received first.
    longest_wait: float
    #: The largest number of tasks at once.
    most: int
    #: From launch to end, of all tasks.
    task_seconds: float
    samples: tuple[Sample, ...] = field(default=(), repr=False)


def replay(trace: Trace, rule: Rule, model: Model) -> Replay:
    """
    :raises SpecError: where it would take more than `MAX_POLLS` polls.
    """
    world = _World(trace, rule, model)
    while world.due:
        world.step()
    return world.told()


class _Window:
    """How many of what happened are younger than so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.held: deque[tuple[float, int]] = deque()
        self.total = 0

    def add(self, now: float, count: int) -> None:
        self.held.append((now, count))
        self.total += count

    def count(self, now: float) -> int:
        while self.held and now - self.held[0][0] >= self.seconds:
            self.total -= self.held.popleft()[1]
        return self.total


@dataclass(frozen=True)
class _Group:
    """So many tasks, launched together, that have received so many messages each."""

    tasks: int
    launched: float
    received: int = 0


class _World:
    """The queue, its tasks and whoever polls, moment by moment."""

    def __init__(self, trace: Trace, rule: Rule, model: Model) -> None:
        self.rule, self.model = rule, model
        self.now, self.changed = 0.0, 0.0
        self.to_come, self.visible, self.in_flight = trace.messages, 0, 0
        self.queue: deque[tuple[float, int]] = deque()
        self.drained_at: float | None = None
        self.longest_wait = 0.0
        self.pending, self.working = 0, 0
        self.launched, self.wasted, self.most, self.task_seconds = 0, 0, 0, 0.0
        self.began, self.ended = _Window(rule.claim_seconds), _Window(rule.claim_seconds)
        self.counters: deque[tuple[float, int, int]] = deque([(-math.inf, 0, 0)])
        self.samples: list[Sample] = []
        self.polls = 0
        self.due: list[tuple[float, int, int, Callable[[], None]]] = []
        self.order = itertools.count()
        for at, count in trace.arrivals:
            self._at(at, ARRIVAL, partial(self._arrive, count))
        self._at(0, POLL, self._poll)

    def step(self) -> None:
        self.now, kind, _, act = heapq.heappop(self.due)
        act()
        if kind != POLL:
            self.changed = self.now
            self._count()

    def told(self) -> Replay:
        return Replay(
            launched=self.launched,
            wasted=self.wasted,
            drained_at=self.drained_at,
            left=self.visible,
            longest_wait=self.longest_wait,
            most=self.most,
            task_seconds=self.task_seconds,
            samples=tuple(self.samples),
        )

    def _at(self, moment: float, kind: int, act: Callable[[], None]) -> None:
        heapq.heappush(self.due, (moment, kind, next(self.order), act))

    def _arrive(self, count: int) -> None:
        self.to_come -= count
        self.visible += count
        self.queue.append((self.now, count))

    # --- tasks

    def _begin(self, group: _Group) -> None:
        self.pending -= group.tasks
        self.working += group.tasks
        self.began.add(self.now, group.tasks)
        self._receive(group)

    def _receive(self, group: _Group) -> None:
        """Whoever finds a message works on it, whoever finds none ends."""
        fed = min(group.tasks, self.visible)
        self._take(fed)
        if fed:
            working = replace(group, tasks=fed, received=group.received + 1)
            self._at(self.now + self.model.work_seconds, TASK, partial(self._delete, working))
        self._end(replace(group, tasks=group.tasks - fed))

    def _take(self, messages: int) -> None:
        self.visible -= messages
        self.in_flight += messages
        while messages:
            arrived, count = self.queue.popleft()
            self.longest_wait = max(self.longest_wait, self.now - arrived)
            if count > messages:
                self.queue.appendleft((arrived, count - messages))
            messages -= min(count, messages)

    def _delete(self, group: _Group) -> None:
        self.in_flight -= group.tasks
        if not (self.to_come or self.visible or self.in_flight):
            self.drained_at = self.now
        share = None if self.model.until_empty else self.rule.messages_per_task
        if share and group.received >= share:
            self._end(group)
        else:
            self._receive(group)

    def _end(self, group: _Group) -> None:
        if group.tasks:
            self.working -= group.tasks
            self.ended.add(self.now, group.tasks)
            self.wasted += 0 if group.received else group.tasks
            self.task_seconds += group.tasks * (self.now - group.launched)

    # --- whoever polls

    def _poll(self) -> None:
        count = size([self._shown()], self.rule, self._live()).count
        if count:
            self._launch(count)
        self.samples.append(Sample(self.now, self.visible, self.pending + self.working))
        settled = self.changed + max(self.model.lag_seconds, self.rule.claim_seconds)
        if self.due or self.now < settled:
            self._poll_again()

    def _poll_again(self) -> None:
        self.polls += 1
        if self.polls >= MAX_POLLS:
            raise SpecError(
                f"it would take more than {MAX_POLLS:,} polls, one every {self.model.poll_seconds:g} s: "
                "poll less often, or cut the trace in parts"
            )
        self._at(self.polls * self.model.poll_seconds, POLL, self._poll)

    def _launch(self, count: int) -> None:
        self.launched += count
        self.pending += count
        self.most = max(self.most, self.pending + self.working)
        begin = partial(self._begin, _Group(count, self.now))
        self._at(self.now + self.model.start_seconds, TASK, begin)

    def _live(self) -> Live:
        """As the operator sees it. What ended lately is no longer live, but the counters may show its messages yet."""
        return Live(
            tasks=self.pending + self.working,
            claiming=self.pending + self.began.count(self.now),
            pending=self.pending,
            ended=self.ended.count(self.now),
        )

    # --- the counters

    def _count(self) -> None:
        if self.counters[-1][0] == self.now:
            self.counters.pop()
        self.counters.append((self.now, self.visible, self.in_flight))

    def _shown(self) -> Depth:
        while len(self.counters) > 1 and self.counters[1][0] <= self.now - self.model.lag_seconds:
            self.counters.popleft()
        _, visible, in_flight = self.counters[0]
        return Depth("trace", visible, in_flight)
