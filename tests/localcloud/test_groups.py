"""Auto Scaling groups that act: they start machines, replace those that end, and are as strict as AWS."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_transient.localcloud import LocalCloud
from airflow_transient.localcloud.faults import Faults
from airflow_transient.localcloud.groups import Member, Moves, Standing, moves, refused_to_detach
from tests.waiting import eventually

from .conftest import IMAGE

_numbers = itertools.count()
ENDS_ITSELF = "#!/bin/bash\necho a run of the job\nshutdown -h now\n"


def member(number: int, state: str = "running", **words: Any) -> Member:
    return Member(f"i-{number}", state, **words)


@pytest.mark.parametrize(
    ("desired", "suspended", "members", "expected"),
    [
        pytest.param(0, "", [], Moves(), id="nothing is wanted, nothing is there"),
        pytest.param(2, "", [member(1)], Moves(launch=1), id="one too few"),
        pytest.param(2, "Launch", [member(1)], Moves(), id="one too few, and none may be launched"),
        pytest.param(0, "", [member(1)], Moves(end=("i-1",)), id="one too many"),
        pytest.param(0, "Terminate", [member(1)], Moves(), id="one too many, and none may be ended"),
        pytest.param(0, "", [member(1, protected=True)], Moves(), id="protected from scale-in"),
        pytest.param(1, "", [member(1, "pending", in_service=False)], Moves(), id="on its way"),
        pytest.param(1, "", [member(1, in_service=False)], Moves(up=("i-1",)), id="come into service"),
        pytest.param(
            1, "", [member(1, "terminated", in_service=False)], Moves(lost=("i-1",), launch=1), id="ended on its way"
        ),
        pytest.param(
            1, "", [member(1, "stopped")], Moves(sick=("i-1",), end=("i-1",), launch=1), id="ended, and is replaced"
        ),
        pytest.param(1, "ReplaceUnhealthy", [member(1, "stopped")], Moves(sick=("i-1",)), id="ended, and is not"),
        pytest.param(1, "HealthCheck", [member(1, "terminated")], Moves(), id="ended, and nobody looks"),
        pytest.param(
            1,
            "ReplaceUnhealthy",
            [member(1), member(2, "terminated", healthy=False)],
            Moves(end=("i-2",)),
            id="one too many: the unhealthy first",
        ),
    ],
)
def test_what_a_group_does_next(desired: int, suspended: str, members: list[Member], expected: Moves) -> None:
    assert moves(Standing(desired, frozenset(filter(None, [suspended])), tuple(members))) == expected


@pytest.mark.parametrize(
    ("names", "left", "least", "said"),
    [
        (["i-1"], 0, 0, ""),
        (["i-1"], 0, 1, "minSize (1)"),
        (["i-9"], 0, 0, "not part of"),
        (["i-2"], 0, 0, "not in InService"),
    ],
)
def test_what_may_not_be_detached(names: list[str], left: int, least: int, said: str) -> None:
    members = [member(1), member(2, "pending", in_service=False)]
    assert said in refused_to_detach(names, members, "g", left, least)


# --- on the cloud


@pytest.fixture
def group(cloud: LocalCloud) -> Iterator[Callable[..., str]]:
    """Makes groups, and ends them."""
    made: list[str] = []
    autoscaling, ec2 = cloud.client("autoscaling"), cloud.client("ec2")

    def make(script: str = ENDS_ITSELF, suspended: tuple[str, ...] = (), **words: Any) -> str:
        name = f"group-{next(_numbers)}"
        data = {
            "ImageId": IMAGE,
            "InstanceType": "t3.micro",
            "UserData": base64.b64encode(script.encode()).decode(),
        }
        ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
        source = {} if "LaunchConfigurationName" in words else {"LaunchTemplate": {"LaunchTemplateName": name}}
        autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name, MinSize=0, AvailabilityZones=["eu-west-1a"], **{"MaxSize": 3, **source, **words}
        )
        made.append(name)
        if suspended:
            autoscaling.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=list(suspended))
        return name

    yield make
    for name in made:
        autoscaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)


def told(cloud: LocalCloud, name: str) -> dict[str, Any]:
    found = cloud.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
    said: dict[str, Any] = found["AutoScalingGroups"][0]
    return said


def launched(cloud: LocalCloud, name: str) -> list[str]:
    said = cloud.client("autoscaling").describe_scaling_activities(AutoScalingGroupName=name)["Activities"]
    return [a["Description"] for a in said if a["Description"].startswith("Launching a new EC2 instance: ")]


def want(cloud: LocalCloud, name: str, count: int) -> None:
    cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=count)


pytestmark = pytest.mark.sandbox


def test_a_job_that_ends_its_machine_runs_over_and_over(cloud: LocalCloud, group: Callable[..., str]) -> None:
    """The seeds' warning: suspend ReplaceUnhealthy."""
    name = group()
    want(cloud, name, 1)
    eventually(lambda: len(launched(cloud, name)) >= 3, within=60)


def test_it_runs_once_where_nothing_unhealthy_is_replaced(cloud: LocalCloud, group: Callable[..., str]) -> None:
    name = group(suspended=("ReplaceUnhealthy",))
    want(cloud, name, 1)
    eventually(
        lambda: told(cloud, name)["Instances"] and told(cloud, name)["Instances"][0]["HealthStatus"] == "Unhealthy", 60
    )
    (one,) = told(cloud, name)["Instances"]
    assert one["LifecycleState"] == "InService"
    want(cloud, name, 0)
    eventually(lambda: not told(cloud, name)["Instances"], within=20)
    assert len(launched(cloud, name)) == 1
    assert cloud.states()[one["InstanceId"]] == "terminated"


def test_its_machines_run_its_user_data_and_carry_its_tags(cloud: LocalCloud, group: Callable[..., str]) -> None:
    theirs = [{"Key": "team", "Value": "x", "PropagateAtLaunch": True}, {"Key": "own", "Value": "y"}]
    name = group("#!/bin/bash\necho here I am\nsleep 60\n", Tags=[{**tag, "ResourceId": ""} for tag in theirs])
    want(cloud, name, 2)
    members = eventually(lambda: [i for i in told(cloud, name)["Instances"] if i["LifecycleState"] == "InService"], 30)
    id = members[0]["InstanceId"]
    eventually(lambda: b"here I am" in cloud.console(id), within=30)
    found = cloud.client("ec2").describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]
    tags = [(tag["Key"], tag["Value"]) for tag in found["Tags"] if not tag["Key"].startswith("aws:ec2")]
    assert sorted(tags) == [("aws:autoscaling:groupName", name), ("team", "x")]


def test_one_that_is_detached_lives_on_and_is_not_replaced(cloud: LocalCloud, group: Callable[..., str]) -> None:
    autoscaling, name = cloud.client("autoscaling"), group("#!/bin/bash\nsleep 60\n")
    want(cloud, name, 1)
    in_service = {"AutoScalingGroupName": name, "ShouldDecrementDesiredCapacity": True}
    id = eventually(
        lambda: [i["InstanceId"] for i in told(cloud, name)["Instances"] if i["LifecycleState"] == "InService"], 30
    )[0]
    autoscaling.detach_instances(InstanceIds=[id], **in_service)
    assert (told(cloud, name)["Instances"], told(cloud, name)["DesiredCapacity"]) == ([], 0)
    assert cloud.states()[id] == "running"
    with pytest.raises(ClientError, match="not part of Auto Scaling group"):
        autoscaling.detach_instances(InstanceIds=[id], **in_service)
    assert len(launched(cloud, name)) == 1
    cloud.client("ec2").terminate_instances(InstanceIds=[id])


def test_what_it_refuses(cloud: LocalCloud, group: Callable[..., str]) -> None:
    autoscaling, name = cloud.client("autoscaling"), group("#!/bin/bash\nsleep 60\n")
    with pytest.raises(ClientError, match="must be between the specified min size"):
        want(cloud, name, 4)
    want(cloud, name, 1)
    with pytest.raises(ClientError, match="ResourceInUse"):
        autoscaling.delete_auto_scaling_group(AutoScalingGroupName=name)


def test_no_room_is_a_failed_activity_and_it_tries_again(
    cloud: LocalCloud, group: Callable[..., str], faults: Faults
) -> None:
    name = group("#!/bin/bash\nsleep 60\n")
    full = faults.capacity(count=0)
    want(cloud, name, 1)

    def failed() -> list[str]:
        said = cloud.client("autoscaling").describe_scaling_activities(AutoScalingGroupName=name)["Activities"]
        return [a["StatusMessage"] for a in said if a["StatusCode"] == "Failed"]

    assert "capacity" in eventually(failed, within=20)[0]
    faults.remove(full)
    eventually(lambda: launched(cloud, name), within=20)


def test_an_update_changes_what_it_names_and_nothing_else(cloud: LocalCloud, group: Callable[..., str]) -> None:
    """moto: the policy is forgotten, and of two sources both stay."""
    autoscaling, name = cloud.client("autoscaling"), group()
    template = {"LaunchTemplateName": name, "Version": "$Latest"}
    policy = {"LaunchTemplate": {"LaunchTemplateSpecification": template, "Overrides": [{"InstanceType": "t3.small"}]}}
    autoscaling.update_auto_scaling_group(AutoScalingGroupName=name, MixedInstancesPolicy=policy)
    before = told(cloud, name)["MixedInstancesPolicy"]
    autoscaling.update_auto_scaling_group(AutoScalingGroupName=name, MaxSize=2)
    assert told(cloud, name)["MixedInstancesPolicy"] == before
    autoscaling.create_launch_configuration(
        LaunchConfigurationName=name, ImageId=IMAGE, InstanceType="t3.micro", UserData="#!/bin/bash\nsleep 60\n"
    )
    autoscaling.update_auto_scaling_group(AutoScalingGroupName=name, LaunchConfigurationName=name)
    assert "LaunchTemplate" not in told(cloud, name)
    assert "MixedInstancesPolicy" not in told(cloud, name)
    want(cloud, name, 1)
    eventually(lambda: [i for i in told(cloud, name)["Instances"] if i["LifecycleState"] == "InService"], 30)
    autoscaling.update_auto_scaling_group(AutoScalingGroupName=name, LaunchTemplate=template)
    assert "LaunchConfigurationName" not in told(cloud, name)


def test_an_action_on_a_schedule_happens_unless_it_is_suspended(cloud: LocalCloud, group: Callable[..., str]) -> None:
    asleep, awake = group("#!/bin/bash\nsleep 60\n", ("ScheduledActions",)), group("#!/bin/bash\nsleep 60\n")
    for name in (asleep, awake):
        cloud.client("autoscaling").put_scheduled_update_group_action(
            AutoScalingGroupName=name,
            ScheduledActionName=f"up {name}",
            StartTime=datetime.now(timezone.utc) + timedelta(seconds=1),
            DesiredCapacity=1,
        )
    eventually(lambda: told(cloud, awake)["DesiredCapacity"] == 1, within=20)
    assert told(cloud, asleep)["DesiredCapacity"] == 0
