"""Stops at one place that come together are sent together: two hundred kills are a few calls, and block no look."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_transient.aws.renewing import Renewal
from airflow_transient.core.launch import BY_REQUEST, Launch
from airflow_transient.errors import AccessError

if TYPE_CHECKING:  # as in watching
    from airflow_transient.aws.launcher import Launcher

log = logging.getLogger(__name__)

#: Seconds. A stop waits for others so long after the last of them, and so long at most: Airflow cancels the triggers of
#: a cleared run one by one.
QUIET, AT_MOST = 0.1, 1.0


class Stops:
    """
    What is to end at one place. One batch is on its way at a time; what comes meanwhile is the next.

    :param launcher: gives the place's launcher; called in the thread, where making one may take its time and fail.
    :param renew: lets its clients be made anew: where all looks have ended, nobody else would.
    """

    def __init__(self, launcher: Callable[[], Launcher], renew: Callable[[], None]) -> None:
        self._launcher = launcher
        self._renewal = Renewal(renew, fresh=False)
        # A thread of its own: a place that does not answer keeps no other's stops waiting.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="airflow-transient-stop")
        self._lock = threading.Lock()
        self._asked: list[tuple[Launch, str, Future[None]]] = []
        self._last = 0.0

    def stop(self, launch: Launch, why: str = BY_REQUEST) -> Future[None]:
        """End it soon. The future is done when AWS has accepted that, or holds what kept it from that."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # what was begun is called off by nobody
        with self._lock:
            self._asked.append((launch, why, future))
            self._last = time.monotonic()
            if len(self._asked) == 1:
                self._begin()
        return future

    def _begin(self) -> None:
        try:
            self._pool.submit(self._send)
        except RuntimeError as error:  # no more threads in this process: the next one begins it
            (_, _, future), self._asked = self._asked[0], []
            future.set_exception(error)

    def _send(self) -> None:
        self._gather()
        with self._lock:
            batch, self._asked = self._asked, []
        errors = self._errors(batch)
        for (_, _, future), error in zip(batch, errors, strict=True):
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _gather(self) -> None:
        until = time.monotonic() + AT_MOST
        while (left := min(self._last + QUIET, until) - time.monotonic()) > 0:
            time.sleep(left)

    def _errors(self, batch: Sequence[tuple[Launch, str, Future[None]]]) -> Sequence[Exception | None]:
        errors = self._sent(batch)
        if any(isinstance(error, AccessError) for error in errors):
            self._renewal.at_times()
        return errors

    def _sent(self, batch: Sequence[tuple[Launch, str, Future[None]]]) -> Sequence[Exception | None]:
        try:
            return self._launcher().stop_all([(launch, why) for launch, why, _ in batch])
        except Exception as error:  # said to each; the next look asks again
            log.warning("%d launches could not be stopped: %s", len(batch), error)
            return [error] * len(batch)
