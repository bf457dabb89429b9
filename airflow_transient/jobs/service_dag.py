"""The DAG that every file of jobs has, jobs or not: it tells what the file knows, and reaps what nobody waits for.

It is also how the API finds the file: before the first job, nothing else of it is in Airflow's database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, Param

from airflow_transient.jobs import dag_docs
from airflow_transient.jobs.port import SERVICE_DAG
from airflow_transient.jobs.reading import Reading, Shard

if TYPE_CHECKING:
    from airflow.sdk import Context

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
PARAMS = {
    "regions": Param([], type="array", items={"type": "string"}, title="Regions to look at, beside the jobs'"),
    "only": Param(None, type=["null", "string"], enum=[None, "ec2", "ecs"], title="Instances or ECS tasks only"),
    "dry_run": Param(False, type="boolean", title="Say what would be done, and do nothing"),
}


class Reap(BaseOperator):
    """
    One pass of the reaper; its totals are the XCom.

    :param regions: where to look, beside the connection's own region and those of the run's `params`.
    """

    template_fields = ()

    def __init__(self, *, regions: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.regions = regions

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_transient.hooks.reaping import reap_in_task

        params = context["params"]
        report = reap_in_task([None, *self.regions, *params["regions"]], params["dry_run"], only=params["only"])
        print(report)
        if not report.complete:
            raise RuntimeError("something could not be looked at, or not be done: the lines above say what")
        return dict(report.totals)


def service_id(shard: Shard) -> str:
    return f"{SERVICE_DAG}.{shard.number}" if shard.number else SERVICE_DAG


def service_dag(reading: Reading, shard: Shard, jobs: int = 0, left_out: Mapping[str, str] | None = None) -> DAG:
    """
    Of the first part with the reaper, of any other without a task.

    The description ends with the revision: by it the API sees that a change has arrived.
    """
    with DAG(
        service_id(shard),
        description=f"{dag_docs.counted(jobs)} of revision {reading.snapshot.revision}",
        schedule=None if shard.number else "*/10 * * * *",
        start_date=BEGIN,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        params={} if shard.number else PARAMS,
        auto_register=False,
        tags=["transient", "jobs", *([] if reading.fresh else ["jobs store not read"])],
        doc_md=dag_docs.of_service(reading, shard, jobs, left_out or {}),
    ) as dag:
        if not shard.number:
            Reap(task_id="reap", regions=_regions(reading), execution_timeout=timedelta(minutes=9))
    return dag


def _regions(reading: Reading) -> list[str]:
    named = {job.raw.get("region") for job in reading.snapshot.jobs.values()}
    return sorted(region for region in named if isinstance(region, str))
