"""Asking twice makes one, what is half made goes with its snapshots, and what somebody may need stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_transient import errors
from airflow_transient.aws import image_calls, image_keeping
from airflow_transient.aws.images import ImageLauncher
from airflow_transient.core.images.keeping import Image
from airflow_transient.core.images.plan import Plan
from airflow_transient.core.images.spec import BakeSpec, image_tags
from airflow_transient.core.launch import Launch, LaunchKey, Owner

pytestmark = pytest.mark.sandbox

BASE = "ami-03cf127a"
NOW = datetime.now(timezone.utc)
OWNER = Owner("prod", "dag", "run", "task")


@pytest.fixture(scope="module")
def client(cloud: Any) -> Callable[..., Any]:
    made = cache(cloud.client)
    return lambda service, region_name=None, **_: made(service, region_name)


@pytest.fixture(scope="module")
def machine(cloud: Any) -> str:
    """Something to make images of; it idles."""
    answer = cloud.client("ec2").run_instances(ImageId=BASE, InstanceType="t3.micro", MinCount=1, MaxCount=1)
    return str(answer["Instances"][0]["InstanceId"])


@pytest.fixture(autouse=True)
def _whole_again(cloud: Any) -> Iterator[None]:
    yield
    cloud.images.forget()
    cloud.faults.clear()


def plan(name: str, digest: str = "abc", launch: str = "t0-1", owner: Owner = OWNER, **words: Any) -> Plan:
    parameter = words.get("parameter")
    spec = BakeSpec.of(
        name=name, script="#!/bin/sh\n", image_id=BASE, instance_type="t3.micro", ssm_parameter=parameter
    )
    launch_id, generation = launch.split("-")
    tags = image_tags(spec, BASE, digest, LaunchKey(owner, launch_id, int(generation)))
    return Plan(f"{name}-{digest}", name, digest, BASE, tags, **words, deployment=owner.deployment)


def no_sleep(seconds: float) -> None:
    pass


def create(client: Any, made: Plan, machine: str) -> str:
    return image_calls.create(client("ec2"), made, machine, no_sleep)


def state(client: Any, image_id: str) -> str:
    found = client("ec2").describe_images(Filters=[{"Name": "image-id", "Values": [image_id]}])["Images"]
    return str(found[0]["State"]) if found else "gone"


# --- one image


def test_asking_twice_makes_one(client: Any, machine: str) -> None:
    assert create(client, plan("twice"), machine) == create(client, plan("twice", launch="t9-1"), machine)


class Late:
    """EC2's answer to CreateImage was lost, and DescribeImages does not know the image for so many looks."""

    def __init__(self, ec2: Any, looks: int) -> None:
        self._ec2, self.looks = ec2, looks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ec2, name)

    def get_paginator(self, name: str) -> Any:
        self.looks -= 1
        return self if name == "describe_images" and self.looks >= 0 else self._ec2.get_paginator(name)

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        return [{"Images": []}]


def test_a_name_that_is_taken_by_ourselves_is_adopted(client: Any, machine: str) -> None:
    first = create(client, plan("lost"), machine)
    assert image_calls.create(Late(client("ec2"), 2), plan("lost"), machine, no_sleep) == first


def test_a_name_that_is_never_shown_is_asked_for_by_the_next_try(client: Any, machine: str) -> None:
    create(client, plan("hidden"), machine)
    with pytest.raises(errors.LaunchError, match="asking again helps"):
        image_calls.create(Late(client("ec2"), 9), plan("hidden"), machine, no_sleep)


def test_a_name_that_somebody_else_has_is_refused(client: Any, machine: str) -> None:
    client("ec2").create_image(InstanceId=machine, Name="others-abc")
    with pytest.raises(errors.SpecError, match="was not made here"):
        create(client, plan("others"), machine)


DEV = Owner("dev", "dag", "run", "task")


def test_another_deployments_image_is_neither_taken_nor_copied(client: Any, machine: str) -> None:
    """Its owner's keep_last looks at nobody else's need."""
    create(client, plan("of-dev", owner=DEV), machine)
    launcher = ImageLauncher(client, sleep=no_sleep)
    assert launcher.same(plan("of-dev")) is None
    assert launcher.same(plan("of-dev", owner=DEV)) is not None


def test_another_deployments_image_of_the_same_name_is_not_adopted(client: Any, machine: str) -> None:
    create(client, plan("name-of-dev", owner=DEV), machine)
    with pytest.raises(errors.SpecError, match="was not made here"):
        create(client, plan("name-of-dev"), machine)


def test_two_deployments_make_two_images_of_the_same_words(client: Any) -> None:
    spec = BakeSpec.of(name="words", script="#!/bin/sh\n", image_id=BASE, instance_type="t3.micro")
    launcher = ImageLauncher(client, sleep=no_sleep)
    prod, dev = (launcher.plan(spec, LaunchKey(owner, "t0", 1)) for owner in (OWNER, DEV))
    assert prod.name != dev.name
    assert (prod.deployment, dev.deployment) == ("prod", "dev")


def test_one_that_failed_makes_room_for_another(cloud: Any, client: Any, machine: str) -> None:
    cloud.images.fail_next()
    first = create(client, plan("room"), machine)
    second = create(client, plan("room"), machine)
    assert (state(client, first), state(client, second)) == ("gone", "available")


def test_a_machine_that_is_gone_is_lost(client: Any) -> None:
    with pytest.raises(errors.Lost):
        create(client, plan("nothing"), "i-0123456789abcdef0")


def test_half_made_goes_with_its_snapshots_and_whole_stays(cloud: Any, client: Any, machine: str) -> None:
    launcher = ImageLauncher(client, sleep=no_sleep)
    whole = create(client, plan("whole", launch="t1-1"), machine)
    cloud.images.delay = 600
    half = create(client, plan("half", launch="t1-1"), machine)
    other = create(client, plan("other", launch="t2-1"), machine)
    launch = Launch("image", "t1-1", "", (half,), cloud.region, NOW, NOW, NOW, image=plan("half", launch="t1-1"))
    launcher.stop(launch)
    launcher.stop(launch)  # twice is fine
    assert [state(client, each) for each in (whole, half, other)] == ["available", "gone", "pending"]
    left = client("ec2").describe_snapshots(Filters=[{"Name": "tag:transient:launch", "Values": ["t1-1"]}])
    assert len(left["Snapshots"]) == 1


def of_launch(cloud: Any, made: Plan, token: str, *ids: str) -> Launch:
    return Launch("image", token, "", ids, cloud.region, NOW, NOW, NOW, image=made)


def test_many_are_stopped_at_once_and_one_that_is_refused_keeps_no_other(cloud: Any, client: Any, machine: str) -> None:
    cloud.images.delay = 600
    tokens = ("t11-1", "t12-1")
    halves = [create(client, plan(f"at-once-{token}", launch=token), machine) for token in tokens]
    launches = [
        of_launch(cloud, plan("at-once", launch=token), token, half) for token, half in zip(tokens, halves, strict=True)
    ]
    strange = replace(launches[0], image=None)
    launcher = ImageLauncher(client, sleep=no_sleep)
    told = launcher.stop_all([(launch, "request") for launch in (strange, *launches)])
    assert [type(error) for error in told] == [errors.LaunchError, type(None), type(None)]
    assert [state(client, half) for half in halves] == ["gone", "gone"]


def test_a_builder_that_cannot_be_ended_keeps_no_image(cloud: Any, client: Any, machine: str) -> None:
    cloud.images.delay = 600
    half = create(client, plan("kept", launch="t13-1"), machine)
    made = plan("kept", launch="t13-1", builder=machine)
    client("ec2").modify_instance_attribute(InstanceId=machine, DisableApiTermination={"Value": True})
    try:
        (told,) = ImageLauncher(client, sleep=no_sleep).stop_all([(of_launch(cloud, made, "t13-1", half), "request")])
    finally:
        client("ec2").modify_instance_attribute(InstanceId=machine, DisableApiTermination={"Value": False})
    assert "ec2:TerminateInstances" in str(told)
    assert state(client, half) == "gone"


class Counting:
    """A client that counts its looks at images."""

    def __init__(self, ec2: Any, looks: list[str]) -> None:
        self._ec2, self._looks = ec2, looks

    def __getattr__(self, name: str) -> Any:
        self._looks += [name] * name.startswith("describe_images")
        return getattr(self._ec2, name)


def test_many_are_seen_by_a_call_for_each_region_and_one_that_fails_blinds_no_other(
    cloud: Any, client: Any, machine: str
) -> None:
    ids = [create(client, plan(f"look-{n}"), machine) for n in range(3)]
    ghost, far = "ami-0123456789abcdef0", "ami-0123456789abcdef0@eu-central-1"
    launches = [of_launch(cloud, plan("look"), f"t{n}-1", *ids[n:], ghost, far) for n in range(2)]
    looks: list[str] = []

    def some(service: str, region_name: str | None = None, **more: Any) -> Any:
        return Broken() if region_name == "eu-central-1" else Counting(client(service, region_name), looks)

    looked = ImageLauncher(some, sleep=no_sleep).observe_all(launches, NOW)
    assert [[s.member for s in seen] for seen in looked.answers] == [list(launch.ids) for launch in launches]
    assert [[s.state for s in seen] for seen in looked.answers] == [["available"] * (3 - n) + [""] * 2 for n in (0, 1)]
    assert [[s.absent for s in seen[-2:]] for seen in looked.answers] == [[True, False]] * 2
    assert (looked.slow, looked.denied, len(looks)) == (True, False, 1)


def test_a_look_that_fails_is_unknown(cloud: Any, client: Any, machine: str) -> None:
    image = create(client, plan("seen"), machine)
    launch = Launch("image", "t0-1", "", (image,), cloud.region, NOW, NOW, NOW, image=plan("seen"))
    launcher = ImageLauncher(lambda *a, **b: Broken(), sleep=no_sleep)
    (seen,) = launcher.observe(launch, NOW)
    assert (seen.phase.value, seen.absent) == ("unknown", False)


class Broken:
    def __getattr__(self, name: str) -> Any:
        raise ClientError({"Error": {"Code": "RequestLimitExceeded", "Message": "…"}}, name)


def test_the_parameter_is_an_image_s(cloud: Any, client: Any, machine: str) -> None:
    image = create(client, plan("told"), machine)
    made = plan("told", parameter="/images/told")
    launch = Launch("image", "t0-1", "", (image,), cloud.region, NOW, NOW, NOW, image=made)
    launcher = ImageLauncher(client, sleep=no_sleep)
    for _ in range(2):
        launcher.publish(launch, launcher.delivered(launch))
    (said,) = client("ssm").describe_parameters(
        ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": ["/images/told"]}]
    )["Parameters"]
    assert said["DataType"] == "aws:ec2:image"


# --- keep_last


class Family:
    """Three images, the oldest first; the newest has just been delivered."""

    def __init__(self, cloud: Any, client: Any, machine: str, name: str) -> None:
        self.cloud, self.client, self.plan = cloud, client, plan(name, keep_last=1, parameter=f"/images/{name}")
        made = [plan(name, digest, parameter=self.plan.parameter) for digest in ("one", "two", "three")]
        self.ids = [create(client, each, machine) for each in made]
        for age, image_id in enumerate(self.ids):
            self._date(image_id, age)

    def _date(self, image_id: str, age: int) -> None:
        from airflow_transient.localcloud import moto_reads

        moto_reads.ec2(self.cloud.region).amis[image_id].creation_date = NOW + timedelta(minutes=age)

    def clear(self, **changed: Any) -> image_keeping.Cleared:
        newest = Image(self.ids[-1], "", "available", "", {})
        current = {self.cloud.region: newest}
        return image_keeping.clear_old(self.client, replace(self.plan, **changed), current)

    def states(self) -> list[str]:
        return [state(self.client, each) for each in self.ids]

    def put(self, image_id: str, name: str | None = None) -> None:
        name = name or self.plan.parameter
        self.client("ssm").put_parameter(Name=name, Value=image_id, Type="String", Overwrite=True)


@pytest.fixture
def family(cloud: Any, client: Any, machine: str, request: pytest.FixtureRequest) -> Family:
    made = Family(cloud, client, machine, "".join(c if c.isalnum() else "-" for c in request.node.name)[-60:])
    made.put(made.ids[-1])
    return made


def template(client: Any, name: str, *images: str) -> str:
    ec2 = client("ec2")
    data = [{"ImageId": image, "InstanceType": "t3.micro"} for image in images]
    made = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data[0])["LaunchTemplate"]
    for more in data[1:]:
        ec2.create_launch_template_version(LaunchTemplateId=made["LaunchTemplateId"], LaunchTemplateData=more)
    return str(made["LaunchTemplateId"])


def test_older_ones_go_with_their_snapshots(family: Family) -> None:
    cleared = family.clear()
    assert (cleared.removed, cleared.warnings) == (tuple(family.ids[:2]), ())
    assert family.states() == ["gone", "gone", "available"]
    left = family.client("ec2").describe_snapshots(
        Filters=[{"Name": "tag:transient:image-family", "Values": [family.plan.family]}]
    )
    assert len(left["Snapshots"]) == 1


def test_so_many_are_kept(family: Family) -> None:
    family.clear(keep_last=2)
    assert family.states() == ["gone", "available", "available"]


def by_instance(family: Family) -> None:
    family.client("ec2").run_instances(ImageId=family.ids[0], InstanceType="t3.micro", MinCount=1, MaxCount=1)


def by_stopped_instance(family: Family) -> None:
    ec2 = family.client("ec2")
    answer = ec2.run_instances(ImageId=family.ids[0], InstanceType="t3.micro", MinCount=1, MaxCount=1)
    ec2.stop_instances(InstanceIds=[answer["Instances"][0]["InstanceId"]])


def by_default_version(family: Family) -> None:
    template(family.client, family.plan.family, family.ids[0], family.ids[2])


def by_latest_version(family: Family) -> None:
    template(family.client, family.plan.family, family.ids[2], family.ids[0])


def by_group(family: Family) -> None:
    """One that pins a version in the middle, which is neither the default nor the latest."""
    made = template(family.client, family.plan.family, family.ids[2], family.ids[0], family.ids[2])
    family.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=family.plan.family,
        LaunchTemplate={"LaunchTemplateId": made, "Version": "2"},
        MinSize=0,
        MaxSize=0,
        AvailabilityZones=[f"{family.cloud.region}a"],
    )


def by_mixed_group(family: Family) -> None:
    made = template(family.client, family.plan.family, family.ids[2], family.ids[0], family.ids[2])
    pinned = {"LaunchTemplateSpecification": {"LaunchTemplateId": made, "Version": "2"}}
    family.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=family.plan.family,
        MixedInstancesPolicy={"LaunchTemplate": pinned},
        MinSize=0,
        MaxSize=0,
        AvailabilityZones=[f"{family.cloud.region}a"],
    )


def by_parameter(family: Family) -> None:
    family.put(family.ids[0])


def by_other_bake(family: Family) -> None:
    """Another task of this deployment was given the same image, and has published it elsewhere."""
    made = replace(family.plan, reused=True, parameter=f"/others/{family.plan.family}")
    launch = Launch("image", "t7-1", "", (family.ids[0],), family.cloud.region, NOW, NOW, NOW, image=made)
    launcher = ImageLauncher(family.client, sleep=no_sleep)
    launcher.publish(launch, launcher.delivered(launch))


def by_template_of_a_parameter(family: Family) -> None:
    family.put(family.ids[0], f"/theirs/{family.plan.family}")
    template(family.client, family.plan.family, f"resolve:ssm:/theirs/{family.plan.family}")


def by_template_of_a_pinned_version(family: Family) -> None:
    for image in (family.ids[0], family.ids[2]):
        family.put(image, f"/theirs/{family.plan.family}")
    template(family.client, family.plan.family, f"resolve:ssm:/theirs/{family.plan.family}:1")


def by_group_of_a_parameter(family: Family) -> None:
    family.put(family.ids[0], f"/theirs/{family.plan.family}")
    follows = f"resolve:ssm:/theirs/{family.plan.family}"
    made = template(family.client, family.plan.family, family.ids[2], follows, family.ids[2])
    family.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=family.plan.family,
        LaunchTemplate={"LaunchTemplateId": made, "Version": "2"},
        MinSize=0,
        MaxSize=0,
        AvailabilityZones=[f"{family.cloud.region}a"],
    )


def shared(family: Family) -> None:
    permission = {"Add": [{"UserId": "210987654321"}]}
    family.client("ec2").modify_image_attribute(ImageId=family.ids[0], LaunchPermission=permission)


@pytest.mark.parametrize(
    ("use", "why"),
    [
        pytest.param(by_instance, "runs it", id="an instance"),
        pytest.param(by_stopped_instance, "runs it", id="a stopped instance"),
        pytest.param(by_default_version, "launch template", id="default version"),
        pytest.param(by_latest_version, "launch template", id="latest version"),
        pytest.param(by_group, "Auto Scaling group", id="a group"),
        pytest.param(by_mixed_group, "Auto Scaling group", id="a mixed group"),
        pytest.param(by_parameter, "parameter", id="the parameter"),
        pytest.param(by_other_bake, "parameter /others/", id="another bake's parameter"),
        pytest.param(by_template_of_a_parameter, "launch template", id="a template that follows a parameter"),
        pytest.param(by_template_of_a_pinned_version, "launch template", id="a parameter's pinned version"),
        pytest.param(by_group_of_a_parameter, "Auto Scaling group", id="a group's version that follows a parameter"),
        pytest.param(shared, "shared with other accounts", id="another account"),
    ],
)
def test_what_is_in_use_stays(family: Family, use: Callable[[Family], None], why: str) -> None:
    use(family)
    cleared = family.clear()
    assert family.states() == ["available", "gone", "available"]
    (warning,) = cleared.warnings
    assert family.ids[0] in warning
    assert why in warning


def test_a_parameter_that_is_gone_or_awss_own_keeps_nothing(family: Family) -> None:
    for n, name in enumerate(("/theirs/gone", "/theirs/gone:3", "/aws/service/ami-amazon-linux-latest/x")):
        template(family.client, f"{family.plan.family}-{n}", f"resolve:ssm:{name}")
    assert family.clear().removed == tuple(family.ids[:2])


def test_a_parameter_that_cannot_be_asked_for_keeps_all(family: Family) -> None:
    template(family.client, family.plan.family, "resolve:ssm:/theirs/secret")
    real = family.client

    def client(wanted: str, region_name: str | None = None, **_: Any) -> Any:
        made = real(wanted, region_name)
        return Denying(made, "get_parameter") if wanted == "ssm" else made

    family.client = client
    cleared = family.clear(parameter=None)
    assert cleared.removed == ()
    assert "ssm:GetParameter (/theirs/" in cleared.warnings[0]


def test_what_is_made_for_a_parameter_is_marked_by_the_call_that_makes_it(family: Family) -> None:
    made = ImageLauncher(family.client, sleep=no_sleep)
    launch = Launch("image", "t0-1", "", (family.ids[2],), family.cloud.region, NOW, NOW, NOW, image=family.plan)
    images = made.delivered(launch)
    assert family.plan.parameter in images[family.cloud.region].tags.values()

    def client(wanted: str, region_name: str | None = None, **_: Any) -> Any:
        return Denying(family.client(wanted, region_name), "create_tags")

    ImageLauncher(client, sleep=no_sleep).publish(launch, images)


def test_what_cannot_be_marked_is_not_published(family: Family) -> None:
    launch = Launch("image", "t0-1", "", (family.ids[0],), family.cloud.region, NOW, NOW, NOW)
    launch = replace(launch, image=replace(family.plan, parameter="/others/refused"))

    def client(wanted: str, region_name: str | None = None, **_: Any) -> Any:
        return Denying(family.client(wanted, region_name), "create_tags")

    launcher = ImageLauncher(client, sleep=no_sleep)
    with pytest.raises(errors.AccessError, match="ec2:CreateTags"):
        launcher.publish(launch, launcher.delivered(launch))
    with pytest.raises(ClientError, match="ParameterNotFound"):
        family.client("ssm").get_parameter(Name="/others/refused")


@pytest.mark.parametrize(
    "service", ["ec2.describe_instances", "autoscaling.describe_auto_scaling_groups", "ssm.get_parameter"]
)
def test_without_a_permission_nothing_goes(family: Family, service: str) -> None:
    name, operation = service.split(".")

    real = family.client

    def client(wanted: str, region_name: str | None = None, **_: Any) -> Any:
        made = real(wanted, region_name)
        return Denying(made, operation) if wanted == name else made

    family.client = client
    cleared = family.clear()
    assert cleared.removed == ()
    assert "not allowed" in cleared.warnings[0]


class Denying:
    """A client that may not do one thing."""

    def __init__(self, client: Any, operation: str) -> None:
        self._client, self._operation = client, operation

    def __getattr__(self, name: str) -> Any:
        if name != self._operation:
            return getattr(self._client, name)
        return self._deny

    def get_paginator(self, name: str) -> Any:
        return self if name == self._operation else self._client.get_paginator(name)

    def paginate(self, **_: Any) -> Any:
        self._deny()

    def _deny(self, **_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": json.dumps({})}}, self._operation)
