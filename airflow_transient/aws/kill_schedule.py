"""One-time EventBridge Scheduler entries that end a launch at its deadline, Airflow and the guest both dead.

They delete themselves when they have run. Ending what is long gone does nothing, so they are never called off.

The role they run as lets `scheduler.amazonaws.com` assume it and allows ec2:TerminateInstances or ecs:StopTask. Airflow
needs scheduler:CreateSchedule, and iam:PassRole on that role. docs/reaper.md has both policies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from airflow_transient.aws.launcher import FAILURES, ClientFactory, code_of, said_plainly
from airflow_transient.core.ecs.judging import STOP_REASON
from airflow_transient.core.launch import AT_DEADLINE, Launch
from airflow_transient.errors import TransientError

#: EventBridge Scheduler's universal target: any API call, by the SDK's name for it.
TARGET = "arn:{partition}:scheduler:::aws-sdk:{call}"
#: CreateSchedule's `Name` (API reference).
NAME_LIMIT = 64
#: Calls on their way at once: CreateSchedule takes hundreds a second (Scheduler quotas), boto3 keeps ten connections.
AT_ONCE = 10


def schedules(launch: Launch, role: str) -> Iterator[dict[str, Any]]:
    """
    The arguments of CreateSchedule: one for all instances, one for each ECS task, because StopTask takes one.

    Each is named after the launch and a member, so that a launch placed in parts gets what it misses.
    """
    if launch.kind == "ecs":
        cluster = launch.ecs.cluster if launch.ecs else "default"
        for task in launch.ids:
            stop = {"Cluster": cluster, "Task": task, "Reason": f"{STOP_REASON}{AT_DEADLINE}"}
            yield _schedule(launch, role, task, "ecs:stopTask", stop)
    elif launch.ids:
        yield _schedule(launch, role, launch.ids[-1], "ec2:terminateInstances", {"InstanceIds": list(launch.ids)})


def _schedule(launch: Launch, role: str, member: str, call: str, words: dict[str, Any]) -> dict[str, Any]:
    moment = launch.deadline + timedelta(seconds=launch.hold_seconds)
    return {
        "Name": f"{launch.token[: NAME_LIMIT - 1 - len(member)]}-{member}",
        "ScheduleExpression": f"at({moment:%Y-%m-%dT%H:%M:%S})",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Description": f"airflow_transient: end {launch.token} at its deadline",
        "Target": {
            "Arn": TARGET.format(partition=role.split(":")[1], call=call),
            "RoleArn": role,
            "Input": json.dumps(words),
        },
    }


def arm(client: ClientFactory, launch: Launch, role: str) -> None:
    """Ask for all of them; twice makes each once. Raises AccessError, SpecError or LaunchError of the first no."""
    wanted = list(schedules(launch, role))
    if not wanted:
        return
    with said_plainly("scheduler:CreateSchedule"):
        scheduler = client("scheduler")
    with ThreadPoolExecutor(min(AT_ONCE, len(wanted))) as pool:
        refusals = [no for no in pool.map(lambda words: _refusal(scheduler, words), wanted) if no]
    if not refusals:
        return
    try:
        with said_plainly("scheduler:CreateSchedule"):
            raise refusals[0]
    except TransientError as error:
        many = f" ({len(refusals)} of {len(wanted)} schedules)" if len(wanted) > 1 else ""
        raise type(error)(f"{error}{many}") from refusals[0]


def _refusal(scheduler: Any, words: dict[str, Any]) -> Exception | None:
    """What AWS answered, unless there is one of that name already: an earlier asking's."""
    try:
        scheduler.create_schedule(**words)
    except FAILURES as error:
        return None if code_of(error) == "ConflictException" else error
    return None
