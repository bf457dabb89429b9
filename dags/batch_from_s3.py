"""
### A batch of files: from S3 through a queue, on machines that come and go with it

`enqueue` sends a message for each new file below `batch/incoming/` in the bucket; `work` starts machines that work the
queue off, more while it grows, and waits until it is drained and all of them have terminated themselves; `report` says
what came of it. Here each file is compressed, and an empty one is a failure; results lie below `batch/done/`, and a
file that fails three times is in the dead letter queue. What a worker held that was killed is worked on again half a
minute later (`--visibility`).

It needs a bucket (Airflow Variable `results_bucket`, default `transient-results`), the queue `batch` with a dead letter
queue (`maxReceiveCount` 8 or more), the instance profile `transient-worker` with what docs/worker.md says, and on real
AWS the permissions in docs/workers.md. The Variable `batch_interval` says how many seconds lie between two readings of
the queue; leave it at 60 on AWS, whose counters lag so much.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_transient.operators.batch import EnqueueFilesOperator, QueueWorkersOperator

BATCH = "s3://{{ var.value.get('results_bucket', 'transient-results') }}/batch"

with DAG(
    "batch_from_s3",
    schedule="0 4 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["transient", "ec2", "sqs"],
    doc_md=__doc__,
):
    enqueue = EnqueueFilesOperator(
        task_id="enqueue",
        source=f"{BATCH}/incoming",
        sqs_queue="batch",
        outputs=f"{BATCH}/done/{{name}}.gz",
        manifest_prefix=f"{BATCH}/manifests",
        once=True,
        if_empty="succeed",  # a skip would skip `work`, too, and with it what an earlier run has left in the queue
    )

    work = QueueWorkersOperator(
        task_id="work",
        sqs_queue="batch",
        command='test -s "$1" && gzip -9 -c "$1" >"$2"',
        worker_options=["--visibility", "30"],
        processes=2,
        messages_per_process=25,
        max_count=4,
        interval="{{ var.value.get('batch_interval', 60) }}",
        idle_timeout="{{ var.value.get('batch_interval', 60) }}",
        max_dead_letters=10,
        image_ssm_parameter="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        instance_type=["t3.small", "t3a.small"],
        instance_profile="transient-worker",
        market="spot-then-on-demand",
        results=f"{BATCH}/work",
        max_runtime=timedelta(hours=2),
        deferrable=True,
        poll_interval=3,
    )

    @task
    def report(sent: dict[str, Any], work: dict[str, Any]) -> str:
        did = work["messages"]
        lines = [
            f"{sent['enqueued']} files sent, {did['processed']} processed, {did['dead_lettered']} given up",
            f"{work['machines']} machines for {work['machine_seconds']} s",
            *(f"{each['at']}: {each['count']} more, {each['reason']}" for each in work["growth"]),
        ]
        print("\n".join(lines))
        return lines[0]

    enqueue >> work
    report(enqueue.output, work.output)
