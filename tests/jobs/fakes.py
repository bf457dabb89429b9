"""A store in memory, and an Airflow that writes down what it is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_transient.jobs.port import AirflowUnreachable, LastStart, NoJobsFile
from airflow_transient.jobs.service import Jobs
from airflow_transient.jobs.store import Snapshot, StoreConflict, StoredJob, StoreUnreachable

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)


@dataclass
class MemoryStore:
    """`before_write`, once: what another writer does in the moment before this one's write."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    before_write: Callable[[Snapshot], Snapshot] | None = None
    broken: bool = False
    writes: int = 0
    url: str = "memory://"

    def read(self) -> Snapshot:
        return self.snapshot

    def replace(self, new: Snapshot, expected: int) -> None:
        if self.broken:
            raise StoreUnreachable("the disk is full")
        if meddle := self.before_write:
            self.before_write = None
            self.snapshot = meddle(self.snapshot)
        if self.snapshot.revision != expected:
            raise StoreConflict("another writer came first")
        self.snapshot, self.writes = new, self.writes + 1


@dataclass
class FakeAirflow:
    """
    :param dags: DAG id -> paused, of those Airflow knows.
    :param told: what it was told, in order.
    :param fails_at: the name of a verb that raises from now on.
    """

    dags: dict[str, bool] = field(default_factory=dict)
    starts: dict[str, LastStart] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    told: list[tuple[Any, ...]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    fails_at: str | None = None
    has_file: bool = True

    def ready(self) -> None:
        if not self.has_file:
            raise NoJobsFile

    def paused(self, dag_ids: Collection[str]) -> Mapping[str, bool]:
        self._asked("paused")
        return {dag_id: self.dags[dag_id] for dag_id in dag_ids if dag_id in self.dags}

    def begin(self, paused: Mapping[str, bool]) -> None:
        self._tell("begin", dict(paused))
        for dag_id in paused:
            self.runs.pop(dag_id, None)
        self.dags.update({dag_id: state for dag_id, state in paused.items() if dag_id in self.dags})

    def set_paused(self, dag_id: str, paused: bool) -> None:
        self._tell("pause" if paused else "resume", dag_id)
        if dag_id in self.dags:
            self.dags[dag_id] = paused

    def hold(self, dag_ids: Collection[str]) -> None:
        self._tell("hold", *dag_ids)

    def end_runs(self, dag_id: str) -> int:
        self._tell("end_runs", dag_id)
        return self.runs.pop(dag_id, 0)

    def forget(self, dag_id: str) -> None:
        self._tell("forget", dag_id)

    def reparse(self, dag_ids: Collection[str], revision: int) -> None:
        self._tell("reparse", *dag_ids, revision)

    def last_starts(self, since: Mapping[str, datetime]) -> Mapping[str, LastStart]:
        self._asked("last_starts")
        return {
            dag_id: start
            for dag_id, start in self.starts.items()
            if dag_id in since and start.fired_at >= since[dag_id]
        }

    def run_now(self, dag_id: str, by: str | None = None) -> str:
        self._tell("run", dag_id, by)
        return "manual__1"

    def known(self, dag_id: str) -> bool:
        return dag_id in self.dags

    def _tell(self, *what: Any) -> None:
        if what[0] == self.fails_at:
            raise AirflowUnreachable("Airflow's database did not do as asked (OperationalError).")
        self.told.append(what)

    def _asked(self, what: str) -> None:
        self.asked.append(what)


@dataclass
class World:
    """Jobs over the two, a clock that the test moves, and draws that give 7, 8, 9, ..."""

    store: MemoryStore = field(default_factory=MemoryStore)
    airflow: FakeAirflow = field(default_factory=FakeAirflow)
    now: datetime = NOON
    drawn: int = 6

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.store, self.airflow, lambda: self.now, self._draw)

    def _draw(self, low: int, high: int) -> int:
        self.drawn += 1
        return low + (self.drawn - low) % (high - low + 1)

    def later(self, **passed: float) -> None:
        self.now += timedelta(**passed)

    def stored(self, id: str = "sleeper") -> StoredJob:
        return self.store.snapshot.jobs[id]

    def parsed(self) -> None:
        """Airflow has parsed the DAG file: it knows a DAG for each job."""
        for id, job in self.store.snapshot.jobs.items():
            self.airflow.dags.setdefault(f"job.{id}", job.raw.get("suspended") is True)

    def told(self) -> list[tuple[Any, ...]]:
        """What Airflow was told since it was last asked for."""
        said, self.airflow.told = self.airflow.told, []
        return said

    def has(self, id: str = "sleeper", **document: Any) -> StoredJob:
        """A job that Airflow knows, made a day ago."""
        now, self.now = self.now, self.now - timedelta(days=1)
        job = self.jobs.create({"taskDefinition": "sleeper", "id": id, "schedule": "0 */5", **document})
        self.now = now
        self.parsed()
        self.told()
        self.store.writes = 0
        return job

    def damage(self, id: str, **raw: Any) -> None:
        """As an older version, or a hand, may have left it."""
        job = self.store.snapshot.jobs[id]
        spoiled = StoredJob(id, {**job.raw, **raw}, job.revision, job.created_at, job.not_before)
        self.store.snapshot = self.store.snapshot.with_jobs(spoiled)

    @staticmethod
    def made_in(snapshot: Snapshot, id: str = "sleeper") -> Snapshot:
        """The snapshot with a job that another writer has made."""
        other = World(MemoryStore(snapshot))
        other.jobs.create({"taskDefinition": "sleeper", "id": id, "schedule": "0"})
        return other.store.snapshot

    @staticmethod
    def changed_in(snapshot: Snapshot, id: str = "sleeper", **patch: Any) -> Snapshot:
        """The snapshot with a job that another writer has changed."""
        other = World(MemoryStore(snapshot))
        other.jobs.change(id, patch)
        return other.store.snapshot
