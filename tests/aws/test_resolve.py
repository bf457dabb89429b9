"""What an image's words mean: the newest of a name, and whose disks stay behind."""

from __future__ import annotations

from typing import Any

from airflow_transient.aws.resolve import resolve
from airflow_transient.core.ec2.spec import Ec2Spec

NAMED = {"command": "true", "image_name": "al2023-*", "image_owners": "amazon", "instance_type": "t3.small"}


def image(name: str, made: str, **more: Any) -> dict[str, Any]:
    return {"ImageId": name, "CreationDate": made, "RootDeviceName": "/dev/xvda", **more}


class Ec2:
    def __init__(self, *images: dict[str, Any], template: dict[str, Any] | None = None) -> None:
        self.images, self.template = images, template or {}

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, **_: Any) -> Any:
        return [{"Images": [one]} for one in self.images]

    def describe_images(self, ImageIds: list[str]) -> Any:
        return {"Images": [one for one in self.images if one["ImageId"] in ImageIds]}

    def describe_launch_template_versions(self, **_: Any) -> Any:
        return {"LaunchTemplateVersions": [{"VersionNumber": 7, "LaunchTemplateData": self.template}]}


def resolved(ec2: Ec2, **words: Any) -> Any:
    return resolve(lambda service: ec2, Ec2Spec.of(**{**NAMED, **words}))


def test_of_a_name_the_newest_is_meant_and_not_the_last_id() -> None:
    old, new = image("ami-00000009", "2026-01-01T00:00:00Z"), image("ami-00000001", "2026-11-01T00:00:00Z")
    assert resolved(Ec2(old, new)).image_id == resolved(Ec2(new, old)).image_id == "ami-00000001"


def test_a_template_s_disk_stands_in_for_the_image_s_of_the_same_name() -> None:
    disk = {"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 8, "DeleteOnTermination": False}}
    ours = {"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 50, "Encrypted": True}}
    ec2 = Ec2(image("ami-00000001", "2026", BlockDeviceMappings=[disk]), template={"BlockDeviceMappings": [ours]})
    assert resolved(ec2).devices == {"/dev/sdb": {"VolumeSize": 8}}
    assert resolved(ec2, launch_template="base").devices == {"/dev/sdb": {"VolumeSize": 50, "Encrypted": True}}
