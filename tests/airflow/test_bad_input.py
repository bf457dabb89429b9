"""What cannot be launched is refused with a sentence, and nothing was launched: asked of the local cloud each time."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any

import pytest

from airflow_transient import errors
from airflow_transient.operators.ec2 import TransientEc2Operator
from tests.airflow.stubs import context

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.usefixtures("on_the_cloud")]

PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
GOOD = {"task_id": "task", "command": "true", "image_ssm_parameter": PARAMETER, "instance_type": "t3.small"}
NOISE = base64.b64encode(random.Random(7).randbytes(30_000)).decode()


@pytest.fixture(scope="module")
def templates(cloud: Any) -> dict[str, str]:
    ec2 = cloud.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    data = {
        "door": {"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": subnet}]},
        "persistent": {
            "InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "persistent"}}
        },
        "bare": {"KeyName": "k"},
    }
    made = {
        name: ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=what)
        for name, what in data.items()
    }
    return {name: answer["LaunchTemplate"]["LaunchTemplateId"] for name, answer in made.items()} | {"subnet": subnet}


def refused(cloud: Any, error: type[Exception], **words: Any) -> str:
    op = TransientEc2Operator(**{**GOOD, **words})
    with pytest.raises(error) as refusal:
        op.execute(context())
    assert cloud.states() == {}, "something was launched"
    return str(refusal.value)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param({"command": None}, "exactly one", id="no command and no script"),
        pytest.param({"script": "#!/bin/sh\n"}, "not both", id="both"),
        pytest.param({"command": " "}, "blank", id="blank command"),
        pytest.param({"count": 0}, "count is 0", id="count 0"),
        pytest.param({"max_runtime": 0}, "max_runtime", id="no runtime"),
        pytest.param({"max_runtime": -1}, "max_runtime", id="negative runtime"),
        pytest.param({"boot_timeout": 1}, "boot_timeout", id="below what a boot needs"),
        pytest.param(
            {"secrets": {"A": "hunter2"}, "instance_profile": "p"}, "looks like a value", id="a secret's value"
        ),
        pytest.param(
            {"image_ssm_parameter": None, "image_id": "ami-0000000000000000a"},
            "ami-0000000000000000a",
            id="unknown image",
        ),
        pytest.param({"image_ssm_parameter": "/no/such"}, "/no/such", id="unknown parameter"),
        pytest.param(
            {"image_ssm_parameter": None, "image_name": "no-such-*", "image_owners": "amazon"},
            "no image is named",
            id="no name",
        ),
        pytest.param({"instance_type": "t9.huge"}, "t9.huge", id="unknown type"),
        pytest.param({"subnet_ids": "subnet-0000000000000000a"}, "subnet", id="unknown subnet"),
        pytest.param({"security_group_ids": "sg-0000000000000000a"}, "sg-0000000000000000a", id="unknown group"),
        pytest.param({"instance_profile": "nobody"}, "nobody", id="unknown profile"),
        pytest.param({"key_name": "nobody"}, "nobody", id="unknown key pair"),
        pytest.param({"launch_template": "no-such"}, "no-such", id="unknown template"),
        pytest.param({"command": NOISE}, "16,384", id="user data too long and no bucket"),
        pytest.param({"results": "s3://no-such-bucket-anywhere/x"}, "no bucket", id="no such bucket"),
        pytest.param({"aws_conn_id": "no_such"}, "no connection 'no_such'", id="unknown connection"),
    ],
)
def test_it_is_refused_and_nothing_was_launched(cloud: Any, words: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(cloud, errors.SpecError, **words)


def test_a_template_with_interfaces_and_a_subnet(cloud: Any, templates: dict[str, str]) -> None:
    words = {"launch_template": templates["door"], "subnet_ids": templates["subnet"]}
    assert "network interfaces" in refused(cloud, errors.SpecError, **words)


def test_a_persistent_spot_request(cloud: Any, templates: dict[str, str]) -> None:
    assert "one-time" in refused(cloud, errors.SpecError, launch_template=templates["persistent"])


def test_a_template_without_image_or_type(cloud: Any, templates: dict[str, str]) -> None:
    bare = {"launch_template": templates["bare"]}
    assert "names no image" in refused(cloud, errors.SpecError, **bare, image_ssm_parameter=None)
    assert "names no instance type" in refused(cloud, errors.SpecError, **bare, instance_type=None)


def test_a_bucket_that_is_closed_to_us(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form is signed with a key that the cloud does not know: it is tried before anything is launched."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASTRANGER00000000")
    assert "s3:PutObject" in refused(cloud, errors.AccessError, results="s3://results/x")


def test_no_credentials(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no AWS credentials" in refused(cloud, errors.AccessError)


def test_no_region(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_REGION")
    assert "no AWS region" in refused(cloud, errors.AccessError)


def test_a_secret_of_a_connection_in_the_environment(cloud: Any, mask_secret: Callable[[str], None]) -> None:
    mask_secret("correct-horse-battery")
    for words in ({"environment": {"DB": "x correct-horse-battery"}}, {"command": "login correct-horse-battery"}):
        said = refused(cloud, errors.SpecError, **words)
        assert "secrets" in said
        assert "correct-horse" not in said
