"""The jobs' Airflow: its database, in the API server and on the command line.

Every import here is of a module that Airflow does not call public; each says where Airflow 3.3.2 does the same.
All of them are made late: the command line imports this file before it knows that it needs it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_transient.jobs.insisting import File, Insistence, revision_in
from airflow_transient.jobs.port import DAG_PREFIX, SERVICE_DAG, AirflowUnreachable, LastStart, NoJobsFile
from airflow_transient.jobs.reading import Shard
from airflow_transient.jobs.refusals import NotKnownYet
from airflow_transient.jobs.runs import end_runs, until_watched
from airflow_transient.jobs.starts import started

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

#: The task of a job's DAG that launches, and the XCom of what it launched (jobs/operators.py and links/launch.py, which
#: bring all of the SDK).
LAUNCH_TASK, LAUNCH_KEY = "launch", "launch"
#: The service DAG of one DAG file of jobs, and the number of its part.
_SERVICE = re.compile(rf"{SERVICE_DAG}(?:\.(\d+))?")
#: Names in one statement: SQLite takes 32,766 variables.
CHUNK = 5000


class AirflowDatabase:
    """`jobs.port.Airflow`, by the database that this process is connected to."""

    def ready(self) -> None:
        with _session() as session:
            if not _files(session):
                raise NoJobsFile

    def known(self, dag_id: str) -> bool:
        from airflow.models.dag import DagModel
        from sqlalchemy import select

        with _session() as session:
            return session.scalar(select(DagModel.is_stale).where(DagModel.dag_id == dag_id)) is False

    def paused(self, dag_ids: Collection[str]) -> Mapping[str, bool]:
        from airflow.models.dag import DagModel
        from sqlalchemy import select

        said: dict[str, bool] = {}
        with _session() as session:
            for some in _chunks(dag_ids):
                rows = session.execute(select(DagModel.dag_id, DagModel.is_paused).where(DagModel.dag_id.in_(some)))
                said.update({dag_id: bool(paused) for dag_id, paused in rows})
        return said

    # --- telling

    def begin(self, paused: Mapping[str, bool]) -> None:
        _insistence().back(paused)
        for some in _chunks(paused):
            until_watched(_session, some)
        with _session() as session:
            for some in _chunks(paused):
                end_runs(session, some)
                for state in (True, False):
                    _set(session, [dag_id for dag_id in some if paused[dag_id] is state], is_paused=state, **_HELD)

    def set_paused(self, dag_id: str, paused: bool) -> None:
        with _session() as session:
            _set(session, [dag_id], is_paused=paused, **({} if paused else _HELD))

    def hold(self, dag_ids: Collection[str]) -> None:
        with _session() as session:
            for some in _chunks(dag_ids):
                _set(session, some, **_HELD)

    def forget(self, dag_id: str) -> None:
        """Stale, as Airflow itself says of a DAG that is in no file any more, but not before a minute has passed."""
        _forget([dag_id])
        _insistence().gone(dag_id)

    def end_runs(self, dag_id: str) -> int:
        until_watched(_session, [dag_id])
        with _session() as session:
            return end_runs(session, [dag_id])

    def reparse(self, dag_ids: Collection[str], revision: int) -> None:
        with _session() as session:
            files = _files_of(session, dag_ids)
        if not files:
            raise NoJobsFile
        _insistence().want(files, revision)

    def parsed(self, within: float) -> bool:
        """Whether Airflow knows, after so many seconds at most, all that this process has asked it to parse."""
        return _insistence().wait(within)

    # --- runs

    def last_starts(self, since: Mapping[str, datetime]) -> Mapping[str, LastStart]:
        with _session() as session:
            rows = [row for some in _chunks(since) for row in _last_launches(session, some)]
        return {
            dag_id: LastStart(run_id, run_after, tuple((name, None) for name in names))
            for dag_id, run_id, run_after, launch in rows
            if run_after >= since[dag_id] and (names := started(launch))
        }

    def run_now(self, dag_id: str, by: str | None = None) -> str:
        # As `airflow dags trigger` does (airflow/api/client/local_client.py).
        from airflow.api.common.trigger_dag import trigger_dag
        from airflow.exceptions import DagNotFound, DagRunAlreadyExists
        from airflow.utils.types import DagRunTriggeredByType

        how = DagRunTriggeredByType.REST_API if by else DagRunTriggeredByType.CLI
        with _session() as session:
            try:
                made = trigger_dag(dag_id, triggered_by=how, triggering_user_name=by, session=session)
            except DagNotFound:
                raise NotKnownYet(dag_id.removeprefix(DAG_PREFIX)) from None
            except DagRunAlreadyExists as error:
                # Asked twice within a microsecond: it is the same run.
                made = error.dag_run
            if made is None:
                raise NotKnownYet(dag_id.removeprefix(DAG_PREFIX))
            return str(made.run_id)


@contextmanager
def _session() -> Iterator[Session]:
    # As everywhere in Airflow's own server and command line; a DAG file or a task would be refused here.
    from airflow.utils.session import create_session
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with create_session(scoped=False) as session:
            yield session
    except SQLAlchemyError as error:
        words = f"Airflow's database did not do as asked ({type(error).__name__}): try again in a moment."
        raise AirflowUnreachable(words) from error


def _chunks(ids: Collection[str]) -> Iterator[list[str]]:
    every = list(ids)
    yield from (every[at : at + CHUNK] for at in range(0, len(every), CHUNK))


#: No next run until the file was parsed again, which works it out anew each time (dag_processing/collection.py,
#: `update_dags`): the scheduler takes DAGs by `next_dagrun_create_after` (models/dag.py, `dags_needing_dagruns`).
_HELD = {"next_dagrun": None, "next_dagrun_create_after": None}


def _set(session: Session, dag_ids: Sequence[str], **values: Any) -> None:
    """What core_api's `patch_dag` sets one by one (routes/public/dags.py)."""
    from airflow.models.dag import DagModel
    from sqlalchemy import update

    if dag_ids:
        session.execute(update(DagModel).where(DagModel.dag_id.in_(dag_ids)).values(**values))


def _last_launches(session: Session, dag_ids: Sequence[str]) -> Sequence[Any]:
    """
    (dag id, run id, run_after, launch) of each DAG's newest run that launched.

    Looked for from the newest run back, DAG by DAG: by their key alone, all launches of all DAGs would be gone through.
    """
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.xcom import XComModel
    from sqlalchemy import and_, select
    from sqlalchemy.orm import aliased

    def of_launch(xcom: Any, run: Any) -> Any:
        ours = (xcom.task_id == LAUNCH_TASK, xcom.map_index == -1, xcom.key == LAUNCH_KEY)
        return and_(xcom.dag_run_id == run.id, *ours)

    run, xcom = aliased(DagRun), aliased(XComModel)
    launched = select(run.id).join(xcom, of_launch(xcom, run)).where(run.dag_id == DagModel.dag_id)
    newest = launched.order_by(run.id.desc()).limit(1).correlate(DagModel).scalar_subquery()
    return session.execute(
        select(DagRun.dag_id, DagRun.run_id, DagRun.run_after, XComModel.value)
        .select_from(DagModel)
        .join(DagRun, DagRun.id == newest)
        .join(XComModel, of_launch(XComModel, DagRun))
        .where(DagModel.dag_id.in_(dag_ids))
    ).all()


# --- DAG files


def _files(session: Session) -> dict[File, tuple[int, int | None]]:
    """The files that hold a service DAG: which part of the jobs, and the revision that it was last parsed with."""
    from airflow.models.dag import DagModel
    from sqlalchemy import or_, select

    # A DAG whose file does not load is called stale as well (dag_processing/collection.py): that file is there.
    there = or_(DagModel.is_stale.is_(False), DagModel.has_import_errors.is_(True))
    columns = DagModel.dag_id, DagModel.bundle_name, DagModel.relative_fileloc, DagModel.description
    rows = session.execute(select(*columns).where(there, DagModel.dag_id.startswith(SERVICE_DAG, autoescape=True)))
    return {
        (bundle, path): (int(part[1] or 0), revision_in(words))
        for dag_id, bundle, path, words in rows
        if bundle and path and (part := _SERVICE.fullmatch(dag_id))
    }


def _files_of(session: Session, dag_ids: Collection[str]) -> set[File]:
    """Those that hold these DAGs."""
    from airflow.models.dag import DagModel
    from sqlalchemy import select

    parts = {file: number for file, (number, _) in _files(session).items()}
    known: dict[str, Any] = {}
    for some in _chunks(dag_ids):
        columns = DagModel.dag_id, DagModel.bundle_name, DagModel.relative_fileloc
        rows = session.execute(select(*columns).where(DagModel.dag_id.in_(some)))
        known.update({dag_id: (bundle, path) for dag_id, bundle, path in rows})
    return {file for dag_id in dag_ids for file in _places(dag_id, known.get(dag_id), parts)}


def _places(dag_id: str, known: Any, parts: Mapping[File, int]) -> Iterable[File]:
    """
    :param known: where Airflow has seen the DAG; of a new one its part is worked out, or every file is asked.
    """
    if known in parts:
        return [known]
    if sorted(parts.values()) != list(range(len(parts))):
        return parts
    job_id = dag_id.removeprefix(DAG_PREFIX)
    return [file for file, number in parts.items() if Shard(number, len(parts)).holds(job_id)]


def _ask(files: Collection[File]) -> None:
    """As core_api's `reparse_dag_file` (routes/public/dag_parsing.py); one request waits for a file at most."""
    from airflow.models.dagbag import DagPriorityParsingRequest
    from sqlalchemy.exc import IntegrityError

    with _session() as session:
        for bundle, path in files:
            try:
                with session.begin_nested():
                    session.add(DagPriorityParsingRequest(bundle_name=bundle, relative_fileloc=path))
            except IntegrityError:
                continue  # asked for already


def _told() -> Mapping[File, int | None]:
    with _session() as session:
        return {file: revision for file, (_, revision) in _files(session).items()}


def _forget(dag_ids: Collection[str]) -> None:
    """Those that are still paused: one that another process has made again meanwhile is not."""
    from airflow.models.dag import DagModel
    from sqlalchemy import select

    with _session() as session:
        for some in _chunks(dag_ids):
            paused = select(DagModel.dag_id).where(DagModel.dag_id.in_(some), DagModel.is_paused.is_(True))
            _set(session, list(session.scalars(paused)), is_stale=True)


@lru_cache(maxsize=1)
def _insistence() -> Insistence:
    """One thread of this process asks for all."""
    return Insistence(_told, _ask, _forget)
