"""The launch template of ours for one launch: what the group launches from, with our boot script in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_transient.aws import launcher
from airflow_transient.aws.asg_desk import Desk
from airflow_transient.aws.launcher import ClientFactory
from airflow_transient.aws.resolve import resolve
from airflow_transient.core.asg import requests
from airflow_transient.core.asg.group import Source
from airflow_transient.core.asg.requests import Plan
from airflow_transient.core.asg.spec import GroupSpec
from airflow_transient.core.ec2.requests import tag_list
from airflow_transient.core.ec2.spec import Image, LaunchTemplate
from airflow_transient.errors import SpecError

GONE = ("InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateName.NotFoundException")
THERE = "InvalidLaunchTemplateName.AlreadyExistsException"


def drawn_up(
    client: ClientFactory, desk: Desk, spec: GroupSpec, source: Source, tags: Mapping[str, str]
) -> dict[str, Any]:
    """Its data without the user data. Raises SpecError for what cannot be a transient launch, AccessError."""
    if source.kind == "config":
        base = requests.template_of_config(desk.config(source.name))
        machine = replace(spec.machine(), launch_template=None, image=Image(base["ImageId"]), instance_profile="own")
    else:
        version = source.version or "$Default"
        base = _base(client, source.name, version)
        machine = spec.machine(LaunchTemplate(id=source.name, version=version))
    return requests.our_template(base, resolve(client, machine), tags)


def _base(client: ClientFactory, id: str, version: str) -> dict[str, Any]:
    with launcher.said_plainly("ec2:DescribeLaunchTemplateVersions"):
        ec2 = client("ec2")
        found = ec2.describe_launch_template_versions(LaunchTemplateId=id, Versions=[version])["LaunchTemplateVersions"]
    if not found:
        raise SpecError(f"launch template {id} has no version {version}, which its group launches from")
    kept: dict[str, Any] = _kept(
        found[0]["LaunchTemplateData"], ec2.meta.service_model.shape_for("RequestLaunchTemplateData")
    )
    return kept


def _kept(said: Any, shape: Any) -> Any:
    """As much of an answer as a request may hold: EC2 tells more of a template than it takes."""
    if shape.type_name == "structure":
        return {name: _kept(value, shape.members[name]) for name, value in said.items() if name in shape.members}
    if shape.type_name == "list":
        return [_kept(one, shape.member) for one in said]
    return said


def publish(client: ClientFactory, plan: Plan, user_data: str) -> None:
    """
    Once, however often it is asked for: its name is the launch's.

    :param user_data: base64, as EC2 takes it here.
    """
    with launcher.said_plainly("ec2:CreateLaunchTemplate"):
        try:
            client("ec2").create_launch_template(
                LaunchTemplateName=plan.template_name,
                ClientToken=plan.token,
                LaunchTemplateData={**(plan.template or {}), "UserData": user_data},
                TagSpecifications=[{"ResourceType": "launch-template", "Tags": tag_list(plan.tags)}],
            )
        except launcher.FAILURES as error:
            if launcher.code_of(error) != THERE:
                raise


def withdraw(client: ClientFactory, name: str) -> None:
    """One that is not there is what was wanted."""
    with launcher.said_plainly("ec2:DeleteLaunchTemplate"):
        try:
            client("ec2").delete_launch_template(LaunchTemplateName=name)
        except launcher.FAILURES as error:
            if launcher.code_of(error) not in GONE:
                raise
