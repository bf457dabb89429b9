"""One machine of EC2 whose task process is killed: ours in both ways of waiting, and the provider's own."""

from __future__ import annotations

from typing import Any

from airflow.providers.amazon.aws.operators.ec2 import EC2CreateInstanceOperator
from airflow.sdk import DAG
from doors import COMMON, DAG_WORDS, HELD, SECONDS, Crashing, watch_stock

from airflow_transient.operators.ec2 import TransientEc2Operator

PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


class CrashingOperator(Crashing, TransientEc2Operator):
    pass


class StockOperator(EC2CreateInstanceOperator):
    def execute(self, context: Any) -> Any:
        watch_stock(context, self.hook.conn, "ec2", "RunInstances")
        return super().execute(context)


OURS: dict[str, Any] = {
    **COMMON,
    "command": f'"$TRANSIENT_PUT" /etc/hostname ran; sleep {SECONDS}; while [ -e {HELD} ]; do sleep 1; done',
    "image_ssm_parameter": PARAMETER,
    "instance_type": "t3.small",
    "results": "s3://results/crash",
    "max_runtime": 300,
    "poll_interval": 2,
}

with DAG("deferred", **DAG_WORDS):
    CrashingOperator(task_id="job", deferrable=True, **OURS)

with DAG("in_worker", **DAG_WORDS):
    CrashingOperator(task_id="job", deferrable=False, **OURS)

with DAG("stock", **DAG_WORDS):
    StockOperator(
        task_id="job",
        image_id="{{ var.value.crash_image }}",
        poll_interval=1,
        wait_for_completion=True,
        config={
            "InstanceType": "t3.small",
            "InstanceInitiatedShutdownBehavior": "terminate",
            "UserData": f"#!/bin/bash\nsleep {SECONDS}\nshutdown -h now\n",
            "TagSpecifications": [
                {"ResourceType": "instance", "Tags": [{"Key": "transient:run", "Value": "{{ run_id }}"}]}
            ],
        },
        **COMMON,
    )
