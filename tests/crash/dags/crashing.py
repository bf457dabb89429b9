"""DAGs whose task process kills itself with SIGKILL at a named step, once; Airflow is left to recover."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.amazon.aws.operators.ec2 import EC2CreateInstanceOperator
from airflow.sdk import DAG

from airflow_transient.hooks.aws import TransientHook
from airflow_transient.operators import launch as journey
from airflow_transient.operators.ec2 import TransientEc2Operator
from airflow_transient.operators.journal import Journal

MARKS = Path(os.environ.get("CRASH_MARKS", "/nonexistent"))
PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
SECONDS = float(os.environ.get("CRASH_JOB_SECONDS", "6"))

#: The run's point of death, as `conf` says; set when a task process starts.
armed: dict[str, str] = {}


def reach(step: str) -> None:
    """Die here if this is the step and this run has not died yet."""
    if armed.get("at") != step:
        return
    try:
        (MARKS / armed["run"].replace("/", "_").replace(":", "_")).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class CrashingJournal(Journal):
    """Dies before or after the intent is written, told apart by the state that is written."""

    def write(self, intent: Any) -> None:
        state = "placed in part" if intent.state.value == "drawn" and intent.launch else intent.state.value
        reach(f"before writing '{state}'")
        super().write(intent)
        reach(f"after writing '{state}'")


class CrashingLauncher:
    """Dies before or after each call to AWS."""

    def __init__(self, launcher: Any) -> None:
        self._launcher = launcher

    def __getattr__(self, verb: str) -> Any:
        def called(*arguments: Any, **named: Any) -> Any:
            reach(f"before {verb}")
            answer = getattr(self._launcher, verb)(*arguments, **named)
            reach(f"after {verb}")
            return answer

        return called


class CrashingHook(TransientHook):
    def launcher(self, kind: str) -> Any:
        return CrashingLauncher(super().launcher(kind))


class CrashingOperator(TransientEc2Operator):
    """Ours, with the doors where a process can die marked."""

    def execute(self, context: Any) -> Any:
        arm(context)
        return super().execute(context)

    def execute_complete(self, context: Any, event: Any = None, **more: Any) -> Any:
        arm(context)
        reach("before execute_complete")
        said = super().execute_complete(context, event, **more)
        reach("after execute_complete")
        return said

    def defer(self, **words: Any) -> Any:
        reach("before deferring")
        super().defer(**words)


def arm(context: Any) -> None:
    armed.update(at=context["params"]["at"], run=context["ti"].run_id)
    journey.Journal = CrashingJournal  # type: ignore[misc]
    journey.TransientHook = CrashingHook  # type: ignore[misc]


class StockOperator(EC2CreateInstanceOperator):
    """The provider's own, killed right before or after the same call."""

    def execute(self, context: Any) -> Any:
        armed.update(at=context["params"]["at"], run=context["ti"].run_id)
        events = self.hook.conn.meta.events
        events.register("before-send.ec2.RunInstances", lambda **_: reach("before launch"))
        events.register("after-call.ec2.RunInstances", lambda **_: reach("after launch"))
        return super().execute(context)


JOB = f'"$TRANSIENT_PUT" /etc/hostname ran; sleep {SECONDS}'
COMMON: dict[str, Any] = {"retries": 3, "retry_delay": timedelta(seconds=1)}
OURS: dict[str, Any] = {
    **COMMON,
    "command": JOB,
    "image_ssm_parameter": PARAMETER,
    "instance_type": "t3.small",
    "results": "s3://results/crash",
    "max_runtime": 120,
    "poll_interval": 1,
}

with DAG("deferred", params={"at": ""}, max_active_runs=50, is_paused_upon_creation=False):
    CrashingOperator(task_id="job", deferrable=True, **OURS)

with DAG("in_worker", params={"at": ""}, max_active_runs=50, is_paused_upon_creation=False):
    CrashingOperator(task_id="job", deferrable=False, **OURS)

with DAG("stock", params={"at": ""}, max_active_runs=50, is_paused_upon_creation=False):
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
