"""Machines that work a queue off: how they get their worker, how they and the queue are looked at, what they report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import resources
from typing import Any, NoReturn

from airflow_transient.aws import awslogs
from airflow_transient.aws.launcher import ClientFactory, Launcher, said_plainly
from airflow_transient.aws.polling import Waited
from airflow_transient.aws.receipts import SIGNING, ReceiptBox
from airflow_transient.aws.sqs import Reader
from airflow_transient.aws.watching import Case, Judged, Watch
from airflow_transient.core.judging import ended_members
from airflow_transient.core.launch import BY_PERSON, NEVER_BOOTED, Launch
from airflow_transient.core.spec import S3Prefix
from airflow_transient.core.verdict import Sighting
from airflow_transient.core.workers.spec import Shipped, WorkersSpec
from airflow_transient.core.workers.tally import is_receipt
from airflow_transient.core.workers.turns import Crew, Terms, Turn, Waiting, on_reading, on_sighting, unread
from airflow_transient.errors import AccessError, SpecError
from airflow_transient.worker import parser

#: The words of the worker that its operator says, and by which of its own.
OWN = {
    "queue": "sqs_queue",
    "failures": "failures",
    "processes": "processes",
    "idle_timeout": "idle_timeout",
    "job_timeout": "job_timeout",
}


def check_options(workers: WorkersSpec) -> None:
    """As the worker itself will read them on each machine. Raises SpecError with its words."""
    reader = parser()

    def refuse(message: str) -> NoReturn:
        raise SpecError(f"worker_options {list(workers.options)}: {message}")

    reader.error = refuse  # type: ignore[method-assign]
    if asked := [word for word in workers.options if word == "-h" or (len(word) > 2 and "--help".startswith(word))]:
        refuse(f"{asked[0]} only prints what there is, and nothing is worked on")
    told = [replace(workers, options=more).options_told() for more in ((), workers.options)]
    bare, full = (vars(reader.parse_args(words)) for words in told)
    if again := [ours for theirs, ours in OWN.items() if bare[theirs] != full[theirs]]:
        refuse(f"{', '.join(again)}: the operator has a word of its own for it, by which machines are counted as well")


def ship(client: ClientFactory, results: S3Prefix, lifetime: timedelta) -> Shipped:
    """Put worker.py beside the results, and sign a GET for it. Raises SpecError or AccessError."""
    body = (resources.files("airflow_transient") / "worker.py").read_bytes()
    sha256 = hashlib.sha256(body).hexdigest()
    where = {"Bucket": results.bucket, "Key": f"{results.prefix}worker-{sha256[:16]}.py"}
    s3 = client("s3", region_name=ReceiptBox(client, results).region(), **SIGNING)
    with said_plainly(f"s3:PutObject on {results}worker-*"):
        s3.put_object(**where, Body=body)
        url = s3.generate_presigned_url("get_object", Params=where, ExpiresIn=int(lifetime.total_seconds()))
    return Shipped(url, sha256)


def receipt_in_log(client: ClientFactory, launch: Launch, member: str, container: str) -> dict[str, Any] | None:
    """What a worker in a container printed last; None where its log has none (yet). Never raises."""
    places = tuple(place for place in (launch.ecs.logs if launch.ecs else ()) if place.container == container)
    for line in reversed(awslogs.last_lines(client, places[0], member) if places else ()):
        if line.startswith('{"done"'):
            try:
                said = json.loads(line)
            except ValueError:
                continue
            return said if is_receipt(said) else None
    return None


class CrewCase(Case):
    """
    What one waiting process remembers of these machines. Each is a machine by itself: one that never boots is stopped
    alone.
    """

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        self.crew = Crew(launch.ids)

    def judged(self, seen: Sequence[Sighting], now: datetime) -> Judged:
        judged = super().judged(seen, now)
        dated = [self._dated(sighting, now) for sighting in seen]
        stopped = any(sighting.stopped_by == BY_PERSON for sighting in seen)
        self.crew = Crew(self.launch.ids, ended_members(self.launch, dated, now), stopped)
        unbooted = tuple(s.member for s in seen if getattr(s, "boot_evidence", None) is not None)
        if self.launch.made_of != "ec2" or NEVER_BOOTED not in judged.over:
            return judged
        return replace(judged, over={**judged.over, NEVER_BOOTED: unbooted})


class CrewWaited(Waited):
    """A crew in the poll that all waits share."""

    def __init__(self, launch: Launch, poll_interval: float) -> None:
        super().__init__(launch, poll_interval)
        self._case: CrewCase = CrewCase(launch)

    @property
    def crew(self) -> Crew:
        return self._case.crew


class CrewWatch(Watch):
    """A worker's own looks at the machines, and at times at the queue. Where a launch's end in a verdict, a turn."""

    def __init__(self, launcher: Launcher, launch: Launch, terms: Terms, connect: Callable[[], ClientFactory]) -> None:
        super().__init__(launcher, launch)
        self._case: CrewCase = CrewCase(launch)
        self._terms, self._waiting = terms, Waiting()
        self._reader = Reader(connect, (terms.queue,))
        self._next: datetime | None = None

    def look(self, now: datetime) -> tuple[Any, str]:
        words = super().look(now)[1] if self.launch.ids else ""
        crew = self._case.crew
        if self._next and now < self._next:
            turn: Turn | None = on_sighting(self._terms, crew, self._waiting, now)
        else:
            self._next = now + timedelta(seconds=self._terms.interval)
            look = read(self._reader, now)
            self._waiting = self._waiting.after(look, now)
            turn = on_reading(self._terms, crew, self._waiting, look, now)
        return turn, "; ".join(filter(None, (self._waiting.said, words)))


def read(reader: Reader, now: datetime) -> Any:
    """A queue that is gone or closed is no answer while machines work; the end tells it."""
    try:
        return reader.look(now)
    except (SpecError, AccessError) as error:
        return unread(", ".join(reader.queues), error)
