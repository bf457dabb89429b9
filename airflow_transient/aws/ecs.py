"""Bursts of ECS tasks: ask for them ten at a time, look at them a hundred at a time, end them."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_transient.aws import awslogs, launcher, pacing
from airflow_transient.aws.launcher import ClientFactory, Refused, words_of
from airflow_transient.core.ecs import failures, requests
from airflow_transient.core.ecs.judging import PHASES, STOP_REASON, Container, EcsSighting
from airflow_transient.core.ecs.requests import Definition
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.ecs.terms import LogPlace
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import BY_REQUEST, Launch, LaunchKey, draft_launch
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import MARKS, Phase
from airflow_transient.errors import LaunchError, TransientError

#: DescribeTasks takes a hundred, ListTasks gives a hundred (API reference).
PER_LOOK = 100
#: A token answers for 24 hours, or less: by a bound that the stored page ("Ensuring idempotency") cuts off. We take it
#: for the hour in which ECS shows what has ended: what was asked for more lately than that cannot be forgotten, and to
#: ask later may start it twice.
TOKEN_LIFE = timedelta(minutes=55)
#: Calls on their way at once; the buckets decide how fast they go.
AT_ONCE = 16
#: The pauses before the same call is made again after no answer, and after "too many", in seconds.
NO_ANSWER = (1.0, 3.0, 8.0)
TOO_MANY = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0, 15.0)
#: on_kill has five seconds (Airflow's task runner).
STOP_AGAIN = (0.5, 1.0, 2.0)
#: Of several refusals in one launch the first of these is told and decides what is next.
_GRAVEST = (Scope.SPEC, Scope.ACCESS, Scope.MARKET, Scope.POOL, Scope.AGAIN)
_CALL_ITSELF = (Scope.SPEC, Scope.ACCESS)
_UNKNOWN_TASK = ("not found", "was not found")


@dataclass(frozen=True)
class Answer:
    """What one RunTask came to: tasks, refusals of so many for a reason, or no clear answer."""

    ids: tuple[str, ...] = ()
    refused: tuple[tuple[Scope, str, int], ...] = ()
    unclear: Exception | None = None


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
        with launcher.said_plainly("ecs:DescribeTaskDefinition"):
            ecs = self._client("ecs")
            pinned = so_far.ecs.definition if so_far and so_far.ecs else None
            said = ecs.describe_task_definition(taskDefinition=pinned or spec.task_definition)["taskDefinition"]
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

    def launch(self, request: Request, again: bool = False) -> Launch:
        """Ten tasks a call, each call with its own token: the same calls again start nothing twice."""
        calls = list(requests.calls(request))
        # Ours alone to ask again: a retry of botocore's would be unseen by the buckets.
        client = self._client("ecs", retries={"mode": "standard", "total_max_attempts": 1})
        with ThreadPoolExecutor(min(AT_ONCE, len(calls))) as pool:
            answers = list(pool.map(lambda call: self._run(client, call, again), calls))
        ids = tuple(task for answer in answers for task in answer.ids)
        launch = request.launch.with_ids(request.launch.ids + ids)
        if unclear := [answer.unclear for answer in answers if answer.unclear]:
            words = f"ECS gave no clear answer to {len(unclear)} of {len(calls)} calls: {words_of(unclear[0])}"
            raise LaunchError(f"launch {request.token}: {words}") from unclear[0]
        if refused := [no for answer in answers for no in answer.refused]:
            scope = min((no[0] for no in refused), key=_gravity)
            raise Refused(scope, _refused_words(refused), launch if ids else None)
        return launch

    def _run(self, client: Any, call: dict[str, Any], again: bool) -> Answer:
        """One call until there is an answer. `again`: what a refusal of the call itself says nothing about."""
        no_answer, too_many = iter(NO_ANSWER), iter(TOO_MANY)
        while True:
            self._pace(client, call)
            try:
                return _answered(client.run_task(**call), call["count"])
            except (ClientError, BotoCoreError, TransientError) as error:
                scope = scope_of(error)
                if scope is Scope.TOKEN_USED and isinstance(error, ClientError):
                    ids = tuple(map(task_id, error.response.get("resourceIds") or ()))
                    return Answer(ids, unclear=None if ids else error)  # used, and for what nobody says
                if scope in _CALL_ITSELF and again:
                    return Answer(unclear=error)
                if scope not in (Scope.UNCLEAR, Scope.PACE):
                    return Answer(refused=((scope, words_of(error), call["count"]),))
                again = again or scope is Scope.UNCLEAR
                pause = next(too_many if scope is Scope.PACE else no_answer, None)
                if pause is None and not again:  # throttled without end, and surely nothing started
                    return Answer(refused=((Scope.AGAIN, words_of(error), call["count"]),))
                if pause is None:
                    return Answer(unclear=error)
                self._wait_before_again(client, call, scope, pause)

    def _pace(self, client: Any, call: dict[str, Any]) -> None:
        if call.get("launchType") in ("EC2", "EXTERNAL"):
            pacing.bucket(client, "changes of a cluster").take()
            return
        pacing.bucket(client, "Fargate RunTask calls").take()
        pacing.bucket(client, "Fargate tasks").take(call["count"])

    def _wait_before_again(self, client: Any, call: dict[str, Any], scope: Scope, pause: float) -> None:
        if scope is Scope.PACE:
            pacing.bucket(client, "Fargate RunTask calls").drain()
        self._sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))

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
        return tuple(sighting for ids in _parts(launch.ids) for sighting in self._look(launch, ids))

    def _look(self, launch: Launch, ids: Sequence[str]) -> Iterator[EcsSighting]:
        try:
            answer = self._client("ecs").describe_tasks(cluster=_cluster(launch), tasks=list(ids))
        except (ClientError, BotoCoreError, LaunchError) as error:
            yield from (EcsSighting(member, Phase.UNKNOWN, note=words_of(error)) for member in ids)
            return
        seen = {task_id(t["taskArn"]): t for t in answer["tasks"]}
        why = {task_id(f.get("arn", "")): f.get("reason") for f in answer.get("failures", ())}
        for member in ids:
            if member in seen:
                yield sighting_of(member, seen[member])
            else:
                absent = why.get(member, "MISSING") == "MISSING"
                yield EcsSighting(member, Phase.UNKNOWN, absent=absent, note=f"ECS says {why.get(member, 'nothing')}")

    # --- end

    def stop(self, launch: Launch, why: str = BY_REQUEST) -> None:
        """StopTask, one by one. What has ended keeps its first reason, and what is gone is what was wanted."""
        if not launch.ids:
            return
        with launcher.said_plainly("ecs:StopTask"):
            ecs = self._client("ecs")
            with ThreadPoolExecutor(min(AT_ONCE, len(launch.ids))) as pool:
                list(pool.map(lambda member: self._stop_one(ecs, _cluster(launch), member, why), launch.ids))

    def _stop_one(self, ecs: Any, cluster: str, member: str, why: str) -> None:
        for pause in (*STOP_AGAIN, None):
            pacing.bucket(ecs, "changes of a cluster").take()
            try:
                ecs.stop_task(cluster=cluster, task=member, reason=f"{STOP_REASON}{why}")
                return
            except ClientError as error:
                if launcher.code_of(error) == "ClusterNotFoundException" or _unknown_task(error):
                    return
                if pause is None or scope_of(error) is not Scope.PACE:
                    raise
            self._sleep(pause)

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        return awslogs.tail(self._client, launch, member)

    def follow(self, launch: Launch) -> Callable[[], list[str]]:
        return awslogs.Follower(self._client, launch).new_lines


def definition_of(said: dict[str, Any], region: str) -> Definition:
    containers = said.get("containerDefinitions", ())
    return Definition(
        arn=said["taskDefinitionArn"],
        family=said["family"],
        containers=tuple(c["name"] for c in containers),
        essential=tuple(c["name"] for c in containers if c.get("essential", True)),
        awsvpc=said.get("networkMode") == "awsvpc",
        logs=tuple(place for c in containers if (place := _log_place(c, region))),
    )


def _log_place(container: dict[str, Any], region: str) -> LogPlace | None:
    """Without a stream prefix the stream is the container's id, which only the agent knows (awslogs driver)."""
    configured = container.get("logConfiguration", {})
    options = configured.get("options", {})
    if configured.get("logDriver") != "awslogs" or not options.get("awslogs-stream-prefix"):
        return None
    where = options.get("awslogs-region", region)
    return LogPlace(container["name"], options["awslogs-group"], options["awslogs-stream-prefix"], where)


def sighting_of(member: str, task: dict[str, Any]) -> EcsSighting:
    """One task as DescribeTasks tells it."""
    state = task.get("lastStatus", "")
    detail = task.get("stoppedReason") or ""
    containers = tuple(
        Container(c["name"], c.get("exitCode"), c.get("reason") or "") for c in task.get("containers", ())
    )
    return EcsSighting(
        member,
        PHASES.get(state, Phase.UNKNOWN),
        state=state,
        reason=task.get("stopCode"),
        launched=task.get("createdAt"),
        ended=task.get("stoppedAt"),
        stopped_by=_stopped_by(detail),
        started=task.get("startedAt"),
        pulled=task.get("pullStartedAt"),
        detail=detail,
        containers=containers,
        capacity=task.get("capacityProviderName") or task.get("launchType"),
        stopping=task.get("desiredStatus") == "STOPPED",
        note=None if state in PHASES else f"ECS says {state!r}, which is not known here",
    )


def _stopped_by(detail: str) -> str | None:
    why = detail.removeprefix(STOP_REASON) if detail.startswith(STOP_REASON) else None
    return why if why in MARKS else None


def list_tasks(ecs: Any, cluster: str, **filters: str) -> Iterator[str]:
    """ARNs, page by page. `startedBy` must be the only filter, and then only what is to run is listed (botocore)."""
    for page in ecs.get_paginator("list_tasks").paginate(cluster=cluster, **filters):
        yield from page["taskArns"]


def describe(ecs: Any, cluster: str, tasks: Iterable[str]) -> Iterator[dict[str, Any]]:
    for part in _parts(list(tasks)):
        yield from ecs.describe_tasks(cluster=cluster, tasks=part)["tasks"]


def scope_of(error: Exception) -> Scope:
    """How much of the world an error of ECS speaks of."""
    if not isinstance(error, ClientError):
        return launcher.scope_of_error(error)
    message = str(error.response.get("Error", {}).get("Message", ""))
    return failures.scope_of_error(launcher.code_of(error), message, launcher.status_of(error))


def task_id(arn: str) -> str:
    """The last part: a launch keeps hundreds of them."""
    return arn.rpartition("/")[2]


def _cluster(launch: Launch) -> str:
    return launch.ecs.cluster if launch.ecs else "default"


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    return (list(ids[start : start + PER_LOOK]) for start in range(0, len(ids), PER_LOOK))


def _answered(answer: dict[str, Any], count: int) -> Answer:
    """
    What came, and one refusal for all that did not.

    An entry of `failures` may speak of a container instance and not of a task: one that lacks an attribute beside one
    that is full. So a reason of the author's kind decides only where there is no other, and nothing came.
    """
    ids = tuple(task_id(t["taskArn"]) for t in answer.get("tasks", ()))
    if len(ids) >= count:
        return Answer(ids)
    reasons = [_reason(failure) for failure in answer.get("failures", ())] or ["ECS gave no reason"]
    scopes = {failures.scope_of_failure(reason) for reason in reasons}
    if ids or scopes != {Scope.SPEC}:
        scopes = scopes - {Scope.SPEC} or {Scope.POOL}
    words = "; ".join(dict.fromkeys(reasons))
    return Answer(ids, ((min(scopes, key=_gravity), words, count - len(ids)),))


def _reason(failure: dict[str, Any]) -> str:
    said = [str(failure[name]) for name in ("reason", "detail") if failure.get(name)]
    return ": ".join(said) or "no reason"


def _refused_words(refused: Sequence[tuple[Scope, str, int]]) -> str:
    """The gravest first: "3 tasks: RESOURCE:MEMORY"."""
    counts: Counter[str] = Counter()
    for scope, words, count in sorted(refused, key=lambda no: _gravity(no[0])):
        counts[f"{words}{failures.fix_for(words) if scope is Scope.SPEC else ''}"] += count
    return "; ".join(f"{count} {'task' if count == 1 else 'tasks'}: {words}" for words, count in counts.items())


def _gravity(scope: Scope) -> int:
    return _GRAVEST.index(scope) if scope in _GRAVEST else 0


def _unknown_task(error: ClientError) -> bool:
    message = str(error.response.get("Error", {}).get("Message", "")).lower()
    return launcher.code_of(error) == "InvalidParameterException" and any(words in message for words in _UNKNOWN_TASK)
