"""The jobs' verbs: what they write, what they tell Airflow, and in which order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_transient.jobs.document import InvalidDocument
from airflow_transient.jobs.port import LastStart, NoJobsFile
from airflow_transient.jobs.refusals import (
    BadQuery,
    JobExists,
    JobSuspended,
    NoSuchJob,
    NotKnownYet,
    SavedButNotTold,
    StaleRevision,
)
from airflow_transient.jobs.store import StoreError
from airflow_transient.jobs.view import Window
from tests.jobs.fakes import NOON, World

SLEEPER = {"taskDefinition": "sleeper", "schedule": "0 */5"}
PAGES = json.loads((Path(__file__).parents[1] / "data" / "ecs_scheduler_pagination.json").read_text())["pagination"]


@pytest.fixture
def world() -> World:
    return World()


# --- create


def test_a_job_is_saved_and_then_airflow_is_told(world: World) -> None:
    job = world.jobs.create({"taskDefinition": "sleeper", "schedule": "? ? ?"})
    assert job == world.stored()
    assert job.raw == {"id": "sleeper", "taskDefinition": "sleeper", "taskCount": 1, "schedule": "7 8 9"}
    assert (job.revision, job.created_at, job.not_before) == (1, NOON, NOON)
    assert world.told() == [("begin", {"job.sleeper": False}), ("reparse", "job.sleeper", 1)]


def test_a_job_that_is_made_suspended_begins_paused(world: World) -> None:
    world.jobs.create({**SLEEPER, "suspended": True})
    assert world.told()[0] == ("begin", {"job.sleeper": True})


#: case -> what has happened before, the document, the error.
REFUSED: dict[str, tuple[Callable[[World], Any], Any, type[Exception]]] = {
    "not a document": (lambda world: None, [], InvalidDocument),
    "no schedule": (lambda world: None, {"taskDefinition": "sleeper"}, InvalidDocument),
    "the id is taken": (World.has, SLEEPER, JobExists),
    "no DAG file would run it": (lambda world: setattr(world.airflow, "has_file", False), SLEEPER, NoJobsFile),
    "the store cannot be written": (lambda world: setattr(world.store, "broken", True), SLEEPER, StoreError),
}


@pytest.mark.parametrize(("before", "raw", "error"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_writes_and_tells_nothing(
    world: World, before: Callable[[World], Any], raw: Any, error: type[Exception]
) -> None:
    before(world)
    with pytest.raises(error):
        world.jobs.create(raw)
    assert (world.store.writes, world.told()) == (0, [])


def test_two_that_create_the_same_job_at_once_are_one_that_does(world: World) -> None:
    world.store.before_write = world.made_in
    with pytest.raises(JobExists, match=r"^Job sleeper already exists\.$"):
        world.jobs.create(SLEEPER)


def test_a_job_that_airflow_was_not_told_of_is_saved_and_can_be_told_again(world: World) -> None:
    world.airflow.fails_at = "reparse"
    with pytest.raises(SavedButNotTold, match="was saved correctly but failed") as told:
        world.jobs.create(SLEEPER)
    assert told.value.job == world.stored()
    world.airflow.fails_at = None
    world.jobs.change("sleeper", {"taskCount": 1})
    assert world.told()[-1] == ("reparse", "job.sleeper", 1)


def test_a_deleted_job_comes_back_as_a_new_one(world: World) -> None:
    world.has()
    world.airflow.starts["job.sleeper"] = LastStart("scheduled__1", NOON - timedelta(minutes=5))
    world.jobs.delete("sleeper")
    world.told()
    job = world.jobs.create(SLEEPER)
    assert world.told()[0] == ("begin", {"job.sleeper": False})
    assert (world.airflow.dags["job.sleeper"], job.created_at) == (False, NOON)
    assert "lastRun" not in world.jobs.get("sleeper").document
    assert job.revision == 3, "a tag of the earlier job must not match"


# --- change


#: case -> patch, what Airflow is told, whether nothing of the time before may fire any more.
CHANGES: dict[str, tuple[dict[str, Any], list[tuple[Any, ...]], bool]] = {
    "how many": ({"taskCount": 2}, [("reparse", "job.sleeper", 2)], False),
    "schedule": ({"schedule": "0 */7"}, [("hold", "job.sleeper"), ("reparse", "job.sleeper", 2)], True),
    "timezone": ({"timezone": "Europe/Paris"}, [("hold", "job.sleeper"), ("reparse", "job.sleeper", 2)], True),
    "start": (
        {"scheduleStart": "2026-01-01T00:00:00Z"},
        [("hold", "job.sleeper"), ("reparse", "job.sleeper", 2)],
        True,
    ),
    "end": ({"scheduleEnd": "2027-01-01T00:00:00Z"}, [("hold", "job.sleeper"), ("reparse", "job.sleeper", 2)], True),
    "suspended": ({"suspended": True}, [("pause", "job.sleeper"), ("reparse", "job.sleeper", 2)], False),
    "the same schedule": ({"schedule": "0 */5"}, [("reparse", "job.sleeper", 1)], False),
    "the same": ({"taskCount": 1}, [("reparse", "job.sleeper", 1)], False),
    "nothing": ({}, [], False),
}


@pytest.mark.parametrize(("patch", "told", "moved"), CHANGES.values(), ids=CHANGES)
def test_a_change(world: World, patch: dict[str, Any], told: list[tuple[Any, ...]], moved: bool) -> None:
    before = world.has()
    job = world.jobs.change("sleeper", patch)
    assert job == world.stored()
    assert job.raw == {**before.raw, **_utc(patch)}
    assert job.revision == (1 if job.raw == before.raw else 2)
    assert job.not_before == (NOON if moved else before.not_before)
    assert job.created_at == before.created_at
    assert world.told() == told


def _utc(patch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.replace("Z", "+00:00") if isinstance(value, str) else value for name, value in patch.items()}


def test_a_resume_makes_up_for_nothing(world: World) -> None:
    world.has(suspended=True)
    job = world.jobs.change("sleeper", {"suspended": False})
    assert (job.raw["suspended"], job.not_before, job.revision) == (False, NOON, 2)
    assert world.told() == [("resume", "job.sleeper"), ("hold", "job.sleeper"), ("reparse", "job.sleeper", 2)]


def test_what_was_paused_in_the_ui_is_resumed_although_its_document_stays_as_it_is(world: World) -> None:
    world.has(suspended=False)
    world.airflow.dags["job.sleeper"] = True
    job = world.jobs.change("sleeper", {"suspended": False})
    assert (job.not_before, job.revision, world.airflow.dags["job.sleeper"]) == (NOON, 2, False)


def test_what_is_running_is_not_resumed(world: World) -> None:
    before = world.has(suspended=False)
    assert world.jobs.change("sleeper", {"suspended": False}) == before


def test_a_change_of_something_else_leaves_paused_what_was_paused_in_the_ui(world: World) -> None:
    world.has()
    world.airflow.dags["job.sleeper"] = True
    world.jobs.change("sleeper", {"taskCount": 3})
    assert world.airflow.dags["job.sleeper"] is True


def test_a_question_mark_is_drawn_again_only_with_a_schedule(world: World) -> None:
    world.jobs.create({**SLEEPER, "schedule": "? */5"})
    assert world.stored().raw["schedule"] == "7 */5"
    world.jobs.change("sleeper", {"taskCount": 2})
    assert world.stored().raw["schedule"] == "7 */5"
    world.jobs.change("sleeper", {"schedule": "? */5"})
    assert world.stored().raw["schedule"] != "7 */5"


def test_whether_it_exists_is_looked_at_first(world: World) -> None:
    with pytest.raises(NoSuchJob, match=r"^Job sleeper does not exist\.$"):
        world.jobs.change("sleeper", {"taskCount": "x"})
    world.has()
    with pytest.raises(StaleRevision):
        world.jobs.change("sleeper", {"taskCount": "x"}, if_revision=9)
    with pytest.raises(InvalidDocument) as told:
        world.jobs.change("sleeper", {"taskCount": "x"}, if_revision=1)
    assert told.value.messages == {"taskCount": ["Not a valid integer."]}
    assert (world.store.writes, world.told()) == (0, [])


def test_two_changes_at_once_are_both_kept(world: World) -> None:
    world.has()
    world.store.before_write = lambda snapshot: world.changed_in(snapshot, maxCount=9)
    job = world.jobs.change("sleeper", {"taskCount": 3})
    assert (job.raw["taskCount"], job.raw["maxCount"], job.revision) == (3, 9, 3)


def test_with_if_match_the_second_of_two_changes_is_refused(world: World) -> None:
    world.has()
    world.store.before_write = lambda snapshot: world.changed_in(snapshot, maxCount=9)
    with pytest.raises(StaleRevision) as told:
        world.jobs.change("sleeper", {"taskCount": 3}, if_revision=1)
    assert told.value.revision == 2
    assert world.told() == []


# --- delete


def test_a_deletion_ends_what_runs_before_the_document_goes(world: World) -> None:
    """So that what dies half way leaves a job that can be deleted again."""
    world.has()
    world.airflow.runs["job.sleeper"] = 2
    there = []
    end_runs = world.airflow.end_runs
    world.airflow.end_runs = lambda dag_id: there.append("sleeper" in world.store.snapshot.jobs) or end_runs(dag_id)  # type: ignore[func-returns-value,method-assign]
    deleted = world.jobs.delete("sleeper")
    assert (deleted.id, deleted.ended, there) == ("sleeper", 2, [True])
    assert world.told() == [
        ("pause", "job.sleeper"),
        ("end_runs", "job.sleeper"),
        ("forget", "job.sleeper"),
        ("reparse", "job.sleeper", 2),
    ]
    with pytest.raises(NoSuchJob):
        world.jobs.delete("sleeper")


#: case -> what goes wrong, what is raised, whether the job goes on as before.
HALF_DELETED: dict[str, tuple[Callable[[World], Any], type[Exception], bool]] = {
    "it cannot be paused": (lambda world: setattr(world.airflow, "fails_at", "pause"), Exception, True),
    "its runs cannot be ended": (lambda world: setattr(world.airflow, "fails_at", "end_runs"), Exception, True),
    "the store cannot be written": (lambda world: setattr(world.store, "broken", True), StoreError, True),
    "Airflow is told too late": (lambda world: setattr(world.airflow, "fails_at", "forget"), SavedButNotTold, False),
}


@pytest.mark.parametrize(("spoil", "error", "goes_on"), HALF_DELETED.values(), ids=HALF_DELETED)
def test_half_a_deletion(world: World, spoil: Callable[[World], Any], error: type[Exception], goes_on: bool) -> None:
    world.has()
    spoil(world)
    with pytest.raises(error):
        world.jobs.delete("sleeper")
    assert ("sleeper" in world.store.snapshot.jobs) is goes_on
    assert world.airflow.dags["job.sleeper"] is not goes_on
    if goes_on and world.airflow.fails_at != "pause":
        assert world.told()[-2:] == [("resume", "job.sleeper"), ("reparse", "job.sleeper", 1)]


def test_a_deletion_of_another_revision_touches_nothing(world: World) -> None:
    world.has()
    with pytest.raises(StaleRevision):
        world.jobs.delete("sleeper", if_revision=7)
    assert world.told() == []


# --- read


def test_what_airflow_adds_to_a_document(world: World) -> None:
    world.has(timezone="America/New_York", schedule="0 30 9")
    world.airflow.starts["job.sleeper"] = LastStart(
        "scheduled__1", NOON - timedelta(hours=2), (("arn:1", "arn:host"), ("arn:2", None))
    )
    shown = world.jobs.get("sleeper")
    assert shown.document == {
        "id": "sleeper",
        "taskDefinition": "sleeper",
        "taskCount": 1,
        "schedule": "0 30 9",
        "timezone": "America/New_York",
        "lastRun": "2026-11-23T05:00:00-05:00",
        "lastRunTasks": [{"taskId": "arn:1", "hostId": "arn:host"}, {"taskId": "arn:2"}],
        "estimatedNextRun": "2026-11-23T09:30:00-05:00",
    }
    assert shown.etag == f"1-{shown.runtime}"


def test_a_document_of_the_readme_is_what_the_readme_prints(world: World) -> None:
    world.has(schedule="9 */5")
    document = dict(world.jobs.get("sleeper").document)
    del document["estimatedNextRun"]  # which the original had only once its daemon ran
    assert document == {"id": "sleeper", "schedule": "9 */5", "taskCount": 1, "taskDefinition": "sleeper"}


#: case -> document, what Airflow says (None: it does not know the DAG yet), what is shown, whether a next run is.
SUSPENDED: dict[str, tuple[dict[str, Any], bool | None, bool | None, bool]] = {
    "never heard of": ({}, False, None, True),
    "paused in the UI": ({}, True, True, False),
    "resumed in the UI": ({"suspended": True}, False, False, True),
    "suspended, and not parsed yet": ({"suspended": True}, None, True, False),
    "not parsed yet": ({}, None, None, True),
    "never fires again": ({"schedule": "0 0 0 * * * * 2020"}, False, None, False),
    "has ended": ({"scheduleEnd": "2026-01-01T00:00:00Z"}, False, None, False),
}


@pytest.mark.parametrize(("document", "paused", "said", "fires"), SUSPENDED.values(), ids=SUSPENDED)
def test_suspended_is_what_airflow_says(
    world: World, document: dict[str, Any], paused: bool | None, said: bool | None, fires: bool
) -> None:
    world.has(**document)
    world.airflow.dags = {} if paused is None else {"job.sleeper": paused}
    shown = world.jobs.get("sleeper").document
    assert (shown.get("suspended"), "estimatedNextRun" in shown) == (said, fires)


def test_the_tag_changes_with_the_document_and_with_what_airflow_adds(world: World) -> None:
    world.has()
    first = world.jobs.get("sleeper")
    world.airflow.starts["job.sleeper"] = LastStart("scheduled__1", NOON)
    ran = world.jobs.get("sleeper")
    world.jobs.change("sleeper", {"taskCount": 2})
    changed = world.jobs.get("sleeper")
    assert len({first.etag, ran.etag, changed.etag}) == 3
    assert first.revision == ran.revision != changed.revision
    assert ran.runtime == changed.runtime


def test_a_damaged_document_is_shown_with_its_error_and_spoils_no_list(world: World) -> None:
    world.has()
    world.has("other")
    world.damage("sleeper", schedule="every monday")
    (damaged, other) = world.jobs.list().jobs
    assert damaged.document == {"id": "sleeper", "error": damaged.error}
    assert list(damaged.error or ()) == ["parsedSchedule"]
    assert other.error is None


def test_a_damaged_document_is_mended_by_a_whole_one_only(world: World) -> None:
    before = world.has()
    world.damage("sleeper", schedule="every monday")
    with pytest.raises(InvalidDocument):
        world.jobs.change("sleeper", {"taskCount": 2})
    job = world.jobs.change("sleeper", {"taskDefinition": "sleeper", "schedule": "0 */7", "taskCount": 2})
    assert (job.raw["schedule"], job.not_before, job.created_at) == ("0 */7", NOON, before.created_at)
    assert world.jobs.get("sleeper").error is None


def test_a_damaged_document_can_be_deleted(world: World) -> None:
    world.has()
    world.damage("sleeper", taskCount=["many"])
    world.jobs.delete("sleeper")
    assert world.store.snapshot.jobs == {}


# --- list


def page_id(case: Mapping[str, Any]) -> str:
    return f"skip {case['skip']}, count {case['count']} of {case['total']}"


@pytest.mark.parametrize("case", PAGES, ids=page_id)
def test_pages_are_the_originals(world: World, case: dict[str, Any]) -> None:
    for number in range(case["total"]):
        world.has(f"job-{number}")
    page = world.jobs.list(case["skip"], case["count"])
    assert (len(page.jobs), page.total) == (case["returned"], case["total"])
    assert _params(page.prev) == case["prev_params"]
    assert _params(page.next) == case["next_params"]
    assert [shown.id for shown in page.jobs] == [f"job-{case['skip'] + n}" for n in range(case["returned"])]


def _params(window: Window | None) -> dict[str, int] | None:
    return None if window is None else window.params()


def test_the_way_back_to_the_first_page_is_not_lost(world: World) -> None:
    """In the original, its link had no parameters, and so was none."""
    for number in range(15):
        world.has(f"job-{number}")
    assert world.jobs.list(skip=10).prev == Window(0, 10)
    assert Window(0, 10).params() == {}


def test_a_page_of_no_size_has_no_neighbours_and_negative_numbers_are_zero(world: World) -> None:
    world.has()
    empty = world.jobs.list(skip=1, count=0)
    assert (empty.jobs, empty.prev, empty.next) == ((), None, None)
    assert world.jobs.list(skip=-1, count=-5).jobs == ()


def test_a_list_holds_what_the_reader_may_see_and_counts_no_more(world: World) -> None:
    for name in ("mine", "yours", "ours"):
        world.has(name)
    page = world.jobs.list(count=1, may_read=lambda ids: [id for id in ids if id != "yours"])
    assert ([shown.id for shown in page.jobs], page.total) == (["mine"], 2)
    assert page.next == Window(1, 1)


def test_airflow_is_asked_once_for_a_page(world: World) -> None:
    for number in range(20):
        world.has(f"job-{number}")
    world.airflow.asked.clear()
    assert len(world.jobs.list(count=20).jobs) == 20
    assert world.airflow.asked == ["paused", "last_starts"]


# --- the next fires


def test_the_next_fires_of_a_job(world: World) -> None:
    world.has(timezone="Europe/Paris", schedule="0 0 9 mon-fri")
    preview = world.jobs.next_fires("sleeper", 2)
    assert [fire.isoformat() for fire in preview.fires] == ["2026-11-24T09:00:00+01:00", "2026-11-25T09:00:00+01:00"]
    assert (preview.schedule, preview.drawn, preview.words) == ("0 0 9 mon-fri", False, None)


def test_the_next_fires_of_a_draft(world: World) -> None:
    preview = world.jobs.next_fires({"schedule": "? */5", "taskCount": "not looked at"}, 1)
    assert (preview.schedule, preview.drawn) == ("0 */5", True)
    assert [fire.isoformat() for fire in preview.fires] == ["2026-11-23T12:00:00+00:00"]


def test_a_schedule_that_never_fires_is_said_so(world: World) -> None:
    preview = world.jobs.next_fires({"schedule": "0 0 0 * * 31 2"})
    assert (preview.fires, preview.words) == ((), "This schedule never fires again.")


@pytest.mark.parametrize("count", [0, 101, -1])
def test_fires_are_counted_from_1_to_100(world: World, count: int) -> None:
    with pytest.raises(BadQuery) as told:
        world.jobs.next_fires({"schedule": "0"}, count)
    assert told.value.messages == {"count": ["Must be between 1 and 100."]}


def test_a_draft_is_told_what_is_wrong_with_its_schedule(world: World) -> None:
    with pytest.raises(InvalidDocument) as told:
        world.jobs.next_fires({"schedule": "61"})
    assert list(told.value.messages) == ["parsedSchedule"]
    with pytest.raises(InvalidDocument) as told:
        world.jobs.next_fires({})
    assert told.value.messages == {"schedule": ["Missing data for required field."]}


# --- run


def test_a_run_is_airflows(world: World) -> None:
    world.has()
    assert world.jobs.run("sleeper", by="ada") == "manual__1"
    assert world.told() == [("run", "job.sleeper", "ada")]


def test_a_suspended_job_is_not_run(world: World) -> None:
    """Airflow would make a run of a paused DAG, and start it at the resume."""
    world.has(suspended=True)
    with pytest.raises(JobSuspended, match="resume it first"):
        world.jobs.run("sleeper")
    assert world.told() == []


def test_a_job_that_airflow_has_not_parsed_is_not_run(world: World) -> None:
    world.jobs.create(SLEEPER)
    with pytest.raises(NotKnownYet, match="try again"):
        world.jobs.run("sleeper")


def test_a_job_that_is_not_there_is_not_run(world: World) -> None:
    with pytest.raises(NoSuchJob):
        world.jobs.run("sleeper")


# --- import


def old(name: str, **more: Any) -> dict[str, Any]:
    """As the original kept it."""
    return {"id": name, "taskDefinition": name, "schedule": "0 */5", "lastRun": "2017-04-03T01:00:00+00:00", **more}


def outcomes(answers: Any) -> list[tuple[str | None, str]]:
    return [(answer.id, answer.outcome) for answer in answers]


def test_an_import_is_one_write_and_one_parse(world: World) -> None:
    answers = world.jobs.import_documents([old("a"), old("b", suspended=True), old("c")])
    assert outcomes(answers) == [("a", "created"), ("b", "created"), ("c", "created")]
    assert world.store.writes == 1
    assert {job.revision for job in world.store.snapshot.jobs.values()} == {1}
    assert "lastRun" not in world.stored("a").raw
    assert world.told() == [
        ("begin", {"job.a": False, "job.b": True, "job.c": False}),
        ("hold", "job.a", "job.b", "job.c"),
        ("reparse", "job.a", "job.b", "job.c", 1),
    ]


def test_an_import_says_of_each_document_what_became_of_it(world: World) -> None:
    world.has("there")
    world.has("same", taskDefinition="same")
    documents = [old("new"), old("foo/bar"), old("new"), old("there"), {}, "text", {"schedule": "0"}]
    answers = world.jobs.import_documents(documents)
    assert outcomes(answers) == [
        ("new", "created"),
        ("foo/bar", "refused"),
        ("new", "refused"),
        ("there", "refused"),
        *[(None, "refused")] * 3,
    ]
    assert answers[1].messages is not None
    words = "task definition names must contain only alphanumeric, underscore, and hyphen"
    assert answers[1].messages["taskDefinition"] == [words]
    assert answers[3].messages == {"id": ["Job there already exists."]}
    assert list(world.store.snapshot.jobs) == ["there", "same", "new"]


def test_an_import_replaces_what_is_there_where_it_is_told_to(world: World) -> None:
    before = world.has("there", suspended=True)
    world.has("same", taskDefinition="same")
    world.has("other")
    machine = {"id": "other", "kind": "ec2", "schedule": "0", "command": "true"}
    documents = [old("there", schedule="0 */7", suspended=False), old("same"), {**machine, **_ec2_needs()}]
    answers = world.jobs.import_documents(documents, replace=True)
    assert outcomes(answers) == [("there", "replaced"), ("same", "unchanged"), ("other", "refused")]
    job = world.stored("there")
    assert (job.raw["schedule"], job.created_at, job.not_before) == ("0 */7", before.created_at, NOON)
    assert world.airflow.dags["job.there"] is False
    assert ("hold", "job.there") in world.told()


def _ec2_needs() -> dict[str, Any]:
    return {"imageId": "ami-1", "instanceType": "t3.micro", "maxRuntime": 600}


def test_an_import_of_all_or_nothing(world: World) -> None:
    answers = world.jobs.import_documents([old("a"), old("bad id"), old("b")], all_or_nothing=True)
    assert outcomes(answers) == [("a", "left"), ("bad id", "refused"), ("b", "left")]
    assert (world.store.snapshot.jobs, world.told()) == ({}, [])


def test_a_dry_run_answers_as_if_and_writes_nothing(world: World) -> None:
    world.airflow.has_file = False
    answers = world.jobs.import_documents([old("a"), {}], dry_run=True)
    assert outcomes(answers) == [("a", "created"), (None, "refused")]
    assert (world.store.writes, world.told()) == (0, [])


def test_an_import_that_airflow_was_not_told_of_is_saved(world: World) -> None:
    world.airflow.fails_at = "begin"
    with pytest.raises(SavedButNotTold) as told:
        world.jobs.import_documents([old("a")])
    assert outcomes(told.value.imported) == [("a", "created")]
    assert list(world.store.snapshot.jobs) == ["a"]
