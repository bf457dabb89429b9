"""What a task's log says when its launch has ended: for the person who reads it at 3 a.m."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_transient.core.words import ended_in_words

if TYPE_CHECKING:
    from airflow_transient.aws.launcher import Launcher
    from airflow_transient.core.launch import Launch
    from airflow_transient.core.verdict import Verdict

#: Of so many members that failed the end of the log is read.
EXPLAINED = 5


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
