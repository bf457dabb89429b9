"""One pass of the reaper with Airflow's answers: what a command does on a server, and a task in a worker."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from airflow_transient.core.launch import Owner
from airflow_transient.core.reaping import GONE, Answer, Standing
from airflow_transient.hooks.deployment import deployment

if TYPE_CHECKING:
    from airflow_transient.aws.reaper import Ask, Report


@dataclass(frozen=True)
class Where:
    """Where a reaper looks; nothing said is everywhere that the connection's own region reaches."""

    regions: tuple[str | None, ...] = ()
    only: str | None = None
    clusters: tuple[str, ...] = ()


def reap_in_task(
    regions: Sequence[str | None] = (),
    dry_run: bool = False,
    aws_conn_id: str = "aws_default",
    only: str | None = None,
    clusters: Sequence[str] = (),
) -> Report:
    """
    One pass of the reaper from within a running task.

    :param regions: none, or None among them: the connection's own.
    :param dry_run: say what would be done, and do nothing.
    :param aws_conn_id: see `TransientHook`.
    :param only: ``"ec2"``, ``"ecs"`` or ``"asg"`` (borrowed Auto Scaling groups); default: all.
    :param clusters: ECS clusters by name, looked for in every region, or by ARN; none: every cluster.
    """
    ask = asking(_answer_of_api, believe_gone=True)
    return one_pass(Where(tuple(regions), only, tuple(clusters)), aws_conn_id, dry_run, ask, deployment())


def one_pass(where: Where, aws_conn_id: str, dry_run: bool, ask: Ask, deployment: str | None) -> Report:
    from airflow_transient.aws.reaper import KINDS, Reaper
    from airflow_transient.hooks.aws import TransientHook

    if deployment is None:
        print("this Airflow has no deployment id yet, so only deadlines decide", file=sys.stderr)
    hook = TransientHook(aws_conn_id)
    only = (where.only,) if where.only else KINDS
    reaper = Reaper(hook.client, ask, deployment, dry_run, only=only, clusters=where.clusters)
    return reaper.reap(where.regions or (None,), datetime.now(timezone.utc))


def asking(answer_about: Callable[[Owner], Answer], believe_gone: bool) -> Ask:
    """Owner by owner; one that fails says so and is no answer.

    :param believe_gone: False where the launches are another deployment's: of those this Airflow knows nothing.
    """

    def answer(owner: Owner) -> Answer:
        try:
            said = answer_about(owner)
        except Exception as error:  # over a database or two processes and a network: any failure is no answer
            return Answer(Standing.UNKNOWN, f"Airflow did not say how its task is ({type(error).__name__}: {error})")
        if said is GONE and not believe_gone:
            return Answer(Standing.UNKNOWN, "this Airflow does not know its task, and its deployment is another")
        return said

    return lambda owners: {owner: answer(owner) for owner in sorted(owners, key=str)}


def _answer_of_api(owner: Owner) -> Answer:
    """By the worker's supervisor. Unmapped tasks go by their id, mapped ones by task_<map_index>."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    found = RuntimeTaskInstance.get_task_states(
        dag_id=owner.dag_id, task_ids=[owner.task_id], run_ids=[owner.run_id], map_index=owner.map_index
    )
    states: dict[str, str | None] = found.get(owner.run_id, {})
    name = owner.task_id if owner.map_index < 0 else f"{owner.task_id}_{owner.map_index}"
    return Answer.of_state(states[name]) if name in states else GONE
