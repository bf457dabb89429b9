"""The reaper on the local cloud: machines that really run, passes whose time is given, and the command line once.

One cloud for all tests here, emptied after each; one home and one warm Airflow (tests/warm_airflow.py) for the two that
ask Airflow.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_transient.core.launch import Launch, LaunchKey, Owner
from airflow_transient.core.reaping import GONE, Act, Answer
from airflow_transient.localcloud import moto_reads
from tests.airflow_home import migrate
from tests.e2e import reaping
from tests.e2e.reaping import OWNER, Reap, line_of
from tests.waiting import eventually
from tests.warm_airflow import WarmAirflow, warm_airflow

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.e2e]

DAGS = Path(__file__).resolve().parents[2] / "dags"
#: As an Airflow draws it.
HERE = "airflow-0123abcd"
#: One that moto has in every region.
IMAGE = "ami-03cf127a"


class Machines(reaping.Site):
    """Machines that sleep, tagged as a launch of `owner` with its deadline in an hour."""

    def __init__(self, cloud: Any) -> None:
        super().__init__(cloud)
        self.ec2 = cloud.client("ec2")

    def launch(self, owner: Owner = OWNER, region: str | None = None, **more: str) -> str:
        answer = self.cloud.client("ec2", region).run_instances(
            ImageId=IMAGE,
            InstanceType="t3.micro",
            MinCount=1,
            MaxCount=1,
            UserData="#!/bin/bash\nexec sleep 600\n",
            InstanceInitiatedShutdownBehavior="terminate",
            TagSpecifications=[{"ResourceType": "instance", "Tags": self.tags(owner, **more)}],
        )
        return str(answer["Instances"][0]["InstanceId"])

    def tags(self, owner: Owner = OWNER, **more: str) -> list[dict[str, str]]:
        launch = Launch("ec2", "t1-1", "n", (), self.cloud.region, self.began, self.began, self.later(60))
        tags = {**LaunchKey(owner, "t1").tags(launch), **{f"transient:{name}": value for name, value in more.items()}}
        return [{"Key": name, "Value": value} for name, value in tags.items()]

    def tags_of(self, member: str) -> dict[str, str]:
        (reservation,) = self.ec2.describe_instances(InstanceIds=[member])["Reservations"]
        return {tag["Key"]: tag["Value"] for tag in reservation["Instances"][0]["Tags"]}

    def state(self, member: str) -> str:
        return str(self.cloud.states()[member])

    def until(self, member: str, state: str) -> None:
        eventually(lambda: self.state(member) == state, within=20)

    def run_task(self, owner: Owner) -> str:
        """An ECS task that sleeps, with the same tags, launched an hour ago; its id."""
        ecs = self.cloud.client("ecs")
        container = {"name": "main", "image": "any", "command": ["sleep", "600"], "memory": 128}
        ecs.register_task_definition(family="sleeper", containerDefinitions=[container])
        tags = [{"key": tag["Key"], "value": tag["Value"]} for tag in self.tags(owner)]
        arn = ecs.run_task(taskDefinition="sleeper", tags=tags)["tasks"][0]["taskArn"]
        self.cloud._ecs.book.anywhere(arn).times["createdAt"] -= timedelta(hours=1)
        return str(arn.rpartition("/")[2])

    def grow_old(self, member: str) -> None:
        """For the passes whose time nobody can give: this one was launched an hour ago."""
        with self.cloud._guarded():
            moto_reads.find_instance(member).launch_time -= timedelta(hours=1)


@pytest.fixture
def site(cloud: Any) -> Iterator[Machines]:
    site = Machines(cloud)
    yield site
    for region in (None, "us-east-1"):
        ec2 = cloud.client("ec2", region)
        found = [i["InstanceId"] for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
        if found:
            ec2.terminate_instances(InstanceIds=found)


@pytest.fixture
def reap(site: Machines) -> Reap:
    return Reap(site)


def test_past_its_deadline_it_is_terminated_and_told_why(site: Machines, reap: Reap) -> None:
    member = site.launch()
    assert line_of(reap(65), member).act is Act.LEAVE
    report = reap(75)
    site.until(member, "terminated")
    assert line_of(report, member).outcome == "terminated"
    assert site.tags_of(member)["transient:stopped-by"] == "deadline"
    assert reap(76).lines == ()


def test_an_orphan_is_ended_by_the_second_pass(site: Machines, reap: Reap) -> None:
    member = site.launch()
    assert line_of(reap(3, GONE), member).outcome == "marked"
    assert site.tags_of(member)["transient:orphan-since"] == str(int(site.later(3).timestamp()))
    assert line_of(reap(6, GONE), member).outcome == "left"
    assert site.state(member) in ("pending", "running")
    assert line_of(reap(9, GONE), member).outcome == "terminated"
    site.until(member, "terminated")
    assert site.tags_of(member)["transient:stopped-by"] == "request"


def test_a_marked_machine_has_a_last_chance(site: Machines, reap: Reap) -> None:
    member = site.launch()
    reap(3, GONE)
    assert line_of(reap(9, Answer.of_state("running")), member).outcome == "unmarked"
    assert "transient:orphan-since" not in site.tags_of(member)
    assert line_of(reap(15, GONE), member).outcome == "marked"


def test_no_answer_ends_nothing_and_is_told(site: Machines, reap: Reap) -> None:
    member = site.launch()
    reap(3, GONE)
    report = reap(30)
    assert line_of(report, member).act is Act.LEAVE
    assert not report.complete
    assert "no answer from Airflow about prod/dag/run/task/-1" in str(report)


def test_a_kept_machine_and_another_deployment_s_are_left(site: Machines, reap: Reap) -> None:
    kept, other = site.launch(keep="Ann looks at it"), site.launch(Owner("dev", "dag", "run", "task"))
    for minutes in (3, 9):
        report = reap(minutes, GONE)
        assert {line_of(report, member).act for member in (kept, other)} == {Act.LEAVE}
    assert line_of(reap(80, GONE), kept).act is Act.LEAVE
    assert site.state(kept) == "running"
    site.until(other, "terminated")


def test_a_stopped_machine_is_terminated(site: Machines, reap: Reap) -> None:
    member = site.launch()
    site.until(member, "running")
    site.ec2.stop_instances(InstanceIds=[member])
    site.until(member, "stopped")
    waiting = Answer.of_state("deferred")
    assert [line_of(reap(minutes, waiting), member).outcome for minutes in (3, 9)] == ["marked", "terminated"]
    site.until(member, "terminated")
    assert "transient:stopped-by" not in site.tags_of(member)


def test_a_dry_run_does_nothing(site: Machines, reap: Reap) -> None:
    orphan, overdue = site.launch(), site.launch(deadline=str(int(site.later(-30).timestamp())))
    site.until(overdue, "running")
    before = site.tags_of(orphan), site.tags_of(overdue)
    report = reap(3, GONE, dry_run=True)
    assert line_of(report, orphan).outcome == "would be marked"
    assert line_of(report, overdue).outcome == "would be terminated"
    assert str(report).endswith("dry run, nothing was changed; it would be: 1 marked, 1 terminated")
    assert (site.tags_of(orphan), site.tags_of(overdue)) == before
    assert site.state(overdue) == "running"


class Haunted:
    """EC2, which still lists an instance that it does not know any more."""

    def __init__(self, ec2: Any, ghost: Mapping[str, Any]) -> None:
        self._ec2, self._ghost = ec2, ghost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ec2, name)

    def get_paginator(self, operation: str) -> Any:
        return self if operation == "describe_instances" else self._ec2.get_paginator(operation)

    def paginate(self, **words: Any) -> Iterator[Any]:
        yield {"Reservations": [{"Instances": [self._ghost]}]}
        yield from self._ec2.get_paginator("describe_instances").paginate(**words)


def test_an_unknown_id_does_not_save_the_others(site: Machines, reap: Reap) -> None:
    members = [site.launch(), site.launch()]
    ghost = {"InstanceId": "i-0123456789abcdef0", "State": {"Name": "running"}, "LaunchTime": site.began}
    ghost["Tags"] = site.tags()
    haunted = Haunted(site.ec2, ghost)
    report = reap(75, client=lambda service, **_: haunted if service == "ec2" else site.client(service))
    assert report.totals["terminated"] == 3
    assert report.complete
    for member in members:
        site.until(member, "terminated")


def test_a_region_that_fails_is_told_and_the_others_are_reaped(site: Machines, reap: Reap) -> None:
    here, there = site.launch(), site.launch(region="us-east-1")

    def client(service: str, region_name: str | None = None, **_: Any) -> Any:
        if region_name != "us-west-2":
            return site.client(service, region_name)
        closed = {"endpoint_url": "http://127.0.0.1:1", "config": Config(retries={"total_max_attempts": 1})}
        import boto3

        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
        return boto3.client(service, region_name=region_name, **closed, **keys)

    report = reap(75, regions=["us-west-2", None, "us-east-1"], client=client)
    assert {line_of(report, here).region, line_of(report, there).region} == {site.cloud.region, "us-east-1"}
    assert report.totals["terminated"] == 2
    assert not report.complete
    assert "NOT LOOKED AT: us-west-2: ec2:DescribeInstances: EndpointConnectionError" in str(report)


class Throttled:
    """EC2, which takes TerminateInstances only at the third asking."""

    def __init__(self, ec2: Any) -> None:
        self._ec2, self.refused = ec2, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ec2, name)

    def terminate_instances(self, **words: Any) -> Any:
        if self.refused < 2:
            self.refused += 1
            said = {"Error": {"Code": "RequestLimitExceeded"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
            raise ClientError(said, "TerminateInstances")
        return self._ec2.terminate_instances(**words)


def test_a_throttled_call_is_made_again_later(site: Machines, reap: Reap) -> None:
    member = site.launch()
    slept: list[float] = []
    throttled = Throttled(site.ec2)
    report = reap(
        75, client=lambda service, **_: throttled if service == "ec2" else site.client(service), sleep=slept.append
    )
    assert line_of(report, member).outcome == "terminated"
    assert len(slept) == 2
    assert 0 < slept[0] < slept[1]


def test_stray_templates_are_deleted_and_volumes_told_about(site: Machines, reap: Reap) -> None:
    tags = site.tags()
    template = site.ec2.create_launch_template(
        LaunchTemplateName="stray",
        LaunchTemplateData={"InstanceType": "t3.micro"},
        TagSpecifications=[{"ResourceType": "launch-template", "Tags": tags}],
    )["LaunchTemplate"]["LaunchTemplateId"]
    volume = site.ec2.create_volume(
        AvailabilityZone=f"{site.cloud.region}a", Size=8, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
    )["VolumeId"]
    assert reap(30).totals == {**dict.fromkeys(reap(30).totals, 0)}
    assert line_of(reap(75, dry_run=True), template).outcome == "would be deleted"
    report = reap(75)
    assert line_of(report, template).outcome == "deleted"
    assert [words for words in report.leftovers if volume in words]
    assert site.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available"
    assert template not in str(reap(75))


# --- through Airflow: the example DAG, then the command line


@pytest.fixture(scope="module")
def airflow(cloud: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmAirflow]:
    """An Airflow home of its own, whose deployment drew its name at an earlier launch."""
    env = {
        **os.environ,
        **cloud.env,
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
    }
    migrate(env)
    with warm_airflow(env) as airflow:
        run(airflow, "variables", "set", "airflow_transient_deployment", HERE)
        yield airflow


def run(airflow: WarmAirflow, *argv: str, code: int = 0) -> str:
    done = airflow.run(*argv)
    print(done.stdout[-6000:], done.stderr[-2000:])
    assert done.returncode == code
    return done.stdout


@pytest.mark.airflow
@pytest.mark.timeout(400)
def test_the_dag_and_the_command_line_ask_airflow(airflow: WarmAirflow, site: Machines) -> None:
    """One machine's task waits to be scheduled, then it is over; one's is gone; one is another deployment's.

    The task of an ECS task is gone, too.
    """
    waiting = site.launch(Owner(HERE, "transient_reaper", "first", "reap"))
    orphan, other = site.launch(Owner(HERE, "dag", "run", "task")), site.launch()
    for member in (waiting, orphan, other):
        site.grow_old(member)
    task = site.run_task(Owner(HERE, "dag", "run", "burst"))
    run(airflow, "dags", "reserialize")
    run(airflow, "dags", "trigger", "transient_reaper", "--run-id", "first")

    said = run(airflow, "dags", "test", "transient_reaper")
    assert f"{waiting:<22} left: its task is to be scheduled" in said
    assert f"{orphan:<22} marked: its task is gone" in said
    assert f"default/{task} marked: its task is gone" in said
    assert f"{other:<22} left: not of this deployment" in said

    with sqlite3.connect(Path(airflow.env["AIRFLOW_HOME"]) / "airflow.db") as database:
        database.execute("UPDATE task_instance SET state = 'failed' WHERE run_id = 'first'")
    assert run(airflow, "transient", "deployment").strip() == HERE
    report = json.loads(run(airflow, "transient", "reap", "--dry-run", "--output", "json", "--cluster", "default"))
    lines = {line["id"]: (line["outcome"], line["reason"]) for line in report["lines"]}
    assert lines[waiting] == ("would be marked", "its task is failed")
    assert lines[orphan][0] == lines[task][0] == "left"
    assert "transient:orphan-since" not in site.tags_of(waiting)


@pytest.mark.airflow
@pytest.mark.timeout(400)
def test_what_another_deployment_s_airflow_does_not_know_is_not_believed_gone(
    airflow: WarmAirflow, site: Machines
) -> None:
    member = site.launch(Owner("dev", "dag", "run", "task"))
    site.grow_old(member)
    said = run(airflow, "transient", "reap", "--dry-run", "--deployment", "dev", "--only", "ec2", code=1)
    assert f"{member:<22} left: this Airflow does not know its task" in said
    assert "NOT LOOKED AT" in said


def test_without_airflow_deadlines_are_enforced(cloud: Any, site: Machines) -> None:
    orphan, overdue = site.launch(), site.launch(deadline=str(int(site.later(-30).timestamp())))
    site.grow_old(overdue)
    script = "import sys, runpy; sys.modules['airflow'] = None; sys.argv[1:] = ['--region', sys.argv[1]]; "
    script += "runpy.run_module('airflow_transient.aws.reaper', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script, cloud.region],
        env={**os.environ, **cloud.env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    site.until(overdue, "terminated")
    assert site.state(orphan) != "terminated"
