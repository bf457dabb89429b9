"""`airflow transient ...`: the command line, and the reaper with Airflow's answers, on a server or in a worker.

Every `airflow` command imports this file to build its parser: nothing heavy at the top.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_transient.core.launch import Owner
from airflow_transient.core.reaping import GONE, Answer, Standing

if TYPE_CHECKING:
    import argparse

    from airflow_transient.aws.reaper import Ask, Report

T = TypeVar("T")

#: As in operators/journal.py, where it is drawn at the first launch.
DEPLOYMENT_VARIABLE = "airflow_transient_deployment"


def get_transient_cli_commands() -> list[Any]:
    """What the provider adds to `airflow`."""
    from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, GroupCommand, lazy_load_command

    commands = (
        ActionCommand(
            name="reap",
            help="End the instances and ECS tasks of launches that nobody waits for any more",
            description=(
                "One pass: what is past its deadline is ended; what nobody waits for is marked, and ended by a second "
                "pass five minutes later or more. Exit code 1: something could not be looked at, or not ended."
            ),
            func=lazy_load_command("airflow_transient.cli.reap"),
            args=_reap_arguments(),
        ),
        ActionCommand(
            name="deployment",
            help="Print the name this Airflow signs its launches with",
            func=lazy_load_command("airflow_transient.cli.deployment"),
            args=(ARG_VERBOSE,),
        ),
        ActionCommand(
            name="simulate",
            help="How many tasks each strategy would have launched for a trace of arrivals",
            description=(
                "Replays a CSV file against the rule by which a burst's size is found. Nothing is launched and AWS is "
                "not asked. docs/depth.md tells how to export a trace and how to read the figures."
            ),
            func=lazy_load_command("airflow_transient.simulate.command.simulate"),
            args=_simulate_arguments(),
        ),
    )
    return [GroupCommand(name="transient", help="Compute borrowed by DAGs", subcommands=commands)]


def _reap_arguments() -> tuple[Any, ...]:
    from airflow.cli.cli_config import ARG_VERBOSE, Arg

    return (
        Arg(("--dry-run",), help="Say what would be done, and do nothing", action="store_true"),
        Arg(("--region",), help="Regions; default: the connection's own", nargs="+", action="extend", metavar="R"),
        Arg(("--only",), help="Look at instances (ec2), or at ECS tasks (ecs), only", choices=("ec2", "ecs")),
        Arg(("--cluster",), help="ECS clusters by name or ARN; default: all", nargs="+", action="extend", metavar="C"),
        Arg(("--aws-conn-id",), help="An Airflow connection (default: aws_default)", default="aws_default"),
        Arg(("--deployment",), help="Whose launches are ours (default: this Airflow's own, `deployment` prints it)"),
        Arg(("-o", "--output"), help="table or json (default: table)", choices=("table", "json"), default="table"),
        ARG_VERBOSE,
    )


def _simulate_arguments() -> tuple[Any, ...]:
    from airflow.cli.cli_config import ARG_VERBOSE, Arg

    from airflow_transient.simulate.options import OPTIONS

    return (*(Arg(flags, **told) for flags, told in OPTIONS.items()), ARG_VERBOSE)


# --- commands, on a server: Airflow's metadata database answers


def reap(args: argparse.Namespace) -> None:
    """`airflow transient reap`"""
    own = _on_a_server(deployment_id, args)
    ask = _asking(_answer_of_database, believe_gone=args.deployment in (None, own))
    where = Where(tuple(args.region or ()), args.only, tuple(args.cluster or ()))
    report = _on_a_server(lambda: _reap(where, args.aws_conn_id, args.dry_run, ask, args.deployment or own), args)
    print(json.dumps(report.to_dict()) if args.output == "json" else report)
    raise SystemExit(0 if report.complete else 1)


def deployment(args: argparse.Namespace) -> None:
    """`airflow transient deployment`"""
    name = _on_a_server(deployment_id, args)
    if not name:
        raise SystemExit("none yet: it is drawn at the first launch, or set it: [transient] deployment_id")
    print(name)


def _on_a_server(act: Callable[[], T], args: argparse.Namespace) -> T:
    """Where the SDK sees the database's connections and Variables, as in `airflow connections`; without `-v` unlogged.

    Airflow logs to standard output, which is for the answer here.
    """
    from airflow.utils.cli import suppress_logs_and_warning

    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    answer: list[T] = []
    suppress_logs_and_warning(lambda _: answer.append(act()))(args)
    return answer[0]


def deployment_id() -> str | None:
    """The name this Airflow signs its launches with; None where it has launched nothing yet."""
    from airflow.sdk import Variable, conf

    name = conf.get("transient", "deployment_id", fallback="") or Variable.get(DEPLOYMENT_VARIABLE, default=None)
    return str(name) if name else None


# --- in a task, on a worker: Airflow's API answers


def reap_in_task(
    regions: Sequence[str] = (),
    dry_run: bool = False,
    aws_conn_id: str = "aws_default",
    only: str | None = None,
    clusters: Sequence[str] = (),
) -> Report:
    """
    One pass of the reaper from within a running task.

    :param regions: none: the connection's own.
    :param dry_run: say what would be done, and do nothing.
    :param aws_conn_id: see `TransientHook`.
    :param only: ``"ec2"`` or ``"ecs"``; default: both.
    :param clusters: ECS clusters by name, looked for in every region, or by ARN; none: every cluster.
    """
    ask = _asking(_answer_of_api, believe_gone=True)
    return _reap(Where(tuple(regions), only, tuple(clusters)), aws_conn_id, dry_run, ask, deployment_id())


@dataclass(frozen=True)
class Where:
    """Where a reaper looks; nothing said is everywhere that the connection's own region reaches."""

    regions: tuple[str, ...] = ()
    only: str | None = None
    clusters: tuple[str, ...] = ()


def _reap(where: Where, aws_conn_id: str, dry_run: bool, ask: Ask, deployment: str | None) -> Report:
    from airflow_transient.aws.reaper import KINDS, Reaper
    from airflow_transient.hooks.aws import TransientHook

    if deployment is None:
        print("this Airflow has no deployment id yet, so only deadlines decide", file=sys.stderr)
    hook = TransientHook(aws_conn_id)
    only = (where.only,) if where.only else KINDS
    reaper = Reaper(hook.client, ask, deployment, dry_run, only=only, clusters=where.clusters)
    return reaper.reap(where.regions or (None,), datetime.now(timezone.utc))


# --- what Airflow says


def _asking(answer_about: Callable[[Owner], Answer], believe_gone: bool) -> Ask:
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


def _answer_of_database(owner: Owner) -> Answer:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    its_own = (
        TaskInstance.dag_id == owner.dag_id,
        TaskInstance.run_id == owner.run_id,
        TaskInstance.task_id == owner.task_id,
        TaskInstance.map_index == owner.map_index,
    )
    with create_session() as session:
        states = list(session.scalars(select(TaskInstance.state).where(*its_own)))
    return Answer.of_state(states[0]) if states else GONE


def _answer_of_api(owner: Owner) -> Answer:
    """By the worker's supervisor. Unmapped tasks go by their id, mapped ones by task_<map_index>."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    found = RuntimeTaskInstance.get_task_states(
        dag_id=owner.dag_id, task_ids=[owner.task_id], run_ids=[owner.run_id], map_index=owner.map_index
    )
    states: dict[str, str | None] = found.get(owner.run_id, {})
    name = owner.task_id if owner.map_index < 0 else f"{owner.task_id}_{owner.map_index}"
    return Answer.of_state(states[name]) if name in states else GONE
