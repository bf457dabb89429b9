"""Messages in batches as SQS takes them: ten, and 1 MiB in all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airflow_transient.core.batch.naming import Wish

MOST_MESSAGES = 10
#: A message's and a batch's alike, since 2025 (SendMessageBatch, API reference).
MOST_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Message:
    """A wish in the words of its consumers. `body` is ASCII: as many bytes as characters."""

    wish: Wish
    body: str


def batches(messages: Iterable[Message]) -> Iterator[tuple[Message, ...]]:
    """In the order they come."""
    full: list[Message] = []
    size = 0
    for message in messages:
        if full and (len(full) == MOST_MESSAGES or size + len(message.body) > MOST_BYTES):
            yield tuple(full)
            full, size = [], 0
        full.append(message)
        size += len(message.body)
    if full:
        yield tuple(full)


@dataclass(frozen=True)
class Mail:
    """What a queue wants written on each message beside its body."""

    fifo: bool
    group: str | None
    run: str
    once: bool

    def entry(self, number: int, message: Message) -> dict[str, str]:
        entry = {"Id": str(number), "MessageBody": message.body}
        if self.group or self.fifo:
            # A group of its own: nothing waits for it, and it for nothing.
            entry["MessageGroupId"] = self.group or message.wish.id
        if self.fifo:
            entry["MessageDeduplicationId"] = self._once_for(message.wish.id)
        return entry

    def _once_for(self, job: str) -> str:
        """Another run sends the same file again, unless it is to be sent once: then SQS forgets the second."""
        return job if self.once else hashlib.sha256(f"{self.run}/{job}".encode()).hexdigest()
