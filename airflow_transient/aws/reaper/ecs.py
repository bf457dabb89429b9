"""One region's ECS tasks of ours, cluster by cluster.

Every task that is to run is described, because ListTasks can filter neither by tag nor by a part of startedBy. A task
that is marked keeps its mark in a tag; where it takes none, it is marked at no pass and stopped at its deadline only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from airflow_transient.aws import launcher, pacing
from airflow_transient.aws.ecs_reads import PER_LOOK, scope_of
from airflow_transient.aws.found import region_of, task_found
from airflow_transient.aws.launcher import FAILURES, code_of, words_of
from airflow_transient.aws.reaper.one_pass import Pass
from airflow_transient.aws.reaper.report import Line, Report
from airflow_transient.core import reaping
from airflow_transient.core.ecs.judging import STOP_REASON
from airflow_transient.core.launch import BY_REQUEST, MANAGED_BY
from airflow_transient.core.reaping import Act, Decision, Found
from airflow_transient.errors import TransientError

T = TypeVar("T")

#: Calls on their way at once; the buckets decide how fast they go. boto3 keeps ten connections.
AT_ONCE = 10
#: Of a task that has ended meanwhile: StopTask and the tag calls find nothing, or refuse what is stopped.
_GONE = re.compile(r"not found|is stopped", re.IGNORECASE)


def sweep(ecs: Any, one_pass: Pass) -> Report:
    """List, decide, end. A cluster that cannot be looked at is told and does not keep the others waiting."""
    region = _Region(ecs, one_pass)
    region.tasks()
    return region.report()


@dataclass(frozen=True)
class _Task:
    arn: str
    cluster: str
    found: Found


class _Region:
    """One region, once: what it did so far."""

    def __init__(self, ecs: Any, one_pass: Pass) -> None:
        self._ecs = ecs
        self._name: str = ecs.meta.region_name
        self._pass = one_pass
        self._lines: list[Line] = []
        self._unseen: list[str] = []

    def report(self) -> Report:
        return Report(tuple(self._lines), (), tuple(self._unseen))

    def tasks(self) -> None:
        """All clusters are listed before Airflow is asked: a burst of hundreds is one owner."""
        tasks = {task.found.id: task for cluster in self._clusters() for task in self._ours(cluster)}
        decisions, unanswered = self._pass.decide(self._name, [task.found for task in tasks.values()])
        self._unseen += unanswered
        failed = {} if self._pass.dry_run else self._act(decisions, tasks)
        self._lines += [
            self._pass.line(self._name, decision, failed.get(decision.id), _short(tasks[decision.id].cluster))
            for decision in decisions
        ]

    # --- look

    def _clusters(self) -> list[str]:
        """Those that were named, an ARN in its own region only; else all."""
        if self._pass.clusters:
            return [name for name in self._pass.clusters if region_of(name) in (None, self._name)]
        return self._told("ecs:ListClusters", lambda: list(self._pages("list_clusters", "clusterArns")))

    def _ours(self, cluster: str) -> list[_Task]:
        """Its tasks of ours that are to run; ListTasks leaves out what is to be stopped."""
        arns = self._told(f"ecs:ListTasks of cluster {_short(cluster)}", lambda: self._listed(cluster))
        parts = [arns[start : start + PER_LOOK] for start in range(0, len(arns), PER_LOOK)]
        asked = f"ecs:DescribeTasks of cluster {_short(cluster)}"
        described = [said for part in parts for said in self._told(asked, partial(self._described, cluster, part))]
        tasks = [_Task(said["taskArn"], cluster, task_found(said)) for said in described]
        return [task for task in tasks if task.found.tags.get(reaping.MANAGED) == MANAGED_BY]

    def _listed(self, cluster: str) -> list[str]:
        """A cluster may be gone since it was listed; one that was named should be there."""
        try:
            return list(self._pages("list_tasks", "taskArns", cluster=cluster))
        except ClientError as error:
            if code_of(error) == "ClusterNotFoundException" and not self._pass.clusters:
                return []
            raise

    def _described(self, cluster: str, arns: Sequence[str]) -> list[dict[str, Any]]:
        """Those that ECS still knows: MISSING means that it has forgotten one since it listed it."""
        ask = partial(self._ecs.describe_tasks, cluster=cluster, tasks=list(arns), include=["TAGS"])
        answer = self._paced("looks at a cluster", ask)
        for failure in answer.get("failures", ()):
            if failure.get("reason") != "MISSING":
                self._unseen.append(f"{self._name}: {failure.get('arn')}: ECS says {failure.get('reason')}")
        tasks: list[dict[str, Any]] = answer["tasks"]
        return tasks

    def _pages(self, operation: str, key: str, **words: str) -> Iterator[str]:
        """Not boto3's paginator: a throttled page is asked for again, and not all of them."""
        ask = partial(getattr(self._ecs, operation), **words)
        page = self._paced("looks at a cluster", ask)
        yield from page[key]
        while token := page.get("nextToken"):
            page = self._paced("looks at a cluster", partial(ask, nextToken=token))
            yield from page[key]

    def _told(self, action: str, look: Callable[[], list[T]]) -> list[T]:
        """What cannot be looked at is told, and nothing is found."""
        try:
            with launcher.said_plainly(action):
                return look()
        except TransientError as error:
            self._unseen.append(f"{self._name}: {error}")
            return []

    # --- act

    def _act(self, decisions: Sequence[Decision], tasks: Mapping[str, _Task]) -> dict[str, str]:
        """What failed, in words. There is no call for more than one task."""
        moves = {Act.MARK: self._mark, Act.UNMARK: self._unmark, Act.STOP: self._stop}
        wanted = [d for d in decisions if d.act in moves]
        if not wanted:
            return {}
        with ThreadPoolExecutor(min(AT_ONCE, len(wanted))) as pool:
            errors = pool.map(lambda d: _refusal(partial(moves[d.act], tasks[d.id], d)), wanted)
            return {d.id: words_of(error) for d, error in zip(wanted, errors, strict=True) if error}

    def _mark(self, task: _Task, _: Decision) -> None:
        tags = [{"key": reaping.ORPHAN_SINCE, "value": self._pass.mark}]
        self._paced("tags in ECS", partial(self._ecs.tag_resource, resourceArn=task.arn, tags=tags))

    def _unmark(self, task: _Task, _: Decision) -> None:
        keys = [reaping.ORPHAN_SINCE]
        self._paced("tags in ECS", partial(self._ecs.untag_resource, resourceArn=task.arn, tagKeys=keys))

    def _stop(self, task: _Task, decision: Decision) -> None:
        """With the reason that the launch's own task reads: StopTask deletes the tags."""
        reason = f"{STOP_REASON}{decision.told or BY_REQUEST}"
        stop = partial(self._ecs.stop_task, cluster=task.cluster, task=task.arn, reason=reason)
        self._paced("changes of a cluster", stop)

    def _paced(self, limit: str, call: Callable[[], Any]) -> Any:
        def paced() -> Any:
            pacing.bucket(self._ecs, limit).take()
            return call()

        return self._pass.politely(paced, scope_of)


def _short(cluster: str) -> str:
    return cluster.rpartition("/")[2]


def _refusal(call: Callable[[], Any]) -> Exception | None:
    """What AWS answered; nothing where the task has ended meanwhile, which is what was wanted."""
    try:
        call()
    except FAILURES as error:
        gone = code_of(error) == "ClusterNotFoundException" or (code_of(error) and _GONE.search(words_of(error)))
        return None if gone else error
    return None
