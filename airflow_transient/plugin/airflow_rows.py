"""What Airflow's database says of launches: task instances, their XComs, the fields they were rendered with.

No public interface gives these in one question, so these are queries of our own, in the API server only. Bounded: the
page asks every few seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_transient.core.launch import Launch, Owner
from airflow_transient.core.sources import Task
from airflow_transient.hooks.aws import DEFAULT_CONN_ID
from airflow_transient.jobs.port import DAG_PREFIX, AirflowUnreachable
from airflow_transient.plugin.handles import launch_of, words_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

#: The XComs of operators/launch.py and operators/ecs.py, which bring all of the SDK.
LAUNCH_KEY, VERDICT_KEY, SIZE_KEY, RETURN_KEY = "launch", "verdict", "size", "return_value"
#: Operators whose tasks may not have told yet what they launched.
LAUNCHING = (
    *("TransientEc2Operator", "EcsBurstOperator", "AutoScalingBurstOperator", "BakeImageOperator"),
    *("QueueWorkersOperator", "EcsQueueWorkersOperator", "JobLaunch", "JobWait"),
)
#: States of a task that launches, or waits.
ALIVE = ("running", "deferred")
#: So many tasks are shown; so many of the newest launches tell where to look for what nobody waits for any more.
MOST_TASKS, NEWEST_LAUNCHES, NEWEST_SIZES = 1000, 200, 100
#: So far back these are looked for.
NEWEST_RUNS = 2000
#: Owners in one question.
CHUNK = 100


@dataclass(frozen=True)
class Waiting:
    """A task that launches or waits, and the connection by which it asks AWS."""

    task: Task
    connection: str | None


@dataclass(frozen=True)
class Sized:
    """The newest size that one task of a burst was given, and the words it was rendered with."""

    dag_id: str
    task_id: str
    map_index: int
    run_id: str
    size: Mapping[str, Any]
    words: Mapping[str, Any]


@dataclass(frozen=True)
class Instance:
    """One task instance and what it has told."""

    owner: Owner
    state: str | None
    try_number: int
    operator: str | None
    connection: str | None
    xcoms: Mapping[str, Any]

    @property
    def launch(self) -> Launch | None:
        return launch_of(self.xcoms.get(LAUNCH_KEY))

    @property
    def verdict(self) -> dict[str, Any]:
        """What it returned, where that is a verdict; else what it told when it failed."""
        for key in (RETURN_KEY, VERDICT_KEY):
            if "outcome" in (said := words_of(self.xcoms.get(key))) and "counts" in said:
                return said
        return {}


def waiting(deployment: str) -> list[Waiting]:
    """The newest first; one more than MOST_TASKS says that there are more."""
    from airflow.models.taskinstance import TaskInstance as TI
    from airflow.models.xcom import XComModel as XCom
    from sqlalchemy import and_, or_, select

    told = and_(_same(XCom, TI), XCom.key == LAUNCH_KEY)
    query = (
        select(TI.dag_id, TI.run_id, TI.task_id, TI.map_index, TI.state, TI.start_date, XCom.value, _connection())
        .outerjoin(XCom, told)
        .outerjoin(_rendered(), _same(_rendered(), TI))
        .where(TI.state.in_(ALIVE), or_(TI.operator.in_(LAUNCHING), XCom.key.is_not(None)))
        .order_by(TI.start_date.desc())
        .limit(MOST_TASKS + 1)
    )
    with _session() as session:
        rows = session.execute(query).all()
    return [
        Waiting(Task(Owner(deployment, *owner), str(state), launch_of(launch), since), connection_of(connection))
        for *owner, state, since, launch, connection in rows
    ]


def states(owners: Collection[Owner]) -> dict[Owner, str | None]:
    """Of their task instances; those that are gone are left out."""
    from airflow.models.taskinstance import TaskInstance as TI
    from sqlalchemy import select, tuple_

    found: dict[Owner, str | None] = {}
    with _session() as session:
        for some in _chunks(sorted(owners, key=str)):
            names = [(o.dag_id, o.run_id, o.task_id, o.map_index) for o in some]
            columns = TI.dag_id, TI.run_id, TI.task_id, TI.map_index
            rows = session.execute(select(*columns, TI.state).where(tuple_(*columns).in_(names))).all()
            found |= {Owner(some[0].deployment, d, r, t, i): state and str(state) for d, r, t, i, state in rows}
    return found


def known_dags(dag_ids: Collection[str]) -> set[str]:
    """Those of them that Airflow still has."""
    from airflow.models.dag import DagModel
    from sqlalchemy import select

    with _session() as session:
        return {
            dag_id
            for some in _chunks(sorted(dag_ids))
            for dag_id in session.scalars(select(DagModel.dag_id).where(DagModel.dag_id.in_(some)))
        }


def newest_launches() -> list[tuple[Launch, str | None]]:
    """(launch, connection) of what was launched last, whatever became of it."""
    from airflow.models.xcom import XComModel as XCom
    from sqlalchemy import select

    query = (
        select(XCom.value, _connection())
        .outerjoin(_rendered(), _same(_rendered(), XCom))
        .where(XCom.key == LAUNCH_KEY, XCom.dag_run_id.in_(_newest_runs()))
        .order_by(XCom.dag_run_id.desc())
        .limit(NEWEST_LAUNCHES)
    )
    with _session() as session:
        rows = session.execute(query).all()
    return [(launch, connection_of(name)) for value, name in rows if (launch := launch_of(value))]


def newest_sizes() -> list[Sized]:
    """The newest of each task, of the newest bursts."""
    from airflow.models.xcom import XComModel as XCom
    from sqlalchemy import select

    rendered = _rendered()
    query = (
        select(XCom.dag_id, XCom.task_id, XCom.map_index, XCom.run_id, XCom.value, rendered.rendered_fields)
        .outerjoin(rendered, _same(rendered, XCom))
        .where(XCom.key == SIZE_KEY, XCom.dag_run_id.in_(_newest_runs()))
        .order_by(XCom.dag_run_id.desc())
        .limit(NEWEST_SIZES)
    )
    with _session() as session:
        rows = session.execute(query).all()
    newest: dict[tuple[Any, ...], Sized] = {}
    for dag_id, task_id, map_index, run_id, size, words in rows:
        sized = Sized(dag_id, task_id, map_index, run_id, words_of(size), words or {})
        newest.setdefault((dag_id, task_id, map_index), sized)
    return list(newest.values())


def instance(owner: Owner) -> Instance | None:
    """One task instance, with the XComs of ours that it has pushed."""
    from airflow.models.taskinstance import TaskInstance as TI
    from airflow.models.xcom import XComModel as XCom
    from sqlalchemy import select

    def its(model: Any) -> list[Any]:
        return [getattr(model, name) == value for name, value in vars(owner).items() if name != "deployment"]

    with _session() as session:
        columns = TI.state, TI.try_number, TI.operator, _connection()
        query = select(*columns).outerjoin(_rendered(), _same(_rendered(), TI)).where(*its(TI))
        row = session.execute(query).one_or_none()
        if row is None:
            return None
        keys = XCom.key.in_((LAUNCH_KEY, VERDICT_KEY, SIZE_KEY, RETURN_KEY))
        xcoms = {said.key: said.value for said in session.execute(select(XCom.key, XCom.value).where(keys, *its(XCom)))}
    state, tries, operator, connection = row
    return Instance(owner, state and str(state), tries or 0, operator, connection_of(connection), xcoms)


def write_down(event: str, by: str, owner: Owner, words: str) -> None:
    """In Airflow's audit log."""
    from airflow.models.log import Log

    about = {name: value for name, value in vars(owner).items() if name != "deployment"}
    with _session() as session:
        session.add(Log(event=event, owner=by, owner_display_name=by, extra=words, **about))


def job_of(dag_id: str) -> str | None:
    """The id of the document that the DAG was made of."""
    return dag_id.removeprefix(DAG_PREFIX) if dag_id.startswith(DAG_PREFIX) else None


def connection_of(rendered: Any) -> str | None:
    """An operator's `aws_conn_id` as it was rendered; where that is not known any more, the default."""
    return str(rendered) if isinstance(rendered, str) and 0 < len(rendered) <= 250 else DEFAULT_CONN_ID


# --- SQL


def _newest_runs() -> Any:
    """Their numbers, as they come: by the primary keys of both tables, where a key alone would find all of history."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    newest = select(DagRun.id).order_by(DagRun.id.desc()).limit(NEWEST_RUNS).subquery()
    return select(newest.c.id)  # MySQL takes no LIMIT in a subquery of IN, but one level deeper


def _rendered() -> Any:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    return RenderedTaskInstanceFields


def _connection() -> Any:
    """That one word, and not the whole of what was rendered: scripts are among it."""
    return _rendered().rendered_fields["aws_conn_id"].as_string()


def _same(one: Any, other: Any) -> Any:
    from sqlalchemy import and_

    return and_(*(getattr(one, name) == getattr(other, name) for name in ("dag_id", "run_id", "task_id", "map_index")))


@contextmanager
def _session() -> Iterator[Session]:
    from airflow.utils.session import create_session
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with create_session(scoped=False) as session:
            yield session
    except SQLAlchemyError as error:
        raise AirflowUnreachable(f"Airflow's database did not answer ({type(error).__name__})") from error


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
