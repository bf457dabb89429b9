"""What a rescheduled sensor remembers from poke to poke: Airflow's task state store, within one try."""

from __future__ import annotations

import os
from typing import Any

from airflow_transient.core.condition import Waiting

KEY = "airflow_transient.waiting"


class Memory:
    """
    A wait's memory, while there is one to keep.

    Each poke of a rescheduled task is a process of its own. Several readings within one poke would need no memory, and
    would hold the worker, and would see the same counters a few seconds apart that settle within a minute.

    The state store outlives tries, clears and successes, so what is kept names its try: another try's readings are
    stale. `airflow tasks test` finds the store of an earlier run with the same date: a test keeps and reads nothing.
    """

    def __init__(self, context: Any, keeps: bool) -> None:
        self._try = context["ti"].try_number or 0
        test = os.environ.get("AIRFLOW_TEST_MODE") == "True"
        self._store = context["task_state_store"] if keeps and not test else None

    def read(self) -> Waiting | None:
        said = self._store.get(KEY) if self._store else None
        return Waiting.from_dict(said) if said and said.get("try") == self._try else None

    def write(self, waiting: Waiting) -> None:
        if self._store:
            self._store.set(KEY, {**waiting.to_dict(), "try": self._try})
