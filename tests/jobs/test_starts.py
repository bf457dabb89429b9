"""The names under which a job's last tasks are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_transient.jobs.starts import MOST, started

DEFINITION = "arn:aws-cn:ecs:cn-north-1:123456789012:task-definition/sleeper:7"
TASK = "arn:aws-cn:ecs:cn-north-1:123456789012:task/jobs/"


def ecs(cluster: str, **more: Any) -> dict[str, Any]:
    return {"kind": "ecs", "ids": ["0a", "0b"], "ecs": {"cluster": cluster, "definition": DEFINITION, **more}}


#: case -> XCom, what was started.
STARTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "tasks": (ecs("jobs"), (f"{TASK}0a", f"{TASK}0b")),
    "of a cluster by its ARN": (ecs("arn:aws-cn:ecs:cn-north-1:123456789012:cluster/jobs"), (f"{TASK}0a", f"{TASK}0b")),
    "of a definition by its name": (ecs("jobs", definition="sleeper"), ("0a", "0b")),
    "of an older version": (ecs("jobs", definition=None), ("0a", "0b")),
    "as JSON in a string": (json.dumps(ecs("jobs")), (f"{TASK}0a", f"{TASK}0b")),
    "instances": ({"kind": "ec2", "ids": ["i-1"], "ecs": None}, ("i-1",)),
    "nothing": ({"ids": []}, ()),
    "elsewhere": ("s3://xcoms/1", ()),
    "no launch": ({"ids": "i-1"}, ()),
    "no names": ({"ids": [1, {}]}, ()),
    "a list": ([1], ()),
    "no value": (None, ()),
}


@pytest.mark.parametrize(("xcom", "names"), STARTS.values(), ids=STARTS)
def test_what_was_started(xcom: Any, names: tuple[str, ...]) -> None:
    assert started(xcom) == names


def test_no_more_than_a_launch_may_have() -> None:
    assert len(started({"ids": ["i"] * 5000})) == MOST
