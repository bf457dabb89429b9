"""Bursts on the local cloud with AWS's documented limits on: our buckets slow before the cloud has to refuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import boto3
import pytest
from botocore.config import Config

from airflow_transient.aws import pacing
from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.aws.pacing import Limit
from airflow_transient.core.ecs.requests import started_by
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.launch import Launch, LaunchKey, Owner

OWNER = Owner("test", "dag", "run", "task")
pytestmark = [pytest.mark.slow, pytest.mark.sandbox]


@pytest.fixture
def limited(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Full buckets of ours, and a cloud that refuses as Fargate does."""
    monkeypatch.setattr(pacing, "_buckets", {})
    monkeypatch.setattr(pacing, "_configured", {})
    container = {"name": "main", "image": "any", "command": ["true"], "memory": 64}
    cloud.client("ecs").register_task_definition(family="work", containerDefinitions=[container])
    cloud.faults.task("never-provisions", times=1000)
    yield cloud
    cloud.faults.clear()


def launcher(cloud: Any) -> EcsLauncher:
    keys = {name.lower(): cloud.env[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}

    def client(service: str, region_name: str | None = None, **config: Any) -> Any:
        return boto3.client(service, cloud.region, endpoint_url=cloud.url, config=Config(**config), **keys)

    return EcsLauncher(client)


def burst(hands: EcsLauncher, count: int, name: str) -> Launch:
    words = {"capacity_provider_strategies": ["FARGATE"], "max_runtime": 600, "hard_cap": 500}
    spec = replace(EcsSpec.of(task_definition="work", task_count=count, **words), count=count)
    key = LaunchKey(replace(OWNER, task_id=name), name, 1)
    return hands.launch(hands.prepare(spec, key, spec.pools()[0], datetime.now(timezone.utc)))


def test_three_hundred_tasks_at_once_are_refused_none(limited: Any) -> None:
    rate = limited.faults.task_rate()
    assert len(set(burst(launcher(limited), 300, "alone").ids)) == 300
    assert limited.faults.hits(rate) == 0


def test_where_other_processes_ask_too_it_is_asked_again_and_nothing_starts_twice(limited: Any) -> None:
    """A process whose own buckets hold nothing back stands for many."""
    rate = limited.faults.task_rate()
    pacing.configure({"Fargate tasks": Limit(1000, 1000), "Fargate RunTask calls": Limit(1000, 1000)})
    launch = burst(launcher(limited), 150, "many")
    assert limited.faults.hits(rate) > 0
    pages = (
        limited.client("ecs").get_paginator("list_tasks").paginate(startedBy=started_by(replace(OWNER, task_id="many")))
    )
    there = [arn.rpartition("/")[2] for page in pages for arn in page["taskArns"]]
    assert (len(there), set(there)) == (150, set(launch.ids))
