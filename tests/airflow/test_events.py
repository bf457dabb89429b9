"""Events wake waits, on the local cloud: whatever becomes of them, only when a wait looks changes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient.aws.events import Events
from airflow_transient.aws.inbox import Inbox
from airflow_transient.core.cadence import Looked
from airflow_transient.core.ecs.terms import Terms
from airflow_transient.core.event_rules import Arn, Wanted
from airflow_transient.core.events import Change, Standing
from airflow_transient.core.launch import Launch
from airflow_transient.localcloud import events as cloud_events
from airflow_transient.testing import FakeLauncher
from airflow_transient.triggers import events, poll
from airflow_transient.triggers.events import Listener, Waits, Waker
from airflow_transient.triggers.launch import LaunchTrigger
from tests.airflow.test_shared_waits import launches, payload
from tests.localcloud.ecs import container, tasks_of
from tests.waiting import eventually

pytestmark = pytest.mark.sandbox

REGION = "eu-west-1"


@pytest.fixture(autouse=True)
def nobody_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test's own process, as far as events go; and no long polls, whose end a test would have to wait for."""
    monkeypatch.setattr(events, "WAITS", Waits())
    monkeypatch.setattr(events, "_listeners", {})
    monkeypatch.setattr(events, "LONG", 1)
    monkeypatch.setattr(events, "GIVE_WAY", 0.05)
    # What looks once a minute looks a minute after the beginning, and not at some shared moment before.
    monkeypatch.setattr(poll, "_offset", time.monotonic)


@pytest.fixture(scope="module")
def here(cloud: Any) -> Events:
    return Events(cloud.client, Wanted("tests"))


@pytest.fixture
def queue(here: Events, on_the_cloud: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Arn]:
    """Events are on: rules, an empty queue, and the setting."""
    arn = here.setup().arn
    monkeypatch.setenv("AIRFLOW__TRANSIENT__EVENTS_QUEUE", str(arn))
    yield arn
    eventually(lambda: not listening(), within=30)
    on_the_cloud.faults.clear()
    inbox = Inbox(lambda *_, **__: on_the_cloud.client("sqs"), str(arn))
    while messages := inbox.receive(0):
        inbox.delete(messages)


@dataclass
class Looks:
    """Which launches each look was at, and what happens after the first, the second look and so on."""

    world: FakeLauncher
    taken: list[list[str]] = field(default_factory=list)
    after: dict[int, Callable[[], object]] = field(default_factory=dict)

    def __call__(self, launches: Sequence[Launch], now: datetime) -> Looked[Any]:
        self.taken.append([launch.ids[0] for launch in launches])
        looked = FakeLauncher.observe_all(self.world, launches, now)
        self.after.get(len(self.taken), lambda: None)()
        return looked

    def of(self, launch: Launch) -> int:
        return sum(launch.ids[0] in look for look in self.taken)


@pytest.fixture
def looks(world: FakeLauncher, monkeypatch: pytest.MonkeyPatch) -> Looks:
    counted = Looks(world)
    monkeypatch.setattr(world, "observe_all", counted)
    return counted


def listening() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "airflow-transient-events"]


def now() -> datetime:
    return datetime.now(timezone.utc)


def of_ec2(state: str, *members: str) -> None:
    for member in members:
        detail = {"instance-id": member, "state": state}
        cloud_events.emit("aws.ec2", "EC2 Instance State-change Notification", detail, region=REGION)


def slow(launch: Launch, interval: float = 60.0) -> LaunchTrigger:
    """A wait whose next look is a minute away."""
    trigger = LaunchTrigger(launch.to_dict(), poll_interval=interval)
    trigger.trigger_id = 1
    return trigger


async def until(so: Callable[[], Any], within: float = 15.0) -> None:
    end = time.monotonic() + within
    while not so():
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.01)


def run(act: Any) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(act(), 30)

    return asyncio.run(bounded())


def given_back(cloud: Any, arn: Arn) -> int:
    return int(cloud.queue_calls(arn.queue)["ChangeMessageVisibilityBatch"])


def left(cloud: Any, arn: Arn) -> int:
    """Messages of the queue, received ones too."""
    sqs = cloud.client("sqs")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url = sqs.get_queue_url(QueueName=arn.queue)["QueueUrl"]
    return sum(map(int, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()))


# --- an end is seen by the look after its event ---------------------------------------------------------------------


def test_waits_that_look_once_a_minute_end_with_their_events(world: FakeLauncher, looks: Looks, queue: Arn) -> None:
    made = launches(world, 20)

    async def act() -> list[Any]:
        waiting = [asyncio.ensure_future(payload(slow(launch))) for launch in made]
        await until(lambda: all(looks.of(launch) for launch in made))
        for number, launch in enumerate(made):
            world.end(launch.ids[0], number % 3, at=now())
            of_ec2("terminated", launch.ids[0])
        return await asyncio.gather(*waiting)

    assert [told["exit_code"] for told in run(act)] == [number % 3 for number in range(20)]
    # No other look was due within this minute: each had its first, and one for its event.
    assert {looks.of(launch) for launch in made} == {2}


def test_ecs_tasks_that_really_end_are_seen_by_their_events(on_the_cloud: Any, queue: Arn) -> None:
    tasks = tasks_of(on_the_cloud)
    family = tasks.define(container("sleep", "600"))
    arns = [tasks.ask(family, startedBy="tests/dag/task-0123456789")["tasks"][0]["taskArn"] for _ in range(3)]
    for arn in arns:
        tasks.until(arn, "RUNNING")
    terms = Terms("default", ("main",), 2100, 36000, 1, 1)
    start = now() - timedelta(minutes=20)
    made = [
        Launch("ecs", f"t{n}-1", "n", (arn.rpartition("/")[2],), REGION, start, start, now() + HOUR, ecs=terms)
        for n, arn in enumerate(arns)
    ]

    async def act() -> list[Any]:
        waiting = [asyncio.ensure_future(payload(slow(launch))) for launch in made]
        await until(lambda: events.WAITS and all_looked())
        for arn in arns:
            await asyncio.to_thread(tasks.ecs.stop_task, task=arn, reason="enough")
        return await asyncio.gather(*waiting)

    assert {told["outcome"] for told in run(act)} == {"stopped"}


HOUR = timedelta(hours=1)


def all_looked() -> bool:
    """No wait of this loop is due before the minute is over."""
    waits = {waker.wait for wakers in events.WAITS._wakers.values() for waker in wakers}
    return bool(waits) and all(30 < wait.due - time.monotonic() < 100 for wait in waits)


def test_an_event_that_comes_before_aws_shows_the_end_is_not_in_vain(
    world: FakeLauncher, looks: Looks, queue: Arn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "AGAIN", (0.3, 0.3))
    (launch,) = launches(world, 1)

    looks.after[2] = lambda: world.end(launch.ids[0], 0, at=now())

    async def act() -> Any:
        waiting = asyncio.ensure_future(payload(slow(launch)))
        await until(lambda: looks.of(launch) == 1)
        of_ec2("terminated", launch.ids[0])
        return await waiting

    assert run(act)["outcome"] == "succeeded"
    assert looks.of(launch) <= 4


# --- whatever becomes of events -------------------------------------------------------------------------------------


def test_forged_ends_of_what_lives_end_nothing(world: FakeLauncher, looks: Looks, queue: Arn) -> None:
    alive, over = launches(world, 2)

    async def act() -> tuple[Any, bool]:
        living, ending = (asyncio.ensure_future(payload(slow(launch))) for launch in (alive, over))
        await until(lambda: looks.of(alive) and looks.of(over))
        of_ec2("terminated", *[alive.ids[0]] * 5, "i-nobody")
        await until(lambda: looks.of(alive) >= 2)
        world.end(over.ids[0], 0, at=now())
        of_ec2("terminated", over.ids[0])
        told = await ending
        ended = living.done()
        living.cancel()
        return told["outcome"], ended

    assert run(act) == ("succeeded", False)
    assert world.members[alive.ids[0]].state == "running"


def test_lost_events_leave_it_to_the_interval(world: FakeLauncher, looks: Looks, queue: Arn, on_the_cloud: Any) -> None:
    on_the_cloud.faults.lose_events()
    (launch,) = launches(world, 1)

    async def act() -> Any:
        waiting = asyncio.ensure_future(payload(slow(launch, interval=0.2)))
        await until(lambda: looks.of(launch))
        world.end(launch.ids[0], 0, at=now())
        of_ec2("terminated", launch.ids[0])
        return await waiting

    assert run(act)["outcome"] == "succeeded"


def test_doubled_and_late_events_end_it_once_and_leave_nothing_in_the_queue(
    world: FakeLauncher, looks: Looks, queue: Arn, on_the_cloud: Any
) -> None:
    on_the_cloud.faults.duplicate_events()
    on_the_cloud.faults.delay_events(0.3, probability=0.5)
    made, before = launches(world, 10), given_back(on_the_cloud, queue)

    async def act() -> list[Any]:
        still = asyncio.ensure_future(payload(slow(made[0])))
        waiting = [asyncio.ensure_future(payload(slow(launch))) for launch in made[1:]]
        await until(lambda: all(looks.of(launch) for launch in made))
        for launch in made[1:]:
            world.end(launch.ids[0], 0, at=now())
            of_ec2("shutting-down", launch.ids[0])
            of_ec2("terminated", launch.ids[0])
        told = await asyncio.gather(*waiting)
        # What comes after an end is known to be ours for a while, and does not go round.
        await until(lambda: left(on_the_cloud, queue) == 0)
        still.cancel()
        return told

    assert [told["outcome"] for told in run(act)] == ["succeeded"] * 9
    assert given_back(on_the_cloud, queue) == before


def test_what_nobody_knows_is_given_back_twice_and_then_deleted(
    world: FakeLauncher, looks: Looks, queue: Arn, on_the_cloud: Any
) -> None:
    (launch,), before = launches(world, 1), given_back(on_the_cloud, queue)

    async def act() -> None:
        waiting = asyncio.ensure_future(payload(slow(launch)))
        await until(lambda: looks.of(launch))
        of_ec2("terminated", "i-of-somebody-else")
        await until(lambda: given_back(on_the_cloud, queue) == before + 2)
        await until(lambda: left(on_the_cloud, queue) == 0)
        waiting.cancel()

    run(act)
    assert given_back(on_the_cloud, queue) == before + 2


def test_what_is_no_event_is_deleted_and_said_once_without_its_content(
    world: FakeLauncher, looks: Looks, queue: Arn, on_the_cloud: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (launch,), sqs = launches(world, 1), on_the_cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=queue.queue)["QueueUrl"]
    for body in ("swordfish", json.dumps({"version": "0", "source": "swordfish"}), "{" * 10):
        sqs.send_message(QueueUrl=url, MessageBody=body)

    async def act() -> None:
        waiting = asyncio.ensure_future(payload(slow(launch)))
        await until(lambda: left(on_the_cloud, queue) == 0)
        waiting.cancel()

    run(act)
    said = [record.getMessage() for record in caplog.records if "was deleted" in record.getMessage()]
    assert len(said) == 1
    assert "swordfish" not in caplog.text


def test_a_queue_that_cannot_be_read_is_said_once_and_keeps_no_wait(
    world: FakeLauncher, looks: Looks, queue: Arn, on_the_cloud: Any, caplog: pytest.LogCaptureFixture
) -> None:
    refused = on_the_cloud.faults.error("ReceiveMessage", "AccessDenied")
    (launch,) = launches(world, 1)

    async def act() -> Any:
        waiting = asyncio.ensure_future(payload(slow(launch, interval=0.2)))
        await until(lambda: on_the_cloud.faults.hits(refused) >= 3)  # asked again, after a pause
        world.end(launch.ids[0], 0, at=now())
        return await waiting

    assert run(act)["outcome"] == "succeeded"
    (said,) = [record.getMessage() for record in caplog.records if "no events for now" in record.getMessage()]
    assert "not allowed: sqs:ReceiveMessage" in said


def test_events_come_again_when_the_queue_does(
    world: FakeLauncher, looks: Looks, queue: Arn, here: Events, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="airflow_transient.triggers.events")
    (launch,) = launches(world, 1)
    here.teardown()

    async def act() -> Any:
        waiting = asyncio.ensure_future(payload(slow(launch)))
        await until(lambda: "there is no queue" in caplog.text)
        await asyncio.to_thread(here.setup)
        await until(lambda: "events arrive" in caplog.text)
        world.end(launch.ids[0], 0, at=now())
        of_ec2("terminated", launch.ids[0])
        return await waiting

    assert run(act)["outcome"] == "succeeded"
    assert "airflow transient events setup" in caplog.text


# --- who listens, and how long --------------------------------------------------------------------------------------


def test_without_the_setting_nobody_listens(world: FakeLauncher, looks: Looks, on_the_cloud: Any) -> None:
    (launch,) = launches(world, 1)

    async def act() -> list[threading.Thread]:
        waiting = asyncio.ensure_future(payload(slow(launch)))
        await until(lambda: looks.of(launch))
        found = listening()
        waiting.cancel()
        return found

    assert run(act) == []


def test_one_listens_while_anybody_waits_and_again_when_somebody_comes(
    world: FakeLauncher, looks: Looks, queue: Arn
) -> None:
    made = launches(world, 3)

    async def one_after_the_other() -> list[int]:
        counts = []
        for launch in made:
            waiting = asyncio.ensure_future(payload(slow(launch)))
            await until(lambda launch=launch: looks.of(launch))
            counts.append(len(listening()))
            waiting.cancel()
            await until(lambda: not listening())
        return counts

    assert run(one_after_the_other) == [1, 1, 1]


def test_two_loops_share_one_listener(world: FakeLauncher, looks: Looks, queue: Arn) -> None:
    """As in `airflow dags test`, where each inline trigger has a loop of its own."""
    made, told = launches(world, 2), []

    def wait_for(launch: Launch) -> None:
        told.append(run(lambda: payload(slow(launch)))["outcome"])

    threads = [threading.Thread(target=wait_for, args=(launch,)) for launch in made]
    for thread in threads:
        thread.start()
    eventually(lambda: all(looks.of(launch) for launch in made))
    assert len(listening()) == 1
    for launch in made:
        world.end(launch.ids[0], 0, at=now())
        of_ec2("terminated", launch.ids[0])
    for thread in threads:
        thread.join(20)
    assert told == ["succeeded", "succeeded"]


def test_who_waits_in_a_loop_that_is_closed_is_nobody() -> None:
    loop, waits = asyncio.new_event_loop(), Waits()
    launch = Launch("ec2", "t1-1", "n", ("i-1",), REGION, now(), now(), now())
    waker = Waker(loop, poll.Poll(lambda items, at: Looked([])), poll.Wait(None, 0.0))  # type: ignore[type-var]
    waits.add(launch, waker)
    assert waits
    loop.close()
    assert not waits
    events.wake([waker])


def launch_of(*members: str) -> Launch:
    return Launch("ec2", f"{members[0]}-1", "n", members, REGION, now(), now(), now() + HOUR)


def ended(member: str) -> Change:
    return Change("ec2", REGION, member, "terminated")


def test_every_wait_of_a_member_is_found_and_no_other() -> None:
    waits, loop = Waits(), asyncio.new_event_loop()
    one, other = (Waker(loop, name, name) for name in ("one", "other"))  # type: ignore[arg-type]
    waits.add(launch_of("i-1", "i-2"), one)
    waits.add(launch_of("i-2"), other)
    assert waits.of(ended("i-1")) == (Standing.WAITS, (one,))
    assert waits.of(ended("i-2")) == (Standing.WAITS, (one, other))
    assert waits.of(ended("i-3")) == (Standing.UNKNOWN, ())
    assert waits.of(Change("ec2", "us-east-1", "i-1", "terminated")) == (Standing.UNKNOWN, ())
    waits.remove(launch_of("i-1", "i-2"), one)
    assert waits.of(ended("i-1")) == (Standing.UNKNOWN, ())
    assert waits.of(ended("i-2")) == (Standing.WAITS, (other,))
    waits.remove(launch_of("i-2"), other)
    assert waits.nobody.is_set()
    loop.close()


def test_what_has_ended_here_is_known_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = Waits()
    waits.ended([ended("i-1").whose])
    assert waits.of(ended("i-1")) == (Standing.ENDED, ())
    monkeypatch.setattr(events, "REMEMBERED", -1.0)
    waits.ended([ended("i-2").whose])
    assert waits.of(ended("i-1")) == (Standing.UNKNOWN, ())


# --- two triggerers -------------------------------------------------------------------------------------------------


class Ears:
    """A triggerer, as far as events go: what it waits for, and for which of it it was woken."""

    def __init__(self, queue: Arn, cloud: Any, members: Sequence[str]) -> None:
        self.heard: list[str] = []
        self.waits = Waits()
        self.listener = Listener(
            str(queue), lambda: Inbox(lambda *_, **__: cloud.client("sqs"), str(queue)), self.waits
        )
        start = now()
        self.launches = [Launch("ec2", f"{m}-1", "n", (m,), REGION, start, start, start + HOUR) for m in members]

    @contextmanager
    def open(self) -> Iterator[None]:
        with ExitStack() as stack:
            for launch in self.launches:
                waker = Waker(asyncio.get_running_loop(), self, launch.ids[0])  # type: ignore[arg-type]
                self.waits.add(launch, waker)
                stack.callback(self.waits.remove, launch, waker)
            self.listener.begin()
            yield

    def wake(self, waits: list[str]) -> None:
        """As a poll's."""
        self.heard += waits


def test_of_two_triggerers_each_hears_its_own(queue: Arn, on_the_cloud: Any) -> None:
    ours, theirs = [f"i-{n}a" for n in range(20)], [f"i-{n}b" for n in range(20)]
    one, other = Ears(queue, on_the_cloud, ours), Ears(queue, on_the_cloud, theirs)

    async def act() -> None:
        with one.open(), other.open():
            for pair in zip(ours, theirs, strict=True):
                of_ec2("terminated", *pair)
                await asyncio.sleep(0.1)
            await until(lambda: left(on_the_cloud, queue) == 0)
            await asyncio.sleep(0.1)

    run(act)
    assert set(one.heard) <= set(ours)
    assert set(other.heard) <= set(theirs)
    # How many exactly is told by benchmarks/events.py; half would be what two that keep everything hear.
    assert len(set(one.heard)) + len(set(other.heard)) >= 26
