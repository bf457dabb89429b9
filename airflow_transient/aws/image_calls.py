"""The calls that make images, look at them, and take away what is half made. Asking twice makes one.

CreateImage has no client token: a name that is taken is the answer to having asked before (decided by tags, since
anybody in the account may have taken it). Packer, too, deregisters a pending image when it is cancelled, and deletes
its snapshots after that (hashicorp/packer-plugin-amazon, StepCreateAMI.Cleanup).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws.launcher import ClientFactory, code_of, said_plainly
from airflow_transient.core.ec2.requests import tag_list
from airflow_transient.core.images.keeping import Image, ours
from airflow_transient.core.images.plan import Plan
from airflow_transient.core.images.requests import copy_image, create_image
from airflow_transient.core.images.spec import FAMILY, INPUTS, MAKER, published_by
from airflow_transient.core.launch import MANAGED_BY, TAG_PREFIX, Launch
from airflow_transient.errors import LaunchError, Lost, SpecError, TransientError

MANAGED = f"tag:{TAG_PREFIX}managed-by"
#: How EC2 refuses to make an image of what is no more.
GONE = ("InvalidInstanceID.NotFound", "IncorrectInstanceState", "IncorrectState")
#: What is not there any more is what was wanted.
REMOVED = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSnapshot.NotFound")
TAKEN = "InvalidAMIName.Duplicate"
#: Seconds. A name that is taken is known to CreateImage before DescribeImages shows whose it is; a snapshot is in use
#: for a moment after its image was deregistered.
SHOWN_AGAIN = (1.0, 2.0, 4.0)
RELEASED_AGAIN = (1.0, 2.0)
Sleep = Callable[[float], None]


def listed(ec2: Any, filters: dict[str, str]) -> list[Image]:
    """Our own account's, newest first."""
    asked = [{"Name": name, "Values": [value]} for name, value in filters.items()]
    with said_plainly("ec2:DescribeImages"):
        pages = ec2.get_paginator("describe_images").paginate(Owners=["self"], Filters=asked)
        found = [Image.of(said) for page in pages for said in page["Images"]]
    return sorted(found, key=lambda image: (image.created, image.id), reverse=True)


def with_inputs(ec2: Any, plan: Plan) -> Image | None:
    """The newest whole image of the family that this deployment has made of the same inputs."""
    told = {MANAGED: MANAGED_BY, f"tag:{FAMILY}": plan.family, f"tag:{INPUTS}": plan.inputs, "state": "available"}
    return next((image for image in listed(ec2, told) if _is_of(image, plan)), None)


def _is_of(image: Image, plan: Plan) -> bool:
    return ours(image, plan.family, plan.deployment) and image.tags.get(INPUTS) == plan.inputs


def made_by(ec2: Any, token: str) -> list[Image]:
    """All that one launch has made, in whatever state."""
    return listed(ec2, {MANAGED: MANAGED_BY, f"tag:{MAKER}": token})


def create(ec2: Any, plan: Plan, builder: str, sleep: Sleep = time.sleep) -> str:
    """The image of this plan, made of a stopped machine, or the one that was asked for before."""
    return _made(ec2, plan, sleep, "ec2:CreateImage", lambda: ec2.create_image(**create_image(plan, builder)))


def copy(client: ClientFactory, launch: Launch, plan: Plan, image_id: str, region: str, sleep: Sleep) -> str:
    """The same in another region."""
    ec2 = client("ec2", region_name=region)
    asked = copy_image(launch, plan, image_id, region)
    return _made(ec2, plan, sleep, f"ec2:CopyImage in {region}", lambda: ec2.copy_image(**asked))


def _made(ec2: Any, plan: Plan, sleep: Sleep, action: str, ask: Callable[[], Any]) -> str:
    before = _named(ec2, plan, sleep)
    if before:
        return before
    try:
        with said_plainly(action):
            answer: str = ask()["ImageId"]
            return answer
    except TransientError as error:
        code = code_of(error.__cause__) if isinstance(error.__cause__, ClientError) else None
        if code in GONE:
            raise Lost(f"{plan.name}: the machine it was to be made of is gone; another try builds anew") from error
        if code != TAKEN:
            raise
    for pause in SHOWN_AGAIN:
        if taken := _named(ec2, plan, sleep):
            return taken
        sleep(pause)
    raise LaunchError(f"{plan.name}: the name is taken, and EC2 does not show by which image; asking again helps")


def _named(ec2: Any, plan: Plan, sleep: Sleep) -> str | None:
    """The image of this name, where it is of this plan; one that came to nothing makes room for another."""
    for image in listed(ec2, {"name": plan.name}):
        if image.name != plan.name:  # the filter takes * and ? as wildcards, and a name may not hold them
            continue
        if not _is_of(image, plan):
            raise SpecError(f"{image.id} has the name {plan.name} already, and was not made here: give another name")
        if image.state in ("pending", "available"):
            return image.id
        remove(ec2, image, sleep)
    return None


def mark_published(ec2: Any, image: Image, parameter: str) -> None:
    """Before the parameter names it: whoever would remove it then knows what to ask. Made for it, it is marked so."""
    told = published_by(parameter)
    if told.items() <= image.tags.items():
        return
    with said_plainly("ec2:CreateTags on the image"):
        ec2.create_tags(Resources=[image.id], Tags=tag_list(told))


def remove(ec2: Any, image: Image, sleep: Sleep = time.sleep) -> None:
    """Deregister it, then delete its snapshots: those that it names, and those that its making has tagged."""
    tagged = _tagged_snapshots(ec2, image)
    with said_plainly("ec2:DeregisterImage"):
        _unless_gone(lambda: ec2.deregister_image(ImageId=image.id))
    for snapshot in image.snapshots:
        _delete_snapshot(ec2, snapshot, (*RELEASED_AGAIN, None), sleep)
    for snapshot in set(tagged) - set(image.snapshots):
        try:
            _delete_snapshot(ec2, snapshot, (None,), sleep)
        except TransientError as error:
            if not _in_use(error):
                raise


def _tagged_snapshots(ec2: Any, image: Image) -> Iterable[str]:
    """A pending image does not name its snapshots yet. Those of another one of the same launch are in use, and stay."""
    if image.state == "available" or MAKER not in image.tags:
        return ()
    filters = {MANAGED: MANAGED_BY, **{f"tag:{name}": image.tags.get(name, "") for name in (MAKER, INPUTS)}}
    asked = [{"Name": name, "Values": [value]} for name, value in filters.items()]
    with said_plainly("ec2:DescribeSnapshots"):
        pages = ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=asked)
        return [said["SnapshotId"] for page in pages for said in page["Snapshots"]]


def _delete_snapshot(ec2: Any, snapshot: str, pauses: Iterable[float | None], sleep: Sleep) -> None:
    for pause in pauses:
        try:
            with said_plainly("ec2:DeleteSnapshot"):
                _unless_gone(lambda: ec2.delete_snapshot(SnapshotId=snapshot))
            return
        except TransientError as error:
            if not _in_use(error) or pause is None:
                raise
        sleep(pause)


def _in_use(error: TransientError) -> bool:
    return isinstance(error.__cause__, ClientError) and code_of(error.__cause__) == "InvalidSnapshot.InUse"


def _unless_gone(call: Callable[[], Any]) -> None:
    try:
        call()
    except ClientError as error:
        if code_of(error) not in REMOVED:
            raise
