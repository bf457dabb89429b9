"""AutoScalingBurstOperator's journey: by a fake, on a group in memory, and on the local cloud."""

from __future__ import annotations

import asyncio
import base64
import json
import runpy
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_transient import errors
from airflow_transient.aws.asg import AsgLauncher
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.links.asg import GroupLink
from airflow_transient.operators.asg import AutoScalingBurstOperator
from airflow_transient.testing import FakeGroupLauncher
from airflow_transient.triggers.launch import LaunchTrigger
from tests.airflow.stubs import Store, context
from tests.aws.group_world import Died, World, refusal

GOOD = {"task_id": "task", "group_name": "batch", "command": "true"}


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> FakeGroupLauncher:
    fake = FakeGroupLauncher()
    monkeypatch.setattr(TransientHook, "launcher", lambda self, kind: fake)
    return fake


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A group in memory, behind the real launcher."""
    world = World()
    world.make_group()

    def launcher(hook: Any, kind: str) -> AsgLauncher:
        assert kind == "asg"
        return AsgLauncher(world.client, sleep=world.sleep, clock=world.clock)

    monkeypatch.setattr(TransientHook, "launcher", launcher)
    monkeypatch.setattr("airflow_transient.operators.launch._now", world.clock)
    return world


def operator(**words: Any) -> AutoScalingBurstOperator:
    return AutoScalingBurstOperator(**{**GOOD, "deferrable": True, "poll_interval": 0.01, **words})


def defer(op: AutoScalingBurstOperator, ctx: Any) -> LaunchTrigger:
    with pytest.raises(TaskDeferred) as deferred:
        op.execute(ctx)
    path, kwargs = deferred.value.trigger.serialize()
    assert path == "airflow_transient.triggers.launch.LaunchTrigger"
    return LaunchTrigger(**json.loads(json.dumps(kwargs)))


def run(trigger: LaunchTrigger) -> Any:
    async def first() -> Any:
        return await anext(trigger.run())

    return json.loads(json.dumps(asyncio.run(asyncio.wait_for(first(), 10)).payload))


def now() -> datetime:
    return datetime.now(timezone.utc)


def test_the_journey_of_a_success(machines: FakeGroupLauncher) -> None:
    op, ctx = operator(), context()
    trigger = defer(op, ctx)
    (member,) = machines.running()
    assert ctx["ti"].xcoms["launch"]["group"]["name"] == "batch"
    machines.end(member, 0, at=now())
    verdict = op.execute_complete(ctx, event=run(trigger))
    assert (verdict["outcome"], verdict["kind"], verdict["ids"]) == ("succeeded", "asg", [member])


@pytest.mark.parametrize("trust", [True, False])
def test_what_reports_nothing_succeeds_by_trust_only(machines: FakeGroupLauncher, trust: bool) -> None:
    op, ctx = operator(command=None, trust_shutdown=trust), context()
    trigger = defer(op, ctx)
    machines.shut_down(machines.running()[0], at=now())
    event = run(trigger)
    if trust:
        assert op.execute_complete(ctx, event=event)["outcome"] == "succeeded"
    else:
        with pytest.raises(errors.Unverified, match="trust_shutdown=True"):
            op.execute_complete(ctx, event=event)
        assert ctx["ti"].xcoms["verdict"]["outcome"] == "ended-unverified"


def test_the_intent_holds_what_the_group_was_before_anything_is_changed(world: World) -> None:
    store, before = Store(), world.shape()

    def die_at_the_first_change() -> None:
        if world.shape() != before:
            raise Died

    world.between = die_at_the_first_change
    with pytest.raises(Died):
        operator().execute(context(store))
    kept = store.kept["airflow_transient.intent"]["request"]["arguments"]
    assert kept["was"] == "min=0 max=4 desired=0 suspended=AZRebalance source=template::lt-theirs"
    assert "IyEvYmluL3NoCiMgdGhl" not in json.dumps(store.kept)


def test_after_a_crash_the_next_try_goes_on_and_gives_the_group_back(world: World) -> None:
    store, before = Store(), world.shape()
    world.break_at = 16
    with pytest.raises(Died):
        operator().execute(context(store))
    assert world.shape() != before
    trigger = defer(operator(command="changed meanwhile"), context(store, try_number=2))
    assert world.shape() == before
    assert list(world.machines) == trigger.launch["ids"] == world.alive()


def test_after_a_crash_a_cleared_task_ends_what_there_is_and_launches_anew(world: World) -> None:
    store, before = Store(), world.shape()
    world.break_at = 16
    with pytest.raises(Died):
        operator().execute(context(store))
    first = list(world.machines)
    trigger = defer(operator(), context(store, try_number=2, max_tries=3))
    assert world.shape() == before
    assert world.alive() == trigger.launch["ids"]
    assert set(first).isdisjoint(world.alive())


def test_ctrl_c_while_the_machines_start_leaves_nothing(world: World) -> None:
    before = world.shape()
    pressed: list[bool] = []

    def press() -> None:
        if world.machines and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt

    world.between = press
    with pytest.raises(KeyboardInterrupt):
        operator().execute(context())
    assert world.shape() == before
    assert world.machines
    assert world.alive() == []


def test_without_a_try_left_nothing_is_left(world: World) -> None:
    """AWS answers no call, nor its repetitions, and is back when the operator ends what it has started."""
    before, refused = world.shape(), []

    def down() -> None:
        if world.machines and len(refused) < 4:
            refused.append(world.about_to)
            raise refusal("ServiceUnavailable", status=503)

    world.between = down
    with pytest.raises(errors.LaunchError):
        operator().execute(context(try_number=3))
    assert world.shape() == before
    assert world.machines
    assert world.alive() == []


def test_what_is_left_while_aws_is_away_another_launch_gives_back(world: World) -> None:
    before = world.shape()

    def down() -> None:
        if world.machines and not world.now.minute:
            raise refusal("ServiceUnavailable", status=503)

    world.between = down
    with pytest.raises(errors.LaunchError):
        operator().execute(context(try_number=3))
    world.between = None
    world.sleep(3600)
    other = defer(operator(), context(run_id="another"))
    assert world.shape() == before
    assert set(other.launch["ids"]) == set(world.alive())


def test_a_template_renders_to_text_and_a_wrong_word_is_a_spec_error(world: World) -> None:
    defer(operator(count="2", max_runtime="60"), context())
    assert len(world.machines) == 2
    with pytest.raises(errors.SpecError, match="name or the ARN"):
        operator(group_name="a:b").execute(context())


def test_the_link_leads_to_the_group() -> None:
    launch = {"ids": ["i-1"], "region": "eu-west-1", "group": {"name": "nightly batch"}}
    assert GroupLink().url(launch) == (
        "https://eu-west-1.console.aws.amazon.com/ec2/home?region=eu-west-1"
        "#AutoScalingGroupDetails:id=nightly%20batch;view=details"
    )
    assert GroupLink().url({"ids": ["i-1"], "region": "eu-west-1"}) == ""


def test_the_page_believes_such_a_launch_and_looks_for_instances(machines: FakeGroupLauncher) -> None:
    from airflow_transient.plugin.handles import launch_of
    from airflow_transient.plugin.places import places
    from airflow_transient.plugin.telling import links

    ctx = context()
    defer(operator(), ctx)
    said = ctx["ti"].xcoms["launch"]
    launch = launch_of(said)
    assert launch is not None
    assert [place.kind for place in places([(launch, "aws_default")], [], {})] == ["ec2"]
    assert [link["name"] for link in links(said, "asg")] == ["Auto Scaling group", "EC2 instance"]
    assert launch_of({**said, "group": None}) is None
    assert launch_of({**said, "kind": "ec2"}) is None


# --- on the local cloud


@pytest.fixture(scope="module")
def cloud() -> Iterator[Any]:
    from airflow_transient.localcloud import LocalCloud

    with LocalCloud() as cloud:
        ends_itself = base64.b64encode(b"#!/bin/sh\necho as it is\nsleep 1\nshutdown -h now\n").decode()
        cloud.client("ec2").create_launch_template(
            LaunchTemplateName="theirs",
            LaunchTemplateData={"ImageId": "ami-03cf127a", "InstanceType": "t3.micro", "UserData": ends_itself},
        )
        for name in ("batch", "nightly-batch", "nightly-batch-with-user-data"):
            cloud.client("autoscaling").create_auto_scaling_group(
                AutoScalingGroupName=name,
                MinSize=0,
                MaxSize=0,
                LaunchTemplate={"LaunchTemplateName": "theirs", "Version": "$Latest"},
                AvailabilityZones=["eu-west-1a"],
            )
        bucket = {"LocationConstraint": cloud.region}
        cloud.client("s3").create_bucket(Bucket="reports", CreateBucketConfiguration=bucket)
        yield cloud


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_job_on_a_group_of_the_local_cloud_runs_once_and_tells_its_result(on_the_cloud: Any) -> None:
    autoscaling = on_the_cloud.client("autoscaling")

    def shape() -> dict[str, Any]:
        (said,) = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=["batch"])["AutoScalingGroups"]
        return {**said, "Tags": [tag["Key"] for tag in said.get("Tags", ())]}

    before = shape()
    op = operator(
        group_name="batch",
        command='echo "{\\"who\\": \\"$TRANSIENT_LAUNCH\\"}" >"$TRANSIENT_RESULT"',
        results="s3://reports/here",
        deferrable=False,
        max_runtime=60,
        poll_interval=0.2,
    )
    told = op.execute(context())
    assert (told["outcome"], told["exit_code"], len(told["ids"])) == ("succeeded", 0, 1)
    assert told["result"] == {"who": told["token"]}
    assert shape() == before
    assert list(on_the_cloud.states()) == told["ids"]
    assert [
        one["LaunchTemplateName"] for one in on_the_cloud.client("ec2").describe_launch_templates()["LaunchTemplates"]
    ] == ["theirs"]


@pytest.mark.slow
@pytest.mark.sandbox
@pytest.mark.parametrize(("task", "machines"), [("report", 1), ("as_it_is", 2)])
def test_the_example_runs(on_the_cloud: Any, task: str, machines: int) -> None:
    found = runpy.run_path(str(Path(__file__).resolve().parents[2] / "dags" / "existing_group.py"))
    op = found["dag"].get_task(task)
    op.deferrable, op._here.poll_interval = False, 0.2
    ctx = context(task_id=task)
    op.render_template_fields({**ctx, "ds": "2026-11-21"})
    told = op.execute(ctx)
    assert (told["outcome"], len(told["ids"])) == ("succeeded", machines)
    assert {on_the_cloud.states()[id] for id in told["ids"]} <= {"stopped", "shutting-down", "terminated"}
    said = on_the_cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert {(one["MaxSize"], one["DesiredCapacity"], len(one["Instances"])) for one in said} == {(0, 0, 0)}
    assert not [one for one in said if one["SuspendedProcesses"] or one.get("Tags")]
