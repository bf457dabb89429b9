"""
### A DAG that runs when a queue fills

Nothing is scheduled and no worker waits: a watcher in the triggerer reads the counters of the queue `orders` every 15
seconds and receives none of its messages. At ten messages or more the asset gets an event and this DAG a run. The next
event comes once the queue has been worked down to two messages and fills again, or after an hour if it never was.

The event says what was seen and how many tasks that would ask for; the burst looks again when it starts. The watcher
uses the connection `aws_default` and needs `sqs:GetQueueUrl` and `sqs:GetQueueAttributes`; the burst needs what
`queue_burst` needs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_transient.operators.ecs import EcsBurstOperator
from airflow_transient.triggers.sqs import SqsDepthEventTrigger

enough = SqsDepthEventTrigger(
    queues="orders",
    at_least=10,
    rearm_at=2,
    repeat_every=timedelta(hours=1),
    messages_per_task=5,
    max_count=20,
    poll_interval=15,
)
orders_waiting = Asset("orders_waiting", watchers=[AssetWatcher("enough_orders", trigger=enough)])

with DAG(
    "on_queue_depth",
    schedule=[orders_waiting],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["transient", "ecs", "sqs"],
    doc_md=__doc__,
):

    @task
    def look(triggering_asset_events: Any = None) -> dict[str, Any] | None:
        """What came by: events that came before this run began are merged into it, the newest last."""
        events = [event for of_one in (triggering_asset_events or {}).values() for event in of_one]
        for event in events:
            seen = event.extra["payload"]
            print(f"{seen['visible']} messages wait: {seen['size']['reason']}")
        return events[-1].extra["payload"] if events else None

    look() >> EcsBurstOperator(
        task_id="work",
        task_definition="queue-worker",
        queues="orders",
        messages_per_task=5,
        max_count=20,
        network_configuration={"subnets": "{{ var.value.get('subnets', '') }}", "assignPublicIp": "ENABLED"},
        launch_type="FARGATE",
        overrides={
            "main": {
                "QUEUE": "orders",
                "RESULTS": "s3://{{ var.value.get('results_bucket', 'transient-results') }}/on_queue_depth",
            }
        },
        deferrable=True,
        poll_interval=3,
    )
