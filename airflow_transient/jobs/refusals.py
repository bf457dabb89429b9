"""Why a verb of the jobs' service does nothing, or not all; the plugin and the command line make answers of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_transient.errors import SpecError, TransientError

if TYPE_CHECKING:
    from airflow_transient.jobs.store import StoredJob
    from airflow_transient.jobs.view import Imported


class NoSuchJob(TransientError):
    """HTTP: 404."""

    def __init__(self, id: str) -> None:
        super().__init__(f"Job {id} does not exist.")
        self.id = id


class JobExists(TransientError):
    """HTTP: 409."""

    def __init__(self, id: str) -> None:
        super().__init__(f"Job {id} already exists.")
        self.id = id


class StaleRevision(TransientError):
    """Someone else has changed it since it was read (HTTP: 412)."""

    def __init__(self, id: str, revision: int) -> None:
        super().__init__(f"Job {id} has changed since it was read: read it again.")
        self.id, self.revision = id, revision


class JobSuspended(TransientError):
    """HTTP: 409."""

    def __init__(self, id: str) -> None:
        super().__init__(f"Job {id} is suspended, and Airflow starts no run of a paused DAG: resume it first.")
        self.id = id


class NotKnownYet(TransientError):
    """HTTP: 503 with Retry-After."""

    def __init__(self, id: str) -> None:
        super().__init__(f"Job {id} is saved, and Airflow has not parsed it yet: try again in a few seconds.")
        self.id = id


class BadQuery(SpecError):
    """HTTP: 400."""

    def __init__(self, messages: Mapping[str, Any]) -> None:
        super().__init__("; ".join(f"{name}: {' '.join(texts)}" for name, texts in messages.items()))
        self.messages = messages


class SavedButNotTold(TransientError):
    """It is saved, and a part of Airflow's side is not done (HTTP: 500 with `item`); `__cause__` tells why."""

    def __init__(self, job: StoredJob | None = None, imported: tuple[Imported, ...] = ()) -> None:
        super().__init__("Job update was saved correctly but failed to post update message to scheduler.")
        self.job, self.imported = job, imported
