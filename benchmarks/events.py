"""How many events reach the triggerer that waits for them, and how fast, when two triggerers read one queue.

`python -m benchmarks.events`: two processes read one queue of the local cloud, and pause where a message comes again
that they gave back; events of what either waits for come one by one, and then all at once. For docs/events.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow_transient.aws.inbox import Inbox
from benchmarks.figures import ROOT, measured_by, share, table, write

PAGE = ROOT / "docs" / "events.md"
PAUSES = (0.0, 0.1, 0.2, 0.5)
REGION = "eu-west-1"
DETAIL_TYPE = "EC2 Instance State-change Notification"
#: Seconds after the last event in which the queue may empty itself.
PATIENCE = 60.0
#: Seconds between the events that come one by one.
TRICKLE = 0.1
LISTENING = "listening"


# --- a triggerer, as far as events go: one process ----------------------------------------------------------------


class Ears:
    """In place of a poll: notes when it was woken for whom."""

    def __init__(self) -> None:
        self.heard: dict[str, float] = {}

    def wake(self, members: Sequence[str]) -> None:
        for member in members:
            self.heard.setdefault(member, time.time())


async def listen(queue: str, prefix: str, count: int) -> dict[str, float]:
    from airflow_transient.core.launch import Launch
    from airflow_transient.triggers import events

    ears, waits, moment = Ears(), events.Waits(), datetime.now(timezone.utc)
    launches = [
        Launch("ec2", f"{prefix}{n}-1", "n", (f"i-{prefix}{n}",), REGION, moment, moment, moment) for n in range(count)
    ]
    for launch in launches:
        poll: Any = ears
        waits.add(launch, events.Waker(asyncio.get_running_loop(), poll, launch.ids[0]))  # type: ignore[arg-type]
    events.Listener(queue, lambda: connected(queue), waits).begin()
    await asyncio.to_thread(sys.stdin.readline)
    return ears.heard


def connected(queue: str) -> Inbox:
    """Before it says so, no event is sent: the first client of a process takes its time."""
    import boto3

    inbox = Inbox(lambda service, region_name=None: boto3.client(service, region_name), queue)
    inbox.receive(0)
    print(LISTENING, flush=True)
    return inbox


def be_a_triggerer(queue: str, prefix: str, count: int, pause: float) -> None:
    from airflow_transient.triggers import events

    events.GIVE_WAY = pause
    print(json.dumps(asyncio.run(listen(queue, prefix, count))), flush=True)
    os._exit(0)  # its listener may ask for another twenty seconds


# --- the measurement ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """`late`: seconds from each event's emission to its wait's waking, of those that were woken by it."""

    sent: int
    late: tuple[float, ...]
    receives: int

    def row(self) -> list[str]:
        reached = f"{len(self.late) / self.sent:.1%}"
        times = [f"{share(self.late, part):.2f}" for part in (0.5, 0.95)] if self.late else ["", ""]
        return [reached, *times, f"{self.receives / self.sent:.1f}"]


def measured(cloud: Any, queue: str, pause: float, count: int, gap: float, triggerers: int) -> Told:
    from airflow_transient.localcloud import events

    name = queue.rpartition(":")[2]
    prefixes = [f"{letter}{int(pause * 1000)}x" for letter in "ab"[:triggerers]]
    before = cloud.queue_calls(name)["ReceiveMessage"]
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(child(cloud, queue, prefix, count, pause)) for prefix in prefixes]
        sent = {}
        for number in range(count):
            for prefix in prefixes:
                member = f"i-{prefix}{number}"
                sent[member] = time.time()
                events.emit("aws.ec2", DETAIL_TYPE, {"instance-id": member, "state": "terminated"}, region=REGION)
                time.sleep(gap)
        until_empty(cloud, name)
        heard: dict[str, float] = {}
        for process in children:
            heard |= json.loads(process.communicate("over\n", timeout=30)[0].splitlines()[-1])
        receives = cloud.queue_calls(name)["ReceiveMessage"] - before
    return Told(len(sent), tuple(heard[member] - sent[member] for member in heard), receives)


@contextlib.contextmanager
def child(cloud: Any, queue: str, prefix: str, count: int, pause: float) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "benchmarks.events", "--be", queue, prefix, str(count), str(pause)]
    env = {**os.environ, **cloud.env}
    process = subprocess.Popen(argv, env=env, cwd=ROOT, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True)
    try:
        for line in process.stdout or ():
            if line.strip() == LISTENING:
                break
        yield process
    finally:
        process.kill()
        process.wait()


def until_empty(cloud: Any, name: str) -> None:
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    end, empty = time.monotonic() + PATIENCE, 0
    while time.monotonic() < end and empty < 4:
        counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()
        empty = empty + 1 if sum(map(int, counts)) == 0 else 0
        time.sleep(0.25)


def rows(cloud: Any, queue: str, pauses: Sequence[float], count: int) -> Iterator[list[str]]:
    yield ["one", "", *told(cloud, queue, pauses[0], count, 1)]
    for pause in pauses:
        yield ["two", f"{pause:g} s", *told(cloud, queue, pause, count, 2)]


def told(cloud: Any, queue: str, pause: float, count: int, triggerers: int) -> list[str]:
    one_by_one = measured(cloud, queue, pause, count, TRICKLE, triggerers).row()
    return [*one_by_one, *measured(cloud, queue, pause, count, 0.0, triggerers).row()[:3]]


HEAD = (
    *(
        "triggerers",
        "pause where it comes again",
        "reached its triggerer",
        "median, s",
        "p95, s",
        "ReceiveMessage an event",
    ),
    *("all at once: reached", "median, s", "p95, s"),
)


def main() -> None:
    wishes = parsed()
    if wishes.be:
        queue, prefix, count, pause = wishes.be
        return be_a_triggerer(queue, prefix, int(count), float(pause))
    from airflow_transient.aws.events import Events
    from airflow_transient.core.event_rules import Wanted
    from airflow_transient.localcloud import LocalCloud
    from airflow_transient.triggers.events import GIVE_WAY

    with LocalCloud() as cloud:
        arn = str(Events(cloud.client, Wanted("benchmark")).setup().arn)
        lines = table(HEAD, rows(cloud, arn, wishes.pauses, wishes.count))
    said = (
        f"{wishes.count} events for each triggerer, one every {TRICKLE:g} s, then all at once; from the event to the "
        f"waking of its wait. The pause is {GIVE_WAY:g} s. {measured_by('python -m benchmarks.events')}"
    )
    write("events", f"{lines}\n\n{said}", Path(wishes.page))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="events for each triggerer (%(default)s)")
    parser.add_argument("--pauses", type=float, nargs="+", default=PAUSES, help="seconds, tried one by one")
    parser.add_argument("--page", default=str(PAGE), help="where the table goes")
    parser.add_argument("--be", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
