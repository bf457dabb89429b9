"""What the containers of a launch wrote to CloudWatch Logs. Reading it never changes how a launch ended, nor fails.

Stream names are told by the awslogs driver's rule, prefix/container/task id, so nobody waits for them to be listed.
"""

from __future__ import annotations

from typing import Any

from airflow_transient.aws import launcher, pacing
from airflow_transient.aws.launcher import FAILURES, ClientFactory
from airflow_transient.core.ecs.terms import LogPlace
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import Launch
from airflow_transient.errors import TransientError

#: So many tasks of a burst are followed while they run: GetLogEvents allows 10 to 25 calls a second in an account.
FOLLOWED = 3
#: Of one stream and look: the rest comes with the next look.
LINES_A_LOOK = 200
TAIL_LINES = 20
_FAILURES = (*FAILURES, TransientError)


class Follower:
    """Reads on where the last call ended. A stream that is not there yet says nothing; a refusal is said once."""

    def __init__(self, client: ClientFactory, launch: Launch) -> None:
        self._client = client
        places = launch.ecs.logs if launch.ecs else ()
        self._streams = [(place, task) for task in launch.ids[:FOLLOWED] for place in places]
        self._next: dict[tuple[LogPlace, str], str] = {}
        self._refused = False
        more = len(launch.ids) - FOLLOWED
        self._untold = [f"(the logs of {FOLLOWED} of {len(launch.ids)} tasks follow)"] if places and more > 0 else []

    def new_lines(self) -> list[str]:
        came = [line for place, task in self._streams for line in self._read(place, task)]
        if came and self._untold:
            came, self._untold = [*self._untold, *came], []
        return came

    def _read(self, place: LogPlace, task: str) -> list[str]:
        if self._refused:
            return []
        token = self._next.get((place, task))
        more = {"nextToken": token} if token else {}
        try:  # a forward token wants startFromHead, too (GetLogEvents, API reference)
            answer = _events(self._client, place, task, limit=LINES_A_LOOK, startFromHead=True, **more)
        except _FAILURES as error:
            return self._failed(place, error)
        self._next[place, task] = answer["nextForwardToken"]
        mark = f"{task[:8]} {place.container}: " if len(self._streams) > 1 else ""
        return [f"{mark}{event['message'].rstrip()}" for event in answer["events"]]

    def _failed(self, place: LogPlace, error: Exception) -> list[str]:
        if launcher.code_of(error) == "ResourceNotFoundException" or not _denied(error):
            return []  # not there yet, or a hiccup: the next look reads on
        self._refused = True
        return [f"the log group {place.group} cannot be read: logs:GetLogEvents is needed ({launcher.words_of(error)})"]


def tail(client: ClientFactory, launch: Launch, task: str) -> tuple[str, ...]:
    """The last lines of each container of one task, under a title."""
    return tuple(line for place in (launch.ecs.logs if launch.ecs else ()) for line in _tail_of(client, place, task))


def last_lines(client: ClientFactory, place: LogPlace, task: str) -> tuple[str, ...]:
    """The last lines of one container of one task; none where they cannot be read."""
    try:
        events = _events(client, place, task, limit=TAIL_LINES, startFromHead=False)["events"]
    except _FAILURES:
        return ()
    return tuple(event["message"].rstrip() for event in events)


def _tail_of(client: ClientFactory, place: LogPlace, task: str) -> tuple[str, ...]:
    title = f"--- the last lines of {place.container} ({place.group}, {place.stream(task)}):"
    try:
        events = _events(client, place, task, limit=TAIL_LINES, startFromHead=False)["events"]
    except _FAILURES as error:
        return (f"{title} cannot be read: {launcher.words_of(error)}",)
    return (title, *(event["message"].rstrip()[:300] for event in events)) if events else ()


def _events(client: ClientFactory, place: LogPlace, task: str, **more: Any) -> dict[str, Any]:
    logs = client("logs", region_name=place.region)
    with pacing.paced(logs, "looks at logs", launcher.scope_of_error):
        answer: dict[str, Any] = logs.get_log_events(logGroupName=place.group, logStreamName=place.stream(task), **more)
    return answer


def _denied(error: Exception) -> bool:
    return launcher.scope_of_error(error) is Scope.ACCESS
