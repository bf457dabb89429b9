"""What ECS refuses of RunTask, DescribeTasks and ListTasks, where moto says yes: one small rule each.

A rule looks at the request and at what exists, and raises `Refused` with AWS's code, or returns. Where the words are
not in AWS's model or documentation they are those that users report. `spread` says which
capacity provider gets which task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from airflow_transient.localcloud.ecs_tasks import FARGATE, Definition
from airflow_transient.localcloud.errors import Refused

Request = Mapping[str, Any]
MOST_TASKS = 10
MOST_DESCRIBED = 100
MOST_LISTED = 100
OVERRIDES_LIMIT = 8192
LAUNCH_TYPES = ("EC2", "FARGATE", "EXTERNAL")
DESIRED = ("RUNNING", "PENDING", "STOPPED")
# "When you specify startedBy as the filter, it must be the only filter that you use" (ListTasks in AWS's model). The
# desired status is taken for a filter of another kind: without it no ended task could be found by who started it.
FILTERS = ("containerInstance", "family", "serviceName", "launchType", "daemonName")


class Network(Protocol):
    """What exists in the region the task is for."""

    def zone_of(self, subnet_id: str) -> str | None: ...

    def has_group(self, group_id: str) -> bool: ...


def invalid(words: str) -> Refused:
    return Refused("InvalidParameterException", words)


def run_task(request: Request, definition: Definition, providers: tuple[str, ...], network: Network) -> None:
    """providers: of the cluster."""
    for rule in RULES:
        rule(request, definition)
    _providers(request, providers)
    _subnets(request, definition, network)


def shape(request: Request) -> None:
    """What is refused before anything is looked up."""
    if not request.get("taskDefinition"):
        raise Refused("ClientException", "Task Definition can not be blank.")
    count = int(request.get("count", 1))
    if not 1 <= count <= MOST_TASKS:
        bound = f"less than or equal to {MOST_TASKS}" if count > MOST_TASKS else "greater than or equal to 1"
        raise invalid(f"count should be {bound}.")
    started_by = str(request.get("startedBy") or "")
    if len(started_by) > 128:
        raise invalid("startedBy must be at most 128 characters long.")
    if not re.fullmatch(r"[A-Za-z0-9_/-]*", started_by):
        raise invalid("startedBy may contain letters, numbers, hyphens, forward slashes and underscores only.")
    token = str(request.get("clientToken") or "")
    if len(token) > 64 or not re.fullmatch(r"[!-~]*", token):
        raise invalid("clientToken must be at most 64 characters long, of the characters 33 to 126.")
    if len(request.get("tags") or ()) > 50:
        raise invalid("Tags can not have more than 50 elements.")


def _launch_type(request: Request, definition: Definition) -> None:
    kind = request.get("launchType")
    if kind and kind not in LAUNCH_TYPES:
        raise invalid(f"launch type should be one of [{','.join(LAUNCH_TYPES)}]")
    if kind and request.get("capacityProviderStrategy"):
        raise invalid("Specify only one of launch type and capacity provider strategy.")
    if kind and definition.requires and kind not in definition.requires:
        raise invalid(f"Task definition does not support launch_type {kind}.")


def _overrides(request: Request, definition: Definition) -> None:
    overrides = request.get("overrides") or {}
    if len(json.dumps(overrides, separators=(",", ":"), ensure_ascii=False)) > OVERRIDES_LIMIT:
        raise invalid(f"Container Overrides length must be at most {OVERRIDES_LIMIT}")
    names = {each["name"] for each in definition.containers}
    for each in overrides.get("containerOverrides") or ():
        if each.get("name") not in names:
            raise invalid(f"Override for container named {each.get('name')} is not a container in the TaskDefinition.")


def _network(request: Request, definition: Definition) -> None:
    given = request.get("networkConfiguration")
    if definition.network_mode == "awsvpc" and not given:
        raise invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    if definition.network_mode != "awsvpc" and given:
        raise invalid("Network Configuration is not valid for the given networkMode of this task definition.")
    words = (given or {}).get("awsvpcConfiguration") or {}
    if given and not words.get("subnets"):
        raise invalid("subnets can not be empty.")
    if len(words.get("subnets") or ()) > 16 or len(words.get("securityGroups") or ()) > 5:
        raise invalid("awsvpcConfiguration takes at most 16 subnets and 5 security groups.")


RULES = (_launch_type, _overrides, _network)


def _providers(request: Request, providers: tuple[str, ...]) -> None:
    for each in request.get("capacityProviderStrategy") or ():
        if each["capacityProvider"] not in providers:
            raise invalid(
                "The specified capacity provider strategy cannot contain a capacity provider that is not associated "
                "with the cluster. Associate the capacity provider with the cluster and try again."
            )


def _subnets(request: Request, definition: Definition, network: Network) -> None:
    if definition.network_mode != "awsvpc":
        return
    words = request["networkConfiguration"]["awsvpcConfiguration"]
    for subnet in words["subnets"]:
        if network.zone_of(subnet) is None:
            raise invalid(f"The subnet ID '{subnet}' does not exist")
    for group in words.get("securityGroups") or ():
        if not network.has_group(group):
            raise invalid(f"The security group '{group}' does not exist")


def launch_type(request: Request, provider: str | None) -> str:
    """What DescribeTasks says: a Fargate provider's tasks say FARGATE too."""
    if provider in FARGATE:
        return "FARGATE"
    return str(request.get("launchType") or "EC2")


def spread(strategy: Sequence[Mapping[str, Any]], count: int) -> list[str]:
    """Which capacity provider each of so many tasks goes to: the base first, then by weight."""
    placed: list[str] = []
    for each in strategy:
        placed += [each["capacityProvider"]] * int(each.get("base") or 0)
    weights = {each["capacityProvider"]: int(each.get("weight") or 0) for each in strategy}
    if not any(weights.values()):  # AWS takes a strategy of one without a weight
        weights = dict.fromkeys(weights, 1)
    got = dict.fromkeys(weights, 0)
    while len(placed) < count:
        name = min((name for name in weights if weights[name]), key=lambda name: (got[name] + 1) / weights[name])
        got[name] += 1
        placed.append(name)
    return placed[:count]


def describe_tasks(request: Request) -> None:
    wanted = request.get("tasks") or ()
    if not wanted:
        raise invalid("Tasks cannot be empty.")
    if len(wanted) > MOST_DESCRIBED:
        raise invalid(f"Tasks can not have more than {MOST_DESCRIBED} elements.")


def list_tasks(request: Request) -> None:
    if request.get("startedBy") and any(request.get(name) for name in FILTERS):
        raise invalid("startedBy must be the only filter.")
    if request.get("desiredStatus", "RUNNING") not in DESIRED:
        raise invalid(f"desired status should be one of [{','.join(DESIRED)}]")
    if not 1 <= int(request.get("maxResults") or 1) <= MOST_LISTED:
        raise invalid(f"maxResults must be between 1 and {MOST_LISTED}.")
