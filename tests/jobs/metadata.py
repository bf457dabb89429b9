"""Airflow's metadata database as jobs leave it: DAG files that are really parsed, runs, tasks and XComs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import get_ident
from typing import Any

#: What a DAG file of jobs looks like to Airflow; which DAGs, its neighbour says.
DAG_FILE = """
import json
from datetime import datetime, timezone
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

said = json.loads(Path(__file__).with_suffix(".json").read_text())
start = datetime(2026, 1, 1, tzinfo=timezone.utc)
globals()["service"] = DAG(said["service"], description=f"The jobs, revision {said['revision']}", schedule=None)
for dag_id, paused in said["dags"].items():
    with DAG(dag_id, start_date=start, schedule="* * * * *", is_paused_upon_creation=paused) as dag:
        EmptyOperator(task_id="launch") >> EmptyOperator(task_id="wait")
    globals()[dag_id] = dag
"""
BUNDLE = "jobs-tests"


@dataclass
class DagFile:
    """One in a bundle of its own, parsed when the test says so."""

    folder: Path
    name: str = "jobs"
    service: str = "transient_jobs"

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.py"

    @property
    def place(self) -> tuple[str, str]:
        return BUNDLE, self.path.name

    def parse(self, dags: Mapping[str, bool], revision: int = 1, text: str = DAG_FILE) -> None:
        """As the DAG processor does: DAG id -> paused upon creation."""
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

        said = {"service": self.service, "revision": revision, "dags": dict(dags)}
        self.path.with_suffix(".json").write_text(json.dumps(said))
        self.path.write_text(text)
        bag = DagBag(self.path, bundle_path=self.folder, bundle_name=BUNDLE)
        with session() as here:
            sync_bag_to_db(bag, BUNDLE, None, session=here)


@contextmanager
def session() -> Iterator[Any]:
    from airflow.utils.session import create_session

    with create_session(scoped=False) as made:
        yield made


def empty_database() -> None:
    """Made, and without what other tests have left of jobs."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.db import initdb
    from sqlalchemy import select

    initdb()
    forget_dags()
    with session() as here:
        if here.scalar(select(DagBundleModel).where(DagBundleModel.name == BUNDLE)) is None:
            here.add(DagBundleModel(name=BUNDLE))


def forget_dags() -> None:
    from airflow.api.common.delete_dag import delete_dag
    from airflow.models.dag import DagModel
    from airflow.models.dagbag import DagPriorityParsingRequest
    from sqlalchemy import delete, or_, select

    ours = or_(DagModel.dag_id.like("job.%"), DagModel.dag_id.like("transient_jobs%"))
    with session() as here:
        for dag_id in here.scalars(select(DagModel.dag_id).where(ours)).all():
            delete_dag(dag_id, session=here)
        here.execute(delete(DagPriorityParsingRequest))


def dag(dag_id: str) -> Any:
    from airflow.models.dag import DagModel

    with session() as here:
        return here.get(DagModel, dag_id)


def due() -> set[str]:
    """The DAGs for which the scheduler would make a run now."""
    from airflow.models.dag import DagModel

    with session() as here:
        models, _ = DagModel.dags_needing_dagruns(here)
        return {model.dag_id for model in models}


def requested() -> set[tuple[str, str]]:
    """The files that the DAG processor is asked to parse."""
    from airflow.models.dagbag import DagPriorityParsingRequest
    from sqlalchemy import select

    with session() as here:
        rows = here.scalars(select(DagPriorityParsingRequest)).all()
        return {(row.bundle_name, row.relative_fileloc) for row in rows}


def claim() -> set[tuple[str, str]]:
    """As the DAG processor takes the requests, whatever it does with them then."""
    from airflow.models.dagbag import DagPriorityParsingRequest
    from sqlalchemy import delete

    files = requested()
    with session() as here:
        here.execute(delete(DagPriorityParsingRequest))
    return files


def add_run(dag_id: str, at: datetime, **states: str | None) -> str:
    """A run for this moment, each task in the state given; its id."""
    from airflow.models.dagbag import DBDagBag
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    with session() as here:
        found = DBDagBag().get_latest_version_of_dag(dag_id, session=here)
        assert found is not None
        run = found.create_dagrun(
            run_id=f"scheduled__{at.isoformat()}",
            logical_date=at,
            data_interval=(at, at),
            run_after=at,
            run_type=DagRunType.SCHEDULED,
            triggered_by=DagRunTriggeredByType.TIMETABLE,
            state=DagRunState.RUNNING,
            session=here,
        )
        for task in run.task_instances:
            task.state = states.get(task.task_id)
        return str(run.run_id)


def launched(dag_id: str, run_id: str, launch: Any, task: str = "launch", key: str = "launch") -> None:
    """The XCom of a launch, as a worker leaves it."""
    from airflow.models.xcom import XComModel

    with session() as here:
        XComModel.set(key=key, value=launch, task_id=task, dag_id=dag_id, run_id=run_id, serialize=False, session=here)


def states(dag_id: str, run_id: str) -> dict[str, str | None]:
    """Of the run (under "") and of its tasks."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    ours = {"dag_id": dag_id, "run_id": run_id}
    with session() as here:
        tasks = here.execute(select(TaskInstance.task_id, TaskInstance.state).filter_by(**ours)).all()
        run = here.scalar(select(DagRun).filter_by(**ours))
        return {"": str(run.state), **{task: state and str(state) for task, state in tasks}}


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL that this thread sends while it lasts."""
    from airflow import settings
    from sqlalchemy import event

    sent: list[str] = []
    here = get_ident()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if get_ident() == here:
            sent.append(statement)

    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)
