"""
### A DAG that runs when a queue fills

Nothing is scheduled and no worker waits: a watcher in the triggerer reads the counters of the queue `jobs` every 15
seconds and receives none of its messages. At ten messages or more the asset gets an event and this DAG a run. The next
event comes once the queue has been worked down to two messages and fills again, or after an hour if it never was.

The event says what was seen and, by `messages_per_task` and `max_count`, how many tasks a burst would start for it.
The watcher uses the connection `aws_default` and needs `sqs:GetQueueUrl` and `sqs:GetQueueAttributes`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_transient.triggers.sqs import SqsDepthEventTrigger

enough = SqsDepthEventTrigger(
    queues="jobs",
    at_least=10,
    rearm_at=2,
    repeat_every=timedelta(hours=1),
    messages_per_task=5,
    max_count=20,
    poll_interval=15,
)
jobs_waiting = Asset("jobs_waiting", watchers=[AssetWatcher("enough_jobs", trigger=enough)])

with DAG(
    "on_queue_depth",
    schedule=[jobs_waiting],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["transient", "sqs"],
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

    look()
