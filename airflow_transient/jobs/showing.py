"""The verbs that read: jobs as they are stored, with what Airflow adds to them; when they fire next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_transient.core.schedule import fires
from airflow_transient.jobs.editing import made
from airflow_transient.jobs.port import dag_of
from airflow_transient.jobs.refusals import BadQuery, NoSuchJob, StaleRevision
from airflow_transient.jobs.view import COUNT, Page, Preview, Shown, in_zone, neighbours, schedule_of, shown

if TYPE_CHECKING:
    from airflow_transient.jobs.port import Airflow
    from airflow_transient.jobs.store import JobStore, Snapshot, StoredJob

#: Of job ids, those the reader may see.
MayRead = Callable[[Sequence[str]], Collection[str]]

#: Of the fields of a draft, those that say when it fires.
CLOCK_FIELDS = ("schedule", "scheduleStart", "scheduleEnd", "timezone")
MAX_FIRES = 100
NEVER = "This schedule never fires again."


class Showing:
    def __init__(self, store: JobStore, airflow: Airflow, now: Callable[[], datetime]) -> None:
        self.store = store
        self.airflow = airflow
        self.now = now

    def get(self, id: str) -> Shown:
        """
        :raises NoSuchJob: ...
        """
        return self._shown([found(self.store.read(), id)])[0]

    def list(self, skip: int = 0, count: int = COUNT, may_read: MayRead | None = None) -> Page:
        """A page of the jobs the reader may see, oldest first; negative numbers are 0."""
        jobs = self.store.read().jobs
        ids = list(jobs)
        if may_read is not None:
            readable = set(may_read(ids))
            ids = [id for id in ids if id in readable]
        skip, count = max(0, skip), max(0, count)
        before, after = neighbours(skip, count, len(ids))
        return Page(self._shown([jobs[id] for id in ids[skip : skip + count]]), len(ids), before, after)

    def _shown(self, jobs: Sequence[StoredJob]) -> tuple[Shown, ...]:
        """Asks Airflow once for all of them."""
        if not jobs:
            return ()
        paused = self.airflow.paused([dag_of(job.id) for job in jobs])
        starts = self.airflow.last_starts({dag_of(job.id): job.created_at for job in jobs})
        now = self.now()
        return tuple(shown(job, paused.get(dag_of(job.id)), starts.get(dag_of(job.id)), now) for job in jobs)

    def next_fires(self, of: str | Mapping[str, Any], count: int = 5) -> Preview:
        """
        :param of: a job's id, or a draft: schedule, timezone, scheduleStart, scheduleEnd of a document being typed;
            other keys of it are not looked at.
        :param count: 1 to 100.
        :raises NoSuchJob: ...
        :raises BadQuery: `.messages`: count out of its bounds.
        :raises InvalidDocument: `.messages` of the draft, or of a damaged document.
        """
        if not 1 <= count <= MAX_FIRES:
            raise BadQuery({"count": [f"Must be between 1 and {MAX_FIRES}."]})
        after, drawn = self.now(), False
        if isinstance(of, str):
            job = found(self.store.read(), of)
            document, after = job.document(), max(after, job.not_before)
        else:
            draft = {name: of[name] for name in CLOCK_FIELDS if name in of}
            # The lowest of each `?`: a preview that jumped about while one types would look like a fault.
            document = made({"id": "draft", "taskDefinition": "draft", **draft}, lambda low, high: low)
            drawn = "?" in draft["schedule"]
        schedule = schedule_of(document)
        moments = tuple(in_zone(schedule, fire) for fire in fires(schedule, after, count))
        return Preview(document.schedule, drawn, moments, None if moments else NEVER)


def found(snapshot: Snapshot, id: str, if_revision: int | None = None) -> StoredJob:
    job = snapshot.jobs.get(id)
    if job is None:
        raise NoSuchJob(id)
    if if_revision is not None and if_revision != job.revision:
        raise StaleRevision(id, job.revision)
    return job
