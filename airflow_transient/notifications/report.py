"""What a launch came to, handed to Airflow's own notifiers.

Law: whatever happens here, no task's state changes, and nothing is raised.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow_transient.core.message import ForChat, Report
from airflow_transient.core.report import of_run, of_task
from airflow_transient.errors import SpecError
from airflow_transient.notifications import known

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

#: A notifier's field that its author left at None -> what goes there.
FILLED = {
    "subject": "{{ report.subject }}",
    "html_content": "{{ report.html }}",
    "message": "{{ report.text }}",
    "text": "{{ report.text }}",
}
#: A notifier with this field sends it to a chat, which may read markup in it, Slack first of all.
CHATS_FIELD = "text"


class TransientReport:
    """
    A callback that reports how a launch ended, for a task or for a whole DAG run.

    .. code-block:: python

        TransientEc2Operator(
            ...,
            on_failure_callback=TransientReport(
                SnsNotifier(target_arn="arn:aws:sns:…", subject="{{ report.subject }}", message="{{ report.text }}")
            ),
        )

    As ``on_success_callback``, ``on_failure_callback``, ``on_retry_callback`` or ``on_skipped_callback`` of a task it
    tells that task's launch; as ``on_success_callback`` or ``on_failure_callback`` of a DAG all launches of the run,
    the worst first. A task that is marked failed while it waits in the triggerer has only the latter: Airflow runs no
    callback of the task then.

    It never raises: a notifier that fails is logged as a warning, and the others are still asked.

    :param send: notifiers, any number; their templated fields see ``report``: ``report.subject`` (one line, ASCII, 100
        characters at most), ``report.text`` (32 KiB at most), ``report.html`` and ``report.outcome``. A field
        ``subject``, ``html_content``, ``message`` or ``text`` that is None is filled with it. A notifier with a field
        ``text`` sees ``&``, ``<`` and ``>`` in the first two as ``&amp;``, ``&lt;`` and ``&gt;``: to Slack they are
        markup. Any other function that takes the context will do, and finds ``context["report"]``. None at all: the
        report goes to the log. Raises ``SpecError`` for what cannot be called.
    """

    def __init__(self, *send: Callable[[Context], Any]) -> None:
        for one in send:
            if isinstance(one, type) or not callable(one):
                raise SpecError(
                    f"TransientReport was given {one!r}: it takes notifiers, such as SmtpNotifier(to=…), or functions "
                    "that take the context"
                )
        self.send = send

    def __call__(self, context: Context) -> None:
        try:
            report = self.report(context)
        except Exception as error:
            log.warning("no report: %s", _plainly(error))
            return
        if not self.send:
            log.info("%s\n%s", report.subject, report.text)
        for one in self.send:
            try:
                _hand_over(one, context, report)
            except Exception as error:
                log.warning("the report was not sent by %s: %s", _name(one), _plainly(error))

    def report(self, context: Mapping[str, Any]) -> Report:
        """What is known of the task of this context, or of its DAG run."""
        if not known.is_of_run(context):
            return of_task(known.of_task(context), known.mask)
        dag_id, run_id, ending, reason = known.run_of(context)
        return of_run(dag_id, run_id, ending, reason, known.of_run(context), known.mask)


def _hand_over(send: Callable[[Context], Any], context: Mapping[str, Any], report: Report) -> None:
    """
    By a copy of it: a notifier renders its fields in place, and the same one is called for every task and try.

    The report's words come in by the template and are none themselves: `{{ … }}` in a job's log stays as it is.
    """
    one = copy.copy(send)
    fields = getattr(one, "template_fields", ())
    for name in fields:
        if name in FILLED and getattr(one, name, "") is None:
            setattr(one, name, FILLED[name])
    if CHATS_FIELD in fields:
        report = ForChat.of(report)
    seen = {**context, "report": report}
    if not hasattr(seen.get("dag"), "get_template_env"):  # `dag.test()` has a serialized one, which renders nothing
        seen.pop("dag", None)
    one(cast("Context", seen))


def _name(send: Any) -> str:
    return str(getattr(send, "__name__", type(send).__name__))


def _plainly(error: Exception) -> str:
    """In one line, without what Airflow's masker knows."""
    return known.mask(f"{type(error).__name__}: {error}").split("\n")[0][:500]
