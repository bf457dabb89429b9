"""Many launches that are waited for in one process: few looks, each its own end and its own log."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient.core.cadence import Looked
from airflow_transient.core.ecs.terms import LogPlace, Terms
from airflow_transient.core.launch import Launch
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import Phase
from airflow_transient.testing import FakeEcsLauncher, FakeLauncher
from airflow_transient.triggers import launch as launch_triggers
from airflow_transient.triggers import poll
from airflow_transient.triggers.launch import LaunchTrigger


def now() -> datetime:
    return datetime.now(timezone.utc)


def launches(world: FakeLauncher, count: int, **changed: Any) -> list[Launch]:
    """So many of one member each, as if they had been launched."""
    start = now() - timedelta(minutes=20)
    names = [world._name(number + 1) for number in range(count)]
    drafts = [Launch(world.kind, f"t{n}-1", "nonce", (n,), "eu-west-1", start, start, now() + HOUR) for n in names]
    made = [replace(draft, **changed) for draft in drafts]
    world.members |= {launch.ids[0]: world._born(launch.ids[0], launch, Pool()) for launch in made}
    return made


HOUR = timedelta(hours=1)
TERMS = Terms("default", ("main",), 2100, 36000, 1, 1, logs=(LogPlace("main", "/jobs", "work", "eu-west-1"),))


def trigger_of(launch: Launch, **words: Any) -> LaunchTrigger:
    trigger = LaunchTrigger(launch.to_dict(), poll_interval=0.05, **words)
    trigger.trigger_id = 1
    return trigger


async def payload(trigger: LaunchTrigger) -> Any:
    return (await anext(trigger.run())).payload


def run(act: Any) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(act(), 20)

    return asyncio.run(bounded())


@pytest.fixture
def looks(world: FakeLauncher, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many launches each look was at."""
    monkeypatch.setattr(poll, "SETTLE", 2.0)  # on a busy machine they take their time to come
    sizes: list[int] = []
    observe_all = world.observe_all

    def counted(launches: Sequence[Launch], now: datetime) -> Looked[Any]:
        sizes.append(len(launches))
        return observe_all(launches, now)

    monkeypatch.setattr(world, "observe_all", counted)
    return sizes


def test_a_hundred_waits_are_one_look_and_each_gets_its_own_end(world: FakeLauncher, looks: list[int]) -> None:
    made = launches(world, 100)
    for number, launch in enumerate(made):
        world.end(launch.ids[0], number % 7, at=now())

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(payload(trigger_of(launch)) for launch in made))

    told = run(all_of_them)
    assert looks == [100]
    assert [(event["ids"], event["exit_code"]) for event in told] == [
        ([launch.ids[0]], number % 7) for number, launch in enumerate(made)
    ]


def test_a_region_has_looks_of_its_own(world: FakeLauncher, looks: list[int]) -> None:
    made = launches(world, 4)
    for launch in made:
        world.end(launch.ids[0], 0, at=now())
    where = ["eu-west-1", "us-east-1", "eu-west-1", "us-east-1"]

    async def all_of_them() -> None:
        moved = [replace(launch, region=region) for launch, region in zip(made, where, strict=True)]
        await asyncio.gather(*(payload(trigger_of(launch)) for launch in moved))

    run(all_of_them)
    assert looks == [2, 2]


def test_stops_that_take_their_time_keep_no_look_waiting(world: FakeLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    made, open_the_gate, begun = launches(world, 40), threading.Event(), []
    stop = world.stop

    def slow_stop(launch: Launch, why: str = "request") -> None:
        begun.append(launch.ids)
        assert open_the_gate.wait(15)
        stop(launch, why)

    async def marked(self: LaunchTrigger) -> str | None:
        return "failed"

    async def act() -> Any:
        waiting = asyncio.ensure_future(payload(trigger_of(made[0])))
        kills = [asyncio.ensure_future(trigger_of(launch).on_kill()) for launch in made[1:]]
        while not begun:
            await asyncio.sleep(0.01)
        world.end(made[0].ids[0], 0, at=now())
        told = await waiting
        was_held = not open_the_gate.is_set()
        open_the_gate.set()
        await asyncio.gather(*kills, *launch_triggers._going_on)
        return told["outcome"], was_held

    monkeypatch.setattr(world, "stop", slow_stop)
    monkeypatch.setattr(LaunchTrigger, "_task_state", marked)
    assert run(act) == ("succeeded", True)
    assert [m for m, seen in world.members.items() if seen.phase is not Phase.ENDED] == []


def test_past_its_deadline_it_is_stopped_beside_the_looks(world: FakeLauncher) -> None:
    (launch,) = launches(world, 1, deadline=now() - timedelta(seconds=1))
    assert run(lambda: payload(trigger_of(launch)))["outcome"] == "overdue"
    assert ("stop", launch.ids) in world.calls


class Log:
    """What each trigger says, by its launch."""

    def __init__(self) -> None:
        self.said: dict[str, list[str]] = {}

    def of(self, trigger: LaunchTrigger) -> Any:
        lines = self.said.setdefault(trigger.launch["ids"][0], [])

        class Logger:
            def info(self, words: str, *args: Any) -> None:
                lines.append(words % args)

        return Logger()


def test_a_job_s_lines_are_in_its_own_trigger_s_log_the_last_ones_too(
    tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, made = Log(), launches(tasks, 3, ecs=TERMS)
    lines = {launch.ids[0]: [f"line {n} of {launch.ids[0]}" for n in range(4)] for launch in made}

    def follow(launch: Launch) -> Any:
        left = list(lines[launch.ids[0]])
        return lambda: [left.pop(0)] if left else []

    async def act() -> None:
        waiting = [asyncio.ensure_future(payload(trigger_of(launch))) for launch in made]
        while not all(any("line 1" in words for words in said) for said in log.said.values() or [[]]):
            await asyncio.sleep(0.01)
        for launch in made:
            tasks.end(launch.ids[0], 0, at=now())
        await asyncio.gather(*waiting)

    monkeypatch.setattr(tasks, "follow", follow)
    monkeypatch.setattr(LaunchTrigger, "log", property(log.of))
    run(act)
    for member, said in log.said.items():
        told = [words for words in said if words.startswith("line")]
        assert told == lines[member][: len(told)]
        assert len(told) >= 3
        assert any("ended" in words for words in said)


def test_logs_that_cannot_be_read_keep_no_end(tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    (launch,) = launches(tasks, 1, ecs=TERMS)
    tasks.end(launch.ids[0], 0, at=now())
    monkeypatch.setattr(tasks, "follow", lambda launch: 1 / 0)
    assert run(lambda: payload(trigger_of(launch)))["outcome"] == "succeeded"
