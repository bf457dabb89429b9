"""Bursts of ECS tasks: ask for them ten at a time, look at them a hundred at a time, end them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws import awslogs, brief, ecs_calls, launcher, pacing
from airflow_transient.aws.ecs_calls import NO_ANSWER
from airflow_transient.aws.ecs_reads import definition_of, describe, list_tasks, parts, scope_of, sighting_of, task_id
from airflow_transient.aws.launcher import FAILURES, ClientFactory, Refused, Stop, words_of
from airflow_transient.core.cadence import Looked
from airflow_transient.core.ecs import requests
from airflow_transient.core.ecs.judging import STOP_REASON, EcsSighting
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import BY_REQUEST, Launch, LaunchKey, draft_launch
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import Phase
from airflow_transient.errors import LaunchError, SpecError

#: A token answers for 24 hours, or less: by a bound that the stored page ("Ensuring idempotency") cuts off. We take it
#: for the hour in which ECS shows what has ended: what was asked for more lately than that cannot be forgotten, and to
#: ask later may start it twice.
TOKEN_LIFE = timedelta(minutes=55)
#: Calls on their way at once; the buckets decide how fast they go.
AT_ONCE = 16
LOOKS_AT_ONCE = 4
#: on_kill has five seconds (Airflow's task runner).
STOP_AGAIN = (0.5, 1.0, 2.0)
_UNKNOWN_TASK = ("not found", "was not found")


class EcsLauncher:
    """The Launcher of ECS. `client` makes boto3 clients."""

    kind = "ecs"
    memory: timedelta | None = TOKEN_LIFE

    def __init__(self, client: ClientFactory, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._sleep = sleep

    # --- ask

    def prepare(
        self, spec: EcsSpec, key: LaunchKey, pool: Pool, now: datetime, so_far: Launch | None = None
    ) -> Request:
        pinned = so_far.ecs.definition if so_far and so_far.ecs else None
        ecs, said = self._describe(pinned or spec.task_definition)
        definition = definition_of(said, ecs.meta.region_name)
        requests.check(spec, definition)
        draft = draft_launch(
            self.kind,
            spec,
            key,
            ecs.meta.region_name,
            now,
            so_far or secrets.token_hex(8),
            ecs=requests.terms(spec, definition, so_far),
        )
        arguments = requests.run_task(spec, key, definition, pool, draft)
        return Request(draft, pool, key.token, spec.count - len(draft.ids), arguments)

    def _describe(self, name: str) -> tuple[Any, dict[str, Any]]:
        with launcher.said_plainly("ecs:DescribeTaskDefinition"):
            ecs = self._client("ecs")
            try:
                return ecs, ecs.describe_task_definition(taskDefinition=name)["taskDefinition"]
            except ClientError as error:
                if launcher.code_of(error) != "ClientException":
                    raise
                words = f"ECS knows no active task definition {name!r} in {ecs.meta.region_name}"
                raise SpecError(f"{words}: check its name, its revision and the region") from error

    def launch(self, request: Request, again: bool = False) -> Launch:
        """Ten tasks a call, each call with its own token: the same calls again start nothing twice."""
        calls = list(requests.calls(request))
        # Ours alone to ask again: a retry of botocore's would be unseen by the buckets.
        client = self._client("ecs", retries={"mode": "standard", "total_max_attempts": 1})
        with ThreadPoolExecutor(min(AT_ONCE, len(calls))) as pool:
            answers = list(pool.map(lambda call: ecs_calls.run_task(client, call, again, self._sleep), calls))
        ids = tuple(task for answer in answers for task in answer.ids)
        launch = request.launch.with_ids(request.launch.ids + ids)
        if unclear := [answer.unclear for answer in answers if answer.unclear]:
            words = f"ECS gave no clear answer to {len(unclear)} of {len(calls)} calls: {words_of(unclear[0])}"
            raise LaunchError(f"launch {request.token}: {words}") from unclear[0]
        if refused := [no for answer in answers for no in answer.refused]:
            raise Refused(ecs_calls.gravest(refused), ecs_calls.in_words(refused), launch if ids else None)
        return launch

    def adopt(self, request: Request) -> Launch | None:
        """By the variable that every task of ours carries, running or ended. Raises LaunchError without an answer."""
        ids: tuple[str, ...] = ()
        for pause in (*NO_ANSWER, None):
            ids = max(ids, self._find(request), key=len)
            if pause is None or len(ids) >= request.wanted:
                break
            self._sleep(pause)  # ECS lists what it has just started some seconds late
        return request.launch.with_ids(request.launch.ids + ids) if ids else None

    def _find(self, request: Request) -> tuple[str, ...]:
        """The ids of this token's tasks, the oldest first."""
        asked = request.arguments
        family = requests.family_of(asked["taskDefinition"])
        with launcher.said_plainly("ecs:ListTasks and ecs:DescribeTasks"):
            ecs = self._client("ecs")
            up = list_tasks(ecs, asked["cluster"], startedBy=asked["startedBy"])
            over = list_tasks(ecs, asked["cluster"], family=family, desiredStatus="STOPPED")
            tasks = list(describe(ecs, asked["cluster"], [*up, *over]))
        ours = [task for task in tasks if requests.token_of(task) == request.token]
        return tuple(dict.fromkeys(task_id(t["taskArn"]) for t in sorted(ours, key=lambda t: str(t.get("createdAt")))))

    # --- look

    def observe(self, launch: Launch, now: datetime) -> tuple[EcsSighting, ...]:
        return self.observe_all((launch,), now).answers[0]

    def observe_all(self, launches: Sequence[Launch], now: datetime) -> Looked[tuple[EcsSighting, ...]]:
        ids: dict[str, dict[str, None]] = {}
        for launch in launches:
            ids.setdefault(_cluster(launch), {}).update(dict.fromkeys(launch.ids))
        calls = [(cluster, part) for cluster, members in ids.items() for part in parts(tuple(members))]
        answers = launcher.side_by_side(self._look, calls, LOOKS_AT_ONCE)
        seen = {(call[0], each.member): each for call, (told, _) in zip(calls, answers, strict=True) for each in told}
        told = [tuple(seen[_cluster(launch), member] for member in launch.ids) for launch in launches]
        return launcher.looked(told, (scope for _, scope in answers if scope))

    def _look(self, call: tuple[str, Sequence[str]]) -> tuple[list[EcsSighting], Scope | None]:
        cluster, ids = call
        try:
            ecs = self._client("ecs")
            with pacing.paced(ecs, "looks at a cluster", scope_of), brief.answers():
                answer = ecs.describe_tasks(cluster=cluster, tasks=list(ids))
        except (*FAILURES, LaunchError) as error:
            return [EcsSighting(member, Phase.UNKNOWN, note=words_of(error)) for member in ids], scope_of(error)
        return list(_seen(ids, answer)), None

    # --- end

    def stop(self, launch: Launch, why: str = BY_REQUEST) -> None:
        launcher.raise_first(self.stop_all([(launch, why)]))

    def stop_all(self, stops: Sequence[Stop]) -> list[Exception | None]:
        """StopTask, one call a task. What has ended keeps its first reason, and what is gone is what was wanted."""
        tasks: dict[tuple[str, str], str] = {}
        for launch, why in stops:
            for member in launch.ids:
                tasks.setdefault((_cluster(launch), member), why)
        if not tasks:
            return [None] * len(stops)
        with launcher.said_plainly("ecs:StopTask"):
            ecs = self._client("ecs")
        errors = launcher.side_by_side(lambda task: self._stop_one(ecs, task, tasks[task]), tuple(tasks), AT_ONCE)
        failed = dict(zip(tasks, errors, strict=True))
        return [launcher.first_of(failed[_cluster(launch), member] for member in launch.ids) for launch, _ in stops]

    def _stop_one(self, ecs: Any, task: tuple[str, str], why: str) -> Exception | None:
        """What kept it from its end, or None."""
        cluster, member = task
        for pause in (*STOP_AGAIN, None):
            try:
                with pacing.paced(ecs, "changes of a cluster", scope_of):
                    ecs.stop_task(cluster=cluster, task=member, reason=f"{STOP_REASON}{why}")
            except FAILURES as error:
                if launcher.code_of(error) == "ClusterNotFoundException" or _unknown_task(error):
                    return None
                if pause is None or scope_of(error) is not Scope.PACE:
                    return launcher.in_our_tree("ecs:StopTask", error)
            else:
                return None
            self._sleep(pause)
        return None

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        return awslogs.tail(self._client, launch, member)

    def follow(self, launch: Launch) -> Callable[[], list[str]]:
        return awslogs.Follower(self._client, launch).new_lines


def _seen(ids: Sequence[str], answer: dict[str, Any]) -> Iterator[EcsSighting]:
    shown = {task_id(t["taskArn"]): t for t in answer["tasks"]}
    why = {task_id(f.get("arn", "")): f.get("reason") for f in answer.get("failures", ())}
    for member in ids:
        if member in shown:
            yield sighting_of(member, shown[member])
        else:
            absent = why.get(member, "MISSING") == "MISSING"
            yield EcsSighting(member, Phase.UNKNOWN, absent=absent, note=f"ECS says {why.get(member, 'nothing')}")


def _cluster(launch: Launch) -> str:
    return launch.ecs.cluster if launch.ecs else "default"


def _unknown_task(error: Exception) -> bool:
    if not isinstance(error, ClientError):
        return False
    message = str(error.response.get("Error", {}).get("Message", "")).lower()
    return launcher.code_of(error) == "InvalidParameterException" and any(words in message for words in _UNKNOWN_TASK)
