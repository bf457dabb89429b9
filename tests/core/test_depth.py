"""How many tasks a depth asks for: what the ECS Scheduler did, our own rule, the sentences, and what always holds."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from airflow_transient.core.depth import HARD_CAP, MAX_HARD_CAP, STRATEGIES, Depth, Live, Rule, Size, Unread, size
from airflow_transient.errors import SpecError

LEGACY = json.loads((Path(__file__).parents[1] / "data" / "ecs_scheduler_task_count.json").read_text())["task_count"]
UNREAD = Unread("jobs", "AccessDenied")


def jobs(visible: int, in_flight: int = 0, delayed: int = 0) -> list[Depth | Unread]:
    return [Depth("jobs", visible, in_flight, delayed)]


def legacy_id(row: dict[str, Any]) -> str:
    bounds = f"{row['taskCount']}..{row['maxCount'] or HARD_CAP}"
    return f"{row['depth']} by {row['messagesPerTask']}, {bounds}, {row['running']} running"


@pytest.mark.parametrize("strategy", ["desired-state", "lag-aware"])
@pytest.mark.parametrize("row", LEGACY, ids=legacy_id)
def test_as_the_ecs_scheduler_promised(row: dict[str, Any], strategy: str) -> None:
    rule = Rule(
        task_count=row["taskCount"],
        messages_per_task=row["messagesPerTask"],
        max_count=row["maxCount"],
        top_up=True,
        strategy=strategy,
    )
    readings = None if row["depth"] is None else jobs(row["depth"])
    live = Live(tasks=row["running"], claiming=row["running"])
    assert size(readings, rule, live).count == sum(row["capped50_batches"])


TEN = Rule(messages_per_task=10)
#: case -> readings, rule, live, how many.
SIZES: dict[str, tuple[list[Depth | Unread] | None, Rule, Live, int]] = {
    "nothing to do": (jobs(0), TEN, Live(), 0),
    "no queue has been named": ([], TEN, Live(), 0),
    "rounded up": (jobs(11), TEN, Live(), 2),
    "task_count is a floor": (jobs(11), replace(TEN, task_count=7), Live(), 7),
    "no floor without work": (jobs(0), replace(TEN, task_count=7), Live(), 0),
    "max_count below task_count wins": (jobs(11), replace(TEN, task_count=7, max_count=3), Live(), 3),
    "max_count counts what is live": (jobs(99), replace(TEN, max_count=5), Live(tasks=3), 2),
    "more live than max_count": (jobs(99), replace(TEN, max_count=5), Live(tasks=6), 0),
    "hard_cap where max_count says nothing": (jobs(5001), TEN, Live(), HARD_CAP),
    "hard_cap raised": (jobs(5001), replace(TEN, hard_cap=1000), Live(), 501),
    "depth at activation": (jobs(5), replace(TEN, activation=5), Live(), 0),
    "depth above activation": (jobs(6), replace(TEN, activation=5), Live(), 1),
    "in flight, not asked for": (jobs(0, in_flight=30), TEN, Live(), 0),
    "in flight": (jobs(1, in_flight=30), replace(TEN, count_in_flight=True), Live(), 4),
    "in flight, and who works on it": (jobs(1, in_flight=30), replace(TEN, count_in_flight=True), Live(tasks=3), 1),
    "in flight of tasks that ended": (jobs(0, in_flight=30), replace(TEN, count_in_flight=True), Live(ended=3), 0),
    "delayed, not asked for": (jobs(0, delayed=30), TEN, Live(), 0),
    "delayed": (jobs(1, delayed=30), replace(TEN, count_delayed=True), Live(), 4),
    "several queues are summed": ([*jobs(6), *jobs(5)], TEN, Live(), 2),
    "one queue of several unread": ([*jobs(600), UNREAD], TEN, Live(), 0),
    "claimed by the tasks of a moment ago": (jobs(30), TEN, Live(tasks=3, claiming=3), 0),
    "claimed in part": (jobs(31), TEN, Live(tasks=3, claiming=3), 1),
    "claimed by tasks that ended at once": (jobs(30), TEN, Live(claiming=3, ended=3), 0),
    "not claimed by tasks long at work": (jobs(30), TEN, Live(tasks=3), 3),
    "a floor for what is not claimed": (jobs(31), replace(TEN, task_count=5), Live(tasks=3, claiming=3), 5),
    "top-up": (jobs(31), replace(TEN, task_count=5, top_up=True), Live(tasks=3, claiming=3), 2),
    "top-up: the floor is there, the need stays": (jobs(30), replace(TEN, top_up=True), Live(tasks=1), 3),
    "top-up: all claimed, the floor is not there": (
        jobs(10),
        replace(TEN, task_count=5, top_up=True),
        Live(tasks=1, claiming=1),
        4,
    ),
    "without messages_per_task": (jobs(5000), Rule(task_count=4), Live(), 4),
    "without it, some launched a moment ago": (jobs(5000), Rule(task_count=4), Live(tasks=9, claiming=3), 1),
    "without it, all long at work": (jobs(5000), Rule(task_count=4), Live(tasks=4), 4),
    "without it, top-up": (jobs(5000), Rule(task_count=4, top_up=True), Live(tasks=3), 1),
    "without it, nothing to top up": (jobs(5000), Rule(task_count=4, top_up=True), Live(tasks=4), 0),
    "no queue": (None, Rule(task_count=4), Live(), 4),
    "no queue, others live": (None, Rule(task_count=4), Live(tasks=3), 4),
    "no queue, top-up": (None, Rule(task_count=4, top_up=True), Live(tasks=3), 1),
    "no queue, more live than wanted": (None, Rule(task_count=4, top_up=True), Live(tasks=9), 0),
    "no queue, max_count below task_count": (None, Rule(task_count=4, max_count=3), Live(), 3),
    "no queue, max_count counts what is live": (None, Rule(task_count=4, max_count=5), Live(tasks=3), 2),
}


@pytest.mark.parametrize(("readings", "rule", "live", "count"), SIZES.values(), ids=SIZES)
def test_the_table(readings: list[Depth | Unread] | None, rule: Rule, live: Live, count: int) -> None:
    assert size(readings, rule, live).count == count


#: 20 messages, in flight counted; scale is KEDA's maxScale. As getScalingDecision of KEDA's scale_jobs.go.
BUSY = Live(tasks=6, claiming=4, pending=3)
KEDA: dict[str, tuple[str, Rule, Live, int]] = {
    "default: scale less running": ("keda-default", Rule(messages_per_task=2), BUSY, 4),
    "default: nobody less than none": ("keda-default", Rule(messages_per_task=5), BUSY, 0),
    "default: scale is limited first": ("keda-default", Rule(messages_per_task=1, max_count=8), BUSY, 2),
    "accurate: scale less pending": ("keda-accurate", Rule(messages_per_task=2), BUSY, 7),
    "accurate: up to the limit": ("keda-accurate", Rule(messages_per_task=2, max_count=12), BUSY, 6),
    "eager: scale": ("keda-eager", Rule(messages_per_task=2), BUSY, 10),
    "eager: room, pending counted twice": ("keda-eager", Rule(messages_per_task=2, max_count=12), BUSY, 3),
    "no floor": ("keda-default", Rule(messages_per_task=10, task_count=7), Live(), 2),
    "without messages_per_task": ("keda-default", Rule(task_count=7), Live(), 7),
}


@pytest.mark.parametrize(("strategy", "rule", "live", "count"), KEDA.values(), ids=KEDA)
def test_as_keda(strategy: str, rule: Rule, live: Live, count: int) -> None:
    assert size(jobs(15, 5), replace(rule, strategy=strategy, count_in_flight=True), live).count == count


CLAIMED = Live(tasks=3, claiming=3, pending=2)
SENTENCES: dict[str, tuple[list[Depth | Unread] | None, Rule, Live]] = {
    "jobs: 0 visible, so there is no work": (jobs(0, 9), TEN, Live()),
    "jobs: 5 visible, which does not exceed activation 5": (jobs(5), replace(TEN, activation=5), Live()),
    "jobs: 25 visible: 10 per task asks for 3": (jobs(25), TEN, Live()),
    "2 queues: 25 visible: 10 per task asks for 3": ([*jobs(20), *jobs(5)], TEN, Live()),
    "jobs: 25 visible: 10 per task asks for 3, task_count 7 for 7": (jobs(25), replace(TEN, task_count=7), Live()),
    "jobs: 5001 visible: 10 per task asks for 501; hard_cap 50: room for 50": (jobs(5001), TEN, Live()),
    "jobs: 99 visible: 10 per task asks for 10; max_count 5 less 6 live: room for 0": (
        jobs(99),
        replace(TEN, max_count=5),
        Live(tasks=6),
    ),
    "jobs: 31 visible: 10 per task less 30 claimed by 3 tasks just launched or begun asks for 1": (
        jobs(31),
        TEN,
        CLAIMED,
    ),
    "jobs: 9 visible + 1 in flight: 10 per task less 10 claimed by 1 task live or just ended asks for 0": (
        jobs(9, 1),
        replace(TEN, count_in_flight=True),
        Live(tasks=1),
    ),
    "jobs: 31 visible: task_count 4 less 3 just launched or begun": (jobs(31), Rule(task_count=4), CLAIMED),
    "jobs: 31 visible: task_count 4 less 3 live": (jobs(31), Rule(task_count=4, top_up=True), CLAIMED),
    "jobs: 31 visible: 4 tasks wanted less 3 live": (jobs(31), replace(TEN, strategy="desired-state"), CLAIMED),
    "jobs: 31 visible: KEDA default: scale 4 less 3 live": (jobs(31), replace(TEN, strategy="keda-default"), CLAIMED),
    "jobs: 31 visible: KEDA accurate: scale 4 less 2 pending": (
        jobs(31),
        replace(TEN, strategy="keda-accurate"),
        CLAIMED,
    ),
    "jobs: 31 visible: KEDA accurate: limit 4 less 3 live (scale 4)": (
        jobs(31),
        replace(TEN, strategy="keda-accurate", max_count=4),
        CLAIMED,
    ),
    "jobs: 31 visible: KEDA eager: scale 4, limit 50 leaves 45": (
        jobs(31),
        replace(TEN, strategy="keda-eager"),
        CLAIMED,
    ),
    "nothing is launched on a guess: jobs could not be read: AccessDenied": ([*jobs(9), UNREAD], TEN, Live()),
    "task_count 4": (None, Rule(task_count=4), Live(tasks=3)),
    "task_count 4 less 3 live": (None, Rule(task_count=4, top_up=True), Live(tasks=3)),
    "task_count 4; max_count 5 less 3 live: room for 2": (None, Rule(task_count=4, max_count=5), Live(tasks=3)),
}


@pytest.mark.parametrize(("sentence", "asked"), SENTENCES.items(), ids=range(len(SENTENCES)))
def test_the_sentence(sentence: str, asked: tuple[list[Depth | Unread] | None, Rule, Live]) -> None:
    assert size(*asked).reason == sentence


def test_every_number_that_led_there_is_told() -> None:
    told = size(jobs(31, 2), replace(TEN, max_count=5), CLAIMED).to_dict()
    assert json.loads(json.dumps(told)) == told
    of_queue = {"visible": 31, "in_flight": 2, "delayed": 0, "work": 31}
    of_bounds = {"task_count": 1, "messages_per_task": 10, "max_count": 5, "hard_cap": 50, "limit": 5, "activation": 0}
    of_rule = {
        "count_in_flight": False,
        "count_delayed": False,
        "top_up": False,
        "strategy": "lag-aware",
        "claim_seconds": 90,
    }
    of_tasks = {"live": 3, "claiming": 3, "pending": 2, "ended": 0}
    assert told["terms"] == of_queue | of_bounds | of_rule | of_tasks | {"asked": 1, "room": 2, "count": 1}


WRONG: dict[str, dict[str, Any]] = {
    "hard_cap is 0: it must be from 1 to 1000": {"hard_cap": 0},
    "hard_cap is 1001: it must be from 1 to 1000": {"hard_cap": MAX_HARD_CAP + 1},
    "task_count is 0: it must be from 1 to 50": {"task_count": 0},
    "task_count is 51: it must be from 1 to 50, which is hard_cap (raise that for more)": {"task_count": 51},
    "max_count is 51: it must be from 1 to 50": {"max_count": 51},
    "messages_per_task is 0: it must be at least 1": {"messages_per_task": 0},
    "activation is -1: it must be 0 or more": {"activation": -1},
    "strategy is 'keda': it must be one of lag-aware, desired-state": {"strategy": "keda"},
}


@pytest.mark.parametrize(("message", "said"), WRONG.items(), ids=WRONG)
def test_a_rule_that_exists_is_valid(message: str, said: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as raised:
        Rule(**said)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "said", [{"hard_cap": 1}, {"hard_cap": MAX_HARD_CAP}, {"task_count": 50}, {"claim_seconds": 0}]
)
def test_a_bound_is_within(said: dict[str, Any]) -> None:
    assert vars(Rule(**said)).items() >= said.items()


# --- what holds for any readings, rule and live tasks

set_hypothesis_home_dir(os.environ["AIRFLOW_HOME"])  # no .hypothesis in the checkout
always = settings(
    derandomize=True, database=None, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
messages = st.integers(0, 100_000) | st.integers(0, 60)
depths = st.builds(Depth, st.sampled_from(["a", "b"]), messages, messages, messages)
lives = st.builds(
    lambda pending, begun, long, ended, gone: Live(pending + begun + long, pending + begun + gone, pending, ended),
    *[st.integers(0, 60)] * 5,
)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    cap = draw(st.integers(1, MAX_HARD_CAP) | st.integers(1, 60))
    counts = st.integers(1, cap)
    return Rule(
        task_count=draw(counts),
        messages_per_task=draw(st.none() | st.integers(1, 200)),
        max_count=draw(st.none() | counts),
        hard_cap=cap,
        activation=draw(st.integers(0, 100)),
        count_in_flight=draw(st.booleans()),
        count_delayed=draw(st.booleans()),
        top_up=draw(st.booleans()),
        strategy=draw(st.sampled_from(sorted(STRATEGIES))),
    )


@always
@given(st.none() | st.lists(depths | st.just(UNREAD), max_size=3), rules(), lives)
def test_never_more_than_there_is_room_for(readings: list[Depth | Unread] | None, rule: Rule, live: Live) -> None:
    asked = size(readings, rule, live)
    assert 0 <= asked.count <= max(0, rule.limit - live.tasks) <= rule.limit <= rule.hard_cap
    assert asked.reason
    assert asked.terms["count"] == asked.count


@always
@given(st.lists(depths, min_size=1, max_size=3), rules(), lives, st.integers(1, 1000))
def test_more_visible_messages_never_mean_fewer_tasks(readings: list[Depth], rule: Rule, live: Live, more: int) -> None:
    deeper = [*readings[:-1], replace(readings[-1], visible=readings[-1].visible + more)]
    assert size(deeper, rule, live).count >= size(readings, rule, live).count


@always
@given(st.lists(depths, min_size=1, max_size=3), rules(), lives)
def test_tasks_with_claims_never_mean_more_tasks(readings: list[Depth], rule: Rule, live: Live) -> None:
    rule = replace(rule, strategy="lag-aware")
    further = replace(live, claiming=live.claiming + 1, ended=live.ended + 1)
    assert size(readings, rule, further).count <= size(readings, rule, live).count


@always
@given(st.lists(depths, max_size=2), rules(), lives, st.integers(0, 2))
def test_a_reading_that_failed_launches_nothing(readings: list[Depth], rule: Rule, live: Live, place: int) -> None:
    with_one: list[Depth | Unread] = [*readings]
    with_one.insert(place, UNREAD)
    asked = size(with_one, rule, live)
    assert asked.count == 0
    assert "AccessDenied" in asked.reason


@always
@given(rules(), lives, st.data())
def test_up_to_activation_nothing_is_launched(rule: Rule, live: Live, data: st.DataObject) -> None:
    depth = Depth("jobs", data.draw(st.integers(0, rule.activation)))
    assert size([depth], rule, live).count == 0


@always
@given(st.lists(depths, min_size=1, max_size=3), rules())
def test_the_strategies_agree_where_nothing_is_live_and_no_floor_is_asked_for(
    readings: list[Depth], rule: Rule
) -> None:
    first = replace(rule, task_count=1, messages_per_task=rule.messages_per_task or 1)
    asked: list[Size] = [size(readings, replace(first, strategy=name), Live()) for name in STRATEGIES]
    assert len({one.count for one in asked}) == 1
