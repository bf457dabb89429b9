"""The options of the command, as argparse and Airflow's Arg take them. Every `airflow` command imports this file."""

from __future__ import annotations

from typing import Any

from airflow_transient.core.depth import STRATEGIES, Rule
from airflow_transient.core.simulation import Model
from airflow_transient.core.trace import HEADERS


def _number(help: str, default: float | None = None, type: type = int) -> dict[str, Any]:
    said = help if default is None else f"{help} (default: {default:g})"
    return {"help": said, "default": default, "type": type, "metavar": "N" if type is int else "S"}


def _switch(help: str) -> dict[str, Any]:
    return {"help": help, "action": "store_true"}


def _repeatable(help: str, **told: Any) -> dict[str, Any]:
    return {"help": f"Repeatable; {help}", "action": "append", **told}


#: flags -> what is told of them. Those of a rule and of a model are named as their fields.
OPTIONS: dict[tuple[str, ...], dict[str, Any]] = {
    ("trace",): {"help": f"A CSV file with the columns {HEADERS}", "metavar": "TRACE.csv"},
    ("--strategy",): _repeatable("default: every one", choices=tuple(STRATEGIES)),
    ("--messages-per-task",): _number("One task for so many messages; without: task-count, whatever the depth"),
    ("--task-count",): _number("As many tasks at least, once there is work", Rule.task_count),
    ("--max-count",): _number("As many tasks at once, at most"),
    ("--hard-cap",): _number("The limit without max-count, and of it", Rule.hard_cap),
    ("--activation",): _number("A depth up to this asks for nothing", Rule.activation),
    ("--top-up",): _switch("What is live counts towards task-count"),
    ("--count-in-flight",): _switch("Messages in flight count as work"),
    ("--start-seconds",): _number("From a launch to the task's first receive", Model.start_seconds, float),
    ("--work-seconds",): _number("For one message", Model.work_seconds, float),
    ("--until-empty",): _switch("A task ends when it finds no message, not after messages-per-task of them"),
    ("--poll-seconds",): _number("From one look at the counters to the next", Model.poll_seconds, float),
    ("--lag-seconds",): _repeatable(
        f"the counters are so old (default: {Model.lag_seconds:g})", type=float, metavar="S"
    ),
    ("--claim-seconds",): _number(
        "So long after a task began or ended, the counters are taken not to show it", Rule.claim_seconds
    ),
    ("--plot",): _switch("Draw waiting messages and live tasks as text (on standard error with -o json)"),
    ("--svg",): {"help": "Draw them into this file, as SVG", "metavar": "FILE"},
    ("-o", "--output"): {"help": "table or json (default: table)", "choices": ("table", "json"), "default": "table"},
}
