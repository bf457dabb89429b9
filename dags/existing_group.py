"""
### Jobs on an Auto Scaling group that is there already

Four times a day, for those whose machines come from a group and not from a task: its image, types, network and role are
the group's, and between launches the group is empty and as its owner left it.

`report` runs a command of ours and tells how it ended. `as_it_is` lets the user data of the group's own template run,
of which nobody hears the end: a machine that shuts itself down is taken for a success. The groups may have a maximum of
0: it is raised while their machines start. docs/groups.md has the permissions. Paused at first: it needs these groups.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_transient.operators.asg import AutoScalingBurstOperator

with DAG(
    "existing_group",
    schedule="0 1,7,13,19 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    is_paused_upon_creation=True,
    tags=["transient", "ec2"],
    doc_md=__doc__,
) as dag:
    AutoScalingBurstOperator(
        task_id="report",
        group_name="nightly-batch",
        command='echo "{{ ds }}: $(nproc) processors, up for $(cut -d. -f1 /proc/uptime) s"',
        max_runtime=timedelta(minutes=50),
        deferrable=True,
    )
    AutoScalingBurstOperator(
        task_id="as_it_is",
        group_name="nightly-batch-with-user-data",
        count=2,
        trust_shutdown=True,
        max_runtime=timedelta(minutes=50),
        deferrable=True,
    )
