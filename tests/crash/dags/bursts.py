"""A burst of ECS tasks whose task process is killed: ours in both ways of waiting, and the provider's own one task."""

from __future__ import annotations

from typing import Any

from airflow.providers.amazon.aws.operators.ecs import EcsRunTaskOperator
from airflow.sdk import DAG
from doors import COMMON, DAG_WORDS, HELD, SECONDS, Crashing, watch_stock

from airflow_transient.operators.ecs import EcsBurstOperator


class CrashingBurst(Crashing, EcsBurstOperator):
    pass


class StockTask(EcsRunTaskOperator):
    def execute(self, context: Any) -> Any:
        watch_stock(context, self.client, "ecs", "RunTask")
        return super().execute(context)


VARIABLES = {"RUN": "{{ run_id }}", "JOB_SECONDS": str(SECONDS), "HELD": HELD}
OURS: dict[str, Any] = {
    **COMMON,
    "task_definition": "burst",
    "task_count": 12,
    "overrides": {"main": VARIABLES},
    "capacity_provider_strategies": ["FARGATE_SPOT", "FARGATE"],
    "max_runtime": 300,
    "poll_interval": 2,
}

with DAG("burst", **DAG_WORDS):
    CrashingBurst(task_id="job", deferrable=True, **OURS)

with DAG("burst_in_worker", **DAG_WORDS):
    CrashingBurst(task_id="job", deferrable=False, **OURS)

with DAG("stock_task", **DAG_WORDS):
    environment = [{"name": name, "value": value} for name, value in VARIABLES.items()]
    StockTask(
        task_id="job",
        task_definition="burst",
        cluster="default",
        launch_type="FARGATE",
        overrides={"containerOverrides": [{"name": "main", "environment": environment}]},
        waiter_delay=1,
        deferrable=False,
        **COMMON,
    )
