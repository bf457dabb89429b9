"""Whoever may edit XComs may write there what they like; what has not our shape is not believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_transient.core.ecs.terms import LogPlace, Terms
from airflow_transient.core.images.plan import Plan
from airflow_transient.core.launch import Launch
from airflow_transient.plugin.handles import launch_of, words_of

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
TOKEN = "t0123456789abcdef0123-1"
LOG = LogPlace("main", "/ecs/work", "ecs", "eu-west-1")
TERMS = Terms("etl", ("main",), 600, 3600, 1, 1, logs=(LOG,))
EC2 = Launch("ec2", TOKEN, "n", ("i-0123456789abcdef0",), "eu-west-1", NOW, NOW, NOW, f"s3://bucket/x/{TOKEN}/")
ECS = Launch("ecs", TOKEN, "n", ("0" * 32,), "us-gov-west-1", NOW, NOW, NOW, ecs=TERMS)
#: As jobs/operators.py names what is launched again by the task that waits.
AGAIN = Launch("ec2", "t0123456789abcdef0123-1w-2", "n", (), "eu-west-1", NOW, NOW, NOW)

GOOD = {"ec2": EC2, "ecs": ECS, "launched again": AGAIN}


@pytest.mark.parametrize("launch", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("stored", [dict, json.dumps], ids=["as JSON", "as JSON in a string"])
def test_what_we_wrote_is_read(launch: Launch, stored: Callable[[Any], Any]) -> None:
    assert launch_of(stored(launch.to_dict())) == launch


PLAN = Plan("worker-abc", "worker", "abc", "ami-1", regions=("evil.example/x",), builder="i-0123456789abcdef1")


@pytest.mark.parametrize(
    ("ids", "seen"),
    [
        pytest.param(EC2.ids, EC2.ids, id="its builder runs"),
        pytest.param(("ami-0123456789abcdef0",), (PLAN.builder,), id="it is made of its builder"),
    ],
)
def test_of_an_image_its_machine_is_believed_and_nothing_else(ids: tuple[str, ...], seen: tuple[str, ...]) -> None:
    image = replace(EC2, kind="image", ids=ids, image=PLAN)
    assert launch_of(image.to_dict()) == replace(EC2, ids=seen)


BAD: dict[str, tuple[Launch, dict[str, Any]]] = {
    "a kind that is none": (EC2, {"kind": "lambda"}),
    "a token that could be guessed": (EC2, {"token": "t1-1"}),
    "an id that is none": (EC2, {"ids": ["i-0", "arn:aws:ec2:…"]}),
    "a path as an id": (EC2, {"ids": ["../../other/i-0123456789abcdef0"]}),
    "ids of the other kind": (EC2, {"ids": ["0" * 32]}),
    "more ids than a launch has": (EC2, {"ids": ["i-0123456789abcdef0"] * 1001}),
    "a host as a region": (EC2, {"region": "evil.example/x"}),
    "another launch's receipts": (EC2, {"receipts": "s3://bucket/secrets/"}),
    "receipts of no bucket": (EC2, {"receipts": "file:///etc/"}),
    "no terms of a burst": (ECS, {"ecs": None}),
    "an image's plan of no image": (EC2, {"image": PLAN.to_dict()}),
    "an image that had no machine": (
        EC2,
        {"kind": "image", "ids": ["ami-0123456789abcdef0"], "image": {**PLAN.to_dict(), "builder": None}},
    ),
    "terms of no burst": (EC2, {"ecs": TERMS.to_dict()}),
    "a cluster that is none": (ECS, {"ecs": {**TERMS.to_dict(), "cluster": "a b"}}),
    "a log of no region": (ECS, {"ecs": {**TERMS.to_dict(), "logs": [{**vars(LOG), "region": "x/y"}]}}),
    "a moment that is none": (EC2, {"deadline": "tomorrow"}),
    "a moment of no zone": (EC2, {"deadline": "2026-11-21T12:00:00"}),
    "a number as a moment": (EC2, {"deadline": 5}),
}


@pytest.mark.parametrize(("launch", "other"), BAD.values(), ids=BAD)
def test_what_only_looks_like_it_is_not_believed(launch: Launch, other: dict[str, Any]) -> None:
    assert launch_of({**launch.to_dict(), **other}) is None


@pytest.mark.parametrize("stored", [None, 5, "s3://bucket/xcom/1", [], {}, {"ids": []}, "{"])
def test_anything_else_is_no_launch(stored: Any) -> None:
    assert launch_of(stored) is None


@pytest.mark.parametrize(("stored", "read"), [({"a": 1}, {"a": 1}), ('{"a": 1}', {"a": 1}), ([1], {}), (None, {})])
def test_words(stored: Any, read: dict[str, Any]) -> None:
    assert words_of(stored) == read
