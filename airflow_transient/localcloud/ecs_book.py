"""All tasks of a cloud: who asked for which, what they are now, and which runs they stand for.

Law: asking twice with one client token starts once, per cluster and for 24 hours.
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_transient.localcloud import ecs_rules, events
from airflow_transient.localcloud.ecs_containers import Ending
from airflow_transient.localcloud.ecs_tasks import USER_STOPPED, Definition, Place, Task
from airflow_transient.localcloud.errors import Refused
from airflow_transient.localcloud.sandbox_runner import SandboxRunner
from airflow_transient.localcloud.task_run import Around, TaskRun
from airflow_transient.localcloud.task_troubles import Trouble

TOKEN_LIFE = 24 * 3600.0
Cluster = tuple[str, str]  # region, name


class Conflict(Refused):
    """The token was used for something else; these are the tasks of then."""

    def __init__(self, arns: list[str]) -> None:
        super().__init__("ConflictException", "The client token was used before with other parameters.")
        self.arns = arns


@dataclass(frozen=True)
class Asked:
    fingerprint: str
    at: float
    tasks: tuple[Task, ...]
    failures: tuple[Mapping[str, str], ...]


@dataclass
class TaskBook:
    """memory: how many seconds a stopped task can be described; AWS: at least an hour."""

    runner: SandboxRunner
    around: Around
    memory: float | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    _tasks: dict[Cluster, dict[str, Task]] = field(default_factory=dict)
    _runs: dict[str, TaskRun] = field(default_factory=dict)
    _asked: dict[tuple[Cluster, str], Asked] = field(default_factory=dict)

    # --- asking -----------------------------------------------------------------------------------------

    def recall(self, cluster: Cluster, request: Mapping[str, Any]) -> Asked | None:
        """What this very request started before; Conflict when its token stands for another."""
        before = self._asked.get((cluster, str(request.get("clientToken") or "")))
        if before is None or time.monotonic() > before.at + TOKEN_LIFE:
            return None
        if before.fingerprint != _fingerprint(request):
            raise Conflict([task.task_arn for task in before.tasks])
        return before

    def remember(self, cluster: Cluster, request: Mapping[str, Any], tasks: Sequence[Task], failures: Any) -> None:
        token = str(request.get("clientToken") or "")
        if token and tasks:  # a call that started nothing may be repeated
            asked = Asked(_fingerprint(request), time.monotonic(), tuple(tasks), tuple(failures))
            self._asked[(cluster, token)] = asked

    def launch(self, definition: Definition, place: Place, request: Mapping[str, Any], trouble: Trouble) -> Task:
        task = Task(definition, place, request, threading.RLock(), task_changed)
        run = TaskRun(self.around, task, trouble, self._forget)
        self._tasks.setdefault((place.region, place.cluster), {})[task.id] = task
        self._runs[task.id] = run
        self.runner.admit(run)
        return task

    def _forget(self, run: TaskRun) -> None:
        self.runner.forget(run)
        self._runs.pop(run.key, None)

    # --- looking ----------------------------------------------------------------------------------------

    def find(self, cluster: Cluster, name: str) -> Task | None:
        """By id or ARN; an ARN of another cluster finds nothing here."""
        task = self._tasks.get(cluster, {}).get(name.rpartition("/")[2])
        if task is None or self._forgotten(task) or (name.startswith("arn:") and name != task.task_arn):
            return None
        return task

    def anywhere(self, name: str) -> Task | None:
        return next((found for cluster in list(self._tasks) if (found := self.find(cluster, name))), None)

    def of(self, cluster: Cluster) -> list[Task]:
        return [task for task in list(self._tasks.get(cluster, {}).values()) if not self._forgotten(task)]

    def listed(self, cluster: Cluster, request: Mapping[str, Any]) -> Iterator[Task]:
        for task in self.of(cluster):
            if all(fits(task, request) for fits in FITS):
                yield task

    def _forgotten(self, task: Task) -> bool:
        at = task.times.get("stoppedAt")
        return at is not None and self.memory is not None and _age(at) > timedelta(seconds=self.memory)

    # --- ending -----------------------------------------------------------------------------------------

    def stop(self, task: Task, reason: str | None) -> None:
        """By the user; a task that is ending already goes on as it does."""
        with task.lock:
            if task.ending is None:
                task.tags = []  # "Any tags associated with the task will be deleted": StopTask in AWS's model
            self.end(task, Ending("UserInitiated", reason or USER_STOPPED))

    def end(self, task: Task, ending: Ending) -> None:
        task.end(ending)
        run = self._runs.get(task.id)
        if run is not None:
            run.wake()

    def fail(self, task: Task, ending: Ending) -> None:
        """At once, with all that runs in it."""
        task.end(ending)
        run = self._runs.get(task.id)
        if run is not None:
            run.kill()


def task_changed(task: Task) -> None:
    """https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_task_events.html"""
    said = task.describe()
    stamps = {"createdAt", "startedAt", "stoppingAt", "stoppedAt", "updatedAt"}
    detail = {name: value for name, value in said.items() if value is not None or name in stamps}
    detail["updatedAt"] = datetime.now(timezone.utc)
    events.emit("aws.ecs", "ECS Task State Change", detail, [task.task_arn], task.place.region)


# --- filters and pages ------------------------------------------------------------------------------------------


def _started_by(task: Task, request: Mapping[str, Any]) -> bool:
    return request.get("startedBy") in (None, "", task.started_by)


def _family(task: Task, request: Mapping[str, Any]) -> bool:
    return request.get("family") in (None, "", task.definition.family)


def _desired(task: Task, request: Mapping[str, Any]) -> bool:
    return bool(request.get("desiredStatus", "RUNNING") == task.desired)


def _launch_type(task: Task, request: Mapping[str, Any]) -> bool:
    return request.get("launchType") in (None, "", task.place.launch_type)


def _elsewhere(_: Task, request: Mapping[str, Any]) -> bool:
    """No task here belongs to a container instance, a service or a daemon."""
    return not any(request.get(name) for name in ("containerInstance", "serviceName", "daemonName"))


FITS: tuple[Callable[[Task, Mapping[str, Any]], bool], ...] = (
    *(_started_by, _family, _desired, _launch_type, _elsewhere),
)


def page(arns: Sequence[str], request: Mapping[str, Any]) -> tuple[list[str], str | None]:
    """One page, and the token of the next: the last ARN of this one, so that a task that leaves moves nothing."""
    size = int(request.get("maxResults") or ecs_rules.MOST_LISTED)
    start = _after(arns, request.get("nextToken"))
    shown = list(arns[start : start + size])
    more = start + size < len(arns)
    return shown, base64.urlsafe_b64encode(f"{start + size} {shown[-1]}".encode()).decode() if more else None


def _after(arns: Sequence[str], token: str | None) -> int:
    if not token:
        return 0
    try:
        number, _, last = base64.urlsafe_b64decode(token).decode().partition(" ")
        return arns.index(last) + 1 if last in arns else int(number)
    except (ValueError, binascii.Error):
        raise ecs_rules.invalid("Invalid token") from None


def _fingerprint(request: Mapping[str, Any]) -> str:
    asked = {name: value for name, value in request.items() if name != "clientToken"}
    return json.dumps({"count": 1, **asked}, sort_keys=True, default=str)


def _age(at: datetime) -> timedelta:
    return datetime.now(timezone.utc) - at
