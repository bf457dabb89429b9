"""What a process measures of itself: CPU seconds, memory, and how long its event loop stands still."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
#: Seconds between two looks at the loop. What they cost is in the CPU seconds of a start and of an end, for both sides,
#: and not in those of the rest, where nobody looks.
BEAT = 0.005
LONG, VERY_LONG = 0.05, 0.2


def cpu() -> float:
    """Of this process, all threads."""
    return time.process_time()


def kept_waiting() -> float:
    """Seconds in which this thread could have run and another program had the processor; 0 where Linux counts none."""
    try:
        said = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return int(said.split()[1]) / 1e9


def rss_kib() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * PAGE_KIB


class Stall(NamedTuple):
    """`began` and `ended` a beat that was late by so many `seconds`, without those of other programs."""

    began: float
    ended: float
    seconds: float


class Stalls:
    """
    For the length of a block: every beat that the loop was late with, and whether Python collected its garbage.

    What blocks counts as what computes. Only the time does not in which another program had the processor.
    """

    def __init__(self) -> None:
        self._late: list[Stall] = []
        self._collections: list[tuple[float, float]] = []
        self._collecting = 0.0

    async def __aenter__(self) -> Stalls:
        self._task = asyncio.get_running_loop().create_task(self._beat())
        gc.callbacks.append(self._collected)
        return self

    async def __aexit__(self, *_: object) -> None:
        gc.callbacks.remove(self._collected)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _beat(self) -> None:
        while True:
            began, waited = time.perf_counter(), kept_waiting()
            await asyncio.sleep(BEAT)
            ended = time.perf_counter()
            if ended - began - BEAT > LONG and (seconds := ended - began - BEAT - (kept_waiting() - waited)) > LONG:
                self._late.append(Stall(began, ended, seconds))

    def _collected(self, phase: str, info: Any) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._collecting = now
        elif now - self._collecting > LONG / 5:
            self._collections.append((self._collecting, now))

    def told(self) -> dict[str, float]:
        garbage = [stall for stall in self._late if self._is_garbage(stall)]
        return {
            "max": max((stall.seconds for stall in self._late), default=0.0),
            "long": len(self._late),
            "very_long": sum(stall.seconds > VERY_LONG for stall in self._late),
            "garbage": len(garbage),
            "max_without_garbage": max((stall.seconds for stall in self._late if stall not in garbage), default=0.0),
        }

    def _is_garbage(self, stall: Stall) -> bool:
        """Whether it would be no long one without the collections in it."""
        inside = sum(max(0.0, min(end, stall.ended) - max(start, stall.began)) for start, end in self._collections)
        return stall.seconds - inside <= LONG


def latencies(changed: dict[str, float], told: dict[str, float]) -> Sequence[float]:
    """Seconds from change to event, in order; what was never told is missing."""
    return sorted(told[id] - moment for id, moment in changed.items() if id in told)
