"""`python -m benchmarks.worker`: how fast workers drain a queue of short jobs, and what a message costs them.

SQS and S3 are a stand-in that answers at once, so that the figures are the worker's own: AWS adds its four answers'
time to each message, and more processes take that away again. The table goes into docs/worker.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_transient.worker import Job, write_message
from benchmarks import figures
from benchmarks.stand_in import KEYS, served

PAGE = figures.ROOT / "docs" / "worker.md"
#: messages, processes
DRAINS = ((1000, 1), (5000, 4))
KiB = 1024
HEAD = (
    "messages of 1 KiB",
    "processes",
    "drained in",
    "messages a second",
    "CPU a message",
    "calls a message",
    "memory",
)


@dataclass
class Sender:
    """A queue of such messages, an object that every key names, and the keys that were written."""

    messages: deque[str]
    kept: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)

    def sqs(self, action: str, words: dict[str, Any]) -> dict[str, Any]:
        self.calls[action] += 1
        if action == "DeleteMessage":
            self.deleted.add(words["ReceiptHandle"])
        if action != "ReceiveMessage":
            return {}
        try:
            body = self.messages.popleft()
        except IndexError:
            time.sleep(words["WaitTimeSeconds"])
            return {}
        name = json.loads(body)["id"]
        return {"Messages": [{"MessageId": name, "ReceiptHandle": name, "Body": body, "Attributes": {}}]}

    def s3(self, method: str, target: str, body: bytes) -> bytes:
        self.calls[method] += 1
        if method == "PUT":
            self.kept.add(target)
        return b"x" * KiB if method == "GET" else b""


@dataclass(frozen=True)
class Drain:
    messages: int
    processes: int
    seconds: float
    cpu: float
    memory: int
    calls: int

    def row(self) -> list[str]:
        return [
            f"{self.messages:,}",
            str(self.processes),
            f"{self.seconds:.0f} s",
            f"{self.messages / self.seconds:.0f}",
            f"{1000 * self.cpu / self.messages:.1f} ms",
            f"{self.calls / self.messages:.2f}",
            f"{self.memory / KiB:.0f} MiB a process",
        ]


def bodies(messages: int) -> deque[str]:
    jobs = (Job(f"job-{n}", "s3://files/in/a.txt", f"s3://files/out/{n}") for n in range(messages))
    return deque(map(write_message, jobs))


def drain(messages: int, processes: int) -> Drain:
    stand_in = Sender(bodies(messages))
    server = served(stand_in)
    url = f"http://127.0.0.1:{server.server_port}"
    line = [
        sys.executable,
        "-m",
        "airflow_transient.worker",
        "--queue",
        f"{url}/1/jobs",
        "--dead-letter",
        f"{url}/1/dead",
    ]
    line += ["--region", "eu-west-1", "--failures", "s3://files/failures", "--processes", str(processes)]
    begun = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*line, "--idle-timeout", "1", "--", "cp"],
            env={**os.environ, **KEYS, "AWS_ENDPOINT_URL": url},
            stdout=log,
            stderr=log,
        )
        while len(stand_in.deleted) < messages and process.poll() is None:
            time.sleep(0.01)
        seconds = time.monotonic() - begun
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    server.shutdown()
    server.server_close()
    if process.returncode or len(stand_in.kept) != messages:
        raise SystemExit(f"exit code {process.returncode}, {len(stand_in.kept)} outputs of {messages}")
    cpu = used.ru_utime + used.ru_stime
    return Drain(messages, processes, seconds, cpu, used.ru_maxrss, sum(stand_in.calls.values()))


def main(drains: Sequence[tuple[int, int]] = DRAINS, page: Path = PAGE) -> None:
    rows = [drain(*each).row() for each in drains]
    said = f"{figures.measured_by('python -m benchmarks.worker')} Beside other work: load {os.getloadavg()[0]:.0f}."
    figures.write("drain", f"{figures.table(HEAD, rows)}\n\n{said}", page)


if __name__ == "__main__":
    main()
