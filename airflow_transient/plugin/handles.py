"""What the page believes of an XCom: a launch in our own words, and nothing that only looks like one.

Whoever may edit XComs may write there, and the API server's credentials read what a launch names. So it is believed as
far as it has our shape: random tokens and ids, that only those know who may see the launch they belong to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from airflow_transient.core.ecs.terms import Terms
from airflow_transient.core.images.requests import seen_as_machine
from airflow_transient.core.launch import Launch
from airflow_transient.core.spec import S3Prefix
from airflow_transient.errors import SpecError

_TOKEN = re.compile(r"t[0-9a-f]{20}(-\d{1,6}w)?-\d{1,6}")
_IDS = {"ec2": re.compile(r"i-[0-9a-f]{8,17}"), "ecs": re.compile(r"[0-9a-f]{32}")}
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]{2,10}){1,3}-\d{1,2}")
_CLUSTER = re.compile(r"[\w:/-]{1,255}", re.ASCII)
MOST_IDS = 1000


def value_of(stored: Any) -> Any:
    """An XCom's value as the database keeps it: JSON, or JSON in a string, as an older client wrote it."""
    if not isinstance(stored, str):
        return stored
    try:
        return json.loads(stored)
    except ValueError:
        return stored  # a reference of another XCom backend


def launch_of(stored: Any) -> Launch | None:
    """The launch that an XCom holds; None where it holds anything else."""
    said = value_of(stored)
    if not isinstance(said, Mapping):
        return None
    try:
        launch = seen_as_machine(Launch.from_dict(said))
        return launch if launch and _is_ours(launch) else None
    except (AttributeError, KeyError, TypeError, ValueError, SpecError):
        return None


def _is_ours(launch: Launch) -> bool:
    return (
        bool(_TOKEN.fullmatch(launch.token) and _REGION.fullmatch(launch.region))
        and len(launch.ids) <= MOST_IDS
        and all(_IDS[launch.made_of].fullmatch(id) for id in launch.ids)
        and (launch.ecs is not None) == (launch.kind == "ecs")
        and (launch.ecs is None or _are_terms(launch.ecs))
        and (launch.group is not None) == (launch.kind == "asg")
        and launch.image is None
        and (launch.receipts is None or _are_receipts(launch))
        and None not in (launch.requested_at.tzinfo, launch.boot_by.tzinfo, launch.deadline.tzinfo)
    )


def _are_terms(terms: Terms) -> bool:
    return bool(_CLUSTER.fullmatch(terms.cluster)) and all(
        _REGION.fullmatch(place.region) and place.group and place.prefix and place.container for place in terms.logs
    )


def _are_receipts(launch: Launch) -> bool:
    """Below a folder of the launch's own name, which is as random as its token."""
    place = S3Prefix.of(launch.receipts)
    return bool(place and f"/{place.prefix}".endswith(f"/{launch.token}/"))


def words_of(stored: Any) -> dict[str, Any]:
    """A mapping that an XCom holds: a verdict, a size; empty where it holds anything else."""
    said = value_of(stored)
    return dict(said) if isinstance(said, Mapping) else {}
