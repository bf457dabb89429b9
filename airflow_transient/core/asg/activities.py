"""What a group says it has done of late: whether it is starting machines, and whether it has failed to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from airflow_transient.core.fallback import Scope

#: An activity that is over, whichever way.
ACTIVITY_OVER = frozenset({"Successful", "Failed", "Cancelled"})
#: In the words of an activity that failed: there was no room, or no more is allowed. Anything else is the group's own.
NO_ROOM = ("capacity", "quota", "limit", "exceed", "not supported in your requested availability zone")
#: Where a group has done nothing yet.
NEVER = datetime(1970, 1, 1, tzinfo=timezone.utc)


def scope_of_failure(words: str) -> Scope:
    """What a launching activity's StatusMessage speaks of. It has no code, and its words are documented by example:
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/CHAP_Troubleshooting.html"""
    return Scope.POOL if any(part in words.lower() for part in NO_ROOM) else Scope.SPEC


def newest(activities: Iterable[Mapping[str, Any]]) -> datetime:
    """When the newest of them began, by AWS's clock: ours may run ahead, and take what fails now for old."""
    return max((activity["StartTime"] for activity in activities), default=NEVER)


def failed_to_launch(activities: Iterable[Mapping[str, Any]], since: datetime) -> str | None:
    """What AWS says of the newest launch after `since`, if that failed and no other is under way. A group that finds no
    room in one zone tries the next one by itself."""
    launches = [one for one in activities if _is_launch(one) and one["StartTime"] > since]
    last = max(launches, key=lambda one: one["StartTime"], default=None)  # of several the first, as AWS tells them
    if last is None or last.get("StatusCode") != "Failed" or launching(launches):
        return None
    return str(last.get("StatusMessage") or last["Description"])


def launching(activities: Iterable[Mapping[str, Any]]) -> str | None:
    """The activity that is starting machines, in words."""
    under_way = (a for a in activities if a.get("StatusCode") not in ACTIVITY_OVER)
    return next((str(a["Description"]) for a in under_way if _is_launch(a)), None)


def _is_launch(activity: Mapping[str, Any]) -> bool:
    return str(activity.get("Description", "")).startswith("Launching")
