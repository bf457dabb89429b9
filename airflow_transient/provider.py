"""What Airflow is told about this package."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    return {
        "package-name": "airflow-transient",
        "name": "Transient compute",
        "description": "Borrow compute from a DAG: machines that end themselves, waited for and judged honestly.",
        "cli": ["airflow_transient.cli.get_transient_cli_commands"],
        "extra-links": [
            "airflow_transient.links.ec2.InstanceLink",
            "airflow_transient.links.ec2.LogLink",
            "airflow_transient.links.ecs.TasksLink",
            "airflow_transient.links.ecs.FailedTaskLink",
            "airflow_transient.links.ecs.TaskLogLink",
        ],
        "config": {
            "transient": {
                "description": "Settings of airflow_transient.",
                "options": {
                    "deployment_id": {
                        "description": (
                            "The name this Airflow signs its launches with (tag transient:owner). "
                            "Empty: drawn at random once and kept in a Variable."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "prod",
                        "default": "",
                    }
                },
            }
        },
    }
