"""What is wrong with a document, told field by field as the original tells it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from airflow_transient.errors import SpecError
from airflow_transient.jobs import words
from airflow_transient.jobs.fields import ScheduleError, WholeError

#: What pydantic finds by itself -> the original's words.
_TYPES = {
    "missing": words.MISSING,
    "extra_forbidden": words.UNKNOWN,
    "model_type": words.NO_OBJECT,
    "model_attributes_type": words.NO_OBJECT,
}
#: What else the specs' sentences call the things of a document.
_CALLED = {
    "awsvpcConfiguration": "networkConfiguration",
    "messages_per_task": "trigger",
    "overrides": "overrides",
    "queues": "trigger",
    "tag": "tags",
    "variables": "environment",
}
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class InvalidDocument(SpecError):
    """A document that is no job. `messages`: field -> its faults in words, nested as the document is."""

    def __init__(self, messages: Mapping[str, Any]) -> None:
        self.messages = dict(messages)
        super().__init__(f"this document is no job: {json.dumps(self.messages, sort_keys=True)}")


def of_fields(error: ValidationError) -> dict[str, Any]:
    """What pydantic found, in the original's shape."""
    told: dict[str, Any] = {}
    for found in error.errors(include_url=False, include_input=False):
        cause = found.get("ctx", {}).get("error")
        path = [words.PARSED] if isinstance(cause, ScheduleError) else list(map(str, found["loc"]))
        if isinstance(cause, WholeError) or _TYPES.get(found["type"]) == words.NO_OBJECT:
            path.append(words.SCHEMA)
        _put(told, path, _TYPES.get(found["type"]) or str(cause or found["msg"]))
    return told


def _put(told: dict[str, Any], path: list[str], text: str) -> None:
    *outer, last = path
    for part in outer:
        told = told.setdefault(part, {})
    told.setdefault(last, []).append(text)


def of_spec(error: SpecError, known: Mapping[str, str]) -> dict[str, Any]:
    """
    What a launch of it would be refused for: under the field that the sentence names first, and in a document's words.

    :param known: attribute of a document -> the operator's word for it.
    """
    text = str(error)
    names = _CALLED | {word: to_camel(attribute) for attribute, word in known.items()}
    named = (names[word] for word in re.findall(r"\w+", _QUOTED.sub("", text)) if word in names)
    said = re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda word: names.get(word[0], word[0]), text)
    return {next(named, words.SCHEMA): [said]}
