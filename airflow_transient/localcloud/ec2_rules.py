"""What EC2 refuses in a RunInstances request, where moto says yes: one small rule each, no state, no moto.

A rule looks at the effective parameters (template and call merged) and raises `Refused` with AWS's code,
or returns.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from airflow_transient.localcloud.errors import Refused

Request = Mapping[str, Any]
USER_DATA_LIMIT = 16384
SPOT_TAGS = "spot-instances-request"


class Region(Protocol):
    """What exists in the region the request is for."""

    def has_image(self, image_id: str) -> bool: ...

    def has_type(self, name: str) -> bool: ...

    def has_group(self, group_id: str) -> bool: ...

    def has_key(self, name: str) -> bool: ...

    def has_profile(self, name: str | None = None, arn: str | None = None) -> bool: ...

    def zone_of(self, subnet_id: str) -> str | None: ...


def check(request: Request, region: Region) -> None:
    for rule in RULES:
        rule(request, region)


def _counts(request: Request, _: Region) -> None:
    least, most = int(request.get("MinCount", 1)), int(request.get("MaxCount", 1))
    if least < 1 or most < 1:
        raise Refused("InvalidParameterValue", f"Value ({min(least, most)}) for parameter minCount is invalid.")
    if least > most:
        raise Refused("InvalidParameterValue", f"The maxCount ({most}) must be at least the minCount ({least}).")


def _user_data(request: Request, _: Region) -> None:
    try:
        raw = base64.b64decode(str(request.get("UserData") or ""), validate=True)
    except binascii.Error:
        raise Refused("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from None
    if len(raw) > USER_DATA_LIMIT:
        raise Refused("InvalidParameterValue", f"User data is limited to {USER_DATA_LIMIT} bytes")


def _image(request: Request, region: Region) -> None:
    image = request.get("ImageId")
    if not image:
        raise Refused("MissingParameter", "The request must contain the parameter ImageId")
    if not re.fullmatch(r"ami-([0-9a-f]{8}|[0-9a-f]{17})", image):
        raise Refused("InvalidAMIID.Malformed", f'Invalid id: "{image}" (expecting "ami-...")')
    if not region.has_image(image):
        raise Refused("InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")


def _type(request: Request, region: Region) -> None:
    name = request.get("InstanceType")
    if name and not region.has_type(name):
        # Not InvalidInstanceType: that code is DescribeInstanceTypes'.
        raise Refused("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")


def _network(request: Request, region: Region) -> None:
    cards = request.get("NetworkInterfaces") or []
    subnets = [request.get("SubnetId"), *(card.get("SubnetId") for card in cards)]
    for subnet in filter(None, subnets):
        if region.zone_of(subnet) is None:
            raise Refused("InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist")
    groups = [
        *request.get("SecurityGroupIds", []),
        *(group for card in cards for group in card.get("Groups", [])),
    ]
    for group in groups:
        if not region.has_group(group):
            raise Refused("InvalidGroup.NotFound", f"The security group '{group}' does not exist")


def _one_place_for_the_network(request: Request, _: Region) -> None:
    if not request.get("NetworkInterfaces"):
        return
    for name, words in (
        ("SubnetId", "an instance-level subnet ID"),
        ("SecurityGroupIds", "instance-level security groups"),
        ("SecurityGroups", "instance-level security groups"),
    ):
        if request.get(name):
            message = f"Network interfaces and {words} may not be specified on the same request"
            raise Refused("InvalidParameterCombination", message)


def _key(request: Request, region: Region) -> None:
    name = request.get("KeyName")
    if name and not region.has_key(name):
        raise Refused("InvalidKeyPair.NotFound", f"The key pair '{name}' does not exist")


def _profile(request: Request, region: Region) -> None:
    profile = request.get("IamInstanceProfile") or {}
    for part, words in (("Name", "name"), ("Arn", "ARN")):
        value = profile.get(part)
        if value and not region.has_profile(**{part.lower(): value}):
            message = f"Value ({value}) for parameter iamInstanceProfile.{part.lower()} is invalid."
            raise Refused("InvalidParameterValue", f"{message} Invalid IAM Instance Profile {words}")


def _spot(request: Request, _: Region) -> None:
    market = request.get("InstanceMarketOptions") or {}
    spot = market.get("MarketType") == "spot"
    if not spot and any(tags.get("ResourceType") == SPOT_TAGS for tags in request.get("TagSpecifications", [])):
        message = f"'{SPOT_TAGS}' can be tagged only when InstanceMarketOptions asks for the spot market"
        raise Refused("InvalidParameterCombination", message)
    options = market.get("SpotOptions") or {}
    if options.get("SpotInstanceType") == "persistent" and options.get("InstanceInterruptionBehavior") not in (
        "stop",
        "hibernate",
    ):
        message = "Persistent Spot requests need InstanceInterruptionBehavior stop or hibernate in RunInstances"
        raise Refused("InvalidParameterCombination", message)


def _shutdown_behavior(request: Request, _: Region) -> None:
    value = request.get("InstanceInitiatedShutdownBehavior")
    if value not in (None, "stop", "terminate"):
        message = f"Value ({value}) for parameter instanceInitiatedShutdownBehavior is invalid."
        raise Refused("InvalidParameterValue", message)


def _token(request: Request, _: Region) -> None:
    if len(request.get("ClientToken") or "") > 64:
        raise Refused("InvalidParameterValue", "The client token may have 64 characters at most")


RULES: tuple[Callable[[Request, Region], None], ...] = (
    _counts,
    _user_data,
    _image,
    _type,
    _one_place_for_the_network,
    _network,
    _key,
    _profile,
    _spot,
    _shutdown_behavior,
    _token,
)


def merged(template: Request, call: Request) -> dict[str, Any]:
    """A launch template's data with the call's arguments on top; tags of both apply, the call's win."""
    both = {**template, **{name: value for name, value in call.items() if value not in (None, [], {})}}
    specs: dict[str, dict[str, str]] = {}
    for spec in [*template.get("TagSpecifications", []), *call.get("TagSpecifications", [])]:
        tags = specs.setdefault(spec["ResourceType"], {})
        tags.update({tag["Key"]: tag.get("Value", "") for tag in spec.get("Tags", [])})
    if specs:
        both["TagSpecifications"] = [
            {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            for kind, tags in specs.items()
        ]
    return both


def zone(request: Request, region: Region) -> str | None:
    """The zone a request is bound to; its client token counts in that zone alone, else in the region."""
    cards = request.get("NetworkInterfaces") or [{}]
    subnet = request.get("SubnetId") or cards[0].get("SubnetId")
    placed = (request.get("Placement") or {}).get("AvailabilityZone")
    return region.zone_of(subnet) if subnet else placed
