"""What goes wrong with a task on request (fault_rules.TASKS), and AWS's words for it and for other failed starts.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_transient.localcloud.ecs_tasks import HOST_LOST, INTERRUPTED
from airflow_transient.localcloud.fault_rules import REASONS

NEVER_STARTS = {
    "capacity-gives-up": REASONS["capacity"],
    "no-network-interface": "Timeout waiting for network interface provisioning to complete.",
    "cannot-pull": (
        "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref {image}: "
        "failed to do request: dial tcp: i/o timeout"
    ),
}
CUT_DOWN = {"interrupted": INTERRUPTED, "host-lost": HOST_LOST}
NO_SANDBOX = "ResourceInitializationError: the sandbox of the task did not start"
NO_COMMAND = "CannotStartContainerError: no command specified"
NOT_STARTED = (
    "CannotStartContainerError: Error response from daemon: failed to create task for container: "
    'OCI runtime create failed: unable to start container process: exec: "{command}": {why}: unknown'
)
HOPELESS = "DependencyError: a container this one depends on did not end as its condition wants"


@dataclass(frozen=True)
class Trouble:
    """What goes wrong with this task, and after how many seconds; "" is nothing."""

    kind: str = ""
    seconds: float = 0.0
