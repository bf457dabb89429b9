"""What moto's RunInstances leaves out: templates in full, profiles for all, and requests for spot instances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moto.core.exceptions import ServiceException
from moto.ec2.models.spot_requests import SpotInstanceRequest
from moto.ec2.utils import random_spot_request_id

from airflow_transient.localcloud import ec2_rules, moto_reads
from airflow_transient.localcloud.machines import RECLAIMED

DEFAULT_TYPE = "m1.small"
# Was it reclaimed? https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html
SPOT_ENDS = {True: "instance-terminated-no-capacity", False: "instance-terminated-by-user"}


def template(backend: Any, wanted: Mapping[str, Any] | None) -> dict[str, Any]:
    if not wanted:
        return {}
    data: dict[str, Any] = dict(backend._get_template_from_args(wanted).data)
    if "UserData" in data:
        data["UserData"] = str(data["UserData"])  # moto's own type, which its own parser refuses
    return data


def pool(request: Mapping[str, Any], backend: Any) -> tuple[str, str, str]:
    """Instance type, zone and market that a request comes to; bound to no zone, moto takes the first."""
    zone = ec2_rules.zone(request, moto_reads.MotoRegion(backend)) or f"{backend.region_name}a"
    market = (request.get("InstanceMarketOptions") or {}).get("MarketType") or "on-demand"
    return str(request.get("InstanceType") or DEFAULT_TYPE), zone, str(market)


def pool_of_form(form: Mapping[str, str], region: str) -> tuple[str, str, str]:
    """The same from the request as it came, before moto has read it; of an unknown template, what is left."""
    if not region:  # unsigned: moto will not take it for EC2
        return "", "", ""
    backend = moto_reads.ec2(region)
    asked = {
        "InstanceType": form.get("InstanceType"),
        "SubnetId": form.get("SubnetId"),
        "Placement": _filled(AvailabilityZone=form.get("Placement.AvailabilityZone")),
        "NetworkInterfaces": [_filled(SubnetId=form["NetworkInterface.1.SubnetId"])]
        if "NetworkInterface.1.SubnetId" in form
        else [],
        "InstanceMarketOptions": _filled(MarketType=form.get("InstanceMarketOptions.MarketType")),
    }
    names = ("LaunchTemplateId", "LaunchTemplateName", "Version")
    wanted = {name: form[f"LaunchTemplate.{name}"] for name in names if f"LaunchTemplate.{name}" in form}
    try:
        below = template(backend, wanted)
    except ServiceException:
        below = {}
    return pool(ec2_rules.merged(below, asked), backend)


def _filled(**words: str | None) -> dict[str, str]:
    return {name: value for name, value in words.items() if value}


def complete(response: Any, reservation: Any, request: Mapping[str, Any]) -> None:
    profile = request.get("IamInstanceProfile") or {}
    for number, instance in enumerate(reservation.instances):
        instance.disable_api_termination = bool(request.get("DisableApiTermination"))
        if instance.lifecycle == "spot":
            _ask_for_spot(response, instance, request)
        if profile and number:  # moto gives the profile to the first instance only
            response.ec2_backend.associate_iam_instance_profile(
                instance.id,
                iam_instance_profile_name=profile.get("Name"),
                iam_instance_profile_arn=profile.get("Arn"),
            )


def completing_fleets(create: Callable[..., Any]) -> Callable[..., Any]:
    """moto: a fleet's template loses its shutdown behaviour. EC2's lock is held: no guest has shut down before this."""

    def create_fleet(backend: Any, *args: Any, **kwargs: Any) -> Any:
        fleet = create(backend, *args, **kwargs)
        launched = [(item["instance"], item["launch_spec"]) for item in fleet.on_demand_instances]
        launched += [(request.instance, request.launch_spec) for request in fleet.spot_requests]
        for instance, spec in launched:
            behaviour = template(backend, spec.launch_template_spec).get("InstanceInitiatedShutdownBehavior")
            instance.instance_initiated_shutdown_behavior = behaviour or "stop"
        return fleet

    return create_fleet


def _ask_for_spot(response: Any, instance: Any, request: Mapping[str, Any]) -> None:
    """The request that RunInstances makes by itself; moto makes none, and its own would launch again."""
    options = (request.get("InstanceMarketOptions") or {}).get("SpotOptions") or {}
    tags: dict[str, dict[str, str]] = {}
    for spec in request.get("TagSpecifications") or []:
        tags.setdefault(spec["ResourceType"], {}).update({tag["Key"]: tag["Value"] for tag in spec["Tags"]})
    made = LaunchedSpotRequest(
        instance,
        ec2_backend=response.ec2_backend,
        spot_request_id=random_spot_request_id(),
        price=options.get("MaxPrice"),
        image_id=instance.image_id,
        spot_instance_type=options.get("SpotInstanceType") or "one-time",
        valid_from=None,
        valid_until=options.get("ValidUntil"),
        launch_group=None,
        availability_zone_group=None,
        key_name=instance.key_name,
        security_groups=[group.id for group in instance.security_groups],
        user_data=None,
        instance_type=instance.instance_type,
        placement=instance.availability_zone,
        kernel_id=None,
        ramdisk_id=None,
        monitoring_enabled=instance.monitored,
        subnet_id=instance.subnet_id,
        tags=tags,
        spot_fleet_id=None,
        instance_interruption_behaviour=options.get("InstanceInterruptionBehavior"),
    )
    instance.spot_instance_request_id = made.id
    response.ec2_backend.spot_instance_requests[made.id] = made


class LaunchedSpotRequest(SpotInstanceRequest):
    """For an instance that exists; it ends with it."""

    def __init__(self, launched: Any, **words: Any) -> None:
        self._launched = launched
        super().__init__(**words)

    def launch_instance(self) -> Any:
        return self._launched

    @property
    def launched_availability_zone(self) -> str:
        return str(self._launched.availability_zone)

    @property
    def create_time(self) -> Any:
        return self._launched.launch_time

    @property
    def state(self) -> str:
        return "closed" if self._launched.state == "terminated" else "active"

    @state.setter
    def state(self, _: str) -> None:
        """moto's words at birth."""

    @property
    def status(self) -> dict[str, Any]:
        reclaimed = self._launched.state_reason.code == RECLAIMED.code
        code = SPOT_ENDS[reclaimed] if self.state == "closed" else "fulfilled"
        return {"Code": code, "Message": "", "UpdateTime": self._launched.launch_time}
