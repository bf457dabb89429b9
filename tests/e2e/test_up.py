"""`make up` comes up, lets a person in, and takes everything along when it ends, however it ends."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.airflow_home import free_port
from tests.e2e.starting import SCRIPTS, Started, command_line, with_word_in

READY = "Ctrl-C ends everything"
#: The parts of `make up` take a minute on two idle cores.
START_PATIENCE = 180
#: And two tasks that start, beside the tests of another process.
RUN_PATIENCE = 300

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
]


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A script with a managed child, whose own child has a session of its own and ignores SIGTERM."""
    path = tmp_path / "family.py"
    path.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            sys.path.insert(0, {str(SCRIPTS)!r})
            from _children import managed
            stubborn = "trap '' TERM; while :; do sleep 1; done"
            with managed(["sh", "-c", f'setsid sh -c "{{stubborn}}" & sleep 600'], grace=0.5):
                print("family complete", flush=True)
                time.sleep(float(sys.argv[1]))
            """
        )
    )
    return path


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sign: sign.name)
def test_children_end_with_us_however_we_die(start: Callable[..., Started], family: Path, sign: signal.Signals) -> None:
    us = start(family, 600)
    eventually(lambda: len(us.processes()) >= 5, 10, us.said)
    us.process.send_signal(sign)
    eventually(lambda: not us.processes(), 10, us.said)


def test_children_end_with_the_block(start: Callable[..., Started], family: Path) -> None:
    us = start(family, 0.5)
    assert us.process.wait(10) == 0
    assert not us.processes()


def test_the_keeper_has_the_exit_code_of_the_command(tmp_path: Path) -> None:
    script = (
        "from _children import managed\n"
        "for command in ('exit 7', 'kill -9 $$', 'exec no-such-command'):\n"
        "    with managed(['sh', '-c', command]) as child: print(child.wait())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=SCRIPTS, capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.split() == ["7", "137", "127"]


@pytest.mark.slow
@pytest.mark.airflow
@pytest.mark.sandbox
@pytest.mark.timeout(640)
def test_up_lets_a_person_in_runs_a_dag_when_a_queue_fills_and_ctrl_c_ends_it_with_the_jobs(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    up = start(SCRIPTS / "up.py", "--home", tmp_path / "home", "--port", free_port())
    eventually(lambda: READY in up.said(), START_PATIENCE, up.said)

    url, password = said_after(up, "Airflow  "), said_after(up, "login").rpartition(" ")[2]
    token, env = log_in(url, password), environment_in(tmp_path / "home" / "test-env.sh")
    assert "nightly_report" in ask(f"{url}/api/v2/dags", token=token)
    assert os.listdir(tmp_path / "home" / "test") != []
    assert [job["id"] for job in json.loads(ask(f"{url}/transient/jobs", token=token))["jobs"]] == ["letters"]
    assert "letters" in client(env, "sqs").get_queue_url(QueueName="letters")["QueueUrl"]

    send = [sys.executable, str(SCRIPTS / "send_jobs.py"), "orders", "12"]
    subprocess.run(send, env=os.environ | env, check=True, timeout=30)
    # A watcher's event comes at least once: a second run finds nothing to do.
    eventually(lambda: "success" in states_of_runs(url, token, "on_queue_depth"), RUN_PATIENCE, up.said)
    assert messages_in(env, "orders") == 0
    assert "failed" not in states_of_runs(url, token, "on_queue_depth")

    nap = launch_a_nap(env)
    eventually(lambda: bool(with_word_in("cmdline", nap)), 10, up.said)
    assert len(up.processes()) > 10

    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0
    assert not up.processes()
    assert not with_word_in("cmdline", nap)


@pytest.mark.slow
@pytest.mark.airflow
@pytest.mark.sandbox
@pytest.mark.timeout(400)
def test_nothing_survives_when_up_is_killed(start: Callable[..., Started], tmp_path: Path) -> None:
    up = start(SCRIPTS / "up.py", "--home", tmp_path / "home", "--port", free_port())
    env = tmp_path / "home" / "test-env.sh"
    eventually(env.exists, START_PATIENCE, up.said)
    nap = launch_a_nap(environment_in(env))
    eventually(lambda: bool(with_word_in("cmdline", nap)), 10, up.said)
    eventually(lambda: any(b"api_server" in command_line(pid) for pid in up.processes()), START_PATIENCE, up.said)

    up.process.kill()
    eventually(lambda: not up.processes() and not with_word_in("cmdline", nap), 15, up.said)


def eventually(holds: Callable[[], bool], seconds: float, tell: Callable[[], str]) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"not after {seconds} s; it said:\n{tell()}"
        time.sleep(0.1)


def said_after(up: Started, label: str) -> str:
    line = next(line for line in up.said().splitlines() if line.strip().startswith(label))
    return line.strip().removeprefix(label).strip()


def environment_in(script: Path) -> dict[str, str]:
    """What the file exports, read as a shell would."""
    words = shlex.split(script.read_text(encoding="utf-8"))
    return dict(word.split("=", 1) for word in words if "=" in word)


def states_of_runs(url: str, token: str, dag: str) -> list[str]:
    return [run["state"] for run in json.loads(ask(f"{url}/api/v2/dags/{dag}/dagRuns", token=token))["dag_runs"]]


def messages_in(env: dict[str, str], queue: str) -> int:
    sqs = client(env, "sqs")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    return sum(map(int, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()))


def client(env: dict[str, str], service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_DEFAULT_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )


def launch_a_nap(env: dict[str, str]) -> str:
    """Start an instance that sleeps; returns a word that only its sandbox's processes carry."""
    nap = str(500_000 + uuid.uuid4().int % 400_000)
    ec2 = client(env, "ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    ec2.run_instances(
        ImageId=image,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        UserData=f"#!/bin/bash\nexec sleep {nap}\n",
        InstanceInitiatedShutdownBehavior="terminate",
    )
    return nap


def log_in(url: str, password: str) -> str:
    body = json.dumps({"username": "admin", "password": password}).encode()
    return str(json.loads(ask(f"{url}/auth/token", body))["access_token"])


def ask(url: str, body: bytes | None = None, token: str = "") -> str:
    headers: dict[str, Any] = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
        return str(answer.read().decode())
