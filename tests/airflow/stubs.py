"""As much of Airflow's task context as an operator of ours asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
