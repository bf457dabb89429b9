"""A queue's worker: receive a message, run a command on its file, keep the result, delete the message.

One file, Python 3.9 and boto3, so that it can be shipped alone to a machine or a container that has no Airflow:

    python3 worker.py --queue jobs --failures s3://bucket/failures -- convert-it --quietly

Laws: output before delete. A recorded failure is the only thing that counts against a message: being killed, reclaimed,
throttled or cut off from the network is not one. Whatever happens to a worker, its message comes back.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import ctypes
import errno
import functools
import hashlib
import json
import math
import mmap
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: SQS counts 12 h from the moment a message is received; extending does not start them anew.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
LONGEST_LEASE = 12 * 3600
#: What is left of those for fetching the input and keeping the output.
LONGEST_JOB = LONGEST_LEASE - 600
LONG_POLL = 20
#: So long a poll may still go on when the worker was told to stop.
LAST_POLL = 3.0
#: Body and attributes together, since 2025; before it were 256 KiB.
LONGEST_MESSAGE = 1024 * 1024
MOST_ATTRIBUTES = 10
LONGEST_KEY = 1024
#: Of an S3 object fetched or kept in one call; larger ones travel in parts.
IN_ONE_CALL = 16 * 1024 * 1024
LONGEST_DELAY = 900
#: SQS's own redrive counts every receive, interrupted ones too: so many more than our failures it should allow.
INTERRUPTIONS = 5
#: A worker that is told to stop and has not after so many seconds is killed: ECS kills after 30 s.
PATIENCE = 20.0
ENDING = (signal.SIGTERM, signal.SIGINT)
NOTICE_INTERVAL = 5.0
#: So many deaths in a row of workers that did nothing in between, and the supervisor gives up.
DEATHS = 10
#: So often in a row there is no room for an input, and nobody else here whose end would make some.
NO_ROOM = 3
#: So many different objects denied, and none ever allowed: that is the role, and not the objects.
DENIED_OBJECTS = 3
#: So long a worker that begins waits for an AWS that does not answer yet, or for its credentials.
START_PATIENCE = 300.0
#: With less than so many seconds of its visibility left, a message is held anew before its output is kept.
MARGIN = 10.0

DRAINED, USAGE, CANNOT_WORK = 0, 2, 3

NO_BOTO3 = """boto3 is missing for {python}, and without it nothing reaches SQS or S3. It comes with:
  Amazon Linux 2023:  dnf install -y python3-boto3
  Debian, Ubuntu:     apt-get install -y python3-boto3
  container images:   RUN python3 -m pip install boto3
  anywhere else:      python3 -m pip install --user boto3"""


# --- what ends a message's try ------------------------------------------------------------------------------------


class BadMessage(ValueError):
    """This message cannot be understood, however often it is tried."""


class Failure(Exception):
    """The job failed, and that is recorded and counted."""

    def __init__(self, kind: str, reason: str, exit_code: int | None = None, tail: str = "") -> None:
        super().__init__(reason)
        self.kind, self.reason, self.exit_code, self.tail = kind, reason, exit_code, tail


class Denied(Failure):
    """One object is. others: are others still allowed? None: not known."""

    def __init__(self, what: str, refused: _Refused, url: str, others: bool | None) -> None:
        # S3's way of not telling what there is.
        hint = " Without s3:ListBucket a missing object looks the same." if what == "input" else ""
        super().__init__(f"{what}-refused", refused.said + hint)
        self.what, self.url, self.others, self.sentence = what, url, others, f"{refused}{hint}"


class Interruption(Exception):
    """Nobody's fault, and no failure: the message goes back and is tried again later.

    refused: AWS answered, and did nothing; else nobody knows what it did.
    """

    def __init__(self, reason: str, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class DiskFull(Interruption):
    """Something has filled this machine's disk; on another there may be room."""


class Gone(Exception):
    """The message is no longer ours: deleted, purged, or somebody else has it."""


class CannotWork(Exception):
    """The worker itself cannot go on, and no other here could: a sentence for whoever set it up."""


class NoCredentials(CannotWork):
    """None are to be found; a machine's role may reach it only a while after it has begun."""


class Stopped(BaseException):
    """We were told to stop; like KeyboardInterrupt none of Exception's, which botocore takes for network trouble."""


# --- messages: no clock, no network -------------------------------------------------------------------------------

VERSION = 1
FIELDS = ("version", "id", "input", "output", "parameters")
#: What SQS takes as a MessageDeduplicationId too.
ID = re.compile(r"[!-~]{1,128}")
S3_URL = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9])/(.+)", re.DOTALL)


@dataclass(frozen=True)
class Job:
    """One message's wish.

    :param id: the producer's, the same for the same input; 1 to 128 printable ASCII characters without spaces.
    :param input: s3://bucket/key, the key as it is: nothing in it is percent-encoded.
    :param output: the same.
    :param parameters: follow INPUT and OUTPUT on the command line.
    """

    id: str
    input: str
    output: str
    parameters: tuple[str, ...] = ()


def read_message(body: str, extension: str = "") -> Job:
    """The job in a message's body: our document, or the list of boto 2 producers, plain or base64.

    :param extension: with the list, what follows the file's name in the output's key.
    :raises BadMessage: says what is wrong with it.
    """
    words = _parsed(body)
    if isinstance(words, dict):
        return _checked(_of_document(words))
    if isinstance(words, list):
        return _checked(_of_list(words, extension))
    raise BadMessage("neither a JSON object nor a JSON list")


def write_message(job: Job) -> str:
    """The body that `read_message` reads; ASCII, because SQS refuses some characters that keys may hold.

    :raises BadMessage: the job could not be read back, or is too long for SQS (1 MiB).
    """
    words = {"version": VERSION, "id": job.id, "input": job.input, "output": job.output}
    if job.parameters:
        words["parameters"] = list(job.parameters)
    body = json.dumps(words)
    if len(body) > LONGEST_MESSAGE:
        raise BadMessage(f"the message has {len(body):,} bytes, and SQS takes {LONGEST_MESSAGE:,}")
    read_message(body)
    return body


def write_seed_message(bucket: str, input_prefix: str, output_prefix: str, name: str, *, encode: bool = True) -> str:
    """The message of old producers, for old consumers: ["process", bucket, in, out, name].

    :param encode: base64, as boto 2's Message does it.
    """
    body = json.dumps(["process", bucket, input_prefix, output_prefix, name])
    read_message(body)
    return base64.b64encode(body.encode()).decode() if encode else body


def split_url(url: str) -> tuple[str, str]:
    """s3://bucket/key as (bucket, key)."""
    found = S3_URL.fullmatch(url)
    if not found:
        raise BadMessage(f"{_short(url)} is not of the form s3://bucket/key")
    return found[1], found[2]


def _parsed(body: str) -> Any:
    for text in (body, _unpacked(body)):
        # A list in a list in a list …: Python says RecursionError.
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    raise BadMessage("no JSON, neither plain nor as base64")


def _unpacked(body: str) -> str:
    try:
        return base64.b64decode(body, validate=True).decode()
    except ValueError:
        return ""


def _of_document(words: dict[str, Any]) -> Job:
    version = words.get("version")
    if type(version) is not int or version != VERSION:  # to Python, True is 1
        raise BadMessage(f"version {_short(version)}: this worker reads version {VERSION}")
    unknown = sorted(set(words) - set(FIELDS))
    if unknown:
        raise BadMessage(f"unknown: {_short(', '.join(unknown))}; known: {', '.join(FIELDS)}")
    for name in ("id", "input", "output"):
        if not isinstance(words.get(name), str):
            raise BadMessage(f"{name} is not a string" if name in words else f"{name} is missing")
    parameters = words.get("parameters", [])
    if not isinstance(parameters, list) or not all(isinstance(each, str) for each in parameters):
        raise BadMessage("parameters is not a list of strings")
    return Job(words["id"], words["input"], words["output"], tuple(parameters))


def _of_list(words: list[Any], extension: str) -> Job:
    if not words or words[0] != "process":
        raise BadMessage(f"action {_short(words[0] if words else None)}: the only one known is 'process'")
    if len(words) != 5 or not all(isinstance(each, str) for each in words):
        raise BadMessage('not of the form ["process", bucket, input prefix, output prefix, file name]')
    _, bucket, source, target, name = words
    # Old producers give no id: the same file of the same place has the same.
    digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]
    return Job(f"file-{digest}", f"s3://{bucket}/{source}{name}", f"s3://{bucket}/{target}{name}{extension}")


def _checked(job: Job) -> Job:
    if not ID.fullmatch(job.id):
        raise BadMessage("id must be 1 to 128 printable ASCII characters without spaces")
    for url in (job.input, job.output):
        if len(_bytes(split_url(url)[1])) > LONGEST_KEY:
            raise BadMessage(f"a key of more than {LONGEST_KEY:,} bytes")
    for text in (job.input, job.output, *job.parameters):
        if b"\0" in _bytes(text):
            raise BadMessage("a NUL character, which no command line can hold")
    return job


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadMessage("half of a UTF-16 pair, which no key can hold") from None


def _short(value: Any) -> str:
    return ascii(value)[:80]


def file_name(key: str) -> str:
    """The last part of a key as a name that every file system takes and that leads nowhere else."""
    name = key.rpartition("/")[2]
    if name in ("", ".", ".."):
        return "file"
    if len(name.encode()) <= 255:
        return name
    # Its end says what it is; the digest keeps apart what differs before.
    end = name.encode()[-200:].decode(errors="ignore")
    return hashlib.sha256(name.encode()).hexdigest()[:16] + "-" + end


# --- rules: no clock, no network ----------------------------------------------------------------------------------

MISSING = {"NoSuchKey", "NoSuchBucket", "NotFound", "404"}
DENIED = {
    *("AccessDenied", "AccessDeniedException", "AllAccessDisabled", "Forbidden", "403", "KmsAccessDenied"),
    *("KMS.AccessDeniedException", "InvalidAccessKeyId", "SignatureDoesNotMatch", "UnrecognizedClientException"),
    *("InvalidClientTokenId", "MissingAuthenticationToken", "InvalidSecurity"),
    # A role's credentials are renewed before they end: these were given by hand, and nobody here can renew them.
    *("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"),
}
NO_QUEUE = {
    "QueueDoesNotExist",
    "AWS.SimpleQueueService.NonExistentQueue",
    "AWS.SimpleQueueService.QueueDeletedRecently",
}
NOT_OURS = {
    *("ReceiptHandleIsInvalid", "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight"),
    "InvalidParameterValue",  # "Message does not exist or is not available for visibility timeout change"
}
PASSING = {
    *("SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "InternalError", "ServiceUnavailable", "OverLimit"),
    *("RequestThrottled", "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException"),
    *("RequestLimitExceeded", "BandwidthLimitExceeded", "KmsThrottled", "KMS.ThrottlingException"),
    *("RequestThrottledException", "OperationAborted"),
}


def code_of(error: Any) -> tuple[str, int]:
    """AWS's error code and the HTTP status; ("", 0) where there was no answer."""
    # What boto3 says of transfers is a sentence; the answer is what it was made of.
    while not hasattr(error, "response") and error.__context__ is not None:
        error = error.__context__
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return "", 0
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(response.get("Error", {}).get("Code", "")), int(status)


def is_passing(code: str, status: int) -> bool:
    """Does it pass by itself? An error code that nobody knows is judged by its HTTP status."""
    return code in PASSING or (status >= 500 and code not in DENIED | MISSING)


def retry_delay(failures: int, first: float) -> int:
    """Seconds until a message that failed so often is tried again."""
    return int(min(LONGEST_DELAY, first * 2 ** min(failures - 1, 20)))


def lease(elapsed: float, visibility: int) -> int:
    """Seconds to ask for now; 0 when SQS gives no more."""
    return max(0, min(visibility, int(LONGEST_LEASE - elapsed)))


def dead_letter_attributes(body: str, own: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    """The message's own, and as many of these as fit beside them; the rest is in the failure's object."""
    attributes = dict(own)
    left = LONGEST_MESSAGE - len(body.encode()) - sum(map(_attribute_size, own.items()))
    for name, value in words.items():
        new = {"DataType": "String", "StringValue": value}
        size = _attribute_size((name, new))
        if value and size <= left and len(attributes) < MOST_ATTRIBUTES:
            attributes[name], left = new, left - size
    return attributes


def _attribute_size(item: tuple[str, dict[str, Any]]) -> int:
    name, value = item
    content = value.get("StringValue", "").encode() or value.get("BinaryValue", b"")
    return len(name) + len(value["DataType"]) + len(content)


def printable(text: str, limit: int = 1000) -> str:
    """What SQS takes as an attribute: no control characters."""
    return "".join(each if each.isprintable() else " " for each in text)[:limit]


@dataclass(frozen=True)
class QueueName:
    """A queue as its name, URL or ARN; the region where those say it."""

    name: str
    url: str = ""
    region: str = ""
    account: str = ""

    @classmethod
    def of(cls, words: str) -> QueueName:
        if words.startswith("arn:"):
            parts = words.split(":")
            if len(parts) == 6 and parts[2] == "sqs":
                return cls(parts[5], "", parts[3], parts[4])
        elif "://" in words:
            place = urllib.parse.urlsplit(words)
            region = re.search(r"sqs\.([a-z0-9-]+)\.", place.hostname or "")
            if place.path.count("/") == 2:
                return cls(place.path.rpartition("/")[2], words, region[1] if region else "")
        elif re.fullmatch(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo", words):
            return cls(words)
        raise CannotWork(f"{words} is no queue: give its name, its URL or its ARN.")


# --- what is said -------------------------------------------------------------------------------------------------


def say(event: str, **words: Any) -> None:
    """One line for one event, written at once: several processes share stderr. Never a message's body, no secrets."""
    line = {"at": moment(), "event": event, "pid": os.getpid(), **words}
    text = json.dumps({name: value for name, value in line.items() if value is not None})
    with contextlib.suppress(OSError):
        os.write(2, (text + "\n").encode())


def moment() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def clock() -> float:
    """Seconds, also those of a suspended machine where that can be known: SQS counts them too."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


COUNTED = ("done", "failed", "dead_lettered", "interrupted", "bytes_in", "bytes_out")


@dataclass
class Tally:
    """What one process, or all, came to. Processes send what they add as lines of a pipe, so a kill loses nothing."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))

    def add(self, words: dict[str, int]) -> None:
        for name, number in words.items():
            self.counts[name] += number


def receipt(tallies: Sequence[Tally], seconds: float, ended: str, problem: str) -> dict[str, Any]:
    """What all of it came to. bytes_in and bytes_out were moved, by tries that did not end well, too."""
    total = Tally()
    for tally in tallies:
        total.add(tally.counts)
    words = {
        **total.counts,
        "seconds": round(seconds, 3),
        "ended": ended,
        "processes": [each.counts for each in tallies],
    }
    return {**words, "problem": problem} if problem else words


def leave_receipt(receipt: dict[str, Any]) -> None:
    """On stdout, and where a launch looks for its job's result."""
    text = json.dumps(receipt)
    try:
        print(text, flush=True)
    except OSError:  # a log on a full disk; what print holds back must not fail the end once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    path = os.environ.get("TRANSIENT_RESULT")
    if path:
        with contextlib.suppress(OSError):
            Path(path + ".part").write_text(text + "\n", encoding="utf-8")
            os.replace(path + ".part", path)


# --- being told to stop -------------------------------------------------------------------------------------------


class Bell:
    """A pipe that signals and threads ring and a `select` hears."""

    def __init__(self) -> None:
        self.ear, self._hand = os.pipe()
        for end in (self.ear, self._hand):
            os.set_blocking(end, False)
        # SIGCHLD counts only where it has a handler.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._hand, warn_on_full_buffer=False)

    def ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._hand, b"!")

    def hush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self.ear, 4096):
                pass


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """In here SIGTERM and SIGINT break everything off."""

    def stop(*_: object) -> None:
        raise Stopped

    before = [signal.signal(number, stop) for number in ENDING]
    try:
        yield
    finally:
        for number, handler in zip(ENDING, before):
            signal.signal(number, handler)


class Stop:
    """SIGTERM and SIGINT: noted always, and breaking off only what was marked as good to break off."""

    def __init__(self) -> None:
        self.asked = False
        self._open = False
        self._patience = 0.0
        for number in ENDING:
            signal.signal(number, self._hear)
        signal.signal(signal.SIGALRM, self._break)

    def _hear(self, *_: object) -> None:
        self.asked = True
        if self._patience:
            signal.setitimer(signal.ITIMER_REAL, self._patience)
        else:
            self._break()

    def _break(self, *_: object) -> None:
        if self._open:
            self._open = False
            raise Stopped

    @contextlib.contextmanager
    def may_break(self, patience: float = 0.0) -> Iterator[None]:
        """patience: so many seconds after it was asked for."""
        self._open, self._patience = True, patience
        try:
            if self.asked:
                raise Stopped
            yield
        finally:
            self._open, self._patience = False, 0.0
            signal.setitimer(signal.ITIMER_REAL, 0)

    def nap(self, seconds: float) -> None:
        with self.may_break():
            time.sleep(seconds)


# --- processes ----------------------------------------------------------------------------------------------------

SET_PARENT_DEATH_SIGNAL, SET_CHILD_SUBREAPER = 1, 36


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere a job's stray children are found by their process group alone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def adopt_strays() -> None:
    """From now on, whoever below us loses its parent becomes our child, even out of another session."""
    _prctl(SET_CHILD_SUBREAPER, 1)


def children() -> set[int]:
    found = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found |= {int(pid) for pid in path.read_text().split()}
    return found


def end_children(keep: Sequence[int] = (), patience: float = 10.0) -> None:
    """Kill and bury every child but those, and theirs, which become ours as they lose their parent."""
    end = time.monotonic() + patience
    while left := children() - set(keep):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > end:  # something hangs in the kernel, and can be neither killed nor waited for
            return
        time.sleep(0.002)


class Tail:
    """The last bytes of what was written, however much that was."""

    def __init__(self, limit: int) -> None:
        self._limit, self._kept = limit, bytearray()

    def add(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > 2 * self._limit:
            del self._kept[: len(self._kept) - self._limit]  # -limit would keep all where the limit is 0

    def text(self) -> str:
        return bytes(self._kept[-self._limit :]).decode(errors="replace") if self._limit else ""


@dataclass(frozen=True)
class Ended:
    """How a command ended; code: as shells say it, None when it took too long."""

    code: int | None
    tail: str


def run_command(
    argv: Sequence[str], folder: str, limit: float, tail: int, bell: Bell, look: Callable[[], None]
) -> Ended:
    """Run it in a session of its own, and leave nothing of it. What it prints is held in memory, its end only.

    :param look: asked whenever the bell rang; what it raises ends the command.
    """
    kept = Tail(tail)
    with subprocess.Popen(
        argv,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        bufsize=0,
    ) as process:
        _blame_first(process.pid)
        try:
            in_time = _watch(process, kept, time.monotonic() + limit, bell, look)
        finally:
            # The leader is not buried yet, so its group's number cannot be somebody else's by now.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            end_children()
        _drain(process, kept)
    code = process.returncode
    return Ended((128 - code if code < 0 else code) if in_time else None, kept.text())


def _blame_first(pid: int) -> None:
    """Where memory runs out it shall be the job that goes, and not its worker."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("500")


def _watch(process: Any, kept: Tail, end: float, bell: Bell, look: Callable[[], None]) -> bool:
    """Until it has ended (True) or its time is up (False)."""
    os.set_blocking(process.stdout.fileno(), False)
    sources = [process.stdout, bell.ear]
    while True:
        look()
        # Seen, but not buried: see run_command.
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        left = end - time.monotonic()
        if left <= 0:
            return False
        ready, _, _ = select.select(sources, [], [], min(left, 60.0))
        if bell.ear in ready:
            bell.hush()
        if process.stdout in ready and not _drain(process, kept):
            sources.remove(process.stdout)


def _drain(process: Any, kept: Tail) -> bool:
    """What can be read now, a bit at a time; False at its end."""
    for _ in range(64):
        data = process.stdout.read(65536)
        if data is None:
            return True
        if not data:
            return False
        kept.add(data)
    return True


# --- AWS ----------------------------------------------------------------------------------------------------------


@functools.cache
def _session() -> Any:
    """One, made before the processes are: what it has read of AWS's models and credentials they then share."""
    import boto3

    return boto3.session.Session()


def clients(region: str, *services: str, patient: bool = True) -> list[Any]:
    """boto3's, made in the process that uses them.

    :param patient: try again for a minute or so; else one short try.
    """
    from botocore.config import Config

    retries = {"mode": "standard", "total_max_attempts": 6 if patient else 1}
    times = {"connect_timeout": 10, "read_timeout": 60} if patient else {"connect_timeout": 3, "read_timeout": 5}
    config = Config(retries=retries, user_agent_extra="airflow-transient-worker", **times)
    made = []
    for service in services:
        # boto3 before 1.28 does not know these variables.
        url = os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or os.environ.get("AWS_ENDPOINT_URL")
        made.append(_session().client(service, region_name=region, endpoint_url=url, config=config))
    return made


@contextlib.contextmanager
def asking(doing: str) -> Iterator[None]:
    """Whatever goes wrong with an AWS call in here, said in our words.

    :raises Interruption: it will pass.
    :raises CannotWork: not allowed, no credentials, no such queue.
    :raises Gone: the message is not ours any more.
    """
    import boto3.exceptions as transfers
    import botocore.exceptions as calls

    network = (
        *(calls.HTTPClientError, calls.ConnectionError, calls.IncompleteReadError, calls.ChecksumError),
        *(calls.CredentialRetrievalError, transfers.RetriesExceededError),
    )
    try:
        yield
    except (calls.ClientError, calls.BotoCoreError, transfers.Boto3Error) as error:
        code, status = code_of(error)
        if code in NOT_OURS:
            raise Gone(f"{doing}: {code}") from error
        if isinstance(error, (calls.NoCredentialsError, calls.PartialCredentialsError)):
            none = f"{doing}: there are no AWS credentials here; give the machine or task a role."
            raise NoCredentials(none) from error
        if code in NO_QUEUE:
            raise CannotWork(f"{doing}: there is no such queue ({code}).") from error
        if isinstance(error, network) or is_passing(code, status):
            raise Interruption(f"{doing}: {code or type(error).__name__}", refused=0 < status < 500) from error
        raise _Refused(doing, code, str(error)) from error


class _Refused(CannotWork):
    """A definite no, which somebody may know to be about one message only."""

    def __init__(self, doing: str, code: str, said: str) -> None:
        denied = " The role is not allowed to: docs/worker.md lists what a worker needs." if code in DENIED else ""
        super().__init__(f"{doing} was refused: {said[:500]}.{denied}")
        self.code, self.said = code, said[:500]


@dataclass(frozen=True)
class Place:
    """Where the work comes from and where it goes when it fails; resolved once, before the processes are made."""

    region: str
    queue: str
    dead_letters: str
    failures: str


@dataclass(frozen=True)
class Message:
    """One message as it was received; taken: by `clock`, before it was asked for."""

    id: str
    handle: str
    body: str
    receives: int
    group: str
    attributes: dict[str, Any]
    taken: float


class Queue:
    def __init__(self, client: Any, place: Place, visibility: int) -> None:
        self._client, self._place, self._visibility = client, place, visibility

    def receive(self, wait: int) -> Message | None:
        taken = clock()
        with asking("ReceiveMessage"):
            answer = self._client.receive_message(
                QueueUrl=self._place.queue,
                WaitTimeSeconds=wait,
                VisibilityTimeout=self._visibility,  # ours: the queue's own may be 0
                AttributeNames=["ApproximateReceiveCount", "MessageGroupId"],
                MessageAttributeNames=["All"],
            )
        for found in answer.get("Messages", []):
            told = found.get("Attributes", {})
            count, group = int(told.get("ApproximateReceiveCount", 1)), told.get("MessageGroupId", "")
            own = found.get("MessageAttributes", {})
            return Message(found["MessageId"], found["ReceiptHandle"], found["Body"], count, group, own, taken)
        return None

    def delete(self, message: Message) -> None:
        with asking("DeleteMessage"):
            self._client.delete_message(QueueUrl=self._place.queue, ReceiptHandle=message.handle)

    def hide(self, message: Message, seconds: int) -> None:
        """For so long, beginning now; 0 shows it at once."""
        with asking("ChangeMessageVisibility"):
            self._client.change_message_visibility(
                QueueUrl=self._place.queue, ReceiptHandle=message.handle, VisibilityTimeout=seconds
            )

    def bury(self, message: Message, words: dict[str, str]) -> None:
        """To the dead letter queue, as it was.

        :raises Interruption: also when it is refused there, as too long perhaps: SQS's own redrive may do better.
        """
        more: dict[str, Any] = {}
        if self._place.dead_letters.endswith(".fifo"):
            # The message's own id: a redriven message has a new one, and must not be taken for its own duplicate.
            more = {"MessageGroupId": message.group or message.id, "MessageDeduplicationId": message.id}
        more["MessageAttributes"] = dead_letter_attributes(message.body, message.attributes, words)
        try:
            with asking("SendMessage to the dead letter queue"):
                self._client.send_message(QueueUrl=self._place.dead_letters, MessageBody=message.body, **more)
        except (Gone, _Refused) as refused:
            if isinstance(refused, _Refused) and refused.code in DENIED:
                raise
            raise Interruption(str(refused)) from refused


class Store:
    """
    S3, as one job needs it.

    :param room: bytes that were free for files before there was any.
    """

    def __init__(self, client: Any, room: int) -> None:
        self._client, self._room = client, room
        self._read: tuple[str, str] | None = None
        self._written = False

    def fetch(self, url: str, path: str) -> int:
        """The object as a file; its bytes."""
        bucket, key = split_url(url)
        size = 0
        try:
            with asking(f"GetObject {url}"):
                answer = self._client.get_object(Bucket=bucket, Key=key)
                size = int(answer["ContentLength"])
                self._download(answer["Body"], size, bucket, key, path)
        except _Refused as refused:
            raise self._blame(refused, "input", url) from refused
        except OSError as error:
            raise _disk(error, size, self._room) from error
        self._read = (bucket, key)
        return size

    def _download(self, body: Any, size: int, bucket: str, key: str, path: str) -> None:
        with contextlib.closing(body):
            if size <= IN_ONE_CALL:
                Path(path).write_bytes(body.read())
                return
        self._client.download_file(bucket, key, path)

    def keep(self, path: str, url: str) -> int:
        bucket, key = split_url(url)
        size = os.stat(path).st_size
        try:
            with asking(f"PutObject {url}"):
                if size <= IN_ONE_CALL:
                    with open(path, "rb") as body:
                        self._client.put_object(Bucket=bucket, Key=key, Body=body)
                else:
                    self._client.upload_file(path, bucket, key)
        except _Refused as refused:
            raise self._blame(refused, "output", url) from refused
        self._written = True
        return size

    def _blame(self, refused: _Refused, what: str, url: str) -> Failure:
        if refused.code in MISSING:
            return Failure(f"missing-{what}", f"{refused.code}: {url}")
        if refused.code in DENIED:
            return Denied(what, refused, url, self._may_read() if what == "input" else self._written or None)
        return Failure(f"{what}-refused", refused.said)

    def _may_read(self) -> bool | None:
        """Is the object that was read last still to be had? One that is gone meanwhile proves it too."""
        if self._read is None:
            return None
        try:
            with asking("HeadObject"):
                self._client.head_object(Bucket=self._read[0], Key=self._read[1])
        except _Refused as refused:
            return refused.code in MISSING
        return True


def _disk(error: OSError, size: int, room: int) -> Exception:
    """An input that never had room here, or a disk that others have filled? Theirs is not this message's failure."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    if error.errno == errno.EFBIG or (full and size > room):
        return Failure("disk-full", f"the input has {size:,} bytes, and this machine had room for {room:,}")
    if full:
        return DiskFull(f"the disk is full: no room for an input of {size:,} bytes, and at first there were {room:,}")
    return Interruption(f"a file could not be written: {error}")


def room_in(folder: str) -> int:
    """Bytes."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class Failures:
    """Recorded failures, an object each: <prefix>/<job's id>/<message's id>-<n>.json."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._bucket, self._prefix = split_url(url.rstrip("/") + "/")

    def count(self, job: str, message: str) -> int:
        """Of this message. One that was redriven from the dead letter queue has a new id, and begins anew."""
        with asking(f"ListObjectsV2 s3://{self._bucket}/{self._prefix}"):
            answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._key(job, message))
        return int(answer.get("KeyCount", 0))

    def record(self, job: str, message: str, number: int, words: dict[str, Any]) -> str:
        key = f"{self._key(job, message)}{number}.json"
        with asking(f"PutObject s3://{self._bucket}/{key}"):
            body = json.dumps(words, indent=1).encode()
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/json")
        return f"s3://{self._bucket}/{key}"

    def _key(self, job: str, message: str) -> str:
        return f"{self._prefix}{urllib.parse.quote(job, safe='')}/{message}-"


class Heart:
    """A thread that keeps the one message we have hidden from everybody else.

    A beat that fails changes nothing: only SQS's own word says that a message is not ours any more. Nobody is left in
    the middle of a beat: after `still` the message's visibility is the caller's.
    """

    def __init__(self, queue: Queue, visibility: int, bell: Bell) -> None:
        self._queue, self._visibility, self._bell = queue, visibility, bell
        self._changed = threading.Condition()
        self._message: Message | None = None
        self._next = 0.0
        self._until = 0.0
        self._lost: Gone | CannotWork | None = None
        self._puzzled = False
        threading.Thread(target=self._live, name="heart", daemon=True).start()

    def begin(self, message: Message) -> None:
        with self._changed:
            self._message, self._lost = message, None
            self._next, self._until = clock() + self._visibility / 3, message.taken + self._visibility
            self._changed.notify()

    def still(self) -> None:
        with self._changed:
            self._message = None

    def check(self) -> None:
        """What is known already.

        :raises Gone: the message is not ours any more.
        :raises CannotWork: we may not keep it: no right to, or no queue.
        """
        if self._lost is not None:
            raise self._lost

    def sure(self) -> None:
        """Before what cannot be taken back. After a pause of ours, or of SQS, somebody else may have the message.

        :raises Gone: as `check` does, and so is CannotWork.
        :raises Interruption: nobody says whose it is.
        """
        with self._changed:
            self.check()
            message, soon = self._message, clock() + min(MARGIN, self._visibility / 3)
            if message is not None and self._until < soon and not self._beat(message):
                self.check()
                raise Interruption("SQS does not say whether the message is still ours")

    def _live(self) -> None:
        with self._changed:
            while True:
                left = self._next - clock() if self._message else None
                if self._message is None or left is None or left > 0:
                    self._changed.wait(left)
                else:
                    self._beat(self._message)

    def _beat(self, message: Message) -> bool:
        """Did SQS say that it is ours?"""
        asked, self._next = clock(), clock() + min(5.0, self._visibility / 6)
        seconds = lease(asked - message.taken, self._visibility)
        try:
            if not seconds:
                raise Gone(f"SQS hides a message for {LONGEST_LEASE // 3600} h in all")
            self._queue.hide(message, seconds)
        except Interruption:
            return False
        except (Gone, CannotWork) as lost:
            self._lost, self._message = lost, None
            self._bell.ring()
            return False
        except Exception as odd:  # the thread must not end: nobody would keep this message, or any later one
            if not self._puzzled:
                say("missed-beat", reason=f"{type(odd).__name__} at {_where(odd)}: {odd}"[:1000])
            self._puzzled = True
            return False
        self._next, self._until = clock() + self._visibility / 3, asked + seconds
        return True


# --- one process --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """What the command line said; times in seconds."""

    queue: str
    failures: str
    command: tuple[str, ...]
    dead_letter: str = ""
    region: str = ""
    processes: int = 1
    visibility: int = 120
    job_timeout: float = 3600.0
    idle_timeout: float = 60.0
    max_failures: int = 3
    retry_delay: float = 10.0
    output_extension: str = ""
    need_output: bool = True
    log_tail: int = 16 * 1024
    temp: str | None = None


class Board:
    """Since when each process has been idle, inf while it has a message; in memory that all of them share.

    Their machine stands for all of them: none ends as idle while another is at work, or more messages may come to find
    it alone.
    """

    def __init__(self, processes: int) -> None:
        self._since = memoryview(mmap.mmap(-1, 8 * processes)).cast("d")

    def busy(self, slot: int) -> None:
        self._since[slot] = math.inf

    def idle(self, slot: int, since: float) -> None:
        """since: on the monotonic clock; it may lie ahead."""
        self._since[slot] = since

    def is_busy(self, slot: int) -> bool:
        return self._since[slot] == math.inf

    def idle_since(self) -> float:
        return max(self._since)


class Worker:
    """One process: one message at a time, until the queue stays empty or somebody says stop."""

    def __init__(
        self,
        options: Options,
        place: Place,
        folder: str,
        room: int,
        board: Board,
        slot: int,
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._options, self._folder, self._tell = options, folder, tell
        self._board, self._slot = board, slot
        self._stop, self._bell = Stop(), Bell()
        self._name = f"{socket.gethostname()}/{os.getpid()}"
        sqs, s3 = clients(place.region, "sqs", "s3")
        self._queue = Queue(sqs, place, options.visibility)
        self._store, self._failures = Store(s3, room), Failures(s3, place.failures)
        self._hasty = Queue(clients(place.region, "sqs", patient=False)[0], place, options.visibility)
        self._heart = Heart(self._hasty, options.visibility, self._bell)
        self._troubles = 0
        #: When what we put back comes again, or a pause of ours ends: the queue is not empty before.
        self._due = 0.0
        self._idle()

    def run(self) -> None:
        with contextlib.suppress(Stopped):
            while self._idle_left() > 0:
                try:
                    message = self._receive()
                    if message is not None:
                        self._handle(message)
                        self._troubles = 0
                except Interruption as trouble:
                    self._recover(trouble)
            say("drained", idle_timeout=self._options.idle_timeout)

    def _idle(self) -> None:
        self._board.idle(self._slot, max(self._due, time.monotonic()))

    def _idle_left(self) -> float:
        return self._board.idle_since() + self._options.idle_timeout - time.monotonic()

    def _receive(self) -> Message | None:
        # A long poll asks all of SQS's servers, so its "nothing" is believed; a wait of 0 would ask some of them.
        # While others are busy there is no end to see, and what they leave to wait is one idle time-out.
        longest = min(LONG_POLL, self._options.idle_timeout, self._idle_left())
        wait = max(1, math.ceil(longest))
        # What a poll brings whose asker has hung up stays hidden, and those who end beside us just give theirs back.
        with self._stop.may_break(patience=LAST_POLL):
            message = self._queue.receive(wait)
        if message is not None and self._stop.asked:
            self._put_back(message, 0)
            raise Stopped
        return message

    def _recover(self, trouble: Interruption) -> None:
        """Further apart from time to time: each receive of a message brings it nearer to SQS's own redrive."""
        self._troubles += 1
        if isinstance(trouble, DiskFull) and self._troubles >= NO_ROOM and self._board.idle_since() < math.inf:
            raise CannotWork(f"{trouble}. Nothing here will make room: start another machine, or clean this one.")
        seconds = min(300.0, 2.0 ** min(self._troubles, 9)) * random.uniform(0.5, 1.0)  # noqa: S311  (not a secret)
        self._due = max(self._due, time.monotonic() + seconds)
        self._idle()
        say("trouble", reason=str(trouble), pause=round(seconds, 1))
        self._stop.nap(seconds)

    def _handle(self, message: Message) -> None:
        self._heart.begin(message)
        self._board.busy(self._slot)
        try:
            with self._desk() as desk:
                self._work(message, desk)
        except Gone as gone:
            self._interrupted(message, str(gone), None)
        except Interruption as trouble:
            self._interrupted(message, str(trouble), retry_delay(self._troubles + 1, self._options.retry_delay))
            raise
        except (Stopped, CannotWork) as end:
            self._interrupted(message, str(end) or "told to stop", 0)
            raise
        finally:
            self._heart.still()
            self._idle()

    @contextlib.contextmanager
    def _desk(self) -> Iterator[str]:
        """A folder for one job, and nothing of it afterwards."""
        try:
            desk = tempfile.mkdtemp(dir=self._folder)
            for part in ("in", "out"):
                os.mkdir(os.path.join(desk, part))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise (DiskFull if full else Interruption)(f"no folder for the job: {error}") from error
        try:
            yield desk
        finally:
            _remove(desk)

    def _work(self, message: Message, desk: str) -> None:
        job, begun = None, time.monotonic()
        try:
            job = read_message(message.body, self._options.output_extension)
            say("received", message=message.id, id=job.id, receives=message.receives)
            if message.receives > self._options.max_failures:
                self._enough(message, job)
            self._do(job, desk)
            self._heart.sure()
            self._queue.delete(message)
            self._tell({"done": 1})
            say("done", message=message.id, id=job.id, seconds=round(time.monotonic() - begun, 3))
        except _Spent as spent:
            self._bury(message, spent.job, Failure("spent", str(spent)), self._options.max_failures)
        except BadMessage as bad:
            self._failed(message, None, Failure("bad-message", str(bad)))
        except Failure as failure:
            if isinstance(failure, Denied):
                self._denied(failure)
            self._failed(message, job, failure)
        except (Gone, Interruption, CannotWork):
            raise
        except Exception as error:  # a mistake of ours, too, must not make a message kill one worker after the other
            reason = f"{type(error).__name__} at {_where(error)}: {error}"
            self._failed(message, job, Failure("unexpected", reason[:1000]))

    def _enough(self, message: Message, job: Job) -> None:
        """Its failures were recorded, and whoever recorded the last one did not come to bury it."""
        if self._failures.count(job.id, message.id) >= self._options.max_failures:
            raise _Spent(job)

    def _do(self, job: Job, desk: str) -> None:
        source = os.path.join(desk, "in", file_name(split_url(job.input)[1]))
        target = os.path.join(desk, "out", file_name(split_url(job.output)[1]))
        with self._stop.may_break():
            self._tell({"bytes_in": self._store.fetch(job.input, source)})
        self._run(job, source, target, desk)
        if not os.path.isfile(target):
            return
        self._heart.sure()
        with self._stop.may_break():
            self._tell({"bytes_out": self._store.keep(target, job.output)})

    def _run(self, job: Job, source: str, target: str, desk: str) -> None:
        argv = [*self._options.command, source, target, *job.parameters]
        limit = self._options.job_timeout
        try:
            ended = run_command(argv, desk, limit, self._options.log_tail, self._bell, self._look)
        except OSError as error:
            raise _not_started(error, self._options.command[0]) from error
        if ended.code is None:
            raise Failure("timeout", f"stopped after {limit:g} s", None, ended.tail)
        if ended.code != 0:
            raise Failure("exit-code", f"the command ended with exit code {ended.code}", ended.code, ended.tail)
        if self._options.need_output and not os.path.isfile(target):
            raise Failure("no-output", "exit code 0, and no output file", 0, ended.tail)

    def _look(self) -> None:
        self._heart.check()
        if self._stop.asked:
            raise Stopped

    def _denied(self, denied: Denied) -> None:
        """The other processes together may know whether that is the role's fault or the object's."""
        if denied.others is not True:
            which = hashlib.sha256(denied.url.encode()).hexdigest()[:16]
            words = {"denied": denied.what, "which": which, "why": denied.sentence[:600]}
            self._tell({**words, "withdrawn": denied.others is False})

    def _failed(self, message: Message, job: Job | None, failure: Failure) -> None:
        """Recorded first; then back into the queue, or out of it."""
        name = job.id if job else "_bad"
        number = self._failures.count(name, message.id) + 1
        record = {
            "reason": failure.reason,
            "kind": failure.kind,
            "exit_code": failure.exit_code,
            "log_tail": failure.tail,
            "worker": self._name,
            "moment": moment(),
            "message": _shown(message, job),
        }
        where = self._failures.record(name, message.id, number, record)
        self._tell({"failed": 1})
        say("failed", message=message.id, id=name, kind=failure.kind, failures=number, record=where)
        if job is None or number >= self._options.max_failures:
            self._bury(message, job, failure, number)
        else:
            self._put_back(message, retry_delay(number, self._options.retry_delay))

    def _bury(self, message: Message, job: Job | None, failure: Failure, number: int) -> None:
        words = {
            "transient.kind": failure.kind,
            "transient.failures": str(number),
            "transient.id": job.id if job else "",
            "transient.message": message.id,
            "transient.reason": printable(failure.reason),
        }
        self._heart.sure()
        self._queue.bury(message, words)
        self._tell({"dead_lettered": 1})  # it is, whatever becomes of the message
        say("dead-lettered", message=message.id, kind=failure.kind, failures=number)
        self._queue.delete(message)

    def _interrupted(self, message: Message, why: str, delay: int | None) -> None:
        """No failure. delay: None leaves the message alone."""
        self._tell({"interrupted": 1})
        say("interrupted", message=message.id, reason=why)
        if delay is not None:
            self._put_back(message, delay)

    def _put_back(self, message: Message, delay: int) -> None:
        self._heart.still()
        self._due = max(self._due, time.monotonic() + delay)
        # Not again when the answer was lost: by then it may be somebody else's, who must keep it hidden. Unanswered, it
        # comes back when its visibility ends.
        with contextlib.suppress(Gone, Interruption, CannotWork):
            for pause in (0.2, 0.5, 1.0, 2.0):
                try:
                    return self._hasty.hide(message, lease(clock() - message.taken, delay))
                except Interruption as trouble:
                    if not trouble.refused:
                        raise
                    time.sleep(pause)


class _Spent(Exception):
    def __init__(self, job: Job) -> None:
        super().__init__("it had failed as often as it may before this worker received it")
        self.job = job


def _not_started(error: OSError, command: str) -> Exception:
    if error.errno == errno.E2BIG:
        return Failure("parameters", "the parameters are longer than a command line may be")
    if error.errno in (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE):
        return Interruption(f"no process for the job: {error.strerror}")
    return CannotWork(f"{command} cannot be started: {error.strerror}.")


def _shown(message: Message, job: Job | None) -> dict[str, Any]:
    """The job, or of what is none so much as a person needs: the whole is in the dead letter queue."""
    words: dict[str, Any] = {"message_id": message.id, "receives": message.receives}
    if job is None:
        return {**words, "body": message.body[:4096]}
    return {**words, "id": job.id, "input": job.input, "output": job.output, "parameters": len(job.parameters)}


def _remove(folder: str) -> None:
    """Even where a job took the right to write from its own folders."""
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.exists(folder):
        for path, _, _ in os.walk(folder):
            with contextlib.suppress(OSError):
                os.chmod(path, 0o700)
        shutil.rmtree(folder, ignore_errors=True)


# --- all processes ------------------------------------------------------------------------------------------------


class Denials:
    """Inputs, or outputs, that were denied to any of the processes: the objects' fault, or the role's?"""

    def __init__(self) -> None:
        self._objects: set[str] = set()
        self._ever_allowed = False

    def allowed(self) -> None:
        self._ever_allowed = True
        self._objects.clear()

    def told(self, which: str, withdrawn: bool) -> bool:
        """Is it the role's? withdrawn: what was allowed is not any more."""
        self._ever_allowed = self._ever_allowed and not withdrawn
        self._objects.add(which)
        return not self._ever_allowed and len(self._objects) >= DENIED_OBJECTS


@dataclass(frozen=True)
class Child:
    slot: int
    folder: str


class Supervisor:
    """Makes the processes, passes on what it is told, replaces the ones that die, and leaves nothing of any."""

    def __init__(self, options: Options, place: Place, folder: str, tallies: Sequence[Tally]) -> None:
        self._options, self._place, self._folder, self._tallies = options, place, folder, tallies
        self._room = room_in(folder)
        self._hears, self._tells = os.pipe()
        os.set_blocking(self._hears, False)
        self._children: dict[int, Child] = {}
        self._again: list[tuple[float, int]] = []
        self._board = Board(options.processes)
        self._denials = {"input": Denials(), "output": Denials()}
        self._deaths = 0
        self._rest = b""
        self._kill_at = math.inf
        self.ended = "drained"
        self.problem = ""

    def run(self) -> None:
        self._bell = Bell()
        for number in ENDING:
            signal.signal(number, lambda *_: self._end("stopped"))
        adopt_strays()
        notices = Notices(time.monotonic())
        for slot in range(self._options.processes):
            self._start(slot)
        while self._children or self._again:
            select.select([self._hears, self._bell.ear], [], [], self._patience(notices))
            self._bell.hush()
            self._hear()
            self._bury()
            self._start_again()
            if self._kill_at < time.monotonic():
                self._kill_at = math.inf
                self._signal(signal.SIGKILL)
            if notices.due() and notices.reclaimed():
                self._end("reclaimed")
        self._hear()
        end_children()

    def _patience(self, notices: Notices) -> float:
        now = time.monotonic()
        soon = [notices.next, self._kill_at, *(at for at, _ in self._again)]
        return max(0.0, min(60.0, *(at - now for at in soon)))

    def _start(self, slot: int) -> None:
        # Between the fork and the note of it a SIGTERM would miss the new process, or run our handler in it.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            if self.ended == "drained":
                self._fork(slot, os.getpid())
        except OSError as error:
            say("no-worker", slot=slot, reason=str(error))
            self._lost(slot, f"{DEATHS} times in a row no worker could be started; at last: {error}.")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def _fork(self, slot: int, parent: int) -> None:
        folder = tempfile.mkdtemp(prefix=f"{slot}-", dir=self._folder)
        try:
            pid = os.fork()
        except OSError:
            _remove(folder)
            raise
        if pid == 0:
            os._exit(self._be_worker(slot, folder, parent))
        self._children[pid] = Child(slot, folder)

    def _be_worker(self, slot: int, folder: str, parent: int) -> int:
        """In the new process, which must never come back from here."""

        def tell(words: dict[str, Any]) -> None:
            line = json.dumps({"slot": slot, **words}, ensure_ascii=False) + "\n"
            os.write(self._tells, line.encode(errors="replace"))

        try:
            signal.set_wakeup_fd(-1)
            for each in ENDING:
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            # Whatever ends the supervisor, a worker without one gives its message back.
            _prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
            if os.getppid() != parent:
                return DRAINED
            adopt_strays()
            Worker(self._options, self._place, folder, self._room, self._board, slot, tell).run()
            return DRAINED
        except Stopped:
            return DRAINED
        except CannotWork as problem:
            tell({"problem": str(problem)[:600]})  # one write to a pipe is whole up to 4 KiB
            return CANNOT_WORK
        except BaseException as problem:
            say("crashed", reason=f"{type(problem).__name__}: {problem}"[:1000], where=_where(problem))
            return 1

    def _hear(self) -> None:
        """What the processes did, as they did it."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._hears, 65536):
                self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            words = json.loads(line)
            slot = words.pop("slot")
            if "problem" in words:
                self.problem = self.problem or words["problem"]
                self._end("cannot work")
            elif "denied" in words:
                self._denied(**words)
            else:
                self._deaths = 0
                for moved, what in (("bytes_in", "input"), ("bytes_out", "output")):
                    if moved in words:
                        self._denials[what].allowed()
                self._tallies[slot].add(words)

    def _denied(self, denied: str, which: str, why: str, withdrawn: bool) -> None:
        if self._denials[denied].told(which, withdrawn):
            self.problem = self.problem or f"{DENIED_OBJECTS} {denied}s were denied and none allowed; at last: {why}"
            self._end("cannot work")

    def _bury(self) -> None:
        for pid in list(self._children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._gone(self._children.pop(pid), pid, os.waitstatus_to_exitcode(status))

    def _gone(self, child: Child, pid: int, code: int) -> None:
        # Its job, if it had one, is ours now.
        end_children(keep=list(self._children))
        _remove(child.folder)
        if code in (DRAINED, CANNOT_WORK):
            return
        if self._board.is_busy(child.slot):
            self._board.idle(child.slot, time.monotonic())
            self._tallies[child.slot].add({"interrupted": 1})
        say("worker-died", worker=pid, code=code)
        why = f"{DEATHS} workers in a row died without doing anything; the last with exit code {code}."
        self._lost(child.slot, why)

    def _lost(self, slot: int, why: str) -> None:
        """It has no process now, and gets one later; given up only where that would break off nobody's job."""
        self._deaths += 1
        if self._deaths >= DEATHS and self._board.idle_since() < math.inf:
            self.problem = self.problem or why
            self._end("cannot work")
        elif self.ended == "drained":
            self._again.append((time.monotonic() + min(60.0, 2.0 ** min(self._deaths, 9) / 2), slot))

    def _start_again(self) -> None:
        due = [slot for at, slot in self._again if at <= time.monotonic()]
        self._again = [(at, slot) for at, slot in self._again if slot not in due]
        for slot in due:
            self._start(slot)

    def _end(self, why: str) -> None:
        if self.ended == "drained":
            self.ended, self._again = why, []
            self._kill_at = time.monotonic() + PATIENCE
            say("ending", reason=why)
            self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        for pid in list(self._children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _where(problem: BaseException) -> str:
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"line {trace.tb_lineno}" if trace else ""


class Notices:
    """Does EC2 take this machine back? Asked of the metadata service, where there is one."""

    def __init__(self, now: float) -> None:
        # An ECS task is told by SIGTERM, and mostly has no way to its machine's metadata.
        silent = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
        asks = not silent and not os.environ.get("ECS_CONTAINER_METADATA_URI_V4")
        self.next = now if asks else math.inf
        self._unheard = 0

    def due(self) -> bool:
        return time.monotonic() >= self.next

    def reclaimed(self) -> bool:
        self.next = time.monotonic() + NOTICE_INTERVAL
        try:
            text = metadata("spot/instance-action")
        except OSError:
            self._unheard += 1
            if self._unheard == 3:
                say("no-metadata", reason="no metadata service answers: spot notices are not watched for")
                self.next = math.inf
            return False
        self._unheard = 0
        return text is not None


def metadata(path: str) -> str | None:
    """IMDSv2; None where there is nothing. Never through a proxy."""
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/") + "/latest/"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    try:
        asked = urllib.request.Request(base + "api/token", b"", ttl, method="PUT")
        token = opener.open(asked, timeout=1).read().decode()
        asked = urllib.request.Request(base + "meta-data/" + path, headers={"X-aws-ec2-metadata-token": token})
        return str(opener.open(asked, timeout=1).read().decode())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


# --- the command line ---------------------------------------------------------------------------------------------


def number(least: float, most: float = math.inf, of: Callable[[str], float] = float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = of(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    read.__name__ = of.__name__  # argparse says it of what is no number
    return read


def parser() -> argparse.ArgumentParser:
    """Of what comes before the command; whoever starts workers checks their options with it."""
    made = argparse.ArgumentParser(
        prog="worker.py",
        description="Works through an SQS queue: COMMAND INPUT OUTPUT for each message, until it stays empty.",
        usage="%(prog)s --queue QUEUE --failures s3://BUCKET/PREFIX [options] -- COMMAND [ARGUMENT ...]",
    )
    add = made.add_argument
    add("--queue", required=True, help="its name, URL or ARN")
    add(
        "--failures",
        required=True,
        help="s3://bucket/prefix for an object per recorded failure; they are counted there",
    )
    add("--dead-letter", default="", help="queue for what failed too often; default: the queue's own redrive target")
    add("--region", default="", help="default: the queue's URL or ARN, the environment, the machine's own")
    add("--processes", type=number(1, 256, int), default=1, help="so many messages at a time (1)")
    add(
        "--visibility",
        type=number(2, 43200, int),
        default=120,
        help="s a message is hidden, extended while it runs (120)",
    )
    add(
        "--job-timeout",
        type=number(1, LONGEST_JOB),
        default=3600.0,
        help="s after which a job is killed, as failed (3600)",
    )
    add("--idle-timeout", type=number(1), default=60.0, help="s the queue stays empty before the end; inf: never (60)")
    add("--max-failures", type=number(1, 100, int), default=3, help="recorded failures that end a message's tries (3)")
    add("--retry-delay", type=number(0, 900), default=10.0, help="s before the second try, doubled each time (10)")
    add("--output-extension", default="", help="follows the file's name in outputs of old producers' messages")
    add("--no-output", dest="need_output", action="store_false", help="the command need not leave an output file")
    add("--log-tail", type=number(0, 1024, int), default=16, help="KiB of a failed command's output that are kept (16)")
    add("--temp", help="folder for temporary files")
    return made


def options_of(arguments: Sequence[str]) -> Options:
    """What comes after the first -- is the command, whatever it looks like."""
    words = list(arguments)
    split = words.index("--") if "--" in words else len(words)
    made = parser()
    read = vars(made.parse_args(words[:split]))
    command = words[split + 1 :]
    if not command:
        made.error("which command? Give it after --")
    if "/" in command[0]:  # it runs in a folder of its own
        command[0] = os.path.abspath(command[0])
    return Options(**{**read, "command": tuple(command), "log_tail": read["log_tail"] * 1024})


def region_of(options: Options) -> str:
    found = options.region or QueueName.of(options.queue).region or os.environ.get("AWS_REGION")
    found = found or _session().region_name
    if not found and os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
        try:
            found = metadata("placement/region")
        except OSError as error:
            raise Interruption(f"Which region? Give --region, or set AWS_REGION; no metadata: {error}") from error
    if not found:
        raise CannotWork("Which region? Give --region, or set AWS_REGION.")
    return str(found)


def prepared(options: Options) -> Place:
    """`prepare`, again and again while what is missing may yet come: a machine's first minutes are like that."""
    end, pause = time.monotonic() + START_PATIENCE, 1.0
    while True:
        try:
            return prepare(options)
        except Gone as refused:
            raise CannotWork(f"{refused}; the queue could not be asked for.") from refused
        except (Interruption, NoCredentials) as trouble:
            if time.monotonic() + pause > end:
                raise CannotWork(f"{trouble}; the queue could not be asked for.") from trouble
            say("waiting", reason=str(trouble), pause=pause)
        time.sleep(pause)
        pause = min(30.0, pause * 2)


def prepare(options: Options) -> Place:
    """What must be there before a message is touched."""
    if shutil.which(options.command[0]) is None:
        raise CannotWork(f"There is no command {options.command[0]} on this machine that could be started.")
    try:
        split_url(options.failures.rstrip("/") + "/")
    except BadMessage as bad:
        raise CannotWork(f"--failures: {bad}") from None
    region = region_of(options)
    client, _ = clients(region, "sqs", "s3")  # S3's is for its models, see _session
    queue = _url(client, options.queue)
    own, allowed = _redrive(client, queue, needed=not options.dead_letter)
    dead_letters = _url(client, options.dead_letter or own)
    if dead_letters == queue:
        raise CannotWork("The dead letter queue is the queue itself.")
    if own and allowed < options.max_failures + INTERRUPTIONS:
        least = options.max_failures + INTERRUPTIONS
        say("warning", reason=f"maxReceiveCount is {allowed}; interruptions count there too: make it {least} or more")
    return Place(region, queue, dead_letters, options.failures)


def _url(client: Any, words: str) -> str:
    queue = QueueName.of(words)
    if queue.url:
        return queue.url
    more = {"QueueOwnerAWSAccountId": queue.account} if queue.account else {}
    with asking(f"GetQueueUrl {words}"):
        return str(client.get_queue_url(QueueName=queue.name, **more)["QueueUrl"])


def _redrive(client: Any, queue: str, needed: bool) -> tuple[str, int]:
    """The queue's own dead letter queue (ARN), and how many receives it allows."""
    try:
        with asking("GetQueueAttributes"):
            answer = client.get_queue_attributes(QueueUrl=queue, AttributeNames=["RedrivePolicy"])
    except _Refused:
        if needed:
            raise
        return "", 0
    policy = json.loads(answer.get("Attributes", {}).get("RedrivePolicy", "{}"))
    if needed and not policy:
        raise CannotWork(
            "The queue has no dead letter queue: give it a redrive policy, or name a queue with --dead-letter."
        )
    return str(policy.get("deadLetterTargetArn", "")), int(policy.get("maxReceiveCount", 0))


def main(arguments: Sequence[str] | None = None) -> int:
    begun = time.monotonic()
    options = options_of(sys.argv[1:] if arguments is None else arguments)
    tallies, ended = [Tally() for _ in range(options.processes)], "cannot work"
    try:
        _need_boto3()
        with stoppable():
            place = prepared(options)
        with _folder(options.temp) as folder:
            say("working", queue=place.queue, dead_letters=place.dead_letters, processes=options.processes)
            supervisor = Supervisor(options, place, folder, tallies)
            supervisor.run()
        problem, ended = supervisor.problem, supervisor.ended
    except Stopped:
        problem, ended = "", "stopped"
    except CannotWork as cannot:
        problem = str(cannot)
    leave_receipt(receipt(tallies, time.monotonic() - begun, ended, problem))
    if problem:
        with contextlib.suppress(OSError):
            os.write(2, (problem + "\n").encode())
    return CANNOT_WORK if problem else DRAINED


@contextlib.contextmanager
def _folder(inside: str | None) -> Iterator[str]:
    try:
        folder = tempfile.mkdtemp(prefix="worker-", dir=inside)
    except OSError as error:
        raise CannotWork(f"No folder for temporary files: {error}.") from error
    try:
        yield folder
    finally:
        _remove(folder)


def _need_boto3() -> None:
    try:
        import boto3  # noqa: F401  (here, before the processes are made, so that they share it)
    except ImportError:
        raise CannotWork(NO_BOTO3.format(python=sys.executable)) from None


if __name__ == "__main__":
    sys.exit(main())
