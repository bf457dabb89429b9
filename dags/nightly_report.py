"""
### A nightly job on a machine that exists only while it runs

Computes digits of pi for `duration` seconds on an EC2 instance of its own and keeps them in S3. The instance reports
how the job ended, shuts itself down and is terminated; the verdict is this task's XCom.

It needs a bucket (Airflow Variable `results_bucket`, default `transient-results`) and, on real AWS, the permissions
that the README lists. The instance itself needs no role.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from airflow_transient.operators.ec2 import TransientEc2Operator

with DAG(
    "nightly_report",
    schedule="0 23 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={"duration": Param(5, type="integer", minimum=1, maximum=3600, title="Seconds to compute for")},
    tags=["transient", "ec2"],
    doc_md=__doc__,
):
    TransientEc2Operator(
        task_id="report",
        script="jobs/digits_of_pi.py",
        environment={"DURATION": "{{ params.duration }}"},
        image_ssm_parameter="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        instance_type=["t3.small", "t3a.small"],
        results="s3://{{ var.value.get('results_bucket', 'transient-results') }}/nightly_report",
        max_runtime=timedelta(hours=1, minutes=10),
        deferrable=True,
        poll_interval=3,
    )
