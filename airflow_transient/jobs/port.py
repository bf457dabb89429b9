"""What the jobs' service needs of Airflow, in verbs. `jobs/airflow_db.py` gives it on Airflow's own database."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from airflow_transient.errors import TransientError

#: The DAG of a job is `job.<its id>`.
DAG_PREFIX = "job."
#: The DAG that each DAG file of jobs has, jobs or none; of several such files the others' begin with it.
SERVICE_DAG = "transient_jobs"
ONE_LINE = "from airflow_transient.jobs import build_dags; globals().update(build_dags())"


def dag_of(job_id: str) -> str:
    return f"{DAG_PREFIX}{job_id}"


class NoJobsFile(TransientError):
    """No DAG file of this Airflow builds DAGs from the documents (HTTP: 503)."""

    def __init__(self) -> None:
        super().__init__(f"Airflow has parsed no DAG file that makes DAGs of jobs: add one with this line: {ONE_LINE}")


class AirflowUnreachable(TransientError):
    """Airflow's database did not do as asked (HTTP: 503)."""


@dataclass(frozen=True)
class LastStart:
    """The last run of a job that started something."""

    run_id: str
    fired_at: datetime  # the scheduled moment; of a manual run: when it was asked for
    tasks: tuple[tuple[str, str | None], ...] = ()  # (task ARN or instance id, container instance where known)


class Airflow(Protocol):
    """
    Every verb but `run_now` may be asked twice, and then does what once does. All raise AirflowUnreachable.

    The verbs that let a DAG run again hold it until its file was parsed anew: what Airflow knows of it is from the time
    before, and its scheduler would at once make up for a fire of that time.
    """

    def ready(self) -> None:
        """Raises NoJobsFile."""

    def paused(self, dag_ids: Collection[str]) -> Mapping[str, bool]:
        """Those that Airflow knows; the others are left out."""

    def begin(self, paused: Mapping[str, bool]) -> None:
        """
        These DAGs are those of new jobs from now on: paused or not, and without runs of earlier jobs of the same ids.

        Nothing where Airflow knows no such DAG: it will be made paused or not as its document says.
        """

    def set_paused(self, dag_id: str, paused: bool) -> None: ...

    def hold(self, dag_ids: Collection[str]) -> None:
        """Schedule nothing of these before their file was parsed again: their schedules have changed."""

    def end_runs(self, dag_id: str) -> int:
        """Mark live runs and their tasks failed, which stops what they launched; how many there were."""

    def forget(self, dag_id: str) -> None:
        """Its document is gone: the DAG is offered no more. Its history stays."""

    def reparse(self, dag_ids: Collection[str], revision: int) -> None:
        """Have the DAG files of these parsed until Airflow knows the documents of this revision of the store."""

    def last_starts(self, since: Mapping[str, datetime]) -> Mapping[str, LastStart]:
        """By DAG id, of runs for a moment not before the one given; those that started nothing are left out."""

    def run_now(self, dag_id: str, by: str | None = None) -> str:
        """The id of a new run, asked for by this user of Airflow's; None: on the command line."""

    def known(self, dag_id: str) -> bool:
        """Airflow has parsed the DAG, and still offers it."""
