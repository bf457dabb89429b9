"""What ECS refuses, and how it lists, describes and repeats: what moto does not keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_transient.localcloud import LocalCloud
from tests.waiting import eventually

from .ecs import SPOT, Tasks, Words, code_of, container, refused, sh

pytestmark = pytest.mark.sandbox
INVALID = "InvalidParameterException"


def command_override(length: int, name: str = "main") -> Words:
    return {"containerOverrides": [{"name": name, "command": ["x" * length]}]}


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        pytest.param({"count": 11}, INVALID, "less than or equal to 10", id="more than ten"),
        pytest.param({"count": 0}, INVALID, "count", id="none"),
        pytest.param({"startedBy": "x" * 129}, INVALID, "128", id="startedBy too long"),
        pytest.param({"startedBy": "a b"}, INVALID, "startedBy", id="startedBy with a space"),
        pytest.param({"startedBy": "a:b"}, INVALID, "startedBy", id="startedBy with a colon"),
        pytest.param({"clientToken": "x" * 65}, INVALID, "clientToken", id="token too long"),
        pytest.param({"overrides": command_override(8192)}, INVALID, "8192", id="overrides too long"),
        pytest.param({"overrides": command_override(1, "other")}, INVALID, "other", id="override of no container"),
        pytest.param({"networkConfiguration": None}, INVALID, "Network Configuration must be", id="no network"),
        pytest.param({"launchType": "FARGATE", "capacityProviderStrategy": SPOT}, INVALID, "only one", id="two pools"),
        pytest.param({"launchType": "EC2"}, INVALID, "does not support launch_type", id="another launch type"),
        pytest.param({"cluster": "nowhere"}, "ClusterNotFoundException", "Cluster not found.", id="no cluster"),
        pytest.param({"taskDefinition": "none"}, "ClientException", "TaskDefinition not found.", id="no definition"),
        pytest.param({"taskDefinition": "none:7"}, "ClientException", "TaskDefinition not found.", id="no revision"),
    ],
)
def test_run_task_refuses(tasks: Tasks, family: str, more: Words, code: str, words: str) -> None:
    said = refused(tasks.ask, **{"family": family, **more})
    assert (said[0], words in said[1]) == (code, True), said


def test_a_subnet_or_group_must_exist(tasks: Tasks, family: str) -> None:
    subnets = tasks.network["awsvpcConfiguration"]["subnets"]
    for words in ({"subnets": ["subnet-0"]}, {"subnets": subnets, "securityGroups": ["sg-0"]}):
        said = refused(tasks.ask, family, networkConfiguration={"awsvpcConfiguration": words})
        assert (said[0], "does not exist" in said[1]) == (INVALID, True)


def test_a_provider_must_be_the_clusters(tasks: Tasks, family: str) -> None:
    tasks.ecs.create_cluster(clusterName="bare")
    said = refused(tasks.ask, family, cluster="bare", capacityProviderStrategy=SPOT)
    assert (said[0], "not associated with the cluster" in said[1]) == (INVALID, True)


def test_memory_for_the_whole_task_is_enough_and_security_groups_are_not_needed(tasks: Tasks) -> None:
    assert code_of(tasks.run(container("true"))) == 0


def test_ten_at_once_and_one_when_not_said(tasks: Tasks, family: str) -> None:
    assert len(tasks.ask(family, count=10)["tasks"]) == 10
    assert len(tasks.ask(family)["tasks"]) == 1


def test_ec2_tasks_run_though_there_are_no_instances(tasks: Tasks) -> None:
    words = {"requiresCompatibilities": ["EC2"], "networkMode": "bridge"}
    task = tasks.run(sh("exit 4"), define=words, launchType=None, networkConfiguration=None)
    assert (task["launchType"], code_of(task)) == ("EC2", 4)


def test_the_clusters_own_strategy_is_the_default(tasks: Tasks, family: str) -> None:
    tasks.ecs.create_cluster(
        clusterName="cheap", capacityProviders=["FARGATE_SPOT"], defaultCapacityProviderStrategy=SPOT
    )
    (task,) = tasks.ask(family, cluster="cheap", launchType=None)["tasks"]
    assert (task["capacityProviderName"], task["launchType"]) == ("FARGATE_SPOT", "FARGATE")


def test_tags_may_come_from_the_definition(tasks: Tasks) -> None:
    tag = {"key": "team", "value": "data"}
    arn = tasks.start(container("true"), define={"tags": [tag]}, propagateTags="TASK_DEFINITION")
    assert tasks.look(arn)["tags"] == [tag]
    assert tasks.ecs.list_tags_for_resource(resourceArn=arn)["tags"] == [tag]
    (without,) = tasks.ecs.describe_tasks(tasks=[arn])["tasks"]
    assert "tags" not in without


# --- asking twice -------------------------------------------------------------------------------------------------


def test_the_same_token_gives_the_same_tasks_as_they_are_now(tasks: Tasks, family: str) -> None:
    first = tasks.ask(family, clientToken="once", count=2)["tasks"]
    for task in first:
        tasks.until(task["taskArn"], "STOPPED")
    again = tasks.ask(family, clientToken="once", count=2)["tasks"]
    assert [task["taskArn"] for task in again] == [task["taskArn"] for task in first]
    assert {task["lastStatus"] for task in again} == {"STOPPED"}


def test_the_same_token_with_other_parameters_is_a_conflict_that_names_the_tasks(tasks: Tasks, family: str) -> None:
    (first,) = tasks.ask(family, clientToken="mine")["tasks"]
    with pytest.raises(tasks.ecs.exceptions.ConflictException) as caught:
        tasks.ask(family, clientToken="mine", startedBy="other")
    assert caught.value.response["resourceIds"] == [first["taskArn"]]


def test_a_token_is_the_clusters(tasks: Tasks, family: str) -> None:
    tasks.ecs.create_cluster(clusterName="second")
    (here,) = tasks.ask(family, clientToken="both")["tasks"]
    (there,) = tasks.ask(family, clientToken="both", cluster="second")["tasks"]
    assert here["taskArn"] != there["taskArn"]


# --- looking ------------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_missing_and_no_error(tasks: Tasks, family: str) -> None:
    (task,) = tasks.ask(family)["tasks"]
    arn = task["taskArn"]
    unknown = arn[:-4] + "0000"
    answer = tasks.ecs.describe_tasks(tasks=[arn, unknown, unknown.rpartition("/")[2]])
    assert [each["taskArn"] for each in answer["tasks"]] == [arn]
    assert answer["failures"] == [{"arn": unknown, "reason": "MISSING"}] * 2


@pytest.mark.parametrize(
    ("call", "code"),
    [
        pytest.param(lambda ecs: ecs.describe_tasks(tasks=["a" * 32] * 101), INVALID, id="describe more than 100"),
        pytest.param(lambda ecs: ecs.describe_tasks(tasks=[]), INVALID, id="describe none"),
        pytest.param(
            lambda ecs: ecs.describe_tasks(cluster="no", tasks=["a"]), "ClusterNotFoundException", id="describe nowhere"
        ),
        pytest.param(lambda ecs: ecs.list_tasks(cluster="no"), "ClusterNotFoundException", id="list nowhere"),
        pytest.param(lambda ecs: ecs.list_tasks(startedBy="a", family="b"), INVALID, id="startedBy and family"),
        pytest.param(lambda ecs: ecs.list_tasks(maxResults=101), INVALID, id="pages of more than 100"),
        pytest.param(lambda ecs: ecs.list_tasks(nextToken="?"), INVALID, id="a token that is none"),
        pytest.param(lambda ecs: ecs.stop_task(task="a" * 32), INVALID, id="stop what is not there"),
    ],
)
def test_a_look_that_is_refused(tasks: Tasks, call: Callable[[Any], Any], code: str) -> None:
    assert refused(call, tasks.ecs)[0] == code


def test_stopping_what_is_not_there_says_so(tasks: Tasks) -> None:
    assert refused(tasks.ecs.stop_task, task="0" * 32)[1] == "The referenced task was not found."


def test_lists_are_of_what_shall_run_unless_the_stopped_are_asked_for(tasks: Tasks) -> None:
    family = tasks.define(sh("exec sleep 600"))
    (task,) = tasks.ask(family, startedBy="lister")["tasks"]
    arn = task["taskArn"]

    def listed(**words: str) -> list[str]:
        found: list[str] = tasks.ecs.list_tasks(**words)["taskArns"]
        return found

    assert listed(startedBy="lister") == listed(family=family) == [arn]
    assert listed(family=family, desiredStatus="STOPPED") == listed(startedBy="li") == []
    tasks.ecs.stop_task(task=arn)
    assert listed(startedBy="lister") == []
    assert (
        listed(startedBy="lister", desiredStatus="STOPPED") == listed(family=family, desiredStatus="STOPPED") == [arn]
    )


def test_pages_hold_everything_once(tasks: Tasks) -> None:
    family = tasks.define(sh("exec sleep 600"))
    wanted = [task["taskArn"] for task in tasks.ask(family, count=7)["tasks"]]
    pages = [page["taskArns"] for page in tasks.ecs.get_paginator("list_tasks").paginate(family=family, maxResults=3)]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert sorted(arn for page in pages for arn in page) == sorted(wanted)
    for arn in wanted:
        tasks.ecs.stop_task(task=arn)


def test_a_look_moves_nothing(tasks: Tasks) -> None:
    arn = tasks.start(sh("exec sleep 600"))
    before = tasks.until(arn, "RUNNING")
    assert [tasks.look(arn) for _ in range(5)] == [before] * 5
    tasks.ecs.stop_task(task=arn)


def test_clusters_count_their_tasks_and_stay_while_they_have_some(tasks: Tasks, family: str) -> None:
    tasks.ecs.create_cluster(clusterName="counted")
    arn = tasks.start(sh("exec sleep 600"), cluster="counted")
    tasks.until(arn, "RUNNING")
    (cluster,) = tasks.ecs.describe_clusters(clusters=["counted"])["clusters"]
    assert cluster["runningTasksCount"] == 1
    assert refused(tasks.ecs.delete_cluster, cluster="counted")[0] == "ClusterContainsTasksException"
    tasks.ecs.stop_task(cluster="counted", task=arn)
    tasks.until(arn, "STOPPED")
    tasks.ecs.delete_cluster(cluster="counted")


def test_there_is_a_default_cluster_in_each_region(cloud: LocalCloud, tasks: Tasks) -> None:
    for ecs in (tasks.ecs, cloud.client("ecs", "us-east-1")):
        (cluster,) = ecs.describe_clusters(clusters=["default"])["clusters"]
        assert cluster["capacityProviders"] == ["FARGATE", "FARGATE_SPOT"]
    assert ecs.list_tasks()["taskArns"] == []


def test_a_definition_is_described_with_its_tags(tasks: Tasks) -> None:
    tag = {"key": "hash", "value": "abc"}
    family = tasks.define(container("true"), tags=[tag])
    assert tasks.ecs.describe_task_definition(taskDefinition=family, include=["TAGS"])["tags"] == [tag]
    assert "tags" not in tasks.ecs.describe_task_definition(taskDefinition=family)


def test_the_latest_active_revision_is_meant(tasks: Tasks) -> None:
    family = tasks.define(sh("exit 1"))
    tasks.define(sh("exit 2"), family=family)
    assert tasks.ask(family)["tasks"][0]["taskDefinitionArn"].endswith(f"{family}:2")
    tasks.ecs.deregister_task_definition(taskDefinition=f"{family}:2")
    (task,) = tasks.ask(family)["tasks"]
    assert eventually(lambda: code_of(tasks.look(task["taskArn"]))) == 1
    assert refused(tasks.ask, f"{family}:2") == ("ClientException", "TaskDefinition is inactive")


def test_a_refused_call_starts_nothing(tasks: Tasks) -> None:
    family = tasks.define(container("true"))
    with pytest.raises(ClientError):
        tasks.ask(family, count=11)
    assert tasks.ecs.list_tasks(family=family, desiredStatus="STOPPED")["taskArns"] == []
