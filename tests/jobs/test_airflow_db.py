"""What the jobs ask and tell Airflow, on a real metadata database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from airflow_transient.jobs import airflow_db, runs
from airflow_transient.jobs.airflow_db import AirflowDatabase
from airflow_transient.jobs.insisting import Insistence
from airflow_transient.jobs.port import AirflowUnreachable, NoJobsFile
from airflow_transient.jobs.reading import Shard
from airflow_transient.jobs.refusals import NotKnownYet
from airflow_transient.jobs.service import Jobs
from tests.jobs import metadata
from tests.jobs.fakes import MemoryStore
from tests.jobs.metadata import DagFile

pytestmark = [pytest.mark.slow, pytest.mark.airflow]

NOW = datetime.now(timezone.utc).replace(microsecond=0)
LONG_AGO = NOW - timedelta(days=365)
EARLIER = NOW - timedelta(hours=1)


@pytest.fixture(scope="module", autouse=True)
def database() -> Iterator[None]:
    metadata.empty_database()
    yield
    metadata.forget_dags()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[DagFile]:
    yield DagFile(tmp_path)
    airflow_db._insistence().wait(5)
    airflow_db._insistence.cache_clear()
    metadata.forget_dags()


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> AirflowDatabase:
    monkeypatch.setattr(airflow_db, "Insistence", lambda *verbs: Insistence(*verbs, every=0.02, at_most=5))
    return AirflowDatabase()


# --- the DAG files


def test_without_a_dag_file_of_jobs_it_says_what_to_write(airflow: AirflowDatabase) -> None:
    with pytest.raises(NoJobsFile, match=r"add one with this line: from airflow_transient\.jobs import build_dags"):
        airflow.ready()
    with pytest.raises(NoJobsFile):
        airflow.reparse(["job.a"], 1)


def test_a_dag_file_without_any_job_is_enough(airflow: AirflowDatabase, file: DagFile) -> None:
    file.parse({})
    airflow.ready()


def test_a_dag_file_that_does_not_load_is_there_all_the_same(airflow: AirflowDatabase, file: DagFile) -> None:
    file.parse({})
    file.parse({}, text="from airflow.sdk import DAG\n1 / 0\n")
    airflow.ready()


def test_only_the_file_that_holds_the_job_is_parsed(airflow: AirflowDatabase, file: DagFile) -> None:
    file.parse({"job.a": False})
    others = [DagFile(file.folder, f"other{part}", f"transient_jobs.{part}") for part in (1, 2)]
    others[0].parse({"job.b": False})
    airflow.reparse(["job.b"], 1)
    assert metadata.claim() == {others[0].place}
    others[1].parse({})
    (part,) = (part for part in range(3) if Shard(part, 3).holds("new"))
    airflow.reparse(["job.new"], 1)
    assert metadata.claim() == {[file, *others][part].place}


def test_where_parts_are_missing_every_file_is_parsed_for_a_new_job(airflow: AirflowDatabase, file: DagFile) -> None:
    file.parse({})
    other = DagFile(file.folder, "other", "transient_jobs.2")
    other.parse({})
    airflow.reparse(["job.new"], 1)
    assert metadata.claim() == {file.place, other.place}


def test_asking_twice_is_asking_once(airflow: AirflowDatabase, file: DagFile) -> None:
    file.parse({"job.a": False})
    airflow.reparse(["job.a"], 1)
    airflow.reparse(["job.a"], 1)
    assert metadata.requested() == {file.place}


def test_a_request_that_got_lost_is_made_again_until_the_documents_are_known(
    airflow: AirflowDatabase, file: DagFile
) -> None:
    """The DAG processor drops requests for a file that it is just parsing."""
    from tests.waiting import eventually

    file.parse({"job.a": False}, revision=4)
    airflow.reparse(["job.a"], 5)
    for _ in range(3):
        assert eventually(metadata.claim) == {file.place}
    assert not airflow.parsed(0)
    file.parse({"job.a": False}, revision=5)
    assert airflow.parsed(5)


def test_a_parse_that_was_under_way_brings_no_deleted_job_back(airflow: AirflowDatabase, file: DagFile) -> None:
    file.parse({"job.a": False}, revision=1)
    airflow.set_paused("job.a", True)
    airflow.forget("job.a")
    airflow.reparse(["job.a"], 2)
    file.parse({"job.a": False}, revision=1)
    assert airflow.known("job.a")
    file.parse({}, revision=2)
    assert airflow.parsed(5)
    assert not airflow.known("job.a")


def test_a_job_that_another_process_made_again_is_not_forgotten(airflow: AirflowDatabase, file: DagFile) -> None:
    file.parse({"job.a": False}, revision=1)
    airflow.set_paused("job.a", True)
    airflow.forget("job.a")
    airflow.reparse(["job.a"], 2)
    another = AirflowDatabase()
    another.set_paused("job.a", False)
    file.parse({"job.a": False}, revision=3)
    assert airflow.parsed(5)
    assert airflow.known("job.a")


# --- paused


def test_what_is_paused_is_what_airflow_says(airflow: AirflowDatabase, file: DagFile) -> None:
    file.parse({"job.a": False, "job.b": True})
    assert airflow.paused(["job.a", "job.b", "job.unknown"]) == {"job.a": False, "job.b": True}
    airflow.set_paused("job.a", True)
    airflow.set_paused("job.unknown", True)
    assert airflow.paused(["job.a", "job.unknown"]) == {"job.a": True}
    assert metadata.due() == set()


def test_a_resumed_dag_waits_for_the_next_parse(airflow: AirflowDatabase, file: DagFile) -> None:
    """What the last parse worked out may be a fire of the time in which it was paused."""
    file.parse({"job.a": True})
    airflow.set_paused("job.a", False)
    assert (metadata.due(), metadata.dag("job.a").next_dagrun_create_after) == (set(), None)
    file.parse({"job.a": True})
    assert metadata.dag("job.a").is_paused is False
    assert metadata.dag("job.a").next_dagrun_create_after is not None


def test_a_dag_whose_schedule_has_changed_fires_by_the_new_one_only(airflow: AirflowDatabase, file: DagFile) -> None:
    file.parse({"job.a": False, "job.b": False})
    _make_due("job.a", "job.b")
    assert metadata.due() == {"job.a", "job.b"}
    airflow.hold(["job.a"])
    assert metadata.due() == {"job.b"}


def _make_due(*dag_ids: str) -> None:
    """As if their moment had come."""
    with metadata.session() as session:
        for dag_id in dag_ids:
            model = session.get(type(metadata.dag(dag_id)), dag_id)
            model.next_dagrun = model.next_dagrun_create_after = EARLIER


def test_a_job_of_a_deleted_jobs_id_begins_with_a_clean_sheet(airflow: AirflowDatabase, file: DagFile) -> None:
    file.parse({"job.a": False})
    run_id = metadata.add_run("job.a", EARLIER, launch="running")
    airflow.set_paused("job.a", True)
    airflow.forget("job.a")
    airflow.begin({"job.a": False, "job.unknown": True})
    assert metadata.states("job.a", run_id)[""] == "failed"
    assert (airflow.known("job.a"), metadata.due()) == (False, set())
    file.parse({"job.a": False})
    assert (airflow.known("job.a"), airflow.paused(["job.a"])) == (True, {"job.a": False})


# --- runs


def test_ending_a_run_fails_what_runs_and_waits_and_lets_its_triggers_go(
    airflow: AirflowDatabase, file: DagFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PATIENCE", 0.0)  # no triggerer lives here
    file.parse({"job.a": False})
    over = metadata.add_run("job.a", EARLIER - timedelta(hours=1), launch="success", wait="success")
    _end(over)
    run_id = metadata.add_run("job.a", EARLIER, launch="running", wait="deferred")
    trigger_id = _defer("job.a", run_id, "wait")
    queued = metadata.add_run("job.a", EARLIER + timedelta(minutes=1), launch="queued", wait=None)
    assert airflow.end_runs("job.a") == 2
    assert metadata.states("job.a", run_id) == {"": "failed", "launch": "failed", "wait": "failed"}
    assert metadata.states("job.a", queued) == {"": "failed", "launch": "skipped", "wait": "skipped"}
    assert metadata.states("job.a", over) == {"": "success", "launch": "success", "wait": "success"}
    assert not _is_a_triggers_business(trigger_id), "the triggerer cancels it, which calls on_kill"
    assert airflow.end_runs("job.a") == 0


def test_an_ending_waits_until_a_triggerer_has_begun_the_wait(airflow: AirflowDatabase, file: DagFile) -> None:
    """Before, the mark would keep Airflow from starting the trigger: nobody would stop the launch."""
    file.parse({"job.a": False})
    young = timedelta(seconds=1)
    # What the ending finds, look by look: no triggerer has taken it, one has just now, one has a while ago.
    then = iter([{"triggerer_id": None}, {"triggerer_id": 1, "created_date": datetime.now(timezone.utc) - young}])
    run_id = metadata.add_run("job.a", EARLIER, launch="success", wait="deferred")
    trigger_id = _defer("job.a", run_id, "wait")
    found = []

    def sleep(_seconds: float) -> None:
        found.append(metadata.states("job.a", run_id)["wait"])
        _set_trigger(trigger_id, **next(then, {"created_date": datetime.now(timezone.utc) - runs.BEGUN}))

    runs.until_watched(metadata.session, ["job.b"], sleep)
    assert found == [], "another job's trigger is waited for"
    runs.until_watched(metadata.session, ["job.a"], sleep)
    assert found == ["deferred"] * 3
    runs.until_watched(metadata.session, ["job.a"], sleep)
    assert len(found) == 3
    assert airflow.end_runs("job.a") == 1


def test_an_ending_does_not_wait_for_ever(
    airflow: AirflowDatabase, file: DagFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PATIENCE", 0.1)
    file.parse({"job.a": False})
    _defer("job.a", metadata.add_run("job.a", EARLIER, launch="success", wait="deferred"), "wait")
    assert airflow.end_runs("job.a") == 1


def _set_trigger(trigger_id: int, **values: object) -> None:
    from airflow.models.trigger import Trigger
    from sqlalchemy import update

    with metadata.session() as session:
        session.execute(update(Trigger).where(Trigger.id == trigger_id).values(**values))


def _end(run_id: str) -> None:
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    with metadata.session() as session:
        session.scalar(select(DagRun).where(DagRun.run_id == run_id)).set_state("success")


def _defer(dag_id: str, run_id: str, task_id: str) -> int:
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from sqlalchemy import select

    with metadata.session() as session:
        trigger = Trigger(classpath="airflow_transient.triggers.launch.LaunchTrigger", kwargs={})
        session.add(trigger)
        session.flush()
        task = select(TaskInstance).filter_by(dag_id=dag_id, run_id=run_id, task_id=task_id)
        session.scalar(task).trigger_id = trigger.id
        return int(trigger.id)


def _is_a_triggers_business(trigger_id: int) -> bool:
    """Whether a triggerer would go on running it: Airflow's own tidying, and what is left then."""
    from airflow.models.trigger import Trigger

    with metadata.session() as session:
        Trigger.clean_unused(session=session)
    with metadata.session() as session:
        return session.get(Trigger, trigger_id) is not None


def test_a_run_now_is_a_manual_run_in_the_askers_name(airflow: AirflowDatabase, file: DagFile) -> None:
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    file.parse({"job.a": False})
    run_ids = {airflow.run_now("job.a", "ada"), airflow.run_now("job.a")}
    with metadata.session() as session:
        runs = session.scalars(select(DagRun).where(DagRun.dag_id == "job.a")).all()
        assert {run.run_id for run in runs} == run_ids
        assert {(run.run_type, run.state, run.triggering_user_name) for run in runs} == {
            ("manual", "queued", "ada"),
            ("manual", "queued", None),
        }


def test_a_job_that_was_never_parsed_cannot_run(airflow: AirflowDatabase) -> None:
    with pytest.raises(NotKnownYet, match="Job never is saved"):
        airflow.run_now("job.never")


# --- the last start


def test_the_last_start_is_of_the_newest_run_that_launched(airflow: AirflowDatabase, file: DagFile) -> None:
    file.parse({"job.a": False, "job.b": False, "job.never": False})
    for minutes, ids in ((0, ["arn:1"]), (5, ["arn:2", "arn:3"]), (10, None)):
        run_id = metadata.add_run("job.a", EARLIER + timedelta(minutes=minutes))
        if ids is not None:
            metadata.launched("job.a", run_id, {"kind": "ecs", "ids": ids})
        metadata.launched("job.a", run_id, {"ids": ["of another task"]}, task="wait")
    run_id = metadata.add_run("job.b", EARLIER)
    metadata.launched("job.b", run_id, {"ids": ["i-1"]})
    starts = airflow.last_starts(dict.fromkeys(("job.a", "job.b", "job.never"), LONG_AGO))
    assert {dag_id: (start.fired_at, start.tasks) for dag_id, start in starts.items()} == {
        "job.a": (EARLIER + timedelta(minutes=5), (("arn:2", None), ("arn:3", None))),
        "job.b": (EARLIER, (("i-1", None),)),
    }


def test_what_ran_before_the_job_was_made_is_another_jobs(airflow: AirflowDatabase, file: DagFile) -> None:
    file.parse({"job.a": False})
    metadata.launched("job.a", metadata.add_run("job.a", EARLIER), {"ids": ["arn:1"]})
    assert airflow.last_starts({"job.a": EARLIER + timedelta(seconds=1)}) == {}
    assert list(airflow.last_starts({"job.a": EARLIER})) == ["job.a"]


def test_an_xcom_that_is_no_launch_is_no_start(airflow: AirflowDatabase, file: DagFile) -> None:
    """A deployment may keep its XComs elsewhere."""
    file.parse({"job.a": False})
    metadata.launched("job.a", metadata.add_run("job.a", EARLIER), "s3://xcoms/1")
    assert airflow.last_starts({"job.a": LONG_AGO}) == {}


# --- many


def test_a_page_of_a_thousand_jobs_asks_as_often_as_one_of_ten(airflow: AirflowDatabase, file: DagFile) -> None:
    jobs = Jobs(MemoryStore(), airflow, lambda: NOW, lambda low, high: low)
    file.parse({"job.j0": False})
    jobs.import_documents([{"taskDefinition": f"j{n}", "schedule": "0 0"} for n in range(1000)])
    metadata.launched("job.j0", metadata.add_run("job.j0", NOW), {"ids": ["arn:1"]})
    sent = {}
    for count in (10, 1000):
        with metadata.statements() as seen:
            assert len(jobs.list(count=count).jobs) == count
        sent[count] = len(seen)
    assert sent == {10: 2, 1000: 2}


def test_a_database_that_does_not_answer_is_said_so(airflow: AirflowDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow import settings
    from sqlalchemy import create_engine
    from sqlalchemy.orm import sessionmaker

    nowhere = sessionmaker(bind=create_engine("sqlite:////nowhere/at/all.db"))
    monkeypatch.setattr(settings, "NonScopedSession", nowhere)
    with pytest.raises(AirflowUnreachable, match="Airflow's database did not do as asked") as told:
        airflow.paused(["job.a"])
    assert "nowhere" not in str(told.value)
