"""What the wishes of every kind of launch share: where it may go, where results go, what variables and tags may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_transient.core.launch import TAG_PREFIX
from airflow_transient.errors import SpecError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECRET = re.compile(r"(arn:aws[a-z-]*:(secretsmanager|ssm):[a-z0-9-]+:\d{12}:(secret:|parameter/)\S+|/[\w./-]+)\Z")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+\Z")
_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?\Z", re.DOTALL)

#: What AWS takes on one thing, and how many of those we may need: Name, the nine of LaunchKey.tags, hold-until (no
#: ECS task has that one, which may have unattended), stopped-by, the reaper's orphan-since and a person's keep.
MAX_TAGS, OUR_TAGS = 50, 14


@dataclass(frozen=True)
class Pool:
    """
    One place a launch may go. `None` leaves the choice to AWS or to the launch template.

    `market`: "on-demand" or "spot" on EC2; on ECS what capacity is asked for by: a launch type, or providers.
    """

    instance_type: str | None = None
    subnet_id: str | None = None
    market: str = "on-demand"

    def __str__(self) -> str:
        if self.market not in ("on-demand", "spot"):
            return self.market
        return f"{self.instance_type or 'template type'} in {self.subnet_id or 'default subnet'} ({self.market})"


@dataclass(frozen=True)
class S3Prefix:
    """A folder in a bucket; `prefix` is empty or ends with a slash."""

    bucket: str
    prefix: str = ""

    @classmethod
    def of(cls, words: Any) -> S3Prefix | None:
        if not words:
            return None
        match = _BUCKET.match(str(words).strip())
        if not match:
            raise SpecError(f"results is an address such as s3://bucket/prefix, not {words!r}")
        prefix = (match[2] or "").strip("/")
        return cls(match[1], prefix + "/" if prefix else "")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


def check_variables(environment: Mapping[str, str], secrets: Mapping[str, str]) -> None:
    for name in (*environment, *secrets):
        if not _VARIABLE.match(name):
            raise SpecError(f"{name!r} is no name for an environment variable: letters, digits and _ only")
        if name.startswith("TRANSIENT_"):
            raise SpecError(f"{name!r}: variables that start with TRANSIENT_ are set by airflow_transient")
    if both := sorted(set(environment) & set(secrets)):
        raise SpecError(f"{both} stand in environment and in secrets")
    for name, value in environment.items():
        if "\0" in value:
            raise SpecError(f"environment[{name!r}] holds a NUL byte")
    for name, reference in secrets.items():
        if not _SECRET.match(reference):
            raise SpecError(
                f"secrets[{name!r}] looks like a value. Give the place where the secret is kept: an SSM parameter "
                "(/path/name or its ARN) or the ARN of a Secrets Manager secret"
            )


def check_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > MAX_TAGS - OUR_TAGS:
        most = MAX_TAGS - OUR_TAGS
        raise SpecError(f"{len(tags)} tags: AWS takes {MAX_TAGS} and ours need {OUR_TAGS}, so {most} is the most")
    for name, value in tags.items():
        if name.lower().startswith(("aws:", TAG_PREFIX)):
            raise SpecError(f"tag {name!r}: names that start with aws: or {TAG_PREFIX} are taken")
        if not 1 <= len(name) <= 128 or len(value) > 256:
            raise SpecError(f"tag {name!r}: a name has 1-128 characters, a value 256 at most")


def check_role(arn: str | None) -> None:
    if arn and not _ROLE.match(arn):
        raise SpecError(f"kill_schedule_role is the ARN of a role, not {arn!r}")
