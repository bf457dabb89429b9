"""QueueWorkersOperator's journey: it grows with the queue, ends with it, and a crash leaves nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason
from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout, TaskDeferred

from airflow_transient import errors
from airflow_transient.aws.launcher import Refused
from airflow_transient.aws.workers import CrewCase
from airflow_transient.core.depth import Depth
from airflow_transient.core.ecs.terms import LogPlace
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import BY_PERSON, Launch
from airflow_transient.core.requests import Request
from airflow_transient.core.workers.spec import Shipped
from airflow_transient.core.workers.turns import Move, Turn
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.operators.ecs import EcsBurstOperator
from airflow_transient.operators.queue_workers import EcsQueueWorkersOperator, QueueWorkersOperator
from airflow_transient.testing import FakeEcsLauncher, FakeLauncher
from airflow_transient.triggers.workers import WorkersTrigger
from tests.airflow import legs
from tests.airflow.legs import Died, event
from tests.airflow.stubs import Store, context

GOOD = {
    "task_id": "task",
    "sqs_queue": "jobs",
    "command": ["convert-it"],
    "results": "s3://results/work",
    "image_id": "ami-0123456789abcdef0",
    "instance_type": "t3.micro",
    "messages_per_process": 10,
    "processes": 2,
    "interval": 1,
    "deferrable": True,
    "poll_interval": 0.01,
}
ROLE = "arn:aws:iam::123456789012:role/killer"


@dataclass
class Queue:
    """A queue whose counters a test sets; it stands for its reader, too."""

    visible: int = 40
    in_flight: int = 0
    delayed: int = 0
    error: Exception | None = None
    queues: tuple[str, ...] = ("jobs",)
    reads: int = 0
    shipped: list[str] = field(default_factory=list)

    def look(self, now: datetime) -> Any:
        self.reads += 1
        if self.error:
            raise self.error
        return (Depth("jobs", self.visible, self.in_flight, self.delayed, now),)

    def holds(self, visible: int, in_flight: int = 0, delayed: int = 0) -> None:
        self.visible, self.in_flight, self.delayed = visible, in_flight, delayed


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    queue = Queue()
    monkeypatch.setattr("airflow_transient.triggers.depth.make_reader", lambda *_: queue)
    monkeypatch.setattr("airflow_transient.aws.workers.Reader", lambda *_: queue)
    monkeypatch.setattr("airflow_transient.aws.sqs.read_depth", lambda client, name, now: queue.look(now)[0])

    def ship(*_: Any) -> Shipped:
        queue.shipped.append(f"https://signed/{len(queue.shipped)}")
        return Shipped(queue.shipped[-1], "0" * 64)

    monkeypatch.setattr("airflow_transient.aws.workers.ship", ship)

    class Client:
        class meta:
            region_name = "eu-west-1"

    monkeypatch.setattr(TransientHook, "client", lambda *_, **__: Client)
    return queue


def workers(**words: Any) -> QueueWorkersOperator:
    return QueueWorkersOperator(**{**GOOD, **words})


def away(leg: Any, *args: Any, **kwargs: Any) -> WorkersTrigger:
    trigger = legs.away(leg, *args, **kwargs)
    assert trigger.serialize()[0] == "airflow_transient.triggers.workers.WorkersTrigger"
    return trigger


def is_quiet(trigger: WorkersTrigger, seconds: float = 1.5) -> bool:
    """Whether it goes on waiting."""
    trigger.trigger_id = 1  # a triggerer's, which is not an inline one that Ctrl-C ends

    async def wait() -> None:
        await asyncio.wait_for(anext(trigger.run()), seconds)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(wait())
    return True


def now() -> datetime:
    return datetime.now(timezone.utc)


def drain(world: FakeLauncher, member: str, *, ago: float = 0, **receipt: int) -> None:
    """A machine's worker has found the queue empty for long enough."""
    world._change(member, result={"done": 0, **receipt, "ended": "drained"})
    world.end(member, 0, at=now() - timedelta(seconds=ago))


def all_drained(world: FakeLauncher, queue: Queue, **receipt: int) -> None:
    queue.holds(0)
    for member in world.running():
        drain(world, member, **receipt)


def test_a_dead_letter_fails_the_task(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    first, second = world.running()
    assert ctx["ti"].xcoms["launch"]["ids"] == [first, second]
    queue.holds(0)
    drain(world, first, done=30)
    drain(world, second, done=9, failed=3, dead_lettered=1)
    with pytest.raises(errors.JobFailed, match="1 messages went to the dead letter queue, and max_dead_letters is 0"):
        op.execute_complete(ctx, event=event(trigger))
    assert ctx["ti"].xcoms["verdict"]["messages"]["dead_lettered"] == 1


def test_what_the_workers_came_to_is_summed(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(max_dead_letters=1), context()
    trigger = away(op.execute, ctx)
    first, second = world.running()
    queue.holds(0)
    drain(world, first, done=30, failed=1, bytes_in=5)
    drain(world, second, done=9, failed=2, dead_lettered=1)
    told = op.execute_complete(ctx, event=event(trigger))
    assert told["outcome"] == "succeeded"
    assert told["messages"] == {"processed": 39, "failed": 3, "dead_lettered": 1, "interrupted": 0}
    assert (told["machines"], told["unreported"], told["bytes_in"], told["counts"]) == (2, 0, 5, {"succeeded": 2})
    (grown,) = told["growth"]
    assert (grown["count"], grown["reason"]) == (2, "jobs: 40 visible + 0 in flight: 20 per task asks for 2")


def test_a_queue_that_grows_gets_more_machines_and_what_was_just_launched_counts(
    world: FakeLauncher, queue: Queue
) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    before = world.running()
    queue.holds(90, in_flight=4)
    trigger = away(op.execute_complete, ctx, event=event(trigger))
    assert len(world.running()) == 5  # 94 messages, 20 for each of two that live: three more
    assert trigger.launch["ids"][:2] == list(before)
    assert is_quiet(trigger)  # the counters still say 90
    all_drained(world, queue, done=20)
    told = op.execute_complete(ctx, event=event(trigger))
    assert [each["count"] for each in told["growth"]] == [2, 3]
    assert (told["machines"], told["messages"]["processed"]) == (5, 100)


def test_no_more_than_max_count_at_once(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(max_count=3), context()
    queue.holds(1000)
    trigger = away(op.execute, ctx)
    assert len(world.running()) == 3
    assert is_quiet(trigger)


def test_what_others_have_in_flight_launches_nothing_and_is_waited_for(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    queue.holds(0, in_flight=1000)
    for member in world.running():
        drain(world, member, done=20)
    assert is_quiet(trigger, 2.5)
    queue.holds(0)
    assert op.execute_complete(ctx, event=event(trigger))["machines"] == 2


def test_messages_of_a_lost_machine_start_another_round(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(), context()
    queue.holds(20)
    trigger = away(op.execute, ctx)
    (lost,) = world.running()
    world.take_back(lost, at=now() - timedelta(minutes=5))
    queue.holds(2)
    trigger = away(op.execute_complete, ctx, event=event(trigger))
    assert len(world.running()) == 1
    all_drained(world, queue, done=2)
    told = op.execute_complete(ctx, event=event(trigger))
    assert (told["outcome"], told["counts"]) == ("succeeded", {"interrupted": 1, "succeeded": 1})
    assert (told["machines"], told["unreported"], told["messages"]["processed"]) == (2, 1, 2)


def test_rounds_that_come_to_nothing_are_bounded_and_fail_plainly(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(), context()
    queue.holds(20)
    trigger = away(op.execute, ctx)
    for _ in range(3):
        world.take_back(world.running()[0], at=now() - timedelta(minutes=5))
        trigger = away(op.execute_complete, ctx, event=event(trigger))
    world.take_back(world.running()[0], at=now() - timedelta(minutes=5))
    with pytest.raises(errors.Interrupted, match=r"jobs: 20 visible.*no machine works on it any more"):
        op.execute_complete(ctx, event=event(trigger))
    assert len(world.members) == 4
    assert world.running() == ()


def test_workers_that_cannot_work_are_not_launched_again(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    for member in world.running():
        world._change(member, result={"done": 0, "ended": "cannot work", "problem": "boto3 is missing"})
        world.end(member, 3, at=now())
    again = event(trigger)
    assert again["move"] == "launch more"
    last = away(op.execute_complete, ctx, event=again)
    with pytest.raises(errors.JobFailed, match="boto3 is missing"):
        op.execute_complete(ctx, event=event(last))
    assert len(world.members) == 2


@pytest.mark.parametrize(
    ("words", "end"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"fail_on_exit_codes": 3}, "fail", id="fail"),
        pytest.param({"retry_on_exit_codes": [2, 3]}, "retry", id="retry"),
        pytest.param({"retry_on_exit_codes": 2}, None, id="about others"),
        pytest.param({"skip_on_exit_codes": 3}, AirflowSkipException, id="skip"),
    ],
)
def test_what_the_author_says_of_the_workers_exit_codes_is_done(
    world: FakeLauncher, queue: Queue, words: dict[str, Any], end: Any
) -> None:
    op, ctx = workers(**words), context()
    trigger = away(op.execute, ctx)
    for member in world.running():
        world._change(member, result={"done": 0, "ended": "cannot work", "problem": "boto3 is missing"})
        world.end(member, 3, at=now())
    last = away(op.execute_complete, ctx, event=event(trigger))
    with pytest.raises(end if isinstance(end, type) else errors.JobFailed) as ended:
        op.execute_complete(ctx, event=event(last))
    if isinstance(ended.value, errors.JobFailed):
        assert ended.value.wish == end
        assert "boto3 is missing" in str(ended.value)


def test_an_empty_queue_is_read_twice_and_skips_the_task(world: FakeLauncher, queue: Queue) -> None:
    queue.holds(0)
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    with pytest.raises(AirflowSkipException, match="nothing to do: jobs: 0 visible"):
        op.execute_complete(ctx, event=event(trigger))
    assert world.calls == []
    assert queue.reads >= 3


def test_a_queue_whose_counters_were_late_is_worked_off(world: FakeLauncher, queue: Queue) -> None:
    queue.holds(0)
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    queue.holds(5)
    trigger = away(op.execute_complete, ctx, event=event(trigger))
    assert len(world.running()) == 1
    all_drained(world, queue, done=5)
    assert op.execute_complete(ctx, event=event(trigger))["messages"]["processed"] == 5


def test_what_cannot_be_read_at_the_start_launches_nothing(world: FakeLauncher, queue: Queue) -> None:
    queue.error = errors.SpecError("there is no queue")
    with pytest.raises(errors.SpecError):
        workers().execute(context())
    assert world.calls == []


def test_a_queue_that_cannot_be_read_ends_nothing(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    queue.error = errors.AccessError("not any more")
    assert is_quiet(trigger)
    assert len(world.running()) == 2


def test_a_queue_deleted_under_its_machines_fails_the_task_as_soon_as_they_have_ended(
    world: FakeLauncher, queue: Queue
) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    queue.error = errors.SpecError("there is no queue 'jobs'")
    assert is_quiet(trigger)
    for member in world.running():
        said = {"done": 3, "interrupted": 1, "ended": "cannot work", "problem": "there is no such queue"}
        world._change(member, result=said)
        world.end(member, 3, at=now())
    trigger = WorkersTrigger(**trigger.serialize()[1])
    with pytest.raises(errors.JobFailed) as failed:
        op.execute_complete(ctx, event=event(trigger))
    assert str(failed.value).count("there is no queue 'jobs'") == 1
    assert "2 machines have processed 6 messages" in str(failed.value)
    assert ctx["ti"].xcoms["verdict"]["messages"]["interrupted"] == 2
    assert len(world.members) == 2


def test_a_queue_purged_in_mid_run_is_drained_and_what_was_broken_off_is_told(
    world: FakeLauncher, queue: Queue
) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    queue.holds(0)
    for member in world.running():
        drain(world, member, done=3, interrupted=2)
    told = op.execute_complete(ctx, event=event(trigger))
    assert told["messages"] == {"processed": 6, "failed": 0, "dead_lettered": 0, "interrupted": 4}
    assert told["machines"] == 2


def test_a_person_who_stops_them_gets_no_others(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    world.stop(Launch.from_dict(trigger.launch), BY_PERSON)
    with pytest.raises(errors.Stopped):
        op.execute_complete(ctx, event=event(trigger))
    assert len(world.members) == 2


def test_a_machine_that_never_boots_is_stopped_alone(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    bad, good = world.running()
    world._change(bad, boot_evidence="cloud-init had ended")
    assert event(trigger)["move"] == "launch more"
    assert world.running() == (good,)


# --- growth that is refused


def refused_by(how: str, world: FakeLauncher, op: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing more is launched."""

    def fail(error: Exception) -> Any:
        def raising(*_: Any, **__: Any) -> Any:
            raise error

        return raising

    if how == "the worker cannot be put into its bucket":
        monkeypatch.setattr("airflow_transient.aws.workers.ship", fail(errors.AccessError("s3:PutObject denied")))
    elif how == "S3 does not answer":
        monkeypatch.setattr("airflow_transient.aws.workers.ship", fail(errors.LaunchError("no answer from S3")))
    elif how == "RunInstances is not allowed":
        world.launch = fail(Refused(Scope.ACCESS, "UnauthorizedOperation"))  # type: ignore[method-assign]
    elif how == "RunInstances refuses the words":
        world.launch = fail(Refused(Scope.SPEC, "InvalidParameterValue"))  # type: ignore[method-assign]
    elif how == "RunInstances has no room":
        world.launch = fail(Refused(Scope.POOL, "InsufficientInstanceCapacity"))  # type: ignore[method-assign]
    elif how == "RunInstances does not answer":
        world.launch = fail(errors.LaunchError("no answer"))  # type: ignore[method-assign]
    else:
        monkeypatch.setattr(op, "image_id", "no image")


@pytest.mark.parametrize("max_tries", [0, 2], ids=["the last try", "another try would follow"])
@pytest.mark.parametrize(
    "how",
    [
        "the worker cannot be put into its bucket",
        "S3 does not answer",
        "RunInstances is not allowed",
        "RunInstances refuses the words",
        "RunInstances has no room",
        "RunInstances does not answer",
        "a word has become wrong",
    ],
)
def test_a_growth_that_is_refused_ends_nobody_and_leaves_nobody_alone(
    world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch, how: str, max_tries: int
) -> None:
    op, ctx = workers(interval=30), context(max_tries=max_tries)
    trigger = away(op.execute, ctx)
    at_work = world.running()
    queue.holds(90)
    grow = event(trigger)
    with monkeypatch.context() as refusing:
        launch = world.launch
        refused_by(how, world, op, refusing)
        again = away(op.execute_complete, ctx, event=grow)
        world.launch = launch  # type: ignore[method-assign]
    assert world.running() == at_work
    assert tuple(again.launch["ids"]) == at_work
    assert is_quiet(again, 0.5)  # it is not asked for again at once
    op.interval = 1
    all_drained(world, queue, done=20)
    told = op.execute_complete(ctx, event=event(quick(again)))
    assert (told["outcome"], told["machines"]) == ("succeeded", 2)
    assert [each["count"] for each in told["growth"]] == [2, 0]
    assert told["growth"][1]["reason"].startswith("no more came: ")


def quick(trigger: WorkersTrigger) -> WorkersTrigger:
    """As a triggerer makes it again, with readings a second apart."""
    _, words = trigger.serialize()
    return WorkersTrigger(**{**words, "terms": {**words["terms"], "interval": 1.0, "not_before": None}})


def test_a_refused_growth_is_asked_for_again_later(
    world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    queue.holds(90)
    grow = event(trigger)
    world.refuse.append(Refused(Scope.ACCESS, "UnauthorizedOperation"))
    again = away(op.execute_complete, ctx, event=grow)
    away(op.execute_complete, ctx, event=event(again))
    assert len(world.running()) == 5
    all_drained(world, queue, done=18)


def test_with_nobody_at_work_a_refusal_fails_the_task(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    for member in world.running():
        world.take_back(member, at=now() - timedelta(minutes=5))
    world.refuse.append(Refused(Scope.ACCESS, "UnauthorizedOperation"))
    with pytest.raises(errors.AccessError):
        op.execute_complete(ctx, event=event(trigger))


def test_a_growth_without_an_answer_that_came_after_all_is_waited_for(world: FakeLauncher, queue: Queue) -> None:
    op, ctx, launch = workers(interval=30), context(), world.launch
    trigger = away(op.execute, ctx)
    queue.holds(90)
    grow = event(trigger)

    def launch_unheard(request: Any, again: bool = False) -> Any:
        launch(request)
        raise errors.LaunchError("no answer")

    world.launch = launch_unheard  # type: ignore[method-assign]
    again = away(op.execute_complete, ctx, event=grow)
    world.launch = launch  # type: ignore[method-assign]
    assert len(again.launch["ids"]) == 2
    assert len(world.running()) == 5
    queue.holds(0)
    for member in again.launch["ids"]:
        drain(world, member, done=20)
    op.interval = 1
    late = away(op.execute_complete, ctx, event=event(quick(again)))
    assert sorted(late.launch["ids"]) == sorted(world.members)[2:]
    all_drained(world, queue, done=20)
    told = op.execute_complete(ctx, event=event(late))
    assert (told["machines"], told["messages"]["processed"]) == (5, 100)


def adopts_by_receipts(world: FakeLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    """As EC2's does where no token is found: whoever has left anything, for all attempts leave it in one place."""
    by_token = world.adopt

    def adopt(request: Request) -> Launch | None:
        left = [id for id, seen in world.members.items() if seen.receipt]
        known = {*request.launch.ids, *getattr(request, "over", ())}
        came = tuple(id for id in left if id not in known)
        return by_token(request) or (request.launch.with_ids((*request.launch.ids, *came)) if came else None)

    monkeypatch.setattr(world, "adopt", adopt)


def test_machines_that_ended_long_ago_are_no_answer_to_a_growth(
    world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopts_by_receipts(world, monkeypatch)
    op, ctx, launch = workers(interval=30), context(), world.launch
    trigger = away(op.execute, ctx)
    early, late = world.running()
    drain(world, early, done=18, dead_lettered=1, ago=1800)
    queue.holds(0, in_flight=2)
    trigger = away(op.execute_complete, ctx, event=event(quick(trigger)))
    assert trigger.launch["ids"] == [late]
    queue.holds(90, in_flight=2)

    def unheard(request: Request, again: bool = False) -> Launch:
        if came := world.adopt(request):
            return came
        launch(request)
        raise errors.LaunchError("no answer")

    world.launch = unheard  # type: ignore[method-assign, assignment]
    with monkeypatch.context() as mute:
        mute.setattr(world, "_asked", {})  # nor can it be found yet
        again = away(op.execute_complete, ctx, event=event(quick(trigger)))
        assert again.launch["ids"] == [late]
        asked = dict(world._asked)
    world._asked |= asked
    queue.holds(0)
    drain(world, late, done=20)
    op.interval, op.max_dead_letters = 1, 1
    found = away(op.execute_complete, ctx, event=event(quick(again)))
    assert set(found.launch["ids"]) == set(world.members) - {early, late}
    all_drained(world, queue, done=20)
    told = op.execute_complete(ctx, event=event(found))
    count = len(world.members)
    assert (told["machines"], told["messages"]["dead_lettered"]) == (count, 1)
    assert told["messages"]["processed"] == 38 + 20 * (count - 2)


def mute(*_: Any) -> Any:
    raise errors.LaunchError("no answer")


def grown_unheard(world: FakeLauncher, queue: Queue, op: Any, ctx: Any) -> WorkersTrigger:
    """Three more have come, and AWS's answer has not."""
    launch, trigger = world.launch, away(op.execute, ctx)
    queue.holds(90)
    grow = event(trigger)

    def unheard(request: Request, again: bool = False) -> Launch:
        launch(request)
        return mute()

    world.launch = unheard  # type: ignore[method-assign, assignment]
    again = away(op.execute_complete, ctx, event=grow)
    world.launch = launch  # type: ignore[method-assign]
    assert (len(again.launch["ids"]), len(world.running())) == (2, 5)
    return again


def test_machines_that_came_late_are_shown_and_have_their_schedule(
    world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed: list[tuple[str, ...]] = []
    monkeypatch.setattr("airflow_transient.aws.kill_schedule.arm", lambda _c, launch, _r: armed.append(launch.ids))
    op, ctx = workers(kill_schedule_role=ROLE), context()
    again = grown_unheard(world, queue, op, ctx)
    late = away(op.execute_complete, ctx, event=event(again))
    assert len(late.launch["ids"]) == 5
    assert ctx["ti"].xcoms["launch"] == late.launch
    assert armed[-1] == tuple(late.launch["ids"])


def test_while_aws_does_not_say_whether_more_have_come_the_others_are_waited_for(
    world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    op, ctx = workers(), context()
    again = grown_unheard(world, queue, op, ctx)

    turn = {**Turn(Move.NOTE, live=2).to_dict(), "launch": again.launch}
    with monkeypatch.context() as muted:
        muted.setattr(world, "adopt", mute)
        still = away(op.execute_complete, ctx, event=turn)
    assert still.launch["ids"] == again.launch["ids"]
    assert set(away(op.execute_complete, ctx, event=turn).launch["ids"]) == set(world.running())


def test_a_drained_queue_is_no_end_while_nobody_knows_whether_more_machines_have_come(
    world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    op, ctx = workers(), context()
    again = grown_unheard(world, queue, op, ctx)
    first = again.launch["ids"]
    queue.holds(0)
    for member in first:
        drain(world, member, done=20)

    op.interval = 1
    with monkeypatch.context() as muted:
        muted.setattr(world, "adopt", mute)
        still = away(op.execute_complete, ctx, event=event(quick(again)))
        still = away(op.execute_complete, ctx, event=event(quick(still)))
    assert still.launch["ids"] == []
    late = away(op.execute_complete, ctx, event=event(quick(still)))
    assert set(late.launch["ids"]) == set(world.running())
    all_drained(world, queue, done=10)
    told = op.execute_complete(ctx, event=event(quick(late)))
    assert (told["machines"], told["messages"]["processed"]) == (5, 70)


def test_nor_for_a_worker_that_waits_itself(world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    op, ctx = workers(), context()
    again = grown_unheard(world, queue, op, ctx)
    queue.holds(0)
    for member in again.launch["ids"]:
        drain(world, member, done=20)
    late, adopt, asked = set(world.running()), world.adopt, []

    def mute_twice(request: Request) -> Launch | None:
        asked.append(request)
        if len(asked) < 3:
            return mute()
        for member in late:
            drain(world, member, done=10)
        return adopt(request)

    monkeypatch.setattr(world, "adopt", mute_twice)
    op.interval, op.deferrable = 1, False
    told = op.execute_complete(ctx, event=event(quick(again)))
    assert (told["machines"], told["messages"]["processed"], len(asked)) == (5, 70, 3)


def test_after_its_deadline_a_growth_without_an_answer_keeps_nobody_waiting(
    world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    op, ctx = workers(), context()
    again = grown_unheard(world, queue, op, ctx)

    queue.holds(0)
    for member in again.launch["ids"]:
        drain(world, member, done=20)
    op.interval = 1
    over = event(quick(again))
    over["launch"] = {**over["launch"], "deadline": datetime.now(timezone.utc).isoformat()}
    monkeypatch.setattr(world, "adopt", mute)
    told = op.execute_complete(ctx, event=over)
    assert (told["machines"], told["messages"]["processed"]) == (2, 40)


def test_machines_that_came_late_are_waited_for_though_a_word_has_become_wrong(
    world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed: list[tuple[str, ...]] = []
    monkeypatch.setattr("airflow_transient.aws.kill_schedule.arm", lambda _c, launch, _r: armed.append(launch.ids))
    op, ctx = workers(kill_schedule_role=ROLE), context()
    again = grown_unheard(world, queue, op, ctx)
    op.image_id = "no image"
    late = away(op.execute_complete, ctx, event={**Turn(Move.NOTE, live=2).to_dict(), "launch": again.launch})
    assert set(late.launch["ids"]) == set(world.running())
    assert ctx["ti"].xcoms["launch"] == late.launch
    assert {len(ids) for ids in armed} == {2}


def test_of_a_growth_that_was_refused_those_that_came_have_their_schedule(
    world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed: list[tuple[str, ...]] = []
    monkeypatch.setattr("airflow_transient.aws.kill_schedule.arm", lambda _c, launch, _r: armed.append(launch.ids))
    op, ctx, launch = workers(kill_schedule_role=ROLE), context(), world.launch
    trigger = away(op.execute, ctx)
    queue.holds(90)
    answers = [lambda request: launch(request)]

    def one_and_no_more(request: Request, again: bool = False) -> Launch:
        if answers:
            return answers.pop()(request)
        raise Refused(Scope.ACCESS, "UnauthorizedOperation")

    grow = event(trigger)
    world.room, world.launch = 1, one_and_no_more  # type: ignore[method-assign, assignment]
    again = away(op.execute_complete, ctx, event=grow)
    assert len(again.launch["ids"]) == 3
    assert armed[-1] == tuple(again.launch["ids"])


def test_the_next_try_keeps_those_that_work_when_a_growth_cannot_be_finished(world: FakeLauncher, queue: Queue) -> None:
    store, launch = Store(), world.launch
    trigger = away(workers().execute, context(store))
    queue.holds(90)
    grow = event(trigger)

    def die(request: Any, again: bool = False) -> Any:
        raise Died

    world.launch = die  # type: ignore[method-assign]
    with pytest.raises(Died):
        workers().execute_complete(context(store), event=grow)
    world.launch = launch  # type: ignore[method-assign]
    world.refuse.append(Refused(Scope.ACCESS, "UnauthorizedOperation"))
    again = away(workers().execute, context(store, try_number=3))
    assert tuple(again.launch["ids"]) == world.running()
    assert len(world.running()) == 2


def test_helpers_that_find_nothing_are_not_bought_again_at_once_and_growth_goes_on_later(
    world: FakeLauncher, queue: Queue
) -> None:
    """All messages of a FIFO group count as visible, and one machine at a time can receive any."""
    op, ctx = workers(max_count=5), context()
    queue.holds(999, in_flight=1)
    trigger = away(op.execute, ctx)
    busy, *idle = world.running()
    for member in idle:
        drain(world, member, ago=300)
    slower = away(op.execute_complete, ctx, event=event(trigger))
    assert world.running() == (busy,)
    assert slower.terms["may_grow"]
    away(op.execute_complete, ctx, event=event(slower))
    assert len(world.running()) == 3  # half of the four it had room for
    all_drained(world, queue, done=1)


def test_a_task_that_waits_itself_takes_any_number_of_turns(world: FakeLauncher, queue: Queue) -> None:
    op, ctx, turns = workers(deferrable=False, max_count=1, messages_per_process=1000), context(), iter(range(1200))

    def wait(*_: Any) -> Turn:
        if next(turns) < 1199:
            return Turn(Move.NOTE)
        all_drained(world, queue, done=40)
        case = CrewCase(launch := Launch.from_dict(ctx["ti"].xcoms["launch"]))
        case.judged(world.observe(launch, now()), now())
        return Turn(Move.END, tuple(case.crew.ended.values()), drained=True)

    op._here.wait = wait  # type: ignore[method-assign, assignment]
    assert op.execute(ctx)["messages"]["processed"] == 40


# --- crash, clear, kill


def test_executed_twice_it_launches_once(world: FakeLauncher) -> None:
    store = Store()
    first, second = (away(workers().execute, context(store, try_number=n)) for n in (1, 2))
    assert first.launch["ids"] == second.launch["ids"]
    assert len(world.members) == 2


@pytest.mark.parametrize("answered", [True, False], ids=["died after the answer", "died before anything came"])
def test_a_worker_that_dies_in_a_growth_is_gone_on_from(world: FakeLauncher, queue: Queue, answered: bool) -> None:
    store, launch = Store(), world.launch
    trigger = away(workers().execute, context(store))
    queue.holds(90)
    grow = event(trigger)

    def launch_and_die(request: Any, again: bool = False) -> Any:
        if answered:
            launch(request)
        raise Died

    world.launch = launch_and_die  # type: ignore[method-assign]
    with pytest.raises(Died):
        workers().execute_complete(context(store), event=grow)
    world.launch = launch  # type: ignore[method-assign]
    again = away(workers().execute, context(store, try_number=2))
    assert sorted(again.launch["ids"]) == sorted(world.members)
    assert len(world.members) == 5
    all_drained(world, queue, done=1)
    told = workers().execute_complete(context(store, try_number=2), event=event(again))
    assert [each["count"] for each in told["growth"]] == [2, 3]


def test_a_clear_ends_the_machines_of_all_growths_and_begins_anew(world: FakeLauncher, queue: Queue) -> None:
    store = Store()
    trigger = away(workers().execute, context(store))
    queue.holds(90)
    away(workers().execute_complete, context(store), event=event(trigger))
    before = set(world.running())
    again = away(workers().execute, context(store, try_number=2, max_tries=3))
    assert set(world.running()) == set(again.launch["ids"])
    assert not before & set(again.launch["ids"])


def test_killed_while_it_waits_all_are_ended_and_the_next_try_begins_anew(
    world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    trigger = away(workers().execute, context(store))

    async def failed(self: WorkersTrigger) -> str:
        return "failed"

    monkeypatch.setattr(WorkersTrigger, "_task_state", failed)
    asyncio.run(trigger.on_kill())
    assert world.running() == ()
    again = away(workers().execute, context(store, try_number=2))
    assert set(world.running()) == set(again.launch["ids"])


def test_a_trigger_that_died_gets_another_one(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    why = {"error": TriggerFailureReason.TRIGGER_FAILURE}
    again = away(op.resume_execution, TRIGGER_FAIL_REPR, why, ctx)
    assert (again.launch, again.terms) == (trigger.launch, trigger.terms)


def test_after_airflows_own_timeout_all_are_ended_and_no_others_come(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(), context()
    away(op.execute, ctx)
    why = {"error": TriggerFailureReason.TRIGGER_TIMEOUT}
    with pytest.raises(errors.Overdue, match="40 visible"):
        op.resume_execution(TRIGGER_FAIL_REPR, why, ctx)
    assert world.running() == ()
    assert len(world.members) == 2


def left(leg: Any, *args: Any, **kwargs: Any) -> timedelta | None:
    """How long Airflow lets the trigger wait."""
    with pytest.raises(TaskDeferred) as deferred:
        leg(*args, **kwargs)
    told: timedelta | None = deferred.value.timeout
    return told


def asked_ago(ctx: dict[str, Any], ago: timedelta) -> None:
    """As if the launch had been asked for so long ago."""
    launch = ctx["task_state_store"].kept["airflow_transient.intent"]["launch"]
    launch["requested_at"] = (now() - ago).isoformat()


def test_execution_timeout_counts_from_the_first_machine_over_all_legs(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(execution_timeout=timedelta(hours=2)), context()
    first = left(op.execute, ctx)
    assert first is not None
    assert timedelta(hours=1, minutes=59) < first <= timedelta(hours=2)
    asked_ago(ctx, timedelta(minutes=90))
    queue.holds(90)
    turn = {**Turn(Move.GROW, (), 3, "more", live=2).to_dict()}
    event = {**turn, "launch": ctx["ti"].xcoms["launch"]}
    after = left(op.execute_complete, ctx, event=event)
    assert len(world.running()) == 5
    assert after is not None
    assert timedelta(minutes=29) < after <= timedelta(minutes=30)
    assert left(workers().execute, context()) is None


def test_when_execution_timeout_is_over_no_leg_makes_it_grow(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(execution_timeout=timedelta(hours=2)), context()
    trigger = away(op.execute, ctx)
    asked_ago(ctx, timedelta(hours=2))
    queue.holds(90)
    ending = away(op.execute_complete, ctx, event=event(trigger))
    assert (len(world.members), world.running()) == (2, ())
    with pytest.raises(errors.Overdue):
        op.execute_complete(ctx, event=event(ending))
    assert len(world.members) == 2


def times_out(op: Any, at_turn: int = 1) -> None:
    """Airflow's alarm rings while the task waits itself."""
    wait, turns = op._here.wait, iter(range(1, 100))

    def rung(*args: Any) -> Any:
        if next(turns) == at_turn:
            raise AirflowTaskTimeout
        return wait(*args)

    op._here.wait = rung


@pytest.mark.parametrize("in_flight", [0, 3], ids=["what is left can be seen", "what is left is in flight"])
def test_a_task_that_waits_itself_is_overdue_in_the_same_way(world: FakeLauncher, queue: Queue, in_flight: int) -> None:
    op, ctx = workers(deferrable=False), context()
    times_out(op)
    if in_flight:
        ship_and_hold = world.launch

        def launch(request: Request, again: bool = False) -> Launch:
            queue.holds(0, in_flight)
            return ship_and_hold(request, again)

        world.launch = launch  # type: ignore[method-assign]
    with pytest.raises(errors.Overdue):
        op.execute(ctx)
    assert (len(world.members), world.running()) == (2, ())


def test_a_worker_that_dies_after_its_time_is_told_for_by_the_next_try(world: FakeLauncher, queue: Queue) -> None:
    store, op, stop = Store(), workers(deferrable=False), world.stop
    times_out(op)

    def die(launch: Launch, why: str = "request") -> None:
        raise Died

    world.stop = die  # type: ignore[method-assign]
    with pytest.raises(Died):
        op.execute(context(store))
    world.stop = stop  # type: ignore[method-assign]
    with pytest.raises(errors.Overdue):
        workers(deferrable=False).execute(context(store, try_number=2))
    assert (len(world.members), world.running()) == (2, ())


def test_machines_of_a_growth_unheard_of_that_come_after_the_time_are_ended_too(
    world: FakeLauncher, queue: Queue
) -> None:
    op, ctx = workers(execution_timeout=timedelta(hours=2)), context()
    grown_unheard(world, queue, op, ctx)
    assert len(world.running()) == 5
    op.deferrable = False
    with pytest.raises(errors.Overdue):
        op.resume_execution(TRIGGER_FAIL_REPR, {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, ctx)
    assert (len(world.members), world.running()) == (5, ())


@pytest.mark.parametrize("kill", ["terminate", "leave"])
def test_a_kill_in_the_leg_of_a_growth_ends_all_but_what_is_to_be_left(
    world: FakeLauncher, queue: Queue, kill: str
) -> None:
    op, ctx, launch = workers(on_kill=kill), context(), world.launch
    trigger = away(op.execute, ctx)
    queue.holds(90)
    grow = event(trigger)
    at_kill: list[tuple[str, ...]] = []

    def launch_killed(request: Request, again: bool = False) -> Launch:
        op.on_kill()
        at_kill.append(world.running())
        return launch(request)

    world.launch = launch_killed  # type: ignore[method-assign]
    if kill == "leave":
        away(op.execute_complete, ctx, event=grow)
        assert (len(at_kill[0]), len(world.running())) == (2, 5)
        return
    with pytest.raises(errors.Stopped):
        op.execute_complete(ctx, event=grow)
    assert (at_kill, world.running()) == ([()], ())


def test_a_kill_before_a_growth_launches_nothing(
    world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    queue.holds(90)
    grow = event(trigger)
    written_down = op._written_down

    def killed(*args: Any) -> Any:
        op.on_kill()
        return written_down(*args)

    monkeypatch.setattr(op, "_written_down", killed)
    with pytest.raises(errors.Stopped):
        op.execute_complete(ctx, event=grow)
    assert (len(world.members), world.running()) == (2, ())


def test_a_kill_while_a_worker_waits_because_triggers_died_ends_all(world: FakeLauncher, queue: Queue) -> None:
    op, ctx, observe = workers(), context(), world.observe
    away(op.execute, ctx)
    died = {"error": TriggerFailureReason.TRIGGER_FAILURE}
    for _ in range(5):
        away(op.resume_execution, TRIGGER_FAIL_REPR, died, ctx)

    def killed(launch: Launch, moment: datetime) -> Any:
        op.on_kill()
        return observe(launch, moment)

    world.observe = killed  # type: ignore[method-assign]
    with pytest.raises(errors.Stopped):
        op.resume_execution(TRIGGER_FAIL_REPR, died, ctx)
    assert world.running() == ()


def test_while_the_journal_says_so_no_trigger_makes_it_grow(world: FakeLauncher, queue: Queue) -> None:
    """One that was made anew does not know that more would not help."""
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    kept = ctx["task_state_store"].kept["airflow_transient.intent"]
    kept["kept"]["fruitless"] = 3
    queue.holds(900)
    again = away(op.execute_complete, ctx, event=event(trigger))
    assert (len(world.members), again.terms["may_grow"]) == (2, False)


def test_what_has_ended_long_ago_is_written_down_while_others_work(world: FakeLauncher, queue: Queue) -> None:
    op, ctx = workers(), context()
    trigger = away(op.execute, ctx)
    early, late = world.running()
    queue.holds(0, in_flight=2)
    drain(world, early, done=18, ago=1800)
    trigger = away(op.execute_complete, ctx, event=event(trigger))
    assert trigger.launch["ids"] == [late]
    world.forget(early)
    all_drained(world, queue, done=22)
    told = op.execute_complete(ctx, event=event(trigger))
    assert (told["machines"], told["messages"]["processed"]) == (2, 40)


def test_a_worker_that_dies_while_it_tells_is_told_for_by_the_next_try(
    world: FakeLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, op = Store(), workers()
    trigger = away(op.execute, context(store))
    all_drained(world, queue, done=20)
    over = event(trigger)

    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr("airflow_transient.core.workers.ending.what_is_wrong", die)
        with pytest.raises(Died):
            op.execute_complete(context(store), event=over)
    for member in trigger.launch["ids"]:
        world.forget(member)
    again = away(workers().execute, context(store, try_number=2))
    assert again.launch["ids"] == []
    told = workers().execute_complete(context(store, try_number=2), event=event(again))
    assert (told["machines"], told["messages"]["processed"], told["counts"]) == (2, 40, {"succeeded": 2})


def test_told_once_it_is_told_again(world: FakeLauncher, queue: Queue) -> None:
    store, op = Store(), workers()
    trigger = away(op.execute, context(store))
    all_drained(world, queue, done=1)
    told = op.execute_complete(context(store), event=event(trigger))
    assert workers().execute(context(store, try_number=2)) == told


def test_a_worker_that_waits_itself_does_the_same(world: FakeLauncher, queue: Queue) -> None:
    launch = world.launch

    def launch_and_work(request: Any, again: bool = False) -> Any:
        came = launch(request, again)
        if len(world.members) == 2:
            queue.holds(60)
        else:
            all_drained(world, queue, done=20)
        return came

    world.launch = launch_and_work  # type: ignore[method-assign]
    told = workers(deferrable=False, poll_interval=0.05).execute(context())
    assert (told["outcome"], [each["count"] for each in told["growth"]]) == ("succeeded", [2, 1])
    assert told["messages"]["processed"] == 60


# --- words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param({"results": None}, "results is needed", id="no place for the worker"),
        pytest.param({"command": []}, "which command", id="nothing to run"),
        pytest.param({"processes": 0}, "processes is 0", id="no process"),
        pytest.param({"max_count": "0"}, "max_count is 0", id="no machine"),
        pytest.param({"sqs_queue": ""}, "which queue", id="no queue"),
        pytest.param({"max_dead_letters": -1}, "max_dead_letters is -1", id="less than none"),
        pytest.param({"worker_options": "--no-output"}, "worker_options is a list", id="options as text"),
        pytest.param({"worker_options": ["--max-failuers", "5"]}, "unrecognized arguments", id="an option misspelt"),
        pytest.param({"image_id": None}, "which image", id="no image"),
    ],
)
def test_a_wrong_word_is_said_before_anything_is_launched(
    world: FakeLauncher, words: dict[str, Any], says: str
) -> None:
    with pytest.raises(errors.SpecError, match=says):
        workers(**words).execute(context())
    assert world.calls == []


def test_the_executors_queue_stays_what_it_is() -> None:
    """Airflow's own `queue` says which Celery worker takes a task."""
    assert workers().queue == "default"
    assert workers(queue="large").queue == "large"


@pytest.mark.parametrize("word", ["count", "script"])
def test_what_the_queue_decides_is_no_word_of_the_author(word: str) -> None:
    with pytest.raises(errors.SpecError, match=word):
        workers(**{word: 1})


def test_the_worker_is_signed_for_when_something_is_launched_and_not_when_it_is_adopted(
    world: FakeLauncher, queue: Queue
) -> None:
    store = Store()
    away(workers().execute, context(store))
    away(workers().execute, context(store, try_number=2))
    assert queue.shipped == ["https://signed/0"]


# --- ECS

AWSLOGS = LogPlace("main", "/ecs/work", "work", "eu-west-1")


def tasks_of(**words: Any) -> EcsQueueWorkersOperator:
    kept = {name: GOOD[name] for name in GOOD if name not in ("image_id", "instance_type")}
    return EcsQueueWorkersOperator(**{**kept, "task_definition": "work", **words})


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """task -> what its worker printed last."""
    said: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr("airflow_transient.aws.workers.receipt_in_log", lambda _c, _l, member, _n: said.get(member))
    return said


def test_tasks_of_ecs_grow_and_end_the_same_way(
    tasks: FakeEcsLauncher, queue: Queue, log: dict[str, dict[str, Any]]
) -> None:
    op, ctx = tasks_of(overrides={"main": {"A": "1"}}), context()
    trigger = away(op.execute, ctx)
    queue.holds(50)
    trigger = away(op.execute_complete, ctx, event=event(trigger))
    assert len(tasks.running()) == 3
    for number, member in enumerate(tasks.running()):
        log[member] = {"done": 20 + number}
        tasks.end(member, 0, at=now())
    queue.holds(0)
    told = op.execute_complete(ctx, event=event(trigger))
    assert (told["outcome"], told["messages"]["processed"], told["machines"]) == ("succeeded", 63, 3)


@pytest.mark.parametrize(("logs", "processed"), [((AWSLOGS,), 14), ((), 0)], ids=["awslogs", "no log to be read"])
def test_a_receipt_that_comes_to_the_log_late_is_waited_for_where_there_is_a_log(
    tasks: FakeEcsLauncher, queue: Queue, monkeypatch: pytest.MonkeyPatch, logs: tuple[LogPlace, ...], processed: int
) -> None:
    reads: list[str] = []

    def read(_client: Any, _launch: Any, member: str, _name: str) -> dict[str, Any] | None:
        reads.append(member)
        return {"done": 7} if reads.count(member) == 3 else None

    monkeypatch.setattr("airflow_transient.aws.workers.receipt_in_log", read)
    monkeypatch.setattr("airflow_transient.operators.crew.READ_PAUSE", 0.0)
    tasks.definition = replace(tasks.definition, logs=logs)
    op, ctx = tasks_of(), context()
    trigger = away(op.execute, ctx)
    for member in tasks.running():
        tasks.end(member, 0, at=now())
    queue.holds(0)
    told = op.execute_complete(ctx, event=event(trigger))
    assert (told["messages"]["processed"], told["unreported"]) == (processed, 0 if logs else 2)
    assert len(reads) == (6 if logs else 2)


def test_the_container_gets_the_worker_beside_what_its_author_says(tasks: FakeEcsLauncher) -> None:
    away(tasks_of(overrides={"main": {"A": "1"}}).execute, context())
    request, _ = next(iter(tasks._asked.values()))
    (container,) = request.arguments["overrides"]["containerOverrides"]
    said = {pair["name"]: pair["value"] for pair in container["environment"]}
    assert (said["A"], said["WORKER_URL"]) == ("1", "https://signed/0")
    assert container["command"][-2:] == ["--", "convert-it"]
    assert "https" not in " ".join(container["command"])


def test_an_image_that_has_the_worker_is_shipped_none(tasks: FakeEcsLauncher, queue: Queue) -> None:
    away(tasks_of(worker="/opt/worker.py").execute, context())
    assert queue.shipped == []


@pytest.mark.parametrize(
    "word",
    sorted({*EcsBurstOperator.template_fields, "wait_for_completion"} - {*EcsQueueWorkersOperator.template_fields}),
)
def test_words_of_a_burst_that_mean_nothing_here_are_refused(word: str) -> None:
    with pytest.raises(errors.SpecError, match=word):
        tasks_of(**{word: 1})
