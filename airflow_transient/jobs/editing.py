"""From what is stored and what is asked to what is to be stored. Pure: repeated where another writer came first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from airflow_transient.jobs.document import InvalidDocument, JobDocument, resolved
from airflow_transient.jobs.store import StoredJob

Draw = Callable[[int, int], int]
#: A document as answers show it.
Show = Callable[[Mapping[str, Any]], Mapping[str, Any]]

#: What decides when a job fires: a change of one of these makes up for nothing of the time before it.
CLOCKWORK = ("schedule", "timezone", "scheduleStart", "scheduleEnd")
NOT_TO_BE_CHANGED = "The id of a job cannot be changed."


def made(raw: Mapping[str, Any], draw: Draw) -> JobDocument:
    """A document as it is stored: each `?` drawn. Raises InvalidDocument."""
    return resolved(JobDocument.of(raw), draw)


def begun(document: JobDocument, now: datetime, revision: int) -> StoredJob:
    return StoredJob(document.id, document.to_dict(), revision, created_at=now, not_before=now)


def edited(
    job: StoredJob, patch: Mapping[str, Any], draw: Draw, now: datetime, revision: int, show: Show = dict
) -> StoredJob:
    """With the patch's fields in place of its own; itself where that changes nothing. Raises InvalidDocument."""
    return rewritten(job, _patched(job, patch, draw, show), now, revision)


def rewritten(job: StoredJob, document: JobDocument, now: datetime, revision: int) -> StoredJob:
    raw = document.to_dict()
    if raw == job.raw:
        return job
    moved = any(raw.get(name) != job.raw.get(name) for name in CLOCKWORK)
    return replace(job, raw=raw, revision=revision, not_before=now if moved else job.not_before)


def resumed(job: StoredJob, now: datetime, revision: int) -> StoredJob:
    """Nothing is made up for of the time in which it was suspended."""
    return replace(job, revision=revision, not_before=now)


def _patched(job: StoredJob, patch: Mapping[str, Any], draw: Draw, show: Show) -> JobDocument:
    try:
        stored = job.document()
    except InvalidDocument:
        # Nothing to merge with: what is given has to be the whole document.
        document = JobDocument.of({"id": job.id, **patch} if isinstance(patch, Mapping) else patch)
        if document.id != job.id:
            raise InvalidDocument({"id": [NOT_TO_BE_CHANGED]}) from None
    else:
        document = stored.merged(patch, show(stored.to_dict()))
    return resolved(document, draw)
