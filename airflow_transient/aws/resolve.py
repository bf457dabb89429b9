"""What a spec's words mean in this account today: the image, what its devices do, what its launch template says."""

from __future__ import annotations

from typing import Any

from airflow_transient.aws.launcher import ClientFactory, said_plainly
from airflow_transient.core.ec2.requests import Resolved
from airflow_transient.core.ec2.spec import Ec2Spec, Image
from airflow_transient.errors import SpecError


def resolve(client: ClientFactory, spec: Ec2Spec) -> Resolved:
    """Look the words up; raises SpecError for what does not exist or cannot be a transient launch."""
    template = _template(client("ec2"), spec)
    if spec.launch_template:
        _check_template(spec, template)
    image_id = _image_id(client, spec.image) or template.get("ImageId")
    if not image_id:
        raise SpecError("the launch template names no image: give image_id, image_ssm_parameter or image_name")
    if image_id.startswith("resolve:ssm:"):
        image_id = _by_parameter(client("ssm"), image_id.removeprefix("resolve:ssm:"))
    image = _image(client("ec2"), image_id)
    if image.get("RootDeviceType") == "instance-store":
        raise SpecError(
            f"{image_id} is an instance-store image: EC2 cannot terminate those on shutdown; use an EBS image"
        )
    return Resolved(
        image_id=image_id,
        root_device=image.get("RootDeviceName"),
        devices=_lasting(image) | _ebs(template),
        template_version=template.get("VersionNumber"),
        hibernates=bool(template.get("HibernationOptions", {}).get("Configured")),
        replaces_user_data=bool(template.get("UserData")),
    )


def _lasting(image: dict[str, Any]) -> dict[str, Any]:
    """The image's volumes that would outlive the machine. Size aside, EC2 takes the rest from the image itself."""
    found = {m["DeviceName"]: m.get("Ebs", {}) for m in image.get("BlockDeviceMappings", [])}
    return {
        name: {"VolumeSize": ebs["VolumeSize"]} if "VolumeSize" in ebs else {}
        for name, ebs in found.items()
        if ebs.get("DeleteOnTermination") is False
    }


def _ebs(template: dict[str, Any]) -> dict[str, Any]:
    """The template's volumes, whole: a mapping in the call replaces the template's of the same name."""
    return {m["DeviceName"]: m["Ebs"] for m in template.get("BlockDeviceMappings", []) if m.get("Ebs")}


def _image_id(client: ClientFactory, image: Image) -> str | None:
    if image.id:
        return image.id
    if image.ssm_parameter:
        return _by_parameter(client("ssm"), image.ssm_parameter)
    if image.name:
        return _newest(client("ec2"), image)
    return None


def _by_parameter(ssm: Any, name: str) -> str:
    try:
        with said_plainly("ssm:GetParameter"):
            value: str = ssm.get_parameter(Name=name)["Parameter"]["Value"]
    except SpecError as error:
        raise SpecError(f"image_ssm_parameter {name!r} does not name an image: {error}") from error
    if not value.startswith("ami-"):
        raise SpecError(f"image_ssm_parameter {name!r} holds {value[:40]!r}, which is no AMI id")
    return value


def _newest(ec2: Any, image: Image) -> str:
    """As Packer's source_ami_filter with most_recent does."""
    with said_plainly("ec2:DescribeImages"):
        pages = ec2.get_paginator("describe_images").paginate(
            Owners=list(image.owners),
            Filters=[{"Name": "name", "Values": [image.name]}, {"Name": "state", "Values": ["available"]}],
        )
        found = [found for page in pages for found in page["Images"]]
    if not found:
        raise SpecError(f"no image is named {image.name!r} among those of {', '.join(image.owners)} in this region")
    newest: str = max(found, key=lambda i: (i["CreationDate"], i["ImageId"]))["ImageId"]
    return newest


def _image(ec2: Any, image_id: str) -> dict[str, Any]:
    with said_plainly("ec2:DescribeImages"):
        images = ec2.describe_images(ImageIds=[image_id])["Images"]
    if not images:
        raise SpecError(f"{image_id}: no such image in this region, or it is not shared with this account")
    found: dict[str, Any] = images[0]
    return found


def _template(ec2: Any, spec: Ec2Spec) -> dict[str, Any]:
    if not spec.launch_template:
        return {}
    asked = spec.launch_template.argument
    with said_plainly("ec2:DescribeLaunchTemplateVersions"):
        versions = ec2.describe_launch_template_versions(
            Versions=[asked["Version"]], **{k: v for k, v in asked.items() if k != "Version"}
        )["LaunchTemplateVersions"]
    if not versions:
        raise SpecError(f"launch template {asked} has no such version")
    data: dict[str, Any] = versions[0]["LaunchTemplateData"]
    return {**data, "VersionNumber": str(versions[0]["VersionNumber"])}


def _check_template(spec: Ec2Spec, template: dict[str, Any]) -> None:
    """Refuse here, with a sentence, what RunInstances refuses with a code, and what could outlive its job."""
    interfaces = template.get("NetworkInterfaces")
    if interfaces and (spec.subnet_ids or spec.security_group_ids or spec.associate_public_ip is not None):
        raise SpecError(
            "the launch template brings its own network interfaces; EC2 refuses subnet_ids, security_group_ids and "
            "associate_public_ip on top of them: leave those out, or take the interfaces out of the template"
        )
    if any(i.get("DeleteOnTermination") is False for i in interfaces or ()):
        raise SpecError("the launch template keeps a network interface after termination: set its DeleteOnTermination")
    spot = template.get("InstanceMarketOptions", {}).get("SpotOptions", {})
    if spot.get("SpotInstanceType") == "persistent":
        raise SpecError(
            "the launch template asks for a persistent spot request, which starts a new machine whenever the job's own "
            "has ended: use a one-time request"
        )
    if not spec.instance_types and not template.get("InstanceType"):
        raise SpecError("the launch template names no instance type: give instance_type")
