"""Messages off a queue, ten at a time, each deleted or given back: what they say is nobody's business here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_transient.aws.launcher import ClientFactory, said_plainly
from airflow_transient.aws.sqs import opened

#: The most that ReceiveMessage and the batch calls take, and the longest that it waits (API reference).
AT_ONCE, LONGEST_WAIT = 10, 20


@dataclass(frozen=True)
class Message:
    """`receives`: how often it was received, this time included."""

    id: str
    receipt: str
    body: str
    receives: int


class Inbox:
    """
    One queue. Raises SpecError, AccessError or LaunchError; what a call that failed was about comes again by itself.

    :param queue: its name, URL or ARN.
    """

    def __init__(self, client: ClientFactory, queue: str) -> None:
        self.queue = queue
        self._sqs, self._url = opened(client, queue)

    def receive(self, seconds: int = LONGEST_WAIT) -> list[Message]:
        """What there is; waits up to so many seconds for a first."""
        with said_plainly(f"sqs:ReceiveMessage on {self.queue}"):
            answer = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=AT_ONCE,
                WaitTimeSeconds=seconds,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        return [_message(said) for said in answer.get("Messages", [])]

    def delete(self, messages: Sequence[Message]) -> None:
        if messages:
            with said_plainly(f"sqs:DeleteMessage on {self.queue}"):
                self._sqs.delete_message_batch(QueueUrl=self._url, Entries=_entries(messages))

    def release(self, messages: Sequence[Message]) -> None:
        """For whoever asks next."""
        if messages:
            with said_plainly(f"sqs:ChangeMessageVisibility on {self.queue}"):
                entries = _entries(messages, VisibilityTimeout=0)
                self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)


def _message(said: dict[str, Any]) -> Message:
    receives = int(said.get("Attributes", {}).get("ApproximateReceiveCount", 1))
    return Message(said["MessageId"], said["ReceiptHandle"], said.get("Body", ""), receives)


def _entries(messages: Sequence[Message], **more: Any) -> list[dict[str, Any]]:
    return [{"Id": str(n), "ReceiptHandle": message.receipt, **more} for n, message in enumerate(messages)]
