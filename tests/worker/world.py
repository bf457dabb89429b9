"""A queue, its dead letter queue, three buckets' worth of places, and workers as processes of their own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_transient.worker import Job, write_message

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "airflow_transient" / "worker.py"
#: The worker's own, which may be older than ours.
PYTHON = os.environ.get("TRANSIENT_WORKER_PYTHON", sys.executable)
#: What a command finds: its own name is $0, INPUT $1, OUTPUT $2.
UPPER = ("sh", "-c", 'tr a-z A-Z <"$1" >"$2"', "upper")


def wait_for(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s")
        time.sleep(0.02)
    return found


@dataclass
class Run:
    """One worker.py as a process."""

    process: subprocess.Popen[str]
    folder: Path
    receipt: dict[str, Any] = field(default_factory=dict)
    said: str = ""

    @property
    def events(self) -> list[dict[str, Any]]:
        said = self.said or (self.folder / "stderr").read_text()
        # The last line may be in the middle of being written.
        return [json.loads(line) for line in said.splitlines(keepends=True) if line[:1] == "{" and line[-2:] == "}\n"]

    def event(self, name: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == name]

    def end(self, seconds: float = 60.0) -> int:
        code = self.process.wait(seconds)
        self.said = (self.folder / "stderr").read_text()
        lines = (self.folder / "stdout").read_text().splitlines()
        self.receipt = json.loads(lines[-1]) if lines else {}
        return code

    def term(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def pids(self) -> list[int]:
        """Its processes of work, the supervisor not among them."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def left_behind(self) -> list[Path]:
        return list((self.folder / "tmp").iterdir())


class World:
    def __init__(
        self, cloud: Any, folder: Path, *, fifo: bool = False, visibility: str = "0", receives: int = 8
    ) -> None:
        self.cloud, self.folder = cloud, folder
        self.sqs, self.s3 = cloud.client("sqs"), cloud.client("s3")
        self.name, end = f"jobs-{uuid.uuid4().hex[:8]}", ".fifo" if fifo else ""
        kind = {"FifoQueue": "true"} if fifo else {}
        self.dead = self._queue(f"{self.name}-dead{end}", kind)
        arn = self.sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": receives})
        self.name += end
        # A visibility of 0 is the worst a queue can have: the worker asks for its own.
        self.queue = self._queue(self.name, {**kind, "VisibilityTimeout": visibility, "RedrivePolicy": redrive})
        self.bucket = f"files-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": cloud.region})
        self.runs: list[Run] = []

    def _queue(self, name: str, attributes: dict[str, str]) -> str:
        return str(self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

    # --- what there is to do ------------------------------------------------------------------------------------

    def put(self, key: str, body: bytes = b"words") -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def job(self, name: str, body: bytes | None = b"words", parameters: Sequence[str] = (), **more: Any) -> Job:
        """An input object and its message."""
        if body is not None:
            self.put(f"in/{name}", body)
        url = f"s3://{self.bucket}"
        identity = more.pop("id", f"job-{zlib.crc32(name.encode())}")
        job = Job(identity, f"{url}/in/{name}", f"{url}/out/{name}", tuple(parameters))
        self.send(write_message(job), **more)
        return job

    def send(self, body: str, **more: Any) -> None:
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=body, **more)

    # --- who does it --------------------------------------------------------------------------------------------

    def start(self, *options: str, command: Sequence[str] = UPPER, python: str = PYTHON, **env: str) -> Run:
        folder = self.folder / f"run-{len(self.runs)}"
        (folder / "tmp").mkdir(parents=True)
        usual = {"--idle-timeout": "1", "--retry-delay": "0", "--visibility": "30", "--queue": self.queue}
        usual |= {"--failures": f"s3://{self.bucket}/failures", "--temp": str(folder / "tmp")}
        given = [word for name, value in usual.items() if name not in options for word in (name, value)]
        with open(folder / "stdout", "w") as out, open(folder / "stderr", "w") as err:
            process = subprocess.Popen(
                [python, str(WORKER), *given, *options, "--", *command],
                env={**os.environ, **self.cloud.env, **env},
                stdout=out,
                stderr=err,
                text=True,
                start_new_session=True,
            )
        self.runs.append(Run(process, folder))
        return self.runs[-1]

    def work(self, *options: str, **more: Any) -> Run:
        """To its end."""
        run = self.start(*options, **more)
        run.end()
        return run

    def close(self) -> None:
        for run in self.runs:
            if run.process.poll() is None:
                run.term()
                run.process.wait(30)

    # --- what came of it ----------------------------------------------------------------------------------------

    def outputs(self) -> dict[str, bytes]:
        return {key.removeprefix("out/"): self.read(key) for key in self.keys("out/")}

    def keys(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def failures(self) -> list[dict[str, Any]]:
        return [json.loads(self.read(key)) for key in sorted(self.keys("failures/"))]

    def left(self, queue: str | None = None) -> int:
        """Messages of any kind."""
        names = [f"ApproximateNumberOfMessages{each}" for each in ("", "NotVisible", "Delayed")]
        answer = self.sqs.get_queue_attributes(QueueUrl=queue or self.queue, AttributeNames=names)
        return sum(map(int, answer["Attributes"].values()))

    def visible(self) -> int:
        name = "ApproximateNumberOfMessages"
        answer = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=[name])
        return int(answer["Attributes"][name])

    def buried(self) -> list[dict[str, Any]]:
        """The dead letters."""
        return list(self._drained())

    def _drained(self) -> Iterator[dict[str, Any]]:
        while True:
            answer = self.sqs.receive_message(
                QueueUrl=self.dead, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"]
            )
            if not answer.get("Messages"):
                return
            for message in answer["Messages"]:
                self.sqs.delete_message(QueueUrl=self.dead, ReceiptHandle=message["ReceiptHandle"])
                yield message


def program(path: Path, script: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def altered(world: World, how: str) -> dict[str, str]:
    """A python that changes something of the worker before it begins."""
    script = f"import functools, sys; from airflow_transient import worker; {how}; sys.exit(worker.main(sys.argv[2:]))"
    python = program(world.folder / "python", f'exec {shlex.quote(PYTHON)} -c {shlex.quote(script)} "$@"')
    return {"python": python, "PYTHONPATH": str(ROOT)}
