"""Asking no faster than AWS's documented token buckets refill, so that AWS does not have to refuse.

Airflow's tasks are processes of their own, so this paces one burst; across processes AWS refuses, and is asked again
with the same token after a pause of random length.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limit:
    """So many at once, and so many a second after that."""

    burst: int
    per_second: float

    def floor_seconds(self, count: int) -> float:
        """The least time that `count` of them take."""
        return max(0, count - self.burst) / self.per_second


#: Per account and region. Amazon ECS API reference, "request throttling"; developer guide, "Fargate throttling quotas".
LIMITS: dict[str, Limit] = {
    "changes of a cluster": Limit(100, 40),
    "looks at a cluster": Limit(100, 20),
    "tags in ECS": Limit(20, 10),
    "Fargate RunTask calls": Limit(20, 20),
    "Fargate tasks": Limit(100, 20),
}


class Bucket:
    """A token bucket that many threads take from. A taker reserves, then sleeps its own debt off, first come first."""

    def __init__(
        self,
        limit: Limit,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.limit = limit
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._tokens = float(limit.burst)
        self._seen = clock()

    def take(self, count: int = 1) -> None:
        """Wait until so many may go."""
        with self._lock:
            self._refill()
            self._tokens -= count
            debt = -self._tokens
        if debt > 0:
            self._sleep(debt / self.limit.per_second)

    def drain(self) -> None:
        """AWS has refused: somebody else takes from the same bucket, and it is empty."""
        with self._lock:
            self._refill()
            self._tokens = min(self._tokens, 0.0)

    def _refill(self) -> None:
        now = self._clock()
        grown = self._tokens + (now - self._seen) * self.limit.per_second
        self._tokens, self._seen = min(float(self.limit.burst), grown), now


_buckets: dict[tuple[str, ...], Bucket] = {}
_making = threading.Lock()


def bucket(client: Any, name: str) -> Bucket:
    """The process's bucket of one limit, for whatever this client talks to."""
    key = (client.meta.region_name, client.meta.endpoint_url, name)
    with _making:
        return _buckets.setdefault(key, Bucket(LIMITS[name]))
