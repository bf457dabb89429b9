"""What a client of ours waits for an answer: less than botocore would, and what the connection says wins."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from airflow_transient.core.cadence import Looked, Pause
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.triggers.poll import Poll


def config_of(monkeypatch: pytest.MonkeyPatch, service: str, said: dict[str, Any], **asked: Any) -> Any:
    extra = {"region_name": "eu-west-1", "config_kwargs": said}
    monkeypatch.setenv(
        "AIRFLOW_CONN_MINE", json.dumps({"conn_type": "aws", "login": "a", "password": "b", "extra": extra})
    )
    return TransientHook("mine").client(service, **asked).meta.config


@pytest.mark.parametrize(("service", "tries"), [("ec2", 2), ("ecs", 2), ("s3", 3)])
def test_nobody_is_waited_for_longer_than_it_takes(monkeypatch: pytest.MonkeyPatch, service: str, tries: int) -> None:
    config = config_of(monkeypatch, service, {})
    assert (config.connect_timeout, config.read_timeout) == (10, 30)
    assert config.retries["total_max_attempts"] == tries


def test_what_the_connection_says_of_waiting_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(monkeypatch, "ec2", {"read_timeout": 7, "proxies": {"https": "proxy:3128"}})
    assert (config.connect_timeout, config.read_timeout, config.proxies) == (10, 7, {"https": "proxy:3128"})


def test_what_a_caller_says_of_waiting_wins_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(monkeypatch, "ec2", {"read_timeout": 7}, read_timeout=3)
    assert config.read_timeout == 3


class Place:
    """Something to look at, for a poll."""

    pause = Pause(60.0)


def test_places_that_do_not_answer_keep_no_other_waiting() -> None:
    gate = threading.Event()

    def hangs(places: Sequence[Place], now: datetime) -> Looked[str]:
        assert gate.wait(20)
        return Looked(["late"] * len(places))

    def answers(places: Sequence[Place], now: datetime) -> Looked[str]:
        return Looked(["at once"] * len(places))

    async def first(poll: Poll[Place, str]) -> str:
        with poll.joined(Place()) as wait:
            return await wait.news()

    async def act() -> tuple[str, set[str]]:
        hanging = [asyncio.ensure_future(first(Poll(hangs))) for _ in range(40)]
        await asyncio.sleep(0.2)
        told = await asyncio.wait_for(first(Poll(answers)), 10)
        gate.set()
        return told, set(await asyncio.gather(*hanging))

    assert asyncio.run(act()) == ("at once", {"late"})


def test_ten_threads_that_ask_at_once_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", "aws://a:b@/?region_name=eu-west-1")
    hook, together = TransientHook("mine"), threading.Barrier(10)

    def ask(_: int) -> Any:
        together.wait(20)
        return hook.client("ec2")

    with ThreadPoolExecutor(10) as pool:
        assert len({id(client) for client in pool.map(ask, range(10))}) == 1
