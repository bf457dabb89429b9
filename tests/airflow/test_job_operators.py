"""The two tasks of a job on ECS: one launches and hands over, the other takes over; crashes and clears in between."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent

from airflow_transient import errors
from airflow_transient.aws import sizing, sqs
from airflow_transient.core.depth import Depth, Live
from airflow_transient.core.intent import Intent
from airflow_transient.core.launch import Launch, Owner
from airflow_transient.core.reaping import Answer, Standing
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.jobs.gate import DepthGate
from airflow_transient.jobs.operators import (
    JobLaunch,
    JobMachine,
    JobWait,
    UnwrittenLaunch,
    UnwrittenMachine,
    UnwrittenWait,
    comes_from,
    why_not_now,
)
from airflow_transient.testing import FakeEcsLauncher, FakeLauncher
from airflow_transient.timetables.cron import EightFieldCronTimetable
from airflow_transient.triggers import gate
from airflow_transient.triggers.gate import DepthGateTrigger
from airflow_transient.triggers.launch import LaunchTrigger
from tests.airflow.legs import Died, away
from tests.airflow.stubs import Store, Ti

NO_ROOM = "Capacity is unavailable at this time"


def now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class TiOfRun(Ti):
    """One that sees the XComs of its run's other tasks."""

    run: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, str | None] = field(default_factory=dict)

    def get_task_states(self, dag_id: str, task_ids: list[str], run_ids: list[str]) -> Any:
        return {self.run_id: {task: self.states[task] for task in task_ids}}

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        said = self.run.get(task_ids, {}).get(key)
        return json.loads(json.dumps(said))


def made(late: float = 1.0, run_type: str = "scheduled", clear_number: int = 0) -> Any:
    """The run as a task sees it."""
    due = now() - timedelta(hours=1)
    start = due + timedelta(seconds=late)
    return SimpleNamespace(run_type=run_type, run_after=due, start_date=start, clear_number=clear_number)


class Run:
    """One run of a job, as Airflow keeps it: state stores that outlive tries, XComs that do not."""

    def __init__(self, run_id: str = "run-1", **words: Any) -> None:
        self.id, self.words = run_id, {"task_definition": "work", "task_count": 2, "top_up": True, **words}
        self.stores = {"launch": Store(), "wait": Store()}
        self.xcoms: dict[str, dict[str, Any]] = {"launch": {}, "wait": {}}
        self.states: dict[str, str | None] = {"launch": "success", "wait": None}
        self.made = made()

    def context(self, task: str, fresh: bool = False, **ti: Any) -> Any:
        if fresh:
            self.xcoms[task] = {}
        made = TiOfRun("job.a", self.id, task, xcoms=self.xcoms[task], run=self.xcoms, states=self.states, **ti)
        return {"ti": made, "task_state_store": self.stores[task], "dag_run": self.made}

    def launch(self, **ti: Any) -> Any:
        return JobLaunch(task_id="launch", **self.words).execute(self.context("launch", fresh=True, **ti))

    def wait(self, **ti: Any) -> LaunchTrigger:
        op = JobWait(task_id="wait", poll_interval=0.01, **self.words)
        return away(lambda: op.execute(self.context("wait", fresh=True, **ti)))

    def resume(self, trigger: LaunchTrigger, **ti: Any) -> Any:
        """What the triggerer and the worker make of the end of the wait."""
        said = asyncio.run(asyncio.wait_for(anext(trigger.run()), 10)).payload  # type: ignore[arg-type]
        op = JobWait(task_id="wait", poll_interval=0.01, **self.words)
        return op.execute_complete(self.context("wait", **ti), event=json.loads(json.dumps(said)))


def end_all(tasks: FakeEcsLauncher, exit_code: int = 0) -> None:
    for member in tasks.running():
        tasks.end(member, exit_code, at=now())


#: Of a job that was resumed half an hour after the full hour.
FIRES = EightFieldCronTimetable("0 0", not_before=datetime(2026, 11, 21, 10, 30, tzinfo=timezone.utc))


def due(text: str, **kind: Any) -> Any:
    at = datetime.fromisoformat(f"2026-11-21T{text}+00:00")
    return SimpleNamespace(
        **{"run_type": "scheduled", "clear_number": 0, "run_after": at, "start_date": at + timedelta(seconds=2), **kind}
    )


FIRED = {
    "after it": (due("11:00:00"), False),
    "before it": (due("10:00:00"), True),
    "by an older schedule": (due("11:15:00"), True),
    "an older schedule's, cleared": (due("11:15:00", clear_number=1), False),
    "by hand": (due("10:00:00", run_type="manual"), False),
}


@pytest.mark.parametrize(("run", "skipped"), FIRED.values(), ids=FIRED)
def test_only_what_the_schedule_names_by_now_is_a_fire(run: Any, skipped: bool) -> None:
    assert bool(why_not_now(run, FIRES)) is skipped


LATE = {
    "in time": (made(5), False),
    "the last one missed, within the grace": (made(60 + 45), False),
    "noted before a long stop": (made(3000), True),
    "run by hand": (made(3000, "manual"), False),
    "backfilled": (made(3000, "backfill"), False),
    "cleared": (made(3000, clear_number=1), False),
}


@pytest.mark.parametrize(("run", "skipped"), LATE.values(), ids=LATE)
def test_a_fire_that_comes_too_late_launches_nothing(run: Any, skipped: bool) -> None:
    assert bool(why_not_now(run, None)) is skipped


def test_of_a_fire_that_comes_too_late_nothing_runs(tasks: FakeEcsLauncher) -> None:
    run = Run()
    run.made = made(3000)
    with pytest.raises(AirflowSkipException, match=r"nothing to launch: due at .* came 0:50:00 late"):
        run.launch()
    machine = JobMachine(task_id="launch", command="true", image_id="ami-1", instance_type="t3.small")
    with pytest.raises(AirflowSkipException, match="nothing to launch"):
        machine.execute(run.context("launch"))
    assert tasks.calls == []


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch, tasks: FakeEcsLauncher) -> dict[str, Any]:
    """What a queue answers; what is live is what the fake cloud runs for the owner that is asked about."""
    said: dict[str, Any] = {"visible": 60, "asked": []}

    def depths(client: Any, queues: Any, at: datetime) -> list[Depth]:
        if isinstance(said["visible"], Exception):
            raise said["visible"]
        return [Depth(name, said["visible"], at=at) for name in queues]

    def live(client: Any, spec: Any, owner: Owner, at: datetime, with_ended: bool = True) -> Live:
        said["asked"].append(owner)
        return Live(len(tasks.running()))

    for room in (sizing, sqs):
        monkeypatch.setattr(room, "read_depths", depths)
    monkeypatch.setattr(sizing, "live_tasks", live)
    return said


# --- handing over


def test_one_launches_and_ends_the_other_waits_and_tells(tasks: FakeEcsLauncher) -> None:
    run = Run()
    told = run.launch()
    assert (told["outcome"], told["ids"]) == ("launched", list(tasks.running()))
    trigger = run.wait()
    assert trigger.launch["ids"] == told["ids"] == run.xcoms["wait"]["launch"]["ids"]
    end_all(tasks)
    assert run.resume(trigger)["counts"] == {"succeeded": 2}
    assert [call for call, _ in tasks.calls] == ["launch"]


def test_all_that_a_job_launches_is_in_the_name_of_the_task_that_waits(
    tasks: FakeEcsLauncher, queue: dict[str, Any]
) -> None:
    run = Run()
    run.launch()
    (request, _) = next(iter(tasks._asked.values()))
    assert {"transient:task": "wait"}.items() <= {t["key"]: t["value"] for t in request.arguments["tags"]}.items()
    tasks.take_back(tasks.running()[0], at=now())
    end_all(tasks)
    away(lambda: run.resume(run.wait()))
    assert {owner.task_id for owner in queue["asked"]} == {"wait"}
    assert len({asked.arguments["startedBy"] for asked, _ in tasks._asked.values()}) == 1


@pytest.mark.parametrize(
    ("state", "standing"),
    [
        pytest.param(None, Standing.ALIVE, id="launch still runs or tries again"),
        ("scheduled", Standing.ALIVE),
        ("queued", Standing.ALIVE),
        ("deferred", Standing.ALIVE),
        ("up_for_retry", Standing.ALIVE),
        pytest.param("upstream_failed", Standing.OVER, id="launch has failed for good"),
        pytest.param("skipped", Standing.OVER, id="launch was skipped"),
        ("failed", Standing.OVER),
        ("success", Standing.OVER),
    ],
)
def test_the_reaper_is_told_by_the_task_that_waits(state: str | None, standing: Standing) -> None:
    assert Answer.of_state(state).standing is standing


def test_a_fire_with_nothing_to_launch_is_skipped_with_the_reason(tasks: FakeEcsLauncher) -> None:
    Run().launch()
    with pytest.raises(AirflowSkipException, match="nothing to launch: task_count 2 less 2 live"):
        Run("run-2").launch()
    assert len(tasks.members) == 2


def test_a_fire_tops_up_over_the_tasks_of_other_runs(tasks: FakeEcsLauncher) -> None:
    first, second = Run(), Run("run-2")
    first.launch()
    waited = first.wait()
    tasks.end(tasks.running()[0], 0, at=now())
    assert len(second.launch()["ids"]) == 1
    assert not set(second.wait().launch["ids"]) & set(waited.launch["ids"])


def test_a_task_that_was_marked_and_not_run_leaves_nothing_to_wait_for(tasks: FakeEcsLauncher) -> None:
    with pytest.raises(errors.SpecError, match="launch has handed nothing over"):
        Run().wait()
    assert tasks.calls == []


# --- crashes in between


def test_who_dies_after_placing_and_before_handing_over_adopts(tasks: FakeEcsLauncher) -> None:
    run, launch = Run(), tasks.launch

    def launch_and_die(request: Any, again: bool = False) -> Any:
        launch(request)
        raise Died

    tasks.launch = launch_and_die  # type: ignore[method-assign]
    with pytest.raises(Died):
        run.launch()
    tasks.launch = launch  # type: ignore[method-assign]
    told = run.launch(try_number=2)
    assert told["ids"] == list(tasks.running()) == run.wait().launch["ids"]
    assert len(tasks.members) == 2


def test_who_dies_after_handing_over_hands_the_same_over_again(tasks: FakeEcsLauncher) -> None:
    run = Run()
    assert run.launch()["ids"] == run.launch(try_number=2)["ids"] == run.wait().launch["ids"]
    assert len(tasks.members) == 2


def test_a_wait_that_died_is_taken_up_by_its_next_try(tasks: FakeEcsLauncher) -> None:
    run = Run()
    run.launch()
    assert run.wait().launch["ids"] == run.wait(try_number=2).launch["ids"]
    assert [call for call, _ in tasks.calls] == ["launch"]


def test_the_last_try_that_finds_no_room_leaves_nothing(tasks: FakeEcsLauncher) -> None:
    run = Run(capacity_provider_strategies=["FARGATE"])
    tasks.room = 0
    with pytest.raises(errors.CapacityError):
        run.launch(try_number=3)
    assert tasks.running() == ()


def test_a_try_that_comes_late_launches_what_is_missing_by_then(tasks: FakeEcsLauncher) -> None:
    first, second = Run(), Run("run-2")
    tasks.room = 0
    with pytest.raises(errors.CapacityError):
        first.launch()
    tasks.room = 1000
    second.launch()
    with pytest.raises(AirflowSkipException, match="nothing to launch any more"):
        first.launch(try_number=2)
    tasks.end(tasks.running()[0], 0, at=now())
    assert first.launch(try_number=3)["wanted"] == 1
    assert len(tasks.running()) == 2


# --- clears


def test_cleared_together_exactly_one_new_launch_is_waited_for(tasks: FakeEcsLauncher) -> None:
    run = Run()
    old = run.launch()["ids"]
    run.wait()
    new = run.launch(try_number=2, max_tries=3)["ids"]
    assert run.wait(try_number=2, max_tries=3).launch["ids"] == new == list(tasks.running())
    assert not set(old) & set(new)


def test_cleared_together_after_a_wait_that_had_launched_again_no_token_comes_twice(tasks: FakeEcsLauncher) -> None:
    """Both count their generations by themselves."""
    run = Run()
    run.launch()
    run.wait()
    run.wait(try_number=2, max_tries=3)
    run.launch(try_number=2, max_tries=3)
    last = run.wait(try_number=3, max_tries=4)
    assert last.launch["ids"] == list(tasks.running())
    tokens = [token for call, token in tasks.calls if call == "launch"]
    assert len(tokens) == len(set(tokens)) == 3


def test_a_wait_cleared_alone_stops_what_it_waited_for_and_launches_anew(tasks: FakeEcsLauncher) -> None:
    run = Run()
    old = run.launch()["ids"]
    run.wait()
    new = run.wait(try_number=2, max_tries=3)
    assert new.launch["ids"] == list(tasks.running())
    assert not set(old) & set(new.launch["ids"])
    assert run.wait(try_number=3, max_tries=3).launch["ids"] == new.launch["ids"]


def test_a_wait_cleared_after_its_success_launches_anew(tasks: FakeEcsLauncher) -> None:
    run = Run()
    run.launch()
    trigger = run.wait()
    end_all(tasks)
    run.resume(trigger)
    again = run.wait(try_number=2, max_tries=3)
    assert again.launch["ids"] == list(tasks.running())


def test_where_the_launch_was_cleared_alone_the_wait_goes_over_to_the_new_one(tasks: FakeEcsLauncher) -> None:
    run = Run()
    run.launch()
    trigger = run.wait()
    new = run.launch(try_number=2, max_tries=3)["ids"]
    assert away(lambda: run.resume(trigger)).launch["ids"] == new == list(tasks.running())


@pytest.mark.parametrize("state", ["running", "up_for_retry", "queued", None])
def test_a_wait_whose_launch_is_just_made_anew_leaves_it_to_its_next_try(
    tasks: FakeEcsLauncher, state: str | None
) -> None:
    run = Run()
    run.launch()
    trigger = run.wait()
    tasks.stop(Launch.from_dict(trigger.launch))
    run.xcoms["launch"], run.states["launch"] = {}, state
    with pytest.raises(errors.LaunchError, match="the next try takes that over"):
        run.resume(trigger)
    new = run.launch(try_number=2, max_tries=3)["ids"]
    assert run.wait(try_number=2).launch["ids"] == new == list(tasks.running())


def test_a_wait_that_was_longer_than_xcoms_are_kept_tells_how_it_ended(tasks: FakeEcsLauncher) -> None:
    run = Run()
    run.launch()
    trigger = run.wait()
    end_all(tasks)
    run.xcoms["launch"] = {}
    assert run.resume(trigger)["outcome"] == "succeeded"


def test_a_wait_that_launched_a_round_and_is_cleared_with_the_launch_leaves_nothing_of_it(
    tasks: FakeEcsLauncher,
) -> None:
    run = Run()
    run.launch()
    trigger = run.wait()
    tasks.take_back(tasks.running()[0], at=now())
    end_all(tasks)
    round_two = away(lambda: run.resume(trigger)).launch["ids"]
    assert list(tasks.running()) == round_two
    new = run.launch(try_number=2, max_tries=3)
    assert run.wait(try_number=2, max_tries=3).launch["ids"] == new["ids"]
    assert list(tasks.running()) == new["ids"]
    assert len(new["ids"]) == 2


@pytest.mark.parametrize(
    ("known", "handed", "same"),
    [
        (("t1", 1), ("t1", 1), True),
        (("t1-1w", 2), ("t1", 1), True),
        (("t1-1w", 5), ("t1", 1), True),
        pytest.param(("t1", 1), ("t1", 2), False, id="the launch was cleared"),
        pytest.param(("t1-1w", 2), ("t1", 2), False, id="the launch was cleared after the wait"),
        pytest.param(("t0", 1), ("t1", 1), False, id="another run's"),
    ],
)
def test_what_comes_from_what(known: tuple[str, int], handed: tuple[str, int], same: bool) -> None:
    a, b = (Intent(id, 2, generation=generation) for id, generation in (known, handed))
    assert comes_from(a, b) is same


# --- the rest of the journey


def test_what_aws_took_back_is_launched_again_by_the_wait(tasks: FakeEcsLauncher) -> None:
    run = Run()
    run.launch()
    trigger = run.wait()
    tasks.take_back(tasks.running()[0], at=now())
    end_all(tasks)
    second = away(lambda: run.resume(trigger))
    assert len(second.launch["ids"]) == 1
    end_all(tasks)
    assert run.resume(second)["counts"] == {"interrupted": 1, "succeeded": 2}


def test_what_another_fire_has_replaced_by_now_is_not_launched_again(tasks: FakeEcsLauncher) -> None:
    first, second = Run(), Run("run-2")
    first.launch()
    trigger = first.wait()
    one, other = tasks.running()
    tasks.take_back(one, at=now())
    second.launch()
    tasks.end(other, 0, at=now())
    second.words["task_count"] = first.words["task_count"] = 1
    assert first.resume(trigger)["counts"] == {"interrupted": 1, "succeeded": 1}
    assert len(tasks.members) == 3


def test_a_try_after_a_failure_is_a_new_generation_of_the_wait(tasks: FakeEcsLauncher) -> None:
    run = Run()
    run.launch()
    trigger = run.wait()
    end_all(tasks, 3)
    with pytest.raises(errors.JobFailed, match="main exit 3"):
        run.resume(trigger)
    again = run.wait(try_number=2)
    assert len(again.launch["ids"]) == 2
    assert again.launch["token"].endswith("w-2")


def test_what_was_stopped_before_the_wait_began_is_told_and_not_launched_again(tasks: FakeEcsLauncher) -> None:
    run = Run()
    run.launch()
    tasks.stop(Launch.from_dict(run.xcoms["launch"]["launch"]))
    with pytest.raises(errors.Stopped):
        run.resume(run.wait())
    assert len(tasks.members) == 2


def test_tasks_that_outlive_their_deadline_are_stopped_and_told(tasks: FakeEcsLauncher) -> None:
    run = Run(max_runtime=1)
    run.launch()
    trigger = run.wait()
    for member in tasks.running():
        tasks._change(member, started=now() - timedelta(minutes=2), launched=now() - timedelta(minutes=2))
    with pytest.raises(errors.Overdue):
        run.resume(trigger)


def test_tasks_test_of_either_task_is_the_whole_journey(
    tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_TEST_MODE", "True")
    for task in (JobLaunch, JobWait):
        run = Run()
        op = task(task_id=task.__name__, poll_interval=0.01, **run.words)
        context = run.context("wait")
        trigger = away(lambda op=op, context=context: op.execute(context))  # type: ignore[misc]
        end_all(tasks)
        event = asyncio.run(anext(trigger.run())).payload  # type: ignore[arg-type]
        assert op.execute_complete(context, event=event)["counts"] == {"succeeded": 2}


# --- a document that cannot be read any more


def test_a_document_that_cannot_be_read_fails_with_the_reason(tasks: FakeEcsLauncher, world: FakeLauncher) -> None:
    words = {"reason": "schedule: Invalid schedule syntax", "task_definition": "unknown"}
    with pytest.raises(errors.SpecError, match="Invalid schedule syntax"):
        UnwrittenLaunch(task_id="launch", **words).execute(Run().context("launch"))
    with pytest.raises(errors.SpecError, match="Invalid schedule syntax"):
        UnwrittenMachine(task_id="launch", reason=words["reason"]).execute(Run().context("launch"))
    assert tasks.calls == world.calls == []


def test_what_is_under_way_is_waited_for_though_its_document_cannot_be_read(tasks: FakeEcsLauncher) -> None:
    run = Run()
    run.launch()
    op = UnwrittenWait(task_id="wait", reason="no", task_definition="unknown", poll_interval=0.01)
    trigger = away(lambda: op.execute(run.context("wait")))
    end_all(tasks)
    event = asyncio.run(anext(trigger.run())).payload  # type: ignore[arg-type]
    assert op.execute_complete(run.context("wait"), event=event)["counts"] == {"succeeded": 2}


def test_a_machine_is_looked_after_though_nothing_says_any_more_that_the_job_was_one(
    world: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, kinds = Run(), []
    words = {"command": "true", "image_id": "ami-0123456789abcdef0", "instance_type": "t3.small"}
    machine = JobMachine(task_id="launch", deferrable=True, **words)  # type: ignore[arg-type]
    trigger = away(lambda: machine.execute(run.context("launch")))
    world.end(world.running()[0], 0, at=now())
    event = asyncio.run(anext(trigger.run())).payload  # type: ignore[arg-type]
    monkeypatch.setattr(TransientHook, "launcher", lambda self, kind: kinds.append(kind) or world)
    op = UnwrittenLaunch(task_id="launch", reason="this job was deleted", task_definition="unknown")
    assert op.execute_complete(run.context("launch"), event=event)["outcome"] == "succeeded"
    assert set(kinds) == {"ec2"}


# --- the gate


def ended(words: dict[str, Any]) -> Any:
    """What the gate's trigger yields, made as the scheduler makes it from the operator's words."""
    op = DepthGate(task_id="depth", words=words, for_task="wait")
    arguments = op.start_trigger_args
    assert arguments
    trigger = DepthGateTrigger(**json.loads(json.dumps(arguments.trigger_kwargs)))
    path, kwargs = trigger.serialize()
    assert path == arguments.trigger_cls
    assert DepthGateTrigger(**kwargs).question == trigger.question
    return asyncio.run(anext(trigger.run()))  # type: ignore[arg-type]


WORDS = {"task_definition": "work", "queues": ["jobs"], "task_count": 1, "messages_per_task": 10, "top_up": True}


@pytest.mark.parametrize(
    ("visible", "live", "event"),
    [
        pytest.param(0, 0, TaskSkippedEvent, id="empty"),
        pytest.param(60, 0, TaskSuccessEvent, id="work"),
        pytest.param(60, 60, TaskSkippedEvent, id="work that enough tasks are there for"),
    ],
)
def test_the_gate_ends_its_task_without_a_worker(
    tasks: FakeEcsLauncher, queue: dict[str, Any], visible: int, live: int, event: type
) -> None:
    queue["visible"] = visible
    if live:
        Run(task_count=live, hard_cap=live).launch()
    assert isinstance(ended({**WORDS, "hard_cap": 50}), event)


def test_an_empty_queue_asks_nothing_of_ecs(queue: dict[str, Any]) -> None:
    queue["visible"] = 0
    ended(WORDS)
    assert queue["asked"] == []


def test_an_answer_that_is_not_clear_is_asked_for_again(queue: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            queue["visible"] = 60

    monkeypatch.setattr(gate.asyncio, "sleep", sleep)
    queue["visible"] = errors.LaunchError("throttled")
    assert isinstance(ended(WORDS), TaskSuccessEvent)
    assert waited == list(gate.PAUSES[:2])


@pytest.mark.parametrize(
    ("error", "looks"),
    [
        (errors.LaunchError("throttled"), 3),
        (errors.AccessError("sqs:GetQueueAttributes"), 0),
        (errors.SpecError("no"), 0),
    ],
)
def test_a_queue_that_cannot_be_read_fails_the_gate(
    queue: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    looks: int,
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(gate.asyncio, "sleep", sleep)
    queue["visible"] = error
    assert isinstance(ended(WORDS), TaskFailedEvent)
    assert len(waited) == looks


def test_fires_share_clients_till_aws_no_longer_takes_their_credentials(
    queue: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []

    def depths(client: Any, queues: Any, at: datetime) -> list[Depth]:
        used.append(client.__self__)
        if len(used) == 3:
            raise errors.AccessError("the key was rotated")
        return [Depth("jobs", 0, at=at)]

    monkeypatch.setattr(sqs, "read_depths", depths)
    gate._kept.cache_clear()
    for _ in range(3):
        assert isinstance(ended(WORDS), TaskSkippedEvent)
    first, second, refused, anew = used
    assert first is second is refused
    assert anew is not first


def test_a_worker_that_runs_the_gate_looks_itself(queue: dict[str, Any]) -> None:
    op = DepthGate(task_id="depth", words=WORDS, for_task="wait")
    op.execute(Run().context("launch"))
    queue["visible"] = 0
    with pytest.raises(AirflowSkipException, match="no work"):
        op.resume_execution("__fail__", {"error": "the trigger died"}, Run().context("launch"))


def test_what_a_document_holds_beyond_sizes_stays_out_of_the_trigger() -> None:
    secret = {**WORDS, "overrides": {"main": {"TOKEN": "s3cret"}}, "tags": {"a": "b"}}
    arguments = DepthGate(task_id="depth", words=secret, for_task="wait").start_trigger_args
    assert "s3cret" not in json.dumps(arguments.trigger_kwargs)
    assert set(arguments.trigger_kwargs["words"]) == set(WORDS)


# --- answers that were lost


class Lost:
    """Instead of a launch: no clear answer, after or before it was done."""

    def __init__(self, tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch, *, done: bool) -> None:
        self.left, self._done, self._launch = 1, done, tasks.launch
        monkeypatch.setattr(tasks, "launch", self)

    def __call__(self, request: Any, again: bool = False) -> Launch:
        if not self.left:
            return self._launch(request, again)
        self.left -= 1
        if self._done:
            self._launch(request, again)
        raise errors.LaunchError("500")


def test_a_lost_answer_of_the_second_place_is_asked_for_again(
    tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(task_count=4, capacity_provider_strategies=["FARGATE_SPOT", "FARGATE"])
    tasks.room = 2
    launch = tasks.launch

    def second_is_lost(request: Any, again: bool = False) -> Launch:
        if request.pool.market == "FARGATE" and not again and request.token not in tasks._asked:
            tasks.room = 1000
            launch(request, again)
            raise errors.LaunchError("500")
        return launch(request, again)

    monkeypatch.setattr(tasks, "launch", second_is_lost)
    with pytest.raises(errors.LaunchError):
        run.launch()
    assert len(tasks.running()) == 4
    assert len(run.launch(try_number=2)["ids"]) == 4
    trigger = run.wait()
    assert len(trigger.launch["ids"]) == 4
    end_all(tasks)
    assert run.resume(trigger)["counts"] == {"succeeded": 4}
    assert len(tasks.members) == 4


@pytest.mark.parametrize("done", [True, False], ids=["the last one was done", "none was done"])
def test_of_fires_whose_answers_were_lost_only_what_is_missing_is_launched(
    tasks: FakeEcsLauncher, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """Each of them had asked for the same two."""
    lost = Lost(tasks, monkeypatch, done=False)
    lost.left = 5
    runs = [Run(f"run-{n}") for n in range(5)]
    for run in runs:
        lost._done = done and run is runs[-1]
        with pytest.raises(errors.LaunchError):
            run.launch()
    launched = []
    for run in runs:
        try:
            launched.append(run.launch(try_number=2)["ids"])
        except AirflowSkipException:
            continue
    assert [len(ids) for ids in launched] == [2]
    assert len(tasks.members) == 2


def test_cleared_alone_once_the_wait_is_over_it_launches_nothing(tasks: FakeEcsLauncher) -> None:
    run = Run()
    run.launch()
    trigger = run.wait()
    end_all(tasks)
    run.resume(trigger)
    run.states["wait"] = "success"
    with pytest.raises(AirflowFailException, match=r"wait of this run is over \(success\): clear it together"):
        run.launch(try_number=2, max_tries=3)
    assert tasks.running() == ()
