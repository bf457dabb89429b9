"""Who uses which images: instances, launch templates, Auto Scaling groups, parameters, other accounts.

Raises TransientError where that cannot be asked: then nobody may say that an image is not in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws.ec2_looks import FILTER_LIMIT, describe
from airflow_transient.aws.launcher import ClientFactory, code_of, said_plainly
from airflow_transient.core.images.keeping import Image, parameters_of

#: How a launch template, or an override in a group, follows a parameter: then its name, and `:version` or `:label`.
FOLLOWS = "resolve:ssm:"
#: AWS's own parameters name AWS's own images, and nobody else can write there.
AWSS_OWN = "/aws/"
NO_SUCH = ("ParameterNotFound", "ParameterVersionNotFound")

#: From an image as it is named, by its id or by a parameter, to its id; None: by nothing that is there.
Resolve = Callable[[str], str | None]


def in_use(client: ClientFactory, region: str, images: Sequence[Image], parameter: str | None) -> dict[str, str]:
    """
    Image id -> by whom.

    :param parameter: one that is asked for whatever the images' tags say.
    """
    ec2, resolve = client("ec2", region_name=region), _resolving(client("ssm", region_name=region))
    used = dict(_by_instances(ec2, images))
    used |= _by_templates(ec2, resolve)
    used |= _by_groups(client("autoscaling", region_name=region), ec2, resolve)
    used |= _by_parameters((*parameters_of(images), *([parameter] if parameter else ())), resolve)
    return used


def shared(ec2: Any, images: Sequence[Image]) -> dict[str, str]:
    """Image id -> with whom."""
    found = {}
    for image in images:
        with said_plainly("ec2:DescribeImageAttribute"):
            said = ec2.describe_image_attribute(ImageId=image.id, Attribute="launchPermission")
        if said.get("LaunchPermissions"):
            found[image.id] = "it is shared with other accounts"
    return found


def _resolving(ssm: Any) -> Resolve:
    """Each parameter is asked for once. EC2's own `ResolveAlias` leaves open what it answers where it may not read."""

    @cache
    def value(name: str) -> str | None:
        with said_plainly(f"ssm:GetParameter ({name})"):
            try:
                return str(ssm.get_parameter(Name=name)["Parameter"]["Value"])
            except ClientError as error:
                if code_of(error) not in NO_SUCH:
                    raise
        return None

    def resolve(named: str) -> str | None:
        if not named.startswith(FOLLOWS):
            return named
        name = named.removeprefix(FOLLOWS)
        return None if name.startswith(AWSS_OWN) else value(name)

    return resolve


def _by_instances(ec2: Any, images: Sequence[Image]) -> Iterator[tuple[str, str]]:
    ids = [image.id for image in images]
    for start in range(0, len(ids), FILTER_LIMIT):
        filters = [
            {"Name": "image-id", "Values": ids[start : start + FILTER_LIMIT]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped", "shutting-down"]},
        ]
        with said_plainly("ec2:DescribeInstances"):
            for each in describe(ec2, filters):
                yield each["ImageId"], f"instance {each['InstanceId']} runs it"


def _by_templates(ec2: Any, resolve: Resolve) -> dict[str, str]:
    """Of every launch template the versions that a launch takes when it names none."""
    with said_plainly("ec2:DescribeLaunchTemplateVersions"):
        pages = ec2.get_paginator("describe_launch_template_versions").paginate(Versions=["$Default", "$Latest"])
        versions = [version for page in pages for version in page["LaunchTemplateVersions"]]
    used = {}
    for version in versions:
        if image := resolve(version["LaunchTemplateData"].get("ImageId") or ""):
            used[image] = f"launch template {_name(version)} names it"
    return used


def _by_groups(autoscaling: Any, ec2: Any, resolve: Resolve) -> dict[str, str]:
    """The versions that Auto Scaling groups pin, what overrides them, and their old launch configurations."""
    used = {}
    with said_plainly("autoscaling:DescribeAutoScalingGroups"):
        pages = autoscaling.get_paginator("describe_auto_scaling_groups").paginate()
        groups = [group for page in pages for group in page["AutoScalingGroups"]]
    for group in groups:
        named = [_image_of(ec2, template) for template in _templates_of(group)]
        for image in filter(None, map(resolve, (*named, *(one.get("ImageId") or "" for one in _overrides(group))))):
            used[image] = f"Auto Scaling group {group['AutoScalingGroupName']} launches it"
    if any(group.get("LaunchConfigurationName") for group in groups):
        with said_plainly("autoscaling:DescribeLaunchConfigurations"):
            pages = autoscaling.get_paginator("describe_launch_configurations").paginate()
            for old in (one for page in pages for one in page["LaunchConfigurations"]):
                used[old["ImageId"]] = f"launch configuration {old['LaunchConfigurationName']} names it"
    return used


def _mixed(group: Mapping[str, Any]) -> Mapping[str, Any]:
    mixed: Mapping[str, Any] = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
    return mixed


def _overrides(group: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    overrides: Sequence[Mapping[str, Any]] = _mixed(group).get("Overrides", ())
    return overrides


def _templates_of(group: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    overrides = (one.get("LaunchTemplateSpecification") for one in _overrides(group))
    for template in (group.get("LaunchTemplate"), _mixed(group).get("LaunchTemplateSpecification"), *overrides):
        if template:
            yield template


def _image_of(ec2: Any, template: Mapping[str, Any]) -> str:
    """As the template names it; nothing where it names none."""
    by_id = template.get("LaunchTemplateId")
    who = {"LaunchTemplateId": by_id} if by_id else {"LaunchTemplateName": template.get("LaunchTemplateName")}
    with said_plainly("ec2:DescribeLaunchTemplateVersions"):
        answer = ec2.describe_launch_template_versions(Versions=[template.get("Version") or "$Default"], **who)
    versions = answer["LaunchTemplateVersions"]
    return str(versions[0]["LaunchTemplateData"].get("ImageId") or "") if versions else ""


def _by_parameters(names: Sequence[str], resolve: Resolve) -> dict[str, str]:
    named = {name: resolve(FOLLOWS + name) for name in names}
    return {image: f"parameter {name} names it" for name, image in named.items() if image}


def _name(version: Mapping[str, Any]) -> str:
    return f"{version.get('LaunchTemplateName')} (version {version.get('VersionNumber')})"
