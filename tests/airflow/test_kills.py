"""A DAG run with hundreds of launches is cleared: they are stopped together, and what fails is asked again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient import errors
from airflow_transient.core.launch import Launch
from airflow_transient.core.spec import Pool
from airflow_transient.operators import waiting
from airflow_transient.testing import FakeLauncher
from airflow_transient.triggers import launch as launch_triggers
from airflow_transient.triggers.launch import LaunchTrigger

START = datetime.now(timezone.utc)
ONE = Launch("ec2", "t-1", "nonce", (), "eu-west-1", START, START, START + timedelta(hours=1))


@pytest.fixture
def cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    async def task_state(self: LaunchTrigger) -> None:
        return None

    monkeypatch.setattr(LaunchTrigger, "_task_state", task_state)


def launched(world: FakeLauncher, count: int) -> list[LaunchTrigger]:
    triggers = []
    for number in range(1, count + 1):
        launch = replace(ONE, ids=(world._name(number),))
        world.members[launch.ids[0]] = world._born(launch.ids[0], launch, Pool())
        triggers.append(LaunchTrigger(launch.to_dict()))
        triggers[-1].trigger_id = number
    return triggers


def kill(triggers: Sequence[LaunchTrigger]) -> None:
    async def all_of_them() -> None:
        await asyncio.wait_for(asyncio.gather(*(trigger.on_kill() for trigger in triggers)), 20)

    asyncio.run(all_of_them())


@pytest.mark.usefixtures("cleared")
def test_two_hundred_kills_are_a_few_batches(world: FakeLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    stop_all = world.stop_all

    def counted(stops: Any) -> Any:
        sizes.append(len(stops))
        return stop_all(stops)

    monkeypatch.setattr(world, "stop_all", counted)
    kill(launched(world, 200))
    assert (sum(sizes), world.running()) == (200, ())
    assert len(sizes) <= 4


@pytest.mark.usefixtures("cleared")
def test_a_stop_that_is_refused_is_asked_again(world: FakeLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_triggers, "STOP_AGAIN", (0.01, 0.01))
    stop, refusals = (
        world.stop,
        [errors.LaunchError("throttled"), ConnectionError("Airflow does not tell the connection")],
    )

    def refused(launch: Launch, why: str = "request") -> None:
        if refusals:
            raise refusals.pop(0)
        stop(launch, why)

    monkeypatch.setattr(world, "stop", refused)
    kill(launched(world, 1))
    assert world.running() == ()


def test_whether_the_task_still_waits_is_asked_again_where_nobody_answers(
    world: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["unknown", "unknown", "failed"]

    async def task_state(self: LaunchTrigger) -> str:
        return answers.pop(0)

    monkeypatch.setattr(LaunchTrigger, "_task_state", task_state)
    monkeypatch.setattr(LaunchTrigger, "task_instance", object())
    monkeypatch.setattr(launch_triggers, "ASK_AGAIN", (0.01, 0.01))
    kill(launched(world, 1))
    assert (world.running(), answers) == ((), [])


def test_a_kill_on_a_worker_waits_for_no_lock_of_what_it_interrupts(
    world: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main thread holds it, and goes on only after the signal's handler."""
    monkeypatch.setattr(waiting, "KILL_TAKES", 0.05)
    lock, stopped, stop = threading.Lock(), threading.Event(), world.stop

    def locked(launch: Launch, why: str = "request") -> None:
        with lock:
            stop(launch, why)
            stopped.set()

    monkeypatch.setattr(world, "stop", locked)
    launched(world, 1)
    wait = waiting.WorkerWait(poll_interval=1)
    wait._live = (world, replace(ONE, ids=(world._name(1),)))
    with lock:
        wait.kill()
        assert world.running()
    assert stopped.wait(10)
    assert not world.running()
