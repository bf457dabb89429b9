"""Images take their time, their names are taken once, and what a machine had on its disk is on that of its children."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_transient.localcloud import LocalCloud
from airflow_transient.localcloud.errors import Refused
from airflow_transient.localcloud.images import Images, Making, check_name
from tests.waiting import eventually

from .conftest import Launcher

TAGS = [{"ResourceType": kind, "Tags": [{"Key": "of", "Value": kind}]} for kind in ("image", "snapshot")]


@pytest.fixture
def images(cloud: LocalCloud) -> Iterator[Images]:
    yield cloud.images
    cloud.images.forget()


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def stopped(launch: Launcher, script: str = "") -> str:
    """A machine that ran this and shut itself down, its disk kept."""
    name = launch(f"#!/bin/bash\n{script}\nshutdown -h now\n", InstanceInitiatedShutdownBehavior="stop")
    launch.until(name, "stopped", within=20)
    return name


def look(launch: Launcher, image_id: str) -> dict[str, Any]:
    found: dict[str, Any] = launch.ec2.describe_images(ImageIds=[image_id])["Images"][0]
    return found


@pytest.mark.parametrize(
    ("at", "failure", "state"),
    [
        pytest.param(1.0, None, "pending", id="under way"),
        pytest.param(2.0, None, "available", id="done"),
        pytest.param(1.0, ("X", "x"), "pending", id="nobody knows yet"),
        pytest.param(2.0, ("X", "x"), "failed", id="came to nothing"),
    ],
)
def test_an_image_takes_its_time(at: float, failure: tuple[str, str] | None, state: str) -> None:
    assert Making(0.0, 2.0, failure).state(at) == state


@pytest.mark.parametrize(
    ("name", "code"),
    [
        pytest.param(None, "MissingParameter", id="none"),
        pytest.param("ab", "InvalidAMIName.Malformed", id="short"),
        pytest.param("a" * 129, "InvalidAMIName.Malformed", id="long"),
        pytest.param("a*b", "InvalidAMIName.Malformed", id="a wildcard"),
        pytest.param("taken", "InvalidAMIName.Duplicate", id="taken"),
    ],
)
def test_a_name_that_ec2_refuses(name: str | None, code: str) -> None:
    with pytest.raises(Refused) as refused:
        check_name(name, {"taken": "ami-1"})
    assert refused.value.code == code


def test_no_two_are_told_to_be_made_in_one_second() -> None:
    images, now = Images(), datetime(2026, 11, 22, 4, 34, 0, 362082)
    made = [images.created(now), images.created(now), images.created(now + timedelta(minutes=1))]
    assert [str(each.time()) for each in made] == ["04:34:00", "04:34:01", "04:35:00"]


@pytest.mark.sandbox
def test_a_pending_image_becomes_available(launch: Launcher, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    images.delay = 600
    made = launch.ec2.create_image(InstanceId=stopped(launch), Name="pending", TagSpecifications=TAGS)["ImageId"]
    assert look(launch, made)["State"] == "pending"
    monkeypatch.setattr(images, "clock", lambda: time.monotonic() + 600)
    image = eventually(lambda: (found := look(launch, made))["State"] == "available" and found)
    assert image["Tags"] == [{"Key": "of", "Value": "image"}]
    snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    found = launch.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    assert found[0]["Tags"] == [{"Key": "of", "Value": "snapshot"}]
    with pytest.raises(ClientError) as error:
        launch.ec2.delete_snapshot(SnapshotId=snapshot)
    assert code_of(error) == "InvalidSnapshot.InUse"


@pytest.mark.sandbox
def test_a_failed_image_tells_why_and_keeps_its_name(launch: Launcher, images: Images) -> None:
    images.fail_next("Server.InternalError", "no luck")
    machine = stopped(launch)
    made = launch.ec2.create_image(InstanceId=machine, Name="failed")["ImageId"]
    assert look(launch, made)["StateReason"] == {
        "Code": "Server.InternalError",
        "Message": "Server.InternalError: no luck",
    }
    with pytest.raises(ClientError) as error:
        launch.ec2.create_image(InstanceId=machine, Name="failed")
    assert code_of(error) == "InvalidAMIName.Duplicate"
    launch.ec2.deregister_image(ImageId=made)
    assert launch.ec2.create_image(InstanceId=machine, Name="failed")["ImageId"] != made


@pytest.mark.sandbox
def test_a_terminated_machine_gives_no_image(launch: Launcher) -> None:
    machine = launch()
    launch.ec2.terminate_instances(InstanceIds=[machine])
    launch.until(machine, "terminated")
    with pytest.raises(ClientError) as error:
        launch.ec2.create_image(InstanceId=machine, Name="of nothing")
    assert code_of(error) == "IncorrectInstanceState"


@pytest.mark.sandbox
def test_one_token_copies_once(cloud: LocalCloud, launch: Launcher) -> None:
    made = launch.ec2.create_image(InstanceId=stopped(launch), Name="original")["ImageId"]
    there = cloud.client("ec2", "eu-central-1")
    asked = {"SourceImageId": made, "SourceRegion": cloud.region, "Name": "a copy", "ClientToken": "t1"}
    first = there.copy_image(**asked, TagSpecifications=TAGS)["ImageId"]
    assert there.copy_image(**asked, TagSpecifications=TAGS)["ImageId"] == first
    assert there.describe_images(ImageIds=[first])["Images"][0]["Tags"] == [{"Key": "of", "Value": "image"}]
    for words, code in (
        ({"Name": "another"}, "IdempotentParameterMismatch"),
        ({"ClientToken": "t2"}, "InvalidAMIName.Duplicate"),
        ({"ClientToken": "t3", "Name": "c3p", "SourceImageId": "ami-00000000"}, "InvalidAMIID.NotFound"),
    ):
        with pytest.raises(ClientError) as error:
            there.copy_image(**{**asked, **words})
        assert code_of(error) == code


@pytest.mark.sandbox
def test_a_stopped_machine_finds_its_disk_again(launch: Launcher) -> None:
    leaves = "mkdir -p /var/lib/cloud/scripts/per-boot; echo kept >/root/file; echo gone >/tmp/file; "
    script = "#!/bin/sh\\ncat /root/file /tmp/file >/dev/console 2>&1\\n"
    leaves += f"printf '{script}' >/var/lib/cloud/scripts/per-boot/tell; chmod +x /var/lib/cloud/scripts/per-boot/tell"
    machine = stopped(launch, leaves)
    launch.ec2.start_instances(InstanceIds=[machine])
    launch.prints(machine, "kept")
    launch.prints(machine, "/tmp/file: No such file")
    launch.ec2.terminate_instances(InstanceIds=[machine])


@pytest.mark.sandbox
def test_children_of_an_image_have_its_disk_and_not_each_others(launch: Launcher) -> None:
    machine = stopped(launch, "echo parent >/root/file")
    image = launch.ec2.create_image(InstanceId=machine, Name="a parent")["ImageId"]
    assert "parent" in launch.run("cat /root/file; echo child >/root/file", ImageId=image)
    again = launch.run("cat /root/file", ImageId=image)
    assert "parent" in again
    assert "child" not in again


@pytest.mark.sandbox
def test_what_a_parent_left_for_every_boot_ends_its_child(launch: Launcher) -> None:
    """Why a builder is cleaned: the child is down before its own script is reached."""
    left = "mkdir -p /var/lib/cloud/scripts/per-boot; printf '#!/bin/sh\\nshutdown -h now\\nsleep 9\\n' "
    left += ">/var/lib/cloud/scripts/per-boot/off; chmod +x /var/lib/cloud/scripts/per-boot/off"
    image = launch.ec2.create_image(InstanceId=stopped(launch, left), Name="a trap")["ImageId"]
    child = launch("#!/bin/bash\necho reached the script\n", ImageId=image)
    launch.until(child, "terminated", within=20)
    assert "reached the script" not in launch.cloud.console(child).decode()
    cleaned = stopped(launch, f"{left}; cloud-init clean --logs --machine-id")
    image = launch.ec2.create_image(InstanceId=cleaned, Name="no trap")["ImageId"]
    assert "reached the script" in launch.run("echo reached the script", ImageId=image)
