"""From a task in the web UI to its instances and its log in the AWS console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

#: The XCom a launch is kept under while it is waited for.
LAUNCH_KEY = "launch"


def console_url(region: str, path: str) -> str:
    """AWS keeps three partitions with consoles of their own."""
    domain = {"cn-": "amazonaws.cn", "us-gov-": "amazonaws-us-gov.com"}
    host = next((d for start, d in domain.items() if region.startswith(start)), "aws.amazon.com")
    return f"https://{region}.console.{host}/{path}"


class _LaunchLink(BaseOperatorLink):
    """Reads the launch from its XCom; no launch, no link."""

    name = ""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        launch = XCom.get_value(key=LAUNCH_KEY, ti_key=ti_key)
        return self.url(launch) if isinstance(launch, dict) and launch.get("ids") else ""

    def url(self, launch: dict[str, Any]) -> str:
        raise NotImplementedError


class InstanceLink(_LaunchLink):
    """The launch's instances in the EC2 console."""

    name = "EC2 instance"

    def url(self, launch: dict[str, Any]) -> str:
        ids = ",".join(launch["ids"][:50])
        return console_url(launch["region"], f"ec2/home?region={launch['region']}#Instances:instanceId={ids}")


class LogLink(_LaunchLink):
    """The log of the launch's first member in the S3 console."""

    name = "Job log in S3"

    def url(self, launch: dict[str, Any]) -> str:
        if not launch.get("receipts"):
            return ""
        bucket, _, prefix = launch["receipts"].removeprefix("s3://").partition("/")
        key = quote(f"{prefix}{launch['ids'][0]}/job.log")
        return console_url(launch["region"], f"s3/object/{bucket}?region={launch['region']}&prefix={key}")
