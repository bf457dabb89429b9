"""A look at a queue before any worker starts: a fire that would launch nothing ends here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from airflow_transient.core.depth import Live, Size, size
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.launch import Owner
from airflow_transient.errors import AccessError, LaunchError, SpecError, TransientError
from airflow_transient.hooks.aws import DEFAULT_CONN_ID, TransientHook
from airflow_transient.hooks.deployment import deployment
from airflow_transient.triggers.poll import LOOKS

if TYPE_CHECKING:
    from airflow_transient.aws.launcher import ClientFactory

VERSION = 1
#: Seconds between looks that got no clear answer. After the last one the fire has failed; the next fire looks anew.
PAUSES = (2.0, 8.0, 20.0)
#: Seconds after which a change of the connection is seen.
KEEP = 300.0


@dataclass(frozen=True)
class Question:
    """
    How many tasks would a burst launch now?

    :param words: an EcsBurstOperator's, those that say how many; as they are, for nothing in them is a template.
    :param for_task: the task whose launches count as this job's own.
    """

    words: Mapping[str, Any]
    for_task: str
    aws_conn_id: str | None = DEFAULT_CONN_ID
    region_name: str | None = None

    def connect(self) -> ClientFactory:
        return TransientHook(self.aws_conn_id, self.region_name).client

    def asked(self, client: ClientFactory, dag_id: str, run_id: str) -> Size:
        """One look. Where the queue alone asks for nothing, ECS is not troubled."""
        from airflow_transient.aws.sizing import live_tasks
        from airflow_transient.aws.sqs import read_depths

        spec, now = EcsSpec.of(**self.words), datetime.now(timezone.utc)
        depths = read_depths(client, spec.queues, now)
        alone, ours = size(depths, spec.rule, Live()), deployment()
        if not alone.count or ours is None:
            return alone
        return size(depths, spec.rule, live_tasks(client, spec, Owner(ours, dag_id, run_id, self.for_task), now))


class DepthGateTrigger(BaseTrigger):
    """
    Ends its task without a worker: a success where a burst would launch something, skipped where it would not.

    Law: nothing is launched on a guess, so what cannot be read is a failure with its reason. Keyword arguments as in
    `Question`; they are kept in the database and may be those of another version.
    """

    def __init__(
        self,
        words: dict[str, Any],
        for_task: str,
        aws_conn_id: str | None = DEFAULT_CONN_ID,
        region_name: str | None = None,
        version: int = VERSION,
        **_later: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's own has no annotations
        self.question = Question(words, for_task, aws_conn_id, region_name)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        said = {**vars(self.question), "words": dict(self.question.words)}
        return ("airflow_transient.triggers.gate.DepthGateTrigger", {**said, "version": VERSION})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            answer = await self._answer()
        except TransientError as error:
            self.log.error("nothing is launched: %s", error)
            yield TaskFailedEvent()
            return
        if answer.count:
            self.log.info("%d wanted: %s", answer.count, answer.reason)
            yield TaskSuccessEvent()
        else:
            self.log.info("nothing to launch: %s", answer.reason)
            yield TaskSkippedEvent()

    async def _answer(self) -> Size:
        for pause in PAUSES:
            try:
                return await self._looked()
            except (SpecError, AccessError):
                raise  # the same a minute later
            except LaunchError as error:
                self.log.warning("%s; looking again in %g s", error, pause)
            await asyncio.sleep(pause)
        return await self._looked()

    async def _looked(self) -> Size:
        return await asyncio.get_running_loop().run_in_executor(LOOKS, self._look)

    def _look(self) -> Size:
        """With clients that other fires have used; with new ones where AWS no longer takes their credentials."""
        ti, question = self.task_instance, self.question
        run = (ti.dag_id, ti.run_id) if ti else ("", "")
        try:
            return question.asked(_kept(question.aws_conn_id, question.region_name, int(monotonic() // KEEP)), *run)
        except AccessError:
            _kept.cache_clear()
            return question.asked(question.connect(), *run)


@lru_cache(maxsize=32)
def _kept(aws_conn_id: str | None, region_name: str | None, _period: int) -> ClientFactory:
    """To make clients costs more CPU than all the rest of a look."""
    return TransientHook(aws_conn_id, region_name).client
