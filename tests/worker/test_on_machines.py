"""The one file, shipped: by a presigned GET to a machine that has a role and boto3, and into an ECS task."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_transient.localcloud import LocalCloud, SandboxUnavailable
from airflow_transient.localcloud.sandbox import choose
from tests.localcloud.conftest import IMAGE
from tests.localcloud.ecs import ROLE, sh, tasks_of
from tests.worker.world import ROOT, WORKER, World, wait_for

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


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


def shipped(world: World) -> str:
    """The shell that fetches worker.py; the URL is signed by whoever launches."""
    world.s3.put_object(Bucket=world.bucket, Key="worker.py", Body=WORKER.read_bytes())
    url = world.s3.generate_presigned_url("get_object", {"Bucket": world.bucket, "Key": "worker.py"}, ExpiresIn=600)
    return f"curl -fsS -o /tmp/worker.py {shlex.quote(url)}"


def command(world: World, *words: str) -> str:
    """By the queue's name: the region and the credentials are the machine's to find out."""
    options = ["--queue", world.name, "--failures", f"s3://{world.bucket}/failures", "--idle-timeout", "2"]
    return shlex.join(["python3", "/tmp/worker.py", *options, "--", *words])


def launch(world: World, script: str, **more: Any) -> str:
    answer = world.cloud.client("ec2").run_instances(
        ImageId=IMAGE,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        UserData=f"#!/bin/bash\n{script}\nshutdown -h now\n",
        InstanceInitiatedShutdownBehavior="terminate",
        IamInstanceProfile={"Name": "worker"},
        **more,
    )
    return str(answer["Instances"][0]["InstanceId"])


def receipt(printed: bytes) -> dict[str, Any]:
    lines = [line for line in printed.decode().splitlines() if line.startswith('{"done"')]
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def test_a_machine_fetches_the_worker_drains_the_queue_and_ends(make_world: Callable[..., World]) -> None:
    world = make_world()
    for number in range(5):
        world.job(f"{number}.txt")
    name = launch(world, f"{shipped(world)} && {command(world, 'cp')}")
    wait_for(lambda: world.cloud.states()[name] == "terminated", 60)
    assert receipt(world.cloud.console(name))["done"] == 5
    assert len(world.outputs()) == 5


def test_a_machine_without_boto3_is_told_where_it_comes_from(make_world: Callable[..., World]) -> None:
    world = make_world()
    name = launch(world, f"{shipped(world)} && env -u PYTHONPATH {command(world, 'cp')}; echo code $?")
    wait_for(lambda: world.cloud.states()[name] == "terminated", 60)
    assert b"dnf install -y python3-boto3" in world.cloud.console(name)
    assert b"code 3" in world.cloud.console(name)


def test_a_reclaimed_spot_machine_gives_its_message_back_at_once(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.job("a.txt")
    spot = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}}
    script = f"{shipped(world)} && {command(world, 'sh', '-c', 'sleep 60')}; sleep 60"
    name = launch(world, script, InstanceMarketOptions=spot)
    wait_for(lambda: b'"received"' in world.cloud.console(name), 60)
    world.cloud.reclaim(name, notice=60)
    wait_for(lambda: world.visible() == 1, 20)
    assert world.cloud.states()[name] == "running"  # long before it is taken
    wait_for(lambda: b'"ended": "reclaimed"' in world.cloud.console(name), 20)


def test_a_stopped_task_gives_its_message_back_before_it_is_killed(make_world: Callable[..., World]) -> None:
    world, tasks = make_world(), tasks_of(make_world().cloud)
    world.job("a.txt")
    script = f"{shipped(world)} && exec {command(world, 'sh', '-c', 'sleep 60')}"
    arn = tasks.start(sh(script), define={"taskRoleArn": ROLE})
    wait_for(lambda: '"received"' in tasks.said(arn), 60)
    tasks.ecs.stop_task(cluster=arn.split("/")[1], task=arn)
    assert tasks.until(arn, "STOPPED", 40)["containers"][0]["exitCode"] == 0
    assert world.visible() == 1


def test_it_runs_as_a_module_of_the_package_without_airflow(tmp_path: Path) -> None:
    line = [sys.executable, "-X", "importtime", "-m", "airflow_transient.worker", "--help"]
    told = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "--failures" in told.stdout
    assert not {"airflow.", "boto3", "pendulum"} & {line.split("|")[-1].strip() for line in told.stderr.splitlines()}
