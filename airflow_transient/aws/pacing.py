"""Asking no faster than AWS's documented token buckets refill, so that AWS does not have to refuse.

Airflow's tasks are processes of their own, so this paces one burst; across processes AWS refuses, and is asked again
with the same token after a pause of random length.
"""

from __future__ import annotations

import base64
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from airflow_transient.core.fallback import Scope
from airflow_transient.errors import SpecError

#: The part of a burst that is kept back: half a second's refill of Fargate's, so much may calls differ on their way.
SLACK = 0.1


@dataclass(frozen=True)
class Limit:
    """So many at once, and so many a second after that."""

    burst: int
    per_second: float

    def floor_seconds(self, count: int) -> float:
        """The least time that `count` of them take."""
        return max(0, count - self.burst) / self.per_second

    def with_slack(self) -> Limit:
        """
        A little less at once. AWS counts when a call arrives: where the first was longer on its way than the next ones,
        its bucket began to refill later than ours (seen on the local cloud: one of thirty calls refused).
        """
        return Limit(max(1, int(self.burst * (1 - SLACK))), self.per_second)


#: Per account and region. Amazon ECS API reference, "request throttling"; developer guide, "Fargate throttling quotas";
#: EC2 developer guide, "request throttling"; CloudWatch Logs quotas, the smaller regions' figure.
LIMITS: dict[str, Limit] = {
    "changes of a cluster": Limit(100, 40),
    "looks at a cluster": Limit(100, 20),
    "tags in ECS": Limit(20, 10),
    "Fargate RunTask calls": Limit(20, 20),
    "Fargate tasks": Limit(100, 20),
    "looks at EC2": Limit(100, 20),
    "launches in EC2": Limit(5, 2),
    "instances launched": Limit(1000, 2),
    "terminations in EC2": Limit(100, 5),
    "instances terminated": Limit(1000, 20),
    "tags in EC2": Limit(100, 10),
    "looks at logs": Limit(10, 10),
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
        # Reentrant: a kill's signal handler (on_kill) may have interrupted the very thread that holds it.
        self._lock = threading.RLock()
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

    def give_back(self, count: int) -> None:
        """AWS has taken none of them."""
        with self._lock:
            self._tokens += count

    def _refill(self) -> None:
        now = self._clock()
        grown = self._tokens + (now - self._seen) * self.limit.per_second
        self._tokens, self._seen = min(float(self.limit.burst), grown), now


def read_limits(words: str | None) -> dict[str, Limit]:
    """`[transient] limits`, such as {"Fargate tasks": [200, 50]}: so many at once, so many a second. SpecError."""
    try:
        said = json.loads(words) if words and words.strip() else {}
    except ValueError as error:
        raise SpecError(f"[transient] limits is no JSON ({error}): the documented ones hold") from None
    if not isinstance(said, dict):
        raise SpecError(f"[transient] limits is {said!r}, and no JSON object: the documented ones hold")
    return {name: _limit(name, pair) for name, pair in said.items()}


def _limit(name: str, pair: Any) -> Limit:
    if name not in LIMITS:
        raise SpecError(f"[transient] limits: there is no {name!r}; there are {', '.join(LIMITS)}")
    whole = isinstance(pair, list) and len(pair) == 2 and all(type(each) in (int, float) for each in pair)
    if not whole or not (1 <= pair[0] < math.inf and 0 < pair[1] < math.inf):
        raise SpecError(f"[transient] limits: {name!r} is {pair!r}: say [at once, a second], such as [100, 20]")
    return Limit(int(pair[0]), float(pair[1]))


_buckets: dict[tuple[str, ...], Bucket] = {}
_configured: dict[str, Limit] = {}
_making = threading.RLock()  # as a bucket's own


def configure(limits: Mapping[str, Limit]) -> None:
    """For the buckets of this process that are not yet made."""
    _configured.clear()
    _configured.update(limits)


def bucket(client: Any, name: str) -> Bucket:
    """The process's bucket of one limit, for whatever this client talks to."""
    meta = getattr(client, "meta", None)
    key = (account_of(_access_key(client)), getattr(meta, "region_name", ""), getattr(meta, "endpoint_url", ""), name)
    with _making:
        return _buckets.setdefault(key, Bucket(_configured.get(name, LIMITS[name]).with_slack()))


def _access_key(client: Any) -> str:
    """botocore shows a client's credentials nowhere else; without them one bucket serves for all."""
    credentials = getattr(getattr(client, "_request_signer", None), "_credentials", None)
    # Not `access_key`: of credentials that are to be refreshed, that asks AWS.
    return str(getattr(credentials, "_access_key", None) or getattr(credentials, "access_key", None) or "")


def account_of(access_key: str) -> str:
    """
    Whom the calls of this key are counted for.

    A key id that AWS made since 2019 holds its account's number, in 40 bits of its base32 from the second on. That is
    nowhere promised: what does not read like one is an account by itself.
    """
    if len(access_key) < 16:
        return access_key
    try:
        return f"{int.from_bytes(base64.b32decode(access_key[4:])[:6], 'big') >> 7 & (1 << 40) - 1:012d}"
    except ValueError:
        return access_key


@contextmanager
def paced(
    client: Any, name: str, scope_of: Callable[[Exception], Scope], also: Mapping[str, int] | None = None
) -> Iterator[None]:
    """
    One call at its bucket's pace; a refusal of the pace is remembered there, and raised.

    :param also: what else the call takes, and from which bucket: so many instances.
    """
    calls, others = bucket(client, name), [(bucket(client, other), count) for other, count in (also or {}).items()]
    calls.take()
    for other, count in others:
        other.take(count)
    try:
        yield
    except Exception as error:
        scope = scope_of(error)
        if scope is Scope.PACE:  # it does not say of which bucket; that of calls is the smaller one
            calls.drain()
        if scope is not Scope.UNCLEAR:  # nothing was launched, so nothing else was taken
            for other, count in others:
                other.give_back(count)
        raise
