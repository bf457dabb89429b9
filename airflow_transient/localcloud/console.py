"""A machine's serial console: what the guest printed, of which only the end is kept, as on EC2."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right

# GetConsoleOutput answers with the last 64 KiB.
SHOWN = 64 * 1024
# Times are kept no finer than this, so that a guest that prints for ever does not fill memory with them.
TICK = 0.02


class Console:
    """Bounded in memory: a guest that prints for ever costs its host `4 * SHOWN` at most, and no disk."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._dropped = 0
        self._times: list[float] = []  # when, and how much had been written by then
        self._totals: list[int] = []
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            self._text += data
            if len(self._text) > 4 * SHOWN:
                self._dropped += len(self._text) - 2 * SHOWN
                del self._text[: -2 * SHOWN]
            self._note(time.monotonic())

    def read(self) -> bytes:
        with self._lock:
            return bytes(self._text)

    def _note(self, now: float) -> None:
        if len(self._times) > 1 and now - self._times[-2] < TICK:
            self._times.pop()
            self._totals.pop()
        gone = bisect_left(self._totals, self._dropped)
        del self._times[:gone], self._totals[:gone]
        self._times.append(now)
        self._totals.append(self._dropped + len(self._text))

    def last(self, age: float = 0.0) -> bytes:
        """What GetConsoleOutput shows; of what is at least that many seconds old."""
        with self._lock:
            known = bisect_right(self._times, time.monotonic() - age)
            total = self._totals[known - 1] if known else 0
            return bytes(self._text[: max(0, total - self._dropped)])[-SHOWN:]
