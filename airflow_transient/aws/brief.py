"""Answers to looks, read in brief: boto3 reads all of an answer by its model, and a look needs a tenth of it.

That was most of a look's CPU (`python -m benchmarks.looks` measures both ways). Law: both ways show the same, and what
is not as expected is left to boto3 as it came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any

#: What a look reads of a task's moments. ECS tells them in seconds of the epoch, as its JSON protocol does.
MOMENTS = ("createdAt", "pullStartedAt", "startedAt", "stoppedAt")
#: What EC2 tells of a machine and no look reads: what is long, and what is dear because it is a moment.
UNREAD = (
    *("networkInterfaceSet", "blockDeviceMapping", "usageOperationUpdateTime", "metadataOptions", "enclaveOptions"),
    *("cpuOptions", "capacityReservationSpecification", "hibernationOptions", "placement", "monitoring"),
    *("groupSet", "iamInstanceProfile", "privateDnsNameOptions", "maintenanceOptions", "networkPerformanceOptions"),
)
_UNREAD = re.compile(rf"<({'|'.join(UNREAD)})>.*?</\1>".encode(), re.DOTALL)

#: Other calls of the same client are answered in full.
_looking: ContextVar[bool] = ContextVar("looking", default=False)


def can_be_brief(client: Any) -> Any:
    """A client of boto3 whose looks are answered in brief from now on, by botocore's own events."""
    for event, read in _READ.items():
        client.meta.events.register(event, read, unique_id=f"airflow_transient: {event}")
    return client


@contextmanager
def answers() -> Iterator[None]:
    """What this thread asks meanwhile is a look."""
    before = _looking.set(True)
    try:
        yield
    finally:
        _looking.reset(before)


def _tasks(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """A task as it came, its moments as datetimes: botocore leaves what is put here as it is (endpoint.py)."""
    body = response_dict["body"]
    if not _looking.get() or response_dict["status_code"] != 200 or b"null" in body:  # botocore leaves a null out
        return
    try:
        said = json.loads(body)
        told = {"tasks": [_task(task) for task in said["tasks"]], "failures": said.get("failures", [])}
    except (ValueError, TypeError, LookupError, OverflowError, OSError):
        return
    customized_response_dict.update(told)
    response_dict["body"] = b"{}"


def _task(said: dict[str, Any]) -> dict[str, Any]:
    return said | {name: datetime.fromtimestamp(said[name], timezone.utc) for name in MOMENTS if name in said}


def _instances(response_dict: dict[str, Any], **_: Any) -> None:
    """Machines without what is not read. Text in XML has no "<", but for comments and CDATA, which EC2 does not use."""
    body = response_dict["body"]
    if _looking.get() and response_dict["status_code"] == 200 and b"<!" not in body:
        response_dict["body"] = _UNREAD.sub(b"", body)


_READ = {"before-parse.ecs.DescribeTasks": _tasks, "before-parse.ec2.DescribeInstances": _instances}
