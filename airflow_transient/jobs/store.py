"""Where jobs are kept: one snapshot of all of them, replaced as a whole. Whoever writes says what he has read.

StoreError
├── StoreDamaged       what is there cannot be read: it is not overwritten, and the newest good version is named
├── StoreUnreachable   nobody can say what is there now
└── StoreConflict      another writer came first: `update` reads again and repeats the change
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from airflow_transient.errors import TransientError

if TYPE_CHECKING:
    from airflow_transient.jobs.document import JobDocument

FORMAT = 1
#: A writer whose answer was lost finds its own write among so many.
REMEMBERED = 10
#: A writer that comes second so often, with pauses in between, gives up.
MAX_TRIES = 30
LONGEST_PAUSE = 1.0
CONN_ID = "aws_default"


class StoreError(TransientError):
    """The jobs cannot be read or written."""


class StoreDamaged(StoreError):
    """What is kept there is no snapshot that this version reads; a person has to look at it."""


class StoreUnreachable(StoreError):
    """No answer, no permission, or no such place."""


class StoreConflict(StoreError):
    """Somebody else has written since it was read."""


@dataclass(frozen=True)
class StoredJob:
    """
    A document as it was written, each `?` drawn.

    :param revision: of the snapshot that last changed it.
    :param not_before: nothing fires for the time before it was made, changed or resumed.
    """

    id: str
    raw: Mapping[str, Any]
    revision: int
    created_at: datetime
    not_before: datetime

    def document(self) -> JobDocument:
        """Raises InvalidDocument where somebody has damaged it, or an older version took what this one does not."""
        from airflow_transient.jobs.document import JobDocument

        return JobDocument.of(self.raw)

    def to_dict(self) -> dict[str, Any]:
        moments = {"createdAt": self.created_at.isoformat(), "notBefore": self.not_before.isoformat()}
        return {"revision": self.revision, **moments, "document": dict(self.raw)}

    @classmethod
    def from_dict(cls, id: str, said: Mapping[str, Any]) -> StoredJob:
        created_at, not_before = _moment(said["createdAt"]), _moment(said["notBefore"])
        return cls(id, dict(said["document"]), int(said["revision"]), created_at, not_before)


@dataclass(frozen=True)
class Snapshot:
    """
    All jobs at one moment, in the order in which they were made.

    :param write: drawn for each write, so that a writer whose answer was lost knows its own work.
    :param earlier: those of the writes before, newest first.
    """

    revision: int = 0
    jobs: Mapping[str, StoredJob] = field(default_factory=dict)
    written_at: datetime | None = None
    write: str = ""
    earlier: tuple[str, ...] = ()

    @property
    def next_revision(self) -> int:
        """What a change of it gets, and with it each job that is changed."""
        return self.revision + 1

    def with_jobs(self, *jobs: StoredJob) -> Snapshot:
        """With these in place of those of the same ids, or behind the others."""
        return replace(self, jobs={**self.jobs, **{job.id: job for job in jobs}})

    def without(self, id: str) -> Snapshot:
        return replace(self, jobs={key: job for key, job in self.jobs.items() if key != id})

    def stamped(self, before: Snapshot, now: datetime) -> Snapshot:
        """As it is written in place of `before`."""
        earlier = tuple(filter(None, (before.write, *before.earlier)))[:REMEMBERED]
        return replace(self, revision=before.next_revision, written_at=now, write=uuid4().hex, earlier=earlier)

    def follows(self, write: str) -> bool:
        """Whether it is the outcome of that write, or of one that was made on top of it."""
        return write in (self.write, *self.earlier)

    def to_json(self) -> str:
        said = {
            "format": FORMAT,
            "revision": self.revision,
            "write": self.write,
            "earlier": list(self.earlier),
            "writtenAt": self.written_at.isoformat() if self.written_at else None,
            "jobs": {id: job.to_dict() for id, job in self.jobs.items()},
        }
        return json.dumps(said, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Snapshot:
        """Raises ValueError with what is wrong."""
        try:
            said = json.loads(text)
            _check_format(said["format"])
            jobs = {id: StoredJob.from_dict(id, job) for id, job in said["jobs"].items()}
            written_at = _moment(said["writtenAt"]) if said["writtenAt"] else None
            earlier = tuple(map(str, said.get("earlier", ())))
            return cls(int(said["revision"]), jobs, written_at, str(said["write"]), earlier)
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"it is no snapshot of jobs ({type(error).__name__}: {error})") from None


def _check_format(found: Any) -> None:
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        raise ValueError(
            f"its format is {found!r}, and this version of airflow_transient knows {FORMAT}"
            + (": upgrade it here too" if newer else "")
        )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


class JobStore(Protocol):
    """A place for one snapshot, which several processes and hosts may write."""

    @property
    def url(self) -> str: ...

    def read(self) -> Snapshot:
        """What is there; where nothing was ever written, an empty snapshot of revision 0."""

    def replace(self, new: Snapshot, expected: int) -> None:
        """Write `new` where revision `expected` is. Raises StoreConflict where another one is, and writes nothing."""


def update(store: JobStore, change: Callable[[Snapshot], Snapshot]) -> Snapshot:
    """
    Read, change, write; and again where another writer came first. What changes no job is not written.

    :param change: called with each snapshot anew; what it raises ends the update, and nothing is written.
    """
    new: Snapshot | None = None
    for tried in range(MAX_TRIES):
        before = store.read()
        if new and before.follows(new.write):  # it was written, and the answer was lost
            return new
        after = change(before)
        if list(after.jobs.items()) == list(before.jobs.items()):
            return before
        new = after.stamped(before, datetime.now(timezone.utc))
        try:
            store.replace(new, before.revision)
            return new
        except StoreConflict:
            time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.01 * 2**tried)))  # noqa: S311 - it keeps writers apart
    raise StoreConflict(f"{store.url}: other writers came first {MAX_TRIES} times in a row; try again in a moment")


def open_store(url: str | None = None) -> JobStore:
    """The store at `url`; None: where `[transient] jobs_store` says. Raises StoreUnreachable for a place of no kind."""
    url = url or _configured("jobs_store") or f"file://{_airflow_home()}/transient/jobs.json"
    scheme, found, _ = url.partition("://")
    if scheme == "file" and found:
        from airflow_transient.jobs.stores.file import FileStore

        return FileStore(url)
    if scheme == "s3" and found:
        from airflow_transient.jobs.stores.s3 import S3Store

        return S3Store(url, _configured("jobs_conn_id") or CONN_ID)
    if scheme == "variable" and found:
        from airflow_transient.jobs.stores.variable import VariableStore

        return VariableStore(url)
    raise StoreUnreachable(
        f"[transient] jobs_store is {url!r}: it must be file:///folder/jobs.json, s3://bucket/key or variable://NAME"
    )


def _configured(option: str) -> str:
    from airflow.sdk import conf

    return str(conf.get("transient", option, fallback="") or "").strip()


def _airflow_home() -> Path:
    return Path(os.path.expandvars(os.environ.get("AIRFLOW_HOME") or "~/airflow")).expanduser().absolute()


def last_good(store: JobStore, cache_dir: Path) -> tuple[Snapshot, timedelta | None]:
    """
    What is in the store and None; or, where it cannot be read, what was in it at the last good reading on this host,
    and how long ago that was. Raises StoreError where there never was one.

    :param cache_dir: a folder of this host where the copy is kept.
    """
    from airflow_transient.jobs.stores.copy import read_or_copy

    return read_or_copy(store, cache_dir)
