"""The types of a document's fields: how each is read, and how the API's description shows it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, field_validator
from pydantic.alias_generators import to_camel

from airflow_transient.core import schedule as dialect
from airflow_transient.core.depth import HARD_CAP
from airflow_transient.core.localtime import zone_name
from airflow_transient.errors import SpecError
from airflow_transient.jobs import words

KINDS = ("ecs", "ec2")
TRIGGERS = ("sqs", "noop")
#: A DAG's id has 250 characters at most (Airflow), of which `job.` takes four.
MAX_ID = 245
#: ECS's own limit for the name of a family.
MAX_FAMILY = 255
MAX_RETRIES = 10
_FAR = 10**9


class ScheduleError(ValueError):
    """Goes under `parsedSchedule`."""


class WholeError(ValueError):
    """Is about the whole object: goes under `_schema`."""


def _zone(value: Any) -> str:
    """In any case, as in the original; kept as the IANA database writes it."""
    return zone_name(words.read_string(value))


def _schedule(value: Any) -> str:
    text = words.read_string(value)
    try:
        dialect.parse(dialect.resolve(text, lambda low, high: low))
    except SpecError as error:
        raise ScheduleError(str(error)) from None
    return text


def _names(value: Any) -> str | list[str]:
    return [words.read_name(item) for item in value] if isinstance(value, list | tuple) else words.read_name(value)


def _share(value: Any) -> float | int | str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("Not a valid number.")
    return value


def _command(value: Any) -> str | list[str]:
    return list(map(words.read_string, value)) if isinstance(value, list | tuple) else words.read_string(value)


def _script(value: Any) -> str:
    """Its text. The operator takes a single line that ends like a file's name for a path, and would read that."""
    text = words.read_string(value)
    if not text.startswith("#!"):
        raise ValueError("A document holds the text of a script, starting with #!, and never the path of a file.")
    if "\n" not in text.strip():
        raise ValueError("The script ends with its first line: write what it does on the lines below.")
    return text


def _template(value: Any) -> str | dict[str, str]:
    if not isinstance(value, Mapping):
        return words.read_name(value)
    return {name: words.read_name(str(text) if name == "version" else text) for name, text in value.items()}


def _network(value: Any) -> dict[str, Any]:
    said = words.read_mapping(value)
    inner = said.get("awsvpcConfiguration", said)
    if isinstance(inner, Mapping) and inner.get("assignPublicIp", "ENABLED") not in ("ENABLED", "DISABLED"):
        raise ValueError("assignPublicIp must be one of: ENABLED, DISABLED.")
    return said


def _providers(value: Any) -> list[Any]:
    if not (said := words.read_list(value)):
        raise ValueError("Shorter than minimum length 1.")
    for item in said:
        if isinstance(item, str):
            words.read_name(item)
    return said


def _iso(moment: datetime) -> str:
    return moment.isoformat()


Kind = Annotated[
    str, BeforeValidator(partial(words.read_choice, choices=KINDS)), Field(json_schema_extra={"enum": [*KINDS]})
]
TriggerType = Annotated[
    str, BeforeValidator(partial(words.read_choice, choices=TRIGGERS)), Field(json_schema_extra={"enum": [*TRIGGERS]})
]
JobId = Annotated[
    str,
    BeforeValidator(partial(words.read_family, limit=MAX_ID)),
    Field(json_schema_extra={"pattern": "^[0-9A-Za-z_-]+$", "maxLength": MAX_ID}),
]
Family = Annotated[
    str | None,
    BeforeValidator(partial(words.read_family, limit=MAX_FAMILY)),
    Field(json_schema_extra={"pattern": "^[0-9A-Za-z_-]+$", "maxLength": MAX_FAMILY}),
]
ScheduleText = Annotated[str, BeforeValidator(_schedule)]
Zone = Annotated[str, BeforeValidator(_zone)]
Moment = Annotated[
    datetime | None,
    BeforeValidator(words.read_datetime),
    PlainSerializer(_iso, when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
TaskCount = Annotated[
    int,
    BeforeValidator(partial(words.read_integer, low=1, high=HARD_CAP)),
    Field(json_schema_extra={"minimum": 1, "maximum": HARD_CAP}),
]
MaxCount = Annotated[
    int | None,
    BeforeValidator(partial(words.read_integer, low=1, high=HARD_CAP)),
    Field(json_schema_extra={"minimum": 1, "maximum": HARD_CAP}),
]
Retries = Annotated[
    int | None,
    BeforeValidator(partial(words.read_integer, low=0, high=MAX_RETRIES)),
    Field(json_schema_extra={"minimum": 0, "maximum": MAX_RETRIES}),
]
Natural = Annotated[
    int | None,
    BeforeValidator(partial(words.read_at_least, low=1, high=_FAR)),
    Field(json_schema_extra={"minimum": 1}),
]
Seconds = Annotated[
    int | None,
    BeforeValidator(partial(words.read_at_least, low=0, high=_FAR)),
    Field(json_schema_extra={"minimum": 0}),
]
Truth = Annotated[bool, BeforeValidator(words.read_boolean)]
Choice = Annotated[bool | None, BeforeValidator(words.read_boolean)]
Name = Annotated[str, BeforeValidator(words.read_name)]
MaybeName = Annotated[str | None, BeforeValidator(words.read_name)]
LongName = Annotated[str | None, BeforeValidator(partial(words.read_name, limit=2048))]
Names = Annotated[str | list[str] | None, BeforeValidator(_names)]
Variables = Annotated[dict[str, str], BeforeValidator(words.read_variables)]
Share = Annotated[int | float | str | None, BeforeValidator(_share)]
Providers = Annotated[list[str | dict[str, Any] | list[Any]] | None, BeforeValidator(_providers)]
Network = Annotated[dict[str, Any] | None, BeforeValidator(_network)]
Command = Annotated[str | list[str] | None, BeforeValidator(_command)]
Script = Annotated[str | None, BeforeValidator(_script)]
Template = Annotated[str | dict[str, str] | None, BeforeValidator(_template)]


class Words(BaseModel):
    """What documents are made of: camelCase outside, nothing unknown, and null is no value."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    @field_validator("*", mode="before")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        if value is None:
            raise ValueError(words.NULL)
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """None in our own code is a field that is not there, and is not described as a value to send."""
        described: dict[str, Any] = handler(core_schema)
        for field in handler.resolve_ref_schema(described).get("properties", {}).values():
            _without_null(field)
        return described


def _without_null(field: dict[str, Any]) -> None:
    if field.get("default", "") is None:
        del field["default"]
    kept = [choice for choice in field.pop("anyOf", []) if choice != {"type": "null"}]
    field.update(kept[0] if len(kept) == 1 else {"anyOf": kept} if kept else {})
