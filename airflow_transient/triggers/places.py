"""Where launches are waited for: what all waits of a process at one place of AWS share."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_transient.core.launch import Launch
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.triggers.poll import Poll, of_this_loop

if TYPE_CHECKING:
    from airflow_transient.aws.launcher import Launcher
    from airflow_transient.aws.polling import Followed, News, Waited

#: For the last lines of what has ended: logs are asked for at a pace of their own, which is no look's.
LINES = ThreadPoolExecutor(4, thread_name_prefix="airflow-transient-lines")


class Place:
    """One connection, region, kind of compute and cluster. What takes time to make is made in a thread, as it looks."""

    def __init__(self, hook: TransientHook, kind: str) -> None:
        from airflow_transient.aws.polling import LaunchLook, look_at_lines
        from airflow_transient.aws.stops import Stops

        self._hook, self._kind = hook, kind
        self.stops = Stops(self.launcher, hook.renew)
        self.launches: Poll[Waited, News] = Poll(LaunchLook(self.launcher, hook.renew, self.stops.stop))
        self.lines: Poll[Followed, bool] = Poll(look_at_lines)
        self._made: Launcher | None = None
        self._making = threading.Lock()

    def launcher(self) -> Launcher:
        """For threads."""
        with self._making:
            if self._made is None:
                self._made = self._hook.launcher(self._kind)
            return self._made


def place_of(aws_conn_id: str | None, launch: Launch) -> Place:
    """Where this launch is waited for, of the running loop."""
    at = (aws_conn_id, launch.region)
    key = ("launches", *at, launch.kind, launch.ecs.cluster if launch.ecs else None)
    return of_this_loop(
        key, lambda: Place(of_this_loop(("hook", *at), lambda: TransientHook(aws_conn_id, launch.region)), launch.kind)
    )
