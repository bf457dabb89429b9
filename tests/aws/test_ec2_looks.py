"""What EC2 shows of machines without a bucket: states, moments, and what the console tells of their jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_transient.aws.ec2_looks import FILTER_LIMIT, Looks
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Phase

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
LAUNCH = Launch("ec2", "t0-1", "n0", ("i-1",), "eu-west-1", T0, T0 + timedelta(minutes=10), T0 + timedelta(hours=1))
SOON, LATE = T0 + timedelta(minutes=9), T0 + timedelta(minutes=11)
BOOTED = "Cloud-init v. 24.1 finished at Sat, 21 Nov 2026 12:00:30 +0000.\n"


def marker(phase: str, **more: Any) -> str:
    return f"TRANSIENT {json.dumps({'nonce': 'n0', 'instance': 'i-1', 'phase': phase, **more})}\n"


class Ec2:
    """Machines in one state each, and what each has printed. `nitro`: whether a console may be asked for as it is."""

    def __init__(self, state: str = "running", console: str = "", nitro: bool = True, **more: Any) -> None:
        self.shown: Mapping[str, Any] = {"State": {"Name": state}, "LaunchTime": T0, **more}
        self.console, self.nitro = console, nitro
        self.asked: list[int] = []
        self.consoles: list[dict[str, Any]] = []

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, Filters: Any) -> Any:
        (asked,) = Filters
        self.asked.append(len(asked["Values"]))
        return [{"Reservations": [{"Instances": [{"InstanceId": name, **self.shown} for name in asked["Values"]]}]}]

    def get_console_output(self, **asked: Any) -> Any:
        self.consoles.append(asked)
        if "Latest" in asked and not self.nitro:
            raise ClientError({"Error": {"Code": "UnsupportedOperation"}}, "GetConsoleOutput")
        return {"Output": self.console}


def look(ec2: Ec2, launch: Launch = LAUNCH, now: datetime = SOON) -> Any:
    return Looks(lambda service: ec2).observe(launch, now)[0]


def test_hundreds_are_looked_at_by_filters_of_two_hundred() -> None:
    ec2, ids = Ec2("pending"), tuple(f"i-{n}" for n in range(2 * FILTER_LIMIT + 1))
    seen = Looks(lambda service: ec2).observe(LAUNCH.with_ids(ids), SOON)
    assert ec2.asked == [200, 200, 1]
    assert [s.member for s in seen] == list(ids)


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("pending", Phase.STARTING),
        ("running", Phase.RUNNING),
        ("stopping", Phase.RUNNING),
        ("shutting-down", Phase.RUNNING),
        ("stopped", Phase.ENDED),
        ("terminated", Phase.ENDED),
        ("novel", Phase.UNKNOWN),
    ],
)
def test_a_state_is_a_phase(state: str, phase: Phase) -> None:
    seen = look(Ec2(state))
    assert (seen.phase, seen.state) == (phase, state)


@pytest.mark.parametrize(
    ("words", "ended"),
    [
        ("User initiated (2026-11-21 12:05:00 GMT)", T0 + timedelta(minutes=5)),
        ("User initiated (2026-11-21 12:05:00 UTC)", T0 + timedelta(minutes=5)),
        ("", T0 + timedelta(minutes=4)),
    ],
)
def test_ec2_s_moment_of_the_end_comes_before_the_receipt_s(words: str, ended: datetime) -> None:
    console = marker("end", ended="2026-11-21T12:04:00Z", exit_code=0)
    seen = look(Ec2("terminated", console, StateTransitionReason=words))
    assert (seen.ended, seen.receipt.exit_code) == (ended, 0)


def test_an_older_type_s_console_is_read_without_latest() -> None:
    ec2 = Ec2(console=marker("started"), nitro=False)
    assert look(ec2).started is not None
    assert ec2.consoles == [{"InstanceId": "i-1", "Latest": True}, {"InstanceId": "i-1"}]


@pytest.mark.parametrize(("now", "never"), [(SOON, False), (LAUNCH.boot_by, False), (LATE, True)])
def test_whether_it_will_ever_boot_is_asked_when_it_should_have(now: datetime, never: bool) -> None:
    seen = look(Ec2(console=BOOTED), now=now)
    assert bool(seen.boot_evidence) is never


def test_a_machine_that_may_be_held_is_looked_at_for_its_end_once_its_job_has_begun() -> None:
    held = replace(LAUNCH, hold_seconds=60)
    ended = Ec2(console=marker("started") + marker("end", exit_code=3))
    assert look(ended, held).receipt.exit_code == 3
    assert look(ended).receipt is None
    booting = Ec2()
    look(booting, held)
    assert len(booting.consoles) == 1


def test_who_stopped_it_is_read_from_its_tag() -> None:
    tags = [{"Key": "Name", "Value": "x"}, {"Key": "transient:stopped-by", "Value": "deadline"}]
    assert look(Ec2("terminated", Tags=tags)).stopped_by == "deadline"
