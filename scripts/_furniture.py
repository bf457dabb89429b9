"""What the examples want to find in an account: a bucket, queues and a task definition, events; and a first job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_transient.aws.events import Events
from airflow_transient.core.event_rules import Wanted
from airflow_transient.localcloud import LocalCloud

BUCKET = "transient-results"
QUEUES = ("jobs", "orders", "letters")
#: ECS's events are told apart by it, so it is known before Airflow starts.
DEPLOYMENT = "make-up"
WORKER = Path(__file__).resolve().parents[1] / "dags" / "jobs" / "queue_worker.py"


def furnish(cloud: LocalCloud) -> dict[str, str]:
    """Put it all there; the environment in which Airflow finds it."""
    s3, sqs = cloud.client("s3"), cloud.client("sqs")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    for queue in QUEUES:
        sqs.create_queue(QueueName=queue, Attributes={"VisibilityTimeout": "60"})
    cloud.client("ecs").register_task_definition(**task_definition(cloud.region))
    subnets = [subnet["SubnetId"] for subnet in cloud.client("ec2").describe_subnets()["Subnets"]]
    return {"AIRFLOW_VAR_SUBNETS": ",".join(subnets[:2])}


def events(cloud: LocalCloud) -> dict[str, str]:
    """What `airflow transient events setup` makes; and the environment of the one Airflow whose triggerer reads it."""
    arn = Events(cloud.client, Wanted(DEPLOYMENT)).setup().arn
    return {"AIRFLOW__TRANSIENT__DEPLOYMENT_ID": DEPLOYMENT, "AIRFLOW__TRANSIENT__EVENTS_QUEUE": str(arn)}


def example_job(subnets: Sequence[str]) -> dict[str, Any]:
    """A job's document: looks at the queue `letters` once a minute, and launches nothing while that is empty."""
    environment = {"QUEUE": "letters", "RESULTS": f"s3://{BUCKET}/letters"}
    return {
        "id": "letters",
        "taskDefinition": "queue-worker",
        "schedule": "? *",
        "trigger": {"type": "sqs", "queueName": "letters", "messagesPerTask": 10},
        "maxCount": 5,
        "overrides": [{"containerName": "main", "environment": environment}],
        "networkConfiguration": {"subnets": [*subnets], "assignPublicIp": "ENABLED"},
    }


def task_definition(region: str) -> dict[str, Any]:
    """The local cloud runs the command and takes no notice of the image."""
    container = {
        "name": "main",
        "image": "public.ecr.aws/docker/library/python:3.12-slim",
        "essential": True,
        "command": ["python3", "-c", WORKER.read_text(encoding="utf-8")],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": "/transient/queue-worker",
                "awslogs-region": region,
                "awslogs-stream-prefix": "worker",
                "awslogs-create-group": "true",
            },
        },
    }
    return {
        "family": "queue-worker",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "taskRoleArn": "arn:aws:iam::123456789012:role/queue-worker",
        "executionRoleArn": "arn:aws:iam::123456789012:role/ecs-execution",
        "containerDefinitions": [container],
    }
