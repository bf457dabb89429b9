"""GET /spec: OpenAPI, with the documents' schemas from their models."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from airflow_transient.jobs.document import JobDocument
from airflow_transient.plugin.answers import href, link, tagged

router = APIRouter()
SCHEMAS = "#/components/schemas/"


def body_of(schema: str) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body itself."""
    content = {"application/json": {"schema": {"$ref": f"{SCHEMAS}{schema}"}}}
    return {"requestBody": {"required": True, "content": content}}


@router.get("/", tags=["about"], summary="What there is")
def resources(request: Request) -> Response:
    found = [link(name, name.capitalize(), href(request, name)) for name in ("jobs", "spec")]
    return tagged(request, {"resources": [{"link": one} for one in found]})


@router.get("/spec", tags=["about"], summary="This description")
def spec(request: Request) -> Response:
    return tagged(request, {**described(request.app), "servers": [{"url": href(request)}]})


@lru_cache(maxsize=1)
def described(app: FastAPI) -> dict[str, Any]:
    """Without what differs between requests."""
    told = deepcopy(app.openapi())
    told.pop("servers", None)
    told.setdefault("components", {}).setdefault("schemas", {}).update(_schemas())
    return told


def _schemas() -> dict[str, Any]:
    """A job as it is POSTed, and as it is PUT: any of its fields, but not its id and kind."""
    job = JobDocument.model_json_schema(by_alias=True, mode="validation", ref_template=f"{SCHEMAS}{{model}}")
    parts: dict[str, Any] = job.pop("$defs", {})
    # The id is the task definition's name where none is given.
    required = [name for name in job.get("required", ()) if name != "id"]
    of_update = {name: field for name, field in job["properties"].items() if name not in {"id", "kind"}}
    update = {**job, "title": "JobUpdate", "properties": of_update}
    update.pop("required", None)
    return {**parts, "Job": {**job, "title": "Job", "required": required}, "JobUpdate": update}
