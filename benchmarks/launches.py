"""Launches of ours that the fake of AWS knows: one member each, asked for a while ago, with receipts in its bucket."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_transient.core.ecs.terms import Terms
from airflow_transient.core.launch import Launch
from benchmarks.fake.ecs import CONTAINER
from benchmarks.fake.s3 import BUCKET, NONCE
from benchmarks.fake.world import AGE, REGION


def launch(kind: str, id: str) -> Launch:
    began = datetime.now(timezone.utc) - timedelta(seconds=AGE)
    more: dict[str, Any] = {"receipts": f"s3://{BUCKET}/receipts/"}
    if kind == "ecs":
        more = {"ecs": Terms("default", (CONTAINER,), 2100, 36_000, 1, 1)}
    boot_by, deadline = began + timedelta(minutes=35), began + timedelta(hours=10)
    return Launch(kind, f"{id}-1", NONCE, (id,), REGION, began, boot_by, deadline, **more)
