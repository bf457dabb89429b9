"""What AWS and tasks do to a burst, done by the local cloud on purpose: nothing is orphaned, nothing started twice."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import pytest
from botocore.config import Config

from airflow_transient import errors
from airflow_transient.aws import pacing
from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.aws.launcher import Refused
from airflow_transient.aws.placing import Placing
from airflow_transient.aws.sizing import size_burst
from airflow_transient.aws.watching import look
from airflow_transient.core.ecs.requests import started_by
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.fallback import Scope
from airflow_transient.core.intent import Intent
from airflow_transient.core.launch import Launch, LaunchKey, Owner
from airflow_transient.core.verdict import Member, Outcome, Phase
from airflow_transient.localcloud import LocalCloud
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.e2e]

OWNER = Owner("test", "dag", "run", "task")
SPOT_FIRST = ["FARGATE_SPOT", "FARGATE"]
LOGGED = {
    "logDriver": "awslogs",
    "options": {"awslogs-group": "/jobs", "awslogs-stream-prefix": "work", "awslogs-create-group": "true"},
}
# A good worker, who exits with 0 when asked to end.
POLITE = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"
_drawn = itertools.count()


def now() -> datetime:
    return datetime.now(timezone.utc)


def container(script: str, name: str = "main", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "any", "command": ["sh", "-c", script], "memory": 64, "stopTimeout": 2, **more}


class Site:
    """A local cloud, a launcher on it, and one test's task definition and launch."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.number = next(_drawn)
        self.family = f"job-{self.number}"
        self.key = LaunchKey(replace(OWNER, task_id=f"task-{self.number}"), f"t{self.number}")
        self.remembered: list[Intent] = []
        self.ecs = cloud.client("ecs")
        self.launcher = EcsLauncher(self.client, sleep=lambda seconds: time.sleep(min(seconds, 0.2)))

    def client(self, service: str, region_name: str | None = None, **config: Any) -> Any:
        """As the hook makes them: with the retries that are asked for."""
        keys = {
            "aws_access_key_id": self.cloud.env["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": self.cloud.env["AWS_SECRET_ACCESS_KEY"],
        }
        region = region_name or self.cloud.region
        return boto3.client(service, region, endpoint_url=self.cloud.url, config=Config(**config), **keys)

    def define(self, *containers: dict[str, Any]) -> None:
        self.ecs.register_task_definition(family=self.family, containerDefinitions=list(containers))

    def spec(self, count: int = 1, script: str = "true", **words: Any) -> EcsSpec:
        if not words.pop("defined", False):
            self.define(container(script))
        given = {"capacity_provider_strategies": ["FARGATE"], "max_runtime": 60, "hard_cap": 500, **words}
        return replace(EcsSpec.of(task_definition=self.family, task_count=count, **given), count=count)

    def launch(self, *words: Any, **more: Any) -> Launch:
        spec = self.spec(*words, **more)
        return self.launcher.launch(self.launcher.prepare(spec, self.key, spec.pools()[0], now()))

    def place(self, spec: EcsSpec, intent: Intent | None = None) -> Launch:
        placing = Placing(self.key.owner, 1, self.remembered.append, print, now, lambda seconds: None)
        return placing.place(self.launcher, spec, intent or Intent(self.key.launch_id, 2))

    def there(self) -> set[str]:
        """The ids of all tasks of this test's family, running and ended."""
        pages = self.ecs.get_paginator("list_tasks")
        looks = [pages.paginate(family=self.family, desiredStatus=status) for status in ("RUNNING", "STOPPED")]
        return {arn.rpartition("/")[2] for look in looks for page in look for arn in page["taskArns"]}

    def verdict(self, launch: Launch, within: float = 30) -> Member:
        verdict = eventually(lambda: look(self.launcher, launch, now())[0], within)
        return verdict.members[0]

    def up(self, launch: Launch) -> str:
        """The ARN of its first task, when that is up and says so."""
        (arn,) = self.ecs.list_tasks(family=self.family)["taskArns"]
        eventually(lambda: b"up" in self.cloud.output(arn, "main"))
        eventually(lambda: self.launcher.observe(launch, now())[0].phase is Phase.RUNNING)
        return str(arn)

    def counted(self, action: str) -> Callable[[], int]:
        """How often it is asked for from now on: the cloud counts what it delays."""
        fault = self.cloud.faults.delay(action, 0.0001)
        return lambda: self.cloud.faults.hits(fault)


@pytest.fixture(scope="module")
def whole() -> Iterator[LocalCloud]:
    with LocalCloud() as cloud:
        yield cloud


@pytest.fixture
def site(whole: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Buckets of its own, and nothing that runs on."""
    monkeypatch.setattr(pacing, "_buckets", {})
    site = Site(whole)
    yield site
    whole.faults.clear()
    for arn in site.ecs.list_tasks(family=site.family)["taskArns"]:
        site.ecs.stop_task(task=arn)


def idle(site: Site, count: int) -> None:
    """So many tasks that are there, and cost this machine nothing."""
    site.cloud.faults.task("never-provisions", times=count)


# --- asking


def test_two_hundred_tasks_are_twenty_calls_and_two_looks(site: Site) -> None:
    idle(site, 200)
    run, describe = site.counted("RunTask"), site.counted("DescribeTasks")
    began = time.monotonic()
    launch = site.launch(200)
    assert time.monotonic() - began >= pacing.LIMITS["Fargate tasks"].floor_seconds(200) - 0.1
    assert (run(), len(set(launch.ids))) == (20, 200)
    assert set(launch.ids) == site.there()
    assert {seen.state for seen in site.launcher.observe(launch, now())} == {"PROVISIONING"}
    assert describe() == 2
    site.launcher.stop(launch)
    eventually(lambda: {s.phase for s in site.launcher.observe(launch, now())} == {Phase.ENDED})


def test_a_partly_refused_burst_orphans_nothing(site: Site) -> None:
    idle(site, 20)
    site.cloud.faults.task_failures("RESOURCE:MEMORY", start=7, provider="FARGATE_SPOT")
    launch = site.place(site.spec(20, capacity_provider_strategies=SPOT_FIRST))
    assert len(launch.ids) == 20
    assert set(launch.ids) == site.there()
    providers = [seen.capacity for seen in site.launcher.observe(launch, now())]
    assert (providers.count("FARGATE_SPOT"), providers.count("FARGATE")) == (14, 6)


def test_what_there_was_room_for_begins_where_nobody_has_more(site: Site) -> None:
    idle(site, 20)
    site.cloud.faults.task_failures("capacity", start=4)
    launch = site.place(site.spec(20, capacity_provider_strategies=SPOT_FIRST))
    assert set(launch.ids) == site.there()
    assert len(launch.ids) == (4 + 4) + (4 + 2)  # of calls of 10 and 10, then 10 and 2
    assert site.remembered[-1].launch == launch


def test_no_room_anywhere_starts_nothing(site: Site) -> None:
    site.cloud.faults.task_failures("vcpus")
    with pytest.raises(errors.CapacityError, match=r"FARGATE_SPOT: 3 tasks: You've reached.*FARGATE: 3 tasks"):
        site.place(site.spec(3, capacity_provider_strategies=SPOT_FIRST))
    assert site.there() == set()


@pytest.mark.parametrize("times", [1, 5], ids=["once", "five times"])
def test_answers_that_are_lost_start_nothing_twice(site: Site, times: int) -> None:
    idle(site, 100)
    fault = site.cloud.faults.lose_answer("RunTask", times=times)
    launch = site.launch(30)
    assert site.cloud.faults.hits(fault) == times
    assert len(launch.ids) == 30
    assert set(launch.ids) == site.there()


def test_a_burst_whose_every_answer_is_lost_is_found_by_the_next_process(site: Site) -> None:
    idle(site, 100)
    fault = site.cloud.faults.lose_answer("RunTask", times=None)
    spec = site.spec(30)
    with pytest.raises(errors.LaunchError, match="no clear answer to 3 of 3 calls"):
        site.place(spec)
    site.cloud.faults.remove(fault)
    (asked,) = site.remembered
    launch = site.place(spec, Intent.from_dict(asked.to_dict()))
    assert len(launch.ids) == 30
    assert set(launch.ids) == site.there()


def test_what_was_asked_long_ago_is_found_running_and_ended(site: Site) -> None:
    spec = site.spec(3, "test $TRANSIENT_LAUNCH; exit 0")
    launch = site.place(spec)
    eventually(lambda: look(site.launcher, launch, now())[0])
    asked = site.remembered[0]
    assert asked.request
    late = replace(asked.request, launch=replace(asked.request.launch, boot_by=now() - timedelta(seconds=1)))
    again = site.place(spec, replace(asked, request=late))
    assert set(again.ids) == set(launch.ids) == site.there()


def test_a_second_call_that_is_refused_leaves_the_first_known(site: Site) -> None:
    idle(site, 20)
    site.cloud.faults.error("RunTask", "AccessDeniedException", times=1)
    with pytest.raises(Refused) as refusal:
        site.launch(20)
    assert refusal.value.scope is Scope.ACCESS
    assert set(refusal.value.came.ids) == site.there()  # type: ignore[union-attr]
    assert len(site.there()) == 10


def test_a_throttled_burst_completes(site: Site) -> None:
    idle(site, 100)
    fault = site.cloud.faults.task_rate(calls=2, calls_rate=20, tasks=20, tasks_rate=60)
    site.cloud.faults.throttle("RunTask", times=3, disguised=True)
    launch = site.launch(60)
    assert site.cloud.faults.hits(fault) > 0
    assert len(launch.ids) == 60
    assert set(launch.ids) == site.there()


# --- ending


def test_a_spot_task_that_ends_with_0_on_the_signal_was_interrupted(site: Site) -> None:
    launch = site.launch(1, POLITE, capacity_provider_strategies=SPOT_FIRST)
    site.cloud.reclaim(site.up(launch))
    member = site.verdict(launch)
    assert (member.outcome, member.missed, member.capacity) == (Outcome.INTERRUPTED, Scope.POOL, "FARGATE_SPOT")


def test_a_host_that_fails_interrupts(site: Site) -> None:
    launch = site.launch(1, POLITE)
    site.cloud.fail_host(site.up(launch))
    assert site.verdict(launch).outcome is Outcome.INTERRUPTED


def test_what_somebody_else_stops_is_stopped_and_no_success(site: Site) -> None:
    launch = site.launch(1, POLITE)
    site.ecs.stop_task(task=site.up(launch), reason="by hand")
    member = site.verdict(launch)
    assert member.outcome is Outcome.STOPPED
    assert "by hand" in member.evidence


@pytest.mark.parametrize(
    ("kind", "missed", "words"),
    [
        ("capacity-gives-up", Scope.POOL, "Capacity is unavailable"),
        ("no-network-interface", Scope.AGAIN, "network interface"),
        ("cannot-pull", Scope.AGAIN, "CannotPullContainerError"),
    ],
)
def test_a_task_that_never_starts_says_whose_move_it_is(site: Site, kind: str, missed: Scope, words: str) -> None:
    site.cloud.faults.task(kind)
    member = site.verdict(site.launch())
    assert (member.outcome, member.missed) == (Outcome.BOOT_FAILED, missed)
    assert words in member.evidence


def test_what_does_not_start_in_time_is_stopped(site: Site) -> None:
    idle(site, 1)
    launch = site.launch(start_timeout=60)
    assert look(site.launcher, launch, now())[0] is None
    look(site.launcher, launch, now() + timedelta(seconds=61))
    member = site.verdict(launch)
    assert member.outcome is Outcome.BOOT_FAILED
    assert "start_timeout" in member.evidence


def test_each_task_is_stopped_when_its_time_is_over(site: Site) -> None:
    launch = site.launch(1, POLITE, max_runtime=1)
    member = site.verdict(launch)
    assert member.outcome is Outcome.OVERDUE
    assert "max_runtime" in member.evidence


def test_a_burst_that_cannot_succeed_is_called_off(site: Site) -> None:
    script = 'if [ "$FAIL" ]; then exit 5; fi; ' + POLITE
    good = site.launch(2, script, stop_on_failure=True)
    overrides = {"main": {"FAIL": "1"}}
    bad = site.spec(3, defined=True, stop_on_failure=True, overrides=overrides)
    so_far = replace(good, ecs=replace(good.ecs, need=3, wanted=3))  # type: ignore[type-var]
    key = replace(site.key, attempt=2)
    launch = site.launcher.launch(site.launcher.prepare(bad, key, bad.pools()[0], now(), so_far))
    verdict = eventually(lambda: look(site.launcher, launch, now())[0], within=30)
    assert [m.outcome for m in verdict.members] == [Outcome.CALLED_OFF] * 2 + [Outcome.FAILED]


def test_a_sidecar_that_is_cut_down_after_the_job_does_not_decide(site: Site) -> None:
    site.define(container("sleep 0.3"), container("exec sleep 60", "proxy", essential=False))
    member = site.verdict(site.launch(defined=True))
    assert (member.outcome, member.exit_code) == (Outcome.SUCCEEDED, 0)
    assert (member.exit_codes or {})["proxy"] in (137, 143)


def test_every_container_sees_its_launch(site: Site) -> None:
    says = 'echo "$TRANSIENT_LAUNCH $TRANSIENT_DEADLINE $DAY"'
    site.define(container(says), container(says, "proxy", essential=False))
    launch = site.launch(defined=True, overrides={"main": {"DAY": "monday"}})
    site.verdict(launch)
    said = [site.cloud.output(launch.ids[0], name).decode().split() for name in ("main", "proxy")]
    ours = [site.key.token, str(int(launch.deadline.timestamp()))]
    assert said == [[*ours, "monday"], ours]


# --- looking


def test_looks_that_fail_change_nothing(site: Site) -> None:
    launch = site.launch(1, "sleep 0.5")
    site.cloud.faults.throttle("DescribeTasks", times=5)
    (seen,) = site.launcher.observe(launch, now())
    assert (seen.phase, seen.absent) == (Phase.UNKNOWN, False)
    assert site.verdict(launch).outcome is Outcome.SUCCEEDED


def test_a_task_that_is_missing_at_first_is_waited_for(site: Site) -> None:
    fault = site.cloud.faults.task_lag(600)
    launch = site.launch()
    (seen,) = site.launcher.observe(launch, now())
    assert (seen.phase, seen.absent) == (Phase.UNKNOWN, True)
    assert look(site.launcher, launch, now())[0] is None
    site.cloud.faults.remove(fault)
    assert site.verdict(launch).outcome is Outcome.SUCCEEDED


# --- sizing


@pytest.mark.parametrize("overrides", [None, {"main": {"DAY": "monday"}}], ids=["without overrides", "with"])
def test_a_top_up_counts_its_own_tasks_and_nobody_elses(site: Site, overrides: Any) -> None:
    idle(site, 20)
    spec = site.spec(5, top_up=True, overrides=overrides)
    site.place(replace(spec, count=3))
    others = ["another", "ecs-svc/0123456789", started_by(replace(site.key.owner, map_index=3))]
    for who in others:
        site.ecs.run_task(taskDefinition=site.family, launchType="FARGATE", startedBy=who, count=2)
    size = size_burst(site.client, spec, site.key.owner, now())
    assert (size.count, size.terms["live"]) == (2, 3)
    another_run = replace(site.key.owner, run_id="another")
    assert size_burst(site.client, spec, another_run, now()).count == 2
    another_task = replace(site.key.owner, task_id="another")
    assert size_burst(site.client, spec, another_task, now()).count == 5


def test_what_a_queue_asks_for_is_less_what_has_just_been_launched(site: Site) -> None:
    idle(site, 20)
    sqs = site.cloud.client("sqs")
    url = sqs.create_queue(QueueName=site.family)["QueueUrl"]
    entries = [{"Id": str(n), "MessageBody": "x"} for n in range(10)]
    for _ in range(3):
        sqs.send_message_batch(QueueUrl=url, Entries=entries)
    spec = site.spec(1, queues=site.family, messages_per_task=5)
    assert size_burst(site.client, spec, site.key.owner, now()).count == 6
    site.place(replace(spec, count=4))
    site.ecs.run_task(taskDefinition=site.family, launchType="FARGATE", startedBy="another")
    assert size_burst(site.client, spec, site.key.owner, now()).count == 2


# --- logs


def test_a_job_is_heard_while_it_runs_and_its_last_lines_after_it_failed(site: Site) -> None:
    site.define(
        container("for n in 1 2 3; do echo line $n; done; sleep 0.5; echo bye; exit 3", logConfiguration=LOGGED)
    )
    launch = site.launch(defined=True)
    new_lines, heard = site.launcher.follow(launch), list[str]()

    def ended() -> bool:
        heard.extend(new_lines())
        return "bye" in heard

    eventually(ended)
    assert site.verdict(launch).exit_code == 3
    assert heard == ["line 1", "line 2", "line 3", "bye"]
    title, *lines = site.launcher.explain(launch, launch.ids[0])
    assert (f"/jobs, work/main/{launch.ids[0]}" in title, lines) == (True, heard)
