"""Images: a machine that stops when its script has ended well, the image that is made of it, and its copies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from airflow_transient.aws import image_calls, image_keeping, image_looks, launcher
from airflow_transient.aws.ec2 import Ec2Launcher, SigningLife
from airflow_transient.aws.found import tags_of
from airflow_transient.aws.image_keeping import Cleared
from airflow_transient.aws.launcher import FAILURES, ClientFactory, Stop, said_plainly
from airflow_transient.aws.resolve import resolve
from airflow_transient.core.cadence import Looked
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.ec2.spec import Image as Base
from airflow_transient.core.images.job import provisioning
from airflow_transient.core.images.judging import ImageSighting
from airflow_transient.core.images.keeping import Image
from airflow_transient.core.images.plan import Plan, is_image, member_of, place_of_member
from airflow_transient.core.images.requests import KIND, as_builder, builders_of
from airflow_transient.core.images.spec import BakeSpec, image_name, image_tags, inputs
from airflow_transient.core.launch import BY_REQUEST, STOPPED_BY, Launch, LaunchKey
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.errors import LaunchError, TransientError

#: The mark on a builder that is not needed any more.
BAKED = "baked"
#: So many launches' half-made images are removed at once.
AT_ONCE = 10


class ImageLauncher:
    """
    The Launcher of images. Its launches begin with a builder as their only member and end with the images.

    The verbs beyond the protocol are the steps between: `make`, `copy`, `publish`, `clear_old`.
    """

    kind = KIND
    memory: timedelta | None = None

    def __init__(
        self,
        client: ClientFactory,
        signing_life: SigningLife = lambda seconds: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._machines = Ec2Launcher(client, signing_life, sleep)
        self._sleep = sleep

    # --- ask for the builder

    def plan(self, spec: BakeSpec, key: LaunchKey) -> Plan:
        """What the words mean today. Raises SpecError for a base image that is not there."""
        source = resolve(self._client, spec).image_id or ""
        home = self._region()
        digest = inputs(spec, source, key.owner.deployment)
        return Plan(
            name=image_name(spec, digest, key),
            family=spec.name,
            inputs=digest,
            source=source,
            tags=image_tags(spec, source, digest, key),
            regions=tuple(region for region in spec.regions if region != home),
            parameter=spec.parameter,
            keep_last=spec.keep_last,
            deployment=key.owner.deployment,
        )

    def _region(self) -> str:
        with said_plainly("a client for EC2"):
            region: str = self._client("ec2").meta.region_name
        return region

    def prepare(
        self, spec: BakeSpec, key: LaunchKey, pool: Pool, now: datetime, so_far: Launch | None = None
    ) -> Request:
        plan = self.plan(spec, key)
        job = provisioning(spec.script or "", spec.files)
        builder = replace(spec, image=Base(id=plan.source), script=job, files={})
        return as_builder(self._machines.prepare(builder, key, pool, now, so_far), plan)

    def launch(self, request: Request, again: bool = False) -> Launch:
        return self._machines.launch(request, again)

    def adopt(self, request: Request) -> Launch | None:
        return self._machines.adopt(request)

    # --- the steps after it

    def same(self, plan: Plan) -> Image | None:
        """A whole image of the same inputs, made before."""
        return image_calls.with_inputs(self._client("ec2"), plan)

    def reusing(self, plan: Plan, image: Image, key: LaunchKey, spec: BakeSpec, now: datetime) -> Launch:
        """A launch that begins with the image: what may be missing is copies."""
        deadline = now + spec.image_timeout
        plan = replace(plan, name=image.name, reused=True, asked=now)
        return Launch(self.kind, key.name, "", (image.id,), self._region(), now, now, deadline, image=plan)

    def make(self, launch: Launch, now: datetime) -> Launch:
        """The builder has stopped: the image of it, asked for once."""
        plan, (builder,) = _plan(launch), launch.ids
        image_id = image_calls.create(self._client("ec2"), plan, builder, self._sleep)
        # From here on nobody leaves receipts: how an image ended is told by EC2.
        return replace(launch, ids=(image_id,), receipts=None, image=replace(plan, builder=builder, asked=now))

    def copy(self, launch: Launch, now: datetime) -> Launch:
        """The image is whole: its copies, asked for once each."""
        plan, image_id = _plan(launch), launch.ids[0]
        copies = tuple(
            member_of(self._copy_in(launch, plan, image_id, region), region, launch.region) for region in plan.regions
        )
        return replace(launch, ids=(image_id, *copies), image=replace(plan, asked=now))

    def _copy_in(self, launch: Launch, plan: Plan, image_id: str, region: str) -> str:
        if plan.reused and (there := image_calls.with_inputs(self._client("ec2", region_name=region), plan)):
            return there.id
        return image_calls.copy(self._client, launch, plan, image_id, region, self._sleep)

    def delivered(self, launch: Launch) -> dict[str, Image]:
        """Region -> the image there."""
        found = {}
        for member in launch.ids:
            image_id, region = place_of_member(member, launch.region)
            with said_plainly("ec2:DescribeImages"):
                said = self._client("ec2", region_name=region).describe_images(ImageIds=[image_id])["Images"]
            if not said:
                raise LaunchError(f"{image_id} in {region}: EC2 does not show it any more")
            found[region] = Image.of(said[0])
        return found

    def publish(self, launch: Launch, images: dict[str, Image]) -> None:
        """The parameter of each region names its image: after it is whole, and not before."""
        parameter = _plan(launch).parameter
        if not parameter:
            return
        for region, image in images.items():
            image_calls.mark_published(self._client("ec2", region_name=region), image, parameter)
            ssm = self._client("ssm", region_name=region)
            with said_plainly(f"ssm:PutParameter in {region}"):
                # With this data type launch templates take it as resolve:ssm:<name>, and SSM checks that it exists.
                ssm.put_parameter(
                    Name=parameter, Value=image.id, Type="String", DataType="aws:ec2:image", Overwrite=True
                )

    def clear_old(self, launch: Launch, images: dict[str, Image]) -> Cleared:
        """What `keep_last` lets go. Never raises: what could not be done is told."""
        return image_keeping.clear_old(self._client, _plan(launch), images)

    def end_builder(self, launch: Launch, why: str = BAKED) -> None:
        if builders := builders_of(launch):
            self._machines.stop(launch.with_ids(builders), why)

    # --- look

    def observe(self, launch: Launch, now: datetime) -> tuple[Ec2Sighting, ...]:
        return self.observe_all((launch,), now).answers[0]

    def observe_all(self, launches: Sequence[Launch], now: datetime) -> Looked[tuple[Ec2Sighting, ...]]:
        made = [launch for launch in launches if _is_made(launch)]
        machines = self._machines.observe_all([launch for launch in launches if not _is_made(launch)], now)
        images = image_looks.look(self._client, made)
        marks = self._marks(made)
        building, making = iter(machines.answers), iter(images.answers)
        told: list[tuple[Ec2Sighting, ...]] = [
            _marked(next(making), launch, marks) if _is_made(launch) else next(building) for launch in launches
        ]
        return Looked(told, slow=machines.slow or images.slow, denied=machines.denied or images.denied)

    def _marks(self, launches: Iterable[Launch]) -> dict[str, str | None]:
        """Whoever calls the making off marks the machine: an image that is gone then was removed on purpose."""
        ids = tuple(dict.fromkeys(builder for launch in launches for builder in builders_of(launch)))
        try:
            found = {i["InstanceId"]: tags_of(i.get("Tags")).get(STOPPED_BY) for i in self._machines.instances(ids)}
        except (*FAILURES, TransientError):
            return {}
        return {builder: mark for builder, mark in found.items() if mark != BAKED}

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        return () if is_image(member) else self._machines.explain(launch, member)

    def follow(self, launch: Launch) -> Callable[[], list[str]]:
        return list

    # --- end

    def stop(self, launch: Launch, why: str = BY_REQUEST) -> None:
        launcher.raise_first(self.stop_all([(launch, why)]))

    def stop_all(self, stops: Sequence[Stop]) -> list[Exception | None]:
        """Terminate the builders, then remove what these launches have half made. What is whole stays: it can be used.

        A builder that cannot be ended keeps no image from its end.
        """
        ended = self._machines.stop_all([(launch.with_ids(builders_of(launch)), why) for launch, why in stops])
        removed = launcher.side_by_side(self._not_removed, [launch for launch, _ in stops], AT_ONCE)
        return [of_machine or of_image for of_machine, of_image in zip(ended, removed, strict=True)]

    def _not_removed(self, launch: Launch) -> Exception | None:
        """What kept its half-made images from their end, or None."""
        try:
            for region in dict.fromkeys((launch.region, *_plan(launch).regions)):
                self._remove_half_made(launch, region)
        except TransientError as error:
            return error
        return None

    def _remove_half_made(self, launch: Launch, region: str) -> None:
        with said_plainly("ec2:DescribeImages"):
            ec2 = self._client("ec2", region_name=region)
        for image in image_calls.made_by(ec2, launch.token):
            if image.state != "available":
                image_calls.remove(ec2, image, self._sleep)


def _plan(launch: Launch) -> Plan:
    if launch.image is None:
        raise LaunchError(f"launch {launch.token} is no image's")
    return launch.image


def _is_made(launch: Launch) -> bool:
    """Whether its members are images, and not the builder any more."""
    return any(map(is_image, launch.ids))


def _marked(
    seen: Iterable[ImageSighting], launch: Launch, marks: Mapping[str, str | None]
) -> tuple[ImageSighting, ...]:
    mark = next((marks.get(builder) for builder in builders_of(launch)), None)
    return tuple(replace(each, stopped_by=mark) for each in seen)
