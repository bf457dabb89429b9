"""What the author asks of ECS, as frozen values. A spec that exists is valid; what cannot be built says why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow_transient.core.depth import RULE_WORDS, Rule, rule_of
from airflow_transient.core.ecs.words import (
    CLUSTER_DEFAULT,
    capacity_of,
    check_network,
    check_overrides,
    network_of,
    overrides_of,
)
from airflow_transient.core.reading import duration, names, pairs, text, truth
from airflow_transient.core.spec import Pool, check_role, check_tags
from airflow_transient.errors import SpecError

__all__ = ["MAX_TASKS", "RULE_WORDS", "EcsSpec", "rule_of"]  # whoever makes a burst needs the words of its size, too

#: As many tasks as a cluster may have in PROVISIONING (ECS service quotas); a launch keeps the ids of all of them.
MAX_TASKS = 500
#: A task has no timeout of its own on ECS; ours may be this long.
MAX_RUNTIME = timedelta(days=14)
#: A task that is stopped may take stopTimeout (120 s at most on Fargate) to go.
STOP_SECONDS = timedelta(minutes=3)
#: Shapes: so many of, or such a share of.
Share = int | float


@dataclass(frozen=True)
class EcsSpec:
    """A burst of `count` tasks; `rule` and `queues` say how many that is. `unattended`: nobody waits for them."""

    task_definition: str
    cluster: str = "default"
    rule: Rule = field(default_factory=Rule)
    queues: tuple[str, ...] = ()
    count: int = 1
    overrides: Mapping[str, Any] = field(default_factory=dict)
    capacity: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {CLUSTER_DEFAULT: {}})
    network: Mapping[str, Any] | None = None
    platform_version: str | None = None
    group: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    propagate_tags: bool = False
    enable_execute_command: bool = False
    deciding: tuple[str, ...] = ()
    min_success: Share = 1.0
    stop_on_failure: bool = False
    max_runtime: timedelta = timedelta(hours=1)
    start_timeout: timedelta = timedelta(minutes=35)
    kill_schedule_role: str | None = None
    unattended: bool = False

    def __post_init__(self) -> None:
        if not self.task_definition:
            raise SpecError("which task? give task_definition: a family, family:revision, or an ARN")
        if self.rule.hard_cap > MAX_TASKS:
            raise SpecError(f"hard_cap is {self.rule.hard_cap}: {MAX_TASKS} tasks are the most in one launch")
        if not timedelta(seconds=1) <= self.max_runtime <= MAX_RUNTIME:
            raise SpecError(f"max_runtime is {self.max_runtime}: it must be from 1 s to {MAX_RUNTIME.days} days")
        if not timedelta(seconds=10) <= self.start_timeout <= timedelta(hours=12):
            raise SpecError(f"start_timeout is {self.start_timeout}: it must be from 10 s to 12 h")
        check_tags(self.tags)
        check_role(self.kill_schedule_role)
        _check_min_success(self)
        check_network(self.network)
        check_overrides(self.overrides)

    @classmethod
    def of(cls, **words: Any) -> EcsSpec:
        """From the operator's words, as the DAG author wrote them."""
        return cls(
            task_definition=text(words.get("task_definition"), "task_definition") or "",
            cluster=text(words.get("cluster"), "cluster") or "default",
            rule=rule_of(words),
            queues=tuple(dict.fromkeys(names(words.get("queues")))),
            overrides=overrides_of(words.get("overrides")),
            capacity=capacity_of(words.get("launch_type"), words.get("capacity_provider_strategies")),
            network=network_of(words.get("network_configuration")),
            platform_version=text(words.get("platform_version"), "platform_version"),
            group=text(words.get("group"), "group"),
            tags=pairs(words.get("tags"), "tags"),
            propagate_tags=bool(truth(words.get("propagate_tags"), "propagate_tags")),
            enable_execute_command=bool(truth(words.get("enable_execute_command"), "enable_execute_command")),
            deciding=names(words.get("deciding_containers")),
            min_success=_share(words.get("min_success", 1.0)),
            stop_on_failure=bool(truth(words.get("stop_on_failure"), "stop_on_failure")),
            max_runtime=duration(words.get("max_runtime", timedelta(hours=1)), "max_runtime"),
            start_timeout=duration(words.get("start_timeout", timedelta(minutes=35)), "start_timeout"),
            kill_schedule_role=text(words.get("kill_schedule_role"), "kill_schedule_role"),
        )

    #: Each task is a job: those there is room for begin, and the rest follows.
    in_parts = True

    @property
    def sized(self) -> bool:
        """Whether how many there should be depends on what is there now."""
        return bool(self.queues) or self.rule.top_up

    def pools(self) -> tuple[Pool, ...]:
        return tuple(Pool(market=name) for name in self.capacity)

    def providers(self, pool: Pool) -> tuple[str, ...]:
        """What DescribeTasks may call the capacity of a task from this pool."""
        asked = self.capacity[pool.market]
        items = asked.get("capacityProviderStrategy", ())
        return (*(item["capacityProvider"] for item in items), *filter(None, [asked.get("launchType")]))

    def need(self, count: int) -> int:
        """How many of `count` must succeed."""
        if isinstance(self.min_success, int):
            return min(self.min_success, count)
        return math.ceil(round(self.min_success * count, 6))

    @property
    def boot_timeout(self) -> timedelta:
        return self.start_timeout

    @property
    def lifetime(self) -> timedelta:
        """From the request to the moment after which anyone may stop it."""
        return self.start_timeout + self.max_runtime + STOP_SECONDS

    def secret_free_words(self) -> Iterable[tuple[str, str]]:
        """(name, text) of all that DescribeTasks shows."""
        for container in self.overrides.get("containerOverrides", ()):
            name = container.get("name")
            yield f"overrides[{name!r}] command", " ".join(map(str, container.get("command", ())))
            for pair in container.get("environment", ()):
                yield f"overrides[{name!r}][{pair['name']!r}]", str(pair["value"])
        yield from ((f"tags[{name!r}]", value) for name, value in self.tags.items())


def _share(words: Any) -> Share:
    """5 or "5" is a number, 0.9 or "0.9" or "90%" a share."""
    said = str(words).strip()
    try:
        if said.endswith("%"):
            return float(said[:-1]) / 100
        return int(said) if isinstance(words, int) or said.isdigit() else float(said)
    except ValueError:
        raise SpecError(f"min_success is a number of tasks, or a share such as 0.9 or 90%, not {words!r}") from None


def _check_min_success(spec: EcsSpec) -> None:
    share = spec.min_success
    if isinstance(share, bool) or not share >= 0 or (isinstance(share, float) and share > 1):  # nan is not >= 0
        raise SpecError(f"min_success is {share}: a whole number of tasks, or a share from 0.0 to 1.0")
    if isinstance(share, int) and not spec.sized and share > min(spec.rule.task_count, spec.rule.limit):
        raise SpecError(
            f"min_success is {share}, and there are only {min(spec.rule.task_count, spec.rule.limit)} tasks"
        )
