"""`keep_last`: remove the older images of a family that nobody uses.

What cannot be asked keeps the images: without a permission nothing is removed, and that is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_transient.aws import image_calls
from airflow_transient.aws.image_uses import in_use, shared
from airflow_transient.aws.launcher import ClientFactory
from airflow_transient.core.images.keeping import Image, Kept, older, parted
from airflow_transient.core.images.plan import Plan
from airflow_transient.core.images.spec import FAMILY
from airflow_transient.core.launch import MANAGED_BY
from airflow_transient.errors import TransientError


@dataclass(frozen=True)
class Cleared:
    """What was removed, and what a person should know of the rest."""

    removed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def clear_old(client: ClientFactory, plan: Plan, current: Mapping[str, Image]) -> Cleared:
    """In every region in which an image was delivered. Never raises."""
    if plan.keep_last is None:
        return Cleared()
    told = [_in_region(client, plan, region, image) for region, image in current.items()]
    return Cleared(
        tuple(name for one in told for name in one.removed), tuple(words for one in told for words in one.warnings)
    )


def _in_region(client: ClientFactory, plan: Plan, region: str, current: Image) -> Cleared:
    try:
        ec2 = client("ec2", region_name=region)
        family = image_calls.listed(ec2, {image_calls.MANAGED: MANAGED_BY, f"tag:{FAMILY}": plan.family})
        candidates = older(family, plan.family, plan.deployment, plan.keep_last or 1, current.id)
        if not candidates:
            return Cleared()
        go, stay = parted(candidates, in_use(client, region, candidates, plan.parameter), shared(ec2, candidates))
    except TransientError as error:
        return Cleared(warnings=(f"keep_last: no older image in {region} was removed: {error}",))
    return _removed(ec2, region, go, stay)


def _removed(ec2: Any, region: str, go: Sequence[Image], stay: Sequence[Kept]) -> Cleared:
    removed, warnings = [], [f"keep_last: {k.image.id} ({k.image.name}) in {region} stays: {k.why}" for k in stay]
    for image in go:
        try:
            image_calls.remove(ec2, image)
            removed.append(image.id)
        except TransientError as error:
            warnings.append(f"keep_last: {image.id} in {region} could not be removed whole: {error}")
    return Cleared(tuple(removed), tuple(warnings))
