from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_transient.hooks.aws import TransientHook
from airflow_transient.testing import FakeEcsLauncher, FakeLauncher


@pytest.fixture(autouse=True)
def deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name for this deployment, so that nobody asks for a Variable."""
    monkeypatch.setenv("AIRFLOW__TRANSIENT__DEPLOYMENT_ID", "tests")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    """The launcher every operator and trigger of this test gets."""
    fake = FakeLauncher()
    monkeypatch.setattr(TransientHook, "launcher", lambda self, kind: fake)
    return fake


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> FakeEcsLauncher:
    """The same for ECS."""
    fake = FakeEcsLauncher()
    monkeypatch.setattr(TransientHook, "launcher", lambda self, kind: fake)
    return fake


@pytest.fixture
def on_the_cloud(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Airflow's default connection leads to the local cloud, whose faults end with the test."""
    for name, value in cloud.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")
    yield cloud
    cloud.faults.clear()
