"""What is missing where a queue's workers, a group or an image are asked for is said before anything is launched."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from airflow_transient.errors import SpecError
from airflow_transient.operators.asg import AutoScalingBurstOperator
from airflow_transient.operators.images import BakeImageOperator
from airflow_transient.operators.queue_workers import EcsQueueWorkersOperator, QueueWorkersOperator
from tests.airflow.stubs import context

IMAGE = "ami-03cf127a"
EC2 = {"image_id": IMAGE, "instance_type": "t3.micro"}
ECS = {"task_definition": "none", "launch_type": "EC2"}


@pytest.fixture
def queue(on_the_cloud: Any) -> str:
    """One with a message."""
    name = f"jobs-{uuid.uuid4().hex[:8]}"
    sqs = on_the_cloud.client("sqs")
    sqs.send_message(QueueUrl=sqs.create_queue(QueueName=name)["QueueUrl"], MessageBody="a")
    return name


def started(cloud: Any) -> int:
    return len(cloud.states())


def refused(cloud: Any, op: Any) -> str:
    """Why, and nothing was started."""
    before = started(cloud)
    with pytest.raises(SpecError) as raised:
        op.execute(context(task_id=op.task_id))
    assert started(cloud) == before
    return str(raised.value)


@pytest.mark.parametrize(
    ("kind", "machines"), [(QueueWorkersOperator, EC2), (EcsQueueWorkersOperator, ECS)], ids=["ec2", "ecs"]
)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param({"sqs_queue": "nowhere"}, "there is no queue 'nowhere'", id="no queue"),
        pytest.param({"results": "s3://nowhere-at-all/work"}, "no bucket 'nowhere-at-all'", id="no bucket"),
    ],
)
def test_workers_without_their_queue_or_bucket_start_nothing(
    on_the_cloud: Any, queue: str, kind: Any, machines: dict[str, Any], words: dict[str, str], said: str
) -> None:
    given = {"task_id": "work", "sqs_queue": queue, "command": ["cp"], "results": "s3://results/work", **machines}
    assert said in refused(on_the_cloud, kind(**{**given, **words}, deferrable=False))


def test_a_group_that_is_missing_is_named(on_the_cloud: Any) -> None:
    op = AutoScalingBurstOperator(task_id="burst", group_name="nowhere", command="true", deferrable=False)
    assert "there is no Auto Scaling group 'nowhere' in eu-west-1" in refused(on_the_cloud, op)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param({"image_id": "ami-00000000000000000"}, "does not exist", id="no base image"),
        pytest.param(
            {"image_id": None, "image_ssm_parameter": "/no/image"}, "does not name an image", id="no parameter"
        ),
        pytest.param(
            {"image_id": None, "image_name": "nobody-*", "image_owners": ["self"]}, "no image is named", id="no name"
        ),
        pytest.param({"results": "s3://nowhere-at-all/bake"}, "no bucket 'nowhere-at-all'", id="no bucket"),
        pytest.param({"script": "nowhere.sh"}, "'nowhere.sh' cannot be read: No such file", id="no script"),
        pytest.param({"files": {"/opt/app": "empty"}}, "there are no files in", id="an empty folder"),
        pytest.param({"files": {"/opt/app": "vanished"}}, "cannot be read: No such file", id="a folder that vanished"),
    ],
)
def test_an_image_of_something_that_is_missing_starts_nothing(
    on_the_cloud: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: dict[str, Any], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    given = {"task_id": "bake", "name": "missing", "script": "#!/bin/sh\n", "results": "s3://results/bake", **EC2}
    assert said in refused(on_the_cloud, BakeImageOperator(**{**given, **words}, deferrable=False))
