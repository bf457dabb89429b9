"""
### As many tasks as a queue asks for, and none when it is empty

Every five minutes a gate looks at the queue `jobs`, without a worker. Where messages wait, a burst of ECS tasks is
launched: one for every ten messages, at most twenty at once, on Fargate Spot first. They work until the queue is empty
and end; the last step makes sure that nothing is left, in flight or delayed.

It needs the task definition `queue-worker` (`dags/jobs/queue_worker.py` in an image with boto3), the Airflow Variable
`subnets` (comma-separated), and on real AWS the permissions that the README lists. `make up` brings all of that;
`python scripts/send_jobs.py jobs 60` fills the queue.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_transient.operators.ecs import EcsBurstOperator
from airflow_transient.sensors.sqs import SqsDepthSensor

with DAG(
    "queue_burst",
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["transient", "ecs", "sqs"],
    doc_md=__doc__,
):
    waiting = SqsDepthSensor(task_id="waiting", queues="jobs", at_least=1, or_skip=True, start_from_trigger=True)

    work = EcsBurstOperator(
        task_id="work",
        task_definition="queue-worker",
        queues="jobs",
        messages_per_task=10,
        max_count=20,
        capacity_provider_strategies=["FARGATE_SPOT", "FARGATE"],
        network_configuration={"subnets": "{{ var.value.get('subnets', '') }}", "assignPublicIp": "ENABLED"},
        overrides={
            "main": {
                "QUEUE": "jobs",
                "RESULTS": "s3://{{ var.value.get('results_bucket', 'transient-results') }}/queue_burst",
            }
        },
        max_runtime=timedelta(hours=1),
        deferrable=True,
        poll_interval=3,
    )

    drained = SqsDepthSensor(
        task_id="drained", queues="jobs", drained=True, poke_interval=3, timeout=600, deferrable=True
    )

    waiting >> work >> drained
