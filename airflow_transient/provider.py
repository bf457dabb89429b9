"""What Airflow is told about this package."""

from __future__ import annotations

from typing import Any


def _option(description: str, example: str, default: str = "") -> dict[str, str]:
    said = {"description": description, "example": example, "default": default}
    return {**said, "version_added": "0.1.0", "type": "string"}


#: The section [transient] of airflow.cfg.
OPTIONS = {
    "deployment_id": _option(
        "The name this Airflow signs its launches with (tag transient:owner). Empty: drawn at random once and kept "
        "in a Variable.",
        "prod",
    ),
    "jobs_store": _option(
        "Where scheduled jobs are kept: file:///folder/jobs.json, s3://bucket/key or variable://NAME. The API "
        "server, the DAG processor and the workers must see the same place. Empty: the file transient/jobs.json in "
        "AIRFLOW_HOME.",
        "s3://my-bucket/airflow/jobs.json",
    ),
    "jobs_conn_id": _option(
        "The Airflow connection that reads and writes an s3:// store of jobs.", "aws_jobs", "aws_default"
    ),
    "events_queue": _option(
        "The SQS queue on which AWS tells the triggerer of state changes, by name, URL or ARN; for several regions "
        "several, with commas between. `airflow transient events setup` makes it. An event only makes a triggerer "
        "look at once. Empty: it looks at intervals alone.",
        "arn:aws:sqs:eu-west-1:123456789012:airflow-transient-events",
    ),
    "events_conn_id": _option("The Airflow connection that reads the queue of events.", "aws_events", "aws_default"),
    "limits": _option(
        "How fast AWS may be asked, as a JSON object: [so many at once, so many a second]. Without it AWS's "
        "documented limits hold, for each account and region in each process: raise one after AWS has raised yours, "
        "lower it where others share the account. Names: changes of a cluster, looks at a cluster, tags in ECS, "
        "Fargate RunTask calls, Fargate tasks, looks at EC2, launches in EC2, instances launched, terminations in "
        "EC2, instances terminated, tags in EC2, looks at logs.",
        '{"Fargate tasks": [200, 50]}',
    ),
    "prices": _option(
        "USD per hour, as a JSON object, for the cost shown of what runs: an instance type, or spot:<type>; "
        "fargate:vcpu and fargate:gb, or fargate-spot, fargate-arm, fargate-spot-arm. What has no price here has no "
        "cost there.",
        '{"t3.micro": 0.0114, "fargate:vcpu": 0.04048, "fargate:gb": 0.004445}',
    ),
}


def get_provider_info() -> dict[str, Any]:
    return {
        "package-name": "airflow-transient",
        "name": "Transient compute",
        "description": "Borrow compute from a DAG: machines that end themselves, waited for and judged honestly.",
        "notifications": ["airflow_transient.notifications.report.TransientReport"],
        "cli": ["airflow_transient.cli.get_transient_cli_commands"],
        "extra-links": [
            "airflow_transient.links.asg.GroupLink",
            "airflow_transient.links.ec2.InstanceLink",
            "airflow_transient.links.ec2.LogLink",
            "airflow_transient.links.ecs.TasksLink",
            "airflow_transient.links.ecs.FailedTaskLink",
            "airflow_transient.links.ecs.TaskLogLink",
        ],
        "config": {"transient": {"description": "Settings of airflow_transient.", "options": OPTIONS}},
    }
