"""State changes reach EventBridge's rules, and what may become of them on the way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

import pytest

from airflow_transient.localcloud import LocalCloud, events
from airflow_transient.localcloud.faults import Faults
from tests.waiting import eventually

from .conftest import Launcher

pytestmark = pytest.mark.sandbox
STATE = "EC2 Instance State-change Notification"
OVER = "#!/bin/sh\nshutdown -h now\n"
LONG = "#!/bin/sh\nsleep 60\n"


@dataclass
class Inbox:
    """A queue behind a rule; `got` is what arrived, in its order."""

    sqs: Any
    url: str
    got: list[dict[str, Any]] = field(default_factory=list)

    def look(self) -> None:
        for message in self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages", []):
            self.got.append(json.loads(message["Body"]))

    def until(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        def look() -> bool:
            self.look()
            return enough(self.got)

        eventually(look)
        return self.got

    def states(self, name: str, until: str) -> list[str]:
        """Of this machine, up to and with this one; those of earlier tests may still be ending."""

        def own() -> list[str]:
            return [event["detail"]["state"] for event in self.got if event["detail"]["instance-id"] == name]

        self.until(lambda _: until in own())
        return own()

    def numbers(self, count: int) -> list[int]:
        return [event["detail"]["number"] for event in self.until(lambda got: len(got) >= count)]


def inbox(cloud: LocalCloud, region: str | None = None, **pattern: Any) -> Inbox:
    sqs, bridge = cloud.client("sqs", region), cloud.client("events", region)
    name = f"rule-{uuid4().hex[:8]}"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bridge.put_rule(Name=name, EventPattern=json.dumps(pattern))
    bridge.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    return Inbox(sqs, url)


@pytest.fixture
def ec2(cloud: LocalCloud) -> Inbox:
    return inbox(cloud, source=["aws.ec2"])


@pytest.fixture
def ecs(cloud: LocalCloud) -> Inbox:
    return inbox(cloud, source=["aws.ecs"])


def emit(*numbers: int, detail_type: str = "ECS Task State Change", **more: Any) -> None:
    for number in numbers:
        events.emit("aws.ecs", detail_type, {"number": number, **more}, ["arn:aws:ecs:task"])


# --- of EC2 -------------------------------------------------------------------------------------------------------


def test_a_machine_that_shuts_itself_down(launch: Launcher, ec2: Inbox) -> None:
    assert ec2.states(launch(OVER), until="terminated") == ["pending", "running", "shutting-down", "terminated"]


def test_a_machine_that_is_stopped_started_and_terminated(launch: Launcher, ec2: Inbox) -> None:
    name = launch(LONG)
    launch.until(name, "running")
    launch.ec2.stop_instances(InstanceIds=[name])
    launch.until(name, "stopped")
    launch.ec2.start_instances(InstanceIds=[name])
    launch.until(name, "running")
    launch.ec2.terminate_instances(InstanceIds=[name])
    assert ec2.states(name, until="terminated") == [
        *("pending", "running", "stopping", "stopped"),
        *("pending", "running", "shutting-down", "terminated"),
    ]


def test_an_event_looks_as_awss_does(launch: Launcher, ec2: Inbox) -> None:
    name = launch(OVER)
    ec2.states(name, until="pending")
    (event,) = (each for each in ec2.got if each["detail"] == {"instance-id": name, "state": "pending"})
    told = datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    assert abs((datetime.now(timezone.utc) - told).total_seconds()) < 30
    assert {key: value for key, value in event.items() if key not in ("id", "time")} == {
        "version": "0",
        "detail-type": STATE,
        "source": "aws.ec2",
        "account": "123456789012",
        "region": "eu-west-1",
        "resources": [f"arn:aws:ec2:eu-west-1:123456789012:instance/{name}"],
        "detail": {"instance-id": name, "state": "pending"},
    }


def test_a_spot_machine_is_warned(cloud: LocalCloud, launch: Launcher) -> None:
    warnings = inbox(cloud, **{"detail-type": ["EC2 Spot Instance Interruption Warning"]})
    name = launch(LONG, InstanceMarketOptions={"MarketType": "spot"})
    cloud.reclaim(name, notice=0.1)
    (event, *_) = warnings.until(bool)
    assert event["detail"] == {"instance-id": name, "instance-action": "terminate"}
    assert event["resources"] == [
        f"arn:aws:ec2:{launch.describe(name)['Placement']['AvailabilityZone']}:instance/{name}"
    ]


def test_a_rule_hears_what_it_asked_for(cloud: LocalCloud, launch: Launcher) -> None:
    ends = inbox(cloud, **{"detail-type": [STATE], "detail": {"state": ["terminated"]}})
    assert ends.states(launch(OVER), until="terminated") == ["terminated"]


# --- of anything ----------------------------------------------------------------------------------------------------


def test_each_region_has_its_own_rules(cloud: LocalCloud, ecs: Inbox) -> None:
    there = inbox(cloud, "us-east-1", source=["aws.ecs"])
    events.emit("aws.ecs", "ECS Task State Change", {"number": 1}, region="us-east-1")
    events.emit("aws.ecs", "ECS Task State Change", {"number": 2}, region="eu-north-1")
    emit(3)
    assert (there.numbers(1), ecs.numbers(1)) == ([1], [3])


def test_events_of_many_threads_all_arrive(ecs: Inbox) -> None:
    threads = [threading.Thread(target=emit, args=range(part, part + 10)) for part in range(0, 80, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ecs.numbers(80)) == list(range(80))


def test_the_detail_is_what_it_was(ecs: Inbox) -> None:
    detail: dict[str, Any] = {"number": 1, "at": datetime(2026, 1, 2, tzinfo=timezone.utc)}
    events.emit("aws.ecs", "ECS Task State Change", detail)
    detail["number"] = 2
    (event,) = ecs.until(bool)
    assert event["detail"] == {"number": 1, "at": "2026-01-02T00:00:00.000Z"}


def test_emitting_never_fails(cloud: LocalCloud, ecs: Inbox) -> None:
    lost = inbox(cloud, source=["aws.ecs"])
    lost.sqs.delete_queue(QueueUrl=lost.url)
    cycle: dict[str, Any] = {}
    cycle["itself"] = cycle
    events.emit("aws.ecs", "ECS Task State Change", cycle)
    emit(1, 2)
    assert ecs.numbers(2) == [1, 2]


def test_without_a_cloud_nothing_happens(cloud: LocalCloud) -> None:
    cloud.stop()
    try:
        emit(1)
        assert not [thread for thread in threading.enumerate() if thread.name == "localcloud-events"]
    finally:
        cloud.start()


def test_emitting_to_nobody_takes_no_time(cloud: LocalCloud) -> None:
    began = time.monotonic()
    emit(*range(1000))
    assert time.monotonic() - began < 0.5


def test_clients_may_not_speak_as_aws(cloud: LocalCloud, ecs: Inbox) -> None:
    mine = inbox(cloud, source=["mine"])
    entries = [{"Source": source, "DetailType": "x", "Detail": '{"number": 1}'} for source in ("aws.ecs", "mine")]
    answer = cloud.client("events").put_events(Entries=entries)
    assert (answer["FailedEntryCount"], answer["Entries"][0]["ErrorCode"]) == (1, "NotAuthorizedForSourceException")
    assert mine.numbers(1) == [1]
    emit(2)
    assert ecs.numbers(1) == [2]


def test_a_disabled_rule_hears_nothing(cloud: LocalCloud, ecs: Inbox) -> None:
    deaf = inbox(cloud, source=["aws.ecs", "mine"])
    bridge = cloud.client("events")
    bridge.disable_rule(Name=deaf.url.rpartition("/")[2])
    bridge.put_events(Entries=[{"Source": "mine", "DetailType": "x", "Detail": '{"number": 1}'}])
    emit(2)
    ecs.numbers(1)
    deaf.look()
    assert deaf.got == []


# --- on a bad day ---------------------------------------------------------------------------------------------------


def test_some_are_lost(ecs: Inbox, faults: Faults) -> None:
    fault = faults.lose_events("ECS *", times=2)
    emit(1, 2, 3)
    assert ecs.numbers(1) == [3]
    assert faults.hits(fault) == 2


def test_a_share_is_lost(ecs: Inbox, faults: Faults) -> None:
    faults.lose_events("*share*", probability=0.5)
    emit(*range(40), detail_type="a share of these")
    emit(40)
    arrived = ecs.until(lambda got: 40 in [event["detail"]["number"] for event in got])
    assert 10 < len(arrived) < 30


def test_some_come_twice_with_one_id(ecs: Inbox, faults: Faults) -> None:
    faults.duplicate_events(times=1)
    emit(1, 2)
    assert sorted(ecs.numbers(3)) == [1, 1, 2]
    assert len({event["id"] for event in ecs.got}) == 2


def test_what_is_late_is_overtaken(ecs: Inbox, faults: Faults) -> None:
    faults.delay_events(0.2, times=1)
    emit(1, 2)
    assert ecs.numbers(2) == [2, 1]


def test_what_nobody_wants_meets_no_fault(launch: Launcher, ecs: Inbox, faults: Faults) -> None:
    fault = faults.lose_events(times=1)
    events.emit("aws.nobody", "x", {})
    emit(1, 2)
    assert ecs.numbers(1) == [2]
    assert faults.hits(fault) == 1


@pytest.mark.parametrize(
    ("fates", "arrived"),
    [
        pytest.param({}, ["a", "b"], id="in order"),
        pytest.param({"a": ()}, ["b"], id="lost"),
        pytest.param({"a": (0.0, 0.0)}, ["a", "a", "b"], id="twice"),
        pytest.param({"a": (0.1,)}, ["b", "a"], id="late"),
    ],
)
def test_a_stream_delivers_as_fate_has_it(
    monkeypatch: pytest.MonkeyPatch, fates: dict[str, Sequence[float]], arrived: list[str]
) -> None:
    got: list[str] = []
    stream = events.Stream(lambda _: True, lambda event: got.append(event.source), lambda of: fates.get(of, (0.0,)))
    monkeypatch.setattr(events, "_stream", None)
    stream.open()
    for name in ("a", "b"):
        events.emit(name, name, {})
    eventually(lambda: len(got) >= len(arrived))
    stream.close()
    assert got == arrived
