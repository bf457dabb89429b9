"""Images in moto 5.2.5 made to take their time and their names: what replaces moto's, and why.

moto: every image is available at once, a name may be had twice, tags for snapshots crash it, a copy has no tags and no
token, and what a machine has on its disk is nobody's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow_transient.localcloud.errors import Refused
from airflow_transient.localcloud.images import Disks, Images, check_instance, check_name


@dataclass
class MotoImages:
    images: Images
    disks: Disks
    #: (region, token) -> (what was asked, the answer)
    _copies: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def seams(self, speaking: Callable[..., Any]) -> Iterator[tuple[Any, str, Any]]:
        """(owner, name, what replaces it); `speaking` turns our refusals into moto's."""
        from moto.ec2.models.amis import Ami, AmiBackend
        from moto.ec2.responses.amis import AmisResponse

        yield AmisResponse, "create_image", speaking(self._create)
        yield AmisResponse, "copy_image", speaking(self._copy)
        yield AmisResponse, "deregister_image", speaking(self._deregister(AmisResponse.deregister_image))
        yield AmiBackend, "describe_images", self._describe(AmiBackend.describe_images)
        yield Ami, "block_device_mappings", property(_devices)

    def _create(self, response: Any) -> Any:
        from moto.core.responses import ActionResult

        response.error_on_dryrun()
        backend = response.ec2_backend
        instance = backend.get_instance(response._get_param("InstanceId"))
        check_name(response._get_param("Name"), self._names(backend))
        check_instance(instance.id, instance.state)
        tags = _tags(response)
        words = response._get_param("Name"), response._get_param("Description", "")
        image = backend.create_image(instance.id, *words, tag_specifications=[])
        source = backend.amis.get(instance.image_id)
        if source is not None:
            image.root_device_name, image.root_device_type = source.root_device_name, source.root_device_type
        self._begin(image, tags, instance.id)
        return ActionResult({"ImageId": image.id})

    def _copy(self, response: Any) -> Any:
        from moto.core.responses import ActionResult
        from moto.ec2.models import ec2_backends

        response.error_on_dryrun()
        backend, token = response.ec2_backend, response._get_param("ClientToken")
        names = ("SourceImageId", "SourceRegion", "Name", "Description")
        asked = tuple(response._get_param(name) for name in names)
        before = self._copies.get((response.region, token)) if token else None
        if before:
            if before[0] != repr(asked):
                raise Refused("IdempotentParameterMismatch", "The client token was used before with other parameters")
            return ActionResult({"ImageId": before[1]})
        source = ec2_backends[backend.account_id][asked[1]].amis.get(asked[0])
        if source is None:
            raise Refused("InvalidAMIID.NotFound", f"The image id '[{asked[0]}]' does not exist")
        self._settle(source)
        if source.state != "available":
            raise Refused("InvalidRequest", f"The image {asked[0]} is not available")
        check_name(asked[2], self._names(backend))
        image = backend.copy_image(*asked)
        image.root_device_name, image.root_device_type = source.root_device_name, source.root_device_type
        self._begin(image, _tags(response), source.id)
        if token:
            self._copies[response.region, token] = repr(asked), image.id
        return ActionResult({"ImageId": image.id})

    def _begin(self, image: Any, tags: dict[str, dict[str, str]], disk: str) -> None:
        image.add_tags(tags.get("image", {}))
        image.ebs_snapshot.add_tags(tags.get("snapshot", {}))
        image.localcloud_making = self.images.begin()
        image.creation_date = self.images.created(image.creation_date)
        self.disks.share(disk, image.id)
        self._settle(image)

    def _settle(self, image: Any) -> None:
        making = getattr(image, "localcloud_making", None)
        if making is None or image.state not in ("pending", "available"):
            return
        image.state = making.state(self.images.clock())
        if image.state == "failed":
            code, message = making.failure
            image.state_reason = {"Code": code, "Message": message}

    def _describe(self, describe: Callable[..., Any]) -> Callable[..., Any]:
        def describe_images(backend: Any, *args: Any, **kwargs: Any) -> Any:
            for image in backend.amis.values():
                self._settle(image)
            return describe(backend, *args, **kwargs)

        return describe_images

    def _deregister(self, deregister: Callable[..., Any]) -> Callable[..., Any]:
        """moto: DeleteAssociatedSnapshots is not known."""

        def deregister_image(response: Any) -> Any:
            image = response.ec2_backend.amis.get(response._get_param("ImageId"))
            answer = deregister(response)
            if image is not None and str(response._get_param("DeleteAssociatedSnapshots")).lower() == "true":
                response.ec2_backend.delete_snapshot(image.ebs_snapshot.id)
            return answer

        return deregister_image

    def _names(self, backend: Any) -> dict[str, str]:
        mine = (image for image in backend.amis.values() if image.owner_id == backend.account_id)
        return {image.name: image.id for image in mine}


def _tags(response: Any) -> dict[str, dict[str, str]]:
    """Kind of resource -> its tags."""
    told: dict[str, dict[str, str]] = {}
    for spec in response._get_param("TagSpecifications", []):
        kind = spec.get("ResourceType")
        if kind not in ("image", "snapshot"):
            raise Refused(
                "InvalidParameterValue", f"'{kind}' is not a valid taggable resource type for this operation."
            )
        told.setdefault(kind, {}).update({tag["Key"]: tag.get("Value", "") for tag in spec.get("Tags", [])})
    return told


def _devices(image: Any) -> list[dict[str, Any]]:
    """moto: every volume outlives its machine. An image is made with what its machine had: ours do not."""
    made = hasattr(image, "localcloud_making")
    ebs = {"SnapshotId": image.ebs_snapshot.id, "VolumeSize": 15, "DeleteOnTermination": made}
    if getattr(image, "state", "") == "pending":  # a snapshot that has just begun has no name there yet
        del ebs["SnapshotId"]
    return [{"DeviceName": image.root_device_name, "Ebs": {**ebs, "VolumeType": "standard"}}]
