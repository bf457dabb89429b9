"""What was read a moment ago is not read again, and what many ask for at once is read once.

So the number of open browsers does not change what AWS and the database are asked. Bounded in every way: threads, how
many things wait for one, how many are kept. An error is an answer too, and kept as long.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from airflow_transient.errors import TransientError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds for which an answer is good.
TTL = 5.0
#: Seconds for which an old answer is better than none, where a new one does not come.
STALE = 120.0
#: Seconds for which a new one is waited for then.
HURRY = 1.0


class StillAsking(TransientError):
    """There is no answer yet; it is still being asked for, so that the next one who asks may get it."""


class TooMuchAtOnce(TransientError):
    """So many questions wait for an answer that this one was not asked."""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """An answer, or an error that was one, and when it came (`clock`, in seconds)."""

    at: float
    value: T | None = None
    error: BaseException | None = None

    def get(self) -> T:
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # None is what was read, then


class Cache:
    """
    Answers by key.

    :param threads: so many are asked for at once.
    :param most: so many are kept, and so many wait for a thread at most.
    :param expected: errors that are as good as an answer; of others the log has more than is told.
    :param clock: in seconds, monotonic.
    """

    def __init__(
        self,
        threads: int,
        ttl: float = TTL,
        stale: float = STALE,
        most: int = 500,
        expected: tuple[type[Exception], ...] = (TransientError,),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ttl, self.stale, self.most, self.clock = ttl, stale, most, clock
        self._expected = expected
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Entry[Any]] = OrderedDict()
        self._asked: dict[Hashable, Future[Entry[Any]]] = {}
        self._floor = float("-inf")
        # Its threads start at the first question: a server that forks after importing this loses none.
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="transient-page")

    def ask(self, key: Hashable, read: Callable[[], T], max_age: float | None = None) -> Future[Entry[T]]:
        """
        The answer that is kept, if it is young enough; else that of the one reading that is under way.

        :param max_age: in seconds, instead of the cache's own; 0: none that is kept, but a reading under way will do.
        """
        with self._lock:
            entry = self._kept.get(key)
            if entry and self.clock() - entry.at < (self.ttl if max_age is None else max_age):
                return _done(entry)
            if key in self._asked:
                return self._asked[key]
            if len(self._asked) >= self.most:
                return _done(Entry(self.clock(), error=TooMuchAtOnce("too much is being asked at once: try again")))
            future: Future[Entry[T]] = self._threads.submit(self._read, key, read)
            self._asked[key] = future
        # Outside of the lock: what is done already calls back at once, in this thread.
        future.add_done_callback(lambda done: self._answered(key, done))
        return future

    def get(self, key: Hashable, read: Callable[[], T], patience: float, max_age: float | None = None) -> Entry[T]:
        """
        For a thread that can wait.

        :param patience: seconds; less where there is an old answer, which is given then; else one of StillAsking is.
        """
        return self.outcome(key, self.ask(key, read, max_age), patience)

    def outcome(self, key: Hashable, asked: Future[Entry[T]], patience: float) -> Entry[T]:
        """The same of what was asked for before."""
        done, _ = wait([asked], self._patience(key, patience))
        return asked.result() if done else self._old(key, patience)

    async def wait(
        self, key: Hashable, read: Callable[[], T], patience: float, max_age: float | None = None
    ) -> Entry[T]:
        """The same without a thread that waits. Who gives up, or leaves, ends no reading."""
        future = asyncio.wrap_future(self.ask(key, read, max_age))
        done, _ = await asyncio.wait([future], timeout=self._patience(key, patience))
        return future.result() if done else self._old(key, patience)

    def forget(self, *keys: Hashable) -> None:
        """Something has changed: whoever asks next is not told what was before. No keys: all has."""
        with self._lock:
            # What is being read now may have been read before the change: nobody who asks from here on gets it.
            self._floor = self.clock()
            for key in keys or [*self._kept, *self._asked]:
                self._kept.pop(key, None)
                self._asked.pop(key, None)

    def age(self, entry: Entry[Any]) -> float:
        return max(0.0, self.clock() - entry.at)

    def _patience(self, key: Hashable, patience: float) -> float:
        return min(patience, HURRY) if self._old(key, patience).error is None else patience

    def _old(self, key: Hashable, patience: float) -> Entry[Any]:
        with self._lock:
            entry = self._kept.get(key)
        if entry and entry.error is None and self.age(entry) < self.stale:
            return entry
        return Entry(self.clock(), error=StillAsking(f"no answer for {patience:g} s; it is still being asked for"))

    def _read(self, key: Hashable, read: Callable[[], T]) -> Entry[T]:
        at = self.clock()  # what is read is as old as the question, or older
        try:
            entry: Entry[T] = Entry(at, value=read())
        except Exception as error:  # whoever asked raises it, or says it
            if not isinstance(error, self._expected):
                log.exception("could not read %s", key)
            entry = Entry(at, error=error)
        with self._lock:
            if at >= self._floor:
                self._kept[key] = entry
                self._kept.move_to_end(key)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return entry

    def _answered(self, key: Hashable, future: Future[Any]) -> None:
        with self._lock:
            if self._asked.get(key) is future:
                del self._asked[key]


def _done(entry: Entry[T]) -> Future[Entry[T]]:
    future: Future[Entry[T]] = Future()
    future.set_result(entry)
    return future
