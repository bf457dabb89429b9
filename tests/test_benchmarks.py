"""What the benchmarks stand on: a fake that answers as AWS does, figures that say what was recorded, one small run."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from benchmarks import billing, bursts, figures, meters, records, stock, targets, waits
from benchmarks.fake.process import FakeAws
from benchmarks.fake.world import instance_id, task_id
from benchmarks.waiting import Plan


@pytest.fixture(scope="module")
def aws() -> Iterator[FakeAws]:
    with FakeAws() as running:
        yield running


def client(aws: FakeAws, service: str) -> Any:
    return boto3.client(service, "eu-west-1", endpoint_url=aws.url, aws_access_key_id="a", aws_secret_access_key="b")


def test_a_task_runs_until_its_moment(aws: FakeAws) -> None:
    aws.door(fill={"ecs": 2}, end={task_id(1): time.monotonic()})
    answer = client(aws, "ecs").describe_tasks(tasks=[task_id(0), task_id(1), "f" * 32])
    assert [task["lastStatus"] for task in answer["tasks"]] == ["RUNNING", "STOPPED"]
    assert [container["exitCode"] for container in answer["tasks"][1]["containers"]] == [0]
    assert answer["failures"] == [{"arn": "f" * 32, "reason": "MISSING"}]
    assert aws.door().calls == {"DescribeTasks": 1}


def test_machines_come_in_pages_and_an_unknown_id_is_an_error_only_by_id(aws: FakeAws) -> None:
    aws.door(fill={"ec2": 3}, end={instance_id(2): time.monotonic()})
    ec2 = client(aws, "ec2")
    ids = [instance_id(number) for number in range(3)]
    pages = list(ec2.get_paginator("describe_instances").paginate(InstanceIds=ids, PaginationConfig={"PageSize": 2}))
    found = [i for page in pages for reservation in page["Reservations"] for i in reservation["Instances"]]
    assert [(i["InstanceId"], i["State"]["Name"]) for i in found] == list(
        zip(ids, ("running", "running", "terminated"), strict=True)
    )
    filtered = ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": [ids[0], "i-0"]}])
    assert len(filtered["Reservations"]) == 1
    with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
        ec2.describe_instances(InstanceIds=["i-0"])


def test_an_end_is_told_on_the_queue_and_given_again_until_it_is_deleted(aws: FakeAws) -> None:
    aws.door(fill={"ecs": 1}, emits=True, end={task_id(0): time.monotonic()})
    sqs, where = client(aws, "sqs"), {"QueueUrl": "https://queue"}
    [first] = sqs.receive_message(**where, WaitTimeSeconds=5)["Messages"]
    back = {"Id": "0", "ReceiptHandle": first["ReceiptHandle"], "VisibilityTimeout": 0}
    sqs.change_message_visibility_batch(**where, Entries=[back])
    [second] = sqs.receive_message(**where, WaitTimeSeconds=5)["Messages"]
    assert task_id(0) in second["Body"]
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"


def test_one_token_starts_once_and_what_is_faster_than_the_limits_is_refused(aws: FakeAws) -> None:
    aws.door(fill={}, limits=True)
    ecs = boto3.client(
        "ecs",
        "eu-west-1",
        endpoint_url=aws.url,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=boto3.session.Config(retries={"total_max_attempts": 1}),
    )
    once, again = (ecs.run_task(taskDefinition="work", count=2, clientToken="t")["tasks"] for _ in range(2))
    assert [task["taskArn"] for task in once] == [task["taskArn"] for task in again]
    for _ in range(9):
        ecs.run_task(taskDefinition="work", count=10)
    with pytest.raises(ClientError, match="ThrottlingException"):
        ecs.run_task(taskDefinition="work", count=100)
    assert aws.door().refused == {"RunTask tasks": 1}


def test_a_burst_within_the_limits_meets_no_refusal() -> None:
    told = bursts.burst("ecs", 20)
    assert (told["came"], told["calls"], told["refused"], told["floor"]) == (20, 2, 0, 0)


@pytest.mark.slow
@pytest.mark.airflow
def test_our_side_runs_from_the_first_look_to_the_last_end(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    plan = Plan("ours", "ecs", 12, 1, False, settle=0.5, rest=2, changes=4, spread=1, end_all=True)
    record = waits.run(plan)
    assert "gave_up" not in record, record
    assert len(record["changes"]["latencies"]) == 4
    assert record["end_all"]["told"] == 8
    assert 0 < record["rest"]["calls"]["DescribeTasks"] <= 90  # one call for all, once a second
    assert record["calls"]["DescribeTasks"] >= 3
    assert waits.is_sound({**record, "plan": {"kind": "ecs"}})


# --- from records to figures


def recorded(side: str, kind: str, waits: int, interval: float, calls: float, cpu: float, **more: Any) -> Any:
    look = {"ecs": "DescribeTasks", "ec2": "DescribeInstances"}[kind]
    stalls = {"max": 0.0, "long": 0, "very_long": 0, "garbage": 0, "max_without_garbage": 0.0}
    plan = {"side": side, "kind": kind, "waits": waits, "interval": interval, "events": False}
    return {
        "plan": plan,
        "start": {"kib": 30.0, "seconds": 1.0, "cpu": 1.0, "stalls": stalls},
        "rest": {"calls": {look: calls}, "cpu": cpu},
        "calls": {look: 3 * calls, "S3": 2.0 * waits} if kind == "ec2" else {look: 3 * calls},
        "changes": {"latencies": [float(n) for n in range(1, 21)], "changes": 20, "stalls": stalls},
        "on": "2026-01-01",
        **more,
    }


def test_what_the_stock_was_not_run_with_is_reckoned_and_marked() -> None:
    found = {
        "ours ec2 1000 60": recorded("ours", "ec2", 1000, 60.0, 5, 1.0),
        "stock ec2 200 60": recorded("stock", "ec2", 200, 60.0, 200, 12.0),
    }
    lines = list(waits.rows(found))
    assert [line[:6] for line in lines] == [
        ["200", "stock", "60 s", "200", "600 (+ 400 S3)", "12.00"],
        ["1,000", "**ours**", "60 s", "5", "15 (+ 2,000 S3)", "1.00"],
        ["1,000", "stock, reckoned", "60 s", "≈ 1,000", "–", "≈ 60"],
    ]
    told = [target.row() for target in targets.of_waits(found)]
    note = "(the stock's reckoned from 200 waits)"
    assert ["1,000 EC2 waits, equal interval: at most 1/100 of the stock's EC2 calls", f"1/200 {note}", "yes"] in told
    assert ["1,000 EC2 waits, equal interval: at most 1/20 of its CPU", f"1/60 {note}", "yes"] in told


def test_a_target_that_is_missed_or_was_not_measured_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    records.keep("looks", "ecs", {"client": 0.2, "whole": 0.25})
    found = {"ours ecs 5000 6": recorded("ours", "ecs", 5000, 6.0, 600, 33.0)}
    told = {row[0]: row[1:] for row in (target.row() for target in targets.of_waits(found))}
    assert told["5,000 waits on less than half a core (ECS, 6 s)"] == [
        "0.55 of a core",
        "**no**: 80% of a look is boto3's: to sign, send, receive and read",
    ]
    assert told["at most 40 KiB a wait (ECS)"] == ["not measured", "–"]


BY_POLLING = "p95 of change → event, by polling: at most the interval (ECS, 6 s)"
LATENCIES = [1.0] * 19
NONE = {"max": 0.0, "long": 0, "very_long": 0, "garbage": 0, "max_without_garbage": 0.0}


@pytest.mark.parametrize(
    ("run", "told"),
    [
        pytest.param({}, ["1.0 s", "yes"], id="all were seen"),
        pytest.param(
            {"changes": {"latencies": LATENCIES, "changes": 60, "stalls": NONE}},
            ["never (41 of 60 never seen)", "**no**"],
            id="what was never seen took for ever",
        ),
        pytest.param({"failures": 1, "failed": ["E: e"]}, ["not measured", "–"], id="a wait that failed"),
        pytest.param({"gave_up": "ended by signal 9", "rest": None}, ["not measured", "–"], id="the run gave up"),
        pytest.param({"rest": {"calls": {}, "cpu": 0.0}}, ["not measured", "–"], id="nobody looked"),
    ],
)
def test_a_run_that_failed_is_judged_as_nothing(run: dict[str, Any], told: list[str]) -> None:
    good = recorded("ours", "ecs", 1000, 6.0, 100, 1.0)
    good["changes"] = {"latencies": LATENCIES, "changes": 19, "stalls": NONE}
    said = targets.of_waits({"ours ecs 1000 6": {**good, **run}})
    assert {row[0]: row[1:] for row in (target.row() for target in said)}[BY_POLLING] == told


def test_a_stall_of_one_run_is_a_miss_and_a_run_that_is_missing_proves_nothing() -> None:
    names = [waits.name_of(plan) for plan in waits.plans(waits.wishes()) if plan.side == "ours"]
    found = {name: recorded("ours", name.split()[1], 1000, 6.0, 100, 1.0) for name in names}
    assert targets.of_stalls(found).row()[1:] == [f"none (all {len(names)} runs)", "yes"]
    worst = found[names[-1]]
    worst["end_all"] = {"stalls": {**NONE, "long": 1, "max_without_garbage": 0.08}}
    told = f"80 ms (1 of {len(names)} runs have any; the longest: `{names[-1]}`)"
    assert targets.of_stalls(found).row()[1:] == [told, "**no**"]
    worst["failures"] = 1
    assert targets.of_stalls(found).row()[1:] == [f"not measured: {len(names) - 1} of {len(names)} runs", "–"]


@pytest.mark.parametrize(
    ("count", "came", "told"),
    [
        pytest.param(500, 500, ["1.05 of it", "yes"], id="the whole burst"),
        pytest.param(500, 80, ["not measured: 80 of 500 were started", "–"], id="a part of it"),
        pytest.param(50, 50, ["not measured: 50 of 50 were started", "–"], id="a smaller one"),
    ],
)
def test_only_a_whole_burst_is_judged(
    count: int, came: int, told: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    records.keep("bursts", "ecs", {"count": count, "came": came, "seconds": 21.0, "floor": 20.0})
    assert [target.row()[1:] for target in targets.of_bursts()] == [told]


def test_what_was_kept_elsewhere_or_in_another_window_counts_as_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    plan = next(iter(waits.plans(waits.wishes())))
    records.keep("waits", waits.name_of(plan), {"plan": asdict(plan)})
    assert list(waits.measured([plan])) == [waits.name_of(plan)]
    assert waits.measured([replace(plan, rest=plan.rest * 2)]) == {}
    monkeypatch.setattr(records, "origin", lambda: {"machine": "another"})
    assert waits.measured([plan]) == {}


def test_a_process_without_last_words_is_told_by_how_it_ended() -> None:
    assert waits.last_words(subprocess.CompletedProcess([], -9, "", "")) == "ended by signal 9"
    assert waits.last_words(subprocess.CompletedProcess([], 1, "", "Traceback\nOSError: no\n")) == "OSError: no"


def test_what_blocks_the_loop_is_a_stall_and_the_wait_for_a_processor_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def blocked() -> dict[str, float]:
        async with meters.Stalls() as stalls:
            await asyncio.sleep(0)
            time.sleep(0.12)
            await asyncio.sleep(0.02)
        return stalls.told()

    assert asyncio.run(blocked())["max"] > 0.1
    waited = itertools.count(0, 10)
    monkeypatch.setattr(meters, "kept_waiting", lambda: next(waited))
    assert asyncio.run(blocked())["long"] == 0


def test_a_side_that_gives_up_has_a_row_that_says_why() -> None:
    plan = {"side": "stock", "kind": "ec2", "waits": 1000, "interval": 60.0, "events": False}
    said = waits.row({"plan": plan, "gave_up": "30 of 1000 have looked"})
    assert said[3] == "does not bear so many: 30 of 1000 have looked"


def test_latencies_are_from_the_change_to_the_event_and_leave_out_what_never_came() -> None:
    assert meters.latencies({"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 4.5, "b": 2.25}) == [0.25, 3.5]


@pytest.mark.parametrize(
    ("name", "job", "after", "cut"),
    [
        pytest.param("**ours**", 300, 12, 0, id="ours: what the guest needs to report and power off"),
        pytest.param("stop action after 15 min", 300, 540, 0, id="a stop action waits for its minute"),
        pytest.param("stop action after 15 min", 1800, 0, 1, id="and cuts what is longer"),
        pytest.param("alarm, 2 × 60 s, visible", 3600, 0, 1, id="an alarm on what is visible cuts long jobs"),
        pytest.param("the same, with in flight", 3600, 149.5, 0, id="two whole minutes, and the rest of one"),
        pytest.param("stock: create, sensor 60 s, terminate", 3600, 34.5, 0, id="half a poke, and a worker"),
    ],
)
def test_seconds_billed_after_a_jobs_end(name: str, job: int, after: float, cut: float) -> None:
    told = billing.billed(billing.ARRANGEMENTS[name], job, upload=2.0)
    assert (told["after"], told["cut"]) == (pytest.approx(after, abs=0.6), cut)


def test_every_part_has_its_place_on_the_page() -> None:
    page = figures.PAGE.read_text(encoding="utf-8")
    parts = ("targets", waits.PART, bursts.PART, "imports", "looks", "end-to-end", billing.PART)
    assert [part for part in parts if f"<!-- performance-{part} -->" not in page] == []


def test_the_stocks_process_knows_nothing_of_the_persons_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    env = stock.environment({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, tmp_path)
    assert "AWS_PROFILE" not in env
    assert env["AIRFLOW_HOME"] == str(tmp_path)
