"""`make demo` as a process: it tells what happened, it fails when something did not, and it dies without a trace."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.starting import SCRIPTS, Started, command_line
from tests.waiting import eventually

pytestmark = [
    *(pytest.mark.slow, pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.e2e),
    pytest.mark.timeout(300),
]

DEMO = SCRIPTS / "demo.py"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEMO.parent))
    import demo

    return demo


def sandboxes(started: Started) -> set[int]:
    """Process 1 of every guest that it started."""
    return {pid for pid in started.processes() if b"localcloud/agent.py" in command_line(pid)}


def test_the_demo_tells_what_happened() -> None:
    done = subprocess.run(
        [sys.executable, DEMO], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=250
    )
    print(done.stdout)
    assert done.returncode == 0
    for words in (
        "exit code      0",
        "terminated (Client.InstanceInitiatedShutdown)",
        "3.14159",
        "verdict        succeeded",
    ):
        assert words in done.stdout
    assert "left running: 0 instances" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_the_end_of_the_demo_is_the_end_of_all_it_started(
    number: signal.Signals, start: Callable[..., Started]
) -> None:
    demo = start(DEMO)
    eventually(lambda: sandboxes(demo), within=200, every=0.2)
    demo.process.send_signal(number)
    demo.process.wait(30)
    eventually(lambda: not sandboxes(demo), within=15, every=0.2)
    eventually(lambda: not demo.processes(), within=30, every=0.2)
    assert demo.process.returncode != 0


def test_a_demo_in_which_nothing_was_launched_is_a_failure(
    demo: Any, cloud: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "HOME", tmp_path)
    faults = demo.summary(cloud, 0)
    assert "0 instances were launched, not 1" in faults
    assert any("verdict" in fault for fault in faults)


def test_a_demo_whose_result_is_empty_is_a_failure(demo: Any, cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "BUCKET", "results")
    monkeypatch.setattr(demo, "xcom", lambda: {"outcome": "succeeded"})
    ec2, s3 = cloud.client("ec2"), cloud.client("s3")
    made = ec2.run_instances(
        ImageId=ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"],
        InstanceType="t3.small",
        MinCount=1,
        MaxCount=1,
        UserData="#!/bin/bash\nshutdown -h now\n",
        InstanceInitiatedShutdownBehavior="terminate",
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "transient:dag", "Value": "nightly_report"}]}],
    )
    member = made["Instances"][0]["InstanceId"]
    eventually(lambda: cloud.states()[member] == "terminated", within=20)
    told = {"exit_code": 0, "started": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:00:01Z"}
    s3.put_object(Bucket="results", Key=f"x/{member}/receipt.json", Body=json.dumps(told).encode())
    s3.put_object(Bucket="results", Key=f"x/{member}/job.log", Body=b"said something")
    s3.put_object(Bucket="results", Key=f"x/{member}/pi.txt", Body=b"")
    assert demo.summary(cloud, 0) == ["the result object is empty or missing", "what was uploaded is not pi"]
