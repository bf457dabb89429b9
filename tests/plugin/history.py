"""What Airflow would have written down: runs, task instances, XComs and rendered fields, in its own tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4


def dag(dag_id: str, paused: bool = False) -> None:
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel

    with _session() as session:
        if session.get(DagBundleModel, "tests") is None:
            session.add(DagBundleModel(name="tests"))
            session.flush()
        if session.get(DagModel, dag_id) is None:
            session.add(DagModel(dag_id=dag_id, bundle_name="tests", is_paused=paused, is_stale=False, fileloc="x.py"))


def task(
    dag_id: str = "dag",
    run_id: str = "run",
    task_id: str = "task",
    map_index: int = -1,
    state: str | None = "deferred",
    operator: str = "EcsBurstOperator",
    xcoms: Mapping[str, Any] | None = None,
    rendered: Mapping[str, Any] | None = None,
) -> None:
    """One task instance, started now, and the run it is in."""
    from airflow.models.dagrun import DagRun
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import insert, select

    now = datetime.now(timezone.utc)
    its = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
    with _session() as session:
        find = select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
        if session.scalar(find) is None:
            run = {"dag_id": dag_id, "run_id": run_id, "state": "running", "run_type": "manual", "run_after": now}
            session.execute(insert(DagRun.__table__).values(**run, clear_number=0, span_status="not_started"))
        number = session.scalar(find)
        row = {"id": uuid4(), "state": state, "operator": operator, "start_date": now, "try_number": 1}
        more = {"max_tries": 2, "pool": "default_pool", "pool_slots": 1, "priority_weight": 1}
        session.execute(insert(TaskInstance.__table__).values(**its, **row, **more, span_status="not_started"))
        for key, value in (xcoms or {}).items():
            session.execute(insert(XComModel).values(dag_run_id=number, key=key, value=value, timestamp=now, **its))
        if rendered:
            session.execute(insert(RenderedTaskInstanceFields).values(**its, rendered_fields=dict(rendered)))


def forget_everything() -> None:
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.log import Log
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import delete

    with _session() as session:
        for model in (XComModel, RenderedTaskInstanceFields, TaskInstance, DagRun, Log, DagModel):
            session.execute(delete(model))


def audited() -> list[tuple[str, str, str, str]]:
    from airflow.models.log import Log
    from sqlalchemy import select

    with _session() as session:
        rows = session.execute(select(Log.event, Log.owner, Log.dag_id, Log.extra).order_by(Log.id))
        return [(event, owner, dag_id, extra) for event, owner, dag_id, extra in rows if event.startswith("transient")]


def _session() -> Any:
    from airflow.utils.session import create_session

    return create_session(scoped=False)
