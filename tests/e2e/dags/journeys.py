"""DAGs that the tests run through Airflow's own command line, on the local cloud."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from airflow_transient.operators.ec2 import TransientEc2Operator

COMMON: dict[str, Any] = {
    "image_ssm_parameter": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
    "instance_type": "t3.small",
    "poll_interval": 0.5,
    "max_runtime": 120,
}
RESULTS = {**COMMON, "results": "s3://results/journeys"}

with DAG("journeys"):
    regions = TransientEc2Operator.partial(
        task_id="regions",
        command='echo "{\\"region\\": \\"$REGION\\"}" >"$TRANSIENT_RESULT"',
        deferrable=True,
        **RESULTS,
    ).expand_kwargs([{"region_name": r, "environment": {"REGION": r}} for r in ("eu-west-1", "us-east-1")])

    members = TransientEc2Operator(
        task_id="members",
        command=["/bin/sh", "-c", 'echo "[$TRANSIENT_INDEX, $TRANSIENT_COUNT]" >"$TRANSIENT_RESULT"'],
        count=3,
        **RESULTS,
    )

    console_only = TransientEc2Operator(
        task_id="console_only", command="echo {{ dag.dag_id }}", deferrable=True, **COMMON
    )

    @task
    def told(verdicts: list[dict[str, Any]], verdict: dict[str, Any], console: dict[str, Any]) -> None:
        assert [v["result"] for v in verdicts] == [{"region": "eu-west-1"}, {"region": "us-east-1"}]
        assert verdict["result"] == [[0, 3], [1, 3], [2, 3]]
        assert len(set(verdict["ids"])) == 3
        assert console["outcome"] == "succeeded"
        assert "from the console" in console["members"][0]["evidence"]
        print("ALL WAS TOLD AS IT WAS")

    told(regions.output, members.output, console_only.output)  # type: ignore[arg-type]

with DAG("alone"):
    TransientEc2Operator(task_id="console_only", command="echo {{ dag.dag_id }}", deferrable=True, **COMMON)

with DAG("fails"):
    TransientEc2Operator(task_id="fails", command="echo on my way out; exit 3", deferrable=True, **RESULTS)

with DAG("leaks"):
    TransientEc2Operator(
        task_id="leaks", command="true", environment={"PASSWORD": "{{ conn.secret_db.password }}"}, **RESULTS
    )

with DAG("takes_long"):
    TransientEc2Operator(task_id="deferred", command="sleep 100", deferrable=True, **RESULTS)

with DAG("takes_long_here"):
    TransientEc2Operator(task_id="waiting", command="sleep 100", **RESULTS)
