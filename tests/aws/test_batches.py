"""One look at many: how many calls it takes, what it reads of jobs, and what its answers mean for each wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_transient.aws import ec2_looks, pacing, polling
from airflow_transient.aws.ec2 import Ec2Launcher
from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.aws.pacing import Limit, account_of, bucket, read_limits
from airflow_transient.aws.polling import Followed, LaunchLook, Waited, look_at_lines
from airflow_transient.core.cadence import QUICK, Looked
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.ecs.terms import Terms
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Outcome, Phase
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
            found = [{"InstanceId": i, "State": {"Name": self.states[i]}} for i in known[start : start + 2]]
            yield {"Reservations": [{"Instances": [each]} for each in found]}

    def head_bucket(self, Bucket: str) -> Any:
        return {"BucketRegion": "eu-west-1"}

    def get_object(self, Bucket: str, Key: str) -> Any:
        self.asked[Key.rpartition("/")[2]] += 1
        if Key not in self.objects:
            raise said("NoSuchKey", 404)
        return {"Body": BytesIO(self.objects[Key].encode())}

    def get_console_output(self, **_: Any) -> Any:
        self.asked["console"] += 1
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


# --- what a look means for each wait


class Stops(Executor):
    """Stops that are done when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], str, Future[None]]] = []

    def submit(self, stop: Any, /, launch: Any, why: str) -> Any:  # type: ignore[override]
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
        pytest.param(UP, HOUR + timedelta(seconds=1), 15, float("inf"), id="past it"),
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


@pytest.mark.parametrize("eyes", [Eyes(RuntimeError("x")), Eyes(Looked([(UP,)], denied=True))], ids=["fails", "denied"])
def test_credentials_are_made_anew_and_not_at_every_look(
    stops: Stops, monkeypatch: pytest.MonkeyPatch, eyes: Any
) -> None:
    renewed: list[int] = []
    look, wait = looks(eyes, stops, renewed), waited()
    monkeypatch.setattr(polling, "RENEW_EVERY", -1.0)
    look([wait], T0)
    monkeypatch.setattr(polling, "RENEW_EVERY", 60.0)
    look([wait], T0)
    assert renewed == [1]


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


def test_new_lines_are_told_and_none_are_no_news() -> None:
    each = [followed("a"), followed(), followed(RuntimeError("x"), "later")]
    assert list(look_at_lines(each, T0).answers) == [["a"], None, None]
    assert list(look_at_lines(each, T0).answers) == [None, None, ["later"]]


def test_what_there_is_no_time_for_is_first_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    each = [followed("a", "c"), followed("b")]
    each[0].read_at = 1.0
    moments = iter([0.0, 0.0, 9.0, 9.0] + [10.0] * 20)
    monkeypatch.setattr(polling.time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(polling, "LINES_LOOK", 5.0)
    assert list(look_at_lines(each, T0).answers) == [None, ["b"]]
    assert each[0].pause.seconds == 1.0
    assert list(look_at_lines(each, T0).answers) == [["a"], None]


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
        *((f'{{"Fargate tasks": {pair}}}', "say [at once, a second]") for pair in ("3", "[1]", "[0, 1]", "[1, 0]")),
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
    assert bucket(object(), "Fargate tasks").limit == Limit(7, 7)
    assert bucket(object(), "looks at logs").limit == pacing.LIMITS["looks at logs"]


def test_every_limit_is_named_where_it_is_configured() -> None:
    told = get_provider_info()["config"]["transient"]["options"]["limits"]["description"]
    assert [name for name in pacing.LIMITS if name not in told] == []
