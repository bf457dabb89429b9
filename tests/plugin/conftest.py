from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_transient.plugin import masking
from tests.plugin.fakes import QuickAirflow

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="package")
def server() -> Iterator[Any]:
    """Airflow's own API server with the plugin in it, in this process: it takes six seconds to make."""
    from airflow.utils.db import initdb

    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "tests.plugin.fakes.RightsPerDag")
    patch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.test")
    patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "of-tests-" * 8)
    initdb()
    from airflow.api_fastapi.app import create_app
    from starlette.testclient import TestClient

    with TestClient(create_app(apps="core"), base_url="http://airflow.test", follow_redirects=False) as client:
        yield client
    patch.undo()


def token(role: str, name: str = "someone") -> str:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role=role, teams=None))


@dataclass(frozen=True)
class Asker:
    """Someone with a token, and the API below /transient."""

    client: Any
    token: str
    prefix: str = "/transient"

    def __call__(self, method: str, path: str, **request: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", **request.pop("headers", {})}
        return self.client.request(method, f"{self.prefix}{path}", headers=headers, **request)

    def get(self, path: str, **request: Any) -> Any:
        return self("GET", path, **request)

    def post(self, path: str, **request: Any) -> Any:
        return self("POST", path, **request)

    def put(self, path: str, **request: Any) -> Any:
        return self("PUT", path, **request)

    def delete(self, path: str, **request: Any) -> Any:
        return self("DELETE", path, **request)


@pytest.fixture
def airflow() -> QuickAirflow:
    return QuickAirflow()


@pytest.fixture
def service(server: Any, airflow: QuickAirflow, tmp_path: Path) -> Iterator[Any]:
    """The real service on a store of its own. Each ? becomes 9."""
    from airflow_transient.jobs.service import Jobs
    from airflow_transient.jobs.store import open_store
    from airflow_transient.plugin.app import the_app
    from airflow_transient.plugin.jobs_api import the_jobs

    jobs = Jobs(open_store(f"file://{tmp_path}/jobs.json"), airflow, lambda: NOW, lambda low, high: 9, masking.told)
    the_app().dependency_overrides[the_jobs] = lambda: jobs
    yield jobs
    the_app().dependency_overrides.clear()


@pytest.fixture
def ask_as(server: Any, service: Any) -> Callable[..., Asker]:
    return lambda role, name="someone": Asker(server, token(role, name))


@pytest.fixture
def ask(ask_as: Callable[..., Asker]) -> Asker:
    """Somebody who may do anything."""
    return ask_as("admin")


# --- what runs on AWS: the local cloud, and Airflow's own tables


@pytest.fixture(scope="module")
def site(cloud: Any) -> Any:
    from tests.plugin.site import Site

    return Site(cloud)


@pytest.fixture
def on_site(server: Any, site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Airflow's default connection leads to the local cloud; nothing is left there, or known, from the test before."""
    from airflow_transient.plugin import looking
    from tests.plugin import history
    from tests.plugin.site import DEPLOYMENT, forget

    for name, value in site.cloud.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")
    monkeypatch.setenv("AIRFLOW__TRANSIENT__DEPLOYMENT_ID", DEPLOYMENT)
    monkeypatch.setenv("AIRFLOW__TRANSIENT__JOBS_STORE", f"file://{tmp_path}/jobs.json")  # as that of `service`
    monkeypatch.setattr(looking.PATIENCE, "part", 60.0)
    monkeypatch.setattr(looking.PATIENCE, "page", 60.0)
    looking.HOOKS.drop("aws_default")  # each module has a cloud of its own
    forget()
    history.forget_everything()
    yield
    site.cloud.faults.clear()
    site.end_all()
