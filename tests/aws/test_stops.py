"""Stops by the hundred: how many calls they take, and that what one launch is refused for stays with it."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from airflow_transient import errors
from airflow_transient.aws import ec2_stops, pacing, stops
from airflow_transient.aws.ec2 import Ec2Launcher
from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.aws.stops import Stops
from airflow_transient.core.ecs.terms import Terms
from airflow_transient.core.launch import Launch
from airflow_transient.testing import FakeLauncher

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
HOUR = T0 + timedelta(hours=1)
TERMS = Terms("default", ("main",), 2100, 3600, need=1, wanted=1)
EC2 = Launch("ec2", "t0-1", "n0", (), "eu-west-1", T0, T0 + timedelta(minutes=10), HOUR)
ECS = replace(EC2, kind="ecs", ecs=TERMS)


def said(code: str, message: str = "…", status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Terminate")  # type: ignore[arg-type]


THROTTLED = said("RequestLimitExceeded", status=503)


class Ec2:
    """
    Machines that are up. `unknown` are so for that many calls; `guarded` may not be ended; `named`: whether EC2 says
    which ids it does not know.
    """

    def __init__(self, unknown: Sequence[str] = (), guarded: Sequence[str] = (), named: bool = True) -> None:
        self.unknown, self.guarded, self.named = dict.fromkeys(unknown, 99), set(guarded), named
        self.refuse: list[Exception] = []
        self.sent: list[tuple[str, int]] = []
        self.marks: dict[str, str] = {}
        self.ended: set[str] = set()
        self.meta = SimpleNamespace(region_name="eu-west-1", endpoint_url=f"https://ec2-{id(self)}")

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, Filters: Any) -> Iterator[Any]:
        ids = Filters[0]["Values"]
        self.sent.append(("look", len(ids)))
        marks = {i: [{"Key": "transient:stopped-by", "Value": self.marks[i]}] for i in ids if i in self.marks}
        up = [{"InstanceId": i, "State": {"Name": "running"}, "Tags": marks.get(i, [])} for i in ids]
        yield {"Reservations": [{"Instances": [one for one in up if one["InstanceId"] not in self.unknown]}]}

    def create_tags(self, Resources: list[str], Tags: list[dict[str, str]]) -> None:
        self.sent.append(("mark", len(Resources)))
        self.marks |= dict.fromkeys(Resources, Tags[0]["Value"])

    def terminate_instances(self, InstanceIds: list[str]) -> None:
        self.sent.append(("end", len(InstanceIds)))
        if self.refuse:
            raise self.refuse.pop(0)
        if unknown := [i for i in InstanceIds if i in self.unknown]:
            for each in unknown:
                self.unknown[each] -= 1
            self.unknown = {each: left for each, left in self.unknown.items() if left}
            words = f"The instance IDs '{', '.join(unknown)}' do not exist" if self.named else "Some do not exist"
            raise said("InvalidInstanceID.NotFound", words)
        if guarded := sorted(self.guarded & set(InstanceIds)):
            raise said("OperationNotPermitted", f"The instance '{guarded[0]}' may not be terminated. Modify its …")
        self.ended |= set(InstanceIds)

    def calls(self, what: str) -> int:
        return sum(sent == what for sent, _ in self.sent)


def nobody() -> None:
    """Renews nothing."""


def machines(ec2: Ec2) -> Ec2Launcher:
    return Ec2Launcher(lambda service, **_: ec2, sleep=lambda seconds: None)


def of_one_each(ids: Sequence[str], launch: Launch = EC2) -> list[Launch]:
    return [replace(launch, ids=(each,)) for each in ids]


# --- EC2


def test_two_hundred_kills_are_three_calls() -> None:
    ec2, ids = Ec2(), [f"i-{n}" for n in range(200)]
    assert machines(ec2).stop_all([(launch, "request") for launch in of_one_each(ids)]) == [None] * 200
    assert ec2.sent == [("look", 200), ("mark", 200), ("end", 200)]
    assert ec2.ended == set(ids)


def test_a_thousand_deadlines_are_fifteen_calls_and_two_reasons_are_marked_apart() -> None:
    ec2, ids = Ec2(), [f"i-{n}" for n in range(1000)]
    assert machines(ec2).stop_all([(launch, "deadline") for launch in of_one_each(ids)]) == [None] * 1000
    assert len(ec2.sent) == 15
    some = Ec2()
    machines(some).stop_all([(one, ("deadline", "request")[n % 2]) for n, one in enumerate(of_one_each(ids[:4]))])
    assert some.marks == {"i-0": "deadline", "i-1": "request", "i-2": "deadline", "i-3": "request"}
    assert some.calls("mark") == 2


def test_the_first_mark_stays() -> None:
    ec2 = Ec2()
    ec2.marks = {"i-0": "deadline"}
    machines(ec2).stop_all([(launch, "request") for launch in of_one_each(["i-0", "i-1"])])
    assert ec2.marks == {"i-0": "deadline", "i-1": "request"}


@pytest.mark.parametrize("named", [True, False], ids=["EC2 says which", "EC2 does not say which"])
def test_those_that_ec2_does_not_know_keep_no_other_from_its_end(named: bool) -> None:
    ids = [f"i-{n}" for n in range(200)]
    ec2 = Ec2(unknown=("i-7", "i-170"), named=named)
    assert machines(ec2).stop_all([(launch, "request") for launch in of_one_each(ids)]) == [None] * 200
    assert ec2.ended == set(ids) - {"i-7", "i-170"}
    assert ec2.calls("end") <= (5 if named else 60)


def test_what_ec2_comes_to_know_a_moment_later_is_ended() -> None:
    ec2 = Ec2(unknown=("i-1",))
    ec2.unknown["i-1"] = 2
    assert machines(ec2).stop_all([(launch, "request") for launch in of_one_each(["i-0", "i-1"])]) == [None] * 2
    assert ec2.ended == {"i-0", "i-1"}


def test_an_error_reaches_exactly_the_launch_concerned() -> None:
    ec2 = Ec2(guarded=("i-3",))
    launches = [replace(EC2, ids=("i-1",)), replace(EC2, ids=("i-2", "i-3")), replace(EC2, ids=("i-4",))]
    told = machines(ec2).stop_all([(launch, "request") for launch in launches])
    assert [type(error) for error in told] == [type(None), errors.SpecError, type(None)]
    assert re.search("'i-3' may not be terminated", str(told[1]))
    assert ec2.ended == {"i-1", "i-2", "i-4"}


@pytest.mark.parametrize(("guarded", "of", "calls"), [(5, 55, 12), (1, 200, 3), (20, 200, 50)])
def test_those_that_are_protected_keep_no_healthy_one_alive(guarded: int, of: int, calls: int) -> None:
    ids = [f"i-{n:03}" for n in range(of)]
    ec2 = Ec2(guarded=ids[:: of // guarded][:guarded])
    told = machines(ec2).stop_all([(launch, "deadline") for launch in of_one_each(ids)])
    assert ec2.ended == set(ids) - ec2.guarded
    assert {one for one, error in zip(ids, told, strict=True) if error} == ec2.guarded
    assert all(each in str(error) for each, error in zip(ids, told, strict=True) if error)
    assert ec2.calls("end") <= calls


def test_a_hundred_that_are_protected_cost_no_call_each_and_no_other_launch_its_end_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pacing, "_configured", dict.fromkeys(pacing.LIMITS, pacing.Limit(10**6, 1e6)))
    ids = tuple(f"i-{n:03}" for n in range(100))
    ec2, launches = Ec2(guarded=ids), [replace(EC2, ids=ids), replace(EC2, ids=("i-healthy",))]
    hands = machines(ec2)
    for _ in range(4):
        before = ec2.calls("end")
        told = hands.stop_all([(launch, "deadline") for launch in launches])
        assert ec2.calls("end") - before <= 2 * ec2_stops.HALVED
    assert [type(error) for error in told] == [errors.SpecError, type(None)]
    assert ec2.ended == {"i-healthy"}


def test_who_may_end_none_of_them_learns_it_soon() -> None:
    ids = [f"i-{n}" for n in range(200)]
    ec2 = Ec2()
    ec2.refuse = [said("UnauthorizedOperation", f"not authorized on instance/{i}", 403) for i in ids]
    told = machines(ec2).stop_all([(launch, "request") for launch in of_one_each(ids)])
    assert {type(error) for error in told} == {errors.AccessError}
    assert ec2.calls("end") == 5


@pytest.mark.parametrize(
    ("refused", "ended"), [(3, True), (4, False)], ids=["three times", "for longer than on_kill has"]
)
def test_a_throttled_stop_is_asked_again(refused: int, ended: bool) -> None:
    ec2 = Ec2()
    ec2.refuse = [THROTTLED] * refused
    (told,) = machines(ec2).stop_all([(replace(EC2, ids=("i-1",)), "request")])
    assert (isinstance(told, errors.LaunchError), ec2.ended == {"i-1"}) == (not ended, ended)


def test_what_takes_from_which_bucket() -> None:
    ec2 = Ec2()
    full = {name: pacing.bucket(ec2, name) for name in pacing.LIMITS}
    for each in full.values():
        each._clock, each._seen = (lambda: 0.0), 0.0
    machines(ec2).stop_all([(launch, "request") for launch in of_one_each([f"i-{n}" for n in range(300)])])
    used = {name: round(each.limit.burst - each._tokens) for name, each in full.items()}
    taken = {"looks at EC2": 2, "tags in EC2": 2, "terminations in EC2": 2, "instances terminated": 300}
    assert {name: count for name, count in used.items() if count} == taken


def test_without_a_client_it_is_said_why() -> None:
    def client(service: str, **_: Any) -> Any:
        raise errors.SpecError("aws_conn_id: there is no connection 'aws_jobs'")

    with pytest.raises(errors.SpecError, match="aws_jobs"):
        Ec2Launcher(client).stop_all([(replace(EC2, ids=("i-1",)), "request")])


# --- ECS


class Ecs:
    """A client that ends tasks, a few at a time; `refuse`: what it says of one."""

    def __init__(self, **refuse: Exception) -> None:
        self.refuse, self.ended = refuse, Counter[str]()
        self.lock = threading.Lock()
        self.meta = SimpleNamespace(region_name="eu-west-1", endpoint_url=f"https://ecs-{id(self)}")

    def stop_task(self, cluster: str, task: str, reason: str) -> None:
        if task in self.refuse:
            raise self.refuse[task]
        with self.lock:
            self.ended[f"{task} {reason.removeprefix('airflow_transient: ')}"] += 1


def test_tasks_of_many_launches_are_ended_one_call_each_and_errors_stay_apart() -> None:
    ecs = Ecs(b=said("AccessDeniedException"), c=EndpointConnectionError(endpoint_url="https://ecs"))
    hands = EcsLauncher(lambda service, **_: ecs, sleep=lambda seconds: None)
    launches = [replace(ECS, ids=ids) for ids in (("a",), ("b", "d"), ("c",), ("a",))]
    told = hands.stop_all(list(zip(launches, ("deadline", "request", "request", "request"), strict=True)))
    assert [type(error) for error in told] == [type(None), errors.AccessError, errors.LaunchError, type(None)]
    assert ecs.ended == {"a deadline": 1, "d request": 1}


# --- what comes together is sent together


class Hands(FakeLauncher):
    """A launcher that writes down how many it was asked to stop at once."""

    def __init__(self, *errors: Exception | None) -> None:
        super().__init__()
        self.batches: list[list[tuple[str, str]]] = []
        self.errors = list(errors)

    def stop_all(self, stops: Sequence[tuple[Launch, str]]) -> list[Exception | None]:
        self.batches.append([(launch.ids[0], why) for launch, why in stops])
        return self.errors or [None] * len(stops)


def test_what_comes_together_is_one_batch_and_each_knows_its_own_end() -> None:
    hands = Hands(None, errors.LaunchError("throttled"), None)
    place = Stops(lambda: hands, nobody)
    asked = [place.stop(launch, "deadline") for launch in of_one_each(["i-0", "i-1", "i-2"])]
    assert [type(future.exception(5)) for future in asked] == [type(None), errors.LaunchError, type(None)]
    assert hands.batches == [[("i-0", "deadline"), ("i-1", "deadline"), ("i-2", "deadline")]]


def test_what_comes_while_a_batch_is_on_its_way_is_the_next() -> None:
    hands, gate, begun = Hands(), threading.Event(), threading.Event()
    stop_all = hands.stop_all

    def slow(stops: Any) -> Any:
        begun.set()
        assert gate.wait(10)
        return stop_all(stops)

    hands.stop_all = slow  # type: ignore[method-assign]
    place, launches = Stops(lambda: hands, nobody), of_one_each([f"i-{n}" for n in range(9)])
    first = place.stop(launches[0])
    assert begun.wait(10)
    others = [place.stop(launch) for launch in launches[1:]]
    gate.set()
    assert [future.result(10) for future in (first, *others)] == [None] * 9
    assert [len(batch) for batch in hands.batches] == [1, 8]


def test_those_that_keep_coming_are_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 0.0, *(n / 10 for n in range(100))])
    monkeypatch.setattr(stops.time, "monotonic", lambda: next(moments))
    slept: list[float] = []
    place = Stops(Hands, nobody)
    monkeypatch.setattr(stops.time, "sleep", lambda seconds: (slept.append(seconds), setattr(place, "_last", 99.0)))
    place._gather()
    assert 1 < len(slept) <= stops.AT_MOST * 10 + 1


@pytest.mark.parametrize("launcher", [lambda: 1 / 0, lambda: SimpleNamespace()], ids=["no launcher", "no verb"])
def test_whatever_keeps_a_batch_from_being_sent_is_said_to_each_and_to_no_later_one(launcher: Any) -> None:
    made = iter([launcher, Hands])
    place = Stops(lambda: next(made)(), nobody)
    asked = [place.stop(launch) for launch in of_one_each(["i-0", "i-1"])]
    assert all(future.exception(5) is not None for future in asked)
    assert place.stop(replace(EC2, ids=("i-2",))).result(5) is None


def test_a_stop_that_was_begun_is_called_off_by_nobody() -> None:
    hands = Hands()
    place = Stops(lambda: hands, nobody)

    async def cancelled() -> None:
        future = asyncio.wrap_future(place.stop(replace(EC2, ids=("i-0",))))
        future.cancel()
        await asyncio.sleep(0)

    asyncio.run(cancelled())
    assert place.stop(replace(EC2, ids=("i-1",))).result(5) is None
    assert [each for batch in hands.batches for each in batch] == [("i-0", "request"), ("i-1", "request")]


def test_credentials_that_were_refused_are_made_anew_once_a_minute() -> None:
    """A run that is cleared leaves no look that would."""

    class Denied(FakeLauncher):
        def stop_all(self, stops: Any) -> Any:
            return [errors.AccessError("expired")] * len(stops)

    renewed: list[int] = []
    place = Stops(Denied, lambda: renewed.append(1))
    for each in of_one_each(["i-0", "i-1"]):
        with pytest.raises(errors.AccessError):
            place.stop(each).result(10)
    assert renewed == [1]


def test_where_no_thread_can_be_started_that_is_said_and_the_next_stop_is_sent() -> None:
    hands = FakeLauncher()
    place, begin = Stops(lambda: hands, nobody), ["no more threads"]
    submit = place._pool.submit

    def refusing(act: Any) -> Any:
        if begin:
            raise RuntimeError(begin.pop())
        return submit(act)

    place._pool.submit = refusing  # type: ignore[method-assign]
    first, second = (place.stop(each) for each in of_one_each(["i-0", "i-1"]))
    assert "no more threads" in str(first.exception(10))
    assert second.result(10) is None
