"""Each fault as boto3 meets it, asked for from within and by HTTP."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from airflow_transient.localcloud import LocalCloud
from airflow_transient.localcloud.fault_rules import KINDS
from airflow_transient.localcloud.faults import FaultError, Faults, FaultVerbs, RemoteFaults

from .conftest import Launcher, launcher

pytestmark = pytest.mark.sandbox
SPOT = {"MarketType": "spot"}
TAGS = [{"ResourceType": "instance", "Tags": [{"Key": "job", "Value": "nightly"}]}]
# What each verb is asked here, so that both handles are held to all of them.
ASKED: dict[str, Callable[[FaultVerbs], Any]] = {
    "error": lambda faults: faults.error("RunInstances", "InternalError", times=3, zone="eu-west-1a"),
    "lose_answer": lambda faults: faults.lose_answer("RunInstances"),
    "delay": lambda faults: faults.delay("RunInstances", 0.5),
    "throttle": lambda faults: faults.throttle("RunInstances", times=2),
    "lag": lambda faults: faults.lag(describe_seconds=1),
    "expire_credentials": lambda faults: faults.expire_credentials(presigned=True),
    "capacity": lambda faults: faults.capacity("t3.micro", "eu-west-1a", count=3),
    "guest": lambda faults: faults.guest("hang"),
    "console_delay": lambda faults: faults.console_delay(3),
    "bucket_down": lambda faults: faults.bucket_down("reports"),
    "task": lambda faults: faults.task("interrupted", seconds=0.5, provider="FARGATE_SPOT"),
    "task_failures": lambda faults: faults.task_failures("capacity", count=3, start=2, provider="FARGATE_SPOT"),
    "task_lag": lambda faults: faults.task_lag(2),
    "task_rate": lambda faults: faults.task_rate(calls=2),
    "sqs_lag": lambda faults: faults.sqs_lag(60, queue="orders"),
    "lose_events": lambda faults: faults.lose_events(times=2),
    "duplicate_events": lambda faults: faults.duplicate_events("EC2 *", probability=0.5),
    "delay_events": lambda faults: faults.delay_events(5, times=1),
}


def client(cloud: LocalCloud, service: str) -> Any:
    """One that asks once: botocore would ask again by itself."""
    keys = {
        "aws_access_key_id": cloud.env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": cloud.env["AWS_SECRET_ACCESS_KEY"],
    }
    config = Config(retries={"total_max_attempts": 1})
    return boto3.client(service, cloud.region, endpoint_url=cloud.url, config=config, **keys)


@pytest.fixture
def ec2(cloud: LocalCloud) -> Any:
    return client(cloud, "ec2")


@pytest.fixture
def once(cloud: LocalCloud, ec2: Any, launch: Launcher) -> Launcher:
    return Launcher(cloud, ec2, launch.image)


def refusal(call: Callable[..., Any], *words: Any, **more: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(*words, **more)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def http(cloud: LocalCloud, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(cloud.url + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


# --- two handles, one book ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("remote", [False, True], ids=["from within", "by HTTP"])
@pytest.mark.parametrize("verb", KINDS)
def test_a_fault_is_listed_printed_and_removed(cloud: LocalCloud, faults: Faults, verb: str, remote: bool) -> None:
    handle: FaultVerbs = RemoteFaults(cloud.url) if remote else faults
    fault = ASKED[verb](handle)
    assert fault.kind == verb
    assert handle.list() == faults.list() == (fault,)
    assert str(fault).startswith(f"{fault.id}: fake: ")
    handle.remove(fault)
    handle.remove(fault.id)
    assert faults.list() == ()


def test_by_http_what_cannot_be_is_said_in_words(cloud: LocalCloud, faults: Faults) -> None:
    with pytest.raises(FaultError, match="not below 0"):
        RemoteFaults(cloud.url).add(faults.delay("X", 1).__class__(kind="delay", action="X", seconds=-1))
    status, said = http(cloud, "POST", "/_localcloud/faults", {"kind": "guest", "guest": "sulk"})
    assert (status, "no guest does 'sulk'" in said["error"]) == (400, True)


def test_the_address_of_faults(cloud: LocalCloud, faults: Faults) -> None:
    assert http(cloud, "POST", "/_localcloud/faults", {"kind": "throttle", "action": "X"})[0] == 201
    assert http(cloud, "GET", "/_localcloud/faults")[1]["faults"][0]["fake"].endswith("fake: X is throttled; 0 hits")
    assert http(cloud, "PUT", "/_localcloud/faults")[0] == 405
    assert http(cloud, "GET", "/_localcloud/others")[0] == 404
    assert http(cloud, "DELETE", "/_localcloud/faults") == (200, {})
    assert faults.list() == ()


def test_only_this_machine_may_ask_for_faults(cloud: LocalCloud, faults: Faults, launch: Launcher) -> None:
    assert http(cloud, "GET", "/_localcloud/faults", Host="evil.example")[0] == 403
    assert http(cloud, "GET", "/_localcloud/faults", Origin="http://evil.example")[0] == 403
    text = launch.run(f"curl -s -w 'code %{{http_code}}' {cloud.url}/_localcloud/faults -d '{{}}'; echo")
    assert "not for guests" in text
    assert "code 403" in text
    assert "code 403" in launch.run(f"curl -s -w 'code %{{http_code}}' -X POST {cloud.url}/moto-api/reset; echo")


# --- calls --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "action", "call"),
    [
        pytest.param("ec2", "DescribeInstances", lambda c: c.describe_instances(), id="EC2"),
        pytest.param("s3", "ListObjectsV2", lambda c: c.list_objects_v2(Bucket="reports"), id="S3"),
        pytest.param("ssm", "GetParameter", lambda c: c.get_parameter(Name="x"), id="SSM, JSON"),
        pytest.param("ecs", "ListClusters", lambda c: c.list_clusters(), id="ECS, JSON"),
        pytest.param("sqs", "ListQueues", lambda c: c.list_queues(), id="SQS, JSON"),
        pytest.param("sts", "GetCallerIdentity", lambda c: c.get_caller_identity(), id="STS, query"),
        pytest.param("scheduler", "ListSchedules", lambda c: c.list_schedules(), id="scheduler, REST JSON"),
        pytest.param("cloudwatch", "ListMetrics", lambda c: c.list_metrics(), id="CloudWatch, CBOR"),
    ],
)
def test_an_error_is_a_client_error_in_every_protocol(
    cloud: LocalCloud, faults: Faults, service: str, action: str, call: Callable[[Any], Any]
) -> None:
    fault = faults.error(f"{service if service != 'cloudwatch' else '*'}:{action}", "Odd", message="a & b", times=1)
    faults.error(action, "AccessDenied", times=1)
    asking = client(cloud, service)
    with pytest.raises(ClientError, match=r"\(Odd\).*a & b"):
        call(asking)
    assert refusal(call, asking) == ("AccessDenied", 403)
    assert faults.hits(fault) == 1


@pytest.mark.parametrize(
    ("service", "code", "call"),
    [
        pytest.param("ec2", ("RequestLimitExceeded", 503), lambda c: c.describe_instances(), id="EC2"),
        pytest.param("s3", ("SlowDown", 503), lambda c: c.get_object(Bucket="reports", Key="x"), id="S3"),
        pytest.param("ssm", ("ThrottlingException", 400), lambda c: c.get_parameter(Name="x"), id="SSM"),
        pytest.param("sts", ("Throttling", 400), lambda c: c.get_caller_identity(), id="STS"),
    ],
)
def test_throttling_has_each_services_own_name(
    cloud: LocalCloud, faults: Faults, service: str, code: tuple[str, int], call: Callable[[Any], Any]
) -> None:
    faults.throttle("*")
    assert refusal(call, client(cloud, service)) == code


def test_botocores_own_retries_meet_faults_too(faults: Faults, launch: Launcher) -> None:
    fault = faults.error("DescribeInstances", "InternalError", times=1)
    launch.ec2.describe_instances()
    assert faults.hits(fault) == 1


def test_an_error_knows_the_zone_the_type_and_the_market(faults: Faults, once: Launcher) -> None:
    subnets = {each["AvailabilityZone"]: each["SubnetId"] for each in once.ec2.describe_subnets()["Subnets"]}
    faults.error("RunInstances", "InsufficientInstanceCapacity", zone="eu-west-1b", instance_type="t3.micro")
    ask = once.ec2.run_instances
    assert refusal(ask, **once.request(SubnetId=subnets["eu-west-1b"])) == ("InsufficientInstanceCapacity", 500)
    card = [{"DeviceIndex": 0, "SubnetId": subnets["eu-west-1b"]}]
    assert refusal(ask, **once.request(NetworkInterfaces=card)) == ("InsufficientInstanceCapacity", 500)
    assert once(SubnetId=subnets["eu-west-1a"])
    assert once(SubnetId=subnets["eu-west-1b"], InstanceType="t3.small")


def test_an_error_knows_what_a_template_asks_for(faults: Faults, once: Launcher) -> None:
    data = {"InstanceType": "t3.nano", "ImageId": once.image, "InstanceMarketOptions": SPOT}
    once.ec2.create_launch_template(LaunchTemplateName="small", LaunchTemplateData=data)
    faults.error("RunInstances", "MaxSpotInstanceCountExceeded", instance_type="t3.nano", market="spot")
    wanted = {"LaunchTemplateName": "small"}
    ask = once.ec2.run_instances
    assert refusal(ask, LaunchTemplate=wanted, MinCount=1, MaxCount=1)[0] == "MaxSpotInstanceCountExceeded"
    assert ask(LaunchTemplate=wanted, InstanceType="t3.micro", MinCount=1, MaxCount=1)


def test_a_lost_answer_took_effect(faults: Faults, once: Launcher) -> None:
    fault = faults.lose_answer("RunInstances")
    with pytest.raises(ConnectionClosedError):
        once(ClientToken="lost")
    wanted = [{"Name": "client-token", "Values": ["lost"]}]
    (found,) = once.ec2.describe_instances(Filters=wanted)["Reservations"]
    assert once(ClientToken="lost") == found["Instances"][0]["InstanceId"]
    assert faults.hits(fault) == 1


def test_a_lost_answer_of_s3_was_stored(cloud: LocalCloud, faults: Faults) -> None:
    s3 = client(cloud, "s3")
    faults.lose_answer("PutObject")
    with pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket="reports", Key="lost", Body=b"x" * 100_000)
    assert s3.head_object(Bucket="reports", Key="lost")["ContentLength"] == 100_000


def test_a_delayed_call_takes_longer(faults: Faults, once: Launcher) -> None:
    faults.delay("DescribeInstances", 0.2, times=1)
    began = time.monotonic()
    once.ec2.describe_instances()
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(
    ("service", "code", "call"),
    [
        pytest.param("ec2", ("RequestExpired", 400), lambda c: c.describe_instances(), id="EC2"),
        pytest.param("s3", ("ExpiredToken", 400), lambda c: c.get_object(Bucket="reports", Key="x"), id="S3"),
        pytest.param("ssm", ("ExpiredTokenException", 400), lambda c: c.get_parameter(Name="x"), id="SSM"),
        pytest.param("sts", ("ExpiredToken", 403), lambda c: c.get_caller_identity(), id="STS"),
    ],
)
def test_expired_credentials_have_each_services_own_name(
    cloud: LocalCloud, faults: Faults, service: str, code: tuple[str, int], call: Callable[[Any], Any]
) -> None:
    faults.expire_credentials()
    assert refusal(call, client(cloud, service)) == code


def status_of(url: str, method: str = "GET", body: bytes | None = None) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_what_was_presigned_expires_only_when_asked_for(cloud: LocalCloud, faults: Faults) -> None:
    s3 = cloud.client("s3")
    s3.put_object(Bucket="reports", Key="kept", Body=b"x")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "reports", "Key": "kept"})
    faults.expire_credentials()
    assert status_of(url) == 200
    faults.expire_credentials(presigned=True)
    assert status_of(url) == 400


def test_a_bucket_that_is_down_is_down_for_all(cloud: LocalCloud, faults: Faults, launch: Launcher) -> None:
    s3 = client(cloud, "s3")
    url = cloud.client("s3").generate_presigned_url("put_object", Params={"Bucket": "reports", "Key": "down"})
    fault = faults.bucket_down("reports", code="ServiceUnavailable")
    assert refusal(s3.put_object, Bucket="reports", Key="down", Body=b"x" * 1_000_000) == ("ServiceUnavailable", 503)
    assert refusal(s3.head_bucket, Bucket="reports") == ("503", 503)
    assert status_of(url, "PUT", b"x" * 1_000_000) == 503
    assert "code 503" in launch.run(f"curl -s -o /dev/null -w 'code %{{http_code}}\\n' {cloud.url}/reports/x")
    assert faults.hits(fault) == 4
    s3.list_buckets()


# --- EC2's own ways -----------------------------------------------------------------------------------------------


def test_a_pool_has_room_for_so_many(faults: Faults, once: Launcher) -> None:
    fault = faults.capacity("t3.micro", "eu-west-1a", count=3)
    ask = once.ec2.run_instances
    assert len(ask(**once.request(MinCount=1, MaxCount=2))["Instances"]) == 2
    assert refusal(ask, **once.request(MinCount=2, MaxCount=2)) == ("InsufficientInstanceCapacity", 500)
    assert len(ask(**once.request(MinCount=1, MaxCount=2))["Instances"]) == 1
    assert refusal(ask, **once.request())[0] == "InsufficientInstanceCapacity"
    assert once(InstanceType="t3.small")
    assert (faults.list()[0].taken, faults.hits(fault)) == (3, 3)


def test_a_token_is_answered_whatever_room_is_left(faults: Faults, once: Launcher) -> None:
    faults.capacity(count=1)
    assert once(ClientToken="room") == once(ClientToken="room")
    assert refusal(once.ec2.run_instances, **once.request(ClientToken="more"))[0] == "InsufficientInstanceCapacity"
    faults.clear()
    assert once(ClientToken="more")


def test_a_new_instance_is_unknown_at_first(faults: Faults, once: Launcher) -> None:
    fault = faults.lag(describe_seconds=60)
    name = once(ClientToken="young")
    assert refusal(once.ec2.describe_instances, InstanceIds=[name]) == ("InvalidInstanceID.NotFound", 400)
    assert refusal(once.ec2.describe_instance_status, InstanceIds=[name]) == ("InvalidInstanceID.NotFound", 400)
    wanted = [{"Name": "client-token", "Values": ["young"]}]
    assert once.ec2.describe_instances(Filters=wanted)["Reservations"] == []
    assert faults.hits(fault) >= 3
    faults.remove(fault)
    assert once.describe(name)
    assert once.ec2.describe_instances(Filters=wanted)["Reservations"]


def test_a_new_instances_tags_are_missing_at_first(faults: Faults, once: Launcher) -> None:
    fault = faults.lag(tags_seconds=60)
    name = once(TagSpecifications=TAGS)
    wanted = [{"Name": "tag:job", "Values": ["nightly"]}, {"Name": "instance-id", "Values": [name]}]
    of_it = [{"Name": "resource-id", "Values": [name]}]
    assert "Tags" not in once.describe(name)
    assert once.ec2.describe_instances(Filters=wanted)["Reservations"] == []
    assert once.ec2.describe_tags(Filters=of_it)["Tags"] == []
    faults.remove(fault)
    assert once.describe(name)["Tags"]
    assert once.ec2.describe_instances(Filters=wanted)["Reservations"]
    assert once.ec2.describe_tags(Filters=of_it)["Tags"]


def test_the_console_is_late(faults: Faults, launch: Launcher) -> None:
    fault = faults.console_delay(60)
    name = launch("#!/bin/sh\necho hello\n")
    launch.prints(name, "finished at")
    assert launch.ec2.get_console_output(InstanceId=name).get("Output", "") == ""
    faults.remove(fault)
    assert "hello" in launch.console_output(name)


# --- holes that were ----------------------------------------------------------------------------------------------


def requests_of(launch: Launcher, name: str) -> dict[str, Any]:
    wanted = launch.describe(name)["SpotInstanceRequestId"]
    (found,) = launch.ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[wanted])["SpotInstanceRequests"]
    return dict(found)


def test_a_spot_request_lives_and_ends_with_its_instance(cloud: LocalCloud, launch: Launcher) -> None:
    tags = [{"ResourceType": "spot-instances-request", "Tags": [{"Key": "job", "Value": "nightly"}]}]
    before = len(cloud.states())
    name = launch(InstanceMarketOptions=SPOT, TagSpecifications=tags)
    assert len(cloud.states()) == before + 1
    asked = requests_of(launch, name)
    assert (asked["State"], asked["Status"]["Code"], asked["Type"]) == ("active", "fulfilled", "one-time")
    assert (asked["InstanceId"], asked["Tags"]) == (name, tags[0]["Tags"])
    launch.ec2.terminate_instances(InstanceIds=[name])
    launch.until(name, "terminated")
    asked = requests_of(launch, name)
    assert (asked["State"], asked["Status"]["Code"]) == ("closed", "instance-terminated-by-user")


@pytest.mark.parametrize("state", ["running", "stopped", "terminated"])
def test_token_and_tag_find_every_state(launch: Launcher, state: str) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "found-in", "Value": state}]}]
    name = launch("#!/bin/sh\nsleep 60\n", ClientToken=f"in-{state}", TagSpecifications=tags)
    launch.until(name, "running")
    {"terminated": launch.ec2.terminate_instances, "stopped": launch.ec2.stop_instances}.get(state, lambda **_: None)(
        InstanceIds=[name]
    )
    launch.until(name, state)
    for wanted in ({"Name": "client-token", "Values": [f"in-{state}"]}, {"Name": "tag:found-in", "Values": [state]}):
        (found,) = launch.ec2.describe_instances(Filters=[wanted])["Reservations"]
        assert found["Instances"][0]["InstanceId"] == name


def test_faults_end_with_their_cloud(cloud: LocalCloud) -> None:
    cloud.stop()
    try:
        with LocalCloud() as other:
            other.faults.throttle("*")
        assert other.faults.list() == ()
        with other:
            assert launcher(other).ec2.describe_instances()
    finally:
        cloud.start()
