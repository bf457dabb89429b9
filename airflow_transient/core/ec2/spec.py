"""What the author asks of EC2, as frozen values. A spec that exists is valid; what cannot be built says why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from airflow_transient.core.reading import duration, names, pairs, text, truth, whole
from airflow_transient.core.spec import Pool, S3Prefix, check_role, check_tags, check_variables
from airflow_transient.errors import SpecError

#: RunInstances takes more, but a launch of one operator is a burst of jobs and not a cluster.
MAX_COUNT = 1000
#: How long after the job's own limit a machine may take to upload and shut down.
UPLOAD_GRACE = timedelta(minutes=2)
#: The least that can be asked for: booting and reporting alone take this long on EC2.
MIN_RUNTIME = timedelta(seconds=1)
MIN_BOOT_TIMEOUT = timedelta(seconds=30)
#: A presigned form lives 7 days at most (SigV4), and so does a launch that reports through one.
MAX_RUNTIME = timedelta(days=6)
#: market -> the markets to try, in order.
MARKETS: dict[str, tuple[str, ...]] = {
    "on-demand": ("on-demand",),
    "spot": ("spot",),
    "spot-then-on-demand": ("spot", "on-demand"),
}
#: How long a failed machine may be kept for a person to look at.
MAX_HOLD = timedelta(hours=24)
_AMI = re.compile(r"ami-[0-9a-f]{8,17}\Z")


@dataclass(frozen=True)
class LaunchTemplate:
    """An EC2 launch template, by id or by name."""

    id: str | None = None
    name: str | None = None
    version: str = "$Default"

    def __post_init__(self) -> None:
        if bool(self.id) == bool(self.name):
            raise SpecError("launch_template needs exactly one of id and name")

    @classmethod
    def of(cls, words: Any) -> LaunchTemplate | None:
        """`lt-0a…`, a name, or {"id"|"name": …, "version": …}."""
        if not words:
            return None
        if isinstance(words, str):
            return cls(id=words) if words.startswith("lt-") else cls(name=words)
        if not isinstance(words, Mapping) or (strange := set(words) - {"id", "name", "version"}):
            extra = f"; it does not know {sorted(strange)}" if isinstance(words, Mapping) else ""
            raise SpecError(f"launch_template is an id, a name, or {{'id' or 'name', 'version'}}{extra}")
        return cls(words.get("id"), words.get("name"), str(words.get("version") or "$Default"))

    @property
    def argument(self) -> dict[str, str]:
        who = {"LaunchTemplateId": self.id} if self.id else {"LaunchTemplateName": self.name or ""}
        return {**who, "Version": self.version}


@dataclass(frozen=True)
class Image:
    """Which machine image: its id, the SSM parameter that names it, or the newest with a name (wildcards allowed)."""

    id: str | None = None
    ssm_parameter: str | None = None
    name: str | None = None
    owners: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if sum(map(bool, (self.id, self.ssm_parameter, self.name))) > 1:
            raise SpecError("give one of image_id, image_ssm_parameter and image_name, not several")
        if self.id and not _AMI.match(self.id):
            raise SpecError(f"image_id {self.id!r} is not an AMI id such as ami-0123456789abcdef0")
        if self.name and not self.owners:
            raise SpecError(
                "image_name needs image_owners (such as ['amazon'] or an account id): "
                "anybody may publish an image with the name you search for"
            )
        if self.owners and not self.name:
            raise SpecError("image_owners is there to narrow image_name, which is not given")

    def __bool__(self) -> bool:
        return bool(self.id or self.ssm_parameter or self.name)


@dataclass(frozen=True, kw_only=True)
class MachineJob:
    """What `count` machines run that end themselves, for how long, and where they tell: wherever they come from."""

    command: str | tuple[str, ...] | None = None
    script: str | None = None
    count: int = 1
    hold_on_failure: timedelta = timedelta(0)
    kill_schedule_role: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    max_runtime: timedelta = timedelta(hours=1)
    boot_timeout: timedelta = timedelta(minutes=10)
    results: S3Prefix | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    #: All members are one job: it is whole, or it is not launched.
    in_parts: ClassVar[bool] = False

    @property
    def lifetime(self) -> timedelta:
        """From the request to the moment after which anyone may stop it."""
        return self.boot_timeout + self.max_runtime + UPLOAD_GRACE


def job_of(words: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of MachineJob from an operator's words, as the DAG author wrote them."""
    command = words.get("command")
    return {
        "command": tuple(map(str, command)) if isinstance(command, list | tuple) else command,
        "script": words.get("script"),
        "count": whole(words.get("count", 1), "count") or 0,
        "hold_on_failure": duration(words.get("hold_on_failure") or 0, "hold_on_failure"),
        "kill_schedule_role": text(words.get("kill_schedule_role"), "kill_schedule_role"),
        "environment": pairs(words.get("environment"), "environment"),
        "secrets": pairs(words.get("secrets"), "secrets"),
        "max_runtime": duration(words.get("max_runtime", timedelta(hours=1)), "max_runtime"),
        "boot_timeout": duration(words.get("boot_timeout", timedelta(minutes=10)), "boot_timeout"),
        "results": S3Prefix.of(words.get("results")),
        "tags": pairs(words.get("tags"), "tags"),
    }


@dataclass(frozen=True, kw_only=True)
class Ec2Spec(MachineJob):
    """A job on instances of its own."""

    image: Image = field(default_factory=Image)
    instance_types: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    instance_profile: str | None = None
    key_name: str | None = None
    volume_size: int | None = None
    launch_template: LaunchTemplate | None = None
    associate_public_ip: bool | None = None
    market: str = "on-demand"

    def __post_init__(self) -> None:
        _check_job(self.command, self.script)
        check_variables(self.environment, self.secrets)
        check_tags(self.tags)
        _check_times(self.max_runtime, self.boot_timeout)
        if not 1 <= self.count <= MAX_COUNT:
            raise SpecError(f"count is {self.count}: it must be from 1 to {MAX_COUNT}")
        if self.volume_size is not None and not 1 <= self.volume_size <= 65536:
            raise SpecError(f"volume_size is {self.volume_size} GiB: it must be from 1 to 65536")
        if self.market not in MARKETS:
            raise SpecError(f"market is {self.market!r}: it must be one of {', '.join(MARKETS)}")
        if not timedelta(0) <= self.hold_on_failure <= MAX_HOLD:
            raise SpecError(f"hold_on_failure is {self.hold_on_failure}: it must be from 0 to {MAX_HOLD}")
        check_role(self.kill_schedule_role)
        if not self.image and not self.launch_template:
            raise SpecError("which image? give image_id, image_ssm_parameter, image_name or a launch_template")
        if not self.instance_types and not self.launch_template:
            raise SpecError("which machine? give instance_type or a launch_template")
        if self.secrets and not (self.instance_profile or self.launch_template):
            raise SpecError("secrets are fetched on the instance, with its own role: give instance_profile")

    @classmethod
    def of(cls, **words: Any) -> Ec2Spec:
        """From the operator's words, as the DAG author wrote them."""
        return cls(
            **job_of(words),
            image=Image(
                text(words.get("image_id"), "image_id"),
                text(words.get("image_ssm_parameter"), "image_ssm_parameter"),
                text(words.get("image_name"), "image_name"),
                names(words.get("image_owners")),
            ),
            instance_types=names(words.get("instance_type")),
            subnet_ids=names(words.get("subnet_ids")),
            security_group_ids=names(words.get("security_group_ids")),
            instance_profile=text(words.get("instance_profile"), "instance_profile"),
            key_name=text(words.get("key_name"), "key_name"),
            volume_size=whole(words.get("volume_size"), "volume_size"),
            launch_template=LaunchTemplate.of(words.get("launch_template")),
            associate_public_ip=truth(words.get("associate_public_ip"), "associate_public_ip"),
            market=text(words.get("market"), "market") or "on-demand",
        )

    #: Whether its machine stops and is not terminated when the job is over, because its disk becomes an image.
    stays: ClassVar[bool] = False

    def pools(self) -> tuple[Pool, ...]:
        """Every place to try, best first: the market, then all subnets of the preferred type before the next type."""
        types, subnets = self.instance_types or (None,), self.subnet_ids or (None,)
        return tuple(Pool(t, s, m) for m in MARKETS[self.market] for t in types for s in subnets)

    def secret_free_words(self) -> Iterable[tuple[str, str]]:
        """(name, text) of all that will be readable in the user data or in tags."""
        yield "command" if self.script is None else "script", self.script or " ".join(_as_words(self.command))
        yield from ((f"environment[{name!r}]", value) for name, value in self.environment.items())
        yield from ((f"tags[{name!r}]", value) for name, value in self.tags.items())


def _as_words(command: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (command,) if isinstance(command, str) else command or ()


def _check_job(command: Any, script: Any) -> None:
    if (command is None) == (script is None):
        raise SpecError("a job is exactly one of command and script" + ("" if command is None else ", not both"))
    job = command if command is not None else script
    what = "command" if command is not None else "script"
    if not isinstance(job, str | tuple):
        raise SpecError(f"{what} is text{' or a list of arguments' if what == 'command' else ''}, not {job!r}")
    if not job or not (job if isinstance(job, str) else job[0]).strip():
        raise SpecError(f"{what} is blank: there is nothing to run")
    if "\0" in (job if isinstance(job, str) else "".join(job)):
        raise SpecError(f"{what} holds a NUL byte, which no shell can run")
    if script is not None:
        check_shebang(script)


def check_shebang(script: str) -> None:
    """Refuse what the kernel or cloud-init would not run, or would run as something else, without a word.

    Seen under the real cloud-init 22.4: no shebang, a BOM or a blank line before it are silently not run.
    `#!/bin/bash -x exec > >(tee …)` hands the kernel ONE argument: bash exits with 2 and nothing runs.
    """
    first = script.splitlines()[0]
    if script.startswith("\ufeff"):
        raise SpecError("the script starts with a byte order mark (BOM), so it would never run: save it as plain UTF-8")
    if not first.strip():
        raise SpecError("the script's first line is blank, so it would never run: move the #! line to the top")
    if not first.startswith("#!"):
        raise SpecError(
            "the script has no shebang, so nothing says what runs it: start it with #!/bin/bash or the like"
        )
    interpreter = first[2:].split()
    if not interpreter or not interpreter[0].startswith("/"):
        raise SpecError(f"the script's first line {first!r} names no interpreter by its full path, such as #!/bin/bash")
    if any(mark in first for mark in "<>|;&"):
        raise SpecError(
            f"the script's first line {first!r} holds a redirect or another command; the kernel passes all of it to "
            f"{interpreter[0]} as one argument and nothing runs: move it to a line of its own"
        )


def _check_times(max_runtime: timedelta, boot_timeout: timedelta) -> None:
    if max_runtime < MIN_RUNTIME:
        raise SpecError(f"max_runtime is {max_runtime}: the job needs at least {MIN_RUNTIME.seconds} s")
    if max_runtime > MAX_RUNTIME:
        raise SpecError(f"max_runtime is {max_runtime}: a signed receipt form lives 7 days, so {MAX_RUNTIME.days} days")
    if boot_timeout < MIN_BOOT_TIMEOUT or boot_timeout > timedelta(hours=2):
        raise SpecError(f"boot_timeout is {boot_timeout}: machines boot in {MIN_BOOT_TIMEOUT.seconds} s to 2 h")
