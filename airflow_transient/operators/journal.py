"""Where a launch's intent is kept between tries: Airflow's task state store, which outlives crash, retry and clear."""

from __future__ import annotations

import json
import os
import uuid
from typing import Any

from airflow_transient.core.intent import STORE_LIMIT, Intent
from airflow_transient.core.launch import Owner

KEY = "airflow_transient.intent"
DEPLOYMENT_VARIABLE = "airflow_transient_deployment"


#: The intents of `airflow tasks test` and `dags test`, which run a task to its end in one process.
_of_tests: dict[Owner, dict[str, Any]] = {}


class Journal:
    """
    The intent of one task instance.

    `airflow tasks test` finds the state store of an earlier run with the same date and would adopt its launch:
    a test keeps its intent in memory and launches anew.

    :param fresh: whether this begins a try: then what a test has left in memory is over.
    """

    def __init__(self, context: Any, fresh: bool = False) -> None:
        ti = context["ti"]
        self.test = os.environ.get("AIRFLOW_TEST_MODE") == "True"
        self.max_tries: int = ti.max_tries or 0
        self.try_number: int = ti.try_number or 1
        self.last_try = self.try_number > self.max_tries
        self.owner = Owner(_deployment(), ti.dag_id, ti.run_id, ti.task_id, _map_index(ti))
        #: What this process read or wrote last; in memory too, for whoever has to clean up after Ctrl-C.
        self.last: Intent | None = None
        self._store = None if self.test else context["task_state_store"]
        if fresh:
            _of_tests.pop(self.owner, None)

    def read(self) -> Intent | None:
        """What an earlier try wrote; None where this is the first."""
        said = self._store.get(KEY) if self._store else _of_tests.get(self.owner)
        self.last = Intent.from_dict(said) if said else None
        return self.last

    def write(self, intent: Intent) -> None:
        self.last = intent
        said = intent.to_dict()
        if self._store is None:
            _of_tests[self.owner] = said
            return
        if len(json.dumps(said)) > STORE_LIMIT:
            said = intent.slim().to_dict()
        self._store.set(KEY, said)

    def draw(self) -> Intent:
        """A new wish: its id is random and drawn once, because dag and run ids repeat between deployments."""
        return Intent(launch_id=f"t{uuid.uuid4().hex[:20]}", max_tries=self.max_tries)


def _map_index(ti: Any) -> int:
    return -1 if ti.map_index is None else int(ti.map_index)


def _deployment() -> str:
    """The name this Airflow signs its launches with: `[transient] deployment_id`, else random, kept in a Variable."""
    from airflow.sdk import Variable, conf

    if name := conf.get("transient", "deployment_id", fallback=""):
        return str(name)
    if name := Variable.get(DEPLOYMENT_VARIABLE, default=None):
        return str(name)
    Variable.set(DEPLOYMENT_VARIABLE, f"airflow-{uuid.uuid4().hex[:8]}", "airflow_transient: whose launches are ours")
    return str(Variable.get(DEPLOYMENT_VARIABLE))
