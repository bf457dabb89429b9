"""What was seen to go wrong with the provider's own ECS operator and trigger, one by one, and what ours does.

The names are those of the failures as they were reproduced on apache-airflow-providers-amazon 9.39.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason
from airflow.sdk.exceptions import TaskDeferred
from botocore.exceptions import ClientError

from airflow_transient import errors
from airflow_transient.aws import awslogs
from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.aws.launcher import Refused
from airflow_transient.core.ecs.judging import UNKNOWN_AFTER, Container
from airflow_transient.core.ecs.terms import LogPlace
from airflow_transient.core.fallback import Scope
from airflow_transient.operators.ecs import EcsBurstOperator
from airflow_transient.testing import FakeEcsLauncher
from airflow_transient.triggers.launch import LaunchTrigger
from tests.airflow.stubs import Store, context

SPOT_FIRST = ["FARGATE_SPOT", "FARGATE"]
CAPACITY = "Capacity is unavailable at this time"


def now() -> datetime:
    return datetime.now(timezone.utc)


def operator(**words: Any) -> EcsBurstOperator:
    given = {"task_id": "task", "task_definition": "work", "deferrable": True, "poll_interval": 0.01}
    return EcsBurstOperator(**{**given, **words})


def deferred(leg: Callable[..., Any], *args: Any, **kwargs: Any) -> LaunchTrigger:
    with pytest.raises(TaskDeferred) as away:
        leg(*args, **kwargs)
    trigger: LaunchTrigger = away.value.trigger
    return trigger


def event(
    trigger: LaunchTrigger, happens: Callable[[], None] | None = None, after: Callable[[], bool] | None = None
) -> Any:
    """What the trigger tells; `happens` only after it has looked for a while, or so often, and told nothing."""

    async def told() -> Any:
        trigger.trigger_id = 1
        waiting = asyncio.ensure_future(anext(trigger.run()))
        if happens:
            await asyncio.sleep(0.1)
            while after and not after():
                await asyncio.sleep(0.01)
            assert not waiting.done()
            happens()
        return (await asyncio.wait_for(waiting, 10)).payload

    return asyncio.run(told())


def stops(tasks: FakeEcsLauncher) -> list[Any]:
    return [ids for verb, ids in tasks.calls if verb == "stop"]


class Refusing:
    """A client of ECS or CloudWatch Logs on a bad day."""

    def __init__(self, code: str, status: int = 400) -> None:
        said = {"Error": {"Code": code, "Message": "…"}, "ResponseMetadata": {"HTTPStatusCode": status}}
        self.error = ClientError(said, "Look")  # type: ignore[arg-type]
        self.asked = 0

    def get_log_events(self, **_: Any) -> Any:
        self.asked += 1
        raise self.error

    describe_tasks = get_log_events


# --- E1: launching


def test_e1_no_cpu_is_asked_elsewhere(tasks: FakeEcsLauncher) -> None:
    tasks.refuse = [Refused(Scope.POOL, "1 task: RESOURCE:CPU")]
    deferred(operator(capacity_provider_strategies=SPOT_FIRST).execute, context())
    assert [seen.capacity for seen in tasks.members.values()] == ["FARGATE"]


def test_e1_no_cpu_anywhere_is_said_and_not_retried_in_vain(tasks: FakeEcsLauncher) -> None:
    tasks.refuse = [Refused(Scope.POOL, "1 task: RESOURCE:CPU")] * 2
    with pytest.raises(errors.CapacityError, match=r"FARGATE_SPOT: 1 task: RESOURCE:CPU; FARGATE: 1 task"):
        operator(capacity_provider_strategies=SPOT_FIRST).execute(context())


def test_e1b_an_empty_answer_is_asked_again(tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_transient.aws.placing.AGAIN_AFTER", 0.0)
    tasks.refuse = [Refused(Scope.AGAIN, "1 task: ECS gave no reason")]
    deferred(operator().execute, context())
    assert len(tasks.running()) == 1


# --- E2: waiting


@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param("ThrottlingException", 400, id="E2: throttled"),
        pytest.param("ServerException", 500, id="E2d: a 500"),
        pytest.param("ExpiredTokenException", 400, id="E2e: expired"),
        pytest.param("AccessDeniedException", 400, id="not allowed any more"),
        pytest.param("ClusterNotFoundException", 400, id="no cluster"),
    ],
)
def test_a_look_without_an_answer_ends_no_wait(tasks: FakeEcsLauncher, code: str, status: int) -> None:
    """However often: ECS's own errors, as our launcher takes them, until the task is seen again."""
    op, ctx = operator(), context()
    trigger = deferred(op.execute, ctx)
    see, ecs = tasks.observe, Refusing(code, status)
    tasks.observe = EcsLauncher(lambda *_: ecs).observe  # type: ignore[method-assign]

    def seen_again() -> None:
        tasks.end(tasks.running()[0], 0, at=now())
        tasks.observe = see  # type: ignore[method-assign]

    assert op.execute_complete(ctx, event=event(trigger, seen_again, lambda: ecs.asked > 5))["outcome"] == "succeeded"
    assert ecs.asked > 5
    assert (len(tasks.members), stops(tasks)) == (1, [])


def test_e2b_a_trigger_that_died_gets_another_one_and_no_second_task(tasks: FakeEcsLauncher) -> None:
    op, store = operator(), Store()
    first = deferred(op.execute, context(store))
    died = {"error": TriggerFailureReason.TRIGGER_FAILURE}
    second = deferred(op.resume_execution, TRIGGER_FAIL_REPR, died, context(store))
    assert second.launch["ids"] == first.launch["ids"] == list(tasks.running())


def test_e2f_a_task_that_aged_out_is_lost_and_no_success(
    tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    op, ctx = operator(), context()
    trigger = deferred(op.execute, ctx)
    tasks.forget(tasks.running()[0])
    asked = datetime.fromisoformat(trigger.launch["boot_by"]) - UNKNOWN_AFTER
    trigger.launch["boot_by"] = asked.isoformat()
    monkeypatch.setattr("airflow_transient.core.ecs.judging.ABSENT_FOR", timedelta(0))
    with pytest.raises(errors.Lost, match="no longer knows it"):
        op.execute_complete(ctx, event=event(trigger))
    assert stops(tasks) == []


def test_what_is_missing_right_after_its_launch_is_waited_for(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(), context()
    trigger = deferred(op.execute, ctx)
    (member,) = tasks.running()
    hidden = tasks.members.pop(member)

    def known() -> None:
        tasks.members[member] = hidden
        tasks.end(member, 0, at=now())

    assert op.execute_complete(ctx, event=event(trigger, known))["outcome"] == "succeeded"


# --- E3, E11: logs


LOG_TROUBLES = [
    pytest.param("ThrottlingException", id="E3: throttled"),
    pytest.param("AccessDeniedException", id="E3b: not allowed"),
    pytest.param("ResourceNotFoundException", id="E11: no such stream"),
]


def with_logs(tasks: FakeEcsLauncher, code: str) -> Refusing:
    logs = Refusing(code)
    tasks.definition = replace(tasks.definition, logs=(LogPlace("main", "/jobs", "work", "eu-west-1"),))
    tasks.follow = lambda launch: awslogs.Follower(lambda *_, **__: logs, launch).new_lines  # type: ignore[method-assign]
    tasks.explain = lambda launch, member: awslogs.tail(lambda *_, **__: logs, launch, member)  # type: ignore[method-assign]
    return logs


@pytest.mark.parametrize("code", LOG_TROUBLES)
@pytest.mark.parametrize("exit_code", [0, 3])
def test_logs_that_cannot_be_read_change_no_ending(tasks: FakeEcsLauncher, code: str, exit_code: int) -> None:
    logs = with_logs(tasks, code)
    op, ctx = operator(), context()
    trigger = deferred(op.execute, ctx)
    told = event(trigger, lambda: tasks.end(tasks.running()[0], exit_code, at=now()))
    assert logs.asked
    if exit_code:
        with pytest.raises(errors.JobFailed, match="main exit 3"):
            op.execute_complete(ctx, event=told)
        assert "cannot be read" in ctx["ti"].xcoms["verdict"]["failed"][0]["log_tail"][0]
    else:
        assert op.execute_complete(ctx, event=told)["outcome"] == "succeeded"


# --- E5: judging


def test_e5_a_sidecar_killed_after_the_job_decides_nothing(tasks: FakeEcsLauncher) -> None:
    tasks.definition = replace(tasks.definition, containers=("main", "proxy"))
    op, ctx = operator(), context()
    trigger = deferred(op.execute, ctx)
    tasks.end(tasks.running()[0], at=now(), containers=(Container("main", 0), Container("proxy", 137)))
    told = op.execute_complete(ctx, event=event(trigger))
    assert (told["outcome"], told["members"][0]["exit_codes"]) == ("succeeded", {"main": 0, "proxy": 137})


@pytest.mark.parametrize("reason", ["SpotInterruption", "TerminationNotice"], ids=["E5b", "E5e"])
def test_what_aws_took_back_is_no_success_though_it_ended_with_0(tasks: FakeEcsLauncher, reason: str) -> None:
    """It is launched once more, and its code 0 on the signal counts for nothing."""
    op, ctx = operator(), context()
    first = deferred(op.execute, ctx)
    tasks.take_back(tasks.running()[0], reason, at=now())
    second = deferred(op.execute_complete, ctx, event=event(first))
    assert second.launch["ids"] == list(tasks.running())
    tasks.end(tasks.running()[0], 0, at=now())
    assert op.execute_complete(ctx, event=event(second))["counts"] == {"succeeded": 1, "interrupted": 1}


def test_e5c_what_a_person_stopped_is_no_success_though_it_ended_with_0(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(), context()
    trigger = deferred(op.execute, ctx)
    tasks.take_back(tasks.running()[0], "UserInitiated", at=now())
    with pytest.raises(errors.Stopped, match="CloudTrail"):
        op.execute_complete(ctx, event=event(trigger))


def test_e5f_capacity_that_never_came_is_asked_elsewhere(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(capacity_provider_strategies=SPOT_FIRST), context()
    first = deferred(op.execute, ctx)
    tasks.never_start(tasks.running()[0], CAPACITY, at=now())
    deferred(op.execute_complete, ctx, event=event(first))
    assert [seen.capacity for seen in tasks.members.values()] == ["FARGATE_SPOT", "FARGATE"]


# --- E8, E10: stopping


def test_e8_a_deferred_task_that_is_marked_takes_its_tasks_along(tasks: FakeEcsLauncher) -> None:
    trigger = deferred(operator(task_count=3).execute, context())

    async def marked_failed() -> str:
        return "failed"

    trigger._task_state = marked_failed  # type: ignore[method-assign]
    asyncio.run(trigger.on_kill())
    assert tasks.running() == ()


def test_a_timeout_of_the_wait_stops_what_it_waited_for(tasks: FakeEcsLauncher) -> None:
    """apache/airflow#32580: execution_timeout of a deferred task leaves its ECS task running."""
    op, store = operator(poll_interval=0.01), Store()
    deferred(op.execute, context(store))
    late = {"error": TriggerFailureReason.TRIGGER_TIMEOUT}
    with pytest.raises(errors.Overdue):
        op.resume_execution(TRIGGER_FAIL_REPR, late, context(store))
    assert tasks.running() == ()


def test_e10_throttled_looks_in_a_worker_stop_nothing(tasks: FakeEcsLauncher) -> None:
    looks, observe = iter(range(100)), tasks.observe

    def throttled_at_first(launch: Any, at: datetime) -> Any:
        tasks.blind = (number := next(looks)) < 5
        if number == 5:
            tasks.end(launch.ids[0], 0, at=now())
        return observe(launch, at)

    tasks.observe = throttled_at_first  # type: ignore[method-assign]
    assert operator(deferrable=False).execute(context())["outcome"] == "succeeded"
    assert (next(looks) > 5, stops(tasks)) == (True, [])


def test_what_came_beside_an_unclear_answer_is_stopped_when_no_try_is_left(tasks: FakeEcsLauncher) -> None:
    """One of several calls has no clear answer, and nobody will ask again: the tasks of the others run unwatched."""
    launch = tasks.launch

    def partly_unclear(request: Any, again: bool = False) -> Any:
        launch(request)
        raise errors.LaunchError("ECS gave no clear answer to 1 of 3 calls")

    tasks.launch = partly_unclear  # type: ignore[method-assign]
    with pytest.raises(errors.LaunchError):
        operator(task_count=25).execute(context(try_number=3, max_tries=2))
    assert tasks.running() == ()


# --- which pool is left


def test_what_spot_took_back_does_not_speak_against_the_pool_that_took_the_rest(tasks: FakeEcsLauncher) -> None:
    """Spot had room for two, on-demand took the third; both spot tasks are taken back."""
    tasks.room = 2
    op, ctx = operator(task_count=3, capacity_provider_strategies=SPOT_FIRST), context()
    first = deferred(op.execute, ctx)
    for member, seen in list(tasks.members.items()):
        if seen.capacity == "FARGATE_SPOT":
            tasks.take_back(member, at=now())
        else:
            tasks.end(member, 0, at=now())
    second = deferred(op.execute_complete, ctx, event=event(first))
    assert {tasks.members[member].capacity for member in second.launch["ids"]} == {"FARGATE"}


def test_what_spot_took_back_earlier_does_not_speak_against_the_pool_that_came_next(tasks: FakeEcsLauncher) -> None:
    """Spot took it back, on-demand had a hiccup: it is asked once more, and spot is not."""
    op, ctx = operator(capacity_provider_strategies=SPOT_FIRST), context()
    first = deferred(op.execute, ctx)
    tasks.take_back(tasks.running()[0], at=now())
    second = deferred(op.execute_complete, ctx, event=event(first))
    hiccup = "Timeout waiting for network interface provisioning to complete."
    tasks.never_start(tasks.running()[0], hiccup, at=now())
    third = deferred(op.execute_complete, ctx, event=event(second))
    assert tasks.members[third.launch["ids"][0]].capacity == "FARGATE"
