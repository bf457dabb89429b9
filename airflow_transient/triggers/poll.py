"""One poll for all the waits of a process: a wait is a future, a tick is one look at everything that is due.

Law: whatever becomes of a look, nobody's wait ends by it. Only an answer is news.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, Generic, Protocol, TypeVar

from airflow_transient.core.cadence import CADENCES, QUICK, SLOW, Looked, Pace, Pause

log = logging.getLogger(__name__)

#: First looks are at least so many seconds apart; a wait that comes alone has it after so few.
COALESCE, SETTLE = 0.25, 0.05
#: AWS may tell of a change before it shows it: who was woken and sees nothing new looks again after so many seconds.
AGAIN = (1.0, QUICK)
#: So many waits are told their news before the loop may turn to somebody else: some milliseconds' work.
AT_A_TURN = 50
#: For looks of no poll. asyncio's own pool has six threads on two cores for everybody: a few slow answers stop it.
LOOKS = ThreadPoolExecutor(16, thread_name_prefix="airflow-transient-look")


class Item(Protocol):
    """What is looked at. `pause`: till its next look, as the last one left it."""

    @property
    def pause(self) -> Pause: ...


I = TypeVar("I", bound=Item)  # noqa: E741  (an item; nobody takes it for a number here)
A = TypeVar("A")

#: One look, in a thread: an answer for each item, None where there is nothing new.
Look = Callable[[Sequence[I], datetime], "Looked[A | None]"]


class Wait(Generic[I, A]):
    """One item that is waited for."""

    __slots__ = ("_again", "_came", "_news", "due", "item")

    def __init__(self, item: I, due: float) -> None:
        self.item, self.due = item, due
        self._again: tuple[float, ...] = ()
        self._news: deque[A] = deque()
        self._came: asyncio.Future[None] | None = None

    async def news(self) -> A:
        """What the looks have found that is new, one by one."""
        while not self._news:
            self._came = asyncio.get_running_loop().create_future()
            await self._came
        return self._news.popleft()

    def wake(self, due: float) -> None:
        self.due, self._again = min(self.due, due), AGAIN

    def pause(self, news: A | None) -> Pause:
        """Till the next look, after one that found this."""
        pause = self.item.pause
        if news is not None or not self._again:
            self._again = ()
            return pause
        soon, self._again = self._again[0], self._again[1:]
        return Pause(min(soon, pause.seconds), pause.end)

    def tell(self, news: A) -> None:
        self._news.append(news)
        if self._came is not None and not self._came.done():
            self._came.set_result(None)


class Poll(Generic[I, A]):
    """
    All the waits of one loop at one place of AWS. Looks are taken one at a time, in a thread of the poll's own: a place
    that does not answer keeps no other waiting.
    """

    def __init__(self, look: Look[I, A], pool: Executor | None = None) -> None:
        self._look = look
        self._pool = pool or ThreadPoolExecutor(1, thread_name_prefix="airflow-transient-look")
        self._waits: dict[Wait[I, A], None] = {}
        self._earlier = asyncio.Event()
        self._until, self._first = 0.0, -math.inf
        self._task: asyncio.Task[None] | None = None
        self._pace = Pace(offset=_offset())

    def __len__(self) -> int:
        return len(self._waits)

    @contextmanager
    def joined(self, item: I) -> Iterator[Wait[I, A]]:
        """Wait for this item: its first look is at once."""
        wait: Wait[I, A] = Wait(item, self._soon())
        self._waits[wait] = None
        self._hurry(wait.due)
        self._begin()
        try:
            yield wait
        finally:
            del self._waits[wait]

    def wake(self, waits: Iterable[Wait[I, A]]) -> int:
        """Look at these now, whatever their interval, and soon again where nothing new is seen. How many still wait."""
        woken = [wait for wait in waits if wait in self._waits]
        if woken:
            soon = self._soon()
            for wait in woken:
                wait.wake(soon)
            self._hurry(soon)
        return len(woken)

    def _soon(self) -> float:
        """When all that is to be looked at now is looked at."""
        if self._first <= (now := _time()):
            self._first = max(now + SETTLE, self._first + COALESCE * self._pace.stretch)
        return self._first

    def _hurry(self, due: float) -> None:
        if due < self._until:
            self._earlier.set()

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            # An empty context: what is logged here belongs to no trigger, and would land in the first one's log.
            self._task = contextvars.Context().run(asyncio.get_running_loop().create_task, self._run())

    async def _run(self) -> None:
        while self._waits:
            try:
                await self._until_due()
                await self._tick()
            except Exception:  # a mistake of ours: whoever waits goes on waiting
                log.exception("a poll of %d waits stumbled; going on", len(self))
                await asyncio.sleep(1)

    async def _until_due(self) -> None:
        """Till the first is due, or somebody comes who is due before."""
        while (pause := min((wait.due for wait in self._waits), default=0.0) - _time()) > 0:
            self._until = _time() + pause
            self._earlier.clear()
            try:
                await asyncio.wait_for(self._earlier.wait(), pause)
            except asyncio.TimeoutError:
                return

    async def _tick(self) -> None:
        began = _time()
        due = [wait for wait in self._waits if wait.due <= began]
        if not due:
            return
        for wait in due:
            wait.due = math.inf  # till this look is over; what is woken meanwhile has a due time again
        try:
            looked = await self._looked([wait.item for wait in due])
            struggled = looked is None or looked.slow or _time() - began > SLOW
            self._pace = self._pace.after(struggled, _offset())
            await self._tell(due, looked)
        finally:
            for wait in due:
                if wait.due == math.inf:
                    wait.due = _time() + 1

    async def _tell(self, due: Sequence[Wait[I, A]], looked: Looked[A | None] | None) -> None:
        for place, wait in enumerate(due):
            news = looked.answers[place] if looked else None
            if news is not None:
                wait.tell(news)
            if wait.due == math.inf:  # else it was woken meanwhile
                wait.due = self._next(wait, news)
            if place % AT_A_TURN == AT_A_TURN - 1:
                await asyncio.sleep(0)

    def _next(self, wait: Wait[I, A], news: A | None) -> float:
        try:
            return self._pace.next(_time(), wait.pause(news))
        except Exception:  # one wait with a strange interval keeps nobody's news back
            log.exception("when to look next could not be reckoned")
            return _time() + 1

    async def _looked(self, items: Sequence[I]) -> Looked[A | None] | None:
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._look, items, datetime.now(timezone.utc))
        except Exception:  # whatever it was
            log.exception("a look at %d waits failed; looking again", len(items))
            return None


def _time() -> float:
    return time.monotonic()


def _offset() -> float:
    return random.uniform(0, CADENCES[-1])  # noqa: S311  (spreads calls, hides nothing)


#: Each inline trigger of `airflow dags test` has a loop of its own; so what is shared goes with its loop.
_of_loops: dict[asyncio.AbstractEventLoop, dict[Hashable, Any]] = {}
T = TypeVar("T")


def of_this_loop(key: Hashable, make: Callable[[], T]) -> T:
    """What all waits of the running loop share under this key; the first who asks makes it."""
    for over in [loop for loop in tuple(_of_loops) if loop.is_closed()]:
        _of_loops.pop(over, None)
    shared: dict[Hashable, T] = _of_loops.setdefault(asyncio.get_running_loop(), {})
    if key not in shared:
        shared[key] = make()
    return shared[key]
