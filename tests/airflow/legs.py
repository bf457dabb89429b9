"""The legs of a task as Airflow runs them: what passes between a worker and a triggerer passes as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred


class Died(BaseException):
    """The process is gone in the middle of it."""


def away(leg: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the triggerer makes of a deferral: the trigger rebuilt from its path and its JSON."""
    with pytest.raises(TaskDeferred) as deferred:
        leg(*args, **kwargs)
    assert deferred.value.method_name == "execute_complete"
    path, words = deferred.value.trigger.serialize()
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)(**json.loads(json.dumps(words)))


def event(trigger: Any, within: float = 10) -> Any:
    """What it tells first, as Airflow stores it."""

    async def first() -> Any:
        return await anext(trigger.run())

    return json.loads(json.dumps(asyncio.run(asyncio.wait_for(first(), within)).payload))
