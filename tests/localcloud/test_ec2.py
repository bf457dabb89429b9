"""EC2 as strict as EC2: what it refuses, what it remembers, and what asking twice does."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_transient.localcloud import LocalCloud

from .conftest import Launcher, launcher

pytestmark = pytest.mark.sandbox
SPOT = {"MarketType": "spot"}
TAGS = [{"Key": "job", "Value": "nightly"}]
_numbers = itertools.count()


def refusal(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return f"{error['Code']}: {error['Message']}"


@pytest.fixture
def token() -> str:
    return f"token-{next(_numbers)}"


def subnets(launch: Launcher) -> dict[str, str]:
    found = launch.ec2.describe_subnets()["Subnets"]
    return {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in found}


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        pytest.param({"UserData": "x" * 16385}, "InvalidParameterValue: User data is limited to 16384", id="user data"),
        pytest.param({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound", id="unknown image"),
        pytest.param({"ImageId": "ami-latest"}, "InvalidAMIID.Malformed", id="malformed image"),
        pytest.param({"InstanceType": "t3.colossal"}, "InvalidParameterValue: Invalid value 't3.colossal'", id="type"),
        pytest.param({"SubnetId": "subnet-12345678"}, "InvalidSubnetID.NotFound", id="subnet"),
        pytest.param({"SecurityGroupIds": ["sg-12345678"]}, "InvalidGroup.NotFound", id="group"),
        pytest.param(
            {"NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-12345678"]}]},
            "InvalidGroup.NotFound",
            id="card",
        ),
        pytest.param({"IamInstanceProfile": {"Name": "no"}}, "Invalid IAM Instance Profile name", id="profile"),
        pytest.param({"KeyName": "lost"}, "InvalidKeyPair.NotFound", id="key"),
        pytest.param({"MinCount": 3, "MaxCount": 2}, "InvalidParameterValue", id="more than at most"),
        pytest.param({"MinCount": 0, "MaxCount": 1}, "InvalidParameterValue", id="none"),
        pytest.param(
            {"TagSpecifications": [{"ResourceType": "spot-instances-request", "Tags": TAGS}]},
            "InvalidParameterCombination",
            id="spot tags without spot",
        ),
        pytest.param(
            {"InstanceMarketOptions": {**SPOT, "SpotOptions": {"SpotInstanceType": "persistent"}}},
            "InvalidParameterCombination",
            id="persistent spot that terminates",
        ),
        pytest.param({"DryRun": True}, "DryRunOperation", id="dry run"),
    ],
)
def test_what_run_instances_refuses(launch: Launcher, change: dict[str, Any], answer: str) -> None:
    before = launch.cloud.states()
    with pytest.raises(ClientError) as caught:
        launch.ec2.run_instances(**launch.request(**change))
    error = caught.value.response["Error"]
    assert answer in f"{error['Code']}: {error['Message']}"
    assert launch.cloud.states() == before


def test_sixteen_kilobytes_of_user_data_are_fine(launch: Launcher) -> None:
    assert launch("x" * 16384)


def test_max_count_are_launched_and_numbered(launch: Launcher) -> None:
    machines = launch.ec2.run_instances(**launch.request(MinCount=1, MaxCount=3))["Instances"]
    assert [machine["AmiLaunchIndex"] for machine in machines] == [0, 1, 2]


# --- asking twice -------------------------------------------------------------------------------------------------


def test_asking_twice_with_one_token_starts_once(launch: Launcher, token: str) -> None:
    first = launch.ec2.run_instances(**launch.request(ClientToken=token))
    second = launch.ec2.run_instances(**launch.request(ClientToken=token))
    assert first["ReservationId"] == second["ReservationId"]
    found = launch.ec2.describe_instances(Filters=[{"Name": "client-token", "Values": [token]}])["Reservations"]
    assert [machine["InstanceId"] for each in found for machine in each["Instances"]] == [
        first["Instances"][0]["InstanceId"]
    ]


def test_a_token_with_other_parameters_is_a_mismatch(launch: Launcher, token: str) -> None:
    launch(ClientToken=token)
    other = launch.request(ClientToken=token, InstanceType="t3.small")
    assert refusal(launch.ec2.run_instances, **other).startswith("IdempotentParameterMismatch")


def test_a_token_of_a_terminated_machine_launches_nothing(launch: Launcher, token: str) -> None:
    name = launch(ClientToken=token)
    launch.ec2.terminate_instances(InstanceIds=[name])
    launch.until(name, "terminated")
    again = launch.request(ClientToken=token)
    assert refusal(launch.ec2.run_instances, **again).startswith("IdempotentInstanceTerminated")


def test_a_token_counts_in_its_zone(launch: Launcher, token: str) -> None:
    one, two = list(subnets(launch).values())[:2]
    assert launch(ClientToken=token, SubnetId=one) != launch(ClientToken=token, SubnetId=two)
    assert launch(ClientToken=token, SubnetId=one) == launch(ClientToken=token, SubnetId=one)


def test_a_refused_request_does_not_use_up_its_token(launch: Launcher, token: str) -> None:
    refusal(launch.ec2.run_instances, **launch.request(ClientToken=token, KeyName="lost"))
    assert launch(ClientToken=token)


def test_tokens_are_each_regions_own(cloud: LocalCloud, launch: Launcher, token: str) -> None:
    assert launch(ClientToken=token) != launcher(cloud, "us-east-1")(ClientToken=token)


# --- launch templates ---------------------------------------------------------------------------------------------


def template(launch: Launcher, **data: Any) -> dict[str, str]:
    name = f"template-{next(_numbers)}"
    launch.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    return {"LaunchTemplateName": name, "Version": "$Latest"}


def test_a_template_keeps_its_shutdown_behaviour(launch: Launcher) -> None:
    wanted = template(
        launch,
        ImageId=launch.image,
        InstanceType="t3.small",
        InstanceInitiatedShutdownBehavior="terminate",
        UserData="IyEvYmluL3NoCnNodXRkb3duIC1oIG5vdwo=",
        TagSpecifications=[{"ResourceType": "instance", "Tags": TAGS}],
    )
    answer = launch.ec2.run_instances(LaunchTemplate=wanted, MinCount=1, MaxCount=1)
    machine = launch.until(answer["Instances"][0]["InstanceId"], "terminated")
    assert machine["InstanceType"] == "t3.small"
    assert {"Key": "job", "Value": "nightly"} in machine["Tags"]


def test_arguments_win_over_the_template(launch: Launcher) -> None:
    wanted = template(launch, InstanceType="t3.small", InstanceInitiatedShutdownBehavior="stop")
    name = launch("#!/bin/sh\nshutdown -h now\n", LaunchTemplate=wanted)
    assert launch.until(name, "terminated")["InstanceType"] == "t3.micro"


def test_a_templates_network_cards_refuse_a_subnet_on_top(launch: Launcher) -> None:
    wanted = template(launch, NetworkInterfaces=[{"DeviceIndex": 0, "AssociatePublicIpAddress": True}])
    subnet = next(iter(subnets(launch).values()))
    for more in ({"SubnetId": subnet}, {"SecurityGroupIds": ["sg-12345678"]}):
        request = launch.request(LaunchTemplate=wanted, **more)
        assert refusal(launch.ec2.run_instances, **request).startswith("InvalidParameterCombination")


# --- what an instance remembers -----------------------------------------------------------------------------------


def test_spot_machines_say_so(launch: Launcher) -> None:
    spec = [{"ResourceType": "spot-instances-request", "Tags": TAGS}]
    name = launch(InstanceMarketOptions=SPOT, TagSpecifications=spec)
    machine = launch.describe(name)
    assert machine["InstanceLifecycle"] == "spot"
    assert machine["SpotInstanceRequestId"].startswith("sir-")
    found = launch.ec2.describe_instances(Filters=[{"Name": "instance-lifecycle", "Values": ["spot"]}])["Reservations"]
    assert [each["Instances"][0]["InstanceId"] for each in found] == [name]


def test_an_unknown_filter_is_refused_not_a_crash(launch: Launcher) -> None:
    wanted = {"Filters": [{"Name": "no-such-filter", "Values": ["x"]}]}
    assert refusal(launch.ec2.describe_instances, **wanted).startswith("InvalidParameterValue")


def test_protected_machines_cannot_be_terminated(launch: Launcher) -> None:
    name = launch(DisableApiTermination=True)
    assert refusal(launch.ec2.terminate_instances, InstanceIds=[name]).startswith("OperationNotPermitted")
    launch.ec2.modify_instance_attribute(InstanceId=name, DisableApiTermination={"Value": False})
    launch.ec2.terminate_instances(InstanceIds=[name])
    launch.until(name, "terminated")


def test_the_shutdown_behaviour_can_be_changed_after_launch(launch: Launcher) -> None:
    name = launch("#!/bin/sh\nuntil [ -e /tmp/never ]; do sleep 0.1; done\n", InstanceInitiatedShutdownBehavior="stop")
    launch.ec2.modify_instance_attribute(InstanceId=name, InstanceInitiatedShutdownBehavior={"Value": "terminate"})
    seen = launch.ec2.describe_instance_attribute(InstanceId=name, Attribute="instanceInitiatedShutdownBehavior")
    assert seen["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"


def test_every_machine_of_a_launch_has_the_profile(cloud: LocalCloud, launch: Launcher) -> None:
    make_role(cloud, "crew")
    request = launch.request(MinCount=2, MaxCount=2, IamInstanceProfile={"Name": "crew"})
    names = [machine["InstanceId"] for machine in launch.ec2.run_instances(**request)["Instances"]]
    assert all(launch.describe(name)["IamInstanceProfile"]["Arn"].endswith("/crew") for name in names)


def make_role(cloud: LocalCloud, name: str) -> None:
    iam = cloud.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


def test_describe_answers_in_pages(launch: Launcher) -> None:
    names = {launch() for _ in range(6)}
    pages = launch.ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5})
    seen = [machine["InstanceId"] for page in pages for each in page["Reservations"] for machine in each["Instances"]]
    assert names <= set(seen)
    assert len(seen) == len(set(seen))


# --- clouds of their own (last: the module's cloud rests meanwhile) ---------------------------------------------------


def test_pending_and_the_lag_of_describe_can_be_seen(cloud: LocalCloud) -> None:
    cloud.stop()
    try:
        with LocalCloud(boot_delay=0.3, describe_lag=2) as slow:
            launch = launcher(slow)
            name = launch("#!/bin/sh\nshutdown -h now\n")
            for _ in range(2):
                assert refusal(launch.ec2.describe_instances, InstanceIds=[name]).startswith(
                    "InvalidInstanceID.NotFound"
                )
            assert launch.describe(name)["State"]["Name"] == "pending"
            assert launch.until(name, "terminated")
    finally:
        cloud.start()
