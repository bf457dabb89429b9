"""`make demo` as a process: it tells what happened, it fails when something did not, and it dies without a trace."""

from __future__ import annotations

import gzip
import json
import re
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
    pytest.mark.timeout(600),
]

DEMO = SCRIPTS / "demo.py"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEMO.parent))
    import demo

    return demo


@pytest.fixture
def act(demo: Any) -> Any:
    """The third one."""
    return demo.batch_act


def sandboxes(started: Started) -> set[int]:
    """Process 1 of every guest that it started."""
    return {pid for pid in started.processes() if b"localcloud/agent.py" in command_line(pid)}


def test_the_demo_tells_what_happened() -> None:
    done = subprocess.run(
        [sys.executable, DEMO], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=550
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
    third = done.stdout.partition("A batch of files")[2]
    for words in (
        "outputs        99 exactly right, 0 not",
        "dead letter    sample 041.txt: 3 failures, the command ended with exit code 1",
        "messages       0 in batch, 1 in batch-dead",
        "verdict        succeeded",
        "report         100 files sent, 99 processed, 1 given up",
    ):
        assert words in third
    assert re.search(r"killed         a worker of i-\w+, signal 9; (another|one of i-\w+) did its file", third)
    assert done.stdout.count("left running: 0 instances") == 2


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


def test_a_third_act_whose_outputs_are_wrong_is_a_failure(act: Any, cloud: Any) -> None:
    furnish = sys.modules["_furniture"].furnish
    furnish(cloud)
    good = [name for name in act.NAMES if name != act.POISONED]
    bodies = {name: gzip.compress(act.content(name), 1) for name in good[3:]}
    bodies |= {good[0]: gzip.compress(act.content(good[1])), good[1]: b"no archive", "uncalled for.txt": b""}
    bodies |= {act.POISONED: gzip.compress(b"done after all")}
    for name, body in bodies.items():
        cloud.client("s3").put_object(Bucket=act.BUCKET, Key=f"{act.DONE}{name}.gz", Body=body)
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=act.DEAD_LETTERS)["QueueUrl"]
    for name in good[2], act.POISONED:
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"input": f"s3://b/{name}"}))
    left = {
        "enqueue": {"enqueued": 100},
        "work": {"outcome": "succeeded", "machines": 1, "messages": {"processed": 98, "dead_lettered": 2}},
        "report": "100 files sent, 98 processed, 2 given up",
    }
    faults = act.summary(cloud, [], lambda _, task: left[task])
    assert [re.sub(r"\[.*\]|{.*}", "…", fault) for fault in faults] == [
        "96 outputs are right, not 99",
        "these outputs are wrong, or nobody asked for them: …",
        "2 in batch-dead, …, not sample 041.txt alone",
        "no worker was killed at work whose file another did",
        "the workers' receipts say …",
        "the report in XCom is '100 files sent, 98 processed, 2 given up'",
        "0 instances are there, and the verdict says 1",
    ]
    assert all(name in faults[1] for name in (good[0], good[1], act.POISONED, "uncalled for.txt"))


RECEIVED = [("i-1", "received", 7, "m"), ("i-1", "worker-died", 1, None)]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        pytest.param([*RECEIVED, ("i-1", "done", 8, "m")], "another did its file", id="another of its machine"),
        pytest.param([*RECEIVED, ("i-2", "done", 7, "m")], "one of i-2 did its file", id="one elsewhere"),
        pytest.param(RECEIVED, None, id="nobody"),
        pytest.param([*RECEIVED, ("i-1", "done", 7, "m")], None, id="itself, before it was killed"),
        pytest.param([("i-1", "received", 7, "m"), ("i-1", "done", 8, "m")], None, id="nobody was killed"),
        pytest.param([*RECEIVED, ("i-1", "done", 8, "m"), ("i-2", "done", 3, "m")], None, id="two others"),
    ],
)
def test_a_killed_worker_counts_when_one_other_did_its_file(
    act: Any, events: list[tuple[str, str, int, str | None]], said: str | None
) -> None:
    died = {"worker": 7, "code": -9}
    told = act.the_interrupted(
        [
            act.Event(
                machine,
                {
                    "at": "2026-01-01T00:00:00Z",
                    "event": event,
                    "pid": pid,
                    **({"message": message} if message else died),
                },
            )
            for machine, event, pid, message in events
        ]
    )
    assert said in told if said else told is None
