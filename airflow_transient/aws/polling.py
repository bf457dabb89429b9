"""One look at many launches: few calls for all of them, and what their answers mean for each that waits.

It runs in a poll's thread, judging included; what takes its time, a stop, goes elsewhere.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_transient.aws.renewing import Renewal
from airflow_transient.aws.watching import Case, Judged, stop_failed
from airflow_transient.core.cadence import QUICK, Looked, Pause
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import STOP_GRACE, Sighting, Verdict

if TYPE_CHECKING:  # as in watching
    from airflow_transient.aws.launcher import Launcher

log = logging.getLogger(__name__)

#: So long after it was asked for a launch counts as starting: EC2 and ECS take most of a minute.
YOUNG = timedelta(minutes=1)
#: What asks for a stop, and does not wait for it.
Stop = Callable[[Launch, str], "Future[None]"]
#: AWS has accepted a stop and still shows what was stopped: it is told again after so long.
STOP_EVERY = timedelta(seconds=15)
#: Judged before the next are looked at: what lives as long as a look at thousands makes Python collect its garbage in
#: all of the process's memory, half a second in which the event loop stands still.
MEMBERS_AT_ONCE = 400
#: Seconds. Where nobody answers, each part takes as long as a client waits: after so many no further one is begun. What
#: a look does not come to is first at the next, so soon after.
LAUNCHES_LOOK, NEXT = 20.0, Pause(1.0)
#: Seconds that one look at logs takes at most.
LINES_LOOK = 5.0


@dataclass(frozen=True)
class News:
    """What a wait is told: its state in words, where they have changed, and at the end the verdict."""

    words: str
    verdict: Verdict | None = None


class Waited:
    """A launch that somebody waits for, and what its looks have left behind."""

    def __init__(self, launch: Launch, poll_interval: float) -> None:
        self.launch = launch
        self.pause = Pause(poll_interval)
        self.looked_at = 0.0
        self._case = Case(launch)
        self._poll_interval = poll_interval
        self._said: str | None = None
        self._stops: dict[tuple[str, str], tuple[Future[None], datetime]] = {}

    def seen(self, sightings: Sequence[Sighting], now: datetime, stop: Stop) -> News | None:
        judged = self._case.judged(sightings, now)
        failed = [words for why, ids in judged.over.items() if (words := self._stop(why, ids, now, stop))]
        return self._told(judged, "; ".join([judged.words, *failed]), now)

    def not_seen(self, error: Exception, now: datetime) -> News | None:
        judged = self._case.not_seen(error, now)
        return self._told(judged, judged.words, now)

    def _told(self, judged: Judged, words: str, now: datetime) -> News | None:
        self.looked_at, self.pause = now.timestamp(), self._pause(judged, now)
        if words == self._said and judged.verdict is None:
            return None
        self._said = words
        return News(words, judged.verdict)

    def _pause(self, judged: Judged, now: datetime) -> Pause:
        """Quick while something happens or is being stopped, and exact where something of ours is due."""
        stopping = bool(judged.over) and now < self.launch.deadline + STOP_GRACE
        quick = judged.changing or stopping or now < self.launch.asked_at + YOUNG
        due = [moment for moment in (self.launch.boot_by, self.launch.deadline) if moment > now]
        seconds = min(self._poll_interval, QUICK) if quick else self._poll_interval
        return Pause(seconds, (min(due) - now).total_seconds()) if due else Pause(seconds)

    def _stop(self, why: str, members: tuple[str, ...], now: datetime, stop: Stop) -> str | None:
        """Ask for the stop, and again while what was stopped still shows; what went wrong with the last, in words."""
        asked = [self._stops[why, member][0] for member in members if (why, member) in self._stops]
        errors = [error for future in dict.fromkeys(asked) if future.done() and (error := future.exception())]
        if due := tuple(member for member in members if self._is_due(why, member, now)):
            self._stops |= dict.fromkeys([(why, m) for m in due], (stop(self.launch.with_ids(due), why), now))
        return stop_failed(errors[0]) if errors else None

    def _is_due(self, why: str, member: str, now: datetime) -> bool:
        """One by one: of a thousand that are stopped some show it sooner than others."""
        if (why, member) not in self._stops:
            return True
        last, asked = self._stops[why, member]
        return last.done() and (last.exception() is not None or now - asked >= STOP_EVERY)


class LaunchLook:
    """
    The look of a poll of launches at one place.

    :param launcher: gives the place's launcher; called in the thread, where making one may take its time and fail.
    :param renew: lets its clients be made anew.
    :param stop: ends a launch, elsewhere.
    """

    def __init__(self, launcher: Callable[[], Launcher], renew: Callable[[], None], stop: Stop) -> None:
        self._launcher, self._stop = launcher, stop
        self._renewal = Renewal(renew, fresh=True)

    def __call__(self, waits: Sequence[Waited], now: datetime) -> Looked[News | None]:
        told: dict[Waited, News | None] = {}
        slow, until = False, time.monotonic() + LAUNCHES_LOOK
        for part in _parts(sorted(waits, key=lambda wait: wait.looked_at)):
            if time.monotonic() > until:
                put_off(part)
            else:
                look = self._look(part, now)
                told |= zip(part, look.answers, strict=True)
                slow = slow or look.slow
        return Looked([told.get(wait) for wait in waits], slow)

    def _look(self, waits: Sequence[Waited], now: datetime) -> Looked[News | None]:
        try:
            looked = self._launcher().observe_all([wait.launch for wait in waits], now)
        except Exception as error:  # a look has no other answer than "unknown"
            self._renewal.at_times()
            return Looked([_not_seen(wait, error, now) for wait in waits])
        if looked.denied:
            self._renewal.at_times()
        told = [self._judged(wait, seen, now) for wait, seen in zip(waits, looked.answers, strict=True)]
        return Looked(told, looked.slow)

    def _judged(self, wait: Waited, seen: Sequence[Sighting], now: datetime) -> News | None:
        try:
            return wait.seen(seen, now, self._stop)
        except Exception as error:  # one launch that cannot be judged keeps no other from its end
            log.exception("launch %s could not be judged", wait.launch.token)
            return _not_seen(wait, error, now)


def _not_seen(wait: Waited, error: Exception, now: datetime) -> News | None:
    try:
        return wait.not_seen(error, now)
    except Exception:  # such as a deadline without a zone: no news for this one, and its own for each other
        log.exception("launch %s could not be judged", wait.launch.token)
        return None


def put_off(items: Iterable[Waited | Followed]) -> None:
    for item in items:
        item.pause = NEXT


def _parts(waits: Sequence[Waited]) -> Iterator[list[Waited]]:
    part: list[Waited] = []
    members = 0
    for wait in waits:
        members += len(wait.launch.ids)
        if part and members > MEMBERS_AT_ONCE:
            yield part
            part, members = [], len(wait.launch.ids)
        part.append(wait)
    if part:
        yield part


class Followed:
    """A launch whose job's lines somebody reads. They are kept until they are taken: who waits may be called away."""

    def __init__(self, launcher: Callable[[], Launcher], launch: Launch, poll_interval: float) -> None:
        self.pause = Pause(poll_interval)
        self.read_at = 0.0
        self._launcher, self._launch, self._poll_interval = launcher, launch, poll_interval
        self._new_lines: Callable[[], list[str]] | None = None
        self._reading = threading.Lock()
        self._read: deque[str] = deque()

    def read(self) -> bool:
        """Whether there are lines to be taken. For threads."""
        with self._reading:
            self._new_lines = self._new_lines or self._launcher().follow(self._launch)
            self.read_at, self.pause = time.monotonic(), Pause(self._poll_interval)
            self._read.extend(self._new_lines())
            return bool(self._read)

    def taken(self) -> list[str]:
        """The lines that were read and not yet taken."""
        return [self._read.popleft() for _ in range(len(self._read))]


def look_at_lines(followed: Sequence[Followed], now: datetime) -> Looked[bool | None]:
    """Whose lines there are to be taken, of as many as there is time for: first those read the longest time ago."""
    there: dict[int, bool] = {}
    until = time.monotonic() + LINES_LOOK
    for place in sorted(range(len(followed)), key=lambda place: followed[place].read_at):
        if time.monotonic() > until:
            put_off([followed[place]])
        else:
            there[place] = _read(followed[place])
    return Looked([there.get(place) or None for place in range(len(followed))])


def _read(followed: Followed) -> bool:
    try:
        return followed.read()
    except Exception as error:  # lines are no ending, whatever becomes of them
        log.warning("a job's lines could not be read: %s", error)
        return False
