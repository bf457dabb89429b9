"""Where a launch's intent is kept between tries: Airflow's task state store, which outlives crash, retry and clear."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import replace
from typing import Any

from airflow_transient.core.intent import STORE_LIMIT, Intent
from airflow_transient.core.launch import Owner
from airflow_transient.hooks.deployment import signature

KEY = "airflow_transient.intent"

#: The intents of `airflow tasks test`, which runs a task to its end in one process.
_of_tests: dict[Owner, dict[str, Any]] = {}


class Journal:
    """
    The intent of one task instance.

    `airflow tasks test` finds the state store of an earlier run with the same date and would adopt its launch:
    a test keeps its intent in memory and launches anew.

    :param fresh: whether this begins a try: then what a test has left in memory is over.
    :param for_task: the task that the launch belongs to, where another one than this makes it.
    """

    def __init__(self, context: Any, fresh: bool = False, for_task: str | None = None) -> None:
        ti = context["ti"]
        self.test = os.environ.get("AIRFLOW_TEST_MODE") == "True"
        self.max_tries: int = ti.max_tries or 0
        self.try_number: int = ti.try_number or 1
        self.last_try = self.try_number > self.max_tries
        self._here = Owner(signature(), ti.dag_id, ti.run_id, ti.task_id, _map_index(ti))
        self.owner = replace(self._here, task_id=for_task or ti.task_id)
        #: What this process read or wrote last; in memory too, for whoever has to clean up after Ctrl-C.
        self.last: Intent | None = None
        self._store = None if self.test else context["task_state_store"]
        if fresh:
            _of_tests.pop(self._here, None)

    def read(self) -> Intent | None:
        """What an earlier try wrote; None where this is the first."""
        said = self._store.get(KEY) if self._store else _of_tests.get(self._here)
        self.last = Intent.from_dict(said) if said else None
        return self.last

    def write(self, intent: Intent) -> None:
        self.last = intent
        said = intent.to_dict()
        if self._store is None:
            _of_tests[self._here] = said
            return
        if len(json.dumps(said)) > STORE_LIMIT:
            said = intent.slim().to_dict()
        self._store.set(KEY, said)

    def draw(self) -> Intent:
        """A new wish: its id is random and drawn once, because dag and run ids repeat between deployments."""
        return Intent(launch_id=f"t{uuid.uuid4().hex[:20]}", max_tries=self.max_tries)


def _map_index(ti: Any) -> int:
    return -1 if ti.map_index is None else int(ti.map_index)
