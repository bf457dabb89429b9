"""The first task of a job that a queue sizes: a fire that would launch nothing starts no worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import StartTriggerArgs

from airflow_transient.core.ecs.spec import RULE_WORDS
from airflow_transient.hooks.aws import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The words of a burst that say how many. Overrides do not: what a job's environment holds stays out of the trigger.
SIZE_WORDS = ("task_definition", "cluster", "queues", *RULE_WORDS)
TRIGGER = "airflow_transient.triggers.gate.DepthGateTrigger"


class DepthGate(BaseOperator):
    """
    Succeeds where a burst of these words would launch something now, and is skipped where it would not.

    It begins in the triggerer, and as a rule ends there. Where there is none (`airflow dags test`, `tasks test`), or
    where the trigger ended without an answer, a worker looks.

    :param words: an EcsBurstOperator's, as they are: nothing in them is a template.
    :param for_task: id of the task whose launches count as the job's own.
    """

    ui_color = "#9ccfd8"
    #: Airflow renders in a trigger what is named here and among the trigger's arguments: nothing.
    template_fields = ()
    start_from_trigger = True

    def __init__(
        self,
        *,
        words: Mapping[str, Any],
        for_task: str,
        aws_conn_id: str | None = DEFAULT_CONN_ID,
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        from airflow_transient.triggers.gate import Question  # only jobs that a queue sizes pay for it

        super().__init__(**kwargs)
        sizing = {name: words[name] for name in SIZE_WORDS if name in words}
        self.question = Question(sizing, for_task, aws_conn_id, region_name)
        self.start_trigger_args = StartTriggerArgs(TRIGGER, "execute", trigger_kwargs={**vars(self.question)})

    def execute(self, context: Context, event: Any = None) -> None:
        ti: Any = context["ti"]
        answer = self.question.asked(self.question.connect(), ti.dag_id, ti.run_id)
        if not answer.count:
            raise AirflowSkipException(f"nothing to launch: {answer.reason}")
        self.log.info("%d wanted: %s", answer.count, answer.reason)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """The trigger died, or was of another version: the question is still a good one."""
        return self.execute(context)
