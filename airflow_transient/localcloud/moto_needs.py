"""What a task needs of the rest of the cloud, which is moto's: log streams, its role's credentials, secrets.

What is not there is a LookupError with the words of the task's stoppedReason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timezone
from typing import Any

from airflow_transient.localcloud import awslogs, moto_reads
from airflow_transient.localcloud.console import Console
from airflow_transient.localcloud.ecs_tasks import Container, Task
from airflow_transient.localcloud.moto_reads import ACCOUNT
from airflow_transient.localcloud.task_output import Sink

REFUSED = (
    "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable "
    "to retrieve secret: service call has been retried 1 time(s): {name} was not found"
)


@dataclass
class Outputs:
    """What every container printed, kept for `LocalCloud.output`."""

    _kept: dict[tuple[str, str], Console] = field(default_factory=dict)

    def of(self, task_id: str, container: str) -> Console:
        return self._kept.setdefault((task_id, container), Console())

    def sink(self, task: Task, container: Container) -> Sink:
        """It is kept, and goes where its logConfiguration says."""
        console = self.of(task.id, container.rule.name)
        options = awslogs.options(container.words)
        if options is None:
            return Sink(console.write, lambda: None)
        lines = awslogs.Lines(_stream(options, task, container))

        def write(data: bytes) -> None:
            console.write(data)
            lines.write(data)

        return Sink(write, lines.end)


def _stream(options: Mapping[str, str], task: Task, container: Container) -> Any:
    from moto.logs.models import logs_backends

    backend = logs_backends[ACCOUNT][options.get("awslogs-region") or task.place.region]
    group = options.get("awslogs-group") or ""
    if group not in backend.groups:
        if options.get("awslogs-create-group") != "true":
            raise LookupError(awslogs.missing_group(group))
        backend.ensure_log_group(group)
    name = awslogs.stream_name(options, container.rule.name, task.id, container.runtime_id)
    backend.ensure_log_stream(group, name)
    return backend.groups[group].streams[name]


def keys(task: Task) -> dict[str, str] | None:
    """The role's session of this task, in moto's own book: get_caller_identity then tells the truth."""
    if task.role is None:
        return None
    session = moto_reads.role_session(task, task.role, task.id)
    ends = session.expiration.replace(tzinfo=timezone.utc)
    return {
        "RoleArn": task.role,
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": session.secret_access_key,
        "Token": session.session_token,
        "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def secrets(task: Task, container: Container) -> dict[str, str]:
    """By variable: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Secret.html"""
    return {each["name"]: _value(each["valueFrom"], task.place.region) for each in container.words.get("secrets") or ()}


def _value(source: str, region: str) -> str:
    from moto.core.exceptions import ServiceException

    try:
        found = _secret(source) if ":secretsmanager:" in source else _parameter(source, region)
    except (ServiceException, KeyError, ValueError):
        found = None
    if found is None:
        raise LookupError(REFUSED.format(name=source))
    return found


def _parameter(source: str, region: str) -> str | None:
    """By name, in the task's region, or by ARN."""
    from moto.ssm.models import ssm_backends

    where = source.split(":")[3] if source.startswith("arn:") else region
    found = ssm_backends[ACCOUNT][where].get_parameter(source)
    return None if found is None else str(found.decrypt(found.value))


def _secret(source: str) -> str | None:
    """arn:...:secret:name-suffix[:json key:version stage:version id]"""
    from moto.secretsmanager.models import secretsmanager_backends

    parts = [*source.split(":"), "", "", ""]
    arn, key, stage, version = ":".join(parts[:7]), *parts[7:10]
    backend: Any = secretsmanager_backends[ACCOUNT][parts[3]]  # whose annotations forbid what it takes
    text = backend.get_secret_value(arn, version or None, stage or None).get("SecretString")
    return str(json.loads(text)[key]) if key and text else text
