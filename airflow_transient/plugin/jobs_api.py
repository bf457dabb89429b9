"""/jobs: the original's verbs, bodies and codes, with rights per DAG; `jobs.service` does the work.

Routes are plain functions, so they run in threads: the store and Airflow's database block.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from airflow_transient.jobs.document import InvalidDocument
from airflow_transient.jobs.port import dag_of
from airflow_transient.jobs.service import Jobs, Preview, Shown, StaleRevision
from airflow_transient.jobs.store import StoredJob, open_store
from airflow_transient.plugin import answers, masking, orders
from airflow_transient.plugin.access import Who, who
from airflow_transient.plugin.answers import Printed, Refused, href, item_link, link, saved, tagged
from airflow_transient.plugin.spec import body_of

log = logging.getLogger(__name__)

router = APIRouter(tags=["jobs"])

#: A page of more would be many megabytes, and the next one is a link away.
MAX_COUNT = 1000
COUNT = 10
FIRES = 5


@lru_cache(maxsize=1)
def the_jobs() -> Jobs:
    """One for the process: a store may hold a client, and making that takes longer than a request."""
    from airflow_transient.jobs.airflow_db import AirflowDatabase

    draw = random.SystemRandom().randint
    return Jobs(open_store(), AirflowDatabase(), lambda: datetime.now(timezone.utc), draw, masking.told)


Body = Annotated[bytes, Depends(orders.body)]
Asking = Annotated[Who, Depends(who)]
Service = Annotated[Jobs, Depends(the_jobs)]


@router.get("/jobs", summary="Those jobs that you may see, in the order they were made")
def list_jobs(request: Request, who: Asking, jobs: Service) -> Response:
    """In the query: `skip` (default 0), `count` (default 10, at most 1,000)."""
    skip = orders.integer(request, "skip", 0)
    count = min(orders.integer(request, "count", COUNT), MAX_COUNT)
    page = jobs.list(skip, count, lambda ids: readable(who, ids))
    told: dict[str, Any] = {"jobs": [job_body(request, job) for job in page.jobs]}
    for name, window in (("prev", page.prev), ("next", page.next)):
        if window:
            told[name] = href(request, "jobs", **window.params())
    return tagged(request, told)


@router.post("/jobs", status_code=201, summary="Create a job", openapi_extra=body_of("Job"))
def create_job(request: Request, raw: Body, who: Asking, jobs: Service) -> Response:
    """Its id is that of its task definition, unless it says another."""
    document = orders.document(raw)
    id = document["id"] if "id" in document else document.get("taskDefinition")
    who.must("POST", dag_of(id) if isinstance(id, str) else None)
    with refusals_of(document):
        job = jobs.create(document)
    log.info("job %s created by %s", job.id, who.name)
    return Printed(saved(request, job.id), 201, tag_of(job))


@router.post("/jobs/preview", summary="When a draft would fire", openapi_extra=body_of("JobUpdate"))
def preview(request: Request, raw: Body, jobs: Service) -> Response:
    """
    Of the draft only `schedule`, `timezone`, `scheduleStart` and `scheduleEnd` are read. In the query: `count`
    (default 5, at most 100).
    """
    draft = orders.document(raw)
    with refusals_of(draft):
        found = jobs.next_fires(draft, orders.integer(request, "count", FIRES))
    return Printed(preview_body(found))


@router.get("/jobs/{id}", summary="A job")
def get_job(request: Request, id: str, who: Asking, jobs: Service) -> Response:
    """With what Airflow adds: `suspended`, `lastRun`, `lastRunTasks`, `estimatedNextRun`."""
    who.must("GET", dag_of(id))
    job = jobs.get(id)
    return tagged(request, job_body(request, job), job.etag)


@router.put("/jobs/{id}", summary="Change fields of a job", openapi_extra=body_of("JobUpdate"))
def change_job(request: Request, id: str, raw: Body, who: Asking, jobs: Service) -> Response:
    """
    The fields given replace the job's own, whole (`trigger`, `overrides`); the others stay. With `If-Match`, only
    where the document is still the one of that tag.
    """
    who.must("PUT", dag_of(id))
    patch = patch_of(jobs, id, raw)
    with refusals_of(patch):
        job = jobs.change(id, patch, if_revision(request, jobs, id))
    log.info("job %s changed by %s: %s", id, who.name, ", ".join(sorted(patch)) or "nothing")
    return Printed(saved(request, id), headers=tag_of(job))


@router.delete("/jobs/{id}", summary="Delete a job and end its runs")
def delete_job(request: Request, id: str, who: Asking, jobs: Service) -> Response:
    """With `If-Match`, only where the document is still the one of that tag."""
    who.must("DELETE", dag_of(id))
    deleted = jobs.delete(id, if_revision(request, jobs, id))
    log.info("job %s deleted by %s; live runs that were ended: %d", id, who.name, deleted.ended)
    return Printed({"id": id})


@router.get("/jobs/{id}/next", summary="When a job fires next")
def next_fires(request: Request, id: str, who: Asking, jobs: Service) -> Response:
    """In the query: `count` (default 5, at most 100). A suspended job fires at none of these."""
    who.must("GET", dag_of(id))
    return Printed(preview_body(jobs.next_fires(id, orders.integer(request, "count", FIRES))))


@router.post("/jobs/{id}/run", status_code=202, summary="Run a job now")
def run_job(request: Request, id: str, who: Asking, jobs: Service) -> Response:
    """The link is the run's in Airflow's own API. Needs no body."""
    who.must("POST", dag_of(id), runs=True)
    run_id = jobs.run(id, who.name)
    log.info("job %s run by %s: %s", id, who.name, run_id)
    where = answers.airflow_href(request, "api", "v2", "dags", dag_of(id), "dagRuns", run_id)
    return Printed({"id": id, "runId": run_id, "link": link("run", f"Run of {id}", where)}, 202)


# --- from what the service says to what is answered


def readable(who: Who, ids: Sequence[str]) -> set[str]:
    may = who.readable([dag_of(id) for id in ids])
    return {id for id in ids if dag_of(id) in may}


def job_body(request: Request, job: Shown) -> dict[str, Any]:
    return {**masking.told(job.document), "link": item_link(request, job.id)}


def preview_body(found: Preview) -> dict[str, Any]:
    told = {"schedule": found.schedule, "drawn": found.drawn, "next": [fire.isoformat() for fire in found.fires]}
    return {**told, **({"words": found.words} if found.words else {})}


def tag_of(job: StoredJob) -> dict[str, str]:
    """For an If-Match of the next change; what Airflow adds is not known here, so no GET's tag equals it."""
    return {"ETag": f'"{job.revision}-"'}


# --- from what is asked to what the service is told


def patch_of(jobs: Jobs, id: str, raw: bytes) -> dict[str, Any]:
    """What is not there is said before what is wrong with the body, as in the original."""
    try:
        return orders.document(raw)
    except Refused:
        jobs.get(id)
        raise


def if_revision(request: Request, jobs: Jobs, id: str) -> int | None:
    """The one revision that If-Match allows, of several that which the job has; so too where If-None-Match refuses."""
    wanted = answers.wanted_revisions(request)
    if "if-none-match" not in request.headers and (wanted is None or len(wanted) == 1):
        return next(iter(wanted)) if wanted else None
    job = jobs.get(id)
    if answers.is_unwanted(request, job.etag) or (wanted is not None and job.revision not in wanted):
        raise StaleRevision(id, job.revision)
    return job.revision


@contextmanager
def refusals_of(document: Mapping[str, Any]) -> Iterator[None]:
    """A message may repeat what it is about."""
    try:
        yield
    except InvalidDocument as error:
        raise Refused(400, {"messages": masking.without_secrets(error.messages, document)}) from None
