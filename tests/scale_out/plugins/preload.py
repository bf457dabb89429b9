"""By which a worker imports at its start what its tasks' processes, forks of it, then need not."""

from airflow_transient.hooks.aws import TransientHook  # noqa: F401
from airflow_transient.operators.ec2 import TransientEc2Operator  # noqa: F401
from airflow_transient.operators.ecs import EcsBurstOperator  # noqa: F401
