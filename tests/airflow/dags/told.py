"""A run whose launches end in four ways, and who is told of it: each task, and the DAG."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from airflow.sdk import DAG, BaseNotifier

from airflow_transient.notifications import costs, known
from airflow_transient.notifications.report import TransientReport
from airflow_transient.operators.ec2 import TransientEc2Operator

# Where the machine is busy with other things, an answer of AWS takes its time; these are read when a report is made.
costs.PATIENCE, costs.ANSWER, known.COSTS = 30.0, 30, 40.0


class Recorder(BaseNotifier):
    """Shaped as SNS's notifier is: a message, and a subject that may be left out."""

    template_fields = ("by", "subject", "message", "html_content")

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by, self.subject, self.html_content = by, None, None
        self.message = "{{ report.text }}"

    def notify(self, context: Any) -> None:
        said = {name: getattr(self, name) for name in self.template_fields}
        with open(os.environ["RECORDED"], "a", encoding="utf-8") as file:
            file.write(json.dumps(said) + "\n")


class Broken(BaseNotifier):
    def notify(self, context: Mapping[str, Any]) -> None:
        raise RuntimeError("no such topic")


TELL = TransientReport(Broken(), Recorder("task"))
COMMON: dict[str, Any] = {
    "image_ssm_parameter": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
    "instance_type": "t3.small",
    "poll_interval": 0.5,
    "max_runtime": 300,
    "results": "s3://results/told",
    "retries": 0,
    "retry_delay": 0,
    "retry_policy": None,
    "on_retry_callback": TELL,
    "on_success_callback": TELL,
    "on_failure_callback": TELL,
}
#: What a job writes is no template: whoever renders it would give away any connection.
LOG = r"printf '{\45 if 1 \45}{{ conn.secret_db.password }} <b>\033[1m\n'"

with DAG(
    "told",
    schedule=None,
    on_success_callback=TransientReport(Recorder("dag")),
    on_failure_callback=TransientReport(Recorder("dag")),
):
    # `sleep 8`: a try whose trigger fires within a second of its deferral may be failed by Airflow's scheduler.
    TransientEc2Operator(
        task_id="good", command="sleep 8", environment={"COLOUR": "ultramarine"}, deferrable=True, **COMMON
    )
    TransientEc2Operator(task_id="bad", script=f"#!/bin/bash\n{{% raw %}}{LOG}{{% endraw %}}\nexit 3\n", **COMMON)
    TransientEc2Operator.partial(task_id="each", command="sleep 8", deferrable=True, **COMMON).expand(count=[1, 2])
    TransientEc2Operator(task_id="wrong", command="true", **{**COMMON, "results": "nowhere"})
    TransientEc2Operator(task_id="twice", command="exit 4", **{**COMMON, "retries": 1})
    # It outlives the others however long they take: it is marked then.
    TransientEc2Operator(task_id="long", command="sleep 900", deferrable=True, **{**COMMON, "max_runtime": 1200})
