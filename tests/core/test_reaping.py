"""Every case that the reaper may meet, and what it does: a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient.core.launch import AT_DEADLINE, BY_REQUEST, Launch, LaunchKey, Owner
from airflow_transient.core.reaping import (
    GONE,
    RULES,
    UNANSWERED,
    Act,
    Answer,
    Case,
    Decision,
    Found,
    Standing,
    decide,
    decide_template,
    leftover,
    owner_to_ask_for,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
OWNER = Owner("prod", "dag", "run", "task")
ALIVE, FAILED = Answer.of_state("deferred"), Answer.of_state("failed")
LEAVE, MARK, UNMARK, TERMINATE, STOP = Act.LEAVE, Act.MARK, Act.UNMARK, Act.TERMINATE, Act.STOP


def ago(minutes: float) -> str:
    """An epoch second in the past; negative: to come."""
    return str(int((NOW - timedelta(minutes=minutes)).timestamp()))


def launched_by(owner: Owner = OWNER, hold_seconds: int = 0) -> dict[str, str]:
    """The tags that our own launch call sends, with a deadline in an hour."""
    deadline = NOW + timedelta(hours=1)
    launch = Launch("ec2", "t1-1", "n", (), "eu-west-1", NOW, NOW, deadline, hold_seconds=hold_seconds)
    return LaunchKey(owner, "t1").tags(launch)


def machine(state: str = "running", age: float = 30, owner: Owner = OWNER, **tags: str | None) -> Found:
    """A tag of None is taken away; `orphan_since` stands for transient:orphan-since."""
    told = launched_by(owner)
    for name, value in tags.items():
        key = f"transient:{name.replace('_', '-')}"
        told = {**told, key: value} if value is not None else {k: v for k, v in told.items() if k != key}
    return Found("i-1", state, NOW - timedelta(minutes=age), told)


OTHER = Owner("dev", "dag", "run", "task")
LONG = Owner("prod", "d" * 250, "r" * 250, "t" * 250, 7)
CASES: dict[str, tuple[Found, Answer, Act]] = {
    "its task waits": (machine(), ALIVE, LEAVE),
    "its task is over, first pass": (machine(), FAILED, MARK),
    "its task is gone, first pass": (machine(), GONE, MARK),
    "its task is over, marked 4 min ago": (machine(orphan_since=ago(4)), FAILED, LEAVE),
    "its task is over, marked 5 min ago": (machine(orphan_since=ago(5)), FAILED, TERMINATE),
    "its task is gone, marked 5 min ago": (machine(orphan_since=ago(5)), GONE, TERMINATE),
    "marked, and its task runs again": (machine(orphan_since=ago(9)), Answer.of_state("running"), UNMARK),
    "marked, and its task was cleared": (machine(orphan_since=ago(9)), Answer.of_state(None), UNMARK),
    "marked by somebody who cannot tell the time": (machine(orphan_since="yesterday"), FAILED, MARK),
    "marked in the future by another clock": (machine(orphan_since=ago(-60)), FAILED, LEAVE),
    "no answer": (machine(), UNANSWERED, LEAVE),
    "no answer, and marked: the mark stays": (machine(orphan_since=ago(9)), UNANSWERED, LEAVE),
    "a mapped task's is ours": (machine(owner=replace(OWNER, map_index=3)), FAILED, MARK),
    "an owner tag that AWS's limit cut off is ours": (machine(owner=LONG), FAILED, MARK),
    "at its deadline": (machine(deadline=ago(0)), ALIVE, LEAVE),
    "10 min past its deadline: the trigger goes first": (machine(deadline=ago(10)), ALIVE, LEAVE),
    "11 min past its deadline": (machine(deadline=ago(11)), ALIVE, TERMINATE),
    "past its deadline, no answer": (machine(deadline=ago(11)), UNANSWERED, TERMINATE),
    "past its deadline, stopped": (machine("stopped", deadline=ago(11)), ALIVE, TERMINATE),
    "past its deadline, another deployment's": (machine(owner=OTHER, deadline=ago(11)), UNANSWERED, TERMINATE),
    "past its deadline, owner unreadable": (machine(map_index="x", deadline=ago(11)), ALIVE, TERMINATE),
    "a deadline in milliseconds is none": (machine(deadline=ago(11) + "000"), ALIVE, LEAVE),
    "another deployment's": (machine(owner=OTHER), FAILED, LEAVE),
    "another deployment's, stopped": (machine("stopped", owner=OTHER), FAILED, LEAVE),
    "another deployment's, marked by its own reaper": (machine(owner=OTHER, orphan_since=ago(9)), FAILED, LEAVE),
    "a deployment whose name begins like ours": (machine(owner=replace(OTHER, deployment="prod/x")), FAILED, LEAVE),
    "tags that do not agree": (machine(run="another run"), FAILED, LEAVE),
    "without the tag": (machine(managed_by=None, deadline=ago(11)), FAILED, LEAVE),
    "somebody else's tag": (machine(managed_by="terraform", deadline=ago(11)), FAILED, LEAVE),
    "stopped": (machine("stopped"), ALIVE, MARK),
    "stopping": (machine("stopping"), ALIVE, MARK),
    "stopped, marked 5 min ago": (machine("stopped", orphan_since=ago(5)), ALIVE, TERMINATE),
    "stopped, marked, and started again": (machine("running", orphan_since=ago(5)), ALIVE, UNMARK),
    "stopped, no answer": (machine("stopped", orphan_since=ago(5)), UNANSWERED, TERMINATE),
    "shutting down": (machine("shutting-down", deadline=ago(99)), FAILED, LEAVE),
    "for nobody to wait for": (machine(unattended="yes"), Answer.of_state("success"), LEAVE),
    "for nobody to wait for, its run deleted": (machine(unattended="yes"), GONE, LEAVE),
    "for nobody to wait for, past its deadline": (machine(unattended="yes", deadline=ago(11)), ALIVE, TERMINATE),
    "for nobody to wait for, without a deadline": (machine(unattended="yes", deadline=None), FAILED, MARK),
    "for nobody to wait for, stopped": (machine("stopped", unattended="yes"), FAILED, MARK),
    "for nobody to wait for, marked before": (machine(unattended="yes", orphan_since=ago(5)), FAILED, UNMARK),
    "a minute old": (machine(age=1), GONE, LEAVE),
    "a minute old, and marked: the mark stays": (machine(age=1, orphan_since=ago(5)), GONE, LEAVE),
    "launched after we began": (machine(age=-1), GONE, LEAVE),
    "kept": (machine(keep="", deadline=ago(99)), FAILED, LEAVE),
    "kept, and stopped": (machine("stopped", keep="ask Ann"), FAILED, LEAVE),
    "kept by a 1 that is no moment": (machine(keep="1", deadline=ago(99)), FAILED, LEAVE),
    "kept until later": (machine(keep=ago(-5), deadline=ago(99)), FAILED, LEAVE),
    "kept until now": (machine(keep=ago(0), deadline=ago(99)), FAILED, TERMINATE),
    "kept until a minute ago": (machine(keep=ago(1), deadline=ago(99)), FAILED, TERMINATE),
    "kept after it was marked": (machine(keep="yes", orphan_since=ago(9)), FAILED, UNMARK),
    "held": (machine(hold_until=ago(-5), deadline=ago(30)), FAILED, LEAVE),
    "held until a minute ago": (machine(hold_until=ago(1), deadline=ago(30)), FAILED, TERMINATE),
}


@pytest.mark.parametrize(("seen", "answer", "act"), CASES.values(), ids=CASES)
def test_the_table(seen: Found, answer: Answer, act: Act) -> None:
    assert decide(Case(seen, NOW, "prod", answer)).act is act


#: An instance's states in ECS's words; a task is never stopped and still there.
ECS_STATES = {"running": "RUNNING", "shutting-down": "STOPPING"}
ECS_CASES = {name: case for name, case in CASES.items() if case[0].state in ECS_STATES}


@pytest.mark.parametrize(("seen", "answer", "act"), ECS_CASES.values(), ids=ECS_CASES)
def test_the_same_table_holds_for_ecs_tasks(seen: Found, answer: Answer, act: Act) -> None:
    task = replace(seen, kind="ecs", state=ECS_STATES[seen.state])
    assert decide(Case(task, NOW, "prod", answer)).act is (STOP if act is TERMINATE else act)


@pytest.mark.parametrize("state", ["PROVISIONING", "PENDING", "ACTIVATING", "RUNNING"])
def test_a_task_that_never_gets_going_is_stopped_like_one_that_runs(state: str) -> None:
    task = replace(machine(deadline=ago(11)), kind="ecs", state=state)
    assert decide(Case(task, NOW, "prod")) == Decision(
        "i-1", STOP, "past its deadline, 2026-11-21 11:49:00 UTC", AT_DEADLINE
    )


@pytest.mark.parametrize(("seen", "answer", "act"), CASES.values(), ids=CASES)
def test_without_a_deployment_only_deadlines_decide(seen: Found, answer: Answer, act: Act) -> None:
    decision = decide(Case(seen, NOW, None, answer))
    assert decision.act in (LEAVE, TERMINATE, UNMARK)
    assert decision.act is not TERMINATE or decision.told == AT_DEADLINE


@pytest.mark.parametrize(("seen", "answer", "act"), CASES.values(), ids=CASES)
def test_airflow_is_asked_exactly_where_its_answer_matters(seen: Found, answer: Answer, act: Act) -> None:
    told = {(d := decide(Case(seen, NOW, "prod", said))).act: d for said in (UNANSWERED, ALIVE, FAILED)}
    reasons = {decide(Case(seen, NOW, "prod", said)).reason for said in (UNANSWERED, ALIVE, FAILED)}
    assert bool(owner_to_ask_for(seen, NOW, "prod")) == (len(told) > 1 or len(reasons) > 1)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_rule_speaks_in_the_table(rule: Any) -> None:
    cases = [Case(seen, NOW, "prod", answer) for seen, answer, _ in CASES.values()]
    assert any(next(one for one in RULES if one(case)) is rule for case in cases)


STATES: dict[str | None, Standing] = {
    **dict.fromkeys(("success", "failed", "skipped", "upstream_failed", "removed"), Standing.OVER),
    **dict.fromkeys(("scheduled", "queued", "running", "deferred", "restarting"), Standing.ALIVE),
    **dict.fromkeys(("up_for_retry", "up_for_reschedule", "awaiting_input", None), Standing.ALIVE),
}


@pytest.mark.parametrize(("state", "standing"), STATES.items(), ids=str)
def test_who_still_waits(state: str | None, standing: Standing) -> None:
    assert Answer.of_state(state).standing is standing


@pytest.mark.airflow
def test_no_state_of_airflow_is_forgotten() -> None:
    from airflow.sdk import TaskInstanceState

    assert {state.value for state in TaskInstanceState} == {state for state in STATES if state}
    assert {s for s in TaskInstanceState if Answer.of_state(s).standing is Standing.OVER} == {
        s for s in TaskInstanceState if STATES[s.value] is Standing.OVER
    }


def test_reasons_are_sentences_with_times() -> None:
    told = [
        decide(Case(machine(orphan_since=ago(5)), NOW, "prod", FAILED)),
        decide(Case(machine(deadline=ago(11)), NOW, "prod")),
        decide(Case(machine(owner=OTHER, deadline=None), NOW, "prod")),
    ]
    assert told == [
        Decision("i-1", TERMINATE, "its task is failed, and was so at 2026-11-21 11:55:00 UTC", BY_REQUEST),
        Decision("i-1", TERMINATE, "past its deadline, 2026-11-21 11:49:00 UTC", AT_DEADLINE),
        Decision(
            "i-1",
            LEAVE,
            "not of this deployment (owner dev/dag/run/task/-1); IT HAS NO READABLE DEADLINE: nobody will end it",
        ),
    ]


def test_a_machine_that_a_failed_job_may_be_looked_at_on_is_held() -> None:
    held = replace(machine(), tags={**launched_by(hold_seconds=3600), "transient:deadline": ago(30)})
    assert decide(Case(held, NOW, "prod", FAILED)).reason == "may be held to be looked at until 2026-11-21 14:00:00 UTC"


MANAGED = {"transient:managed-by": "airflow_transient"}
THINGS = {
    "past its deadline": ({**MANAGED, "transient:deadline": ago(11)}, True),
    "in its time": ({**MANAGED, "transient:deadline": ago(9)}, False),
    "without a deadline": (MANAGED, False),
    "kept": ({**MANAGED, "transient:deadline": ago(11), "transient:keep": "yes"}, False),
    "not ours": ({"transient:deadline": ago(11)}, False),
}


@pytest.mark.parametrize(("tags", "stray"), THINGS.values(), ids=THINGS)
def test_what_is_no_machine_goes_by_its_deadline(tags: dict[str, str], stray: bool) -> None:
    template = decide_template("lt-1", tags, NOW)
    assert (template.act if template else None) == (Act.DELETE if stray else None)
    assert bool(leftover(tags, NOW)) == stray
