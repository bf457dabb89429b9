"""From a task in the web UI to the Auto Scaling group it launched through, in the AWS console."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow_transient.links.launch import LaunchLink, console_url


class GroupLink(LaunchLink):
    """The group; its machines have left it, and are behind the other link."""

    name = "Auto Scaling group"

    def url(self, launch: dict[str, Any]) -> str:
        group = (launch.get("group") or {}).get("name")
        if not group:
            return ""
        region = launch["region"]
        return console_url(region, f"ec2/home?region={region}#AutoScalingGroupDetails:id={quote(group)};view=details")
