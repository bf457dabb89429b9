"""What a task's agent is told: which command, with which variables, from which folder, printing where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_transient.localcloud import task_metadata
from airflow_transient.localcloud.ecs_tasks import Container, Task
from airflow_transient.localcloud.mounts import ROOM

# The task's own folder, as its containers see it.
FOLDER = f"{ROOM}/task"


def command(container: Container) -> list[str]:
    return [*(container.words.get("entryPoint") or ()), *(container.words.get("command") or ())]


def start(task: Task, container: Container, base: Mapping[str, str], port: int) -> dict[str, Any]:
    """base: variables that all containers have."""
    return {
        "do": "start",
        "name": container.rule.name,
        "command": command(container),
        "environment": {**base, **_environment(task, container, port), **container.words["environment"]},
        "folder": container.words.get("workingDirectory") or "/",
        "output": f"{FOLDER}/output{task.containers.index(container)}",
    }


def _environment(task: Task, container: Container, port: int) -> dict[str, str]:
    """As Fargate gives it, and the way to this cloud instead of the real one."""
    return {
        "HOME": "/root",
        "HOSTNAME": task.hostname,
        "AWS_REGION": task.place.region,
        "AWS_DEFAULT_REGION": task.place.region,
        "AWS_EXECUTION_ENV": f"AWS_ECS_{task.place.launch_type}",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        **task_metadata.variables(container.runtime_id, task.credentials_id, task.role is not None),
    }
