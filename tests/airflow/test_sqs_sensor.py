"""The sensor in its modes: the same words, the same answers, and nobody's message is received."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason
from airflow.sdk.exceptions import (
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.sdk.module_loading import import_string
from airflow.triggers.base import TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from airflow_transient.core.depth import Unread
from airflow_transient.errors import AccessError, SpecError
from airflow_transient.sensors import sqs as sensors
from airflow_transient.sensors.sqs import SqsDepthSensor
from airflow_transient.triggers import depth as triggers
from airflow_transient.triggers.depth import SqsDepthTrigger
from tests.airflow.stubs import Look, Queue, Store, context
from tests.airflow_home import migrate

NO_ANSWER = Unread("jobs", "throttled")


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue()
    monkeypatch.setattr(sensors, "make_reader", made)
    monkeypatch.setattr(triggers, "make_reader", made)
    return made


def sensor(**words: Any) -> SqsDepthSensor:
    given = {"task_id": "task", "queues": "jobs", "poke_interval": 0.01, "timeout": 60}
    return SqsDepthSensor(**{**given, **words})


def poked(ctx: Any = None, **words: Any) -> Any:
    return sensor(**words).execute(ctx or context())


def rescheduled(ctx: Any = None, **words: Any) -> Any:
    """As a scheduler would: each poke with an operator of its own."""
    ctx, first = ctx or context(), datetime.now(timezone.utc)
    ctx["ti"].get_first_reschedule_date = lambda _: first
    while True:
        try:
            return sensor(mode="reschedule", **words).execute(ctx)
        except AirflowRescheduleException:
            continue


def event_of(trigger: SqsDepthTrigger) -> TriggerEvent:
    """What it says after a journey through the database."""
    path, kwargs = trigger.serialize()
    assert path == sensors.TRIGGER
    assert import_string(path) is SqsDepthTrigger
    again = SqsDepthTrigger(**kwargs, from_a_later_version=True)

    async def first() -> TriggerEvent:
        return await asyncio.wait_for(anext(again.run()), 10)

    return asyncio.run(first())


def deferred(ctx: Any = None, **words: Any) -> Any:
    """Through resume_execution, as Airflow does: soft_fail is honoured there."""
    op = sensor(deferrable=True, **words)
    try:
        return op.execute(ctx or context())
    except TaskDeferred as away:
        event = event_of(away.trigger)  # type: ignore[arg-type]
        return op.resume_execution(away.method_name, {"event": event.payload}, context())


MODES = [poked, rescheduled, deferred]
in_each_mode = pytest.mark.parametrize("wait", MODES, ids=lambda mode: mode.__name__)


@in_each_mode
@pytest.mark.parametrize(
    ("words", "looks"),
    [
        pytest.param({"at_least": 5}, [0, 4, 5], id="deep enough"),
        pytest.param({"at_most": 5}, [7, 6, 5], id="shallow enough"),
        pytest.param({"at_least": "5", "consecutive": "2"}, [5, 4, 5, 5], id="twice in a row"),
        pytest.param({"drained": True}, [0, 1, 0, 0], id="drained"),
        pytest.param({"drained": True}, [0, NO_ANSWER, 0, 0], id="no answer is no 0"),
        pytest.param({"at_most": 5, "messages_per_task": 2}, [NO_ANSWER, NO_ANSWER, 5], id="waited through"),
    ],
)
def test_it_waits_until_the_condition_holds(
    queue: Queue, wait: Any, words: dict[str, Any], looks: Sequence[Look]
) -> None:
    queue.looks = list(looks)
    told = wait(**words)
    assert queue.taken == len(looks)
    assert told["readings"][0]["queue"] == "jobs"
    assert told["readings"][0]["visible"] == told["visible"] == looks[-1]
    assert 0 <= told["waited_seconds"] < 10
    assert ("size" in told) is ("messages_per_task" in words)


@in_each_mode
@pytest.mark.parametrize("looks", [[0, 0, AccessError("not allowed")], [SpecError("there is no queue 'jobs'")]])
def test_what_waiting_does_not_help_fails_at_once(queue: Queue, wait: Any, looks: list[Look]) -> None:
    queue.looks = looks
    with pytest.raises(type(looks[-1]), match=str(looks[-1])):
        wait(at_least=5, soft_fail=True)


@in_each_mode
def test_never_fail_skips_instead(queue: Queue, wait: Any) -> None:
    queue.looks = [0, AccessError("not allowed")]
    with pytest.raises(AirflowSkipException, match="never_fail"):
        wait(at_least=5, never_fail=True)


@in_each_mode
def test_a_wait_that_lasts_too_long_fails(queue: Queue, wait: Any) -> None:
    with pytest.raises(AirflowSensorTimeout, match=r"timeout of 0\.1"):
        wait(at_least=5, timeout=0.1)
    assert queue.taken > 1


@in_each_mode
def test_or_is_skipped_with_soft_fail(queue: Queue, wait: Any) -> None:
    with pytest.raises(AirflowSkipException):
        wait(at_least=5, timeout=0.1, soft_fail=True)


@in_each_mode
def test_no_answer_is_not_waited_for_without_end(queue: Queue, wait: Any) -> None:
    queue.looks = [NO_ANSWER]
    with pytest.raises(AirflowSensorTimeout):
        wait(at_least=5, timeout=0.1)


@in_each_mode
@pytest.mark.parametrize("looks", [[4], [NO_ANSWER, 4], [5, 4]], ids=["at once", "at the first answer", "in a row"])
def test_or_skip_does_not_wait(queue: Queue, wait: Any, looks: list[Look]) -> None:
    queue.looks = looks
    taken = len(looks)
    with pytest.raises(AirflowSkipException, match="4 visible"):
        wait(at_least=5, consecutive=2, or_skip=True)
    assert queue.taken == taken


@in_each_mode
def test_or_skip_goes_on_where_the_condition_holds(queue: Queue, wait: Any) -> None:
    queue.looks = [5]
    assert wait(at_least=5, or_skip=True)["visible"] == 5


@pytest.mark.parametrize("wait", [poked, deferred])
def test_a_line_when_the_readings_change_and_not_at_each_look(
    queue: Queue, wait: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.looks = [1, 1, 1, NO_ANSWER, NO_ANSWER, 2, 2, 5]
    wait(at_least=5)
    lines = [line for line in capsys.readouterr().out.splitlines() if "jobs" in line]
    seen = ["1 visible", "throttled", "2 visible", "5 visible"]
    seen += ["5 visible"] if wait is deferred else []  # the worker repeats what the triggerer saw last
    assert [word for line in lines for word in dict.fromkeys(seen) if word in line] == seen


# --- what a mode has of its own ------------------------------------------------------------------------------------


def poke_once(store: Store, try_number: int) -> bool:
    return bool(sensor(mode="reschedule", drained=True).poke(context(store, try_number=try_number)))  # type: ignore[arg-type]


def test_another_try_counts_anew(queue: Queue) -> None:
    store = Store()
    assert [poke_once(store, number) for number in (1, 2, 2)] == [False, False, True]


def test_tasks_test_takes_no_reading_of_an_earlier_run(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_TEST_MODE", "True")
    store = Store()
    assert [poke_once(store, 0) for _ in range(3)] == [False] * 3
    assert store.kept == {}


def test_one_reader_for_all_pokes_of_a_process(queue: Queue) -> None:
    queue.looks = [0, 0, 5]
    op = sensor(at_least=5)
    op.execute(context())
    assert queue.made == 1


def test_a_try_in_the_same_process_counts_anew(queue: Queue) -> None:
    op = sensor(drained=True)
    op.execute(context())
    op.execute(context())
    assert queue.taken == 4


def test_what_holds_already_is_not_deferred(queue: Queue) -> None:
    queue.looks = [5]
    assert sensor(at_least=5, deferrable=True).execute(context())["visible"] == 5


def test_time_counts_from_the_first_look(queue: Queue) -> None:
    with pytest.raises(TaskDeferred) as away:
        sensor(at_least=5, deferrable=True, timeout=100).execute(context())
    assert away.value.timeout is not None
    assert timedelta(seconds=150) < away.value.timeout < timedelta(seconds=161)
    kwargs = away.value.trigger.serialize()[1]
    began = (datetime.now(timezone.utc) - timedelta(seconds=101)).isoformat()
    late = SqsDepthTrigger(**{**kwargs, "waiting": {"since": began}})
    assert event_of(late).payload["outcome"] == "timed-out"


def test_the_triggerer_s_first_look_is_not_the_worker_s_again(queue: Queue) -> None:
    with pytest.raises(TaskDeferred) as away:
        sensor(drained=True, deferrable=True, poke_interval=30).execute(context())
    trigger = away.value.trigger

    async def not_yet() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(trigger.run()), 0.2)

    asyncio.run(not_yet())
    assert queue.taken == 1


def test_a_worker_s_reading_of_long_ago_is_in_no_row(queue: Queue) -> None:
    """A triggerer that was restarted gets it again, and does not know what was read since."""
    old = {"since": datetime.now(timezone.utc).isoformat(), "streak": 1, "looked": "2026-01-01T00:00:00+00:00"}
    kwargs = sensor(drained=True)._trigger_words()
    assert event_of(SqsDepthTrigger(**kwargs, waiting=old)).payload["outcome"] == "holds"
    assert queue.taken == 2


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({}, AirflowSensorTimeout),
        ({"soft_fail": True}, AirflowSkipException),
        ({"never_fail": True}, AirflowSkipException),
    ],
    ids=["fails", "soft_fail", "never_fail"],
)
def test_airflow_s_own_limit_ends_the_same(queue: Queue, words: dict[str, Any], error: type[Exception]) -> None:
    """Where no trigger lived to keep the time: BaseSensorOperator.resume_execution turns it, in 3.3."""
    limit = {"error": TriggerFailureReason.TRIGGER_TIMEOUT}
    with pytest.raises(error):
        sensor(at_least=5, deferrable=True, **words).resume_execution(TRIGGER_FAIL_REPR, limit, context())


def test_a_wait_that_began_before_an_upgrade_goes_on() -> None:
    """Airflow keeps a trigger under the name that it had when its task was deferred."""
    assert import_string("airflow_transient.triggers.sqs.SqsDepthTrigger") is SqsDepthTrigger


# --- without a worker ------------------------------------------------------------------------------------------------


def started(**words: Any) -> TriggerEvent:
    args = sensor(start_from_trigger=True, **words).start_trigger_args
    assert args is not None
    return event_of(SqsDepthTrigger(**(args.trigger_kwargs or {})))


@pytest.mark.parametrize(
    ("looks", "words", "event"),
    [
        pytest.param([5], {}, TaskSuccessEvent, id="holds"),
        pytest.param([4], {"or_skip": True}, TaskSkippedEvent, id="does not, or skip"),
        pytest.param([4], {"timeout": 0.05, "soft_fail": True}, TaskSkippedEvent, id="too late, soft fail"),
        pytest.param([4], {"timeout": 0.05}, TriggerEvent, id="too late: a worker says so"),
        pytest.param([AccessError("no")], {}, TriggerEvent, id="an error: a worker raises it"),
        pytest.param([5], {"on_success_callback": print}, TriggerEvent, id="a callback"),
        pytest.param([5], {"outlets": ["x-sqs://jobs"]}, TriggerEvent, id="an asset"),
        pytest.param([4], {"or_skip": True, "on_skipped_callback": print}, TriggerEvent, id="a callback of skips"),
    ],
)
def test_an_end_without_a_worker(queue: Queue, looks: list[Look], words: dict[str, Any], event: type) -> None:
    if "outlets" in words:
        from airflow.sdk import Asset

        words = {"outlets": [Asset(words["outlets"][0])]}
    queue.looks = looks
    assert type(started(at_least=5, **words)) is event


def test_the_xcom_of_such_an_end(queue: Queue) -> None:
    queue.looks = [5]
    event = started(at_least=5, messages_per_task=2)
    assert isinstance(event, TaskSuccessEvent)
    assert event.xcoms is not None
    assert event.xcoms["return_value"]["size"]["count"] == 3  # type: ignore[index, call-overload]
    without = started(at_least=5, do_xcom_push=False)
    assert isinstance(without, TaskSuccessEvent)
    assert without.xcoms is None


def test_started_on_a_worker_it_looks_and_defers() -> None:
    """Mapped, or in `airflow dags test`."""
    assert sensor(at_least=5, start_from_trigger=True).deferrable


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param({}, "no condition", id="none"),
        pytest.param({"at_least": 1, "drained": True}, "at_least and drained", id="two"),
        pytest.param({"at_least": -1}, "at_least is -1", id="below none"),
        pytest.param({"at_least": 1, "consecutive": 0}, "consecutive is 0", id="no reading"),
        pytest.param({"drained": True, "count_in_flight": True}, "always counts", id="drained counts all"),
        pytest.param({"at_least": 1, "queues": []}, "names no queue", id="no queue"),
        pytest.param({"at_least": 1, "poke_interval": 0}, "poke_interval is 0", id="no pause between looks"),
    ],
)
def test_a_wrong_word_is_said_where_the_file_is_parsed(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        sensor(**words)


def test_a_template_s_wrong_word_is_said_when_it_runs(queue: Queue) -> None:
    op = sensor(at_least="{{ params.n }}")
    op.at_least = "-1"  # as rendered
    with pytest.raises(SpecError, match="at_least is -1"):
        op.execute(context())
    assert queue.made == 0


def test_start_from_trigger_takes_no_result_of_another_task() -> None:
    from airflow.sdk import DAG
    from airflow.sdk.bases.operator import BaseOperator

    with DAG("dag"), pytest.raises(SpecError, match=r"xcom_pull"):
        sensor(at_least=BaseOperator(task_id="before").output, start_from_trigger=True)


def test_everything_that_is_templated_is_an_attribute() -> None:
    op = sensor(at_least=1)
    assert {"queues", "at_least", "consecutive", "messages_per_task", "region_name"} <= set(op.template_fields)
    assert all(hasattr(op, name) and hasattr(SqsDepthTrigger(), name) for name in op.template_fields)


# --- on the local cloud -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.sandbox
@in_each_mode
def test_nobody_s_message_is_received(on_the_cloud: Any, wait: Any) -> None:
    sqs, name = on_the_cloud.client("sqs"), f"jobs-{wait.__name__}"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    for number in range(3):
        sqs.send_message(QueueUrl=url, MessageBody=str(number))
    told = wait(queues=name, at_least=3, consecutive=3)
    assert told["visible"] == 3
    calls = on_the_cloud.queue_calls(name)
    assert calls["GetQueueAttributes"] == 3
    assert calls["ReceiveMessage"] == calls["DeleteMessage"] == calls["ChangeMessageVisibility"] == 0


@pytest.mark.sandbox
def test_a_missing_queue_and_permission_say_what_to_do(on_the_cloud: Any) -> None:
    with pytest.raises(SpecError, match="no queue 'nowhere' in eu-west-1 of account 123456789012"):
        poked(queues="nowhere", at_least=1)
    on_the_cloud.faults.error("GetQueueUrl", "AccessDenied", status=403)
    with pytest.raises(AccessError, match="sqs:GetQueueUrl on nowhere is needed"):
        deferred(queues="nowhere", at_least=1)


DAG_FILE = """
from datetime import datetime
from airflow.sdk import DAG, task
from airflow_transient.sensors.sqs import SqsDepthSensor

with DAG("waits", schedule=None, start_date=datetime(2026, 1, 1), params={"n": 2}):
    told = SqsDepthSensor(
        task_id="wait", queues="waits", at_least="{{ params.n }}", consecutive=2, deferrable=True, poke_interval=0.5,
        messages_per_task=1,
    )
    hold = SqsDepthSensor(task_id="hold", queues="waits", drained=True, start_from_trigger=True, or_skip=True)

    @task
    def tell(told):
        print("TOLD", told["visible"], told["size"]["count"])

    told >> hold
    tell(told.output)
"""


@pytest.mark.slow
@pytest.mark.airflow
@pytest.mark.sandbox
def test_through_airflow_s_own_command_line(on_the_cloud: Any, tmp_path: Any) -> None:
    sqs = on_the_cloud.client("sqs")
    url = sqs.create_queue(QueueName="waits")["QueueUrl"]
    sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(i), "MessageBody": "x"} for i in range(2)])
    (tmp_path / "waits.py").write_text(DAG_FILE)
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "home"), "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path)}
    Path(env["AIRFLOW_HOME"]).mkdir()
    migrate(env)
    argv = [sys.executable, "-m", "airflow", "dags", "test", "waits"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = done.stdout + done.stderr
    assert "TOLD 2 2" in said
    assert "running trigger in line" in said
    assert "Skipping task." in said
    assert on_the_cloud.queue_calls("waits")["ReceiveMessage"] == 0
