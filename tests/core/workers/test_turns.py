"""When a queue's workers become more, and when they are done."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient.core.depth import Depth, Unread
from airflow_transient.core.spec import S3Prefix
from airflow_transient.core.verdict import Member, Outcome
from airflow_transient.core.workers.spec import WorkersSpec
from airflow_transient.core.workers.turns import Crew, Move, Terms, Turn, Waiting, on_reading, on_sighting, wanted

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
#: 20 messages a machine, 5 machines at most.
WORKERS = WorkersSpec("jobs", ("cp",), S3Prefix("b"), "s3://b/f", processes=2, messages_per_process=10, max_count=5)
DRAINED = Waiting(NOW - timedelta(seconds=60), NOW, "jobs: 0 visible")
SOON = Waiting(NOW - timedelta(seconds=59), NOW, "jobs: 0 visible")


def terms(**words: Any) -> Terms:
    given = {"interval": 60.0, "until": NOW + timedelta(hours=1), "may_grow": True}
    return Terms("jobs", WORKERS.rule, WORKERS.processes, **{**given, **words})


def crew(live: int = 0, done: int = 0, lost: int = 0, ago: float = 10, stopped: bool = False) -> Crew:
    """So many that live, have drained the queue, or were lost, some seconds ago."""
    ended = NOW - timedelta(seconds=ago)
    over = [Member(f"done-{n}", Outcome.SUCCEEDED, ended=ended) for n in range(done)]
    over += [Member(f"lost-{n}", Outcome.INTERRUPTED, ended=ended) for n in range(lost)]
    ids = (*(f"live-{n}" for n in range(live)), *(m.id for m in over))
    return Crew(ids, {m.id: m for m in over}, stopped)


@pytest.mark.parametrize(
    ("visible", "in_flight", "live", "done", "lost", "ago", "more"),
    [
        pytest.param(60, 0, 0, 0, 0, 0, 3, id="the first: a machine for 20"),
        pytest.param(61, 0, 0, 0, 0, 0, 4, id="rounded up"),
        pytest.param(1000, 0, 0, 0, 0, 0, 5, id="max_count"),
        pytest.param(60, 0, 3, 0, 0, 0, 0, id="just launched, they claim all of it"),
        pytest.param(56, 4, 3, 0, 0, 0, 0, id="what they have in flight is theirs"),
        pytest.param(80, 6, 3, 0, 0, 0, 2, id="it grew"),
        pytest.param(80, 6, 4, 0, 0, 0, 1, id="room for one"),
        pytest.param(0, 500, 0, 0, 0, 0, 0, id="others' in flight are no work of ours"),
        pytest.param(1, 500, 0, 0, 0, 0, 1, id="nor are they beside one that is"),
        pytest.param(15, 500, 1, 0, 0, 0, 0, id="nor beside a machine of ours"),
        pytest.param(0, 0, 0, 0, 0, 0, 0, id="nothing"),
        pytest.param(20, 0, 0, 1, 0, 10, 0, id="drained a moment ago: the counters lag"),
        pytest.param(20, 0, 0, 1, 0, 100, 1, id="drained a while ago: these are new"),
        pytest.param(20, 0, 0, 0, 1, 10, 1, id="a lost machine claims nothing"),
    ],
)
def test_how_many_more(visible: int, in_flight: int, live: int, done: int, lost: int, ago: float, more: int) -> None:
    found = wanted(terms(), crew(live, done, lost, ago), Depth("jobs", visible, in_flight), NOW)
    assert found.count == more, found.reason


@pytest.mark.parametrize(
    ("depth", "who", "waiting", "words", "move"),
    [
        pytest.param(Depth("jobs", 60), crew(1), Waiting(), {}, Move.GROW, id="it asks for more"),
        pytest.param(Depth("jobs", 60), crew(1), Waiting(), {"may_grow": False}, None, id="more would not help"),
        pytest.param(
            Depth("jobs", 60), crew(1), Waiting(), {"not_before": NOW + timedelta(1)}, None, id="not so soon again"
        ),
        pytest.param(
            Depth("jobs", 60),
            crew(1),
            Waiting(),
            {"not_before": NOW, "may_grow": False},
            Move.GROW,
            id="while one works it may be that more help now",
        ),
        pytest.param(
            Depth("jobs", 60),
            crew(lost=1),
            Waiting(),
            {"not_before": NOW + timedelta(1)},
            Move.GROW,
            id="nobody works, so there is nothing to wait for",
        ),
        pytest.param(Depth("jobs", 60), crew(1, stopped=True), Waiting(), {}, None, id="a person has stopped some"),
        pytest.param(Depth("jobs", 60), crew(lost=1), Waiting(), {"may_grow": False}, Move.END, id="nobody is left"),
        pytest.param(Depth("jobs", 60), crew(lost=1, stopped=True), Waiting(), {}, Move.END, id="a person stopped all"),
        pytest.param(Depth("jobs", 0), crew(1), DRAINED, {}, None, id="drained, and a machine still lives"),
        pytest.param(Depth("jobs", 0), crew(done=1), DRAINED, {}, Move.END, id="drained, and all have ended"),
        pytest.param(Depth("jobs", 0), crew(done=1), SOON, {}, None, id="readings one lag apart say more"),
        pytest.param(Depth("jobs", 0), crew(), DRAINED, {}, Move.END, id="drained from the beginning"),
        pytest.param(Depth("jobs", 0, 7), crew(done=1), Waiting(), {}, None, id="others' are waited for"),
        pytest.param(Depth("jobs", 0, 7), crew(done=1), Waiting(), {"until": NOW}, Move.END, id="and not for ever"),
        pytest.param(Unread("jobs", "throttled"), crew(1), Waiting(), {}, None, id="no answer"),
        pytest.param(
            Unread("jobs", "gone"), crew(done=1), Waiting(), {"until": NOW}, Move.END, id="no answer to the end"
        ),
        pytest.param(Unread("jobs", "no queue", gone=True), crew(1), Waiting(), {}, None, id="deleted under a machine"),
        pytest.param(Unread("jobs", "no queue", gone=True), crew(lost=1), Waiting(), {}, Move.END, id="deleted"),
        pytest.param(Unread("jobs", "throttled"), crew(lost=1), Waiting(), {}, None, id="no answer is no end"),
        pytest.param(Depth("jobs", 0, 7), crew(1, lost=1, ago=1300), Waiting(), {}, Move.NOTE, id="ended long ago"),
    ],
)
def test_what_a_reading_asks_for(
    depth: Any, who: Crew, waiting: Waiting, words: dict[str, Any], move: Move | None
) -> None:
    look = depth if isinstance(depth, Unread) else (depth,)
    turn = on_reading(terms(**words), who, waiting, look, NOW)
    assert (turn and turn.move) == move
    assert turn is None or turn.drained == (move is Move.END and waiting == DRAINED)


def test_a_look_at_the_machines_launches_nothing_from_an_old_reading() -> None:
    assert on_sighting(terms(), crew(lost=1), Waiting(said="jobs: 60 visible"), NOW) is None


def test_who_drained_the_queue_a_moment_ago_is_not_written_down_by_a_growth() -> None:
    turn = on_reading(terms(), crew(1, done=1, lost=1), Waiting(), (Depth("jobs", 90),), NOW)
    assert turn
    assert [member.id for member in turn.members] == ["lost-0"]


def test_drained_is_a_row_of_readings_and_no_answer_is_none_of_it() -> None:
    waiting, moments = Waiting(), [NOW + timedelta(seconds=30 * n) for n in range(6)]
    looks: list[Any] = [(Depth("jobs", 0),)] * 6
    looks[1] = Unread("jobs", "throttled")
    told = []
    for look, moment in zip(looks, moments, strict=True):
        waiting = waiting.after(look, moment)
        told.append(waiting.drained(terms()))
    assert told == [False, False, False, False, True, True]
    assert not waiting.after((Depth("jobs", 0, 0, delayed=1),), NOW).drained(terms())


def test_terms_and_turns_travel_as_json() -> None:
    import json

    said = terms(may_grow=False, not_before=NOW)
    assert Terms.from_dict(json.loads(json.dumps({**said.to_dict(), "later": 1}))) == said
    turn = on_reading(said, crew(lost=2), Waiting(), (Depth("jobs", 60),), NOW)
    assert turn
    assert Turn.from_dict(json.loads(json.dumps(turn.to_dict()))) == turn
