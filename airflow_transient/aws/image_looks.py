"""What EC2 shows of images, many in a call, and of the machines that they were made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from airflow_transient.aws import pacing
from airflow_transient.aws.ec2_looks import CALLS_AT_ONCE, FILTER_LIMIT
from airflow_transient.aws.launcher import FAILURES, ClientFactory, looked, scope_of_error, side_by_side, words_of
from airflow_transient.core.cadence import Looked
from airflow_transient.core.fallback import Scope
from airflow_transient.core.images.judging import PHASES, ImageSighting
from airflow_transient.core.images.keeping import Image
from airflow_transient.core.images.plan import place_of_member
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Phase
from airflow_transient.errors import TransientError

#: (image id, region)
Place = tuple[str, str]


@dataclass(frozen=True)
class _Answer:
    """What one call told: the images that EC2 knows, or why it told nothing."""

    images: Mapping[str, Image]
    failure: str | None = None
    scope: Scope | None = None


def look(client: ClientFactory, launches: Sequence[Launch]) -> Looked[tuple[ImageSighting, ...]]:
    """Every image of these launches; a call for each region."""
    answers = _ask(client, [place_of_member(member, launch.region) for launch in launches for member in launch.ids])
    told = [tuple(_sighting(launch, member, answers) for member in launch.ids) for launch in launches]
    return looked(told, (answer.scope for answer in answers.values() if answer.scope))


def _ask(client: ClientFactory, places: Sequence[Place]) -> dict[Place, _Answer]:
    by_region: dict[str, dict[str, None]] = {}
    for image_id, region in places:
        by_region.setdefault(region, {})[image_id] = None
    calls = [
        (region, list(ids)[start : start + FILTER_LIMIT])
        for region, ids in by_region.items()
        for start in range(0, len(ids), FILTER_LIMIT)
    ]
    answers = side_by_side(partial(_call, client), calls, CALLS_AT_ONCE)
    return {(id, region): answer for (region, ids), answer in zip(calls, answers, strict=True) for id in ids}


def _call(client: ClientFactory, call: tuple[str, list[str]]) -> _Answer:
    region, ids = call
    # By filter and not by id: one that is not known is no error then.
    asked = [{"Name": "image-id", "Values": ids}]
    try:
        ec2 = client("ec2", region_name=region)
        with pacing.paced(ec2, "looks at EC2", scope_of_error):
            found = ec2.describe_images(Owners=["self"], Filters=asked)["Images"]
    except (*FAILURES, TransientError) as error:
        return _Answer({}, words_of(error), scope_of_error(error))
    return _Answer({said["ImageId"]: Image.of(said) for said in found})


def _sighting(launch: Launch, member: str, answers: Mapping[Place, _Answer]) -> ImageSighting:
    place = place_of_member(member, launch.region)
    answer = answers[place]
    if answer.failure:
        return ImageSighting(member, Phase.UNKNOWN, note=answer.failure)
    image = answer.images.get(place[0])
    if image is None:
        return ImageSighting(member, Phase.UNKNOWN, absent=True, note="EC2 does not know it (yet)")
    return ImageSighting(
        member,
        PHASES.get(image.state, Phase.UNKNOWN),
        image.state,
        reason=image.reason,
        detail=image.detail,
        note=f"its state is {image.state}",
    )
