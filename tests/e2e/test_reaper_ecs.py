"""The reaper on ECS tasks of the local cloud, launched by our own launcher: passes whose time is given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_transient import errors
from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.aws.reaper import Line, Report
from airflow_transient.aws.watching import look
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.launch import Launch, LaunchKey, Owner
from airflow_transient.core.reaping import GONE, Act, Answer
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import Outcome, Verdict
from tests.e2e import reaping
from tests.e2e.reaping import OWNER, Reap
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.e2e]

#: Minutes from a launch to its deadline.
LIFE = 60


class Bursts(reaping.Site):
    """Bursts of tasks that sleep, each with its deadline in an hour."""

    def __init__(self, cloud: Any) -> None:
        super().__init__(cloud)
        self.ecs = cloud.client("ecs")
        self.launcher = EcsLauncher(self.client, sleep=lambda seconds: None)
        self._numbers = iter(range(1000))

    def launch(self, count: int = 1, owner: Owner = OWNER, cluster: str = "default", **tags: str) -> Launch:
        asked = EcsSpec.of(
            task_definition="sleeper",
            cluster=cluster,
            launch_type="FARGATE",
            task_count=count,
            start_timeout=600,
            max_runtime=LIFE * 60 - 600,
            tags=tags,
        )
        spec = replace(asked, count=count)
        key = LaunchKey(owner, f"t{next(self._numbers)}")
        return self.launcher.launch(self.launcher.prepare(spec, key, Pool(market="FARGATE"), self.began))

    def task(self, launch: Launch, member: int = 0) -> dict[str, Any]:
        assert launch.ecs
        found = self.ecs.describe_tasks(cluster=launch.ecs.cluster, tasks=[launch.ids[member]], include=["TAGS"])
        task: dict[str, Any] = found["tasks"][0]
        return task

    def tags(self, launch: Launch) -> dict[str, str]:
        return {tag["key"]: tag["value"] for tag in self.task(launch)["tags"]}

    def tag(self, launch: Launch, **tags: str) -> None:
        words = [{"key": f"transient:{name}", "value": value} for name, value in tags.items()]
        self.ecs.tag_resource(resourceArn=self.task(launch)["taskArn"], tags=words)

    def runs(self, launch: Launch) -> bool:
        return bool(self.task(launch)["desiredStatus"] == "RUNNING")

    def verdict(self, launch: Launch) -> Verdict:
        return eventually(lambda: look(self.launcher, launch, datetime.now(timezone.utc))[0], within=20)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def site(cloud: Any) -> Bursts:
    for name in ("etl", "closed"):
        cloud.client("ecs").create_cluster(clusterName=name)
    container = {"name": "main", "image": "any", "command": ["sleep", "600"], "memory": 128}
    cloud.client("ecs").register_task_definition(family="sleeper", containerDefinitions=[container])
    return Bursts(cloud)


@pytest.fixture(autouse=True)
def nothing_from_before(site: Bursts) -> Iterator[None]:
    site.began = datetime.now(timezone.utc)
    yield
    for cluster in ("default", "etl", "closed"):
        for arn in site.ecs.list_tasks(cluster=cluster)["taskArns"]:
            site.ecs.stop_task(cluster=cluster, task=arn)


@pytest.fixture
def reap(site: Bursts) -> Reap:
    return Reap(site)


def line_of(report: Report, launch: Launch) -> Line:
    return reaping.line_of(report, launch.ids[0])


def test_past_its_deadline_it_is_stopped_and_its_task_is_told_so(site: Bursts, reap: Reap) -> None:
    launch = site.launch()
    assert line_of(reap(LIFE + 5), launch).act is Act.LEAVE
    report = reap(LIFE + 15)
    assert line_of(report, launch).outcome == "stopped"
    assert f"{site.cloud.region:<14} default/{launch.ids[0]} stopped: past its deadline" in str(report)
    verdict = site.verdict(launch)
    assert verdict.outcome is Outcome.OVERDUE
    with pytest.raises(errors.Overdue):
        verdict.raise_for_outcome()
    assert reap(LIFE + 16).lines == ()


def test_an_orphan_is_stopped_by_the_second_pass(site: Bursts, reap: Reap) -> None:
    launch = site.launch(count=3)
    assert reap(3, GONE).totals["marked"] == 3
    marked = str(int(site.later(3).timestamp()))
    assert site.tags(launch)["transient:orphan-since"] == marked
    assert reap(6, GONE).totals["left"] == 3
    assert site.runs(launch)
    assert reap(9, GONE).totals["stopped"] == 3
    assert site.verdict(launch).outcome is Outcome.STOPPED


def test_a_marked_task_has_a_last_chance(site: Bursts, reap: Reap) -> None:
    launch = site.launch()
    reap(3, GONE)
    assert line_of(reap(9, Answer.of_state("running")), launch).outcome == "unmarked"
    assert "transient:orphan-since" not in site.tags(launch)
    assert line_of(reap(15, GONE), launch).outcome == "marked"


def test_no_answer_ends_nothing_and_is_told(site: Bursts, reap: Reap) -> None:
    launch = site.launch()
    reap(3, GONE)
    report = reap(30)
    assert line_of(report, launch).act is Act.LEAVE
    assert not report.complete
    assert "no answer from Airflow about prod/dag/run/task/-1" in str(report)


def test_a_kept_task_and_another_deployment_s_are_left(site: Bursts, reap: Reap) -> None:
    kept, other, young = site.launch(), site.launch(owner=Owner("dev", "dag", "run", "task")), site.launch()
    site.tag(kept, keep="Ann looks at it")
    assert line_of(reap(1, GONE), young).reason == "launched less than two minutes ago"
    for minutes in (3, 9):
        report = reap(minutes, GONE)
        assert {line_of(report, launch).act for launch in (kept, other)} == {Act.LEAVE}
    report = reap(LIFE + 15, GONE)
    assert (line_of(report, kept).outcome, line_of(report, other).outcome) == ("left", "stopped")
    assert site.runs(kept)


def test_what_nobody_is_to_wait_for_has_its_deadline_only(site: Bursts, reap: Reap) -> None:
    launch = site.launch()
    site.tag(launch, unattended="yes")
    for minutes in (3, 9):
        assert line_of(reap(minutes, Answer.of_state("success")), launch).act is Act.LEAVE
    assert line_of(reap(LIFE + 15, Answer.of_state("success")), launch).outcome == "stopped"


def test_a_task_whose_tags_were_taken_away_has_its_deadline_still(site: Bursts, reap: Reap) -> None:
    launch = site.launch()
    site.ecs.untag_resource(resourceArn=site.task(launch)["taskArn"], tagKeys=list(site.tags(launch)))
    assert site.tags(launch) == {}
    assert line_of(reap(9, GONE), launch).act is Act.LEAVE
    assert line_of(reap(LIFE + 15), launch).outcome == "stopped"
    assert site.verdict(launch).outcome is Outcome.OVERDUE


def test_somebody_else_s_tasks_are_not_even_told(site: Bursts, reap: Reap) -> None:
    words = {"taskDefinition": "sleeper", "launchType": "FARGATE", "startedBy": "me"}
    arn = site.ecs.run_task(**words)["tasks"][0]["taskArn"]
    assert reap(LIFE + 15, GONE).lines == ()
    assert site.ecs.describe_tasks(tasks=[arn])["tasks"][0]["desiredStatus"] == "RUNNING"


def test_a_dry_run_does_nothing(site: Bursts, reap: Reap) -> None:
    orphan, overdue = site.launch(), site.launch()
    site.tag(overdue, deadline=str(int(site.later(-60).timestamp())))
    before = site.tags(orphan)
    report = reap(3, GONE, dry_run=True)
    assert line_of(report, orphan).outcome == "would be marked"
    assert line_of(report, overdue).outcome == "would be stopped"
    assert site.tags(orphan) == before
    assert site.runs(overdue)


class Closed:
    """ECS, which lets nobody look into one cluster."""

    def __init__(self, ecs: Any) -> None:
        self._ecs = ecs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ecs, name)

    def list_tasks(self, cluster: str, **words: Any) -> Any:
        if cluster.endswith("/closed"):
            said = {"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}
            raise ClientError({**said, "ResponseMetadata": {"HTTPStatusCode": 400}}, "ListTasks")
        return self._ecs.list_tasks(cluster=cluster, **words)


def test_a_cluster_that_cannot_be_looked_at_is_told_and_the_others_are_reaped(site: Bursts, reap: Reap) -> None:
    launches = [site.launch(cluster=cluster) for cluster in ("default", "etl", "closed")]
    closed = Closed(site.ecs)
    report = reap(LIFE + 15, client=lambda service, **_: closed if service == "ecs" else site.client(service))
    assert {line.cluster: line.outcome for line in report.lines} == {"default": "stopped", "etl": "stopped"}
    assert [words.partition(" (")[0] for words in report.unseen] == [
        f"{site.cloud.region}: not allowed: ecs:ListTasks of cluster closed is needed"
    ]
    assert not report.complete
    assert site.runs(launches[2])


def test_only_the_clusters_that_are_named(site: Bursts, reap: Reap) -> None:
    for cluster in ("default", "etl"):
        site.launch(cluster=cluster)
    assert [line.cluster for line in reap(3, GONE, clusters=["etl"]).lines] == ["etl"]
    report = reap(3, GONE, clusters=["typo"])
    assert (report.lines, report.complete) == ((), False)
    assert reap(3, GONE, only=["ec2"]).lines == ()


def test_the_command_line_looks_at_what_it_is_told(site: Bursts) -> None:
    here, there = site.launch(), site.launch(cluster="etl")
    for launch in (here, there):
        site.tag(launch, deadline=str(int(site.later(-60).timestamp())))
        site.tag(launch, keep="1")
    reaper = [sys.executable, "-m", "airflow_transient.aws.reaper", "--region", site.cloud.region]

    def run(*argv: str) -> str:
        words = {"env": site.cloud.env, "capture_output": True, "text": True, "timeout": 60}
        done = subprocess.run([*reaper, "--dry-run", *argv], check=False, **words)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    both = run()
    assert here.ids[0] in both
    assert there.ids[0] in both
    assert here.ids[0] not in run("--only", "ecs", "--cluster", "etl")
    assert "nothing of ours is there" in run("--only", "ec2")
