"""One RunTask, from its first asking to an answer: tasks, refusals, or none that is clear."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws import pacing
from airflow_transient.aws.ecs_reads import scope_of, task_id
from airflow_transient.aws.launcher import FAILURES, words_of
from airflow_transient.core.ecs import failures
from airflow_transient.core.fallback import CALL_ITSELF, Scope
from airflow_transient.errors import TransientError

#: The pauses before the same call is made again after no answer, and after "too many", in seconds.
NO_ANSWER = (1.0, 3.0, 8.0)
TOO_MANY = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0, 15.0)
#: Of several refusals in one launch the first of these is told and decides what is next.
_GRAVEST = (Scope.SPEC, Scope.ACCESS, Scope.MARKET, Scope.POOL, Scope.AGAIN)


@dataclass(frozen=True)
class Answer:
    """What one RunTask came to: tasks, refusals of so many for a reason, or no clear answer."""

    ids: tuple[str, ...] = ()
    refused: tuple[tuple[Scope, str, int], ...] = ()
    unclear: Exception | None = None


def run_task(client: Any, call: dict[str, Any], again: bool, sleep: Callable[[float], None]) -> Answer:
    """
    One call until there is an answer: the same bytes again where there was none.

    :param again: whether somebody may have asked before: then a refusal of the call itself says nothing about that.
    """
    no_answer, too_many = iter(NO_ANSWER), iter(TOO_MANY)
    while True:
        try:
            return _answered(_asked(client, call), call["count"])
        except (*FAILURES, TransientError) as error:
            scope = scope_of(error)
            if scope is Scope.TOKEN_USED and isinstance(error, ClientError):
                ids = tuple(map(task_id, error.response.get("resourceIds") or ()))
                return Answer(ids, unclear=None if ids else error)  # used, and for what nobody says
            if scope in CALL_ITSELF and again:
                return Answer(unclear=error)
            if scope not in (Scope.UNCLEAR, Scope.PACE):
                return Answer(refused=((scope, f"{words_of(error)} (cluster {call['cluster']})", call["count"]),))
            again = again or scope is Scope.UNCLEAR
            pause = next(too_many if scope is Scope.PACE else no_answer, None)
            if pause is None and not again:  # throttled without end, and surely nothing started
                return Answer(refused=((Scope.AGAIN, words_of(error), call["count"]),))
            if pause is None:
                return Answer(unclear=error)
            sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))


def _asked(client: Any, call: dict[str, Any]) -> dict[str, Any]:
    calls = "changes of a cluster" if _on_instances(call) else "Fargate RunTask calls"
    tasks = {} if _on_instances(call) else {"Fargate tasks": call["count"]}
    with pacing.paced(client, calls, scope_of, also=tasks):
        answer: dict[str, Any] = client.run_task(**call)
    return answer


def _on_instances(call: dict[str, Any]) -> bool:
    """What is not said to run there may run on Fargate, whose buckets are the smaller ones."""
    return call.get("launchType") in ("EC2", "EXTERNAL")


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


def in_words(refused: Sequence[tuple[Scope, str, int]]) -> str:
    """The gravest first: "3 tasks: RESOURCE:MEMORY"."""
    counts: Counter[str] = Counter()
    for scope, words, count in sorted(refused, key=lambda no: _gravity(no[0])):
        counts[f"{words}{failures.fix_for(words) if scope is Scope.SPEC else ''}"] += count
    return "; ".join(f"{count} {'task' if count == 1 else 'tasks'}: {words}" for words, count in counts.items())


def gravest(refused: Sequence[tuple[Scope, str, int]]) -> Scope:
    """The one that decides what is next."""
    return min((no[0] for no in refused), key=_gravity)


def _gravity(scope: Scope) -> int:
    return _GRAVEST.index(scope) if scope in _GRAVEST else 0
