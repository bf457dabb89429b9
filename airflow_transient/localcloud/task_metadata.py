"""What a task may ask at 169.254.170.2: its role's credentials, and who and where it is (metadata version 4).

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_transient.localcloud.ecs_tasks import Container, Task
from airflow_transient.localcloud.imds import Answer

ADDRESS = "169.254.170.2"
CREDENTIALS = "/v2/credentials/"
JSON = (("Content-Type", "application/json"),)


@dataclass(frozen=True)
class TaskView:
    """containers: runtime id -> its own document. credentials: by the id in the variable's path, asked when needed."""

    task: Mapping[str, Any]
    containers: Mapping[str, Mapping[str, Any]]
    credentials_id: str
    credentials: Callable[[], Mapping[str, str] | None]


def view(task: Task, credentials: Callable[[], Mapping[str, str] | None]) -> TaskView:
    with task.lock:
        said = task.describe()
        whole = {
            "Cluster": task.cluster_arn,
            "TaskARN": task.task_arn,
            "Family": task.definition.family,
            "Revision": str(task.definition.revision),
            "DesiredStatus": task.desired,
            "KnownStatus": task.status,
            "Limits": {"CPU": int(said["cpu"]) / 1024, "Memory": int(said["memory"])},
            "PullStartedAt": task.times["pullStartedAt"].isoformat(),
            "AvailabilityZone": task.place.zone,
            "LaunchType": task.place.launch_type,
        }
        containers = {each.runtime_id: _container(task, each) for each in task.containers}
    return TaskView(whole, containers, task.credentials_id, credentials)


def _container(task: Task, container: Container) -> dict[str, Any]:
    name = container.rule.name
    labels = {
        "cluster": task.cluster_arn,
        "container-name": name,
        "task-arn": task.task_arn,
        "task-definition-family": task.definition.family,
        "task-definition-version": str(task.definition.revision),
    }
    return {
        "DockerId": container.runtime_id,
        "Name": name,
        "DockerName": name,
        "Image": container.words["image"],
        "Labels": {f"com.amazonaws.ecs.{label}": value for label, value in labels.items()},
        "DesiredStatus": "RUNNING" if task.ending is None else "STOPPED",
        "KnownStatus": container.state.phase.value,
        "Type": "NORMAL",
        "ContainerARN": container.arn,
        "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": [task.place.ip]}],
    }


def variables(runtime_id: str, credentials_id: str, has_role: bool) -> dict[str, str]:
    """How a container finds it."""
    found = {"ECS_CONTAINER_METADATA_URI_V4": f"http://{ADDRESS}/v4/{runtime_id}"}
    if has_role:
        found["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = CREDENTIALS + credentials_id
    return found


def answer(view: TaskView, method: str, path: str) -> Answer:
    if method not in ("GET", "HEAD"):
        return Answer(405)
    if path.startswith(CREDENTIALS):
        keys = view.credentials() if path[len(CREDENTIALS) :] == view.credentials_id else None
        return _said(keys)
    version, _, rest = path.strip("/").partition("/")
    runtime_id, _, what = rest.partition("/")
    if version != "v4" or runtime_id not in view.containers:
        return Answer(404)
    if what in ("task", "taskWithTags"):
        return _said({**view.task, "Containers": list(view.containers.values())})
    return _said(view.containers[runtime_id]) if not what else Answer(404)


def _said(document: Mapping[str, Any] | None) -> Answer:
    return Answer(404) if document is None else Answer(200, json.dumps(document).encode(), JSON)
