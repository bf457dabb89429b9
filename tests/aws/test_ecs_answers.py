"""What ECS may answer, clear and unclear, to a burst of calls; how fast it is asked; what is read of its logs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from airflow_transient import errors
from airflow_transient.aws import awslogs, pacing, sizing
from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.aws.ecs_calls import NO_ANSWER, TOO_MANY
from airflow_transient.aws.ecs_reads import definition_of, sighting_of
from airflow_transient.aws.launcher import Refused
from airflow_transient.aws.pacing import Bucket, Limit
from airflow_transient.aws.sizing import live_tasks, size_burst
from airflow_transient.core.depth import Depth, Live
from airflow_transient.core.ecs.requests import calls, started_by
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.ecs.terms import LogPlace, Terms
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import Launch, LaunchKey, Owner
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import Phase

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
HOUR = T0 + timedelta(hours=1)
PLACE = LogPlace("main", "/jobs", "work", "eu-west-1")
TERMS = Terms("default", ("main",), 2100, 3600, need=1, wanted=1, logs=(PLACE,))
LAUNCH = Launch("ecs", "t0-1", "n0", (), "eu-west-1", T0, T0 + timedelta(minutes=35), HOUR, ecs=TERMS)
ARN = "arn:aws:ecs:eu-west-1:123456789012:"
ARGUMENTS = {"cluster": "default", "taskDefinition": f"{ARN}task-definition/work:1", "startedBy": "tests/dag/task"}
_clouds = itertools.count()


def request(wanted: int = 25, **arguments: Any) -> Request:
    return Request(LAUNCH, Pool(market="FARGATE"), "t0-1-1", wanted, {**ARGUMENTS, **arguments})


def said(code: str, message: str = "…", status: int = 400, **more: Any) -> ClientError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return ClientError(answer, "RunTask")  # type: ignore[arg-type]


TIMEOUT = ReadTimeoutError(endpoint_url="https://ecs")
UNREACHABLE = EndpointConnectionError(endpoint_url="https://ecs")
THROTTLED = said("ThrottlingException", "Rate exceeded")
DISGUISED = said("InvalidParameterException", "Throttling: Rate exceeded (Service: AmazonEC2; Status Code: 503)")
PROVISIONING = said("ClientException", "You've reached the limit on the number of tasks in the PROVISIONING state")
DENIED = said("AccessDeniedException", "not authorized to perform: ecs:RunTask")
CAME, LOST, EMPTY = "all came", "all came, and the answer was lost", "an empty answer"


def part(came: int, *reasons: str) -> tuple[int, tuple[str, ...]]:
    """So many tasks came, the others failed for these reasons."""
    return came, reasons


class Ecs:
    """A client whose answers are written down, for each call of a burst by its number; else everything comes."""

    def __init__(self, answers: dict[int, Sequence[Any]] | None = None, **shown: Any) -> None:
        self.answers = {number: list(each) for number, each in (answers or {}).items()}
        self.started: dict[str, list[str]] = {}
        self.sent: list[dict[str, Any]] = []
        self.shown, self.looked = shown, [0]
        self.stopped: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        # A place of its own, so that its buckets are full.
        self.meta = SimpleNamespace(region_name="eu-west-1", endpoint_url=f"https://ecs-{next(_clouds)}")

    def of_call(self, number: int) -> list[dict[str, Any]]:
        return [call for call in self.sent if call["clientToken"].endswith(f"-{number}")]

    def run_task(self, **call: Any) -> Any:
        with self.lock:
            self.sent.append(call)
            waiting = self.answers.get(int(call["clientToken"].rpartition("-")[2]))
            answer = waiting.pop(0) if waiting else CAME
        if isinstance(answer, Exception):
            raise answer
        if answer is EMPTY:
            return {"tasks": [], "failures": []}
        came, reasons = answer if isinstance(answer, tuple) else (call["count"], ())
        token = call["clientToken"]
        arns = self.started.setdefault(token, [f"{ARN}task/default/{token}.{n}" for n in range(came)])
        if answer is LOST:
            raise TIMEOUT
        return {"tasks": [{"taskArn": arn} for arn in arns], "failures": [{"arn": "a", "reason": r} for r in reasons]}

    def describe_tasks(self, cluster: str, tasks: list[str]) -> Any:
        self.looked.append(len(tasks))
        answer = self.shown.get("described", {})
        if isinstance(answer, Exception):
            raise answer
        known = [{"taskArn": f"{ARN}task/default/{t.rpartition('/')[2]}", **answer[t]} for t in tasks if t in answer]
        return {"tasks": known, "failures": [f for f in self.shown.get("failures", ()) if f["arn"] in tasks]}

    def get_paginator(self, name: str) -> Any:
        assert name == "list_tasks"
        return self

    def paginate(self, cluster: str, **filters: str) -> Any:
        listed = self.shown.get("listed", {})
        answer = listed.get(filters.get("desiredStatus", "RUNNING"), [])
        if isinstance(answer, Exception):
            raise answer
        return [{"taskArns": page} for page in (answer[:2], answer[2:])]

    def stop_task(self, cluster: str, task: str, reason: str) -> None:
        waiting = self.shown.get("stops", {}).get(task)
        if waiting and isinstance(answer := waiting.pop(0), Exception):
            raise answer
        self.stopped.append((task, reason))


class Wakeless(list[float]):
    """A sleep that is only written down."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def launcher(ecs: Ecs, sleep: Any = None) -> EcsLauncher:
    return EcsLauncher(lambda service, **_: ecs, sleep=Wakeless() if sleep is None else sleep)


def all_of(ecs: Ecs) -> list[str]:
    return sorted(arn.rpartition("/")[2] for arns in ecs.started.values() for arn in arns)


# --- RunTask: what is asked again


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([CAME], id="at once"),
        pytest.param([LOST, CAME], id="the answer was lost"),
        pytest.param([LOST, LOST, LOST, CAME], id="three answers were lost"),
        pytest.param([UNREACHABLE, UNREACHABLE, CAME], id="the network was down"),
        pytest.param([said("ServerException", "Service Unavailable", 500), CAME], id="a 500 that says nothing"),
        pytest.param([said("Novelty", status=503), CAME], id="an unknown 5xx"),
        pytest.param([THROTTLED] * 3 + [CAME], id="throttled three times"),
        pytest.param([DISGUISED] * 3 + [CAME], id="throttled in EC2's words"),
        pytest.param([PROVISIONING] * len(TOO_MANY) + [CAME], id="as many as are placed at once, for a while"),
        pytest.param([LOST, THROTTLED, CAME], id="lost, then throttled"),
    ],
)
def test_what_is_no_answer_is_asked_again_with_the_same_bytes(answers: list[Any]) -> None:
    ecs = Ecs({1: answers})
    launch = launcher(ecs).launch(request(25))
    assert sorted(launch.ids) == all_of(ecs)
    assert len(launch.ids) == 25
    assert ecs.of_call(1) == [list(calls(request(25)))[1]] * len(answers)
    assert (len(ecs.of_call(0)), len(ecs.of_call(2))) == (1, 1)


def test_members_are_in_the_order_of_their_calls() -> None:
    ecs = Ecs({0: [TIMEOUT, TIMEOUT, CAME]})
    assert launcher(ecs).launch(request(25)).ids == tuple(
        f"t0-1-1-{number}.{n}" for number, count in enumerate((10, 10, 5)) for n in range(count)
    )


@pytest.mark.parametrize(
    ("answer", "pauses"),
    [(TIMEOUT, NO_ANSWER), (THROTTLED, TOO_MANY)],
    ids=["no answer", "too many"],
)
def test_the_pauses_are_of_random_length_and_come_to_an_end(answer: Exception, pauses: Sequence[float]) -> None:
    ecs, slept = Ecs({0: [answer] * 50}), Wakeless()
    words = "1 task: ThrottlingException" if answer is THROTTLED else "no clear answer to 1 of 1 calls"
    with pytest.raises(errors.LaunchError, match=words):
        launcher(ecs, slept).launch(request(1))
    assert len(ecs.sent) == len(pauses) + 1
    assert all(0.5 * pause <= got < 1.5 * pause for got, pause in zip(slept, pauses, strict=True))


def test_botocore_does_not_ask_again_by_itself() -> None:
    asked: list[Any] = []
    ecs = Ecs()

    def client(service: str, **config: Any) -> Ecs:
        asked.append(config)
        return ecs

    EcsLauncher(client).launch(request(1))
    assert asked == [{"retries": {"mode": "standard", "total_max_attempts": 1}}]


# --- RunTask: a no


@pytest.mark.parametrize(
    ("answer", "scope"),
    [
        pytest.param(DENIED, Scope.ACCESS, id="not allowed"),
        pytest.param(NoCredentialsError(), Scope.ACCESS, id="no credentials"),
        pytest.param(said("ExpiredTokenException", "expired"), Scope.ACCESS, id="expired"),
        pytest.param(said("ClusterNotFoundException", "Cluster not found."), Scope.SPEC, id="no cluster"),
        pytest.param(said("InvalidParameterException", "No Container Instances"), Scope.SPEC, id="no instances"),
        pytest.param(said("ClientException", "Capacity is unavailable at this time"), Scope.POOL, id="no capacity"),
        pytest.param(part(0, "RESOURCE:CPU"), Scope.POOL, id="E1: no CPU"),
        pytest.param(part(0, "AGENT"), Scope.AGAIN, id="an agent that is away"),
        pytest.param(EMPTY, Scope.AGAIN, id="E1b: an empty answer"),
    ],
)
def test_a_definite_no_is_refused_at_once(answer: Any, scope: Scope) -> None:
    ecs = Ecs({0: [answer]})
    with pytest.raises(Refused) as refusal:
        launcher(ecs).launch(request(1))
    assert (refusal.value.scope, refusal.value.came) == (scope, None)
    assert len(ecs.sent) == 1


def test_what_came_of_a_partly_refused_burst_is_kept() -> None:
    """E1: the provider's operator raises for any failure, and the tasks that did start are orphaned."""
    ecs = Ecs({1: [part(7, *["RESOURCE:MEMORY"] * 3)]})
    with pytest.raises(Refused, match=r"^3 tasks: RESOURCE:MEMORY$") as refusal:
        launcher(ecs).launch(request(25))
    assert refusal.value.scope is Scope.POOL
    assert sorted(refusal.value.came.ids) == all_of(ecs)
    assert len(refusal.value.came.ids) == 22


def test_what_came_joins_what_was_there_before() -> None:
    before = replace(request(10), launch=LAUNCH.with_ids(("earlier",)))
    with pytest.raises(Refused) as refusal:
        launcher(Ecs({0: [part(1, *["RESOURCE:ENI"] * 9)]})).launch(before)
    assert refusal.value.came.ids == ("earlier", "t0-1-1-0.0")


def test_one_call_that_is_not_allowed_leaves_the_others_known() -> None:
    ecs = Ecs({1: [DENIED]})
    with pytest.raises(Refused, match="10 tasks: AccessDeniedException") as refusal:
        launcher(ecs).launch(request(25))
    assert refusal.value.scope is Scope.ACCESS
    assert sorted(refusal.value.came.ids) == all_of(ecs)
    assert len(refusal.value.came.ids) == 15


@pytest.mark.parametrize(
    ("answers", "scope", "words"),
    [
        pytest.param(
            {0: [part(7, "RESOURCE:CPU", "RESOURCE:CPU", "LOCATION")]},
            Scope.POOL,
            "3 tasks: RESOURCE:CPU; LOCATION",
            id="one full instance, and one elsewhere",
        ),
        pytest.param(
            {0: [part(0, "LOCATION")], 1: [part(0, "LOCATION")]},
            Scope.SPEC,
            "20 tasks: LOCATION - no container instance is in a zone that the placement asks for",
            id="nothing but the author's",
        ),
        pytest.param(
            {0: [part(9, "AGENT")], 1: [part(8, "RESOURCE:ENI", "RESOURCE:ENI")]},
            Scope.POOL,
            "2 tasks: RESOURCE:ENI; 1 task: AGENT",
            id="two calls",
        ),
        pytest.param({0: [part(9, "LOCATION")]}, Scope.POOL, "1 task: LOCATION", id="the author's, beside what came"),
        pytest.param({0: [EMPTY], 1: [DENIED]}, Scope.ACCESS, "10 tasks: AccessDeniedException", id="a no and nothing"),
    ],
)
def test_the_gravest_refusal_decides_and_is_told_first(answers: Any, scope: Scope, words: str) -> None:
    with pytest.raises(Refused) as refusal:
        launcher(Ecs(answers)).launch(request(20))
    assert refusal.value.scope is scope
    assert str(refusal.value).startswith(words)


def test_fewer_than_asked_without_a_reason_is_a_hiccup_beside_what_came() -> None:
    with pytest.raises(Refused, match="3 tasks: ECS gave no reason") as refusal:
        launcher(Ecs({0: [part(7)]})).launch(request(10))
    assert refusal.value.scope is Scope.AGAIN
    assert refusal.value.came is not None
    assert len(refusal.value.came.ids) == 7


# --- RunTask: unclear


@pytest.mark.parametrize(
    "second",
    [DENIED, NoCredentialsError(), said("InvalidParameterException"), said("ExpiredTokenException")],
    ids=["not allowed", "no credentials", "a 400", "expired"],
)
def test_after_an_unclear_answer_a_refused_call_proves_nothing(second: Exception) -> None:
    with pytest.raises(errors.LaunchError, match="no clear answer to 1 of 3 calls") as unclear:
        launcher(Ecs({1: [LOST, second]})).launch(request(25))
    assert not isinstance(unclear.value, Refused)


def test_the_same_holds_when_an_earlier_process_may_have_asked() -> None:
    with pytest.raises(errors.LaunchError) as unclear:
        launcher(Ecs({0: [DENIED]})).launch(request(1), again=True)
    assert not isinstance(unclear.value, Refused)


def test_no_room_after_an_unclear_answer_is_a_no_for_this_token() -> None:
    """ECS looks at the token first: had the first asking started anything, it would have been the answer."""
    with pytest.raises(Refused):
        launcher(Ecs({0: [TIMEOUT, part(0, "RESOURCE:CPU")]})).launch(request(1))


def test_an_unclear_call_outweighs_a_refused_one() -> None:
    """Taken for a refusal, the next attempt would launch once more what may be running."""
    with pytest.raises(errors.LaunchError) as unclear:
        launcher(Ecs({0: [LOST] * 9, 1: [part(0, *["RESOURCE:CPU"] * 10)]})).launch(request(20))
    assert not isinstance(unclear.value, Refused)


def test_the_next_process_asks_the_same_calls_and_starts_nothing_twice() -> None:
    ecs = Ecs({1: [LOST] * (len(NO_ANSWER) + 1)})
    with pytest.raises(errors.LaunchError):
        launcher(ecs).launch(request(25))
    before = all_of(ecs)
    launch = launcher(ecs).launch(Request.from_dict(request(25).to_dict()), again=True)
    assert sorted(launch.ids) == before == all_of(ecs)


def test_a_token_that_was_used_tells_what_it_has_started() -> None:
    found = said("ConflictException", resourceIds=[f"{ARN}task/default/x", f"{ARN}task/default/y"])
    ecs = Ecs({0: [found]})
    assert launcher(ecs).launch(request(2)).ids == ("x", "y")
    assert len(ecs.sent) == 1


@pytest.mark.parametrize("more", [{}, {"resourceIds": []}], ids=["not a word", "nothing"])
def test_a_token_that_was_used_for_nobody_says_what_launches_nothing(more: dict[str, Any]) -> None:
    """Taken for an answer without tasks, the next attempt would launch them again with another token."""
    with pytest.raises(errors.LaunchError, match="no clear answer") as unclear:
        launcher(Ecs({0: [said("ConflictException", **more)]})).launch(request(2))
    assert not isinstance(unclear.value, Refused)


# --- adopt


def task(name: str, launch: str | None = "t0-1-1", created: datetime = T0, **more: Any) -> dict[str, Any]:
    environment = [{"name": "TRANSIENT_LAUNCH", "value": launch}] if launch else []
    overrides = {"containerOverrides": [{"name": "main", "environment": environment}]}
    return {f"{ARN}task/default/{name}": {"overrides": overrides, "createdAt": created, **more}}


def listed(running: Sequence[str], stopped: Sequence[str] = ()) -> dict[str, Any]:
    return {
        status: [f"{ARN}task/default/{name}" for name in names]
        for status, names in (("RUNNING", running), ("STOPPED", stopped))
    }


def test_the_rest_is_launched_from_the_revision_that_the_first_part_was() -> None:
    asked: list[str] = []
    pinned = f"{ARN}task-definition/work:7"

    def describe(taskDefinition: str) -> Any:
        asked.append(taskDefinition)
        said = {"taskDefinitionArn": pinned, "family": "work", "containerDefinitions": [{"name": "main"}]}
        return {"taskDefinition": said}

    ecs = SimpleNamespace(meta=SimpleNamespace(region_name="eu-west-1"), describe_task_definition=describe)
    hands, spec = EcsLauncher(lambda service: ecs), replace(EcsSpec.of(task_definition="work"), count=2)
    key, pool = LaunchKey(Owner("tests", "dag", "run", "task"), "t0"), spec.pools()[0]
    first = hands.prepare(spec, key, pool, T0)
    rest = hands.prepare(spec, key, pool, T0, first.launch.with_ids(("a",)))
    assert asked == ["work", pinned]
    assert (first.wanted, rest.wanted) == (2, 1)


def test_what_was_launched_is_found_running_and_ended_and_nobody_elses() -> None:
    described = {
        **task("a", created=T0 + timedelta(seconds=2)),
        **task("b", created=T0),
        **task("c", created=T0 + timedelta(seconds=1)),
        **task("another", "t9-1-1"),
        **task("a-service", None),
    }
    ecs = Ecs(listed=listed(["a", "another"], ["b", "c", "a", "a-service"]), described=described)
    assert launcher(ecs).adopt(request()).ids == ("b", "c", "a")  # type: ignore[union-attr]


def test_what_is_listed_late_is_waited_for() -> None:
    ecs, slept = Ecs(listed=listed([])), Wakeless()

    def appears(seconds: float) -> None:
        slept(seconds)
        if len(slept) == 2:
            ecs.shown = {"listed": listed(["a"]), "described": task("a")}

    assert launcher(ecs, appears).adopt(request()).ids == ("a",)  # type: ignore[union-attr]


def test_all_of_them_are_waited_for() -> None:
    ecs, slept = Ecs(listed=listed(["a"]), described=task("a")), Wakeless()

    def appears(seconds: float) -> None:
        slept(seconds)
        ecs.shown = {"listed": listed(["a", "b"]), "described": {**task("a"), **task("b")}}

    assert launcher(ecs, appears).adopt(request(2)).ids == ("a", "b")  # type: ignore[union-attr]
    assert len(slept) == 1


def test_what_was_never_started_is_not_found() -> None:
    assert launcher(Ecs()).adopt(request()) is None


@pytest.mark.parametrize(
    ("failure", "error"),
    [(THROTTLED, errors.LaunchError), (UNREACHABLE, errors.LaunchError), (DENIED, errors.AccessError)],
    ids=["throttled", "unreachable", "not allowed"],
)
def test_without_an_answer_nothing_is_known(failure: Exception, error: type[Exception]) -> None:
    with pytest.raises(error):
        launcher(Ecs(listed={"RUNNING": failure})).adopt(request())


# --- look


@pytest.mark.parametrize(
    "failure",
    [THROTTLED, said("ServerException", status=500), said("ExpiredTokenException"), UNREACHABLE, NoCredentialsError()],
    ids=["E2: throttled", "E2d: a 500", "E2e: expired", "unreachable", "no credentials"],
)
def test_a_look_that_fails_is_unknown(failure: Exception) -> None:
    (seen,) = launcher(Ecs(described=failure)).observe(LAUNCH.with_ids(("a",)), T0)
    assert (seen.phase, seen.absent) == (Phase.UNKNOWN, False)


def test_a_hundred_are_looked_at_in_a_call() -> None:
    ids = tuple(f"t{n}" for n in range(250))
    ecs = Ecs(described={name: {"lastStatus": "RUNNING"} for name in ids})
    seen = launcher(ecs).observe(LAUNCH.with_ids(ids), T0)
    assert ecs.looked[1:] == [100, 100, 50]
    assert [s.member for s in seen] == list(ids)


@pytest.mark.parametrize(
    ("shown", "phase", "absent"),
    [
        pytest.param({}, Phase.UNKNOWN, True, id="E2f: nothing is said of it"),
        pytest.param({"failures": [{"arn": "a", "reason": "MISSING"}]}, Phase.UNKNOWN, True, id="MISSING"),
        pytest.param({"failures": [{"arn": "a", "reason": "ELSE"}]}, Phase.UNKNOWN, False, id="another failure"),
        pytest.param(
            {"described": {"a": {"lastStatus": "NOVELTY"}}}, Phase.UNKNOWN, False, id="a status we do not know"
        ),
        pytest.param({"described": {"a": {}}}, Phase.UNKNOWN, False, id="no status"),
        pytest.param({"described": {"a": {"lastStatus": "PENDING"}}}, Phase.STARTING, False, id="PENDING"),
        pytest.param({"described": {"a": {"lastStatus": "STOPPING"}}}, Phase.RUNNING, False, id="STOPPING"),
        pytest.param({"described": {"a": {"lastStatus": "DELETED"}}}, Phase.ENDED, False, id="DELETED"),
    ],
)
def test_what_a_look_shows(shown: dict[str, Any], phase: Phase, absent: bool) -> None:
    (seen,) = launcher(Ecs(**shown)).observe(LAUNCH.with_ids(("a",)), T0)
    assert (seen.phase, seen.absent) == (phase, absent)


def test_a_task_is_seen_with_all_that_decides() -> None:
    seen = sighting_of(
        "a",
        {
            "lastStatus": "STOPPED",
            "desiredStatus": "STOPPED",
            "stopCode": "UserInitiated",
            "stoppedReason": "airflow_transient: deadline",
            "createdAt": T0,
            "pullStartedAt": T0,
            "startedAt": T0,
            "stoppedAt": HOUR,
            "launchType": "FARGATE",
            "capacityProviderName": "FARGATE_SPOT",
            "containers": [{"name": "main", "exitCode": 0}, {"name": "proxy", "reason": "OutOfMemoryError"}],
        },
    )
    assert (seen.phase, seen.reason, seen.stopped_by, seen.capacity) == (
        Phase.ENDED,
        "UserInitiated",
        "deadline",
        "FARGATE_SPOT",
    )
    assert [(c.name, c.exit_code, c.reason) for c in seen.containers] == [
        ("main", 0, ""),
        ("proxy", None, "OutOfMemoryError"),
    ]
    assert (seen.launched, seen.pulled, seen.started, seen.ended) == (T0, T0, T0, HOUR)
    assert seen.stopping


@pytest.mark.parametrize(
    "reason", ["airflow_transient: novelty", "request", "by airflow_transient: request", None], ids=str
)
def test_a_mark_that_is_not_ours_is_none(reason: str | None) -> None:
    assert sighting_of("a", {"lastStatus": "STOPPED", "stoppedReason": reason}).stopped_by is None


# --- end

NOT_FOUND = said("InvalidParameterException", "The referenced task was not found.")


@pytest.mark.parametrize(
    ("answers", "stopped"),
    [
        pytest.param([None], True, id="at once"),
        pytest.param([THROTTLED, THROTTLED, None], True, id="throttled"),
        pytest.param([NOT_FOUND], False, id="forgotten"),
        pytest.param([said("ClusterNotFoundException")], False, id="its cluster is gone"),
    ],
)
def test_a_stop_gets_through_or_was_not_needed(answers: list[Any], stopped: bool) -> None:
    ecs = Ecs(stops={"a": answers})
    launcher(ecs).stop(LAUNCH.with_ids(("a", "b")), "deadline")
    expected = {("b", "airflow_transient: deadline")} | ({("a", "airflow_transient: deadline")} if stopped else set())
    assert set(ecs.stopped) == expected


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (DENIED, errors.AccessError, "ecs:StopTask"),
        (THROTTLED, errors.LaunchError, "Rate exceeded"),
        (UNREACHABLE, errors.LaunchError, "ecs:StopTask"),
        (said("InvalidParameterException", "Invalid reason"), errors.SpecError, "Invalid reason"),
    ],
    ids=["not allowed", "throttled for good", "unreachable", "a 400"],
)
def test_a_stop_that_fails_is_told_and_the_others_are_stopped(
    answer: Exception, error: type[Exception], words: str
) -> None:
    ecs = Ecs(stops={"a": [answer] * 9})
    with pytest.raises(error, match=words):
        launcher(ecs).stop(LAUNCH.with_ids(("a", "b", "c")))
    assert {name for name, _ in ecs.stopped} == {"b", "c"}


def test_nothing_to_stop_asks_nothing() -> None:
    EcsLauncher(lambda *_, **__: pytest.fail("asked for a client")).stop(LAUNCH)


# --- how fast


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def bucket(name_or_limit: Any, clock: Clock) -> Bucket:
    limit = pacing.LIMITS[name_or_limit] if isinstance(name_or_limit, str) else name_or_limit
    return Bucket(limit, clock, clock.sleep)


def test_five_hundred_fargate_tasks_take_the_documented_floor_and_a_tenth_at_most() -> None:
    clock = Clock()
    of_calls, of_tasks = bucket("Fargate RunTask calls", clock), bucket("Fargate tasks", clock)
    for _ in range(50):
        of_calls.take()
        of_tasks.take(10)
    floor = pacing.LIMITS["Fargate tasks"].floor_seconds(500)
    assert floor == 20.0
    assert floor <= clock.now <= floor * 1.1


def test_takers_at_once_wait_one_after_the_other() -> None:
    """Sixteen threads reserve before any has slept: the debts add up, nobody is let through twice."""
    slept = Wakeless()
    of_tasks = Bucket(pacing.LIMITS["Fargate tasks"], lambda: 0.0, slept)
    threads = [threading.Thread(target=of_tasks.take, args=(10,)) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slept) == pytest.approx([0.5 * n for n in range(1, 41)])


def test_a_bucket_refills_up_to_its_burst_and_no_further() -> None:
    clock = Clock()
    full = bucket(Limit(5, 10), clock)
    full.take(5)
    clock.sleep(60)
    before = clock.now
    full.take(5)
    assert clock.now == before
    full.take(1)
    assert clock.now == pytest.approx(before + 0.1)


def test_a_drained_bucket_is_empty_and_keeps_its_debts() -> None:
    clock = Clock()
    drained = bucket(Limit(5, 10), clock)
    drained.drain()
    drained.take()
    assert clock.now == pytest.approx(0.1)
    owing = Bucket(Limit(5, 10), lambda: 0.0, slept := Wakeless())
    owing.take(10)
    owing.drain()
    owing.take(1)
    assert slept == pytest.approx([0.5, 0.6])


def test_buckets_belong_to_the_place_that_is_asked() -> None:
    here, there = Ecs(), Ecs()
    assert pacing.bucket(here, "Fargate tasks") is pacing.bucket(here, "Fargate tasks")
    assert pacing.bucket(here, "Fargate tasks") is not pacing.bucket(there, "Fargate tasks")
    assert pacing.bucket(here, "Fargate tasks") is not pacing.bucket(here, "Fargate RunTask calls")


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        ({"launchType": "FARGATE"}, {"Fargate RunTask calls": 3, "Fargate tasks": 25}),
        ({"capacityProviderStrategy": [{}]}, {"Fargate RunTask calls": 3, "Fargate tasks": 25}),
        ({"launchType": "EC2"}, {"changes of a cluster": 3}),
    ],
    ids=["Fargate", "a provider", "instances"],
)
def test_each_kind_of_capacity_takes_from_its_own_buckets(arguments: dict[str, Any], taken: dict[str, int]) -> None:
    ecs = Ecs()
    full = {name: pacing.bucket(ecs, name) for name in pacing.LIMITS}
    for each in full.values():
        each._clock = lambda: 0.0
        each._seen = 0.0
    launcher(ecs).launch(request(25, **arguments))
    used = {name: round(each.limit.burst - each._tokens) for name, each in full.items()}
    assert {name: count for name, count in used.items() if count} == taken


def test_after_a_throttled_call_the_bucket_is_taken_for_empty() -> None:
    ecs = Ecs({0: [THROTTLED, CAME]})
    of_calls = pacing.bucket(ecs, "Fargate RunTask calls")
    slept = Wakeless()
    of_calls._clock, of_calls._seen, of_calls._sleep = (lambda: 0.0), 0.0, slept
    launcher(ecs).launch(request(1))
    assert slept == pytest.approx([1 / 20])


# --- how many there are

OWNER = Owner("tests", "dag", "run", "task")


def live(ecs: Ecs, **words: Any) -> Live:
    return live_tasks(lambda service: ecs, EcsSpec.of(task_definition="work:7", **words), OWNER, HOUR)


def ago(seconds: float) -> datetime:
    return HOUR - timedelta(seconds=seconds)


def test_what_is_live_is_counted_by_how_far_it_is() -> None:
    up = {"desiredStatus": "RUNNING", "startedBy": started_by(OWNER)}
    described = {
        **task("placed", **up, lastStatus="PROVISIONING"),
        **task("pulling", **up, lastStatus="PENDING"),
        **task("new", **up, lastStatus="RUNNING", startedAt=ago(10)),
        **task("old", **up, lastStatus="RUNNING", startedAt=ago(600)),
        **task(
            "going", startedBy=started_by(OWNER), desiredStatus="STOPPED", lastStatus="STOPPING", startedAt=ago(600)
        ),
    }
    names = ["placed", "pulling", "new", "old", "going"]
    assert live(Ecs(listed=listed(names), described=described)) == Live(4, 3, 2, 1)


def test_what_has_just_ended_counts_where_a_queue_is_read() -> None:
    ours = {"desiredStatus": "STOPPED", "lastStatus": "STOPPED", "startedBy": started_by(OWNER)}
    described = {
        **task("just", **ours, startedAt=ago(60), stoppedAt=ago(5)),
        **task("short ago", **ours, startedAt=ago(600), stoppedAt=ago(60)),
        **task("long ago", **ours, startedAt=ago(900), stoppedAt=ago(600)),
        **task("never started", **ours, stoppedAt=ago(5)),
        **task("another job's", **{**ours, "startedBy": "other"}, startedAt=ago(60), stoppedAt=ago(5)),
        **task("a service's", **{**ours, "startedBy": "ecs-svc/1"}, startedAt=ago(60), stoppedAt=ago(5)),
    }
    ecs = Ecs(listed=listed([], [arn.rpartition("/")[2] for arn in described]), described=described)
    assert live(ecs, queues="orders") == Live(0, 1, 0, 3)
    assert live(ecs, top_up=True) == Live()


def test_what_is_listed_and_not_to_be_described_yet_was_just_launched() -> None:
    up = task("a", desiredStatus="RUNNING", lastStatus="RUNNING", startedAt=ago(600))
    assert live(Ecs(listed=listed(["a", "b"]), described=up)) == Live(2, 1, 1)


def test_after_a_failure_what_nobody_can_see_yet_is_work_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "read_depths", lambda *_: [Depth("orders", 1, 2, 4)])
    spec = EcsSpec.of(task_definition="work", queues="orders", messages_per_task=1)
    sizes = [size_burst(lambda service: Ecs(), spec, OWNER, HOUR, again).count for again in (False, True)]
    assert sizes == [1, 7]


def test_what_ends_while_it_is_counted_is_counted_once() -> None:
    going = task("a", startedBy=started_by(OWNER), desiredStatus="STOPPED", startedAt=ago(60), stoppedAt=ago(1))
    assert live(Ecs(listed=listed(["a"], ["a"]), described=going), queues="orders") == Live(0, 1, 0, 1)


# --- what a task definition says

WEB = {"name": "main", "essential": True}
DRIVER = {"logDriver": "awslogs", "options": {"awslogs-group": "/jobs", "awslogs-stream-prefix": "work"}}


@pytest.mark.parametrize(
    ("log", "places"),
    [
        pytest.param(DRIVER, (PLACE,), id="awslogs"),
        pytest.param(
            {**DRIVER, "options": {**DRIVER["options"], "awslogs-region": "us-east-1"}},  # type: ignore[dict-item]
            (replace(PLACE, region="us-east-1"),),
            id="in another region",
        ),
        pytest.param({"logDriver": "awslogs", "options": {"awslogs-group": "/jobs"}}, (), id="without a prefix"),
        pytest.param({"logDriver": "splunk", "options": {}}, (), id="another driver"),
        pytest.param({}, (), id="none"),
    ],
)
def test_where_a_container_logs(log: dict[str, Any], places: tuple[LogPlace, ...]) -> None:
    said_of = {
        "taskDefinitionArn": f"{ARN}task-definition/work:1",
        "family": "work",
        "networkMode": "awsvpc",
        "containerDefinitions": [
            {"name": "main", "logConfiguration": log},
            {"name": "proxy", "essential": False},
        ],
    }
    definition = definition_of(said_of, "eu-west-1")
    assert definition.logs == places
    assert (definition.containers, definition.essential, definition.awsvpc) == (("main", "proxy"), ("main",), True)


# --- logs


class Logs:
    """Streams by name, read forward by a token that is the next line's number."""

    def __init__(self, **streams: Any) -> None:
        self.streams = {f"work/{name.replace('_', '/')}": lines for name, lines in streams.items()}
        self.asked: list[dict[str, Any]] = []

    def get_log_events(self, **asked: Any) -> Any:
        self.asked.append(asked)
        lines = self.streams.get(asked["logStreamName"], said("ResourceNotFoundException"))
        if isinstance(lines, Exception):
            raise lines
        assert asked["logGroupName"] == "/jobs"
        if not asked["startFromHead"]:
            assert "nextToken" not in asked, "a forward token wants startFromHead"
            shown, after = lines[-asked["limit"] :], len(lines)
        else:
            first = int(asked.get("nextToken", 0))
            shown = lines[first : first + asked["limit"]]
            after = first + len(shown)
        return {"events": [{"message": line} for line in shown], "nextForwardToken": str(after)}


def follower(logs: Logs, *ids: str, places: tuple[LogPlace, ...] = (PLACE,)) -> Any:
    launch = replace(LAUNCH, ids=ids or ("a",), ecs=replace(TERMS, logs=places))
    return EcsLauncher(lambda service, region_name: logs).follow(launch)


def test_new_lines_are_told_once_and_in_order() -> None:
    logs = Logs(main_a=["one\n", "two"])
    new_lines = follower(logs)
    assert new_lines() == ["one", "two"]
    assert new_lines() == []
    logs.streams["work/main/a"] += ["three"]
    assert new_lines() == ["three"]


def test_a_stream_of_many_lines_is_read_on_with_the_next_look() -> None:
    new_lines = follower(Logs(main_a=[str(n) for n in range(450)]))
    assert [len(new_lines()) for _ in range(4)] == [200, 200, 50, 0]


def test_a_stream_that_is_not_there_yet_says_nothing() -> None:
    logs = Logs()
    new_lines = follower(logs)
    assert new_lines() == []
    logs.streams["work/main/a"] = ["one"]
    assert new_lines() == ["one"]


@pytest.mark.parametrize(
    "failure",
    [THROTTLED, said("ServiceUnavailableException", status=503), UNREACHABLE],
    ids=["E3: throttled", "a 503", "unreachable"],
)
def test_a_hiccup_is_silent_and_loses_no_line(failure: Exception) -> None:
    logs = Logs(main_a=["one"])
    new_lines = follower(logs)
    assert new_lines() == ["one"]
    logs.streams["work/main/a"] = failure
    assert new_lines() == []
    logs.streams["work/main/a"] = ["one", "two"]
    assert new_lines() == ["two"]


def test_e3b_what_may_not_be_read_is_said_once_and_left_alone() -> None:
    logs = Logs(main_a=DENIED, main_b=DENIED)
    new_lines = follower(logs, "a", "b")
    (line,) = new_lines()
    assert "logs:GetLogEvents" in line
    assert (new_lines(), len(logs.asked)) == ([], 1)


def test_of_a_burst_the_first_three_are_followed_each_by_its_name() -> None:
    logs = Logs(**{f"main_{name}": [name] for name in "abcde"})
    new_lines = follower(logs, *"abcde")
    assert new_lines() == ["(the logs of 3 of 5 tasks follow)", "a main: a", "b main: b", "c main: c"]
    assert new_lines() == []


def test_before_the_first_line_nothing_is_said_of_those_that_are_not_followed() -> None:
    assert follower(Logs(), *"abcde")() == []


def test_of_two_containers_each_is_named() -> None:
    logs = Logs(main_a=["x"], proxy_a=["y"])
    assert follower(logs, "a", places=(PLACE, replace(PLACE, container="proxy")))() == ["a main: x", "a proxy: y"]


def test_without_a_log_group_nobody_is_asked() -> None:
    assert follower(logs := Logs(), "a", places=())() == []
    assert logs.asked == []
    assert awslogs.tail(lambda *_, **__: logs, replace(LAUNCH, ecs=None), "a") == ()


def tail(logs: Logs) -> tuple[str, ...]:
    return EcsLauncher(lambda service, region_name: logs).explain(LAUNCH.with_ids(("a",)), "a")


def test_the_tail_is_the_last_lines_under_a_title() -> None:
    title, *lines = tail(Logs(main_a=[f"{n}{'x' * 400}\n" for n in range(100)]))
    assert title == "--- the last lines of main (/jobs, work/main/a):"
    assert [line[:2] for line in lines] == [str(n) for n in range(80, 100)]
    assert {len(line) for line in lines} == {300}


@pytest.mark.parametrize("failure", [DENIED, THROTTLED, UNREACHABLE], ids=["not allowed", "throttled", "unreachable"])
def test_a_tail_that_cannot_be_read_says_so(failure: Exception) -> None:
    (line,) = tail(Logs(main_a=failure))
    assert "cannot be read" in line


def test_a_stream_without_lines_has_no_tail() -> None:
    assert tail(Logs(main_a=[])) == ()


def test_e11_a_stream_that_never_was_fails_nothing() -> None:
    (line,) = tail(Logs())
    assert "ResourceNotFoundException" in line
