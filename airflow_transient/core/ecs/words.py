"""The author's words about overrides, capacity and network, read into RunTask's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_transient.core.reading import names, pairs, text, whole
from airflow_transient.errors import SpecError

#: The quotas of RunTask's arguments (ECS service quotas; botocore's model of RunTask).
MAX_OVERRIDES, MAX_SUBNETS, MAX_GROUPS = 8192, 16, 5
LAUNCH_TYPES = ("FARGATE", "EC2", "EXTERNAL", "MANAGED_INSTANCES")
CLUSTER_DEFAULT = "the cluster's default capacity"
NATIVE_OVERRIDES = {
    *("containerOverrides", "cpu", "memory", "taskRoleArn", "executionRoleArn", "ephemeralStorage"),
    "inferenceAcceleratorOverrides",
}


def overrides_of(words: Any) -> dict[str, Any]:
    """
    RunTask's `overrides`, from one of three forms.

    ECS's own ({"containerOverrides": […]}), container -> variables ({"main": {"A": "1"}}), or the ECS Scheduler's
    ([{"containerName": "main", "environment": {"A": "1"}}]).
    """
    if not words:
        return {}
    if isinstance(words, Mapping):
        plain = not {"containerOverrides", "ephemeralStorage"} & set(words)
        if plain and all(isinstance(value, Mapping) for value in words.values()):
            return {"containerOverrides": [_variables(str(name), value) for name, value in words.items()]}
        return _native(words)
    if isinstance(words, Sequence) and not isinstance(words, str):
        return {"containerOverrides": [_short(entry) for entry in words]}
    raise SpecError(f"overrides is ECS's own dict, or container -> variables, not {type(words).__name__}")


def _native(words: Mapping[str, Any]) -> dict[str, Any]:
    if strange := sorted(set(words) - NATIVE_OVERRIDES):
        raise SpecError(f"overrides: ECS does not know {strange}; it knows {sorted(NATIVE_OVERRIDES)}")
    try:
        made: dict[str, Any] = json.loads(json.dumps(dict(words)))  # a copy of its own
    except (TypeError, ValueError) as error:
        raise SpecError(f"overrides: {error}") from None
    for container in _listed(made, "containerOverrides"):
        if not isinstance(container, Mapping) or not container.get("name"):
            raise SpecError("overrides: each entry of containerOverrides needs the name of its container")
        for pair in _listed(container, "environment"):
            if not isinstance(pair, Mapping) or set(pair) != {"name", "value"}:
                raise SpecError("overrides: an environment is a list of {'name': …, 'value': …}")
        _refuse_own(pair["name"] for pair in container.get("environment", ()))
    return made


def _listed(words: Mapping[str, Any], name: str) -> list[Any]:
    found = words.get(name, [])
    if not isinstance(found, list):
        raise SpecError(f"overrides: {name} is a list, not {type(found).__name__}")
    return found


def _short(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Mapping) or set(entry) != {"containerName", "environment"}:
        raise SpecError("overrides: an entry of the short form is {'containerName': …, 'environment': {…}}")
    return _variables(str(entry["containerName"]), entry["environment"])


def _variables(container: str, words: Any) -> dict[str, Any]:
    plain = pairs(words, f"overrides[{container!r}]")
    _refuse_own(plain)
    return {"name": container, "environment": [{"name": name, "value": value} for name, value in plain.items()]}


def _refuse_own(variables: Iterable[str]) -> None:
    if own := sorted(name for name in map(str, variables) if name.startswith("TRANSIENT_")):
        raise SpecError(f"overrides: {own}: variables that start with TRANSIENT_ are set by airflow_transient")


def check_overrides(overrides: Mapping[str, Any]) -> None:
    named = [container["name"] for container in overrides.get("containerOverrides", ())]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise SpecError(f"overrides: {twice} stand there more than once: give each container one entry")
    if (size := len(json.dumps(overrides))) > MAX_OVERRIDES:
        raise SpecError(f"overrides have {size:,} characters as JSON: ECS takes {MAX_OVERRIDES:,}")


def capacity_of(launch_type: Any, strategies: Any) -> dict[str, dict[str, Any]]:
    """What to call it -> RunTask's arguments for it, in the order of trying."""
    kind = text(launch_type, "launch_type")
    if kind and strategies:
        raise SpecError("give launch_type or capacity_provider_strategies, not both: ECS refuses that")
    if kind:
        if kind not in LAUNCH_TYPES:
            raise SpecError(
                f"launch_type is {kind!r}: it must be one of {', '.join(LAUNCH_TYPES)}"
                + ("; FARGATE_SPOT is a capacity provider" if kind == "FARGATE_SPOT" else "")
            )
        return {kind: {"launchType": kind}}
    if not strategies:
        return {CLUSTER_DEFAULT: {}}
    if isinstance(strategies, str):
        strategies = names(strategies)
    if not isinstance(strategies, list | tuple):  # one strategy item, or nothing that we know
        strategies = [strategies]
    made = [_strategy(words) for words in strategies]
    return {"+".join(_share_words(item) for item in items): {"capacityProviderStrategy": items} for items in made}


def _strategy(words: Any) -> list[dict[str, Any]]:
    """One entry: a provider's name, one of ECS's strategy items, or several that share the tasks."""
    items = words if isinstance(words, list | tuple) and words else [words]
    return [_strategy_item(item) for item in items]


def _strategy_item(words: Any) -> dict[str, Any]:
    item = {"capacityProvider": words.strip()} if isinstance(words, str) else words
    known = {"capacityProvider", "weight", "base"}
    if not isinstance(item, Mapping) or not item.get("capacityProvider") or set(item) - known:
        raise SpecError(
            "capacity_provider_strategies is a list to try in order; each entry is a provider's name, "
            f"{{'capacityProvider': …, 'weight': …, 'base': …}}, or a list of those, not {words!r}"
        )
    numbers = {name: whole(item[name], name) for name in ("weight", "base") if item.get(name) is not None}
    return {"capacityProvider": text(item["capacityProvider"], "capacityProvider"), **numbers}


def _share_words(item: Mapping[str, Any]) -> str:
    shares = [f"{name} {item[name]}" for name in ("weight", "base") if item.get(name) is not None]
    return str(item["capacityProvider"]) + (f" ({', '.join(shares)})" if shares else "")


def network_of(words: Any) -> dict[str, Any] | None:
    """ECS's own form, or what it holds: {"subnets": […], "securityGroups": […], "assignPublicIp": …}."""
    if not words:
        return None
    if not isinstance(words, Mapping):
        raise SpecError(f"network_configuration is a dict, not {type(words).__name__}")
    inner = words.get("awsvpcConfiguration", words)
    if not isinstance(inner, Mapping):
        raise SpecError(f"awsvpcConfiguration is a dict, not {type(inner).__name__}")
    if strange := sorted(set(inner) - {"subnets", "securityGroups", "assignPublicIp"}):
        raise SpecError(f"network_configuration: ECS does not know {strange}")
    lists = {name: list(names(inner[name])) for name in ("subnets", "securityGroups") if inner.get(name)}
    public = {"assignPublicIp": inner["assignPublicIp"]} if inner.get("assignPublicIp") else {}
    return {"awsvpcConfiguration": {**lists, **public}}


def check_network(network: Mapping[str, Any] | None) -> None:
    inner = (network or {}).get("awsvpcConfiguration", {})
    if network and not inner.get("subnets"):
        raise SpecError("network_configuration needs subnets")
    for name, limit in (("subnets", MAX_SUBNETS), ("securityGroups", MAX_GROUPS)):
        if len(inner.get(name, ())) > limit:
            raise SpecError(f"network_configuration has {len(inner[name])} {name}: ECS takes {limit}")
