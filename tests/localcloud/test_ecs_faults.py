"""ECS on a bad day: each fault as boto3 meets it."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ConnectionClosedError

from airflow_transient.localcloud.fault_rules import Fault, refuse_tasks
from airflow_transient.localcloud.faults import FaultError, Faults
from airflow_transient.localcloud.token_bucket import full, take
from tests.waiting import eventually

from .ecs import SPOT, Tasks, code_of, container, refused, sh

pytestmark = pytest.mark.sandbox
POLITE = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"
NO_CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"


# --- failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        *((reason, reason) for reason in ("RESOURCE:CPU", "RESOURCE:MEMORY", "RESOURCE:ENI", "AGENT", "LOCATION")),
        ("ATTRIBUTE", "ATTRIBUTE"),
        ("capacity", NO_CAPACITY),
        ("vcpus", "You've reached the limit on the number of vCPUs you can run concurrently"),
        ("anything else", "anything else"),
    ],
)
def test_failures_come_instead_of_tasks(tasks: Tasks, faults: Faults, family: str, reason: str, said: str) -> None:
    fault = faults.task_failures(reason, times=1)
    answer = tasks.ask(family, count=2)
    assert (answer["tasks"], [each["reason"] for each in answer["failures"]]) == ([], [said, said])
    assert len(tasks.ask(family, count=2)["tasks"]) == 2
    assert faults.hits(fault) == 1


def test_of_ten_some_start(tasks: Tasks, faults: Faults, family: str) -> None:
    faults.task_failures("capacity", start=4, times=1)
    answer = tasks.ask(family, count=10)
    assert (len(answer["tasks"]), len(answer["failures"])) == (4, 6)


def test_so_many_tasks_fail_over_several_calls(tasks: Tasks, faults: Faults, family: str) -> None:
    faults.task_failures("RESOURCE:ENI", count=5)
    assert [len(tasks.ask(family, count=3)["failures"]) for _ in range(3)] == [3, 2, 0]


def test_only_one_capacity_provider_refuses(tasks: Tasks, faults: Faults, family: str) -> None:
    faults.task_failures("capacity", provider="FARGATE_SPOT")
    assert tasks.ask(family, capacityProviderStrategy=SPOT)["tasks"] == []
    assert len(tasks.ask(family)["tasks"]) == 1
    assert len(tasks.ask(family, capacityProviderStrategy=[{"capacityProvider": "FARGATE"}])["tasks"]) == 1


def test_a_token_whose_call_started_nothing_may_start_later(tasks: Tasks, faults: Faults, family: str) -> None:
    faults.task_failures("capacity", times=1)
    assert tasks.ask(family, clientToken="later")["tasks"] == []
    assert len(tasks.ask(family, clientToken="later")["tasks"]) == 1


def test_the_first_fault_asked_for_wins() -> None:
    both = (Fault(kind="task_failures", reason="AGENT", start=1), Fault(kind="task_failures", reason="vcpus"))
    reasons, changed = refuse_tasks(both, ["FARGATE"] * 3)
    assert [reason and reason[:5] for reason in reasons] == ["You'v", "AGENT", "AGENT"]
    assert [fault.taken for fault in changed] == [2, 1]


# --- refusals -----------------------------------------------------------------------------------------------------


def test_throttling_has_two_faces(tasks: Tasks, faults: Faults, family: str) -> None:
    faults.throttle("RunTask", times=1)
    faults.throttle("RunTask", times=1, disguised=True)
    assert refused(tasks.ask, family) == ("ThrottlingException", "Rate exceeded")
    code, words = refused(tasks.ask, family)
    assert (code, "Rate exceeded" in words, "Throttling" in words) == ("InvalidParameterException", True, True)
    assert len(tasks.ask(family)["tasks"]) == 1


def test_a_lost_answer_started_tasks_that_the_token_finds(tasks: Tasks, faults: Faults, family: str) -> None:
    faults.lose_answer("RunTask")
    with pytest.raises(ConnectionClosedError):
        tasks.ask(family, clientToken="lost", startedBy="lost", count=3)
    found = [task["taskArn"] for task in tasks.ask(family, clientToken="lost", startedBy="lost", count=3)["tasks"]]
    looks = [tasks.ecs.list_tasks(startedBy="lost", desiredStatus=each) for each in ("RUNNING", "STOPPED")]
    # One that ends between the two looks is in both.
    assert {arn for look in looks for arn in look["taskArns"]} == set(found)


def test_run_task_has_a_rate(tasks: Tasks, faults: Faults, family: str) -> None:
    fault = faults.task_rate(calls=2, calls_rate=0.001, tasks=15, tasks_rate=0.001)
    assert len(tasks.ask(family, count=10)["tasks"]) == 10
    assert refused(tasks.ask, family, count=6) == ("ThrottlingException", "Rate exceeded")
    assert len(tasks.ask(family)["tasks"]) == 1
    assert refused(tasks.ask, family)[0] == "ThrottlingException"
    assert faults.hits(fault) == 2


def test_fargates_own_rate_is_the_default(faults: Faults) -> None:
    fault = faults.task_rate()
    pair = full(fault.calls, fault.calls_rate, 0.0), full(fault.tasks, fault.tasks_rate, 0.0)
    assert [take(pair, (1, 10), 0.0) for _ in range(11)] == [True] * 10 + [False]
    assert take(pair, (1, 10), 0.5)
    assert not take(pair, (1, 1), 0.5)


# --- tasks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "reason", "containers"),
    [
        pytest.param("capacity-gives-up", NO_CAPACITY, 0, id="capacity gives up"),
        pytest.param("no-network-interface", "Timeout waiting for network interface provisioning", 1, id="no ENI"),
        pytest.param("cannot-pull", "CannotPullContainerError: ", 1, id="image pull failure"),
    ],
)
def test_a_task_that_never_starts_has_no_exit_code(
    tasks: Tasks, faults: Faults, kind: str, reason: str, containers: int
) -> None:
    faults.task(kind, seconds=0.05)
    task = tasks.run(container("true"))
    assert (task["stopCode"], task["stoppedReason"].startswith(reason)) == ("TaskFailedToStart", True)
    assert [each.get("exitCode") for each in task["containers"]] == [None] * containers
    assert "startedAt" not in task
    assert code_of(tasks.run(container("true"))) == 0


def test_a_task_may_never_be_provisioned(tasks: Tasks, faults: Faults) -> None:
    faults.task("never-provisions")
    arn = tasks.start(container("true"))
    tasks.run(container("true"))  # somebody else's, which shows that time has passed
    assert tasks.look(arn)["lastStatus"] == "PROVISIONING"
    tasks.ecs.stop_task(task=arn, reason="given up")
    task = tasks.until(arn, "STOPPED")
    assert (task["stopCode"], task["stoppedReason"], code_of(task)) == ("UserInitiated", "given up", None)


@pytest.mark.parametrize(
    ("kind", "stop_code", "code"),
    [("interrupted", "SpotInterruption", 9), ("host-lost", "InfrastructureHealth", None)],
)
def test_a_running_task_is_cut_down(tasks: Tasks, faults: Faults, kind: str, stop_code: str, code: int | None) -> None:
    faults.task(kind, seconds=0.3, provider="FARGATE_SPOT")
    assert code_of(tasks.run(container("true"))) == 0
    task = tasks.run(sh(POLITE), capacityProviderStrategy=SPOT)
    assert (task["stopCode"], code_of(task)) == (stop_code, code)


def test_a_new_task_is_missing_for_a_while(tasks: Tasks, faults: Faults, family: str) -> None:
    fault = faults.task_lag(600)
    (task,) = tasks.ask(family, startedBy="lag")["tasks"]
    answer = tasks.ecs.describe_tasks(tasks=[task["taskArn"]])
    assert (answer["tasks"], answer["failures"]) == ([], [{"arn": task["taskArn"], "reason": "MISSING"}])
    assert tasks.ecs.list_tasks(startedBy="lag", desiredStatus="STOPPED")["taskArns"] == []
    faults.remove(fault)
    assert code_of(tasks.until(task["taskArn"], "STOPPED")) == 0


def test_what_no_task_does_is_refused_in_words(faults: Faults) -> None:
    with pytest.raises(FaultError, match="no task does 'sulk'"):
        faults.task("sulk")


# --- events -------------------------------------------------------------------------------------------------------


def test_each_change_is_an_event(tasks: Tasks, faults: Faults) -> None:
    sqs, rules = tasks.cloud.client("sqs"), tasks.cloud.client("events")
    url = sqs.create_queue(QueueName="changes")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["aws.ecs"], "detail": {"startedBy": ["watched"]}}
    rules.put_rule(Name="changes", EventPattern=json.dumps(pattern))
    rules.put_targets(Rule="changes", Targets=[{"Id": "queue", "Arn": arn}])
    task = tasks.run(sh("exit 6"), startedBy="watched")
    seen: list[dict[str, object]] = []

    def all_seen() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            seen.append(json.loads(message["Body"])["detail"])
        return any(each["lastStatus"] == "STOPPED" for each in seen)

    eventually(all_seen)
    seen.sort(key=lambda each: int(str(each["version"])))
    order = ["PROVISIONING", "PENDING", "ACTIVATING", "RUNNING", "DEPROVISIONING", "STOPPED"]
    assert [each["lastStatus"] for each in seen] == order
    last = seen[-1]
    assert (last["taskArn"], last["clusterArn"], last["group"]) == (task["taskArn"], task["clusterArn"], task["group"])
    assert (last["stopCode"], last["containers"][0]["exitCode"]) == ("EssentialContainerExited", 6)  # type: ignore[index]
    assert "tags" not in last
