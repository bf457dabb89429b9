"""What can be asked of ECS, and the sentence for whoever asks for something else."""

from datetime import datetime, timedelta

import pytest

from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.ecs.words import CLUSTER_DEFAULT, MAX_OVERRIDES, overrides_of
from airflow_transient.core.spec import Pool
from airflow_transient.errors import SpecError

ROLE = "arn:aws:iam::123456789012:role/killer"


def spec(**words):
    return EcsSpec.of(**{"task_definition": "work"} | words)


def native(*containers):
    return {"containerOverrides": list(containers)}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param({"task_definition": None}, "which task", id="no task definition"),
        pytest.param({"task_definition": " \n"}, "which task", id="a blank task definition"),
        pytest.param({"task_definition": 7}, "task_definition is text", id="a task definition that is a number"),
        pytest.param({"cluster": ["a", "b"]}, "cluster is text", id="two clusters"),
        pytest.param({"queues": 5}, "a name or a list of names", id="a queue that is a number"),
        # how many
        pytest.param({"task_count": 0}, "task_count is 0", id="nobody"),
        pytest.param({"task_count": -3}, "task_count is -3", id="fewer than nobody"),
        pytest.param({"task_count": 51}, "which is hard_cap", id="more than the cap"),
        pytest.param({"task_count": "two"}, "whole number", id="a count in words"),
        pytest.param({"task_count": 1.5}, "whole number", id="one and a half"),
        pytest.param({"task_count": True}, "whole number", id="a count that is a truth"),
        pytest.param({"hard_cap": 501}, "500 tasks are the most", id="more than a cluster provisions"),
        pytest.param({"hard_cap": 0}, "hard_cap is 0", id="a cap of nothing"),
        pytest.param({"max_count": 0}, "max_count is 0", id="at most nobody"),
        pytest.param({"max_count": 60}, "which is hard_cap", id="a maximum over the cap"),
        pytest.param({"messages_per_task": 0}, "messages_per_task is 0", id="a task for no message"),
        pytest.param({"activation": -1}, "activation is -1", id="a negative depth"),
        pytest.param({"claim_seconds": -1}, "claim_seconds is -1", id="a negative claim"),
        pytest.param({"strategy": "greedy"}, "must be one of lag-aware", id="no such strategy"),
        pytest.param({"top_up": "perhaps"}, "True, False", id="a maybe"),
        # how long
        pytest.param({"max_runtime": 0}, "max_runtime", id="no time"),
        pytest.param({"max_runtime": timedelta(days=15)}, "14 days", id="more than a fortnight"),
        pytest.param({"max_runtime": "nan"}, "number of seconds", id="no number of seconds"),
        pytest.param({"start_timeout": 5}, "from 10 s to 12 h", id="nothing starts in 5 s"),
        pytest.param({"start_timeout": timedelta(hours=13)}, "from 10 s to 12 h", id="half a day to start"),
        # overrides
        pytest.param({"overrides": "A=1"}, "not str", id="overrides as text"),
        pytest.param({"overrides": 7}, "not int", id="overrides that are a number"),
        pytest.param({"overrides": {"main": 7}}, "does not know ['main']", id="a container that is a number"),
        pytest.param({"overrides": {"main": {}, "cpu": "1"}}, "does not know ['main']", id="two forms in one"),
        pytest.param({"overrides": {"main": {"A": None}}}, "NoneType", id="a variable that is nothing"),
        pytest.param({"overrides": {"main": {"TRANSIENT_LAUNCH": "x"}}}, "set by airflow_transient", id="our variable"),
        pytest.param(
            {"overrides": native({"name": "main", "environment": [{"name": "TRANSIENT_LAUNCH", "value": "x"}]})},
            "set by airflow_transient",
            id="our variable in ECS's own form",
        ),
        pytest.param({"overrides": [7]}, "short form", id="a list of numbers"),
        pytest.param({"overrides": [{"containerName": "main"}]}, "short form", id="an entry without variables"),
        pytest.param({"overrides": [{"name": "main", "environment": {}}]}, "short form", id="an entry misspelt"),
        pytest.param({"overrides": native({"command": ["x"]})}, "needs the name", id="a container without a name"),
        pytest.param({"overrides": native("main")}, "needs the name", id="a container as text"),
        pytest.param({"overrides": {"containerOverrides": None}}, "is a list", id="no list of containers"),
        pytest.param({"overrides": native({"name": "m", "environment": None})}, "is a list", id="no list of variables"),
        pytest.param({"overrides": native({"name": "m", "environment": {"A": "1"}})}, "is a list", id="a dict in it"),
        pytest.param(
            {"overrides": native({"name": "m", "environment": [{"A": "1"}]})},
            "'name': …, 'value'",
            id="a pair misspelt",
        ),
        pytest.param({"overrides": native({"name": "m", "at": datetime(2026, 1, 1)})}, "JSON", id="a moment"),
        pytest.param(
            {"overrides": native({"name": "m", "command": ["x"]}, {"name": "m", "cpu": 1})},
            "more than once",
            id="twice",
        ),
        pytest.param(
            {"overrides": [{"containerName": "m", "environment": {name: 1}} for name in "AB"]},
            "more than once",
            id="twice in the short form",
        ),
        pytest.param({"overrides": {"main": {"A": "x" * MAX_OVERRIDES}}}, "ECS takes 8,192", id="too long"),
        # capacity
        pytest.param({"launch_type": "fargate"}, "must be one of FARGATE", id="no such launch type"),
        pytest.param({"launch_type": "FARGATE_SPOT"}, "is a capacity provider", id="spot is no launch type"),
        pytest.param({"launch_type": "EC2", "capacity_provider_strategies": "x"}, "not both", id="both"),
        pytest.param({"capacity_provider_strategies": 5}, "a list to try in order", id="a number of providers"),
        pytest.param({"capacity_provider_strategies": [""]}, "a list to try in order", id="a provider without a name"),
        pytest.param({"capacity_provider_strategies": [[]]}, "a list to try in order", id="a strategy of nothing"),
        pytest.param({"capacity_provider_strategies": [{"weight": 1}]}, "a list to try", id="a weight of nothing"),
        pytest.param(
            {"capacity_provider_strategies": [{"capacityProvider": "A", "share": 1}]}, "a list to try", id="a share"
        ),
        pytest.param(
            {"capacity_provider_strategies": [{"capacityProvider": "A", "weight": "much"}]}, "whole number", id="much"
        ),
        # network
        pytest.param({"network_configuration": "subnet-1"}, "is a dict", id="a network as text"),
        pytest.param({"network_configuration": {"subnets": []}}, "needs subnets", id="no subnet"),
        pytest.param({"network_configuration": {"securityGroups": ["sg-1"]}}, "needs subnets", id="groups only"),
        pytest.param({"network_configuration": {"awsvpcConfiguration": None}}, "is a dict", id="a network of nothing"),
        pytest.param({"network_configuration": {"subnet": ["s"]}}, "does not know ['subnet']", id="misspelt"),
        pytest.param({"network_configuration": {"subnets": ["s"] * 17}}, "ECS takes 16", id="17 subnets"),
        pytest.param(
            {"network_configuration": {"subnets": ["s"], "securityGroups": ["g"] * 6}}, "ECS takes 5", id="six groups"
        ),
        # how many must succeed
        pytest.param({"min_success": 2}, "there are only 1", id="more than there are"),
        pytest.param({"task_count": 9, "max_count": 3, "min_success": 4}, "there are only 3", id="over the maximum"),
        pytest.param({"min_success": -1}, "min_success is -1", id="a negative number"),
        pytest.param({"min_success": 1.1}, "share from 0.0 to 1.0", id="more than all"),
        pytest.param({"min_success": "150%"}, "share from 0.0 to 1.0", id="150 per cent"),
        pytest.param({"min_success": "nan"}, "share from 0.0 to 1.0", id="not a number"),
        pytest.param({"min_success": "most"}, "a share such as 0.9", id="most"),
        pytest.param({"min_success": True}, "a share such as 0.9", id="a truth"),
        pytest.param({"min_success": None}, "a share such as 0.9", id="nothing"),
        # the rest
        pytest.param({"tags": {"transient:owner": "me"}}, "taken", id="a tag of ours"),
        pytest.param(
            {"tags": {f"t{n}": "x" for n in range(37)}}, "37 tags: AWS takes 50 and ours need 14", id="too many tags"
        ),
        pytest.param({"tags": ["a"]}, "tags is a dict", id="a list of tags"),
        pytest.param({"deciding_containers": 5}, "a name or a list of names", id="a container that is a number"),
        pytest.param({"group": 5}, "group is text", id="a group that is a number"),
        pytest.param({"platform_version": 1.4}, "platform_version is text", id="a version that is a number"),
        pytest.param(
            {"kill_schedule_role": "killer"},
            "ARN of a role",
            id="a role without an ARN",
        ),
    ],
)
def test_what_cannot_be_launched_is_refused_with_a_sentence(words, sentence):
    with pytest.raises(SpecError, match=r".*") as refusal:
        spec(**words)
    assert sentence in str(refusal.value)


def test_rendered_templates_are_taken_as_written():
    made = spec(
        task_definition=" work:3 ",
        task_count="3",
        max_count="",
        hard_cap="10",
        top_up="True",
        stop_on_failure="false",
        max_runtime="90",
        start_timeout="60",
        queues="a, b",
        deciding_containers="main, proxy",
        min_success="2",
        kill_schedule_role=ROLE,
        cluster="",
    )
    assert (made.task_definition, made.cluster, made.queues) == ("work:3", "default", ("a", "b"))
    assert (made.rule.task_count, made.rule.limit, made.rule.top_up, made.stop_on_failure) == (3, 10, True, False)
    assert (made.max_runtime, made.start_timeout) == (timedelta(seconds=90), timedelta(seconds=60))
    assert (made.deciding, made.min_success, made.kill_schedule_role) == (("main", "proxy"), 2, ROLE)


def test_a_definition_alone_is_one_task_that_must_succeed():
    made = spec()
    assert (made.count, made.need(made.count), made.sized) == (1, 1, False)
    assert made.pools() == (Pool(market=CLUSTER_DEFAULT),)
    assert (made.overrides, made.network, made.tags, made.deciding) == ({}, None, {}, ())


MAIN = {"name": "main", "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "x"}]}


@pytest.mark.parametrize(
    "words",
    [
        pytest.param({"containerOverrides": [MAIN]}, id="ECS's own"),
        pytest.param({"main": {"A": 1, "B": "x"}}, id="container -> variables"),
        pytest.param([{"containerName": "main", "environment": {"A": 1, "B": "x"}}], id="the ECS Scheduler's"),
    ],
)
def test_overrides_have_three_forms(words):
    assert overrides_of(words) == {"containerOverrides": [MAIN]}


@pytest.mark.parametrize("words", [None, {}, [], ""], ids=["None", "a dict", "a list", "a template of nothing"])
def test_no_overrides_are_none(words):
    assert overrides_of(words) == {}


def test_ecs_own_overrides_may_be_of_the_task_alone():
    assert overrides_of({"cpu": "512", "memory": "1024"}) == {"cpu": "512", "memory": "1024"}
    assert overrides_of({"ephemeralStorage": {"sizeInGiB": 30}}) == {"ephemeralStorage": {"sizeInGiB": 30}}


def test_overrides_are_a_copy():
    mine = {"name": "main", "command": ["a"]}
    made = spec(overrides=native(mine))
    mine["command"].append("b")
    assert made.overrides == native({"name": "main", "command": ["a"]})


@pytest.mark.parametrize(
    ("words", "capacity"),
    [
        pytest.param({}, {CLUSTER_DEFAULT: {}}, id="the cluster's"),
        pytest.param({"launch_type": "EC2"}, {"EC2": {"launchType": "EC2"}}, id="a launch type"),
        pytest.param(
            {"capacity_provider_strategies": "FARGATE_SPOT, FARGATE"},
            {name: {"capacityProviderStrategy": [{"capacityProvider": name}]} for name in ("FARGATE_SPOT", "FARGATE")},
            id="two names in one text",
        ),
        pytest.param(
            {"capacity_provider_strategies": {"capacityProvider": "mine", "weight": 1}},
            {"mine (weight 1)": {"capacityProviderStrategy": [{"capacityProvider": "mine", "weight": 1}]}},
            id="one item without a list",
        ),
        pytest.param(
            {
                "capacity_provider_strategies": [
                    [{"capacityProvider": "a", "weight": "3", "base": 1}, {"capacityProvider": "b", "weight": 1}],
                    "c",
                ]
            },
            {
                "a (weight 3, base 1)+b (weight 1)": {
                    "capacityProviderStrategy": [
                        {"capacityProvider": "a", "weight": 3, "base": 1},
                        {"capacityProvider": "b", "weight": 1},
                    ]
                },
                "c": {"capacityProviderStrategy": [{"capacityProvider": "c"}]},
            },
            id="two that share, then another",
        ),
    ],
)
def test_capacity_is_tried_in_the_order_it_is_written(words, capacity):
    made = spec(**words)
    assert made.capacity == capacity
    assert [pool.market for pool in made.pools()] == list(capacity)


@pytest.mark.parametrize(
    "words",
    [
        {"awsvpcConfiguration": {"subnets": ["s-1", "s-2"], "assignPublicIp": "ENABLED"}},
        {"subnets": ["s-1", "s-2"], "assignPublicIp": "ENABLED"},
        {"subnets": "s-1, s-2", "assignPublicIp": "ENABLED"},
    ],
    ids=["ECS's own", "what it holds", "rendered from a template"],
)
def test_a_network_has_three_forms(words):
    inner = {"subnets": ["s-1", "s-2"], "assignPublicIp": "ENABLED"}
    assert spec(network_configuration=words).network == {"awsvpcConfiguration": inner}


@pytest.mark.parametrize(
    ("words", "of_ten", "of_one"),
    [
        (1.0, 10, 1),
        (0.9, 9, 1),
        ("0.9", 9, 1),
        ("90%", 9, 1),
        (" 90 %", 9, 1),
        (0.91, 10, 1),
        (0.0, 0, 0),
        ("0", 0, 0),
        (7, 7, 1),
        ("7", 7, 1),
        (1, 1, 1),
    ],
)
def test_min_success_is_a_number_or_a_share(words, of_ten, of_one):
    made = spec(task_count=10, min_success=words)
    assert (made.need(10), made.need(1)) == (of_ten, of_one)


@pytest.mark.parametrize("words", [{"queues": "orders"}, {"top_up": True}], ids=["sized by a queue", "topped up"])
def test_of_a_size_that_is_not_known_yet_any_number_may_succeed(words):
    made = spec(min_success=40, **words)
    assert made.sized
    assert (made.need(50), made.need(3)) == (40, 3)


@pytest.mark.parametrize(
    ("share", "count", "need"), [(0.1, 30, 3), (0.7, 10, 7), (0.07, 100, 7), (1 / 3, 3, 1), (0.995, 200, 199)]
)
def test_a_share_is_not_rounded_up_by_floating_point(share, count, need):
    assert spec(min_success=share).need(count) == need


def test_the_deadline_leaves_room_for_start_run_and_stop():
    made = spec(max_runtime=60, start_timeout=120)
    assert made.boot_timeout == timedelta(seconds=120)
    assert made.lifetime == timedelta(seconds=60 + 120 + 180)


def test_everything_that_describe_tasks_shows_is_looked_at_for_secrets():
    words = native({**MAIN, "command": ["run", "--key", "k"]})
    told = dict(spec(overrides=words, tags={"team": "x"}).secret_free_words())
    assert told == {
        "overrides['main'] command": "run --key k",
        "overrides['main']['A']": "1",
        "overrides['main']['B']": "x",
        "tags['team']": "x",
    }
