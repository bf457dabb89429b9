"""A local cloud per module, its faults, and people in a hurry who launch machines and ECS tasks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_transient.localcloud import LocalCloud, SandboxUnavailable
from airflow_transient.localcloud.faults import Faults
from airflow_transient.localcloud.sandbox import choose
from tests.waiting import eventually

from .ecs import Tasks, container, tasks_of

# One that moto has in every region; asking for its whole list takes it more than a second.
IMAGE = "ami-03cf127a"
#: Seconds for a whole boot, also where the machine is busy with other things.
BOOTS_WITHIN = 30.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if item.get_closest_marker("sandbox")]
    if not here:
        return
    try:
        choose()
    except SandboxUnavailable as error:
        for item in here:
            item.add_marker(pytest.mark.skip(reason=f"no sandbox works here, so nothing boots: {error}"))


@dataclass(frozen=True)
class Launcher:
    """RunInstances for people in a hurry."""

    cloud: LocalCloud
    ec2: Any
    image: str

    def request(self, script: str | bytes = "", **more: Any) -> dict[str, Any]:
        base = {
            "ImageId": self.image,
            "InstanceType": "t3.micro",
            "MinCount": 1,
            "MaxCount": 1,
            "UserData": script,
        }
        return {**base, "InstanceInitiatedShutdownBehavior": "terminate", **more}

    def __call__(self, script: str | bytes = "", **more: Any) -> str:
        answer = self.ec2.run_instances(**self.request(script, **more))
        return str(answer["Instances"][0]["InstanceId"])

    def describe(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"][0]
        return found

    def until(self, name: str, state: str, within: float = BOOTS_WITHIN) -> dict[str, Any]:
        eventually(lambda: self.cloud.states()[name] == state, within)
        return self.describe(name)

    def run(self, script: str, **more: Any) -> str:
        """Boot, run to the end of the script, power off; the console."""
        name = self(f"#!/bin/bash\n{script}\nshutdown -h now\n", **more)
        self.until(name, "terminated")
        return self.cloud.console(name).decode()

    def prints(self, name: str, text: str, within: float = BOOTS_WITHIN) -> None:
        eventually(lambda: text in self.cloud.console(name).decode(), within)

    def console_output(self, name: str) -> str:
        return str(self.ec2.get_console_output(InstanceId=name)["Output"])


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    if not sys.platform.startswith("linux"):
        pytest.skip("the local cloud boots guests in Linux namespaces")
    with LocalCloud() as cloud:
        cloud.client("s3").create_bucket(
            Bucket="reports", CreateBucketConfiguration={"LocationConstraint": cloud.region}
        )
        yield cloud


def launcher(cloud: LocalCloud, region: str | None = None) -> Launcher:
    ec2 = cloud.client("ec2", region)
    return Launcher(cloud, ec2, IMAGE)


@pytest.fixture(scope="module")
def launch(cloud: LocalCloud) -> Launcher:
    return launcher(cloud)


@pytest.fixture
def faults(cloud: LocalCloud) -> Iterator[Faults]:
    """Whatever a test breaks is whole again after it."""
    yield cloud.faults
    cloud.faults.clear()


@pytest.fixture(scope="module")
def tasks(cloud: LocalCloud) -> Tasks:
    return tasks_of(cloud)


@pytest.fixture(scope="module")
def family(tasks: Tasks) -> str:
    """A task definition that ends well at once."""
    return tasks.define(container("true"))
