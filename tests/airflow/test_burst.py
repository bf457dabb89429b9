"""The journey of a burst: sized, launched, waited for, launched again where AWS failed, told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from airflow_transient import errors
from airflow_transient.aws import sizing
from airflow_transient.aws.launcher import Refused
from airflow_transient.core.depth import Depth, Live
from airflow_transient.core.ecs.judging import Container
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Phase
from airflow_transient.operators.ecs import EcsBurstOperator
from airflow_transient.testing import FakeEcsLauncher
from tests.airflow.legs import Died, away, event
from tests.airflow.stubs import Store, context

SPOT_FIRST = ["FARGATE_SPOT", "FARGATE"]
CAPACITY = "Capacity is unavailable at this time"


def now() -> datetime:
    return datetime.now(timezone.utc)


def operator(**words: Any) -> EcsBurstOperator:
    given = {"task_id": "task", "task_definition": "work", "task_count": 3, "deferrable": True, "poll_interval": 0.01}
    return EcsBurstOperator(**{**given, **words})


def end_all(tasks: FakeEcsLauncher, exit_code: int = 0) -> None:
    for member in tasks.running():
        tasks.end(member, exit_code, at=now())


@pytest.fixture
def depth(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the queue and ECS answer when a burst is sized."""
    said: dict[str, Any] = {"visible": 60, "live": Live()}

    def read(client: Any, queues: Any, at: datetime) -> list[Depth]:
        if isinstance(said["visible"], Exception):
            raise said["visible"]
        return [Depth("jobs", said["visible"], said.get("in_flight", 0), at=at)]

    monkeypatch.setattr(sizing, "read_depths", read)

    def live(client: Any, spec: Any, owner: Any, at: datetime, with_ended: bool = True) -> Live:
        return said["live"] if with_ended else replace(said["live"], ended=0)

    monkeypatch.setattr(sizing, "live_tasks", live)
    return said


def test_the_journey_of_a_success(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(), context()
    trigger = away(op.execute, ctx)
    assert len(tasks.running()) == 3
    assert len(ctx["ti"].xcoms["launch"]["ids"]) == 3
    end_all(tasks)
    told = op.execute_complete(ctx, event=event(trigger))
    assert (told["outcome"], told["counts"], told["exit_codes"]) == ("succeeded", {"succeeded": 3}, {"0": 3})


def test_a_failed_task_is_told_with_its_code_and_the_end_of_its_log(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(), context()
    trigger = away(op.execute, ctx)
    first, *rest = tasks.running()
    tasks.end(first, 7, at=now())
    end_all(tasks)
    with pytest.raises(errors.JobFailed, match=r"1 of 3 members.*main exit 7"):
        op.execute_complete(ctx, event=event(trigger))
    (failed,) = ctx["ti"].xcoms["verdict"]["failed"]
    assert (failed["id"], failed["exit_code"]) == (first, 7)
    assert f"the log of {first}" in failed["log_tail"]
    assert len(rest) == 2


@pytest.mark.parametrize(
    ("min_success", "good", "succeeds"),
    [(1.0, 2, False), (2, 2, True), ("66%", 2, True), (0.5, 1, False), ("1", 1, True), (0.0, 0, True)],
)
def test_so_many_must_succeed(tasks: FakeEcsLauncher, min_success: Any, good: int, succeeds: bool) -> None:
    op, ctx = operator(min_success=min_success), context()
    trigger = away(op.execute, ctx)
    for number, member in enumerate(tasks.running()):
        tasks.end(member, 0 if number < good else 1, at=now())
    if succeeds:
        assert op.execute_complete(ctx, event=event(trigger))["counts"].get("succeeded", 0) == good
    else:
        with pytest.raises(errors.JobFailed):
            op.execute_complete(ctx, event=event(trigger))


def test_once_too_few_are_left_the_rest_is_stopped(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(stop_on_failure=True), context()
    trigger = away(op.execute, ctx)
    tasks.end(tasks.running()[0], 1, at=now())
    with pytest.raises(errors.JobFailed, match="main exit 1"):
        op.execute_complete(ctx, event=event(trigger))
    assert tasks.running() == ()


def test_a_burst_that_can_still_reach_what_it_needs_goes_on(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(stop_on_failure=True, min_success=2), context()
    trigger = away(op.execute, ctx)
    tasks.end(tasks.running()[0], 1, at=now())

    trigger.trigger_id = 1  # a triggerer's, which is not an inline one that Ctrl-C ends

    async def wait() -> None:
        await asyncio.wait_for(anext(trigger.run()), 0.1)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(wait())
    assert len(tasks.running()) == 2


# --- sizes


def test_a_queue_says_how_many_and_why(tasks: FakeEcsLauncher, depth: dict[str, Any]) -> None:
    op, ctx = operator(queues="jobs", task_count=1, messages_per_task=10), context()
    away(op.execute, ctx)
    assert len(tasks.running()) == 6
    assert ctx["ti"].xcoms["size"]["reason"] == "jobs: 60 visible: 10 per task asks for 6"


def test_an_empty_queue_skips_the_task(tasks: FakeEcsLauncher, depth: dict[str, Any]) -> None:
    depth["visible"] = 0
    with pytest.raises(AirflowSkipException, match="no work"):
        operator(queues="jobs").execute(context())
    assert tasks.calls == []


@pytest.mark.parametrize("error", [errors.AccessError("no"), errors.LaunchError("throttled"), errors.SpecError("gone")])
def test_what_cannot_be_read_launches_nothing(
    tasks: FakeEcsLauncher, depth: dict[str, Any], error: errors.TransientError
) -> None:
    depth["visible"] = error
    with pytest.raises(type(error)):
        operator(queues="jobs").execute(context())
    assert tasks.calls == []


def test_a_top_up_starts_what_is_missing(tasks: FakeEcsLauncher, depth: dict[str, Any]) -> None:
    depth["live"] = Live(2)
    away(operator(top_up=True).execute, context())
    assert len(tasks.running()) == 1


def test_a_top_up_with_nothing_missing_is_skipped(tasks: FakeEcsLauncher, depth: dict[str, Any]) -> None:
    depth["live"] = Live(3)
    with pytest.raises(AirflowSkipException, match="task_count 3 less 3 live"):
        operator(top_up=True).execute(context())


def test_the_next_try_takes_the_size_of_the_first(tasks: FakeEcsLauncher, depth: dict[str, Any]) -> None:
    store = Store()
    away(operator(queues="jobs", messages_per_task=10).execute, context(store))
    depth["visible"] = 0
    trigger = away(operator(queues="jobs", messages_per_task=10).execute, context(store, try_number=2))
    assert len(trigger.launch["ids"]) == 6
    assert len(tasks.running()) == 6


@pytest.mark.parametrize(
    "words",
    [
        pytest.param({"max_count": 0}, id="a bound"),
        pytest.param({"strategy": "greedy"}, id="a name"),
        pytest.param({"max_count": 0, "cluster": "{{ ds }}"}, id="a bound beside a template"),
        pytest.param({"launch_type": "FARGATE", "capacity_provider_strategies": ["FARGATE"]}, id="two at once"),
        pytest.param({"min_success": "abc"}, id="no share"),
    ],
)
def test_what_is_wrong_as_it_is_written_is_said_where_the_file_is_parsed(words: dict[str, Any]) -> None:
    with pytest.raises(errors.SpecError):
        operator(**words)


def test_what_a_template_makes_wrong_is_said_before_anything_is_launched(tasks: FakeEcsLauncher) -> None:
    op = operator(max_count="{{ params.most }}")
    op.max_count = "0"
    with pytest.raises(errors.SpecError, match="max_count is 0"):
        op.execute(context())
    assert tasks.calls == []


# --- one launch


def test_executed_twice_it_launches_once(tasks: FakeEcsLauncher) -> None:
    store = Store()
    first, second = (away(operator().execute, context(store, try_number=n)) for n in (1, 2))
    assert first.launch["ids"] == second.launch["ids"]
    assert len(tasks.members) == 3


def test_a_clear_stops_the_old_and_launches_anew(tasks: FakeEcsLauncher) -> None:
    store = Store()
    first = away(operator().execute, context(store))
    second = away(operator().execute, context(store, try_number=2, max_tries=3))
    assert set(tasks.running()) == set(second.launch["ids"])
    assert not set(first.launch["ids"]) & set(second.launch["ids"])


def test_a_kill_that_was_cut_short_leaves_nothing_beside_the_next_generation(tasks: FakeEcsLauncher) -> None:
    store = Store()
    first = away(operator().execute, context(store))
    tasks.stop(Launch.from_dict(first.launch).with_ids(tuple(first.launch["ids"][:1])))
    second = away(operator().execute, context(store, try_number=2))
    assert set(tasks.running()) == set(second.launch["ids"])


def launched_and_died(tasks: FakeEcsLauncher, store: Store) -> None:
    launch = tasks.launch

    def launch_and_die(request: Any, again: bool = False) -> Any:
        launch(request)
        raise Died

    tasks.launch = launch_and_die  # type: ignore[method-assign]
    with pytest.raises(Died):
        operator().execute(context(store))
    tasks.launch = launch  # type: ignore[method-assign]


def test_an_answer_that_was_never_written_down_is_asked_for_again(tasks: FakeEcsLauncher) -> None:
    store = Store()
    launched_and_died(tasks, store)
    trigger = away(operator().execute, context(store, try_number=2))
    assert (len(trigger.launch["ids"]), len(tasks.members)) == (3, 3)


def test_after_start_timeout_it_is_looked_for(tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    launched_and_died(tasks, store)
    monkeypatch.setattr("airflow_transient.operators.launch._now", lambda: now() + timedelta(minutes=50))
    asked = [*tasks.calls]
    trigger = away(operator().execute, context(store, try_number=2))
    assert (len(trigger.launch["ids"]), len(tasks.members)) == (3, 3)
    assert tasks.calls == asked


def test_what_is_found_whole_an_hour_later_is_told_as_it_is(
    tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    launched_and_died(tasks, store)
    monkeypatch.setattr("airflow_transient.operators.launch._now", lambda: now() + timedelta(hours=1))
    trigger = away(operator(start_timeout=7200).execute, context(store, try_number=2))
    assert len(trigger.launch["ids"]) == 3
    assert "nobody can say" not in capsys.readouterr().out


def test_what_is_found_of_it_an_hour_later_is_judged_and_the_rest_is_lost(
    tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, adopt = Store(), tasks.adopt
    launched_and_died(tasks, store)

    def two_of_three(request: Any) -> Any:
        launch = adopt(request)
        return launch and launch.with_ids(launch.ids[:2])

    monkeypatch.setattr(tasks, "adopt", two_of_three)
    monkeypatch.setattr("airflow_transient.operators.launch._now", lambda: now() + timedelta(hours=1))
    op, ctx = operator(start_timeout=7200), context(store, try_number=2)
    trigger = away(op.execute, ctx)
    assert (len(trigger.launch["ids"]), len(tasks.members)) == (2, 3)
    end_all(tasks)
    with pytest.raises(errors.Lost, match="2 succeeded and 3 must"):
        op.execute_complete(ctx, event=event(trigger))
    assert len(tasks.members) == 3


def test_what_was_asked_for_so_long_ago_that_nobody_knows_is_lost_and_not_launched_twice(
    tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    launched_and_died(tasks, store)
    monkeypatch.setattr(tasks, "adopt", lambda request: None)
    monkeypatch.setattr("airflow_transient.operators.launch._now", lambda: now() + timedelta(hours=30))
    with pytest.raises(errors.Lost, match="nobody can say"):
        operator().execute(context(store, try_number=2))
    assert len(tasks.members) == 3


def test_a_launch_that_is_not_waited_for(tasks: FakeEcsLauncher) -> None:
    told = operator(wait_for_completion=False).execute(context())
    assert told["outcome"] == "launched"
    assert told["ids"] == list(tasks.running())


# --- room


def test_where_spot_has_no_room_the_next_provider_is_asked(tasks: FakeEcsLauncher) -> None:
    tasks.refuse = [Refused(Scope.POOL, CAPACITY)]
    away(operator(capacity_provider_strategies=SPOT_FIRST).execute, context())
    assert [seen.capacity for seen in tasks.members.values()] == ["FARGATE"] * 3


def test_a_part_that_came_is_kept_and_the_rest_asked_elsewhere(tasks: FakeEcsLauncher) -> None:
    tasks.room = 2
    away(operator(capacity_provider_strategies=SPOT_FIRST).execute, context())
    assert [seen.capacity for seen in tasks.members.values()] == ["FARGATE_SPOT"] * 2 + ["FARGATE"]


def test_without_room_for_all_those_that_came_begin_and_the_rest_follows(tasks: FakeEcsLauncher) -> None:
    tasks.room = 2
    op, ctx = operator(), context()
    first = away(op.execute, ctx)
    assert len(first.launch["ids"]) == 2
    end_all(tasks)
    second = away(op.execute_complete, ctx, event=event(first))
    assert len(second.launch["ids"]) == 1
    end_all(tasks)
    told = op.execute_complete(ctx, event=event(second))
    assert told["counts"] == {"succeeded": 3}


def test_no_room_at_all_is_said_pool_by_pool(tasks: FakeEcsLauncher) -> None:
    tasks.refuse = [Refused(Scope.POOL, CAPACITY)] * 2
    with pytest.raises(errors.CapacityError, match=r"FARGATE_SPOT: Capacity.*FARGATE: Capacity"):
        operator(capacity_provider_strategies=SPOT_FIRST).execute(context())


def test_a_hiccup_is_asked_again_in_the_same_place(tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_transient.aws.placing.AGAIN_AFTER", 0.0)
    tasks.refuse = [Refused(Scope.AGAIN, "3 tasks: AGENT")] * 2
    away(operator().execute, context())
    assert len(tasks.running()) == 3


def test_what_no_place_would_cure_fails_and_leaves_nothing(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(task_count=12), context()
    launch = tasks.launch

    def a_part_and_a_refusal(request: Any, again: bool = False) -> Any:
        raise Refused(Scope.ACCESS, "2 tasks: AccessDeniedException", launch(request))

    tasks.launch = a_part_and_a_refusal  # type: ignore[method-assign]
    with pytest.raises(errors.AccessError):
        op.execute(ctx)
    assert tasks.running() == ()


# --- rounds


def test_what_aws_gave_up_placing_moves_to_the_next_provider(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(capacity_provider_strategies=SPOT_FIRST), context()
    first = away(op.execute, ctx)
    given_up, *rest = tasks.running()
    tasks.never_start(given_up, CAPACITY, at=now())
    end_all(tasks)
    second = away(op.execute_complete, ctx, event=event(first))
    (member,) = tasks.running()
    assert second.launch["ids"] == [member]
    assert tasks.members[member].capacity == "FARGATE"
    tasks.end(member, 0, at=now())
    told = op.execute_complete(ctx, event=event(second))
    assert told["counts"] == {"succeeded": 3, "boot failed": 1}
    assert len(rest) == 2


def test_what_does_not_start_in_time_is_stopped_and_moves_to_the_next_provider(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(capacity_provider_strategies=SPOT_FIRST, task_count=1, start_timeout=10), context()
    first = away(op.execute, ctx)
    (member,) = tasks.running()
    tasks._change(member, phase=Phase.STARTING, state="PENDING", started=None, launched=now() - timedelta(seconds=11))
    second = away(op.execute_complete, ctx, event=event(first))
    assert [tasks.members[m].capacity for m in second.launch["ids"]] == ["FARGATE"]
    assert second.launch["ids"] == list(tasks.running())


def test_a_task_that_was_taken_back_is_launched_again_free_of_charge(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(), context()
    first = away(op.execute, ctx)
    tasks.take_back(tasks.running()[0], at=now())
    end_all(tasks)
    second = away(op.execute_complete, ctx, event=event(first))
    end_all(tasks)
    assert op.execute_complete(ctx, event=event(second))["outcome"] == "succeeded"
    assert len(tasks.members) == 4


def test_a_task_that_the_author_must_mend_is_not_launched_again(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(), context()
    trigger = away(op.execute, ctx)
    tasks.never_start(tasks.running()[0], "CannotPullContainerError: pull access denied, unauthorized", at=now())
    tasks._change(next(iter(tasks.members)), containers=())
    end_all(tasks)
    with pytest.raises(errors.BootFailed, match="execution role must be allowed to pull"):
        op.execute_complete(ctx, event=event(trigger))


def test_a_failure_of_the_job_makes_another_round_pointless(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(), context()
    trigger = away(op.execute, ctx)
    taken, failed, _ = tasks.running()
    tasks.take_back(taken, at=now())
    tasks.end(failed, 5, at=now())
    end_all(tasks)
    with pytest.raises(errors.JobFailed):
        op.execute_complete(ctx, event=event(trigger))
    assert len(tasks.members) == 3


def test_rounds_are_bounded_and_the_next_try_launches_only_what_is_missing(tasks: FakeEcsLauncher) -> None:
    op, store = operator(), Store()
    trigger = away(op.execute, context(store))
    end_all_but_one(tasks)
    for _ in range(3):
        trigger = away(op.execute_complete, context(store), event=event(trigger))
        tasks.take_back(tasks.running()[0], at=now())
    with pytest.raises(errors.CapacityError, match="1 of 3 did not run to an end"):
        op.execute_complete(context(store), event=event(trigger))
    trigger = away(op.execute, context(store, try_number=2))
    assert len(trigger.launch["ids"]) == 1
    end_all(tasks)
    told = op.execute_complete(context(store, try_number=2), event=event(trigger))
    assert told["counts"] == {"succeeded": 3, "interrupted": 4}


def end_all_but_one(tasks: FakeEcsLauncher) -> None:
    first, *rest = tasks.running()
    for member in rest:
        tasks.end(member, 0, at=now())
    tasks.take_back(first, at=now())


def test_a_burst_of_a_queue_is_sized_again(tasks: FakeEcsLauncher, depth: dict[str, Any]) -> None:
    op, ctx = operator(queues="jobs", task_count=1, messages_per_task=10), context()
    first = away(op.execute, ctx)
    for member in tasks.running()[:3]:
        tasks.take_back(member, at=now())
    end_all(tasks)
    depth["visible"] = 5
    second = away(op.execute_complete, ctx, event=event(first))
    assert len(second.launch["ids"]) == 1
    end_all(tasks)
    told = op.execute_complete(ctx, event=event(second))
    assert (told["outcome"], told["need"]) == ("succeeded", 4)


def test_what_tasks_that_were_taken_back_had_received_is_still_work(
    tasks: FakeEcsLauncher, depth: dict[str, Any]
) -> None:
    """It is in flight until its visibility timeout."""
    op, ctx = operator(queues="jobs", task_count=1, messages_per_task=10), context()
    first = away(op.execute, ctx)
    for member in tasks.running()[:3]:
        tasks.take_back(member, at=now())
    end_all(tasks)
    depth |= {"visible": 0, "in_flight": 30, "live": Live(0, claiming=6, ended=6)}
    assert len(away(op.execute_complete, ctx, event=event(first)).launch["ids"]) == 3


def test_a_cleared_burst_is_sized_by_what_its_stopped_tasks_had_received(
    tasks: FakeEcsLauncher, depth: dict[str, Any]
) -> None:
    store, words = Store(), {"queues": "jobs", "task_count": 1, "messages_per_task": 10}
    away(operator(**words).execute, context(store))
    depth |= {"visible": 0, "in_flight": 60}
    assert len(away(operator(**words).execute, context(store, try_number=2, max_tries=3)).launch["ids"]) == 6


def test_a_queue_that_is_empty_by_now_needs_no_more_tasks(tasks: FakeEcsLauncher, depth: dict[str, Any]) -> None:
    op, ctx = operator(queues="jobs", task_count=1, messages_per_task=10), context()
    trigger = away(op.execute, ctx)
    tasks.take_back(tasks.running()[0], at=now())
    end_all(tasks)
    depth["visible"] = 0
    told = op.execute_complete(ctx, event=event(trigger))
    assert told["counts"] == {"interrupted": 1, "succeeded": 5}


# --- long bursts


def test_what_has_ended_is_written_down_before_aws_forgets_it(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(), context()
    first = away(op.execute, ctx)
    early, *rest = tasks.running()
    tasks.end(early, 0, at=now() - timedelta(minutes=30))
    second = away(op.execute_complete, ctx, event=event(first))
    assert second.launch["ids"] == rest
    tasks.forget(early)
    end_all(tasks)
    told = op.execute_complete(ctx, event=event(second))
    assert (told["outcome"], told["counts"]) == ("succeeded", {"succeeded": 3})


def test_a_worker_that_waits_itself_does_the_same(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(deferrable=False), context()
    launch = tasks.launch

    def launch_and_end(request: Any, again: bool = False) -> Any:
        launched = launch(request)
        first, *rest = tasks.running()
        tasks.end(first, 0, at=now() - timedelta(minutes=30))
        for member in rest:
            tasks.end(member, 0, at=now())
        return launched

    tasks.launch = launch_and_end  # type: ignore[method-assign]
    assert op.execute(ctx)["counts"] == {"succeeded": 3}


def test_a_try_that_finds_everything_ended_tells_it(tasks: FakeEcsLauncher) -> None:
    """A worker died between writing down the last ends and telling them."""
    store, op = Store(), operator()
    trigger = away(op.execute, context(store))
    end_all(tasks)
    said = event(trigger)

    def die(*_: Any) -> None:
        raise Died

    op._tell = die  # type: ignore[method-assign]
    with pytest.raises(Died):
        op.execute_complete(context(store), event=said)
    again = away(operator().execute, context(store, try_number=2))
    assert operator().execute_complete(context(store, try_number=2), event=event(again))["outcome"] == "succeeded"


# --- exit codes


@pytest.mark.parametrize(
    ("codes", "wish"),
    [([3, 3], "retry"), ([3, 9], "fail"), ([9], "fail"), ([3, 4], None), ([4], None)],
)
def test_the_exit_codes_of_all_failed_tasks_decide(tasks: FakeEcsLauncher, codes: list[int], wish: str | None) -> None:
    op, ctx = operator(retry_on_exit_codes=3, fail_on_exit_codes=9), context()
    trigger = away(op.execute, ctx)
    for member, code in zip(tasks.running(), codes, strict=False):
        tasks.end(member, code, at=now())
    end_all(tasks)
    with pytest.raises(errors.JobFailed) as failed:
        op.execute_complete(ctx, event=event(trigger))
    assert failed.value.wish == wish


def test_an_exit_code_does_not_skip_over_a_task_that_never_ran(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(skip_on_exit_codes=99), context()
    trigger = away(op.execute, ctx)
    first, second, _ = tasks.running()
    tasks.end(first, 99, at=now())
    tasks.never_start(second, "CannotPullContainerError: not found", at=now())
    tasks._change(second, containers=(Container("main"),))
    end_all(tasks)
    with pytest.raises(errors.JobFailed):
        op.execute_complete(ctx, event=event(trigger))


def test_an_exit_code_that_skips(tasks: FakeEcsLauncher) -> None:
    op, ctx = operator(skip_on_exit_codes=99), context()
    trigger = away(op.execute, ctx)
    tasks.end(tasks.running()[0], 99, at=now())
    end_all(tasks)
    with pytest.raises(AirflowSkipException):
        op.execute_complete(ctx, event=event(trigger))


def test_five_hundred_tasks_fit_into_airflows_state_store(tasks: FakeEcsLauncher) -> None:
    from airflow_transient.core.intent import STORE_LIMIT

    store = Store()
    op = operator(task_count=500, hard_cap=500)
    trigger = away(op.execute, context(store))
    half = tasks.running()[:499]
    for member in half:
        tasks.end(member, 0, at=now() - timedelta(minutes=30))
    last = away(op.execute_complete, context(store), event=event(trigger))
    assert len(json.dumps(store.kept)) < STORE_LIMIT
    end_all(tasks)
    assert op.execute_complete(context(store), event=event(last))["counts"] == {"succeeded": 500}
    assert len(json.dumps(store.kept)) < STORE_LIMIT


def test_mapped_over_days_every_task_has_a_job_of_its_own(tasks: FakeEcsLauncher) -> None:
    jobs = set()
    for index in (0, 1):
        away(operator().execute, context(map_index=index))
        jobs.add(next(iter(tasks._asked.values()))[0].arguments["startedBy"])
        tasks._asked.clear()
    assert len(jobs) == 2
