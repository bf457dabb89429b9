"""Whether a crew's end is wrong, and who is told what of it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_transient.core.launch import AT_DEADLINE, BY_PERSON, Launch
from airflow_transient.core.verdict import Member, Outcome, Verdict
from airflow_transient.core.workers.ending import in_words, outcome_of, told, what_is_wrong
from airflow_transient.core.workers.spec import WorkersSpec
from airflow_transient.core.workers.tally import Tally
from airflow_transient.core.workers.turns import Move, Turn
from airflow_transient.errors import RunError

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
LAUNCH = Launch("ec2", "t1-1", "n", ("i-1", "i-2"), "eu-west-1", NOW, NOW, NOW + timedelta(hours=1))
WORKERS = WorkersSpec.of({"sqs_queue": "jobs", "command": "true", "results": "s3://bucket/p", "max_dead_letters": 1})
DRAINED = Turn(Move.END, reason="jobs: 0 visible", drained=True)
OPEN = Turn(Move.END, reason="jobs: 7 visible")


def machine(outcome: Outcome, evidence: str = "seen") -> Member:
    return Member("i-1", outcome, evidence, result={"done": 2})


def wrong(turn: Turn, tally: Tally, *members: Member) -> RunError | None:
    verdict = Verdict("t1-1", members, need=0 if turn.drained else None)
    return what_is_wrong(LAUNCH, WORKERS, verdict, tally, turn, lambda: "jobs: 5 visible")


@pytest.mark.parametrize(
    "tally",
    [
        pytest.param(Tally(processed=3), id="all was done"),
        pytest.param(Tally(dead_lettered=1), id="as many dead letters as may be"),
        pytest.param(Tally(problems=("interrupted: reclaimed",)), id="a machine was lost, others did its work"),
    ],
)
def test_a_drained_queue_is_a_good_end_however_machines_ended(tally: Tally) -> None:
    assert wrong(DRAINED, tally, machine(Outcome.INTERRUPTED)) is None


def test_too_many_dead_letters_are_told_with_where_to_look() -> None:
    error = wrong(DRAINED, Tally(dead_lettered=2), machine(Outcome.SUCCEEDED))
    assert error
    assert outcome_of(error) is Outcome.FAILED
    assert "2 messages went to the dead letter queue, and max_dead_letters is 1" in str(error)
    assert "s3://bucket/p/" in str(error)


@pytest.mark.parametrize(
    ("tally", "member", "outcome", "why"),
    [
        (Tally(), machine(Outcome.SUCCEEDED), Outcome.OVERDUE, "the machines have ended well"),
        (Tally(), machine(Outcome.INTERRUPTED, "reclaimed"), Outcome.INTERRUPTED, "i-1: reclaimed"),
        (Tally(stopped=AT_DEADLINE), machine(Outcome.OVERDUE, "stopped at its end"), Outcome.OVERDUE, "stopped at its"),
        (Tally(stopped=BY_PERSON), machine(Outcome.STOPPED, "by hand"), Outcome.STOPPED, "i-1: by hand"),
        (Tally(problems=("no such command",)), machine(Outcome.FAILED), Outcome.FAILED, "any more: no such command."),
    ],
)
def test_what_is_left_over_is_told_with_what_ended_the_machines(
    tally: Tally, member: Member, outcome: Outcome, why: str
) -> None:
    error = wrong(OPEN, tally, member)
    assert error
    assert outcome_of(error) is outcome
    assert str(error).startswith("launch t1-1: jobs: 5 visible and no machine works on it any more: ")
    assert why in str(error)


def test_the_messages_are_told_by_themselves() -> None:
    said = told(Tally(processed=3, failed=2, dead_lettered=1, machines=4))
    assert said["messages"] == {"processed": 3, "failed": 2, "dead_lettered": 1, "interrupted": 0}
    assert said["machines"] == 4
    assert "failed" not in said


@pytest.mark.parametrize(("unreported", "words"), [(0, "4 machines, 1,234 s"), (1, "4 machines, 1 of them without a")])
def test_the_whole_is_one_line(unreported: int, words: str) -> None:
    line = in_words(Tally(processed=3, machines=4, machine_seconds=1234, unreported=unreported), DRAINED)
    assert line.startswith("jobs: 0 visible. 3 processed, ")
    assert words in line
