"""The ECS Scheduler's words about what it does not take, and how it reads values.

Its schemas were marshmallow 2.21's, and what its users' scripts compare with is kept to the letter, coercions too: "12"
is 12, 3.7 is 3, true is 1. A reader takes what JSON holds and gives the value, or raises ValueError with the words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

MISSING = "Missing data for required field."
NULL = "Field may not be null."
UNKNOWN = "Unknown field."
NO_OBJECT = "Invalid input type."
BAD_NAME = "task definition names must contain only alphanumeric, underscore, and hyphen"
NO_QUEUE = "sqs trigger type requires queueName field"

#: Where words about a whole object go, beside those about its fields.
SCHEMA = "_schema"
#: Where the words about a schedule go, as in the original.
PARSED = "parsedSchedule"
#: What answers show in place of a secret (Airflow's masker).
MASK = "***"

TRUE = {"t", "T", "true", "True", "TRUE", "1", 1}
FALSE = {"f", "F", "false", "False", "FALSE", "0", 0}
_NAME = re.compile(r"[0-9A-Za-z_-]+\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DATETIME = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})[T ](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6})\d{0,6})?)?"
    r"(Z|[+-]\d{2}(?::?\d{2})?)?",
    re.ASCII,
)


def read_integer(value: Any, low: int, high: int) -> int:
    number = _integer(value)
    if not low <= number <= high:
        raise ValueError(f"Must be between {low} and {high}.")
    return number


def read_at_least(value: Any, low: int, high: int) -> int:
    """The same, told as the original tells a number without an upper bound of its own."""
    number = _integer(value)
    if number < low:
        raise ValueError(f"Must be at least {low}.")
    if number > high:
        raise ValueError(f"Must be at most {high}.")
    return number


def _integer(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("Not a valid integer.") from None


def read_boolean(value: Any) -> bool:
    if isinstance(value, str | int | float):
        if value in TRUE:
            return True
        if value in FALSE:
            return False
    raise ValueError("Not a valid boolean.")


def read_string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("Not a valid string.")
    return value


def read_datetime(value: Any) -> datetime:
    """A date and a time of day in ISO 8601, whose offset is kept; without one it is UTC."""
    match = _DATETIME.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is None:
            raise ValueError
        *parts, fraction, zone = match.groups()
        year, month, day, hour, minute, second = (int(part or 0) for part in parts)
        micro = int((fraction or "").ljust(6, "0"))
        return datetime(year, month, day, hour, minute, second, micro, tzinfo=_offset(zone))
    except ValueError:
        raise ValueError("Not a valid datetime.") from None


def _offset(zone: str | None) -> timezone:
    if zone is None or zone == "Z":
        return timezone.utc
    digits = zone[1:].replace(":", "").ljust(4, "0")
    shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-shift if zone[0] == "-" else shift)


def read_mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("Not a valid mapping type.")
    return dict(value)


def read_list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError("Not a valid list.")
    return list(value)


def read_choice(value: Any, choices: Iterable[str]) -> str:
    if read_string(value) not in choices:
        raise ValueError(f"Must be one of: {', '.join(choices)}.")
    return str(value)


def read_family(value: Any, limit: int) -> str:
    """A name as the original takes it; one trailing newline, which slips through its `$`, is refused as well."""
    if not _NAME.match(read_string(value)):
        raise ValueError(BAD_NAME)
    return _up_to(value, limit)


def read_name(value: Any, limit: int = 255) -> str:
    """A name of something on AWS's side: visible text on one line."""
    if not read_string(value).strip():
        raise ValueError("Shorter than minimum length 1.")
    if _CONTROL.search(value):
        raise ValueError("A name holds no control characters: take them out.")
    return _up_to(value, limit)


def _up_to(value: str, limit: int) -> str:
    if len(value) > limit:
        raise ValueError(f"Longer than maximum length {limit}.")
    return value


def read_variables(value: Any) -> dict[str, str]:
    """Name -> text; a number or a boolean becomes the text that JSON has for it."""
    return {_variable(name): _plain(name, text) for name, text in read_mapping(value).items()}


def _variable(name: Any) -> str:
    try:
        return read_name(name)
    except ValueError as error:
        raise ValueError(f"{name!r} is no name: {error}") from None


def _plain(name: str, text: Any) -> str:
    if not isinstance(text, str | int | float):
        raise ValueError(f"{name!r} holds neither text nor a number nor a boolean: give one of those.")
    if isinstance(text, str) and MASK in text:
        raise ValueError(f"{name!r} holds {MASK}, which stands for a value that is not shown: give the value itself.")
    return text if isinstance(text, str) else json.dumps(text)
