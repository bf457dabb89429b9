"""Fill a queue with jobs for dags/jobs/queue_worker.py: `python scripts/send_jobs.py QUEUE COUNT`."""

from __future__ import annotations

import argparse
import json
from typing import Any

import boto3

PER_CALL = 10


def main() -> None:
    parser = argparse.ArgumentParser(description="Send COUNT small jobs to the SQS queue QUEUE.")
    parser.add_argument("queue")
    parser.add_argument("count", type=int)
    wishes = parser.parse_args()
    if wishes.count < 1:
        parser.error(f"COUNT is {wishes.count}: at least 1")
    sqs = boto3.client("sqs")
    try:
        send(sqs, wishes.queue, wishes.count)
    except sqs.exceptions.QueueDoesNotExist:
        raise SystemExit(f"There is no queue {wishes.queue!r} in {sqs.meta.region_name}.") from None
    print(f"{wishes.count} jobs are in {wishes.queue}.")


def send(sqs: Any, queue: str, count: int) -> None:
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    for start in range(0, count, PER_CALL):
        jobs = range(start, min(start + PER_CALL, count))
        entries = [{"Id": str(job), "MessageBody": json.dumps({"id": f"job-{job:04d}"})} for job in jobs]
        refused = sqs.send_message_batch(QueueUrl=url, Entries=entries).get("Failed", [])
        if refused:
            raise SystemExit(f"SQS refused {len(refused)} jobs: {refused[0]}")


if __name__ == "__main__":
    main()
