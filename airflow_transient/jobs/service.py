"""The verbs of the jobs API without HTTP: what is written, what Airflow is told, and in which order. Those that only
read are in `jobs.showing`.

Written first, told second: the store holds the truth, what Airflow could not be told is said (SavedButNotTold), and
asking again mends it. Only a deletion tells Airflow first (see `Jobs.delete`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_transient.jobs.editing import Show, begun, edited, made, resumed
from airflow_transient.jobs.importing import Plan, planned
from airflow_transient.jobs.port import AirflowUnreachable, NoJobsFile, dag_of
from airflow_transient.jobs.refusals import JobExists, JobSuspended, NotKnownYet, SavedButNotTold, StaleRevision
from airflow_transient.jobs.showing import Showing, found
from airflow_transient.jobs.store import StoreError, update
from airflow_transient.jobs.view import Deleted, Imported, Page, Preview, Shown, Window

if TYPE_CHECKING:
    from airflow_transient.jobs.port import Airflow
    from airflow_transient.jobs.store import JobStore, Snapshot, StoredJob

__all__ = ["Deleted", "Imported", "Jobs", "Page", "Preview", "Shown", "StaleRevision", "Window"]


class Jobs(Showing):
    """
    :param store: where the documents are; each verb raises StoreError where it cannot be read or written.
    :param airflow: `jobs.airflow_db.AirflowDatabase()`, or a fake.
    :param now: the clock, aware UTC.
    :param draw: what a `?` becomes: (least, most) -> a number, both inclusive (`random.SystemRandom().randint`).
    :param show: a document as answers show it: what a change sends back so is kept; default: nothing is hidden.
    """

    def __init__(
        self,
        store: JobStore,
        airflow: Airflow,
        now: Callable[[], datetime],
        draw: Callable[[int, int], int],
        show: Show = dict,
    ) -> None:
        super().__init__(store, airflow, now)
        self.draw = draw
        self.show = show

    # --- writing

    def create(self, raw: Mapping[str, Any]) -> StoredJob:
        """
        :raises InvalidDocument: `.messages`, in the original's shape.
        :raises JobExists: "Job X already exists."
        :raises NoJobsFile: nothing was saved: no DAG file of this Airflow would ever run the job.
        :raises SavedButNotTold: `.job` is saved, and Airflow could not be told.
        """
        document = made(raw, self.draw)
        self.airflow.ready()
        now = self.now()

        def add(snapshot: Snapshot) -> Snapshot:
            if document.id in snapshot.jobs:
                raise JobExists(document.id)
            return snapshot.with_jobs(begun(document, now, snapshot.next_revision))

        after = update(self.store, add)
        job = after.jobs[document.id]
        with _telling(job):
            self.airflow.begin({dag_of(job.id): document.suspended})
            self.airflow.reparse([dag_of(job.id)], after.revision)
        return job

    def change(self, id: str, patch: Mapping[str, Any], if_revision: int | None = None) -> StoredJob:
        """
        A patch that changes nothing leaves the revision as it is, and tells Airflow all the same: it may be repeated.

        :param patch: top-level fields that replace those of the document; the whole document where the stored one is
            damaged.
        :param if_revision: of If-Match; the job's own revision, see `Shown.revision`.
        :raises NoSuchJob: before anything else is looked at.
        :raises StaleRevision: `.revision` is today's.
        :raises InvalidDocument: `.messages`
        :raises NoJobsFile: nothing was saved.
        :raises SavedButNotTold: `.job`
        """
        before = found(self.store.read(), id, if_revision)
        if patch == {}:
            return before
        now, dag_id = self.now(), dag_of(id)
        # What cannot be is said before Airflow is asked.
        edited(before, patch, self.draw, now, before.revision, self.show)
        self.airflow.ready()
        paused = self.airflow.paused([dag_id]).get(dag_id)

        def put(snapshot: Snapshot) -> Snapshot:
            job = found(snapshot, id, if_revision)
            new = edited(job, patch, self.draw, now, snapshot.next_revision, self.show)
            if _resumes(patch, new, _was_suspended(job) if paused is None else paused):
                new = resumed(new, now, snapshot.next_revision)
            return snapshot.with_jobs(new)

        after = update(self.store, put)
        job = after.jobs[id]
        with _telling(job):
            if "suspended" in patch:
                self.airflow.set_paused(dag_id, job.document().suspended)
            if job.not_before == now:
                self.airflow.hold([dag_id])
            self.airflow.reparse([dag_id], after.revision)
        return job

    def delete(self, id: str, if_revision: int | None = None) -> Deleted:
        """
        Paused, its runs ended, and only then out of the store: whatever dies between two of these steps leaves a job
        that is still listed, suspended, and that can be deleted again. The other way round it would leave runs that
        nobody names any more, and that Airflow cannot end for itself once the DAG is gone. A paused DAG gets no new
        runs, so nothing is started between the ending and the removal.

        :raises NoSuchJob: ...
        :raises StaleRevision: `.revision` is today's.
        """
        before = self.store.read()
        found(before, id, if_revision)
        dag_id = dag_of(id)
        paused = self.airflow.paused([dag_id]).get(dag_id)
        self.airflow.set_paused(dag_id, True)

        def remove(snapshot: Snapshot) -> Snapshot:
            found(snapshot, id, if_revision)
            return snapshot.without(id)

        try:
            ended = self.airflow.end_runs(dag_id)
            after = update(self.store, remove)
        except (AirflowUnreachable, StaleRevision, StoreError):
            if paused is False:
                self._go_on(dag_id, before.revision)
            raise
        with _telling(None):
            self.airflow.forget(dag_id)
            self.airflow.reparse([dag_id], after.revision)
        return Deleted(id, ended)

    def _go_on(self, dag_id: str, revision: int) -> None:
        """After a deletion that came to nothing. If that fails too, it stays suspended, for everybody to see."""
        with suppress(AirflowUnreachable, NoJobsFile):
            self.airflow.set_paused(dag_id, False)
            self.airflow.reparse([dag_id], revision)

    def import_documents(
        self, raws: Sequence[Any], *, replace: bool = False, all_or_nothing: bool = False, dry_run: bool = False
    ) -> tuple[Imported, ...]:
        """One write for all of them; an answer for each, in their order.

        :param replace: write over jobs that exist; default: refuse those.
        :param all_or_nothing: write none where one is refused.
        :param dry_run: write nothing, and answer as if.
        :raises NoJobsFile: nothing was saved.
        :raises SavedButNotTold: `.imported` are the answers.
        """
        now = self.now()
        plans: list[Plan] = []

        def add(snapshot: Snapshot) -> Snapshot:
            plan = planned(raws, snapshot, self.draw, now, replace=replace, all_or_nothing=all_or_nothing)
            plans.append(plan)
            return snapshot.with_jobs(*plan.jobs)

        if dry_run:
            add(self.store.read())
            return plans[-1].answers
        self.airflow.ready()
        after = update(self.store, add)
        self._tell_imported(plans[-1], now, after.revision)
        return plans[-1].answers

    def _tell_imported(self, plan: Plan, now: datetime, revision: int) -> None:
        if not plan.jobs:
            return
        with _telling(imported=plan.answers):
            self.airflow.begin({dag_of(job.id): _was_suspended(job) for job in plan.jobs if job.created_at == now})
            for job in plan.jobs:
                if job.created_at != now and "suspended" in job.raw:
                    self.airflow.set_paused(dag_of(job.id), _was_suspended(job))
            self.airflow.hold([dag_of(job.id) for job in plan.jobs if job.not_before == now])
            self.airflow.reparse([dag_of(job.id) for job in plan.jobs], revision)

    # --- running

    def run(self, id: str, by: str | None = None) -> str:
        """The id of a run that was made now.

        :param by: the name of Airflow's user who asked; None: the command line.
        :raises NoSuchJob: ...
        :raises JobSuspended: Airflow starts no run of a paused DAG: it would wait, and start at the resume.
        :raises NotKnownYet: the document is there and its DAG is not parsed yet: try again in a moment.
        """
        found(self.store.read(), id)
        dag_id = dag_of(id)
        if not self.airflow.known(dag_id):
            raise NotKnownYet(id)
        if self.airflow.paused([dag_id]).get(dag_id):
            raise JobSuspended(id)
        return self.airflow.run_now(dag_id, by)


def _was_suspended(job: StoredJob) -> bool:
    """What the document says, damaged or not."""
    return job.raw.get("suspended") is True


def _resumes(patch: Mapping[str, Any], new: StoredJob, paused: bool) -> bool:
    return "suspended" in patch and paused and not _was_suspended(new)


@contextmanager
def _telling(job: StoredJob | None = None, imported: tuple[Imported, ...] = ()) -> Iterator[None]:
    try:
        yield
    except (AirflowUnreachable, NoJobsFile) as error:
        raise SavedButNotTold(job, imported) from error
