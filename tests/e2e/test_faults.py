"""What AWS and machines do to a launch, done by the local cloud on purpose: one launch, and the truth about its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_transient.aws.launcher import Refused
from airflow_transient.aws.watching import Watch, look
from airflow_transient.core.ec2.judging import CONSOLE_DELAY
from airflow_transient.core.fallback import Scope
from airflow_transient.core.verdict import Outcome, Phase
from airflow_transient.localcloud import LocalCloud
from tests.e2e.machines import Site, now
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.e2e]


@pytest.fixture(scope="module")
def whole() -> Iterator[Site]:
    with LocalCloud() as cloud:
        yield Site(cloud)


@pytest.fixture
def site(whole: Site) -> Iterator[Site]:
    yield whole
    whole.cloud.faults.clear()


def machines(site: Site) -> set[str]:
    return set(site.cloud.states())


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_an_answer_that_is_lost_launches_once(site: Site, times: int) -> None:
    before = machines(site)
    fault = site.cloud.faults.lose_answer("RunInstances", times=times)
    launch = site.launch(command="true")
    assert site.cloud.faults.hits(fault) == times
    assert machines(site) - before == set(launch.ids)
    assert site.verdict(launch).outcome is Outcome.SUCCEEDED


def test_a_launch_whose_every_answer_is_lost_is_found_by_its_token(site: Site) -> None:
    before = machines(site)
    site.cloud.faults.lose_answer("RunInstances", times=100)
    launch = site.launch(command="true")
    assert machines(site) - before == set(launch.ids)
    assert site.verdict(launch).outcome is Outcome.SUCCEEDED


def test_no_room_is_a_definite_no(site: Site) -> None:
    before = machines(site)
    site.cloud.faults.capacity(instance_type="t3.small", count=0)
    with pytest.raises(Refused, match="InsufficientInstanceCapacity") as refusal:
        site.launch(command="true")
    assert refusal.value.scope is Scope.POOL
    assert machines(site) == before


def test_throttled_looks_change_nothing(site: Site) -> None:
    launch = site.launch(command="sleep 3")
    site.cloud.faults.throttle("DescribeInstances", times=4)
    assert site.launcher.observe(launch, now())[0].phase is Phase.UNKNOWN
    assert site.verdict(launch).outcome is Outcome.SUCCEEDED


def test_a_machine_that_is_not_described_yet_is_waited_for(site: Site) -> None:
    site.cloud.faults.lag(describe_seconds=3)
    launch = site.launch(command="true")
    (seen,) = site.launcher.observe(launch, now())
    assert (seen.phase, seen.absent) == (Phase.UNKNOWN, True)
    assert site.verdict(launch).outcome is Outcome.SUCCEEDED


def late(site: Site, launch: Any) -> Any:
    """The verdict as soon as the console's delay is over, without waiting for it."""
    watch = Watch(site.launcher, launch)
    eventually(lambda: site.cloud.states()[launch.ids[0]] == "terminated", within=30)
    watch.look(now())
    return watch.look(now() + CONSOLE_DELAY + timedelta(seconds=1))[0].members[0]


def test_a_spot_machine_that_is_taken_back_was_interrupted(site: Site) -> None:
    launch = site.launch(command="sleep 60", market="spot")
    eventually(lambda: site.launcher.observe(launch, now())[0].started, within=20)
    site.cloud.reclaim(launch.ids[0], notice=0)
    assert late(site, launch).outcome is Outcome.INTERRUPTED


def test_a_host_that_fails_interrupts(site: Site) -> None:
    launch = site.launch(command="sleep 60")
    eventually(lambda: site.launcher.observe(launch, now())[0].started, within=20)
    site.cloud.fail_host(launch.ids[0])
    assert late(site, launch).outcome is Outcome.INTERRUPTED


def test_a_bucket_that_is_down_leaves_the_console(site: Site) -> None:
    """The preflight has passed; then the bucket goes: what counts is told on the console."""
    launch = site.launch(command="sleep 2; exit 3")
    site.cloud.faults.bucket_down("results")
    member = site.verdict(launch, within=60)
    assert (member.outcome, member.exit_code) == (Outcome.FAILED, 3)
    assert "from the console" in member.evidence


@pytest.mark.parametrize("kind", ["cloud-init-refuses", "never-boots"])
def test_a_boot_that_fails_needs_evidence_before_it_is_ended(site: Site, kind: str) -> None:
    site.cloud.faults.guest(kind)
    launch = site.launch(command="true")
    eventually(lambda: site.cloud.states()[launch.ids[0]] == "running", within=20)
    overdue_boot = replace(launch, boot_by=now() - timedelta(seconds=1))
    if kind == "never-boots":  # nothing is known: it may be no egress, so its deadline is waited for
        assert look(site.launcher, overdue_boot, now())[0] is None
        assert site.cloud.states()[launch.ids[0]] == "running"
        late_launch = replace(launch, deadline=now() - timedelta(seconds=1))
        verdict = eventually(lambda: look(site.launcher, late_launch, now())[0], within=30)
        assert verdict.outcome is Outcome.OVERDUE
    else:
        verdict = eventually(lambda: look(site.launcher, overdue_boot, now())[0], within=30)
        assert verdict.outcome is Outcome.BOOT_FAILED
        assert "cloud-init" in verdict.members[0].evidence


def test_a_full_disk_is_no_success(site: Site) -> None:
    site.cloud.faults.guest("disk-full")
    member = site.run(command="true")
    assert member.outcome is Outcome.BOOT_FAILED
    assert "is it full" in member.evidence


def test_a_job_that_is_killed_for_memory_failed(site: Site) -> None:
    site.cloud.faults.guest("out-of-memory")
    member = site.run(command="sleep 30")
    assert member.outcome is Outcome.FAILED
    assert member.signal == "SIGKILL"


def test_a_guest_without_network_tells_by_its_console(site: Site) -> None:
    site.cloud.faults.guest("no-network")
    member = site.verdict(site.launch(command="exit 5"), within=60)
    assert (member.outcome, member.exit_code) == (Outcome.FAILED, 5)
    assert "from the console" in member.evidence
