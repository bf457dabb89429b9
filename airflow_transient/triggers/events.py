"""State changes that AWS tells of on a queue wake the waits they concern.

Law: an event ends nothing, and whatever becomes of events, a wait is looked at by its interval as without them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_transient.core.events import Change, EventError, Fate, Standing, Whose, fate, read, whose
from airflow_transient.core.launch import Launch
from airflow_transient.errors import TransientError
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.hooks.events import settings
from airflow_transient.triggers.poll import Poll, Wait

if TYPE_CHECKING:
    from airflow_transient.aws.inbox import Inbox, Message

log = logging.getLogger(__name__)

#: Seconds that one question to a queue waits for an answer; the longest that SQS knows.
LONG = 20
#: Seconds, on average, in which another triggerer may take what was given back and has come to us again. Not after the
#: first time: the other one mostly waits already, and who stays away each time finds more at once (docs/events.md).
GIVE_WAY = 0.2
#: So many messages that were given back are known again.
GIVEN_BACK = 1000
#: Seconds between questions to a queue that cannot be read: doubled each time, up to so many.
LONGEST_PAUSE = 300.0
ADVICE = "`airflow transient events show` tells what is there, `airflow transient events setup` makes it"
#: Seconds for which the events of what has ended here are still known to be ours.
REMEMBERED = 120.0


class Waker(NamedTuple):
    """One wait: its loop, its poll, itself."""

    loop: asyncio.AbstractEventLoop
    poll: Poll[Any, Any]
    wait: Wait[Any, Any]


class Waits:
    """Everybody in this process who waits for a launch, by whose state changes concern them. For any thread."""

    def __init__(self) -> None:
        self.nobody = threading.Event()
        self.nobody.set()
        self._lock = threading.Lock()
        self._wakers: dict[Whose, list[Waker]] = {}
        self._loops: Counter[asyncio.AbstractEventLoop] = Counter()
        self._ended: dict[Whose, float] = {}

    def __bool__(self) -> bool:
        with self._lock:
            return not all(loop.is_closed() for loop in self._loops)

    def add(self, launch: Launch, waker: Waker) -> None:
        with self._lock:
            for one in whose(launch):
                self._wakers.setdefault(one, []).append(waker)
            self._loops[waker.loop] += 1
            self.nobody.clear()

    def remove(self, launch: Launch, waker: Waker) -> None:
        with self._lock:
            for one in whose(launch):
                left = [other for other in self._wakers.pop(one) if other is not waker]
                if left:
                    self._wakers[one] = left
            self._loops -= Counter([waker.loop])
            if not self._loops:
                self.nobody.set()

    def ended(self, members: Iterable[Whose]) -> None:
        """Nobody else waits for these, wherever their last events will arrive."""
        now = time.monotonic()
        with self._lock:
            for one, at in tuple(self._ended.items()):  # the oldest come first
                if now - at < REMEMBERED:
                    break
                del self._ended[one]
            self._ended |= dict.fromkeys(members, now)

    def of(self, change: Change) -> tuple[Standing, Sequence[Waker]]:
        with self._lock:
            if wakers := self._wakers.get(change.whose):
                return Standing.WAITS, tuple(wakers)
            return (Standing.ENDED if change.whose in self._ended else Standing.UNKNOWN), ()


def wake(wakers: Iterable[Waker]) -> None:
    """From any thread; one call to each poll."""
    waits: dict[tuple[asyncio.AbstractEventLoop, Poll[Any, Any]], list[Wait[Any, Any]]] = {}
    for loop, poll, wait in wakers:
        waits.setdefault((loop, poll), []).append(wait)
    for (loop, poll), concerned in waits.items():
        with suppress(RuntimeError):  # that loop is closed, and its waits are over
            loop.call_soon_threadsafe(poll.wake, concerned)


class Listener:
    """
    One thread that reads one queue while anybody waits in this process; else it would take what others wait for.

    What it asked last may take `LONG` seconds to be answered after the last wait has gone; that goes to the others.

    :param connect: makes the inbox, in the thread; again after a failure.
    """

    def __init__(self, queue: str, connect: Callable[[], Inbox], waits: Waits) -> None:
        self._queue, self._connect, self._waits = queue, connect, waits
        self._inbox: Inbox | None = None
        self._failures = 0
        self._given_back: deque[str] = deque(maxlen=GIVEN_BACK)
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="airflow-transient-events", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self._goes_on():
            self._waits.nobody.wait(self._turn())

    def _goes_on(self) -> bool:
        with self._lock:  # who comes after this answer begins another thread
            if not self._waits:
                self._thread = None
            return self._thread is not None

    def _turn(self) -> float:
        """Hear what there is; how many seconds to stay away then."""
        try:
            self._inbox = self._inbox or self._connect()
            messages = self._inbox.receive(LONG)
            again = self._heard(self._inbox, messages)
        except Exception as error:  # whatever it is, waits have their intervals
            return self._failed(error)
        if self._failures:
            log.info("events arrive on %s again", self._queue)
            self._failures = 0
        return GIVE_WAY * random.uniform(0.5, 1.5) if again else 0.0  # noqa: S311  (spreads, hides nothing)

    def _heard(self, inbox: Inbox, messages: Sequence[Message]) -> bool:
        """Whether some were given back that had been before."""
        told = [(message, *self._fate(message)) for message in messages]
        wake(dict.fromkeys(waker for _, _, wakers in told for waker in wakers))
        inbox.delete([message for message, what, _ in told if what is not Fate.RELEASE])
        inbox.release(others := [message for message, what, _ in told if what is Fate.RELEASE])
        again = any(message.id in self._given_back for message in others)
        self._given_back.extend(message.id for message in others)
        return again

    def _fate(self, message: Message) -> tuple[Fate, Sequence[Waker]]:
        try:
            change = read(message.body)
        except EventError as error:
            self._say_once("a message on %s was deleted: %s. Does something else send there?", self._queue, error)
            return fate(None, Standing.UNKNOWN, message.receives), ()
        standing, wakers = self._waits.of(change)
        what = fate(change, standing, message.receives)
        log.debug("%s %s: %s", change.member, change.state, what.value)
        return what, wakers if what is Fate.WAKE else ()

    def _failed(self, error: Exception) -> float:
        """Said once, until events arrive again."""
        self._inbox = None
        self._failures += 1
        if self._failures == 1:
            words = str(error) if isinstance(error, TransientError) else f"{type(error).__name__}: {error}"
            log.warning("[transient] events_queue: no events for now, only looks at intervals: %s; %s", words, ADVICE)
        return min(LONGEST_PAUSE, 2.0**self._failures) * random.uniform(0.5, 1.0)  # noqa: S311  (as above)

    def _say_once(self, words: str, *args: object) -> None:
        if words not in self._said:
            self._said.add(words)
            log.warning(words, *args)


class Listened:
    """A launch that is listened for."""

    def __init__(self, waits: Waits, launch: Launch) -> None:
        self._waits, self._launch = waits, launch

    def ended(self, members: Iterable[str]) -> None:
        """These are over; of the others somebody else may have to hear yet."""
        self._waits.ended((self._launch.kind, self._launch.region, member) for member in members)


WAITS = Waits()
_listeners: dict[tuple[str, str], Listener] = {}
_making = threading.Lock()


@contextmanager
def listening(launch: Launch, poll: Poll[Any, Any], wait: Wait[Any, Any]) -> Iterator[Listened]:
    """In here, an event about this launch wakes this wait. Without `[transient] events_queue` there are none."""
    wanted = settings()
    if not wanted.queues:
        yield Listened(Waits(), launch)
        return
    waker = Waker(asyncio.get_running_loop(), poll, wait)
    WAITS.add(launch, waker)
    try:
        for queue in wanted.queues:
            with suppress(RuntimeError):  # no more threads in this process: no events, then
                _listener(queue, wanted.aws_conn_id).begin()
        yield Listened(WAITS, launch)
    finally:
        WAITS.remove(launch, waker)


def _listener(queue: str, aws_conn_id: str) -> Listener:
    with _making:
        key = queue, aws_conn_id
        if key not in _listeners:
            _listeners[key] = Listener(queue, lambda: _inbox(queue, aws_conn_id), WAITS)
        return _listeners[key]


def _inbox(queue: str, aws_conn_id: str) -> Inbox:
    from airflow_transient.aws.inbox import Inbox

    return Inbox(TransientHook(aws_conn_id).client, queue)
