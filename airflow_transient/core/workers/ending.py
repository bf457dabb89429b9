"""How a queue's workers have ended, when all of them have: whether that is wrong, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import ERRORS, MARKS, Outcome, Verdict
from airflow_transient.core.workers.spec import WorkersSpec
from airflow_transient.core.workers.tally import Tally
from airflow_transient.core.workers.turns import Turn
from airflow_transient.errors import JobFailed, RunError


def what_is_wrong(
    launch: Launch, workers: WorkersSpec, verdict: Verdict, tally: Tally, turn: Turn, left: Callable[[], str]
) -> RunError | None:
    """
    The queue decides and no exit code: a machine may be lost, and all messages be done by others.

    :param left: asks what is left in the queue, where that is to be told.
    """
    if turn.drained:
        most = workers.max_dead_letters
        if most is None or tally.dead_lettered <= most:
            return None
        return JobFailed(
            f"launch {launch.token}: {tally.dead_lettered} messages went to the dead letter queue, and "
            f"max_dead_letters is {most}. Why is told by the messages there and under {workers.failures}."
        )
    outcome = Outcome.OVERDUE if verdict.enough else verdict.worst.outcome
    kind = ERRORS[MARKS[tally.stopped] if tally.stopped else outcome]
    return kind(
        f"launch {launch.token}: {left()} and no machine works on it any more: {_why(verdict, tally)}. "
        f"{tally.machines} machines have processed {tally.processed} messages."
    )


def _why(verdict: Verdict, tally: Tally) -> str:
    if tally.problems:
        return "; ".join(tally.problems)
    if verdict.enough:
        return "the machines have ended well"
    return f"{verdict.worst.id}: {verdict.worst.evidence or verdict.worst.outcome.value}"


def outcome_of(error: RunError) -> Outcome:
    return next(outcome for outcome, kind in ERRORS.items() if kind is type(error))


def told(tally: Tally) -> dict[str, Any]:
    """The messages by themselves: `failed` is a verdict's word for members."""
    said = tally.told()
    messages = {name: said.pop(name) for name in ("processed", "failed", "dead_lettered", "interrupted")}
    return {"messages": messages, **said}


def in_words(tally: Tally, turn: Turn) -> str:
    silent = f", {tally.unreported} of them without a receipt" if tally.unreported else ""
    return (
        f"{turn.reason}. {tally.processed} processed, {tally.failed} tries failed, {tally.dead_lettered} dead letters, "
        f"{tally.interrupted} interrupted; {tally.machines} machines{silent}, {tally.machine_seconds:,} s"
    )
