"""What an author says of a queue's workers, and the command lines it makes. A spec that exists is valid."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_transient.core.depth import MAX_HARD_CAP, Rule
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.reading import duration, text, whole
from airflow_transient.core.spec import S3Prefix
from airflow_transient.errors import SpecError

#: The limits of worker.py's own options; SQS hides a message for 12 h in all.
MAX_PROCESSES, MAX_JOB = 256, 12 * 3600 - 600
#: The counters of a queue lag up to a minute; a reading more often says little that is new.
MIN_INTERVAL = 1.0
#: Where worker.py lies on a machine (a folder that the boot script makes), and in a container.
ON_MACHINE, IN_CONTAINER = "/var/lib/transient/worker.py", "/tmp/worker.py"  # noqa: S108 - a container's own
#: Where a machine keeps what it works on: its disk. /tmp is in memory on Amazon Linux 2023 and Debian 13.
WORK = "/var/lib/transient/work"
#: At boot Debian's and Ubuntu's own upgrades may hold the lock.
APT = "DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120"
#: Fetches what lies at $WORKER_URL, which is in no process list, and takes nothing else than what was sent there.
FETCH = (
    "import hashlib,os,sys,urllib.request as u\n"
    "d=u.urlopen(os.environ['WORKER_URL'],timeout=60).read()\n"
    "if hashlib.sha256(d).hexdigest()!=os.environ['WORKER_SHA256']: sys.exit('worker.py is not what was sent')\n"
    "open(sys.argv[1],'wb').write(d)\n"
)


@dataclass(frozen=True)
class Shipped:
    """worker.py, as it lies in a bucket: a presigned GET, and its SHA-256 in hex."""

    url: str
    sha256: str


class WorkerMachines(Ec2Spec):
    """Machines of which each works by itself: those there is room for begin, and the rest follows."""

    in_parts = True


@dataclass(frozen=True)
class WorkersSpec:
    """
    :param command: argv; INPUT and OUTPUT follow. A text is run by `sh`, with them as $1 and $2.
    :param worker: worker.py's path where the container's image has it; None: it is shipped.
    """

    queue: str
    command: str | tuple[str, ...]
    results: S3Prefix
    failures: str
    processes: int = 1
    messages_per_process: int = 100
    max_count: int = 10
    interval: float = 60.0
    idle_timeout: float = 60.0
    job_timeout: float = 3600.0
    max_dead_letters: int | None = 0
    options: tuple[str, ...] = ()
    worker: str | None = None

    def __post_init__(self) -> None:
        if not self.queue:
            raise SpecError("which queue? give sqs_queue: a name, a URL or an ARN")
        words = (self.command,) if isinstance(self.command, str) else self.command
        if not words or not words[0].strip() or "\0" in "".join(words):
            raise SpecError("which command? give command: a list of arguments, or text for sh; no NUL byte")
        for name, most in (("processes", MAX_PROCESSES), ("messages_per_process", None), ("max_count", MAX_HARD_CAP)):
            if not 1 <= (value := getattr(self, name)) <= (most or value):
                raise SpecError(f"{name} is {value}: it must be {f'from 1 to {most}' if most else 'at least 1'}")
        if self.max_dead_letters is not None and self.max_dead_letters < 0:
            raise SpecError(f"max_dead_letters is {self.max_dead_letters}: 0 or more, or None for any number")
        self._check_times()
        if "--" in self.options:
            raise SpecError("worker_options has no --: what follows it is the command, which has a word of its own")
        if not self.failures.startswith("s3://"):
            raise SpecError(f"failures is an address such as s3://bucket/prefix, not {self.failures!r}")

    def _check_times(self) -> None:
        if self.interval < MIN_INTERVAL:
            raise SpecError(f"interval is {self.interval:g} s: the least is {MIN_INTERVAL:g}")
        if self.idle_timeout < 1:
            raise SpecError(f"idle_timeout is {self.idle_timeout:g} s: the least is 1")
        if not 1 <= self.job_timeout <= MAX_JOB:
            raise SpecError(f"job_timeout is {self.job_timeout:g} s: it must be from 1 to {MAX_JOB}")

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> WorkersSpec:
        """From the operator's words, as the DAG author wrote them. Raises SpecError."""
        results = S3Prefix.of(words.get("results"))
        if results is None:
            raise SpecError("results is needed: s3://bucket/prefix, from where machines fetch the worker")
        command = words.get("command")
        numbers: dict[str, Any] = {
            name: whole(words.get(name), name) for name in ("processes", "messages_per_process", "max_count")
        }
        times: dict[str, Any] = {name: words.get(name) for name in ("interval", "idle_timeout", "job_timeout")}
        return cls(
            queue=text(words.get("sqs_queue"), "sqs_queue") or "",
            command=_argv(command, "command"),
            results=results,
            failures=text(words.get("failures"), "failures") or f"{results}failures",
            max_dead_letters=whole(words.get("max_dead_letters"), "max_dead_letters"),
            options=_arguments(words.get("worker_options") or (), "worker_options"),
            worker=text(words.get("worker"), "worker"),
            **{name: value for name, value in numbers.items() if value is not None},
            **{name: _seconds(value, name) for name, value in times.items() if value is not None},
        )

    @property
    def rule(self) -> Rule:
        """A machine stands for what its processes are meant to work off, from its launch to its end."""
        share = self.messages_per_process * self.processes
        return Rule(messages_per_task=share, max_count=self.max_count, hard_cap=self.max_count, count_in_flight=True)

    def options_told(self, work: str | None = None) -> tuple[str, ...]:
        """
        All that the worker is told before its command; the author's own come last.

        :param work: the folder for what it works on; None: the machine's own for such files.
        """
        told = {
            "--queue": self.queue,
            "--failures": self.failures,
            "--processes": str(self.processes),
            "--idle-timeout": f"{self.idle_timeout:g}",
            "--job-timeout": f"{self.job_timeout:g}",
        }
        told |= {"--temp": work} if work else {}
        return (*(word for pair in told.items() for word in pair), *self.options)

    def arguments(self, work: str | None = None) -> tuple[str, ...]:
        """What follows worker.py on its command line."""
        command = ("sh", "-c", self.command, "job") if isinstance(self.command, str) else self.command
        return (*self.options_told(work), "--", *command)

    def machine_script(self, shipped: Shipped) -> str:
        """What a machine runs. Few images have boto3; where no package brings it, the worker says what is missing."""
        return "\n".join(
            (
                "#!/bin/bash",
                "python3 -c 'import boto3' 2>/dev/null || dnf install -y -q python3-boto3 ||",
                f"  {{ {APT} update -qq && {APT} install -y -qq python3-boto3; }}",
                f"export WORKER_URL={shlex.quote(shipped.url)} WORKER_SHA256={shlex.quote(shipped.sha256)}",
                _fetching(ON_MACHINE),
                f"install -d -m 700 {WORK} || exit 3",
                shlex.join(("exec", "python3", ON_MACHINE, *self.arguments(WORK))),
                "",
            )
        )

    def container_override(self, container: str, shipped: Shipped) -> dict[str, Any]:
        """A shell that is process 1 would keep SIGTERM to itself: the worker takes its place."""
        if self.worker:
            return {"name": container, "command": ["python3", self.worker, *self.arguments()]}
        script = f'{_fetching(IN_CONTAINER)}\nexec python3 {IN_CONTAINER} "$@"'
        variables = {"WORKER_URL": shipped.url, "WORKER_SHA256": shipped.sha256}
        return {
            "name": container,
            "command": ["sh", "-c", script, "worker", *self.arguments()],
            "environment": [{"name": name, "value": value} for name, value in variables.items()],
        }


def _seconds(words: Any, what: str) -> Any:
    return duration(words, what).total_seconds()


def _fetching(place: str) -> str:
    fetch = shlex.join(("python3", "-c", FETCH, place))
    return f"for try in 1 2 3 4 5; do\n{fetch} && break\nsleep 2\ndone\nunset WORKER_URL\n[ -s {place} ] || exit 3"


def _argv(words: Any, what: str) -> str | tuple[str, ...]:
    return words if isinstance(words, str) else _arguments(words or (), what)


def _arguments(words: Any, what: str) -> tuple[str, ...]:
    if isinstance(words, str) or not isinstance(words, list | tuple):
        raise SpecError(f"{what} is a list of arguments, not {words!r}")
    return tuple(map(str, words))
