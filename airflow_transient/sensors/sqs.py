"""Wait until queues are deep enough, shallow enough, drained or stale. No message is ever received."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator, conf
from airflow.sdk.bases.sensor import PokeReturnValue
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException
from airflow.triggers.base import StartTriggerArgs

from airflow_transient import errors
from airflow_transient.core.condition import WORDS, Question, Waiting, plain
from airflow_transient.core.depth import Unread
from airflow_transient.core.reading import is_literal
from airflow_transient.errors import SpecError, TransientError
from airflow_transient.hooks.aws import DEFAULT_CONN_ID
from airflow_transient.retry import transient_retry_policy
from airflow_transient.sensors.memory import Memory
from airflow_transient.triggers.depth import HOLDS, NOT_NOW, POLL_INTERVAL, TIMED_OUT, SqsDepthTrigger, make_reader

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.retry_policy import RetryPolicy

    from airflow_transient.aws.sqs import Reader

TRIGGER = "airflow_transient.triggers.depth.SqsDepthTrigger"
#: The trigger keeps the time; Airflow's own limit comes so much later, for when no trigger lives to keep it.
GRACE = timedelta(minutes=1)


class SqsDepthSensor(BaseSensorOperator):
    """
    Wait for a condition on the depth of SQS queues. Reads their counters and never receives a message.

    Templated, unless it says otherwise. A wrong combination raises ``SpecError``, where the DAG file is parsed if no
    template is involved. A missing queue (``SpecError``) and a missing permission (``AccessError``) fail at once;
    where AWS gives no clear answer, that is logged, ends a row of ``consecutive`` readings, and is waited through.

    The XCom ``return_value`` is a dict: ``readings``, a list of ``queue``, ``visible``, ``in_flight``, ``delayed``,
    ``at`` (and ``oldest_seconds`` where an age is asked for); the sums ``visible``, ``in_flight``, ``delayed``;
    ``waited_seconds``; and with a rule ``size``: ``count``, the tasks a burst would launch now if none of ours were
    live, ``reason`` and ``terms``.

    SQS's counters are approximate and settle about a minute after the last change.

    :param queues: one or several names, URLs or ARNs; a comma-separated string will do. Region and account of a URL or
        an ARN win over the connection's.
    :param at_least: so many messages or more. Exactly one of at_least, at_most and drained, unless oldest_older_than
        stands alone.
    :param at_most: so many or fewer.
    :param drained: True: nothing visible, in flight or delayed.
    :param oldest_older_than: timedelta, or seconds: the oldest message must be older. Beside at_least or at_most both
        must hold. From CloudWatch, which is some minutes late; a queue without a recent value does not count as old.
    :param each: the condition must hold for each queue; default: for their sum (the oldest message of all).
    :param count_in_flight: messages that somebody is working on count, too. drained always counts them.
    :param count_delayed: messages that nobody can see yet count, too. drained always counts them.
    :param consecutive: so many readings in a row, ``poke_interval`` apart, in every mode; default 1, and 2 for drained.
    :param messages_per_task: any of this, ``task_count``, ``max_count``, ``hard_cap`` and ``activation`` is a rule, as
        EcsBurstOperator's, for ``size``. It is told, and decides nothing here.
    :param or_skip: look once; if the condition does not hold then, skip the task, and with it what follows, instead of
        waiting. With ``consecutive`` it must hold at each of those looks. Not templated.
    :param aws_conn_id: Airflow connection of type ``aws``; default ``aws_default``, which may be absent.
    :param region_name: default: the connection's.
    :param poke_interval: seconds between looks, or a timedelta; default 30; not templated.
    :param timeout: seconds, or a timedelta, from the first look, reschedules and deferral included; default
        ``[sensors] default_timeout``. A sensor that timed out is not retried. Not templated.
    :param mode: ``"poke"`` (default) or ``"reschedule"``; not templated.
    :param soft_fail: skip the task when it times out, in every mode; not templated. Errors stay errors.
    :param deferrable: look once, then wait in the triggerer; default ``[operators] default_deferrable``; not templated.
    :param start_from_trigger: begin in the triggerer, so that no worker starts where the wait ends in success or in a
        skip; not templated. What such an end does not do in Airflow 3.3: call listeners of tasks, ``pre_execute`` and
        ``post_execute``. A task with ``on_success_callback``, ``on_skipped_callback`` or ``outlets`` ends on a worker,
        because Airflow would leave those out, too, and so do all failures. Mapped, and in ``airflow dags test``, the
        task starts on a worker.
    :param retry_policy: default ``airflow_transient.retry.transient_retry_policy``.
    """

    ui_color = "#f6c177"
    template_fields: Sequence[str] = (*WORDS, "aws_conn_id", "region_name")

    def __init__(
        self,
        *,
        queues: str | Sequence[str],
        at_least: int | str | None = None,
        at_most: int | str | None = None,
        drained: bool | str = False,
        oldest_older_than: timedelta | float | str | None = None,
        each: bool | str = False,
        count_in_flight: bool | str = False,
        count_delayed: bool | str = False,
        consecutive: int | str | None = None,
        messages_per_task: int | str | None = None,
        task_count: int | str | None = None,
        max_count: int | str | None = None,
        hard_cap: int | str | None = None,
        activation: int | str | None = None,
        or_skip: bool = False,
        aws_conn_id: str | None = DEFAULT_CONN_ID,
        region_name: str | None = None,
        poke_interval: timedelta | float = POLL_INTERVAL,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        retry_policy: RetryPolicy | None = transient_retry_policy,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, retry_policy=retry_policy, **kwargs)
        if self.poke_interval <= 0:
            raise SpecError(f"poke_interval is {poke_interval}: seconds, and more than 0")
        self.queues = queues
        self.at_least = at_least
        self.at_most = at_most
        self.drained = drained
        self.oldest_older_than = oldest_older_than
        self.each = each
        self.count_in_flight = count_in_flight
        self.count_delayed = count_delayed
        self.consecutive = consecutive
        self.messages_per_task = messages_per_task
        self.task_count = task_count
        self.max_count = max_count
        self.hard_cap = hard_cap
        self.activation = activation
        self.or_skip = or_skip
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.deferrable = deferrable or start_from_trigger
        self.start_from_trigger = start_from_trigger
        if is_literal(self._words()):
            self._question()
        if start_from_trigger:
            self.start_trigger_args = self._start_trigger_args()
        # Between the pokes of one process: Airflow's loop calls poke() and nothing else.
        self._reader: Reader | None = None
        self._waiting: Waiting | None = None

    def _words(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in WORDS}

    def _question(self) -> Question:
        return Question.of(**self._words())

    def poke(self, context: Context) -> PokeReturnValue:
        question = self._question()
        memory = Memory(context, self.reschedule and not self.deferrable)
        before = self._waiting or memory.read() or Waiting(_now())
        look = self._look(question)
        now = _now()
        waiting = before.after(question, look, now)
        if waiting.said != before.said:
            self.log.info("%s", waiting.said)
        self._waiting = waiting
        memory.write(waiting)
        if isinstance(look, Unread):
            return PokeReturnValue(False)
        if self.or_skip and not waiting.streak:
            raise AirflowSkipException(waiting.said)
        told = {**question.told(look), "waited_seconds": round(waiting.seconds(now), 3)}
        return PokeReturnValue(waiting.is_over(question), told)

    def _look(self, question: Question) -> Any:
        if self._reader is None:
            self._reader = make_reader(self.aws_conn_id, self.region_name, question)
        return self._reader.look(_now())

    def execute(self, context: Context) -> Any:
        self._waiting = None  # `airflow dags test` runs every try with this one object
        if not self.deferrable:
            return super().execute(context)
        try:
            poked = self.poke(context)
        except TransientError as error:
            self._fail(error)
        if poked.is_done:
            return poked.xcom_value
        waiting = self._waiting or Waiting(_now())
        left = self.timeout - waiting.seconds(_now())
        if left <= 0:
            self._time_out(waiting.said)
        trigger = SqsDepthTrigger(**self._trigger_words(), waiting=waiting.to_dict())
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=left) + GRACE)

    def execute_complete(self, context: Context, event: Any = None, **_: Any) -> Any:
        words = str(event.get("words", ""))
        if event["outcome"] == HOLDS:
            self.log.info("%s", words)
            return event["told"]
        if event["outcome"] == NOT_NOW:
            raise AirflowSkipException(words)
        if event["outcome"] == TIMED_OUT:
            self._time_out(words)
        kind = getattr(errors, str(event.get("error")), TransientError)
        self._fail(kind(words))

    def _fail(self, error: TransientError) -> NoReturn:
        """As Airflow's own loop does for the other modes."""
        if self.never_fail:
            raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
        raise error

    def _time_out(self, words: str) -> NoReturn:
        """In Airflow's own words for the other modes; the skip of soft_fail is resume_execution's, too."""
        message = f"Sensor has timed out; it waited longer than the specified timeout of {self.timeout}. Last: {words}"
        if self.soft_fail or self.never_fail:
            raise AirflowSkipException(message)
        raise AirflowSensorTimeout(message)

    def _trigger_words(self) -> dict[str, Any]:
        words = {**self._words(), "aws_conn_id": self.aws_conn_id, "region_name": self.region_name}
        said = {name: plain(value) for name, value in words.items()}
        return {**said, "poll_interval": self.poke_interval, "timeout": self.timeout, "or_skip": self.or_skip}

    def _start_trigger_args(self) -> StartTriggerArgs:
        words = self._trigger_words()
        if wrong := [name for name, value in words.items() if not _is_plain(value)]:
            raise SpecError(
                f"start_from_trigger takes values and templates: {', '.join(wrong)} is neither. Where it comes from "
                "another task, write it as \"{{ ti.xcom_pull(task_ids='...') }}\""
            )
        words |= {"end_here": self._ends_without_worker(), "push_xcom": self.do_xcom_push}
        limit = timedelta(seconds=self.timeout) + GRACE
        return StartTriggerArgs(TRIGGER, "execute_complete", trigger_kwargs=words, timeout=limit)

    def _ends_without_worker(self) -> list[str]:
        skips = [] if self.on_skipped_callback else [NOT_NOW, *([TIMED_OUT] if self.soft_fail else [])]
        return skips if self.on_success_callback or self.outlets else [HOLDS, *skips]


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)
