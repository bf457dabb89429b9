"""Ending the live runs of jobs, so that what they launched ends as well.

Imports and names are those of Airflow 3.3.2, as in jobs/airflow_db.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

#: Airflow never starts the trigger of a task that is marked before a triggerer has begun it, and nobody is left who
#: would stop the launch. A triggerer takes new ones once a second and hands them on at the next (run_once in
#: triggerer_job_runner.py); nothing in the database tells that one has begun.
BEGUN = timedelta(seconds=4)
#: Seconds that an ending waits for that at most: where no triggerer lives, the reaper ends what was launched.
PATIENCE, AGAIN = 15.0, 0.5


def until_watched(
    sessions: Callable[[], AbstractContextManager[Session]],
    dag_ids: Sequence[str],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Until each waiting task of these DAGs has a trigger that runs, and would stop the launch; or `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with sessions() as session:
            if not _unwatched(session, dag_ids):
                return
        sleep(AGAIN)


def _unwatched(session: Session, dag_ids: Sequence[str]) -> bool:
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import or_, select

    young = Trigger.created_date > datetime.now(timezone.utc) - BEGUN
    waits = TaskInstance.dag_id.in_(dag_ids), TaskInstance.state == TaskInstanceState.DEFERRED
    found = select(Trigger.id).join(TaskInstance, TaskInstance.trigger_id == Trigger.id).where(*waits)
    return session.scalar(found.where(or_(Trigger.triggerer_id.is_(None), young)).limit(1)) is not None


def end_runs(session: Session, dag_ids: Sequence[str]) -> int:
    """
    As core_api's `patch_dag_run_state` does to mark a run failed (services/public/dag_run.py): tasks that run or wait
    fail, which ends the triggers of those that wait, and a trigger that ends so stops what its task launched.

    :return: how many runs there were.
    """
    from airflow.api.common.mark_tasks import set_dag_run_state_to_failed
    from airflow.models.dagbag import DBDagBag
    from airflow.models.dagrun import DagRun
    from airflow.utils.state import State
    from sqlalchemy import select

    live = DagRun.dag_id.in_(dag_ids), DagRun._state.in_([str(state.value) for state in State.unfinished_dr_states])
    dags, ended = DBDagBag(), 0
    for run in session.scalars(select(DagRun).where(*live)).all():
        if dag := dags.get_dag_for_run(run, session=session):
            set_dag_run_state_to_failed(dag=dag, run_id=run.run_id, commit=True, session=session)
            ended += 1
    return ended
