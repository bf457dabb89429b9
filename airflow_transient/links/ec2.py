"""From a task in the web UI to its instances and its log in the AWS console."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow_transient.links.launch import LaunchLink, console_url


class InstanceLink(LaunchLink):
    """The launch's instances in the EC2 console."""

    name = "EC2 instance"

    def url(self, launch: dict[str, Any]) -> str:
        ids = ",".join(launch["ids"][:50])
        return console_url(launch["region"], f"ec2/home?region={launch['region']}#Instances:instanceId={ids}")


class LogLink(LaunchLink):
    """The log of the launch's first member in the S3 console."""

    name = "Job log in S3"

    def url(self, launch: dict[str, Any]) -> str:
        if not launch.get("receipts"):
            return ""
        bucket, _, prefix = launch["receipts"].removeprefix("s3://").partition("/")
        key = quote(f"{prefix}{launch['ids'][0]}/job.log")
        return console_url(launch["region"], f"s3/object/{bucket}?region={launch['region']}&prefix={key}")
