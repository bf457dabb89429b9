"""/running: everything that runs, for whoever may see it; /running/stop: to end one launch of it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from airflow_transient.errors import LaunchError, TransientError
from airflow_transient.plugin import orders, stopping, telling
from airflow_transient.plugin.access import Who, who
from airflow_transient.plugin.answers import Refused
from airflow_transient.plugin.cache import Cache, Entry, StillAsking, TooMuchAtOnce
from airflow_transient.plugin.looking import PAGES, PATIENCE, sentence
from airflow_transient.plugin.survey import MOST_ROWS
from airflow_transient.plugin.telling import fresh

router = APIRouter(tags=["what runs"])
T = TypeVar("T")

Asking = Annotated[Who, Depends(who)]
Body = Annotated[bytes, Depends(orders.body)]

ROWS = 500
#: Of its own, so that no page waits for a stop; nothing of it is kept.
STOPS = Cache(threads=2, ttl=0, stale=0, expected=(TransientError, Refused))


@router.get("/running", summary="What runs of what this Airflow has launched")
async def running(request: Request, who: Asking) -> Response:
    """In the query: `limit` (default 500, at most 1,000)."""
    limit = min(max(orders.integer(request, "limit", ROWS), 1), MOST_ROWS)
    found = answered(await PAGES.wait("running", telling.surveyed, PATIENCE.page))
    return fresh(await run_in_threadpool(telling.running, found, who, limit))


@router.post("/running/stop", summary="Stop one launch")
async def stop(raw: Body, who: Asking) -> Response:
    """The body names a row of /running: `dag_id`, `run_id`, `task_id`, `map_index`, `token`."""
    owner, token = stopping.wanted(orders.document(raw))
    act = partial(stopping.stop, owner, token, who)
    try:
        # Asked for twice at once, it is done once.
        return fresh(answered(await STOPS.wait((who.name, owner, token), act, PATIENCE.stop)))
    except LaunchError as error:
        raise Refused(502, sentence(error)) from error


def answered(entry: Entry[T]) -> T:
    """Raises Refused where there is no answer in time, and what the answer raises."""
    if isinstance(entry.error, StillAsking | TooMuchAtOnce):
        raise Refused(503, f"{entry.error}: ask again in a moment.", {"Retry-After": "2"})
    return entry.get()
