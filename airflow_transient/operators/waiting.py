"""A worker's own wait for a launch, which a kill may end at any moment."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_transient.core.words import in_short, stopped_in_words
from airflow_transient.errors import Stopped

if TYPE_CHECKING:
    from airflow_transient.aws.launcher import Launcher
    from airflow_transient.aws.watching import Watch
    from airflow_transient.core.launch import Launch
    from airflow_transient.core.verdict import Verdict

log = logging.getLogger(__name__)

#: Seconds. Airflow's task runner gives on_kill five.
KILL_TAKES = 4.5


class WorkerWait:
    """
    The kill comes inside a signal handler, has five seconds, and may not ask Airflow, which may deadlock there.

    So all that it needs is kept here; what it interrupts goes on after it, and sees that it was killed.
    """

    def __init__(self, poll_interval: float) -> None:
        self.poll_interval = poll_interval
        self._live: tuple[Launcher, Launch] | None = None
        self._killed = False

    @property
    def killed(self) -> bool:
        return self._killed

    @property
    def looks_after(self) -> bool:
        """Whether a kill would end anything."""
        return self._live is not None

    def look_after(self, launcher: Launcher, launch: Launch) -> None:
        """A kill ends this, from now on."""
        self._live = launcher, launch

    def wait(self, launcher: Launcher, launch: Launch, say: Callable[[str], None], watch: Watch | None = None) -> Any:
        """
        Look till it has ended; the verdict. Raises Stopped where the task was killed, now or while it was launched.

        :param watch: who looks, where its word for the end is another than a verdict.
        """
        from airflow_transient.aws.watching import Watch

        self.look_after(launcher, launch)
        watch, said = watch or Watch(launcher, launch), None
        while not self._killed:
            verdict, words = watch.look(datetime.now(timezone.utc))
            if words != said:
                say(words)
                said = words
            for line in watch.new_lines():
                say(line)
            if verdict:
                return verdict
            self._pause()
        launcher.stop(launch)  # the kill's five seconds may not have been enough for all
        raise Stopped(f"launch {launch.token}: the task was killed; {stopped_in_words(launch)} {in_short(launch.ids)}")

    def look(self, launcher: Launcher, launch: Launch) -> tuple[Verdict | None, str]:
        """Once: (the verdict or None, the wait in words)."""
        from airflow_transient.aws.watching import look

        return look(launcher, launch, datetime.now(timezone.utc))

    def kill(self) -> None:
        """In a thread of its own: what the signal has interrupted may hold a lock that the stop needs, and gives it
        back only after this has returned. What the stop has not done by then, `wait` does."""
        self._killed = True
        if self._live:
            launcher, launch = self._live
            stop = threading.Thread(target=_stop, args=(launcher, launch), name="airflow-transient-kill", daemon=True)
            stop.start()
            stop.join(KILL_TAKES)

    def _pause(self) -> None:
        """In short slices: a signal handler returns into the sleep it interrupted."""
        end = time.monotonic() + self.poll_interval
        while not self._killed and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))


def _stop(launcher: Launcher, launch: Launch) -> None:
    try:
        launcher.stop(launch)
    except Exception as error:  # `wait` asks again, and the reaper after it
        log.warning("launch %s is not stopped yet (%s)", launch.token, error)
