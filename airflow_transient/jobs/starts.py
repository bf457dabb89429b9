"""What was started, by the names under which the original told it, from the XCom of a launch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: More than any launch has; who may edit XComs may write there whatever they like.
MOST = 1000


def started(launch: Any) -> tuple[str, ...]:
    """Instance ids, or ARNs of ECS tasks; none where a deployment's XCom backend keeps something else there."""
    said = _said(launch)
    ids = said.get("ids")
    if not isinstance(ids, list | tuple) or not all(isinstance(id, str) for id in ids):
        return ()
    place = _place(said.get("ecs"))
    return tuple(f"{place}{id}" for id in ids[:MOST])


def _said(launch: Any) -> Mapping[str, Any]:
    if isinstance(launch, str):
        try:
            launch = json.loads(launch)
        except ValueError:
            return {}
    return launch if isinstance(launch, Mapping) else {}


def _place(terms: Any) -> str:
    """What comes before the id in a task's ARN: account and region are those of its definition."""
    if not isinstance(terms, Mapping):
        return ""
    arn, found, _ = str(terms.get("definition") or "").partition(":task-definition/")
    return f"{arn}:task/{str(terms.get('cluster')).rpartition('/')[2]}/" if found else ""
