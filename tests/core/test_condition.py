"""When a depth is enough, and when a watcher tells it: by tables."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient.core.condition import Condition, Question, Waiting
from airflow_transient.core.depth import Depth, Unread
from airflow_transient.core.edge import Bell, Edge
from airflow_transient.errors import SpecError

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
NO_ANSWER = Unread("jobs", "throttled")


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def jobs(visible: int = 0, in_flight: int = 0, delayed: int = 0, oldest: float | None = None) -> Depth:
    return Depth("jobs", visible, in_flight, delayed, T0, oldest)


@pytest.mark.parametrize(
    ("words", "depths", "holds"),
    [
        pytest.param({"at_least": 10}, [jobs(9)], False, id="one less"),
        pytest.param({"at_least": 10}, [jobs(10)], True, id="as many"),
        pytest.param({"at_least": 10}, [jobs(6), jobs(4)], True, id="in all"),
        pytest.param({"at_least": 10, "each": True}, [jobs(60), jobs(9)], False, id="not in each"),
        pytest.param({"at_least": 10, "each": True}, [jobs(60), jobs(10)], True, id="in each"),
        pytest.param({"at_least": 10}, [jobs(9, 9, 9)], False, id="in flight and delayed do not count"),
        pytest.param({"at_least": 10, "count_in_flight": True}, [jobs(9, 1)], True, id="in flight counts"),
        pytest.param({"at_least": 10, "count_delayed": True}, [jobs(9, 0, 1)], True, id="delayed counts"),
        pytest.param({"at_least": 0}, [jobs()], True, id="at least none"),
        pytest.param({"at_most": 0}, [jobs()], True, id="none"),
        pytest.param({"at_most": 5}, [jobs(6)], False, id="one more"),
        pytest.param({"at_most": 5}, [jobs(3), jobs(3)], False, id="each few, many in all"),
        pytest.param({"at_most": 5, "each": True}, [jobs(3), jobs(3)], True, id="few in each"),
        pytest.param({"at_most": 5, "each": True}, [jobs(3), jobs(6)], False, id="few in one"),
        pytest.param({"drained": True}, [jobs()], True, id="drained"),
        pytest.param({"drained": True}, [jobs(0, 1)], False, id="somebody works on the last one"),
        pytest.param({"drained": True}, [jobs(0, 0, 1)], False, id="one comes later"),
        pytest.param({"drained": True, "each": True}, [jobs(), jobs(1)], False, id="one of two drained"),
        pytest.param({"oldest_older_than": 60}, [jobs(1, oldest=61)], True, id="old"),
        pytest.param({"oldest_older_than": 60}, [jobs(1, oldest=60)], False, id="not older than"),
        pytest.param({"oldest_older_than": 60}, [jobs(1)], False, id="nobody knows how old"),
        pytest.param({"oldest_older_than": 60}, [jobs(1, oldest=5), jobs(1, oldest=61)], True, id="the oldest of all"),
        pytest.param(
            {"oldest_older_than": 60, "each": True}, [jobs(1, oldest=5), jobs(1, oldest=61)], False, id="old in each"
        ),
        pytest.param({"at_least": 9, "oldest_older_than": 60}, [jobs(9, oldest=5)], False, id="many and young"),
        pytest.param({"at_least": 9, "oldest_older_than": 60}, [jobs(8, oldest=61)], False, id="few and old"),
        pytest.param({"at_least": 9, "oldest_older_than": 60}, [jobs(9, oldest=61)], True, id="many and old"),
        pytest.param({"at_least": "10", "drained": ""}, [jobs(10)], True, id="what templates render to"),
    ],
)
def test_what_holds(words: dict[str, Any], depths: list[Depth], holds: bool) -> None:
    assert Condition.of(**words).holds(depths) is holds


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param({}, "no condition", id="none"),
        pytest.param({"drained": False}, "no condition", id="drained not"),
        pytest.param({"at_least": 1, "at_most": 2}, "at_least and at_most", id="two"),
        pytest.param({"at_least": 1, "drained": True}, "at_least and drained", id="two others"),
        pytest.param({"at_least": 0, "at_most": 0}, "at_least and at_most", id="two of nothing"),
        pytest.param({"at_least": -1}, "at_least is -1", id="fewer than none"),
        pytest.param({"at_most": "ten"}, "whole number", id="no number"),
        pytest.param({"at_least": 1.5}, "whole number", id="half a message"),
        pytest.param({"at_least": 1, "consecutive": 0}, "consecutive is 0", id="no reading"),
        pytest.param({"drained": True, "count_delayed": True}, "always counts", id="drained counts all"),
        pytest.param({"drained": True, "oldest_older_than": 1}, "contradict", id="drained and old"),
        pytest.param({"oldest_older_than": -1}, "oldest_older_than is -1", id="younger than now"),
        pytest.param({"oldest_older_than": 1, "count_in_flight": True}, "at_least and at_most count", id="counts none"),
        pytest.param({"at_least": 1, "queues": " , "}, "names no queue", id="no queue"),
        pytest.param({"at_least": 1, "max_count": 0}, "max_count is 0", id="a rule for nothing"),
    ],
)
def test_what_cannot_be_asked(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        Question.of(**{"queues": "jobs", **words})


@pytest.mark.parametrize(
    ("words", "looks", "over"),
    [
        pytest.param({"at_least": 1}, [jobs(), jobs(1)], [False, True], id="once is enough"),
        pytest.param({"drained": True}, [jobs(), jobs()], [False, True], id="drained twice"),
        pytest.param({"drained": True, "consecutive": 1}, [jobs()], [True], id="drained once, by the author's word"),
        pytest.param(
            {"at_most": 0, "consecutive": 3},
            [jobs(), jobs(), jobs(1), jobs(), jobs(), jobs()],
            [False, False, False, False, False, True],
            id="broken by another reading",
        ),
        pytest.param(
            {"drained": True}, [jobs(), NO_ANSWER, jobs(), jobs()], [False, False, False, True], id="by no answer"
        ),
    ],
)
def test_how_many_in_a_row(words: dict[str, Any], looks: list[Any], over: list[bool]) -> None:
    question, waiting, seen = Question.of(queues="jobs", **words), Waiting(T0), []
    for number, look in enumerate(looks):
        waiting = waiting.after(question, look if isinstance(look, Unread) else [look], at(number))
        waiting = Waiting.from_dict(waiting.to_dict())
        seen.append(waiting.is_over(question))
    assert seen == over


def test_the_same_words_as_long_as_nothing_changes() -> None:
    question = Question.of(queues="jobs", at_least=5, oldest_older_than=60)
    first, second = jobs(3, oldest=61.0), Depth("jobs", 3, 0, 0, at(30), 91.0)
    assert question.in_words([first], 0) == question.in_words([second], 0)
    assert question.in_words([first], 0) == (
        "jobs: 3 visible, 0 in flight, 0 delayed, oldest 1 min: waiting for at least 5 and a message older than 60 s"
    )


def test_a_row_is_told_as_it_grows_and_its_end_as_what_holds() -> None:
    question, seen = Question.of(queues="jobs", at_least=5, consecutive=2), "jobs: 5 visible, 0 in flight, 0 delayed"
    assert question.in_words([jobs(5)], 1) == f"{seen}: waiting for at least 5 (1 of 2 readings in a row)"
    assert question.in_words([jobs(5)], 2) == f"{seen}: at least 5"


def test_of_several_queues_the_oldest_message_is_told() -> None:
    said = Question.of(queues="a,b", oldest_older_than=600).in_words([jobs(1, oldest=300.0), jobs(1, oldest=60.0)], 0)
    assert ", oldest 5 min: waiting" in said


def test_a_reading_is_in_a_row_with_the_next_one_only_so_long() -> None:
    waiting = Waiting(T0, streak=1, looked=T0)
    assert [waiting.resumed(at(second), timedelta(seconds=60)).streak for second in (60, 61)] == [1, 0]


def test_what_is_told_with_a_rule() -> None:
    told = Question.of(queues="jobs", at_least=1, messages_per_task=5, max_count=3).told([jobs(20, 2)])
    assert (told["visible"], told["in_flight"], told["delayed"]) == (20, 2, 0)
    assert told["readings"][0] == {"queue": "jobs", "visible": 20, "in_flight": 2, "delayed": 0, "at": T0.isoformat()}
    assert told["size"]["count"] == 3
    assert "5 per task asks for 4" in told["size"]["reason"]


def test_what_is_told_without() -> None:
    told = Question.of(queues="jobs", oldest_older_than=1).told([jobs(1, oldest=7.0)])
    assert "size" not in told
    assert told["readings"][0]["oldest_seconds"] == 7.0


Tick = tuple[float, Any]


def rung(bell: Bell, ticks: list[Tick], edge: Edge | None = None) -> list[float]:
    """At which seconds it rang; what it remembers goes through its words, as at a restart between any two ticks."""
    edge, told = edge or Edge(), []
    for second, seen in ticks:
        rings, edge = bell.ring(edge, NO_ANSWER if seen is None else [jobs(seen)], at(second))
        told += [second] if rings else []
        edge = Edge(**{**vars(Edge.from_dict(edge.to_dict())), "streak": edge.streak})
    return told


@pytest.mark.parametrize(
    ("condition", "words", "ticks", "told"),
    [
        pytest.param({"at_least": 10}, {}, [(0, 12)], [0], id="it holds from the first"),
        pytest.param({"at_least": 10}, {}, [(0, 12), (100, 12), (9999, 30)], [0], id="once while it goes on"),
        pytest.param({"at_least": 10}, {}, [(0, 12), (70, 9), (100, 12)], [0, 100], id="again when it comes again"),
        pytest.param({"at_least": 10}, {}, [(0, 12), (10, 9), (20, 12), (61, 12)], [0, 61], id="after the cooldown"),
        pytest.param({"at_least": 10}, {}, [(0, 12), (10, 9), (20, 12), (61, 9)], [0], id="gone after the cooldown"),
        pytest.param({"at_least": 10}, {"cooldown": 0}, [(0, 12), (1, 9), (2, 12)], [0, 2], id="no cooldown"),
        pytest.param(
            {"at_least": 10}, {"rearm_at": 2}, [(0, 12), (100, 3), (200, 12), (300, 2), (400, 12)], [0, 400], id="rearm"
        ),
        pytest.param(
            {"at_least": 10}, {"rearm_at": 2}, [(0, 12), (1, 2), (2, 5), (100, 12)], [0, 100], id="rearmed and kept so"
        ),
        pytest.param(
            {"at_most": 0}, {"rearm_at": 5}, [(0, 0), (100, 4), (200, 0), (300, 5), (400, 0)], [0, 400], id="up"
        ),
        pytest.param(
            {"at_least": 10}, {"repeat_every": 100}, [(0, 12), (99, 12), (100, 12), (150, 12)], [0, 100], id="r"
        ),
        pytest.param(
            {"at_least": 10}, {"repeat_every": 9}, [(0, 12), (30, 12), (60, 12)], [0, 60], id="cooldown first"
        ),
        pytest.param({"at_least": 10}, {}, [(0, 12), (100, None), (200, 12)], [0], id="no answer re-arms nothing"),
        pytest.param(
            {"at_least": 10, "consecutive": 2}, {}, [(0, 12), (1, None), (2, 12), (3, 12)], [3], id="in a row"
        ),
        pytest.param({"drained": True}, {}, [(0, 0), (1, 0), (100, 1), (101, 0), (102, 0)], [1, 102], id="drained"),
    ],
)
def test_when_it_rings(condition: dict[str, Any], words: dict[str, Any], ticks: list[Tick], told: list[float]) -> None:
    assert rung(Bell.of(Condition.of(**condition), **words), ticks) == told


def test_with_each_the_queue_that_decides_rearms() -> None:
    bell = Bell.of(Condition.of(at_least=10, each=True), rearm_at=2, cooldown=0)
    _, edge = bell.ring(Edge(), [jobs(10), jobs(50)], T0)
    assert not bell.ring(edge, [jobs(3), jobs(50)], T0)[1].armed
    assert bell.ring(edge, [jobs(2), jobs(50)], T0)[1].armed


@pytest.mark.parametrize(
    ("condition", "words", "sentence"),
    [
        pytest.param({"at_least": 10}, {"rearm_at": 10}, "below at_least", id="re-arms where it rings"),
        pytest.param({"at_most": 3}, {"rearm_at": 3}, "above the depth", id="the same from below"),
        pytest.param({"drained": True}, {"rearm_at": 0}, "above the depth", id="drained"),
        pytest.param({"oldest_older_than": 9}, {"rearm_at": 3}, "goes with", id="an age has no depth"),
        pytest.param({"at_least": 10}, {"rearm_at": -1}, "rearm_at is -1", id="below none"),
        pytest.param({"at_least": 10}, {"cooldown": -1}, "cooldown is -1", id="no time"),
        pytest.param({"at_least": 10}, {"repeat_every": 0}, "repeat_every is 0", id="all the time"),
    ],
)
def test_what_no_bell_can_be(condition: dict[str, Any], words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        Bell.of(Condition.of(**condition), **words)
