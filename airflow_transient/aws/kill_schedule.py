"""A one-time EventBridge Scheduler entry that terminates a launch at its deadline, Airflow and the guest both dead.

It deletes itself when it has run. Terminating what is long gone does nothing, so it is never called off.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws.launcher import ClientFactory, code_of, said_plainly
from airflow_transient.core.launch import Launch

#: EventBridge Scheduler's universal target: any API call, by the SDK's name for it.
TARGET = "arn:{partition}:scheduler:::aws-sdk:ec2:terminateInstances"


def arguments(launch: Launch, role: str) -> dict[str, Any]:
    """Of CreateSchedule. Its name is the launch's and its last id's, so that a launch placed in parts gets one each."""
    moment = launch.deadline + timedelta(seconds=launch.hold_seconds)
    return {
        "Name": f"{launch.token}-{launch.ids[-1]}"[:64],
        "ScheduleExpression": f"at({moment:%Y-%m-%dT%H:%M:%S})",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Description": f"airflow_transient: terminate {launch.token} at its deadline",
        "Target": {
            "Arn": TARGET.format(partition=role.split(":")[1]),
            "RoleArn": role,
            "Input": json.dumps({"InstanceIds": list(launch.ids)}),
        },
    }


def arm(client: ClientFactory, launch: Launch, role: str) -> None:
    """Ask for it; asking twice makes one. Raises AccessError, SpecError or LaunchError."""
    with said_plainly("scheduler:CreateSchedule"):
        try:
            client("scheduler").create_schedule(**arguments(launch, role))
        except ClientError as error:
            if code_of(error) != "ConflictException":
                raise
