"""Spec + key + what was resolved -> the arguments of RunInstances. Pure: the same input asks with the same bytes.

What a launch template says about ending is overruled here: every launch of ours ends itself.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_transient.core.ec2.spec import Ec2Spec, MachineJob
from airflow_transient.core.launch import Launch, LaunchKey, draft_launch
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.errors import SpecError

#: What carries our tags; a spot request may be tagged only where there is one (RunInstances refuses it otherwise).
TAGGED: dict[str, tuple[str, ...]] = {
    "on-demand": ("instance", "volume"),
    "spot": ("instance", "volume", "spot-instances-request"),
}
#: What a launch decides itself, whatever a template says. Two hops: the job may run in a container on the machine.
ENDS_ITSELF: dict[str, Any] = {
    "InstanceInitiatedShutdownBehavior": "terminate",
    "DisableApiTermination": False,
    "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 2},
}
#: One-time: a persistent request would start a new machine whenever the job's own has ended.
ONCE = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}


@dataclass(frozen=True)
class Resolved:
    """
    What AWS said the spec's words mean today.

    `devices` are those of the launch template, and those of the image that would outlive the machine: name -> what EC2
    calls Ebs. `template_version` is a number: $Latest may be another one when the same request is sent again.
    """

    image_id: str | None
    root_device: str | None = None
    devices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    template_version: str | None = None
    hibernates: bool = False
    replaces_user_data: bool = False


def draft(
    spec: MachineJob,
    key: LaunchKey,
    region: str,
    now: datetime,
    so_far: Launch | str,
    kind: str = "ec2",
    **kind_of_its_own: Any,
) -> Launch:
    """The handle of one more attempt of machines, wherever they come from."""
    return draft_launch(
        kind,
        spec,
        key,
        region,
        now,
        so_far,
        receipts=f"{spec.results}{key.name}/" if spec.results else None,
        hold_seconds=int(spec.hold_on_failure.total_seconds()),
        **kind_of_its_own,
    )


def machine_tags(spec: MachineJob, key: LaunchKey, launch: Launch) -> dict[str, str]:
    return {"Name": f"{key.owner.dag_id}.{key.owner.task_id}"[:256], **spec.tags, **key.tags(launch)}


def run_instances(spec: Ec2Spec, key: LaunchKey, resolved: Resolved, pool: Pool, launch: Launch) -> dict[str, Any]:
    """The arguments of one RunInstances call for what the launch still misses, without its user data."""
    tags = tag_list(machine_tags(spec, key, launch))
    asked: dict[str, Any] = {
        "ClientToken": key.token,
        # What there is room for is taken; the rest is launched elsewhere.
        "MinCount": 1,
        "MaxCount": spec.count - len(launch.ids),
        **ENDS_ITSELF,
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in TAGGED[pool.market]],
    }
    wanted = {
        "ImageId": resolved.image_id,
        "InstanceType": pool.instance_type,
        "KeyName": spec.key_name,
        "IamInstanceProfile": profile(spec.instance_profile),
        "LaunchTemplate": _template(spec, resolved),
        "HibernationOptions": {"Configured": False} if resolved.hibernates else None,
        "BlockDeviceMappings": _devices(spec, resolved),
        "InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": ONCE} if pool.market == "spot" else None,
    }
    return asked | {name: value for name, value in wanted.items() if value} | _network(spec, pool)


def call(request: Request) -> dict[str, Any]:
    """What boto3 takes; it encodes UserData itself."""
    return {**request.arguments, "UserData": base64.b64decode(request.user_data)}


def _template(spec: Ec2Spec, resolved: Resolved) -> dict[str, str]:
    if not spec.launch_template:
        return {}
    asked = spec.launch_template.argument
    return {**asked, "Version": resolved.template_version or asked["Version"]}


def profile(words: str | None) -> dict[str, str]:
    return {"Arn" if words.startswith("arn:") else "Name": words} if words else {}


def _devices(spec: Ec2Spec, resolved: Resolved) -> list[dict[str, Any]]:
    """The root volume's size, and no volume outlives its machine."""
    devices = ending_with_it(resolved)
    if spec.volume_size:
        if not resolved.root_device:
            raise SpecError("volume_size needs the name of the image's root device, and the image does not tell it")
        root = devices.get(resolved.root_device, {"DeleteOnTermination": True})
        devices[resolved.root_device] = {**root, "VolumeSize": spec.volume_size}
    return [{"DeviceName": name, "Ebs": ebs} for name, ebs in devices.items()]


def ending_with_it(resolved: Resolved) -> dict[str, dict[str, Any]]:
    """Its volumes: name -> what EC2 calls Ebs."""
    return {name: {**ebs, "DeleteOnTermination": True} for name, ebs in sorted(resolved.devices.items())}


def _network(spec: Ec2Spec, pool: Pool) -> dict[str, Any]:
    groups = list(spec.security_group_ids)
    if spec.associate_public_ip is None:
        plain = {"SubnetId": pool.subnet_id, "SecurityGroupIds": groups}
        return {name: value for name, value in plain.items() if value}
    # A public address can be asked for only through an interface of one's own (RunInstances, API reference).
    door = {"SubnetId": pool.subnet_id, "Groups": groups}
    interface = {
        "DeviceIndex": 0,
        "AssociatePublicIpAddress": spec.associate_public_ip,
        "DeleteOnTermination": True,
        **{name: value for name, value in door.items() if value},
    }
    return {"NetworkInterfaces": [interface]}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as EC2 takes them."""
    return [{"Key": name, "Value": value} for name, value in tags.items()]
