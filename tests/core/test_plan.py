"""The written plan: tokens, requests, pools, and what the next try does with an intent."""

import base64
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from airflow_transient.core.ec2.requests import Resolved, run_instances
from airflow_transient.core.ec2.requests import call as run_instances_call
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.fallback import REFUSALS, Scope, pools_left, scope_of
from airflow_transient.core.intent import NEXT, Intent, Move, Refusal, State
from airflow_transient.core.launch import STOPPED_BY, Launch, LaunchKey, Owner
from airflow_transient.core.reaping import KEEP, ORPHAN_SINCE
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import OUR_TAGS, Pool
from airflow_transient.core.verdict import Member, Outcome
from airflow_transient.errors import SpecError

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
OWNER = Owner("prod", "dag", "manual__2026", "task", 3)
KEY = LaunchKey(OWNER, "t0", 2, 5, try_number=4)
LAUNCH = Launch("ec2", "t0-2-5", "n0", (), "eu-west-1", T0, T0 + timedelta(minutes=10), T0 + timedelta(hours=1))
POOL = Pool("t3.small", "subnet-1")


def spec(**words):
    return Ec2Spec.of(**{"command": "true", "image_id": "ami-0123456789abcdef0", "instance_type": "t3.small"} | words)


def asked(resolved=None, pool=POOL, **words):
    return run_instances(spec(**words), KEY, resolved or Resolved("ami-1", "/dev/xvda"), pool, LAUNCH)


def test_the_token_is_launch_generation_attempt_and_fits_ec2():
    assert KEY.token == "t0-2-5"
    assert len(replace(KEY, launch_id="t" + "0" * 20, generation=99, attempt=99).token) <= 64


def test_the_owner_has_no_try():
    assert str(OWNER) == "prod/dag/manual__2026/task/3"
    assert "4" not in str(OWNER).split("/")[0:2]


def test_every_launch_ends_itself_whatever_a_template_says():
    call = asked(launch_template="nightly")
    assert call["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert call["DisableApiTermination"] is False
    assert call["MetadataOptions"] == {
        "HttpTokens": "required",
        "HttpEndpoint": "enabled",
        "HttpPutResponseHopLimit": 2,
    }


def test_tags_ride_in_the_launch_call_on_instance_and_volume():
    kinds = {t["ResourceType"]: {tag["Key"]: tag["Value"] for tag in t["Tags"]} for t in asked()["TagSpecifications"]}
    assert set(kinds) == {"instance", "volume"}  # spot-instances-request is refused for on-demand
    tags = kinds["instance"]
    assert tags["transient:managed-by"] == "airflow_transient"
    assert tags["transient:deadline"] == str(int(LAUNCH.deadline.timestamp()))
    assert (tags["transient:dag"], tags["transient:map-index"], tags["transient:try"]) == ("dag", "3", "4")
    assert tags["Name"] == "dag.task"


def test_what_we_may_tag_a_machine_with_is_left_free_by_its_author():
    held = replace(LAUNCH, hold_seconds=60)
    tags = run_instances(spec(), KEY, Resolved("ami-1"), POOL, held)["TagSpecifications"][0]["Tags"]
    assert len({tag["Key"] for tag in tags} | {STOPPED_BY, ORPHAN_SINCE, KEEP}) == OUR_TAGS


def test_a_long_name_is_cut_where_aws_cuts_it():
    key = replace(KEY, owner=replace(OWNER, run_id="r" * 300))
    assert {name: len(value) for name, value in key.tags(LAUNCH).items() if len(value) > 100} == {
        "transient:owner": 256,
        "transient:run": 256,
    }


def test_what_has_come_is_not_asked_for_again():
    assert run_instances(spec(count=3), KEY, Resolved("ami-1"), POOL, LAUNCH.with_ids(("i-1",)))["MaxCount"] == 2


def test_the_same_input_asks_with_the_same_bytes():
    assert json.dumps(asked()) == json.dumps(asked())


def test_a_public_address_needs_an_interface_of_its_own():
    plain, door = asked(security_group_ids="sg-1"), asked(security_group_ids="sg-1", associate_public_ip=True)
    assert (plain["SubnetId"], plain["SecurityGroupIds"]) == ("subnet-1", ["sg-1"])
    assert "SubnetId" not in door
    assert door["NetworkInterfaces"] == [
        {
            "DeviceIndex": 0,
            "AssociatePublicIpAddress": True,
            "DeleteOnTermination": True,
            "SubnetId": "subnet-1",
            "Groups": ["sg-1"],
        }
    ]


def test_no_volume_outlives_its_machine():
    devices = {"/dev/sdb": {"VolumeSize": 8, "DeleteOnTermination": False}, "/dev/xvda": {"Encrypted": True}}
    call = asked(Resolved("ami-1", "/dev/xvda", devices), volume_size=30)
    assert call["BlockDeviceMappings"] == [
        {"DeviceName": "/dev/sdb", "Ebs": {"DeleteOnTermination": True, "VolumeSize": 8}},
        {"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "DeleteOnTermination": True, "VolumeSize": 30}},
    ]


def test_a_template_s_version_is_a_number_and_its_hibernation_is_off() -> None:
    call = asked(
        Resolved("ami-1", template_version="7", hibernates=True), launch_template={"name": "n", "version": "$Latest"}
    )
    assert call["LaunchTemplate"] == {"LaunchTemplateName": "n", "Version": "7"}
    assert call["HibernationOptions"] == {"Configured": False}


def test_a_volume_size_needs_the_root_device():
    with pytest.raises(SpecError, match="root device"):
        asked(Resolved("ami-1"), volume_size=30)


@pytest.mark.parametrize(
    ("words", "said"), [("worker", {"Name": "worker"}), ("arn:aws:iam::1:x", {"Arn": "arn:aws:iam::1:x"})]
)
def test_a_profile_is_a_name_or_an_arn(words, said):
    assert asked(instance_profile=words)["IamInstanceProfile"] == said


REQUEST = Request(
    LAUNCH, POOL, "t0-2-5", 1, {"ClientToken": "t0-2-5"}, base64.b64encode(b"\x1f\x8bgz").decode(), ("careful",)
)


def test_a_request_survives_json_to_the_byte():
    again = Request.from_dict(json.loads(json.dumps(REQUEST.to_dict())))
    assert again == REQUEST
    assert run_instances_call(again)["UserData"] == b"\x1f\x8bgz"


@pytest.mark.parametrize(
    "intent",
    [
        Intent("t0", 2),
        Intent("t0", 2).next_attempt().asking(REQUEST),
        Intent("t0", 2).placed(LAUNCH.with_ids(("i-1",))),
        Intent("t0", 2).placed(LAUNCH.with_ids(("i-1",))).complete(),
        Intent("t0", 2).refused(Refusal(POOL, Scope.SUBNET, "no addresses")),
        Intent("t0", 2).told({"outcome": "succeeded"}),
    ],
    ids=["drawn", "asked", "partly placed", "placed", "refused", "told"],
)
def test_an_intent_survives_json(intent):
    assert Intent.from_dict(json.loads(json.dumps(intent.to_dict()))) == intent


def test_the_bytes_go_once_the_ids_are_known():
    assert Intent("t0", 2).asking(REQUEST).placed(LAUNCH).request is None


def test_a_pool_is_remembered_until_another_one_takes_members():
    first = Intent("t0", 2).placed(LAUNCH, POOL)
    assert first.placed(LAUNCH).pool == POOL
    assert first.placed(LAUNCH, Pool("t3.large")).pool == Pool("t3.large")


def test_what_is_over_keeps_no_bytes_and_no_members():
    assert Intent("t0", 2).asking(REQUEST).gone().request is None
    ended = replace(Intent("t0", 2), ended=(Member("i-1", Outcome.FAILED),))
    assert [ended.told({"outcome": outcome}).ended for outcome in ("succeeded", "failed")] == [(), ()]


@pytest.mark.parametrize(
    ("state", "same", "cleared"),
    [
        (State.DRAWN, Move.LAUNCH, Move.STOP_AND_LAUNCH),
        (State.ASKED, Move.ASK_AGAIN, Move.STOP_AND_LAUNCH),
        (State.PLACED, Move.ADOPT, Move.STOP_AND_LAUNCH),
        (State.TOLD_SUCCEEDED, Move.TELL_AGAIN, Move.LAUNCH_ANEW),
        (State.TOLD_FAILED, Move.LAUNCH_ANEW, Move.LAUNCH_ANEW),
    ],
)
def test_what_the_next_try_does(state, same, cleared):
    intent = replace(Intent("t0", 2), state=state)
    assert intent.next_move(max_tries=2) is same
    assert intent.next_move(max_tries=3) is cleared


def test_every_state_has_a_next_move():
    assert set(NEXT) == set(State)


def test_a_new_generation_has_new_tokens():
    old = Intent("t0", 2).next_attempt()
    new = old.anew(3).next_attempt()
    assert (new.generation, new.attempt, new.max_tries, new.state) == (2, 1, 3, State.DRAWN)


@pytest.mark.parametrize(
    ("code", "status", "scope"),
    [
        pytest.param("InsufficientInstanceCapacity", 500, Scope.POOL, id="a 500 that is a definite no"),
        pytest.param("InternalError", 500, Scope.UNCLEAR, id="a 500 that is no answer"),
        pytest.param("Novelty", 503, Scope.UNCLEAR, id="an unknown 5xx"),
        pytest.param("Novelty", 400, Scope.SPEC, id="an unknown 4xx"),
        pytest.param(None, None, Scope.UNCLEAR, id="the answer never came"),
        pytest.param("RequestLimitExceeded", 503, Scope.PACE, id="throttled"),
        pytest.param("IdempotentInstanceTerminated", 400, Scope.TOKEN_USED, id="launched before, and over"),
        pytest.param("UnauthorizedOperation", 403, Scope.ACCESS, id="not allowed"),
    ],
)
def test_the_code_decides_before_the_status(code, status, scope):
    assert scope_of(code, status) is scope


def test_a_refusal_speaks_of_its_scope_and_no_more():
    pools = tuple(Pool(t, s) for t in "ab" for s in ("s1", "s2"))
    assert pools_left(pools, [(pools[0], Scope.POOL)]) == pools[1:]
    assert pools_left(pools, [(pools[0], Scope.SUBNET)]) == (pools[1], pools[3])
    assert pools_left(pools, [(pools[0], Scope.TYPE)]) == pools[2:]
    assert pools_left(pools, [(pools[0], Scope.MARKET)]) == ()


@pytest.mark.parametrize(("hiccups", "left"), [(0, True), (2, True), (3, False)])
def test_a_place_is_asked_three_times_after_hiccups(hiccups, left):
    assert pools_left((POOL,), [(POOL, Scope.AGAIN)] * hiccups) == (POOL,) * left


def test_the_table_of_refusals_prints():
    assert all(isinstance(scope, Scope) for scope in REFUSALS.values())
    assert "InsufficientInstanceCapacity" in REFUSALS


def test_a_launch_survives_json_and_ignores_what_a_later_version_adds():
    launch = LAUNCH.with_ids(("i-1", "i-2"))
    assert Launch.from_dict(json.loads(json.dumps(launch.to_dict() | {"later": 1}))) == launch
