"""`make demo` as a process: it tells what happened, it fails when something did not, and it dies without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "scripts" / "demo.py"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEMO.parent))
    import demo

    return demo


def sandboxes() -> set[str]:
    """Process 1 of every guest on this machine, by its command line."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(b"localcloud/agent.py") for word in words):
            found.add(path.parent.name)
    return found


def test_the_demo_tells_what_happened() -> None:
    done = subprocess.run(
        [sys.executable, DEMO], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=110
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
def test_the_end_of_the_demo_is_the_end_of_its_sandboxes(number: signal.Signals, tmp_path: Path) -> None:
    before = sandboxes()
    log = (tmp_path / "log").open("w+")
    child = subprocess.Popen(
        [sys.executable, DEMO], stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        eventually(lambda: sandboxes() - before, within=80)
        os.kill(child.pid, number)
        child.wait(timeout=30)
        eventually(lambda: not sandboxes() - before, within=15)
        eventually(lambda: not children_of_demo(), within=30)
    finally:
        child.kill()
    assert child.returncode != 0


def children_of_demo() -> list[str]:
    """What still runs of `airflow dags test nightly_report`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "dags test nightly_report" in words:
            found.append(words)
    return found


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
