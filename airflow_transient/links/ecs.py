"""From a task in the web UI to its ECS tasks and their logs in the AWS console."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow_transient.links.launch import LaunchLink, console_url


def _cluster_url(launch: dict[str, Any], rest: str) -> str:
    cluster = quote(launch["ecs"]["cluster"].rpartition("/")[2], safe="")
    return console_url(launch["region"], f"ecs/v2/clusters/{cluster}/tasks{rest}?region={launch['region']}")


def _log_url(launch: dict[str, Any], task: str) -> str:
    """The console wants its own escapes: $25 for a percent sign (CloudWatch's links as the console makes them)."""
    place = next(iter(launch["ecs"]["logs"]), None)
    if place is None:
        return ""
    group, stream = (
        quote(quote(name, safe=""), safe="").replace("%", "$")
        for name in (place["group"], f"{place['prefix']}/{place['container']}/{task}")
    )
    return console_url(
        place["region"],
        f"cloudwatch/home?region={place['region']}#logsV2:log-groups/log-group/{group}/log-events/{stream}",
    )


class TasksLink(LaunchLink):
    """The tasks of the launch's cluster; of a single one, that task."""

    name = "ECS tasks"

    def url(self, launch: dict[str, Any]) -> str:
        return _cluster_url(launch, f"/{launch['ids'][0]}" if len(launch["ids"]) == 1 else "")


class FailedTaskLink(LaunchLink):
    """The worst of the tasks that failed."""

    name = "Failed ECS task"

    def url(self, launch: dict[str, Any]) -> str:
        return _cluster_url(launch, f"/{launch['failed']}") if launch.get("failed") else ""


class TaskLogLink(LaunchLink):
    """The log stream of the worst that failed; until one does, of the first task."""

    name = "Log in CloudWatch"

    def url(self, launch: dict[str, Any]) -> str:
        return _log_url(launch, launch.get("failed") or launch["ids"][0])
