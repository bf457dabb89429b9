"""The wait for a launch while no worker does. What it needs is the launch; what it gives is one verdict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_transient.core.launch import Launch
from airflow_transient.core.words import in_short, stopped_in_words
from airflow_transient.hooks.aws import DEFAULT_CONN_ID, TransientHook
from airflow_transient.triggers.events import listening
from airflow_transient.triggers.places import LINES, Place, place_of

if TYPE_CHECKING:
    from airflow_transient.aws.polling import Followed, News
    from airflow_transient.core.verdict import Verdict

VERSION = 1
#: Seconds. GetLogEvents is paced for the whole process, so the last lines of one launch may have to queue.
LAST_LINES = 5.0
#: Seconds between stops that AWS refused. After the last one the reaper is left, which goes by the deadline.
STOP_AGAIN = (5.0, 15.0, 60.0)
#: Seconds between askings for the task's state that got no answer: an API server may just be starting.
ASK_AGAIN = (2.0, 10.0, 30.0)
UNKNOWN = "unknown"
#: An event loop keeps weak references only.
_going_on: set[asyncio.Task[None]] = set()


class LaunchTrigger(BaseTrigger):
    """
    Looks at a launch until it has ended; stops it at its deadline. A failed look changes nothing.

    :param launch: `Launch.to_dict()`.
    :param poll_interval: seconds between looks.
    :param version: of these arguments; those of a later version are ignored, so that a launch outlives an upgrade.
    """

    def __init__(
        self,
        launch: dict[str, Any],
        aws_conn_id: str | None = DEFAULT_CONN_ID,
        poll_interval: float = 15.0,
        on_kill: str = "terminate",
        version: int = VERSION,
        **_later: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's own has no annotations
        self.launch = launch
        self.aws_conn_id = aws_conn_id
        self.poll_interval = poll_interval
        self.kill = on_kill
        self.version = version
        self._ending: asyncio.Task[None] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "airflow_transient.triggers.launch.LaunchTrigger",
            {
                "launch": self.launch,
                "aws_conn_id": self.aws_conn_id,
                "poll_interval": self.poll_interval,
                "on_kill": self.kill,
                "version": VERSION,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        launch = Launch.from_dict(self.launch)
        try:
            verdict = await self._verdict(place_of(self.aws_conn_id, launch), launch)
        except asyncio.CancelledError:
            if self.kill == "terminate":
                self._cancelled(TransientHook(self.aws_conn_id, launch.region), launch)
            raise
        # Outside of the wait: whoever closes this generator after its event has interrupted nothing.
        yield TriggerEvent({**verdict.to_dict(), "launch": self.launch})

    def _cancelled(self, hook: TransientHook, launch: Launch) -> None:
        """
        Ctrl-C in `airflow dags test` or `tasks test`, where the trigger runs inline; else a triggerer, which sets
        trigger_id. That one cancels its triggers at every deploy, and then the launch goes on; or because the task was
        cleared or marked, and then Airflow 3.3 may never come to call on_kill: it cancels once a second, also while it
        logs that it is about to (triggerer_job_runner.py, run_trigger).
        """
        if self.trigger_id is not None:
            self._stopping()
            return
        hook.launcher(launch.kind).stop(launch)
        self.log.info("interrupted: %s %s", stopped_in_words(launch), in_short(launch.ids))

    async def _verdict(self, place: Place, launch: Launch) -> Verdict:
        from airflow_transient.aws.polling import Waited

        with (
            place.launches.joined(Waited(launch, self.poll_interval)) as wait,
            listening(launch, place.launches, wait) as listened,
        ):
            async with self._telling_lines(place, launch):
                while (verdict := self._told(await wait.news())) is None:
                    pass
            listened.ended(member.id for member in verdict.members)
        return verdict

    def _told(self, news: News) -> Verdict | None:
        self.log.info("%s", news.words)
        return news.verdict

    @asynccontextmanager
    async def _telling_lines(self, place: Place, launch: Launch) -> AsyncIterator[None]:
        """The job's lines in this trigger's log, beside the wait and at its end."""
        if not (launch.ecs and launch.ecs.logs):  # a machine's log is read once it has ended
            yield
            return
        from airflow_transient.aws.polling import Followed

        followed = Followed(place.launcher, launch, self.poll_interval)
        telling = asyncio.create_task(self._tell_lines(place, followed))
        try:
            yield
        finally:
            telling.cancel()
        last = asyncio.get_running_loop().run_in_executor(LINES, followed.read)
        with suppress(Exception):  # whatever keeps the last lines keeps no end
            await asyncio.wait_for(last, LAST_LINES)
        self._say(followed.taken())

    async def _tell_lines(self, place: Place, followed: Followed) -> None:
        with place.lines.joined(followed) as wait:
            while await wait.news():
                self._say(followed.taken())

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.log.info("%s", line)

    async def on_kill(self) -> None:
        """
        Stop the launch, unless the task is still waiting for it.

        Airflow 3.3 also calls this after a triggerer was thought dead and its trigger went to another one: then the
        task is still deferred. An unanswered question means: do not stop.
        """
        if self.kill != "terminate":
            return
        # Airflow 3.3 cancels the trigger again at every look until it has ended, about once a second, and so this
        # (triggerer_job_runner.py: `to_cancel=self.cancelling_triggers`); what was begun goes on.
        await asyncio.shield(self._stopping())

    def _stopping(self) -> asyncio.Task[None]:
        """One stop for this trigger, begun by whoever comes first, and cancelled by nobody."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._stop_if_over())
            _going_on.add(self._ending)
            self._ending.add_done_callback(_going_on.discard)
        return self._ending

    async def _stop_if_over(self) -> None:
        state = await self._task_state()
        for pause in ASK_AGAIN:
            if state != UNKNOWN or self.task_instance is None:
                break
            await asyncio.sleep(pause)
            state = await self._task_state()
        if state in ("deferred", UNKNOWN):
            self.log.info("not stopping %s: the task is %s", in_short(self.launch["ids"]), state)
            return
        launch = Launch.from_dict(self.launch)
        place = place_of(self.aws_conn_id, launch)
        await self._stop(place, launch)
        self.log.info("the task is %s: %s %s", state or "cleared", stopped_in_words(launch), in_short(launch.ids))

    async def _stop(self, place: Place, launch: Launch) -> None:
        """Nobody looks at this launch any more: what keeps it from its end now may not do so a little later."""
        for pause in STOP_AGAIN:
            try:
                return await asyncio.wrap_future(place.stops.stop(launch))
            except Exception as error:  # of AWS, or of an Airflow that does not tell the connection just now
                self.log.warning("%s is not stopped yet (%s); again in %g s", in_short(launch.ids), error, pause)
            await asyncio.sleep(pause)
        return await asyncio.wrap_future(place.stops.stop(launch))

    async def _task_state(self) -> str | None:
        """The task's state; None for a cleared one that is not yet scheduled; "unknown" if nobody answers."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
        from asgiref.sync import sync_to_async

        ti = self.task_instance
        if ti is None:
            return UNKNOWN
        try:
            found = await sync_to_async(RuntimeTaskInstance.get_task_states)(
                dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
            )
        except Exception as error:  # asking goes over two processes and a network; any failure is the same answer
            self.log.warning("could not ask for the task's state: %s", error)
            return UNKNOWN
        states: dict[str, str | None] = found.get(ti.run_id, {})
        name = ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
        return states.get(name)
