"""What the page is told: rows as JSON, how old they are, what their reader may do, and where to read more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from fastapi.responses import JSONResponse, Response

from airflow_transient.core.rows import Row
from airflow_transient.links.asg import GroupLink
from airflow_transient.links.ec2 import InstanceLink, LogLink
from airflow_transient.links.ecs import FailedTaskLink, TaskLogLink, TasksLink
from airflow_transient.links.launch import LaunchLink
from airflow_transient.plugin.access import Who, redact
from airflow_transient.plugin.airflow_rows import job_of
from airflow_transient.plugin.looking import CALLS, Source, utcnow
from airflow_transient.plugin.survey import Survey, survey

SOME_PLACES = "Some places could not be asked: an administrator of this Airflow is told which."
LINKS: dict[str, tuple[LaunchLink, ...]] = {
    "ec2": (InstanceLink(), LogLink()),
    "ecs": (TasksLink(), FailedTaskLink(), TaskLogLink()),
    "asg": (GroupLink(), InstanceLink(), LogLink()),
}


def fresh(body: Mapping[str, Any], status: int = 200) -> Response:
    """What is true for a moment, and for this reader, is kept by nobody."""
    return JSONResponse(body, status, {"Cache-Control": "no-store"})


def ages(read: float) -> dict[str, Any]:
    """
    :param read: when the oldest part was, by the cache's clock.
    """
    age, now = max(0.0, CALLS.clock() - read), utcnow()
    return {"now": iso(now), "as_of": iso(now - timedelta(seconds=age)), "age_seconds": round(age, 1)}


def iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def sources(said: Sequence[Source], places: bool = True) -> list[dict[str, Any]]:
    """
    Each once: AWS's errors may repeat what it was asked with.

    :param places: whether the reader may know which connections, regions and clusters there are.
    """
    told = [source.to_dict() for source in dict.fromkeys(said if places else _without_places(said))]
    return [{**one, "error": plain(one["error"]), "note": plain(one["note"])} for one in told]


def _without_places(said: Sequence[Source]) -> list[Source]:
    failed = any(source.place and source.error for source in said)
    at_all = [Source("AWS", SOME_PLACES if failed else None)] if any(source.place for source in said) else []
    return [*(source for source in said if not source.place), *at_all]


def plain(text: str | None) -> str | None:
    """Without what Airflow's masker knows as a secret."""
    return redact(text) if text else text


def links(launch: Mapping[str, Any], kind: str) -> list[dict[str, str]]:
    """To AWS's console. `launch` as the XCom holds it, or as much of it as is known."""
    made = [(link.name, link.url(dict(launch))) for link in LINKS.get(kind, ())]
    return [{"name": name, "url": url} for name, url in made if url]


# --- what runs


def visible(found: Survey, who: Who) -> list[Row]:
    """By their DAGs, whether Airflow still has those or not."""
    may = who.readable({row.owner.dag_id for row in found.rows})
    return [row for row in found.rows if row.owner.dag_id in may]


def may_stop(who: Who, dag_id: str, gone: bool) -> bool:
    """
    Whoever may mark its task instances may stop what they launched.

    Of a DAG that Airflow has no more nobody can be given that right, and nobody may have taken it away on purpose: then
    it takes the right to mark those of every DAG, which is an administrator's.
    """
    return who.may_task("PUT", dag_id) and (not gone or who.may_task("PUT", None))


@dataclass(frozen=True)
class Told:
    """A survey and its rows as JSON: the same for everybody, so that they are made once."""

    found: Survey
    rows: tuple[dict[str, Any], ...]


def surveyed() -> Told:
    found = survey()
    return Told(found, tuple(row_told(row, found) for row in found.rows))


def running(told: Told, who: Who, limit: int) -> dict[str, Any]:
    """The answer of /running to one who asks."""
    found, mine = told.found, {row.key for row in visible(told.found, who)}
    seen = [(row, said) for row, said in zip(found.rows, told.rows, strict=True) if row.key in mine]
    dags = {row.owner.dag_id for row, _ in seen[:limit]}
    may = {dag_id: may_stop(who, dag_id, dag_id in found.gone) for dag_id in dags}
    rows = [{**said, "may_stop": may[row.owner.dag_id] and stoppable(row)} for row, said in seen[:limit]]
    costs = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
    return {
        **ages(found.read),
        "deployment": found.deployment,
        "truncated": found.truncated or len(seen) > limit,
        "total": len(seen),
        "cost_usd": round(sum(costs), 6) if costs else None,
        "prices_known": bool(found.prices),
        # What is there beside one's own is for those who may make DAGs, and so may ask of any place.
        "sources": sources(found.sources, who.may("POST")),
        "rows": rows,
    }


def stoppable(row: Row) -> bool:
    """Whether AWS shows something of it that is not on its way out."""
    return bool(row.members) and not row.stopping


def row_told(row: Row, found: Survey) -> dict[str, Any]:
    owner = row.owner
    path = task_path(owner.dag_id, owner.run_id, owner.task_id, owner.map_index)
    return {
        **row.to_dict(found.now, found.prices),
        "job_id": job_of(owner.dag_id),
        "links": _links_of(row),
        "airflow_path": None if owner.dag_id in found.gone else path,
    }


def _links_of(row: Row) -> list[dict[str, str]]:
    if row.launch:
        return links(row.launch.to_dict(), row.launch.kind) if row.launch.ids else []
    place = row.members[0].place if row.members else None
    if place is None:
        return []
    known = {"ids": list(row.ids), "region": place.region}
    return links(known | {"ecs": {"cluster": place.cluster or "", "logs": []}}, place.kind)


def task_path(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Of its page in Airflow's UI, below Airflow's base URL."""
    mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
    return f"dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}/tasks/{quote(task_id, safe='')}{mapped}"
