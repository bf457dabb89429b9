"""SQS as moto has it, made to lag, to count its calls, to tell the age of its messages, and safe between threads.

moto's queue has a lock and takes it for sending only: of two receivers both may get a message, and one that is sent
while another is deleted may vanish. Here whatever changes a queue holds its lock, and notes what it came to.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_transient.localcloud.faults import Faults
from airflow_transient.localcloud.sqs_history import History, Sight

# What is counted of a queue: the actions that name one, and moto's functions for them.
COUNTED = {
    "SendMessage": "send_message",
    "SendMessageBatch": "send_message_batch",
    "ReceiveMessage": "receive_message",
    "DeleteMessage": "delete_message",
    "DeleteMessageBatch": "delete_message_batch",
    "ChangeMessageVisibility": "change_message_visibility",
    "ChangeMessageVisibilityBatch": "change_message_visibility_batch",
    "GetQueueAttributes": "get_queue_attributes",
    "PurgeQueue": "purge_queue",
}
COUNTERS = {
    "ApproximateNumberOfMessages": "visible",
    "ApproximateNumberOfMessagesNotVisible": "in_flight",
    "ApproximateNumberOfMessagesDelayed": "delayed",
}
AGE = "ApproximateAgeOfOldestMessage"
# Received more often, a message no longer counts for the age, unless there are no others.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
POISONED = 3
Seam = tuple[Any, str, Any]


@dataclass
class Queues:
    """lag: the counters of GetQueueAttributes are at least so many seconds old."""

    faults: Faults
    lag: float = 0.0
    _calls: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def calls(self, region: str, queue: str) -> dict[str, int]:
        return {action: self._calls[region, queue, action] for action in COUNTED}

    def seams(self) -> Iterator[Seam]:
        from moto.cloudwatch.models import CloudWatchBackend
        from moto.sqs.models import Queue, SQSBackend
        from moto.sqs.responses import SQSResponse

        for action, name in COUNTED.items():
            yield SQSResponse, name, self._counting(action, getattr(SQSResponse, name))
        yield SQSBackend, "get_queue_attributes", self._lagging(SQSBackend.get_queue_attributes)
        yield SQSBackend, "receive_message", _receiving(SQSBackend.receive_message)
        for name in ("change_message_visibility", "purge_queue"):
            yield SQSBackend, name, _noting_by_name(getattr(SQSBackend, name))
        yield Queue, "delete_message", _noting(Queue.delete_message)
        yield Queue, "add_message", _adding(Queue.add_message)
        yield CloudWatchBackend, "get_all_metrics", _with_ages(CloudWatchBackend.get_all_metrics)

    def _counting(self, action: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def counted(response: Any) -> Any:
            with self._lock:
                self._calls[response.region, response._get_queue_name(), action] += 1
            return answer(response)

        return counted

    def _lagging(self, get: Callable[..., Any]) -> Callable[..., Any]:
        """moto: exact. AWS: settled about a minute after the senders stop (GetQueueAttributes' page)."""

        def get_queue_attributes(backend: Any, queue_name: str, attribute_names: list[str]) -> dict[str, Any]:
            attributes: dict[str, Any] = get(backend, queue_name, attribute_names)
            asked = [name for name in COUNTERS if name in attributes]
            lag = max(self.lag, self.faults.sqs_age(queue_name)) if asked else 0.0
            if lag > 0:
                queue = backend.get_queue(queue_name)
                with queue._messages_lock:
                    then = history(queue).at(time.time() - lag)
                attributes.update({name: getattr(then, COUNTERS[name]) for name in asked})
            return attributes

        return get_queue_attributes


def history(queue: Any) -> History:
    if not hasattr(queue, "localcloud_history"):
        queue.localcloud_history = History()
    return queue.localcloud_history  # type: ignore[no-any-return]


def _note(queue: Any) -> None:
    history(queue).note(time.time(), {message.id: _sight(message) for message in queue._messages})


def _sight(message: Any) -> Sight:
    return Sight(message.delayed_until / 1000, message.visible_at / 1000)


# --- what changes a queue -----------------------------------------------------------------------------------------


def _noting(change: Callable[..., Any]) -> Callable[..., Any]:
    """Alone, noted, and told to those who wait: what was hidden may be there again, a group's next one free."""

    def noting(queue: Any, *args: Any, **kwargs: Any) -> Any:
        with queue._messages_lock:
            try:
                return change(queue, *args, **kwargs)
            finally:
                _note(queue)
                queue._messages_lock.notify_all()

    return noting


def _noting_by_name(change: Callable[..., Any]) -> Callable[..., Any]:
    def noting_by_name(backend: Any, queue_name: str, *args: Any, **kwargs: Any) -> Any:
        return _noting(lambda _: change(backend, queue_name, *args, **kwargs))(backend.get_queue(queue_name))

    return noting_by_name


def _adding(add: Callable[..., Any]) -> Callable[..., Any]:
    def add_message(queue: Any, message: Any) -> None:
        with queue._messages_lock:
            add(queue, message)
            if queue._messages and queue._messages[-1] is message:  # FIFO drops what it had before
                history(queue).note_one(time.time(), message.id, _sight(message))

    return add_message


def _receiving(receive: Callable[..., Any]) -> Callable[..., Any]:
    """moto: a long poll sees what was hidden up to a second late, and spins while a FIFO group is busy."""

    def receive_message(
        backend: Any, queue_name: str, count: int, wait_seconds_timeout: int, *args: Any, **kwargs: Any
    ) -> list[Any]:
        queue, end = backend.get_queue(queue_name), time.monotonic() + wait_seconds_timeout
        with queue._messages_lock:
            while True:
                found: list[Any] = receive(backend, queue_name, count, 0, *args, **kwargs)
                _note(queue)
                left = end - time.monotonic()
                if found or left <= 0:
                    return found
                queue._messages_lock.wait(min(left, _until_the_next(queue)))

    return receive_message


def _until_the_next(queue: Any) -> float:
    """Seconds until a delay or a visibility time-out ends; moto counts in milliseconds, and wants more than equal."""
    now = time.time()
    ends = [max(sight.delayed_until, sight.hidden_until) for sight in map(_sight, queue._messages)]
    return min((end - now + 0.002 for end in ends if end > now), default=60.0)


# --- how old its messages are -------------------------------------------------------------------------------------


def _with_ages(metrics: Callable[..., Any]) -> Callable[..., Any]:
    """moto: no metrics of SQS. AWS: one value a minute, none for a queue that has been empty for a while."""

    def get_all_metrics(backend: Any) -> list[Any]:
        from moto.sqs.models import sqs_backends

        queues = list(sqs_backends[backend.account_id][backend.region_name].queues.values())
        ages = [(queue.name, age) for queue in queues if (age := _age(queue)) is not None]
        return [*metrics(backend), *(_datum(name, age) for name, age in ages)]

    return get_all_metrics


def _age(queue: Any) -> float | None:
    with queue._messages_lock:
        now, entered = time.time(), history(queue).entered
        here = [message for message in queue._messages if message.id in entered and not message.delayed]
        fresh = [message for message in here if message.approximate_receive_count <= POISONED]
        return max((now - entered[message.id] for message in fresh or here), default=None)


def _datum(queue: str, age: float) -> Any:
    """Of the current minute, or of the one before in its first half: a query up to now must cover it, however long it
    has been on its way."""
    from moto.cloudwatch.models import MetricDatum

    minute = (datetime.now(timezone.utc) - timedelta(seconds=30)).replace(second=0, microsecond=0)
    dimensions = [{"Name": "QueueName", "Value": queue}]
    return MetricDatum("AWS/SQS", AGE, float(int(age)), dimensions, minute.replace(tzinfo=None), "Seconds")
