"""Which HTTP status each refusal is, as a table."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from airflow_transient.errors import SpecError
from airflow_transient.jobs.document import InvalidDocument
from airflow_transient.jobs.port import AirflowUnreachable, NoJobsFile
from airflow_transient.jobs.refusals import (
    BadQuery,
    JobExists,
    JobSuspended,
    NoSuchJob,
    NotKnownYet,
    SavedButNotTold,
    StaleRevision,
)
from airflow_transient.jobs.store import StoreConflict, StoreError
from airflow_transient.plugin import answers
from airflow_transient.plugin.access import Forbidden
from airflow_transient.plugin.answers import Printed, Refused, saved

log = logging.getLogger(__name__)

#: Each tells its own sentence. The most special class of an error decides.
STATUSES: dict[type[Exception], int] = {
    SpecError: 400,
    Forbidden: 403,
    NoSuchJob: 404,
    JobExists: 409,
    JobSuspended: 409,
    StaleRevision: 412,
    NoJobsFile: 503,
    AirflowUnreachable: 503,
    StoreError: 503,
    StoreConflict: 503,
    NotKnownYet: 503,
}
#: Seconds after which the same request may well succeed.
RETRY_AFTER: dict[type[Exception], int] = {StoreConflict: 1, NotKnownYet: 2}
FIELD_WISE = (InvalidDocument, BadQuery)


def handle(app: FastAPI) -> None:
    handlers: dict[type[Exception], Callable[[Request, Any], Response]] = {
        **dict.fromkeys(STATUSES, _sentence),
        **dict.fromkeys(FIELD_WISE, _messages),
        SavedButNotTold: _saved,
        Refused: lambda _request, refused: refused.response(),
        RequestValidationError: _misread,
        HTTPException: _plain,
    }
    for error, handler in handlers.items():
        app.add_exception_handler(error, handler)


def _sentence(_request: Request, error: Exception) -> Response:
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    if status >= 500:
        log.warning("%s: %s", type(error).__name__, error)
    wait = RETRY_AFTER.get(type(error))
    return Printed({"message": str(error)}, status, {"Retry-After": str(wait)} if wait else None)


def _messages(_request: Request, error: InvalidDocument | BadQuery) -> Response:
    return Printed({"messages": error.messages}, 400)


def _saved(request: Request, error: SavedButNotTold) -> Response:
    """What was asked for is done, and must not be asked for again; Airflow hears of it at its next parse."""
    log.warning("%s", error, exc_info=error.__cause__)
    item = saved(request, error.job.id) if error.job else {"id": request.path_params.get("id")}
    return Printed({"item": item, "message": str(error)}, 500)


def _misread(_request: Request, error: RequestValidationError) -> Response:
    """FastAPI's own 422 repeats what it was given; this does not."""
    messages: dict[str, list[str]] = {}
    for found in error.errors():
        place = [str(part) for part in found["loc"][1:]] or ["_schema"]
        messages.setdefault(".".join(place), []).append(f"{found['msg']}.")
    return Printed({"messages": messages}, 400)


def _plain(_request: Request, error: HTTPException) -> Response:
    sentence = answers.NOT_FOUND if error.status_code == 404 and error.detail == "Not Found" else str(error.detail)
    return Printed({"message": sentence}, error.status_code, dict(error.headers or {}))
