"""
### An image that is made when it has changed, and a job that runs from it

`bake` starts a machine from Amazon's newest image, puts `jobs/digits_of_pi.py` on it, runs the script, and makes an
image of its disk: only if there is none of the same base image, script and files yet. The machine is gone afterwards.
`report` runs from that image, whose software is then there at boot.

It needs a bucket (Airflow Variable `results_bucket`, default `transient-results`) and, on real AWS, the permissions in
docs/images.md. `force` makes a new image whatever there is. Paused at first: a disk image is kept, and costs.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from airflow_transient.operators.ec2 import TransientEc2Operator
from airflow_transient.operators.images import BakeImageOperator

RESULTS = "s3://{{ var.value.get('results_bucket', 'transient-results') }}/bake_image"

with DAG(
    "bake_image",
    schedule="0 3 * * 0",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    is_paused_upon_creation=True,
    params={"force": Param(False, type="boolean", title="Make a new image whatever there is")},
    tags=["transient", "ec2"],
    doc_md=__doc__,
):
    bake = BakeImageOperator(
        task_id="bake",
        name="digits-of-pi",
        script="#!/bin/bash\n"
        "set -euo pipefail\n"
        "if command -v dnf; then dnf -y upgrade; fi\n"
        "python3 -m compileall -q /var/lib/pi\n",
        files={"/var/lib/pi/digits_of_pi.py": "jobs/digits_of_pi.py"},
        image_ssm_parameter="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        instance_type=["t3.small", "t3a.small"],
        results=RESULTS,
        max_runtime=timedelta(minutes=30),
        ssm_parameter="/images/digits-of-pi",
        keep_last=3,
        force="{{ params.force }}",
        deferrable=True,
        poll_interval=3,
    )
    report = TransientEc2Operator(
        task_id="report",
        command="python3 /var/lib/pi/digits_of_pi.py",
        environment={"DURATION": "2"},
        image_id="{{ ti.xcom_pull(task_ids='bake')['image_id'] }}",
        instance_type=["t3.small", "t3a.small"],
        results=RESULTS,
        deferrable=True,
        poll_interval=3,
    )
    bake >> report
