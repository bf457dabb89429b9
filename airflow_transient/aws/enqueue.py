"""Files into S3 and a message for each into SQS: the object before its message, and what was sent is written down.

At least once: what was sent and not yet written down when a process dies is sent again by the next try, and nothing
else is.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_transient.aws.enqueue_manifest import LINES, READ_AT_ONCE, Manifest
from airflow_transient.aws.enqueue_queue import RETRIES, Sender, Taken
from airflow_transient.aws.enqueue_sources import PARTS_AT_ONCE, Gone, LeftOut, Unusable, source_of
from airflow_transient.aws.in_order import in_order
from airflow_transient.aws.launcher import ClientFactory, bucket_said
from airflow_transient.core.batch.batches import Mail, Message, batches
from airflow_transient.core.batch.manifest import Sent
from airflow_transient.core.batch.naming import Namer, Problem, Wish
from airflow_transient.core.batch.spec import SEED, V1, EnqueueSpec
from airflow_transient.core.spec import S3Prefix
from airflow_transient.errors import LaunchError, SpecError
from airflow_transient.worker import BadMessage, Job, write_message, write_seed_message

#: Seconds between two lines about how far it is.
TOLD_EVERY = 10.0
#: So many files that could not go are named; all are counted.
NAMED = 5


@dataclass(frozen=True)
class Summary:
    """
    What a run has come to, all its tries together.

    `earlier`: of `enqueued`, by tries before this one. `skipped_already`: sent by other runs. `left_out`: no files, or
    gone before their turn.
    """

    enqueued: int
    earlier: int
    skipped_already: int
    left_out: int
    bytes: int
    queue: str
    manifest: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Tools:
    """What else it needs; a test's own are quicker."""

    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    lines: int = LINES


@dataclass
class Tally:
    """This try's sums so far."""

    sent: int = 0
    bytes: int = 0
    skipped: int = 0
    gone: int = 0
    bad: Counter[bool] = field(default_factory=Counter)
    named: list[Problem] = field(default_factory=list)

    def note(self, problem: Problem) -> None:
        self.bad[problem.passing] += 1
        if len(self.named) < NAMED:
            self.named.append(problem)


def enqueue(
    spec: EnqueueSpec, run: str, client: ClientFactory, words: Mapping[str, Any], resumed: bool, tools: Tools
) -> Summary:
    """
    Enqueue all files that the spec means, but for those that this run has sent already.

    Needs s3:PutObject, sqs:SendMessage, sqs:GetQueueUrl for a name or an ARN; s3:ListBucket and s3:GetObject for a
    source in S3, and for what was sent before. Raises SpecError, AccessError or LaunchError; a file that cannot go
    holds up no other, and is named when all others have gone.

    :param run: the name of the run's folder, the same in all its tries.
    :param words: what its manifest says about the run.
    :param resumed: whether an earlier try of it may have sent some.
    """
    return Enqueuing(spec, run, client, tools).all(words, resumed)


class Enqueuing:
    """One try of one run."""

    def __init__(self, spec: EnqueueSpec, run: str, client: ClientFactory, tools: Tools) -> None:
        self.spec, self.say, self._clock = spec, tools.say, tools.clock
        connections = max(READ_AT_ONCE, spec.uploads) * PARTS_AT_ONCE
        self.s3 = client("s3", retries=RETRIES, max_pool_connections=connections)
        self.sender = Sender(client, spec.sqs_queue, tools.pause)
        place = spec.manifests
        folder = S3Prefix(place.bucket, f"{place.prefix}{self.sender.address.name}/")
        self.manifest = Manifest(self.s3, folder, run, tools.clock, tools.lines)
        self.mail = Mail(self.sender.fifo, spec.message_group, run, spec.once)
        self.left_out = LeftOut(tools.say)
        self.source = source_of(spec, self.s3, self.left_out)
        self.tally = Tally()
        self.began = self.told = tools.clock()

    def all(self, words: Mapping[str, Any], resumed: bool) -> Summary:
        own, others = self.manifest.sent(self.spec.once) if resumed or self.spec.once else (Sent(), Sent())
        if own.messages:
            self.say(f"{own.messages:,} files were enqueued by an earlier try of this run: going on with the others")
        try:
            # Closed at once, whoever keeps the error: what is not on its way yet stays where it is.
            with closing(self._messages(self._wishes(own, others, words))) as messages:
                self._send_all(messages)
        except BaseException:
            # Whatever it was counts; what could not be written down is sent again, and that is no loss.
            with suppress(Exception):
                self.manifest.flush()
            raise
        self.manifest.flush()
        self._raise_for_problems(own)
        return self._summary(own)

    def _send_all(self, messages: Iterator[Message]) -> None:
        for batch in batches(messages):
            for taken in self._taken(batch):
                if isinstance(taken, Problem):
                    self.tally.note(taken)
                else:
                    self._sent(*taken)
            self._tell()

    def _taken(self, batch: Sequence[Message]) -> Iterator[Taken]:
        try:
            yield from self.sender.send(batch, self.mail)
        except SpecError as error:  # the queue has gone, and nobody can tell a new one of its name from it
            if not self.tally.sent:
                raise
            raise SpecError(
                f"{error}. The {self.tally.sent:,} messages that were sent went with it, and another try would leave "
                f"them out: remove {self.manifest} first"
            ) from error

    def _sent(self, message: Message, message_id: str) -> None:
        self.tally.sent += 1
        self.tally.bytes += message.wish.file.size
        self.manifest.note(message.wish, message_id)

    def _wishes(self, own: Sent, others: Sent, words: Mapping[str, Any]) -> Iterator[Wish]:
        """What is still to be done, as it is asked for."""
        namer, begun = Namer(self.spec), False
        for file in self.source.files():
            wish = namer.wish(file)
            if isinstance(wish, Problem):
                self.tally.note(wish)
            elif wish in own:
                pass
            elif wish in others:
                self.tally.skipped += 1
            else:
                if not begun:
                    self.manifest.begin(words)
                    begun = True
                yield wish

    def _messages(self, wishes: Iterator[Wish]) -> Generator[Message]:
        """Of those whose objects are in their places, in the order of their wishes."""
        for placed in in_order(self._place, wishes, self.spec.uploads):
            if placed is None:
                self.tally.gone += 1
            elif isinstance(placed, Problem):
                self.tally.note(placed)
            else:
                yield placed

    def _place(self, wish: Wish) -> Message | Problem | None:
        """None: the file has gone. The message is written first, so that no object is left without one."""
        action = "s3:PutObject" if isinstance(self.spec.source, str) else "s3:GetObject and s3:PutObject"
        try:
            message = Message(wish, self._body(wish))
            with bucket_said(action, self.spec.inputs.bucket):
                try:
                    self.source.place(wish)
                except (Gone, Unusable) as error:
                    stopped: Gone | Unusable = error
                else:
                    return message
        except BadMessage as error:
            return Problem(wish.file.name, str(error))
        return Problem(wish.file.name, stopped.words, stopped.passing) if isinstance(stopped, Unusable) else None

    def _body(self, wish: Wish) -> str:
        spec = self.spec
        if spec.message_format == V1:
            return write_message(Job(wish.id, wish.input, wish.output, spec.parameters))
        bucket, prefix = spec.output_prefix
        encode = spec.message_format == SEED
        return write_seed_message(bucket, spec.inputs.prefix, prefix, wish.file.name, encode=encode)

    # --- what is said -------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        if self._clock() - self.told >= TOLD_EVERY:
            self.told = self._clock()
            seconds = self.told - self.began
            already = f", {self.tally.skipped:,} sent before" if self.spec.once else ""
            rate = self.tally.sent / seconds
            self.say(f"{self.tally.sent:,} enqueued ({_size(self.tally.bytes)}{already}), {rate:,.0f} a second")

    def _raise_for_problems(self, own: Sent) -> None:
        for problem in self.left_out.problems:
            self.tally.note(problem)
        count = self.tally.bad.total()
        if not count:
            return
        named = "; ".join(map(str, self.tally.named)) + ("; …" if count > NAMED else "")
        error = LaunchError if self.tally.bad[True] else SpecError
        raise error(
            f"{count:,} could not be enqueued, and {own.messages + self.tally.sent:,} were ({self.manifest}): {named}. "
            "Another try sends only what is missing"
        )

    def _summary(self, own: Sent) -> Summary:
        return Summary(
            enqueued=own.messages + self.tally.sent,
            earlier=own.messages,
            skipped_already=self.tally.skipped,
            left_out=self.left_out.count + self.tally.gone,
            bytes=own.bytes + self.tally.bytes,
            queue=self.spec.sqs_queue,
            manifest=str(self.manifest),
            seconds=round(self._clock() - self.began, 3),
        )


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
