"""`python -m benchmarks.enqueue`: how fast files become objects and messages, and what that takes.

S3 and SQS are a stand-in that answers at once, so that the figures are ours: AWS adds its answers' time, of which
sixteen pass side by side. The table goes into docs/batch.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from benchmarks import figures
from benchmarks.stand_in import KEYS, served

PAGE = figures.ROOT / "docs" / "batch.md"
#: files of a directory, and whether an earlier try had sent them all
RUNS = ((1000, False), (10_000, False), (10_000, True))
KiB = 1024
HEAD = ("files of 1 KiB", "took", "files a second", "CPU a file", "calls a file", "memory")
CHILD = "from benchmarks import enqueue; enqueue.once()"


@dataclass
class Receiver:
    """Counts what comes, and keeps manifests only."""

    messages: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    kept: dict[str, bytes] = field(default_factory=dict)

    def sqs(self, action: str, words: dict[str, Any]) -> dict[str, Any]:
        self.calls[action] += 1
        if action != "SendMessageBatch":
            return {}
        self.messages += len(words["Entries"])
        return {"Successful": [{"Id": each["Id"], "MessageId": each["Id"]} for each in words["Entries"]]}

    def s3(self, method: str, target: str, body: bytes) -> bytes:
        self.calls[method] += 1
        url = urlsplit(target)
        query = parse_qs(url.query)
        if "list-type" in query:
            keys = sorted(key for key in self.kept if key.startswith(query["prefix"][0]))
            found = "".join(f"<Contents><Key>{escape(key)}</Key><Size>1</Size></Contents>" for key in keys)
            return f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()
        key = url.path.partition("/files/")[2]
        if method == "PUT" and "_manifests/" in key:
            self.kept[key] = body
        return self.kept[key] if method == "GET" else b""


def once() -> None:
    """In a process of its own, whose memory and CPU are measured: one try."""
    import boto3
    from botocore.config import Config

    from airflow_transient.aws.enqueue import Tools, enqueue
    from airflow_transient.core.batch.spec import EnqueueSpec

    folder, url, resumed = sys.argv[1:]

    def client(service: str, **config: Any) -> Any:
        return boto3.client(service, "eu-west-1", endpoint_url=url, config=Config(**config))

    spec = EnqueueSpec.of(
        source=folder, sqs_queue=f"{url}/1/jobs", input_prefix="s3://files/in", outputs="s3://files/out/"
    )
    said = enqueue(spec, "run", client, {}, resumed == "yes", Tools(say=lambda line: print(line, file=sys.stderr)))
    print(json.dumps(said.to_dict()))


@dataclass(frozen=True)
class Measured:
    files: int
    resumed: bool
    seconds: float
    cpu: float
    memory: int
    calls: int

    def row(self) -> list[str]:
        return [
            f"{self.files:,}" + (", all sent by the try before" if self.resumed else ""),
            f"{self.seconds:.1f} s",
            f"{self.files / self.seconds:,.0f}",
            f"{1000 * self.cpu / self.files:.1f} ms",
            f"{self.calls / self.files:.2f}",
            f"{self.memory / KiB:.0f} MiB",
        ]


def measure(stand_in: Receiver, url: str, folder: Path, files: int, resumed: bool) -> Measured:
    before, sent = stand_in.calls.total(), stand_in.messages
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), url, "yes" if resumed else "no"],
        env={**os.environ, **KEYS},
        stdout=subprocess.PIPE,
    )
    assert process.stdout  # noqa: S101 - it was asked for
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or stand_in.messages - sent != (0 if resumed else files):
        raise SystemExit(f"exit code {process.returncode}, {stand_in.messages - sent} messages of {files}")
    seconds = json.loads(said)["seconds"]
    cpu = used.ru_utime + used.ru_stime
    return Measured(files, resumed, seconds, cpu, used.ru_maxrss, stand_in.calls.total() - before)


def filled(folder: Path, files: int) -> Path:
    if not folder.exists():
        folder.mkdir()
        for number in range(files):
            (folder / f"{number:05}.txt").write_bytes(b"x" * KiB)
    return folder


def main(runs: Sequence[tuple[int, bool]] = RUNS, page: Path = PAGE) -> None:
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as place:
        stand_in = Receiver()
        for files, resumed in runs:
            if not resumed:
                stand_in = Receiver()
            server = served(stand_in)
            folder = filled(Path(place, str(files)), files)
            rows.append(measure(stand_in, f"http://127.0.0.1:{server.server_port}", folder, files, resumed).row())
            server.shutdown()
            server.server_close()
    said = f"{figures.measured_by('python -m benchmarks.enqueue')} Beside other work: load {os.getloadavg()[0]:.0f}."
    figures.write("enqueue", f"{figures.table(HEAD, rows)}\n\n{said}", page)


if __name__ == "__main__":
    main()
