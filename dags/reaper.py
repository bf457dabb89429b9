"""
### Nothing left running, whoever died

Every ten minutes: lists the instances and ECS tasks that carry this package's tags, asks Airflow how their tasks are,
and ends those that are past their deadline, whosever they are, and those of this deployment that nobody waits for, when
two runs in a row have found it so. Each decision is a line in the task's log. What a person tags `transient:keep` is
left alone.

`regions`: where to look; none means the region of the connection `aws_default`. `only`: instances, ECS
tasks, or borrowed Auto Scaling groups, where this Airflow launches nothing else or may not look. `dry_run`: say it and
do nothing. The task fails when something could not be looked at; what could be was dealt with. docs/reaper.md has the
rules and the IAM permissions.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

with DAG(
    "transient_reaper",
    schedule="*/10 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={
        "regions": Param([], type="array", items={"type": "string"}, title="Regions to look at"),
        "only": Param(None, type=["null", "string"], enum=[None, "ec2", "ecs", "asg"], title="Of one kind only"),
        "dry_run": Param(False, type="boolean", title="Say what would be done, and do nothing"),
    },
    tags=["transient", "ec2", "ecs"],
    doc_md=__doc__,
):

    @task(execution_timeout=timedelta(minutes=9))
    def reap() -> dict[str, Any]:
        """One pass; the totals are its XCom."""
        from airflow_transient.cli import reap_in_task

        params = get_current_context()["params"]
        report = reap_in_task(params["regions"], params["dry_run"], only=params["only"])
        print(report)
        if not report.complete:
            raise RuntimeError("something could not be looked at, or not be done: the lines above say what")
        return report.totals

    reap()
