"""How the worker gets to a machine, and how a container's receipt is found in its log."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from airflow_transient.aws.workers import CrewCase, check_options, receipt_in_log, ship
from airflow_transient.core.ecs.terms import LogPlace, Terms
from airflow_transient.core.launch import NEVER_BOOTED, Launch
from airflow_transient.core.spec import S3Prefix
from airflow_transient.core.workers.spec import FETCH, WorkersSpec
from airflow_transient.errors import SpecError
from airflow_transient.testing import FakeLauncher
from tests.worker.world import WORKER

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def clients(cloud: Any) -> Callable[..., Any]:
    made = cache(cloud.client)
    return lambda service, region_name=None, **_: made(service, region_name)


def fetch(url: str, sha256: str, place: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "WORKER_URL": url, "WORKER_SHA256": sha256}
    return subprocess.run([sys.executable, "-c", FETCH, str(place)], env=env, capture_output=True, text=True)


def test_the_worker_arrives_as_it_was_sent(clients: Any, tmp_path: Path) -> None:
    sent = ship(clients, S3Prefix("results", "work/"), timedelta(minutes=5))
    assert sent.sha256 == hashlib.sha256(WORKER.read_bytes()).hexdigest()
    assert fetch(sent.url, sent.sha256, tmp_path / "worker.py").returncode == 0
    assert (tmp_path / "worker.py").read_bytes() == WORKER.read_bytes()


def test_what_somebody_else_has_put_there_is_not_run(clients: Any, tmp_path: Path) -> None:
    sent = ship(clients, S3Prefix("results", "work/"), timedelta(minutes=5))
    key = f"work/worker-{sent.sha256[:16]}.py"
    clients("s3").put_object(Bucket="results", Key=key, Body=b"print('mine now')")
    said = fetch(sent.url, sent.sha256, tmp_path / "worker.py")
    assert (said.returncode, said.stderr) == (1, "worker.py is not what was sent\n")
    assert not (tmp_path / "worker.py").exists()


def test_without_the_bucket_nothing_can_be_sent(clients: Any) -> None:
    with pytest.raises(SpecError, match="no bucket 'nowhere'"):
        ship(clients, S3Prefix("nowhere", "work/"), timedelta(minutes=5))


# --- its options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(["--max-failuers", "5"], "unrecognized arguments: --max-failuers 5", id="misspelt"),
        pytest.param(["--max-failures", "many"], "argument --max-failures: invalid", id="no number"),
        pytest.param(["--visibility", "1"], "1 is not between 2 and 43200", id="too little"),
        pytest.param(["--retry-delay"], "expected one argument", id="without its value"),
        pytest.param(["--no"], None, id="as short as the worker takes it"),
        pytest.param(["convert-it"], "unrecognized arguments: convert-it", id="no option"),
        pytest.param(["--help"], "only prints", id="help"),
        pytest.param(["-h"], "only prints", id="help, in short"),
        pytest.param(["--processes", "9"], "processes: the operator has a word", id="the operator's own"),
        pytest.param(["--idle=9"], "idle_timeout: the operator has a word", id="the operator's own, in short"),
        pytest.param(["--max-failures", "5", "--no-output", "--temp", "/mnt"], None, id="good ones"),
    ],
)
def test_options_are_read_as_each_machine_will_read_them(
    options: list[str], says: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"sqs_queue": "jobs", "command": ["cp"], "results": "s3://bucket/work", "worker_options": options}
    with pytest.raises(SpecError, match=says) if says else nullcontext():
        check_options(WorkersSpec.of(words))
    assert capsys.readouterr() == ("", "")


# --- a container's receipt


def launch(container: str = "main") -> Launch:
    place = LogPlace(container, "/ecs/work", "work", "eu-west-1")
    terms = Terms("default", (container,), 60, 60, 0, 1, logs=(place,))
    return Launch("ecs", "t1-1", "nonce", ("a1",), "eu-west-1", NOW, NOW, NOW, ecs=terms)


def log(*lines: str | Exception) -> Callable[..., Any]:
    """A client of a log with these lines."""

    class Logs:
        meta = type("Meta", (), {"region_name": "eu-west-1"})

        def get_log_events(self, **_: Any) -> dict[str, Any]:
            if isinstance(lines[0], Exception):
                raise lines[0]
            return {"events": [{"message": line} for line in lines]}

    logs = Logs()
    return lambda service, **_: logs


@pytest.mark.parametrize(
    ("lines", "done"),
    [
        pytest.param(['{"at": "then"}', '{"done": 3}\n'], 3, id="the last line"),
        pytest.param(['{"done": 3}', "a line of somebody else's"], 3, id="before another's"),
        pytest.param(['{"done": 3}', '{"done": 5}'], 5, id="the last of two"),
        pytest.param(['{"at": "then"}'], None, id="none yet"),
        pytest.param(['{"done": 3'], None, id="cut off"),
        pytest.param(['{"done": "many"}'], None, id="no number"),
        pytest.param([], None, id="nothing said"),
    ],
)
def test_a_receipt_in_a_log(lines: list[str], done: int | None) -> None:
    found = receipt_in_log(log(*lines) if lines else log(""), launch(), "a1", "main")
    assert (found and found["done"]) == done


def test_a_log_that_cannot_be_read_or_is_kept_elsewhere_holds_no_receipt() -> None:
    from botocore.exceptions import ClientError

    refused = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetLogEvents")
    assert receipt_in_log(log(refused), launch(), "a1", "main") is None
    assert receipt_in_log(log(json.dumps({"done": 1})), launch("other"), "a1", "main") is None


def test_of_machines_that_never_boot_only_those_are_over() -> None:
    world = FakeLauncher()
    from airflow_transient.core.ec2.spec import Ec2Spec, Image
    from airflow_transient.core.launch import LaunchKey, Owner
    from airflow_transient.core.spec import Pool

    spec = Ec2Spec(command="true", image=Image("ami-0123456789abcdef0"), instance_types=("t3.micro",), count=3)
    key = LaunchKey(Owner("tests", "dag", "run", "task"), "t1")
    came = world.launch(world.prepare(spec, key, Pool("t3.micro"), NOW))
    world._change(came.ids[1], boot_evidence="cloud-init had ended")
    case = CrewCase(came)
    judged = case.judged(world.observe(came, NOW), NOW)
    assert judged.over == {NEVER_BOOTED: came.ids[1:2]}
    assert case.crew.open == came.ids
