"""Batches of messages to one queue: what SQS did not take is asked of it again, message by message if need be."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws.launcher import ClientFactory, code_of, words_of
from airflow_transient.aws.sqs import Address, queue_said, url_of
from airflow_transient.core.batch.batches import Mail, Message
from airflow_transient.core.batch.naming import Problem
from airflow_transient.errors import LaunchError

#: So often a message is asked for that SQS itself failed to take; botocore asks again for whole calls.
TRIES = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
RETRIES = {"mode": "standard", "total_max_attempts": 8}
#: One message is too long, for SQS or for this queue (its MaximumMessageSize), and none of the batch is taken.
ONE_IS_WRONG = {"BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", "InvalidParameterValue"}

#: A message and the id SQS gave it, or why SQS will never take it.
Taken = tuple[Message, str] | Problem


class Sender:
    """
    :param client: its queue is looked up here, so that a missing one is said before anything is uploaded.
    """

    def __init__(self, client: ClientFactory, queue: str, pause: Callable[[float], None] = time.sleep) -> None:
        self.address = Address.of(queue)
        self._client, self._pause = client, pause
        region = {"region_name": self.address.region} if self.address.region else {}
        self._sqs = client("sqs", retries=RETRIES, **region)
        self.url = url_of(client, self._sqs, self.address)

    @property
    def fifo(self) -> bool:
        return self.address.name.endswith(".fifo")

    def send(self, batch: Sequence[Message], mail: Mail) -> Iterator[Taken]:
        """Each as soon as SQS has it. Raises LaunchError where SQS still fails to take some after six tries."""
        waiting = {str(number): message for number, message in enumerate(batch)}
        for attempt in range(TRIES):
            answer = self._send(waiting, mail)
            if answer is None:
                for message in waiting.values():
                    yield from self.send((message,), mail)
                return
            for one in answer.get("Successful", ()):
                yield waiting.pop(one["Id"]), str(one["MessageId"])
            failed = answer.get("Failed", ())
            for one in failed:
                if one["SenderFault"] and not _is_throttled(one["Code"]):
                    yield _refused(waiting.pop(one["Id"]), f"{one['Code']}: {one.get('Message', '')}")
            if not waiting:
                return
            if attempt < TRIES - 1:
                self._pause(_back_off(attempt))
        why = {f"{one['Code']}: {one.get('Message', '')}" for one in failed} or {"no word of them"}
        raise LaunchError(
            f"sqs:SendMessageBatch on {self.address.words}: {len(waiting)} messages were not taken in {TRIES} tries "
            f"({'; '.join(sorted(why))})"
        )

    def _send(self, waiting: dict[str, Message], mail: Mail) -> dict[str, Any] | None:
        """None: one of them is wrong, and none was taken."""
        entries = [mail.entry(int(name), message) for name, message in waiting.items()]
        with queue_said("sqs:SendMessage", self._client, self._sqs, self.address):
            try:
                answer: dict[str, Any] = self._sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
                return answer
            except ClientError as error:
                if code_of(error) not in ONE_IS_WRONG:
                    raise
                if len(entries) > 1:
                    return None
                fault = {"Id": entries[0]["Id"], "SenderFault": True, "Code": "refused", "Message": words_of(error)}
                return {"Failed": [fault]}


def _refused(message: Message, words: str) -> Problem:
    return Problem(message.wish.file.name, f"the queue refuses its message of {len(message.body):,} bytes ({words})")


def _is_throttled(code: str) -> bool:
    """KMS's limits count as the sender's fault (`KmsThrottled`), and pass."""
    return "Throttl" in code


def _back_off(attempt: int) -> float:
    """Full jitter between half and all of it: not all who were refused come back at once."""
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
