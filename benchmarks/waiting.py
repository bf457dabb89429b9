"""One measured process: N waits in one event loop, as a triggerer holds them, ours or the stock provider's.

`python -m benchmarks.waiting PLAN`: the plan and the record, its last line, are JSON. benchmarks/waits.py starts it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.fake.process import Counted, Door
from benchmarks.fake.world import ACCOUNT, NAMES, REGION
from benchmarks.meters import Stalls, cpu, latencies, rss_kib

PACKAGES = ("apache-airflow", "apache-airflow-providers-amazon", "boto3", "aiobotocore")
#: Seconds in which all waits must have looked once, or the side cannot bear so many.
PATIENCE = 300.0
AT_A_TURN = 50


@dataclass(frozen=True)
class Plan:
    """
    `side`: ours or stock. `interval`: seconds between looks. `settle`: before anything is measured; `rest`: while
    nothing ends; `changes` ends at random moments of `spread` seconds; `end_all`: then all at once.
    """

    side: str
    kind: str
    waits: int
    interval: float
    events: bool
    settle: float
    rest: float
    changes: int
    spread: float
    end_all: bool
    url: str = ""


class Side:
    """The waits of one plan, and when each has ended."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ended: dict[str, float] = {}
        self.failed: list[str] = []
        self._trigger = TRIGGERS[plan.side, plan.kind]
        self._tasks: list[asyncio.Task[None]] = []

    def wait_for(self, id: str) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(self._wait(id)))

    async def _wait(self, id: str) -> None:
        try:
            async for _ in self._trigger(self.plan, id).run():
                self.ended[id] = time.monotonic()
                return
        except Exception as error:
            self.failed.append(f"{type(error).__name__}: {error}")

    async def until(self, ids: Sequence[str], seconds: float) -> None:
        """All of these have ended, or so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(id in self.ended for id in ids):
            await asyncio.sleep(0.2)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


async def measured(plan: Plan) -> dict[str, Any]:
    door = Door(plan.url)

    async def ask(**said: Any) -> Counted:
        return await asyncio.to_thread(door, **said)

    side, ids = Side(plan), [NAMES[plan.kind](number) for number in range(plan.waits)]
    await ask(fill={plan.kind: plan.waits}, emits=plan.events)
    await _warmed_up(side, ids[0], ask)
    record: dict[str, Any] = {"start": await _started(side, ids, ask)}
    record["rest"] = await _rested(plan, ask)
    record["changes"] = await _changed(side, ids, ask)
    if plan.end_all:
        record["end_all"] = await _ended(side, ids, ask)
    side.stop()
    calls = (await ask()).calls
    return {**record, "calls": calls, "failed": side.failed[:3], "failures": len(side.failed)}


Ask = Callable[..., Awaitable[Counted]]


async def _warmed_up(side: Side, id: str, ask: Ask) -> None:
    """One wait first: what a process pays once, modules and clients, is no price of a wait."""
    side.wait_for(id)
    await _until_seen(side, 1, ask)
    await asyncio.sleep(2)
    gc.collect()


async def _started(side: Side, ids: Sequence[str], ask: Ask) -> dict[str, Any]:
    memory, used, began = rss_kib(), cpu(), time.monotonic()
    async with Stalls() as stalls:
        for number, id in enumerate(ids[1:]):
            side.wait_for(id)
            if number % AT_A_TURN == AT_A_TURN - 1:
                await asyncio.sleep(0)
        counted = await _until_seen(side, len(ids), ask)
        used = cpu() - used
    await asyncio.sleep(side.plan.settle)
    return {
        "seconds": (counted.last_first or began) - began,
        "cpu": used,
        "kib": (rss_kib() - memory) / (len(ids) - 1),
        "stalls": stalls.told(),
    }


async def _until_seen(side: Side, number: int, ask: Ask) -> Counted:
    end = time.monotonic() + PATIENCE
    while (counted := await ask()).seen < number:
        if time.monotonic() > end:
            raise SystemExit(f"{counted.seen} of {number} have looked after {PATIENCE:.0f} s; {side.failed[:1]}")
        await asyncio.sleep(0.5)
    return counted


async def _rested(plan: Plan, ask: Ask) -> dict[str, Any]:
    before, used, began = await ask(), cpu(), time.monotonic()
    await asyncio.sleep(plan.rest)
    seconds, used = time.monotonic() - began, cpu() - used
    calls = (await ask()).since(before)
    return {"calls": {name: n * 60 / seconds for name, n in calls.items()}, "cpu": used * 60 / seconds}


async def _changed(side: Side, ids: Sequence[str], ask: Ask) -> dict[str, Any]:
    plan, chance = side.plan, random.Random(1)  # noqa: S311  (the same moments for both sides)
    began = time.monotonic() + 0.5
    chosen = chance.sample(list(ids), min(plan.changes, len(ids)))
    moments = {id: began + chance.uniform(0, plan.spread) for id in chosen}
    async with Stalls() as stalls:
        await ask(end=moments)
        await side.until(chosen, plan.spread + 3 * plan.interval + 20)
    return {"latencies": latencies(moments, side.ended), "changes": len(chosen), "stalls": stalls.told()}


async def _ended(side: Side, ids: Sequence[str], ask: Ask) -> dict[str, Any]:
    left = [id for id in ids if id not in side.ended]
    before, used, moment = await ask(), cpu(), time.monotonic() + 0.5
    async with Stalls() as stalls:
        await ask(end=dict.fromkeys(left, moment))
        await side.until(left, 3 * side.plan.interval + 60)
    told = latencies(dict.fromkeys(left, moment), side.ended)
    return {
        "waits": len(left),
        "told": len(told),
        "last": told[-1] if told else None,
        "cpu": cpu() - used,
        "calls": (await ask()).since(before),
        "stalls": stalls.told(),
    }


# --- the triggers, as their operators make them


def _ours(plan: Plan, id: str) -> Any:
    from airflow_transient.triggers.launch import LaunchTrigger
    from benchmarks.launches import launch

    trigger = LaunchTrigger(launch(plan.kind, id).to_dict(), poll_interval=plan.interval)
    trigger.trigger_id = 1  # it is in a triggerer
    return trigger


def _stock_ecs(plan: Plan, id: str) -> Any:
    from airflow.providers.amazon.aws.triggers.ecs import TaskDoneTrigger

    arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/default/{id}"
    return TaskDoneTrigger("default", arn, int(plan.interval), 1_000_000, "aws_default", REGION)


def _stock_ec2(plan: Plan, id: str) -> Any:
    from airflow.providers.amazon.aws.triggers.ec2 import EC2StateSensorTrigger

    return EC2StateSensorTrigger(id, "terminated", "aws_default", REGION, int(plan.interval))


TRIGGERS: dict[tuple[str, str], Callable[[Plan, str], Any]] = {
    ("ours", "ecs"): _ours,
    ("ours", "ec2"): _ours,
    ("stock", "ecs"): _stock_ecs,
    ("stock", "ec2"): _stock_ec2,
}


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    plan = Plan(**json.loads(sys.argv[1]))
    logging.disable(logging.INFO)  # the stock's trigger logs at each look: that is not counted against it
    record = asyncio.run(measured(plan))
    print(json.dumps({**record, "versions": versions()}), flush=True)


if __name__ == "__main__":
    main()
