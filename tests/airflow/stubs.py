"""As much of Airflow's task context as an operator of ours asks for, and of a queue as one that waits for it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_transient.core.depth import Depth, Unread

#: How many are visible, no answer, or an error.
Look = int | Unread | Exception


class Store:
    """The task state store: JSON in, JSON out, outliving tries."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.kept.get(key, default)

    def set(self, key: str, value: Any) -> None:
        import json

        plain = json.loads(json.dumps(value))
        assert plain == value, "Airflow's store refuses tuples and keys that are no text"
        self.kept[key] = plain


@dataclass
class Ti:
    dag_id: str = "dag"
    run_id: str = "manual__2026"
    task_id: str = "task"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 2
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


def context(store: Store | None = None, **ti: Any) -> dict[str, Any]:
    return {"ti": Ti(**ti), "task_state_store": store or Store()}


class Queue:
    """A reader whose looks are written down; the last one stays. It stands for `make_reader`, too."""

    def __init__(self, *looks: Look) -> None:
        self.looks: list[Look] = [*looks] or [0]
        self.queues: tuple[str, ...] = ("jobs",)
        self.made = self.taken = 0

    def __call__(self, aws_conn_id: Any, region_name: Any, question: Any, hook: Any = None) -> Queue:
        self.made += 1
        return self

    def look(self, now: datetime) -> Any:
        self.taken += 1
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, Exception):
            raise look
        return look if isinstance(look, Unread) else tuple(Depth(name, look, at=now) for name in self.queues)
