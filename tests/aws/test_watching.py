"""What one waiting process remembers from look to look: since when something is over, or is not to be seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_transient.aws.watching import Case
from airflow_transient.core.ecs.judging import EcsSighting
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Phase

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
LAUNCH = Launch("ecs", "t0-1", "n0", ("a",), "eu-west-1", T0, T0 + timedelta(minutes=10), T0 + timedelta(hours=1))
ABSENT = EcsSighting("a", Phase.UNKNOWN, absent=True)
UP = EcsSighting("a", Phase.RUNNING)
GONE = EcsSighting("a", Phase.ENDED)


def dated(*looks: tuple[float, EcsSighting]) -> list[Any]:
    """What each look becomes: those so many seconds after T0, in one process."""
    case = Case(LAUNCH)
    return [case._dated(seen, T0 + timedelta(seconds=second)) for second, seen in looks]


def test_what_is_absent_is_so_since_the_first_look_in_a_row() -> None:
    seen = dated((0, ABSENT), (10, ABSENT), (20, UP), (30, ABSENT), (40, ABSENT))
    since = [s.absent_since and (s.absent_since - T0).total_seconds() for s in seen]
    assert since == [0, 0, None, 30, 30]


def test_what_has_ended_without_a_moment_ended_when_that_was_first_seen() -> None:
    told = replace(GONE, ended=T0 - timedelta(minutes=1))
    assert [s.ended for s in dated((0, UP), (10, GONE), (20, GONE), (30, told))] == [
        None,
        T0 + timedelta(seconds=10),
        T0 + timedelta(seconds=10),
        T0 - timedelta(minutes=1),
    ]
