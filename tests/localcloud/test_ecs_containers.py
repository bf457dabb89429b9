"""Which container starts when, and what ends a task: the rules as tables, without a process."""

from __future__ import annotations

import pytest

from airflow_transient.localcloud.awslogs import LONGEST, Lines
from airflow_transient.localcloud.ecs_containers import Phase, State, ending, hopeless, rules, startable
from airflow_transient.localcloud.ecs_rules import spread

WAITING, RUNNING = State(), State(Phase.RUNNING, ran=True)
DONE, FAILED, NEVER = State(Phase.STOPPED, 0, ran=True), State(Phase.STOPPED, 3, ran=True), State(Phase.STOPPED)


@pytest.mark.parametrize(
    ("condition", "other", "starts", "never"),
    [
        pytest.param("START", WAITING, False, False, id="START waits for its start"),
        pytest.param("START", RUNNING, True, False, id="START is met by running"),
        pytest.param("START", FAILED, True, False, id="START is met by having run"),
        pytest.param("START", NEVER, False, True, id="START of what never ran"),
        pytest.param("HEALTHY", RUNNING, True, False, id="HEALTHY is taken for START"),
        pytest.param("COMPLETE", RUNNING, False, False, id="COMPLETE waits for the end"),
        pytest.param("COMPLETE", FAILED, True, False, id="COMPLETE takes any exit code"),
        pytest.param("SUCCESS", RUNNING, False, False, id="SUCCESS waits for the end"),
        pytest.param("SUCCESS", DONE, True, False, id="SUCCESS wants exit code 0"),
        pytest.param("SUCCESS", FAILED, False, True, id="SUCCESS of what failed"),
    ],
)
def test_a_condition_is_met_or_not_yet_or_never(condition: str, other: State, starts: bool, never: bool) -> None:
    after = [{"containerName": "first", "condition": condition}]
    both = rules([{"name": "first"}, {"name": "main", "dependsOn": after}])
    states = {"first": other, "main": WAITING}
    assert ("main" in startable(both, states), "main" in hopeless(both, states)) == (starts, never)


@pytest.mark.parametrize(
    ("main", "sidecar", "ends"),
    [
        pytest.param(RUNNING, RUNNING, False, id="all run"),
        pytest.param(DONE, RUNNING, True, id="the essential one has ended"),
        pytest.param(NEVER, RUNNING, True, id="the essential one cannot start"),
        pytest.param(RUNNING, FAILED, False, id="the other one has failed"),
    ],
)
def test_the_essential_container_ends_the_task(main: State, sidecar: State, ends: bool) -> None:
    both = rules([{"name": "main"}, {"name": "sidecar", "essential": False}])
    assert (ending(both, {"main": main, "sidecar": sidecar}) is not None) == ends


@pytest.mark.parametrize(
    ("strategy", "placed"),
    [
        pytest.param([("SPOT", 0, 1)], {"SPOT": 8}, id="one"),
        pytest.param([("SPOT", 0, 0)], {"SPOT": 8}, id="one without a weight"),
        pytest.param([("SPOT", 0, 3), ("OD", 0, 1)], {"SPOT": 6, "OD": 2}, id="by weight"),
        pytest.param([("SPOT", 0, 1), ("OD", 2, 1)], {"SPOT": 3, "OD": 5}, id="the base first"),
    ],
)
def test_a_strategy_spreads_tasks(strategy: list[tuple[str, int, int]], placed: dict[str, int]) -> None:
    names = spread([{"capacityProvider": name, "base": base, "weight": weight} for name, base, weight in strategy], 8)
    assert {name: names.count(name) for name in set(names)} == placed


class Kept:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def put_log_events(self, log_events: list[dict[str, object]]) -> str:
        self.messages += [str(event["message"]) for event in log_events]
        return ""


def test_bytes_become_whole_lines() -> None:
    kept = Kept()
    lines = Lines(kept)
    for data in (b"one\ntw", b"o\n\nthree\r\nfo", b"ur"):
        lines.write(data)
    assert kept.messages == ["one", "two", "three"]
    lines.end()
    assert kept.messages[3:] == ["four"]


def test_a_very_long_line_is_cut() -> None:
    kept = Kept()
    Lines(kept).write(b"x" * (2 * LONGEST + 5) + b"\n")
    assert [len(message) for message in kept.messages] == [LONGEST, LONGEST, 5]
