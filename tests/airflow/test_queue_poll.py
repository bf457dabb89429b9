"""Waits for queues share their readings."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_transient.core.cadence import Pace, Pause
from airflow_transient.core.depth import Depth, Unread
from airflow_transient.errors import AccessError
from airflow_transient.triggers import depth as triggers
from airflow_transient.triggers import poll
from airflow_transient.triggers.depth import SqsDepthTrigger
from airflow_transient.triggers.queues import Asked, QueueLook

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)


class Cloud:
    """Makes readers of queues whose depths are written down; counts what is read."""

    def __init__(self, **depths: Any) -> None:
        self.depths, self.read, self.hooks = depths, Counter[str](), set[int]()

    def __call__(self, conn: Any, region: Any, asked: Any, hook: Any = None) -> Any:
        self.hooks.add(id(hook))
        return Reader(self, *asked.queues)


class Reader:
    def __init__(self, cloud: Cloud, queue: str) -> None:
        self.cloud, self.queue = cloud, queue

    def look(self, now: datetime) -> Any:
        self.cloud.read[self.queue] += 1
        found = self.cloud.depths[self.queue]
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, Unread) else (Depth(self.queue, found, at=now),)


def looks(cloud: Cloud, *asked: Asked) -> list[Any]:
    return list(QueueLook(lambda one: cloud(None, None, one))(asked, T0).answers)


def asked(*queues: str, asks_age: bool = False) -> Asked:
    return Asked(queues, asks_age, 30.0)


def test_each_queue_is_read_once_whoever_asks() -> None:
    cloud = Cloud(a=1, b=2)
    answers = looks(cloud, asked("a"), asked("b", "a"), asked("a", "b"))
    assert [[depth.visible for depth in answer] for answer in answers] == [[1], [2, 1], [1, 2]]
    assert cloud.read == {"a": 1, "b": 1}


def test_its_age_is_read_where_it_is_asked_for() -> None:
    cloud = Cloud(a=1)
    looks(cloud, asked("a"), asked("a", asks_age=True), asked("a", asks_age=True))
    assert cloud.read == {"a": 2}


def test_what_cannot_be_read_is_said_to_those_who_asked_for_it() -> None:
    cloud = Cloud(a=AccessError("not allowed"), b=RuntimeError("a mistake"), c=3)
    denied, strange, both, good = looks(cloud, asked("a"), asked("b"), asked("c", "a"), asked("c"))
    assert isinstance(denied, AccessError)
    assert isinstance(both, AccessError)
    assert isinstance(strange, Unread)
    assert good[0].visible == 3


@pytest.mark.parametrize(("left", "end"), [(5.0, 5.0), (-1.0, math.inf), (math.inf, math.inf)])
def test_the_last_look_is_at_the_wait_s_own_end(left: float, end: float) -> None:
    pause = Asked(("a",), False, 30.0, time.monotonic() + left).pause
    assert (pause.seconds, pause.end) == (30.0, pytest.approx(end, abs=0.1))


def test_the_readings_of_a_row_are_an_interval_apart_or_hardly_less() -> None:
    assert Asked(("a",), False, 30.0).pause.least == 0
    assert Asked(("a",), False, 30.0, apart=True).pause.least == 27


def test_a_drained_queue_is_read_twice_an_interval_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, looked = Cloud(jobs=0), list[Pause]()
    monkeypatch.setattr(triggers, "make_reader", cloud)
    monkeypatch.setattr(Pace, "next", lambda self, now, pause: (looked.append(pause), now + 0.01)[1])

    async def one() -> Any:
        trigger = SqsDepthTrigger(queues=["jobs"], drained=True, poll_interval=30.0)
        return await asyncio.wait_for(anext(trigger.run()), 20)

    assert asyncio.run(one()).payload["outcome"] == "holds"
    assert {pause.least for pause in looked} == {27}


def test_a_hundred_waits_read_a_queue_once_a_tick_with_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(jobs=5)
    monkeypatch.setattr(poll, "SETTLE", 0.5)  # on a busy machine they take their time to come
    monkeypatch.setattr(triggers, "make_reader", cloud)

    async def one() -> Any:
        trigger = SqsDepthTrigger(queues=["jobs"], at_least=5)
        return (await anext(trigger.run())).payload["outcome"]

    async def all_of_them() -> list[Any]:
        return await asyncio.wait_for(asyncio.gather(*(one() for _ in range(100))), 20)

    assert asyncio.run(all_of_them()) == ["holds"] * 100
    assert cloud.read == {"jobs": 1}
    assert len(cloud.hooks) == 1
