"""RunTask really runs: commands, containers, signals, logs, credentials, and how each ending is told."""

from __future__ import annotations

import json
import time

import pytest

from tests.waiting import eventually

from .ecs import ROLE, SPOT, Tasks, code_of, container, sh

pytestmark = pytest.mark.sandbox
FOR_EVER = "echo up; exec sleep 600"
# Says so when asked to end, as a good worker does.
POLITE = "trap 'echo ending; exit 9' TERM; echo up; while :; do sleep 0.05; done"
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"


# --- commands -----------------------------------------------------------------------------------------------------


def test_the_exit_code_is_the_commands(tasks: Tasks) -> None:
    task = tasks.run(sh("exit 42"))
    assert (task["stopCode"], task["stoppedReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )
    assert code_of(task) == 42
    assert (task["lastStatus"], task["desiredStatus"]) == ("STOPPED", "STOPPED")


def test_a_signal_is_128_and_its_number(tasks: Tasks) -> None:
    assert code_of(tasks.run(sh("kill -9 $$"))) == 137


def test_entry_point_and_command_are_one_line(tasks: Tasks) -> None:
    task = tasks.run({**container("-c", "echo $0 $1", "a", "b"), "entryPoint": ["sh"], "workingDirectory": "/tmp"})
    assert tasks.said(task["taskArn"]) == "a b\n"


def test_an_override_replaces_the_command_and_adds_to_the_environment(tasks: Tasks) -> None:
    over = {
        "name": "main",
        "command": ["sh", "-c", "echo $KEPT $CHANGED $ADDED"],
        "environment": [{"name": "CHANGED", "value": "new"}, {"name": "ADDED", "value": "too"}],
        "cpu": 128,
    }
    given = [{"name": "KEPT", "value": "old"}, {"name": "CHANGED", "value": "old"}]
    task = tasks.run(sh("false", environment=given), overrides={"containerOverrides": [over], "memory": "1024"})
    assert tasks.said(task["taskArn"]) == "old new too\n"
    assert task["overrides"]["containerOverrides"][0]["command"][2].startswith("echo")
    assert (task["memory"], task["containers"][0]["cpu"]) == ("1024", "128")


def test_a_command_that_is_not_there_never_started(tasks: Tasks) -> None:
    task = tasks.run(container("no-such-command"))
    assert task["stopCode"] == "TaskFailedToStart"
    assert "CannotStartContainerError" in task["stoppedReason"]
    assert "No such file" in task["containers"][0]["reason"]
    assert code_of(task) is None


def test_nobodys_files_are_seen_and_none_stay(tasks: Tasks) -> None:
    first = tasks.run(sh("ls -A /root /home; echo x >/tmp/mine; touch /usr/x || echo read-only"))
    assert "read-only" in tasks.said(first["taskArn"])
    assert tasks.said(tasks.run(sh("ls -A /tmp"))["taskArn"]) == ""


# --- containers ---------------------------------------------------------------------------------------------------


def test_the_end_of_the_essential_container_ends_the_others_with_their_own_codes(tasks: Tasks) -> None:
    task = tasks.run(
        sh("sleep 0.2; exit 3"),
        sh(FOR_EVER, name="sidecar", essential=False),
        sh(STUBBORN, name="stubborn", essential=False, stopTimeout=1),
        sh(POLITE, name="polite", essential=False),
    )
    codes = {each["name"]: each["exitCode"] for each in task["containers"]}
    assert codes == {"main": 3, "sidecar": 143, "stubborn": 137, "polite": 9}


def test_the_end_of_another_container_ends_nothing(tasks: Tasks) -> None:
    arn = tasks.start(sh(POLITE), sh("exit 5", name="init", essential=False))
    eventually(lambda: code_of(tasks.look(arn), "init") == 5)
    assert tasks.until(arn, "RUNNING")["desiredStatus"] == "RUNNING"
    tasks.ecs.stop_task(task=arn)


def test_a_container_waits_for_the_one_it_depends_on(tasks: Tasks) -> None:
    after = [{"containerName": "init", "condition": "SUCCESS"}]
    task = tasks.run(
        sh('test -z "$(ps -e | grep sleep)"', dependsOn=after),
        sh("sleep 0.3", name="init", essential=False),
    )
    assert (code_of(task), code_of(task, "init")) == (0, 0)


def test_containers_of_a_task_share_their_network(tasks: Tasks) -> None:
    serve = "import socket; socket.create_server(('127.0.0.1', 7070)).accept()"
    knock = "for i in $(seq 50); do (: <>/dev/tcp/127.0.0.1/7070) && exit 0; sleep 0.1; done; exit 1"
    task = tasks.run(container("bash", "-c", knock), container("python3", "-c", serve, name="server"))
    assert 0 in (code_of(task), code_of(task, "server"))


def test_a_container_whose_condition_cannot_be_met_never_starts(tasks: Tasks) -> None:
    after = [{"containerName": "init", "condition": "SUCCESS"}]
    task = tasks.run(sh("exit 0", dependsOn=after), sh("exit 7", name="init", essential=False))
    assert (code_of(task), code_of(task, "init")) == (None, 7)
    assert task["stopCode"] == "EssentialContainerExited"


# --- endings ------------------------------------------------------------------------------------------------------


def test_stop_task_is_the_users_word_and_deletes_the_tags(tasks: Tasks) -> None:
    arn = tasks.start(sh(POLITE), tags=[{"key": "job", "value": "nightly"}])
    tasks.says(arn, "up")
    assert tasks.look(arn)["tags"] == [{"key": "job", "value": "nightly"}]
    tasks.ecs.stop_task(task=arn, reason="too late")
    task = tasks.until(arn, "STOPPED")
    assert (task["stopCode"], task["stoppedReason"], code_of(task)) == ("UserInitiated", "too late", 9)
    assert task["tags"] == []


def test_stopping_twice_changes_nothing(tasks: Tasks) -> None:
    before = tasks.run(sh("exit 1"))
    again = tasks.ecs.stop_task(task=before["taskArn"], reason="again")["task"]
    assert (again["stopCode"], again["version"]) == (before["stopCode"], before["version"])


def test_who_ignores_sigterm_is_killed_after_its_stop_timeout(tasks: Tasks) -> None:
    arn = tasks.start(sh(STUBBORN, stopTimeout=1))
    tasks.says(arn, "up")
    asked = time.monotonic()
    tasks.ecs.stop_task(task=arn)
    assert code_of(tasks.until(arn, "STOPPED")) == 137
    assert time.monotonic() - asked >= 1


def test_an_interrupted_spot_task_gets_sigterm(tasks: Tasks) -> None:
    arn = tasks.start(sh(POLITE), capacityProviderStrategy=SPOT)
    tasks.says(arn, "up")
    tasks.cloud.reclaim(arn)
    task = tasks.until(arn, "STOPPED")
    assert (task["stopCode"], task["stoppedReason"]) == ("SpotInterruption", "Your Spot Task was interrupted.")
    assert (code_of(task), task["capacityProviderName"]) == (9, "FARGATE_SPOT")


def test_a_lost_host_leaves_no_exit_code(tasks: Tasks) -> None:
    arn = tasks.start(sh(POLITE))
    tasks.says(arn, "up")
    tasks.cloud.fail_host(arn)
    task = tasks.until(arn, "STOPPED")
    assert (task["stopCode"], code_of(task)) == ("InfrastructureHealth", None)
    assert "ending" not in tasks.said(arn)


def test_a_container_leaves_no_process_behind(tasks: Tasks) -> None:
    task = tasks.run(sh("sleep 600 & sleep 600 & exit 0"))
    assert code_of(task) == 0
    eventually(lambda: not [pid for pid in tasks.cloud.sandbox_pids() if pid])


# --- what is told -------------------------------------------------------------------------------------------------


def test_a_tasks_times_come_in_order_and_its_version_grows(tasks: Tasks) -> None:
    arn = tasks.start(sh(POLITE), startedBy="nightly/1", group="mine", enableExecuteCommand=True)
    running = tasks.until(arn, "RUNNING")
    tasks.ecs.stop_task(task=arn)
    task = tasks.until(arn, "STOPPED")
    order = [
        "createdAt",
        "pullStartedAt",
        "pullStoppedAt",
        "startedAt",
        "stoppingAt",
        "executionStoppedAt",
        "stoppedAt",
    ]
    assert [task[name] for name in order] == sorted(task[name] for name in order)
    assert task["version"] > running["version"] > 1
    told = (task["startedBy"], task["group"], task["launchType"], task["enableExecuteCommand"], task["platformVersion"])
    assert told == ("nightly/1", "mine", "FARGATE", True, "1.4.0")
    assert task["containers"][0]["runtimeId"].startswith(arn.rpartition("/")[2])


# --- what a container finds ---------------------------------------------------------------------------------------


def test_boto3_works_in_a_container_as_the_tasks_role(tasks: Tasks) -> None:
    script = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
    task = tasks.run(container("python3", "-c", script), define={"taskRoleArn": ROLE})
    assert f":assumed-role/worker/{task['taskArn'].rpartition('/')[2]}" in tasks.said(task["taskArn"])
    assert code_of(task) == 0


def test_without_a_role_there_are_no_credentials(tasks: Tasks) -> None:
    script = "import boto3; boto3.client('sts').get_caller_identity()"
    task = tasks.run(container("python3", "-c", script))
    assert "Unable to locate credentials" in tasks.said(task["taskArn"])


def test_the_metadata_service_knows_container_and_task(tasks: Tasks) -> None:
    task = tasks.run(
        sh('curl -s "$ECS_CONTAINER_METADATA_URI_V4"; echo; curl -s "$ECS_CONTAINER_METADATA_URI_V4/task"')
    )
    mine, whole = (json.loads(line) for line in tasks.said(task["taskArn"]).splitlines())
    assert (mine["Name"], mine["ContainerARN"]) == ("main", task["containers"][0]["containerArn"])
    assert (whole["TaskARN"], whole["Cluster"]) == (task["taskArn"], task["clusterArn"])
    assert (whole["KnownStatus"], whole["Containers"][0]["Name"]) == ("RUNNING", "main")


def test_python_path_is_the_users_where_one_is_given(tasks: Tasks) -> None:
    task = tasks.run(sh("echo $PYTHONPATH", environment=[{"name": "PYTHONPATH", "value": "/mine"}]))
    assert tasks.said(task["taskArn"]) == "/mine\n"


def test_secrets_become_variables(tasks: Tasks) -> None:
    tasks.cloud.client("ssm").put_parameter(Name="/job/token", Value="quiet", Type="SecureString")
    value = json.dumps({"user": "me"})
    arn = tasks.cloud.client("secretsmanager").create_secret(Name="db", SecretString=value)["ARN"]
    wanted = {"TOKEN": "/job/token", "WHOLE": arn, "USER": f"{arn}:user::"}
    secrets = [{"name": name, "valueFrom": source} for name, source in wanted.items()]
    task = tasks.run(sh("echo $TOKEN $WHOLE $USER", secrets=secrets))
    assert tasks.said(task["taskArn"]) == f"quiet {value} me\n"


def test_without_its_secret_a_task_fails_to_start(tasks: Tasks) -> None:
    task = tasks.run(sh("exit 0", secrets=[{"name": "TOKEN", "valueFrom": "/job/none"}]))
    assert (task["stopCode"], code_of(task)) == ("TaskFailedToStart", None)
    assert "unable to pull secrets" in task["stoppedReason"]


def test_a_container_reaches_neither_the_clouds_controls_nor_a_machines_metadata(tasks: Tasks) -> None:
    ask = "curl -s -o /dev/null -w '%{http_code} '"
    task = tasks.run(sh(f"{ask} $AWS_ENDPOINT_URL/_localcloud/faults; {ask} http://169.254.169.254/latest/meta-data/"))
    assert tasks.said(task["taskArn"]) == "403 000 "


# --- logs ---------------------------------------------------------------------------------------------------------


def awslogs(group: str, **more: str) -> dict[str, object]:
    options = {"awslogs-group": group, "awslogs-region": "eu-west-1", "awslogs-stream-prefix": "jobs", **more}
    return {"logConfiguration": {"logDriver": "awslogs", "options": options}}


def test_output_is_in_cloudwatch_logs_while_the_task_runs(tasks: Tasks) -> None:
    logs = tasks.cloud.client("logs")
    logs.create_log_group(logGroupName="jobs")
    arn = tasks.start(sh("seq 500; echo problem >&2; echo; printf unfinished; exec sleep 600", **awslogs("jobs")))
    stream = f"jobs/main/{arn.rpartition('/')[2]}"

    def messages() -> list[str]:
        found = logs.get_log_events(logGroupName="jobs", logStreamName=stream, startFromHead=True)
        return [event["message"] for event in found["events"]]

    expected = [*map(str, range(1, 501)), "problem"]
    tasks.until(arn, "RUNNING")
    eventually(lambda: messages() == expected)
    tasks.ecs.stop_task(task=arn)
    tasks.until(arn, "STOPPED")
    assert messages() == [*expected, "unfinished"]


def test_without_its_log_group_a_task_fails_to_start(tasks: Tasks) -> None:
    task = tasks.run(sh("exit 0", **awslogs("nowhere")))
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("ResourceInitializationError")
    assert code_of(task) is None


def test_a_log_group_is_made_on_request(tasks: Tasks) -> None:
    task = tasks.run(sh("exit 0", **awslogs("fresh", **{"awslogs-create-group": "true"})))
    assert code_of(task) == 0
    assert tasks.cloud.client("logs").describe_log_streams(logGroupName="fresh")["logStreams"]
