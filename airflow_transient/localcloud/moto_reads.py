"""What moto knows: what exists in a region, who has an access key, what a machine may know about itself."""

from __future__ import annotations

import base64
import json
from datetime import timedelta, timezone
from typing import Any

from airflow_transient.localcloud import imds
from airflow_transient.localcloud.signatures import Credentials

ACCOUNT = "123456789012"  # moto's
# Not secrets: they open nothing but this process, and stay the same so that `export` lines stay valid.
OWN_KEYS = Credentials("AKIALOCALCLOUD000000", "local-cloud-opens-nothing-but-itself-000")
ROLE_SESSION = 6 * 3600


def ec2(region: str) -> Any:
    from moto.ec2.models import ec2_backends

    return ec2_backends[ACCOUNT][region]


class MotoRegion:
    """What exists in one region: the `Region` that ec2_rules asks."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def has_image(self, image_id: str) -> bool:
        return image_id in self._backend.amis

    def has_type(self, name: str) -> bool:
        from moto.ec2.models.instance_types import INSTANCE_TYPES

        return name in INSTANCE_TYPES

    def has_group(self, group_id: str) -> bool:
        return self._backend.get_security_group_from_id(group_id) is not None

    def has_key(self, name: str) -> bool:
        return name in self._backend.key_pairs

    def has_profile(self, name: str | None = None, arn: str | None = None) -> bool:
        return any(name == profile.name or arn == profile.arn for profile in _iam().get_instance_profiles())

    def zone_of(self, subnet_id: str) -> str | None:
        for subnets in self._backend.subnets.values():
            if subnet_id in subnets:
                return str(subnets[subnet_id].availability_zone)
        return None


def _iam() -> Any:
    from moto.iam.models import iam_backends

    return iam_backends[ACCOUNT]["aws"]


def _sts() -> Any:
    from moto.sts.models import sts_backends

    return sts_backends[ACCOUNT]["aws"]


def keyring(access_key: str) -> Credentials | None:
    """The cloud's own pair, keys made through IAM, and credentials of roles (machines' and assumed ones)."""
    if access_key == OWN_KEYS.access_key:
        return OWN_KEYS
    role = _sts().get_assumed_role_from_access_key(access_key)
    if role is not None:
        return Credentials(access_key, role.secret_access_key, role.session_token)
    for key in _iam().get_all_access_keys_for_all_users():
        if key.access_key_id == access_key:
            return Credentials(access_key, key.secret_access_key)
    return None


def bucket_region(name: str) -> str | None:
    from moto.s3.models import s3_backends

    bucket = s3_backends[ACCOUNT]["aws"].buckets.get(name)
    return None if bucket is None else str(bucket.region_name)


def states() -> dict[str, str]:
    """Of every instance in every region that was used."""
    from moto.ec2.models import ec2_backends

    backends = [dict.__getitem__(ec2_backends[ACCOUNT], name) for name in list(dict.keys(ec2_backends[ACCOUNT]))]
    return {instance.id: instance.state for backend in backends for instance in backend.all_instances()}


def find_instance(instance_id: str) -> Any:
    from moto.ec2.models import ec2_backends

    for name in list(dict.keys(ec2_backends[ACCOUNT])):
        instance = dict.__getitem__(ec2_backends[ACCOUNT], name).get_instance_by_id(instance_id)
        if instance is not None:
            return instance
    raise KeyError(f"no instance {instance_id} in this cloud")


# --- a machine's metadata -------------------------------------------------------------------------------


def metadata(instance: Any) -> imds.Metadata:
    options = instance.metadata_options
    return imds.Metadata(
        tree={**_basics(instance), **_role(instance), **_tags(instance), **_notice(instance)},
        identity=_identity(instance),
        user_data=base64.b64decode(str(instance.user_data or "")),
        hostname=instance.private_dns_name,
        token_required=options.http_tokens == "required",
        enabled=options.http_endpoint != "disabled",
        tokens=_tokens(instance),
    )


def _tokens(instance: Any) -> imds.Tokens:
    if not hasattr(instance, "localcloud_tokens"):
        instance.localcloud_tokens = imds.Tokens()
    tokens: imds.Tokens = instance.localcloud_tokens
    return tokens


def _basics(instance: Any) -> dict[str, str]:
    zone = str(instance.availability_zone)
    return {
        "ami-id": instance.image_id,
        "ami-launch-index": str(instance.ami_launch_index),
        "hostname": instance.private_dns_name,
        "instance-id": instance.id,
        "instance-life-cycle": instance.lifecycle or "on-demand",
        "instance-type": instance.instance_type,
        "local-hostname": instance.private_dns_name,
        "local-ipv4": str(instance.private_ip),
        "mac": _mac(instance),
        "placement/availability-zone": zone,
        "placement/region": zone[:-1],
    }


def _mac(instance: Any) -> str:
    return str(instance.nics[0].mac_address) if instance.nics else "02:00:00:00:00:00"


def _role(instance: Any) -> dict[str, str]:
    profile = instance.iam_instance_profile
    if not profile:
        return {}
    arn = profile["Arn"] if isinstance(profile, dict) else profile.arn
    found = next((each for each in _iam().get_instance_profiles() if each.arn == arn), None)
    if found is None or not found.roles:
        return {}
    session = role_session(instance, found.roles[0].arn, instance.id)
    ends = session.expiration.replace(tzinfo=timezone.utc)
    stamp = "%Y-%m-%dT%H:%M:%SZ"
    info = {"Code": "Success", "InstanceProfileArn": arn, "InstanceProfileId": found.id}
    keys = {
        "Code": "Success",
        "LastUpdated": (ends - timedelta(seconds=ROLE_SESSION)).strftime(stamp),
        "Type": "AWS-HMAC",
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": session.secret_access_key,
        "Token": session.session_token,
        "Expiration": ends.strftime(stamp),
    }
    name = found.roles[0].name
    return {"iam/info": json.dumps(info), f"iam/security-credentials/{name}": json.dumps(keys)}


def role_session(owner: Any, role: str, name: str) -> Any:
    """The role's session for this machine or task, in moto's own book: get_caller_identity then tells the truth."""
    if getattr(owner, "localcloud_role", None) != role:
        owner.localcloud_session = _sts().assume_role("eu-west-1", name, role, "", ROLE_SESSION, "")
        owner.localcloud_role = role
    return owner.localcloud_session


def _tags(instance: Any) -> dict[str, str]:
    if instance.metadata_options.instance_metadata_tags != "enabled":
        return {}
    # Not as the API tells them: the machine knows its own at once.
    return {f"tags/instance/{key}": value for key, value in instance.ec2_backend.tags[instance.id].items()}


def _notice(instance: Any) -> dict[str, str]:
    at = getattr(instance, "localcloud_reclaimed_at", None)
    if at is None:
        return {}
    return {
        "spot/instance-action": json.dumps({"action": "terminate", "time": at}),
        "spot/termination-time": at,
    }


def _identity(instance: Any) -> dict[str, object]:
    return {
        "accountId": ACCOUNT,
        "architecture": instance.architecture,
        "availabilityZone": instance.availability_zone,
        "imageId": instance.image_id,
        "instanceId": instance.id,
        "instanceType": instance.instance_type,
        "pendingTime": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "privateIp": instance.private_ip,
        "region": str(instance.availability_zone)[:-1],
        "version": "2017-09-30",
    }
