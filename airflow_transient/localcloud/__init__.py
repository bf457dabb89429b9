"""A stand-in for AWS on 127.0.0.1 on which RunInstances really boots: the user data runs in a sandbox.

    with LocalCloud() as cloud:
        ec2 = cloud.client("ec2")

Needs `airflow-transient[local]` (moto) and bubblewrap or util-linux's unshare.
"""

from airflow_transient.localcloud.cloud import LocalCloud
from airflow_transient.localcloud.errors import LocalCloudError, MotoMissing, NoBoto3, SandboxUnavailable

__all__ = ["LocalCloud", "LocalCloudError", "MotoMissing", "NoBoto3", "SandboxUnavailable"]
