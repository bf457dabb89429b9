"""What the examples want to find in an account: a bucket, queues, a role, tasks, events; and a first job."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from airflow_transient.aws.events import Events
from airflow_transient.core.event_rules import Wanted
from airflow_transient.localcloud import LocalCloud, NoBoto3

BUCKET = "transient-results"
QUEUES = ("jobs", "orders", "letters", "batch")
#: Where SQS itself puts what was received more often, interrupted receives too; the workers give up long before.
DEAD_LETTERS, MAX_RECEIVES = "batch-dead", 10
MACHINES_ROLE = "transient-worker"
#: ECS's events are told apart by it, so it is known before Airflow starts.
DEPLOYMENT = "make-up"
WORKER = Path(__file__).resolve().parents[1] / "dags" / "jobs" / "queue_worker.py"


@contextmanager
def local_cloud(port: int = 0) -> Iterator[tuple[LocalCloud, str]]:
    """With machines that can work a queue off; or without, and why, which keeps nobody from all else."""
    with ExitStack() as stack:
        try:
            cloud, lack = stack.enter_context(LocalCloud(port=port, boto3=True)), ""
        except NoBoto3 as error:
            cloud, lack = stack.enter_context(LocalCloud(port=port)), f"No workers on instances: {error}"
        yield cloud, lack


def furnish(cloud: LocalCloud) -> dict[str, str]:
    """Put it all there; the environment in which Airflow finds it."""
    s3, sqs = cloud.client("s3"), cloud.client("sqs")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    for queue in QUEUES:
        sqs.create_queue(QueueName=queue, Attributes={"VisibilityTimeout": "60"})
    give_dead_letters(sqs, "batch")
    make_role(cloud.client("iam"))
    cloud.client("ecs").register_task_definition(**task_definition(cloud.region))
    subnets = [subnet["SubnetId"] for subnet in cloud.client("ec2").describe_subnets()["Subnets"]]
    # The counters of this SQS do not lag, so a batch need not be looked at once a minute only.
    return {"AIRFLOW_VAR_SUBNETS": ",".join(subnets[:2]), "AIRFLOW_VAR_BATCH_INTERVAL": "2"}


def give_dead_letters(sqs: Any, queue: str) -> None:
    dead = sqs.create_queue(QueueName=DEAD_LETTERS)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES})
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})


def make_role(iam: Any) -> None:
    """For machines that work a queue off, and its instance profile; on AWS with the policy of docs/worker.md."""
    who = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [who]})
    iam.create_role(RoleName=MACHINES_ROLE, AssumeRolePolicyDocument=trust)
    iam.create_instance_profile(InstanceProfileName=MACHINES_ROLE)
    iam.add_role_to_instance_profile(InstanceProfileName=MACHINES_ROLE, RoleName=MACHINES_ROLE)


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
