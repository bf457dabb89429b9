"""Tests on machines that really boot. All that the selected tests ask for start at once, two at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_transient.localcloud import LocalCloud
from tests.cloud_init import groups, roots
from tests.cloud_init.machines import PASSWORD, Ended, Fleet, Job

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    problem = roots.why_not() if ours else None
    for item in ours if problem else []:
        item.add_marker(pytest.mark.skip(reason=problem or ""))


@pytest.fixture(scope="module")
def fleet(cloud: LocalCloud, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    root = roots.debian_root()
    groups.sweep()
    cloud.client("ssm").put_parameter(Name="/prod/password", Value=PASSWORD, Type="SecureString")
    fleet = Fleet(cloud, root)
    try:
        for job in jobs(request.session.items):
            fleet.ask(job)
        yield fleet
    finally:
        fleet.close()


def jobs(items: list[pytest.Item]) -> Iterator[Job]:
    for item in items:
        asked = getattr(item, "callspec", None)
        if asked and isinstance(job := asked.params.get("machine"), Job):
            yield job


@pytest.fixture
def machine(fleet: Fleet, request: pytest.FixtureRequest) -> Ended:
    """The machine of the test's job, when it is over; a failed test shows its console."""
    ended = fleet.ask(request.param).result()
    print(ended.console)
    print(f"{ended.job}: {ended.seconds:.1f} s")
    if not ended.job.idles:
        assert ended.off, f"not off by itself within {ended.seconds:.0f} s"
    return ended
