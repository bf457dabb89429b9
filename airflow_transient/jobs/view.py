"""What is shown of jobs: a document with what Airflow adds to it, a page of them, a preview, an import's answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from airflow_transient.core.schedule import Schedule, next_fire, parse
from airflow_transient.jobs.document import InvalidDocument, JobDocument
from airflow_transient.jobs.port import LastStart
from airflow_transient.jobs.store import StoredJob

#: Of a page for which no size was asked.
COUNT = 10


@dataclass(frozen=True)
class Shown:
    """
    A job as it is read.

    :param document: as the API prints it, without `link`: the stored fields, then `suspended`, `lastRun`,
        `lastRunTasks`, `estimatedNextRun` where there are any. Environment values are as stored: whoever prints them
        masks them first (`masks.masked`). A damaged document is `{"id": ..., "error": {field: [texts]}}`.
    :param revision: of the stored document; what If-Match compares.
    :param runtime: a hash of what Airflow adds.
    """

    id: str
    document: Mapping[str, Any]
    revision: int
    runtime: str
    error: Mapping[str, Any] | None = None

    @property
    def etag(self) -> str:
        """Without its quotes."""
        return f"{self.revision}-{self.runtime}"


def shown(job: StoredJob, paused: bool | None, start: LastStart | None, now: datetime) -> Shown:
    """
    :param paused: what Airflow says; None where it does not know the job's DAG yet.
    """
    try:
        told = job.document()
    except InvalidDocument as error:
        return _damaged(job, error, bool(paused))
    suspended = told.suspended if paused is None else paused
    schedule = schedule_of(told)
    added: dict[str, Any] = _started(start, schedule) if start else {}
    if suspended or "suspended" in job.raw:
        added["suspended"] = suspended
    if not suspended and (fire := next_fire(schedule, max(now, job.not_before))):
        added["estimatedNextRun"] = in_zone(schedule, fire).isoformat()
    return Shown(job.id, {**job.raw, **added}, job.revision, _hash(added))


def _damaged(job: StoredJob, error: InvalidDocument, paused: bool) -> Shown:
    added = {"suspended": True} if paused else {}
    document = {"id": job.id, "error": error.messages, **added}
    return Shown(job.id, document, job.revision, _hash(added), error.messages)


def schedule_of(document: JobDocument) -> Schedule:
    return parse(document.schedule, document.timezone, document.schedule_start, document.schedule_end)


def in_zone(schedule: Schedule, moment: datetime) -> datetime:
    """The same moment, with the offset that the job's timezone has then."""
    return moment.astimezone(ZoneInfo(schedule.timezone))


def _started(start: LastStart, schedule: Schedule) -> dict[str, Any]:
    tasks = [{"taskId": task, **({"hostId": host} if host else {})} for task, host in start.tasks]
    return {"lastRun": in_zone(schedule, start.fired_at).isoformat(), "lastRunTasks": tasks}


def _hash(added: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(added, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Window:
    """A page's place."""

    skip: int
    count: int

    def params(self) -> dict[str, int]:
        """The query of a link to it, which leaves out what is the default: nothing for the first page of ten."""
        return {
            **({"skip": self.skip} if self.skip else {}),
            **({"count": self.count} if self.count != COUNT else {}),
        }


@dataclass(frozen=True)
class Page:
    jobs: tuple[Shown, ...]
    total: int  # of the jobs that the reader may see
    prev: Window | None
    next: Window | None


def neighbours(skip: int, count: int, total: int) -> tuple[Window | None, Window | None]:
    """The pages before and after; a page of no size has none."""
    before = Window(max(0, skip - count), count) if count and total and skip else None
    after = Window(skip + count, count) if count and skip + count < total else None
    return before, after


@dataclass(frozen=True)
class Preview:
    """When a schedule fires; none: never again."""

    schedule: str  # with a number in place of each `?`
    drawn: bool  # there were some: saving draws anew
    fires: tuple[datetime, ...]  # in the job's timezone
    words: str | None = None  # why there is none


@dataclass(frozen=True)
class Imported:
    """What became of one document of an import."""

    id: str | None  # None: it has none
    outcome: str  # created, replaced, unchanged, refused, left (all or nothing, and another one is refused)
    messages: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deleted:
    id: str
    ended: int  # live runs that were marked failed
