"""The fake as a process of its own, and the door to it: what exists, when it ends, and what was asked.

`python -m benchmarks.fake.process` prints its URL and answers until its standard input ends.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from benchmarks.fake import ec2, ecs, s3, sqs
from benchmarks.fake.http import Asked, Connection, Told
from benchmarks.fake.world import REGION, World

ROOT = Path(__file__).resolve().parents[2]
DOOR = "/_fake"


def answer(world: World, asked: Asked) -> Told | Coroutine[Any, Any, Told]:
    if asked.path == DOOR:
        return door(world, json.loads(asked.body or b"{}"))
    if target := asked.headers.get("x-amz-target"):
        service, _, action = target.partition(".")
        world.calls[action] += 1
        said = json.loads(asked.body or b"{}")
        if action == "ReceiveMessage":
            return sqs.receive(world, said)
        answers = sqs.ANSWERS if service == "AmazonSQS" else ecs.ANSWERS
        return answers[action](world, said) if action in answers else ecs.unknown(action)
    if asked.method == "POST" and asked.path == "/":
        said = dict(parse_qsl(asked.body.decode(), keep_blank_values=True))
        world.calls[said["Action"]] += 1
        action = said["Action"]
        return ec2.ANSWERS[action](world, said) if action in ec2.ANSWERS else ec2.unknown(action)
    world.calls["S3"] += 1
    return s3.answer(world, asked)


def door(world: World, said: dict[str, Any]) -> Told:
    """Do what is said, then tell what is so."""
    if "fill" in said:
        world.empty()
        for kind, number in said["fill"].items():
            world.fill(kind, number)
    world.emits = said.get("emits", world.emits)
    if "limits" in said:
        world.limit(said["limits"])
    world.end(said.get("end", {}))
    asked = [one.asked_first for one in world.resources.values() if one.asked_first is not None]
    now = {
        "calls": world.calls,
        "refused": world.refused,
        "seen": len(asked),
        "last_first": max(asked, default=None),
        "cpu": time.process_time(),
        "labels": {one.label: one.id for one in world.resources.values() if one.label},
    }
    return Told(json.dumps(now).encode(), "application/json")


@dataclass(frozen=True)
class Counted:
    """What the fake has been asked so far. `last_first`: when the last of the `seen` was asked for the first time."""

    calls: Mapping[str, int]
    refused: Mapping[str, int]
    seen: int
    last_first: float | None
    cpu: float
    labels: Mapping[str, str] = field(default_factory=dict)

    def since(self, before: Counted) -> dict[str, int]:
        return {name: n - before.calls.get(name, 0) for name, n in self.calls.items() if n > before.calls.get(name, 0)}


class Door:
    """Asks the fake's process, on a connection of its own each time."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, **said: Any) -> Counted:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)
        try:
            connection.request("POST", DOOR, json.dumps(said))
            return Counted(**json.load(connection.getresponse()))
        finally:
            connection.close()


class FakeAws:
    """The process, for the length of a block."""

    def __enter__(self) -> FakeAws:
        argv = [sys.executable, "-m", "benchmarks.fake.process"]
        self._process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not self.url:
            raise SystemExit("the fake of AWS did not start")
        self.door = Door(self.url)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    @property
    def env(self) -> dict[str, str]:
        """For whatever is to take it for AWS."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AIRFLOW_CONN_AWS_DEFAULT": f"aws://?region_name={REGION}",
        }


async def serve() -> None:
    world, loop = World(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(lambda asked: answer(world, asked)), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
