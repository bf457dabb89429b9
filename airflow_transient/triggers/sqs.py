"""A queue's depth as an event of an asset, again and again: no worker, and one poll for all who watch the same."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_transient.core.condition import CONDITION_WORDS, WORDS, Look, Question, plain
from airflow_transient.core.depth import Unread
from airflow_transient.core.edge import COOLDOWN, Bell, Edge
from airflow_transient.errors import SpecError
from airflow_transient.hooks.aws import DEFAULT_CONN_ID
from airflow_transient.triggers.depth import POLL_INTERVAL, VERSION, SqsDepthTrigger, make_reader
from airflow_transient.triggers.poll import LOOKS

if TYPE_CHECKING:
    from airflow_transient.aws.sqs import Reader

#: Waits that began before an upgrade are kept in Airflow's database under this module's name.
__all__ = ["Snapshot", "SqsDepthEventTrigger", "SqsDepthTrigger"]

#: Seconds between looks that failed: doubled from the first to the second, less a random part.
BACK_OFF = (5.0, 300.0)
#: What the state of a watcher is called in its asset's state store, before its fingerprint.
STATE = "airflow_transient.sqs"
WATCHED = ("queues", *(name for name in CONDITION_WORDS if name != "consecutive"))


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Snapshot:
    """One tick of a stream: what all its watchers see."""

    look: Look
    at: datetime


class SqsDepthEventTrigger(BaseEventTrigger):
    """
    A queue's depth as an event of an asset, for ``AssetWatcher``: a DAG runs when a queue fills. Receives no message.

    Fires once when the condition begins to hold (also when it holds as the watcher first looks), and again after the
    depth has fallen and risen. The payload is the reading of each queue, their sums and, with a rule, ``size``: how
    many tasks a burst would launch, and why. Watchers of the same queues, connection and interval share one poll. It
    ends for no error: where AWS gives no clear answer it tries again after 5 s, later after up to 5 min. What it has
    fired for is kept in the asset's state store: a restart of the triggerer loses no event, and may repeat one.

    Not templated. A wrong value raises ``SpecError`` where the DAG file is parsed.

    :param queues: one or several names, URLs or ARNs; a comma-separated string will do.
    :param at_least: fire at so many messages or more. Exactly one of at_least, at_most and drained, unless
        oldest_older_than stands alone.
    :param at_most: fire at so many or fewer.
    :param drained: fire when nothing is visible, in flight or delayed.
    :param oldest_older_than: timedelta, or seconds: the oldest message must be older. Beside another condition both
        must hold. From CloudWatch, which is some minutes late; a queue without a recent value does not count as old.
    :param each: the condition must hold for each queue; default: for their sum.
    :param count_in_flight: messages that somebody is working on count, too.
    :param count_delayed: messages that nobody can see yet count, too.
    :param consecutive: so many readings in a row; default 1, and 2 for drained, because the counters are approximate.
    :param rearm_at: fire again only after the depth was at this or below (or above, for at_most and drained);
        default: after the condition has not held.
    :param cooldown: timedelta, or seconds between two events at least; default 60. What begins to hold meanwhile fires
        at its end, if it still holds.
    :param repeat_every: timedelta, or seconds: fire again while the condition goes on holding; default: not.
    :param messages_per_task: and ``task_count``, ``max_count``, ``hard_cap``, ``activation``: as EcsBurstOperator's.
    :param aws_conn_id: Airflow connection of type ``aws``; default ``aws_default``, which may be absent.
    :param region_name: default: the connection's; a queue's URL or ARN wins.
    :param poll_interval: seconds between looks, default 30.
    """

    def __init__(
        self,
        queues: str | Sequence[str],
        *,
        at_least: int | None = None,
        at_most: int | None = None,
        drained: bool = False,
        oldest_older_than: timedelta | float | None = None,
        each: bool = False,
        count_in_flight: bool = False,
        count_delayed: bool = False,
        consecutive: int | None = None,
        rearm_at: int | None = None,
        cooldown: timedelta | float = COOLDOWN,
        repeat_every: timedelta | float | None = None,
        messages_per_task: int | None = None,
        task_count: int | None = None,
        max_count: int | None = None,
        hard_cap: int | None = None,
        activation: int | None = None,
        aws_conn_id: str | None = DEFAULT_CONN_ID,
        region_name: str | None = None,
        poll_interval: float = POLL_INTERVAL,
        version: int | None = None,
        **later: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        given = {**locals()}
        self.words = {name: plain(given[name]) for name in WORDS}
        self.bell_words = {name: plain(given[name]) for name in ("rearm_at", "cooldown", "repeat_every")}
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.poll_interval = poll_interval
        # Without a version an author wrote this. With one it comes from the database: then it must not raise, because
        # an exception here would end Airflow's whole triggerer (only TypeError is caught there).
        if version is None:
            self._check(later)

    def _check(self, unknown: Mapping[str, Any]) -> None:
        if unknown:
            raise TypeError(f"SqsDepthEventTrigger has no {', '.join(unknown)}")
        if self.poll_interval <= 0:
            raise SpecError(f"poll_interval is {self.poll_interval}: seconds, and more than 0")
        self._bell(Question.of(**self.words))

    def _bell(self, question: Question) -> Bell:
        return Bell.of(question.condition, **self.bell_words)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        where = {"aws_conn_id": self.aws_conn_id, "region_name": self.region_name, "poll_interval": self.poll_interval}
        return (
            "airflow_transient.triggers.sqs.SqsDepthEventTrigger",
            {**self.words, **self.bell_words, **where, "version": VERSION},
        )

    def shared_stream_key(self) -> Hashable:
        """A question that is wrong raises here; Airflow then takes run(), which says so and rests."""
        question = Question.of(**self.words)
        self._bell(question)
        queues = tuple(sorted(question.queues))
        return (STATE, self.aws_conn_id, self.region_name, self.poll_interval, question.asks_age, queues)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncGenerator[Snapshot, None]:
        """Ticks for all who share it. Never ends and never raises: that would end every watcher."""
        watcher = cls(**kwargs)
        reader = make_reader(watcher.aws_conn_id, watcher.region_name, Question.of(**watcher.words))
        failed = 0
        while True:
            look = await asyncio.get_running_loop().run_in_executor(LOOKS, _look, reader)
            yield Snapshot(look, _now())
            failed = failed + 1 if isinstance(look, Unread) else 0
            await asyncio.sleep(_pause(failed) if failed else watcher.poll_interval)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Snapshot]) -> AsyncGenerator[TriggerEvent, None]:
        question = Question.of(**self.words)
        bell, said = self._bell(question), None
        kept = edge = await self._recall()
        async for snapshot in shared_stream:
            look = _in_order(snapshot.look, question.queues)
            rings, edge = bell.ring(edge, look, snapshot.at)
            words = question.in_words(look, edge.streak)
            if words != said:
                self.log.info("%s", words)
                said = words
            if rings and not isinstance(look, Unread):
                yield TriggerEvent(question.told(look))
            # After the yield: whoever dies in between tells it again, and nobody loses it.
            if edge.to_dict() != kept.to_dict() and await self._keep(edge):
                kept = edge

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """The same for one alone: `airflow dags test` knows no shared streams."""
        try:
            async with aclosing(self._alone()) as events:
                async for event in events:
                    yield event
        except SpecError as error:  # kept by an earlier version, wrong by now: the DAG file's next parse replaces it
            self.log.error("this watcher cannot watch: %s", error)
            await asyncio.Event().wait()

    async def _alone(self) -> AsyncGenerator[TriggerEvent, None]:
        async with aclosing(self.open_shared_stream(self.serialize()[1])) as stream:
            async for event in self.filter_shared_stream(stream):
                yield event

    @property
    def _state_key(self) -> str:
        """What is watched and not how: another condition is another watch, another interval or rule is not."""
        words = {name: self.words[name] for name in WATCHED}
        watched = json.dumps([words, self.aws_conn_id, self.region_name], sort_keys=True)
        return f"{STATE}.{hashlib.sha256(watched.encode()).hexdigest()[:16]}"

    async def _recall(self) -> Edge:
        """Tries until it is answered: to begin armed would tell again what has been told."""
        failed = 0
        while self.asset_state_store is not None:
            try:
                said = await self.asset_state_store.aget(self._state_key)
            except ValueError as error:  # one trigger that watches for several assets has no store of its own
                self.log.warning("what it has fired for is kept in memory only: %s", error)
                self.asset_state_store = None
            except Exception as error:  # it goes over two processes and a network; any failure is the same answer
                failed += 1
                self.log.warning("its state cannot be read, trying again: %s", error)
                await asyncio.sleep(_pause(failed))
            else:
                return Edge.from_dict(said) if isinstance(said, Mapping) else Edge()
        return Edge()

    async def _keep(self, edge: Edge) -> bool:
        if self.asset_state_store is None:
            return True
        try:
            await self.asset_state_store.aset(self._state_key, edge.to_dict())
        except Exception as error:  # as above; the next tick tries again
            self.log.warning("its state cannot be kept, trying again: %s", error)
            return False
        return True


def _look(reader: Reader) -> Look:
    try:
        return reader.look(_now())
    except Exception as error:  # whatever it is, it must not end the watch: not even a queue that is missing today
        return Unread(", ".join(reader.queues), str(error))


def _in_order(look: Look, queues: Sequence[str]) -> Look:
    """The stream was opened for a sibling, which may name the same queues in another order."""
    if isinstance(look, Unread):
        return look
    return sorted(look, key=lambda depth: queues.index(depth.queue))


def _pause(failed: int) -> float:
    first, most = BACK_OFF
    return min(most, first * 2.0 ** (failed - 1)) * random.uniform(0.5, 1.0)  # noqa: S311  (spreads calls, hides nothing)
