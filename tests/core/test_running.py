"""Which row each combination of a task that waits and a thing that AWS shows becomes. No clock, no cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient.core.ecs.requests import started_by
from airflow_transient.core.ecs.terms import Terms
from airflow_transient.core.launch import TAG_PREFIX, Launch, LaunchKey, Owner
from airflow_transient.core.prices import read_prices
from airflow_transient.core.reaping import Found
from airflow_transient.core.rows import Row
from airflow_transient.core.running import ANOTHER, FORGOTTEN, UNJUDGED, join, others, to_look_up
from airflow_transient.core.sources import Look, Place, Resource, Task
from airflow_transient.errors import SpecError

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
OWNER = Owner("prod", "dag", "run", "task")
KEY = LaunchKey(OWNER, "t1")
EC2 = Place("ec2", "eu-west-1")
ECS = Place("ecs", "eu-west-1", "etl")
TERMS = Terms("etl", ("main",), 600, 3600, 1, 1)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def launched(minutes: float = 30, ids: tuple[str, ...] = ("i-1",), ecs: Terms | None = None) -> Launch:
    """So long ago, with a deadline after an hour."""
    at, kind = ago(minutes), "ecs" if ecs else "ec2"
    by = at + timedelta(seconds=ecs.start_seconds if ecs else 60)
    return Launch(kind, KEY.name, "n", ids, "eu-west-1", at, by, at + timedelta(hours=1), ecs=ecs)


def thing(
    id: str = "i-1",
    state: str = "running",
    minutes: float = 30,
    key: LaunchKey = KEY,
    more: Mapping[str, str] | None = None,
    **how: Any,
) -> Resource:
    """An instance as it was launched so long ago."""
    tags = key.tags(launched(minutes)) | {TAG_PREFIX + name: value for name, value in (more or {}).items()}
    return Resource(Found(id, state, ago(minutes), tags), EC2, attempt=key.token, **how)


def stopped_task(owner: Owner = OWNER, state: str = "STOPPING", **how: Any) -> Resource:
    """An ECS task after StopTask: its tags are gone, its variables are not."""
    found = Found("f" * 32, state, ago(30), {"transient:managed-by": "airflow_transient"}, kind="ecs")
    return Resource(found, ECS, attempt=KEY.token, job=started_by(owner), **how)


def epoch(minutes_ago: float) -> str:
    return str(int(ago(minutes_ago).timestamp()))


WAITING = Task(OWNER, "deferred", launched())
BURST = Task(OWNER, "deferred", launched(ids=("f" * 32,), ecs=TERMS))
MARKED = {"orphan-since": epoch(2)}


@dataclass(frozen=True)
class Case:
    """What Airflow waits for, what AWS shows, what Airflow says of the others -> what is told of the first row."""

    tasks: tuple[Task, ...] = ()
    things: tuple[Resource, ...] = ()
    states: Mapping[Owner, str | None] | None = None
    looks: tuple[Look, ...] = ()
    phase: str = "running"
    state: str = "running"
    task_state: str | None = "deferred"
    mismatch: str | None = None
    says: str = ""
    note: str | None = None


def orphan(state: str | None = "failed") -> dict[Owner, str | None]:
    return {OWNER: state}


CASES: dict[str, Case] = {
    "a task waits and its machine is there": Case((WAITING,), (thing(),)),
    "its machine starts": Case((WAITING,), (thing(state="pending"),), phase="starting", state="starting"),
    "its machine shuts down": Case((WAITING,), (thing(state="shutting-down"),), phase="ending", state="ending"),
    "two of three are left": Case(
        (Task(OWNER, "deferred", launched(ids=("i-1", "i-2", "i-3"))),),
        (thing(), thing("i-2", "pending")),
        phase="1 running, 1 starting, 1 ended",
    ),
    "all that AWS shows has ended a minute ago": Case(
        (WAITING,),
        (thing(state="terminated", ended=ago(1)),),
        phase="ended",
        state="ended",
        note="its task says how it ended at its next look",
    ),
    "it ended long ago and its task still waits": Case(
        (WAITING,),
        (thing(state="terminated", ended=ago(9)),),
        phase="ended",
        state="ended",
        mismatch="task without resource",
        says=UNJUDGED,
    ),
    "it ended, and nobody says when": Case(
        (WAITING,),
        (thing(state="terminated"),),
        phase="ended",
        state="ended",
        note="its task says how it ended at its next look",
    ),
    "AWS knows nothing of what a task waits for": Case(
        (WAITING,),
        phase="nothing of it is there any more",
        state="ended",
        mismatch="task without resource",
        says=FORGOTTEN,
    ),
    "launched a moment ago": Case(
        (Task(OWNER, "deferred", launched(1)),),
        phase="launched a moment ago, and not yet shown by AWS",
        state="starting",
    ),
    "AWS was not to be asked": Case(
        (WAITING,),
        looks=(Look(EC2, NOW, error="no"),),
        phase="not seen: AWS could not be asked for all of it",
        state="unknown",
    ),
    "one of two accounts was not to be asked": Case(
        (WAITING,),
        looks=(Look(EC2, NOW), Look(replace(EC2, connection="other"), NOW, error="no")),
        phase="not seen: AWS could not be asked for all of it",
        state="unknown",
    ),
    "AWS showed a part only": Case(
        (WAITING,),
        looks=(Look(EC2, NOW, truncated=True),),
        phase="not seen: AWS could not be asked for all of it",
        state="unknown",
    ),
    "another region was asked": Case(
        (WAITING,),
        looks=(Look(replace(EC2, region="us-east-1"), NOW),),
        phase="not seen: AWS could not be asked for all of it",
        state="unknown",
    ),
    "another cluster was asked": Case(
        (BURST,),
        looks=(Look(replace(ECS, cluster="default"), NOW),),
        phase="not seen: AWS could not be asked for all of it",
        state="unknown",
    ),
    "its cluster was asked by its ARN, and shows nothing": Case(
        (BURST,),
        looks=(Look(replace(ECS, cluster="arn:aws:ecs:eu-west-1:1:cluster/etl"), NOW),),
        phase="nothing of it is there any more",
        state="ended",
        mismatch="task without resource",
        says=FORGOTTEN,
    ),
    "a task that has launched nothing yet": Case(
        (Task(OWNER, "running"),), phase="being launched", state="launching", task_state="running"
    ),
    "a try that has not said yet what it adopted": Case((Task(OWNER, "running"),), (thing(),), task_state="running"),
    "stopped in ECS, without its tags": Case((BURST,), (stopped_task(),), phase="ending", state="ending"),
    "a job's second task waits for what its first one launched": Case(
        (Task(replace(OWNER, task_id="wait"), "deferred", launched()),), (thing(),)
    ),
    "its task has failed": Case(
        (),
        (thing(),),
        orphan(),
        task_state="failed",
        mismatch="resource without task",
        says="its task is failed; the reaper's next pass marks it, and one five minutes later ends it",
    ),
    "its task has failed and a pass marked it": Case(
        (),
        (thing(more=MARKED),),
        orphan(),
        task_state="failed",
        mismatch="resource without task",
        says="its task is failed; marked at 2026-11-21 11:58:00 UTC, the next pass decides",
    ),
    "its task has failed and a pass marked it long ago": Case(
        (),
        (thing(more={"orphan-since": epoch(9)}),),
        orphan(),
        task_state="failed",
        mismatch="resource without task",
        says="its task is failed, and was so at 2026-11-21 11:51:00 UTC; the reaper's next pass ends it",
    ),
    "its task is gone": Case(
        (),
        (thing(),),
        {},
        task_state="gone",
        mismatch="resource without task",
        says="its task is gone: the task instance, its run or its DAG was deleted"
        "; the reaper's next pass marks it, and one five minutes later ends it",
    ),
    "nobody waits and its deadline is long past": Case(
        (),
        (thing(minutes=90),),
        orphan("success"),
        task_state="success",
        mismatch="resource without task",
        says="past its deadline, 2026-11-21 11:30:00 UTC; the reaper's next pass ends it",
    ),
    "nobody waits, and it is on its way out": Case(
        (), (thing(state="shutting-down"),), orphan(), phase="ending", state="ending", task_state="failed"
    ),
    "nobody waits, and a person keeps it": Case(
        (),
        (thing(more={"keep": "ask Ann"}),),
        orphan(),
        task_state="failed",
        note="kept on purpose (transient:keep)",
    ),
    "nobody was ever to wait for it": Case(
        (),
        (thing(more={"unattended": "true"}),),
        orphan("success"),
        task_state="success",
        note="launched for nobody to wait for; its deadline is 2026-11-21 12:30:00 UTC",
    ),
    "held to be looked at": Case(
        (),
        (thing(more={"hold-until": epoch(-60)}),),
        orphan(),
        task_state="failed",
        note="may be held to be looked at until 2026-11-21 13:00:00 UTC",
    ),
    "launched a moment ago for a task that is not waiting yet": Case(
        (), (thing(minutes=1),), {}, task_state="gone", note="launched less than two minutes ago"
    ),
    "between two tries": Case(
        (), (thing(),), orphan("up_for_retry"), task_state="up_for_retry", note="its task is up_for_retry"
    ),
    "Airflow did not say how its task is": Case(
        (), (thing(),), None, task_state=None, note="Airflow did not say how its task is"
    ),
    "Airflow did not say, of what was marked": Case(
        (), (thing(more=MARKED),), None, task_state=None, note="Airflow did not say how its task is"
    ),
    "left of an earlier launch of a task that waits for another": Case(
        (WAITING,),
        (thing(), thing("i-0", key=replace(KEY, launch_id="t0"))),
        mismatch="resource without task",
        says=ANOTHER,
    ),
    "stopped and not terminated": Case(
        (),
        (thing(state="stopped"),),
        orphan(),
        phase="stopped, and its disk still costs",
        task_state="failed",
        mismatch="resource without task",
        says="stopped, not terminated; the reaper's next pass marks it, and one five minutes later ends it",
    ),
}


def rows_of(case: Case) -> tuple[Row, ...]:
    looks = list(case.looks) or [Look(EC2, NOW, case.things), Look(ECS, NOW)]
    return join(case.tasks, looks, case.states, "prod", NOW)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_told_of_a_launch(case: Case) -> None:
    row = rows_of(case)[0]
    assert (row.phase, row.state, row.task_state) == (case.phase, case.state, case.task_state)
    said = (row.mismatch.kind, row.mismatch.words) if row.mismatch else (None, "")
    assert (*said, row.note) == (case.mismatch, case.says, case.note)


NOT_SHOWN: dict[str, Case] = {
    "nothing at all": Case(),
    "of another deployment": Case(things=(thing(key=LaunchKey(replace(OWNER, deployment="test"), "t9")),)),
    "over, and nobody waits": Case(things=(thing(state="terminated"),), states=orphan()),
    "stopped in ECS, and nobody waits: it tells no owner": Case(things=(stopped_task(),), states=orphan()),
}


@pytest.mark.parametrize("case", NOT_SHOWN.values(), ids=NOT_SHOWN)
def test_what_is_no_row(case: Case) -> None:
    assert rows_of(case) == ()


#: What a task's XCom claims to have launched, and it has not: whoever may edit XComs writes there what they like.
STOLEN: dict[str, Resource] = {
    "another DAG's instance, by its id": thing(key=LaunchKey(replace(OWNER, dag_id="other"), "t2")),
    "another DAG's instance, by its token": thing(key=LaunchKey(replace(OWNER, dag_id="other"), "t1")),
    "another run's instance, by its token": thing(key=LaunchKey(replace(OWNER, run_id="other"), "t1")),
    "another DAG's ECS task without tags": stopped_task(replace(OWNER, dag_id="other")),
}


@pytest.mark.parametrize("stolen", STOLEN.values(), ids=STOLEN)
def test_an_xcom_makes_nothing_ours(stolen: Resource) -> None:
    task = Task(OWNER, "deferred", launched(ids=(stolen.found.id,)))
    rows = join([task], [Look(EC2, NOW, (stolen,))], {}, "prod", NOW)
    assert [row.members for row in rows if row.owner == OWNER] == [()]


def test_one_row_for_what_two_connections_show() -> None:
    looks = [Look(EC2, NOW, (thing(),)), Look(replace(EC2, connection="other"), NOW, (thing(),))]
    (row,) = join([WAITING], looks, {}, "prod", NOW)
    assert len(row.members) == 1


def test_mismatches_come_first_then_the_newest() -> None:
    keys = {name: LaunchKey(replace(OWNER, run_id=name), f"t-{name}") for name in ("old", "new", "lost")}
    minutes = {"old": 50, "new": 10, "lost": 30}
    things = tuple(thing(f"i-{name}", minutes=minutes[name], key=keys[name]) for name in keys)
    tasks = [Task(keys[name].owner, "running") for name in ("old", "new")]
    rows = join(tasks, [Look(EC2, NOW, things)], {}, "prod", NOW)
    assert [row.owner.run_id for row in rows] == ["lost", "new", "old"]


def test_airflow_is_asked_for_owners_that_no_waiting_task_answers_for() -> None:
    other = LaunchKey(replace(OWNER, run_id="other"), "t2")
    assert others([WAITING], [Look(EC2, NOW, (thing(), thing("i-2", key=other)))], "prod") == {other.owner}


ASKED_FOR: dict[str, tuple[Task, Look, dict[Place, set[str]]]] = {
    "nothing of it is left": (WAITING, Look(EC2, NOW), {EC2: {"i-1"}}),
    "it is there": (WAITING, Look(EC2, NOW, (thing(),)), {}),
    "nothing was seen at all": (WAITING, Look(EC2, NOW, error="no"), {}),
    "it has launched nothing yet": (Task(OWNER, "running"), Look(EC2, NOW), {}),
}


@pytest.mark.parametrize(("task", "look", "wanted"), ASKED_FOR.values(), ids=ASKED_FOR)
def test_what_aws_is_asked_about_by_id(task: Task, look: Look, wanted: dict[Place, set[str]]) -> None:
    assert to_look_up([task], [look]) == wanted


# --- cost

PRICES = {"m5.large": 0.12, "fargate:vcpu": 0.04, "fargate:gb": 0.005}
HALF_HOUR = {"rates": (("m5.large", 1.0),), "billed_from": ago(30)}

COSTS: dict[str, tuple[tuple[Resource, ...], float | None, str | None]] = {
    "an instance": ((thing(**HALF_HOUR),), 0.06, None),
    "a minute at least": ((thing(**HALF_HOUR | {"billed_from": ago(0.1)}),), 0.002, None),
    "until its end": ((thing(state="terminated", ended=ago(20), **HALF_HOUR),), 0.02, None),
    "without a price": ((thing(rates=(("c7.big", 1.0),), billed_from=ago(30)),), None, "no price for c7.big"),
    "not billed yet": ((thing(rates=(("m5.large", 1.0),)),), None, None),
    "a Fargate task": (
        (thing(rates=(("fargate:vcpu", 0.25), ("fargate:gb", 0.5)), billed_from=ago(60)),),
        0.0125,
        None,
    ),
    "one of two is known": (
        (thing(**HALF_HOUR), thing("i-2", rates=(("c7.big", 1.0),), billed_from=ago(30))),
        0.06,
        "without 1 whose cost is not known, no price for c7.big",
    ),
}


@pytest.mark.parametrize(("members", "usd", "note"), COSTS.values(), ids=COSTS)
def test_what_it_has_cost(members: tuple[Resource, ...], usd: float | None, note: str | None) -> None:
    task = Task(OWNER, "deferred", launched(ids=tuple(m.found.id for m in members)))
    (row,) = join([task], [Look(EC2, NOW, members)], {}, "prod", NOW)
    assert row.cost_at(NOW, PRICES) == (usd, note)


def test_without_any_price_none_is_missed() -> None:
    (row,) = join([WAITING], [Look(EC2, NOW, (thing(**HALF_HOUR),))], {}, "prod", NOW)
    assert row.cost_at(NOW, {}) == (None, None)


def test_what_is_not_shown_any_more_is_not_in_the_cost() -> None:
    task = Task(OWNER, "deferred", launched(ids=("i-1", "i-2")))
    (row,) = join([task], [Look(EC2, NOW, (thing(**HALF_HOUR),))], {}, "prod", NOW)
    assert row.cost_at(NOW, PRICES) == (0.06, "without 1 that AWS does not show any more")


BAD_PRICES = {
    "no JSON": "t3.micro=1",
    "no object": "[1]",
    "no number": '{"t3.micro": "1"}',
    "a truth value": '{"t3.micro": true}',
    "less than nothing": '{"t3.micro": -1}',
    "no price at all": '{"t3.micro": NaN}',
}


@pytest.mark.parametrize("words", BAD_PRICES.values(), ids=BAD_PRICES)
def test_bad_prices_are_said(words: str) -> None:
    with pytest.raises(SpecError, match=r"\[transient\] prices.*nothing has a price"):
        read_prices(words)


@pytest.mark.parametrize("words", [None, "", "  ", "{}"])
def test_no_prices(words: str | None) -> None:
    assert read_prices(words) == {}


def test_prices() -> None:
    assert read_prices('{"t3.micro": 0.0114, "fargate:gb": 0}') == {"t3.micro": 0.0114, "fargate:gb": 0.0}


# --- as JSON


def test_a_row_as_json() -> None:
    (row,) = join([WAITING], [Look(EC2, NOW, (thing(words="i-1 (m5.large)", **HALF_HOUR),))], {}, "prod", NOW)
    assert row.to_dict(NOW, PRICES) == {
        "key": "dag/run/task/-1/t1-1",
        "dag_id": "dag",
        "run_id": "run",
        "task_id": "task",
        "map_index": -1,
        "task_state": "deferred",
        "token": "t1-1",
        "kind": "ec2",
        "ids": ["i-1"],
        "count": 1,
        "resource": "i-1 (m5.large)",
        "region": "eu-west-1",
        "cluster": None,
        "phase": "running",
        "state": "running",
        "since": "2026-11-21T11:30:00+00:00",
        "deadline": "2026-11-21T12:30:00+00:00",
        "overdue": False,
        "cost_usd": 0.06,
        "cost_note": None,
        "mismatch": None,
        "note": None,
        "stopping": False,
    }


def test_a_row_of_what_nobody_waits_for_tells_what_its_tags_say() -> None:
    things = tuple(thing(f"i-{n}", minutes=90) for n in range(7))
    (row,) = join([], [Look(EC2, NOW, things)], orphan(), "prod", NOW)
    said = row.to_dict(NOW, {})
    assert (said["token"], said["count"], len(said["ids"]), said["resource"]) == ("t1-1", 7, 5, "7 instances")
    assert (said["deadline"], said["overdue"]) == ("2026-11-21T11:30:00+00:00", True)
    assert said["mismatch"]["kind"] == "resource without task"
