"""Waiting for a queue's depth, once for a task, while no worker does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from airflow_transient.core.condition import WORDS, Look, Question, Waiting
from airflow_transient.core.depth import Unread
from airflow_transient.errors import TransientError
from airflow_transient.hooks.aws import DEFAULT_CONN_ID, TransientHook
from airflow_transient.triggers.poll import Poll, of_this_loop
from airflow_transient.triggers.queues import Answer, Asked, QueueLook

if TYPE_CHECKING:
    from airflow_transient.aws.launcher import ClientFactory
    from airflow_transient.aws.sqs import Reader

VERSION = 1
POLL_INTERVAL = 30.0
#: How long a deferred task may take to reach a triggerer, for its worker's reading to count.
START = timedelta(minutes=1)

#: How a wait ended.
HOLDS, NOT_NOW, TIMED_OUT, FAILED = "holds", "not-now", "timed-out", "failed"


def _now() -> datetime:
    return datetime.now(timezone.utc)


def make_reader(
    aws_conn_id: str | None, region_name: str | None, question: Question | Asked, hook: TransientHook | None = None
) -> Reader:
    """
    Without a client yet: the first look makes it, in whatever thread looks.

    :param hook: one that readers share; what it makes is made anew when AWS no longer takes its credentials.
    """
    from airflow_transient.aws.sqs import Reader

    if hook is None:
        return Reader(lambda: TransientHook(aws_conn_id, region_name).client, question.queues, question.asks_age)
    connects = count()

    def connect() -> ClientFactory:
        if next(connects):  # a reader connects again when its credentials were refused
            hook.renew()
        return hook.client

    return Reader(connect, question.queues, question.asks_age)


def queues_of(aws_conn_id: str | None, region_name: str | None) -> Poll[Asked, Answer]:
    """The one poll of all waits of this loop for queues of one connection."""
    at = (aws_conn_id, region_name)
    hook = of_this_loop(("hook", *at), lambda: TransientHook(*at))
    return of_this_loop(("queues", *at), lambda: Poll(QueueLook(lambda one: make_reader(*at, one, hook))))


class SqsDepthTrigger(BaseTrigger):
    """
    The wait of a SqsDepthSensor. Its one event is a dict with ``outcome``, ``words`` and, when it holds, ``told``.

    It keeps the time itself, because nobody else does in ``airflow dags test``. Keyword arguments, which are kept
    in the database and may be those of another version: the sensor's words, and

    :param waiting: `Waiting.to_dict()` where a worker has looked before; its time is what `timeout` counts from.
    :param timeout: seconds.
    :param or_skip: the first look without the condition ends the wait.
    :param end_here: outcomes that end the task without a worker.
    :param push_xcom: whether such an end leaves the XCom.
    """

    #: Attributes and not one dict: where a task starts in the triggerer, Airflow renders templates in them.
    DEFAULTS: Mapping[str, Any] = {
        **dict.fromkeys(WORDS),
        "aws_conn_id": DEFAULT_CONN_ID,
        "region_name": None,
        "poll_interval": POLL_INTERVAL,
        "timeout": None,
        "waiting": None,
        "or_skip": False,
        "end_here": (),
        "push_xcom": True,
    }
    aws_conn_id: str | None
    region_name: str | None
    poll_interval: float
    timeout: float | None
    waiting: dict[str, Any] | None
    or_skip: bool
    end_here: Sequence[str]
    push_xcom: bool

    def __init__(self, version: int = VERSION, **words: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's own has no annotations
        for name, default in self.DEFAULTS.items():
            setattr(self, name, words.get(name, default))

    def serialize(self) -> tuple[str, dict[str, Any]]:
        said = {name: getattr(self, name) for name in self.DEFAULTS}
        return ("airflow_transient.triggers.depth.SqsDepthTrigger", {**said, "version": VERSION})

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        try:
            ended = await self._wait()
        except TransientError as error:  # the author's or an administrator's move: told on a worker, as an error
            ended = {"outcome": FAILED, "error": type(error).__name__, "words": str(error)}
        yield self._event(ended)

    async def _wait(self) -> dict[str, Any]:
        question = Question.of(**{name: getattr(self, name) for name in WORDS})
        waiting = self._resumed(_now())
        await asyncio.sleep(self._until_first(waiting))
        until = time.monotonic() + self._left(waiting, _now())
        in_a_row = question.condition.consecutive > 1
        asked = Asked(question.queues, question.asks_age, self.poll_interval, until, in_a_row)
        with self._poll().joined(asked) as wait:
            while True:
                look, said = await wait.news(), waiting.said
                if isinstance(look, Exception):
                    raise look
                now = _now()
                waiting = waiting.after(question, look, now)
                if waiting.said != said:
                    self.log.info("%s", waiting.said)
                if ended := self._ended(question, waiting, look, now):
                    return ended

    def _poll(self) -> Poll[Asked, Answer]:
        return queues_of(self.aws_conn_id, self.region_name)

    def _resumed(self, now: datetime) -> Waiting:
        """A new triggerer gets what the worker read, and not what the old triggerer read since."""
        if not self.waiting:
            return Waiting(now)
        return Waiting.from_dict(self.waiting).resumed(now, timedelta(seconds=self.poll_interval) + START)

    def _ended(self, question: Question, waiting: Waiting, look: Look, now: datetime) -> dict[str, Any] | None:
        said = {"words": waiting.said}
        if not isinstance(look, Unread) and waiting.is_over(question):
            told = {**question.told(look), "waited_seconds": round(waiting.seconds(now), 3)}
            return {**said, "outcome": HOLDS, "told": told}
        if self.or_skip and not isinstance(look, Unread) and not waiting.streak:
            return {**said, "outcome": NOT_NOW}
        if self._left(waiting, now) <= 0:
            return {**said, "outcome": TIMED_OUT}
        return None

    def _left(self, waiting: Waiting, now: datetime) -> float:
        return float("inf") if self.timeout is None else self.timeout - waiting.seconds(now)

    def _until_first(self, waiting: Waiting) -> float:
        """A worker has just looked: two looks at once would be one reading told twice."""
        if waiting.looked is None:
            return 0.0
        next_look = self.poll_interval - (_now() - waiting.looked).total_seconds()
        return max(0.0, min(next_look, self._left(waiting, _now())))

    def _event(self, ended: dict[str, Any]) -> TriggerEvent:
        if ended["outcome"] not in self.end_here:
            return TriggerEvent(ended)
        self.log.info("%s: %s", ended["outcome"], ended["words"])
        if ended["outcome"] == HOLDS:
            return TaskSuccessEvent(xcoms={"return_value": ended["told"]} if self.push_xcom else None)
        return TaskSkippedEvent()
