"""A queue of real files, worked off by machines and by tasks of the local cloud that die, fail and grow."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_transient import errors
from airflow_transient.localcloud import LocalCloud, SandboxUnavailable
from airflow_transient.localcloud.sandbox import choose
from airflow_transient.operators.queue_workers import EcsQueueWorkersOperator, QueueWorkersOperator
from airflow_transient.triggers.workers import WorkersTrigger
from airflow_transient.worker import Job, write_message
from tests.airflow.stubs import context
from tests.airflow_home import migrate
from tests.localcloud.ecs import ROLE, container, tasks_of
from tests.worker.world import World, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.e2e, pytest.mark.timeout(300)]

IMAGE = "ami-03cf127a"
#: Upper case, and one file that nobody can convert; slowly enough for a machine to be killed at work.
CONVERT = 'sleep 0.3; grep -q poison "$1" && exit 9; tr a-z A-Z <"$1" >"$2"'


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    try:
        choose()
    except SandboxUnavailable as error:
        pytest.skip(f"no sandbox works here, so nothing boots: {error}")
    with LocalCloud(boto3=True) as running:
        iam = running.client("iam")
        iam.create_role(RoleName="worker", AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName="worker")
        iam.add_role_to_instance_profile(InstanceProfileName="worker", RoleName="worker")
        yield running


@pytest.fixture
def world(cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name, value in cloud.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")
    monkeypatch.setenv("AIRFLOW__TRANSIENT__DEPLOYMENT_ID", "tests")
    world = World(cloud, tmp_path)
    yield world
    world.close()


def words(world: World, **more: Any) -> dict[str, Any]:
    return {
        "task_id": "work",
        "sqs_queue": world.name,
        "command": CONVERT,
        "results": f"s3://{world.bucket}/work",
        "messages_per_process": 5,
        "processes": 2,
        "max_count": 4,
        "interval": 2,
        "idle_timeout": 3,
        "max_dead_letters": 1,
        "max_runtime": 200,
        "poll_interval": 0.5,
        "worker_options": ["--retry-delay", "0", "--visibility", "10"],
        **more,
    }


def fill(world: World, files: range, poisoned: int) -> None:
    for number in files:
        world.job(f"{number}.txt", b"poison" if number == poisoned else f"file {number}\n".encode() * 1000)


def right(world: World, files: range, poisoned: int) -> None:
    wanted = {f"{number}.txt": f"FILE {number}\n".encode() * 1000 for number in files if number != poisoned}
    assert world.outputs() == wanted
    (dead,) = world.buried()
    assert json.loads(dead["Body"])["input"].endswith(f"/{poisoned}.txt")
    assert world.left() == 0


def to_the_end(op: Any, between: Callable[[WorkersTrigger], None] = lambda _: None) -> dict[str, Any]:
    """Deferral after deferral, each trigger rebuilt from its JSON as a triggerer does."""
    ctx = context(task_id=op.task_id)
    leg: Callable[[], Any] = lambda: op.execute(ctx)  # noqa: E731 - it is another one after each deferral
    while True:
        try:
            told: dict[str, Any] = leg()
        except TaskDeferred as deferred:
            _, said = deferred.trigger.serialize()
            trigger = WorkersTrigger(**json.loads(json.dumps(said)))
            between(trigger)

            async def first(trigger: WorkersTrigger = trigger) -> Any:
                return await anext(trigger.run())

            event = asyncio.run(asyncio.wait_for(first(), 200)).payload
            leg = lambda event=event: op.execute_complete(ctx, event=json.loads(json.dumps(event)))  # noqa: E731
        else:
            return told


def test_thirty_files_one_poisoned_and_a_machine_killed_at_work(world: World) -> None:
    # The poisoned one comes after the kill: what a machine that was killed has done to it is in no sum.
    fill(world, range(20), poisoned=27)
    op = QueueWorkersOperator(
        **words(world), image_id=IMAGE, instance_type="t3.micro", instance_profile="worker", deferrable=True
    )
    killed: list[str] = []

    def kill_one_and_send_more(trigger: WorkersTrigger) -> None:
        if killed or not trigger.launch["ids"]:
            return
        victim = trigger.launch["ids"][0]
        killed.append(victim)

        def at_work() -> None:
            wait_for(lambda: b'"received"' in world.cloud.console(victim) or len(world.outputs()) > 1, 60)
            world.cloud.client("ec2").terminate_instances(InstanceIds=[victim])
            fill(world, range(20, 30), poisoned=27)

        threading.Thread(target=at_work, daemon=True).start()

    told = to_the_end(op, kill_one_and_send_more)
    right(world, range(30), poisoned=27)
    assert told["outcome"] == "succeeded"
    assert told["counts"]["stopped"] == 1
    assert (told["messages"]["dead_lettered"], told["unreported"]) == (1, 1)
    assert sum(each["count"] for each in told["growth"]) == told["machines"] >= 3
    assert set(world.cloud.states().values()) == {"terminated"}
    print(json.dumps({name: told[name] for name in ("messages", "machines", "machine_seconds", "growth")}, indent=1))


def test_two_operators_on_one_queue_lose_nothing_and_count_what_is_their_own(world: World) -> None:
    fill(world, range(24), poisoned=5)
    told: dict[str, dict[str, Any]] = {}

    def run(name: str) -> None:
        op = QueueWorkersOperator(
            **words(world, task_id=name, max_count=1, results=f"s3://{world.bucket}/{name}"),
            image_id=IMAGE,
            instance_type="t3.micro",
            instance_profile="worker",
            deferrable=False,
        )
        told[name] = op.execute(context(task_id=name))

    both = [threading.Thread(target=run, args=(name,)) for name in ("one", "other")]
    for each in both:
        each.start()
    for each in both:
        each.join(120)
    right(world, range(24), poisoned=5)
    assert sum(each["messages"]["processed"] for each in told.values()) == 23
    assert sum(each["messages"]["dead_lettered"] for each in told.values()) == 1
    ids = [each["ids"] for each in told.values()]
    assert set(ids[0]).isdisjoint(ids[1])
    assert {world.cloud.states()[one] for both in ids for one in both} == {"terminated"}


def test_a_queue_whose_counters_lag_is_neither_skipped_nor_grown_for_twice(world: World) -> None:
    """SQS's lag by up to a minute; here by three seconds, and the interval is four. The first reading knows nothing."""
    world.cloud.faults.sqs_lag(3, world.name)
    fill(world, range(12), poisoned=3)
    wait_for(lambda: world.visible() == 12)
    blind = world.cloud.faults.sqs_lag(900, world.name)
    op = QueueWorkersOperator(
        **words(world, interval=4, idle_timeout=2),
        image_id=IMAGE,
        instance_type="t3.micro",
        instance_profile="worker",
        deferrable=True,
    )
    seen: list[threading.Thread] = []

    def see_after_the_first_reading(_: WorkersTrigger) -> None:
        readings = lambda: world.cloud.queue_calls(world.name)["GetQueueAttributes"]  # noqa: E731
        before = readings()

        def see() -> None:
            wait_for(lambda: readings() > before)
            world.cloud.faults.remove(blind)

        if not seen:
            seen.append(threading.Thread(target=see, daemon=True))
            seen[0].start()

    told = to_the_end(op, see_after_the_first_reading)
    world.cloud.faults.clear()
    right(world, range(12), poisoned=3)
    assert [each["count"] for each in told["growth"]] == [2]
    assert told["messages"]["processed"] == 11


def test_workers_that_cannot_work_fail_the_task_and_say_why(world: World) -> None:
    fill(world, range(3), poisoned=1)
    op = QueueWorkersOperator(
        **words(world, command=["no-such-command"]),
        image_id=IMAGE,
        instance_type="t3.micro",
        instance_profile="worker",
        deferrable=True,
    )
    with pytest.raises(errors.JobFailed, match="There is no command no-such-command"):
        to_the_end(op)
    assert world.left() == 3
    assert set(world.cloud.states().values()) == {"terminated"}


def test_a_machine_that_cannot_get_boto3_says_where_it_comes_from(world: World) -> None:
    """As on an image without it, in a subnet without a way out."""
    fill(world, range(3), poisoned=1)
    op = QueueWorkersOperator(
        **words(world),
        environment={
            "PYTHONPATH": "/nowhere",
            **dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9"),
            "no_proxy": "127.0.0.1,localhost",
        },
        image_id=IMAGE,
        instance_type="t3.micro",
        instance_profile="worker",
        deferrable=True,
    )
    with pytest.raises(errors.JobFailed, match="dnf install -y python3-boto3"):
        to_the_end(op)
    assert world.left() == 3


def test_tasks_of_ecs_do_the_same_and_their_receipts_are_read_from_their_logs(world: World) -> None:
    tasks = tasks_of(world.cloud)
    log = {"awslogs-group": "/ecs/work", "awslogs-region": world.cloud.region, "awslogs-stream-prefix": "work"}
    world.cloud.client("logs").create_log_group(logGroupName="/ecs/work")
    main = container("true", logConfiguration={"logDriver": "awslogs", "options": log})
    family = tasks.define(main, taskRoleArn=ROLE, executionRoleArn=ROLE)
    fill(world, range(12), poisoned=3)
    op = EcsQueueWorkersOperator(
        **words(world),
        task_definition=family,
        launch_type="FARGATE",
        network_configuration=tasks.network,
        deferrable=False,
    )
    told = op.execute(context(task_id="work"))
    right(world, range(12), poisoned=3)
    assert told["messages"] == {"processed": 11, "failed": 3, "dead_lettered": 1, "interrupted": 0}
    assert (told["machines"], told["unreported"]) == (2, 0)
    assert tasks.ecs.list_tasks(cluster="default")["taskArns"] == []


def test_the_example_sends_works_off_and_reports(cloud: LocalCloud, tmp_path: Path) -> None:
    dags = Path(__file__).parents[2] / "dags"
    s3, sqs, iam = (cloud.client(name) for name in ("s3", "sqs", "iam"))
    s3.create_bucket(Bucket="batches", CreateBucketConfiguration={"LocationConstraint": cloud.region})
    dead = sqs.create_queue(QueueName="batch-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 8})
    sqs.create_queue(QueueName="batch", Attributes={"RedrivePolicy": redrive})
    iam.create_instance_profile(InstanceProfileName="transient-worker")
    iam.add_role_to_instance_profile(InstanceProfileName="transient-worker", RoleName="worker")
    for number in range(5):
        s3.put_object(Bucket="batches", Key=f"batch/incoming/day {number}.txt", Body=b"words\n" * 1000)
    env = {
        **os.environ,
        **cloud.env,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
        "AIRFLOW_VAR_RESULTS_BUCKET": "batches",
        "AIRFLOW_VAR_BATCH_INTERVAL": "2",
        "PYTHONPATH": str(dags.parent),
    }
    migrate(env)
    assert "5 files sent, 5 processed, 0 given up" in dag_run("2026-01-04", env)
    found = s3.list_objects_v2(Bucket="batches", Prefix="batch/done/")["Contents"]
    assert [each["Key"] for each in found] == [f"batch/done/day {number}.txt.gz" for number in range(5)]
    body = s3.get_object(Bucket="batches", Key="batch/done/day 3.txt.gz")["Body"].read()
    assert gzip.decompress(body) == b"words\n" * 1000
    assert set(cloud.states().values()) == {"terminated"}
    # What an earlier `work` has left is worked on, too, on a day without new files.
    sqs, left = cloud.client("sqs"), "s3://batches/batch/incoming/day 1.txt"
    body = write_message(Job("0" * 32, left, "s3://batches/batch/done/left.gz"))
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="batch")["QueueUrl"], MessageBody=body)
    assert "0 files sent, 1 processed, 0 given up" in dag_run("2026-01-05", env)
    assert set(cloud.states().values()) == {"terminated"}


def dag_run(day: str, env: dict[str, str]) -> str:
    argv = [sys.executable, "-m", "airflow", "dags", "test", "batch_from_s3", day]
    done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=140)
    print(done.stdout[-8000:])
    assert done.returncode == 0
    return done.stdout
