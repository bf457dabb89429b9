"""One look at many: how many calls it takes, what it reads of jobs, and what its answers mean for each wait."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from airflow_transient.aws import ec2_looks, pacing, polling, renewing
from airflow_transient.aws.ec2 import Ec2Launcher
from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.aws.pacing import Limit, account_of, bucket, read_limits
from airflow_transient.aws.polling import Followed, LaunchLook, Waited, look_at_lines
from airflow_transient.aws.watching import Case
from airflow_transient.core.asg.judging import ITSELF
from airflow_transient.core.asg.terms import GroupTerms
from airflow_transient.core.cadence import QUICK, Looked
from airflow_transient.core.ec2.judging import CONSOLE_DELAY, Ec2Sighting
from airflow_transient.core.ecs.judging import EcsSighting
from airflow_transient.core.ecs.terms import Terms
from airflow_transient.core.judging import judge
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import STOP_GRACE, UNANSWERED, Outcome, Phase
from airflow_transient.errors import SpecError
from airflow_transient.provider import get_provider_info

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
LATER, HOUR = T0 + timedelta(minutes=20), T0 + timedelta(hours=1)
TERMS = Terms("default", ("main",), 2100, 3600, need=1, wanted=1)
EC2 = Launch("ec2", "t0-1", "n0", (), "eu-west-1", T0, T0 + timedelta(minutes=10), HOUR, "s3://results/t0-1/")
ECS = Launch("ecs", "t0-1", "n0", (), "eu-west-1", T0, T0 + timedelta(minutes=35), HOUR, ecs=TERMS)


def said(code: str, status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": "…"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Describe")  # type: ignore[arg-type]


# --- calls, on the local cloud


@pytest.fixture
def calls(cloud: Any) -> Callable[..., Any]:
    """Clients of the local cloud that count what they send."""
    sent: Counter[str] = Counter()
    kept: dict[str, Any] = {}

    def client(service: str, region_name: str | None = None, **_: Any) -> Any:
        if service not in kept:
            kept[service] = cloud.client(service, region_name=region_name)
            kept[service].meta.events.register("before-call", lambda model, **_: sent.update([model.name]))
        return kept[service]

    client.sent = sent  # type: ignore[attr-defined]
    return client


@pytest.mark.slow
def test_five_hundred_unknown_tasks_and_one_known_take_six_calls(calls: Any) -> None:
    ecs = calls("ecs")
    container = {"name": "main", "image": "any", "command": ["sleep", "30"], "memory": 128, "essential": True}
    ecs.register_task_definition(family="work", containerDefinitions=[container])
    (task,) = ecs.run_task(taskDefinition="work", count=1)["tasks"]
    known = task["taskArn"].rpartition("/")[2]
    launches = [replace(ECS, ids=(f"{n:032x}",)) for n in range(500)] + [replace(ECS, ids=(known,))]
    seen = EcsLauncher(calls).observe_all(launches, T0).answers
    assert calls.sent["DescribeTasks"] == 6
    assert [s.absent for one in seen for s in one] == [True] * 500 + [False]
    ecs.stop_task(task=known)


@pytest.mark.slow
def test_four_hundred_unknown_machines_and_one_known_take_three_calls(calls: Any) -> None:
    ec2 = calls("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    (machine,) = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)["Instances"]
    bare = replace(EC2, receipts=None)
    launches = [replace(bare, ids=(machine["InstanceId"],))] + [replace(bare, ids=(f"i-{n:017x}",)) for n in range(400)]
    seen = Ec2Launcher(calls).observe_all(launches, T0).answers
    assert calls.sent["DescribeInstances"] == 3
    assert seen[0][0].phase is not Phase.UNKNOWN
    assert {s.phase for one in seen[1:] for s in one} == {Phase.UNKNOWN}
    assert sum(s.absent for one in seen for s in one) == ec2_looks.READS_A_LOOK
    ec2.terminate_instances(InstanceIds=[machine["InstanceId"]])


# --- pages, refusals and what is read, from written answers


class Cloud:
    """EC2 and S3 in one client: machines by state, pages of two, objects by key; what was asked is counted."""

    def __init__(self, states: dict[str, str], objects: dict[str, str] | None = None) -> None:
        self.states, self.objects = states, objects or {}
        self.refuse: dict[str, Exception] = {}
        self.unreadable: Exception | None = None
        self.silent: Exception | None = None
        self.reason: str | None = None
        self.address: str | None = None
        self.asked: Counter[str] = Counter()
        self.meta = SimpleNamespace(region_name="eu-west-1", endpoint_url=f"https://ec2-{id(self)}")

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, Filters: Any) -> Iterator[Any]:
        ids = Filters[0]["Values"]
        self.asked["look"] += 1
        assert len(ids) <= 200
        if refused := [error for name, error in self.refuse.items() if name in ids]:
            raise refused[0]
        known = [i for i in ids if i in self.states]
        for start in range(0, len(known), 2):
            more: dict[str, Any] = {"StateReason": {"Code": self.reason}} if self.reason else {}
            more |= {"PublicIpAddress": self.address} if self.address else {}
            found = [{"InstanceId": i, "State": {"Name": self.states[i]}, **more} for i in known[start : start + 2]]
            yield {"Reservations": [{"Instances": [each]} for each in found]}

    def head_bucket(self, Bucket: str) -> Any:
        self.asked["region"] += 1
        return {"BucketRegion": "eu-west-1"}

    def get_object(self, Bucket: str, Key: str) -> Any:
        self.asked[Key.rpartition("/")[2]] += 1
        if self.unreadable:
            raise self.unreadable
        if Key not in self.objects:
            raise said("NoSuchKey", 404)
        return {"Body": BytesIO(self.objects[Key].encode())}

    def get_console_output(self, **_: Any) -> Any:
        self.asked["console"] += 1
        if self.silent:
            raise self.silent
        return {}


def receipt(member: str, phase: str, **more: Any) -> str:
    import json

    return json.dumps({"nonce": "n0", "instance": member, "phase": phase, **more})


def machines(cloud: Cloud) -> Ec2Launcher:
    return Ec2Launcher(lambda service, **_: cloud)


def test_every_page_is_followed() -> None:
    cloud = Cloud({f"i-{n}": "pending" for n in range(9)})
    launches = [replace(EC2, ids=(f"i-{n}",)) for n in range(9)]
    assert [s.state for one in machines(cloud).observe_all(launches, T0).answers for s in one] == ["pending"] * 9
    assert cloud.asked["look"] == 1


@pytest.mark.parametrize(
    ("error", "slow", "denied"),
    [
        pytest.param(said("RequestLimitExceeded", 503), True, False, id="throttled"),
        pytest.param(said("UnauthorizedOperation", 403), False, True, id="not allowed"),
        pytest.param(said("ExpiredToken"), False, True, id="expired"),
        pytest.param(said("InternalError", 500), False, False, id="a 500"),
    ],
)
def test_a_call_that_fails_says_nothing_of_what_it_did_not_ask_for(error: Exception, slow: bool, denied: bool) -> None:
    cloud = Cloud({f"i-{n}": "pending" for n in range(250)})
    cloud.refuse = {"i-249": error}
    looked = machines(cloud).observe_all([replace(EC2, ids=(f"i-{n}",)) for n in range(250)], T0)
    phases = [seen.phase for (seen,) in looked.answers]
    assert phases == [Phase.STARTING] * 200 + [Phase.UNKNOWN] * 50
    assert not any(seen.absent for (seen,) in looked.answers)
    assert (looked.slow, looked.denied) == (slow, denied)


def test_a_start_is_read_once_and_a_thousand_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2_looks, "READS_A_LOOK", 4)
    names = [f"i-{n}" for n in range(10)]
    told = {f"t0-1/{i}/started.json": receipt(i, "started", started=T0.isoformat()) for i in names}
    cloud = Cloud(dict.fromkeys(names, "running"), told)
    launcher, launches = machines(cloud), [replace(EC2, ids=(name,)) for name in names]
    known = []
    for _ in range(4):
        seen = launcher.observe_all(launches, T0).answers
        known.append((sum(s.started is not None for one in seen for s in one), cloud.asked["started.json"]))
    assert known == [(4, 4), (8, 8), (10, 10), (10, 10)]


def test_what_has_not_said_that_it_started_is_asked_again() -> None:
    cloud = Cloud({"i-1": "running"})
    launcher, launch = machines(cloud), replace(EC2, ids=("i-1",))
    assert launcher.observe(launch, T0)[0].started is None
    cloud.objects["t0-1/i-1/started.json"] = receipt("i-1", "started")
    assert launcher.observe(launch, T0)[0].started is not None


def test_an_end_is_read_when_it_has_come_and_not_again() -> None:
    ends = {"t0-1/i-1/receipt.json": receipt("i-1", "end", exit_code=0, cause="exit", ended=T0.isoformat())}
    cloud = Cloud({"i-1": "running", "i-2": "running"}, ends)
    launcher, launch = machines(cloud), replace(EC2, ids=("i-1", "i-2"))
    launcher.observe(launch, T0)
    assert cloud.asked["receipt.json"] == 0
    cloud.states["i-1"] = "terminated"
    for _ in range(3):
        (ended, running) = launcher.observe(launch, T0)
        assert (ended.phase, ended.receipt.exit_code, running.phase) == (Phase.ENDED, 0, Phase.RUNNING)
    assert cloud.asked["receipt.json"] == 1


def test_an_end_without_a_receipt_is_read_again() -> None:
    cloud = Cloud({"i-1": "terminated"})
    launcher, launch = machines(cloud), replace(EC2, ids=("i-1",))
    assert launcher.observe(launch, T0)[0].receipt is None
    cloud.objects["t0-1/i-1/receipt.json"] = receipt("i-1", "end", exit_code=3)
    assert launcher.observe(launch, T0)[0].receipt.exit_code == 3


def test_a_thousand_ends_without_a_word_are_read_in_turns_and_told_only_by_a_look_that_has_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ec2_looks, "READS_A_LOOK", 4)
    names = [f"i-{n}" for n in range(12)]
    cloud = Cloud(dict.fromkeys(names, "terminated"))
    launcher, launches = machines(cloud), [replace(EC2, ids=(name,)) for name in names]
    ended, reads = [], []
    for number in range(4):
        seen = [s for (s,) in launcher.observe_all(launches, T0 + timedelta(seconds=number)).answers]
        ended.append({s.member for s in seen if s.phase is Phase.ENDED})
        reads.append(cloud.asked["receipt.json"])
        assert {s.state for s in seen} == {"terminated"}
    assert [len(members) for members in ended] == [12, 4, 4, 4]
    assert set.union(*ended[1:]) == set(names)
    assert reads == [12, 16, 20, 24]


def ended(*ids: str, **more: Any) -> dict[str, str]:
    exit_0 = {"exit_code": 0, "cause": "exit", "ended": T0.isoformat()}
    return {f"t0-1/{i}/receipt.json": receipt(i, "end", **exit_0 | more) for i in ids}


def many(count: int) -> tuple[str, ...]:
    return tuple(f"i-{n}" for n in range(count))


def verdict_after(look: Callable[[datetime], Any], now: datetime, looks: int, every: float = QUICK) -> Any:
    """The first verdict of so many looks, with the number of looks that it took; None where there is none."""
    for number in range(looks):
        if verdict := look(now + timedelta(seconds=number * every)):
            return number + 1, verdict
    return None


def judged(launcher: Ec2Launcher, launch: Launch) -> Callable[[datetime], Any]:
    case = Case(launch)
    return lambda now: case.judged(launcher.observe(launch, now), now).verdict


@pytest.mark.parametrize("count", [20, 25, 60])
def test_machines_without_receipts_are_judged_when_their_time_is_over_however_many(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(pacing, "_configured", {"looks at EC2": Limit(10**6, 1e6)})
    launch = replace(EC2, ids=many(count))
    look = judged(machines(Cloud(dict.fromkeys(launch.ids, "terminated"))), launch)
    assert verdict_after(look, T0, 1) is None
    assert look(T0 + CONSOLE_DELAY - timedelta(seconds=1)) is None
    number, verdict = verdict_after(look, T0 + CONSOLE_DELAY, 3)
    assert number == -(-count // ec2_looks.READS_A_LOOK)
    assert [m.id for m in verdict.members] == list(launch.ids)
    assert {m.outcome for m in verdict.members} == {Outcome.LOST}


def test_a_bucket_that_stays_down_delays_no_verdict_by_a_day() -> None:
    launch = replace(EC2, ids=many(25))
    cloud = Cloud(dict.fromkeys(launch.ids, "terminated"))
    cloud.unreadable = said("SlowDown", 503)
    look = judged(machines(cloud), launch)
    assert verdict_after(look, HOUR, 3) is None
    assert verdict_after(look, HOUR + STOP_GRACE, 3)[1].outcome is Outcome.LOST


@pytest.mark.parametrize("late", [timedelta(0), timedelta(hours=26)], ids=["in time", "a day past the deadline"])
def test_what_ec2_has_forgotten_is_judged_by_receipts_that_are_read_in_turn(late: timedelta) -> None:
    launch = replace(EC2, ids=many(45))
    look = judged(machines(Cloud({}, ended(*launch.ids))), launch)
    assert verdict_after(look, HOUR + late, 9)[1].outcome is Outcome.SUCCEEDED


def test_early_ends_are_remembered_while_another_goes_on_and_ec2_forgets_them() -> None:
    launch = replace(EC2, ids=many(30), deadline=T0 + timedelta(hours=6))
    *early, last = launch.ids
    cloud = Cloud(dict.fromkeys(early, "terminated") | {last: "running"}, ended(*early))
    launcher = machines(cloud)
    look = judged(launcher, launch)
    assert verdict_after(look, T0, 3) is None
    cloud.states, cloud.objects = {last: "running"}, {}
    assert verdict_after(look, HOUR, 3) is None
    assert cloud.asked["receipt.json"] == 29
    cloud.states, cloud.objects = {last: "terminated"}, ended(last)
    number, verdict = verdict_after(look, HOUR + timedelta(hours=1), 3)
    assert (number, verdict.outcome, verdict.succeeded) == (1, Outcome.SUCCEEDED, 30)


def test_an_address_is_remembered_when_ec2_tells_it_no_more_and_when_it_tells_nothing() -> None:
    launch = replace(EC2, ids=many(2))
    cloud = Cloud(dict.fromkeys(launch.ids, "running"), ended("i-0"))
    cloud.address = "54.1.2.3"
    launcher, seen = machines(cloud), []
    for states in (cloud.states, {"i-0": "terminated", "i-1": "running"}, {"i-1": "running"}):
        cloud.states = states
        seen.append(launcher.observe(launch, T0)[0])
        cloud.address = None
    assert [(s.phase, s.public_ip) for s in seen] == [
        (Phase.RUNNING, "54.1.2.3"),
        (Phase.ENDED, "54.1.2.3"),
        (Phase.ENDED, "54.1.2.3"),
    ]


def test_machines_of_a_group_that_report_nothing_are_judged_in_as_many_looks_as_read_them() -> None:
    terms = GroupTerms("work", 600, reports=False, trust_shutdown=True)
    launch = replace(EC2, kind="asg", ids=many(250), receipts=None, group=terms)
    cloud = Cloud(dict.fromkeys(launch.ids, "terminated"))
    cloud.reason = ITSELF
    number, verdict = verdict_after(judged(machines(cloud), launch), T0, 3)
    assert (number, verdict.outcome) == (2, Outcome.SUCCEEDED)


def test_a_later_look_that_reads_less_takes_nothing_back() -> None:
    launch = replace(EC2, ids=many(2))
    cloud = Cloud({"i-0": "terminated", "i-1": "running"}, ended("i-0", result_bytes=9))
    launcher = machines(cloud)
    assert launcher.observe(launch, T0)[0].result_error
    cloud.unreadable = said("SlowDown", 503)
    for now in (LATER, HOUR + STOP_GRACE):
        assert launcher.observe(launch, now)[0].receipt.exit_code == 0
    cloud.unreadable, cloud.objects["t0-1/i-0/result.json"] = None, '{"a": 1}'
    assert launcher.observe(launch, HOUR)[0].result == {"a": 1}


def test_what_was_not_yet_its_turn_is_never_lost(stops: Stops) -> None:
    waits = [Waited(replace(EC2, ids=(i,)), 15.0) for i in many(60)]
    launcher = machines(Cloud({}, ended(*many(60))))
    look, late = LaunchLook(lambda: launcher, lambda: None, stops), HOUR + timedelta(hours=25)
    outcomes: Counter[str] = Counter()
    for number in range(3):
        news = look(waits, late + timedelta(seconds=number)).answers
        outcomes.update(each.verdict.outcome.value for each in news if each and each.verdict)
        waits = [wait for wait, each in zip(waits, news, strict=True) if not (each and each.verdict)]
        assert {wait.pause.seconds for wait in waits} <= {QUICK}
    assert outcomes == {"succeeded": 60}


@pytest.mark.parametrize("grace", [STOP_GRACE, UNANSWERED], ids=["when it should be gone", "when nobody has answered"])
def test_what_ec2_does_not_know_is_lost_when_its_receipt_was_looked_for(grace: timedelta) -> None:
    launch = replace(EC2, ids=("i-1",))
    cloud = Cloud({})
    cloud.unreadable = said("SlowDown", 503) if grace is UNANSWERED else None
    look = judged(machines(cloud), launch)
    assert look(HOUR + grace - timedelta(seconds=1)) is None
    assert look(HOUR + grace).outcome is Outcome.LOST


@pytest.mark.parametrize("states", [{}, {"i-1": "terminated"}], ids=["forgotten", "ended"])
def test_what_can_be_read_no_more_is_waited_for_a_day_and_not_for_ever(states: dict[str, str]) -> None:
    launch, cloud = replace(EC2, ids=("i-1",), receipts=None), Cloud(states)
    cloud.silent = SpecError("aws_conn_id: there is no connection 'aws_jobs'")
    look = judged(machines(cloud), launch)
    assert verdict_after(look, HOUR + UNANSWERED - timedelta(minutes=1), 3) is None
    assert look(HOUR + UNANSWERED).outcome is Outcome.LOST


@pytest.mark.parametrize("one_launch", [True, False], ids=["a fleet", "launches of one"])
@pytest.mark.parametrize("left", [True, False], ids=["each with a receipt", "stopped, and none left any"])
def test_a_thousand_that_end_at_once_are_judged_in_a_few_bounded_looks(
    stops: Stops, monkeypatch: pytest.MonkeyPatch, one_launch: bool, left: bool
) -> None:
    monkeypatch.setattr(pacing, "_configured", {"looks at EC2": Limit(10**6, 1e6)})
    ids = many(1000)
    cloud = Cloud(dict.fromkeys(ids, "terminated"), ended(*ids) if left else {})
    cloud.reason = None if left else "Client.UserInitiatedShutdown"
    launcher = machines(cloud)
    waits = [Waited(replace(EC2, ids=one), 15.0) for one in ([ids] if one_launch else [(i,) for i in ids])]
    look, told, most = LaunchLook(lambda: launcher, lambda: None, stops), list[Any](), 0
    for number in range(5):
        before = cloud.asked["receipt.json"]
        news = look(waits, T0 + timedelta(seconds=QUICK * number)).answers
        most = max(most, cloud.asked["receipt.json"] - before)
        told += [m.outcome for each in news if each and each.verdict for m in each.verdict.members]
        waits = [wait for wait, each in zip(waits, news, strict=True) if not (each and each.verdict)]
    assert Counter(told) == {Outcome.SUCCEEDED if left else Outcome.STOPPED: 1000}
    assert cloud.asked["receipt.json"] == 1000
    parts = 1 if one_launch else 3
    assert most <= parts * ec2_looks.NEW_A_LOOK


def test_a_receipt_that_cannot_be_read_is_read_again_and_no_end_before() -> None:
    cloud = Cloud({"i-1": "terminated"})
    cloud.unreadable = said("SlowDown", 503)
    launcher, launch = machines(cloud), replace(EC2, ids=("i-1",))
    (seen,) = launcher.observe(launch, T0)
    assert (seen.receipt, seen.receipt_known) == (None, False)
    assert judge(launch, (seen,), T0 + timedelta(minutes=30)) is None
    cloud.unreadable = None
    cloud.objects["t0-1/i-1/receipt.json"] = receipt("i-1", "end", exit_code=0)
    assert launcher.observe(launch, T0)[0].receipt_known


@pytest.mark.parametrize(
    ("error", "known"),
    [
        pytest.param(said("RequestLimitExceeded", 503), False, id="throttled"),
        pytest.param(EndpointConnectionError(endpoint_url="https://ec2"), False, id="unreachable"),
        pytest.param(said("UnauthorizedOperation", 403), True, id="never to be read"),
    ],
)
def test_a_console_that_gives_no_answer_is_not_one_without_a_receipt(error: Exception, known: bool) -> None:
    cloud = Cloud({"i-1": "terminated"})
    cloud.silent = error
    assert machines(cloud).observe(replace(EC2, ids=("i-1",)), T0)[0].receipt_known is known


def test_a_bucket_that_does_not_answer_keeps_no_state_from_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2_looks, "READING", -1.0)
    names = [f"i-{n}" for n in range(50)]
    cloud = Cloud(dict.fromkeys(names[:25], "running") | dict.fromkeys(names[25:], "terminated"))
    seen = machines(cloud).observe_all([replace(EC2, ids=(name,)) for name in names], T0).answers
    assert cloud.asked["receipt.json"] + cloud.asked["started.json"] == 0
    assert [s.phase for (s,) in seen] == [Phase.RUNNING] * 25 + [Phase.UNKNOWN] * 25
    assert {s.note for (s,) in seen[25:]} == {ec2_looks.IN_TURN}


def test_one_launch_that_is_waited_for_twice_is_read_once_and_told_twice() -> None:
    ends = {"t0-1/i-1/receipt.json": receipt("i-1", "end", exit_code=0, cause="exit", ended=T0.isoformat())}
    cloud = Cloud({"i-1": "terminated"}, ends)
    seen = machines(cloud).observe_all([replace(EC2, ids=("i-1",))] * 2, T0).answers
    assert [s.receipt.exit_code for (s,) in seen] == [0, 0]
    assert cloud.asked["receipt.json"] == 1


def test_a_bucket_is_asked_once_for_its_region() -> None:
    cloud = Cloud({f"i-{n}": "running" for n in range(9)})
    launcher = machines(cloud)
    launcher.observe(replace(EC2, ids=("i-0",)), T0)
    launcher.observe_all([replace(EC2, ids=(f"i-{n}",), receipts=f"s3://results/t{n}/") for n in range(9)], T0)
    assert cloud.asked["region"] == 1


def test_of_thousands_the_oldest_are_forgotten_and_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2_looks, "REMEMBERED", 5)
    names = [f"i-{n}" for n in range(8)]
    told = {f"t0-1/{i}/started.json": receipt(i, "started", started=T0.isoformat()) for i in names}
    launcher = machines(Cloud(dict.fromkeys(names, "running"), told))
    for name in names:
        launcher.observe(replace(EC2, ids=(name,)), T0)
    launcher.observe_all([], T0)
    assert [key[1] for key in launcher._looks._starts] == names[3:]


# --- what a look means for each wait


class Stops:
    """Stops that are done when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], str, Future[None]]] = []

    def __call__(self, launch: Launch, why: str) -> Future[None]:
        future: Future[None] = Future()
        self.asked.append((launch.ids, why, future))
        return future


@pytest.fixture
def stops() -> Stops:
    return Stops()


class Eyes:
    """A launcher whose looks are written down."""

    def __init__(self, *looks: Any) -> None:
        self.looks = list(looks)

    def observe_all(self, launches: Sequence[Launch], now: datetime) -> Looked[Any]:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, Exception):
            raise look
        return look if isinstance(look, Looked) else Looked([look] * len(launches))

    def stop(self, launch: Launch, why: str = "") -> None: ...


UP, BOOTING = Ec2Sighting("i-1", Phase.RUNNING, "running"), Ec2Sighting("i-1", Phase.STARTING, "pending")
UNSEEN = Ec2Sighting("i-1", Phase.UNKNOWN, note="throttled")
GOING = Ec2Sighting("i-1", Phase.RUNNING, "shutting-down")


def waited(**changed: Any) -> Waited:
    return Waited(replace(EC2, ids=("i-1",), **changed), 15.0)


def looks(eyes: Any, stops: Stops, renewed: list[int] | None = None) -> LaunchLook:
    return LaunchLook(lambda: eyes, lambda: (renewed if renewed is not None else []).append(1), stops)


@pytest.mark.parametrize(
    ("seen", "now", "seconds", "end"),
    [
        pytest.param(UP, T0, QUICK, 600, id="just asked for"),
        pytest.param(BOOTING, LATER, QUICK, 2400, id="starting"),
        pytest.param(UP, LATER, 15, 2400, id="running"),
        pytest.param(GOING, LATER, QUICK, 2400, id="on its way out"),
        pytest.param(UP, HOUR - timedelta(seconds=3), 15, 3, id="shortly before its deadline"),
        pytest.param(UP, HOUR + timedelta(seconds=1), QUICK, float("inf"), id="past it, being stopped"),
        pytest.param(replace(UP, boot_evidence="x"), LATER, QUICK, 2400, id="never booted, being stopped"),
        pytest.param(UNSEEN, HOUR + timedelta(minutes=11), 15, float("inf"), id="long past it, and nobody answers"),
        pytest.param(UNSEEN, LATER, 15, 2400, id="not seen"),
        pytest.param(replace(UNSEEN, unread=True), LATER, QUICK, 2400, id="its receipt is read in turn"),
    ],
)
def test_the_next_look_is_when_something_may_have_happened(
    stops: Stops, seen: Any, now: datetime, seconds: float, end: float
) -> None:
    wait = waited()
    looks(Eyes((seen,)), stops)([wait], now)
    assert (wait.pause.seconds, wait.pause.end) == (seconds, end)


def test_the_same_words_are_no_news(stops: Stops) -> None:
    wait, look = waited(), looks(Eyes((BOOTING,), (BOOTING,), (UP,)), stops)
    told = [look([wait], T0).answers[0] for _ in range(3)]
    assert [news is not None for news in told] == [True, False, True]


def test_a_look_that_fails_is_news_and_no_ending(stops: Stops) -> None:
    wait = waited()
    (news,) = looks(Eyes(RuntimeError("no such connection")), stops)([wait], T0).answers
    assert news.verdict is None
    assert "no such connection" in news.words


def test_a_launch_that_cannot_be_judged_keeps_no_other_from_its_end(stops: Stops) -> None:
    over = replace(UP, phase=Phase.ENDED, state="terminated", reason="Client.UserInitiatedShutdown", ended=T0)
    looked = looks(Eyes(Looked([("nonsense",), (over,)])), stops)([waited(), waited()], LATER)
    assert looked.answers[0].verdict is None
    assert looked.answers[1].verdict.outcome is Outcome.STOPPED


@pytest.mark.parametrize("eyes", [Eyes((UP,)), Eyes(RuntimeError("no answer"))], ids=["seen", "the look fails"])
def test_a_launch_of_which_nothing_can_be_said_costs_no_other_its_news(stops: Stops, eyes: Any) -> None:
    zoneless = waited(deadline=HOUR.replace(tzinfo=None))
    told = looks(eyes, stops)([zoneless, waited()], LATER).answers
    assert [news is not None for news in told] == [False, True]


def test_a_machine_of_which_nothing_can_be_said_costs_no_other_its_end(stops: Stops) -> None:
    zoneless = {"deadline": HOUR.replace(tzinfo=None), "boot_by": T0.replace(tzinfo=None)}
    cloud = Cloud({"i-1": "terminated", "i-2": "running", "i-3": "terminated"}, ended("i-1", "i-3"))
    launches = [replace(EC2, ids=("i-1", "i-2"), **zoneless), replace(EC2, ids=("i-3",))]
    look = LaunchLook(lambda: machines(cloud), lambda: None, stops)
    told = look([Waited(launch, 15.0) for launch in launches], LATER).answers
    assert told[0] is None
    assert told[1].verdict.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("eyes", [Eyes(RuntimeError("x")), Eyes(Looked([(UP,)], denied=True))], ids=["fails", "denied"])
def test_credentials_are_made_anew_and_not_at_every_look(
    stops: Stops, monkeypatch: pytest.MonkeyPatch, eyes: Any
) -> None:
    renewed: list[int] = []
    look, wait = looks(eyes, stops, renewed), waited()
    monkeypatch.setattr(renewing, "RENEW_EVERY", -1.0)
    look([wait], T0)
    monkeypatch.setattr(renewing, "RENEW_EVERY", 60.0)
    look([wait], T0)
    assert renewed == [1]


def test_what_a_look_has_no_time_for_is_first_at_the_next(stops: Stops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "MEMBERS_AT_ONCE", 1)
    moments, asked = iter([0.0, 0.0, 99.0, 99.0] + [200.0] * 9), list[str]()

    class Silent(Eyes):
        def observe_all(self, launches: Sequence[Launch], now: datetime) -> Looked[Any]:
            asked.extend(launch.ids[0] for launch in launches)
            return super().observe_all(launches, now)

    waits = [Waited(replace(EC2, ids=(f"i-{n}",)), 15.0) for n in range(3)]
    look = looks(Silent((UP,)), stops)
    monkeypatch.setattr(polling.time, "monotonic", lambda: next(moments))
    assert [news is not None for news in look(waits, T0).answers] == [True, False, False]
    assert [wait.pause for wait in waits[1:]] == [polling.NEXT] * 2
    look(waits, T0 + timedelta(seconds=1))
    assert asked == ["i-0", "i-1", "i-2", "i-0"]


def test_a_throttled_look_says_so(stops: Stops) -> None:
    assert looks(Eyes(Looked([(UP,)], slow=True)), stops)([waited()], T0).slow


def test_a_stop_is_asked_for_beside_the_looks_once_and_again_where_it_failed_or_lasts(stops: Stops) -> None:
    wait, look = waited(), looks(Eyes((UP,)), stops)
    look([wait], HOUR)
    look([wait], HOUR)
    assert [asked[:2] for asked in stops.asked] == [(("i-1",), "deadline")]
    stops.asked[0][2].set_exception(RuntimeError("not allowed: ec2:TerminateInstances"))
    (news,) = look([wait], HOUR).answers
    assert "stopping it failed (RuntimeError: not allowed" in news.words
    assert len(stops.asked) == 2
    stops.asked[1][2].set_result(None)
    look([wait], HOUR + timedelta(seconds=5))
    assert len(stops.asked) == 2
    look([wait], HOUR + timedelta(seconds=15))
    assert len(stops.asked) == 3


def test_of_a_burst_that_is_being_stopped_no_task_is_asked_for_twice(stops: Stops) -> None:
    names = many(150)
    up = [EcsSighting(i, Phase.RUNNING, "RUNNING", launched=T0, started=T0) for i in names]
    going = [replace(each, stopping=True) for each in up]
    wait, look = Waited(replace(ECS, ids=names), 300.0), looks(Eyes(up, going[:60] + up[60:], going), stops)
    for _ in range(3):
        look([wait], HOUR)
        assert wait.pause.seconds == QUICK
    assert [(len(ids), why) for ids, why, _ in stops.asked] == [(150, "deadline")]


# --- lines


class Talker:
    def __init__(self, *lines: Any) -> None:
        self.lines = list(lines)

    def follow(self, launch: Launch) -> Callable[[], list[str]]:
        def new_lines() -> list[str]:
            line = self.lines.pop(0) if self.lines else None
            if isinstance(line, Exception):
                raise line
            return [line] if line else []

        return new_lines


def followed(*lines: Any) -> Followed:
    talker = Talker(*lines)
    return Followed(lambda: talker, ECS, 15.0)  # type: ignore[arg-type,return-value]


def lines_of(each: Sequence[Followed]) -> list[list[str] | None]:
    return [one.taken() if there else None for one, there in zip(each, look_at_lines(each, T0).answers, strict=True)]


def test_new_lines_are_told_and_none_are_no_news() -> None:
    each = [followed("a"), followed(), followed(RuntimeError("x"), "later")]
    assert lines_of(each) == [["a"], None, None]
    assert lines_of(each) == [None, None, ["later"]]


def test_lines_that_nobody_has_taken_yet_are_there_for_the_next() -> None:
    one = followed("a", "b")
    look_at_lines([one], T0)
    assert one.read()
    assert one.taken() == ["a", "b"]
    assert one.taken() == []


def test_what_there_is_no_time_for_is_first_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    each = [followed("a", "c"), followed("b")]
    each[0].read_at = 1.0
    moments = iter([0.0, 0.0, 9.0, 9.0] + [10.0] * 20)
    monkeypatch.setattr(polling.time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(polling, "LINES_LOOK", 5.0)
    assert lines_of(each) == [None, ["b"]]
    assert each[0].pause.seconds == 1.0
    assert lines_of(each) == [["a"], None]


# --- buckets


@pytest.mark.parametrize(
    ("key", "account"),
    [
        pytest.param("ASIAQNZGKIQY56JQ7WML", "029608264753", id="of a role"),
        pytest.param("testing", "testing", id="none of AWS's"),
        pytest.param("AKIA????????????????", "AKIA????????????????", id="not to be read"),
        pytest.param("", "", id="none"),
    ],
)
def test_calls_are_counted_for_an_account(key: str, account: str) -> None:
    assert account_of(key) == account


def test_two_accounts_at_one_endpoint_have_buckets_of_their_own() -> None:
    def client(key: str) -> Any:
        import boto3

        return boto3.client("ecs", "eu-west-1", aws_access_key_id=key, aws_secret_access_key="x")

    one, other = client("ASIAQNZGKIQY56JQ7WML"), client("AKIAIOSFODNN7EXAMPLE")
    assert bucket(one, "Fargate tasks") is bucket(client("ASIAQNZGKIQY56JQ7WML"), "Fargate tasks")
    assert bucket(one, "Fargate tasks") is not bucket(other, "Fargate tasks")


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        pytest.param(None, {}, id="nothing"),
        pytest.param(" ", {}, id="blank"),
        pytest.param('{"Fargate tasks": [200, 50]}', {"Fargate tasks": Limit(200, 50)}, id="one"),
        pytest.param('{"looks at logs": [5, 0.5]}', {"looks at logs": Limit(5, 0.5)}, id="less than one a second"),
    ],
)
def test_limits_are_configured(words: str | None, limits: dict[str, Limit]) -> None:
    assert read_limits(words) == limits


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("{", "no JSON"),
        ("[1, 2]", "no JSON object"),
        ('{"Fargate": [1, 2]}', "no 'Fargate'; there are changes of a cluster"),
        *(
            (f'{{"Fargate tasks": {pair}}}', "say [at once, a second]")
            for pair in ("3", "[1]", "[0, 1]", "[1, 0]", "[Infinity, 1]")
        ),
        ('{"Fargate tasks": [true, 2]}', "say [at once, a second]"),
    ],
)
def test_a_wrong_limit_is_said(words: str, sentence: str) -> None:
    with pytest.raises(SpecError) as error:
        read_limits(words)
    assert sentence in str(error.value)


def test_a_configured_limit_is_that_of_the_next_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_buckets", {})
    monkeypatch.setattr(pacing, "_configured", {})
    pacing.configure({"Fargate tasks": Limit(7, 7)})
    assert bucket(object(), "Fargate tasks").limit == Limit(7, 7).with_slack() == Limit(6, 7)
    assert bucket(object(), "looks at logs").limit == pacing.LIMITS["looks at logs"].with_slack()


def test_every_limit_is_named_where_it_is_configured() -> None:
    told = get_provider_info()["config"]["transient"]["options"]["limits"]["description"]
    assert [name for name in pacing.LIMITS if name not in told] == []


def test_the_page_has_every_limit_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "deployment.md").read_text(encoding="utf-8")
    told = {name: Limit(*json.loads(pair)) for name, pair in re.findall(r"`([^`|]+)` \| (\[[0-9, ]+\])", page)}
    assert told == pacing.LIMITS
