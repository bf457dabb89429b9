"""Many launches at once, each a mapped task of its own: one machine of EC2, or one task of ECS."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_transient.operators.ec2 import TransientEc2Operator
from airflow_transient.operators.ecs import EcsBurstOperator

COUNT = int(os.environ.get("SCALE_OUT_EACH", "1"))
#: The jobs of a DAG go on as long as its file in there is, and then end one after the other.
HELD = os.environ.get("SCALE_OUT_HELD", "/nonexistent")
PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
COMMON: dict[str, Any] = {
    "task_id": "job",
    "retries": 3,
    "retry_delay": timedelta(seconds=1),
    "max_runtime": 1800,
    "deferrable": True,
    "poll_interval": 5,
}
DAG_WORDS: dict[str, Any] = {"max_active_tasks": 1000, "is_paused_upon_creation": False}
SECONDS = [str(5 + number % 20) for number in range(COUNT)]

with DAG("machines", **DAG_WORDS):
    TransientEc2Operator.partial(
        command=f'"$TRANSIENT_PUT" /etc/hostname ran; while [ -e {HELD}/machines ]; do sleep 5; done; sleep $LEFT',
        image_ssm_parameter=PARAMETER,
        instance_type="t3.small",
        results="s3://results/scale-out",
        **COMMON,
    ).expand(environment=[{"LEFT": seconds} for seconds in SECONDS])

with DAG("tasks", **DAG_WORDS):
    EcsBurstOperator.partial(
        task_definition="burst",
        task_count=1,
        capacity_provider_strategies=["FARGATE"],
        **COMMON,
    ).expand(
        overrides=[
            {"main": {"RUN": str(number), "JOB_SECONDS": seconds, "HELD": f"{HELD}/tasks"}}
            for number, seconds in enumerate(SECONDS)
        ]
    )
