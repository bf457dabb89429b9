"""What was seen to go wrong with the provider's own EC2 operators and triggers, one by one, and what ours does.

The names are those of the failures as they were reproduced on apache-airflow-providers-amazon 9.39.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_transient import errors
from airflow_transient.aws.launcher import Refused
from airflow_transient.core.fallback import Scope
from airflow_transient.operators.ec2 import TransientEc2Operator
from airflow_transient.testing import FakeLauncher
from airflow_transient.triggers.launch import LaunchTrigger
from tests.airflow.stubs import Store, context


def operator(**words: Any) -> TransientEc2Operator:
    given = {"command": "true", "image_id": "ami-0123456789abcdef0", "instance_type": ["a", "b"], "poll_interval": 0.01}
    return TransientEc2Operator(task_id="task", deferrable=True, **{**given, **words})


def deferred(op: TransientEc2Operator, ctx: Any) -> LaunchTrigger:
    with pytest.raises(TaskDeferred) as away:
        op.execute(ctx)
    trigger: LaunchTrigger = away.value.trigger
    return trigger


async def event_after(trigger: LaunchTrigger, happens: Any) -> Any:
    trigger.trigger_id = 1
    waiting = asyncio.ensure_future(anext(trigger.run()))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    happens()
    return (await asyncio.wait_for(waiting, 10)).payload


@pytest.mark.parametrize("failure", ["E4: RequestLimitExceeded at every look", "E4b: not found at the first look"])
def test_a_look_without_an_answer_ends_no_wait(world: FakeLauncher, failure: str) -> None:
    trigger = deferred(operator(), context())
    (member,) = world.running()
    hidden = world.members.pop(member) if failure.startswith("E4b") else None
    world.blind = hidden is None

    def seen_again() -> None:
        world.blind = False
        if hidden:
            world.members[member] = hidden
        world.end(member, 0, at=datetime.now(timezone.utc))

    assert asyncio.run(event_after(trigger, seen_again))["outcome"] == "succeeded"


def test_e4c_a_machine_that_is_terminated_is_not_waited_for_without_end(world: FakeLauncher) -> None:
    trigger = deferred(operator(), context())
    launch = world.members

    def terminated() -> None:
        world.take_back(next(iter(launch)), "Client.UserInitiatedShutdown", at=datetime.now(timezone.utc))

    assert asyncio.run(event_after(trigger, terminated))["outcome"] == "stopped"


def test_e6_executed_twice_it_launches_once(world: FakeLauncher) -> None:
    store = Store()
    for number in (1, 2):
        deferred(operator(), context(store, try_number=number))
    assert len(world.members) == 1


def test_e6b_no_room_is_asked_elsewhere(world: FakeLauncher) -> None:
    world.refuse = [Refused(Scope.POOL, "InsufficientInstanceCapacity")]
    deferred(operator(), context())
    assert [seen.instance_type for seen in world.members.values()] == ["b"]


def test_e6c_no_room_anywhere_is_said_pool_by_pool(world: FakeLauncher) -> None:
    world.refuse = [Refused(Scope.POOL, "InsufficientInstanceCapacity")] * 2
    with pytest.raises(errors.CapacityError, match=r"a in default subnet.*b in default subnet"):
        operator().execute(context())


def test_e6d_an_exception_after_the_launch_leaks_nothing(world: FakeLauncher) -> None:
    """Whatever fails between the launch and the wait, the next try adopts."""
    store, broken = Store(), context()
    broken["task_state_store"] = store

    def fail(key: str, value: Any) -> None:
        raise RuntimeError("the API server is away")

    broken["ti"].xcom_push = fail
    with pytest.raises(RuntimeError):
        operator().execute(broken)
    assert deferred(operator(), context(store, try_number=2)).launch["ids"] == list(world.running())
    assert len(world.members) == 1


def test_e8_a_deferred_task_that_is_marked_takes_its_machine_along(world: FakeLauncher) -> None:
    trigger = deferred(operator(), context())

    async def marked_failed() -> str:
        return "failed"

    trigger._task_state = marked_failed  # type: ignore[method-assign]
    asyncio.run(trigger.on_kill())
    assert world.running() == ()
