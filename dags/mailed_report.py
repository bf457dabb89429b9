"""
### A job, and a mail about how it went

The seeds' scripts installed a mail server on each machine, to say at its end which it was, where, for how long, and
how to look at its log. Here Airflow says so, also of machines that failed to boot: `TransientReport` renders it, and
one of Airflow's own notifiers takes it away. This one publishes to an SNS topic (Airflow Variable `reports_topic`), to
which people subscribe by mail; `SmtpNotifier`, `SesNotifier` and `SlackNotifier` are written the same way
(docs/notifications.md). The workers and the DAG processor need `sns:Publish` on the topic.

The task tells its success itself. What failed the run's callback tells, which also knows of tasks that somebody has
marked failed while they were deferred: Airflow calls none of theirs.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.amazon.aws.notifications.sns import SnsNotifier
from airflow.sdk import DAG

from airflow_transient.notifications.report import TransientReport
from airflow_transient.operators.ec2 import TransientEc2Operator

TOPIC = "{{ var.value.get('reports_topic', 'arn:aws:sns:eu-west-1:123456789012:transient-reports') }}"

tell = TransientReport(
    SnsNotifier(
        target_arn=TOPIC,
        subject="{{ report.subject }}",
        message="{{ report.text }}",
    )
)

with DAG(
    "mailed_report",
    schedule=None,
    on_failure_callback=tell,
    tags=["transient", "ec2"],
    doc_md=__doc__,
):
    TransientEc2Operator(
        task_id="update",
        command="uptime; echo updated",
        image_ssm_parameter="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        instance_type=["t3.small", "t3a.small"],
        results="s3://{{ var.value.get('results_bucket', 'transient-results') }}/mailed_report",
        max_runtime=timedelta(minutes=15),
        deferrable=True,
        poll_interval=3,
        on_success_callback=tell,
    )
