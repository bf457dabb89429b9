"""What is written about a job: the ECS Scheduler's document, and what this package adds to it.

A document that exists is valid: it has been read field by field, and a launch of it could be built. Its values are
plain text and nothing renders them: `{{ … }}` reaches the task as it stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from airflow_transient.core import schedule as dialect
from airflow_transient.core.depth import HARD_CAP
from airflow_transient.core.ec2 import bootscript
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.errors import SpecError
from airflow_transient.jobs import advice, fields, problems, words
from airflow_transient.jobs.bounds import too_large
from airflow_transient.jobs.masked import unmasked
from airflow_transient.jobs.problems import InvalidDocument

__all__ = ["READ_ONLY", "InvalidDocument", "JobDocument", "Override", "Trigger", "resolved"]

#: What answers tell beside a document, and an export holds: taken and ignored, as the original does.
READ_ONLY = frozenset({"lastRun", "lastRunTasks", "estimatedNextRun", "link", words.PARSED})
#: Where the operators' words take what both kinds have.
_SHARED = {
    **{name: name for name in ("tags", "max_runtime", "retries", "kill_schedule_role")},
    "region": "region_name",
}
_ECS = {
    **{name: name for name in ("task_definition", "task_count", "max_count", "cluster", "launch_type")},
    **{name: name for name in ("network_configuration", "platform_version", "min_success")},
    "capacity_providers": "capacity_provider_strategies",
}
_EC2 = {
    name: name
    for name in (
        *("command", "script", "image_id", "image_ssm_parameter", "image_name", "image_owners", "instance_type"),
        *("subnet_ids", "security_group_ids", "instance_profile", "key_name", "volume_size", "launch_template"),
        *("associate_public_ip", "count", "market", "hold_on_failure", "environment", "secrets", "boot_timeout"),
        "results",
    )
}
#: kind -> the fields that only another kind has.
_MISPLACED = {
    "ecs": {to_camel(name) for name in _EC2},
    "ec2": {to_camel(name) for name in (*_ECS, "trigger", "overrides")},
}
#: An override of this name would be read as ECS's own form of all overrides.
_NO_CONTAINERS = {"containerOverrides", "ephemeralStorage"}
#: The boot script has room for so much whatever else is in it; what is longer is weighed.
_SURELY_FITS = 2000


class Trigger(fields.Words):
    """What beside the clock decides how many tasks a fire starts."""

    type: fields.TriggerType = Field(description="sqs: by the depth of a queue; noop: taskCount, always")
    queue_name: fields.MaybeName = Field(None, description="the queue's name, URL or ARN")
    messages_per_task: fields.Natural = Field(None, description="one task for so many messages, rounded up")

    @model_validator(mode="after")
    def _has_a_queue(self) -> Trigger:
        if self.type == "sqs" and self.queue_name is None:
            raise fields.WholeError(words.NO_QUEUE)
        return self

    @property
    def queues(self) -> list[str]:
        return [self.queue_name] if self.type == "sqs" and self.queue_name else []


class Override(fields.Words):
    """The variables of one container."""

    container_name: fields.Name = Field(description="as in the task definition")
    environment: fields.Variables = Field(default_factory=dict, description="variable -> text")


class JobDocument(fields.Words):
    """A scheduled job: a burst of ECS tasks (`kind` ecs) or transient EC2 instances (`kind` ec2)."""

    id: fields.JobId = Field(description="the job's name; default: taskDefinition")
    kind: fields.Kind = Field("ecs", description="what a fire launches; never changes")
    schedule: fields.ScheduleText = Field(
        description="second minute hour day_of_week week day month year; the right ones may be left out; "
        "? in the first three is drawn once, when this is written"
    )
    schedule_start: fields.Moment = Field(None, description="no fire before; without an offset: UTC")
    schedule_end: fields.Moment = Field(None, description="no fire after")
    timezone: fields.Zone = Field("UTC", description="IANA zone that the schedule is meant in")
    suspended: fields.Truth = Field(False, description="true: kept, and does not fire")
    tags: fields.Variables = Field(default_factory=dict, description="for the tasks, or instances and volumes")
    max_runtime: fields.Seconds = Field(None, description="seconds; default 3600")
    retries: fields.Retries = Field(None, description="how often a failed launch is tried again; default 2")
    region: fields.MaybeName = Field(None, description="AWS region; default: the connection's")
    kill_schedule_role: fields.LongName = Field(None, description="role of the one-time schedules that end a launch")

    task_definition: fields.Family = Field(None, description="family, without a revision")
    task_count: fields.TaskCount = Field(1, description="so many tasks at least should run after a fire")
    max_count: fields.MaxCount = Field(None, description="so many at most; the lesser of both wins")
    trigger: Trigger | None = None
    overrides: Annotated[list[Override], BeforeValidator(words.read_list)] = Field(
        default_factory=list, description="variables, container by container"
    )
    cluster: fields.LongName = Field(None, description="name or ARN; default: default")
    launch_type: fields.MaybeName = Field(None, description="FARGATE, EC2, EXTERNAL or MANAGED_INSTANCES")
    capacity_providers: fields.Providers = Field(None, description="names or strategy items, tried in order")
    network_configuration: fields.Network = Field(None, description="ECS's own, or its awsvpcConfiguration")
    platform_version: fields.MaybeName = Field(None, description="of Fargate")
    min_success: fields.Share = Field(None, description="how many tasks must succeed: a number, 0.9, or 90%")

    command: fields.Command = Field(None, description="for bash, or a list of arguments that no shell touches")
    script: fields.Script = Field(None, description="the text of a script, starting with #!")
    image_id: fields.MaybeName = None
    image_ssm_parameter: fields.LongName = Field(None, description="parameter that holds the image's id")
    image_name: fields.MaybeName = Field(None, description="the newest image of this name from imageOwners")
    image_owners: fields.Names = None
    instance_type: fields.Names = Field(None, description="one, or several in order of preference")
    subnet_ids: fields.Names = None
    security_group_ids: fields.Names = None
    instance_profile: fields.LongName = Field(None, description="name or ARN of the instance's role")
    key_name: fields.MaybeName = None
    volume_size: fields.Natural = Field(None, description="GiB of the root volume")
    launch_template: fields.Template = Field(None, description="id, name, or {id or name, version}")
    associate_public_ip: fields.Choice = None
    count: fields.Natural = Field(None, description="instances; default 1")
    market: fields.MaybeName = Field(None, description="on-demand, spot or spot-then-on-demand")
    hold_on_failure: fields.Seconds = Field(None, description="seconds a failed machine is kept to look at")
    environment: fields.Variables = Field(default_factory=dict, description="variable -> text")
    secrets: fields.Variables = Field(default_factory=dict, description="variable -> name of a parameter or secret")
    boot_timeout: fields.Seconds = Field(None, description="seconds; default 600")
    results: fields.LongName = Field(None, description="s3://bucket/prefix")

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> JobDocument:
        """From what was written, whoever wrote it. Raises InvalidDocument."""
        if not isinstance(raw, Mapping):
            raise InvalidDocument({words.SCHEMA: [words.NO_OBJECT]})
        given = {name: value for name, value in raw.items() if name not in READ_ONLY}
        if told := too_large(given):
            raise InvalidDocument(told)
        made, told = cls._read(given)
        if made is None or (told := told or made._unlaunchable()):
            raise InvalidDocument(told)
        return made

    @classmethod
    def _read(cls, given: dict[str, Any]) -> tuple[JobDocument | None, dict[str, Any]]:
        kind = "ec2" if given.get("kind") == "ec2" else "ecs"
        wrong = {name: [f"No field of kind {kind}: take it out."] for name in given if name in _MISPLACED[kind]}
        known = {name: value for name, value in given.items() if name not in wrong}
        if kind == "ecs":
            known = {"taskCount": 1, **({"id": known["taskDefinition"]} if "taskDefinition" in known else {}), **known}
        if known.get("overrides") == []:  # the original counts and tags by different rules then
            del known["overrides"]
        try:
            return cls.model_validate(known), wrong
        except ValidationError as error:
            told = problems.of_fields(error)
        if kind == "ecs" and "id" not in given and "id" in told:
            told = {"taskDefinition": told.pop("id"), **told}
        return None, wrong | told

    def _unlaunchable(self) -> dict[str, Any]:
        """What a launch would be refused for: found by building it."""
        try:
            if self.kind == "ec2":
                _check_size(Ec2Spec.of(**self.ec2_words()))
            else:
                self._check_containers()
                EcsSpec.of(**self.burst_words())
        except SpecError as error:
            return problems.of_spec(error, (_EC2 if self.kind == "ec2" else _ECS) | _SHARED)
        return {}

    def _check_containers(self) -> None:
        named = [override.container_name for override in self.overrides]
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise SpecError(f"overrides: {twice} stand there more than once: give each container one entry")
        if taken := sorted(_NO_CONTAINERS & set(named)):
            raise SpecError(f"overrides: {taken} is a word of ECS's own: call the container something else")

    def merged(self, patch: Mapping[str, Any], shown: Mapping[str, Any] | None = None) -> JobDocument:
        """
        With the fields of `patch` in place of its own.

        :param shown: this document as answers show it, where they hide something: what comes back so is kept.
        :raises InvalidDocument: `.messages`
        """
        if not isinstance(patch, Mapping):
            raise InvalidDocument({words.SCHEMA: [words.NO_OBJECT]})
        fixed = {"id": self.id, "kind": self.kind}
        if told := {
            name: [f"The {name} of a job cannot be changed, and is {value}: delete it and make another."]
            for name, value in fixed.items()
            if name in patch and patch[name] != value
        }:
            raise InvalidDocument(told)
        mine = self.to_dict()
        return type(self).of(mine | unmasked(patch, mine, shown or {}))

    def to_dict(self) -> dict[str, Any]:
        """What was written, in JSON's own types; of() makes an equal document of it."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def burst_words(self) -> dict[str, Any]:
        """The words of EcsBurstOperator: what is live of this job counts towards its taskCount (top_up)."""
        trigger = self.trigger if self.trigger and self.trigger.queues else None
        said = self._said(_ECS | _SHARED) | {
            "task_definition": self.task_definition or self.id,
            "queues": trigger and trigger.queues,
            "messages_per_task": trigger and trigger.messages_per_task,
            "overrides": {one.container_name: dict(one.environment) for one in self.overrides},
            "top_up": True,
            "strategy": "lag-aware",
            "hard_cap": HARD_CAP,
        }
        return _given(said)

    def ec2_words(self) -> dict[str, Any]:
        """The words of TransientEc2Operator."""
        return _given(self._said(_EC2 | _SHARED))

    def _said(self, names: Mapping[str, str]) -> dict[str, Any]:
        return {word: getattr(self, name) for name, word in names.items()}

    def parsed_schedule(self) -> dialect.Schedule:
        """When it fires. Raises SpecError while there is a `?` in it."""
        return dialect.parse(self.schedule, self.timezone, self.schedule_start, self.schedule_end)

    def warnings(self, now: datetime | None = None) -> tuple[str, ...]:
        """What is accepted and perhaps not meant, in sentences."""
        return advice.warnings(self, now or datetime.now(timezone.utc))


def _given(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None and value != {} and value != []}


def _check_size(spec: Ec2Spec) -> None:
    """Without `results` all of it travels in the user data."""
    if spec.results or len(bootscript.job_script(spec)) + len(str(spec.environment)) < _SURELY_FITS:
        return
    script = bootscript.boot_script(spec, bootscript.Boot("t" * 32, "n" * 32, "eu-west-1"))
    if bootscript.user_data(script) is None:
        raise SpecError(f"{'command' if spec.script is None else 'script'}: {bootscript.too_long(script)}")


def resolved(document: JobDocument, draw: Callable[[int, int], int]) -> JobDocument:
    """With a number in place of each `?`."""
    return document.model_copy(update={"schedule": dialect.resolve(document.schedule, draw)})
