"""What a launch of ECS tasks is watched and judged by: it travels with the launch, so that nobody asks for it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class LogPlace:
    """Where one container's awslogs go; the stream of a task is prefix/container/task id (awslogs driver on ECS)."""

    container: str
    group: str
    prefix: str
    region: str

    def stream(self, task: str) -> str:
        return f"{self.prefix}/{self.container}/{task}"


@dataclass(frozen=True)
class Terms:
    """
    `definition`: the ARN of the task definition, one for all attempts. `deciding`: the containers whose exit codes say
    how the job ended. `start_seconds`, `runtime_seconds`: how long a task may take to start, and then to run. Of the
    `wanted` tasks, those that are there and those still to come, `need` must succeed; with `stop_on_failure` the rest
    is stopped once that cannot be reached any more.
    """

    cluster: str
    deciding: tuple[str, ...]
    start_seconds: int
    runtime_seconds: int
    need: int
    wanted: int
    stop_on_failure: bool = False
    logs: tuple[LogPlace, ...] = ()
    definition: str | None = None

    def less(self, successes: int, others: int) -> Terms:
        """What is left to reach when so many have succeeded, and so many others ended that none will replace."""
        return replace(self, need=max(0, self.need - successes), wanted=self.wanted - successes - others)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: Airflow's state store takes lists and no tuples."""
        return {**asdict(self), "deciding": list(self.deciding), "logs": [asdict(place) for place in self.logs]}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Terms:
        known = {name: said[name] for name in cls.__dataclass_fields__ if name in said}
        places = tuple(LogPlace(**place) for place in known.get("logs", ()))
        return cls(**known | {"deciding": tuple(known["deciding"]), "logs": places})
