"""An Airflow that parses at once, and an auth manager with rights per DAG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

from tests.jobs.fakes import FakeAirflow


class QuickAirflow(FakeAirflow):
    """Knows each DAG as soon as it is told of its job."""

    def begin(self, paused: Mapping[str, bool]) -> None:
        super().begin(paused)
        self.dags.update(paused)


class RightsPerDag(SimpleAuthManager):
    """The roles of SimpleAuthManager; of the user "narrow" the DAG job.mine only, of another no task's logs."""

    def is_authorized_dag(self, *, details: Any = None, user: Any, **asked: Any) -> bool:
        if user.username == "narrow" and (details is None or details.id != "job.mine"):
            return False
        if user.username == "without logs" and asked.get("access_entity") is DagAccessEntity.TASK_LOGS:
            return False
        return super().is_authorized_dag(details=details, user=user, **asked)
