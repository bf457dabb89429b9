"""The wait for a queue's workers: for its depth and for the machines at once, until more are needed or all is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_transient.core.launch import Launch
from airflow_transient.core.workers.turns import Crew, Terms, Turn, Waiting, on_reading, on_sighting, unread
from airflow_transient.hooks.aws import DEFAULT_CONN_ID, TransientHook
from airflow_transient.triggers.depth import queues_of
from airflow_transient.triggers.launch import LaunchTrigger
from airflow_transient.triggers.places import place_of
from airflow_transient.triggers.poll import Wait
from airflow_transient.triggers.queues import Asked

if TYPE_CHECKING:
    from airflow_transient.aws.polling import News
    from airflow_transient.aws.workers import CrewWaited


def _now() -> datetime:
    return datetime.now(timezone.utc)


class WorkersTrigger(LaunchTrigger):
    """
    Looks at a launch's machines and at the queue they work off. Its event is `Turn.to_dict()`, and `launch`.

    Killed and cancelled as any wait for a launch.

    :param launch: `Launch.to_dict()`; without ids where nothing has been launched yet, or all has ended.
    :param terms: `Terms.to_dict()`.
    :param region_name: where a queue is that is given by its name.
    """

    def __init__(
        self,
        launch: dict[str, Any],
        terms: dict[str, Any],
        aws_conn_id: str | None = DEFAULT_CONN_ID,
        region_name: str | None = None,
        poll_interval: float = 15.0,
        on_kill: str = "terminate",
        **later: Any,
    ) -> None:
        super().__init__(launch, aws_conn_id, poll_interval, on_kill, **later)
        self.terms = terms
        self.region_name = region_name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        _, words = super().serialize()
        path = "airflow_transient.triggers.workers.WorkersTrigger"
        return path, {**words, "terms": self.terms, "region_name": self.region_name}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        launch = Launch.from_dict(self.launch)
        try:
            turn = await self._turn(launch, Terms.from_dict(self.terms))
        except asyncio.CancelledError:
            if self.kill == "terminate" and launch.ids:
                self._cancelled(TransientHook(self.aws_conn_id, launch.region), launch)
            raise
        yield TriggerEvent({**turn.to_dict(), "launch": self.launch})

    async def _stop_if_over(self) -> None:
        if self.launch["ids"]:
            await super()._stop_if_over()

    async def _turn(self, launch: Launch, terms: Terms) -> Turn:
        with ExitStack() as waits:
            asked = Asked((terms.queue,), asks_age=False, interval=terms.interval)
            readings = waits.enter_context(queues_of(self.aws_conn_id, self.region_name).joined(asked))
            sightings = self._sightings(launch, waits)
            return await self._watch(terms, readings, sightings)

    def _sightings(self, launch: Launch, waits: ExitStack) -> Wait[CrewWaited, News] | None:
        """Of machines, where there are any."""
        from airflow_transient.aws.workers import CrewWaited

        if not launch.ids:
            return None
        crew = CrewWaited(launch, self.poll_interval)
        return waits.enter_context(place_of(self.aws_conn_id, launch).launches.joined(crew))  # type: ignore[return-value]

    async def _watch(self, terms: Terms, readings: Wait[Asked, Any], sightings: Wait[CrewWaited, News] | None) -> Turn:
        waiting, news = Waiting(), {"reading": asyncio.ensure_future(readings.news())}
        if sightings:
            news["sighting"] = asyncio.ensure_future(sightings.news())
        try:
            while True:
                await asyncio.wait(news.values(), return_when=asyncio.FIRST_COMPLETED)
                crew, turn = sightings.item.crew if sightings else Crew(), None
                if sightings and news["sighting"].done():
                    self.log.info("%s", news["sighting"].result().words)
                    news["sighting"] = asyncio.ensure_future(sightings.news())
                if news["reading"].done():
                    look = _look(terms, news["reading"].result())
                    news["reading"] = asyncio.ensure_future(readings.news())
                    waiting = self._told_depth(waiting, waiting.after(look, _now()))
                    turn = on_reading(terms, crew, waiting, look, _now())
                if turn := turn or on_sighting(terms, crew, waiting, _now()):
                    return turn
        finally:
            for each in news.values():
                each.cancel()

    def _told_depth(self, before: Waiting, now: Waiting) -> Waiting:
        if now.said != before.said:
            self.log.info("%s", now.said)
        return now


def _look(terms: Terms, answer: Any) -> Any:
    """A queue that is gone or closed is no answer while machines work; the end tells it."""
    return unread(terms.queue, answer) if isinstance(answer, Exception) else answer
