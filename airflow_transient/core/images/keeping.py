"""Which older images of a family may go: all but the newest N, and never one that somebody may need.

Law: only what carries our tags and this deployment's name. What cannot be known keeps an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_transient.core.images.spec import FAMILY, PUBLISHED
from airflow_transient.core.launch import MANAGED_BY, TAG_PREFIX


@dataclass(frozen=True)
class Image:
    """An image as EC2 shows it. `created` is ISO 8601 in UTC, so it sorts as text."""

    id: str
    name: str
    state: str
    created: str
    tags: Mapping[str, str]
    snapshots: tuple[str, ...] = ()
    public: bool = False
    reason: str | None = None
    detail: str | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Image:
        """From an item of DescribeImages."""
        ebs = (mapping.get("Ebs") or {} for mapping in said.get("BlockDeviceMappings", ()))
        why = said.get("StateReason") or {}
        return cls(
            id=said["ImageId"],
            name=said.get("Name") or "",
            state=said.get("State") or "",
            created=str(said.get("CreationDate") or ""),
            tags={tag["Key"]: tag["Value"] for tag in said.get("Tags", ())},
            snapshots=tuple(device["SnapshotId"] for device in ebs if device.get("SnapshotId")),
            public=bool(said.get("Public")),
            reason=why.get("Code"),
            detail=why.get("Message"),
        )


@dataclass(frozen=True)
class Kept:
    """An older image that stays, and why."""

    image: Image
    why: str


def ours(image: Image, family: str, deployment: str) -> bool:
    """Of this family, and made by this deployment: of another's neither is one taken nor taken away."""
    tags = image.tags
    # With the DAG, because a deployment's name may hold a slash; values of tags are cut at 256.
    owner = f"{deployment}/{tags.get(TAG_PREFIX + 'dag', '')}"[:256]
    return (
        tags.get(TAG_PREFIX + "managed-by") == MANAGED_BY
        and tags.get(FAMILY) == family
        and tags.get(TAG_PREFIX + "owner", "").startswith(owner)
    )


def parameters_of(images: Iterable[Image]) -> tuple[str, ...]:
    """All that these images were ever published by."""
    told = (name for image in images for tag, name in image.tags.items() if tag.startswith(PUBLISHED))
    return tuple(dict.fromkeys(told))


def older(images: Iterable[Image], family: str, deployment: str, keep: int, current: str) -> tuple[Image, ...]:
    """Those after the newest `keep`, oldest first; the one that was just delivered counts as the newest."""
    family_of_ours = [i for i in images if i.state == "available" and ours(i, family, deployment)]
    newest_first = sorted(family_of_ours, key=lambda i: (i.id == current, i.created, i.id), reverse=True)
    return tuple(reversed(newest_first[keep:]))


def parted(
    images: Sequence[Image], in_use: Mapping[str, str], shared: Mapping[str, str]
) -> tuple[tuple[Image, ...], tuple[Kept, ...]]:
    """
    (those that may go, those that stay and why).

    :param in_use: image id -> who uses it, in words.
    :param shared: image id -> with whom it is shared, or why that could not be asked.
    """
    uses = {image.id: "it is public" for image in images if image.public} | dict(shared) | dict(in_use)
    kept = tuple(Kept(image, uses[image.id]) for image in images if image.id in uses)
    return tuple(image for image in images if image.id not in uses), kept
