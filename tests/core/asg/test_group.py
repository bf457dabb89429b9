"""What a group was, in words that fit in a tag; and what is asked of it, call by call."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient.core.asg import requests
from airflow_transient.core.asg.activities import NEVER, failed_to_launch, launching, newest, scope_of_failure
from airflow_transient.core.asg.group import (
    FLAG,
    OUR_TAGS,
    VALUE_LIMIT,
    Flag,
    Group,
    Source,
    Was,
    in_use,
    is_changed,
    unusable,
)
from airflow_transient.core.asg.requests import Plan
from airflow_transient.core.asg.spec import GroupSpec
from airflow_transient.core.ec2.requests import Resolved
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import LaunchKey, Owner

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
ALL = ("AZRebalance", "AddToLoadBalancer", "AlarmNotification", "HealthCheck", "InstanceRefresh", "Launch")
SOURCES = [
    pytest.param(Source("template", "lt-0123456789abcdef0"), id="a template without a version"),
    pytest.param(Source("template", "lt-0123456789abcdef0", "$Latest"), id="the latest version"),
    pytest.param(Source("mixed", "lt-0123456789abcdef0", "7"), id="a policy"),
    pytest.param(Source("config", "old: with = and / in it"), id="a launch configuration"),
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("own", [False, True])
def test_a_flag_tells_what_was_and_comes_back_as_it_went(source: Source, own: bool) -> None:
    flag = Flag("t1-2-3", T0, Was(1, 20, 1, ALL, source), own)
    assert Flag.of(flag.name, flag.words) == flag
    assert len(flag.words) <= VALUE_LIMIT
    assert "$" not in flag.words


@pytest.mark.parametrize("words", ["", "hm", "until=x a b", "until=1 template=ours min=1", "until=9" * 60])
def test_words_that_nobody_can_read_are_no_flag_to_act_on(words: str) -> None:
    assert Flag.of(FLAG + "t1-1-1", words).was is None


@pytest.mark.parametrize(
    ("launch_id", "now", "left"),
    [
        pytest.param("t2", T0 - timedelta(seconds=1), False, id="another's, in its time"),
        pytest.param("t2", T0 + timedelta(minutes=9), False, id="another's, which is about to give it back"),
        pytest.param("t2", T0 + timedelta(minutes=10), True, id="another's, over"),
        pytest.param("t1", T0 - timedelta(hours=1), True, id="an earlier attempt of our own"),
        pytest.param("t", T0 - timedelta(hours=1), False, id="a name that only begins alike"),
    ],
)
def test_a_flag_is_left_behind_when_its_time_is_over_or_it_is_our_own(
    launch_id: str, now: datetime, left: bool
) -> None:
    assert Flag("t1-1-1", T0, None).is_left_behind(launch_id, now) is left


def group(**words: Any) -> Group:
    said = {
        "AutoScalingGroupName": "batch",
        "MinSize": 0,
        "MaxSize": 2,
        "DesiredCapacity": 0,
        "LaunchTemplate": {"LaunchTemplateId": "lt-1", "LaunchTemplateName": "theirs", "Version": "3"},
        **words,
    }
    return Group.of(said)


def member(state: str) -> dict[str, str]:
    return {"InstanceId": "i-1", "LifecycleState": state, "HealthStatus": "Healthy"}


@pytest.mark.parametrize(
    ("state", "free"),
    [
        ("Pending", False),
        ("Pending:Wait", False),
        ("InService", False),
        ("Standby", False),
        ("Terminating", True),
        ("Terminating:Wait", True),
        ("Detaching", True),
        ("Terminated", True),
    ],
)
def test_a_group_whose_machines_are_all_leaving_is_free(state: str, free: bool) -> None:
    assert (in_use(group(Instances=[member(state)]), None) is None) is free


def test_our_own_flag_does_not_keep_us_out() -> None:
    flag = Flag("t1-1-1", T0 + timedelta(minutes=5), group().was)
    flagged = group(Tags=[{"Key": flag.name, "Value": flag.words}])
    assert in_use(flagged, "t1-1-1") is None
    assert "t1-1-1" in str(in_use(flagged, "t2-1-1"))


def test_capacity_in_weights_is_no_number_of_machines() -> None:
    policy = {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1"},
            "Overrides": [{"InstanceType": "m5.large", "WeightedCapacity": "2"}],
        }
    }
    assert "weights" in str(unusable(group(MixedInstancesPolicy=policy), reports=False))


@pytest.mark.parametrize(
    ("words", "scope"),
    [
        ("We currently do not have sufficient m5.large capacity in the Availability Zone you requested", Scope.POOL),
        ("You have requested more vCPU capacity than your current vCPU limit of 32 allows", Scope.POOL),
        ("Your quota allows for 0 more running instance(s).", Scope.POOL),
        ("Your requested instance type is not supported in your requested Availability Zone.", Scope.POOL),
        ("The image id '[ami-1]' does not exist. Launching EC2 instance failed.", Scope.SPEC),
        ("You are not authorized to use launch template: lt-1", Scope.SPEC),
    ],
)
def test_why_a_group_could_not_launch(words: str, scope: Scope) -> None:
    assert scope_of_failure(words) is scope


def activity(status: str, minutes: int, what: str = "Launching a new EC2 instance") -> dict[str, Any]:
    start = T0 + timedelta(minutes=minutes)
    return {"Description": what, "StatusCode": status, "StartTime": start, "StatusMessage": f"{status} {minutes}"}


def test_only_what_failed_since_counts_and_only_launches() -> None:
    past = [activity("Failed", -1), activity("Failed", 1, "Terminating EC2 instance: i-1"), activity("Successful", 1)]
    assert failed_to_launch(past, T0) is None
    assert failed_to_launch([activity("Failed", 2), *past], T0) == "Failed 2"
    assert launching(past) is None
    assert launching([activity("WaitingForSpotInstanceId", 1)]) == "Launching a new EC2 instance"
    assert launching([activity("InProgress", 1, "Terminating EC2 instance: i-1")]) is None


@pytest.mark.parametrize(
    ("activities", "failed"),
    [
        pytest.param([activity("Failed", 1)], True, id="it failed"),
        pytest.param([activity("Successful", 2), activity("Failed", 1)], False, id="and then it went well"),
        pytest.param([activity("InProgress", 2), activity("Failed", 1)], False, id="and it is trying again"),
        pytest.param([activity("InProgress", 1), activity("Failed", 2)], False, id="of two one is under way"),
        pytest.param([activity("Failed", 2), activity("Successful", 1)], True, id="one came, and the next did not"),
        pytest.param([activity("Failed", 0)], False, id="the one that was there before"),
    ],
)
def test_a_group_has_failed_where_its_newest_launch_has(activities: list[dict[str, Any]], failed: bool) -> None:
    assert bool(failed_to_launch(activities, T0)) is failed


def test_what_was_there_before_is_told_by_awss_own_clock() -> None:
    assert newest([]) == NEVER
    assert newest([activity("InProgress", 1), activity("Failed", 7), activity("Failed", 3)]) == T0 + timedelta(
        minutes=7
    )


@pytest.mark.parametrize("name", OUR_TAGS)
def test_a_tag_of_the_owner_by_a_name_of_ours_is_refused(name: str) -> None:
    mine = [{"Key": name, "Value": "x"}]
    assert name in str(unusable(group(Tags=mine), reports=False))
    flag = Flag("t1-1-1", T0, group().was)
    assert unusable(group(Tags=[*mine, {"Key": flag.name, "Value": flag.words}]), reports=False) is None


def test_the_names_of_ours_are_those_of_a_launch() -> None:
    key = LaunchKey(Owner("tests", "dag", "run", "task"), "t1")
    spec = GroupSpec.of(group_name="batch", command="true", hold_on_failure=60)
    assert tuple(key.tags(requests.draft(spec, key, "eu-west-1", T0, "n" * 16))) == OUR_TAGS


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        pytest.param({}, False, id="as it was"),
        pytest.param({"MaxSize": 3}, True, id="another size"),
        pytest.param({"SuspendedProcesses": [{"ProcessName": "Launch"}]}, True, id="theirs is resumed"),
        pytest.param(
            {"SuspendedProcesses": [{"ProcessName": one} for one in ("HealthCheck", "Launch")]}, False, id="and ours"
        ),
        pytest.param(
            {"SuspendedProcesses": [{"ProcessName": one} for one in ("HealthCheck", "Terminate")]}, True, id="and not"
        ),
    ],
)
def test_what_an_earlier_try_has_suspended_is_no_change(words: dict[str, Any], changed: bool) -> None:
    known = {"SuspendedProcesses": [{"ProcessName": "HealthCheck"}]}
    assert is_changed(group(**known | words), group(**known).was) is changed


# --- calls


def plan(**words: Any) -> Plan:
    known = {"group": "batch", "token": "t1-1-1", "wanted": 3, "was": group().was}
    return Plan(**known | {"since": T0, "until": T0, "tags": {"Name": "n", "transient:launch": "t1-1-1"}} | words)


def test_a_plan_survives_the_store() -> None:
    made = plan(template={"ImageId": "ami-1"})
    assert Plan.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_what_was_suspended_before_is_neither_suspended_nor_resumed() -> None:
    was = group(SuspendedProcesses=[{"ProcessName": "AZRebalance"}, {"ProcessName": "HealthCheck"}]).was
    assert requests.to_suspend(was) == ["ReplaceUnhealthy", "ScheduledActions", "AlarmNotification", "InstanceRefresh"]
    assert requests.suspended(was) == [*requests.to_suspend(was), "Launch"]


def test_capacity_and_template_change_in_one_call_and_the_maximum_only_where_it_must() -> None:
    assert requests.more_capacity(plan(wanted=2), group(), 2) == {"AutoScalingGroupName": "batch", "DesiredCapacity": 2}
    ours = requests.more_capacity(plan(template={"ImageId": "ami-1"}), group(Instances=[member("InService")]), 2)
    assert (ours["DesiredCapacity"], ours["MaxSize"]) == (3, 3)
    assert ours["LaunchTemplate"] == {"LaunchTemplateName": "transient-t1-1-1", "Version": "1"}


@pytest.mark.parametrize(
    ("asked", "words", "ours"),
    [
        pytest.param({"DesiredCapacity": 2}, {"DesiredCapacity": 2}, True, id="the very sizes"),
        pytest.param(
            {"DesiredCapacity": 4, "MaxSize": 4}, {"DesiredCapacity": 4, "MaxSize": 4}, True, id="and maximum"
        ),
        pytest.param({"DesiredCapacity": 2}, {}, False, id="nothing came"),
        pytest.param({"DesiredCapacity": 2}, {"DesiredCapacity": 1}, False, id="another size: the owner's"),
        pytest.param({"DesiredCapacity": 2}, {"DesiredCapacity": 2, "MaxSize": 9}, False, id="another maximum"),
    ],
)
def test_capacity_is_ours_by_the_very_sizes_that_we_asked_for(
    asked: dict[str, Any], words: dict[str, Any], ours: bool
) -> None:
    assert requests.is_what_we_asked(plan(), asked, group(), group(**words)) is ours


@pytest.mark.parametrize(("name", "ours"), [("transient-t1-1-1", True), ("theirs", False)])
def test_capacity_with_a_template_of_ours_is_ours_by_that_template(name: str, ours: bool) -> None:
    said = group(DesiredCapacity=2, LaunchTemplate={"LaunchTemplateId": "lt-9", "LaunchTemplateName": name})
    mine = plan(template={"ImageId": "ami-1"})
    assert requests.is_what_we_asked(mine, {"DesiredCapacity": 2}, group(), said) is ours


def test_nothing_is_asked_of_a_group_that_is_as_it_was() -> None:
    flag = Flag("t1-1-1", T0, group().was, own_template=True)
    assert requests.as_it_was(group(), flag, theirs=False) == {}
    changed = group(DesiredCapacity=2, LaunchTemplate={"LaunchTemplateId": "lt-9", "LaunchTemplateName": "new"})
    assert "LaunchTemplate" not in requests.as_it_was(changed, flag, theirs=False)
    ours = {"LaunchTemplateId": "lt-9", "LaunchTemplateName": "transient-t1-1-1", "Version": "1"}
    assert requests.as_it_was(group(MaxSize=9, LaunchTemplate=ours), flag, theirs=False) == {
        "MinSize": 0,
        "MaxSize": 2,
        "DesiredCapacity": 0,
        "LaunchTemplate": {"LaunchTemplateId": "lt-1", "Version": "3"},
    }


def test_nothing_that_is_asked_ends_a_machine_of_somebody_else() -> None:
    crowded = group(Instances=[member("InService")], DesiredCapacity=3, MaxSize=9)
    flag = Flag("t1-1-1", T0, group(MaxSize=0).was)
    sizes = {"MinSize": 0, "MaxSize": 1, "DesiredCapacity": 1}
    assert requests.as_it_was(crowded, flag, theirs=True) == sizes
    assert requests.as_it_was(crowded, flag, theirs=False) == {"MinSize": 0, "MaxSize": 0, "DesiredCapacity": 0}


def test_the_owners_own_tags_stay_whatever_they_are_called() -> None:
    names = ("transient:keep", "transient:launch", "team", FLAG + "t1-1-1")
    marked = group(Tags=[{"Key": name, "Value": "x"} for name in names])
    assert [tag["Key"] for tag in requests.without_our_tags(marked)["Tags"]] == ["transient:launch"]


def test_our_template_is_theirs_but_for_how_it_ends() -> None:
    theirs = {
        "ImageId": "ami-1",
        "UserData": "c2VjcmV0",
        "InstanceInitiatedShutdownBehavior": "stop",
        "MetadataOptions": {"InstanceMetadataTags": "enabled", "HttpTokens": "optional"},
        "InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.1"}},
        "BlockDeviceMappings": [{"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 8, "DeleteOnTermination": False}}],
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "x"}]},
            {"ResourceType": "network-interface", "Tags": [{"Key": "team", "Value": "x"}]},
        ],
    }
    resolved = Resolved("ami-1", devices={"/dev/sdb": {"VolumeSize": 8, "DeleteOnTermination": False}})
    ours = requests.our_template(theirs, resolved, {"transient:launch": "t1-1-1"})
    assert "UserData" not in ours
    assert ours["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert ours["MetadataOptions"]["InstanceMetadataTags"] == "enabled"
    assert ours["MetadataOptions"]["HttpTokens"] == "required"
    assert ours["InstanceMarketOptions"]["SpotOptions"]["MaxPrice"] == "0.1"
    assert ours["InstanceMarketOptions"]["SpotOptions"]["SpotInstanceType"] == "one-time"
    assert ours["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"] is True
    tags = {one["ResourceType"]: [tag["Key"] for tag in one["Tags"]] for one in ours["TagSpecifications"]}
    assert tags == {
        "instance": ["team", "transient:launch"],
        "volume": ["transient:launch"],
        "network-interface": ["team"],
    }


def test_a_launch_configuration_in_the_words_of_a_template() -> None:
    config = {
        "ImageId": "ami-1",
        "InstanceType": "t3.small",
        "SecurityGroups": ["sg-1"],
        "IamInstanceProfile": "arn:aws:iam::123456789012:instance-profile/p",
        "AssociatePublicIpAddress": True,
        "SpotPrice": "0.05",
        "BlockDeviceMappings": [{"DeviceName": "/dev/sdc", "NoDevice": True}],
        "InstanceMonitoring": {"Enabled": True},
        "PlacementTenancy": "dedicated",
        "KeyName": "",
    }
    assert requests.template_of_config(config) == {
        "ImageId": "ami-1",
        "InstanceType": "t3.small",
        "Monitoring": {"Enabled": True},
        "IamInstanceProfile": {"Arn": "arn:aws:iam::123456789012:instance-profile/p"},
        "BlockDeviceMappings": [{"DeviceName": "/dev/sdc", "NoDevice": ""}],
        "Placement": {"Tenancy": "dedicated"},
        "InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.05"}},
        "NetworkInterfaces": [{"DeviceIndex": 0, "AssociatePublicIpAddress": True, "Groups": ["sg-1"]}],
    }
