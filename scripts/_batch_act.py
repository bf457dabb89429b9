"""The demo's third act: a hundred files, one that no worker can do, one worker killed at work."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from _furniture import BUCKET, DEAD_LETTERS
from _queue_act import depth
from up import say

from airflow_transient.localcloud import LocalCloud

DAG_ID, TASK_ID, QUEUE = "batch_from_s3", "work", "batch"
INCOMING, DONE, WORK = "batch/incoming/", "batch/done/", "batch/work/"
FILES = 100
NAMES = tuple(f"sample {number:03}.txt" for number in range(FILES))
#: An upload that was cut off before its first byte: the job refuses it each time.
POISONED = NAMES[41]
#: Takes seconds to compress, so that its worker can be killed in the middle of it.
LONG = NAMES[7]
LONG_SIZE, SIZE = 4_000_000, 20_000
LOOK_EVERY = 0.05
#: Bytes to letters of DNA; gzip finds little in them that it has seen before, and is slow.
LETTERS = bytes(b"ACGT"[each % 4] for each in range(256))


def content(name: str) -> bytes:
    """The same for the same name, and for no other."""
    if name == POISONED:
        return b""
    size = LONG_SIZE if name == LONG else SIZE
    return random.Random(name).randbytes(size).translate(LETTERS)  # noqa: S311 - the same each time


def fill(cloud: LocalCloud) -> None:
    s3 = cloud.client("s3")
    for name in NAMES:
        s3.put_object(Bucket=BUCKET, Key=INCOMING + name, Body=content(name))
    say(f"  files          {FILES} are in s3://{BUCKET}/{INCOMING}; {POISONED} is empty, and the job refuses that")


# --- one worker is killed -----------------------------------------------------------------------------------------


@contextmanager
def one_worker_killed(tell: Callable[[str], None]) -> Iterator[None]:
    """Within the block, the first worker of ours that is at work on the long file dies of SIGKILL, once."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_EVERY):
            if worker := at_work_on(LONG):
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    tell(f"killed: the worker at work on {LONG}, by SIGKILL")
                    return

    thread = threading.Thread(target=watch, name="killer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def at_work_on(name: str) -> int | None:
    """The process of a worker, seen from outside its machine, whose command has this file; below us only."""
    for pid in (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()):
        words = command_line(pid)
        if words[:1] == [b"gzip"] and words[-1].endswith(b"/" + name.encode()):
            above = list(ancestors(pid))
            workers = [each for each in above if any(word.endswith(b"/worker.py") for word in command_line(each))]
            return workers[0] if workers and os.getpid() in above else None
    return None


def ancestors(pid: int) -> Iterator[int]:
    """Parent, its parent, and so on; as far as they are still there."""
    with suppress(OSError):
        while pid > 1:
            # The name, in brackets, may hold anything: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            yield pid


def command_line(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return []


# --- what is there afterwards -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """A line of a worker's log."""

    machine: str
    words: dict[str, Any]

    @property
    def worker(self) -> tuple[str, int]:
        return self.machine, int(self.words["pid"])

    @property
    def at(self) -> datetime:
        return datetime.strptime(self.words["at"], "%Y-%m-%dT%H:%M:%SZ")

    def says(self, event: str, **words: Any) -> bool:
        return all(self.words.get(name) == value for name, value in {"event": event, **words}.items())


@dataclass(frozen=True)
class Found:
    """What there is, of the cloud's and Airflow's own saying."""

    machines: list[dict[str, Any]]
    right: list[str]
    wrong: list[str]
    letters: list[tuple[str, str]]
    waiting: list[int]
    buried: int
    events: list[Event]
    sandboxes: list[int]
    sent: dict[str, Any]
    verdict: dict[str, Any]
    report: str

    @property
    def messages(self) -> dict[str, int]:
        return dict(self.verdict.get("messages", {}))

    @property
    def running(self) -> list[str]:
        return [machine["InstanceId"] for machine in self.machines if machine["State"]["Name"] != "terminated"]


def summary(cloud: LocalCloud, machines: list[dict[str, Any]], left_by: Callable[..., Any]) -> list[str]:
    """Ask the cloud and Airflow what there is, and print it; what is not as it should be."""
    right, wrong = outputs(cloud)
    found = Found(
        machines=machines,
        right=right,
        wrong=wrong,
        letters=dead_letters(cloud),
        waiting=depth(cloud, QUEUE),
        buried=sum(depth(cloud, DEAD_LETTERS)),
        events=list(logged(cloud)),
        sandboxes=cloud.sandbox_pids(),
        sent=left_by(DAG_ID, "enqueue") or {},
        verdict=left_by(DAG_ID, TASK_ID) or {},
        report=str(left_by(DAG_ID, "report")),
    )
    show(found)
    return [fault for fault, holds in expected(found).items() if not holds]


def show(found: Found) -> None:
    say("\n  read back from the cloud")
    for each in found.verdict.get("growth", []):
        say(f"  why so many    {each['count']}: {each['reason']}")
    for machine in found.machines:
        say(f"  instance       {told(machine, found.events)}")
    say(f"  outputs        {len(found.right)} exactly right, {len(found.wrong)} not, in s3://{BUCKET}/{DONE}")
    for name, why in found.letters:
        say(f"  dead letter    {name}: {why}")
    say(f"  messages       {sum(found.waiting)} in {QUEUE}, {found.buried} in {DEAD_LETTERS}")
    say(f"  killed         {the_interrupted(found.events) or 'no worker'}")
    say(f"  verdict        {found.verdict.get('outcome')} (XCom of {DAG_ID}.{TASK_ID}), {found.messages}")
    say(f"  report         {found.report} (XCom of {DAG_ID}.report)")
    say(f"  left running: {len(found.running)} instances")


def expected(found: Found) -> dict[str, bool]:
    """What is said where it does not hold."""
    good, sent, outcome = FILES - 1, found.sent.get("enqueued"), found.verdict.get("outcome")
    there, counted, said = len(found.machines), found.verdict.get("machines"), found.messages
    only = [name for name, _ in found.letters] == [POISONED] and found.buried == 1
    receipts = (said.get("processed"), said.get("dead_lettered")) == (good, 1)
    return {
        f"{sent} files were enqueued, not {FILES}": sent == FILES,
        f"{len(found.right)} outputs are right, not {good}": len(found.right) == good,
        f"these outputs are wrong, or nobody asked for them: {found.wrong}": not found.wrong,
        f"{found.buried} in {DEAD_LETTERS}, {found.letters}, not {POISONED} alone": only,
        f"the queue still holds {found.waiting}": not any(found.waiting),
        "no worker was killed at work whose file another did": the_interrupted(found.events) is not None,
        f"the verdict in XCom is {outcome!r}": outcome == "succeeded",
        f"the workers' receipts say {said}": receipts,
        f"the report in XCom is {found.report!r}": found.report == f"{FILES} files sent, {good} processed, 1 given up",
        f"{there} instances are there, and the verdict says {counted}": there == counted,
        f"left running: {found.running}": not found.running,
        f"sandboxes are left: {found.sandboxes}": not found.sandboxes,
    }


def told(machine: dict[str, Any], events: list[Event]) -> str:
    member, reason = machine["InstanceId"], machine.get("StateReason", {}).get("Code")
    said = Counter(event.words["event"] for event in events if event.machine == member)
    state = f"{machine['State']['Name']} ({reason})"
    return f"{member}, {machine['InstanceType']}, {state}, {said['done']} done, {said['failed']} tries failed"


def outputs(cloud: LocalCloud) -> tuple[list[str], list[str]]:
    """Those that are exactly their input, compressed; and all others."""
    right: list[str] = []
    wrong: list[str] = []
    for key in keys(cloud, DONE):
        name = key.removeprefix(DONE).removesuffix(".gz")
        (right if name in NAMES and unpacked(read(cloud, key)) == content(name) else wrong).append(name)
    return right, wrong


def unpacked(packed: bytes) -> bytes | None:
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError):
        return None


def dead_letters(cloud: LocalCloud) -> list[tuple[str, str]]:
    """Whose they are, and why; they stay where they are."""
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=DEAD_LETTERS)["QueueUrl"]
    ask, found = {"QueueUrl": url, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}, []
    while got := sqs.receive_message(**ask).get("Messages"):
        for message in got:
            why = {name: each["StringValue"] for name, each in message.get("MessageAttributes", {}).items()}
            name = str(json.loads(message["Body"])["input"]).rpartition("/")[2]
            found.append((name, f"{why.get('transient.failures')} failures, {why.get('transient.reason')}"))
    return found


def logged(cloud: LocalCloud) -> Iterator[Event]:
    """What the workers said, from the logs that their machines kept in S3."""
    for key in keys(cloud, WORK):
        if key.endswith("/job.log"):
            for line in read(cloud, key).splitlines():
                if line.startswith(b'{"at"'):
                    yield Event(key.split("/")[-2], json.loads(line))


def the_interrupted(events: list[Event]) -> str | None:
    """Which worker was killed at which file, and who did it instead; None where that is not what happened."""
    for death in (event for event in events if event.says("worker-died", code=-signal.SIGKILL)):
        worker = death.machine, int(death.words["worker"])
        its = [event for event in events if event.worker == worker]
        begun = {event.words["message"] for event in its if event.says("received")}
        for message in begun - {event.words.get("message") for event in its if not event.says("received")}:
            done = [event for event in events if event.says("done", message=message)]
            if len(done) == 1 and done[0].worker != worker:
                seconds = (done[0].at - death.at).total_seconds()
                other = "another" if done[0].machine == death.machine else f"one of {done[0].machine}"
                return f"a worker of {death.machine}, signal 9; {other} did its file {seconds:.0f} s later"
    return None


def keys(cloud: LocalCloud, prefix: str) -> list[str]:
    pages = cloud.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [found["Key"] for page in pages for found in page.get("Contents", ())]


def read(cloud: LocalCloud, key: str) -> bytes:
    return bytes(cloud.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())
