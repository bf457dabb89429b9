"""A launch made into that of a builder: a machine that stops, because its disk is still wanted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_transient.core.ec2.requests import tag_list
from airflow_transient.core.images.plan import Plan, is_image
from airflow_transient.core.launch import Launch
from airflow_transient.core.reaping import BUILDER
from airflow_transient.core.requests import Request

KIND = "image"


def as_builder(request: Request, plan: Plan) -> Request:
    """
    The one launch whose machine stops: `terminate` would delete the root volume (RunInstances, API reference).

    The machine tells what it is, so that the reaper leaves it while it is stopped and its task waits.
    """
    asked = dict(request.arguments)
    mark = {"Key": BUILDER, "Value": plan.name}
    asked["InstanceInitiatedShutdownBehavior"] = "stop"
    asked["TagSpecifications"] = [{**kind, "Tags": [*kind["Tags"], mark]} for kind in asked["TagSpecifications"]]
    return replace(request, arguments=asked, launch=replace(request.launch, kind=KIND, image=plan))


def builders_of(launch: Launch) -> tuple[str, ...]:
    """Its machine: a member at first, then known by the plan; an image that was there before has none."""
    machines = tuple(member for member in launch.ids if not is_image(member))
    builder = launch.image.builder if launch.image else None
    return machines or ((builder,) if builder else ())


def seen_as_machine(launch: Launch) -> Launch | None:
    """As links, page and reports know a launch: of an image its builder; None where it never had one."""
    if launch.kind != KIND:
        return launch
    builders = builders_of(launch)
    return replace(launch, kind="ec2", ids=builders, image=None) if builders else None


def create_image(plan: Plan, builder: str) -> dict[str, Any]:
    """The arguments of CreateImage. The machine is stopped already, so nothing is rebooted."""
    return {
        "InstanceId": builder,
        "Name": plan.name,
        "Description": f"{plan.family}, made from {plan.source} by airflow_transient",
        "TagSpecifications": tagged(plan.tags),
    }


def copy_image(launch: Launch, plan: Plan, image_id: str, region: str) -> dict[str, Any]:
    """The arguments of CopyImage, for a client of the region it goes to."""
    return {
        "ClientToken": f"{launch.token}-{region}",
        "Name": plan.name,
        "Description": f"{image_id} of {launch.region}, copied by airflow_transient",
        "SourceImageId": image_id,
        "SourceRegion": launch.region,
        "TagSpecifications": tagged(plan.tags),
    }


def tagged(tags: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": tag_list(tags)} for kind in ("image", "snapshot")]
