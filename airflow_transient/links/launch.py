"""What the links of every kind of launch share: the XComs they read, and the AWS console's address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

#: The XCom a launch is kept under while it is waited for; `failed` in it is the worst of its members, where one failed.
LAUNCH_KEY = "launch"
#: The XCom that a task leaves which fails: the verdict, without its members.
VERDICT_KEY = "verdict"


def console_url(region: str, path: str) -> str:
    """AWS keeps three partitions with consoles of their own."""
    domain = {"cn-": "amazonaws.cn", "us-gov-": "amazonaws-us-gov.com"}
    host = next((d for start, d in domain.items() if region.startswith(start)), "aws.amazon.com")
    return f"https://{region}.console.{host}/{path}"


class LaunchLink(BaseOperatorLink):
    """Reads the launch from its XCom; no launch, no link."""

    name = ""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        launch = XCom.get_value(key=LAUNCH_KEY, ti_key=ti_key)
        return self.url(launch) if isinstance(launch, dict) and launch.get("ids") else ""

    def url(self, launch: dict[str, Any]) -> str:
        raise NotImplementedError
