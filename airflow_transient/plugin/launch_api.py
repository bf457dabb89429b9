"""/launch: one task's launch, for the tab of its task instance: how it is, what was found out, the end of its log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from airflow_transient.core.launch import Launch, Owner
from airflow_transient.core.sources import short
from airflow_transient.plugin.access import Forbidden, Who, who
from airflow_transient.plugin.airflow_rows import LAUNCH_KEY, SIZE_KEY
from airflow_transient.plugin.answers import Refused
from airflow_transient.plugin.handles import words_of
from airflow_transient.plugin.looking import PAGES, PATIENCE
from airflow_transient.plugin.one_launch import NoSuchTask, OneLaunch, one_launch
from airflow_transient.plugin.running_api import answered
from airflow_transient.plugin.telling import ages, fresh, iso, links, plain, sources

router = APIRouter(tags=["what runs"])

Asking = Annotated[Who, Depends(who)]

#: So many members are told one by one.
MEMBERS_TOLD = 20
#: What Airflow's UI hands over as it stands, where a task is not mapped.
UNMAPPED = {"", "{MAP_INDEX}", "%7BMAP_INDEX%7D"}
_INDEX = re.compile(r"-1|\d{1,9}")
NO_LOGS = "The right to read this task's logs is missing, so the end of its log is not shown."
#: Of a verdict; what the job handed back is the XCom's own business.
VERDICT_WORDS = (
    *("outcome", "exit_code", "signal", "counts", "exit_codes", "need"),
    *("launched", "started", "ended", "billed_seconds", "log"),
)
FAILED_WORDS = ("id", "outcome", "exit_code", "evidence")


@router.get("/launch", summary="What one task has launched")
async def launch(request: Request, who: Asking) -> Response:
    """In the query: `dag_id`, `run_id`, `task_id`, and `map_index` of a mapped task."""
    owner = named(request)
    if not await run_in_threadpool(who.may_task, "GET", owner.dag_id):
        raise Forbidden("You may not see tasks of this DAG: ask an administrator of this Airflow for the right.")
    try:
        found = answered(await PAGES.wait(("launch", owner), partial(one_launch, owner), PATIENCE.page))
    except NoSuchTask as error:
        raise Refused(404, str(error)) from error
    return fresh(await run_in_threadpool(told, found, who))


def named(request: Request) -> Owner:
    """Whose launch. Raises Refused."""
    said = {name: request.query_params.get(name) or "" for name in ("dag_id", "run_id", "task_id")}
    messages = {name: ["Missing data for required field."] for name, value in said.items() if not value}
    index = request.query_params.get("map_index", "")
    if index not in UNMAPPED and not _INDEX.fullmatch(index):
        messages["map_index"] = ["Not a valid integer."]
    if messages:
        raise Refused(400, {"messages": messages})
    return Owner("", **said, map_index=-1 if index in UNMAPPED else int(index))


def told(found: OneLaunch, who: Who) -> dict[str, Any]:
    """To one who may see the task; its logs are a right of their own."""
    task, dag_id = found.task, found.task.owner.dag_id
    may_read, verdict = who.may_task("GET", dag_id, logs=True), task.verdict
    owner = {name: value for name, value in vars(task.owner).items() if name != "deployment"}
    stoppable = task.launch is not None and not verdict and found.state in ("starting", "running", "unknown")
    note = [] if may_read else [{"name": "Logs", "ok": True, "error": None, "note": NO_LOGS}]
    return {
        **ages(found.read),
        "sources": [*sources(found.sources), *note],
        "task": {**owner, "state": task.state, "try_number": task.try_number, "operator": task.operator},
        "launch": launch_told(task.launch) if task.launch else None,
        "phase": plain(found.phase),
        "state": found.state,
        "may_stop": stoppable and who.may_task("PUT", dag_id),
        "members": members_told(found),
        "size": size_told(words_of(task.xcoms.get(SIZE_KEY))),
        "verdict": verdict_told(verdict) if verdict else None,
        "log": log_told(found) if may_read else None,
        "links": links_told(task.launch, task.xcoms),
    }


def launch_told(launch: Launch) -> dict[str, Any]:
    terms = launch.ecs
    return {
        "token": launch.token,
        "kind": launch.kind,
        "region": launch.region,
        "cluster": short(terms.cluster) if terms else None,
        "definition": terms.definition if terms else None,
        "ids": list(launch.ids[:MEMBERS_TOLD]),
        "count": len(launch.ids),
        "requested_at": iso(launch.requested_at),
        "deadline": iso(launch.deadline),
        "receipts": launch.receipts,
    }


def members_told(found: OneLaunch) -> list[dict[str, Any]]:
    return [
        {"id": s.member, "phase": plain(found.words.get(s.member)), "state": s.state}
        for s in found.sightings[:MEMBERS_TOLD]
    ]


def size_told(size: Mapping[str, Any]) -> dict[str, Any] | None:
    return {"count": size.get("count"), "reason": plain(str(size.get("reason") or ""))} if size else None


def verdict_told(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Without the ends of logs, which are told by themselves to who may read them."""
    failed = [said for said in verdict.get("failed") or () if isinstance(said, Mapping)]
    told = [{**{name: said.get(name) for name in FAILED_WORDS}, "evidence": evidence_of(said)} for said in failed]
    return {**{name: verdict.get(name) for name in VERDICT_WORDS}, "failed": told[:MEMBERS_TOLD]}


def evidence_of(said: Mapping[str, Any]) -> str | None:
    return plain(str(said.get("evidence") or ""))


def log_told(found: OneLaunch) -> dict[str, Any]:
    log = found.log
    return {"member": log.member, "lines": [plain(line) for line in log.lines], "note": log.note}


def links_told(launch: Launch | None, xcoms: Mapping[str, Any]) -> list[dict[str, str]]:
    if launch is None or not launch.ids:
        return []
    failed = words_of(xcoms.get(LAUNCH_KEY)).get("failed")
    return links({**launch.to_dict(), "failed": failed if failed in launch.ids else None}, launch.kind)
