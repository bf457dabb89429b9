"""From documents to DAGs: all that the DAG file calls.

Law: it never raises, and never drops a job. A DAG that its file does not make any more is gone within half a minute:
Airflow ends its schedule, and what waits cannot be resumed. So whatever is wrong with one job stays in that job, and
where the store cannot be read the last good copy stands in for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, get_parsing_context, literal

from airflow_transient.core.depth import HARD_CAP
from airflow_transient.jobs import dag_docs
from airflow_transient.jobs.gate import DepthGate
from airflow_transient.jobs.operators import (
    LAUNCH,
    WAIT,
    JobLaunch,
    JobMachine,
    JobWait,
    UnwrittenLaunch,
    UnwrittenMachine,
    UnwrittenWait,
)
from airflow_transient.jobs.port import DAG_PREFIX
from airflow_transient.jobs.reading import Reading, Shard, read
from airflow_transient.jobs.service_dag import BEGIN, service_dag, service_id
from airflow_transient.timetables.cron import EightFieldCronTimetable

if TYPE_CHECKING:
    from airflow_transient.jobs.document import JobDocument
    from airflow_transient.jobs.store import JobStore, StoredJob

log = logging.getLogger(__name__)

GATE = "depth"
#: A run that waits has a live task of the job's at most HARD_CAP; as many again may decide, or wait for room. Were runs
#: held back by those that wait, fires would be lost.
ACTIVE_RUNS = 2 * HARD_CAP
#: `launch` is a lock: while one hangs, no other fire decides.
LAUNCH_TIMEOUT = timedelta(minutes=10)
#: A try of `launch` never repeats a job: it adopts, or asks again. So there are some whatever the document says.
LAUNCH_RETRIES = 2
#: What Airflow takes as a tag.
MAX_TAG = 100


def build_dags(shard: int = 0, of: int = 1, store: JobStore | None = None) -> dict[str, DAG]:
    """
    The DAGs of all jobs, by id, and the service DAG: ``globals().update(build_dags())`` is the whole DAG file.

    In a worker only the DAG that it is about to run.

    :param shard: with ``of``: this file holds one part of the jobs, 0 to of - 1. Of hundreds of jobs a change is seen
        sooner where they are several files, because Airflow reads and stores a file as a whole.
    :param of: how many such files there are.
    :param store: default: where ``[transient] jobs_store`` says.
    """
    part, reading = Shard(shard, of), read(store)
    only = get_parsing_context().dag_id
    if only is None:
        return _all(reading, part)
    return {dag.dag_id: dag for dag in _only(only, reading, part)}


def _all(reading: Reading, part: Shard) -> dict[str, DAG]:
    made: dict[str, DAG] = {}
    left_out: dict[str, str] = {}
    for job in part.jobs(reading.snapshot):
        try:
            dag = dag_of(job)
            made[dag.dag_id] = dag
        except Exception as error:  # not even a DAG that says so can be made: an id that Airflow does not take
            log.exception("job %r is left out", job.id)
            left_out[job.id] = f"left out: {error}"
    return {service_id(part): service_dag(reading, part, len(made), left_out), **made}


def _only(dag_id: str, reading: Reading, part: Shard) -> Iterable[DAG]:
    """The one that a worker runs, whichever file it is in by now."""
    if dag_id == service_id(part):
        yield service_dag(reading, part)
        return
    job = reading.snapshot.jobs.get(dag_id.removeprefix(DAG_PREFIX)) if dag_id.startswith(DAG_PREFIX) else None
    if job:
        yield dag_of(job)
    elif dag_id.startswith(DAG_PREFIX) and reading.fresh:
        # Without a DAG the worker would ask again for minutes, and then fail without this reason.
        yield _unwritten(dag_id, "this job was deleted", BEGIN)


def dag_of(job: StoredJob) -> DAG:
    try:
        return _job_dag(job, job.document())
    except Exception as error:
        log.warning("job %s: %s", job.id, error)
        kind = "ec2" if job.raw.get("kind") == "ec2" else "ecs"
        return _unwritten(DAG_PREFIX + job.id, str(error) or type(error).__name__, job.created_at, kind)


def _job_dag(job: StoredJob, document: JobDocument) -> DAG:
    fires = EightFieldCronTimetable(
        document.schedule,
        document.timezone,
        document.schedule_start,
        document.schedule_end,
        seed=job.id,
        not_before=job.not_before,
    )
    machine = document.kind == "ec2"
    with DAG(
        DAG_PREFIX + job.id,
        schedule=fires,
        start_date=job.created_at,
        catchup=False,
        auto_register=False,  # what is half made must not be found: the file names what is whole
        max_active_runs=1 if machine else ACTIVE_RUNS,
        is_paused_upon_creation=document.suspended,
        tags=_tags(document.kind, document.cluster),
        doc_md=dag_docs.of_job(job, document.to_dict()),
    ) as dag:
        _machine(document.ec2_words(), fires) if machine else _burst(document.burst_words(), fires)
    return dag


def _burst(words: dict[str, Any], fires: EightFieldCronTimetable) -> None:
    """[depth >>] launch >> wait. The task ids are what runs, state stores and launches are found by: they stay."""
    given, retries = _literals(words), _retries(words)
    decide = {"retries": max(LAUNCH_RETRIES, words.get("retries", 0)), "execution_timeout": LAUNCH_TIMEOUT}
    launch = JobLaunch(task_id=LAUNCH, for_task=WAIT, fires=fires, max_active_tis_per_dag=1, **decide, **given)
    launch >> JobWait(task_id=WAIT, handed_by=LAUNCH, **retries, **given)
    if words.get("queues"):
        region = words.get("region_name")
        DepthGate(task_id=GATE, words=words, for_task=WAIT, region_name=region, retries=0) >> launch


def _machine(words: dict[str, Any], fires: EightFieldCronTimetable) -> None:
    JobMachine(task_id=LAUNCH, fires=fires, deferrable=True, **_retries(words), **_literals(words))


def _retries(words: Mapping[str, Any]) -> dict[str, Any]:
    return {"retries": words["retries"]} if "retries" in words else {}


def _literals(words: Mapping[str, Any]) -> dict[str, Any]:
    """Whoever may write a document may not read connections and variables by it: nothing of it is a template."""
    return {name: literal(word) for name, word in words.items() if name != "retries"}


def _unwritten(dag_id: str, reason: str, begin: datetime, kind: str = "ecs") -> DAG:
    """
    With the same tasks, so that what is under way is still waited for; a new run fails with the reason.

    Not paused: a paused DAG would hide that.
    """
    with DAG(
        dag_id,
        schedule=None,
        start_date=begin,
        catchup=False,
        auto_register=False,
        is_paused_upon_creation=False,
        tags=[*_tags(kind), "cannot be read"],
        doc_md=dag_docs.of_unwritten(dag_id.removeprefix(DAG_PREFIX), reason),
    ) as dag:
        if kind == "ec2":
            UnwrittenMachine(task_id=LAUNCH, reason=reason, deferrable=True, retries=0)
        else:
            launch = UnwrittenLaunch(task_id=LAUNCH, reason=reason, task_definition="unknown", retries=0)
            launch >> UnwrittenWait(task_id=WAIT, reason=reason, task_definition="unknown")
    return dag


def _tags(kind: str, cluster: str | None = None) -> list[str]:
    named = [cluster.rpartition("/")[2][:MAX_TAG]] if cluster else []
    return list(dict.fromkeys(("transient", "job", kind, *named)))
