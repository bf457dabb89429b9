"""From a spec to the calls of RunTask: ten tasks each, a token each, the same bytes whoever asks."""

import copy
import json
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from airflow_transient.core.ecs.requests import (
    Definition,
    calls,
    check,
    family_of,
    plain_value,
    run_task,
    started_by,
    tag_value,
    terms,
    token_of,
)
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.ecs.words import MAX_OVERRIDES
from airflow_transient.core.launch import LaunchKey, Owner, draft_launch
from airflow_transient.core.reaping import KEEP, ORPHAN_SINCE
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import OUR_TAGS
from airflow_transient.errors import SpecError

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
ARN = "arn:aws:ecs:eu-west-1:123456789012:task-definition/work:3"
WORK = Definition(ARN, "work", ("main", "proxy"), ("main",), awsvpc=False)
OWNER = Owner("prod", "nightly", "manual__2026-11-21", "burst")
KEY = LaunchKey(OWNER, "t0", generation=1, attempt=2)
#: ECS's words for startedBy and clientToken (botocore's model of RunTask).
LEGAL_STARTED_BY = re.compile(r"[A-Za-z0-9_/-]{1,128}")
LEGAL_TOKEN = re.compile(r"[!-~]{1,64}")


def spec(count=1, **words):
    return replace(EcsSpec.of(task_definition="work", hard_cap=500, task_count=count, **words), count=count)


def request(wanted, key=KEY, definition=WORK):
    made = wanted if isinstance(wanted, EcsSpec) else spec(wanted)
    draft = draft_launch("ecs", made, key, "eu-west-1", T0, "n0", ecs=terms(made, definition, None))
    arguments = run_task(made, key, definition, made.pools()[0], draft)
    return Request(draft, made.pools()[0], key.token, made.count, arguments)


# --- calls


@pytest.mark.parametrize(
    ("wanted", "counts"),
    [(1, [1]), (9, [9]), (10, [10]), (11, [10, 1]), (200, [10] * 20), (500, [10] * 50), (0, [])],
)
def test_ten_tasks_a_call(wanted, counts):
    made = replace(request(1), wanted=wanted)
    assert [call["count"] for call in calls(made)] == counts


def test_every_call_has_a_token_of_its_own():
    first, second = request(500), request(500, replace(KEY, attempt=3))
    tokens = [call["clientToken"] for made in (first, second) for call in calls(made)]
    assert len(set(tokens)) == len(tokens)
    assert all(LEGAL_TOKEN.fullmatch(token) for token in tokens)


def test_tokens_of_calls_and_attempts_do_not_meet():
    """The first attempt's twelfth call and the eleventh attempt's second are not the same words."""
    tokens = [
        call["clientToken"]
        for attempt in range(1, 13)
        for generation in (1, 11)
        for call in calls(request(120, replace(KEY, attempt=attempt, generation=generation)))
    ]
    assert len(set(tokens)) == len(tokens)


def test_the_same_bytes_twice_and_after_a_journey_through_json():
    words = {"overrides": {"main": {"B": "2", "A": "1"}}, "tags": {"z": "1", "a": "2"}}
    one, two = request(spec(25, **words)), request(spec(25, **words))
    again = Request.from_dict(json.loads(json.dumps(one.to_dict())))
    assert json.dumps(list(calls(one))) == json.dumps(list(calls(two))) == json.dumps(list(calls(again)))


def test_what_is_pinned_is_the_revision():
    assert request(1).arguments["taskDefinition"] == ARN


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        pytest.param({}, {"cluster": "default"}, id="nothing"),
        pytest.param({"cluster": "blue"}, {"cluster": "blue"}, id="a cluster"),
        pytest.param({"launch_type": "FARGATE"}, {"launchType": "FARGATE"}, id="a launch type"),
        pytest.param(
            {"capacity_provider_strategies": "mine"},
            {"capacityProviderStrategy": [{"capacityProvider": "mine"}]},
            id="a provider",
        ),
        pytest.param({"platform_version": "1.4.0"}, {"platformVersion": "1.4.0"}, id="a platform"),
        pytest.param({"group": "nightly"}, {"group": "nightly"}, id="a group"),
        pytest.param({"propagate_tags": True}, {"propagateTags": "TASK_DEFINITION"}, id="the definition's tags"),
        pytest.param({"enable_execute_command": True}, {"enableExecuteCommand": True}, id="a way in"),
        pytest.param(
            {"network_configuration": {"subnets": ["s"]}},
            {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"]}}},
            id="a network",
        ),
    ],
)
def test_what_is_asked_for_is_what_is_sent_and_nothing_else(words, arguments):
    always = {"cluster", "taskDefinition", "startedBy", "overrides", "tags"}
    sent = request(spec(**words)).arguments
    assert {name: sent[name] for name in arguments} == arguments
    assert set(sent) == always | set(arguments)


def test_our_tags_leave_room_for_the_author_s():
    asked = request(replace(spec(), unattended=True)).arguments["tags"]
    assert len({tag["key"] for tag in asked} | {ORPHAN_SINCE, KEEP}) <= OUR_TAGS


def test_our_tags_ride_in_the_call_and_win():
    tags = {tag["key"]: tag["value"] for tag in request(spec(tags={"team": "x"})).arguments["tags"]}
    assert tags["team"] == "x"
    assert (tags["transient:launch"], tags["transient:dag"]) == (KEY.token, "nightly")


# --- startedBy


def test_started_by_is_the_same_for_every_run_and_try():
    runs = [replace(OWNER, run_id=run) for run in ("manual__1", "scheduled__2", "backfill__3")]
    assert {started_by(owner) for owner in runs} == {started_by(OWNER)}


@pytest.mark.parametrize(
    "owner",
    [
        pytest.param(OWNER, id="plain"),
        pytest.param(replace(OWNER, dag_id="team.nightly", task_id="group.sub.burst"), id="dots"),
        pytest.param(replace(OWNER, dag_id="naïve_été", task_id="焼く"), id="letters that ECS does not take"),
        pytest.param(replace(OWNER, deployment="prod eu (blue)"), id="a deployment with spaces"),
        pytest.param(replace(OWNER, dag_id="d" * 250, task_id="t" * 250), id="ids of 250 characters"),
        pytest.param(replace(OWNER, map_index=999), id="mapped"),
        pytest.param(Owner("", "", "", ""), id="nothing"),
    ],
)
def test_started_by_has_legal_characters_and_length(owner):
    assert LEGAL_STARTED_BY.fullmatch(started_by(owner))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"dag_id": "a.b"}, {"dag_id": "a-b"}, id="what looks alike"),
        pytest.param({"dag_id": "été"}, {"dag_id": "öäü"}, id="letters that both go"),
        pytest.param({"dag_id": "d" * 249 + "1"}, {"dag_id": "d" * 249 + "2"}, id="what is cut off"),
        pytest.param({"map_index": 1}, {"map_index": 11}, id="mapped tasks"),
        pytest.param({"map_index": -1}, {"map_index": 0}, id="the first mapped and the plain"),
        pytest.param({"deployment": "dev"}, {"deployment": "prod"}, id="deployments"),
        pytest.param({"task_id": "a"}, {"task_id": "b"}, id="tasks"),
        pytest.param({"dag_id": "a", "task_id": "b-c"}, {"dag_id": "a-b", "task_id": "c"}, id="other halves"),
    ],
)
def test_collisions_are_kept_apart(one, other):
    assert started_by(replace(OWNER, **one)) != started_by(replace(OWNER, **other))


@pytest.mark.parametrize(
    "words", ["work", "work:3", ARN, "arn:aws-us-gov:ecs:us-gov-west-1:123456789012:task-definition/work"]
)
def test_a_family_is_read_out_of_every_form(words):
    assert family_of(words) == "work"


# --- overrides


def variables(arguments):
    return {
        each["name"]: {pair["name"]: pair["value"] for pair in each["environment"]}
        for each in arguments["overrides"]["containerOverrides"]
    }


def test_every_container_knows_its_launch_and_deadline():
    made = request(spec(overrides={"main": {"DAY": "monday"}}))
    deadline = str(int(made.launch.deadline.timestamp()))
    own = {"TRANSIENT_LAUNCH": KEY.token, "TRANSIENT_DEADLINE": deadline}
    assert variables(made.arguments) == {"main": {"DAY": "monday", **own}, "proxy": own}


def test_the_authors_overrides_stay_and_are_not_changed():
    words = {
        "containerOverrides": [
            {"name": "proxy", "command": ["serve"], "environment": [{"name": "A", "value": "1"}]},
        ],
        "cpu": "512",
        "taskRoleArn": "arn:aws:iam::123456789012:role/worker",
    }
    before = copy.deepcopy(words)
    made = spec(overrides=words)
    kept = copy.deepcopy(made.overrides)
    one, two = request(made), request(made)
    assert (words, made.overrides) == (before, kept)
    assert one.arguments == two.arguments
    sent = one.arguments["overrides"]
    assert (sent["cpu"], sent["taskRoleArn"]) == ("512", words["taskRoleArn"])
    assert [each.get("command") for each in sent["containerOverrides"]] == [None, ["serve"]]


def test_a_described_task_tells_its_launch_by_its_variables():
    sent = request(spec(overrides={"main": {"A": "1"}})).arguments
    assert token_of({"overrides": sent["overrides"]}) == KEY.token


@pytest.mark.parametrize(
    "task",
    [
        {},
        {"overrides": {}},
        {"overrides": {"containerOverrides": [{"name": "main"}]}},
        {"overrides": {"containerOverrides": [{"name": "main", "environment": [{"name": "A", "value": "1"}]}]}},
    ],
    ids=["a service's", "without overrides", "without variables", "with other variables"],
)
def test_what_is_not_ours_has_no_launch(task):
    assert token_of(task) is None


def test_overrides_that_only_ours_make_too_long_are_refused_with_their_size():
    room = MAX_OVERRIDES - len(json.dumps(spec(overrides={"main": {"A": ""}}).overrides))
    made = spec(overrides={"main": {"A": "x" * room}})
    with pytest.raises(SpecError, match=r"overrides, with ours, have 8,\d\d\d characters"):
        request(made)


# --- what the task definition makes of it


AWSVPC = replace(WORK, awsvpc=True)
NETWORK = {"network_configuration": {"subnets": ["s"]}}


@pytest.mark.parametrize(
    ("definition", "words", "sentence"),
    [
        pytest.param(AWSVPC, {}, "give network_configuration", id="awsvpc without a network"),
        pytest.param(WORK, NETWORK, "leave network_configuration out", id="a network without awsvpc"),
        pytest.param(WORK, {"overrides": {"man": {"A": "1"}}}, "no container ['man']", id="a misspelt container"),
        pytest.param(WORK, {"deciding_containers": "man"}, "it has ['main', 'proxy']", id="nobody decides"),
    ],
)
def test_what_the_definition_does_not_know_is_refused(definition, words, sentence):
    with pytest.raises(SpecError) as refusal:
        check(spec(**words), definition)
    assert sentence in str(refusal.value)


def test_what_fits_the_definition_passes():
    check(spec(**NETWORK, overrides={"main": {}}, deciding_containers="proxy"), AWSVPC)
    check(spec(), WORK)


def test_terms_are_those_of_the_whole_launch():
    made = spec(10, min_success=0.9, max_runtime=60, start_timeout=120, stop_on_failure=True)
    first = terms(made, WORK, None)
    assert (first.need, first.deciding, first.start_seconds, first.runtime_seconds) == (9, ("main",), 120, 60)
    so_far = draft_launch("ecs", made, KEY, "eu-west-1", T0, "n0", ecs=first.less(3, 0))
    rest = terms(replace(made, count=4), WORK, so_far)
    assert (rest.need, rest.wanted, rest.stop_on_failure) == (6, 7, True)
    assert terms(spec(deciding_containers="proxy"), WORK, None).deciding == ("proxy",)


def test_a_later_attempt_gets_its_whole_time():
    made = spec(2, max_runtime=60, start_timeout=120)
    first = draft_launch("ecs", made, KEY, "eu-west-1", T0, "n0", ecs=terms(made, WORK, None)).with_ids(("a",))
    later = draft_launch("ecs", made, KEY, "eu-west-1", T0 + timedelta(hours=1), first, ecs=first.ecs)
    assert later.deadline == first.deadline + timedelta(hours=1)
    assert (later.ids, later.requested_at, later.nonce) == (("a",), T0, "n0")


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("scheduled__2026-11-21T00:00:00+00:00", "scheduled__2026-11-21T00:00:00+00:00"),
        ("manual run (1)", "manual run =u28=1=u29="),
        ("a~b", "a=u7e=b"),
        ("Bücher/日本", "Bücher/日本"),
        ("tab\there", "tab=u9=here"),
    ],
)
def test_a_tag_holds_what_ecs_allows_and_is_read_back(text, tag):
    assert tag_value(text) == tag
    assert plain_value(tag) == text
