"""From what was seen of a builder, and then of its images, to how the making of an image ended.

The builder is judged as every machine is, by its receipt; an image by the state that EC2 tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from airflow_transient.core.ec2 import judging as ec2
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.images.plan import is_image
from airflow_transient.core.launch import AT_DEADLINE, Launch
from airflow_transient.core.verdict import MARKS, STOP_GRACE, UNANSWERED, Member, Outcome, Phase

#: States of an image, from botocore's EC2 model. What is not here is looked at again. A pending one is not "starting":
#: it takes minutes, so it is looked at as often as what runs.
PHASES: dict[str, Phase] = {
    "pending": Phase.RUNNING,
    "transient": Phase.RUNNING,
    "available": Phase.ENDED,
    "failed": Phase.ENDED,
    "error": Phase.ENDED,
    "invalid": Phase.ENDED,
    "deregistered": Phase.ENDED,
    "disabled": Phase.ENDED,
}
#: A new image may be unknown for a while: EC2 is eventually consistent.
YOUNG = timedelta(minutes=5)


@dataclass(frozen=True)
class ImageSighting(Ec2Sighting):
    """One look at one image. `reason` and `detail` are its StateReason."""

    detail: str | None = None


class Step(str, Enum):
    """What comes after everything so far has ended well."""

    CREATE = "create the image"
    COPY = "copy it to other regions"
    DELIVER = "deliver it"


def next_step(launch: Launch) -> Step:
    if not any(map(is_image, launch.ids)):
        return Step.CREATE
    wanted = launch.image.regions if launch.image else ()
    return Step.COPY if len(launch.ids) < 1 + len(wanted) else Step.DELIVER


def judge_member(launch: Launch, seen: Ec2Sighting, now: datetime) -> Member | None:
    """The verdict table of the builder or of one image; None: keep waiting."""
    if not is_image(seen.member):
        return ec2.judge_member(launch, seen, now)
    if seen.phase is Phase.ENDED:
        return _ended(seen)
    if seen.absent and seen.stopped_by in MARKS:
        return Member(seen.member, MARKS[seen.stopped_by], "its making was called off, and the image removed")
    if seen.absent and _surely(launch, seen, now):
        return Member(seen.member, Outcome.LOST, "the image is gone: somebody has deregistered it")
    limit = launch.deadline + (STOP_GRACE if seen.phase is not Phase.UNKNOWN else UNANSWERED)
    if seen.phase is Phase.RUNNING and now >= launch.deadline:
        return Member(seen.member, Outcome.OVERDUE, f"still {seen.state} at its deadline: raise image_timeout")
    if now >= limit:
        return Member(seen.member, Outcome.LOST, f"not seen long past its deadline: {seen.note}")
    return None


def _ended(seen: Ec2Sighting) -> Member:
    if seen.state == "available":
        return Member(seen.member, Outcome.SUCCEEDED, "available")
    why = getattr(seen, "detail", None) or seen.reason or "EC2 gives no reason"
    return Member(seen.member, Outcome.LOST, f"the image is {seen.state}: {why}")


def _surely(launch: Launch, seen: Ec2Sighting, now: datetime) -> bool:
    asked = (launch.image.asked if launch.image else None) or launch.requested_at
    return now >= max(asked, seen.absent_since or asked) + YOUNG


def to_stop(
    launch: Launch, seen: Sequence[Any], ended: Mapping[str, Member], now: datetime
) -> dict[str, tuple[str, ...]]:
    """A builder that has done well stays, stopped, for its image; past the deadline nothing stays."""
    if any(map(is_image, launch.ids)):
        return {}  # what is half made goes when the verdict is told
    well = seen and all(s.member in ended and ended[s.member].outcome is Outcome.SUCCEEDED for s in seen)
    if well:
        return {AT_DEADLINE: launch.ids} if now >= launch.deadline else {}
    return ec2.to_stop(launch, seen, ended, now)


def in_words(launch: Launch, seen: Ec2Sighting, now: datetime) -> str:
    if not is_image(seen.member):
        return ec2.in_words(launch, seen, now)
    if seen.phase is Phase.UNKNOWN:
        return f"cannot be seen ({seen.note}); looking again"
    return f"the image is {seen.state}"
