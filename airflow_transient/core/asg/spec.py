"""What the author asks of an existing Auto Scaling group, as frozen values. A spec that exists is valid."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from airflow_transient.core.ec2.spec import Ec2Spec, LaunchTemplate, MachineJob, job_of
from airflow_transient.core.reading import text, truth
from airflow_transient.core.spec import Pool
from airflow_transient.errors import SpecError

_ARN = re.compile(r"arn:aws[a-z-]*:autoscaling:([a-z0-9-]+):\d{12}:autoScalingGroup:[^:]*:autoScalingGroupName/(.+)\Z")
#: AutoScalingGroupName, XmlStringMaxLen255 in botocore's model; a colon is refused by AWS itself.
_NAME = re.compile(r"[^:\x00-\x1f]{1,255}\Z")
#: What a job of ours may have, and the user data of the group's own template cannot be given.
OF_A_JOB = ("environment", "secrets", "results", "tags", "hold_on_failure")


@dataclass(frozen=True, kw_only=True)
class GroupSpec(MachineJob):
    """
    `count` machines of an existing group that end by themselves.

    With a command or script they run it and report. Without, they run the user data of the group's own template.
    """

    group: str
    region: str | None = None
    trust_shutdown: bool = False

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
        arn = _ARN.match(name)
        return cls(
            **job_of(words),
            group=arn[2] if arn else name,
            region=arn[1] if arn else None,
            trust_shutdown=bool(truth(words.get("trust_shutdown"), "trust_shutdown")),
        )

    @property
    def reports(self) -> bool:
        return self.command is not None or self.script is not None

    def machine(self, template: LaunchTemplate | None = None) -> Ec2Spec:
        """
        The same as a job on instances, for the rules and the boot script that both have in common.

        Where it runs is the group's business: its types and subnets are not known here.
        """
        job = {each.name: getattr(self, each.name) for each in fields(MachineJob)}
        if not self.reports:
            job["command"] = "(the user data of the group's own template)"
        template = template or LaunchTemplate(name="of the group")
        return Ec2Spec(**job, launch_template=template, instance_types=("of the group",))

    def pools(self) -> tuple[Pool, ...]:
        """One place: which types, zones and markets are tried is for the group to say."""
        return (Pool(market=f"Auto Scaling group {self.group}"),)

    def secret_free_words(self) -> Iterable[tuple[str, str]]:
        """(name, text) of all that will be readable in the user data or in tags."""
        return self.machine().secret_free_words() if self.reports else ()
