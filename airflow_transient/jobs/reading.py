"""What a DAG file knows of the jobs when it is parsed: the documents, and how sure that is."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_transient.jobs.store import Snapshot, last_good, open_store

if TYPE_CHECKING:
    from airflow_transient.jobs.store import JobStore, StoredJob

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """
    :param url: of the store; empty where not even that is known.
    :param seen: the moment of the copy that stands in for the store; None: it was read just now.
    :param problem: why nothing at all could be read.
    """

    snapshot: Snapshot = field(default_factory=Snapshot)
    url: str = ""
    seen: datetime | None = None
    problem: str | None = None

    @property
    def fresh(self) -> bool:
        return self.seen is None and self.problem is None


@dataclass(frozen=True)
class Shard:
    """One DAG file's part of the jobs: `number` of `of`, from 0."""

    number: int = 0
    of: int = 1

    def holds(self, job_id: str) -> bool:
        """Where a job is does not depend on the other jobs, nor on the process that asks."""
        return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:8], "big") % max(1, self.of) == self.number

    def jobs(self, snapshot: Snapshot) -> Iterator[StoredJob]:
        return (job for job in snapshot.jobs.values() if self.holds(job.id))


def read(store: JobStore | None = None) -> Reading:
    """The documents, or this host's copy of them. Never raises: an exception in a DAG file ends every job in it."""
    url = store.url if store else ""
    try:
        place = store or open_store()
        url = place.url
        snapshot, age = last_good(place, _copies())
    except Exception as error:
        log.warning("the jobs cannot be read, and there is no copy of them on this host: %s", error)
        return Reading(url=url, problem=str(error) or type(error).__name__)
    return Reading(snapshot, url, age if age is None else _moment(age))


def _moment(age: timedelta) -> datetime:
    """To the minute: the same at each parse, or each would make a new version of a DAG that tells it."""
    return (datetime.now(timezone.utc) - age).replace(second=0, microsecond=0)


def _copies() -> Path:
    home = os.path.expandvars(os.environ.get("AIRFLOW_HOME") or "~/airflow")
    return Path(home).expanduser().absolute() / "transient" / "copies"
