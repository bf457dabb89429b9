"""What every Launcher promises: the fake, and EC2 on the local cloud, pass the same tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient.aws.ec2 import Ec2Launcher
from airflow_transient.aws.launcher import Launcher
from airflow_transient.aws.watching import look
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.launch import LaunchKey, Owner
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import Outcome, Phase
from airflow_transient.testing import FakeLauncher
from tests.waiting import eventually

POOL = Pool("t3.small")
_drawn = iter(range(10_000))


def now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class World:
    """A launcher, and the spec of a job that ends with `exit_code` when `end` is called or by itself."""

    launcher: Launcher
    image: str
    fake: FakeLauncher | None = None

    def spec(self, exit_code: int = 0, seconds: int = 0, **words: Any) -> Ec2Spec:
        job = {"command": f"sleep {seconds}; exit {exit_code}", "image_id": self.image, "instance_type": "t3.small"}
        return Ec2Spec.of(**{**job, "max_runtime": 60, **words})

    def key(self, generation: int = 1) -> LaunchKey:
        return LaunchKey(Owner("test", "dag", "run", "task"), f"t{next(_drawn)}", generation)

    def launch(self, spec: Ec2Spec) -> Any:
        return self.launcher.launch(self.launcher.prepare(spec, self.key(), POOL, now()))

    def end(self, launch: Any, exit_code: int) -> None:
        if self.fake:
            for member in launch.ids:
                self.fake.end(member, exit_code, at=now())

    def verdict(self, launch: Any) -> Any:
        return eventually(lambda: look(self.launcher, launch, now())[0], within=40)


@pytest.fixture(scope="module")
def real() -> Iterator[World]:
    from airflow_transient.localcloud import LocalCloud

    with LocalCloud() as cloud:

        def client(service: str, region_name: str | None = None, **_: Any) -> Any:
            return cloud.client(service, region_name=region_name)

        image = client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        yield World(Ec2Launcher(client, sleep=lambda seconds: None), image)


@pytest.fixture(params=["fake", pytest.param("ec2", marks=[pytest.mark.sandbox, pytest.mark.slow])])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "ec2":
        return request.getfixturevalue("real")
    fake = FakeLauncher()
    return World(fake, "ami-0123456789abcdef0", fake)


def test_preparing_starts_nothing_and_resolves_everything(world: World) -> None:
    request = world.launcher.prepare(world.spec(), world.key(), POOL, now())
    assert request.launch.ids == ()
    assert request.arguments["InstanceType"] == "t3.small"
    assert request.launch.deadline > now()


def test_asking_twice_with_one_token_starts_once(world: World) -> None:
    request = world.launcher.prepare(world.spec(seconds=30), world.key(), POOL, now())
    first, second = world.launcher.launch(request), world.launcher.launch(request)
    assert first == second
    assert len(first.ids) == 1
    world.launcher.stop(first)


def test_one_token_with_other_arguments_finds_what_it_has_started(world: World) -> None:
    request = world.launcher.prepare(world.spec(seconds=30), world.key(), POOL, now())
    launch = world.launcher.launch(request)
    changed = replace(request, arguments={**request.arguments, "InstanceType": "t3.medium"})
    assert world.launcher.launch(changed) == launch
    world.launcher.stop(launch)


def test_a_request_is_found_by_its_token(world: World) -> None:
    request = world.launcher.prepare(world.spec(seconds=30), world.key(), POOL, now())
    launch = world.launcher.launch(request)
    assert world.launcher.adopt(request) == launch
    world.launcher.stop(launch)
    assert world.launcher.adopt(request) == launch


def test_what_was_never_asked_is_not_found(world: World) -> None:
    assert world.launcher.adopt(world.launcher.prepare(world.spec(), world.key(), POOL, now())) is None


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
    eventually(lambda: world.launcher.observe(launch, now())[0].phase is Phase.RUNNING, within=20)
    world.launcher.stop(launch)
    assert world.verdict(launch).outcome is Outcome.STOPPED


def test_stopping_twice_is_fine(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    world.launcher.stop(launch)
    world.launcher.stop(launch)


def test_stopping_what_nobody_knows_is_fine(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    world.launcher.stop(launch.with_ids((*launch.ids, "i-00000000000000000")))
    assert world.verdict(launch).outcome is Outcome.STOPPED


def test_what_cannot_be_seen_is_unknown_and_no_ending(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    ghost = launch.with_ids(("i-00000000000000000",))
    assert [s.phase for s in world.launcher.observe(ghost, now())] == [Phase.UNKNOWN]
    assert look(world.launcher, ghost, now())[0] is None
    world.launcher.stop(launch)


def test_past_its_deadline_it_is_stopped_and_overdue(world: World) -> None:
    launch = world.launch(world.spec(seconds=50))
    eventually(lambda: world.launcher.observe(launch, now())[0].phase is Phase.RUNNING, within=20)
    late = replace(launch, deadline=now() - timedelta(seconds=5))
    assert world.verdict(late).outcome is Outcome.OVERDUE


def test_the_mark_of_who_stopped_it_is_seen_and_the_first_one_stays(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    eventually(lambda: world.launcher.observe(launch, now())[0].phase is Phase.RUNNING, within=20)
    world.launcher.stop(launch, "deadline")
    world.launcher.stop(launch, "request")
    assert world.launcher.observe(launch, now())[0].stopped_by == "deadline"
    assert world.verdict(launch).outcome is Outcome.OVERDUE


def test_the_rest_of_a_launch_joins_what_exists(world: World) -> None:
    whole, part = world.spec(count=3, seconds=30), world.spec(count=2, seconds=30)
    key = world.key()
    first = world.launcher.launch(world.launcher.prepare(part, key, POOL, now()))
    more = world.launcher.prepare(whole, replace(key, attempt=2), POOL, now(), first)
    launch = world.launcher.launch(more)
    assert launch.ids[:2] == first.ids
    assert len(set(launch.ids)) == 3
    assert (launch.nonce, launch.token) == (first.nonce, first.token)
    assert world.launcher.launch(more) == launch
    world.launcher.stop(launch)


def test_a_spot_pool_is_asked_for_spot(world: World) -> None:
    spot = Pool("t3.small", market="spot")
    launch = world.launcher.launch(world.launcher.prepare(world.spec(market="spot"), world.key(), spot, now()))
    world.end(launch, 0)
    assert world.verdict(launch).outcome is Outcome.SUCCEEDED


def test_a_post_mortem_never_raises(world: World) -> None:
    launch = world.launch(world.spec(seconds=30))
    assert isinstance(world.launcher.explain(launch, launch.ids[0]), tuple)
    assert isinstance(world.launcher.explain(launch, "i-00000000000000000"), tuple)
    world.launcher.stop(launch)


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_subnet_without_a_way_out_is_warned_about(real: World) -> None:
    from airflow_transient.aws import egress

    ec2 = real.launcher._client("ec2")  # type: ignore[attr-defined]
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    client, pool = real.launcher._client, Pool("t3.small", subnet)  # type: ignore[attr-defined]
    assert "no route out" in egress.warning(client, real.spec(), pool)[0]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    main = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}]
    table = ec2.describe_route_tables(Filters=main)["RouteTables"][0]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    assert "associate_public_ip=True" in egress.warning(client, real.spec(), pool)[0]
    assert egress.warning(client, real.spec(associate_public_ip=True), pool) == ()
    assert egress.warning(client, real.spec(), Pool("t3.small")) == ()
