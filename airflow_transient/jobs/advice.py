"""What a document says that is accepted, as in the original, and perhaps not meant: told in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_transient.core import schedule as dialect
from airflow_transient.core.depth import HARD_CAP

if TYPE_CHECKING:
    from airflow_transient.jobs.document import JobDocument


def warnings(document: JobDocument, now: datetime) -> tuple[str, ...]:
    return (*_about_time(document, now), *_about_size(document), *_about_values(document))


def _about_time(document: JobDocument, now: datetime) -> Iterator[str]:
    start, end = document.schedule_start, document.schedule_end
    text = dialect.resolve(document.schedule, lambda low, high: low)
    if start and end and start > end:
        yield "this job never fires: scheduleStart is after scheduleEnd"
    elif dialect.never(dialect.parse(text, document.timezone, start, end), now):
        yield f"this schedule never fires again: there is no such moment after {now:%Y-%m-%d %H:%M} UTC"
    if text.split()[0] == "*":
        yield "the first field is the second, and * is every second: write ? for one that is drawn"


def _about_size(document: JobDocument) -> Iterator[str]:
    if document.kind != "ecs":
        return
    most = min(document.max_count or HARD_CAP, HARD_CAP)
    if most < document.task_count:
        yield f"maxCount {most} is less than taskCount {document.task_count}, and wins: {most} at most"
    trigger = document.trigger
    if trigger and trigger.type == "noop" and (trigger.queue_name or trigger.messages_per_task):
        yield "the trigger is noop: its queueName and messagesPerTask say nothing, and every fire starts taskCount"
    # Without a queue a fire never starts more than taskCount.
    largest = most if trigger and trigger.queues else min(most, document.task_count)
    need = document.min_success
    if isinstance(need, int) and need > largest:
        yield f"minSuccess is {need}, and a fire starts {largest} at most: all of them must succeed"


def _about_values(document: JobDocument) -> Iterator[str]:
    if marked := sorted({name for name, text in _texts(document.to_dict()) if "{{" in text}):
        yield f"{', '.join(marked)}: nothing fills in {{{{ … }}}} here, so the job sees it as it stands"


def _texts(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, text) of all that is written, however deep."""
    yield from ((name, text) for name, value in said.items() for text in _inner(value))


def _inner(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        return [text for item in value for text in _inner(item)]
    return [value] if isinstance(value, str) else []
