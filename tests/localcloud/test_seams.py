"""What of moto is replaced: all of it given back at the end, and each seam really there in moto 5.2.5."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_transient.localcloud import LocalCloud, LocalCloudError
from airflow_transient.localcloud.moto_sqs import COUNTED

pytestmark = pytest.mark.sandbox
SEAMS = {
    "moto.ec2.models.instances.Instance": ("terminate", "stop", "start"),
    "moto.ec2.models.instances.InstanceBackend": ("run_instances",),
    "moto.ec2.responses.instances.InstanceResponse": (
        *("run_instances", "describe_instances", "describe_instance_status", "modify_instance_attribute"),
    ),
    "moto.ec2.models.tags.TagBackend": ("describe_tags",),
    "moto.ec2.responses.general.General": ("get_console_output",),
    "moto.ec2.utils": ("passes_filter_dict",),
    "moto.ec2.models.fleets.FleetsBackend": ("create_fleet",),
    "moto.ec2.models.amis.Ami": ("block_device_mappings",),
    "moto.ec2.models.amis.AmiBackend": ("describe_images",),
    "moto.ec2.responses.amis.AmisResponse": ("create_image", "copy_image", "deregister_image"),
    "moto.sqs.models.Queue": ("add_message", "delete_message"),
    "moto.sqs.models.SQSBackend": (
        *("get_queue_attributes", "receive_message", "change_message_visibility", "purge_queue"),
    ),
    "moto.sqs.responses.SQSResponse": tuple(COUNTED.values()),
    "moto.ecs.responses.EC2ContainerServiceResponse": (
        *("run_task", "describe_tasks", "list_tasks", "stop_task", "describe_clusters", "delete_cluster"),
    ),
    "moto.cloudwatch.models.CloudWatchBackend": ("get_all_metrics",),
    "moto.events.responses.EventsHandler": ("put_events",),
    "moto.events.models.Rule": ("send_to_targets",),
    "moto.events.utils.EventTemplateParser": ("DEFAULT_EVENT_INPUT_TEMPLATE",),
    "moto.autoscaling.models.FakeAutoScalingGroup": (
        *("set_desired_capacity", "replace_autoscaling_group_instances", "update"),
    ),
    "moto.autoscaling.models.AutoScalingBackend": (
        *("notify_terminate_instances", "detach_instances", "terminate_instance"),
    ),
    "moto.autoscaling.responses.AutoScalingResponse": (*("delete_auto_scaling_group", "describe_scaling_activities"),),
}


def values() -> dict[str, Any]:
    import moto.autoscaling.models
    import moto.autoscaling.responses
    import moto.cloudwatch.models
    import moto.ec2.models.amis
    import moto.ec2.models.fleets
    import moto.ec2.models.instances
    import moto.ec2.models.tags
    import moto.ec2.responses.amis
    import moto.ec2.responses.general
    import moto.ec2.responses.instances
    import moto.ec2.utils
    import moto.ecs.responses
    import moto.events.models
    import moto.events.responses
    import moto.events.utils
    import moto.sqs.models
    import moto.sqs.responses

    found = {}
    for place, names in SEAMS.items():
        owner: Any = moto
        for part in place.split(".")[1:]:
            owner = getattr(owner, part)
        found.update({f"{place}.{name}": getattr(owner, name) for name in names})
    return found


def test_every_seam_is_replaced_and_given_back() -> None:
    before = values()
    with LocalCloud():
        during = values()
    assert all(during[name] is not before[name] for name in before)
    assert values() == before


def test_nothing_stays_of_a_cloud_that_stopped() -> None:
    with LocalCloud() as cloud:
        cloud.client("s3").create_bucket(
            Bucket="reports", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        cloud.client("sqs").create_queue(QueueName="q")
    with LocalCloud() as cloud:
        assert cloud.client("s3").list_buckets()["Buckets"] == []
        assert "QueueUrls" not in cloud.client("sqs").list_queues()


def test_one_at_a_time() -> None:
    with LocalCloud(), pytest.raises(LocalCloudError, match="runs in this process already"):
        LocalCloud().start()


@pytest.mark.parametrize(
    ("behaviour", "state"), [({}, "stopped"), ({"InstanceInitiatedShutdownBehavior": "terminate"}, "terminated")]
)
def test_fleets_boot_too(behaviour: dict[str, str], state: str) -> None:
    from .conftest import launcher

    with LocalCloud() as cloud:
        launch = launcher(cloud)
        data = {
            "ImageId": launch.image,
            "InstanceType": "t3.micro",
            "UserData": "IyEvYmluL3NoCnNodXRkb3duIC1oIG5vdwo=",
            **behaviour,
        }
        launch.ec2.create_launch_template(LaunchTemplateName="fleet", LaunchTemplateData=data)
        fleet = launch.ec2.create_fleet(
            Type="instant",
            LaunchTemplateConfigs=[
                {"LaunchTemplateSpecification": {"LaunchTemplateName": "fleet", "Version": "$Latest"}}
            ],
            TargetCapacitySpecification={
                "TotalTargetCapacity": 2,
                "OnDemandTargetCapacity": 2,
                "SpotTargetCapacity": 0,
                "DefaultTargetCapacityType": "on-demand",
            },
        )
        names = [name for each in fleet["Instances"] for name in each["InstanceIds"]]
        assert len(names) == 2
        for name in names:
            launch.until(name, state)
