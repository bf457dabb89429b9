"""How the page asks AWS and Airflow: by which connection, where, how long, and never twice within five seconds.

Two caches, because what is put together waits for what is asked: were they one, its threads could all be waiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar

from airflow_transient.aws.listing import NEEDED
from airflow_transient.errors import AccessError, TransientError
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.plugin.cache import Cache, Entry

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

#: What AWS and Airflow are asked, and what is put together of that.
CALLS, PAGES = Cache(threads=8), Cache(threads=4)


@dataclass
class Patience:
    """
    In seconds. `part`: for what a page is made of, which is in the next one if it comes later; `page`: for a page, of
    which some parts are asked after others; `stop`: hundreds of ECS tasks are stopped one by one.
    """

    part: float = 4.0
    page: float = 8.0
    stop: float = 25.0


PATIENCE = Patience()
#: One call's own limits: a person waits.
LIMITS = {"connect_timeout": 3, "read_timeout": 8, "retries": {"mode": "standard", "total_max_attempts": 1}}
#: Seconds after which a connection's clients are made anew: it may have been changed.
CLIENT_LIFE = 300.0


def utcnow() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Source:
    """
    Somebody who was asked, and what is to be said about that.

    :param place: it names a connection, a region or a cluster: not for everybody.
    """

    name: str
    error: str | None = None
    note: str | None = None
    place: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.error is None, "error": self.error, "note": self.note}


class HastyHook(TransientHook):
    """A hook whose clients give up early, and ask once."""

    def client(self, service: str, region_name: str | None = None, **config: Any) -> Any:
        return super().client(service, region_name, **{**LIMITS, **config})


class Hooks:
    """One hook a connection, kept for a while: making a client takes longer than a call."""

    def __init__(self, life: float = CLIENT_LIFE, clock: Callable[[], float] = time.monotonic) -> None:
        self._life, self._clock = life, clock
        self._lock = threading.Lock()
        self._made: dict[str | None, tuple[float, HastyHook]] = {}

    def of(self, connection: str | None) -> HastyHook:
        with self._lock:
            made, hook = self._made.get(connection, (float("-inf"), HastyHook(connection)))
            if self._clock() - made > self._life:
                made, hook = self._clock(), HastyHook(connection)
            self._made[connection] = made, hook
            return hook

    def drop(self, connection: str | None) -> None:
        """Its credentials were refused: perhaps they are others by now."""
        with self._lock:
            self._made.pop(connection, None)


HOOKS = Hooks()


def sentence(error: BaseException, needed: str = NEEDED) -> str:
    """
    For a person who looks at a page; what we did not raise on purpose is for the server's log.

    :param needed: which permissions to name where one is missing.
    """
    if isinstance(error, AccessError):
        return f"{error}. {needed}"
    if isinstance(error, TransientError):
        return str(error)
    return f"{type(error).__name__}: the API server's log says more"


def each(
    questions: Mapping[K, Callable[[], T]], patience: float | None = None, max_age: float | None = None
) -> dict[K, Entry[T]]:
    """The answers to all of them, asked at once; the key is the cache's."""
    until = time.monotonic() + (PATIENCE.part if patience is None else patience)
    asked = {key: CALLS.ask(key, read, max_age) for key, read in questions.items()}
    return {key: CALLS.outcome(key, future, max(0.0, until - time.monotonic())) for key, future in asked.items()}
