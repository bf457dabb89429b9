"""What every Launcher promises: the fakes, and EC2 and ECS on the local cloud, pass the same tests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient.aws.asg import AsgLauncher
from airflow_transient.aws.brief import can_be_brief
from airflow_transient.aws.ec2 import Ec2Launcher
from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.aws.launcher import Launcher
from airflow_transient.aws.watching import look
from airflow_transient.core.asg.spec import GroupSpec
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.launch import Launch, LaunchKey, Owner
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import Outcome, Phase
from airflow_transient.testing import FakeEcsLauncher, FakeGroupLauncher, FakeLauncher
from tests.waiting import eventually

_drawn = iter(range(10_000))


def now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class World:
    """A launcher of one kind, and the spec of a job that ends with `exit_code` when `end` is called or by itself."""

    launcher: Launcher
    make_spec: Callable[..., Any]
    pool: Pool
    ghost: str
    other: dict[str, Any]
    fake: FakeLauncher | None = None

    def spec(self, exit_code: int = 0, seconds: int = 0, count: int = 1) -> Any:
        return self.make_spec(f"sleep {seconds}; exit {exit_code}", count)

    def key(self, generation: int = 1) -> LaunchKey:
        return LaunchKey(Owner("test", "dag", "run", "task"), f"t{next(_drawn)}", generation)

    def launch(self, spec: Any) -> Any:
        return self.launcher.launch(self.launcher.prepare(spec, self.key(), self.pool, now()))

    def end(self, launch: Any, exit_code: int) -> None:
        if self.fake:
            for member in launch.ids:
                self.fake.end(member, exit_code, at=now())

    def verdict(self, launch: Any) -> Any:
        return eventually(lambda: look(self.launcher, launch, now())[0], within=40)

    def wait_for_it(self, launch: Any) -> None:
        eventually(lambda: self.launcher.observe(launch, now())[0].phase is Phase.RUNNING, within=20)


def ec2_world(launcher: Launcher, image: str, fake: FakeLauncher | None = None) -> World:
    def spec(command: str, count: int, spot: bool = False) -> Ec2Spec:
        words = {"image_id": image, "instance_type": "t3.small", "market": "spot" if spot else "on-demand"}
        return Ec2Spec.of(command=command, count=count, max_runtime=60, **words)

    return World(launcher, spec, Pool("t3.small"), "i-00000000000000000", {"InstanceType": "t3.medium"}, fake)


def ecs_world(launcher: Launcher, fake: FakeLauncher | None = None) -> World:
    def spec(command: str, count: int, spot: bool = False) -> EcsSpec:
        main = {"name": "main", "command": ["sh", "-c", command]}
        asked = EcsSpec.of(
            task_definition="work",
            task_count=count,
            capacity_provider_strategies=["FARGATE_SPOT" if spot else "FARGATE"],
            overrides={"containerOverrides": [main]},
            max_runtime=60,
        )
        return replace(asked, count=count)

    return World(launcher, spec, Pool(market="FARGATE"), "0" * 31 + "f", {"group": "another"}, fake)


def asg_world(launcher: Launcher, fake: FakeLauncher | None = None) -> World:
    """Whether it is spot is for the group to say."""

    def spec(command: str, count: int, spot: bool = False) -> GroupSpec:
        return GroupSpec.of(group_name="spot" if spot else "work", command=command, count=count, max_runtime=60)

    return World(launcher, spec, Pool(market="group"), "i-00000000000000000", {"since": now().isoformat()}, fake)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Any]:
    from airflow_transient.localcloud import LocalCloud

    with LocalCloud() as cloud:
        yield cloud


def factory(cloud: Any) -> Callable[..., Any]:
    return lambda service, region_name=None, **_: can_be_brief(cloud.client(service, region_name=region_name))


@pytest.fixture(scope="module")
def ec2(cloud: Any) -> World:
    client = factory(cloud)
    image = client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    return ec2_world(Ec2Launcher(client, sleep=lambda seconds: None), image)


@pytest.fixture(scope="module")
def ecs(cloud: Any) -> World:
    container = {"name": "main", "image": "any", "command": ["true"], "memory": 128, "essential": True}
    cloud.client("ecs").register_task_definition(family="work", containerDefinitions=[container])
    return ecs_world(EcsLauncher(factory(cloud), sleep=lambda seconds: None))


@pytest.fixture(scope="module")
def asg(cloud: Any) -> World:
    client = factory(cloud)
    for name, market in (("work", {}), ("spot", {"InstanceMarketOptions": {"MarketType": "spot"}})):
        template = {"ImageId": "ami-03cf127a", "InstanceType": "t3.small", **market}
        client("ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=template)
        client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=4,
            LaunchTemplate={"LaunchTemplateName": name},
            AvailabilityZones=["eu-west-1a"],
        )
    return asg_world(AsgLauncher(client, sleep=lambda seconds: time.sleep(min(seconds, 0.1))))


REAL = [pytest.mark.sandbox, pytest.mark.slow]


KINDS = ("ec2", "ecs", "asg")


@pytest.fixture(params=["fake", "fake-ecs", "fake-asg", *(pytest.param(kind, marks=REAL) for kind in KINDS)])
def world(request: pytest.FixtureRequest) -> World:
    if request.param in KINDS:
        made: World = request.getfixturevalue(request.param)
        return made
    if request.param == "fake-ecs":
        fake = FakeEcsLauncher()
        return ecs_world(fake, fake)
    if request.param == "fake-asg":
        group = FakeGroupLauncher()
        return asg_world(group, group)
    plain = FakeLauncher()
    return ec2_world(plain, "ami-0123456789abcdef0", plain)


def test_preparing_starts_nothing_and_resolves_everything(world: World) -> None:
    request = world.launcher.prepare(world.spec(), world.key(), world.pool, now())
    assert request.launch.ids == ()
    assert request.wanted == 1
    assert request.launch.deadline > now()


def test_asking_twice_with_one_token_starts_once(world: World) -> None:
    request = world.launcher.prepare(world.spec(seconds=30), world.key(), world.pool, now())
    first, second = world.launcher.launch(request), world.launcher.launch(request)
    assert first == second
    assert len(first.ids) == 1
    world.launcher.stop(first)


def test_one_token_with_other_arguments_finds_what_it_has_started(world: World) -> None:
    request = world.launcher.prepare(world.spec(seconds=30), world.key(), world.pool, now())
    launch = world.launcher.launch(request)
    changed = replace(request, arguments={**request.arguments, **world.other})
    assert world.launcher.launch(changed) == launch
    world.launcher.stop(launch)


def test_a_request_is_found_by_its_token(world: World) -> None:
    request = world.launcher.prepare(world.spec(seconds=30), world.key(), world.pool, now())
    launch = world.launcher.launch(request)
    assert world.launcher.adopt(request) == launch
    world.launcher.stop(launch)
    assert world.launcher.adopt(request) == launch


def test_what_was_never_asked_is_not_found(world: World) -> None:
    assert world.launcher.adopt(world.launcher.prepare(world.spec(), world.key(), world.pool, now())) is None


def test_two_tokens_start_two(world: World) -> None:
    launches = [world.launch(world.spec(seconds=30)) for _ in range(2)]
    assert len({launch.ids for launch in launches}) == 2
    for launch in launches:
        world.launcher.stop(launch)


def test_a_launch_of_three_has_three_members(world: World) -> None:
    launch = world.launch(world.spec(count=3))
    world.end(launch, 0)
    verdict = world.verdict(launch)
    assert len(set(launch.ids)) == 3
    assert [m.outcome for m in verdict.members] == [Outcome.SUCCEEDED] * 3


@pytest.mark.parametrize(("exit_code", "outcome"), [(0, Outcome.SUCCEEDED), (3, Outcome.FAILED)])
def test_the_receipt_tells_the_exit_code(world: World, exit_code: int, outcome: Outcome) -> None:
    launch = world.launch(world.spec(exit_code))
    world.end(launch, exit_code)
    verdict = world.verdict(launch)
    assert (verdict.outcome, verdict.members[0].exit_code) == (outcome, exit_code)


def test_a_running_member_has_no_verdict(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    assert look(world.launcher, launch, now())[0] is None
    world.launcher.stop(launch)


def test_a_stopped_launch_is_stopped_and_not_a_success(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    world.wait_for_it(launch)
    world.launcher.stop(launch)
    assert world.verdict(launch).outcome is Outcome.STOPPED


def test_stopping_twice_is_fine(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    world.launcher.stop(launch)
    world.launcher.stop(launch)


def test_stopping_what_nobody_knows_is_fine(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    world.launcher.stop(launch.with_ids((*launch.ids, world.ghost)))
    assert world.verdict(launch).outcome is Outcome.STOPPED


def test_many_launches_are_stopped_at_once_each_with_its_own_mark(world: World) -> None:
    launches = [world.launch(world.spec(seconds=30, count=count)) for count in (1, 2, 1)]
    world.wait_for_it(launches[1])
    whys = ("deadline", "request", "deadline")
    assert list(world.launcher.stop_all(list(zip(launches, whys, strict=True)))) == [None] * 3
    assert [world.verdict(launch).outcome for launch in launches] == [
        Outcome.OVERDUE if why == "deadline" else Outcome.STOPPED for why in whys
    ]


def test_one_that_nobody_knows_keeps_no_other_from_its_end(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    ghost = replace(launch, ids=(world.ghost,))
    assert list(world.launcher.stop_all([(ghost, "request"), (launch, "request"), (ghost, "deadline")])) == [None] * 3
    assert world.verdict(launch).outcome is Outcome.STOPPED


def test_of_one_launch_that_is_stopped_twice_at_once_the_first_mark_stays(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    world.wait_for_it(launch)
    assert list(world.launcher.stop_all([(launch, "deadline"), (launch, "request")])) == [None, None]
    assert world.verdict(launch).outcome is Outcome.OVERDUE


def test_to_stop_nothing_is_fine(world: World) -> None:
    launch = world.launcher.prepare(world.spec(), world.key(), world.pool, now()).launch
    assert list(world.launcher.stop_all([])) == []
    assert list(world.launcher.stop_all([(launch, "request")])) == [None]


def test_what_cannot_be_seen_is_unknown_and_no_ending(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    ghost = launch.with_ids((world.ghost,))
    assert [s.phase for s in world.launcher.observe(ghost, now())] == [Phase.UNKNOWN]
    assert look(world.launcher, ghost, now())[0] is None
    world.launcher.stop(launch)


def test_many_launches_are_seen_in_one_look_as_each_alone(world: World) -> None:
    launches = [world.launch(world.spec(seconds=30, count=count)) for count in (1, 2)]
    for launch in launches:
        world.wait_for_it(launch)
    both = world.launcher.observe_all(launches, now())
    assert [[s.member for s in seen] for seen in both.answers] == [list(launch.ids) for launch in launches]
    alone = [world.launcher.observe(launch, now()) for launch in launches]
    assert [[s.phase for s in seen] for seen in both.answers] == [[s.phase for s in seen] for seen in alone]
    assert (both.slow, both.denied) == (False, False)
    for launch in launches:
        world.launcher.stop(launch)


def test_one_that_is_unknown_fails_no_other(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    ghost = replace(launch, ids=(world.ghost,))
    seen = world.launcher.observe_all([ghost, launch, ghost], now()).answers
    assert [s.absent for one in seen for s in one] == [True, False, True]
    world.launcher.stop(launch)


def test_a_look_at_nothing_asks_nothing(world: World) -> None:
    assert list(world.launcher.observe_all([], now()).answers) == []


def test_past_its_deadline_it_is_stopped_and_overdue(world: World) -> None:
    launch = world.launch(world.spec(seconds=50))
    world.wait_for_it(launch)
    late = replace(launch, deadline=now() - timedelta(seconds=5))
    assert world.verdict(late).outcome is Outcome.OVERDUE


def test_the_mark_of_who_stopped_it_is_seen_and_the_first_one_stays(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    world.wait_for_it(launch)
    world.launcher.stop(launch, "deadline")
    world.launcher.stop(launch, "request")
    assert world.launcher.observe(launch, now())[0].stopped_by == "deadline"
    assert world.verdict(launch).outcome is Outcome.OVERDUE


def test_the_rest_of_a_launch_joins_what_exists(world: World) -> None:
    whole, part = world.spec(count=3, seconds=30), world.spec(count=2, seconds=30)
    key = world.key()
    first = world.launcher.launch(world.launcher.prepare(part, key, world.pool, now()))
    more = world.launcher.prepare(whole, replace(key, attempt=2), world.pool, now(), first)
    launch = world.launcher.launch(more)
    assert launch.ids[:2] == first.ids
    assert len(set(launch.ids)) == 3
    assert (launch.nonce, launch.token) == (first.nonce, first.token)
    assert world.launcher.launch(more) == launch
    world.launcher.stop(launch)


def test_what_the_job_says_is_read_without_a_failure(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    new_lines = world.launcher.follow(launch)
    assert isinstance(new_lines(), list)
    world.launcher.stop(launch)
    assert isinstance(world.launcher.follow(launch.with_ids((world.ghost,)))(), list)


def test_a_launch_is_judged_after_a_journey_through_json(world: World) -> None:
    launch = world.launch(world.spec(3))
    world.end(launch, 3)
    again = Launch.from_dict(json.loads(json.dumps(launch.to_dict())))
    assert again == launch
    assert world.verdict(again).outcome is Outcome.FAILED


def test_a_request_is_sent_alike_after_a_journey_through_json(world: World) -> None:
    request = world.launcher.prepare(world.spec(seconds=30), world.key(), world.pool, now())
    launch = world.launcher.launch(request)
    assert world.launcher.launch(Request.from_dict(json.loads(json.dumps(request.to_dict())))) == launch
    world.launcher.stop(launch)


def test_a_spot_pool_is_asked_for_spot(world: World) -> None:
    spec = world.make_spec("exit 0", 1, spot=True)
    (pool,) = spec.pools()
    launch = world.launcher.launch(world.launcher.prepare(spec, world.key(), pool, now()))
    world.end(launch, 0)
    assert "spot" in pool.market.lower()
    assert world.verdict(launch).outcome is Outcome.SUCCEEDED


def test_a_post_mortem_never_raises(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    assert isinstance(world.launcher.explain(launch, launch.ids[0]), tuple)
    assert isinstance(world.launcher.explain(launch, world.ghost), tuple)
    world.launcher.stop(launch)


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_subnet_without_a_way_out_is_warned_about(ec2: World) -> None:
    from airflow_transient.aws import egress

    client, spec = ec2.launcher._client, ec2.spec()  # type: ignore[attr-defined]
    api = client("ec2")
    vpc = api.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = api.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    pool = Pool("t3.small", subnet)
    assert "no route out" in egress.warning(client, spec, pool)[0]
    gateway = api.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    api.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    main = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}]
    table = api.describe_route_tables(Filters=main)["RouteTables"][0]["RouteTableId"]
    api.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    assert "associate_public_ip=True" in egress.warning(client, spec, pool)[0]
    assert egress.warning(client, replace(spec, associate_public_ip=True), pool) == ()
    assert egress.warning(client, spec, Pool("t3.small")) == ()
