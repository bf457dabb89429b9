"""`airflow transient ...`: the command line.

Every `airflow` command imports this file to build its parser: nothing heavy at the top.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow_transient.core.launch import Owner
from airflow_transient.core.reaping import GONE, Answer
from airflow_transient.hooks.deployment import deployment as deployment_id
from airflow_transient.hooks.reaping import Where, asking, one_pass, reap_in_task

if TYPE_CHECKING:
    import argparse

#: A DAG of one's own takes the reaper from here.
__all__ = ["get_transient_cli_commands", "reap_in_task"]

T = TypeVar("T")


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
        GroupCommand(
            name="jobs",
            help="Scheduled jobs: what the API under /transient/jobs does, from the shell",
            subcommands=_jobs_commands(),
        ),
        GroupCommand(
            name="events",
            help="Have AWS tell the triggerer of state changes, so that it looks at once",
            subcommands=_events_commands(),
        ),
    )
    return [GroupCommand(name="transient", help="Compute borrowed by DAGs", subcommands=commands)]


def _reap_arguments() -> tuple[Any, ...]:
    from airflow.cli.cli_config import ARG_VERBOSE, Arg

    return (
        Arg(("--dry-run",), help="Say what would be done, and do nothing", action="store_true"),
        Arg(("--region",), help="Regions; default: the connection's own", nargs="+", action="extend", metavar="R"),
        Arg(
            ("--only",),
            help="Look at instances (ec2), ECS tasks (ecs) or borrowed Auto Scaling groups (asg) only",
            choices=("ec2", "ecs", "asg"),
        ),
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


def _jobs_commands() -> tuple[Any, ...]:
    from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, lazy_load_command

    from airflow_transient.jobs.options import VERBS

    return tuple(
        ActionCommand(
            name=name,
            help=verb.help,
            description=verb.description,
            func=lazy_load_command("airflow_transient.cli.jobs"),
            args=(*(Arg(flags, **told) for flags, told in verb.arguments.items()), ARG_VERBOSE),
        )
        for name, verb in VERBS.items()
    )


def _events_commands() -> tuple[Any, ...]:
    from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, lazy_load_command

    from airflow_transient.core.event_rules import DEFAULT_QUEUE

    arguments = (
        Arg(("--region",), help="Regions; default: the connection's own", nargs="+", action="extend", metavar="R"),
        Arg(("--queue",), help=f"A queue's name (default: {DEFAULT_QUEUE})", default=DEFAULT_QUEUE, metavar="NAME"),
        Arg(("--deployment",), help="Whose ECS tasks (default: this Airflow's own, `deployment` prints it)"),
        Arg(("--aws-conn-id",), help="An Airflow connection (default: what the option events_conn_id says)"),
        Arg(("-o", "--output"), help="table or json (default: table)", choices=("table", "json"), default="table"),
        ARG_VERBOSE,
    )
    dry_run = Arg(("--dry-run",), help="Say what would be done, and do nothing", action="store_true")
    verbs = {
        "setup": "Make the queue and the rules, or mend them; prints what to configure",
        "teardown": "Delete what setup has made",
        "show": "What is there; exit code 1 where something is missing",
    }
    return tuple(
        ActionCommand(
            name=verb,
            help=help,
            func=lazy_load_command("airflow_transient.cli.events"),
            args=arguments if verb == "show" else (dry_run, *arguments),
        )
        for verb, help in verbs.items()
    )


# --- commands, on a server: Airflow's metadata database answers


def reap(args: argparse.Namespace) -> None:
    """`airflow transient reap`"""
    own = _on_a_server(deployment_id, args)
    ask = asking(_answer_of_database, believe_gone=args.deployment in (None, own))
    where = Where(tuple(args.region or ()), args.only, tuple(args.cluster or ()))
    report = _on_a_server(lambda: one_pass(where, args.aws_conn_id, args.dry_run, ask, args.deployment or own), args)
    print(json.dumps(report.to_dict()) if args.output == "json" else report)
    raise SystemExit(0 if report.complete else 1)


def deployment(args: argparse.Namespace) -> None:
    """`airflow transient deployment`"""
    name = _on_a_server(deployment_id, args)
    if not name:
        raise SystemExit("none yet: it is drawn at the first launch, or set it: [transient] deployment_id")
    print(name)


def jobs(args: argparse.Namespace) -> None:
    """`airflow transient jobs ...`"""
    from airflow_transient.jobs.command import act

    answer = _on_a_server(lambda: act(args), args)
    for line in answer.beside:
        print(line, file=sys.stderr)
    _tell(answer.said, answer.data, answer.code, args)


def events(args: argparse.Namespace) -> None:
    """`airflow transient events ...`"""
    from airflow_transient.hooks.event_verbs import Wish, act

    def wish() -> Wish:
        of = args.deployment or deployment_id()
        dry_run = getattr(args, "dry_run", False)
        return Wish(args.subcommand, of, tuple(args.region or ()), args.queue, args.aws_conn_id, dry_run)

    answer = _on_a_server(lambda: act(wish()), args)
    _tell(answer.said, answer.data, answer.code, args)


def _tell(said: str, data: Any, code: int, args: argparse.Namespace) -> NoReturn:
    if words := json.dumps(data, indent=1) if args.output == "json" else said:
        print(words)
    raise SystemExit(code)


def _on_a_server(act: Callable[[], T], args: argparse.Namespace) -> T:
    """Where the SDK sees the database's connections and Variables, as in `airflow connections`; without `-v` unlogged.

    Airflow logs to standard output, which is for the answer here.
    """
    from airflow.utils.cli import suppress_logs_and_warning

    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    answer: list[T] = []
    suppress_logs_and_warning(lambda _: answer.append(act()))(args)
    return answer[0]


# --- what Airflow's database says


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
