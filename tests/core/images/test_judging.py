"""How the making of an image ended, and what may stay meanwhile: tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.ec2.receipts import Receipt
from airflow_transient.core.images.judging import ImageSighting, Step, judge_member, next_step, to_stop
from airflow_transient.core.images.plan import Plan
from airflow_transient.core.images.requests import seen_as_machine
from airflow_transient.core.judging import judge, wait_in_words
from airflow_transient.core.launch import AT_DEADLINE, BY_REQUEST, Launch
from airflow_transient.core.verdict import Outcome, Phase

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
PLAN = Plan("worker-abc", "worker", "abc", "ami-1", regions=("eu-west-3",), asked=T0)
BUILD = Launch("image", "t0-1", "n0", ("i-1",), "eu-west-1", T0, T0, T0 + timedelta(hours=2), image=PLAN)
IMAGE = replace(BUILD, ids=("ami-2",), image=replace(PLAN, builder="i-1"))
LATE = T0 + timedelta(hours=2, minutes=1)


def builder(state: str = "stopped", exit_code: int = 0, **words: Any) -> Ec2Sighting:
    receipt = Receipt("n0", "i-1", "end", exit_code=exit_code, cause="exit", channel="bucket", **words)
    reason = "Client.InstanceInitiatedShutdown"
    return Ec2Sighting("i-1", Phase.ENDED, state, reason=reason, launched=T0, ended=T0, receipt=receipt)


def image(state: str = "", phase: Phase = Phase.ENDED, **words: Any) -> ImageSighting:
    return ImageSighting("ami-2", phase, state, **words)


@pytest.mark.parametrize(
    ("seen", "at", "outcome"),
    [
        pytest.param(image("available"), T0, Outcome.SUCCEEDED, id="available"),
        pytest.param(image("pending", Phase.RUNNING), T0, None, id="pending"),
        pytest.param(image("pending", Phase.RUNNING), LATE, Outcome.OVERDUE, id="pending past the deadline"),
        pytest.param(image("failed", reason="Server.InternalError"), T0, Outcome.LOST, id="failed"),
        pytest.param(image("deregistered"), T0, Outcome.LOST, id="deregistered"),
        pytest.param(image("new word", Phase.UNKNOWN), T0, None, id="a state that nobody knows"),
        pytest.param(image(phase=Phase.UNKNOWN, note="no network"), LATE, None, id="a failed look ends nothing"),
        pytest.param(image(phase=Phase.UNKNOWN), T0 + timedelta(days=2), Outcome.LOST, id="never seen again"),
        pytest.param(
            image(phase=Phase.UNKNOWN, absent=True), T0 + timedelta(minutes=1), None, id="too new to be known"
        ),
        pytest.param(
            image(phase=Phase.UNKNOWN, absent=True),
            T0 + timedelta(minutes=6),
            Outcome.LOST,
            id="deregistered by a person",
        ),
        pytest.param(
            image(phase=Phase.UNKNOWN, absent=True, stopped_by=BY_REQUEST), T0, Outcome.STOPPED, id="called off"
        ),
        pytest.param(
            image(phase=Phase.UNKNOWN, absent=True, stopped_by=AT_DEADLINE), T0, Outcome.OVERDUE, id="at its deadline"
        ),
    ],
)
def test_an_image_is_judged_by_its_state(seen: ImageSighting, at: datetime, outcome: Outcome | None) -> None:
    member = judge_member(IMAGE, seen, at)
    assert (member.outcome if member else None) is outcome


def test_a_failed_image_tells_ec2s_reason() -> None:
    verdict = judge(IMAGE, [image("failed", reason="Server.X", detail="Server.X: the disk is gone")], T0)
    assert verdict is not None
    assert "the disk is gone" in verdict.worst.evidence


@pytest.mark.parametrize(
    ("seen", "at", "stopped"),
    [
        pytest.param(builder(), T0, {}, id="a builder that did well stays for its image"),
        pytest.param(builder(), LATE, {AT_DEADLINE: ("i-1",)}, id="past the deadline nothing stays"),
        pytest.param(builder(exit_code=3), T0, {AT_DEADLINE: ("i-1",)}, id="one that failed goes at once"),
        pytest.param(builder("terminated"), T0, {}, id="gone already"),
    ],
)
def test_a_stopped_builder_stays_only_for_its_image(seen: Ec2Sighting, at: datetime, stopped: Any) -> None:
    member = judge_member(BUILD, seen, at)
    ended = {"i-1": member} if member else {}
    assert to_stop(BUILD, [seen], ended, at) == stopped


@pytest.mark.parametrize(
    ("ids", "step"),
    [
        pytest.param(("i-1",), Step.CREATE, id="the builder has stopped"),
        pytest.param(("ami-2",), Step.COPY, id="the image is there"),
        pytest.param(("ami-2", "ami-3@eu-west-3"), Step.DELIVER, id="its copies, too"),
    ],
)
def test_step_by_step(ids: tuple[str, ...], step: Step) -> None:
    assert next_step(replace(BUILD, ids=ids)) is step


def test_without_other_regions_it_is_delivered_at_once() -> None:
    assert next_step(replace(IMAGE, image=replace(PLAN, regions=()))) is Step.DELIVER


def test_a_builder_is_a_machine_to_whoever_looks() -> None:
    assert (BUILD.made_of, IMAGE.made_of) == ("ec2", "image")
    assert seen_as_machine(IMAGE) == replace(IMAGE, kind="ec2", ids=("i-1",), image=None)
    assert seen_as_machine(replace(IMAGE, image=PLAN)) is None


def test_the_launch_of_an_image_travels_as_json() -> None:
    import json

    assert Launch.from_dict(json.loads(json.dumps(IMAGE.to_dict()))) == IMAGE


def test_the_wait_in_words() -> None:
    assert wait_in_words(IMAGE, [image("pending", Phase.RUNNING)], T0) == "ami-2: the image is pending"
