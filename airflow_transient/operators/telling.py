"""What a task's log says when its launch has ended, for the person who reads it at 3 a.m., and what its XComs keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_transient.core.images.requests import seen_as_machine
from airflow_transient.core.verdict import Outcome
from airflow_transient.core.words import ended_in_words
from airflow_transient.links.launch import LAUNCH_KEY, VERDICT_KEY

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_transient.aws.launcher import Launcher
    from airflow_transient.core.launch import Launch
    from airflow_transient.core.verdict import Verdict

#: Of so many members that failed the end of the log is read.
EXPLAINED = 5


def tell(log: Any, launcher: Launcher, launch: Launch, verdict: Verdict, said: dict[str, Any]) -> None:
    """Into a task's log; the other parameters are those of `lines_of`."""
    write = log.info if verdict.outcome is Outcome.SUCCEEDED else log.warning
    for line in lines_of(launcher, launch, verdict, said):
        write("%s", line)


def leave(context: Context, launch: Launch, verdict: Verdict, said: dict[str, Any]) -> None:
    """The XComs of a launch that failed: an exception is all that the task itself returns."""
    context["ti"].xcom_push(VERDICT_KEY, {name: said[name] for name in said if name != "members"})
    leave_launch(context, launch, verdict.worst.id)


def leave_launch(context: Context, launch: Launch, failed: str | None = None) -> None:
    """The XCom by which links, page and reports know it: of an image its machine.

    :param failed: the worst of its members, where one failed.
    """
    if machine := seen_as_machine(launch):
        worst = {"failed": failed if failed in machine.ids else machine.ids[0]} if failed else {}
        context["ti"].xcom_push(LAUNCH_KEY, {**machine.to_dict(), **worst})


def lines_of(launcher: Launcher, launch: Launch, verdict: Verdict, said: dict[str, Any]) -> Iterator[str]:
    """
    The members, the ends of the logs of the worst, and the whole in one line.

    :param said: the verdict's dict; those ends of logs go into it as well.
    """
    yield from verdict.lines()
    for member in said["failed"][:EXPLAINED]:
        member["log_tail"] = list(launcher.explain(launch, member["id"]))
        if member["log_tail"]:
            yield f"{member['id']}:"
            yield from member["log_tail"]
    yield ended_in_words(verdict)
