"""execute -> the trigger, as Airflow carries it -> execute_complete; and what a next try does."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_transient import errors
from airflow_transient.aws.launcher import Refused
from airflow_transient.core.ec2.requests import call as run_instances_call
from airflow_transient.core.fallback import Scope
from airflow_transient.operators.ec2 import TransientEc2Operator
from airflow_transient.retry import transient_retry_policy
from airflow_transient.testing import FakeLauncher
from airflow_transient.triggers import launch as launch_triggers
from airflow_transient.triggers.launch import LaunchTrigger
from tests.airflow.legs import Died, away, event
from tests.airflow.stubs import Store, context

GOOD = {"task_id": "task", "command": "true", "image_id": "ami-0123456789abcdef0", "instance_type": "t3.small"}


def operator(**words: Any) -> TransientEc2Operator:
    return TransientEc2Operator(**{**GOOD, "deferrable": True, "poll_interval": 0.01, **words})


def defer(op: TransientEc2Operator, ctx: Any) -> LaunchTrigger:
    trigger = away(op.execute, ctx)
    assert trigger.serialize()[0] == "airflow_transient.triggers.launch.LaunchTrigger"
    return trigger


def now() -> datetime:
    return datetime.now(timezone.utc)


def test_the_journey_of_a_success(world: FakeLauncher) -> None:
    op, ctx = operator(), context()
    trigger = defer(op, ctx)
    (member,) = world.running()
    assert ctx["ti"].xcoms["launch"]["ids"] == [member]
    world.end(member, 0, at=now())
    verdict = op.execute_complete(ctx, event=event(trigger))
    assert (verdict["outcome"], verdict["exit_code"], verdict["ids"]) == ("succeeded", 0, [member])
    assert world.running() == ()


def test_the_same_journey_in_the_worker(world: FakeLauncher) -> None:
    op = operator(deferrable=False)
    launch = world.launch

    def launch_and_end(request: Any, again: bool = False) -> Any:
        launched = launch(request)
        world.end(launched.ids[0], 0, at=now())
        return launched

    world.launch = launch_and_end  # type: ignore[method-assign]
    assert op.execute(context())["outcome"] == "succeeded"


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_launch_that_has_ended_between_two_tries_is_told_without_a_wait(
    world: FakeLauncher, deferrable: bool
) -> None:
    """A trigger that fires at once may be a failed try to Airflow's scheduler."""
    store = Store()
    defer(operator(), context(store))
    world.end(world.running()[0], exit_code=0, at=now())
    launch = store.kept["airflow_transient.intent"]["launch"]
    launch["requested_at"] = (now() - timedelta(seconds=60)).isoformat()
    told = operator(deferrable=deferrable).execute(context(store, try_number=2))
    assert (told["outcome"], [name for name, _ in world.calls].count("launch")) == ("succeeded", 1)


def test_one_that_still_runs_is_waited_for_as_before(world: FakeLauncher) -> None:
    store = Store()
    defer(operator(), context(store))
    store.kept["airflow_transient.intent"]["launch"]["requested_at"] = (now() - timedelta(seconds=60)).isoformat()
    ctx = context(store, try_number=2)
    trigger = defer(operator(), ctx)
    world.end(world.running()[0], exit_code=0, at=now())
    assert operator().execute_complete(ctx, event=event(trigger))["outcome"] == "succeeded"


@pytest.mark.parametrize(
    ("happens", "error"),
    [
        pytest.param({"exit_code": 3}, errors.JobFailed, id="exit 3"),
        pytest.param({"exit_code": None, "cause": "signal", "signal": "SIGKILL"}, errors.JobFailed, id="signal"),
        pytest.param({"exit_code": 143, "cause": "overdue"}, errors.Overdue, id="its own timer"),
        pytest.param({"exit_code": 125, "cause": "setup", "note": "no secrets"}, errors.BootFailed, id="set-up"),
    ],
)
def test_a_bad_end_is_raised_as_what_it_was(world: FakeLauncher, happens: dict[str, Any], error: type) -> None:
    op, ctx = operator(), context()
    trigger = defer(op, ctx)
    world.end(world.running()[0], at=now(), **happens)
    with pytest.raises(error, match=r"launch t[0-9a-f]+-1:"):
        op.execute_complete(ctx, event=event(trigger))


def test_a_machine_that_was_taken_back_was_interrupted(world: FakeLauncher) -> None:
    op, ctx = operator(), context()
    trigger = defer(op, ctx)
    world.take_back(world.running()[0], at=now() - timedelta(hours=1))
    with pytest.raises(errors.Interrupted):
        op.execute_complete(ctx, event=event(trigger))


def test_a_failure_brings_its_log(world: FakeLauncher, capsys: pytest.CaptureFixture[str]) -> None:
    op, ctx = operator(), context()
    trigger = defer(op, ctx)
    (member,) = world.running()
    world.end(member, 3, at=now())
    with pytest.raises(errors.JobFailed):
        op.execute_complete(ctx, event=event(trigger))
    assert f"the log of {member}" in capsys.readouterr().out


def test_a_failed_look_ends_nothing(world: FakeLauncher) -> None:
    trigger = defer(operator(), context())
    world.blind = True

    async def wait() -> None:
        await asyncio.wait_for(anext(trigger.run()), 0.2)

    trigger.trigger_id = 1  # as in a triggerer, where a cancelled trigger goes on elsewhere
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(wait())
    assert len(world.running()) == 1


def test_the_next_try_adopts_what_is_alive(world: FakeLauncher) -> None:
    store = Store()
    defer(operator(), context(store))
    trigger = defer(operator(), context(store, try_number=2))
    assert len(world.running()) == 1
    assert trigger.launch["ids"] == list(world.running())


def test_a_try_that_died_before_its_answer_asks_again_with_the_same_bytes(world: FakeLauncher) -> None:
    """The process dies after RunInstances took effect and before its ids were written down."""
    store, sent = Store(), []
    launch = world.launch

    def launch_and_die(request: Any, again: bool = False) -> Any:
        sent.append(run_instances_call(request))
        launch(request)
        raise Died

    world.launch = launch_and_die  # type: ignore[method-assign]
    with pytest.raises(Died):
        operator().execute(context(store))

    def launch_and_look(request: Any, again: bool = False) -> Any:
        sent.append(run_instances_call(request))
        return launch(request)

    world.launch = launch_and_look  # type: ignore[method-assign]
    defer(operator(command="changed meanwhile"), context(store, try_number=2))
    assert len(world.running()) == 1
    assert sent[0] == sent[1]


def test_ctrl_c_while_it_is_launched_leaves_nothing(world: FakeLauncher) -> None:
    launch = world.launch

    def launch_and_interrupt(request: Any, again: bool = False) -> Any:
        launch(request)
        raise KeyboardInterrupt

    world.launch = launch_and_interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        operator().execute(context())
    assert world.running() == ()


def test_a_kill_while_it_is_launched_is_not_lost(world: FakeLauncher) -> None:
    op, launch = operator(deferrable=False), world.launch

    def launch_and_kill(request: Any, again: bool = False) -> Any:
        op.on_kill()
        return launch(request)

    world.launch = launch_and_kill  # type: ignore[method-assign]
    with pytest.raises(errors.Stopped):
        op.execute(context())
    assert world.running() == ()


def test_what_was_asked_long_ago_and_never_started_is_asked_anew(world: FakeLauncher) -> None:
    store, launch = Store(), world.launch

    def die(request: Any, again: bool = False) -> Any:
        raise Died

    world.launch = die  # type: ignore[method-assign]
    with pytest.raises(Died):
        operator().execute(context(store))
    asked = store.kept["airflow_transient.intent"]["request"]["launch"]
    asked["boot_by"] = (now() - timedelta(hours=9)).isoformat()
    world.launch = launch  # type: ignore[method-assign]
    trigger = defer(operator(), context(store, try_number=2))
    assert [token[-4:] for verb, token in world.calls if verb == "launch"] == ["-1-2"]
    assert datetime.fromisoformat(trigger.launch["deadline"]) > now()


def test_a_success_that_is_too_large_for_the_store_keeps_its_verdict(world: FakeLauncher) -> None:
    from dataclasses import replace

    store = Store()
    op, ctx = operator(count=6), context(store)
    trigger = defer(op, ctx)
    for member in world.running():
        world.end(member, 0, at=now())
        world.members[member] = replace(world.members[member], result="x" * 16_000)
    assert len(op.execute_complete(ctx, event=event(trigger))["result"]) == 6
    again = operator(count=6).execute(context(store, try_number=2))
    assert again["outcome"] == "succeeded"
    assert "result unavailable" in again["result_error"]
    assert len(world.members) == 6


def test_an_end_without_a_date_is_not_waited_for_without_end(world: FakeLauncher) -> None:
    from airflow_transient.aws.watching import Watch
    from airflow_transient.core.launch import Launch

    launch = Launch.from_dict(defer(operator(), context()).launch)
    world.take_back(launch.ids[0])
    watch = Watch(world, launch)
    assert watch.look(now())[0] is None
    verdict, _ = watch.look(now() + timedelta(minutes=4))
    assert verdict is not None
    assert verdict.outcome.value == "interrupted"


def test_a_stop_that_fails_is_said_and_does_not_hide_the_verdict(world: FakeLauncher) -> None:
    from airflow_transient.aws.watching import Watch
    from airflow_transient.core.launch import Launch

    launch = Launch.from_dict(defer(operator(), context()).launch)

    def refuse(launch: Any, why: str = "") -> None:
        raise errors.AccessError("not allowed: ec2:TerminateInstances")

    world.stop = refuse  # type: ignore[method-assign]
    watch = Watch(world, launch)
    assert "TerminateInstances" in watch.look(launch.deadline)[1]
    verdict, _ = watch.look(launch.deadline + timedelta(minutes=11))
    assert verdict is not None
    assert "look at it by hand" in verdict.lines()[0]


def test_a_failure_that_was_told_is_not_told_again(world: FakeLauncher) -> None:
    store = Store()
    op, ctx = operator(), context(store)
    trigger = defer(op, ctx)
    first = world.running()[0]
    world.end(first, 1, at=now())
    with pytest.raises(errors.JobFailed):
        op.execute_complete(ctx, event=event(trigger))
    second = defer(operator(), context(store, try_number=2))
    assert second.launch["ids"] != [first]
    assert second.launch["token"].split("-")[1] == "2"


def test_a_success_that_was_told_is_told_again_and_not_launched(world: FakeLauncher) -> None:
    store = Store()
    op, ctx = operator(), context(store)
    trigger = defer(op, ctx)
    world.end(world.running()[0], 0, at=now())
    told = op.execute_complete(ctx, event=event(trigger))
    assert operator().execute(context(store, try_number=2)) == told
    assert len(world.members) == 1


def test_a_cleared_task_stops_its_old_launch_and_starts_a_new_one(world: FakeLauncher) -> None:
    store = Store()
    old = defer(operator(), context(store)).launch["ids"]
    new = defer(operator(), context(store, try_number=2, max_tries=3)).launch["ids"]
    assert list(world.running()) == new
    assert new != old


def test_an_event_of_an_earlier_launch_ends_no_wait(world: FakeLauncher) -> None:
    """On SQLite the old trigger's number is the new one's, and its last event reaches whoever waits now."""
    store, op = Store(), operator()
    old = defer(op, context(store))
    new = defer(op, again := context(store, try_number=2, max_tries=3))
    (second,) = world.running()
    with pytest.raises(TaskDeferred) as deferred:
        op.execute_complete(again, event=event(old))
    assert deferred.value.trigger.launch["ids"] == new.launch["ids"] == [second]  # type: ignore[attr-defined]
    world.end(second, 0, at=now())
    assert op.execute_complete(again, event=event(new))["ids"] == [second]


def test_tasks_test_launches_anew_each_time(world: FakeLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    in_the_ui = defer(operator(), context(store)).launch["ids"]
    monkeypatch.setenv("AIRFLOW_TEST_MODE", "True")
    first = defer(operator(), context(store, try_number=0)).launch["ids"]
    second = defer(operator(), context(store, try_number=0)).launch["ids"]
    assert len({*in_the_ui, *first, *second}) == 3
    assert store.kept["airflow_transient.intent"]["launch"]["ids"] == in_the_ui


def test_no_room_moves_on_to_the_next_type_with_a_new_token(world: FakeLauncher) -> None:
    world.refuse = [Refused(Scope.POOL, "InsufficientInstanceCapacity")]
    launch = defer(operator(instance_type=["big", "small"]), context()).launch
    assert [call[1][-4:] for call in world.calls] == ["-1-1", "-1-2"]
    assert world.members[launch["ids"][0]].instance_type == "small"


def test_no_room_anywhere_names_every_pool(world: FakeLauncher) -> None:
    world.refuse = [Refused(Scope.POOL, "no room for big"), Refused(Scope.POOL, "no room for small")]
    store = Store()
    with pytest.raises(errors.CapacityError, match=r"big.*no room for big.*small.*no room for small"):
        operator(instance_type=["big", "small"]).execute(context(store))
    defer(operator(instance_type=["big", "small"]), context(store, try_number=2))  # later there is room


def test_a_refusal_of_the_request_is_not_tried_elsewhere(world: FakeLauncher) -> None:
    world.refuse = [Refused(Scope.SPEC, "InvalidParameterValue: x")]
    with pytest.raises(errors.SpecError, match="InvalidParameterValue"):
        operator(instance_type=["a", "b"]).execute(context())
    assert world.members == {}


@pytest.mark.parametrize(
    ("trigger_id", "left"),
    [pytest.param(None, 0, id="Ctrl-C in dags test"), pytest.param(7, 1, id="a triggerer that is shut down")],
)
def test_a_cancelled_wait_stops_the_launch_only_where_a_person_cancelled_it(
    world: FakeLauncher, trigger_id: int | None, left: int
) -> None:
    trigger = defer(operator(), context())
    trigger.trigger_id = trigger_id

    async def interrupt() -> None:
        task = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(0.05)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupt())
    assert len(world.running()) == left


@pytest.mark.parametrize(
    ("state", "left"),
    [("deferred", 1), ("unknown", 1), ("failed", 0), ("success", 0), (None, 0), ("queued", 0)],
    ids=["still waiting for it", "nobody answers", "marked failed", "marked success", "cleared", "cleared and queued"],
)
def test_on_kill_stops_only_what_nobody_waits_for(
    world: FakeLauncher, monkeypatch: pytest.MonkeyPatch, state: str | None, left: int
) -> None:
    trigger = defer(operator(), context())

    async def told(self: LaunchTrigger) -> str | None:
        return state

    monkeypatch.setattr(LaunchTrigger, "_task_state", told)
    asyncio.run(trigger.on_kill())
    assert len(world.running()) == left


def test_on_kill_that_airflow_cancels_again_stops_all_the_same(
    world: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = defer(operator(), context())

    async def told_late(self: LaunchTrigger) -> str | None:
        await asyncio.sleep(0.1)
        return "failed"

    async def cancelled_while_it_asks() -> None:
        task = asyncio.create_task(trigger.on_kill())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.gather(*launch_triggers._going_on)

    monkeypatch.setattr(LaunchTrigger, "_task_state", told_late)
    asyncio.run(cancelled_while_it_asks())
    assert world.running() == ()


@pytest.mark.parametrize("asked_as_well", [False, True], ids=["on_kill is never called", "on_kill is called, too"])
def test_a_trigger_that_airflow_cancels_stops_what_nobody_waits_for(
    world: FakeLauncher, monkeypatch: pytest.MonkeyPatch, asked_as_well: bool
) -> None:
    trigger = defer(operator(), context())
    trigger.trigger_id = 7

    async def marked(self: LaunchTrigger) -> str | None:
        return "failed"

    async def cancel() -> None:
        task = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if asked_as_well:
            await trigger.on_kill()
        await asyncio.gather(*launch_triggers._going_on)

    monkeypatch.setattr(LaunchTrigger, "_task_state", marked)
    asyncio.run(cancel())
    assert [verb for verb, _ in world.calls].count("stop") == 1
    assert world.running() == ()


def test_on_kill_may_leave_it(world: FakeLauncher) -> None:
    trigger = defer(operator(on_kill="leave"), context())
    asyncio.run(trigger.on_kill())
    assert len(world.running()) == 1


def test_on_kill_in_the_worker_stops_and_ends_the_wait(world: FakeLauncher) -> None:
    op = operator(deferrable=False)
    observe = world.observe

    def killed_while_waiting(launch: Any, moment: Any) -> Any:
        op.on_kill()
        return observe(launch.with_ids(()), moment)

    world.observe = killed_while_waiting  # type: ignore[method-assign]
    with pytest.raises(errors.Stopped):
        op.execute(context())
    assert world.running() == ()


def test_a_trigger_of_a_later_version_is_understood() -> None:
    launch = {"kind": "ec2", "token": "t-1-1", "later": True}
    assert LaunchTrigger(launch, version=9, something_new=1).launch == launch


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (errors.SpecError("x"), "fail"),
        (errors.AccessError("x"), "fail"),
        (errors.CapacityError("x"), "retry"),
        (errors.JobFailed("x"), "fail"),
        (errors.BootFailed("x"), "default"),
        (errors.Interrupted("x"), "retry"),
        (errors.Stopped("x"), "fail"),
        (errors.Overdue("x"), "default"),
        (errors.Lost("x"), "default"),
        (errors.LaunchError("x"), "default"),
        (KeyError("x"), "default"),
        (KeyboardInterrupt(), "fail"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_what_a_retry_helps(error: Exception, action: str) -> None:
    assert transient_retry_policy.evaluate(error, 1, 2).action.value == action


def test_retries_are_two_unless_somebody_says_otherwise() -> None:
    from airflow.sdk import DAG

    assert operator().retries == 2
    assert operator(retries=0).retries == 0
    with DAG("d", default_args={"retries": 5}):
        assert operator().retries == 5
        mapped = TransientEc2Operator.partial(task_id="m", image_id="ami-0123456789abcdef0").expand(command=["a", "b"])
    assert mapped.retries == 5
    with DAG("e"):
        assert TransientEc2Operator.partial(task_id="m").expand(command=["a"]).retries == 2


def test_a_script_is_read_from_beside_the_dag_and_never_as_a_template(tmp_path: Any) -> None:
    from airflow.sdk import DAG

    (tmp_path / "job.sh").write_text("#!/bin/bash\necho '{{ not a template }}'\n")
    with DAG("d") as dag:
        op = operator(command=None, script="job.sh")
    dag.fileloc = str(tmp_path / "dag.py")
    assert op.make_spec().script == "#!/bin/bash\necho '{{ not a template }}'\n"
    assert op.template_ext == ()
    with DAG("e") as other:
        lost = operator(command=None, script="gone.sh")
    other.fileloc = str(tmp_path / "dag.py")
    with pytest.raises(errors.SpecError, match=r"gone.sh.*cannot be read"):
        lost.make_spec()


def test_links_lead_to_the_launch() -> None:
    from airflow_transient.links.ec2 import InstanceLink, LogLink

    launch = {"ids": ["i-1"], "region": "eu-west-1", "receipts": "s3://b/p/t-1-1/"}
    assert InstanceLink().url(launch) == (
        "https://eu-west-1.console.aws.amazon.com/ec2/home?region=eu-west-1#Instances:instanceId=i-1"
    )
    assert LogLink().url(launch) == (
        "https://eu-west-1.console.aws.amazon.com/s3/object/b?region=eu-west-1&prefix=p/t-1-1/i-1/job.log"
    )
    assert LogLink().url({**launch, "receipts": None}) == ""
    assert "amazonaws.cn" in InstanceLink().url({**launch, "region": "cn-north-1"})


def test_what_there_is_no_room_for_is_launched_elsewhere_and_what_exists_is_kept(world: FakeLauncher) -> None:
    world.room = 2
    launch = defer(operator(count=5, instance_type=["a", "b"]), context()).launch
    assert launch["ids"] == list(world.running())
    assert len(launch["ids"]) == 5
    assert [call[1][-1] for call in world.calls] == ["1", "2", "3"]


def test_half_a_launch_is_completed_by_the_next_try(world: FakeLauncher) -> None:
    store, no = Store(), Refused(Scope.POOL, "InsufficientInstanceCapacity")
    world.room = 2
    launch = world.launch

    def one_call_only(request: Any, again: bool = False) -> Any:
        if world.running():
            raise no
        return launch(request)

    world.launch = one_call_only  # type: ignore[method-assign]
    with pytest.raises(errors.CapacityError, match="3 of 5 members"):
        operator(count=5).execute(context(store))
    first = world.running()
    world.launch, world.room = launch, 100  # type: ignore[method-assign]
    ids = defer(operator(count=5), context(store, try_number=2)).launch["ids"]
    assert tuple(ids[:2]) == first
    assert len(world.running()) == 5


def test_half_a_launch_is_stopped_when_no_try_is_left(world: FakeLauncher) -> None:
    world.room = 2
    launch = world.launch

    def one_call_only(request: Any, again: bool = False) -> Any:
        if world.running():
            raise Refused(Scope.POOL, "InsufficientInstanceCapacity")
        return launch(request)

    world.launch = one_call_only  # type: ignore[method-assign]
    with pytest.raises(errors.CapacityError):
        operator(count=5).execute(context(try_number=3, max_tries=2))
    assert world.running() == ()


def test_spot_then_on_demand_asks_for_spot_first(world: FakeLauncher) -> None:
    world.refuse = [Refused(Scope.POOL, "InsufficientInstanceCapacity")]
    asked = []
    launch = world.launch
    world.launch = lambda request, again: asked.append(request) or launch(request)  # type: ignore[method-assign,func-returns-value]
    defer(operator(market="spot-then-on-demand"), context())
    assert [r.pool.market for r in asked] == ["spot", "on-demand"]
    assert asked[0].arguments["InstanceMarketOptions"]["SpotOptions"]["SpotInstanceType"] == "one-time"
    assert [t["ResourceType"] for t in asked[0].arguments["TagSpecifications"]][-1] == "spot-instances-request"
    assert "InstanceMarketOptions" not in asked[1].arguments


def test_a_launch_that_was_killed_is_over_and_no_verdict_for_the_next_try(world: FakeLauncher) -> None:
    """max_tries does not tell that a running task was cleared; the mark on the instance does."""
    store = Store()
    trigger = defer(operator(), context(store))

    async def failed(self: LaunchTrigger) -> str | None:
        return "restarting"

    old, trigger._task_state = trigger.launch["ids"], failed.__get__(trigger)  # type: ignore[method-assign]
    asyncio.run(trigger.on_kill())
    new = defer(operator(), context(store, try_number=2)).launch["ids"]
    assert new != old
    assert list(world.running()) == new


@pytest.mark.parametrize(
    ("lists", "code", "action"),
    [
        ({"retry_on_exit_codes": 75}, 75, "retry"),
        ({"retry_on_exit_codes": [75]}, 1, "fail"),
        ({"fail_on_exit_codes": (1, 2)}, 2, "fail"),
        ({}, 1, "fail"),
    ],
)
def test_the_author_says_what_an_exit_code_means(
    world: FakeLauncher, lists: dict[str, Any], code: int, action: str
) -> None:
    op, ctx = operator(**lists), context()
    trigger = defer(op, ctx)
    world.end(world.running()[0], code, at=now())
    with pytest.raises(errors.JobFailed) as failure:
        op.execute_complete(ctx, event=event(trigger))
    assert transient_retry_policy.evaluate(failure.value, 1, 2).action.value == action


def test_an_exit_code_may_skip(world: FakeLauncher) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    op, ctx = operator(skip_on_exit_codes=99), context()
    trigger = defer(op, ctx)
    world.end(world.running()[0], 99, at=now())
    with pytest.raises(AirflowSkipException, match="exit 99"):
        op.execute_complete(ctx, event=event(trigger))


def test_an_exit_code_means_one_thing() -> None:
    with pytest.raises(errors.SpecError, match=r"\[3\]"):
        operator(skip_on_exit_codes=3, retry_on_exit_codes=[3, 4])


def test_a_trigger_that_died_is_replaced_and_then_a_worker_waits(world: FakeLauncher) -> None:
    store = Store()
    trigger = defer(operator(), context(store))
    died = {"error": "Trigger failure", "traceback": ["x"]}
    for _ in range(5):
        with pytest.raises(TaskDeferred) as again:
            operator().resume_execution("__fail__", dict(died), context(store))
        assert again.value.trigger.launch == trigger.launch
    world.end(world.running()[0], 0, at=now())
    assert operator().resume_execution("__fail__", dict(died), context(store))["outcome"] == "succeeded"
    assert len(world.members) == 1


def test_a_trigger_that_timed_out_means_stop_and_judge(world: FakeLauncher) -> None:
    from airflow.sdk.bases.operator import TriggerFailureReason

    store = Store()
    defer(operator(), context(store))
    with pytest.raises(errors.Overdue, match="stopped at its deadline"):
        operator().resume_execution("__fail__", {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, context(store))
    assert world.running() == ()


def test_the_trigger_has_what_is_left_of_execution_timeout(world: FakeLauncher) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        operator(execution_timeout=timedelta(hours=2)).execute(context())
    assert timedelta(hours=1, minutes=59) < deferred.value.timeout <= timedelta(hours=2)


def test_a_kill_ends_what_a_worker_waits_for_because_triggers_died(world: FakeLauncher) -> None:
    from airflow.sdk.bases.operator import TriggerFailureReason

    store, op, observe = Store(), operator(), world.observe
    died = {"error": TriggerFailureReason.TRIGGER_FAILURE}
    defer(op, context(store))
    for _ in range(5):
        with pytest.raises(TaskDeferred):
            op.resume_execution("__fail__", dict(died), context(store))

    def killed(launch: Any, moment: Any) -> Any:
        op.on_kill()
        return observe(launch.with_ids(()), moment)

    world.observe = killed  # type: ignore[method-assign]
    with pytest.raises(errors.Stopped):
        op.resume_execution("__fail__", dict(died), context(store))
    assert world.running() == ()


def test_a_machine_that_failed_may_be_held(world: FakeLauncher) -> None:
    from dataclasses import replace

    from airflow_transient.core.ec2.receipts import Receipt

    op, ctx = operator(hold_on_failure=timedelta(hours=1)), context()
    trigger = defer(op, ctx)
    (member,) = world.running()
    told = Receipt("nonce", member, "end", exit_code=2, cause="exit", channel="bucket")
    world.members[member] = replace(world.members[member], receipt=told)
    with pytest.raises(errors.JobFailed, match="held for 3600 s"):
        op.execute_complete(ctx, event=event(trigger))
    assert world.running() == (member,)


def test_whoever_closes_the_trigger_after_its_event_interrupts_nothing(world: FakeLauncher) -> None:
    """`airflow tasks test` closes it; a held machine must stay up."""
    trigger = defer(operator(), context())
    world.end(world.running()[0], 0, at=now())

    async def event_then_cancel() -> None:
        waiting = trigger.run()
        await anext(waiting)
        with pytest.raises((asyncio.CancelledError, StopAsyncIteration)):
            await waiting.athrow(asyncio.CancelledError())

    asyncio.run(event_then_cancel())
    assert [verb for verb, _ in world.calls] == ["launch"]


@pytest.mark.parametrize("interval", [0, -1, "0", None, True, timedelta(seconds=5), float("nan")], ids=repr)
def test_a_poll_interval_is_a_number_above_nothing(interval: Any) -> None:
    with pytest.raises(errors.SpecError, match=r"poll_interval is .*: seconds, and more than 0"):
        operator(poll_interval=interval)
