"""What the author asks of an existing Auto Scaling group, as frozen values. A spec that exists is valid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow_transient.core.ec2.spec import Ec2Spec, LaunchTemplate
from airflow_transient.core.reading import duration, pairs, text, truth, whole
from airflow_transient.core.spec import Pool, S3Prefix
from airflow_transient.errors import SpecError

_ARN = re.compile(r"arn:aws[a-z-]*:autoscaling:([a-z0-9-]+):\d{12}:autoScalingGroup:[^:]*:autoScalingGroupName/(.+)\Z")
#: AutoScalingGroupName, XmlStringMaxLen255 in botocore's model; a colon is refused by AWS itself.
_NAME = re.compile(r"[^:\x00-\x1f]{1,255}\Z")
#: What a job of ours may have, and the user data of the group's own template cannot be given.
OF_A_JOB = ("environment", "secrets", "results", "tags", "hold_on_failure")


@dataclass(frozen=True)
class GroupSpec:
    """
    `count` machines of an existing group that end by themselves.

    With a command or script they run it and report. Without, they run the user data of the group's own template.
    """

    group: str
    region: str | None = None
    command: str | tuple[str, ...] | None = None
    script: str | None = None
    count: int = 1
    trust_shutdown: bool = False
    hold_on_failure: timedelta = timedelta(0)
    kill_schedule_role: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    max_runtime: timedelta = timedelta(hours=1)
    boot_timeout: timedelta = timedelta(minutes=10)
    results: S3Prefix | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.match(self.group):
            raise SpecError(f"group_name is the name or the ARN of an Auto Scaling group, not {self.group!r}")
        if self.reports and self.trust_shutdown:
            raise SpecError("trust_shutdown is for machines that report nothing; a command or script leaves a receipt")
        if not self.reports and (extra := [name for name in OF_A_JOB if getattr(self, name)]):
            raise SpecError(
                f"{', '.join(extra)}: without command or script the user data of the group's own template runs, which "
                "takes none of this: give command or script"
            )
        self.machine()

    @classmethod
    def of(cls, **words: Any) -> GroupSpec:
        """From the operator's words, as the DAG author wrote them."""
        name = text(words.get("group_name"), "group_name")
        if not name:
            raise SpecError("which Auto Scaling group? give group_name")
        arn, command = _ARN.match(name), words.get("command")
        return cls(
            group=arn[2] if arn else name,
            region=arn[1] if arn else None,
            command=tuple(map(str, command)) if isinstance(command, list | tuple) else command,
            script=words.get("script"),
            count=whole(words.get("count", 1), "count") or 0,
            trust_shutdown=bool(truth(words.get("trust_shutdown"), "trust_shutdown")),
            hold_on_failure=duration(words.get("hold_on_failure") or 0, "hold_on_failure"),
            kill_schedule_role=text(words.get("kill_schedule_role"), "kill_schedule_role"),
            environment=pairs(words.get("environment"), "environment"),
            secrets=pairs(words.get("secrets"), "secrets"),
            max_runtime=duration(words.get("max_runtime", timedelta(hours=1)), "max_runtime"),
            boot_timeout=duration(words.get("boot_timeout", timedelta(minutes=10)), "boot_timeout"),
            results=S3Prefix.of(words.get("results")),
            tags=pairs(words.get("tags"), "tags"),
        )

    #: All members are one job: it is whole, or it is not launched.
    in_parts = False

    @property
    def reports(self) -> bool:
        return self.command is not None or self.script is not None

    def machine(self, template: LaunchTemplate | None = None) -> Ec2Spec:
        """
        The same as a job on instances, for the rules and the boot script that both have in common.

        Where it runs is the group's business: its types and subnets are not known here.
        """
        nothing_of_ours = None if self.reports else "(the user data of the group's own template)"
        return Ec2Spec(
            command=nothing_of_ours or self.command,
            script=self.script,
            launch_template=template or LaunchTemplate(name="of the group"),
            instance_types=("of the group",),
            count=self.count,
            hold_on_failure=self.hold_on_failure,
            kill_schedule_role=self.kill_schedule_role,
            environment=self.environment,
            secrets=self.secrets,
            max_runtime=self.max_runtime,
            boot_timeout=self.boot_timeout,
            results=self.results,
            tags=self.tags,
        )

    def pools(self) -> tuple[Pool, ...]:
        """One place: which types, zones and markets are tried is for the group to say."""
        return (Pool(market=f"Auto Scaling group {self.group}"),)

    def secret_free_words(self) -> Iterable[tuple[str, str]]:
        """(name, text) of all that will be readable in the user data or in tags."""
        return self.machine().secret_free_words() if self.reports else ()

    @property
    def lifetime(self) -> timedelta:
        """From the request to the moment after which anyone may stop it."""
        return self.machine().lifetime
